/* DESIGN: names are mapped from diffusers' to the file's, the way a loader asks; what a file lacks
 * is then named as the file would have it. A name is a place ("down_blocks.1.resnets.0"), which
 * code turns into another number, and a layer inside it, for which there are tables.
 *
 * The VAE's encoder is the one that the conditioner has, with quant_conv: it is what SVD was
 * trained to be conditioned on, and what diffusers takes. That of first_stage_model, the decoder
 * beside the conditioner's encoder and CLIP's text tower are not used by anybody here. */
#include "worker/model/original.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"

/* Longest name of a tensor, with its NUL; those of SVD have less than half of it. */
#define NAME_BYTES 256

/* More blocks than any file that the bounds of the configs allow. */
#define BLOCKS_MAX 256
#define LAYERS_MAX 256

/* Larger than any patch of CLIP. */
#define PATCH_MAX 1024

/* Head size of the UNet, heads of CLIP. Source: svd_xt.yaml (num_head_channels), ViT-H-14. */
#define HEAD_CHANNELS 64
#define CLIP_HEADS 16

#define UNET "model.diffusion_model."
#define DECODER "first_stage_model.decoder."
#define ENCODER "conditioner.embedders.3.encoder."
#define CLIP "conditioner.embedders.0.open_clip.model.visual."

static const char tail[] = ".safetensors";

/* Whatever lies elsewhere in the file belongs to training, or to parts that nothing here runs. */
static const char *const used[] = { UNET, DECODER, ENCODER "encoder.", ENCODER "quant_conv.",
                                    CLIP };

/* --- names ------------------------------------------------------------------------------------ */

/* How a tensor lies in the file. */
enum form {
    FORM_SAME = 0,
    FORM_CONV,  /* [out][in][1][1] for [out][in] */
    FORM_TURN,  /* [in][out] for [out][in] */
    FORM_THIRD, /* one of three, one below the other */
};

/* A tensor of the file. */
struct place {
    char name[NAME_BYTES]; /* as the file has it */
    enum form form;        /* how */
    int third;             /* FORM_THIRD: which, 0 to 2 */
};

/* In a name, from becomes to. */
struct rename {
    const char *from, *to;
};

static const struct rename unet_tops[] = {
    { "conv_in.", "input_blocks.0.0." },
    { "time_embedding.linear_1.", "time_embed.0." },
    { "time_embedding.linear_2.", "time_embed.2." },
    { "add_embedding.linear_1.", "label_emb.0.0." },
    { "add_embedding.linear_2.", "label_emb.0.2." },
    { "conv_norm_out.", "out.0." },
    { "conv_out.", "out.2." },
    { NULL, NULL },
};

static const struct rename unet_res[] = {
    { "spatial_res_block.", "" },
    { "temporal_res_block.", "time_stack." },
    { "norm1.", "in_layers.0." },
    { "conv1.", "in_layers.2." },
    { "time_emb_proj.", "emb_layers.1." },
    { "norm2.", "out_layers.0." },
    { "conv2.", "out_layers.3." },
    { "conv_shortcut.", "skip_connection." },
    { NULL, NULL },
};

static const struct rename unet_attention[] = {
    { "temporal_transformer_blocks.", "time_stack." },
    { "time_pos_embed.linear_1.", "time_pos_embed.0." },
    { "time_pos_embed.linear_2.", "time_pos_embed.2." },
    { NULL, NULL },
};

static const struct rename vae_tops[] = {
    { "time_conv_out.", "conv_out.time_mix_conv." },
    { "conv_norm_out.", "norm_out." },
    { NULL, NULL },
};

static const struct rename vae_res[] = {
    { "spatial_res_block.", "" },
    { "temporal_res_block.norm1.", "time_stack.in_layers.0." },
    { "temporal_res_block.conv1.", "time_stack.in_layers.2." },
    { "temporal_res_block.norm2.", "time_stack.out_layers.0." },
    { "temporal_res_block.conv2.", "time_stack.out_layers.3." },
    { "time_mixer.", "" },
    { "conv_shortcut.", "nin_shortcut." },
    { NULL, NULL },
};

static const struct rename vae_attention[] = {
    { "group_norm.", "norm." },   { "to_q.", "q." }, { "to_k.", "k." }, { "to_v.", "v." },
    { "to_out.0.", "proj_out." }, { NULL, NULL },
};

static const struct rename clip_layers[] = {
    { "vision_model.embeddings.patch_embedding.", "conv1." },
    { "vision_model.embeddings.class_embedding", "class_embedding" },
    { "vision_model.embeddings.position_embedding.weight", "positional_embedding" },
    { "vision_model.pre_layrnorm.", "ln_pre." },
    { "vision_model.post_layernorm.", "ln_post." },
    { "vision_model.encoder.layers.", "transformer.resblocks." },
    { "layer_norm1.", "ln_1." },
    { "layer_norm2.", "ln_2." },
    { "mlp.fc1.", "mlp.c_fc." },
    { "mlp.fc2.", "mlp.c_proj." },
    { "self_attn.out_proj.", "attn.out_proj." },
    { "self_attn.q_proj.", "attn.in_proj_" },
    { "self_attn.k_proj.", "attn.in_proj_" },
    { "self_attn.v_proj.", "attn.in_proj_" },
    { "visual_projection.weight", "proj" },
    { NULL, NULL },
};

/* Append to a name; one that does not fit ends as one that no file has. */
static void add(char name[NAME_BYTES], const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(char name[NAME_BYTES], const char *fmt, ...)
{
    size_t len = strlen(name);
    va_list args;

    va_start(args, fmt);
    vsnprintf(name + len, NAME_BYTES - len, fmt, args);
    va_end(args);
}

/* Append text with the renames made: each where it first occurs. */
static void add_renamed(char name[NAME_BYTES], const char *text, const struct rename *renames)
{
    char old[NAME_BYTES], new[NAME_BYTES];

    snprintf(new, sizeof(new), "%s", text);
    for (; renames->from; renames++) {
        char *at;

        memcpy(old, new, sizeof(old));
        at = strstr(old, renames->from);
        if (!at)
            continue;
        snprintf(new, sizeof(new), "%.*s%s%s", (int)(at - old), old, renames->to,
                 at + strlen(renames->from));
    }
    add(name, "%s", new);
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The tensor called so after it was formatted, or NULL. */
static const struct safetensors_tensor *look(const struct original *o, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static const struct safetensors_tensor *look(const struct original *o, const char *fmt, ...)
{
    char name[NAME_BYTES];
    va_list args;

    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    return safetensors_find(&o->content, name);
}

/* Does block number `index` of a path of the UNet ("input_blocks") have a transformer? */
static bool has_attention(const struct original *o, const char *blocks, int index)
{
    return look(o, UNET "%s.%d.1.norm.weight", blocks, index) != NULL;
}

/* name = where the UNet's down_blocks.L.resnets.B and their like are. Each level of the down path
 * has `layers` blocks and then its downsampling, each level of the up path one block more, with the
 * upsampling behind the last. Returns what follows the place in text, NULL when it is none. */
static const char *unet_place(const struct original *o, char name[NAME_BYTES], const char *text,
                              const struct rename **inside)
{
    const int per_level = o->layers + 1;
    int level = 0, block = 0, end = 0;

    *inside = unet_res;
    if (sscanf(text, "down_blocks.%3d.resnets.%3d.%n", &level, &block, &end) == 2 && end) {
        add(name, "input_blocks.%d.0.", 1 + level * per_level + block);
    } else if (sscanf(text, "up_blocks.%3d.resnets.%3d.%n", &level, &block, &end) == 2 && end) {
        add(name, "output_blocks.%d.0.", level * per_level + block);
    } else if (sscanf(text, "mid_block.resnets.%3d.%n", &block, &end) == 1 && end) {
        add(name, "middle_block.%d.", 2 * block);
    } else if (sscanf(text, "down_blocks.%3d.downsamplers.0.conv.%n", &level, &end) == 1 && end) {
        add(name, "input_blocks.%d.0.op.", 1 + level * per_level + o->layers);
    } else if (sscanf(text, "up_blocks.%3d.upsamplers.0.conv.%n", &level, &end) == 1 && end) {
        const int index = level * per_level + o->layers;

        add(name, "output_blocks.%d.%d.conv.", index,
            has_attention(o, "output_blocks", index) ? 2 : 1);
    } else {
        *inside = unet_attention;
        if (sscanf(text, "down_blocks.%3d.attentions.%3d.%n", &level, &block, &end) == 2 && end)
            add(name, "input_blocks.%d.1.", 1 + level * per_level + block);
        else if (sscanf(text, "up_blocks.%3d.attentions.%3d.%n", &level, &block, &end) == 2 && end)
            add(name, "output_blocks.%d.1.", level * per_level + block);
        else if (has_prefix(text, "mid_block.attentions.0."))
            add(name, "middle_block.1."), end = (int)strlen("mid_block.attentions.0.");
    }
    return end ? text + end : NULL;
}

static void find_unet(const struct original *o, struct place *p, const char *text)
{
    const struct rename *inside = NULL;
    const char *rest;

    add(p->name, UNET);
    rest = unet_place(o, p->name, text, &inside);
    add_renamed(p->name, rest ? rest : text, rest ? inside : unet_tops);
}

/* CAREFUL: the decoder's levels are numbered in the order of the encoder's, not of its own work. */
static const char *vae_place(const struct original *o, char name[NAME_BYTES], const char *text)
{
    const int last = o->vae_levels - 1;
    int level = 0, block = 0, end = 0;

    if (sscanf(text, "down_blocks.%3d.resnets.%3d.%n", &level, &block, &end) == 2 && end)
        add(name, "down.%d.block.%d.", level, block);
    else if (sscanf(text, "down_blocks.%3d.downsamplers.0.%n", &level, &end) == 1 && end)
        add(name, "down.%d.downsample.", level);
    else if (sscanf(text, "up_blocks.%3d.resnets.%3d.%n", &level, &block, &end) == 2 && end)
        add(name, "up.%d.block.%d.", last - level, block);
    else if (sscanf(text, "up_blocks.%3d.upsamplers.0.%n", &level, &end) == 1 && end)
        add(name, "up.%d.upsample.", last - level);
    else if (sscanf(text, "mid_block.resnets.%3d.%n", &block, &end) == 1 && end)
        add(name, "mid.block_%d.", block + 1);
    return end ? text + end : NULL;
}

static void find_vae(const struct original *o, struct place *p, const char *text)
{
    static const char attention[] = "mid_block.attentions.0.";
    const char *rest = text;

    if (has_prefix(text, "decoder.")) {
        add(p->name, DECODER);
        rest += strlen("decoder.");
    } else if (has_prefix(text, "encoder.")) {
        add(p->name, ENCODER "encoder.");
        rest += strlen("encoder.");
    } else {
        add(p->name, ENCODER);
    }
    if (has_prefix(rest, attention)) {
        add(p->name, "mid.attn_1.");
        add_renamed(p->name, rest + strlen(attention), vae_attention);
        if (strstr(rest, ".to_") && strstr(rest, ".weight"))
            p->form = FORM_CONV;
        return;
    }
    text = vae_place(o, p->name, rest);
    add_renamed(p->name, text ? text : rest, text ? vae_res : vae_tops);
}

static void find_clip(struct place *p, const char *text)
{
    static const char *const thirds[] = { "self_attn.q_proj.", "self_attn.k_proj.",
                                          "self_attn.v_proj." };

    add(p->name, CLIP);
    add_renamed(p->name, text, clip_layers);
    if (strcmp(text, "visual_projection.weight") == 0)
        p->form = FORM_TURN;
    for (int i = 0; i < 3; i++) {
        if (strstr(text, thirds[i])) {
            p->form = FORM_THIRD;
            p->third = i;
        }
    }
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* *shape = what the file must have for `want` to come out of it. Returns its rank. */
static int file_shape(const struct original_want *want, enum form form,
                      int64_t shape[SAFETENSORS_RANK_MAX])
{
    int rank = want->rank;

    CHECK(rank >= 1 && rank + 2 <= SAFETENSORS_RANK_MAX);
    memcpy(shape, want->shape, (size_t)rank * sizeof(*shape));
    switch (form) {
    case FORM_SAME:
        break;
    case FORM_CONV:
        shape[rank++] = 1;
        shape[rank++] = 1;
        break;
    case FORM_TURN:
        CHECK(rank == 2);
        shape[0] = want->shape[1];
        shape[1] = want->shape[0];
        break;
    case FORM_THIRD:
        shape[0] *= 3;
        break;
    }
    return rank;
}

/* The transpose of found, in memory of ours. */
static status turn(struct original *o, const struct safetensors_tensor *found,
                   struct safetensors_tensor *t)
{
    const size_t size = found->count ? found->bytes / (size_t)found->count : 0;
    const int64_t rows = found->shape[0], columns = found->shape[1];
    uint8_t *dst = malloc(found->bytes + 1);

    if (!dst)
        return FAIL(ERR_NOMEM, "no memory for \"%s\"", found->name);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++)
            memcpy(dst + (size_t)(c * rows + r) * size,
                   found->data + (size_t)(r * columns + c) * size, size);
    }
    free(o->turned);
    o->turned = dst;
    t->data = dst;
    return OK;
}

status original_find(struct original *o, const struct original_want *want,
                     struct safetensors_tensor *t)
{
    status st = OK;
    struct place p = { .form = FORM_SAME };
    const struct safetensors_tensor *found;
    int64_t shape[SAFETENSORS_RANK_MAX];
    char wants[128], has[128];
    int rank;

    if (strcmp(want->part, "unet") == 0)
        find_unet(o, &p, want->name);
    else if (strcmp(want->part, "vae") == 0)
        find_vae(o, &p, want->name);
    else
        find_clip(&p, want->name);
    rank = file_shape(want, p.form, shape);
    safetensors_shape_text(shape, rank, wants, sizeof(wants));
    found = safetensors_find(&o->content, p.name);
    if (!found)
        TRY(FAIL(ERR_CORRUPT, "%s: tensor \"%s\" %s is missing; the rest of the file wants it",
                 o->path, p.name, wants));
    if (!safetensors_has_shape(found, rank, shape))
        TRY(FAIL(ERR_CORRUPT, "%s: tensor \"%s\" has shape %s; the rest of the file wants %s",
                 o->path, p.name,
                 safetensors_shape_text(found->shape, found->rank, has, sizeof(has)), wants));
    if (!safetensors_is_real(found))
        TRY(FAIL(ERR_CORRUPT, "%s: tensor \"%s\" has dtype %s; want F32, F16 or BF16", o->path,
                 p.name, found->dtype_name));
    o->is_bound[found - o->content.tensors] = true;
    *t = *found;
    if (p.form == FORM_TURN)
        TRY(turn(o, found, t));
    if (p.form == FORM_THIRD) {
        t->count /= 3;
        t->bytes /= 3;
        t->data += (size_t)p.third * t->bytes;
    }
    t->rank = want->rank;
    memcpy(t->shape, want->shape, (size_t)want->rank * sizeof(*t->shape));
out:
    return st;
}

static bool is_used(const struct safetensors_tensor *t)
{
    for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++) {
        if (has_prefix(t->name, used[i]))
            return true;
    }
    return false;
}

size_t original_bytes(const struct original *o, size_t align)
{
    size_t sum = 0;

    /* An element takes at least a byte of the file, so the sum stays far below SIZE_MAX. A tensor
     * becomes three at most. */
    for (size_t i = 0; i < o->content.count; i++) {
        if (is_used(&o->content.tensors[i]))
            sum += (size_t)o->content.tensors[i].count * sizeof(float) + 3 * align;
    }
    return sum;
}

status original_finish(const struct original *o)
{
    const struct safetensors_tensor *first = NULL;
    size_t surplus = 0;
    char shape[128];

    for (size_t i = 0; i < o->content.count; i++) {
        if (o->is_bound[i] || !is_used(&o->content.tensors[i]))
            continue;
        if (surplus++ == 0)
            first = &o->content.tensors[i];
    }
    if (!surplus)
        return OK;
    return FAIL(ERR_CORRUPT,
                "%s: tensor \"%s\" %s and %zu more have no place in the model that the rest of the "
                "file makes",
                o->path, first->name,
                safetensors_shape_text(first->shape, first->rank, shape, sizeof(shape)),
                surplus - 1);
}

/* --- opening ---------------------------------------------------------------------------------- */

bool original_is(const char *path)
{
    const size_t len = strlen(path), tail_len = sizeof(tail) - 1;

    return len > tail_len && strcmp(path + len - tail_len, tail) == 0;
}

/* The UNet's levels and the blocks of each, from where the downsampling convolutions are. */
static status count_blocks(struct original *o)
{
    int blocks = 0, first_op = 0, ops = 0;

    for (int i = 1; i < BLOCKS_MAX; i++) {
        const bool is_op = look(o, UNET "input_blocks.%d.0.op.weight", i) != NULL;

        if (!is_op && !look(o, UNET "input_blocks.%d.0.in_layers.2.weight", i))
            break;
        blocks = i;
        ops += is_op;
        if (is_op && !first_op)
            first_op = i;
    }
    o->levels = ops + 1;
    o->layers = first_op ? first_op - 1 : blocks;
    if (o->layers < 1 || blocks != o->levels * o->layers + ops)
        return FAIL(ERR_CORRUPT,
                    "%s: it has no SVD in it, or not all: %d input blocks below \"" UNET
                    "\", %d of them downsampling; a model in one file is what Stability AI "
                    "publishes as svd_xt.safetensors",
                    o->path, blocks, ops);
    while (o->vae_levels < BLOCKS_MAX &&
           look(o, ENCODER "encoder.down.%d.block.0.conv1.weight", o->vae_levels))
        o->vae_levels++;
    return OK;
}

status original_open(struct original *o, const char *path)
{
    status st;

    *o = (struct original){ 0 };
    TRY(file_join(o->path, sizeof(o->path), "", path));
    TRY(safetensors_open(&o->content, path));
    o->is_bound = calloc(o->content.count + 1, sizeof(*o->is_bound));
    if (!o->is_bound)
        TRY(FAIL(ERR_NOMEM, "no memory for the tensors of %s", path));
    TRY(count_blocks(o));
    return OK;
out:
    original_close(o);
    return st;
}

void original_close(struct original *o)
{
    safetensors_close(&o->content);
    free(o->is_bound);
    free(o->turned);
    *o = (struct original){ 0 };
}

/* --- configuration ---------------------------------------------------------------------------- */

/* A config file under way. */
struct writing {
    const struct original *o;
    struct json_writer json;
};

/* *value = length of a dimension of the tensor called so. */
static status measure(const struct original *o, int axis, int64_t *value, const char *name)
{
    const struct safetensors_tensor *t = safetensors_find(&o->content, name);
    char shape[128];

    *value = 0;
    if (!t)
        return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" is missing; the model's sizes follow from it",
                    o->path, name);
    if (t->rank <= axis)
        return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" has shape %s, which lacks dimension %d",
                    o->path, name, safetensors_shape_text(t->shape, t->rank, shape, sizeof(shape)),
                    axis);
    *value = t->shape[axis];
    return OK;
}

static void put_int(struct writing *w, const char *key, int64_t value)
{
    json_write_key(&w->json, key);
    json_write_int(&w->json, value);
}

static void put_text(struct writing *w, const char *key, const char *value)
{
    json_write_key(&w->json, key);
    json_write_text(&w->json, value);
}

/* key = a dimension of the tensor called name, divided by divisor. */
static status put_dim(struct writing *w, const char *key, int axis, int64_t divisor,
                      const char *name)
{
    status st;
    int64_t value;

    TRY(measure(w->o, axis, &value, name));
    put_int(w, key, value / divisor);
out:
    return st;
}

/* Layers of the first transformer of a level, in a list with one entry for each level. */
static void put_depths(struct writing *w)
{
    const int per_level = w->o->layers + 1;

    json_write_key(&w->json, "transformer_layers_per_block");
    json_write_array(&w->json);
    for (int i = 0; i < w->o->levels; i++) {
        char block[64];
        int depth = 0;

        snprintf(block, sizeof(block), "input_blocks.%d.1", 1 + i * per_level);
        if (!has_attention(w->o, "input_blocks", 1 + i * per_level))
            snprintf(block, sizeof(block), "output_blocks.%d.1",
                     (w->o->levels - 1 - i) * per_level);
        if (i == w->o->levels - 1)
            snprintf(block, sizeof(block), "middle_block.1");
        while (depth < LAYERS_MAX &&
               look(w->o, UNET "%s.transformer_blocks.%d.norm1.weight", block, depth))
            depth++;
        json_write_int(&w->json, depth ? depth : 1);
    }
    json_write_end(&w->json);
}

/* The two lists of block types. */
static void put_types(struct writing *w)
{
    const int per_level = w->o->layers + 1;

    json_write_key(&w->json, "down_block_types");
    json_write_array(&w->json);
    for (int i = 0; i < w->o->levels; i++)
        json_write_text(&w->json, has_attention(w->o, "input_blocks", 1 + i * per_level)
                                      ? "CrossAttnDownBlockSpatioTemporal"
                                      : "DownBlockSpatioTemporal");
    json_write_end(&w->json);
    json_write_key(&w->json, "up_block_types");
    json_write_array(&w->json);
    for (int i = 0; i < w->o->levels; i++)
        json_write_text(&w->json, has_attention(w->o, "output_blocks", i * per_level)
                                      ? "CrossAttnUpBlockSpatioTemporal"
                                      : "UpBlockSpatioTemporal");
    json_write_end(&w->json);
}

/* Widths of the levels, or the heads that they have. */
static status put_widths(struct writing *w, const char *key, bool is_heads)
{
    status st = OK;
    char name[NAME_BYTES];
    int64_t c;

    json_write_key(&w->json, key);
    json_write_array(&w->json);
    for (int i = 0; i < w->o->levels; i++) {
        snprintf(name, sizeof(name), UNET "input_blocks.%d.0.in_layers.2.weight",
                 1 + i * (w->o->layers + 1));
        TRY(measure(w->o, 0, &c, name));
        if (is_heads)
            c = c < HEAD_CHANNELS ? 1 : c / HEAD_CHANNELS;
        json_write_int(&w->json, c);
    }
    json_write_end(&w->json);
out:
    return st;
}

/* SVD and SVD-XT differ in nothing but values and the frames they were trained on. */
static int frames_of(const char *path)
{
    const char *name = file_name(path);

    return has_prefix(name, "svd") && !strstr(name, "xt") ? 14 : 25;
}

static status unet_config(struct writing *w)
{
    status st;
    static const char ids[] = UNET "label_emb.0.0.weight";

    put_text(w, "_class_name", "UNetSpatioTemporalConditionModel");
    TRY(put_widths(w, "block_out_channels", false));
    TRY(put_widths(w, "num_attention_heads", true));
    put_int(w, "layers_per_block", w->o->layers);
    put_depths(w);
    put_types(w);
    TRY(put_dim(w, "in_channels", 1, 1, UNET "input_blocks.0.0.weight"));
    TRY(put_dim(w, "out_channels", 0, 1, UNET "out.2.weight"));
    TRY(put_dim(w, "cross_attention_dim", 1, 1,
                UNET "middle_block.1.transformer_blocks.0.attn2.to_v.weight"));
    /* Three numbers are embedded: frames per second, motion bucket, noise. */
    TRY(put_dim(w, "addition_time_embed_dim", 1, 3, ids));
    TRY(put_dim(w, "projection_class_embeddings_input_dim", 1, 1, ids));
    put_int(w, "num_frames", frames_of(w->o->path));
    put_int(w, "sample_size", 96);
out:
    return st;
}

static status vae_config(struct writing *w)
{
    status st = OK;
    char name[NAME_BYTES];
    int64_t c;
    int layers = 0;

    put_text(w, "_class_name", "AutoencoderKLTemporalDecoder");
    json_write_key(&w->json, "block_out_channels");
    json_write_array(&w->json);
    for (int i = 0; i < (w->o->vae_levels ? w->o->vae_levels : 1); i++) {
        snprintf(name, sizeof(name), ENCODER "encoder.down.%d.block.0.conv1.weight", i);
        TRY(measure(w->o, 0, &c, name));
        json_write_int(&w->json, c);
    }
    json_write_end(&w->json);
    json_write_key(&w->json, "down_block_types");
    json_write_array(&w->json);
    for (int i = 0; i < w->o->vae_levels; i++)
        json_write_text(&w->json, "DownEncoderBlock2D");
    json_write_end(&w->json);
    while (layers < LAYERS_MAX &&
           look(w->o, ENCODER "encoder.down.0.block.%d.conv1.weight", layers))
        layers++;
    put_int(w, "layers_per_block", layers);
    TRY(put_dim(w, "latent_channels", 1, 1, DECODER "conv_in.weight"));
    json_write_key(&w->json, "scaling_factor");
    json_write_double(&w->json, 0.18215); /* source: svd_xt.yaml, scale_factor */
out:
    return st;
}

static status clip_config(struct writing *w)
{
    status st;
    int64_t positions, patch, side = 1;
    int layers = 0;

    TRY(put_dim(w, "hidden_size", 0, 1, CLIP "class_embedding"));
    TRY(put_dim(w, "intermediate_size", 0, 1, CLIP "transformer.resblocks.0.mlp.c_fc.weight"));
    TRY(put_dim(w, "projection_dim", 1, 1, CLIP "proj"));
    while (layers < LAYERS_MAX && look(w->o, CLIP "transformer.resblocks.%d.ln_1.weight", layers))
        layers++;
    put_int(w, "num_hidden_layers", layers);
    put_int(w, "num_attention_heads", CLIP_HEADS);
    TRY(measure(w->o, 0, &positions, CLIP "positional_embedding"));
    TRY(measure(w->o, 3, &patch, CLIP "conv1.weight"));
    while (side < LAYERS_MAX && side * side < positions - 1)
        side++;
    /* An empty tensor may have any size along one axis; the reader refuses what is too large. */
    put_int(w, "image_size", patch < PATCH_MAX ? side * patch : patch);
    put_int(w, "patch_size", patch);
    put_text(w, "hidden_act", "gelu");
    json_write_key(&w->json, "layer_norm_eps");
    json_write_double(&w->json, 1e-5);
out:
    return st;
}

static void put_triple(struct writing *w, const char *key, double a, double b, double c)
{
    json_write_key(&w->json, key);
    json_write_array(&w->json);
    json_write_double(&w->json, a);
    json_write_double(&w->json, b);
    json_write_double(&w->json, c);
    json_write_end(&w->json);
}

/* Source: sgm/modules/encoders/modules.py, FrozenOpenCLIPImageEmbedder. */
static status pixel_config(struct writing *w)
{
    put_triple(w, "image_mean", 0.48145466, 0.4578275, 0.40821073);
    put_triple(w, "image_std", 0.26862954, 0.26130258, 0.27577711);
    return OK;
}

/* Source: svd_xt.yaml, EDMDiscretization. */
static status scheduler_config(struct writing *w)
{
    put_text(w, "_class_name", "EulerDiscreteScheduler");
    put_text(w, "prediction_type", "v_prediction");
    put_text(w, "timestep_type", "continuous");
    put_text(w, "timestep_spacing", "leading");
    json_write_key(&w->json, "use_karras_sigmas");
    json_write_bool(&w->json, true);
    json_write_key(&w->json, "sigma_min");
    json_write_double(&w->json, 0.002);
    json_write_key(&w->json, "sigma_max");
    json_write_double(&w->json, 700);
    return OK;
}

status original_config(const struct original *o, const char *part, const char *name,
                       struct buf *text)
{
    static const struct {
        const char *part, *name;
        status (*write)(struct writing *w);
    } configs[] = {
        { "unet", "config.json", unet_config },
        { "vae", "config.json", vae_config },
        { "image_encoder", "config.json", clip_config },
        { "feature_extractor", "preprocessor_config.json", pixel_config },
        { "scheduler", "scheduler_config.json", scheduler_config },
    };
    struct writing w = { .o = o, .json = { .out = text } };
    status st = OK;

    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        if (strcmp(configs[i].part, part) != 0 || strcmp(configs[i].name, name) != 0)
            continue;
        json_write_object(&w.json);
        TRY(configs[i].write(&w));
        json_write_end(&w.json);
        return json_write_finish(&w.json);
    }
    TRY(FAIL(ERR_NOTFOUND, "%s: a model in one file has no %s of %s", o->path, name, part));
out:
    return st;
}
