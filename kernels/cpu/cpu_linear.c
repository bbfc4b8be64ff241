#include <string.h>

#include "kernels/cpu/cpu_priv.h"

/* A is the token matrix itself. source: struct tensor. */
static void linear_fill(const void *source, const struct cpu_block *at, float *block)
{
    const struct tensor *x = source;

    for (int64_t r = 0; r < at->rows; r++)
        memcpy(block + r * CPU_PITCH, (const float *)x->data + (at->m0 + r) * x->c + at->k0,
               (size_t)at->depth * sizeof(float));
}

status cpu_linear(struct kern_ctx *ctx, const struct kern_linear *a)
{
    struct cpu_gemm g = { .fill = linear_fill,
                          .source = &a->x,
                          .weight = a->layer->weight,
                          .dtype = a->layer->dtype,
                          .m = cpu_rows(&a->x),
                          .k = a->layer->in,
                          .e = { .bias = a->layer->bias,
                                 .add = a->add,
                                 .residual = a->residual.data,
                                 .y = a->y.data,
                                 .n = a->layer->out,
                                 .scale = 1,
                                 .act = a->act } };

    return cpu_gemm_run(cpu_ctx_of(ctx), &g);
}

status cpu_geglu(struct kern_ctx *ctx, const struct kern_geglu *a)
{
    struct cpu_gemm g = { .fill = linear_fill,
                          .source = &a->x,
                          .weight = a->layer->weight,
                          .dtype = a->layer->dtype,
                          .m = cpu_rows(&a->x),
                          .k = a->layer->in,
                          .e = { .bias = a->layer->bias,
                                 .y = a->y.data,
                                 .n = a->layer->out / 2,
                                 .scale = 1,
                                 .gate = true } };

    return cpu_gemm_run(cpu_ctx_of(ctx), &g);
}
