/* check_attention.c - both attentions against the reference. */
#include <math.h>
#include <stdio.h>

#include "tests/kern/check.h"
#include "tests/ptx/ptx_driver.h"
#include "tests/tool/test.h"

#define CASES 40

/* A result is an average of values of size 1; an error e in a score changes its weight by a factor
 * of 1 + e. Scores are of size `sharp`: sums of d products (see check_sum_tolerance), then the
 * largest is subtracted. The worst element is allowed eight times the typical error, at values of
 * size 3. */
static struct check_tolerance tolerance(int64_t d, double sharp)
{
    double e = ldexp(1, -24) * (0.41 * sqrt((double)d) + 3) * sharp;

    return (struct check_tolerance){ .absolute = 24 * e + 1e-6, .whole = 3 * e + 5e-7 };
}

/* The same with operands rounded to bf16: a score is off by 2^-9 / sqrt(3) of its size for each of
 * two operands, a weight by that once more. */
static struct check_tolerance tolerance_bf16(double sharp)
{
    double e = ldexp(1, -9) / sqrt(3) * (sqrt(2) * sharp + 1);

    return (struct check_tolerance){ .absolute = 24 * e, .whole = 3 * e };
}

static status call_attention(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->attention(ctx, a);
}

static status call_temporal(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->attention_temporal(ctx, a);
}

/* Sizes of a case. */
struct attention_size {
    int64_t n, queries, keys, heads, d;
    bool is_packed; /* q, k and v are columns of one matrix; needs queries == keys */
    double sharp;   /* factor on the queries: large gives one-hot weights */
};

/* Make the queries, rows of `width` in the first array, larger by a factor. */
static void sharpen(struct check *c, int64_t row_apart, int64_t width, double factor)
{
    for (int64_t i = 0; i < c->arrays[0].n; i++) {
        if (i % row_apart < width)
            c->arrays[0].start[i] *= (float)factor;
    }
}

static void set_operands(struct check *c, struct kern_attention *a, const struct attention_size *s)
{
    int64_t width = s->heads * s->d;

    if (s->is_packed) {
        a->q = check_input(c, s->n * s->queries * 3 * width);
        a->k = (const float *)a->q + width;
        a->v = (const float *)a->k + width;
        a->q_stride = a->k_stride = a->v_stride = 3 * width;
        return;
    }
    a->q_stride = width + check_coin() * 5;
    a->k_stride = width + check_coin() * 3;
    a->v_stride = width;
    a->q = check_input(c, s->n * s->queries * a->q_stride);
    a->k = check_input(c, s->n * s->keys * a->k_stride);
    a->v = check_input(c, s->n * s->keys * a->v_stride);
}

static void attention_case(const struct check_rig *rig, const struct attention_size *s, bool parts)
{
    const bool is_bf16 = check_rounds(rig);
    struct check c = { .call = call_attention,
                       .is_bf16 = is_bf16,
                       .tol = tolerance(s->d, s->sharp) };
    struct kern_attention a = { .n = s->n,
                                .queries = s->queries,
                                .keys = s->keys,
                                .heads = s->heads,
                                .d = s->d,
                                .y_stride = s->heads * s->d + check_coin() * 4 };
    struct kern_attention last;
    int64_t y_frame = s->queries * a.y_stride;

    if (is_bf16)
        c.tol = tolerance_bf16(s->sharp);
    set_operands(&c, &a, s);
    sharpen(&c, a.q_stride, s->heads * s->d, s->sharp);
    a.y = check_output(&c, s->n * y_frame); /* the gaps between rows must stay poison */
    c.args = &a;
    snprintf(c.shape, sizeof(c.shape), "n %d queries %d keys %d heads %d of %d, sharp %g",
             (int)s->n, (int)s->queries, (int)s->keys, (int)s->heads, (int)s->d, s->sharp);
    if (parts) {
        last = a;
        last.n = 1;
        last.q = (const float *)a.q + (s->n - 1) * s->queries * a.q_stride;
        last.k = (const float *)a.k + (s->n - 1) * s->keys * a.k_stride;
        last.v = (const float *)a.v + (s->n - 1) * s->keys * a.v_stride;
        last.y = (float *)a.y + (s->n - 1) * y_frame;
        check_same_bits(&c, rig, &a, &last, last.y, y_frame);
    }
    check_case(&c, rig);
}

static struct attention_size random_attention(void)
{
    struct attention_size s = { .n = CHECK_PICK(1, 2, 3),
                                .queries = CHECK_PICK(1, 2, 7, 13, 63, 64, 65, 200),
                                .keys = CHECK_PICK(1, 3, 16, 31, 64, 145, 257, 300),
                                .heads = CHECK_PICK(1, 2, 5),
                                .d = CHECK_PICK(1, 8, 9, 16, 40, 64, 80),
                                .is_packed = check_coin(),
                                .sharp = check_coin() ? 1 : 8 };

    if (s.is_packed)
        s.keys = s.queries;
    return s;
}

TEST(attention_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++) {
        struct attention_size s = random_attention();

        attention_case(&rig, &s, false);
    }
    check_rig_close(&rig);
}

static const struct attention_size model_sizes[] = {
    { .n = 1, .queries = 600, .keys = 600, .heads = 2, .d = 64, .is_packed = true, .sharp = 1 },
    { .n = 1, .queries = 257, .keys = 257, .heads = 2, .d = 80, .is_packed = true, .sharp = 1 },
    { .n = 1, .queries = 130, .keys = 130, .heads = 1, .d = 512, .is_packed = true, .sharp = 2 },
    { .n = 1, .queries = 70, .keys = 150, .heads = 1, .d = 257, .sharp = 1 },
    { .n = 1, .queries = 5, .keys = 70, .heads = 1, .d = 2000, .sharp = 1 },
};

TEST(attention_at_the_models_shapes)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (size_t i = 0; i < sizeof(model_sizes) / sizeof(model_sizes[0]); i++)
        attention_case(&rig, &model_sizes[i], false);
    check_rig_close(&rig);
}

TEST(attention_of_a_frame_does_not_depend_on_its_batch)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(15); i++) {
        struct attention_size s = random_attention();

        s.n = 3;
        attention_case(&rig, &s, true);
    }
    check_rig_close(&rig);
}

TEST(attention_of_equal_scores_far_from_zero)
{
    /* Scores of 700: exp of them overflows unless the largest is taken off first. */
    struct attention_size s = {
        .n = 1, .queries = 9, .keys = 40, .heads = 1, .d = 16, .is_packed = false, .sharp = 700
    };
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    attention_case(&rig, &s, false);
    check_rig_close(&rig);
}

TEST(attention_too_wide_is_refused)
{
    struct kern_config config = { .threads = 1 };
    struct kern_ctx *ctx = NULL;
    struct kern_attention a = { .n = 1, .queries = 1, .keys = 1, .heads = 1, .d = 1000000 };

    EXPECT_OK(kern_cpu.open(&ctx, &config));
    EXPECT_STATUS(kern_cpu.attention(ctx, &a), ERR_NOMEM);
    EXPECT_MESSAGE("1000000");
    kern_cpu.close(ctx);
}

static void temporal_case(const struct check_rig *rig)
{
    struct check c = { .call = call_temporal, .is_bf16 = check_rounds(rig) };
    struct kern_attention_temporal a = { .frames = CHECK_PICK(1, 2, 3, 14, 25, 33, 250),
                                         .pixels = CHECK_PICK(1, 2, 7, 20),
                                         .heads = CHECK_PICK(1, 2, 5),
                                         .d = CHECK_PICK(1, 8, 17, 64) };
    int64_t width = a.heads * a.d, rows = a.frames * a.pixels;

    a.q_stride = a.k_stride = a.v_stride = 3 * width;
    a.q = check_input(&c, rows * 3 * width);
    a.k = (const float *)a.q + width;
    a.v = (const float *)a.k + width;
    a.y = check_output(&c, rows * width);
    c.args = &a;
    c.tol = tolerance(a.d, 1);
    snprintf(c.shape, sizeof(c.shape), "frames %d pixels %d heads %d of %d", (int)a.frames,
             (int)a.pixels, (int)a.heads, (int)a.d);
    check_case(&c, rig);
}

TEST(attention_temporal_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++)
        temporal_case(&rig);
    check_rig_close(&rig);
}

TEST_TIMEOUT(bf16_attention_is_the_reference, 120)
{
    static const struct attention_size wide = {
        .n = 2, .queries = 70, .keys = 150, .heads = 1, .d = 512, .sharp = 1
    };
    struct check_rig rig;

    check_rig_open_bf16(&rig);
    for (int i = 0; i < check_cases(CASES); i++) {
        struct attention_size s = random_attention();

        attention_case(&rig, &s, i % 4 == 0);
    }
    attention_case(&rig, &wide, true);
    check_rig_close(&rig);
}

static void on_cuda(const struct cuda_target *target)
{
    struct check_rig rig;

    for (int p = KERN_PRECISION_BF16; p <= KERN_PRECISION_F16; p++) {
        check_rig_open_cuda(&rig, target, (enum kern_precision)p, false);
        /* The interpreter takes long. */
        for (int i = 0; i < check_cases(target == &ptx_target ? 6 : CASES); i++) {
            struct attention_size s = random_attention();

            attention_case(&rig, &s, i % 4 == 0);
            temporal_case(&rig);
        }
        for (size_t i = 0; i < sizeof(model_sizes) / sizeof(model_sizes[0]); i++)
            attention_case(&rig, &model_sizes[i], false);
        check_rig_close(&rig);
    }
}

TEST_TIMEOUT(cuda_attention_is_the_reference, 300)
{
    on_cuda(NULL);
}

TEST_TIMEOUT(ptx_attention_is_the_reference, 600)
{
    on_cuda(&ptx_target);
}
