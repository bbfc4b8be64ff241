#include <stdio.h>
#include <stdlib.h>

#include "kernels/ref/ref_priv.h"

static status ref_open(struct kern_ctx **ctx, const struct kern_config *config)
{
    struct ref_ctx *c;

    /* One thread and plain C, always. */
    if (config->precision > KERN_PRECISION_F32)
        return FAIL(ERR_BADARG, "the reference device computes in f32 only; set precision to f32");
    c = calloc(1, sizeof(*c));
    if (!c)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory for a kernel context", sizeof(*c));
    snprintf(c->base.description, sizeof(c->base.description), "reference, plain C, 1 thread");
    c->base.layout =
        (struct kern_layout){ .dtype = KERN_F32, .slice_bytes = KERN_HOST_SLICE_BYTES };
    *ctx = &c->base;
    return OK;
}

static void ref_close(struct kern_ctx *ctx)
{
    struct ref_ctx *c = (struct ref_ctx *)ctx;

    if (!c)
        return;
    free(c->scratch);
    free(c);
}

status ref_scratch(struct kern_ctx *ctx, int64_t n, double **p)
{
    struct ref_ctx *c = (struct ref_ctx *)ctx;

    if (n > c->scratch_n) {
        double *bigger = realloc(c->scratch, (size_t)n * sizeof(double));

        if (!bigger)
            return FAIL(ERR_NOMEM, "no %zu bytes of memory for attention scores",
                        (size_t)n * sizeof(double));
        c->scratch = bigger;
        c->scratch_n = n;
    }
    *p = c->scratch;
    return OK;
}

const struct kern_table kern_ref = {
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .conv2d = ref_conv2d,
    .conv_temporal = ref_conv_temporal,
    .linear = ref_linear,
    .geglu = ref_geglu,
    .group_norm = ref_group_norm,
    .layer_norm = ref_layer_norm,
    .attention = ref_attention,
    .attention_temporal = ref_attention_temporal,
    .add = ref_add,
    .blend = ref_blend,
    .concat = ref_concat,
    .silu = ref_silu,
    .copy = ref_copy,
};
