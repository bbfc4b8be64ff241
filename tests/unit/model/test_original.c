/* SVD in one file is the same model as in a diffusers folder; bad files give one sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/tool/test.h"
#include "tests/unit/model/fixture.h"
#include "tests/unit/model/single.h"
#include "worker/model/checkpoint.h"

#define FILE_NAME "svd_xt.safetensors"

static const struct single_shape tiny = { .layers = 1,
                                          .vae_levels = 4,
                                          .up_has_attention = { false, false, true } };
static const struct single_shape svd = { .layers = 2,
                                         .vae_levels = 4,
                                         .up_has_attention = { false, true, true, true } };

/* tiny-a with the heads that SVD has for its widths, and the single file beside it. */
static void make_both(void)
{
    fixture_copy("tiny-a");
    fixture_edit("unet/config.json", "    2,\n    4,\n    4\n", "    1,\n    1,\n    1\n");
    fixture_edit("image_encoder/config.json", "\"num_attention_heads\": 2",
                 "\"num_attention_heads\": 16");
    {
        char folder[512];

        snprintf(folder, sizeof(folder), "%s", fixture_path(""));
        single_write(fixture_path(FILE_NAME), &tiny, folder);
    }
}

static void expect_same_unet(const struct unet_config *a, const struct unet_config *b)
{
    EXPECT_INT(a->levels, b->levels);
    for (int i = 0; i < a->levels; i++) {
        EXPECT_INT(a->channels[i], b->channels[i]);
        EXPECT_INT(a->layers[i], b->layers[i]);
        EXPECT_INT(a->heads[i], b->heads[i]);
        EXPECT_INT(a->transformer_layers[i], b->transformer_layers[i]);
        EXPECT_INT(a->down_has_attention[i], b->down_has_attention[i]);
        EXPECT_INT(a->up_has_attention[i], b->up_has_attention[i]);
    }
    EXPECT_INT(a->in_channels, b->in_channels);
    EXPECT_INT(a->out_channels, b->out_channels);
    EXPECT_INT(a->cross_attention_dim, b->cross_attention_dim);
    EXPECT_INT(a->addition_time_embed_dim, b->addition_time_embed_dim);
}

static void expect_same_rest(const struct checkpoint *a, const struct checkpoint *b)
{
    const struct clip_config *c = &a->clip.config, *d = &b->clip.config;

    EXPECT_INT(a->vae.config.levels, b->vae.config.levels);
    for (int i = 0; i < a->vae.config.levels; i++)
        EXPECT_INT(a->vae.config.channels[i], b->vae.config.channels[i]);
    EXPECT_INT(a->vae.config.layers, b->vae.config.layers);
    EXPECT_INT(a->vae.config.latent_channels, b->vae.config.latent_channels);
    EXPECT_NEAR(a->vae.config.scaling_factor, b->vae.config.scaling_factor, 0);
    EXPECT_INT(c->hidden, d->hidden);
    EXPECT_INT(c->mlp, d->mlp);
    EXPECT_INT(c->projection, d->projection);
    EXPECT_INT(c->layers, d->layers);
    EXPECT_INT(c->heads, d->heads);
    EXPECT_INT(c->patch, d->patch);
    EXPECT_INT(c->image, d->image);
    EXPECT_INT(c->act, d->act);
    EXPECT_NEAR(c->eps, d->eps, 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_NEAR(c->pixel_mean[i], d->pixel_mean[i], 0);
        EXPECT_NEAR(c->pixel_std[i], d->pixel_std[i], 0);
    }
    EXPECT_NEAR(a->scheduler.sigma_min, b->scheduler.sigma_min, 0);
    EXPECT_NEAR(a->scheduler.sigma_max, b->scheduler.sigma_max, 0);
}

/* --- the same clip ---------------------------------------------------------------------------- */

enum { FRAMES = 2, SIDE = 4, FACTOR = 8, LATENT = 4, PIXELS = SIDE * FACTOR };

/* All that a clip consists of, each stage on the result of the one before. */
struct clip_values {
    float embedding[32];
    float image_latent[SIDE * SIDE * LATENT];
    float network[FRAMES * SIDE * SIDE * LATENT];
    float frames[FRAMES][PIXELS * PIXELS * 3];
};

static float wave(int i)
{
    return (float)(i * 37 % 101) / 50 - 1;
}

static status keep_frame(void *self, int64_t index, const float *rgb)
{
    struct clip_values *v = self;

    memcpy(v->frames[index], rgb, sizeof(v->frames[0]));
    return OK;
}

static void make_clip(const struct checkpoint *c, struct clip_values *v)
{
    static float pixels[3 * 224 * 224], noise[FRAMES * SIDE * SIDE * LATENT],
        frame[PIXELS * PIXELS * 3];
    const struct kern_config config = { .threads = 1 };
    struct dev dev;

    for (int i = 0; i < 3 * 224 * 224; i++)
        pixels[i] = wave(i);
    for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++)
        noise[i] = wave((int)i + 5);
    EXPECT_OK(dev_open(&dev, "cpu", &config, (size_t)64 << 20));
    EXPECT_OK(clip_embed(&dev, &c->clip, pixels, v->embedding));
    EXPECT_OK(vae_encode(&dev, &c->vae, pixels, PIXELS, PIXELS, v->image_latent));
    EXPECT_OK(unet_forward(&dev, &c->unet,
                           &(struct unet_input){ .latents = noise,
                                                 .image_latent = v->image_latent,
                                                 .embedding = v->embedding,
                                                 .frames = FRAMES,
                                                 .h = SIDE,
                                                 .w = SIDE,
                                                 .timestep = 1.6f,
                                                 .fps = 6,
                                                 .motion_bucket = 127,
                                                 .noise_aug = 0.02f },
                           v->network));
    EXPECT_OK(vae_decode(&dev, &c->vae,
                         &(struct vae_decode_args){ .latents = v->network,
                                                    .frames = FRAMES,
                                                    .h = SIDE,
                                                    .w = SIDE,
                                                    .frame = frame,
                                                    .on_frame = keep_frame,
                                                    .self = v }));
    dev_close(&dev);
}

TEST(one_file_and_a_folder_make_the_same_clip)
{
    static struct clip_values a, b;
    struct checkpoint folder, file;

    make_both();
    EXPECT_OK(checkpoint_open(&folder, fixture_path("")));
    EXPECT_OK(checkpoint_open(&file, fixture_path(FILE_NAME)));
    EXPECT_TEXT(file.name, "svd_xt");
    EXPECT_INT(strlen(file.hash), 32);
    expect_same_unet(&folder.unet.config, &file.unet.config);
    expect_same_rest(&folder, &file);
    EXPECT_INT(file.unet.config.frames, 25);
    EXPECT_INT(file.unet.config.sample_size, 96);
    EXPECT_INT(folder.values.used_bytes, file.values.used_bytes);
    make_clip(&folder, &a);
    make_clip(&file, &b);
    EXPECT(memcmp(&a, &b, sizeof(a)) == 0);
    for (int i = 0; i < PIXELS * PIXELS * 3; i++)
        EXPECT(a.frames[1][i] > -100 && a.frames[1][i] < 100); /* numbers */
    checkpoint_close(&folder);
    checkpoint_close(&file);
}

TEST(svd_was_trained_on_14_frames)
{
    struct checkpoint c;
    char path[1024];

    make_both();
    snprintf(path, sizeof(path), "%s", fixture_path("svd.safetensors"));
    EXPECT(rename(fixture_path(FILE_NAME), path) == 0);
    EXPECT_OK(checkpoint_open_blank(&c, path, NULL, NULL));
    EXPECT_INT(c.unet.config.frames, 14);
    checkpoint_close(&c);
}

/* --- full size -------------------------------------------------------------------------------- */

/* The header of a file under way. */
struct header {
    struct json_writer json;
    uint64_t bytes; /* of data so far */
    int tensors;
    int seen; /* of the names below */
};

/* Names and shapes of the published file. Source: stable-diffusion.cpp, DiffSynth-Studio and
 * diffusers, which list them. */
static const struct {
    const char *name;
    int rank;
    int64_t shape[5];
} published[] = {
    { "model.diffusion_model.input_blocks.0.0.weight", 4, { 320, 8, 3, 3 } },
    { "model.diffusion_model.label_emb.0.0.weight", 2, { 1280, 768 } },
    { "model.diffusion_model.time_embed.2.bias", 1, { 1280 } },
    { "model.diffusion_model.input_blocks.3.0.op.weight", 4, { 320, 320, 3, 3 } },
    { "model.diffusion_model.input_blocks.4.0.skip_connection.weight", 4, { 640, 320, 1, 1 } },
    { "model.diffusion_model.input_blocks.1.0.time_mixer.mix_factor", 1, { 1 } },
    { "model.diffusion_model.input_blocks.8.1.time_pos_embed.2.weight", 2, { 1280, 5120 } },
    { "model.diffusion_model.input_blocks.11.0.time_stack.out_layers.3.weight",
      5,
      { 1280, 1280, 3, 1, 1 } },
    { "model.diffusion_model.middle_block.1.time_stack.0.attn2.to_k.weight", 2, { 1280, 1024 } },
    { "model.diffusion_model.middle_block.2.time_stack.emb_layers.1.weight", 2, { 1280, 1280 } },
    { "model.diffusion_model.output_blocks.2.1.conv.weight", 4, { 1280, 1280, 3, 3 } },
    { "model.diffusion_model.output_blocks.5.2.conv.weight", 4, { 1280, 1280, 3, 3 } },
    { "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.ff.net.0.proj.weight",
      2,
      { 2560, 320 } },
    { "model.diffusion_model.out.2.weight", 4, { 4, 320, 3, 3 } },
    { "first_stage_model.decoder.up.3.upsample.conv.weight", 4, { 512, 512, 3, 3 } },
    { "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight", 4, { 128, 256, 1, 1 } },
    { "first_stage_model.decoder.up.0.block.0.mix_factor", 1, { 1 } },
    { "first_stage_model.decoder.mid.block_2.time_stack.in_layers.2.weight",
      5,
      { 512, 512, 3, 1, 1 } },
    { "first_stage_model.decoder.mid.attn_1.q.weight", 4, { 512, 512, 1, 1 } },
    { "first_stage_model.decoder.conv_out.time_mix_conv.weight", 5, { 3, 3, 3, 1, 1 } },
    { "conditioner.embedders.3.encoder.encoder.down.2.downsample.conv.weight",
      4,
      { 512, 512, 3, 3 } },
    { "conditioner.embedders.3.encoder.encoder.norm_out.weight", 1, { 512 } },
    { "conditioner.embedders.3.encoder.quant_conv.weight", 4, { 8, 8, 1, 1 } },
    { "conditioner.embedders.0.open_clip.model.visual.conv1.weight", 4, { 1280, 3, 14, 14 } },
    { "conditioner.embedders.0.open_clip.model.visual.positional_embedding", 2, { 257, 1280 } },
    { "conditioner.embedders.0.open_clip.model.visual.proj", 2, { 1280, 1024 } },
    { "conditioner.embedders.0.open_clip.model.visual.transformer.resblocks.31.attn.in_proj_weight",
      2,
      { 3840, 1280 } },
    { "conditioner.embedders.0.open_clip.model.visual.transformer.resblocks.0.mlp.c_fc.bias",
      1,
      { 5120 } },
};
enum { PUBLISHED = sizeof(published) / sizeof(published[0]) };

static bool is_published(const struct single_tensor *t)
{
    for (int i = 0; i < PUBLISHED; i++) {
        if (strcmp(published[i].name, t->name) == 0)
            return published[i].rank == t->rank &&
                   memcmp(published[i].shape, t->shape, (size_t)t->rank * sizeof(t->shape[0])) == 0;
    }
    return false;
}

static status add_to_header(void *self, const char *dir, const char *name, int rank,
                            const int64_t *shape)
{
    struct header *h = self;
    struct single_tensor t;
    uint64_t bytes = sizeof(float);

    single_name(&t, &svd, file_name(dir), name, rank, shape);
    if (t.is_dropped)
        return OK;
    h->tensors++;
    h->seen += is_published(&t);
    json_write_key(&h->json, t.name);
    json_write_object(&h->json);
    json_write_key(&h->json, "dtype");
    json_write_text(&h->json, "F32");
    json_write_key(&h->json, "shape");
    json_write_array(&h->json);
    for (int i = 0; i < t.rank; i++) {
        json_write_int(&h->json, t.shape[i]);
        bytes *= (uint64_t)t.shape[i];
    }
    json_write_end(&h->json);
    json_write_key(&h->json, "data_offsets");
    json_write_array(&h->json);
    json_write_int(&h->json, (int64_t)h->bytes);
    json_write_int(&h->json, (int64_t)(h->bytes + bytes));
    json_write_end(&h->json);
    json_write_end(&h->json);
    h->bytes += bytes;
    return OK;
}

/* A file with the header of svd_xt.safetensors and a hole of 9 GB for its values. */
static void make_full_size(const char *path)
{
    struct buf text = { 0 };
    struct header h = { .json = { .out = &text } };
    struct checkpoint c;
    uint64_t len;
    FILE *f;

    json_write_object(&h.json);
    EXPECT_OK(checkpoint_open_blank(&c, "tests/fixtures/svd-xt", add_to_header, &h));
    checkpoint_close(&c);
    json_write_end(&h.json);
    EXPECT_OK(json_write_finish(&h.json));
    EXPECT_INT(h.seen, PUBLISHED);
    EXPECT_INT(h.tensors, 1428 + 374 + 520 - 2 * 2 * 32);
    EXPECT_INT(h.bytes / sizeof(float), (uint64_t)1524623082 + 97742847 + 632076800);
    f = fopen(path, "wb");
    EXPECT(f != NULL);
    len = text.len;
    EXPECT(fwrite(&len, sizeof(len), 1, f) == 1 && fwrite(text.data, 1, text.len, f) == text.len);
    EXPECT(fclose(f) == 0);
    EXPECT(truncate(path, (off_t)(sizeof(len) + text.len + h.bytes)) == 0);
    buf_free(&text);
}

TEST(full_size_svd_in_one_file)
{
    struct checkpoint folder, file;
    char path[1024];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), FILE_NAME));
    make_full_size(path);
    EXPECT_OK(checkpoint_open_blank(&folder, "tests/fixtures/svd-xt", NULL, NULL));
    EXPECT_OK(checkpoint_open_blank(&file, path, NULL, NULL));
    expect_same_unet(&folder.unet.config, &file.unet.config);
    expect_same_rest(&folder, &file);
    EXPECT_INT(folder.unet.config.frames, file.unet.config.frames);
    EXPECT_INT(folder.unet.config.sample_size, file.unet.config.sample_size);
    EXPECT_INT(folder.values.used_bytes, file.values.used_bytes);
    checkpoint_close(&folder);
    checkpoint_close(&file);
}

/* --- bad files -------------------------------------------------------------------------------- */

static void refuse(const char *says)
{
    struct checkpoint c;

    EXPECT_STATUS(checkpoint_open(&c, fixture_path(FILE_NAME)), ERR_CORRUPT);
    printf("%s\n", status_message());
    EXPECT_MESSAGE(FILE_NAME);
    EXPECT_MESSAGE(says);
    EXPECT(!c.values.base && !c.layers.base);
}

#define RES "model.diffusion_model.input_blocks.1.0."

TEST(a_tensor_of_the_file_is_missing)
{
    make_both();
    fixture_edit_header(FILE_NAME, "", RES "in_layers.0.weight", RES "in_layers.9.weight");
    refuse("tensor \"" RES "in_layers.0.weight\" [32] is missing");
}

TEST(a_tensor_that_sizes_come_from_is_missing)
{
    make_both();
    fixture_edit_header(FILE_NAME, "", "open_clip.model.visual.proj\"",
                        "open_clip.model.visual.prox\"");
    refuse("visual.proj\" is missing");
}

TEST(a_tensor_of_the_file_has_another_shape)
{
    make_both();
    fixture_edit_header(FILE_NAME, RES "out_layers.3.weight", "[32,32,3,3]", "[32,32,9,1]");
    refuse("tensor \"" RES "out_layers.3.weight\" has shape [32, 32, 9, 1]; the rest of the file "
           "wants [32, 32, 3, 3]");
}

/* Shapes are said as the file has them, not as the folder would. */
TEST(a_stack_and_a_transpose_have_another_shape)
{
    make_both();
    fixture_edit_header(FILE_NAME, "resblocks.1.attn.in_proj_weight", "[96,32]", "[32,96]");
    refuse("resblocks.1.attn.in_proj_weight\" has shape [32, 96]; the rest of the file wants "
           "[96, 32]");
    fixture_edit_header(FILE_NAME, "resblocks.1.attn.in_proj_weight", "[32,96]", "[96,32]");
    fixture_edit_header(FILE_NAME, "decoder.mid.attn_1.k.weight", "[32,32,1,1]", "[32,16,2,1]");
    refuse("decoder.mid.attn_1.k.weight\" has shape [32, 16, 2, 1]; the rest of the file wants "
           "[32, 32, 1, 1]");
}

TEST(the_file_ends_early)
{
    struct buf b;

    make_both();
    b = fixture_read(FILE_NAME);
    fixture_write(FILE_NAME, b.data, b.len - 100);
    buf_free(&b);
    refuse("truncated: tensor");
}

TEST(a_tensor_nobody_knows_in_the_file)
{
    make_both();
    fixture_add_tensor(FILE_NAME, "model.diffusion_model.input_blocks.1.2.weight");
    refuse("\"model.diffusion_model.input_blocks.1.2.weight\"");
}

TEST(a_file_that_is_no_svd)
{
    struct buf b;

    make_both();
    b = fixture_read("unet/diffusion_pytorch_model.safetensors");
    fixture_write(FILE_NAME, b.data, b.len);
    buf_free(&b);
    refuse("it has no SVD in it");
}
