/* check_conv.c - both convolutions against the reference. */
#include <math.h>
#include <stdio.h>

#include "tests/kern/check.h"
#include "tests/ptx/ptx_driver.h"
#include "tests/tool/test.h"

#define CASES 60

static status call_conv2d(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->conv2d(ctx, a);
}

static status call_conv_temporal(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->conv_temporal(ctx, a);
}

/* Sizes of a two-dimensional case. */
struct size2d {
    int64_t n, h, w, ci, co;
    int kernel, stride, pad; /* pad: every side, but see is_asymmetric */
    bool is_asymmetric;      /* right and bottom only */
    int64_t up_h, up_w;
};

static int64_t out_size(int64_t in, int before, int after, int kernel, int stride)
{
    return (in + before + after - kernel) / stride + 1;
}

/* Bias, time embedding, residual and blend, each or not. The output is last in c. */
static void random_epilogue(struct check *c, struct kern_conv2d *a, struct conv *layer, int64_t n)
{
    layer->bias = check_coin() ? check_input(c, layer->co) : NULL;
    a->add = check_coin() ? check_input(c, layer->co) : NULL;
    a->scale = check_coin() ? 1 : (float)test_normal();
    if (check_coin()) {
        a->residual.data = check_in_out(c, n);
        a->y.data = a->residual.data; /* y may be residual */
    } else {
        a->residual.data = check_coin() ? check_input(c, n) : NULL;
        a->y.data = check_output(c, n);
    }
}

static void conv2d_case(const struct check_rig *rig, const struct size2d *s, bool parts)
{
    struct check c = { .call = call_conv2d, .is_bf16 = check_rounds(rig) };
    struct conv layer = { .co = s->co, .ci = s->ci, .kh = s->kernel, .kw = s->kernel };
    int64_t taps = s->kernel * s->kernel, h = s->up_h ? s->up_h : s->h;
    int64_t w = s->up_h ? s->up_w : s->w, elements;
    int before = s->is_asymmetric ? 0 : s->pad, after = s->is_asymmetric ? 1 : s->pad;
    struct kern_conv2d a = { .layer = &layer,
                             .stride = s->stride,
                             .pad_top = before,
                             .pad_left = before,
                             .pad_bottom = after,
                             .pad_right = after,
                             .up_h = s->up_h,
                             .up_w = s->up_w };

    a.x = check_tensor(check_input(&c, s->n * s->h * s->w * s->ci), s->n, s->h, s->w, s->ci);
    layer.weight = check_weights(&c, s->co * taps * s->ci, &layer.dtype);
    a.y = check_tensor(NULL, s->n, out_size(h, before, after, s->kernel, s->stride),
                       out_size(w, before, after, s->kernel, s->stride), s->co);
    a.residual = a.y;
    elements = a.y.n * a.y.h * a.y.w * a.y.c;
    random_epilogue(&c, &a, &layer, elements);
    c.args = &a;
    c.tol = check_sum_tolerance(taps * s->ci, fabs(a.scale) + 0.1);
    if (c.is_bf16 && s->up_h) /* sums of weights have more digits, and are of size 2 */
        c.tol = check_bf16_tolerance(taps * s->ci, 2 * (fabs(a.scale) + 0.1));
    snprintf(c.shape, sizeof(c.shape), "n %d h %d w %d ci %d co %d kernel %d stride %d up %dx%d",
             (int)s->n, (int)s->h, (int)s->w, (int)s->ci, (int)s->co, s->kernel, s->stride,
             (int)s->up_h, (int)s->up_w);
    if (parts) { /* the last image alone */
        struct kern_conv2d last = a;
        int64_t x_step = s->h * s->w * s->ci, y_step = elements / s->n;

        last.x.data = (float *)a.x.data + (s->n - 1) * x_step;
        last.y.data = (float *)a.y.data + (s->n - 1) * y_step;
        if (a.residual.data)
            last.residual.data = (float *)a.residual.data + (s->n - 1) * y_step;
        last.x.n = last.y.n = last.residual.n = 1;
        check_same_bits(&c, rig, &a, &last, last.y.data, y_step);
    }
    check_case(&c, rig);
}

static struct size2d random_size2d(void)
{
    struct size2d s = { .n = CHECK_PICK(1, 1, 2, 3),
                        .h = CHECK_PICK(1, 2, 3, 5, 9, 13, 16),
                        .w = CHECK_PICK(1, 2, 4, 7, 11, 16, 19),
                        .ci = CHECK_PICK(1, 3, 4, 8, 13, 31, 32, 64, 65, 96),
                        .co = CHECK_PICK(1, 3, 4, 7, 16, 17, 32, 33, 48, 64, 100),
                        .kernel = (int)CHECK_PICK(1, 3, 3, 3),
                        .stride = (int)CHECK_PICK(1, 1, 2, 3) };

    s.pad = s.kernel / 2;
    if (check_coin() && s.kernel == 3 && s.h > 1 && s.w > 1)
        s.is_asymmetric = true;
    if (check_coin()) {
        bool is_double = check_coin();

        s.up_h = is_double ? 2 * s.h : s.h * 2 - 1;
        s.up_w = is_double ? 2 * s.w : s.w + 3;
        if (check_coin())
            s.stride = 1;
    }
    if (s.is_asymmetric && s.up_h && (s.up_h < 2 || s.up_w < 2))
        s.is_asymmetric = false;
    return s;
}

TEST_TIMEOUT(conv2d_is_the_reference, 120)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++) {
        struct size2d s = random_size2d();

        conv2d_case(&rig, &s, false);
    }
    check_rig_close(&rig);
}

/* Few pixels of the real layers: long sums, several passes over packed weights, patches. */
static const struct size2d model_sizes[] = {
    { .n = 1, .h = 3, .w = 4, .ci = 1280, .co = 320, .kernel = 3, .stride = 1, .pad = 1 },
    { .n = 2, .h = 4, .w = 5, .ci = 8, .co = 320, .kernel = 3, .stride = 1, .pad = 1 },
    { .n = 1, .h = 20, .w = 21, .ci = 128, .co = 3, .kernel = 3, .stride = 1, .pad = 1 },
    { .n = 1, .h = 28, .w = 28, .ci = 3, .co = 80, .kernel = 14, .stride = 14, .pad = 0 },
    { .n = 1, .h = 13, .w = 10, .ci = 64, .co = 64, .kernel = 3, .stride = 2, .pad = 1 },
    { .n = 1, .h = 2, .w = 2, .ci = 2560, .co = 1280, .kernel = 1, .stride = 1 },
    { .n = 1,
      .h = 9,
      .w = 7,
      .ci = 512,
      .co = 512,
      .kernel = 3,
      .stride = 1,
      .pad = 1,
      .up_h = 18,
      .up_w = 14 },
};

/* Enough tiles of every kind for a large GPU: wide and narrow, behind resampling, odd columns. */
static const struct size2d large_sizes[] = {
    { .n = 2, .h = 65, .w = 131, .ci = 64, .co = 256, .kernel = 3, .stride = 1, .pad = 1 },
    { .n = 3, .h = 61, .w = 93, .ci = 64, .co = 72, .kernel = 3, .stride = 1, .pad = 1 },
    { .n = 1, .h = 131, .w = 263, .ci = 64, .co = 128, .kernel = 3, .stride = 2, .pad = 1 },
    { .n = 2,
      .h = 33,
      .w = 67,
      .ci = 64,
      .co = 256,
      .kernel = 3,
      .stride = 1,
      .pad = 1,
      .up_h = 66,
      .up_w = 134 },
};

/* The same kinds, for the interpreter, which takes long and pretends to be a small GPU. */
static const struct size2d interpreted_sizes[] = {
    { .n = 1, .h = 11, .w = 13, .ci = 64, .co = 256, .kernel = 3, .stride = 1, .pad = 1 },
    { .n = 2, .h = 12, .w = 12, .ci = 64, .co = 72, .kernel = 3, .stride = 1, .pad = 1 },
    { .n = 1, .h = 23, .w = 17, .ci = 64, .co = 128, .kernel = 3, .stride = 2, .pad = 1 },
    { .n = 1,
      .h = 12,
      .w = 11,
      .ci = 64,
      .co = 256,
      .kernel = 3,
      .stride = 1,
      .pad = 1,
      .up_h = 24,
      .up_w = 22 },
};

TEST(conv2d_at_the_models_shapes)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (size_t i = 0; i < sizeof(model_sizes) / sizeof(model_sizes[0]); i++)
        conv2d_case(&rig, &model_sizes[i], false);
    check_rig_close(&rig);
}

TEST(conv2d_of_a_frame_does_not_depend_on_its_batch)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(20); i++) {
        struct size2d s = random_size2d();

        s.n = 3;
        conv2d_case(&rig, &s, true);
    }
    check_rig_close(&rig);
}

/* A group norm in front, with statistics over the clip. */
static void random_norm(struct check *c, struct norm *norm, int64_t ci)
{
    *norm = (struct norm){ .gamma = check_input(c, ci),
                           .beta = check_input(c, ci),
                           .c = ci,
                           .groups = ci % 4 == 0 ? 4 : 1,
                           .eps = 1e-5f };
}

static void temporal_case(const struct check_rig *rig, int64_t f, int64_t h, int64_t w, int64_t ci)
{
    struct check c = { .call = call_conv_temporal, .is_bf16 = check_rounds(rig) };
    struct conv layer = {
        .co = check_coin() ? ci : CHECK_PICK(1, 3, 16, 33, 64), .ci = ci, .kh = 3, .kw = 1
    };
    struct kern_conv2d e = { 0 };
    struct kern_conv_temporal a = { .layer = &layer };
    struct norm norm;

    a.x = check_tensor(check_input(&c, f * h * w * ci), f, h, w, ci);
    layer.weight = check_weights(&c, layer.co * 3 * ci, &layer.dtype);
    if (check_coin()) {
        random_norm(&c, &norm, ci);
        a.norm = &norm;
    }
    random_epilogue(&c, &e, &layer, f * h * w * layer.co);
    a.y = check_tensor(e.y.data, f, h, w, layer.co);
    a.residual = check_tensor(e.residual.data, f, h, w, layer.co);
    a.add = e.add;
    a.scale = e.scale;
    c.args = &a;
    c.tol = check_sum_tolerance(3 * ci, fabs(a.scale) + 0.1);
    if (c.is_bf16 && a.norm) /* gamma x + beta is of size 2 */
        c.tol = check_bf16_tolerance(3 * ci, 2 * (fabs(a.scale) + 0.1));
    snprintf(c.shape, sizeof(c.shape), "frames %d h %d w %d ci %d co %d%s", (int)f, (int)h, (int)w,
             (int)ci, (int)layer.co, a.norm ? " norm" : "");
    check_case(&c, rig);
}

TEST(conv_temporal_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++)
        temporal_case(&rig, CHECK_PICK(1, 2, 3, 5, 14), CHECK_PICK(1, 2, 5, 9),
                      CHECK_PICK(1, 3, 7, 16), CHECK_PICK(1, 3, 16, 31, 64, 100, 320));
    check_rig_close(&rig);
}

TEST_TIMEOUT(bf16_convolutions_are_the_reference, 120)
{
    struct check_rig rig;

    check_rig_open_bf16(&rig);
    for (int i = 0; i < check_cases(CASES); i++) {
        struct size2d s = random_size2d();

        conv2d_case(&rig, &s, false);
        temporal_case(&rig, CHECK_PICK(1, 2, 3, 5, 14), CHECK_PICK(1, 2, 5, 9),
                      CHECK_PICK(1, 3, 7, 16), CHECK_PICK(1, 3, 16, 31, 64, 100, 320));
    }
    check_rig_close(&rig);
}

TEST(bf16_convolutions_of_a_frame_do_not_depend_on_its_batch)
{
    struct check_rig rig;

    check_rig_open_bf16(&rig);
    for (int i = 0; i < check_cases(20); i++) {
        struct size2d s = random_size2d();

        s.n = 3;
        conv2d_case(&rig, &s, true);
    }
    check_rig_close(&rig);
}

static void sizes_case(const struct check_rig *rig, const struct size2d *sizes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        conv2d_case(rig, &sizes[i], sizes[i].n > 1);
}

static void on_cuda(const struct cuda_target *target)
{
    const bool is_ptx = target == &ptx_target;
    struct check_rig rig;

    for (int run = 0; run < 4; run++) { /* both types, without wgmma and with */
        check_rig_open_cuda(&rig, target, run % 2 ? KERN_PRECISION_F16 : KERN_PRECISION_BF16,
                            run >= 2);
        for (int i = 0; i < check_cases(is_ptx ? 6 : CASES); i++) {
            struct size2d s = random_size2d();

            conv2d_case(&rig, &s, i % 4 == 0);
            temporal_case(&rig, CHECK_PICK(1, 2, 3, 5, 14), CHECK_PICK(1, 2, 5, 9),
                          CHECK_PICK(1, 3, 7, 16), CHECK_PICK(1, 3, 16, 31, 64, 100, 320));
        }
        if (is_ptx) {
            sizes_case(&rig, interpreted_sizes,
                       sizeof(interpreted_sizes) / sizeof(interpreted_sizes[0]));
            temporal_case(&rig, 3, 9, 11, 128);
        } else {
            sizes_case(&rig, model_sizes, sizeof(model_sizes) / sizeof(model_sizes[0]));
            sizes_case(&rig, large_sizes, sizeof(large_sizes) / sizeof(large_sizes[0]));
            temporal_case(&rig, 3, 57, 64, 128);
        }
        check_rig_close(&rig);
    }
}

TEST_TIMEOUT(cuda_convolutions_are_the_reference, 300)
{
    on_cuda(NULL);
}

TEST_TIMEOUT(ptx_convolutions_are_the_reference, 600)
{
    on_cuda(&ptx_target);
}
