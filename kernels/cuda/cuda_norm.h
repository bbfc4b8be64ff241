/* cuda_norm.h - what the norm kernels are told, for both compilers.
 *
 * A group norm is three launches: each block of group_stats reduces some rows of a clip to a mean
 * and a sum of squared distances per group, group_factors joins those in a fixed order and makes
 * factor and shift per channel, group_apply writes factor * x + shift. Sums are taken around a
 * value of the data, so that a large mean costs no digits. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_NORM_H
#define ONESTEP_KERNELS_CUDA_CUDA_NORM_H

#include <stdint.h>

/* Parameter of group_stats, group_factors and group_apply. */
struct cuda_group {
    uint64_t x, y;         /* elements [clips][rows][c] */
    uint64_t gamma, beta;  /* floats [c] */
    uint64_t partials;     /* floats [clips][chunks][groups][2]: mean, sum of squared distances */
    uint64_t factor;       /* floats [2][clips][c]: factor, then shift */
    int64_t rows;          /* pixels of a clip */
    int64_t chunk_rows;    /* rows of a block of group_stats */
    int32_t clips, chunks; /* blocks per clip */
    int32_t c, groups;     /* channels; of c / groups each */
    int32_t is_silu;       /* apply silu afterwards */
    float eps;             /* added to the variance */
};

/* Parameter of layer_norm. */
struct cuda_layer {
    uint64_t x, y;        /* elements [rows][c] */
    uint64_t gamma, beta; /* floats [c] */
    int64_t rows;         /* tokens */
    int32_t c;            /* channels */
    float eps;            /* added to the variance */
};

#endif
