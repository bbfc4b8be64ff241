/* Each module alone, on the input that diffusers gave it. */
#include <stdio.h>
#include <string.h>

#include "tests/golden/golden.h"
#include "worker/model/image.h"

static void clip_case(const char *name, const char *device)
{
    struct golden g;
    float *got;

    golden_open(&g, name, device);
    got = golden_room(&g, "clip.image_embeds");
    EXPECT_OK(clip_embed(&g.dev, &g.checkpoint.clip, golden_values(&g, "clip.pixel_values"), got));
    golden_expect(&g, "clip.image_embeds", got, golden_module(&g, "clip.image_embeds"));
    EXPECT_INT(g.dev.act.used_bytes, 0);
    golden_close(&g);
}

static void pixels_case(const char *name)
{
    struct golden g;
    struct arena scratch = { 0 };
    const struct safetensors_tensor *t;
    struct image image;
    float *got;

    golden_open(&g, name, "ref");
    t = safetensors_find(&g.file, "image");
    EXPECT(t && t->dtype == SAFETENSORS_U8);
    image = (struct image){ .rgb = t->data, .height = t->shape[0], .width = t->shape[1] };
    got = golden_room(&g, "clip.pixel_values");
    EXPECT_OK(
        arena_open(&scratch, "scratch", image_clip_scratch(&image, &g.checkpoint.clip.config)));
    EXPECT_OK(image_clip_pixels(&image, &g.checkpoint.clip.config, got, &scratch));
    golden_expect(&g, "clip.pixel_values", got, GOLDEN_MODULE);
    golden_close(&g);
}

static void encode_case(const char *name, const char *device)
{
    struct golden g;
    int64_t s[4];
    float *image, *noise, *got, strength;

    golden_open(&g, name, device);
    strength = (float)golden_number(&g, "noise_aug");
    golden_shape(&g, "vae.image", s);
    image = golden_values(&g, "vae.image");
    noise = golden_values(&g, "vae.noise");
    for (int64_t i = 0; i < s[1] * s[2] * s[3]; i++)
        image[i] += strength * noise[i];
    got = golden_room(&g, "vae.latents_mode");
    EXPECT_OK(vae_encode(&g.dev, &g.checkpoint.vae, image, s[2], s[3], got));
    golden_expect(&g, "vae.latents_mode", got, golden_module(&g, "vae.latents_mode"));
    EXPECT_INT(g.dev.act.used_bytes, 0);
    golden_close(&g);
}

/* Where decoded frames go. */
struct frames {
    float *all;
    int64_t frame_floats;
    int64_t next;
};

static status on_frame(void *self, int64_t index, const float *rgb)
{
    struct frames *f = self;

    EXPECT_INT(index, f->next);
    f->next++;
    memcpy(f->all + index * f->frame_floats, rgb, (size_t)f->frame_floats * sizeof(float));
    return OK;
}

static void decode_case(const char *name, const char *device, const char *tensor, int64_t chunk)
{
    struct golden g;
    struct frames frames = { 0 };
    int64_t in[4], out[4];
    float *frame;

    golden_open(&g, name, device);
    golden_shape(&g, "vae.decode_in", in);
    golden_shape(&g, tensor, out);
    frames.all = golden_room(&g, tensor);
    frames.frame_floats = out[1] * out[2] * out[3];
    frame = golden_memory((size_t)frames.frame_floats * sizeof(float));
    EXPECT_OK(vae_decode(&g.dev, &g.checkpoint.vae,
                         &(struct vae_decode_args){ .latents = golden_values(&g, "vae.decode_in"),
                                                    .frames = in[0],
                                                    .h = in[2],
                                                    .w = in[3],
                                                    .chunk = chunk,
                                                    .frame = frame,
                                                    .on_frame = on_frame,
                                                    .self = &frames }));
    EXPECT_INT(frames.next, in[0]);
    golden_expect(&g, tensor, frames.all, golden_module(&g, tensor));
    EXPECT_INT(g.dev.act.used_bytes, 0);
    golden_close(&g);
}

static status on_block(void *self, const char *name, struct dev *dev, const struct tensor *t)
{
    struct golden *g = self;
    char golden_name[64];
    float *got;

    if (strncmp(name, "down_blocks.", 12) == 0)
        snprintf(golden_name, sizeof(golden_name), "unet.down.%s", name + 12);
    else if (strncmp(name, "up_blocks.", 10) == 0)
        snprintf(golden_name, sizeof(golden_name), "unet.up.%s", name + 10);
    else
        snprintf(golden_name, sizeof(golden_name), "unet.%s",
                 strcmp(name, "mid_block") == 0 ? "mid" : name);
    got = golden_room(g, golden_name);
    EXPECT_OK(op_download(dev, t, got));
    golden_expect(g, golden_name, got, GOLDEN_MODULE);
    return OK;
}

/* done, so far. */
static void count_blocks(void *self, int done, int total)
{
    int *last = self;

    EXPECT_INT(done, *last + 1);
    EXPECT(done <= total);
    *last = done == total ? -total : done;
}

/* golden's sample holds both: channels [0, c) of every pixel are the latents. */
static float *channels(const float *sample, int64_t pixels, int64_t all, int64_t first,
                       int64_t count)
{
    float *part = golden_memory((size_t)(pixels * count) * sizeof(float));

    for (int64_t i = 0; i < pixels * count; i++)
        part[i] = sample[i / count * all + first + i % count];
    return part;
}

static void unet_case(const char *name, const char *device)
{
    struct golden g;
    int64_t s[4], c;
    const float *ids, *sample;
    float *got;
    int blocks = 0;
    const struct progress progress = { count_blocks, &blocks };

    golden_open(&g, name, device);
    golden_shape(&g, "unet.sample", s);
    c = s[1] / 2;
    ids = golden_values(&g, "unet.added_time_ids");
    sample = golden_values(&g, "unet.sample");
    got = golden_room(&g, "unet.output");
    EXPECT_OK(unet_forward(
        &g.dev, &g.checkpoint.unet,
        &(struct unet_input){ .latents = channels(sample, s[0] * s[2] * s[3], 2 * c, 0, c),
                              .image_latent = channels(sample, s[2] * s[3], 2 * c, c, c),
                              .embedding = golden_values(&g, "clip.image_embeds"),
                              .frames = s[0],
                              .h = s[2],
                              .w = s[3],
                              .timestep = golden_values(&g, "unet.timestep")[0],
                              .fps = ids[0],
                              .motion_bucket = ids[1],
                              .noise_aug = ids[2],
                              .progress = &progress,
                              .on_block = g.is_bf16 || g.is_f16 ? NULL : on_block,
                              .self = &g },
        got));
    golden_expect(&g, "unet.output", got, golden_module(&g, "unet.output"));
    EXPECT_INT(g.dev.act.used_bytes, 0);
    EXPECT(blocks < 0);
    golden_close(&g);
}

#define A "tiny-a-consistency1"
#define ODD "tiny-a-odd-consistency4"
#define B "tiny-b-consistency1"

#define BOTH(test_name, call_ref, call_cpu)                                                        \
    TEST(test_name##_ref)                                                                          \
    {                                                                                              \
        call_ref;                                                                                  \
    }                                                                                              \
    TEST(test_name##_cpu)                                                                          \
    {                                                                                              \
        call_cpu;                                                                                  \
    }

BOTH(clip_a, clip_case(A, "ref"), clip_case(A, "cpu"))
BOTH(clip_b, clip_case(B, "ref"), clip_case(B, "cpu"))
BOTH(encode_a, encode_case(A, "ref"), encode_case(A, "cpu"))
BOTH(encode_odd, encode_case(ODD, "ref"), encode_case(ODD, "cpu"))
BOTH(encode_b, encode_case(B, "ref"), encode_case(B, "cpu"))
BOTH(decode_a, decode_case(A, "ref", "vae.decode_out", 0),
     decode_case(A, "cpu", "vae.decode_out", 0))
BOTH(decode_odd, decode_case(ODD, "ref", "vae.decode_out", 0),
     decode_case(ODD, "cpu", "vae.decode_out", 0))
BOTH(decode_b, decode_case(B, "ref", "vae.decode_out", 0),
     decode_case(B, "cpu", "vae.decode_out", 0))
BOTH(decode_chunks_a, decode_case(A, "ref", "vae.decode_out_chunk2", 2),
     decode_case(A, "cpu", "vae.decode_out_chunk2", 2))
BOTH(decode_chunks_odd, decode_case(ODD, "ref", "vae.decode_out_chunk2", 2),
     decode_case(ODD, "cpu", "vae.decode_out_chunk2", 2))
BOTH(decode_chunks_b, decode_case(B, "ref", "vae.decode_out_chunk2", 2),
     decode_case(B, "cpu", "vae.decode_out_chunk2", 2))
BOTH(unet_a, unet_case(A, "ref"), unet_case(A, "cpu"))
BOTH(unet_odd, unet_case(ODD, "ref"), unet_case(ODD, "cpu"))
BOTH(unet_b, unet_case(B, "ref"), unet_case(B, "cpu"))

/* Products of bf16 are no further from float32 than PyTorch's bf16 is. Images are encoded in
 * float32 always. */
#define BF16(test_name, call)                                                                      \
    TEST(bf16_##test_name)                                                                         \
    {                                                                                              \
        call;                                                                                      \
    }

BF16(unet_a, unet_case(A, "cpu_bf16"))
BF16(unet_odd, unet_case(ODD, "cpu_bf16"))
BF16(unet_b, unet_case(B, "cpu_bf16"))
BF16(decode_a, decode_case(A, "cpu_bf16", "vae.decode_out", 0))
BF16(decode_odd, decode_case(ODD, "cpu_bf16", "vae.decode_out", 0))
BF16(decode_b, decode_case(B, "cpu_bf16", "vae.decode_out", 0))

#define CUDA(test_name, call)                                                                      \
    TEST_TIMEOUT(ptx_bf16_##test_name, 300)                                                        \
    {                                                                                              \
        const char *const device = "ptx_bf16";                                                     \
                                                                                                   \
        call;                                                                                      \
    }                                                                                              \
    TEST_TIMEOUT(ptx_f16_##test_name, 300)                                                         \
    {                                                                                              \
        const char *const device = "ptx_f16";                                                      \
                                                                                                   \
        call;                                                                                      \
    }                                                                                              \
    TEST(cuda_bf16_##test_name)                                                                    \
    {                                                                                              \
        const char *const device = "cuda_bf16";                                                    \
                                                                                                   \
        call;                                                                                      \
    }                                                                                              \
    TEST(cuda_f16_##test_name)                                                                     \
    {                                                                                              \
        const char *const device = "cuda_f16";                                                     \
                                                                                                   \
        call;                                                                                      \
    }

CUDA(clip_a, clip_case(A, device))
CUDA(clip_b, clip_case(B, device))
CUDA(encode_a, encode_case(A, device))
CUDA(encode_odd, encode_case(ODD, device))
CUDA(encode_b, encode_case(B, device))
CUDA(unet_a, unet_case(A, device))
CUDA(unet_odd, unet_case(ODD, device))
CUDA(unet_b, unet_case(B, device))
CUDA(decode_a, decode_case(A, device, "vae.decode_out", 0))
CUDA(decode_odd, decode_case(ODD, device, "vae.decode_out", 0))
CUDA(decode_b, decode_case(B, device, "vae.decode_out", 0))

TEST(clip_pixels_a)
{
    pixels_case(A);
}

TEST(clip_pixels_b)
{
    pixels_case(B);
}
