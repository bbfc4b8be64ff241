/* check_checker.c - the checker must catch kernels that are wrong, each in its own way. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/kern/check.h"
#include "tests/tool/test.h"

#define N 100 /* elements, 2 frames of 50 */

static status call_silu(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->silu(ctx, a);
}

/* The verdict on kern_cpu with this function as its silu. */
static void expect_caught(status (*silu)(struct kern_ctx *, const struct kern_silu *),
                          const char *sentence)
{
    struct kern_table table = kern_cpu;
    struct check_rig rig;
    struct check c = { .call = call_silu, .tol = { 1e-6, 1e-6, 5e-7 } };
    struct kern_silu a;
    const char *verdict;

    if (silu)
        table.silu = silu;
    check_rig_open(&rig, &table);
    a.x = check_tensor(check_input(&c, N), 2, 1, 1, N / 2);
    a.y = check_tensor(check_output(&c, N), 2, 1, 1, N / 2);
    c.args = &a;
    verdict = check_verdict(&c, &rig);
    if (sentence && (!verdict || !strstr(verdict, sentence)))
        test_fail(__FILE__, __LINE__, "wanted \"%s\", verdict \"%s\"", sentence,
                  verdict ? verdict : "right");
    if (!sentence)
        EXPECT_TEXT(verdict, NULL);
    check_free(&c);
    check_rig_close(&rig);
}

TEST(a_right_kernel_passes)
{
    expect_caught(NULL, NULL);
}

static status write_after(struct kern_ctx *ctx, const struct kern_silu *a)
{
    ((float *)a->y.data)[N] = 0;
    return kern_cpu.silu(ctx, a);
}

static status write_before(struct kern_ctx *ctx, const struct kern_silu *a)
{
    ((float *)a->y.data)[-1] = 0;
    return kern_cpu.silu(ctx, a);
}

TEST(a_write_out_of_bounds_is_caught)
{
    expect_caught(write_after, "wrote element 100 of 100");
    expect_caught(write_before, "before its start");
}

static status change_input(struct kern_ctx *ctx, const struct kern_silu *a)
{
    status st = kern_cpu.silu(ctx, a);

    ((float *)a->x.data)[3] += 1;
    return st;
}

TEST(a_changed_input_is_caught)
{
    expect_caught(change_input, "changed element 3 of an input");
}

static status all_nan(struct kern_ctx *ctx, const struct kern_silu *a)
{
    (void)ctx;
    for (int i = 0; i < N; i++)
        ((float *)a->y.data)[i] = NAN;
    return OK;
}

TEST(nan_is_caught)
{
    expect_caught(all_nan, "element 0 is");
}

static status forget_one(struct kern_ctx *ctx, const struct kern_silu *a)
{
    struct kern_silu shorter = *a;

    shorter.x.n = shorter.y.n = 1;
    shorter.x.c = shorter.y.c = N - 1;
    return kern_cpu.silu(ctx, &shorter);
}

TEST(an_element_left_out_is_caught)
{
    expect_caught(forget_one, "element 99 is");
}

static status a_little_off(struct kern_ctx *ctx, const struct kern_silu *a)
{
    status st = kern_cpu.silu(ctx, a);

    ((float *)a->y.data)[57] += 0.01f;
    return st;
}

TEST(one_element_off_by_a_hundredth_is_caught)
{
    expect_caught(a_little_off, "element 57 is");
}

static status all_a_little_off(struct kern_ctx *ctx, const struct kern_silu *a)
{
    status st = kern_cpu.silu(ctx, a);

    for (int i = 0; i < N; i++)
        ((float *)a->y.data)[i] *= 1 + 1.2e-6f;
    return st;
}

TEST(all_elements_within_tolerance_but_off_is_caught)
{
    /* Each element is within 1e-6 + 1e-6 |want|; the whole is not within 5e-7 of its norm. */
    expect_caught(all_a_little_off, "relative L2");
}

static status different_every_time(struct kern_ctx *ctx, const struct kern_silu *a)
{
    static atomic_int calls;
    status st = kern_cpu.silu(ctx, a);

    if (atomic_fetch_add(&calls, 1) == 1) {
        float *y = a->y.data;

        y[9] = nextafterf(y[9], 10);
    }
    return st;
}

TEST(one_bit_that_depends_on_threads_is_caught)
{
    expect_caught(different_every_time, "other bits than with one thread");
}

static status fails(struct kern_ctx *ctx, const struct kern_silu *a)
{
    (void)ctx;
    (void)a;
    return FAIL(ERR_DEVICE, "no silu today");
}

TEST(a_failure_is_caught)
{
    expect_caught(fails, "no silu today");
}

TEST(every_instruction_set_is_checked)
{
    struct check_rig rig;
    const char *missing = NULL;

    check_rig_open(&rig, &kern_cpu);
    EXPECT(rig.ctx[KERN_ISA_PLAIN][1] && rig.ctx[KERN_ISA_PLAIN][CHECK_THREADS_MAX]);
    for (int isa = KERN_ISA_PLAIN; isa <= KERN_ISA_AVX512; isa++) {
        if (!rig.ctx[isa][1])
            missing = check_isa_name(isa);
    }
    check_rig_close(&rig);
    if (missing)
        test_skip("this machine has no %s: those kernels were not checked", missing);
}
