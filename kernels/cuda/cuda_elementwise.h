/* cuda_elementwise.h - what the kernels for single elements are told, for both compilers. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_ELEMENTWISE_H
#define ONESTEP_KERNELS_CUDA_CUDA_ELEMENTWISE_H

#include <stdint.h>

/* What y is. */
enum cuda_element {
    CUDA_ELEMENT_COPY,  /* x */
    CUDA_ELEMENT_ADD,   /* x + z */
    CUDA_ELEMENT_BLEND, /* a x + (1 - a) z */
    CUDA_ELEMENT_SILU   /* x * sigmoid(x) */
};

/* Parameter of `element` and of `concat`. */
struct cuda_elements {
    uint64_t x, z, y; /* elements; x and z floats where they are weights */
    int64_t count;    /* of y */
    int64_t frame;    /* of y, in one frame */
    int32_t c, x_c;   /* channels of y; concat: of x */
    int32_t op;       /* enum cuda_element */
    int32_t z_rows;   /* 0: z has y's shape; 1: one row of c in all; else one for each frame */
    int32_t x_is_float, z_is_float; /* see above */
    float a;                        /* of blend */
};

/* Parameter of `upload` and `download`. */
struct cuda_convert {
    uint64_t elements, floats; /* both on the device */
    int64_t count;             /* of them */
};

#endif
