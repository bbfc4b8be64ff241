/* check_elementwise.c - additions, blends, copies and activations against the reference. */
#include <stdio.h>
#include <string.h>

#include "tests/kern/check.h"
#include "tests/ptx/ptx_driver.h"
#include "tests/tool/test.h"

#define CASES 40

/* One operation: one rounding, or two for a blend. */
static const struct check_tolerance one_rounding = { 1e-7, 1.2e-7, 1e-7 };
static const struct check_tolerance few_roundings = { 1e-6, 5e-7, 3e-7 };

static status call_add(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->add(ctx, a);
}

static status call_blend(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->blend(ctx, a);
}

static status call_concat(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->concat(ctx, a);
}

static status call_silu(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->silu(ctx, a);
}

static status call_copy(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->copy(ctx, a);
}

/* A tensor of random shape without memory; some are large enough for several threads. */
static struct tensor random_shape(struct check *c)
{
    struct tensor t = check_tensor(NULL, CHECK_PICK(1, 2, 3), CHECK_PICK(1, 3, 8, 40),
                                   CHECK_PICK(1, 2, 9, 50), CHECK_PICK(1, 3, 15, 16, 33, 64, 100));

    snprintf(c->shape, sizeof(c->shape), "%d x %d x %d x %d", (int)t.n, (int)t.h, (int)t.w,
             (int)t.c);
    return t;
}

static int64_t elements(struct tensor t)
{
    return t.n * t.h * t.w * t.c;
}

/* x of the same shape as y, in place or not. */
static void set_x_y(struct check *c, struct tensor *x, struct tensor *y)
{
    if (check_coin()) {
        x->data = y->data = check_in_out(c, elements(*y));
    } else {
        x->data = check_input(c, elements(*y));
        y->data = check_output(c, elements(*y));
    }
}

static void add_cases(const struct check_rig *rig)
{
    for (int i = 0; i < check_cases(CASES); i++) {
        struct check c = { .call = call_add, .is_bf16 = check_rounds(rig), .tol = one_rounding };
        struct tensor t = random_shape(&c);
        struct kern_add a = { .x = t, .y = t, .z = t };

        if (i % 3 > 0) /* one row per frame, or one in all */
            a.z = check_tensor(NULL, i % 3 == 1 ? t.n : 1, 1, 1, t.c);
        set_x_y(&c, &a.x, &a.y);
        a.z.data = check_input(&c, elements(a.z));
        c.args = &a;
        check_case(&c, rig);
    }
}

TEST(add_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    add_cases(&rig);
    check_rig_close(&rig);
}

static void blend_cases(const struct check_rig *rig)
{
    for (int i = 0; i < check_cases(CASES); i++) {
        struct check c = { .call = call_blend, .is_bf16 = check_rounds(rig), .tol = few_roundings };
        struct tensor t = random_shape(&c);
        struct kern_blend a = { .x = t, .y = t, .z = t, .a = (float)test_uniform() };

        if (check_coin()) { /* y may be z, too */
            a.x.data = check_input(&c, elements(t));
            a.y.data = a.z.data = check_in_out(&c, elements(t));
        } else {
            set_x_y(&c, &a.x, &a.y);
            a.z.data = check_input(&c, elements(t));
        }
        c.args = &a;
        check_case(&c, rig);
    }
}

TEST(blend_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    blend_cases(&rig);
    check_rig_close(&rig);
}

static void concat_cases(const struct check_rig *rig)
{
    for (int i = 0; i < check_cases(CASES); i++) {
        struct check c = { .call = call_concat, .is_bf16 = check_rounds(rig) };
        struct tensor t = random_shape(&c);
        struct kern_concat a = { .x = t, .y = t, .z = t };

        a.z.c = CHECK_PICK(1, 4, 31, 64);
        a.y.c = a.x.c + a.z.c;
        a.x.data = check_input(&c, elements(a.x));
        a.z.data = check_input(&c, elements(a.z));
        a.y.data = check_output(&c, elements(a.y));
        c.args = &a;
        check_case(&c, rig);
    }
}

TEST(concat_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    concat_cases(&rig);
    check_rig_close(&rig);
}

static void copy_cases(const struct check_rig *rig)
{
    for (int i = 0; i < check_cases(CASES / 4); i++) {
        struct check c = { .call = call_copy, .is_bf16 = check_rounds(rig) };
        struct tensor t = random_shape(&c);
        struct kern_copy a = { .x = t, .y = t };

        a.x.data = check_input(&c, elements(t));
        a.y.data = check_output(&c, elements(t));
        c.args = &a;
        check_case(&c, rig);
    }
}

TEST(copy_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    copy_cases(&rig);
    check_rig_close(&rig);
}

static void silu_cases(const struct check_rig *rig)
{
    for (int i = 0; i < check_cases(CASES); i++) {
        struct check c = { .call = call_silu, .is_bf16 = check_rounds(rig), .tol = few_roundings };
        struct tensor t = random_shape(&c);
        struct kern_silu a = { .x = t, .y = t };

        set_x_y(&c, &a.x, &a.y);
        for (int64_t k = 0; k < elements(t); k++) /* up to where exp leaves the range of floats */
            c.arrays[0].start[k] *= i % 2 ? 1 : 32;
        c.args = &a;
        check_case(&c, rig);
    }
}

TEST(silu_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    silu_cases(&rig);
    check_rig_close(&rig);
}

TEST(a_nan_is_not_swallowed)
{
    /* A NaN in the input must be seen in the result of every activation, or errors hide. */
    struct kern_config config = { .threads = 1 };
    struct kern_ctx *ctx = NULL;
    float x[40], y[40], weight = 1;

    for (int i = 0; i < 40; i++)
        x[i] = (float)i - 20;
    memset(&x[33], 0xff, sizeof(x[33]));
    for (config.isa = KERN_ISA_PLAIN; config.isa <= KERN_ISA_AVX512; config.isa++) {
        struct linear layer = { .weight = &weight, .out = 1, .in = 1 };

        EXPECT_OK(kern_cpu.open(&ctx, &config));
        for (int act = KERN_ACT_NONE; act <= KERN_ACT_QUICK_GELU; act++) {
            struct kern_linear a = { .x = check_tensor(x, 1, 1, 40, 1),
                                     .y = check_tensor(y, 1, 1, 40, 1),
                                     .layer = &layer,
                                     .act = (enum kern_act)act };

            EXPECT_OK(kern_cpu.linear(ctx, &a));
            EXPECT(y[33] != y[33] && y[32] == y[32] && y[34] == y[34]);
        }
        kern_cpu.close(ctx);
    }
}

static void on_cuda(const struct cuda_target *target)
{
    struct check_rig rig;

    for (int p = KERN_PRECISION_BF16; p <= KERN_PRECISION_F16; p++) {
        check_rig_open_cuda(&rig, target, (enum kern_precision)p, false);
        add_cases(&rig);
        blend_cases(&rig);
        concat_cases(&rig);
        copy_cases(&rig);
        silu_cases(&rig);
        check_rig_close(&rig);
    }
}

TEST_TIMEOUT(cuda_elements_are_the_reference, 300)
{
    on_cuda(NULL);
}

TEST_TIMEOUT(ptx_elements_are_the_reference, 600)
{
    on_cuda(&ptx_target);
}
