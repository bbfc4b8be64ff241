/* cpu_lanes.h - the inner loops of one instruction set, see cpu_isa.h for what each one does.
 *
 * Included once by each of cpu_plain.c, cpu_avx2.c and cpu_avx512.c, which define CPU_LANES
 * (floats in a vector), CPU_TILE_ROWS (rows of a register tile) and CPU_ISA (the table's symbol
 * and name), and switch the instruction set on for what follows. */
#ifndef ONESTEP_KERNELS_CPU_CPU_LANES_H
#define ONESTEP_KERNELS_CPU_CPU_LANES_H

#include <math.h>
#include <stddef.h>

#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_vec.h"

#define PANEL (2 * CPU_LANES) /* columns of a panel */

/* --- matrix product --- */

/* A register tile: `rows` rows from `first` on (a constant after inlining) by one panel. Each sum
 * is one chain of fused multiply-adds in the order of k, whatever the number of rows. */
CPU_INLINE void tile_rows(const struct cpu_tile *t, int64_t first, const int rows)
{
    const float *a = t->a + first * CPU_PITCH, *b = t->b;
    int64_t c_pitch = t->c_pitch, depth = t->depth;
    float *c = t->c + first * c_pitch;
    const bool is_sum = t->is_sum;
    /* The tiles of this product share the work of fetching the next b. */
    int64_t ahead_step = PANEL * CPU_TILE_ROWS / t->rows;
    const float *ahead = t->next_b + first / CPU_TILE_ROWS * depth * ahead_step;
    vec sum[CPU_TILE_ROWS][2];

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        sum[i][0] = is_sum ? vec_load(c + i * c_pitch) : vec_all(0);
        sum[i][1] = is_sum ? vec_load(c + i * c_pitch + CPU_LANES) : vec_all(0);
    }
    for (int i = 0; t->y && i < rows; i++) {
        const float *y = t->y + (first + i) * t->y_pitch;

        __builtin_prefetch(y, 1);
        __builtin_prefetch(y + CPU_LANES, 1);
    }
    for (int64_t k = 0; k < depth; k++) {
        vec b0 = vec_load(b + k * PANEL), b1 = vec_load(b + k * PANEL + CPU_LANES);

        __builtin_prefetch(ahead + k * ahead_step, 0, 2);

#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            vec x = vec_all(a[i * CPU_PITCH + k]);

            sum[i][0] += x * b0;
            sum[i][1] += x * b1;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        vec_store(c + i * c_pitch, sum[i][0]);
        vec_store(c + i * c_pitch + CPU_LANES, sum[i][1]);
    }
}

/* Whole register tiles, then what is left in small ones. */
static void lanes_tile(const struct cpu_tile *t)
{
    int64_t r = 0;

    for (; r + CPU_TILE_ROWS <= t->rows; r += CPU_TILE_ROWS)
        tile_rows(t, r, CPU_TILE_ROWS);
    for (; r + 4 <= t->rows; r += 4)
        tile_rows(t, r, 4);
    for (; r < t->rows; r++)
        tile_rows(t, r, 1);
}

/* Squares of weights are loaded along k and stored along the columns. */
static void lanes_pack(float *dst, const float *src, int64_t src_pitch, int64_t count,
                       int64_t depth)
{
    for (int64_t k = 0; k < depth; k += CPU_LANES) {
        int64_t columns = depth - k < CPU_LANES ? depth - k : CPU_LANES;
        vec row[CPU_LANES];

        for (int j = 0; j < CPU_LANES; j++)
            row[j] = j < count ? vec_load_some(src + j * src_pitch + k, columns) : vec_all(0);
        vec_transpose(row);
        for (int64_t i = 0; i < columns; i++)
            vec_store(dst + (k + i) * PANEL, row[i]);
    }
}

/* The exponent of a half is rebased by a multiplication, which also normalises subnormals. */
static void lanes_widen(float *dst, const uint16_t *src, int64_t n, bool is_half)
{
    if (!is_half) {
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits = (uint32_t)src[i] << 16;

            memcpy(dst + i, &bits, sizeof(bits));
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)(src[i] & 0x7fff) << 13;
        float f;

        memcpy(&f, &bits, sizeof(f));
        f *= 0x1p112f;
        memcpy(&bits, &f, sizeof(bits));
        bits |= (src[i] & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
        bits |= (uint32_t)(src[i] & 0x8000) << 16;
        memcpy(dst + i, &bits, sizeof(bits));
    }
}

/* --- what follows the sums --- */

/* See enum kern_act. */
CPU_INLINE vec apply_act(enum kern_act act, vec x)
{
    switch (act) {
    case KERN_ACT_NONE:
        break;
    case KERN_ACT_SILU:
        return vec_silu(x);
    case KERN_ACT_GELU:
        return vec_gelu(x);
    case KERN_ACT_QUICK_GELU:
        return vec_quick_gelu(x);
    }
    return x;
}

/* One vector of y at column j of row y_row; act is a constant after inlining. */
CPU_INLINE void finish_vec(const struct cpu_epilogue *e, enum kern_act act, vec v, int64_t y_row,
                           int64_t j)
{
    int64_t at = y_row * e->n + j, count = e->n - j;

    if (e->bias)
        v += vec_load_some(e->bias + j, count);
    if (e->add)
        v += vec_load_some(e->add + j, count);
    v = apply_act(act, v) * e->scale;
    if (e->residual)
        v += vec_load_some(e->residual + at, count);
    vec_store_some(e->y + at, v, count);
}

/* Rows without a gate; act is a constant after inlining. */
CPU_INLINE void finish_plain(const struct cpu_epilogue *e, enum kern_act act,
                             const struct cpu_sums *s)
{
    for (int64_t r = 0; r < s->rows; r++) {
        const float *sums = s->sums + r * s->pitch;
        int64_t end = (s->panel0 + s->panels) * PANEL, y_row = cpu_y_row(e, s->m0 + r);

        if (end > e->n)
            end = e->n;
        for (int64_t j = s->panel0 * PANEL; j < end; j += CPU_LANES) {
            finish_vec(e, act, vec_load(sums), y_row, j);
            sums += CPU_LANES;
        }
    }
}

/* Rows of v beside g. */
static void finish_gate(const struct cpu_epilogue *e, const struct cpu_sums *s)
{
    for (int64_t r = 0; r < s->rows; r++) {
        const float *sums = s->sums + r * s->pitch;

        for (int64_t p = s->panel0; p < s->panel0 + s->panels; p++) {
            int64_t j = p * CPU_LANES, count = e->n - j;
            vec v = vec_load(sums), g = vec_load(sums + CPU_LANES);

            if (e->bias) {
                v += vec_load_some(e->bias + j, count);
                g += vec_load_some(e->bias + e->n + j, count);
            }
            vec_store_some(e->y + (s->m0 + r) * e->n + j, v * vec_gelu(g), count);
            sums += PANEL;
        }
    }
}

/* One loop for each kind of epilogue. */
static void lanes_finish(const struct cpu_epilogue *e, const struct cpu_sums *s)
{
    if (e->gate) {
        finish_gate(e, s);
        return;
    }
    switch (e->act) {
    case KERN_ACT_NONE:
        finish_plain(e, KERN_ACT_NONE, s);
        break;
    case KERN_ACT_SILU:
        finish_plain(e, KERN_ACT_SILU, s);
        break;
    case KERN_ACT_GELU:
        finish_plain(e, KERN_ACT_GELU, s);
        break;
    case KERN_ACT_QUICK_GELU:
        finish_plain(e, KERN_ACT_QUICK_GELU, s);
        break;
    }
}

/* --- attention --- */

/* Largest of n >= 1 numbers. */
static float row_largest(const float *s, int64_t n)
{
    vec m = vec_all(s[0]), other = m; /* two chains: each step waits for the one before */
    float lane[CPU_LANES], largest;
    int64_t i = 0;

    for (; i + 2 * CPU_LANES <= n; i += 2 * CPU_LANES) {
        m = vec_max(m, vec_load(s + i));
        other = vec_max(other, vec_load(s + i + CPU_LANES));
    }
    vec_store(lane, vec_max(m, other));
    largest = lane[0];
    for (int j = 1; j < CPU_LANES; j++)
        largest = largest > lane[j] ? largest : lane[j];
    for (; i < n; i++)
        largest = largest > s[i] ? largest : s[i];
    return largest;
}

/* exp(x), as the vectors compute it. */
static float exp_one(float x)
{
    float lane[CPU_LANES];

    vec_store(lane, vec_exp(vec_all(x)));
    return lane[0];
}

/* One pass for the largest, one for the exponentials and their sum. */
static float lanes_softmax(float *s, int64_t n, struct cpu_softmax *state)
{
    float largest = row_largest(s, n), factor;
    vec total = vec_all(0);

    largest = largest > state->largest ? largest : state->largest;
    factor = exp_one(state->largest - largest);
    for (int64_t i = 0; i < n; i += CPU_LANES) {
        int64_t count = n - i;
        vec e = vec_exp(vec_load_some(s + i, count) - largest);

        if (count < CPU_LANES) {
            float lane[CPU_LANES] = { 0 };

            vec_store_some(lane, e, count); /* lanes past the row count as 0 */
            e = vec_load(lane);
        }
        vec_store_some(s + i, e, count);
        total += e;
    }
    state->total = state->total * factor + vec_sum(total);
    state->largest = largest;
    return factor;
}

/* --- rows of elements --- */

/* y = a x */
static void lanes_scale(float *y, const float *x, int64_t n, float a)
{
    for (int64_t i = 0; i < n; i += CPU_LANES)
        vec_store_some(y + i, vec_load_some(x + i, n - i) * a, n - i);
}

/* A column of vectors at a time, its sum in a register. */
static void lanes_column_sums(float *sum, const float *x, int64_t rows, int64_t c)
{
    for (int64_t i = 0; i < c; i += CPU_LANES) {
        vec s = vec_load_some(sum + i, c - i);

        for (int64_t r = 0; r < rows; r++)
            s += vec_load_some(x + r * c + i, c - i);
        vec_store_some(sum + i, s, c - i);
    }
}

/* As lanes_column_sums. */
static void lanes_column_squares(float *square, const float *mean, const float *x, int64_t rows,
                                 int64_t c)
{
    for (int64_t i = 0; i < c; i += CPU_LANES) {
        vec s = vec_load_some(square + i, c - i), m = vec_load_some(mean + i, c - i);

        for (int64_t r = 0; r < rows; r++) {
            vec d = vec_load_some(x + r * c + i, c - i) - m;

            s += d * d;
        }
        vec_store_some(square + i, s, c - i);
    }
}

/* silu is a constant after inlining. */
CPU_INLINE void affine_row(float *y, const float *x, const float *factor, const float *shift,
                           int64_t c, const bool silu)
{
    for (int64_t i = 0; i < c; i += CPU_LANES) {
        int64_t count = c - i;
        vec v = vec_load_some(x + i, count) * vec_load_some(factor + i, count) +
                vec_load_some(shift + i, count);

        vec_store_some(y + i, silu ? vec_silu(v) : v, count);
    }
}

/* y = x factor + shift, perhaps with SiLU. */
static void lanes_affine(float *y, const float *x, const float *factor, const float *shift,
                         int64_t c, bool silu)
{
    if (silu)
        affine_row(y, x, factor, shift, c, true);
    else
        affine_row(y, x, factor, shift, c, false);
}

/* Mean, squares around the mean, result: three readings of a row in the first-level cache. */
static void lanes_layer_norm(float *y, const float *x, const struct norm *layer)
{
    int64_t c = layer->c;
    vec sum = vec_all(0), squares = vec_all(0);
    float mean, inv_std;

    for (int64_t i = 0; i < c; i += CPU_LANES)
        sum += vec_load_some(x + i, c - i);
    mean = vec_sum(sum) / (float)c;
    for (int64_t i = 0; i < c; i += CPU_LANES) {
        vec d = vec_load_some(x + i, c - i) - mean;

        if (c - i < CPU_LANES) {
            float lane[CPU_LANES] = { 0 };

            vec_store_some(lane, d, c - i); /* lanes past the row count as 0 */
            d = vec_load(lane);
        }
        squares += d * d;
    }
    inv_std = 1 / sqrtf(vec_sum(squares) / (float)c + layer->eps);
    for (int64_t i = 0; i < c; i += CPU_LANES) {
        int64_t count = c - i;
        vec v = (vec_load_some(x + i, count) - mean) * inv_std;

        v = v * vec_load_some(layer->gamma + i, count) + vec_load_some(layer->beta + i, count);
        vec_store_some(y + i, v, count);
    }
}

/* y = a x + b z */
static void lanes_mix(float *y, const float *x, const float *z, int64_t n, const float weights[2])
{
    for (int64_t i = 0; i < n; i += CPU_LANES) {
        vec v = vec_load_some(x + i, n - i) * weights[0] + vec_load_some(z + i, n - i) * weights[1];

        vec_store_some(y + i, v, n - i);
    }
}

/* y = x + z */
static void lanes_add(float *y, const float *x, const float *z, int64_t n)
{
    for (int64_t i = 0; i < n; i += CPU_LANES)
        vec_store_some(y + i, vec_load_some(x + i, n - i) + vec_load_some(z + i, n - i), n - i);
}

/* y = silu(x) */
static void lanes_silu(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += CPU_LANES)
        vec_store_some(y + i, vec_silu(vec_load_some(x + i, n - i)), n - i);
}

const struct cpu_isa CPU_ISA = {
    .name = CPU_ISA_NAME,
    .lanes = CPU_LANES,
    .rows = CPU_TILE_ROWS,
    .tile = lanes_tile,
    .pack = lanes_pack,
    .finish = lanes_finish,
    .softmax = lanes_softmax,
    .widen = lanes_widen,
    .scale = lanes_scale,
    .column_sums = lanes_column_sums,
    .column_squares = lanes_column_squares,
    .affine = lanes_affine,
    .layer_norm = lanes_layer_norm,
    .mix = lanes_mix,
    .add = lanes_add,
    .silu = lanes_silu,
};

#endif
