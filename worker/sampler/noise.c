#include "worker/sampler/noise.h"

#include <math.h>
#include <string.h>

#include "common/base/check.h"

#define TWO_PI 6.283185307179586

/* --- Philox4x32-10 ---------------------------------------------------------------------------- */

void noise_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4], k[2] = { key[0], key[1] };

    memcpy(c, counter, sizeof(c));
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c[0], p1 = (uint64_t)0xcd9e8d57u * c[2];

        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k[0];
        c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k[1];
        c[3] = (uint32_t)p0;
        k[0] += 0x9e3779b9u;
        k[1] += 0xbb67ae85u;
    }
    memcpy(out, c, sizeof(c));
}

/* Two uniform words to two normal values; the half keeps the logarithm away from 0. */
static void box_muller(uint32_t a, uint32_t b, float out[2])
{
    double radius = sqrt(-2 * log(((double)a + 0.5) * 0x1p-32));
    double angle = TWO_PI * ((double)b + 0.5) * 0x1p-32;

    out[0] = (float)(radius * cos(angle));
    out[1] = (float)(radius * sin(angle));
}

/* Values 4 * block .. 4 * block + 3 of a stream. */
static void philox_block(uint64_t seed, uint32_t stream, uint64_t block, float out[4])
{
    const uint32_t counter[4] = { (uint32_t)block, (uint32_t)(block >> 32), stream, 0 };
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t words[4];

    noise_philox(counter, key, words);
    box_muller(words[0], words[1], out);
    box_muller(words[2], words[3], out + 2);
}

/* --- torch's generator on the CPU ------------------------------------------------------------- */

/* MT19937. Source: Matsumoto and Nishimura 1998, initialisation of 2002. */
static void twister_seed(struct noise *n, uint32_t seed)
{
    n->state[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        n->state[i] = 1812433253u * (n->state[i - 1] ^ n->state[i - 1] >> 30) + i;
    n->state_index = 624;
}

static void twister_refill(struct noise *n)
{
    uint32_t *s = n->state;

    for (int i = 0; i < 624; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);

        s[i] = s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    n->state_index = 0;
}

static uint32_t twister_word(struct noise *n)
{
    uint32_t y;

    if (n->state_index == 624)
        twister_refill(n);
    y = n->state[n->state_index++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Uniform in [0,1) with 24 and with 53 bits. Source: TransformationHelper.h uniform_real. */
static float uniform24(struct noise *n)
{
    return (float)(twister_word(n) & 0xffffffu) * 0x1p-24f;
}

static double uniform53(struct noise *n)
{
    uint64_t high = twister_word(n), low = twister_word(n);

    return (double)((high << 32 | low) & 0x1fffffffffffffu) * 0x1p-53;
}

/* One value, for draws of fewer than 16. Source: DistributionsHelper.h normal_distribution. */
static float torch_single(struct noise *n)
{
    double u, radius, angle;

    if (n->has_cached) {
        n->has_cached = false;
        return (float)n->cached;
    }
    u = uniform53(n);
    radius = sqrt(-2 * log1p(-uniform53(n)));
    angle = TWO_PI * u;
    n->cached = radius * sin(angle);
    n->has_cached = true;
    return (float)(radius * cos(angle));
}

/* Sixteen values from sixteen uniform ones. Source: DistributionTemplates.h normal_fill_16. */
static void torch_sixteen(const float uniform[16], float out[16])
{
    for (int i = 0; i < 8; i++) {
        double radius = sqrt(-2 * log((double)(1 - uniform[i])));
        /* CAREFUL: torch rounds the angle to float, and that alone moves values by 1e-6. */
        float angle = (float)TWO_PI * uniform[i + 8];

        out[i] = (float)(radius * cos((double)angle));
        out[i + 8] = (float)(radius * sin((double)angle));
    }
}

/* --- draws ------------------------------------------------------------------------------------ */

/* Where element index of [frames][channels][height][width] lies in
 * [frames][height][width][channels]. */
static int64_t place(const struct noise_shape *shape, int64_t index)
{
    int64_t pixels = shape->height * shape->width, c = shape->channels;
    int64_t plane = index / pixels, pixel = index % pixels;

    return (plane / c * pixels + pixel) * c + plane % c;
}

static void store(float *dst, const struct noise_shape *shape, int64_t first, const float *values,
                  int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        dst[place(shape, first + i)] = values[i];
}

static void draw_philox(const struct noise *n, uint32_t stream, const struct noise_shape *shape,
                        int64_t count, float *dst)
{
    float values[4];

    for (int64_t i = 0; i < count; i += 4) {
        philox_block(n->seed, stream, (uint64_t)i / 4, values);
        store(dst, shape, i, values, count - i < 4 ? count - i : 4);
    }
}

/* CAREFUL: torch fills the whole tensor with uniform values before it makes them normal sixteen by
 * sixteen; when the count is no multiple of 16 it draws sixteen more for the last sixteen. */
static void draw_torch(struct noise *n, const struct noise_shape *shape, int64_t count, float *dst)
{
    float uniform[16], values[16];

    if (count < 16) {
        for (int64_t i = 0; i < count; i++)
            dst[place(shape, i)] = torch_single(n);
        return;
    }
    for (int64_t i = 0; i < count; i += 16) {
        int64_t here = count - i < 16 ? count - i : 16;

        for (int64_t j = 0; j < here; j++)
            uniform[j] = uniform24(n);
        if (here < 16)
            break;
        torch_sixteen(uniform, values);
        store(dst, shape, i, values, 16);
    }
    if (count % 16 == 0)
        return;
    for (int i = 0; i < 16; i++)
        uniform[i] = uniform24(n);
    torch_sixteen(uniform, values);
    store(dst, shape, count - 16, values, 16);
}

static const char *const kind_names[] = { "none", "philox", "torch" };

enum noise_kind noise_kind_from_name(const char *name)
{
    if (strcmp(name, kind_names[NOISE_PHILOX]) == 0)
        return NOISE_PHILOX;
    if (strcmp(name, kind_names[NOISE_TORCH]) == 0)
        return NOISE_TORCH;
    return NOISE_NONE;
}

const char *noise_kind_name(enum noise_kind kind)
{
    CHECK((unsigned)kind <= NOISE_TORCH);
    return kind_names[kind];
}

void noise_init(struct noise *noise, enum noise_kind kind, uint64_t seed)
{
    CHECK(kind == NOISE_PHILOX || kind == NOISE_TORCH);
    *noise = (struct noise){ .kind = kind, .seed = seed };
    /* torch seeds its generator with the low half of the number. */
    twister_seed(noise, (uint32_t)seed);
}

void noise_draw(struct noise *noise, uint32_t stream, const struct noise_shape *shape, float *dst)
{
    int64_t count = shape->frames * shape->channels * shape->height * shape->width;

    CHECK(shape->frames > 0 && shape->channels > 0 && shape->height > 0 && shape->width > 0);
    switch (noise->kind) {
    case NOISE_PHILOX:
        draw_philox(noise, stream, shape, count, dst);
        return;
    case NOISE_TORCH:
        draw_torch(noise, shape, count, dst);
        return;
    case NOISE_NONE:
        break;
    }
    CHECK(!"a generator was chosen");
}
