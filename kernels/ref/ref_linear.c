#include <math.h>

#include "kernels/ref/ref_priv.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double gelu(double x)
{
    /* x Phi(x) with the normal distribution function Phi; erfc keeps its digits on both sides. */
    return 0.5 * x * erfc(-x * sqrt(0.5));
}

double ref_act(enum kern_act act, double x)
{
    switch (act) {
    case KERN_ACT_NONE:
        return x;
    case KERN_ACT_SILU:
        return x * sigmoid(x);
    case KERN_ACT_GELU:
        return gelu(x);
    case KERN_ACT_QUICK_GELU:
        return x * sigmoid(1.702 * x);
    }
    return NAN;
}

/* Output feature o of the row x, before any activation. */
static double feature(const struct linear *l, const float *x, int64_t o)
{
    return ref_dot_weight(x, l->weight, l->dtype, o * l->in, l->in) + (l->bias ? l->bias[o] : 0);
}

status ref_linear(struct kern_ctx *ctx, const struct kern_linear *a)
{
    const struct linear *l = a->layer;
    int64_t rows = a->x.n * a->x.h * a->x.w;

    (void)ctx;
    for (int64_t m = 0; m < rows; m++) {
        const float *x = (const float *)a->x.data + m * l->in;
        const float *residual = a->residual.data, *add = a->add;
        float *y = (float *)a->y.data + m * l->out;

        for (int64_t o = 0; o < l->out; o++)
            y[o] = (float)(ref_act(a->act, feature(l, x, o) + (add ? add[o] : 0)) +
                           (residual ? residual[m * l->out + o] : 0));
    }
    return OK;
}

status ref_geglu(struct kern_ctx *ctx, const struct kern_geglu *a)
{
    const struct linear *l = a->layer;
    int64_t rows = a->x.n * a->x.h * a->x.w, half = l->out / 2;

    (void)ctx;
    for (int64_t m = 0; m < rows; m++) {
        const float *x = (const float *)a->x.data + m * l->in;
        float *y = (float *)a->y.data + m * half;

        for (int64_t o = 0; o < half; o++)
            y[o] = (float)(feature(l, x, o) * gelu(feature(l, x, half + o)));
    }
    return OK;
}
