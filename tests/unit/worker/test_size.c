#include <string.h>

#include "tests/tool/test.h"
#include "worker/size.h"

/* SVD: sample_size 96, VAE factor 8, four UNet levels. */
static const struct size_model svd = {
    .frames = 14, .native_px = 768, .vae_factor = 8, .grid_px = 64
};

static struct job_spec spec_of(int64_t width_px, int64_t height_px)
{
    struct job_spec spec;

    spec_init(&spec);
    spec.width_px = width_px;
    spec.height_px = height_px;
    return spec;
}

TEST(size_free_follows_the_photograph)
{
    static const struct {
        int64_t image_w, image_h, width_px, height_px;
    } cases[] = {
        { 1024, 576, 1024, 576 }, /* SVD's own */
        { 576, 1024, 576, 1024 }, /* and upright */
        { 500, 500, 768, 768 },   /* a square has the native area */
        { 4000, 3000, 896, 640 }, /* 768 * sqrt(4/3) = 886.8, 768 * sqrt(3/4) = 665.1 */
        { 1, 1, 768, 768 },       /* the smallest photograph */
        { 40000, 10, 4096, 64 },  /* a panorama: at most the bound, at least one multiple */
        { 10, 40000, 64, 4096 },  /* and upright */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct job_spec spec = spec_of(0, 0);

        EXPECT_OK(size_resolve(&spec, &svd, cases[i].image_w, cases[i].image_h));
        EXPECT_INT(spec.width_px, cases[i].width_px);
        EXPECT_INT(spec.height_px, cases[i].height_px);
        EXPECT_INT(spec.frames, 14);
        EXPECT_OK(spec_check((spec.image[0] = 'x', &spec)));
    }
}

TEST(size_given_is_kept)
{
    struct job_spec spec = spec_of(72, 40);

    spec.frames = 3;
    EXPECT_OK(size_resolve(&spec, &svd, 100, 100));
    EXPECT_INT(spec.width_px, 72);
    EXPECT_INT(spec.height_px, 40);
    EXPECT_INT(spec.frames, 3);
}

TEST(size_given_must_be_a_multiple)
{
    struct job_spec spec = spec_of(1020, 576);

    EXPECT_STATUS(size_resolve(&spec, &svd, 100, 100), ERR_BADARG);
    EXPECT_MESSAGE("width: 1020 is not a multiple of 8");
    EXPECT_MESSAGE("use 1016 or 1024");
    spec = spec_of(1024, 577);
    EXPECT_STATUS(size_resolve(&spec, &svd, 100, 100), ERR_BADARG);
    EXPECT_MESSAGE("height: 577 is not a multiple of 8");
}

TEST(size_must_be_a_video)
{
    struct job_spec spec = spec_of(8, 64);
    const struct size_model small = { .frames = 2, .native_px = 8, .vae_factor = 2, .grid_px = 4 };

    EXPECT_STATUS(size_resolve(&spec, &svd, 100, 100), ERR_BADARG);
    EXPECT_MESSAGE("width: 8 is below 16");
    spec = spec_of(0, 0);
    EXPECT_OK(size_resolve(&spec, &small, 100, 100));
    EXPECT_INT(spec.width_px, 16);
    EXPECT_INT(spec.height_px, 16);
}

TEST(size_of_a_large_factor_names_the_only_multiple)
{
    struct job_spec spec = spec_of(20, 64);
    const struct size_model coarse = {
        .frames = 2, .native_px = 64, .vae_factor = 32, .grid_px = 64
    };

    EXPECT_STATUS(size_resolve(&spec, &coarse, 100, 100), ERR_BADARG);
    EXPECT_MESSAGE("width: 20 is not a multiple of 32, as this model needs; use 32");
}
