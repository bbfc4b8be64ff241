/* check_linear.c - fully connected layers and GEGLU against the reference. */
#include <stdio.h>

#include "tests/kern/check.h"
#include "tests/ptx/ptx_driver.h"
#include "tests/tool/test.h"

#define CASES 60

static status call_linear(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->linear(ctx, a);
}

static status call_geglu(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->geglu(ctx, a);
}

/* x [n,1,w,in]. parts: also compare the last of the n with a batch of one. */
static void linear_case(const struct check_rig *rig, int64_t n, int64_t w, struct linear layer,
                        bool parts)
{
    struct check c = { .call = call_linear, .is_bf16 = check_rounds(rig) };
    struct kern_linear a = { .layer = &layer, .act = (enum kern_act)(test_random() % 4) };
    struct kern_linear last;
    int64_t y_n = n * w * layer.out;

    a.x = check_tensor(check_input(&c, n * w * layer.in), n, 1, w, layer.in);
    layer.weight = check_weights(&c, layer.out * layer.in, &layer.dtype);
    layer.bias = check_coin() ? check_input(&c, layer.out) : NULL;
    a.add = check_coin() ? check_input(&c, layer.out) : NULL;
    if (check_coin()) {
        a.y = a.residual = check_tensor(check_in_out(&c, y_n), n, 1, w, layer.out);
    } else {
        a.y = check_tensor(check_output(&c, y_n), n, 1, w, layer.out);
        a.residual.data = check_coin() ? check_input(&c, y_n) : NULL;
    }
    c.args = &a;
    c.tol = check_sum_tolerance(layer.in, 1.2);
    snprintf(c.shape, sizeof(c.shape), "rows %dx%d in %d out %d act %d", (int)n, (int)w,
             (int)layer.in, (int)layer.out, (int)a.act);
    if (parts) {
        last = a;
        last.x.n = last.y.n = last.residual.n = 1;
        last.x.data = (float *)a.x.data + (n - 1) * w * layer.in;
        last.y.data = (float *)a.y.data + (n - 1) * w * layer.out;
        if (a.residual.data)
            last.residual.data = (float *)a.residual.data + (n - 1) * w * layer.out;
        check_same_bits(&c, rig, &a, &last, last.y.data, w * layer.out);
    }
    check_case(&c, rig);
}

static struct linear random_layer(void)
{
    return (struct linear){ .in = CHECK_PICK(1, 3, 8, 17, 64, 100, 255, 256, 257, 320, 600),
                            .out = CHECK_PICK(1, 2, 7, 15, 16, 31, 32, 33, 64, 97, 320) };
}

TEST(linear_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++)
        linear_case(&rig, CHECK_PICK(1, 2, 3), CHECK_PICK(1, 2, 5, 11, 12, 13, 63, 200),
                    random_layer(), false);
    check_rig_close(&rig);
}

TEST(linear_with_many_weights)
{
    /* More than the packing scratch holds: several passes, and sums of many blocks. */
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    linear_case(&rig, 1, 3, (struct linear){ .in = 1280, .out = 5120 }, false);
    linear_case(&rig, 1, 1, (struct linear){ .in = 70000, .out = 40 }, false);
    check_rig_close(&rig);
}

TEST(linear_of_a_frame_does_not_depend_on_its_batch)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(20); i++)
        linear_case(&rig, CHECK_PICK(2, 5, 9), CHECK_PICK(1, 7, 50), random_layer(), true);
    check_rig_close(&rig);
}

static void geglu_case(const struct check_rig *rig, int64_t rows, struct linear layer)
{
    struct check c = { .call = call_geglu, .is_bf16 = check_rounds(rig) };
    struct kern_geglu a = { .layer = &layer };

    layer.out *= 2;
    a.x = check_tensor(check_input(&c, rows * layer.in), 1, rows, 1, layer.in);
    layer.weight = check_weights(&c, layer.out * layer.in, &layer.dtype);
    layer.bias = check_coin() ? check_input(&c, layer.out) : NULL;
    a.y = check_tensor(check_output(&c, rows * layer.out / 2), 1, rows, 1, layer.out / 2);
    c.args = &a;
    /* v and the gate are both sums; their product has the error of one times the size of the
     * other, which is at most some 6 sqrt(in). */
    c.tol = check_sum_tolerance(layer.in, 6);
    c.tol.absolute *= 2 * (1 + (double)layer.in / 10);
    c.tol.whole *= 2;
    snprintf(c.shape, sizeof(c.shape), "rows %d in %d out %d", (int)rows, (int)layer.in,
             (int)layer.out);
    check_case(&c, rig);
}

TEST(geglu_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++)
        geglu_case(&rig, CHECK_PICK(1, 2, 11, 13, 64, 200), random_layer());
    check_rig_close(&rig);
}

/* The operands are numbers of bf16, so that rounding them changes nothing. */
TEST(bf16_linear_and_geglu_are_the_reference)
{
    struct check_rig rig;

    check_rig_open_bf16(&rig);
    for (int i = 0; i < check_cases(CASES); i++) {
        linear_case(&rig, CHECK_PICK(1, 2, 3), CHECK_PICK(1, 2, 5, 11, 12, 13, 63, 200),
                    random_layer(), i % 4 == 0);
        geglu_case(&rig, CHECK_PICK(1, 2, 11, 13, 64, 200), random_layer());
    }
    linear_case(&rig, 1, 3, (struct linear){ .in = 1280, .out = 5120 }, false);
    linear_case(&rig, 1, 1, (struct linear){ .in = 70000, .out = 40 }, false);
    check_rig_close(&rig);
}

static void on_cuda(const struct cuda_target *target)
{
    struct check_rig rig;

    for (int run = 0; run < 4; run++) { /* both types, without wgmma and with */
        check_rig_open_cuda(&rig, target, run % 2 ? KERN_PRECISION_F16 : KERN_PRECISION_BF16,
                            run >= 2);
        for (int i = 0; i < check_cases(CASES); i++) {
            linear_case(&rig, CHECK_PICK(1, 2, 3), CHECK_PICK(1, 2, 5, 11, 12, 13, 63, 200),
                        random_layer(), i % 4 == 0);
            geglu_case(&rig, CHECK_PICK(1, 2, 11, 13, 64, 200), random_layer());
        }
        linear_case(&rig, 1, 3, (struct linear){ .in = 1280, .out = 5120 }, false);
        /* Tensor cores cut what their sums carry instead of rounding it: 2^-24 of the sum for
         * each 16 products, which is under the result's own rounding up to the longest layer. */
        linear_case(&rig, 1, 1, (struct linear){ .in = 11520, .out = 40 }, false);
        /* Enough tiles of each size for a large card. */
        linear_case(&rig, 3, 2100, (struct linear){ .in = 64, .out = 320 }, false);
        linear_case(&rig, 3, 2100, (struct linear){ .in = 192, .out = 648 }, false);
        linear_case(&rig, 2, 130, (struct linear){ .in = 320, .out = 136 }, true);
        geglu_case(&rig, 6300, (struct linear){ .in = 128, .out = 320 });
        geglu_case(&rig, 133, (struct linear){ .in = 64, .out = 96 });
        check_rig_close(&rig);
    }
}

TEST_TIMEOUT(cuda_linear_and_geglu_are_the_reference, 300)
{
    on_cuda(NULL);
}

TEST_TIMEOUT(ptx_linear_and_geglu_are_the_reference, 600)
{
    on_cuda(&ptx_target);
}
