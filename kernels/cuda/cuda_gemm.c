/* Convolutions and linear layers: each is one product, see cuda_gemm.h. */
#include "kernels/cuda/cuda_gemm.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_priv.h"
#include "kernels/cuda/cuda_weights.h"

/* Weights that are converted at a time. */
#define WIDE 1024

/* Channels of a convolution that is folded; with more it is not. */
#define FOLDED_CI_MAX 4096

/* Bytes of shared memory for slices of both operands, rows of each of `depth` channels. */
#define SLICES_BYTES(slices, rows, depth) ((slices) * (rows) * (depth)*2)

/* Channels that a Hopper tile multiplies at a time. */
#define HOPPER_DEPTH 64

/* Rows of a frame that are worth half of its tile. */
#define HOPPER_ROWS_MIN 64

/* A weight [co][taps][ci] to be packed. */
struct matrix {
    const void *weight;
    enum kern_dtype dtype; /* of weight */
    int64_t co, taps, ci;  /* its shape */
    bool is_gated;         /* rows 2 j and 2 j + 1 become value and gate j */
    bool is_folded;        /* taps are 3x3 and become four times 2x2, see cuda_gemm.h */
};

static int64_t padded(int64_t n, int64_t step)
{
    return cuda_parts(n, step) * step;
}

/* count weights from first on. */
static void narrow_row(uint16_t *dst, const struct matrix *m, int64_t first, int64_t count,
                       bool is_half)
{
    float wide[WIDE];

    if (m->dtype == (is_half ? KERN_F16 : KERN_BF16)) {
        memcpy(dst, (const uint16_t *)m->weight + first, (size_t)count * sizeof(*dst));
        return;
    }
    for (int64_t i = 0; i < count; i += WIDE) {
        const int64_t n = count - i < WIDE ? count - i : WIDE;

        kern_widen(wide, m->weight, m->dtype, first + i, n);
        for (int64_t j = 0; j < n; j++)
            dst[i + j] = cuda_narrow(wide[j], is_half);
    }
}

/* Row of m that becomes row o. */
static int64_t source_row(const struct matrix *m, int64_t o)
{
    return m->is_gated ? o / 2 + o % 2 * (m->co / 2) : o;
}

static void fill_matrix(void *dst, const void *layer, bool is_half)
{
    const struct matrix *m = layer;
    const int64_t ci = padded(m->ci, CUDA_GEMM_DEPTH);

    for (int64_t o = 0; o < m->co; o++) {
        for (int64_t t = 0; t < m->taps; t++)
            narrow_row((uint16_t *)dst + (o * m->taps + t) * ci, m,
                       (source_row(m, o) * m->taps + t) * m->ci, m->ci, is_half);
    }
}

/* The tap of 2 that a tap of 3 falls on, for a parity of the output: an even row has its upper
 * neighbour in the row of x before and the others in its own, an odd one its lower neighbour in the
 * row behind. */
static int folded_tap(int tap, int parity)
{
    return (tap + 1 + parity) / 2 - parity;
}

/* sum[0..ci-1] = the weights of column o that fall on tap 2 y + x of a phase. */
static void sum_taps(float *sum, const struct matrix *m, int64_t o, int phase, int tap)
{
    float wide[WIDE];

    memset(sum, 0, (size_t)m->ci * sizeof(*sum));
    for (int t = 0; t < 9; t++) {
        if (2 * folded_tap(t / 3, phase / 2) + folded_tap(t % 3, phase % 2) != tap)
            continue;
        for (int64_t i = 0; i < m->ci; i += WIDE) {
            const int64_t n = m->ci - i < WIDE ? m->ci - i : WIDE;

            kern_widen(wide, m->weight, m->dtype, (o * 9 + t) * m->ci + i, n);
            for (int64_t j = 0; j < n; j++)
                sum[i + j] += wide[j];
        }
    }
}

/* Sums of up to four weights each, rounded once. */
static void fill_folded(void *dst, const void *layer, bool is_half)
{
    const struct matrix *m = layer;
    const int64_t ci = padded(m->ci, CUDA_GEMM_DEPTH), co = padded(m->co, CUDA_GEMM_COLUMNS);
    float sum[FOLDED_CI_MAX];

    for (int phase = 0; phase < 4; phase++) {
        for (int64_t o = 0; o < m->co; o++) {
            for (int tap = 0; tap < 4; tap++) {
                uint16_t *to = (uint16_t *)dst + ((phase * co + o) * 4 + tap) * ci;

                sum_taps(sum, m, o, phase, tap);
                for (int64_t i = 0; i < m->ci; i++)
                    to[i] = cuda_narrow(sum[i], is_half);
            }
        }
    }
}

/* g's weights, packed. */
static status set_weight(struct cuda_ctx *c, struct cuda_gemm *g, const struct matrix *m)
{
    const int64_t taps = m->is_folded ? 4 * 4 : m->taps;
    const struct cuda_layout layout = {
        .kind = m->is_folded  ? CUDA_WEIGHT_PHASES
                : m->is_gated ? CUDA_WEIGHT_GATED_MATRIX
                              : CUDA_WEIGHT_MATRIX,
        .bytes =
            (size_t)(padded(m->co, CUDA_GEMM_COLUMNS) * taps * padded(m->ci, CUDA_GEMM_DEPTH)) *
            sizeof(uint16_t),
        .fill = m->is_folded ? fill_folded : fill_matrix,
        .layer = m,
    };

    g->co = (int32_t)m->co;
    g->co_padded = (int32_t)padded(m->co, CUDA_GEMM_COLUMNS);
    g->ci = (int32_t)m->ci;
    g->ci_padded = (int32_t)padded(m->ci, CUDA_GEMM_DEPTH);
    g->taps = m->is_folded ? 4 : (int32_t)m->taps;
    g->is_folded = m->is_folded;
    return cuda_weight(c, m->weight, &layout, &g->w);
}

/* The kernels, and the tile of each. */
enum tile_kind { TILE_LARGE, TILE_SMALL, TILE_ODD, TILE_HOPPER, TILE_HOPPER_WIDE };

static const struct tile {
    const char *plain, *norm, *gated; /* names, NULL: there is none */
    int64_t rows, columns;            /* of results that a block makes */
    uint32_t threads, shared_bytes;   /* of a block */
} tiles[] = {
    [TILE_LARGE] = { "gemm_large", "gemm_large_norm", "gemm_large_gated", 128, 128, 256,
                     SLICES_BYTES(4, 128 + 128, 32) },
    [TILE_SMALL] = { "gemm_small", "gemm_small_norm", "gemm_small_gated", 64, 64, 128,
                     SLICES_BYTES(4, 64 + 64, 32) },
    [TILE_ODD] = { "gemm_odd", "gemm_odd_norm", "gemm_odd_gated", 64, 64, 128,
                   SLICES_BYTES(4, 64 + 64, 32) },
    [TILE_HOPPER] = { "gemm_hopper", NULL, "gemm_hopper_gated", 128, 128, 256,
                      SLICES_BYTES(3, 128 + 128, 64) + 1024 },
    [TILE_HOPPER_WIDE] = { "gemm_hopper_wide", NULL, "gemm_hopper_wide_gated", 128, 256, 256,
                           SLICES_BYTES(4, 128 + 256, 64) + 1024 },
};

static int64_t blocks_of(const struct cuda_gemm *g, enum tile_kind kind)
{
    const int64_t phases = g->is_folded ? 4 : 1;

    return cuda_parts(g->rows, tiles[kind].rows) * cuda_parts(g->co, tiles[kind].columns) * phases;
}

/* Large tiles read less and need as many blocks as there are multiprocessors.
 * CAREFUL: whether wgmma is used depends on one frame alone. Its sums are rounded in another way
 * than mma's, and a frame's bits shall not depend on the frames beside it; those of the mma tiles
 * are the same. */
static enum tile_kind choose(const struct cuda_ctx *c, const struct cuda_gemm *g,
                             const struct tensor *x)
{
    const int64_t enough = c->info.multiprocessors;

    if (g->ci % 8 != 0)
        return TILE_ODD;
    if (c->has_wgmma && g->ci % HOPPER_DEPTH == 0 && g->co > 64 && !g->factor &&
        x->h * x->w >= HOPPER_ROWS_MIN) {
        /* The wide tile is faster, but for the columns that it makes in vain. */
        return (g->co % 256 == 0 || g->co > 512) && blocks_of(g, TILE_HOPPER_WIDE) >= enough
                   ? TILE_HOPPER_WIDE
                   : TILE_HOPPER;
    }
    return g->co <= 64 || blocks_of(g, TILE_LARGE) < enough ? TILE_SMALL : TILE_LARGE;
}

static status launch(struct cuda_ctx *c, const struct cuda_gemm *g, enum tile_kind kind,
                     bool is_gated)
{
    const struct tile *t = &tiles[kind];
    const int64_t phases = g->is_folded ? 4 : 1;
    const struct cuda_call call = {
        .name = is_gated    ? t->gated
                : g->factor ? t->norm
                            : t->plain,
        .grid = { (uint32_t)(blocks_of(g, kind) / phases), (uint32_t)phases },
        .block = { t->threads },
        .shared_bytes = t->shared_bytes,
        .args = g,
        .args_bytes = sizeof(*g),
    };

    return cuda_launch(c, &call);
}

static status run(struct cuda_ctx *c, const struct cuda_gemm *g, const struct tensor *x,
                  bool is_gated)
{
    const enum tile_kind kind = choose(c, g, x);
    const int64_t x_rows = x->n * x->h * x->w;

    /* Rows have 32-bit numbers on the device; those of whole tiles too. */
    if (blocks_of(g, kind) > INT32_MAX || g->rows > INT32_MAX - 128 || x_rows > INT32_MAX)
        return FAIL(ERR_NOMEM, "a product of %lld rows is larger than one launch",
                    (long long)(g->rows > x_rows ? g->rows : x_rows));
    return launch(c, g, kind, is_gated);
}

/* A product of small whole numbers: every way to sum them gives the same floats. */
enum { TRIAL_ROWS = 200, TRIAL_CI = 640, TRIAL_CO = 256, TRIAL_TILES = 3 };

/* Its operands and results in memory. */
struct trial {
    uint16_t x[TRIAL_ROWS * TRIAL_CI], w[TRIAL_CO * TRIAL_CI];
    uint16_t y[TRIAL_TILES][TRIAL_ROWS * TRIAL_CO];
};

static void fill_trial(uint16_t *to, size_t count, bool is_half)
{
    uint32_t state = 1;

    for (size_t i = 0; i < count; i++) {
        state = state * 1664525 + 1013904223; /* any generator will do */
        to[i] = cuda_narrow((float)(int)(state >> 29) - 3, is_half);
    }
}

status cuda_try_wgmma(struct cuda_ctx *c, bool *is_right)
{
    static const enum tile_kind kinds[TRIAL_TILES] = { TILE_LARGE, TILE_HOPPER, TILE_HOPPER_WIDE };
    struct trial *t;
    cuda_ptr at;
    status st = OK;

    *is_right = false;
    /* wgmma is in no card before or after compute capability 9.0. */
    if (c->info.capability != 90)
        return OK;
    t = calloc(1, sizeof(*t));
    if (!t)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory to try wgmma", sizeof(*t));
    /* The results too: each differs from the others until it is made. */
    fill_trial((uint16_t *)t, sizeof(*t) / sizeof(uint16_t), c->base.layout.dtype == KERN_F16);
    TRY(cuda_scratch(c, sizeof(*t), &at));
    TRY(c->driver->upload(c->device, at, t, sizeof(*t)));
    for (int i = 0; i < TRIAL_TILES; i++) {
        const struct cuda_gemm g = { .x = at,
                                     .w = at + offsetof(struct trial, w),
                                     .y = at + offsetof(struct trial, y[i]),
                                     .rows = TRIAL_ROWS,
                                     .co = TRIAL_CO,
                                     .co_padded = TRIAL_CO,
                                     .ci = TRIAL_CI,
                                     .ci_padded = TRIAL_CI,
                                     .taps = 1,
                                     .source = CUDA_GEMM_ROWS,
                                     .scale = 1 };

        TRY(launch(c, &g, kinds[i], false));
    }
    TRY(c->driver->download(c->device, t, at, sizeof(*t)));
    *is_right = memcmp(t->y[0], t->y[1], sizeof(t->y[0])) == 0 &&
                memcmp(t->y[0], t->y[2], sizeof(t->y[0])) == 0;
out:
    free(t);
    return st;
}

static struct matrix matrix_of_conv(const struct conv *layer)
{
    return (struct matrix){ .weight = layer->weight,
                            .dtype = layer->dtype,
                            .co = layer->co,
                            .taps = layer->kh * layer->kw,
                            .ci = layer->ci };
}

/* A 3x3 convolution behind resampling by two. */
static bool is_foldable(const struct kern_conv2d *a)
{
    return a->up_h == 2 * a->x.h && a->up_w == 2 * a->x.w && a->up_h > 0 && a->layer->kh == 3 &&
           a->layer->kw == 3 && a->stride == 1 && a->pad_top == 1 && a->pad_left == 1 &&
           a->pad_bottom == 1 && a->pad_right == 1 && a->layer->ci <= FOLDED_CI_MAX;
}

/* One phase: a 2x2 convolution of x, with the padding of phase 0. */
static void fold(struct cuda_gemm *g)
{
    g->kw = 2;
    g->up_h = g->out_h = g->in_h;
    g->up_w = g->out_w = g->in_w;
    g->rows /= 4;
}

status cuda_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *a)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    struct matrix m = matrix_of_conv(a->layer);
    struct cuda_gemm g = { .x = cuda_at(a->x.data),
                           .y = cuda_at(a->y.data),
                           .add = cuda_at(a->add),
                           .residual = cuda_at(a->residual.data),
                           .rows = a->y.n * a->y.h * a->y.w,
                           .source = CUDA_GEMM_IMAGE,
                           .in_h = (int32_t)a->x.h,
                           .in_w = (int32_t)a->x.w,
                           .up_h = (int32_t)(a->up_h ? a->up_h : a->x.h),
                           .up_w = (int32_t)(a->up_w ? a->up_w : a->x.w),
                           .out_h = (int32_t)a->y.h,
                           .out_w = (int32_t)a->y.w,
                           .kw = a->layer->kw,
                           .stride = a->stride,
                           .pad_top = a->pad_top,
                           .pad_left = a->pad_left,
                           .scale = a->scale };
    status st = OK;

    m.is_folded = is_foldable(a);
    if (m.is_folded)
        fold(&g);
    TRY(set_weight(c, &g, &m));
    TRY(cuda_floats(c, a->layer->bias, a->layer->co, &g.bias));
    TRY(run(c, &g, &a->x, false));
out:
    return st;
}

status cuda_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *a)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    const struct matrix m = matrix_of_conv(a->layer);
    struct cuda_gemm g = { .x = cuda_at(a->x.data),
                           .y = cuda_at(a->y.data),
                           .add = cuda_at(a->add),
                           .residual = cuda_at(a->residual.data),
                           .rows = a->y.n * a->y.h * a->y.w,
                           .source = CUDA_GEMM_TEMPORAL,
                           .frames = (int32_t)a->x.n,
                           .pixels = (int32_t)(a->x.h * a->x.w),
                           .scale = a->scale };
    status st = OK;

    TRY(set_weight(c, &g, &m));
    TRY(cuda_floats(c, a->layer->bias, a->layer->co, &g.bias));
    if (a->norm)
        TRY(cuda_group_factors(c, &a->x, a->norm, a->x.n, &g.factor));
    TRY(run(c, &g, &a->x, false));
out:
    return st;
}

static struct matrix matrix_of_linear(const struct linear *layer, bool is_gated)
{
    return (struct matrix){ .weight = layer->weight,
                            .dtype = layer->dtype,
                            .co = layer->out,
                            .taps = 1,
                            .ci = layer->in,
                            .is_gated = is_gated };
}

status cuda_linear(struct kern_ctx *ctx, const struct kern_linear *a)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    const struct matrix m = matrix_of_linear(a->layer, false);
    struct cuda_gemm g = { .x = cuda_at(a->x.data),
                           .y = cuda_at(a->y.data),
                           .add = cuda_at(a->add),
                           .residual = cuda_at(a->residual.data),
                           .rows = a->x.n * a->x.h * a->x.w,
                           .source = CUDA_GEMM_ROWS,
                           .act = (int32_t)a->act,
                           .scale = 1 };
    status st = OK;

    TRY(set_weight(c, &g, &m));
    TRY(cuda_floats(c, a->layer->bias, a->layer->out, &g.bias));
    TRY(run(c, &g, &a->x, false));
out:
    return st;
}

/* The bias of a gated layer, value and gate side by side. */
static void fill_gated_bias(void *dst, const void *layer, bool is_half)
{
    const struct linear *l = layer;
    const int64_t half = l->out / 2;

    (void)is_half;
    for (int64_t i = 0; i < half; i++) {
        ((float *)dst)[2 * i] = l->bias[i];
        ((float *)dst)[2 * i + 1] = l->bias[half + i];
    }
}

status cuda_geglu(struct kern_ctx *ctx, const struct kern_geglu *a)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    const struct matrix m = matrix_of_linear(a->layer, true);
    const struct cuda_layout bias = { .kind = CUDA_WEIGHT_GATED_BIAS,
                                      .bytes = (size_t)a->layer->out * sizeof(float),
                                      .fill = fill_gated_bias,
                                      .layer = a->layer };
    struct cuda_gemm g = { .x = cuda_at(a->x.data),
                           .y = cuda_at(a->y.data),
                           .rows = a->x.n * a->x.h * a->x.w,
                           .source = CUDA_GEMM_ROWS,
                           .scale = 1 };
    status st = OK;

    TRY(set_weight(c, &g, &m));
    if (a->layer->bias)
        TRY(cuda_weight(c, a->layer->bias, &bias, &g.bias));
    TRY(run(c, &g, &a->x, true));
out:
    return st;
}
