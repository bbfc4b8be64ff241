#include <string.h>

#include "kernels/ref/ref_priv.h"

/* sums[o] += W[o][tap] . x for one tap. */
static void tap_add(double *sums, const struct conv *l, int64_t tap, const float *x)
{
    int64_t taps = (int64_t)l->kh * l->kw;

    for (int64_t o = 0; o < l->co; o++)
        sums[o] += ref_dot_weight(x, l->weight, l->dtype, (o * taps + tap) * l->ci, l->ci);
}

/* What both convolutions do with the sums of one output pixel. */
struct epilogue {
    const struct conv *layer;
    const float *add;      /* [co] or NULL */
    const float *residual; /* whole tensor or NULL; may be y */
    float *y;              /* whole tensor */
    float scale;
};

static void pixel_finish(const struct epilogue *e, const double *sums, int64_t pixel)
{
    int64_t co = e->layer->co;
    float *y = e->y + pixel * co;
    const float *residual = e->residual ? e->residual + pixel * co : NULL;

    for (int64_t o = 0; o < co; o++) {
        double v = sums[o];

        v += e->layer->bias ? e->layer->bias[o] : 0;
        v += e->add ? e->add[o] : 0;
        y[o] = (float)(e->scale * v + (residual ? residual[o] : 0));
    }
}

/* Row (ih, iw) of up(x) in image n, NULL where that is padding. */
static const float *conv2d_source(const struct kern_conv2d *a, int64_t n, int64_t ih, int64_t iw)
{
    const struct tensor *x = &a->x;
    int64_t rows = a->up_h ? a->up_h : x->h, columns = a->up_h ? a->up_w : x->w;

    if (ih < 0 || ih >= rows || iw < 0 || iw >= columns)
        return NULL;
    if (a->up_h) {
        ih = ih * x->h / rows;
        iw = iw * x->w / columns;
    }
    return (const float *)x->data + ((n * x->h + ih) * x->w + iw) * x->c;
}

/* sums = the convolution at output pixel (n, oh, ow), without bias. */
static void conv2d_sums(const struct kern_conv2d *a, double *sums, int64_t n, int64_t oh,
                        int64_t ow)
{
    const struct conv *l = a->layer;

    memset(sums, 0, (size_t)l->co * sizeof(double));
    for (int r = 0; r < l->kh; r++) {
        for (int s = 0; s < l->kw; s++) {
            const float *x = conv2d_source(a, n, oh * a->stride - a->pad_top + r,
                                           ow * a->stride - a->pad_left + s);

            if (x)
                tap_add(sums, l, r * l->kw + s, x);
        }
    }
}

status ref_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *a)
{
    struct epilogue e = { a->layer, a->add, a->residual.data, a->y.data, a->scale };
    double *sums = NULL;
    status st = ref_scratch(ctx, a->layer->co, &sums);
    int64_t pixel = 0;

    if (st != OK)
        return st;
    for (int64_t n = 0; n < a->y.n; n++) {
        for (int64_t oh = 0; oh < a->y.h; oh++) {
            for (int64_t ow = 0; ow < a->y.w; ow++) {
                conv2d_sums(a, sums, n, oh, ow);
                pixel_finish(&e, sums, pixel++);
            }
        }
    }
    return OK;
}

/* *x = silu(group norm(a->x)) in room. */
static status normalise(struct kern_ctx *ctx, const struct kern_conv_temporal *a, float *room,
                        const float **x)
{
    struct kern_group_norm norm = {
        .x = a->x, .y = a->x, .layer = a->norm, .span = a->x.n, .silu = true
    };

    norm.y.data = room;
    *x = room;
    return ref_group_norm(ctx, &norm);
}

status ref_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *a)
{
    const struct conv *l = a->layer;
    struct epilogue e = { l, a->add, a->residual.data, a->y.data, a->scale };
    int64_t frames = a->x.n, pixels = a->x.h * a->x.w, x_doubles = frames * pixels * l->ci / 2 + 1;
    double *sums = NULL;
    const float *x = a->x.data;
    status st = ref_scratch(ctx, l->co + (a->norm ? x_doubles : 0), &sums);

    if (st == OK && a->norm)
        st = normalise(ctx, a, (float *)(sums + l->co), &x);
    if (st != OK)
        return st;
    for (int64_t f = 0; f < frames; f++) {
        for (int64_t p = 0; p < pixels; p++) {
            memset(sums, 0, (size_t)l->co * sizeof(double));
            for (int64_t t = 0; t < 3; t++) {
                int64_t source = f + t - 1;

                if (source >= 0 && source < frames)
                    tap_add(sums, l, t, x + (source * pixels + p) * l->ci);
            }
            pixel_finish(&e, sums, f * pixels + p);
        }
    }
    return OK;
}
