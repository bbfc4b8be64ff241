/* Group norm and layer norm: launches. See cuda_norm.h. */
#include "kernels/cuda/cuda_norm.h"

#include "kernels/cuda/cuda_priv.h"

/* Threads of a block, roughly; a block has whole rows. */
#define BLOCK_THREADS 256
#define BLOCK_MAX 1024

/* Blocks of statistics per clip, and rows that are worth one. The number depends on the rows alone,
 * so that a clip's bits depend neither on the clips beside it nor on the card. */
#define CHUNKS_MAX 128
#define CHUNK_ROWS_MIN 32

/* Blocks that keep a GPU busy, for each multiprocessor. */
#define WAVES 8

/* A vector access moves 8 elements, 16 bytes. */
static bool is_vector(const void *x, const void *y, int64_t c)
{
    return c % 8 == 0 && cuda_at(x) % 16 == 0 && cuda_at(y) % 16 == 0;
}

/* Columns of threads in a block: one thread makes 8 channels, or one. */
static int64_t columns_of(const struct cuda_group *g, bool vector)
{
    return vector ? g->c / 8 : g->c;
}

static int64_t lanes_of(int64_t columns)
{
    return columns >= BLOCK_THREADS ? 1 : BLOCK_THREADS / columns;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Sizes and scratch of g, from its clips, rows and c. */
static status plan(struct cuda_ctx *c, struct cuda_group *g)
{
    size_t factor_bytes = 2 * (size_t)g->clips * (size_t)g->c * sizeof(float), partial_bytes;
    cuda_ptr scratch;
    status st = OK;

    g->chunk_rows = cuda_parts(g->rows, CHUNKS_MAX);
    if (g->chunk_rows < CHUNK_ROWS_MIN)
        g->chunk_rows = CHUNK_ROWS_MIN;
    g->chunks = (int32_t)cuda_parts(g->rows, g->chunk_rows);
    partial_bytes = 2 * (size_t)g->clips * (size_t)g->chunks * (size_t)g->groups * sizeof(float);
    TRY(cuda_scratch(c, factor_bytes + partial_bytes, &scratch));
    g->factor = scratch;
    g->partials = scratch + factor_bytes;
out:
    return st;
}

static status run_factors(struct cuda_ctx *c, struct cuda_group *g, bool vector)
{
    const int64_t columns = columns_of(g, vector), lanes = lanes_of(columns);
    const struct cuda_call stats = {
        .name = vector ? "group_stats" : "group_stats_odd",
        .grid = { (uint32_t)g->chunks, (uint32_t)g->clips },
        .block = { (uint32_t)(columns * lanes) },
        .shared_bytes = (uint32_t)(2 * lanes * g->c) * (uint32_t)sizeof(float),
        .args = g,
        .args_bytes = sizeof(*g),
    };
    const struct cuda_call factors = {
        .name = "group_factors",
        .grid = { (uint32_t)g->groups, (uint32_t)g->clips },
        .block = { 32 },
        .args = g,
        .args_bytes = sizeof(*g),
    };
    status st = OK;

    if (columns > BLOCK_MAX)
        TRY(FAIL(ERR_BADARG,
                 "device cuda has no group norm of %d channels; at most %d, or 8 times "
                 "that if they are a multiple of 8",
                 (int)g->c, BLOCK_MAX));
    TRY(cuda_launch(c, &stats));
    TRY(cuda_launch(c, &factors));
out:
    return st;
}

static status describe(struct cuda_ctx *c, struct cuda_group *g, const struct tensor *x,
                       const struct norm *layer, int64_t span)
{
    status st = OK;

    *g = (struct cuda_group){ .x = cuda_at(x->data),
                              .rows = span * x->h * x->w,
                              .clips = (int32_t)(x->n / span),
                              .c = (int32_t)x->c,
                              .groups = layer->groups,
                              .eps = layer->eps };
    TRY(cuda_floats(c, layer->gamma, layer->c, &g->gamma));
    TRY(cuda_floats(c, layer->beta, layer->c, &g->beta));
    TRY(plan(c, g));
out:
    return st;
}

status cuda_group_factors(struct cuda_ctx *c, const struct tensor *x, const struct norm *layer,
                          int64_t span, cuda_ptr *factor)
{
    struct cuda_group g;
    status st = OK;

    TRY(describe(c, &g, x, layer, span));
    TRY(run_factors(c, &g, is_vector(x->data, NULL, x->c)));
    *factor = g.factor;
out:
    return st;
}

status cuda_group_norm(struct kern_ctx *ctx, const struct kern_group_norm *a)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    const bool vector = is_vector(a->x.data, a->y.data, a->x.c);
    struct cuda_group g;
    struct cuda_call apply = { .args = &g, .args_bytes = sizeof(g) };
    int64_t columns, lanes;
    status st = OK;

    TRY(describe(c, &g, &a->x, a->layer, a->span));
    g.y = cuda_at(a->y.data);
    g.is_silu = a->silu;
    TRY(run_factors(c, &g, vector));
    columns = columns_of(&g, vector);
    lanes = lanes_of(columns);
    apply.name = vector ? "group_apply" : "group_apply_odd";
    apply.grid[0] = (uint32_t)smaller(cuda_parts(g.rows, lanes),
                                      cuda_parts(WAVES * c->info.multiprocessors, g.clips));
    apply.grid[1] = (uint32_t)g.clips;
    apply.block[0] = (uint32_t)(columns * lanes);
    TRY(cuda_launch(c, &apply));
out:
    return st;
}

status cuda_layer_norm(struct kern_ctx *ctx, const struct kern_layer_norm *a)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    const bool vector = is_vector(a->x.data, a->y.data, a->x.c);
    struct cuda_layer g = { .x = cuda_at(a->x.data),
                            .y = cuda_at(a->y.data),
                            .rows = a->x.n * a->x.h * a->x.w,
                            .c = (int32_t)a->x.c,
                            .eps = a->layer->eps };
    const struct cuda_call call = { .name = vector ? "layer_norm" : "layer_norm_odd",
                                    .grid = { (uint32_t)cuda_parts(g.rows, BLOCK_THREADS / 32) },
                                    .block = { BLOCK_THREADS },
                                    .args = &g,
                                    .args_bytes = sizeof(g) };
    status st = OK;

    TRY(cuda_floats(c, a->layer->gamma, a->layer->c, &g.gamma));
    TRY(cuda_floats(c, a->layer->beta, a->layer->c, &g.beta));
    TRY(cuda_launch(c, &call));
out:
    return st;
}
