#include "tests/unit/model/single.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"
#include "worker/model/safetensors.h"

#define WORDS_MAX 16

/* A name being rewritten: its words, and how many were read. */
struct words {
    char text[256];
    const char *word[WORDS_MAX];
    int count, at;
};

static void split(struct words *w, const char *name)
{
    char *save = NULL;

    *w = (struct words){ .count = 0 };
    EXPECT(snprintf(w->text, sizeof(w->text), "%s", name) < (int)sizeof(w->text));
    for (char *p = strtok_r(w->text, ".", &save); p; p = strtok_r(NULL, ".", &save)) {
        EXPECT(w->count < WORDS_MAX);
        w->word[w->count++] = p;
    }
}

static bool is(const struct words *w, const char *word)
{
    return w->at < w->count && strcmp(w->word[w->at], word) == 0;
}

static int number(struct words *w)
{
    EXPECT(w->at < w->count);
    return atoi(w->word[w->at++]);
}

static bool take(struct words *w, const char *word)
{
    bool yes = is(w, word);

    w->at += yes;
    return yes;
}

static void put(struct single_tensor *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void put(struct single_tensor *t, const char *fmt, ...)
{
    size_t len = strlen(t->name);
    va_list args;

    va_start(args, fmt);
    vsnprintf(t->name + len, sizeof(t->name) - len, fmt, args);
    va_end(args);
}

/* The words that are left, unchanged. */
static void put_rest(struct single_tensor *t, struct words *w)
{
    for (; w->at < w->count; w->at++)
        put(t, ".%s", w->word[w->at]);
}

/* ".in_layers.0" and so on, of a block in the manner of a UNet. */
static void put_unet_layer(struct single_tensor *t, struct words *w)
{
    if (take(w, "norm1"))
        put(t, ".in_layers.0");
    else if (take(w, "conv1"))
        put(t, ".in_layers.2");
    else if (take(w, "time_emb_proj"))
        put(t, ".emb_layers.1");
    else if (take(w, "norm2"))
        put(t, ".out_layers.0");
    else if (take(w, "conv2"))
        put(t, ".out_layers.3");
    else if (take(w, "conv_shortcut"))
        put(t, ".skip_connection");
}

static void put_unet_block(struct single_tensor *t, struct words *w, bool is_attention)
{
    if (!is_attention) {
        if (take(w, "temporal_res_block"))
            put(t, ".time_stack");
        else
            take(w, "spatial_res_block");
        put_unet_layer(t, w);
    } else if (take(w, "temporal_transformer_blocks")) {
        put(t, ".time_stack");
    } else if (take(w, "time_pos_embed")) {
        put(t, ".time_pos_embed.%d", is(w, "linear_1") ? 0 : 2);
        w->at++;
    }
    put_rest(t, w);
}

static void name_unet(struct single_tensor *t, const struct single_shape *s, struct words *w)
{
    const char *top = w->word[w->at++];
    const bool is_up = strcmp(top, "up_blocks") == 0;
    int level, block;

    put(t, "model.diffusion_model");
    if (strcmp(top, "conv_in") == 0) {
        put(t, ".input_blocks.0.0");
    } else if (strcmp(top, "conv_norm_out") == 0) {
        put(t, ".out.0");
    } else if (strcmp(top, "conv_out") == 0) {
        put(t, ".out.2");
    } else if (strcmp(top, "time_embedding") == 0 || strcmp(top, "add_embedding") == 0) {
        put(t, *top == 't' ? ".time_embed" : ".label_emb.0");
        put(t, ".%d", is(w, "linear_1") ? 0 : 2);
        w->at++;
    } else if (strcmp(top, "mid_block") == 0) {
        bool is_attention = take(w, "attentions");

        w->at += !is_attention;
        block = number(w);
        put(t, ".middle_block.%d", is_attention ? 1 : 2 * block);
        put_unet_block(t, w, is_attention);
    } else {
        level = number(w) * (s->layers + 1);
        put(t, is_up ? ".output_blocks" : ".input_blocks");
        if (take(w, "resnets") || is(w, "attentions")) {
            bool is_attention = take(w, "attentions");

            block = number(w) + level + (is_up ? 0 : 1);
            put(t, ".%d.%d", block, is_attention);
            put_unet_block(t, w, is_attention);
        } else {
            block = level + s->layers + (is_up ? 0 : 1);
            w->at += 3; /* upsamplers 0 conv */
            if (is_up)
                put(t, ".%d.%d.conv", block, s->up_has_attention[level / (s->layers + 1)] ? 2 : 1);
            else
                put(t, ".%d.0.op", block);
        }
    }
    put_rest(t, w);
}

static void put_vae_block(struct single_tensor *t, struct words *w)
{
    if (take(w, "temporal_res_block")) {
        put(t, ".time_stack");
        put_unet_layer(t, w);
    } else {
        take(w, "spatial_res_block");
        take(w, "time_mixer");
        if (take(w, "conv_shortcut"))
            put(t, ".nin_shortcut");
    }
    put_rest(t, w);
}

static void put_vae_attention(struct single_tensor *t, struct words *w)
{
    const char *word = w->word[w->at++];

    put(t, ".attn_1");
    if (strcmp(word, "group_norm") == 0) {
        put(t, ".norm");
    } else {
        if (strcmp(word, "to_out") == 0) {
            put(t, ".proj_out");
            w->at++;
        } else {
            put(t, ".%s", word + strlen("to_"));
        }
        if (is(w, "weight"))
            t->shape[t->rank++] = 1, t->shape[t->rank++] = 1;
    }
    put_rest(t, w);
}

static void name_vae(struct single_tensor *t, const struct single_shape *s, struct words *w)
{
    const bool is_decoder = take(w, "decoder");
    int level;

    put(t, is_decoder ? "first_stage_model.decoder" : "conditioner.embedders.3.encoder");
    if (take(w, "encoder"))
        put(t, ".encoder");
    if (take(w, "time_conv_out")) {
        put(t, ".conv_out.time_mix_conv");
    } else if (take(w, "conv_norm_out")) {
        put(t, ".norm_out");
    } else if (take(w, "mid_block")) {
        put(t, ".mid");
        if (take(w, "attentions")) {
            w->at++;
            put_vae_attention(t, w);
        } else {
            w->at++;
            put(t, ".block_%d", 1 + number(w));
            put_vae_block(t, w);
        }
    } else if (is(w, "down_blocks") || is(w, "up_blocks")) {
        bool is_up = is(w, "up_blocks");

        w->at++;
        level = number(w);
        put(t, is_up ? ".up.%d" : ".down.%d", is_up ? s->vae_levels - 1 - level : level);
        if (take(w, "resnets")) {
            put(t, ".block.%d", number(w));
            put_vae_block(t, w);
        } else {
            w->at += 2;
            put(t, is_up ? ".upsample" : ".downsample");
        }
    }
    put_rest(t, w);
}

static void name_clip_layer(struct single_tensor *t, struct words *w)
{
    put(t, ".transformer.resblocks.%d", number(w));
    if (take(w, "layer_norm1"))
        put(t, ".ln_1");
    else if (take(w, "layer_norm2"))
        put(t, ".ln_2");
    else if (take(w, "mlp"))
        put(t, ".mlp.%s", take(w, "fc1") ? "c_fc" : (w->at++, "c_proj"));
    else if (take(w, "self_attn")) {
        put(t, ".attn");
        if (is(w, "out_proj"))
            return;
        t->is_stack = true;
        t->is_dropped = !is(w, "q_proj");
        t->shape[0] *= 3;
        put(t, ".in_proj_%s", w->word[w->at + 1]);
        w->at += 2;
    }
}

static void name_clip(struct single_tensor *t, struct words *w)
{
    put(t, "conditioner.embedders.0.open_clip.model.visual");
    if (take(w, "visual_projection")) {
        int64_t out = t->shape[0];

        put(t, ".proj");
        t->shape[0] = t->shape[1];
        t->shape[1] = out;
        t->is_turned = true;
        return;
    }
    EXPECT(take(w, "vision_model"));
    if (take(w, "embeddings")) {
        if (take(w, "patch_embedding"))
            put(t, ".conv1");
        else if (take(w, "position_embedding"))
            put(t, ".positional_embedding"), w->at++;
    } else if (take(w, "pre_layrnorm")) {
        put(t, ".ln_pre");
    } else if (take(w, "post_layernorm")) {
        put(t, ".ln_post");
    } else {
        w->at += 2; /* encoder layers */
        name_clip_layer(t, w);
    }
    put_rest(t, w);
}

void single_name(struct single_tensor *t, const struct single_shape *s, const char *part,
                 const char *name, int rank, const int64_t *shape)
{
    struct words w;

    *t = (struct single_tensor){ .rank = rank };
    memcpy(t->shape, shape, (size_t)rank * sizeof(*shape));
    split(&w, name);
    if (strcmp(part, "unet") == 0)
        name_unet(t, s, &w);
    else if (strcmp(part, "vae") == 0)
        name_vae(t, s, &w);
    else
        name_clip(t, &w);
    EXPECT_INT(w.at, t->is_turned ? 1 : w.count);
}

/* --- files ------------------------------------------------------------------------------------ */

static float *values_of(const struct safetensors *s, const char *name, int64_t *count)
{
    const struct safetensors_tensor *t = safetensors_find(s, name);
    float *values;

    EXPECT(t != NULL);
    values = malloc((size_t)t->count * sizeof(float));
    EXPECT(values != NULL);
    EXPECT_OK(safetensors_read_f32(t, 0, t->count, values));
    *count = t->count;
    return values;
}

/* q, k and v, one below the other. */
static float *stack(const struct safetensors *s, const char *q_name)
{
    float *all = NULL;
    size_t done = 0;

    for (const char *which = "qkv"; *which; which++) {
        char name[256];
        int64_t count;
        float *one;

        snprintf(name, sizeof(name), "%s", q_name);
        *strstr(name, "q_proj") = *which;
        one = values_of(s, name, &count);
        all = realloc(all, (done + (size_t)count) * sizeof(float));
        EXPECT(all != NULL);
        memcpy(all + done, one, (size_t)count * sizeof(float));
        done += (size_t)count;
        free(one);
    }
    return all;
}

static float *transpose(float *values, const int64_t shape[2])
{
    int64_t rows = shape[0], columns = shape[1];
    float *turned = malloc((size_t)(rows * columns) * sizeof(float));

    EXPECT(turned != NULL);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++)
            turned[r * columns + c] = values[c * rows + r];
    }
    free(values);
    return turned;
}

static void write_part(struct safetensors_writer *writer, const struct single_shape *shape,
                       const char *folder, const char *part, const char *file)
{
    struct safetensors s;
    char path[512];

    snprintf(path, sizeof(path), "%s/%s/%s", folder, part, file);
    EXPECT_OK(safetensors_open(&s, path));
    for (size_t i = 0; i < s.count; i++) {
        const struct safetensors_tensor *from = &s.tensors[i];
        struct single_tensor to;
        struct safetensors_item item;
        int64_t count;
        float *values;

        single_name(&to, shape, part, from->name, from->rank, from->shape);
        if (to.is_dropped)
            continue;
        values = to.is_stack ? stack(&s, from->name) : values_of(&s, from->name, &count);
        if (to.is_turned)
            values = transpose(values, to.shape);
        item = (struct safetensors_item){ .name = to.name,
                                          .rank = to.rank,
                                          .is_half = from->dtype == SAFETENSORS_F16,
                                          .data = values };
        memcpy(item.shape, to.shape, sizeof(item.shape));
        EXPECT_OK(safetensors_write(writer, &item));
        free(values);
    }
    safetensors_close(&s);
}

void single_write(const char *path, const struct single_shape *s, const char *folder)
{
    static const char *const beside[] = {
        "first_stage_model.encoder.conv_in.bias",
        "conditioner.embedders.3.encoder.decoder.conv_in.bias",
        "conditioner.embedders.3.encoder.post_quant_conv.bias",
        "conditioner.embedders.0.open_clip.model.token_embedding.weight",
        "conditioner.embedders.0.open_clip.model.logit_scale",
    };
    static const float value = 1;
    struct safetensors_writer writer;

    EXPECT_OK(safetensors_create(&writer, path));
    write_part(&writer, s, folder, "unet", "diffusion_pytorch_model.safetensors");
    write_part(&writer, s, folder, "vae", "diffusion_pytorch_model.safetensors");
    write_part(&writer, s, folder, "image_encoder", "model.safetensors");
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
        EXPECT_OK(safetensors_write(
            &writer, &(struct safetensors_item){
                         .name = beside[i], .rank = 1, .shape = { 1 }, .data = &value }));
    EXPECT_OK(safetensors_finish(&writer));
}
