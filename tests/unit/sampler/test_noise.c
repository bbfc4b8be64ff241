#include "worker/sampler/noise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"

static float *draw(enum noise_kind kind, uint64_t seed, uint32_t stream,
                   const struct noise_shape *shape)
{
    struct noise n;
    int64_t count = shape->frames * shape->channels * shape->height * shape->width;
    float *values = malloc((size_t)count * sizeof(float));

    EXPECT(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = NAN;
    noise_init(&n, kind, seed);
    noise_draw(&n, stream, shape, values);
    return values;
}

/* Known answers of the generator's authors (Random123, kat_vectors, philox4x32 with 10 rounds). */
TEST(philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        { { 0 }, { 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { ~0u, ~0u, ~0u, ~0u },
          { ~0u, ~0u },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t got[4];

        noise_philox(cases[i].counter, cases[i].key, got);
        EXPECT(memcmp(got, cases[i].want, sizeof(got)) == 0);
    }
}

/* The same element has the same value whatever else is drawn with it. */
TEST(philox_values_depend_on_their_index_only)
{
    const struct noise_shape small = { 1, 1, 1, 5 }, large = { 1, 1, 1, 1003 };
    float *a = draw(NOISE_PHILOX, 9, 3, &small), *b = draw(NOISE_PHILOX, 9, 3, &large);

    EXPECT(memcmp(a, b, 5 * sizeof(float)) == 0);
    free(a);
    free(b);
}

TEST(philox_seeds_and_streams_differ)
{
    const struct noise_shape shape = { 1, 1, 1, 64 };
    float *a = draw(NOISE_PHILOX, 1, 0, &shape), *b = draw(NOISE_PHILOX, 1, 1, &shape);
    float *c = draw(NOISE_PHILOX, 2, 0, &shape), *d = draw(NOISE_PHILOX, 1ull << 40, 0, &shape);
    float *e = draw(NOISE_PHILOX, 0, 0, &shape);

    for (int i = 0; i < 64; i++)
        EXPECT(a[i] != b[i] && a[i] != c[i] && b[i] != c[i] && d[i] != e[i]);
    free(a);
    free(b);
    free(c);
    free(d);
    free(e);
}

/* Mean 0, variance 1, fourth moment 3, and no correlation between neighbours. */
static void expect_normal(const float *x, int64_t count)
{
    double mean = 0, variance = 0, fourth = 0, neighbours = 0, n = (double)count;

    for (int64_t i = 0; i < count; i++) {
        double v = x[i];

        mean += v;
        variance += v * v;
        fourth += v * v * v * v;
        neighbours += i ? v * (double)x[i - 1] : 0;
    }
    /* Six standard deviations of each estimate: 1, 2, 96 and 1 over the count. */
    EXPECT_NEAR(mean / n, 0, 6 * sqrt(1 / n));
    EXPECT_NEAR(variance / n, 1, 6 * sqrt(2 / n));
    EXPECT_NEAR(fourth / n, 3, 6 * sqrt(96 / n));
    EXPECT_NEAR(neighbours / n, 0, 6 * sqrt(1 / n));
}

TEST(values_are_normal)
{
    const struct noise_shape shape = { 1, 1, 1, 400000 };
    float *a = draw(NOISE_PHILOX, test_seed(), 7, &shape);
    float *b = draw(NOISE_TORCH, test_seed(), 7, &shape);

    expect_normal(a, 400000);
    expect_normal(b, 400000);
    free(a);
    free(b);
}

/* The order of values is [frame][channel][row][column] while memory has channels last. */
TEST(order_is_that_of_channels_first)
{
    const struct noise_shape flat = { 1, 1, 1, 2 * 3 * 4 * 5 }, shape = { 2, 3, 4, 5 };
    static const enum noise_kind kinds[] = { NOISE_PHILOX, NOISE_TORCH };

    for (int k = 0; k < 2; k++) {
        float *a = draw(kinds[k], 5, 0, &flat), *b = draw(kinds[k], 5, 0, &shape);

        for (int f = 0; f < 2; f++)
            for (int c = 0; c < 3; c++)
                for (int p = 0; p < 20; p++)
                    EXPECT(b[(f * 20 + p) * 3 + c] == a[(f * 3 + c) * 20 + p]);
        free(a);
        free(b);
    }
}

TEST(names)
{
    EXPECT_INT(noise_kind_from_name("philox"), NOISE_PHILOX);
    EXPECT_INT(noise_kind_from_name("torch"), NOISE_TORCH);
    EXPECT_INT(noise_kind_from_name("none"), NOISE_NONE);
    EXPECT_TEXT(noise_kind_name(NOISE_TORCH), "torch");
    EXPECT_TEXT(noise_kind_name(NOISE_PHILOX), "philox");
}
