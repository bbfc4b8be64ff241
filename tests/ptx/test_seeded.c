/* Bugs seeded in the real kernels: an instruction that orders something is left out, and the
 * interpreter has to notice, whatever the numbers. */
#include <stdlib.h>
#include <string.h>

#include "kernels/kern.h"
#include "tests/ptx/ptx_driver.h"
#include "tests/tool/test.h"

#define CHANNELS 512 /* more slices than there are stages */
#define ROWS 300
#define FRAMES 25

/* A context of the interpreter, and operands for one call of each kind. */
struct rig {
    struct kern_ctx *ctx;
    struct tensor x, y; /* [1][1][ROWS][CHANNELS] */
    float *weight, *ones;
};

static void open_rig(struct rig *r, bool is_hopper)
{
    const struct kern_config config = { .target = &ptx_target,
                                        .weight_bytes = 16 << 20,
                                        .ordinal = is_hopper,
                                        .use_wgmma = is_hopper };
    const int64_t count = (int64_t)ROWS * CHANNELS;
    size_t bytes = 16 << 20;
    void *base;

    if (ptx_target.image_count == 0)
        test_skip("built without nvcc: there is no PTX");
    EXPECT_OK(kern_cuda.open(&r->ctx, &config));
    EXPECT_OK(kern_cuda.memory(r->ctx, &bytes, &base));
    r->x = (struct tensor){ base, KERN_BF16, 1, 1, ROWS, CHANNELS };
    r->y = r->x;
    r->y.data = (char *)base + 8 * count;
    r->weight = calloc((size_t)CHANNELS * CHANNELS, sizeof(float));
    r->ones = calloc((size_t)count, sizeof(float));
    EXPECT(r->weight && r->ones);
    for (int64_t i = 0; i < count; i++)
        r->ones[i] = 1;
    EXPECT_OK(kern_cuda.upload(r->ctx, &r->x, r->ones));
}

static status product(struct rig *r)
{
    const struct linear layer = { .weight = r->weight, .out = CHANNELS, .in = CHANNELS };
    const struct kern_linear a = { .x = r->x, .y = r->y, .layer = &layer };

    return kern_cuda.linear(r->ctx, &a);
}

static status small_product(struct rig *r)
{
    const struct linear layer = { .weight = r->weight, .out = 64, .in = CHANNELS };
    struct kern_linear a = { .x = r->x, .y = r->y, .layer = &layer };

    a.y.c = 64;
    return kern_cuda.linear(r->ctx, &a);
}

static status attention(struct rig *r)
{
    const struct kern_attention a = { .q = r->x.data,
                                      .k = r->x.data,
                                      .v = r->x.data,
                                      .y = r->y.data,
                                      .dtype = KERN_BF16,
                                      .q_stride = CHANNELS,
                                      .k_stride = CHANNELS,
                                      .v_stride = CHANNELS,
                                      .y_stride = CHANNELS,
                                      .n = 1,
                                      .queries = ROWS,
                                      .keys = ROWS,
                                      .heads = 1,
                                      .d = 64 };

    return kern_cuda.attention(r->ctx, &a);
}

static status attention_over_time(struct rig *r)
{
    const struct kern_attention_temporal a = { .q = r->x.data,
                                               .k = r->x.data,
                                               .v = r->x.data,
                                               .y = r->y.data,
                                               .dtype = KERN_BF16,
                                               .q_stride = 64,
                                               .k_stride = 64,
                                               .v_stride = 64,
                                               .frames = FRAMES,
                                               .pixels = 4,
                                               .heads = 1,
                                               .d = 64 };

    return kern_cuda.attention_temporal(r->ctx, &a);
}

static status group_norm(struct rig *r)
{
    const struct norm layer = {
        .gamma = r->ones, .beta = r->ones, .c = CHANNELS, .groups = 8, .eps = 1e-5f
    };
    const struct kern_group_norm a = { .x = r->x, .y = r->y, .layer = &layer, .span = 1 };

    return kern_cuda.group_norm(r->ctx, &a);
}

static const struct {
    const char *kernel, *opcode; /* what is left out, every one by itself */
    int first, count;            /* which of them */
    status (*call)(struct rig *);
    bool is_hopper;
} seeds[] = {
    { "gemm_large_bf16", "bar.sync", 0, 2, product, false },
    { "gemm_large_bf16", "cp.async.wait_group", 0, 1, product, false },
    { "gemm_small_bf16", "bar.sync", 0, 2, small_product, false },
    { "gemm_small_bf16", "cp.async.wait_group", 0, 1, small_product, false },
    { "attention_64_bf16", "bar.sync", 0, 2, attention, false },
    { "attention_64_bf16", "cp.async.wait_group", 0, 1, attention, false },
    { "attention_time_bf16", "bar.warp.sync", 0, 1, attention_over_time, false },
    /* The one between orders nothing: a lane writes over its own query. */
    { "attention_time_bf16", "bar.warp.sync", 2, 1, attention_over_time, false },
    { "group_stats_bf16", "bar.sync", 0, 1, group_norm, false },
    { "gemm_hopper_wide_bf16", "bar.sync", 0, 2, product, true },
    { "gemm_hopper_wide_bf16", "cp.async.wait_group", 0, 1, product, true },
    { "gemm_hopper_wide_bf16", "fence.proxy.async", 0, 1, product, true },
    { "gemm_hopper_wide_bf16", "wgmma.fence", 0, 1, product, true },
    { "gemm_hopper_wide_bf16", "wgmma.wait_group", 0, 2, product, true },
};

TEST_TIMEOUT(ptx_seeded_bugs_are_found, 300)
{
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++) {
        for (int n = -1; n < seeds[i].count; n++) {
            struct rig r;
            status st;

            open_rig(&r, seeds[i].is_hopper);
            if (n >= 0)
                EXPECT(ptx_driver_drop(seeds[i].kernel, seeds[i].opcode, seeds[i].first + n));
            st = seeds[i].call(&r);
            if ((st == OK) != (n < 0))
                test_fail(__FILE__, __LINE__, "%s without %s number %d: status %s", seeds[i].kernel,
                          seeds[i].opcode, n, status_name(st));
            kern_cuda.close(r.ctx);
            free(r.weight);
            free(r.ones);
        }
    }
}
