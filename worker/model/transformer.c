#include "worker/model/transformer.h"

#include <math.h>
#include <stdio.h>

#include "common/base/check.h"
#include "worker/model/params.h"
#include "worker/model/slice.h"

/* LayerNorm's epsilon everywhere in these blocks. Source: torch.nn.LayerNorm's default. */
#define EPS_LAYER_NORM 1e-5f
/* Source: transformer_temporal.py, norm of TransformerSpatioTemporalModel. */
#define EPS_GROUP_NORM 1e-6f

static status load_ff(struct transformer_ff *ff, struct weights *w, const char *prefix,
                      const char *const names[2], int64_t c)
{
    status st;
    char layer[WEIGHTS_NAME_BYTES], name[WEIGHTS_NAME_BYTES];

    TRY(weights_norm(w, &ff->norm, weights_name(name, prefix, names[0]), c, 0, EPS_LAYER_NORM));
    weights_name(layer, prefix, names[1]);
    TRY(weights_linear(w, &ff->proj, weights_name(name, layer, "net.0.proj"),
                       &(struct weights_linear_spec){ 8 * c, c, true }));
    TRY(weights_linear(w, &ff->out, weights_name(name, layer, "net.2"),
                       &(struct weights_linear_spec){ c, 4 * c, true }));
out:
    return st;
}

static status load_attention(struct transformer_attention *a, struct weights *w, const char *prefix,
                             const struct transformer_spec *spec)
{
    status st;
    static const char *const qkv[3] = { "to_q", "to_k", "to_v" };
    char name[WEIGHTS_NAME_BYTES];
    const int64_t c = spec->c;
    const struct weights_linear_spec plain = { c, c, false }, with_bias = { c, c, true };
    const struct weights_linear_spec cross = { c, spec->context, false };
    struct norm dead;

    TRY(weights_norm(w, &a->norm, weights_name(name, prefix, "norm1"), c, 0, EPS_LAYER_NORM));
    TRY(weights_qkv(w, &a->qkv, weights_name(name, prefix, "attn1"), qkv, &plain));
    TRY(weights_linear(w, &a->out, weights_name(name, prefix, "attn1.to_out.0"), &with_bias));
    TRY(weights_norm(w, &dead, weights_name(name, prefix, "norm2"), c, 0, EPS_LAYER_NORM));
    TRY(weights_linear(w, NULL, weights_name(name, prefix, "attn2.to_q"), &plain));
    TRY(weights_linear(w, NULL, weights_name(name, prefix, "attn2.to_k"), &cross));
    TRY(weights_linear(w, &a->cross_v, weights_name(name, prefix, "attn2.to_v"), &cross));
    TRY(weights_linear(w, &a->cross_out, weights_name(name, prefix, "attn2.to_out.0"), &with_bias));
out:
    return st;
}

static status load_layer(struct transformer_layer *l, struct weights *w, const char *prefix,
                         const struct transformer_spec *spec, int index)
{
    status st;
    static const char *const ff[2] = { "norm3", "ff" }, *const ff_in[2] = { "norm_in", "ff_in" };
    char name[WEIGHTS_NAME_BYTES], block[64];

    snprintf(block, sizeof(block), "transformer_blocks.%d", index);
    weights_name(name, prefix, block);
    TRY(load_attention(&l->attention, w, name, spec));
    TRY(load_ff(&l->ff, w, name, ff, spec->c));
    snprintf(block, sizeof(block), "temporal_transformer_blocks.%d", index);
    weights_name(name, prefix, block);
    TRY(load_ff(&l->ff_in_time, w, name, ff_in, spec->c));
    TRY(load_attention(&l->attention_time, w, name, spec));
    TRY(load_ff(&l->ff_time, w, name, ff, spec->c));
out:
    return st;
}

status transformer_load(struct transformer *t, struct weights *w, const char *prefix,
                        const struct transformer_spec *spec)
{
    status st;
    const int64_t c = spec->c;
    char name[WEIGHTS_NAME_BYTES];
    void *layers = NULL;
    float factor;

    CHECK(c % spec->heads == 0 && spec->layers > 0);
    *t = (struct transformer){ .heads = spec->heads, .layer_count = spec->layers };
    TRY(arena_take_zeroed(w->loader->layers, (size_t)spec->layers * sizeof(*t->layers), &layers));
    t->layers = layers;
    TRY(weights_norm(w, &t->norm, weights_name(name, prefix, "norm"), c, PARAMS_NORM_GROUPS,
                     EPS_GROUP_NORM));
    TRY(weights_linear(w, &t->proj_in, weights_name(name, prefix, "proj_in"),
                       &(struct weights_linear_spec){ c, c, true }));
    for (int i = 0; i < spec->layers; i++)
        TRY(load_layer(&t->layers[i], w, prefix, spec, i));
    TRY(embed_load(&t->positions, w, weights_name(name, prefix, "time_pos_embed"),
                   &(struct embed_spec){ c, 4 * c, c }));
    TRY(weights_scalar(w, &factor, weights_name(name, prefix, "time_mixer.mix_factor")));
    t->mix = 1 / (1 + expf(-factor));
    TRY(weights_linear(w, &t->proj_out, weights_name(name, prefix, "proj_out"),
                       &(struct weights_linear_spec){ c, c, true }));
out:
    return st;
}

/* z += out(v * gelu(g)), [v g] = proj(norm z). */
static status ff_forward(struct dev *dev, struct tensor *z, const struct transformer_ff *ff)
{
    status st;
    struct tensor n = { 0 }, g = { 0 };
    size_t mark = arena_mark(&dev->act);

    TRY(op_layer_norm(dev, &n, z, &ff->norm));                                      /* [f,h,w,c] */
    TRY(op_geglu(dev, &g, &n, &ff->proj));                                          /* [f,h,w,4c] */
    TRY(op_linear(dev, z, &g, &ff->out, &(struct op_linear_opt){ .residual = z })); /* [f,h,w,c] */
    arena_release(&dev->act, mark);
out:
    return st;
}

/* z += out(attention(norm z)) + cross_out(cross_v context), over pixels or over frames. */
static status attention_forward(struct dev *dev, struct tensor *z,
                                const struct transformer_attention *l, int64_t heads,
                                const struct tensor *context, bool is_time)
{
    status st;
    struct tensor v = { 0 }, cross = { 0 }, n = { 0 }, qkv = { 0 }, a = { 0 };
    size_t mark = arena_mark(&dev->act), scratch;

    TRY(op_linear(dev, &v, context, &l->cross_v, NULL));  /* [1,1,1,c] */
    TRY(op_linear(dev, &cross, &v, &l->cross_out, NULL)); /* [1,1,1,c] */
    TRY(op_new(dev, &a, z->n, z->h, z->w, z->c));
    scratch = arena_mark(&dev->act);
    TRY(op_layer_norm(dev, &n, z, &l->norm));     /* [f,h,w,c] */
    TRY(op_linear(dev, &qkv, &n, &l->qkv, NULL)); /* [f,h,w,3c] */
    if (is_time)
        TRY(op_attention_temporal(dev, &a, &qkv, heads)); /* [f,h,w,c] */
    else
        TRY(op_attention(dev, &a, &qkv, heads)); /* [f,h,w,c] */
    arena_release(&dev->act, scratch);
    TRY(op_linear(dev, z, &a, &l->out,
                  &(struct op_linear_opt){ .add = &cross, .residual = z })); /* [f,h,w,c] */
    arena_release(&dev->act, mark);
out:
    return st;
}

/* *p = embedding of each frame's index, [f,1,1,c]. */
static status positions_forward(struct dev *dev, struct tensor *p, const struct transformer *t,
                                int64_t frames, int64_t c)
{
    status st;
    struct tensor sinus = { 0 };
    size_t scratch;

    TRY(op_new(dev, p, frames, 1, 1, c));
    scratch = arena_mark(&dev->act);
    TRY(op_new(dev, &sinus, frames, 1, 1, c));
    for (int64_t f = 0; f < frames; f++) {
        struct tensor row = slice_frames(&sinus, f, 1);
        float index = (float)f;

        TRY(embed_upload(dev, &row, &index, 1, c));
    }
    TRY(embed_forward(dev, p, &sinus, &t->positions));
    arena_release(&dev->act, scratch);
out:
    return st;
}

status transformer_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                           const struct transformer *t, const struct tensor *context)
{
    status st;
    struct tensor p = { 0 }, n = { 0 }, z = { 0 }, m = { 0 };
    size_t mark = arena_mark(&dev->act), scratch;

    CHECK(y->data);
    TRY(positions_forward(dev, &p, t, x->n, x->c)); /* [f,1,1,c] */
    TRY(op_new(dev, &z, x->n, x->h, x->w, x->c));
    scratch = arena_mark(&dev->act);
    TRY(op_group_norm(dev, &n, x, &t->norm, 1, false)); /* [f,h,w,c] */
    TRY(op_linear(dev, &z, &n, &t->proj_in, NULL));     /* [f,h,w,c] */
    arena_release(&dev->act, scratch);
    TRY(op_new(dev, &m, x->n, x->h, x->w, x->c));
    for (int i = 0; i < t->layer_count; i++) {
        const struct transformer_layer *l = &t->layers[i];

        TRY(attention_forward(dev, &z, &l->attention, t->heads, context, false));
        TRY(ff_forward(dev, &z, &l->ff));
        TRY(op_add(dev, &m, &z, &p));
        TRY(ff_forward(dev, &m, &l->ff_in_time));
        TRY(attention_forward(dev, &m, &l->attention_time, t->heads, context, true));
        TRY(ff_forward(dev, &m, &l->ff_time));
        TRY(op_blend(dev, &z, &z, &m, t->mix));
    }
    TRY(op_linear(dev, y, &z, &t->proj_out,
                  &(struct op_linear_opt){ .residual = x })); /* [f,h,w,c] */
    arena_release(&dev->act, mark);
out:
    return st;
}
