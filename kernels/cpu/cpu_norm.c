/* DESIGN: group norm reads its input twice. First the rows are cut into parts, the same ones for
 * any number of threads; a part goes through the cache in blocks of BLOCK_ROWS, each read for the
 * mean and again for the squares around it, and blocks and parts are combined in their order with
 * Chan's formula (doi:10.2307/2683386), in double. No sum of squares minus square of sum: a mean
 * far from zero costs no digits. Then every row is multiplied and shifted. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_priv.h"

#define BLOCK_ROWS 64 /* 64 rows of 1280 channels are 320 KiB: still there for the second reading */
#define PARTS_MAX 128 /* parts of one clip: enough for many cores, few to combine */
#define LAYER_NORM_ROWS 32 /* rows of a task */

/* Count, mean and sum of squares around the mean. */
struct moments {
    double count, mean, squares;
};

static void moments_merge(struct moments *a, const struct moments *b)
{
    double count = a->count + b->count, apart = b->mean - a->mean;

    a->squares += b->squares + apart * apart * a->count * b->count / count;
    a->mean += apart * b->count / count;
    a->count = count;
}

/* A group norm under way. */
struct group_norm {
    struct cpu_ctx *ctx;
    const struct kern_group_norm *a;
    int64_t rows;            /* of a clip: span * h * w */
    int64_t parts;           /* of a clip */
    int64_t part_rows;       /* rows of a part, but for the last */
    struct moments *moments; /* [clips][parts][groups] */
    float *affine;           /* [clips][factor, shift][c] */
};

/* First element and number of rows of part task % parts in clip task / parts. */
static int64_t part_rows(const struct group_norm *g, int64_t task, int64_t *offset)
{
    int64_t clip = task / g->parts, first = task % g->parts * g->part_rows;

    *offset = (clip * g->rows + first) * g->a->x.c;
    return cpu_min(g->rows - first, g->part_rows);
}

/* Moments of each group in one block; scratch has 2 c floats. */
static void block_moments(const struct group_norm *g, const float *x, int64_t rows, float *scratch,
                          struct moments *m)
{
    const struct cpu_isa *isa = g->ctx->isa;
    int64_t c = g->a->x.c, groups = g->a->layer->groups, width = c / groups;
    float *sums = scratch, *means = scratch + c;
    double count = (double)(rows * width);

    memset(sums, 0, (size_t)c * sizeof(float));
    isa->column_sums(sums, x, rows, c);
    for (int64_t k = 0; k < groups; k++) {
        double sum = 0;

        for (int64_t i = k * width; i < (k + 1) * width; i++)
            sum += sums[i];
        m[k] = (struct moments){ .count = count, .mean = sum / count };
        for (int64_t i = k * width; i < (k + 1) * width; i++)
            means[i] = (float)m[k].mean;
    }
    memset(sums, 0, (size_t)c * sizeof(float));
    isa->column_squares(sums, means, x, rows, c);
    for (int64_t k = 0; k < groups; k++) {
        double off = m[k].mean - means[k * width]; /* the squares are around the rounded mean */

        for (int64_t i = k * width; i < (k + 1) * width; i++)
            m[k].squares += sums[i];
        m[k].squares -= count * off * off;
    }
}

static void moments_task(void *arg, int64_t task, int worker)
{
    const struct group_norm *g = arg;
    int64_t groups = g->a->layer->groups, c = g->a->x.c, offset;
    int64_t rows = part_rows(g, task, &offset);
    const float *x = (const float *)g->a->x.data + offset;
    struct moments *total = g->moments + task * groups;
    struct moments *block = (struct moments *)cpu_worker(g->ctx, worker);
    float *scratch = (float *)(block + groups);

    for (int64_t r = 0; r < rows; r += BLOCK_ROWS) {
        block_moments(g, x + r * c, cpu_min(rows - r, BLOCK_ROWS), scratch, block);
        for (int64_t k = 0; k < groups; k++) {
            if (r == 0)
                total[k] = block[k];
            else
                moments_merge(&total[k], &block[k]);
        }
    }
}

/* Factor and shift of every channel of one clip. */
static void combine_task(void *arg, int64_t clip, int worker)
{
    const struct group_norm *g = arg;
    const struct norm *l = g->a->layer;
    int64_t width = l->c / l->groups;
    float *factor = g->affine + clip * 2 * l->c, *shift = factor + l->c;

    (void)worker;
    for (int64_t k = 0; k < l->groups; k++) {
        const struct moments *part = g->moments + clip * g->parts * l->groups + k;
        struct moments m = *part;
        double inv_std;

        for (int64_t p = 1; p < g->parts; p++)
            moments_merge(&m, part + p * l->groups);
        inv_std = 1 / sqrt(m.squares / m.count + l->eps);
        for (int64_t i = k * width; i < (k + 1) * width; i++) {
            factor[i] = (float)(inv_std * l->gamma[i]);
            shift[i] = (float)(l->beta[i] - m.mean * inv_std * l->gamma[i]);
        }
    }
}

static void affine_task(void *arg, int64_t task, int worker)
{
    const struct group_norm *g = arg;
    int64_t c = g->a->x.c, offset, rows = part_rows(g, task, &offset);
    const float *x = (const float *)g->a->x.data + offset;
    const float *factor = g->affine + task / g->parts * 2 * c;
    float *y = (float *)g->a->y.data + offset;

    (void)worker;
    for (int64_t r = 0; r < rows; r++)
        g->ctx->isa->affine(y + r * c, x + r * c, factor, factor + c, c, g->a->silu);
}

static double work_of(const struct kern_group_norm *a)
{
    return 4.0 * (double)(cpu_rows(&a->x) * a->x.c);
}

/* Fill in g->affine, for all clips of g->a. */
static status find_affine(struct group_norm *g)
{
    const struct kern_group_norm *a = g->a;
    int64_t clips = a->x.n / a->span, c = a->x.c, slots;
    status st;

    g->rows = a->span * a->x.h * a->x.w;
    g->parts = cpu_min(cpu_parts(g->rows, BLOCK_ROWS), PARTS_MAX);
    g->part_rows = cpu_parts(g->rows, g->parts);
    g->parts = cpu_parts(g->rows, g->part_rows); /* no part is empty */
    slots = clips * g->parts * a->layer->groups;
    if ((c * 2 * sizeof(float) + a->layer->groups * sizeof(struct moments)) / sizeof(float) >
        CPU_WORKER_FLOATS)
        return FAIL(ERR_NOMEM, "a group norm over %lld channels: too many", (long long)c);
    st = cpu_shared(g->ctx,
                    slots * (int64_t)(sizeof(struct moments) / sizeof(float)) + clips * 2 * c,
                    (float **)&g->moments);
    if (st != OK)
        return st;
    g->affine = (float *)(g->moments + slots);
    cpu_run(g->ctx, work_of(a), clips * g->parts, moments_task, g);
    cpu_run(g->ctx, (double)slots * 10, clips, combine_task, g);
    return OK;
}

status cpu_group_norm(struct kern_ctx *ctx, const struct kern_group_norm *a)
{
    struct group_norm g = { .ctx = cpu_ctx_of(ctx), .a = a };
    status st = find_affine(&g);

    if (st == OK)
        cpu_run(g.ctx, work_of(a), a->x.n / a->span * g.parts, affine_task, &g);
    return st;
}

status cpu_clip_affine(struct cpu_ctx *ctx, const struct tensor *clip, const struct norm *layer,
                       const float **affine)
{
    const struct kern_group_norm a = { .x = *clip, .layer = layer, .span = clip->n };
    struct group_norm g = { .ctx = ctx, .a = &a };
    status st;

    if (2 * clip->c > CPU_AFFINE_FLOATS)
        return FAIL(ERR_NOMEM, "a group norm over %lld channels: too many", (long long)clip->c);
    st = find_affine(&g);
    if (st != OK)
        return st;
    memcpy(ctx->affine, g.affine, (size_t)(2 * clip->c) * sizeof(float));
    *affine = ctx->affine;
    return OK;
}

/* A layer norm under way. */
struct layer_norm {
    struct cpu_ctx *ctx;
    const struct kern_layer_norm *a;
    int64_t rows;
};

static void layer_norm_task(void *arg, int64_t task, int worker)
{
    const struct layer_norm *l = arg;
    int64_t c = l->a->x.c, first = task * LAYER_NORM_ROWS;
    int64_t end = cpu_min(first + LAYER_NORM_ROWS, l->rows);

    (void)worker;
    for (int64_t r = first; r < end; r++)
        l->ctx->isa->layer_norm((float *)l->a->y.data + r * c, (const float *)l->a->x.data + r * c,
                                l->a->layer);
}

status cpu_layer_norm(struct kern_ctx *ctx, const struct kern_layer_norm *a)
{
    struct layer_norm l = { .ctx = cpu_ctx_of(ctx), .a = a, .rows = cpu_rows(&a->x) };

    cpu_run(l.ctx, 8.0 * (double)(l.rows * a->x.c), cpu_parts(l.rows, LAYER_NORM_ROWS),
            layer_norm_task, &l);
    return OK;
}
