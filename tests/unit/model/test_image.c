/* Resizing is Pillow's to the bit, and diffusers' resize before CLIP to rounding. */
#include "worker/model/image.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"

/* The reference works in float, with sums over at most 11 x 11 values below 2: a few 1e-7. */
#define PIXEL_TOLERANCE 5e-6

static struct arena scratch_for(size_t bytes)
{
    struct arena a = { 0 };

    EXPECT_OK(arena_open(&a, "scratch", bytes));
    return a;
}

static const struct safetensors_tensor *find(const struct safetensors *s, const char *name)
{
    const struct safetensors_tensor *t = safetensors_find(s, name);

    EXPECT(t);
    return t;
}

static struct image image_of(const struct safetensors_tensor *t)
{
    EXPECT(t->dtype == SAFETENSORS_U8 && t->rank == 3 && t->shape[2] == 3);
    return (struct image){ .rgb = t->data, .height = t->shape[0], .width = t->shape[1] };
}

TEST(lanczos_is_pillows)
{
    static const char *const cases[] = {
        "lanczos.120x9.16x16", "lanczos.1x1.8x8",     "lanczos.31x17.31x40", "lanczos.40x30.72x40",
        "lanczos.53x97.56x72", "lanczos.64x48.64x48", "lanczos.7x5.16x24",   "lanczos.90x50.64x32",
    };
    struct safetensors s;
    char name[128];

    EXPECT_OK(safetensors_open(&s, "tests/golden/resize.safetensors"));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct safetensors_tensor *want;
        struct image in;
        struct arena scratch;
        uint8_t *got;

        snprintf(name, sizeof(name), "%s.input", cases[i]);
        in = image_of(find(&s, name));
        snprintf(name, sizeof(name), "%s.output", cases[i]);
        want = find(&s, name);
        got = malloc(want->bytes);
        scratch = scratch_for(image_resize_scratch(&in, want->shape[1], want->shape[0]));
        EXPECT_OK(image_resize(&in, got, want->shape[1], want->shape[0], &scratch));
        EXPECT_INT(scratch.used_bytes, 0);
        if (memcmp(got, want->data, want->bytes) != 0)
            test_fail(__FILE__, __LINE__, "%s differs", cases[i]);
        free(got);
        arena_close(&scratch);
    }
    safetensors_close(&s);
}

TEST(clip_pixels_are_diffusers)
{
    static const struct {
        const char *name;
        int size;
    } cases[] = {
        { "antialias.233x61.224", 224 }, { "antialias.250x20.96", 96 },
        { "antialias.37x53.96", 96 },    { "antialias.50x34.224", 224 },
        { "antialias.96x96.96", 96 },    { "antialias.97x150.96", 96 },
    };
    struct safetensors s;
    char name[128];

    EXPECT_OK(safetensors_open(&s, "tests/golden/resize.safetensors"));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* Mean and deviation that undo (x + 1)/2, so that the resized image itself comes out. */
        const struct clip_config config = { .image = cases[i].size,
                                            .pixel_mean = { 0.5f, 0.5f, 0.5f },
                                            .pixel_std = { 0.5f, 0.5f, 0.5f } };
        const int64_t pixels = (int64_t)cases[i].size * cases[i].size;
        const struct safetensors_tensor *want;
        struct image in;
        struct arena scratch;
        float *got = malloc((size_t)pixels * 3 * sizeof(float));
        float *values = malloc((size_t)pixels * 3 * sizeof(float));

        snprintf(name, sizeof(name), "%s.input", cases[i].name);
        in = image_of(find(&s, name));
        snprintf(name, sizeof(name), "%s.output", cases[i].name);
        want = find(&s, name);
        scratch = scratch_for(image_clip_scratch(&in, &config));
        EXPECT_OK(image_clip_pixels(&in, &config, got, &scratch));
        EXPECT_INT(scratch.used_bytes, 0);
        EXPECT_OK(safetensors_read_f32(want, 0, want->count, values));
        for (int64_t k = 0; k < want->count; k++)
            EXPECT_NEAR(got[k % pixels * 3 + k / pixels], values[k], PIXEL_TOLERANCE);
        free(got);
        free(values);
        arena_close(&scratch);
    }
    safetensors_close(&s);
}

TEST(scratch_sizes_are_enough_and_needed)
{
    static const int64_t sizes[] = { 1, 2, 3, 17, 96, 131 };
    uint8_t *rgb = malloc(131 * 131 * 3), *dst = malloc(131 * 131 * 3);
    float *pixels = malloc(8 * 8 * 3 * sizeof(float));
    const struct clip_config config = { .image = 8, .pixel_std = { 1, 1, 1 } };

    memset(rgb, 77, 131 * 131 * 3);
    for (int i = 0; i < 36; i++) {
        struct image in = { .rgb = rgb, .width = sizes[i % 6], .height = sizes[i / 6] };
        int64_t w = sizes[(i + 1) % 6], h = sizes[(i / 6 + 4) % 6];
        struct arena scratch = scratch_for(image_resize_scratch(&in, w, h));

        EXPECT_OK(image_resize(&in, dst, w, h, &scratch));
        for (int64_t k = 0; k < w * h * 3; k++)
            EXPECT_INT(dst[k], 77);
        arena_close(&scratch);
        scratch = scratch_for(image_clip_scratch(&in, &config));
        EXPECT_OK(image_clip_pixels(&in, &config, pixels, &scratch));
        for (int k = 0; k < 8 * 8 * 3; k++)
            EXPECT_NEAR(pixels[k], 77.0 / 255, 1e-6); /* a constant stays one, up to rounding */
        arena_close(&scratch);
        scratch = scratch_for(ARENA_ALIGN);
        EXPECT_STATUS(image_clip_pixels(&in, &config, pixels, &scratch), ERR_NOMEM);
        arena_close(&scratch);
    }
    free(rgb);
    free(dst);
    free(pixels);
}

TEST(signed_and_back)
{
    uint8_t bytes[256], back[256];
    float values[256];

    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    image_to_signed(bytes, values, 256);
    EXPECT_NEAR(values[0], -1, 0);
    EXPECT_NEAR(values[255], 1, 0);
    image_from_signed(values, back, 256);
    EXPECT(memcmp(bytes, back, sizeof(bytes)) == 0);
}

TEST(out_of_range_is_clamped)
{
    const float values[] = { -1.5f, 1.5f, NAN, INFINITY, -INFINITY, 0.0f };
    /* 0 is 127.5, and halves go to even. */
    const uint8_t want[] = { 0, 255, 0, 255, 0, 128 };
    uint8_t got[6];

    image_from_signed(values, got, 6);
    for (int i = 0; i < 6; i++)
        EXPECT_INT(got[i], want[i]);
}
