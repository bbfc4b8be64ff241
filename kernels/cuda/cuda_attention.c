/* Attention in frames and over frames: which kernel, and its launch. See cuda_attention.cu. */
#include "kernels/cuda/cuda_attention.h"

#include <math.h>

#include "kernels/cuda/cuda_priv.h"

/* Queries of a block of attention_D; sequences of a block of attention_time, and its tokens. */
#define QUERIES 64
#define TIME_WARPS 4
#define TIME_TOKENS_MAX 32

/* Bytes of shared memory that every card since Ampere gives one block. */
#define SHARED_MAX_BYTES (96 << 10)

/* Largest size of the second and third dimension of a grid. */
#define GRID_MAX 65535

/* A kernel for head sizes up to d. */
struct width {
    const char *name;
    int d;     /* padded head size */
    int keys;  /* of a step */
    int steps; /* of keys and values in shared memory at once */
    int warps; /* of a block */
};

static const struct width widths[] = {
    { "attention_16", 16, 64, 2, 4 },   { "attention_32", 32, 64, 2, 4 },
    { "attention_64", 64, 64, 2, 4 },   { "attention_80", 80, 64, 2, 4 },
    { "attention_128", 128, 64, 2, 4 }, { "attention_512", 512, 16, 1, 8 },
};

/* The narrowest kernel that holds d, or NULL. */
static const struct width *width_of(int64_t d)
{
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        if (d <= widths[i].d)
            return &widths[i];
    }
    return NULL;
}

/* Rows can be moved 16 bytes at a time. */
static bool is_vector(const struct cuda_attention *g)
{
    const uint64_t addresses = g->q | g->k | g->v | g->y;
    const int64_t steps = g->q_row | g->k_row | g->v_row | g->y_row | g->q_batch | g->k_batch |
                          g->v_batch | g->y_batch | g->d;

    return addresses % 16 == 0 && steps % 8 == 0;
}

static float scale_of(int64_t d)
{
    return (float)(1.4426950408889634 / sqrt((double)d));
}

/* Slow and always right. */
static status run_any(struct cuda_ctx *c, const struct cuda_attention *g)
{
    const struct cuda_call call = {
        .name = "attention_any",
        .grid = { (uint32_t)g->queries, (uint32_t)g->heads,
                  (uint32_t)(g->batches < GRID_MAX ? g->batches : GRID_MAX) },
        .block = { 32 },
        .shared_bytes = (uint32_t)(2 * g->d) * (uint32_t)sizeof(float),
        .args = g,
        .args_bytes = sizeof(*g),
    };

    if (call.shared_bytes > SHARED_MAX_BYTES || g->heads > GRID_MAX)
        return FAIL(ERR_BADARG, "device cuda has no attention with %d heads of %d", g->heads, g->d);
    return cuda_launch(c, &call);
}

status cuda_attention(struct kern_ctx *ctx, const struct kern_attention *a)
{
    const struct width *w = width_of(a->d);
    const struct cuda_attention g = {
        .q = cuda_at(a->q),
        .k = cuda_at(a->k),
        .v = cuda_at(a->v),
        .y = cuda_at(a->y),
        .q_batch = a->queries * a->q_stride,
        .k_batch = a->keys * a->k_stride,
        .v_batch = a->keys * a->v_stride,
        .y_batch = a->queries * a->y_stride,
        .q_row = a->q_stride,
        .k_row = a->k_stride,
        .v_row = a->v_stride,
        .y_row = a->y_stride,
        .batches = a->n,
        .queries = (int32_t)a->queries,
        .keys = (int32_t)a->keys,
        .heads = (int32_t)a->heads,
        .d = (int32_t)a->d,
        .scale = scale_of(a->d),
    };
    struct cuda_call call = { .args = &g, .args_bytes = sizeof(g) };

    if (!w || !is_vector(&g) || g.batches > GRID_MAX || g.heads > GRID_MAX)
        return run_any(cuda_ctx_of(ctx), &g);
    call.name = w->name;
    call.grid[0] = (uint32_t)cuda_parts(a->queries, QUERIES);
    call.grid[1] = (uint32_t)a->heads;
    call.grid[2] = (uint32_t)a->n;
    call.block[0] = (uint32_t)w->warps * 32;
    call.shared_bytes = (uint32_t)((QUERIES + 2 * w->steps * w->keys) * (2 * w->d + 16));
    return cuda_launch(cuda_ctx_of(ctx), &call);
}

status cuda_attention_temporal(struct kern_ctx *ctx, const struct kern_attention_temporal *a)
{
    const struct cuda_attention g = {
        .q = cuda_at(a->q),
        .k = cuda_at(a->k),
        .v = cuda_at(a->v),
        .y = cuda_at(a->y),
        .q_batch = a->q_stride,
        .k_batch = a->k_stride,
        .v_batch = a->v_stride,
        .y_batch = a->heads * a->d,
        .q_row = a->pixels * a->q_stride,
        .k_row = a->pixels * a->k_stride,
        .v_row = a->pixels * a->v_stride,
        .y_row = a->pixels * a->heads * a->d,
        .batches = a->pixels,
        .queries = (int32_t)a->frames,
        .keys = (int32_t)a->frames,
        .heads = (int32_t)a->heads,
        .d = (int32_t)a->d,
        .scale = scale_of(a->d),
    };
    const int64_t shared_bytes = TIME_WARPS * 3 * a->frames * (a->d + 8) * 2;
    const struct cuda_call call = {
        .name = "attention_time",
        .grid = { (uint32_t)cuda_parts(a->pixels * a->heads, TIME_WARPS) },
        .block = { TIME_WARPS * 32 },
        .shared_bytes = (uint32_t)shared_bytes,
        .args = &g,
        .args_bytes = sizeof(g),
    };

    if (a->frames > TIME_TOKENS_MAX || shared_bytes > SHARED_MAX_BYTES || !is_vector(&g))
        return run_any(cuda_ctx_of(ctx), &g);
    return cuda_launch(cuda_ctx_of(ctx), &call);
}
