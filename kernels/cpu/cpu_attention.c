/* DESIGN: attention block by block, after arXiv:2205.14135: no matrix of all scores exists.
 *
 * A task is a block of query rows of one head. Keys and values come in blocks; both products of a
 * block run on the same register tile as every other matrix product: scores = Q K^T with K packed
 * like weights, and sums += P V with V packed as it lies. Between the two, each row keeps its
 * running maximum and total, and sums made under an old maximum are scaled.
 * With products of bf16, Q, K, V and P are rounded as they are packed; maximum, total and sums stay
 * float. Temporal attention waits for memory, so it keeps products of float.
 * CAREFUL: the blocks of keys are the same for every query and start at key 0, so a row's result
 * does not depend on the block of queries it is in. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_priv.h"

#define QUERY_ROWS 384    /* at most, in a task: each packed key serves so many queries */
#define PIXELS_PER_TASK 8 /* temporal attention */

/* One head of one sequence. */
struct sequence {
    const float *q, *k, *v;                     /* first rows */
    float *y;                                   /* first row of the result */
    int64_t q_apart, k_apart, v_apart, y_apart; /* floats between rows */
};

/* Sizes that all tasks of a call share. */
struct plan {
    struct cpu_ctx *ctx;
    const struct cpu_bf16 *bf16; /* NULL: products of float */
    int64_t queries, keys, d, heads;
    int64_t query_rows; /* rows of a block of queries */
    int64_t key_rows;   /* rows of a block of keys, a multiple of the panel, at most CPU_DEPTH */
    int64_t d_blocks;   /* blocks of CPU_DEPTH in d */
    int64_t d_pitch;    /* d, rounded up to panels */
};

/* A thread's scratch, divided. */
struct tiles {
    float *q;                  /* [d_blocks][query_rows][CPU_PITCH], scaled by 1 / sqrt(d) */
    float *scores;             /* [query_rows][CPU_PITCH] */
    float *k;                  /* [panels of keys][d][panel] */
    float *v;                  /* [panels of d][key_rows][panel] */
    float *sums;               /* [query_rows][d_pitch] */
    struct cpu_softmax *state; /* [query_rows] */
};

/* Divide p's sizes over `scratch`; returns the floats needed. */
static int64_t tiles_lay_out(const struct plan *p, float *scratch, struct tiles *t)
{
    /* A tile of AMX writes 16 rows at least. */
    int64_t n = 0, rows = p->bf16 ? cpu_parts(p->query_rows, 16) * 16 : p->query_rows;

    t->q = scratch + n;
    n += p->d_blocks * rows * CPU_PITCH;
    t->scores = scratch + n;
    n += rows * CPU_PITCH;
    t->k = scratch + n;
    n += p->key_rows * p->d_pitch;
    t->v = scratch + n;
    n += p->key_rows * p->d_pitch;
    t->sums = scratch + n;
    n += rows * p->d_pitch;
    t->state = (struct cpu_softmax *)(scratch + n);
    n += p->query_rows * (int64_t)(sizeof(struct cpu_softmax) / sizeof(float));
    return n;
}

/* Choose block sizes. CAREFUL: key_rows may depend on the head size only. */
static status plan_blocks(struct plan *p)
{
    int64_t panel = 2 * p->ctx->isa->lanes;
    float *scratch = cpu_worker(p->ctx, 0);
    struct tiles t;

    p->d_blocks = cpu_parts(p->d, CPU_DEPTH);
    p->d_pitch = cpu_parts(p->d, panel) * panel;
    p->key_rows = p->d <= 256 ? 128 : 64;
    p->query_rows = cpu_parts(p->queries, cpu_parts(p->queries, QUERY_ROWS)); /* equal blocks */
    while (tiles_lay_out(p, scratch, &t) > CPU_WORKER_FLOATS) {
        if (p->query_rows <= 4)
            return FAIL(ERR_NOMEM, "attention with heads of %lld: too wide for this device",
                        (long long)p->d);
        p->query_rows = cpu_parts(p->query_rows, 2);
    }
    return OK;
}

/* Pairs in a padded row of n values. */
static int64_t pairs_of(int64_t n)
{
    return cpu_parts(n, 2 * CPU_PAIR_STEP) * CPU_PAIR_STEP;
}

/* Rows of floats, CPU_PITCH apart, become rows of pairs, CPU_PAIR_PITCH apart. */
static void round_in_place(float *rows, int64_t count, int64_t depth)
{
    cpu_bf16_round((uint32_t *)rows, rows, count, depth);
}

static void load_queries(const struct plan *p, const struct sequence *s, const struct tiles *t,
                         int64_t first, int64_t rows)
{
    float scale = (float)(1 / sqrt((double)p->d));

    for (int64_t b = 0; b < p->d_blocks; b++) {
        int64_t d0 = b * CPU_DEPTH, count = cpu_min(p->d - d0, CPU_DEPTH);

        for (int64_t r = 0; r < rows; r++)
            p->ctx->isa->scale(t->q + (b * p->query_rows + r) * CPU_PITCH,
                               s->q + (first + r) * s->q_apart + d0, count, scale);
        if (p->bf16)
            round_in_place(t->q + b * p->query_rows * CPU_PITCH, rows, count);
    }
}

/* 16-bit scores for one panel of keys, whose packed rows have `words` pairs. */
static void score_bf16(const struct plan *p, const struct sequence *s, const struct tiles *t,
                       int64_t rows, const struct cpu_block *at)
{
    const int64_t words = pairs_of(p->d), lanes = CPU_PAIR_PANEL / 2;

    for (int64_t j = 0; j < at->depth; j += CPU_PAIR_PANEL) {
        const float *k = s->k + (at->k0 + j) * s->k_apart;
        uint32_t *packed = (uint32_t *)t->k + j * words;
        int64_t left = at->depth - j;

        cpu_bf16_pack(packed, k, s->k_apart, left, p->d);
        cpu_bf16_pack(packed + lanes, left > lanes ? k + lanes * s->k_apart : k, s->k_apart,
                      left - lanes, p->d);
        for (int64_t b = 0; b < p->d_blocks; b++)
            p->bf16->tile(&(struct cpu_pair_tile){
                .a = (const uint32_t *)t->q + b * p->query_rows * CPU_PITCH,
                .b = packed + b * CPU_DEPTH / 2 * CPU_PAIR_PANEL,
                .c = t->scores + j,
                .c_pitch = CPU_PITCH,
                .rows = rows,
                .pairs = pairs_of(cpu_min(p->d - b * CPU_DEPTH, CPU_DEPTH)),
                .is_sum = b > 0 });
    }
}

/* 16-bit products of the scores, which are rounded where they lie, with the values. */
static void mix_values_bf16(const struct plan *p, const struct sequence *s, const struct tiles *t,
                            int64_t rows, const struct cpu_block *at)
{
    round_in_place(t->scores, rows, at->depth);
    for (int64_t d0 = 0; d0 < p->d; d0 += CPU_PAIR_PANEL) {
        uint32_t *packed = (uint32_t *)t->v + d0 * p->key_rows;

        cpu_bf16_pack_rows(packed, s->v + at->k0 * s->v_apart + d0, s->v_apart, at->depth,
                           cpu_min(p->d - d0, CPU_PAIR_PANEL));
        p->bf16->tile(&(struct cpu_pair_tile){ .a = (const uint32_t *)t->scores,
                                               .b = packed,
                                               .c = t->sums + d0,
                                               .c_pitch = p->d_pitch,
                                               .rows = rows,
                                               .pairs = pairs_of(at->depth),
                                               .is_sum = at->k0 > 0 });
    }
}

/* scores = Q K^T for keys first .. first+keys-1. */
static void score(const struct plan *p, const struct sequence *s, const struct tiles *t,
                  int64_t rows, const struct cpu_block *at)
{
    const struct cpu_isa *isa = p->ctx->isa;
    int64_t lanes = isa->lanes, panel = 2 * lanes;

    for (int64_t j = 0; j < at->depth; j += panel) {
        const float *k = s->k + (at->k0 + j) * s->k_apart;
        float *packed = t->k + j * p->d;
        int64_t left = at->depth - j;

        isa->pack(packed, k, s->k_apart, left, p->d);
        isa->pack(packed + lanes, left > lanes ? k + lanes * s->k_apart : k, s->k_apart,
                  left - lanes, p->d);
        for (int64_t b = 0; b < p->d_blocks; b++)
            isa->tile(&(struct cpu_tile){ .a = t->q + b * p->query_rows * CPU_PITCH,
                                          .b = packed + b * CPU_DEPTH * panel,
                                          .next_b = packed,
                                          .c = t->scores + j,
                                          .c_pitch = CPU_PITCH,
                                          .rows = rows,
                                          .depth = cpu_min(p->d - b * CPU_DEPTH, CPU_DEPTH),
                                          .is_sum = b > 0 });
    }
}

/* sums += P V for the same keys. */
static void mix_values(const struct plan *p, const struct sequence *s, const struct tiles *t,
                       int64_t rows, const struct cpu_block *at)
{
    const struct cpu_isa *isa = p->ctx->isa;
    int64_t panel = 2 * isa->lanes;

    for (int64_t d0 = 0; d0 < p->d; d0 += panel) {
        int64_t count = cpu_min(p->d - d0, panel);
        float *packed = t->v + d0 * p->key_rows;

        for (int64_t j = 0; j < at->depth; j++) {
            memcpy(packed + j * panel, s->v + (at->k0 + j) * s->v_apart + d0,
                   (size_t)count * sizeof(float));
            if (count < panel)
                memset(packed + j * panel + count, 0, (size_t)(panel - count) * sizeof(float));
        }
        isa->tile(&(struct cpu_tile){ .a = t->scores,
                                      .b = packed,
                                      .next_b = packed,
                                      .c = t->sums + d0,
                                      .c_pitch = p->d_pitch,
                                      .rows = rows,
                                      .depth = at->depth,
                                      .is_sum = at->k0 > 0 });
    }
}

/* The result for query rows first .. first+rows-1 of one head. */
static void attend(const struct plan *p, const struct sequence *s, int worker, int64_t first,
                   int64_t rows)
{
    const struct cpu_isa *isa = p->ctx->isa;
    struct cpu_block at = { 0 };
    struct tiles t;

    if (p->bf16 && p->bf16->begin)
        p->bf16->begin();
    tiles_lay_out(p, cpu_worker(p->ctx, worker), &t);
    load_queries(p, s, &t, first, rows);
    for (int64_t r = 0; r < rows; r++)
        t.state[r] = (struct cpu_softmax){ .largest = -INFINITY };
    for (at.k0 = 0; at.k0 < p->keys; at.k0 += p->key_rows) {
        at.depth = cpu_min(p->keys - at.k0, p->key_rows);
        (p->bf16 ? score_bf16 : score)(p, s, &t, rows, &at);
        for (int64_t r = 0; r < rows; r++) {
            float *sums = t.sums + r * p->d_pitch;
            float factor = isa->softmax(t.scores + r * CPU_PITCH, at.depth, &t.state[r]);

            if (at.k0 > 0 && factor != 1)
                isa->scale(sums, sums, p->d, factor);
        }
        (p->bf16 ? mix_values_bf16 : mix_values)(p, s, &t, rows, &at);
    }
    if (p->bf16 && p->bf16->end)
        p->bf16->end();
    for (int64_t r = 0; r < rows; r++)
        isa->scale(s->y + (first + r) * s->y_apart, t.sums + r * p->d_pitch, p->d,
                   1 / t.state[r].total);
}

/* A call under way: kern_attention. */
struct spatial {
    struct plan plan;
    const struct kern_attention *a;
    int64_t parts; /* blocks of queries in a frame */
};

static void spatial_task(void *arg, int64_t task, int worker)
{
    const struct spatial *j = arg;
    const struct kern_attention *a = j->a;
    int64_t part = task % j->parts, head = task / j->parts % a->heads;
    int64_t n = task / j->parts / a->heads, first = part * j->plan.query_rows;
    struct sequence s = { .q = (const float *)a->q + n * a->queries * a->q_stride + head * a->d,
                          .k = (const float *)a->k + n * a->keys * a->k_stride + head * a->d,
                          .v = (const float *)a->v + n * a->keys * a->v_stride + head * a->d,
                          .y = (float *)a->y + n * a->queries * a->y_stride + head * a->d,
                          .q_apart = a->q_stride,
                          .k_apart = a->k_stride,
                          .v_apart = a->v_stride,
                          .y_apart = a->y_stride };

    attend(&j->plan, &s, worker, first, cpu_min(a->queries - first, j->plan.query_rows));
}

status cpu_attention(struct kern_ctx *ctx, const struct kern_attention *a)
{
    struct spatial j = { .plan = { .ctx = cpu_ctx_of(ctx),
                                   .bf16 = cpu_bf16_of(cpu_ctx_of(ctx)),
                                   .queries = a->queries,
                                   .keys = a->keys,
                                   .d = a->d,
                                   .heads = a->heads },
                         .a = a };
    double work = 4.0 * (double)(a->n * a->heads * a->d) * (double)(a->queries * a->keys);
    status st = plan_blocks(&j.plan);

    if (st != OK)
        return st;
    j.parts = cpu_parts(a->queries, j.plan.query_rows);
    cpu_run(j.plan.ctx, work, a->n * a->heads * j.parts, spatial_task, &j);
    return OK;
}

/* A call under way: kern_attention_temporal. */
struct temporal {
    struct plan plan;
    const struct kern_attention_temporal *a;
};

static void temporal_task(void *arg, int64_t task, int worker)
{
    const struct temporal *j = arg;
    const struct kern_attention_temporal *a = j->a;
    int64_t width = a->heads * a->d, end = cpu_min((task + 1) * PIXELS_PER_TASK, a->pixels);

    for (int64_t pixel = task * PIXELS_PER_TASK; pixel < end; pixel++) {
        for (int64_t head = 0; head < a->heads; head++) {
            struct sequence s = { .q = (const float *)a->q + pixel * a->q_stride + head * a->d,
                                  .k = (const float *)a->k + pixel * a->k_stride + head * a->d,
                                  .v = (const float *)a->v + pixel * a->v_stride + head * a->d,
                                  .y = (float *)a->y + pixel * width + head * a->d,
                                  .q_apart = a->pixels * a->q_stride,
                                  .k_apart = a->pixels * a->k_stride,
                                  .v_apart = a->pixels * a->v_stride,
                                  .y_apart = a->pixels * width };

            for (int64_t r = 0; r < a->frames; r += j->plan.query_rows)
                attend(&j->plan, &s, worker, r, cpu_min(a->frames - r, j->plan.query_rows));
        }
    }
}

status cpu_attention_temporal(struct kern_ctx *ctx, const struct kern_attention_temporal *a)
{
    struct temporal j = { .plan = { .ctx = cpu_ctx_of(ctx),
                                    .queries = a->frames,
                                    .keys = a->frames,
                                    .d = a->d,
                                    .heads = a->heads },
                          .a = a };
    double work = 4.0 * (double)(a->pixels * a->heads * a->d) * (double)(a->frames * a->frames);
    status st = plan_blocks(&j.plan);

    if (st != OK)
        return st;
    cpu_run(j.plan.ctx, work, cpu_parts(a->pixels, PIXELS_PER_TASK), temporal_task, &j);
    return OK;
}
