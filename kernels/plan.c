/* DESIGN: a dry run. Every kernel succeeds and touches nothing, so that a model can be called with
 * tensors that have addresses but no memory behind them: the arena's high-water mark after the call
 * is the memory the real run needs, because it was found by the same code. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/kern_ctx.h"

static status plan_open(struct kern_ctx **ctx, const struct kern_config *config)
{
    struct kern_ctx *c = calloc(1, sizeof(*c));

    if (!c)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory for a kernel context", sizeof(*c));
    snprintf(c->description, sizeof(c->description), "plan, computes nothing");
    c->layout = config->layout;
    if (c->layout.dtype == KERN_NONE)
        c->layout = (struct kern_layout){ .dtype = KERN_F32, .slice_bytes = KERN_HOST_SLICE_BYTES };
    *ctx = c;
    return OK;
}

static void plan_close(struct kern_ctx *ctx)
{
    free(ctx);
}

/* One do-nothing kernel per entry of the table, each with the type of its argument struct. */
#define PLAN_KERNEL(family)                                                                        \
    static status plan_##family(struct kern_ctx *ctx, const struct kern_##family *a)               \
    {                                                                                              \
        (void)ctx;                                                                                 \
        (void)a;                                                                                   \
        return OK;                                                                                 \
    }

PLAN_KERNEL(conv2d)
PLAN_KERNEL(conv_temporal)
PLAN_KERNEL(linear)
PLAN_KERNEL(geglu)
PLAN_KERNEL(group_norm)
PLAN_KERNEL(layer_norm)
PLAN_KERNEL(attention)
PLAN_KERNEL(attention_temporal)
PLAN_KERNEL(add)
PLAN_KERNEL(blend)
PLAN_KERNEL(concat)
PLAN_KERNEL(silu)
PLAN_KERNEL(copy)

static status plan_upload(struct kern_ctx *ctx, const struct tensor *y, const float *src)
{
    (void)ctx;
    (void)y;
    (void)src;
    return OK;
}

static status plan_download(struct kern_ctx *ctx, const struct tensor *x, float *dst)
{
    (void)ctx;
    (void)x;
    (void)dst;
    return OK;
}

const struct kern_table kern_plan = {
    .name = "plan",
    .open = plan_open,
    .close = plan_close,
    .upload = plan_upload,
    .download = plan_download,
    .conv2d = plan_conv2d,
    .conv_temporal = plan_conv_temporal,
    .linear = plan_linear,
    .geglu = plan_geglu,
    .group_norm = plan_group_norm,
    .layer_norm = plan_layer_norm,
    .attention = plan_attention,
    .attention_temporal = plan_attention_temporal,
    .add = plan_add,
    .blend = plan_blend,
    .concat = plan_concat,
    .silu = plan_silu,
    .copy = plan_copy,
};
