#include "worker/model/unet.h"

#include <stdio.h>

#include "common/base/check.h"
#include "worker/model/params.h"
#include "worker/model/slice.h"

/* GroupNorm's epsilon differs from block to block in the reference, because some block types ignore
 * the value they are given. Source: unet_3d_blocks.py (CrossAttnDownBlockSpatioTemporal,
 * UpBlockSpatioTemporal: 1e-6; DownBlockSpatioTemporal, UNetMidBlockSpatioTemporal: 1e-5). */
#define EPS_DOWN_ATTENTION 1e-6f
#define EPS_DOWN 1e-5f
#define EPS_MID 1e-5f
#define EPS_UP 1e-6f
#define EPS_OUT 1e-5f

/* What a config may leave open: frames and size of a clip for which nobody asked. Source: SVD-XT's
 * config; diffusers writes sample_size as null unless it was told one. */
#define DEFAULT_FRAMES 25
#define DEFAULT_SAMPLE_SIZE 96

/* Outputs that the down path keeps for the up path. */
#define UNET_SKIPS_MAX (1 + UNET_LEVELS_MAX * (UNET_LAYERS_MAX + 1))

_Static_assert(UNET_LEVELS_MAX == PARAMS_LEVELS_MAX && UNET_LAYERS_MAX == PARAMS_LAYERS_MAX,
               "the bounds of config.json are those of the structs");

/* --- configuration ---------------------------------------------------------------------------- */

static status read_blocks(struct unet_config *c, const struct params *p)
{
    status st;
    static const char *const down[] = { "DownBlockSpatioTemporal",
                                        "CrossAttnDownBlockSpatioTemporal", NULL };
    static const char *const up[] = { "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal",
                                      NULL };
    int has_attention[UNET_LEVELS_MAX];

    TRY(params_choices(p, "down_block_types", c->levels, down, has_attention));
    for (int i = 0; i < c->levels; i++)
        c->down_has_attention[i] = has_attention[i];
    TRY(params_choices(p, "up_block_types", c->levels, up, has_attention));
    for (int i = 0; i < c->levels; i++)
        c->up_has_attention[i] = has_attention[i];
out:
    return st;
}

/* One width of image embedding serves all blocks, and heads divide channels where there are any. */
static status check_attention(const struct unet_config *c, const int64_t *cross,
                              const struct params *p)
{
    for (int i = 0; i < c->levels; i++) {
        bool is_used = c->down_has_attention[i] || c->up_has_attention[c->levels - 1 - i] ||
                       i == c->levels - 1;

        if (cross[i] != cross[0])
            return FAIL(ERR_BADARG, "%s cross_attention_dim differs between levels", p->root.path);
        if (is_used && c->channels[i] % c->heads[i] != 0)
            return FAIL(ERR_BADARG,
                        "%s block_out_channels[%d] is not a multiple of "
                        "num_attention_heads",
                        p->root.path, i);
    }
    return OK;
}

static status read_config(struct unet_config *c, const struct params *p)
{
    status st;
    const struct json_value *root = &p->root;
    int64_t layers[UNET_LEVELS_MAX], depth[UNET_LEVELS_MAX], cross[UNET_LEVELS_MAX];
    int64_t frames = DEFAULT_FRAMES;

    TRY(params_expect_text(p, "_class_name", "UNetSpatioTemporalConditionModel"));
    TRY(params_widths(p, "block_out_channels", c->channels, &c->levels));
    TRY(params_per_level(p, "layers_per_block", c->levels, UNET_LAYERS_MAX, layers));
    TRY(params_per_level(p, "num_attention_heads", c->levels, PARAMS_WIDTH_MAX, c->heads));
    TRY(params_per_level(p, "transformer_layers_per_block", c->levels, PARAMS_LAYERS_MAX, depth));
    TRY(params_per_level(p, "cross_attention_dim", c->levels, PARAMS_WIDTH_MAX, cross));
    TRY(read_blocks(c, p));
    TRY(check_attention(c, cross, p));
    TRY(json_get_int(root, "in_channels", 2, PARAMS_WIDTH_MAX, &c->in_channels));
    TRY(json_get_int(root, "out_channels", 1, c->in_channels - 1, &c->out_channels));
    TRY(json_get_int(root, "addition_time_embed_dim", 2, PARAMS_WIDTH_MAX,
                     &c->addition_time_embed_dim));
    if (c->addition_time_embed_dim % 2 != 0)
        TRY(FAIL(ERR_BADARG, "%s addition_time_embed_dim is odd", root->path));
    /* Three added ids: fps, motion bucket, noise augmentation. */
    TRY(params_expect_int(p, "projection_class_embeddings_input_dim",
                          3 * c->addition_time_embed_dim));
    c->sample_size = DEFAULT_SAMPLE_SIZE;
    TRY(json_opt_int(root, "num_frames", 1, 1 << 16, &frames));
    TRY(json_opt_int(root, "sample_size", 1, 1 << 16, &c->sample_size));
    for (int i = 0; i < c->levels; i++) {
        c->layers[i] = (int)layers[i];
        c->transformer_layers[i] = (int)depth[i];
    }
    c->cross_attention_dim = cross[0];
    c->frames = (int)frames;
out:
    return st;
}

/* --- loading ---------------------------------------------------------------------------------- */

static int64_t embedding_width(const struct unet_config *c)
{
    return 4 * c->channels[0];
}

/* What differs between the levels of the two paths. */
struct level_spec {
    const char *blocks;              /* "down_blocks" */
    const char *resample;            /* "downsamplers.0.conv" */
    int index;                       /* in the order of the path */
    int config_index;                /* in the order of config.json, finest first */
    int count;                       /* residual blocks */
    int64_t ci[UNET_LAYERS_MAX + 1]; /* channels into each block, the skip included */
    bool has_attention;              /* a transformer follows each residual block */
    float eps;                       /* of the residual blocks */
};

static status load_level(struct unet_level *level, struct weights *w, const struct unet_config *c,
                         const struct level_spec *spec)
{
    status st;
    const int64_t co = c->channels[spec->config_index];
    char block[64], part[32], prefix[WEIGHTS_NAME_BYTES], name[WEIGHTS_NAME_BYTES];
    void *res = NULL, *attention = NULL;
    size_t count = (size_t)spec->count;

    level->block_count = spec->count;
    TRY(arena_take_zeroed(w->loader->layers, count * sizeof(*level->res), &res));
    level->res = res;
    if (spec->has_attention)
        TRY(arena_take_zeroed(w->loader->layers, count * sizeof(*level->attention), &attention));
    level->attention = attention;
    snprintf(block, sizeof(block), "%s.%d", spec->blocks, spec->index);
    for (int i = 0; i < spec->count; i++) {
        snprintf(part, sizeof(part), "resnets.%d", i);
        TRY(res_load(&level->res[i], w, weights_name(name, block, part),
                     &(struct res_spec){ .ci = spec->ci[i],
                                         .co = co,
                                         .embedding = embedding_width(c),
                                         .eps = spec->eps,
                                         .eps_time = spec->eps,
                                         .is_temporal = true }));
        if (!spec->has_attention)
            continue;
        snprintf(part, sizeof(part), "attentions.%d", i);
        TRY(transformer_load(
            &level->attention[i], w, weights_name(name, block, part),
            &(struct transformer_spec){ .c = co,
                                        .heads = c->heads[spec->config_index],
                                        .context = c->cross_attention_dim,
                                        .layers = c->transformer_layers[spec->config_index] }));
    }
    level->has_resample = spec->index + 1 < c->levels;
    weights_name(prefix, block, spec->resample);
    if (level->has_resample)
        TRY(weights_conv(w, &level->resample, prefix,
                         &(struct weights_conv_spec){ .co = co, .ci = co, .k = 3 }));
out:
    return st;
}

static status load_down(struct unet *unet, struct weights *w, int index)
{
    const struct unet_config *c = &unet->config;
    bool has_attention = c->down_has_attention[index];
    struct level_spec spec = { .blocks = "down_blocks",
                               .resample = "downsamplers.0.conv",
                               .index = index,
                               .config_index = index,
                               .count = c->layers[index],
                               .has_attention = has_attention,
                               .eps = has_attention ? EPS_DOWN_ATTENTION : EPS_DOWN };

    spec.ci[0] = c->channels[index ? index - 1 : 0];
    for (int i = 1; i < spec.count; i++)
        spec.ci[i] = c->channels[index];
    return load_level(&unet->down[index], w, c, &spec);
}

static status load_up(struct unet *unet, struct weights *w, int index)
{
    const struct unet_config *c = &unet->config;
    int level = c->levels - 1 - index;
    int64_t co = c->channels[level];
    struct level_spec spec = { .blocks = "up_blocks",
                               .resample = "upsamplers.0.conv",
                               .index = index,
                               .config_index = level,
                               .count = c->layers[level] + 1,
                               .has_attention = c->up_has_attention[index],
                               .eps = EPS_UP };

    /* The last skip of a level is the output of the finer level's downsampling, or of conv_in. */
    for (int i = 0; i < spec.count; i++) {
        int64_t skip = i < spec.count - 1 ? co : c->channels[level ? level - 1 : 0];
        int64_t current = i ? co : c->channels[index ? level + 1 : level];

        spec.ci[i] = current + skip;
    }
    return load_level(&unet->up[index], w, c, &spec);
}

static status load_mid(struct unet *unet, struct weights *w)
{
    status st;
    const struct unet_config *c = &unet->config;
    const int last = c->levels - 1;
    const int64_t co = c->channels[last];
    const struct res_spec res = { .ci = co,
                                  .co = co,
                                  .embedding = embedding_width(c),
                                  .eps = EPS_MID,
                                  .eps_time = EPS_MID,
                                  .is_temporal = true };

    TRY(res_load(&unet->mid[0], w, "mid_block.resnets.0", &res));
    TRY(transformer_load(&unet->mid_attention, w, "mid_block.attentions.0",
                         &(struct transformer_spec){ .c = co,
                                                     .heads = c->heads[last],
                                                     .context = c->cross_attention_dim,
                                                     .layers = c->transformer_layers[last] }));
    TRY(res_load(&unet->mid[1], w, "mid_block.resnets.1", &res));
out:
    return st;
}

static status load_weights(struct unet *unet, struct weights *w)
{
    status st;
    const struct unet_config *c = &unet->config;
    const int64_t c0 = c->channels[0], e = embedding_width(c);

    TRY(weights_conv(w, &unet->in, "conv_in",
                     &(struct weights_conv_spec){ .co = c0, .ci = c->in_channels, .k = 3 }));
    TRY(embed_load(&unet->time, w, "time_embedding", &(struct embed_spec){ c0, e, e }));
    TRY(embed_load(&unet->added, w, "add_embedding",
                   &(struct embed_spec){ 3 * c->addition_time_embed_dim, e, e }));
    for (int i = 0; i < c->levels; i++)
        TRY(load_down(unet, w, i));
    TRY(load_mid(unet, w));
    for (int i = 0; i < c->levels; i++)
        TRY(load_up(unet, w, i));
    TRY(weights_norm(w, &unet->norm_out, "conv_norm_out", c0, PARAMS_NORM_GROUPS, EPS_OUT));
    TRY(weights_conv(w, &unet->out, "conv_out",
                     &(struct weights_conv_spec){ .co = c->out_channels, .ci = c0, .k = 3 }));
out:
    return st;
}

status unet_load(struct unet *unet, struct weights_loader *loader, const char *dir)
{
    status st;
    struct params params = { 0 };
    struct weights w = { 0 };

    *unet = (struct unet){ 0 };
    TRY(params_open(&params, loader, dir, "config.json"));
    TRY(read_config(&unet->config, &params));
    TRY(weights_open(&w, loader, dir, "diffusion_pytorch_model"));
    TRY(load_weights(unet, &w));
    TRY(weights_finish(&w));
out:
    weights_close(&w);
    params_close(&params);
    return st;
}

/* --- running ---------------------------------------------------------------------------------- */

/* One forward pass. */
struct pass {
    struct dev *dev;
    const struct unet *unet;
    const struct unet_input *input;
    struct tensor silu_e;                /* [1,1,1,4*c0]: SiLU of the time embedding */
    struct tensor context;               /* [1,1,1,cross_attention_dim]: the image embedding */
    struct tensor skips[UNET_SKIPS_MAX]; /* outputs of the down path */
    int skip_count;                      /* skips in use */
    int done, total;                     /* residual blocks, for progress */
};

static status fill_zero(struct dev *dev, struct tensor *t)
{
    static const float zeros[4096];
    const int64_t count = op_elements(t), room = sizeof(zeros) / sizeof(zeros[0]);
    status st = OK;

    for (int64_t first = 0; first < count; first += room) {
        struct tensor part = slice_row(t, first, count - first < room ? count - first : room);

        TRY(op_upload(dev, &part, zeros));
    }
out:
    return st;
}

static status upload_or_zero(struct dev *dev, struct tensor *t, const float *src)
{
    return src ? op_upload(dev, t, src) : fill_zero(dev, t);
}

/* Time embedding and image embedding, which are the same for all frames and blocks. */
static status prepare(struct pass *p)
{
    status st;
    struct dev *dev = p->dev;
    const struct unet_config *c = &p->unet->config;
    const int64_t c0 = c->channels[0], d = c->addition_time_embed_dim;
    const float ids[3] = { p->input->fps, p->input->motion_bucket, p->input->noise_aug };
    struct tensor t = { 0 }, a = { 0 }, e = { 0 }, e_added = { 0 };
    size_t scratch;

    TRY(op_new(dev, &p->context, 1, 1, 1, c->cross_attention_dim));
    TRY(upload_or_zero(dev, &p->context, p->input->embedding));
    TRY(op_new(dev, &p->silu_e, 1, 1, 1, embedding_width(c)));
    scratch = arena_mark(&dev->act);
    TRY(op_new(dev, &t, 1, 1, 1, c0));
    TRY(embed_upload(dev, &t, &p->input->timestep, 1, c0));
    TRY(embed_forward(dev, &e, &t, &p->unet->time)); /* [1,1,1,4*c0] */
    TRY(op_new(dev, &a, 1, 1, 1, 3 * d));
    TRY(embed_upload(dev, &a, ids, 3, d));
    TRY(embed_forward(dev, &e_added, &a, &p->unet->added)); /* [1,1,1,4*c0] */
    TRY(op_add(dev, &e, &e, &e_added));
    TRY(op_silu(dev, &p->silu_e, &e));
    arena_release(&dev->act, scratch);
out:
    return st;
}

/* *x = conv_in([latents, image latent of every frame]). */
static status input_forward(struct pass *p, struct tensor *x)
{
    status st;
    struct dev *dev = p->dev;
    const struct unet_input *in = p->input;
    const struct unet_config *c = &p->unet->config;
    struct tensor latents = { 0 }, image = { 0 }, both = { 0 };
    size_t scratch;

    TRY(op_new(dev, x, in->frames, in->h, in->w, c->channels[0]));
    scratch = arena_mark(&dev->act);
    TRY(op_new(dev, &latents, in->frames, in->h, in->w, c->out_channels));
    TRY(op_upload(dev, &latents, in->latents));
    TRY(op_new(dev, &image, in->frames, in->h, in->w, c->in_channels - c->out_channels));
    for (int64_t f = 0; f < in->frames; f++) {
        struct tensor frame = slice_frames(&image, f, 1);

        TRY(upload_or_zero(dev, &frame, in->image_latent));
    }
    TRY(op_concat(dev, &both, &latents, &image));      /* [f,h,w,in_channels] */
    TRY(op_conv2d(dev, x, &both, &p->unet->in, NULL)); /* [f,h,w,c0] */
    arena_release(&dev->act, scratch);
out:
    return st;
}

static void push(struct pass *p, const struct tensor *x)
{
    CHECK(p->skip_count < UNET_SKIPS_MAX);
    p->skips[p->skip_count++] = *x;
}

static struct tensor pop(struct pass *p)
{
    CHECK(p->skip_count > 0);
    return p->skips[--p->skip_count];
}

/* Tell the listeners about a finished part of the network. */
static status report(struct pass *p, const char *name, int index, const struct tensor *x)
{
    char text[64];

    if (!p->input->on_block)
        return OK;
    snprintf(text, sizeof(text), index < 0 ? "%s" : "%s.%d", name, index);
    return p->input->on_block(p->input->self, text, p->dev, x);
}

/* y = transformer(block(x)); y exists. */
static status block_forward(struct pass *p, struct tensor *y, const struct tensor *x,
                            const struct unet_level *level, int index)
{
    status st;

    TRY(res_forward(p->dev, y, x, &level->res[index], &p->silu_e));
    if (level->attention)
        TRY(transformer_forward(p->dev, y, y, &level->attention[index], &p->context));
    progress_step(p->input->progress, ++p->done, p->total);
out:
    return st;
}

static status down_forward(struct pass *p, struct tensor *x, const struct unet_level *level)
{
    status st;
    struct dev *dev = p->dev;

    for (int i = 0; i < level->block_count; i++) {
        struct tensor y = { 0 };

        TRY(op_new(dev, &y, x->n, x->h, x->w, level->res[i].spatial.conv1.co));
        TRY(block_forward(p, &y, x, level, i)); /* [f,h,w,co] */
        push(p, &y);
        *x = y;
    }
    if (level->has_resample) {
        struct tensor y = { 0 };

        TRY(op_conv2d(dev, &y, x, &level->resample,
                      &(struct op_conv_opt){ .stride = 2 })); /* [f,ceil(h/2),ceil(w/2),co] */
        push(p, &y);
        *x = y;
    }
out:
    return st;
}

static status mid_forward(struct pass *p, struct tensor *x)
{
    status st;
    const struct unet *unet = p->unet;
    struct tensor y = { 0 };

    /* x is a skip too: it must keep its value. */
    TRY(op_new(p->dev, &y, x->n, x->h, x->w, x->c));
    TRY(res_forward(p->dev, &y, x, &unet->mid[0], &p->silu_e));
    TRY(transformer_forward(p->dev, &y, &y, &unet->mid_attention, &p->context));
    TRY(res_forward(p->dev, &y, &y, &unet->mid[1], &p->silu_e));
    progress_step(p->input->progress, ++p->done, p->total);
    *x = y;
out:
    return st;
}

static status up_forward(struct pass *p, struct tensor *x, const struct unet_level *level)
{
    status st;
    struct dev *dev = p->dev;
    struct tensor y = { 0 };

    TRY(op_new(dev, &y, x->n, x->h, x->w, level->res[0].spatial.conv1.co));
    for (int i = 0; i < level->block_count; i++) {
        struct tensor skip = pop(p), both = { 0 };
        size_t mark = arena_mark(&dev->act);

        TRY(op_concat(dev, &both, x, &skip));       /* CAREFUL: [current, skip] */
        TRY(block_forward(p, &y, &both, level, i)); /* [f,h,w,co] */
        arena_release(&dev->act, mark);
        *x = y;
    }
    if (level->has_resample) {
        /* The size of the skip, not twice ours: they differ when a size was odd on the way down. */
        const struct tensor *next = &p->skips[p->skip_count - 1];
        struct tensor up = { 0 };

        TRY(op_conv2d(dev, &up, x, &level->resample,
                      &(struct op_conv_opt){ .up_h = next->h, .up_w = next->w }));
        *x = up;
    }
out:
    return st;
}

static status output_forward(struct pass *p, const struct tensor *x, float *out)
{
    status st;
    struct tensor n = { 0 }, y = { 0 };

    TRY(op_group_norm(p->dev, &n, x, &p->unet->norm_out, 1, true)); /* [f,h,w,c0] */
    TRY(op_conv2d(p->dev, &y, &n, &p->unet->out, NULL));            /* [f,h,w,out_channels] */
    TRY(op_download(p->dev, &y, out));
out:
    return st;
}

status unet_forward(struct dev *dev, const struct unet *unet, const struct unet_input *input,
                    float *out)
{
    status st;
    const int levels = unet->config.levels;
    struct pass p = { .dev = dev, .unet = unet, .input = input, .total = 1 };
    struct tensor x = { 0 };
    size_t mark = arena_mark(&dev->act);

    CHECK(input->frames > 0 && input->h > 0 && input->w > 0);
    for (int i = 0; i < levels; i++)
        p.total += unet->down[i].block_count + unet->up[i].block_count;
    TRY(prepare(&p));
    TRY(input_forward(&p, &x));
    push(&p, &x);
    TRY(report(&p, "conv_in", -1, &x));
    for (int i = 0; i < levels; i++) {
        TRY(down_forward(&p, &x, &unet->down[i]));
        TRY(report(&p, "down_blocks", i, &x));
    }
    TRY(mid_forward(&p, &x));
    TRY(report(&p, "mid_block", -1, &x));
    for (int i = 0; i < levels; i++) {
        TRY(up_forward(&p, &x, &unet->up[i]));
        TRY(report(&p, "up_blocks", i, &x));
    }
    TRY(output_forward(&p, &x, out));
out:
    arena_release(&dev->act, mark);
    return st;
}
