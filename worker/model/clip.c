#include "worker/model/clip.h"

#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "worker/model/params.h"
#include "worker/model/slice.h"

/* Largest image side and patch count that a config may ask for; the family uses 224 and 16 x 16. */
#define CLIP_IMAGE_MAX 2048
#define CLIP_LAYERS_MAX 256

/* --- loading ---------------------------------------------------------------------------------- */

static status read_act(const struct params *p, enum kern_act *act)
{
    status st;
    const char *text;

    TRY(json_get_text(&p->root, "hidden_act", &text));
    if (strcmp(text, "gelu") == 0)
        *act = KERN_ACT_GELU;
    else if (strcmp(text, "quick_gelu") == 0)
        *act = KERN_ACT_QUICK_GELU;
    else
        TRY(FAIL(ERR_BADARG, "%s is \"%s\"; \"gelu\" and \"quick_gelu\" are supported",
                 json_find(&p->root, "hidden_act").path, text));
out:
    return st;
}

/* Some writers nest the vision tower's values in a whole CLIP's config. */
static void enter_vision(struct params *p)
{
    struct json_value vision = json_find(&p->root, "vision_config");

    if (json_kind(&vision) == JSON_KIND_OBJECT)
        p->root = vision;
}

static status read_config(struct clip_config *c, const struct params *p)
{
    status st;
    const struct json_value *root = &p->root;
    int64_t layers, heads, patch, image;
    double eps;

    TRY(json_get_int(root, "hidden_size", 1, PARAMS_WIDTH_MAX, &c->hidden));
    TRY(json_get_int(root, "intermediate_size", 1, 4 * PARAMS_WIDTH_MAX, &c->mlp));
    TRY(json_get_int(root, "projection_dim", 1, PARAMS_WIDTH_MAX, &c->projection));
    TRY(json_get_int(root, "num_hidden_layers", 1, CLIP_LAYERS_MAX, &layers));
    TRY(json_get_int(root, "num_attention_heads", 1, PARAMS_WIDTH_MAX, &heads));
    TRY(json_get_int(root, "image_size", 1, CLIP_IMAGE_MAX, &image));
    TRY(json_get_int(root, "patch_size", 1, image, &patch));
    TRY(json_get_double(root, "layer_norm_eps", 1e-12, 1, &eps));
    TRY(params_allow_int(p, "num_channels", 3));
    TRY(read_act(p, &c->act));
    if (c->hidden % heads != 0)
        TRY(FAIL(ERR_BADARG, "%s is not a multiple of num_attention_heads",
                 json_find(root, "hidden_size").path));
    c->layers = (int)layers;
    c->heads = (int)heads;
    c->patch = (int)patch;
    c->image = (int)image;
    c->eps = (float)eps;
out:
    return st;
}

static status read_rgb(const struct params *p, const char *key, double min, float rgb[3])
{
    status st;
    struct json_value v = json_find(&p->root, key);
    double x;

    TRY(json_want_array(&v, 3, 3));
    for (size_t i = 0; i < 3; i++) {
        struct json_value item = json_at(&v, i);

        TRY(json_to_double(&item, min, 1e3, &x));
        rgb[i] = (float)x;
    }
out:
    return st;
}

static status load_layer(struct clip_layer *l, struct weights *w, const struct clip_config *c,
                         int index)
{
    status st;
    static const char *const qkv[3] = { "q_proj", "k_proj", "v_proj" };
    const struct weights_linear_spec square = { c->hidden, c->hidden, true };
    char prefix[64], name[WEIGHTS_NAME_BYTES];

    snprintf(prefix, sizeof(prefix), "vision_model.encoder.layers.%d", index);
    TRY(weights_norm(w, &l->norm1, weights_name(name, prefix, "layer_norm1"), c->hidden, 0,
                     c->eps));
    TRY(weights_qkv(w, &l->qkv, weights_name(name, prefix, "self_attn"), qkv, &square));
    TRY(weights_linear(w, &l->out, weights_name(name, prefix, "self_attn.out_proj"), &square));
    TRY(weights_norm(w, &l->norm2, weights_name(name, prefix, "layer_norm2"), c->hidden, 0,
                     c->eps));
    TRY(weights_linear(w, &l->fc1, weights_name(name, prefix, "mlp.fc1"),
                       &(struct weights_linear_spec){ c->mlp, c->hidden, true }));
    TRY(weights_linear(w, &l->fc2, weights_name(name, prefix, "mlp.fc2"),
                       &(struct weights_linear_spec){ c->hidden, c->mlp, true }));
out:
    return st;
}

/* Patches along one side. */
static int64_t grid(const struct clip_config *c)
{
    return c->image / c->patch;
}

static status load_weights(struct clip *clip, struct weights *w)
{
    status st;
    const struct clip_config *c = &clip->config;
    const int64_t positions[2] = { grid(c) * grid(c) + 1, c->hidden };
    void *layers = NULL;

    TRY(arena_take_zeroed(w->loader->layers, (size_t)c->layers * sizeof(*clip->layers), &layers));
    clip->layers = layers;
    TRY(weights_conv(
        w, &clip->patches, "vision_model.embeddings.patch_embedding",
        &(struct weights_conv_spec){ .co = c->hidden, .ci = 3, .k = c->patch, .no_bias = true }));
    TRY(weights_vector(w, &clip->class_embedding, "vision_model.embeddings.class_embedding", 1,
                       &c->hidden));
    TRY(weights_vector(w, &clip->positions, "vision_model.embeddings.position_embedding.weight", 2,
                       positions));
    /* The missing e is in the checkpoints. */
    TRY(weights_norm(w, &clip->pre, "vision_model.pre_layrnorm", c->hidden, 0, c->eps));
    for (int i = 0; i < c->layers; i++)
        TRY(load_layer(&clip->layers[i], w, c, i));
    TRY(weights_norm(w, &clip->post, "vision_model.post_layernorm", c->hidden, 0, c->eps));
    TRY(weights_linear(w, &clip->projection, "visual_projection",
                       &(struct weights_linear_spec){ c->projection, c->hidden, false }));
out:
    return st;
}

status clip_load(struct clip *clip, struct weights_loader *loader, const char *dir,
                 const char *preprocessor_dir)
{
    status st;
    struct params params = { 0 }, pixels = { 0 };
    struct weights w = { 0 };

    *clip = (struct clip){ 0 };
    TRY(params_open(&params, loader, dir, "config.json"));
    enter_vision(&params);
    TRY(read_config(&clip->config, &params));
    TRY(params_open(&pixels, loader, preprocessor_dir, "preprocessor_config.json"));
    TRY(read_rgb(&pixels, "image_mean", -1e3, clip->config.pixel_mean));
    TRY(read_rgb(&pixels, "image_std", 1e-6, clip->config.pixel_std));
    TRY(weights_open(&w, loader, dir, "model"));
    TRY(load_weights(clip, &w));
    TRY(weights_finish(&w));
out:
    weights_close(&w);
    params_close(&pixels);
    params_close(&params);
    return st;
}

/* --- running ---------------------------------------------------------------------------------- */

/* *z = layer norm of [class token, patches] + positions: [1,1,1+g*g,hidden]. */
static status embed_patches(struct dev *dev, struct tensor *z, const struct clip *clip,
                            const struct tensor *pixels)
{
    status st;
    const struct clip_config *c = &clip->config;
    int64_t patches = grid(c) * grid(c);
    struct tensor x = { 0 }, token, rest;
    struct tensor class_token = slice_weight(clip->class_embedding, 1, c->hidden);
    struct tensor positions = slice_weight(clip->positions, patches + 1, c->hidden);
    size_t scratch;

    TRY(op_new(dev, z, 1, 1, patches + 1, c->hidden));
    scratch = arena_mark(&dev->act);
    TRY(op_conv2d(
        dev, &x, pixels, &clip->patches,
        &(struct op_conv_opt){ .stride = c->patch, .no_pad = true })); /* [1,g,g,hidden] */
    token = slice_row(z, 0, c->hidden);
    rest = slice_row(z, c->hidden, patches * c->hidden);
    TRY(op_copy(dev, &token, &class_token));
    TRY(op_copy(dev, &rest, &x));
    TRY(op_add(dev, z, z, &positions));
    TRY(op_layer_norm(dev, z, z, &clip->pre));
    arena_release(&dev->act, scratch);
out:
    return st;
}

static status layer_forward(struct dev *dev, struct tensor *z, const struct clip_layer *l,
                            const struct clip_config *c)
{
    status st;
    struct tensor n = { 0 }, qkv = { 0 }, a = { 0 }, m = { 0 };
    size_t mark = arena_mark(&dev->act);

    TRY(op_layer_norm(dev, &n, z, &l->norm1));    /* [1,1,t,hidden] */
    TRY(op_linear(dev, &qkv, &n, &l->qkv, NULL)); /* [1,1,t,3*hidden] */
    TRY(op_attention(dev, &a, &qkv, c->heads));   /* [1,1,t,hidden] */
    TRY(op_linear(dev, z, &a, &l->out, &(struct op_linear_opt){ .residual = z }));
    TRY(op_layer_norm(dev, &n, z, &l->norm2));
    TRY(op_linear(dev, &m, &n, &l->fc1,
                  &(struct op_linear_opt){ .act = c->act })); /* [1,1,t,mlp] */
    TRY(op_linear(dev, z, &m, &l->fc2, &(struct op_linear_opt){ .residual = z }));
    arena_release(&dev->act, mark);
out:
    return st;
}

status clip_embed(struct dev *dev, const struct clip *clip, const float *pixel_values,
                  float *embedding)
{
    status st;
    const struct clip_config *c = &clip->config;
    struct tensor pixels = { 0 }, z = { 0 }, token, n = { 0 }, e = { 0 };
    size_t mark = arena_mark(&dev->act);

    TRY(op_new(dev, &pixels, 1, c->image, c->image, 3));
    TRY(op_upload(dev, &pixels, pixel_values));
    TRY(embed_patches(dev, &z, clip, &pixels)); /* [1,1,t,hidden] */
    for (int i = 0; i < c->layers; i++)
        TRY(layer_forward(dev, &z, &clip->layers[i], c));
    token = slice_row(&z, 0, c->hidden);
    TRY(op_layer_norm(dev, &n, &token, &clip->post));     /* [1,1,1,hidden] */
    TRY(op_linear(dev, &e, &n, &clip->projection, NULL)); /* [1,1,1,projection] */
    TRY(op_download(dev, &e, embedding));
out:
    arena_release(&dev->act, mark);
    return st;
}
