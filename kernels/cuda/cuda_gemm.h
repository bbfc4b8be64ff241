/* cuda_gemm.h - the one product behind convolutions and linear layers, for both compilers.
 *
 * Y[m][o] = epilogue(sum over taps t and channels i of A_t[m][i] W[o][t][i]). Row m of A_t is a
 * pixel of x that depends on the tap, or zero outside x: nothing is unfolded in memory.
 * W is packed to [co_padded][taps][ci_padded], with zeros, so that its tiles are whole.
 *
 * Folded: a 3x3 convolution behind nearest resampling by two is four 2x2 ones on x, one for each
 * parity of the output's row and column (phase = 2 row + column), since its taps fall on two rows
 * and two columns of x only. W is [phase][co_padded][4][ci_padded] then, and grid.y the phase. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_GEMM_H
#define ONESTEP_KERNELS_CUDA_CUDA_GEMM_H

#include <stdint.h>

/* Channels that are multiplied at a time; ci_padded is a multiple. */
#define CUDA_GEMM_DEPTH 32

/* Rows of packed weights come in multiples of this, the columns of mma's large tile; wgmma's wide
 * one looks for the end itself. */
#define CUDA_GEMM_COLUMNS 128

/* Which row of x is row m of A_t. */
enum cuda_gemm_source {
    CUDA_GEMM_ROWS,    /* row m: linear layers, 1x1 convolutions */
    CUDA_GEMM_IMAGE,   /* the pixel under tap t of output pixel m */
    CUDA_GEMM_TEMPORAL /* pixel m of the frame before, its own, the frame after */
};

/* The kernels' parameter. Addresses are device memory; 0: none. */
struct cuda_gemm {
    uint64_t x, w, y;                      /* elements: input, packed weights, output */
    uint64_t bias;                         /* floats [co_padded], in the order of w's rows */
    uint64_t add;                          /* elements [co] */
    uint64_t residual;                     /* elements, as y */
    uint64_t factor;                       /* floats [2][ci]: silu(x * [0] + [1]) stands for x */
    int64_t rows;                          /* m */
    int32_t co, co_padded;                 /* columns of the product; as above */
    int32_t ci, ci_padded, taps;           /* channels; as above */
    int32_t is_folded;                     /* 1: see above */
    int32_t source;                        /* enum cuda_gemm_source */
    int32_t in_h, in_w;                    /* of x */
    int32_t up_h, up_w;                    /* of x after nearest resampling; in_h, in_w without */
    int32_t out_h, out_w;                  /* of y; folded: of one phase */
    int32_t kw, stride, pad_top, pad_left; /* of the convolution */
    int32_t frames, pixels;                /* temporal: of the clip; of a frame */
    int32_t act;                           /* enum kern_act */
    float scale;                           /* of the sum with bias and add */
};

#endif
