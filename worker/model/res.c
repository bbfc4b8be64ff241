/* DESIGN: the spatial half treats every frame alone, so it runs over a few frames at a time: its
 * two scratch tensors then stay small where frames are large (the last levels of the VAE
 * decoder). The temporal half needs all frames at once, for its norms and its convolution. */
#include "worker/model/res.h"

#include <math.h>

#include "common/base/check.h"
#include "worker/model/params.h"
#include "worker/model/slice.h"

static status load_half(struct res_half *half, struct weights *w, const char *prefix,
                        const struct res_spec *spec)
{
    status st;
    char name[WEIGHTS_NAME_BYTES];
    bool is_time = spec->is_temporal;
    float eps = is_time ? spec->eps_time : spec->eps;

    TRY(weights_norm(w, &half->norm1, weights_name(name, prefix, "norm1"), spec->ci,
                     PARAMS_NORM_GROUPS, eps));
    TRY(weights_conv(w, &half->conv1, weights_name(name, prefix, "conv1"),
                     &(struct weights_conv_spec){
                         .co = spec->co, .ci = spec->ci, .k = 3, .is_temporal = is_time }));
    if (spec->embedding)
        TRY(weights_linear(w, &half->time, weights_name(name, prefix, "time_emb_proj"),
                           &(struct weights_linear_spec){ spec->co, spec->embedding, true }));
    TRY(weights_norm(w, &half->norm2, weights_name(name, prefix, "norm2"), spec->co,
                     PARAMS_NORM_GROUPS, eps));
    TRY(weights_conv(w, &half->conv2, weights_name(name, prefix, "conv2"),
                     &(struct weights_conv_spec){
                         .co = spec->co, .ci = spec->co, .k = 3, .is_temporal = is_time }));
out:
    return st;
}

static status load_spatial(struct res_block *block, struct weights *w, const char *prefix,
                           const struct res_spec *spec)
{
    status st;
    char name[WEIGHTS_NAME_BYTES];
    struct res_spec spatial = *spec;

    spatial.is_temporal = false;
    TRY(load_half(&block->spatial, w, prefix, &spatial));
    if (spec->ci != spec->co)
        TRY(weights_conv(w, &block->shortcut, weights_name(name, prefix, "conv_shortcut"),
                         &(struct weights_conv_spec){ .co = spec->co, .ci = spec->ci, .k = 1 }));
out:
    return st;
}

status res_load(struct res_block *block, struct weights *w, const char *prefix,
                const struct res_spec *spec)
{
    status st;
    char name[WEIGHTS_NAME_BYTES];
    struct res_spec temporal = *spec;
    float factor;

    *block = (struct res_block){ .is_temporal = spec->is_temporal };
    if (!spec->is_temporal)
        return load_spatial(block, w, prefix, spec);
    TRY(load_spatial(block, w, weights_name(name, prefix, "spatial_res_block"), spec));
    temporal.ci = spec->co;
    TRY(load_half(&block->temporal, w, weights_name(name, prefix, "temporal_res_block"),
                  &temporal));
    TRY(weights_scalar(w, &factor, weights_name(name, prefix, "time_mixer.mix_factor")));
    /* CAREFUL: the UNet's factor weighs the spatial branch, the VAE's the temporal one. */
    factor = 1 / (1 + expf(-factor));
    block->mix = spec->is_switched ? factor : 1 - factor;
out:
    return st;
}

/* *add = W silu(e) + b, [1,1,1,co], without data when the half has no time embedding. */
static status time_vector(struct dev *dev, struct tensor *add, const struct res_half *half,
                          const struct tensor *silu_e)
{
    status st = OK;

    *add = (struct tensor){ 0 };
    if (!half->time.weight)
        return OK;
    CHECK(silu_e);
    TRY(op_linear(dev, add, silu_e, &half->time, NULL));
out:
    return st;
}

/* Some frames of the spatial half; add as above. */
static status forward_frames(struct dev *dev, struct tensor *y, const struct tensor *x,
                             const struct res_block *block, const struct tensor *add)
{
    status st;
    const struct res_half *l = &block->spatial;
    const struct tensor *residual = x;
    struct tensor a = { 0 }, b = { 0 };
    size_t mark = arena_mark(&dev->act), scratch;

    TRY(op_new(dev, &b, x->n, x->h, x->w, l->conv1.co));
    scratch = arena_mark(&dev->act);
    TRY(op_group_norm(dev, &a, x, &l->norm1, 1, true));                          /* [n,h,w,ci] */
    TRY(op_conv2d(dev, &b, &a, &l->conv1, &(struct op_conv_opt){ .add = add })); /* [n,h,w,co] */
    arena_release(&dev->act, scratch);
    TRY(op_group_norm(dev, &b, &b, &l->norm2, 1, true));
    if (block->shortcut.weight) {
        TRY(op_conv2d(dev, y, x, &block->shortcut, NULL));
        residual = y;
    }
    TRY(op_conv2d(dev, y, &b, &l->conv2, &(struct op_conv_opt){ .residual = residual }));
    arena_release(&dev->act, mark);
out:
    return st;
}

status res_spatial(struct dev *dev, struct tensor *y, const struct tensor *x,
                   const struct res_block *block, const struct tensor *silu_e)
{
    status st;
    int64_t frame_bytes = (int64_t)((op_bytes(x) + op_bytes(y)) / (size_t)x->n);
    int64_t step = kern_layout(dev->ctx).slice_bytes / frame_bytes;
    size_t mark = arena_mark(&dev->act);
    struct tensor add;

    CHECK(y->data && y->n == x->n && y->h == x->h && y->w == x->w);
    CHECK(y->data != x->data || y->c == x->c);
    TRY(time_vector(dev, &add, &block->spatial, silu_e));
    step = step < 1 ? 1 : step;
    for (int64_t first = 0; first < x->n; first += step) {
        int64_t count = x->n - first < step ? x->n - first : step;
        struct tensor y_part = slice_frames(y, first, count);
        struct tensor x_part = slice_frames(x, first, count);

        TRY(forward_frames(dev, &y_part, &x_part, block, &add));
    }
    arena_release(&dev->act, mark);
out:
    return st;
}

status res_temporal(struct dev *dev, struct tensor *y, const struct res_block *block,
                    const struct tensor *silu_e)
{
    status st;
    const struct res_half *l = &block->temporal;
    struct tensor a = { 0 };
    size_t mark = arena_mark(&dev->act);
    struct tensor add;

    if (!block->is_temporal)
        return OK;
    TRY(time_vector(dev, &add, l, silu_e));
    TRY(op_conv_temporal(dev, &a, y, &l->conv1,
                         &(struct op_conv_opt){ .add = &add, .norm = &l->norm1 })); /* [f,h,w,c] */
    TRY(op_conv_temporal(
        dev, y, &a, &l->conv2,
        &(struct op_conv_opt){ .scale = block->mix, .residual = y, .norm = &l->norm2 }));
    arena_release(&dev->act, mark);
out:
    return st;
}

status res_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                   const struct res_block *block, const struct tensor *silu_e)
{
    status st;

    TRY(res_spatial(dev, y, x, block, silu_e));
    TRY(res_temporal(dev, y, block, silu_e));
out:
    return st;
}
