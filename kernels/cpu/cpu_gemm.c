/* DESIGN: one matrix product under linear layers and all convolutions.
 *
 * Weights [n][k] are packed into panels of two vectors of columns, [panel][k][2 lanes], as many
 * panels at a time as fit the shared scratch. Packing reads each weight once per call: against the
 * work that a weight does, once per row of A, that is little, and nothing has to be kept, found
 * again or thrown away. Then tasks of (rows x panels) go through A in blocks of CPU_DEPTH columns:
 * the block is gathered by the layer's own function, which is where a convolution pads, strides
 * and resamples, and multiplied with each panel. Sums stay in the thread's scratch until the last
 * block; then the epilogue writes y, once.
 *
 * CAREFUL: every sum is one chain over k in rising order. Tiles, tasks and passes cut rows and
 * columns only, so that results do not depend on threads or on the other rows. */
#include "kernels/cpu/cpu_priv.h"

/* Largest task; A's block and the sums together take 0.4 MB of a thread's second-level cache. */
#define TASK_ROWS 96
#define TASK_COLUMNS 512
_Static_assert(TASK_ROWS *(CPU_PITCH + TASK_COLUMNS + 16 + CPU_PAIR_PITCH) <= CPU_WORKER_FLOATS,
               "a task fits its scratch");
_Static_assert(TASK_ROWS % 16 == 0, "rows rounded up to AMX tiles fit the sums");

/* Columns of 16-bit weights that are widened at a time, a multiple of every step. */
#define WIDEN_DEPTH ((int64_t)4096)
_Static_assert(16 * WIDEN_DEPTH <= CPU_WORKER_FLOATS,
               "a vector of columns fits a thread's scratch");

/* One pass over A with the panels that are packed. */
struct pass {
    struct cpu_ctx *ctx;
    const struct cpu_bf16 *bf16; /* NULL: products of float */
    const struct cpu_gemm *g;
    float *packed;          /* [panels][words][2 lanes]: floats, or pairs of bf16 */
    int64_t words;          /* of a column: k, or pairs padded to whole steps */
    int64_t panel0, panels; /* of y */
    int64_t rows_step;      /* rows of a task */
    int64_t panels_step;    /* panels of a task */
    int64_t row_parts;      /* tasks one below the other */
    int64_t depth;          /* columns of a block of A, but for the last */
    int64_t pitch;          /* floats between rows of sums */
};

/* Weights k0 .. k0+depth-1 of a vector of columns, of which `count` exist. */
struct stretch {
    const float *weight; /* weight k0 of the first column */
    int64_t pitch;       /* floats between columns */
    int64_t count, k0, depth;
};

static void pack_floats(const struct pass *p, float *dst, const struct stretch *s)
{
    if (p->bf16)
        cpu_bf16_pack((uint32_t *)dst + s->k0 / 2 * CPU_PAIR_PANEL, s->weight, s->pitch, s->count,
                      s->depth);
    else
        p->ctx->isa->pack(dst + s->k0 * 2 * p->ctx->isa->lanes, s->weight, s->pitch, s->count,
                          s->depth);
}

/* Whole columns of 16 bits, which are widened a stretch at a time. */
static void pack_half_words(const struct pass *p, float *scratch, float *dst, int64_t first,
                            int64_t count)
{
    const struct cpu_gemm *g = p->g;
    struct stretch s = { .weight = scratch, .pitch = WIDEN_DEPTH, .count = count };

    for (s.k0 = 0; s.k0 < g->k; s.k0 += s.depth) {
        s.depth = cpu_min(g->k - s.k0, WIDEN_DEPTH);
        for (int64_t j = 0; j < cpu_min(count, p->ctx->isa->lanes); j++)
            p->ctx->isa->widen(scratch + j * WIDEN_DEPTH,
                               (const uint16_t *)g->weight + (first + j) * g->k + s.k0, s.depth,
                               g->dtype == KERN_F16);
        pack_floats(p, dst, &s);
    }
}

/* Pack one vector of columns, of which `count` exist. */
static void pack_half(const struct pass *p, float *scratch, float *dst, int64_t first,
                      int64_t count)
{
    const struct cpu_gemm *g = p->g;
    struct stretch s = { .weight = scratch, .pitch = g->k, .count = count, .depth = g->k };

    if (g->fold) {
        for (int64_t j = 0; j < cpu_min(count, p->ctx->isa->lanes); j++)
            g->fold(g->source, first + j, scratch + j * g->k);
        pack_floats(p, dst, &s);
    } else if (kern_dtype_bytes(g->dtype) == sizeof(float)) {
        s.weight = (const float *)g->weight + (count > 0 ? first * g->k : 0);
        pack_floats(p, dst, &s);
    } else {
        pack_half_words(p, scratch, dst, first, count);
    }
}

static void pack_task(void *arg, int64_t task, int worker)
{
    const struct pass *p = arg;
    int64_t lanes = p->ctx->isa->lanes, n = p->g->e.n;
    float *dst = p->packed + task * p->words * 2 * lanes, *scratch = cpu_worker(p->ctx, worker);

    if (p->g->e.gate) {
        int64_t first = (p->panel0 + task) * lanes;

        pack_half(p, scratch, dst, first, n - first);
        pack_half(p, scratch, dst + lanes, n + first, n - first);
    } else {
        int64_t first = (p->panel0 + task) * 2 * lanes;

        pack_half(p, scratch, dst, first, n - first);
        pack_half(p, scratch, dst + lanes, first + lanes, n - first - lanes);
    }
}

/* The weights for panel i of a task, at block `at`. After the last panel: the first of the next
 * block. */
static const float *packed_at(const struct pass *p, int64_t first, int64_t panels, int64_t i,
                              const struct cpu_block *at)
{
    int64_t k0 = at->k0;

    if (i == panels) {
        i = 0;
        k0 += at->depth;
    }
    return p->packed + ((first + i) * p->g->k + k0) * 2 * p->ctx->isa->lanes;
}

/* Block `at` of a task, whose first panel is `first`: sums = or += A W^T. */
static void block_product(const struct pass *p, float *block, const struct cpu_block *at,
                          int64_t first, int64_t panels)
{
    const struct cpu_gemm *g = p->g;
    const struct cpu_isa *isa = p->ctx->isa;
    const int64_t width = 2 * isa->lanes, y_width = g->e.gate ? isa->lanes : width;
    const bool is_last = at->k0 + at->depth == g->k && g->e.spread_w == 0;
    const float *y = g->e.y + at->m0 * g->e.n + (p->panel0 + first) * y_width;
    float *sums = block + TASK_ROWS * CPU_PITCH;

    for (int64_t i = 0; i < panels; i++)
        isa->tile(&(struct cpu_tile){ .a = block,
                                      .b = packed_at(p, first, panels, i, at),
                                      .c = sums + i * width,
                                      .c_pitch = p->pitch,
                                      .rows = at->rows,
                                      .depth = at->depth,
                                      .is_sum = at->k0 > 0,
                                      .next_b = packed_at(p, first, panels, i + 1, at),
                                      .y = is_last ? y + i * y_width : NULL,
                                      .y_pitch = g->e.n });
}

/* The same with products of bf16. CAREFUL: k0 is a multiple of 2 * CPU_PAIR_STEP, see
 * cpu_gemm_run. */
static void block_product_bf16(const struct pass *p, float *block, const struct cpu_block *at,
                               int64_t first, int64_t panels)
{
    float *sums = block + TASK_ROWS * CPU_PITCH;
    uint32_t *pairs = (uint32_t *)(sums + TASK_ROWS * (TASK_COLUMNS + 16));
    const uint32_t *packed = (const uint32_t *)p->packed;

    cpu_bf16_round(pairs, block, at->rows, at->depth);
    for (int64_t i = 0; i < panels; i++)
        p->bf16->tile(&(struct cpu_pair_tile){
            .a = pairs,
            .b = packed + ((first + i) * p->words + at->k0 / 2) * CPU_PAIR_PANEL,
            .c = sums + i * CPU_PAIR_PANEL,
            .c_pitch = p->pitch,
            .rows = at->rows,
            .pairs = cpu_parts(at->depth, 2 * CPU_PAIR_STEP) * CPU_PAIR_STEP,
            .is_sum = at->k0 > 0 });
}

static void product_task(void *arg, int64_t task, int worker)
{
    const struct pass *p = arg;
    const struct cpu_gemm *g = p->g;
    const struct cpu_bf16 *bf16 = p->bf16;
    int64_t first = task / p->row_parts * p->panels_step;
    int64_t panels = cpu_min(p->panels - first, p->panels_step);
    struct cpu_block at = { .m0 = task % p->row_parts * p->rows_step };
    float *block = cpu_worker(p->ctx, worker);

    if (bf16 && bf16->begin)
        bf16->begin();
    at.rows = cpu_min(g->m - at.m0, p->rows_step);
    for (at.k0 = 0; at.k0 < g->k; at.k0 += p->depth) {
        at.depth = cpu_min(g->k - at.k0, p->depth);
        g->fill(g->source, &at, block);
        if (bf16)
            block_product_bf16(p, block, &at, first, panels);
        else
            block_product(p, block, &at, first, panels);
    }
    if (bf16 && bf16->end)
        bf16->end();
    p->ctx->isa->finish(&g->e, &(struct cpu_sums){ .sums = block + TASK_ROWS * CPU_PITCH,
                                                   .pitch = p->pitch,
                                                   .m0 = at.m0,
                                                   .rows = at.rows,
                                                   .panel0 = p->panel0 + first,
                                                   .panels = panels });
}

/* Cut the pass into tasks: large ones, but a few for each thread. */
static void cut_tasks(struct pass *p)
{
    const struct cpu_isa *isa = p->ctx->isa;
    int64_t wanted = 3 * cpu_pool_threads(p->ctx->pool), least = 2;

    p->panels_step = cpu_min(p->panels, TASK_COLUMNS / (2 * isa->lanes));
    p->rows_step = cpu_min(p->g->m, TASK_ROWS);
    while (p->panels_step > least &&
           cpu_parts(p->panels, p->panels_step) * cpu_parts(p->g->m, p->rows_step) < wanted)
        p->panels_step = cpu_parts(p->panels_step, 2);
    while (p->rows_step > 2 * isa->rows &&
           cpu_parts(p->panels, p->panels_step) * cpu_parts(p->g->m, p->rows_step) < wanted)
        p->rows_step = cpu_parts(p->rows_step, 2 * isa->rows) * isa->rows;
    p->pitch = p->panels_step * 2 * isa->lanes + 16; /* an odd number of cache lines */
    p->row_parts = cpu_parts(p->g->m, p->rows_step);
}

status cpu_gemm_run(struct cpu_ctx *ctx, const struct cpu_gemm *g)
{
    int64_t columns = g->e.gate ? ctx->isa->lanes : 2 * ctx->isa->lanes; /* of y, in a panel */
    const struct cpu_bf16 *bf16 = cpu_bf16_of(ctx);
    const int64_t step = bf16 ? 2 * CPU_PAIR_STEP : 1; /* blocks of A begin at multiples */
    int64_t words = bf16 ? cpu_parts(g->k, step) * CPU_PAIR_STEP : g->k;
    int64_t panel_floats = words * 2 * ctx->isa->lanes, total = cpu_parts(g->e.n, columns);
    int64_t fits = ctx->shared_n / panel_floats;
    struct pass p = { .ctx = ctx, .bf16 = bf16, .g = g, .words = words };
    status st;

    if (fits < 1)
        fits = 1;
    p.depth = cpu_parts(g->k, cpu_parts(g->k, CPU_DEPTH)); /* equal blocks */
    p.depth = cpu_parts(p.depth, step) * step;
    st = cpu_shared(ctx, cpu_min(fits, total) * panel_floats, &p.packed);
    if (st != OK)
        return st;
    for (p.panel0 = 0; p.panel0 < total; p.panel0 += fits) {
        double weights;

        p.panels = cpu_min(total - p.panel0, fits);
        weights = (double)(p.panels * g->k * 2 * ctx->isa->lanes);
        cut_tasks(&p);
        cpu_run(ctx, weights, p.panels, pack_task, &p);
        cpu_run(ctx, 2 * weights * (double)g->m, p.row_parts * cpu_parts(p.panels, p.panels_step),
                product_task, &p);
    }
    return OK;
}
