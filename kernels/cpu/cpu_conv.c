/* DESIGN: a convolution is the matrix product of [pixels][taps * ci] with [co][taps * ci]^T. The
 * left matrix is never whole: cpu_gemm asks for blocks of it, and they are copied together here
 * from the input, tap by tap, with zeros where a tap looks into the padding. */
#include <string.h>

#include "kernels/cpu/cpu_priv.h"

/* Copy or clear `count` floats. */
static void put(float *dst, const float *src, int64_t count)
{
    if (src)
        memcpy(dst, src, (size_t)count * sizeof(float));
    else
        memset(dst, 0, (size_t)count * sizeof(float));
}

/* Row (ih, iw) of up(x) in image n, NULL where that is padding. */
static const float *conv2d_source(const struct kern_conv2d *a, int64_t n, int64_t ih, int64_t iw)
{
    const struct tensor *x = &a->x;

    if (a->up_h) {
        if (ih < 0 || ih >= a->up_h || iw < 0 || iw >= a->up_w)
            return NULL;
        ih = ih * x->h / a->up_h;
        iw = iw * x->w / a->up_w;
    } else if (ih < 0 || ih >= x->h || iw < 0 || iw >= x->w) {
        return NULL;
    }
    return (const float *)x->data + ((n * x->h + ih) * x->w + iw) * x->c;
}

/* Channels c0 .. c0+count-1 of one tap for the rows (output pixels) of a block. */
static void conv2d_fill_tap(const struct kern_conv2d *a, const struct cpu_block *at, int64_t k,
                            int64_t count, float *block)
{
    int64_t tap = k / a->x.c, c0 = k % a->x.c;
    int64_t r = tap / a->layer->kw - a->pad_top, s = tap % a->layer->kw - a->pad_left;
    int64_t ow = at->m0 % a->y.w, oh = at->m0 / a->y.w % a->y.h, n = at->m0 / a->y.w / a->y.h;

    for (int64_t i = 0; i < at->rows; i++) {
        const float *x = conv2d_source(a, n, oh * a->stride + r, ow * a->stride + s);

        put(block + i * CPU_PITCH, x ? x + c0 : NULL, count);
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
    int64_t end = at->k0 + at->depth, count;

    for (int64_t k = at->k0; k < end; k += count) {
        count = cpu_min(a->x.c - k % a->x.c, end - k);
        conv2d_fill_tap(a, at, k, count, block + (k - at->k0));
    }
}

status cpu_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *a)
{
    struct cpu_gemm g = { .fill = conv2d_fill,
                          .source = a,
                          .weight = a->layer->weight,
                          .m = cpu_rows(&a->y),
                          .k = a->layer->kh * a->layer->kw * a->layer->ci,
                          .e = { .bias = a->layer->bias,
                                 .add = a->add,
                                 .residual = a->residual.data,
                                 .y = a->y.data,
                                 .n = a->layer->co,
                                 .scale = a->scale } };

    return cpu_gemm_run(cpu_ctx_of(ctx), &g);
}

/* source: struct tensor, the input clip. Row m of A is pixel m of the clip: frames t-1, t, t+1. */
static void temporal_fill(const void *source, const struct cpu_block *at, float *block)
{
    const struct tensor *x = source;
    int64_t pixels = x->h * x->w, all = x->n * pixels, end = at->k0 + at->depth, count;

    for (int64_t k = at->k0; k < end; k += count) {
        int64_t tap = k / x->c, c0 = k % x->c;

        count = cpu_min(x->c - c0, end - k);
        for (int64_t i = 0; i < at->rows; i++) {
            int64_t row = at->m0 + i + (tap - 1) * pixels;
            bool is_inside = row >= 0 && row < all;

            put(block + (k - at->k0) + i * CPU_PITCH,
                is_inside ? (const float *)x->data + row * x->c + c0 : NULL, count);
        }
    }
}

status cpu_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *a)
{
    struct cpu_gemm g = { .fill = temporal_fill,
                          .source = &a->x,
                          .weight = a->layer->weight,
                          .m = cpu_rows(&a->x),
                          .k = 3 * a->layer->ci,
                          .e = { .bias = a->layer->bias,
                                 .add = a->add,
                                 .residual = a->residual.data,
                                 .y = a->y.data,
                                 .n = a->layer->co,
                                 .scale = a->scale } };

    return cpu_gemm_run(cpu_ctx_of(ctx), &g);
}
