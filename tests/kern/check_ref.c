/* check_ref.c - the reference itself, against numbers worked out by hand or from closed forms. */
#include <math.h>

#include "tests/kern/check.h"
#include "tests/tool/test.h"

#define ROUNDING 6e-8 /* half a unit in the last place of a float near 1 */

static struct kern_ctx *open_ref(void)
{
    struct kern_config config = { 0 };
    struct kern_ctx *ctx = NULL;

    EXPECT_OK(kern_ref.open(&ctx, &config));
    return ctx;
}

static void expect_floats(const float *got, const double *want, int n, double tol)
{
    for (int i = 0; i < n; i++) {
        if (!(fabs(got[i] - want[i]) <= tol * (1 + fabs(want[i]))))
            test_fail(__FILE__, __LINE__, "element %d is %.9g, want %.9g", i, got[i], want[i]);
    }
}

/* 1x1 channel images. */
static struct kern_conv2d image_conv(float *x, float *y, const struct conv *layer, int64_t h,
                                     int64_t w)
{
    return (struct kern_conv2d){ .x = check_tensor(x, 1, h, w, 1),
                                 .y = check_tensor(y, 1, h, w, 1),
                                 .layer = layer,
                                 .scale = 1,
                                 .stride = 1,
                                 .pad_top = 1,
                                 .pad_left = 1,
                                 .pad_bottom = 1,
                                 .pad_right = 1 };
}

TEST(ref_conv2d_sums_the_neighbours)
{
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, y[9];
    const float ones[] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    struct conv layer = { .weight = ones, .co = 1, .ci = 1, .kh = 3, .kw = 3 };
    struct kern_conv2d a = image_conv(x, y, &layer, 3, 3);

    EXPECT_OK(kern_ref.conv2d(ctx, &a));
    expect_floats(y, (const double[]){ 12, 21, 16, 27, 45, 33, 24, 39, 28 }, 9, 0);
    kern_ref.close(ctx);
}

TEST(ref_conv2d_is_a_cross_correlation)
{
    /* Only the tap above the pixel: the image moves down by one row. A convolution in the strict
     * sense would move it up. */
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 2, 3, 4 }, y[4];
    const float above[] = { 0, 1, 0, 0, 0, 0, 0, 0, 0 };
    struct conv layer = { .weight = above, .co = 1, .ci = 1, .kh = 3, .kw = 3 };
    struct kern_conv2d a = image_conv(x, y, &layer, 2, 2);

    EXPECT_OK(kern_ref.conv2d(ctx, &a));
    expect_floats(y, (const double[]){ 0, 0, 1, 2 }, 4, 0);
    kern_ref.close(ctx);
}

TEST(ref_conv2d_strides_and_weight_order)
{
    /* Two input and two output channels, 1x1, stride 2: W = [[1, 10], [100, 1000]]. */
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0 }, y[4]; /* [1][2][3][2] */
    const float weight[] = { 1, 10, 100, 1000 };
    struct conv layer = { .weight = weight, .co = 2, .ci = 2, .kh = 1, .kw = 1 };
    struct kern_conv2d a = { .x = check_tensor(x, 1, 2, 3, 2),
                             .y = check_tensor(y, 1, 1, 2, 2),
                             .layer = &layer,
                             .scale = 1,
                             .stride = 2 };

    EXPECT_OK(kern_ref.conv2d(ctx, &a));
    expect_floats(y, (const double[]){ 21, 2100, 43, 4300 }, 4, 0);
    kern_ref.close(ctx);
}

TEST(ref_conv2d_resamples_to_the_nearest)
{
    /* A centre tap shows the resampled image: 2 x 3 to 3 x 5, source = floor(index * in / out). */
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 2, 3, 4, 5, 6 }, y[15];
    const float centre[] = { 0, 0, 0, 0, 1, 0, 0, 0, 0 };
    struct conv layer = { .weight = centre, .co = 1, .ci = 1, .kh = 3, .kw = 3 };
    struct kern_conv2d a = image_conv(x, y, &layer, 2, 3);

    a.up_h = a.y.h = 3;
    a.up_w = a.y.w = 5;
    EXPECT_OK(kern_ref.conv2d(ctx, &a));
    expect_floats(y, (const double[]){ 1, 1, 2, 2, 3, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6 }, 15, 0);
    kern_ref.close(ctx);
}

TEST(ref_conv_temporal_looks_one_frame_back_and_ahead)
{
    /* Weights 1, 10, 100 on frames f-1, f, f+1; two pixels; epilogue 0.5 * (sum + 2 + 4) + 1. */
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 5, 2, 6, 3, 7 }, y[] = { 1, 1, 1, 1, 1, 1 };
    const float weight[] = { 1, 10, 100 }, bias[] = { 2 }, add[] = { 4 };
    struct conv layer = { .weight = weight, .bias = bias, .co = 1, .ci = 1, .kh = 3, .kw = 1 };
    struct kern_conv_temporal a = { .x = check_tensor(x, 3, 1, 2, 1),
                                    .y = check_tensor(y, 3, 1, 2, 1),
                                    .residual = check_tensor(y, 3, 1, 2, 1),
                                    .layer = &layer,
                                    .add = add,
                                    .scale = 0.5f };

    EXPECT_OK(kern_ref.conv_temporal(ctx, &a));
    expect_floats(y, (const double[]){ 109, 329, 164.5, 386.5, 20, 42 }, 6, 0);
    kern_ref.close(ctx);
}

TEST(ref_activations_at_known_points)
{
    /* Phi(1) = 0.8413447460685429; sigmoid(1) = 0.7310585786300049, sigmoid(1.702) from its
     * definition. */
    static const double phi = 0.8413447460685429, sigmoid = 0.7310585786300049;
    double quick = 1 / (1 + exp(-1.702));
    const double want[][3] = {
        { -1, 0, 1 }, { sigmoid - 1, 0, sigmoid }, { phi - 1, 0, phi }, { quick - 1, 0, quick }
    };
    struct kern_ctx *ctx = open_ref();
    float x[] = { -1, 0, 1 }, y[3];
    const float one[] = { 1 };
    struct linear layer = { .weight = one, .out = 1, .in = 1 };

    for (int act = KERN_ACT_NONE; act <= KERN_ACT_QUICK_GELU; act++) {
        struct kern_linear a = { .x = check_tensor(x, 1, 3, 1, 1),
                                 .y = check_tensor(y, 1, 3, 1, 1),
                                 .layer = &layer,
                                 .act = (enum kern_act)act };

        EXPECT_OK(kern_ref.linear(ctx, &a));
        expect_floats(y, want[act], 3, ROUNDING);
    }
    kern_ref.close(ctx);
}

TEST(ref_linear_takes_rows_of_weights)
{
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 2, 3, 4 }, y[] = { 100, 200, 300, 400 };
    const float weight[] = { 5, 6, 7, 8 }, bias[] = { 0.5f, -0.5f };
    struct linear layer = { .weight = weight, .bias = bias, .out = 2, .in = 2 };
    struct kern_linear a = { .x = check_tensor(x, 2, 1, 1, 2),
                             .y = check_tensor(y, 2, 1, 1, 2),
                             .residual = check_tensor(y, 2, 1, 1, 2),
                             .layer = &layer };

    EXPECT_OK(kern_ref.linear(ctx, &a));
    expect_floats(y, (const double[]){ 117.5, 222.5, 339.5, 452.5 }, 4, 0);
    kern_ref.close(ctx);
}

TEST(ref_geglu_gates_with_the_second_half)
{
    /* v = 3, gate = -1: y = 3 gelu(-1) = 3 (Phi(1) - 1). */
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1 }, y[1];
    const float weight[] = { 1, -2 }, bias[] = { 2, 1 };
    struct linear layer = { .weight = weight, .bias = bias, .out = 2, .in = 1 };
    struct kern_geglu a = { .x = check_tensor(x, 1, 1, 1, 1),
                            .y = check_tensor(y, 1, 1, 1, 1),
                            .layer = &layer };

    EXPECT_OK(kern_ref.geglu(ctx, &a));
    EXPECT_NEAR(y[0], 3 * (0.8413447460685429 - 1), ROUNDING);
    kern_ref.close(ctx);
}

TEST(ref_group_norm_statistics)
{
    /* Two frames of one pixel, two groups of two channels; eps 1. With span 1 the first group of
     * frame 0 is {1, 3}: mean 2, biased variance 1. With span 2 it is {1, 3, 5, 7}: mean 4,
     * variance 5. */
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 3, 10, 10, 5, 7, 10, 14 }, y[8];
    const float gamma[] = { 1, 2, 1, 1 }, beta[] = { 0, 1, 5, 0 };
    struct norm layer = { .gamma = gamma, .beta = beta, .c = 4, .groups = 2, .eps = 1 };
    struct kern_group_norm a = { .x = check_tensor(x, 2, 1, 1, 4),
                                 .y = check_tensor(y, 2, 1, 1, 4),
                                 .layer = &layer,
                                 .span = 1 };
    const double r2 = sqrt(0.5), r5 = sqrt(0.2), r6 = sqrt(1 / 6.0), r4 = 0.5;

    EXPECT_OK(kern_ref.group_norm(ctx, &a));
    expect_floats(y, (const double[]){ -r2, 1 + 2 * r2, 5, 0, -r2, 1 + 2 * r2, 5 - 2 * r5, 2 * r5 },
                  8, ROUNDING);
    a.span = 2;
    EXPECT_OK(kern_ref.group_norm(ctx, &a));
    /* Second group: {10, 10, 10, 14}: mean 11, variance 3. */
    expect_floats(
        y, (const double[]){ -3 * r6, 1 - 2 * r6, 5 - r4, -r4, r6, 1 + 6 * r6, 5 - r4, 3 * r4 }, 8,
        ROUNDING);
    kern_ref.close(ctx);
}

TEST(ref_layer_norm_statistics)
{
    /* {1, 2, 3, 4}: mean 2.5, biased variance 1.25; with eps its root is 1.25. */
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 2, 3, 4 };
    const float gamma[] = { 1, 1, 1, 2 }, beta[] = { 0, 0, 0, 1 };
    struct norm layer = { .gamma = gamma, .beta = beta, .c = 4, .eps = 0.3125f };
    struct kern_layer_norm a = { .x = check_tensor(x, 1, 1, 1, 4),
                                 .y = check_tensor(x, 1, 1, 1, 4),
                                 .layer = &layer };
    const double r = 1 / sqrt(1.5625); /* 0.8 */

    EXPECT_OK(kern_ref.layer_norm(ctx, &a));
    expect_floats(x, (const double[]){ -1.5 * r, -0.5 * r, 0.5 * r, 1 + 3 * r }, 4, ROUNDING);
    kern_ref.close(ctx);
}

TEST(ref_attention_of_two_keys)
{
    /* Head size 4, so scores are halved: q.k = 2 and 0, weights sigmoid(1) and 1 - sigmoid(1). */
    struct kern_ctx *ctx = open_ref();
    const float q[] = { 1, 1, 0, 0 }, k[] = { 1, 1, 9, 0, 0, 0, 0, 9 };
    const float v[] = { 1, 0, 2, 0, 0, 1, 0, 4 };
    const double p = 0.7310585786300049;
    float y[4];
    struct kern_attention a = { .q = q,
                                .k = k,
                                .v = v,
                                .y = y,
                                .q_stride = 4,
                                .k_stride = 4,
                                .v_stride = 4,
                                .y_stride = 4,
                                .n = 1,
                                .queries = 1,
                                .keys = 2,
                                .heads = 1,
                                .d = 4 };

    EXPECT_OK(kern_ref.attention(ctx, &a));
    expect_floats(y, (const double[]){ p, 1 - p, 2 * p, 4 * (1 - p) }, 4, ROUNDING);
    kern_ref.close(ctx);
}

TEST(ref_temporal_attention_is_attention_of_the_transposed)
{
    /* [frames][pixels] turned into [pixels][frames] by hand, then ordinary attention. */
    enum { F = 5, P = 3, C = 8, HEADS = 2 };
    struct kern_ctx *ctx = open_ref();
    float qkv[F * P * 3 * C], turned[F * P * 3 * C], y[F * P * C], want[F * P * C];
    struct kern_attention a = { .q = turned,
                                .k = turned + C,
                                .v = turned + 2 * C,
                                .y = want,
                                .q_stride = 3 * C,
                                .k_stride = 3 * C,
                                .v_stride = 3 * C,
                                .y_stride = C,
                                .n = P,
                                .queries = F,
                                .keys = F,
                                .heads = HEADS,
                                .d = C / HEADS };
    struct kern_attention_temporal t = { .q = qkv,
                                         .k = qkv + C,
                                         .v = qkv + 2 * C,
                                         .y = y,
                                         .q_stride = 3 * C,
                                         .k_stride = 3 * C,
                                         .v_stride = 3 * C,
                                         .frames = F,
                                         .pixels = P,
                                         .heads = HEADS,
                                         .d = C / HEADS };

    for (int f = 0; f < F; f++) {
        for (int i = 0; i < P * 3 * C; i++) {
            int p = i / (3 * C), c = i % (3 * C);

            qkv[f * P * 3 * C + i] = (float)test_normal();
            turned[(p * F + f) * 3 * C + c] = qkv[f * P * 3 * C + i];
        }
    }
    EXPECT_OK(kern_ref.attention(ctx, &a));
    EXPECT_OK(kern_ref.attention_temporal(ctx, &t));
    for (int i = 0; i < F * P * C; i++) {
        int f = i / (P * C), p = i / C % P;

        EXPECT_NEAR(y[i], want[(p * F + f) * C + i % C], 0);
    }
    kern_ref.close(ctx);
}

TEST(ref_elementwise_formulas)
{
    struct kern_ctx *ctx = open_ref();
    float x[] = { 1, 2, 3, 4 }, z[] = { 10, 20, 30, 40 }, y[8];
    struct kern_add add = { .x = check_tensor(x, 2, 1, 1, 2),
                            .z = check_tensor(z, 1, 1, 1, 2),
                            .y = check_tensor(y, 2, 1, 1, 2) };
    struct kern_blend blend = { .x = check_tensor(x, 1, 1, 1, 4),
                                .z = check_tensor(z, 1, 1, 1, 4),
                                .y = check_tensor(y, 1, 1, 1, 4),
                                .a = 0.25f };
    struct kern_concat concat = { .x = check_tensor(x, 2, 1, 1, 2),
                                  .z = check_tensor(z, 2, 1, 1, 2),
                                  .y = check_tensor(y, 2, 1, 1, 4) };

    EXPECT_OK(kern_ref.add(ctx, &add));
    expect_floats(y, (const double[]){ 11, 22, 13, 24 }, 4, 0);
    EXPECT_OK(kern_ref.blend(ctx, &blend));
    expect_floats(y, (const double[]){ 7.75, 15.5, 23.25, 31 }, 4, 0);
    EXPECT_OK(kern_ref.concat(ctx, &concat));
    expect_floats(y, (const double[]){ 1, 2, 10, 20, 3, 4, 30, 40 }, 8, 0);
    kern_ref.close(ctx);
}
