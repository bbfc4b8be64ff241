/* slice.h - tensors that are a part of another one, or that stand for a weight.
 *
 * Nothing here touches memory; a slice lives as long as what it was cut from. These functions can't
 * fail. */
#ifndef ONESTEP_WORKER_MODEL_SLICE_H
#define ONESTEP_WORKER_MODEL_SLICE_H

#include "common/base/check.h"
#include "kernels/kern.h"

/* Frames [first, first + count) of t. */
static inline struct tensor slice_frames(const struct tensor *t, int64_t first, int64_t count)
{
    struct tensor part = *t;

    CHECK(first >= 0 && count > 0 && first + count <= t->n);
    part.data = (char *)t->data + (size_t)(first * t->h * t->w * t->c) * kern_dtype_bytes(t->dtype);
    part.n = count;
    return part;
}

/* count elements from element first on, as one row [1,1,1,count]. */
static inline struct tensor slice_row(const struct tensor *t, int64_t first, int64_t count)
{
    CHECK(first >= 0 && count > 0 && first + count <= t->n * t->h * t->w * t->c);
    return (struct tensor){ .data = (char *)t->data + (size_t)first * kern_dtype_bytes(t->dtype),
                            .dtype = t->dtype,
                            .n = 1,
                            .h = 1,
                            .w = 1,
                            .c = count };
}

/* A weight of rows x c floats as a tensor [1,1,rows,c] that is only read, by op_add, op_concat or
 * op_copy: in every table it is host memory. */
static inline struct tensor slice_weight(const float *weight, int64_t rows, int64_t c)
{
    return (struct tensor){
        .data = (void *)weight, .dtype = KERN_F32, .n = 1, .h = 1, .w = rows, .c = c
    };
}

#endif
