/* DESIGN: a convolution is the matrix product of [pixels][taps * ci] with [co][taps * ci]^T. The
 * left matrix is never whole: cpu_gemm asks for blocks of it, and they are copied together here
 * from the input, tap by tap, with zeros where a tap looks into the padding.
 *
 * A 3x3 convolution of an image resampled to exactly twice its size sees every source pixel several
 * times. Output pixels of one parity (row, column) see only 2x2 source pixels, with the sums of the
 * weights that fall on each: four convolutions with 2x2 taps do the work of one with 3x3, 4/9 of
 * it. */
#include <string.h>

#include "kernels/cpu/cpu_priv.h"

/* dst = floats start .. start+count-1 of a row of `length` floats, zero where there is no row
 * (NULL) or outside it. */
static void put(float *dst, const float *row, int64_t length, int64_t start, int64_t count)
{
    int64_t before, inside;

    if (!row) {
        memset(dst, 0, (size_t)count * sizeof(float));
        return;
    }
    if (start >= 0 && start + count <= length) {
        memcpy(dst, row + start, (size_t)count * sizeof(float));
        return;
    }
    before = start < 0 ? cpu_min(-start, count) : 0;
    inside = cpu_min(length - start, count) - before;
    inside = inside > 0 ? inside : 0;
    memset(dst, 0, (size_t)count * sizeof(float));
    memcpy(dst + before, row + start + before, (size_t)inside * sizeof(float));
}

/* Row ih of up(x) in image n, NULL where that is padding. */
static const float *input_row(const struct kern_conv2d *a, int64_t n, int64_t ih)
{
    const struct tensor *x = &a->x;

    if (ih < 0 || ih >= (a->up_h ? a->up_h : x->h))
        return NULL;
    if (a->up_h)
        ih = ih * x->h / a->up_h;
    return (const float *)x->data + (n * x->h + ih) * x->w * x->c;
}

/* Columns k .. k+count-1 of A, which lie side by side in the input, for the rows of a block: they
 * belong to one tap, or without resampling to one row of taps. */
static void conv2d_fill_run(const struct kern_conv2d *a, const struct cpu_block *at, int64_t k,
                            int64_t count, float *block)
{
    int64_t ci = a->x.c, tap = k / ci, kw = a->layer->kw;
    int64_t r = tap / kw - a->pad_top, s = tap % kw - a->pad_left, c0 = k % ci;
    int64_t ow = at->m0 % a->y.w, oh = at->m0 / a->y.w % a->y.h, n = at->m0 / a->y.w / a->y.h;

    for (int64_t i = 0; i < at->rows; i++) {
        const float *row = input_row(a, n, oh * a->stride + r);
        int64_t iw = ow * a->stride + s;

        if (a->up_h) {
            row = iw >= 0 && iw < a->up_w ? row : NULL;
            iw = iw * a->x.w / a->up_w;
        }
        put(block + i * CPU_PITCH, row, a->x.w * ci, iw * ci + c0, count);
        if (++ow < a->y.w)
            continue;
        ow = 0;
        if (++oh < a->y.h)
            continue;
        oh = 0;
        n++;
    }
}

/* source: struct kern_conv2d. */
static void conv2d_fill(const void *source, const struct cpu_block *at, float *block)
{
    const struct kern_conv2d *a = source;
    int64_t run = a->up_h ? a->x.c : a->layer->kw * a->x.c;
    int64_t end = at->k0 + at->depth, count;

    for (int64_t k = at->k0; k < end; k += count) {
        count = cpu_min(run - k % run, end - k);
        conv2d_fill_run(a, at, k, count, block + (k - at->k0));
    }
}

/* One of the four parities of output pixels. */
struct phase {
    const struct kern_conv2d *a;
    int row, column; /* 0 or 1 */
};

/* The 3x3 taps along one axis that fall on tap t (0, 1) of a phase of parity p: first, and how
 * many. Tap k of output 2 i + p looks at source floor((2 i + p - 1 + k) / 2); tap t at i + p - 1 +
 * t. */
static int phase_taps(int p, int t, int *count)
{
    bool is_pair = p != t; /* p = 0: {0} {1, 2}; p = 1: {0, 1} {2} */

    *count = is_pair ? 2 : 1;
    return t == 0 ? 0 : p == 0 ? 1 : 2;
}

/* Weights [2][2][ci] of one output channel. source: struct phase. */
static void phase_fold(const void *source, int64_t column, float *dst)
{
    const struct phase *f = source;
    int64_t ci = f->a->x.c;
    const struct conv *layer = f->a->layer;
    float weight[CPU_AFFINE_FLOATS / 2];

    memset(dst, 0, (size_t)(4 * ci) * sizeof(float));
    for (int t = 0; t < 4; t++) {
        int rows, columns, row0 = phase_taps(f->row, t / 2, &rows);
        int column0 = phase_taps(f->column, t % 2, &columns);

        for (int r = row0; r < row0 + rows; r++) {
            for (int s = column0; s < column0 + columns; s++) {
                kern_widen(weight, layer->weight, layer->dtype, (column * 9 + r * 3 + s) * ci, ci);
                for (int64_t i = 0; i < ci; i++)
                    dst[t * ci + i] += weight[i];
            }
        }
    }
}

/* source: struct phase. Row m of A is source pixel m and what its output pixel sees around it. */
static void phase_fill(const void *source, const struct cpu_block *at, float *block)
{
    const struct phase *f = source;
    struct kern_conv2d a = *f->a;
    const struct conv taps = { .ci = a.x.c, .kh = 2, .kw = 2 };

    a.layer = &taps;
    a.up_h = a.up_w = 0;
    a.y.h = a.x.h;
    a.y.w = a.x.w;
    a.pad_top = 1 - f->row;
    a.pad_left = 1 - f->column;
    conv2d_fill(&a, at, block);
}

static bool has_phases(const struct kern_conv2d *a)
{
    return a->up_h == 2 * a->x.h && a->up_w == 2 * a->x.w && a->layer->kh == 3 &&
           a->layer->kw == 3 && a->stride == 1 && a->pad_top == 1 && a->pad_left == 1 &&
           a->pad_bottom == 1 && a->pad_right == 1 && 4 * a->x.c <= CPU_FOLD_MAX &&
           2 * a->x.c <= CPU_AFFINE_FLOATS;
}

static status conv2d_phases(struct kern_ctx *ctx, const struct kern_conv2d *a)
{
    status st = OK;

    for (int i = 0; i < 4 && st == OK; i++) {
        struct phase f = { .a = a, .row = i / 2, .column = i % 2 };
        int64_t offset = (f.row * a->y.w + f.column) * a->y.c;
        struct cpu_gemm g = { .fill = phase_fill,
                              .fold = phase_fold,
                              .source = &f,
                              .m = cpu_rows(&a->x),
                              .k = 4 * a->x.c,
                              .e = { .bias = a->layer->bias,
                                     .add = a->add,
                                     .y = (float *)a->y.data + offset,
                                     .n = a->layer->co,
                                     .spread_w = a->x.w,
                                     .scale = a->scale } };

        if (a->residual.data)
            g.e.residual = (const float *)a->residual.data + offset;
        st = cpu_gemm_run(cpu_ctx_of(ctx), &g);
    }
    return st;
}

status cpu_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *a)
{
    struct cpu_gemm g = { .fill = conv2d_fill,
                          .source = a,
                          .weight = a->layer->weight,
                          .dtype = a->layer->dtype,
                          .m = cpu_rows(&a->y),
                          .k = a->layer->kh * a->layer->kw * a->layer->ci,
                          .e = { .bias = a->layer->bias,
                                 .add = a->add,
                                 .residual = a->residual.data,
                                 .y = a->y.data,
                                 .n = a->layer->co,
                                 .scale = a->scale } };

    if (has_phases(a))
        return conv2d_phases(ctx, a);
    return cpu_gemm_run(cpu_ctx_of(ctx), &g);
}

/* The input of a temporal convolution. */
struct clip {
    const struct cpu_isa *isa;
    const struct tensor *x;
    const float *affine; /* [factor, shift][c] of the norm in front, or NULL */
};

/* Channels c0 .. c0+count-1 of pixel `row` of the clip, normalised if the layer wants it. */
static void put_pixel(const struct clip *clip, float *dst, int64_t row, int64_t c0, int64_t count)
{
    const float *x = (const float *)clip->x->data + row * clip->x->c + c0;

    if (clip->affine)
        clip->isa->affine(dst, x, clip->affine + c0, clip->affine + clip->x->c + c0, count, true);
    else
        memcpy(dst, x, (size_t)count * sizeof(float));
}

/* source: struct clip. Row m of A is pixel m of the clip: frames t-1, t, t+1. */
static void temporal_fill(const void *source, const struct cpu_block *at, float *block)
{
    const struct clip *clip = source;
    const struct tensor *x = clip->x;
    int64_t pixels = x->h * x->w, all = x->n * pixels, end = at->k0 + at->depth, count;

    for (int64_t k = at->k0; k < end; k += count) {
        int64_t tap = k / x->c, c0 = k % x->c;

        count = cpu_min(x->c - c0, end - k);
        for (int64_t i = 0; i < at->rows; i++) {
            int64_t row = at->m0 + i + (tap - 1) * pixels;
            float *dst = block + (k - at->k0) + i * CPU_PITCH;

            if (row >= 0 && row < all)
                put_pixel(clip, dst, row, c0, count);
            else
                memset(dst, 0, (size_t)count * sizeof(float));
        }
    }
}

status cpu_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *a)
{
    status st = OK;
    struct clip clip = { .isa = cpu_ctx_of(ctx)->isa, .x = &a->x };
    struct cpu_gemm g = { .fill = temporal_fill,
                          .source = &clip,
                          .weight = a->layer->weight,
                          .dtype = a->layer->dtype,
                          .m = cpu_rows(&a->x),
                          .k = 3 * a->layer->ci,
                          .e = { .bias = a->layer->bias,
                                 .add = a->add,
                                 .residual = a->residual.data,
                                 .y = a->y.data,
                                 .n = a->layer->co,
                                 .scale = a->scale } };

    if (a->norm)
        TRY(cpu_clip_affine(cpu_ctx_of(ctx), &a->x, a->norm, &clip.affine));
    TRY(cpu_gemm_run(cpu_ctx_of(ctx), &g));
out:
    return st;
}
