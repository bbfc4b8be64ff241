/* test_op.c - operators: shapes, memory, counting and cancelling, with the reference table. */
#include <math.h>

#include "kernels/op/op.h"
#include "tests/tool/test.h"

#define ARENA_BYTES ((size_t)1 << 20)

static const struct kern_config config = { .threads = 1 };

static struct dev open_ref(void)
{
    struct dev dev;

    EXPECT_OK(dev_open(&dev, "ref", &config, ARENA_BYTES));
    return dev;
}

/* A tensor whose element i is i. */
static struct tensor counting(struct dev *dev, int64_t n, int64_t h, int64_t w, int64_t c)
{
    struct tensor t = { 0 };

    EXPECT_OK(op_new(dev, &t, n, h, w, c));
    for (int64_t i = 0; i < op_elements(&t); i++)
        ((float *)t.data)[i] = (float)i;
    return t;
}

static void expect_shape(const struct tensor *t, int64_t n, int64_t h, int64_t w, int64_t c)
{
    EXPECT(t->data && t->dtype == KERN_F32);
    EXPECT_INT(t->n, n);
    EXPECT_INT(t->h, h);
    EXPECT_INT(t->w, w);
    EXPECT_INT(t->c, c);
}

static float at(const struct tensor *t, int64_t i)
{
    return ((const float *)t->data)[i];
}

TEST(an_unknown_table_is_refused_by_name)
{
    struct dev dev;

    EXPECT_STATUS(dev_open(&dev, "gpu9", &config, 64), ERR_BADARG);
    EXPECT_MESSAGE("gpu9");
    dev_close(&dev); /* closing after a failed open is allowed */
}

TEST(a_table_describes_itself)
{
    struct dev dev = open_ref();

    EXPECT(kern_find("ref") == &kern_ref && kern_find("cpu") == &kern_cpu);
    EXPECT(kern_find("plan") == &kern_plan && kern_find("") == NULL);
    EXPECT(kern_describe(dev.ctx)[0] != '\0');
    dev_close(&dev);
    EXPECT(!dev.kern && !dev.ctx);
}

TEST(upload_and_download_are_inverse)
{
    struct dev dev = open_ref();
    float in[24], out[24] = { 0 };
    struct tensor t;

    for (int i = 0; i < 24; i++)
        in[i] = (float)i / 7;
    EXPECT_OK(op_new(&dev, &t, 2, 3, 2, 2));
    EXPECT_OK(op_upload(&dev, &t, in));
    EXPECT_OK(op_download(&dev, &t, out));
    for (int i = 0; i < 24; i++)
        EXPECT_NEAR(out[i], in[i], 0);
    dev_close(&dev);
}

TEST(a_view_shares_the_elements)
{
    struct dev dev = open_ref();
    struct tensor t = counting(&dev, 2, 3, 4, 5), view = op_view(&t, 6, 4, 5, 1);

    expect_shape(&view, 6, 4, 5, 1);
    EXPECT(view.data == t.data);
    dev_close(&dev);
}

TEST(a_convolution_knows_its_size)
{
    static const struct {
        int64_t h, w;           /* input */
        int kernel;             /* square */
        struct op_conv_opt opt; /* options */
        int64_t want_h, want_w; /* output */
    } rows[] = {
        { 5, 7, 3, { 0 }, 5, 7 },
        { 5, 7, 1, { 0 }, 5, 7 },
        { 5, 8, 3, { .stride = 2 }, 3, 4 },
        { 6, 7, 3, { .stride = 2, .is_asymmetric = true }, 3, 3 },
        { 28, 42, 14, { .stride = 14, .no_pad = true }, 2, 3 },
        { 3, 4, 3, { .up_h = 6, .up_w = 8 }, 6, 8 },
        { 3, 4, 3, { .up_h = 5, .up_w = 7 }, 5, 7 },
        { 1, 1, 3, { 0 }, 1, 1 },
    };
    struct dev dev = open_ref();
    static float weight[2 * 14 * 14 * 3];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t mark = arena_mark(&dev.act);
        struct conv layer = {
            .weight = weight, .co = 2, .ci = 3, .kh = rows[i].kernel, .kw = rows[i].kernel
        };
        struct tensor x = counting(&dev, 2, rows[i].h, rows[i].w, 3), y = { 0 };

        EXPECT_OK(op_conv2d(&dev, &y, &x, &layer, &rows[i].opt));
        expect_shape(&y, 2, rows[i].want_h, rows[i].want_w, 2);
        arena_release(&dev.act, mark);
    }
    dev_close(&dev);
}

TEST(a_convolution_takes_its_options)
{
    /* 1x1, weight 2, bias 1, add 10, scale 0.5, residual = element index. */
    struct dev dev = open_ref();
    const float weight[] = { 2 }, bias[] = { 1 };
    float ten = 10;
    struct tensor add = { .data = &ten, .dtype = KERN_F32, .n = 1, .h = 1, .w = 1, .c = 1 };
    struct conv layer = { .weight = weight, .bias = bias, .co = 1, .ci = 1, .kh = 1, .kw = 1 };
    struct tensor x = counting(&dev, 1, 2, 2, 1), y = { 0 }, plain = { 0 };
    struct op_conv_opt opt = { .add = &add, .residual = &x, .scale = 0.5f };

    EXPECT_OK(op_conv2d(&dev, &y, &x, &layer, &opt));
    for (int i = 0; i < 4; i++)
        EXPECT_NEAR(at(&y, i), 0.5 * (2 * i + 1 + 10) + i, 0); /* halves are exact */
    EXPECT_OK(op_conv2d(&dev, &plain, &x, &layer, NULL));
    for (int i = 0; i < 4; i++)
        EXPECT_NEAR(at(&plain, i), 2 * i + 1, 0);
    dev_close(&dev);
}

TEST(asymmetric_padding_is_right_and_bottom)
{
    /* All-ones 3x3 over all-ones 2x2, stride 2: one output that sees all four pixels. */
    struct dev dev = open_ref();
    float ones[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    struct conv layer = { .weight = ones, .co = 1, .ci = 1, .kh = 3, .kw = 3 };
    struct op_conv_opt opt = { .stride = 2, .is_asymmetric = true };
    struct tensor x, y = { 0 };

    EXPECT_OK(op_new(&dev, &x, 1, 2, 2, 1));
    EXPECT_OK(op_upload(&dev, &x, ones));
    EXPECT_OK(op_conv2d(&dev, &y, &x, &layer, &opt));
    expect_shape(&y, 1, 1, 1, 1);
    EXPECT_NEAR(at(&y, 0), 4, 0);
    dev_close(&dev);
}

TEST(linear_and_geglu_shapes)
{
    struct dev dev = open_ref();
    static const float weight[8 * 5];
    struct linear layer = { .weight = weight, .out = 8, .in = 5 };
    struct tensor x = counting(&dev, 2, 3, 1, 5), y = { 0 }, z = { 0 };

    EXPECT_OK(op_linear(&dev, &y, &x, &layer, &(struct op_linear_opt){ .act = KERN_ACT_GELU }));
    expect_shape(&y, 2, 3, 1, 8);
    EXPECT_OK(op_geglu(&dev, &z, &x, &layer));
    expect_shape(&z, 2, 3, 1, 4);
    EXPECT_NEAR(dev.flops, 2 * (2.0 * 6 * 8 * 5), 0);
    dev_close(&dev);
}

TEST(attention_reads_q_k_v_columns)
{
    /* One token per frame: softmax over one key is 1, so y is the v part of the row. */
    struct dev dev = open_ref();
    struct tensor qkv = counting(&dev, 3, 1, 1, 12), y = { 0 };

    EXPECT_OK(op_attention(&dev, &y, &qkv, 2));
    expect_shape(&y, 3, 1, 1, 4);
    for (int n = 0; n < 3; n++) {
        for (int i = 0; i < 4; i++)
            EXPECT_NEAR(at(&y, n * 4 + i), n * 12 + 8 + i, 0);
    }
    EXPECT_NEAR(dev.flops, 3 * 4.0 * 1 * 1 * 4, 0);
    dev_close(&dev);
}

TEST(temporal_attention_mixes_frames_only)
{
    /* q = 0 gives equal weights: every frame's y is the mean of v over frames, per pixel. */
    struct dev dev = open_ref();
    struct tensor qkv = counting(&dev, 2, 1, 3, 6), y = { 0 };
    float *p = qkv.data;

    for (int row = 0; row < 6; row++)
        p[row * 6] = p[row * 6 + 1] = 0;
    EXPECT_OK(op_attention_temporal(&dev, &y, &qkv, 1));
    expect_shape(&y, 2, 1, 3, 2);
    for (int pixel = 0; pixel < 3; pixel++) {
        double want = (at(&qkv, pixel * 6 + 4) + at(&qkv, (3 + pixel) * 6 + 4)) / 2;

        EXPECT_NEAR(at(&y, pixel * 2), want, 1e-6);       /* one rounding of exp and quotient */
        EXPECT_NEAR(at(&y, (3 + pixel) * 2), want, 1e-6); /* the same for the other frame */
    }
    dev_close(&dev);
}

TEST(elementwise_operators)
{
    struct dev dev = open_ref();
    struct tensor x = counting(&dev, 2, 1, 2, 2), row = counting(&dev, 2, 1, 1, 2);
    struct tensor one = counting(&dev, 1, 1, 1, 2), y = { 0 }, both = { 0 };

    EXPECT_OK(op_add(&dev, &y, &x, &row)); /* one row per frame */
    EXPECT_NEAR(at(&y, 3), 3 + 1, 0);
    EXPECT_NEAR(at(&y, 4), 4 + 2, 0);
    EXPECT_OK(op_add(&dev, &y, &x, &one)); /* one row in all */
    EXPECT_NEAR(at(&y, 7), 7 + 1, 0);
    EXPECT_OK(op_blend(&dev, &y, &x, &x, 0.25f));
    EXPECT_NEAR(at(&y, 5), 5, 0);
    EXPECT_OK(op_concat(&dev, &both, &x, &x));
    expect_shape(&both, 2, 1, 2, 4);
    EXPECT_NEAR(at(&both, 6), 2, 0); /* row 1: 2 3 2 3 */
    EXPECT_OK(op_silu(&dev, &y, &x));
    EXPECT_NEAR(at(&y, 1), 1 / (1 + exp(-1.0)), 1e-7); /* one rounding to float */
    dev_close(&dev);
}

TEST(a_result_that_exists_is_written_in_place)
{
    struct dev dev = open_ref();
    struct tensor x = counting(&dev, 1, 1, 1, 2), y = x;
    size_t used = arena_mark(&dev.act);

    EXPECT_OK(op_add(&dev, &y, &x, &x));
    EXPECT(y.data == x.data && arena_mark(&dev.act) == used);
    EXPECT_NEAR(at(&x, 1), 2, 0);
    dev_close(&dev);
}

TEST(a_cancelled_device_does_nothing)
{
    struct dev dev = open_ref();
    atomic_bool cancel = false;
    struct tensor x = counting(&dev, 1, 2, 2, 4), y = { 0 };
    size_t used = arena_mark(&dev.act);

    dev.cancel = &cancel;
    EXPECT_OK(op_silu(&dev, &y, &x));
    EXPECT_INT(dev.calls, 1);
    arena_release(&dev.act, used);
    atomic_store(&cancel, true);
    y = (struct tensor){ 0 };
    EXPECT_STATUS(op_silu(&dev, &y, &x), ERR_CANCELLED);
    EXPECT_STATUS(op_download(&dev, &x, x.data), ERR_CANCELLED);
    EXPECT_INT(dev.calls, 1);
    EXPECT(y.data == NULL && arena_mark(&dev.act) == used);
    dev_close(&dev);
}

TEST(a_full_arena_is_no_memory)
{
    struct dev dev;
    struct tensor x, y = { 0 };
    size_t used;

    EXPECT_OK(dev_open(&dev, "ref", &config, 6000));
    x = counting(&dev, 1, 1, 1, 1000); /* 4000 of 6000 bytes */
    used = arena_mark(&dev.act);
    EXPECT_STATUS(op_silu(&dev, &y, &x), ERR_NOMEM);
    EXPECT_MESSAGE("activation memory");
    EXPECT(y.data == NULL && arena_mark(&dev.act) == used);
    EXPECT_STATUS(op_new(&dev, &y, INT64_MAX / 2, 4, 4, 4), ERR_NOMEM); /* no overflow */
    dev_close(&dev);
}

/* Kernels that fail with ERR_DEVICE. */
static status broken_silu(struct kern_ctx *ctx, const struct kern_silu *a)
{
    (void)ctx;
    (void)a;
    return FAIL(ERR_DEVICE, "broken on purpose");
}

TEST(a_failing_kernel_gives_its_memory_back)
{
    struct dev dev = open_ref();
    struct kern_table broken = kern_ref;
    struct tensor x = counting(&dev, 1, 1, 1, 8), y = { 0 };
    size_t used = arena_mark(&dev.act);

    broken.silu = broken_silu;
    dev.kern = &broken;
    EXPECT_STATUS(op_silu(&dev, &y, &x), ERR_DEVICE);
    EXPECT(y.data == NULL && arena_mark(&dev.act) == used);
    dev_close(&dev);
}

TEST(a_norm_apart_takes_a_tensor_for_the_call)
{
    /* A plan shows it: with the norm apart, the peak is one tensor more, which is given back. */
    const float zeros[8 * 3 * 8] = { 0 };
    struct norm norm = { .gamma = zeros, .beta = zeros, .c = 8, .groups = 2, .eps = 1e-5f };
    struct conv layer = { .weight = zeros, .co = 8, .ci = 8, .kh = 3, .kw = 1 };
    const struct op_conv_opt opt = { .norm = &norm };
    struct kern_config plan = { .layout = { .dtype = KERN_BF16, .slice_bytes = 1 } };
    size_t peak[2];

    for (int i = 0; i < 2; i++) {
        struct dev dev;
        struct tensor x = { 0 }, y = { 0 };

        plan.layout.has_norm_apart = i == 1;
        EXPECT_OK(dev_open(&dev, "plan", &plan, (size_t)1 << 20));
        EXPECT_OK(op_new(&dev, &x, 2, 4, 4, 8));
        EXPECT_OK(op_conv_temporal(&dev, &y, &x, &layer, &opt));
        peak[i] = dev.act.peak_bytes;
        EXPECT_INT(dev.act.used_bytes, 2 * op_bytes(&x));
        dev_close(&dev);
    }
    EXPECT_INT(peak[1] - peak[0], 2 * 4 * 4 * 8 * 2);
}

TEST(the_plan_measures_without_touching_memory)
{
    /* An arena of 64 GiB that nobody pays for: every operator runs, the peak is what it took. */
    struct dev dev;
    static const float weight[3];
    struct conv layer = { .weight = weight, .co = 64, .ci = 3, .kh = 3, .kw = 3 };
    struct tensor x, y = { 0 }, z = { 0 };
    float pixel = 0;

    EXPECT_OK(dev_open(&dev, "plan", &config, (size_t)64 << 30));
    EXPECT_OK(op_new(&dev, &x, 14, 4096, 4096, 3));
    EXPECT_OK(op_upload(&dev, &x, &pixel)); /* reads nothing: pixel is one float */
    EXPECT_OK(op_conv2d(&dev, &y, &x, &layer, NULL));
    EXPECT_OK(op_concat(&dev, &z, &x, &x));
    EXPECT_OK(op_download(&dev, &y, &pixel));
    EXPECT_NEAR((double)dev.act.peak_bytes, 14.0 * 4096 * 4096 * (3 + 64 + 6) * 4, 0);
    dev_close(&dev);
}
