/* NOISE_TORCH is torch.randn on the CPU, value by value. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden/golden.h"
#include "worker/sampler/noise.h"

/* Torch computes logarithm, sine and cosine in float, with vector code that depends on the CPU;
 * exact ones stay within 6e-7 of it over two million values. */
#define EACH_VALUE 1e-6
/* Those errors have no common sign: over two million values they add up to less than 1e-3. One
 * value from the wrong place in the stream would be off by about 1. */
#define WHOLE_SUM 1e-2

static const uint64_t seeds[] = { 0, 42, (1ull << 40) + 7 };
#define SEED_COUNT (sizeof(seeds) / sizeof(seeds[0]))

static float *draw(struct noise *n, int64_t count)
{
    float *values = golden_memory((size_t)count * sizeof(float));

    noise_draw(n, NOISE_LATENTS, &(struct noise_shape){ 1, 1, 1, count }, values);
    return values;
}

static const struct safetensors_tensor *tensor(const struct safetensors *s, uint64_t seed,
                                               const char *rest)
{
    char name[128];
    const struct safetensors_tensor *t;

    snprintf(name, sizeof(name), "seed%" PRIu64 ".%s", seed, rest);
    t = safetensors_find(s, name);
    if (!t)
        test_fail(__FILE__, __LINE__, "no tensor %s", name);
    return t;
}

/* got[0], got[stride], .. against the tensor. */
static void expect_values(const struct safetensors_tensor *t, const float *got, int64_t stride)
{
    float *want = golden_memory((size_t)t->count * sizeof(float));

    EXPECT_OK(safetensors_read_f32(t, 0, t->count, want));
    for (int64_t i = 0; i < t->count; i++) {
        if (!(fabs((double)got[i * stride] - (double)want[i]) <= EACH_VALUE))
            test_fail(__FILE__, __LINE__, "%s[%" PRId64 "] is %.9g, want %.9g", t->name, i,
                      (double)got[i * stride], (double)want[i]);
    }
}

TEST(first_draws)
{
    static const int64_t sizes[] = { 1, 7, 15, 16, 17, 31, 100, 1000 };
    struct golden g;
    char rest[64];

    golden_open_file(&g, "randn");
    for (size_t s = 0; s < SEED_COUNT; s++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct noise n;
            const struct safetensors_tensor *t;

            noise_init(&n, NOISE_TORCH, seeds[s]);
            snprintf(rest, sizeof(rest), "size%" PRId64, sizes[i]);
            t = tensor(&g.file, seeds[s], rest);
            EXPECT_INT(t->count, sizes[i]);
            expect_values(t, draw(&n, sizes[i]), 1);
        }
    }
    golden_close(&g);
}

/* The second value of a pair is kept for the next small draw, across large ones. */
TEST(sequences)
{
    static const struct {
        const char *name;
        int64_t sizes[3];
    } sequences[] = {
        { "sequence15_33", { 15, 33, 0 } },       { "sequence17_5", { 17, 5, 0 } },
        { "sequence1_1_16", { 1, 1, 16 } },       { "sequence16_7_16", { 16, 7, 16 } },
        { "sequence1000_3_31", { 1000, 3, 31 } },
    };
    struct golden g;
    char rest[64];

    golden_open_file(&g, "randn");
    for (size_t s = 0; s < SEED_COUNT; s++) {
        for (size_t i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++) {
            struct noise n;

            noise_init(&n, NOISE_TORCH, seeds[s]);
            for (int k = 0; k < 3 && sequences[i].sizes[k]; k++) {
                snprintf(rest, sizeof(rest), "%s.%d", sequences[i].name, k);
                expect_values(tensor(&g.file, seeds[s], rest), draw(&n, sequences[i].sizes[k]), 1);
            }
        }
    }
    golden_close(&g);
}

static void expect_sums(const struct safetensors_tensor *t, const float *got, int64_t count)
{
    double want[2], sum = 0, squares = 0;

    EXPECT(t->dtype == SAFETENSORS_F64 && t->count == 2);
    memcpy(want, t->data, sizeof(want));
    for (int64_t i = 0; i < count; i++) {
        sum += (double)got[i];
        squares += (double)got[i] * (double)got[i];
    }
    EXPECT_NEAR(sum, want[0], WHOLE_SUM);
    EXPECT_NEAR(squares, want[1], WHOLE_SUM);
}

static void long_draw(int64_t count)
{
    struct golden g;
    char rest[64];

    golden_open_file(&g, "randn");
    for (size_t s = 0; s < SEED_COUNT; s++) {
        struct noise n;
        const float *got;

        noise_init(&n, NOISE_TORCH, seeds[s]);
        got = draw(&n, count);
        snprintf(rest, sizeof(rest), "size%" PRId64 ".first", count);
        expect_values(tensor(&g.file, seeds[s], rest), got, 1);
        snprintf(rest, sizeof(rest), "size%" PRId64 ".last", count);
        expect_values(tensor(&g.file, seeds[s], rest), got + count - 64, 1);
        snprintf(rest, sizeof(rest), "size%" PRId64 ".strided", count);
        expect_values(tensor(&g.file, seeds[s], rest), got, 9973);
        snprintf(rest, sizeof(rest), "size%" PRId64 ".sums", count);
        expect_sums(tensor(&g.file, seeds[s], rest), got, count);
    }
    golden_close(&g);
}

TEST(a_million_and_three)
{
    long_draw(1000003);
}

TEST(two_million)
{
    long_draw(2000000);
}

/* A job's draws: pixel noise, initial latents, step noise, each at its place in our layout. */
TEST(draws_of_a_job)
{
    struct golden g;
    struct noise n;
    int64_t s[4];
    float *got;
    static const char *const names[] = { "vae.noise", "initial_noise", "step_noise.0",
                                         "step_noise.1", "step_noise.2" };

    golden_open_file(&g, "tiny-a-odd-consistency4");
    noise_init(&n, NOISE_TORCH, strtoull(golden_text(&g, "seed"), NULL, 10));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        golden_shape(&g, names[i], s);
        got = golden_room(&g, names[i]);
        noise_draw(&n, (uint32_t)i, &(struct noise_shape){ s[0], s[1], s[2], s[3] }, got);
        golden_expect(&g, names[i], got, EACH_VALUE);
    }
    golden_close(&g);
}
