/* cuda_attention.h - what the attention kernels are told, for both compilers.
 *
 * A sequence is one frame and head, or in temporal attention one pixel and head. Row i of q in
 * sequence s = (b, head) is q + b * q_batch + i * q_row + head * d, and so on: that serves both. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_ATTENTION_H
#define ONESTEP_KERNELS_CUDA_CUDA_ATTENTION_H

#include <stdint.h>

/* The kernels' parameter; distances count elements. */
struct cuda_attention {
    uint64_t q, k, v, y;                        /* elements */
    int64_t q_batch, k_batch, v_batch, y_batch; /* from one frame (or pixel) to the next */
    int64_t q_row, k_row, v_row, y_row;         /* from one token to the next */
    int64_t batches;                            /* frames, or pixels */
    int32_t queries, keys;                      /* tokens of a sequence */
    int32_t heads, d;                           /* heads and head size */
    float scale;                                /* log2(e) / sqrt(d): weights are powers of two */
};

#endif
