/* ref_priv.h - what the files of the reference table share. */
#ifndef ONESTEP_KERNELS_REF_REF_PRIV_H
#define ONESTEP_KERNELS_REF_REF_PRIV_H

#include "kernels/kern_ctx.h"

/* Context of the reference table. */
struct ref_ctx {
    struct kern_ctx base; /* must be first */
    double *scratch;      /* one row of attention scores and sums */
    int64_t scratch_n;    /* doubles in scratch */
};

/* Independent partial sums of ref_dot; more than one only so that the compiler may vectorise. */
#define REF_LANES 8

/* sum of a[i] * b[i], i < n, in double: products of floats are exact there. */
static inline double ref_dot(const float *a, const float *b, int64_t n)
{
    double s[REF_LANES] = { 0 };
    int64_t i = 0;

    for (; i + REF_LANES <= n; i += REF_LANES) {
        for (int j = 0; j < REF_LANES; j++)
            s[j] += (double)a[i + j] * (double)b[i + j];
    }
    for (; i < n; i++)
        s[0] += (double)a[i] * (double)b[i];
    for (int j = 1; j < REF_LANES; j++)
        s[0] += s[j];
    return s[0];
}

/* x . weights first .. first+n-1. This function can't fail. */
static inline double ref_dot_weight(const float *x, const void *weight, enum kern_dtype dtype,
                                    int64_t first, int64_t n)
{
    double sum = 0;
    float wide[64];

    if (kern_dtype_bytes(dtype) == sizeof(float))
        return ref_dot(x, (const float *)weight + first, n);
    for (int64_t i = 0; i < n; i += 64) {
        int64_t count = n - i < 64 ? n - i : 64;

        kern_widen(wide, weight, dtype, first + i, count);
        sum += ref_dot(x + i, wide, count);
    }
    return sum;
}

/* act(x), see enum kern_act. This function can't fail. */
double ref_act(enum kern_act act, double x);

/* *p = n doubles of scratch, kept in ctx and overwritten by the next call. Errors: ERR_NOMEM. */
MUST_USE status ref_scratch(struct kern_ctx *ctx, int64_t n, double **p);

/* The kernels: contracts and formulas are those of the argument structs in kern.h. */
status ref_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *a);
/* See kern_conv_temporal. */
status ref_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *a);
/* See kern_linear. */
status ref_linear(struct kern_ctx *ctx, const struct kern_linear *a);
/* See kern_geglu. */
status ref_geglu(struct kern_ctx *ctx, const struct kern_geglu *a);
/* See kern_group_norm. */
status ref_group_norm(struct kern_ctx *ctx, const struct kern_group_norm *a);
/* See kern_layer_norm. */
status ref_layer_norm(struct kern_ctx *ctx, const struct kern_layer_norm *a);
/* See kern_attention. */
status ref_attention(struct kern_ctx *ctx, const struct kern_attention *a);
/* See kern_attention_temporal. */
status ref_attention_temporal(struct kern_ctx *ctx, const struct kern_attention_temporal *a);
/* See kern_add. */
status ref_add(struct kern_ctx *ctx, const struct kern_add *a);
/* See kern_blend. */
status ref_blend(struct kern_ctx *ctx, const struct kern_blend *a);
/* See kern_concat. */
status ref_concat(struct kern_ctx *ctx, const struct kern_concat *a);
/* See kern_silu. */
status ref_silu(struct kern_ctx *ctx, const struct kern_silu *a);
/* See kern_copy. */
status ref_copy(struct kern_ctx *ctx, const struct kern_copy *a);

#endif
