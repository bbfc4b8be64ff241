/* Good checkpoints open in every form they come in; bad ones give one sentence that names the
 * thing. */
#include "worker/model/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"
#include "tests/unit/model/fixture.h"

#define UNET "unet/diffusion_pytorch_model.safetensors"
#define VAE "vae/diffusion_pytorch_model.safetensors"
#define CLIP "image_encoder/model.safetensors"

static void refuse(status want, const char *file, const char *says)
{
    struct checkpoint c;

    EXPECT_STATUS(checkpoint_open(&c, fixture_path("")), want);
    printf("%s\n", status_message());
    EXPECT_MESSAGE(file);
    EXPECT_MESSAGE(says);
    EXPECT(!c.values.base && !c.layers.base);
}

TEST(a_good_one_opens)
{
    struct checkpoint c, again;

    EXPECT_OK(checkpoint_open(&c, "tests/fixtures/tiny-a"));
    EXPECT_TEXT(c.name, "tiny-a");
    EXPECT_INT(strlen(c.hash), 32);
    EXPECT_INT(c.unet.config.levels, 3);
    EXPECT_INT(c.unet.config.channels[1], 64);
    EXPECT_INT(c.unet.config.frames, 4);
    EXPECT_INT(c.unet.config.sample_size, 16);
    EXPECT_INT(c.vae.config.latent_channels, 4);
    EXPECT_NEAR(c.vae.config.scaling_factor, 0.18215, 1e-12);
    EXPECT_INT(vae_factor(&c.vae), 8);
    EXPECT_INT(c.clip.config.image, 224);
    EXPECT_NEAR(c.scheduler.sigma_max, 700, 0);
    EXPECT_NEAR(c.scheduler.sigma_min, 0.002, 1e-15);
    EXPECT_OK(checkpoint_open(&again, "tests/fixtures/tiny-a//"));
    EXPECT_TEXT(again.name, "tiny-a");
    EXPECT_TEXT(again.hash, c.hash);
    checkpoint_close(&again);
    EXPECT_OK(checkpoint_open(&again, "tests/fixtures/tiny-b"));
    EXPECT(strcmp(again.hash, c.hash) != 0);
    EXPECT_INT(again.clip.config.act, KERN_ACT_QUICK_GELU);
    EXPECT_NEAR(again.clip.config.pixel_std[2], 0.35, 1e-7);
    checkpoint_close(&again);
    checkpoint_close(&c);
    checkpoint_close(&c);
}

TEST(the_hash_follows_the_content)
{
    struct checkpoint c;
    struct buf b;
    char before[33];

    fixture_copy("tiny-b");
    EXPECT_OK(checkpoint_open(&c, fixture_path("")));
    memcpy(before, c.hash, sizeof(before));
    checkpoint_close(&c);
    b = fixture_read(UNET);
    b.data[b.len - 1] ^= 1;
    fixture_write(UNET, b.data, b.len);
    EXPECT_OK(checkpoint_open(&c, fixture_path("")));
    EXPECT(strcmp(before, c.hash) != 0);
    checkpoint_close(&c);
    b.data[b.len - 1] ^= 1;
    fixture_write(UNET, b.data, b.len);
    EXPECT_OK(checkpoint_open(&c, fixture_path("")));
    EXPECT_TEXT(c.hash, before);
    checkpoint_close(&c);
    buf_free(&b);
    fixture_edit("vae/config.json", "\"scaling_factor\": 0.35", "\"scaling_factor\": 0.36");
    EXPECT_OK(checkpoint_open(&c, fixture_path("")));
    EXPECT(strcmp(before, c.hash) != 0);
    checkpoint_close(&c);
}

/* The same values in the arena (the first of each cache line: what follows may be the end of a
 * piece), whatever the files are called and however they are cut. */
static void expect_same_weights(const char *name)
{
    struct checkpoint a, b;
    char path[256];

    snprintf(path, sizeof(path), "tests/fixtures/%s", name);
    EXPECT_OK(checkpoint_open(&a, path));
    EXPECT_OK(checkpoint_open(&b, fixture_path("")));
    EXPECT_INT(a.values.used_bytes, b.values.used_bytes);
    for (size_t i = 0; i < a.values.used_bytes; i += ARENA_ALIGN)
        EXPECT(memcmp(a.values.base + i, b.values.base + i, sizeof(float)) == 0);
    checkpoint_close(&a);
    checkpoint_close(&b);
}

enum { PROBE_FRAMES = 2, PROBE_SIDE = 4, PROBE_FLOATS_MAX = 4096 };

/* What the UNet in dir makes of some input. */
static void probe_unet(const char *dir, float out[PROBE_FLOATS_MAX])
{
    const struct kern_config config = { .threads = 1 };
    struct checkpoint c;
    struct dev dev;
    static float in[PROBE_FLOATS_MAX];

    for (int i = 0; i < PROBE_FLOATS_MAX; i++)
        in[i] = (float)(i % 13) / 7 - 1;
    EXPECT_OK(checkpoint_open(&c, dir));
    EXPECT(PROBE_FRAMES * PROBE_SIDE * PROBE_SIDE * c.unet.config.in_channels <= PROBE_FLOATS_MAX);
    EXPECT_OK(dev_open(&dev, "cpu", &config, (size_t)64 << 20));
    EXPECT_OK(unet_forward(&dev, &c.unet,
                           &(struct unet_input){ .latents = in,
                                                 .image_latent = in + 1,
                                                 .embedding = in + 2,
                                                 .frames = PROBE_FRAMES,
                                                 .h = PROBE_SIDE,
                                                 .w = PROBE_SIDE,
                                                 .timestep = 1 },
                           out));
    dev_close(&dev);
    checkpoint_close(&c);
}

/* The same bits, whether the file's 16 bits are widened at load or when they are used. */
static void expect_same_unet(const char *name)
{
    static float a[PROBE_FLOATS_MAX], b[PROBE_FLOATS_MAX];
    char path[256];

    snprintf(path, sizeof(path), "tests/fixtures/%s", name);
    probe_unet(path, a);
    probe_unet(fixture_path(""), b);
    EXPECT(a[0] != 0 && memcmp(a, b, sizeof(a)) == 0);
}

static void move(const char *from, const char *to)
{
    struct buf b = fixture_read(from);

    fixture_write(to, b.data, b.len);
    buf_free(&b);
    EXPECT_OK(file_remove(fixture_path(from)));
}

TEST(an_fp16_variant_opens)
{
    fixture_copy("tiny-a");
    move(UNET, "unet/diffusion_pytorch_model.fp16.safetensors");
    move(CLIP, "image_encoder/model.fp16.safetensors");
    expect_same_weights("tiny-a");
}

/* Write every second tensor of the file to each of two shards, as F32, and an index. */
static void split(const char *file, const char *index_name, const char *const shards[2])
{
    struct safetensors s;
    struct safetensors_writer w;
    struct buf index = { 0 };

    EXPECT_OK(safetensors_open(&s, fixture_path(file)));
    EXPECT_OK(buf_append_text(&index, "{\"metadata\":{},\"weight_map\":{"));
    for (size_t k = 0; k < 2; k++) {
        char path[512];

        snprintf(path, sizeof(path), "%s/unet/%s", fixture_path(""), shards[k]);
        EXPECT_OK(safetensors_create(&w, path));
        for (size_t i = k; i < s.count; i += 2) {
            struct safetensors_item item = { .name = s.tensors[i].name, .rank = s.tensors[i].rank };
            float *values = malloc((size_t)s.tensors[i].count * sizeof(float));

            memcpy(item.shape, s.tensors[i].shape, sizeof(item.shape));
            item.data = values;
            EXPECT_OK(safetensors_read_f32(&s.tensors[i], 0, s.tensors[i].count, values));
            EXPECT_OK(safetensors_write(&w, &item));
            EXPECT_OK(buf_printf(&index, "%s\"%s\":\"%s\"", i ? "," : "", item.name, shards[k]));
            free(values);
        }
        EXPECT_OK(safetensors_finish(&w));
        if (k == 0)
            EXPECT_OK(buf_append_text(&index, ",\"and\":\"here\""));
    }
    EXPECT_OK(buf_append_text(&index, "}}"));
    safetensors_close(&s);
    EXPECT_OK(file_remove(fixture_path(file)));
    fixture_write(index_name, index.data, index.len);
    buf_free(&index);
}

TEST(shards_open)
{
    static const char *const shards[2] = { "diffusion_pytorch_model-00001-of-00002.safetensors",
                                           "diffusion_pytorch_model-00002-of-00002.safetensors" };
    const char *index = UNET ".index.json";

    fixture_copy("tiny-b");
    split(UNET, index, shards);
    refuse(ERR_NOTFOUND, "unet/here", "no such file");
    fixture_edit(index, ",\"and\":\"here\"", "");
    expect_same_unet("tiny-b");
    fixture_edit(index, shards[1], "../vae/config.json");
    refuse(ERR_CORRUPT, "index.json", "not the name of a file beside it");
    fixture_write(index, "{\"weight_map\":{}}", 17);
    refuse(ERR_CORRUPT, "index.json", "weight_map is empty");
    fixture_write(index, "{}", 2);
    refuse(ERR_CORRUPT, "index.json", "weight_map");
}

TEST(position_ids_are_ignored)
{
    fixture_copy("tiny-a");
    fixture_add_tensor(CLIP, "vision_model.embeddings.position_ids");
    expect_same_weights("tiny-a");
}

TEST(a_missing_tensor)
{
    fixture_copy("tiny-a");
    fixture_edit_header(UNET, "\"conv_in.weight\"", "conv_in.weight", "conv_xx.weight");
    refuse(ERR_CORRUPT, UNET, "tensor \"conv_in.weight\" [32, 8, 3, 3] is missing");
}

/* norm2, to_q and to_k of the cross-attention have no effect, and must be there all the same. */
TEST(a_missing_tensor_that_has_no_effect)
{
    fixture_copy("tiny-a");
    fixture_edit_header(UNET, "attn2.to_q.weight", "to_q", "to_x");
    refuse(ERR_CORRUPT, UNET, "attn2.to_q.weight\" [32, 32] is missing");
}

TEST(a_surplus_tensor)
{
    fixture_copy("tiny-a");
    fixture_add_tensor(VAE, "decoder.surprise");
    refuse(ERR_CORRUPT, VAE, "tensor \"decoder.surprise\" [1] and 0 more have no place");
}

TEST(a_tensor_of_another_shape)
{
    fixture_copy("tiny-a");
    fixture_edit_header(UNET, "\"conv_in.weight\"", "[32,8,3,3]", "[32,3,3,8]");
    refuse(ERR_CORRUPT, UNET,
           "tensor \"conv_in.weight\" has shape [32, 3, 3, 8]; config.json beside it wants "
           "[32, 8, 3, 3]");
}

TEST(a_tensor_of_another_type)
{
    fixture_copy("tiny-a");
    fixture_edit_header(UNET, "\"conv_in.weight\"", "F16", "I16");
    refuse(ERR_CORRUPT, UNET, "tensor \"conv_in.weight\" has dtype I16; want F32, F16 or BF16");
}

TEST(a_truncated_file)
{
    struct buf b;

    fixture_copy("tiny-a");
    b = fixture_read(VAE);
    for (size_t len = 1; len < b.len; len = len * 7 + 3) {
        fixture_write(VAE, b.data, len);
        refuse(ERR_CORRUPT, VAE, len < 8 ? "too short" : "truncated");
    }
    fixture_write(VAE, b.data, b.len - 1);
    refuse(ERR_CORRUPT, VAE, "truncated");
    fixture_write(VAE, b.data, 0);
    refuse(ERR_CORRUPT, VAE, "empty");
    buf_free(&b);
}

TEST(bytes_behind_the_last_tensor)
{
    struct buf b;

    fixture_copy("tiny-a");
    b = fixture_read(CLIP);
    EXPECT_OK(buf_append(&b, "x", 1));
    fixture_write(CLIP, b.data, b.len);
    refuse(ERR_CORRUPT, CLIP, "1 bytes behind the last tensor");
    buf_free(&b);
}

TEST(config_values_that_cannot_be)
{
    static const struct {
        const char *file, *from, *to, *says;
        status want;
    } cases[] = {
        { "unet/config.json", "\"UNetSpatio", "\"UNet3D", "_class_name", ERR_BADARG },
        { "unet/config.json", "\"DownBlockSpatioTemporal\"", "\"DownBlock2D\"",
          "down_block_types[1] is \"DownBlock2D\"", ERR_BADARG },
        { "unet/config.json", "\"UpBlockSpatioTemporal\"", "7", "up_block_types[0]", ERR_CORRUPT },
        { "unet/config.json", "num_attention_heads\": [\n    2", "num_attention_heads\": [\n    3",
          "multiple of num_attention_heads", ERR_BADARG },
        { "unet/config.json", "\"layers_per_block\": 1", "\"layers_per_block\": 9",
          "layers_per_block", ERR_CORRUPT },
        { "unet/config.json", "\"layers_per_block\": 1", "\"layers_per_block\": [1, 1]",
          "layers_per_block", ERR_CORRUPT },
        { "unet/config.json", "\"layers_per_block\": 1,", "", "layers_per_block", ERR_CORRUPT },
        { "unet/config.json", "\"layers_per_block\": 1", "\"layers_per_block\": 2",
          "\"down_blocks.0.resnets.1.", ERR_CORRUPT },
        { "unet/config.json", "    64,", "    65,", "multiple of 32", ERR_BADARG },
        { "unet/config.json", "input_dim\": 96", "input_dim\": 95", "only 96 is supported",
          ERR_BADARG },
        { "unet/config.json", "\"cross_attention_dim\": 32", "\"cross_attention_dim\": 64",
          "attn2.to_k.weight\" has shape [32, 32]", ERR_CORRUPT },
        { "unet/config.json", "\"in_channels\": 8", "\"in_channels\": \"8\"", "in_channels",
          ERR_CORRUPT },
        { "unet/config.json", "{", "", "unet/config.json", ERR_CORRUPT },
        { "vae/config.json", "TemporalDecoder", "", "_class_name", ERR_BADARG },
        { "vae/config.json", "\"DownEncoderBlock2D\"", "\"AttnDownEncoderBlock2D\"",
          "down_block_types[0] is \"AttnDownEncoderBlock2D\"", ERR_BADARG },
        { "vae/config.json", "\"latent_channels\": 4", "\"latent_channels\": 5", "[10, 32, 3, 3]",
          ERR_CORRUPT },
        { "vae/config.json", "\"scaling_factor\": 0.18215", "\"scaling_factor\": 0",
          "scaling_factor", ERR_CORRUPT },
        { "image_encoder/config.json", "\"gelu\"", "\"gelu_new\"", "hidden_act is \"gelu_new\"",
          ERR_BADARG },
        { "image_encoder/config.json", "\"num_channels\": 3", "\"num_channels\": 4",
          "num_channels is 4", ERR_BADARG },
        { "image_encoder/config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 5",
          "num_attention_heads", ERR_BADARG },
        { "image_encoder/config.json", "\"patch_size\": 14", "\"patch_size\": 16",
          "patch_embedding.weight\" has shape", ERR_CORRUPT },
        { "feature_extractor/preprocessor_config.json", "0.48145466,", "", "image_mean",
          ERR_CORRUPT },
        { "scheduler/scheduler_config.json", "v_prediction", "epsilon",
          "prediction_type is \"epsilon\"; only \"v_prediction\" is supported", ERR_BADARG },
        { "scheduler/scheduler_config.json", "\"use_karras_sigmas\": true",
          "\"use_karras_sigmas\": false", "use_karras_sigmas is false", ERR_BADARG },
        { "scheduler/scheduler_config.json", "\"sigma_min\": 0.002", "\"sigma_min\": 7000",
          "sigma_min is not below sigma_max", ERR_BADARG },
        { "scheduler/scheduler_config.json", "EulerDiscrete", "DDIM", "_class_name", ERR_BADARG },
        { "scheduler/scheduler_config.json", "\"final_sigmas_type\": \"zero\"",
          "\"final_sigmas_type\": \"sigma_min\"",
          "scheduler_config.json: final_sigmas_type is \"sigma_min\"; only \"zero\"", ERR_BADARG },
        { "model_index.json", "StableVideoDiffusionPipeline", "StableDiffusionPipeline",
          "only \"StableVideoDiffusionPipeline\" is supported", ERR_BADARG },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fixture_copy("tiny-a");
        fixture_edit(cases[i].file, cases[i].from, cases[i].to);
        refuse(cases[i].want, "model/", cases[i].says);
        EXPECT(!strstr(status_message(), "::"));
    }
}

/* The config files of the published SVD-XT say less in some places, and more in others, than those
 * of today's libraries; and diffusers itself writes null for a size that nobody gave. */
TEST(configs_of_other_writers_open)
{
    static const struct {
        const char *file, *from, *to;
    } edits[] = {
        { "unet/config.json", "\"sample_size\": 16", "\"sample_size\": null" },
        { "unet/config.json", "\"num_frames\": 4,", "" },
        { "unet/config.json", "{", "{\n  \"_name_or_path\": \"/home/someone/svd-xt/unet\"," },
        { "vae/config.json", "\"in_channels\": 3,", "" },
        { "vae/config.json", "\"out_channels\": 3,", "" },
        { "image_encoder/config.json", "\"num_channels\": 3,", "" },
        { "image_encoder/config.json", "\"dtype\"", "\"dropout\": 0.0, \"torch_dtype\"" },
        { "feature_extractor/preprocessor_config.json",
          "{\n    \"height\": 224,\n    \"width\": 224\n  }", "224" },
        { "feature_extractor/preprocessor_config.json", "\"do_convert_rgb\": true,",
          "\"feature_extractor_type\": \"CLIPFeatureExtractor\"," },
        { "scheduler/scheduler_config.json", "\"final_sigmas_type\": \"zero\",",
          "\"clip_sample\": false, \"set_alpha_to_one\": false, \"skip_prk_steps\": true," },
        { "scheduler/scheduler_config.json", "\"use_beta_sigmas\": false,", "" },
        { "scheduler/scheduler_config.json", "\"use_exponential_sigmas\": false,", "" },
    };
    struct checkpoint c;

    fixture_copy("tiny-a");
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++)
        fixture_edit(edits[i].file, edits[i].from, edits[i].to);
    expect_same_weights("tiny-a");
    EXPECT_OK(checkpoint_open(&c, fixture_path("")));
    EXPECT_INT(c.unet.config.frames, 25);
    EXPECT_INT(c.unet.config.sample_size, 96);
    checkpoint_close(&c);
}

TEST(a_nested_clip_config_opens)
{
    struct buf b, nested = { 0 };

    fixture_copy("tiny-a");
    b = fixture_read("image_encoder/config.json");
    EXPECT_OK(buf_printf(&nested, "{\"model_type\": \"clip\", \"vision_config\": %.*s}", (int)b.len,
                         (const char *)b.data));
    fixture_write("image_encoder/config.json", nested.data, nested.len);
    expect_same_weights("tiny-a");
    fixture_edit("image_encoder/config.json", "\"gelu\"", "\"relu\"");
    refuse(ERR_BADARG, "image_encoder/config.json", ": vision_config.hidden_act is \"relu\"");
    buf_free(&nested);
    buf_free(&b);
}

TEST(parts_that_do_not_fit_together)
{
    struct buf b = { 0 };

    fixture_copy("tiny-a");
    EXPECT_OK(file_read("tests/fixtures/tiny-b/vae/config.json", (size_t)1 << 20, &b));
    fixture_write("vae/config.json", b.data, b.len);
    EXPECT_OK(file_read("tests/fixtures/tiny-b/" VAE, (size_t)8 << 20, &b));
    fixture_write(VAE, b.data, b.len);
    refuse(ERR_CORRUPT, "model", "latent_channels is 8");
    fixture_copy("tiny-a");
    EXPECT_OK(file_read("tests/fixtures/tiny-b/image_encoder/config.json", (size_t)1 << 20, &b));
    fixture_write("image_encoder/config.json", b.data, b.len);
    EXPECT_OK(file_read("tests/fixtures/tiny-b/" CLIP, (size_t)8 << 20, &b));
    fixture_write(CLIP, b.data, b.len);
    refuse(ERR_CORRUPT, "model", "projection_dim is 24");
    buf_free(&b);
}

TEST(not_a_checkpoint)
{
    struct checkpoint c;

    EXPECT_STATUS(checkpoint_open(&c, "/nowhere/model"), ERR_NOTFOUND);
    EXPECT_MESSAGE("/nowhere/model: no such folder");
    EXPECT_STATUS(checkpoint_open(&c, "tests"), ERR_NOTFOUND);
    EXPECT_MESSAGE("tests/model_index.json: no such file");
    EXPECT_STATUS(checkpoint_open(&c, "Makefile"), ERR_NOTFOUND);
    EXPECT_MESSAGE("Makefile");
    EXPECT_STATUS(checkpoint_open(&c, ""), ERR_NOTFOUND);
}

TEST(a_missing_file)
{
    static const char *const files[] = {
        "unet/config.json",
        UNET,
        "vae/config.json",
        VAE,
        "image_encoder/config.json",
        CLIP,
        "scheduler/scheduler_config.json",
        "feature_extractor/preprocessor_config.json",
    };

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char part[64];

        fixture_copy("tiny-a");
        EXPECT_OK(file_remove(fixture_path(files[i])));
        snprintf(part, sizeof(part), "%.*s", (int)strcspn(files[i], "/"), files[i]);
        refuse(ERR_NOTFOUND, part, "no ");
    }
}

TEST(a_plan_is_what_a_run_takes)
{
    struct checkpoint_job job = { .frames = 3, .width = 56, .height = 72 };
    const struct kern_config config = { .threads = 1 };
    struct checkpoint c;
    struct checkpoint_need need, half;
    struct dev dev;
    struct unet_input input = { .frames = 3, .h = 9, .w = 7, .timestep = 1 };
    float *latents = calloc(3 * 9 * 7 * 4, sizeof(float)), out[3 * 9 * 7 * 4];

    EXPECT_OK(checkpoint_open(&c, "tests/fixtures/tiny-a"));
    EXPECT_OK(checkpoint_plan(&c, &job, &need));
    EXPECT(need.weight_bytes == c.values.used_bytes && need.act_bytes > 0);
    EXPECT(need.clip_flops > 0 && need.encode_flops > 0 && need.decode_flops > 0);
    input.latents = latents;
    /* Exactly as much as planned is enough, and all of it is used. */
    EXPECT_OK(dev_open(&dev, "ref", &config, need.unet_bytes));
    EXPECT_OK(unet_forward(&dev, &c.unet, &input, out));
    EXPECT_INT(dev.act.peak_bytes, need.unet_bytes);
    EXPECT_NEAR(dev.flops, need.unet_flops, 0);
    dev_close(&dev);
    EXPECT_OK(dev_open(&dev, "ref", &config, need.unet_bytes - ARENA_ALIGN));
    EXPECT_STATUS(unet_forward(&dev, &c.unet, &input, out), ERR_NOMEM);
    EXPECT_INT(dev.act.used_bytes, 0);
    dev_close(&dev);
    EXPECT_OK(checkpoint_plan(
        &c, &(struct checkpoint_job){ .frames = 3, .width = 56, .height = 72, .chunk = 1 }, &half));
    EXPECT(half.decode_bytes < need.decode_bytes);
    /* Tensors of 16 bits take half the room; nothing but alignment keeps it from being exact. */
    job.layout = (struct kern_layout){ .dtype = KERN_BF16, .slice_bytes = (int64_t)256 << 20 };
    EXPECT_OK(checkpoint_plan(&c, &job, &half));
    EXPECT(half.unet_bytes <= need.unet_bytes / 2 + 64 * ARENA_ALIGN);
    EXPECT(half.decode_bytes <= need.decode_bytes / 2 + 64 * ARENA_ALIGN);
    EXPECT_STATUS(
        checkpoint_plan(
            &c, &(struct checkpoint_job){ .frames = 3, .width = 57, .height = 72, .chunk = 0 },
            &half),
        ERR_BADARG);
    EXPECT_STATUS(
        checkpoint_plan(
            &c, &(struct checkpoint_job){ .frames = 0, .width = 56, .height = 72, .chunk = 0 },
            &half),
        ERR_BADARG);
    EXPECT_STATUS(
        checkpoint_plan(&c,
                        &(struct checkpoint_job){
                            .frames = 1 << 20, .width = 1 << 20, .height = 1 << 20, .chunk = 0 },
                        &half),
        ERR_NOMEM);
    checkpoint_close(&c);
    free(latents);
}

static void cancel_at(void *self, int done, int total)
{
    (void)total;
    if (done == 2)
        atomic_store((atomic_bool *)self, true);
}

TEST(a_cancelled_evaluation_stops)
{
    const struct kern_config config = { .threads = 1 };
    struct checkpoint c;
    struct dev dev;
    atomic_bool cancel = false;
    const struct progress progress = { cancel_at, &cancel };
    float *latents = calloc(2 * 4 * 4 * 4, sizeof(float)), out[2 * 4 * 4 * 4];
    const struct unet_input input = {
        .latents = latents, .frames = 2, .h = 4, .w = 4, .progress = &progress
    };

    EXPECT_OK(checkpoint_open(&c, "tests/fixtures/tiny-a"));
    EXPECT_OK(dev_open(&dev, "ref", &config, (size_t)64 << 20));
    dev.cancel = &cancel;
    EXPECT_STATUS(unet_forward(&dev, &c.unet, &input, out), ERR_CANCELLED);
    EXPECT_INT(dev.act.used_bytes, 0);
    dev_close(&dev);
    checkpoint_close(&c);
    free(latents);
}

/* The reference's epsilons, block type by block type: a wrong one is too small an error for the
 * comparison of outputs to notice in every place. */
TEST(norms_have_the_epsilons_of_their_block)
{
    struct checkpoint c;
    const struct unet *u = &c.unet;
    const struct vae *v = &c.vae;

    EXPECT_OK(checkpoint_open(&c, "tests/fixtures/tiny-a"));
    EXPECT_NEAR(u->down[0].res[0].spatial.norm1.eps, 1e-6, 1e-12); /* with attention */
    EXPECT_NEAR(u->down[0].res[0].temporal.norm2.eps, 1e-6, 1e-12);
    EXPECT_NEAR(u->down[1].res[0].spatial.norm2.eps, 1e-5, 1e-12); /* without */
    EXPECT_NEAR(u->down[1].res[0].temporal.norm1.eps, 1e-5, 1e-12);
    EXPECT_NEAR(u->mid[1].spatial.norm1.eps, 1e-5, 1e-12);
    EXPECT_NEAR(u->mid[0].temporal.norm1.eps, 1e-5, 1e-12);
    for (int i = 0; i < 3; i++) {
        EXPECT_NEAR(u->up[i].res[1].spatial.norm1.eps, 1e-6, 1e-12);
        EXPECT_NEAR(u->up[i].res[1].temporal.norm2.eps, 1e-6, 1e-12);
    }
    EXPECT_NEAR(u->norm_out.eps, 1e-5, 1e-12);
    EXPECT_NEAR(u->mid_attention.norm.eps, 1e-6, 1e-12);
    EXPECT_NEAR(u->mid_attention.layers[0].ff_time.norm.eps, 1e-5, 1e-12);
    EXPECT_NEAR(v->encoder.levels[1].blocks[0].spatial.norm1.eps, 1e-6, 1e-12);
    EXPECT_NEAR(v->encoder.attention.norm.eps, 1e-6, 1e-12);
    EXPECT_NEAR(v->decoder.mid[0].spatial.norm1.eps, 1e-6, 1e-12);
    EXPECT_NEAR(v->decoder.mid[0].temporal.norm1.eps, 1e-5, 1e-12);
    EXPECT_NEAR(v->decoder.levels[2].blocks[1].temporal.norm2.eps, 1e-5, 1e-12);
    EXPECT_NEAR(v->decoder.norm_out.eps, 1e-6, 1e-12);
    EXPECT_NEAR(c.clip.layers[0].norm1.eps, 1e-5, 1e-12);
    checkpoint_close(&c);
}

/* What a model asks for. */
struct census {
    char dir[3][64];    /* parts, in the order of loading */
    int64_t tensors[3]; /* asked for in each */
    int64_t values[3];  /* elements of them */
    int parts;
};

static status count_tensor(void *self, const char *dir, const char *name, int rank,
                           const int64_t *shape)
{
    struct census *c = self;
    int64_t values = 1;

    EXPECT(name[0] && rank >= 1);
    if (c->parts == 0 || strcmp(c->dir[c->parts - 1], dir) != 0) {
        EXPECT(c->parts < 3);
        snprintf(c->dir[c->parts++], sizeof(c->dir[0]), "%s", dir);
    }
    for (int i = 0; i < rank; i++)
        values *= shape[i];
    c->tensors[c->parts - 1]++;
    c->values[c->parts - 1] += values;
    return OK;
}

/* The counts are those of the published files of SVD-XT. */
TEST(full_size_svd_by_its_configs_alone)
{
    struct census c = { 0 };
    struct checkpoint model;

    EXPECT_OK(checkpoint_open_blank(&model, "tests/fixtures/svd-xt", count_tensor, &c));
    checkpoint_close(&model);
    EXPECT_INT(c.parts, 3);
    EXPECT_TEXT(c.dir[0], "tests/fixtures/svd-xt/image_encoder");
    EXPECT_INT(c.tensors[0], 520);
    EXPECT_INT(c.values[0], 632076800);
    EXPECT_INT(c.tensors[1], 374);
    EXPECT_INT(c.values[1], 97742847);
    EXPECT_INT(c.tensors[2], 1428);
    EXPECT_INT(c.values[2], 1524623082);
}

static status refuse_tensor(void *self, const char *dir, const char *name, int rank,
                            const int64_t *shape)
{
    (void)self;
    (void)dir;
    (void)rank;
    (void)shape;
    return FAIL(ERR_FULL, "no room for \"%s\"", name);
}

TEST(who_asks_may_refuse)
{
    struct checkpoint model;

    EXPECT_STATUS(checkpoint_open_blank(&model, "tests/fixtures/svd-xt", refuse_tensor, NULL),
                  ERR_FULL);
    EXPECT_MESSAGE("no room for");
    EXPECT(!model.values.base && !model.layers.base);
}

/* A clip of SVD's own size fits a machine of 24 GB: the decoder holds two tensors of its last level
 * (14 frames of 1024x576x128 floats, 4032 MiB each) and thin ones, never a third. */
TEST(memory_of_a_clip_of_full_size_svd)
{
    const struct checkpoint_job job = { .frames = 14, .width = 1024, .height = 576 };
    struct checkpoint_need need;
    struct checkpoint model;

    EXPECT_OK(checkpoint_open_blank(&model, "tests/fixtures/svd-xt", NULL, NULL));
    EXPECT_OK(checkpoint_plan(&model, &job, &need));
    EXPECT_INT(need.act_bytes, need.decode_bytes);
    EXPECT(need.decode_bytes >= 2 * ((size_t)4032 << 20));
    EXPECT(need.decode_bytes < (size_t)8100 << 20);
    EXPECT(need.weight_bytes >= (size_t)2254442729 * 3); /* as float: there are no files */
    checkpoint_close(&model);
}
