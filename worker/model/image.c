/* DESIGN: both resizes are separable and linear, so each is two passes over a table of taps per
 * axis. image_resize has the fixed-point table and the 8-bit image in between that make it
 * bit-exact; image_clip_pixels has blur and bicubic multiplied into one table of doubles, and so
 * never makes a blurred image of the photograph's size. */
#include "worker/model/image.h"

#include <math.h>
#include <string.h>

#include "common/base/check.h"

#define RGB 3
#define PI 3.14159265358979323846

static size_t rounded(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

/* --- Lanczos ---------------------------------------------------------------------------------- */

/* Bits behind the point of a coefficient: 32 less 8 for the pixel and 2 for the overshoot. */
#define FIXED_BITS 22

/* Taps of one axis: pixel i is made of count[i] source pixels from first[i] on. */
struct lanczos {
    int64_t out;     /* pixels made */
    int64_t taps;    /* row length of weight */
    int32_t *first;  /* [out] */
    int32_t *count;  /* [out] */
    int32_t *weight; /* [out][taps], FIXED_BITS behind the point */
    double *row;     /* [taps], scratch */
};

static int64_t lanczos_taps(int64_t in, int64_t out)
{
    double scale = (double)in / (double)out;

    return 2 * (int64_t)ceil(3 * (scale < 1 ? 1 : scale)) + 1;
}

static size_t lanczos_bytes(int64_t in, int64_t out)
{
    size_t taps = (size_t)lanczos_taps(in, out), n = (size_t)out;

    return 2 * rounded(n * sizeof(int32_t)) + rounded(n * taps * sizeof(int32_t)) +
           rounded(taps * sizeof(double));
}

static double sinc(double x)
{
    return x == 0 ? 1 : sin(x * PI) / (x * PI);
}

static double lanczos3(double x)
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

/* Taps of output pixel i. CAREFUL: each rounding and each division is where Pillow has it. */
static void lanczos_row(struct lanczos *l, int64_t in, int64_t i)
{
    double scale = (double)in / (double)l->out, filter = scale < 1 ? 1 : scale;
    double support = 3 * filter, step = 1 / filter, center = ((double)i + 0.5) * scale, sum = 0;
    int32_t first = (int32_t)(center - support + 0.5), last = (int32_t)(center + support + 0.5);
    int32_t *weight = l->weight + i * l->taps;

    first = first < 0 ? 0 : first;
    last = last > in ? (int32_t)in : last;
    l->first[i] = first;
    l->count[i] = last - first;
    for (int32_t t = 0; t < last - first; t++) {
        l->row[t] = lanczos3(((double)(t + first) - center + 0.5) * step);
        sum += l->row[t];
    }
    for (int32_t t = 0; t < last - first; t++) {
        double fixed = (sum != 0 ? l->row[t] / sum : l->row[t]) * (1 << FIXED_BITS);

        weight[t] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
}

static status lanczos_open(struct lanczos *l, int64_t in, int64_t out, struct arena *scratch)
{
    status st;
    size_t n = (size_t)out;
    void *p[4];

    *l = (struct lanczos){ .out = out, .taps = lanczos_taps(in, out) };
    TRY(arena_take(scratch, n * sizeof(int32_t), &p[0]));
    TRY(arena_take(scratch, n * sizeof(int32_t), &p[1]));
    TRY(arena_take(scratch, n * (size_t)l->taps * sizeof(int32_t), &p[2]));
    TRY(arena_take(scratch, (size_t)l->taps * sizeof(double), &p[3]));
    l->first = p[0];
    l->count = p[1];
    l->weight = p[2];
    l->row = p[3];
    for (int64_t i = 0; i < out; i++)
        lanczos_row(l, in, i);
out:
    return st;
}

static uint8_t clip8(int32_t fixed)
{
    int32_t v = fixed >> FIXED_BITS;

    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

/* One output pixel from taps that lie stride bytes apart. */
static void lanczos_pixel(uint8_t *dst, const uint8_t *src, int64_t stride, const int32_t *weight,
                          int32_t count)
{
    int32_t r = 1 << (FIXED_BITS - 1), g = r, b = r;

    for (int32_t t = 0; t < count; t++, src += stride) {
        r += weight[t] * src[0];
        g += weight[t] * src[1];
        b += weight[t] * src[2];
    }
    dst[0] = clip8(r);
    dst[1] = clip8(g);
    dst[2] = clip8(b);
}

/* [height][src width] -> [height][l->out]. */
static void lanczos_across(uint8_t *dst, const struct image *src, const struct lanczos *l)
{
    for (int64_t y = 0; y < src->height; y++) {
        const uint8_t *row = src->rgb + y * src->width * RGB;

        for (int64_t x = 0; x < l->out; x++, dst += RGB)
            lanczos_pixel(dst, row + l->first[x] * RGB, RGB, l->weight + x * l->taps, l->count[x]);
    }
}

/* [src height][width] -> [l->out][width]. */
static void lanczos_down(uint8_t *dst, const struct image *src, const struct lanczos *l)
{
    const int64_t stride = src->width * RGB;

    for (int64_t y = 0; y < l->out; y++) {
        const uint8_t *column = src->rgb + l->first[y] * stride;

        for (int64_t x = 0; x < src->width; x++, dst += RGB, column += RGB)
            lanczos_pixel(dst, column, stride, l->weight + y * l->taps, l->count[y]);
    }
}

/* Which axis goes first changes the rounding in between. Pillow 13 takes the rows when that pass
 * removes more than twice as many rows as the other removes columns; measured on 400 shapes. */
static bool is_down_first(const struct image *src, int64_t width, int64_t height)
{
    return height < src->height && src->height - height > 2 * (src->width - width);
}

size_t image_resize_scratch(const struct image *src, int64_t width, int64_t height)
{
    int64_t between = is_down_first(src, width, height) ? height * src->width : src->height * width;

    return lanczos_bytes(src->width, width) + lanczos_bytes(src->height, height) +
           rounded((size_t)(between * RGB));
}

/* One pass: dst becomes *at with another width, or with another height. */
static status lanczos_pass(uint8_t *dst, struct image *at, int64_t size, bool is_down,
                           struct arena *scratch)
{
    status st;
    struct lanczos l;

    TRY(lanczos_open(&l, is_down ? at->height : at->width, size, scratch));
    if (is_down) {
        lanczos_down(dst, at, &l);
        at->height = size;
    } else {
        lanczos_across(dst, at, &l);
        at->width = size;
    }
    at->rgb = dst;
out:
    return st;
}

status image_resize(const struct image *src, uint8_t *dst, int64_t width, int64_t height,
                    struct arena *scratch)
{
    status st = OK;
    struct image at = *src;
    const bool down_first = is_down_first(src, width, height);
    const bool changes_width = width != src->width, changes_height = height != src->height;
    void *between = dst;
    size_t mark = arena_mark(scratch);

    CHECK(src->width > 0 && src->height > 0 && width > 0 && height > 0);
    if (!changes_width && !changes_height)
        memcpy(dst, src->rgb, (size_t)(width * height * RGB));
    if (changes_width && changes_height)
        TRY(arena_take(scratch,
                       (size_t)((down_first ? height * src->width : src->height * width) * RGB),
                       &between));
    if (changes_height && down_first)
        TRY(lanczos_pass(changes_width ? between : dst, &at, height, true, scratch));
    if (changes_width)
        TRY(lanczos_pass(changes_height && !down_first ? between : dst, &at, width, false,
                         scratch));
    if (changes_height && !down_first)
        TRY(lanczos_pass(dst, &at, height, true, scratch));
out:
    arena_release(scratch, mark);
    return st;
}

/* --- 8 bit and float -------------------------------------------------------------------------- */

void image_to_signed(const uint8_t *src, float *dst, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        dst[i] = 2 * ((float)src[i] / 255) - 1;
}

void image_from_signed(const float *src, uint8_t *dst, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float v = src[i] / 2 + 0.5f;

        v = v > 0 ? v : 0; /* NaN as well */
        v = v < 1 ? v : 1;
        dst[i] = (uint8_t)rintf(v * 255);
    }
}

/* --- CLIP's pixels ---------------------------------------------------------------------------- */

/* Taps of one axis: blur and bicubic interpolation in one. */
struct blend {
    int64_t taps;   /* row length */
    int32_t *index; /* [out][taps]: source pixel */
    double *weight; /* [out][taps] */
};

/* Standard deviation and taps of the blur. Source: _resize_with_antialiasing. */
static double blur_sigma(int64_t in, int64_t out)
{
    double sigma = ((double)in / (double)out - 1) / 2;

    return sigma > 0.001 ? sigma : 0.001;
}

static int64_t blur_taps(int64_t in, int64_t out)
{
    double taps = 4 * blur_sigma(in, out);

    return (int64_t)(taps > 3 ? taps : 3) | 1;
}

static int64_t blend_taps(int64_t in, int64_t out)
{
    return blur_taps(in, out) + 3;
}

static size_t blend_bytes(int64_t in, int64_t out)
{
    size_t n = (size_t)(out * blend_taps(in, out));

    return rounded(n * sizeof(int32_t)) + rounded(n * sizeof(double)) +
           rounded((size_t)blur_taps(in, out) * sizeof(double));
}

/* Reflection without repeating the border pixel: .. 2 1 [0 1 2 .. n-1] n-2 .. */
static int64_t reflect(int64_t i, int64_t n)
{
    int64_t period = 2 * (n - 1);

    if (n == 1)
        return 0;
    i = (i % period + period) % period;
    return i < n ? i : period - i;
}

static int64_t clamp(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

/* Weights of the four neighbours at distance t behind the second. Keys 1981 with a = -0.75. */
static void cubic_weights(double t, double w[4])
{
    const double a = -0.75;
    const double far[2] = { t + 1, 2 - t }, near[2] = { t, 1 - t };

    for (int i = 0; i < 2; i++) {
        double f = far[i], n = near[i];

        w[3 * i] = ((a * f - 5 * a) * f + 8 * a) * f - 4 * a;
        w[1 + i] = ((a + 2) * n - (a + 3)) * n * n + 1;
    }
}

static void blend_row(struct blend *b, const double *blur, int64_t blur_count, int64_t in,
                      double at[2], int64_t row)
{
    const int64_t start = (int64_t)at[0] - 1, pad = blur_count / 2;
    int32_t *index = b->index + row * b->taps;
    double *weight = b->weight + row * b->taps, cubic[4];

    cubic_weights(at[1], cubic);
    for (int64_t t = 0; t < b->taps; t++) {
        index[t] = (int32_t)reflect(start - pad + t, in);
        weight[t] = 0;
    }
    for (int64_t k = 0; k < 4; k++) {
        int64_t shift = clamp(start + k, in) - start;

        for (int64_t t = 0; t < blur_count; t++)
            weight[shift + t] += cubic[k] * blur[t];
    }
}

static status blend_open(struct blend *b, int64_t in, int64_t out, struct arena *scratch)
{
    status st;
    const int64_t blur_count = blur_taps(in, out);
    const double sigma = blur_sigma(in, out);
    /* CAREFUL: float, as torch computes the place of an output pixel. */
    const float scale = out > 1 ? (float)(in - 1) / (float)(out - 1) : 0;
    double sum = 0, *blur;
    size_t n;
    void *p[3];

    b->taps = blend_taps(in, out);
    n = (size_t)(out * b->taps);
    TRY(arena_take(scratch, n * sizeof(int32_t), &p[0]));
    TRY(arena_take(scratch, n * sizeof(double), &p[1]));
    TRY(arena_take(scratch, (size_t)blur_count * sizeof(double), &p[2]));
    b->index = p[0];
    b->weight = p[1];
    blur = p[2];
    for (int64_t t = 0; t < blur_count; t++) {
        double x = (double)(t - blur_count / 2) / sigma;

        blur[t] = exp(-x * x / 2);
        sum += blur[t];
    }
    for (int64_t t = 0; t < blur_count; t++)
        blur[t] /= sum;
    for (int64_t i = 0; i < out; i++) {
        float place = scale * (float)i;
        int64_t whole = clamp((int64_t)place, in);
        double at[2] = { (double)whole, (double)(place - (float)whole) };

        blend_row(b, blur, blur_count, in, at, i);
    }
out:
    return st;
}

/* dst[i][c] = sum over taps of weight * src[index * stride + c], for i < count. */
static void blend_line(float *dst, int64_t dst_stride, const float *src, int64_t src_stride,
                       const struct blend *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++, dst += dst_stride) {
        const int32_t *index = b->index + i * b->taps;
        const double *weight = b->weight + i * b->taps;
        double sum[RGB] = { 0 };

        for (int64_t t = 0; t < b->taps; t++) {
            const float *p = src + index[t] * src_stride;

            for (int c = 0; c < RGB; c++)
                sum[c] += weight[t] * (double)p[c];
        }
        for (int c = 0; c < RGB; c++)
            dst[c] = (float)sum[c];
    }
}

size_t image_clip_scratch(const struct image *src, const struct clip_config *config)
{
    const int64_t out = config->image;

    return blend_bytes(src->width, out) + blend_bytes(src->height, out) +
           rounded((size_t)(src->width * RGB) * sizeof(float)) +
           rounded((size_t)(src->height * out * RGB) * sizeof(float));
}

status image_clip_pixels(const struct image *src, const struct clip_config *config,
                         float *pixel_values, struct arena *scratch)
{
    status st;
    const int64_t out = config->image, row_floats = out * RGB;
    struct blend across, down;
    void *line = NULL, *between = NULL;
    size_t mark = arena_mark(scratch);

    CHECK(src->width > 0 && src->height > 0 && out > 0);
    TRY(blend_open(&across, src->width, out, scratch));
    TRY(blend_open(&down, src->height, out, scratch));
    TRY(arena_take(scratch, (size_t)(src->width * RGB) * sizeof(float), &line));
    TRY(arena_take(scratch, (size_t)(src->height * row_floats) * sizeof(float), &between));
    for (int64_t y = 0; y < src->height; y++) {
        image_to_signed(src->rgb + y * src->width * RGB, line, src->width * RGB);
        blend_line((float *)between + y * row_floats, RGB, line, RGB, &across, out);
    }
    for (int64_t x = 0; x < out; x++)
        blend_line(pixel_values + x * RGB, row_floats, (float *)between + x * RGB, row_floats,
                   &down, out);
    for (int64_t i = 0; i < out * row_floats; i++) {
        float x = (pixel_values[i] + 1) / 2;

        pixel_values[i] = (x - config->pixel_mean[i % RGB]) / config->pixel_std[i % RGB];
    }
out:
    arena_release(scratch, mark);
    return st;
}
