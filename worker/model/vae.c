#include "worker/model/vae.h"

#include <stdio.h>

#include "common/base/check.h"
#include "worker/model/params.h"
#include "worker/model/slice.h"

/* Source: vae.py Encoder, autoencoder_kl_temporal_decoder.py (resnet eps, temporal_eps,
 * conv_norm_out), unet_3d_blocks.py MidBlockTemporalDecoder. */
#define EPS_SPATIAL 1e-6f
#define EPS_TEMPORAL 1e-5f

/* --- loading ---------------------------------------------------------------------------------- */

static status read_config(struct vae_config *c, const struct params *p)
{
    status st;
    static const char *const types[] = { "DownEncoderBlock2D", NULL };
    int64_t layers;
    int type[VAE_LEVELS_MAX];

    TRY(params_expect_text(p, "_class_name", "AutoencoderKLTemporalDecoder"));
    TRY(params_widths(p, "block_out_channels", c->channels, &c->levels));
    TRY(params_choices(p, "down_block_types", c->levels, types, type));
    TRY(json_get_int(&p->root, "layers_per_block", 1, PARAMS_LAYERS_MAX, &layers));
    TRY(json_get_int(&p->root, "latent_channels", 1, PARAMS_WIDTH_MAX, &c->latent_channels));
    TRY(json_get_double(&p->root, "scaling_factor", 1e-6, 1e6, &c->scaling_factor));
    TRY(params_allow_int(p, "in_channels", 3));
    TRY(params_allow_int(p, "out_channels", 3));
    c->layers = (int)layers;
out:
    return st;
}

static status load_blocks(struct res_block **blocks, struct weights *w, const char *prefix,
                          int count, struct res_spec spec)
{
    status st;
    void *p = NULL;
    char name[WEIGHTS_NAME_BYTES], index[32];

    TRY(arena_take_zeroed(w->loader->layers, (size_t)count * sizeof(**blocks), &p));
    *blocks = p;
    for (int i = 0; i < count; i++) {
        snprintf(index, sizeof(index), "resnets.%d", i);
        TRY(res_load(&(*blocks)[i], w, weights_name(name, prefix, index), &spec));
        spec.ci = spec.co;
    }
out:
    return st;
}

static status load_mid(struct vae_half *half, struct weights *w, const char *prefix, int count,
                       struct res_spec spec)
{
    status st;
    char name[WEIGHTS_NAME_BYTES];

    half->mid_count = count;
    TRY(load_blocks(&half->mid, w, weights_name(name, prefix, "mid_block"), count, spec));
    TRY(attention_load(&half->attention, w, weights_name(name, prefix, "mid_block.attentions.0"),
                       spec.co, EPS_SPATIAL));
out:
    return st;
}

/* What differs between the levels of the two halves. */
struct level_spec {
    const char *blocks;   /* "down_blocks" */
    const char *resample; /* "downsamplers.0.conv" */
    int64_t ci, co;       /* channels into the first block, out of the last */
    int count;            /* residual blocks */
    bool is_temporal;     /* decoder */
};

static status load_level(struct vae_half *half, struct weights *w, const char *prefix, int index,
                         const struct level_spec *spec)
{
    status st;
    struct vae_level *level = &half->levels[index];
    char block[64], name[WEIGHTS_NAME_BYTES], resample[WEIGHTS_NAME_BYTES];

    snprintf(block, sizeof(block), "%s.%d", spec->blocks, index);
    weights_name(name, prefix, block);
    level->block_count = spec->count;
    TRY(load_blocks(&level->blocks, w, name, spec->count,
                    (struct res_spec){ .ci = spec->ci,
                                       .co = spec->co,
                                       .eps = EPS_SPATIAL,
                                       .eps_time = EPS_TEMPORAL,
                                       .is_temporal = spec->is_temporal,
                                       .is_switched = true }));
    if (level->has_resample)
        TRY(weights_conv(w, &level->resample, weights_name(resample, name, spec->resample),
                         &(struct weights_conv_spec){ .co = spec->co, .ci = spec->co, .k = 3 }));
out:
    return st;
}

static status load_encoder(struct vae *vae, struct weights *w)
{
    status st;
    const struct vae_config *c = &vae->config;
    struct vae_half *e = &vae->encoder;
    const int64_t moments = 2 * c->latent_channels, last = c->channels[c->levels - 1];

    TRY(weights_conv(w, &e->in, "encoder.conv_in",
                     &(struct weights_conv_spec){ .co = c->channels[0], .ci = 3, .k = 3 }));
    for (int i = 0; i < c->levels; i++) {
        e->levels[i].has_resample = i + 1 < c->levels;
        TRY(load_level(e, w, "encoder", i,
                       &(struct level_spec){ .blocks = "down_blocks",
                                             .resample = "downsamplers.0.conv",
                                             .ci = c->channels[i ? i - 1 : 0],
                                             .co = c->channels[i],
                                             .count = c->layers }));
    }
    TRY(load_mid(e, w, "encoder", 2,
                 (struct res_spec){ .ci = last, .co = last, .eps = EPS_SPATIAL }));
    TRY(weights_norm(w, &e->norm_out, "encoder.conv_norm_out", last, PARAMS_NORM_GROUPS,
                     EPS_SPATIAL));
    TRY(weights_conv(w, &e->out, "encoder.conv_out",
                     &(struct weights_conv_spec){ .co = moments, .ci = last, .k = 3 }));
    TRY(weights_conv(w, &vae->quant, "quant_conv",
                     &(struct weights_conv_spec){ .co = moments, .ci = moments, .k = 1 }));
    /* The first half of the moments is the mean, and nobody reads the variance. */
    vae->quant.co = c->latent_channels;
out:
    return st;
}

static status load_decoder(struct vae *vae, struct weights *w)
{
    status st;
    const struct vae_config *c = &vae->config;
    struct vae_half *d = &vae->decoder;
    int64_t ci = c->channels[c->levels - 1];

    TRY(weights_conv(w, &d->in, "decoder.conv_in",
                     &(struct weights_conv_spec){ .co = ci, .ci = c->latent_channels, .k = 3 }));
    TRY(load_mid(d, w, "decoder", c->layers,
                 (struct res_spec){ .ci = ci,
                                    .co = ci,
                                    .eps = EPS_SPATIAL,
                                    .eps_time = EPS_TEMPORAL,
                                    .is_temporal = true,
                                    .is_switched = true }));
    for (int i = 0; i < c->levels; i++) {
        int64_t co = c->channels[c->levels - 1 - i];

        d->levels[i].has_resample = i + 1 < c->levels;
        TRY(load_level(d, w, "decoder", i,
                       &(struct level_spec){ .blocks = "up_blocks",
                                             .resample = "upsamplers.0.conv",
                                             .ci = ci,
                                             .co = co,
                                             .count = c->layers + 1,
                                             .is_temporal = true }));
        ci = co;
    }
    TRY(weights_norm(w, &d->norm_out, "decoder.conv_norm_out", ci, PARAMS_NORM_GROUPS,
                     EPS_SPATIAL));
    TRY(weights_conv(w, &d->out, "decoder.conv_out",
                     &(struct weights_conv_spec){ .co = 3, .ci = ci, .k = 3 }));
    TRY(weights_conv(w, &vae->time_out, "decoder.time_conv_out",
                     &(struct weights_conv_spec){ .co = 3, .ci = 3, .k = 3, .is_temporal = true }));
out:
    return st;
}

status vae_load(struct vae *vae, struct weights_loader *loader, const char *dir)
{
    status st;
    struct params params = { 0 };
    struct weights w = { 0 };

    *vae = (struct vae){ 0 };
    TRY(params_open(&params, loader, dir, "config.json"));
    TRY(read_config(&vae->config, &params));
    TRY(weights_open(&w, loader, dir, "diffusion_pytorch_model"));
    TRY(load_encoder(vae, &w));
    TRY(load_decoder(vae, &w));
    TRY(weights_finish(&w));
out:
    weights_close(&w);
    params_close(&params);
    return st;
}

int vae_factor(const struct vae *vae)
{
    return 1 << (vae->config.levels - 1);
}

/* --- running ---------------------------------------------------------------------------------- */

/* CAREFUL: the reference pairs the first attention with the second block and stops there: with one
 * block there is no attention, with more than two the rest is never run. */
static status mid_forward(struct dev *dev, struct tensor *x, const struct vae_half *half)
{
    status st;

    TRY(res_forward(dev, x, x, &half->mid[0], NULL)); /* [n,h,w,c] */
    if (half->mid_count > 1) {
        TRY(attention_forward(dev, x, x, &half->attention));
        TRY(res_forward(dev, x, x, &half->mid[1], NULL));
    }
out:
    return st;
}

/* y = spatial half of block on x, or on x resampled to y's size by up: a frame at a time, since the
 * resampled frames of the last level would together be the largest tensor of a decoder. */
static status enter_level(struct dev *dev, struct tensor *y, const struct tensor *x,
                          const struct conv *up, const struct res_block *block)
{
    status st = OK;

    if (!up)
        return res_spatial(dev, y, x, block, NULL);
    for (int64_t i = 0; i < x->n; i++) {
        struct tensor x_frame = slice_frames(x, i, 1), y_frame = slice_frames(y, i, 1);
        struct tensor resampled = { 0 };
        size_t mark = arena_mark(&dev->act);

        TRY(op_conv2d(dev, &resampled, &x_frame, up,
                      &(struct op_conv_opt){ .up_h = y->h, .up_w = y->w }));
        TRY(res_spatial(dev, &y_frame, &resampled, block, NULL));
        arena_release(&dev->act, mark);
    }
out:
    return st;
}

/* Move t down to mark, over what was taken before it and is needed no more. Frame by frame, so that
 * source and destination of a copy are apart; nothing is gained where a frame is larger than the
 * step. */
static status settle(struct dev *dev, struct tensor *t, size_t mark)
{
    status st = OK;
    const size_t frame_bytes = op_bytes(t) / (size_t)t->n;
    const size_t used = arena_mark(&dev->act);
    struct tensor moved = *t;
    void *block;

    if ((size_t)((char *)t->data - dev->act.base) - mark < frame_bytes)
        return OK;
    /* All memory from mark on as one block, so that source and destination are both ours to touch;
     * then what is needed of it. */
    arena_release(&dev->act, mark);
    TRY(arena_take(&dev->act, used - mark, &block));
    moved.data = block;
    for (int64_t i = 0; i < t->n; i++) {
        struct tensor to = slice_frames(&moved, i, 1), from = slice_frames(t, i, 1);

        TRY(op_copy(dev, &to, &from));
    }
    arena_release(&dev->act, mark);
    TRY(op_new(dev, t, t->n, t->h, t->w, t->c));
    CHECK(t->data == block);
out:
    return st;
}

/* x = the blocks of a level on x, or on x resampled to twice its size by up. x lies at mark or
 * above; its memory is given back, the new x takes its place. */
static status level_forward(struct dev *dev, struct tensor *x, size_t mark, const struct conv *up,
                            const struct vae_level *level)
{
    status st;
    const int64_t scale = up ? 2 : 1;
    const struct res_block *first = &level->blocks[0];
    struct tensor y = { 0 };

    TRY(op_new(dev, &y, x->n, scale * x->h, scale * x->w, first->spatial.conv1.co));
    TRY(enter_level(dev, &y, x, up, first));
    TRY(settle(dev, &y, mark));
    TRY(res_temporal(dev, &y, first, NULL));
    for (int i = 1; i < level->block_count; i++)
        TRY(res_forward(dev, &y, &y, &level->blocks[i], NULL));
    *x = y;
out:
    return st;
}

/* y = out(silu(norm x)), a frame at a time: y is thin and x is at its largest here. */
static status out_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                          const struct vae_half *half)
{
    status st;

    TRY(op_new(dev, y, x->n, x->h, x->w, half->out.co));
    for (int64_t i = 0; i < x->n; i++) {
        struct tensor x_frame = slice_frames(x, i, 1), y_frame = slice_frames(y, i, 1);
        struct tensor n = { 0 };
        size_t mark = arena_mark(&dev->act);

        TRY(op_group_norm(dev, &n, &x_frame, &half->norm_out, 1, true)); /* [1,h,w,c] */
        TRY(op_conv2d(dev, &y_frame, &n, &half->out, NULL));             /* [1,h,w,co] */
        arena_release(&dev->act, mark);
    }
out:
    return st;
}

status vae_encode(struct dev *dev, const struct vae *vae, const float *image, int64_t H, int64_t W,
                  float *latent)
{
    status st;
    const struct vae_half *e = &vae->encoder;
    struct tensor pixels = { 0 }, x = { 0 }, moments = { 0 }, mean = { 0 };
    size_t mark = arena_mark(&dev->act);

    CHECK(H > 0 && W > 0 && H % vae_factor(vae) == 0 && W % vae_factor(vae) == 0);
    TRY(op_new(dev, &pixels, 1, H, W, 3));
    TRY(op_upload(dev, &pixels, image));
    TRY(op_conv2d(dev, &x, &pixels, &e->in, NULL)); /* [1,H,W,c0] */
    for (int i = 0; i < vae->config.levels; i++) {
        const struct vae_level *level = &e->levels[i];
        struct tensor y = { 0 };

        TRY(level_forward(dev, &x, mark, NULL, level)); /* [1,h,w,ci] */
        if (level->has_resample) {
            TRY(op_conv2d(dev, &y, &x, &level->resample,
                          &(struct op_conv_opt){ .stride = 2, .is_asymmetric = true }));
            x = y;
        }
    }
    TRY(mid_forward(dev, &x, e));
    TRY(out_forward(dev, &moments, &x, e));                  /* [1,h,w,2C] */
    TRY(op_conv2d(dev, &mean, &moments, &vae->quant, NULL)); /* [1,h,w,C] */
    TRY(op_download(dev, &mean, latent));
out:
    arena_release(&dev->act, mark);
    return st;
}

/* Hand out the n frames of rgb, which are number first and following of the clip. */
static status deliver(struct dev *dev, const struct tensor *rgb, int64_t first,
                      const struct vae_decode_args *args)
{
    status st = OK;

    for (int64_t i = 0; i < rgb->n; i++) {
        struct tensor frame = slice_frames(rgb, i, 1);

        TRY(op_download(dev, &frame, args->frame));
        TRY(args->on_frame(args->self, first + i, args->frame));
    }
out:
    return st;
}

/* Decode frames [first, first + count) as one chunk. Progress counts blocks over all chunks. */
static status decode_chunk(struct dev *dev, const struct vae *vae,
                           const struct vae_decode_args *args, int64_t first, int64_t count)
{
    status st;
    const struct vae_half *d = &vae->decoder;
    const int64_t latent_floats = args->h * args->w * vae->config.latent_channels;
    const int levels = vae->config.levels;
    const int chunks = (int)((args->frames + args->chunk - 1) / args->chunk);
    const int done = (int)(first / args->chunk) * (levels + 2), total = chunks * (levels + 2);
    struct tensor z = { 0 }, x = { 0 }, rgb = { 0 }, mixed = { 0 };
    size_t mark = arena_mark(&dev->act);

    TRY(op_new(dev, &z, count, args->h, args->w, vae->config.latent_channels));
    TRY(op_upload(dev, &z, args->latents + first * latent_floats));
    TRY(op_conv2d(dev, &x, &z, &d->in, NULL)); /* [f,h,w,c] */
    TRY(mid_forward(dev, &x, d));
    progress_step(args->progress, done + 1, total);
    for (int i = 0; i < levels; i++) {
        TRY(level_forward(dev, &x, mark, i ? &d->levels[i - 1].resample : NULL,
                          &d->levels[i])); /* [f,2^i h,2^i w,ci] */
        progress_step(args->progress, done + 2 + i, total);
    }
    TRY(out_forward(dev, &rgb, &x, d));                             /* [f,H,W,3] */
    TRY(op_conv_temporal(dev, &mixed, &rgb, &vae->time_out, NULL)); /* [f,H,W,3] */
    TRY(deliver(dev, &mixed, first, args));
    progress_step(args->progress, done + levels + 2, total);
out:
    arena_release(&dev->act, mark);
    return st;
}

status vae_decode(struct dev *dev, const struct vae *vae, const struct vae_decode_args *args)
{
    status st = OK;
    struct vae_decode_args a = *args;

    CHECK(a.frames > 0 && a.h > 0 && a.w > 0 && a.chunk >= 0 && a.frame && a.on_frame);
    a.chunk = a.chunk == 0 || a.chunk > a.frames ? a.frames : a.chunk;
    for (int64_t first = 0; first < a.frames; first += a.chunk) {
        int64_t rest = a.frames - first;

        TRY(decode_chunk(dev, vae, &a, first, rest < a.chunk ? rest : a.chunk));
    }
out:
    return st;
}
