/* cpu_amx_tile.h - a matrix product with AMX tiles, written in five operations on them.
 *
 * Whoever includes it defines the operations on tiles 0..7, each 16 rows of 64 bytes; p and stride
 * (in bytes) say where the rows lie:
 *   AMX_ZERO(t)                tile t = 0
 *   AMX_LOAD(t, p, stride)     tile t = memory
 *   AMX_STORE(t, p, stride)    memory = tile t
 *   AMX_DOT(c, a, b)           c[i][j] += sum over k of a[i][2k] b[k][2j] + a[i][2k+1] b[k][2j+1],
 *                              a and b of bf16, c of float
 * cpu_amx.c defines them as instructions; tests/kern defines them in plain C, so that the loops are
 * checked on machines without AMX as well. */
#ifndef ONESTEP_KERNELS_CPU_CPU_AMX_TILE_H
#define ONESTEP_KERNELS_CPU_CPU_AMX_TILE_H

#include "kernels/cpu/cpu_bf16.h"

/* Rows of a tile. */
#define AMX_ROWS 16

/* Rows first .. first+31. Tiles 0..3 are sums, 4 and 5 rows of a, 6 and 7 columns of b. */
static inline void amx_32_rows(const struct cpu_pair_tile *t, int64_t first)
{
    const int64_t a_bytes = CPU_PAIR_PITCH * 4, b_bytes = CPU_PAIR_PANEL * 4;
    const int64_t c_bytes = t->c_pitch * 4;
    const uint32_t *a0 = t->a + first * CPU_PAIR_PITCH, *a1 = a0 + AMX_ROWS * CPU_PAIR_PITCH;
    float *c0 = t->c + first * t->c_pitch, *c1 = c0 + AMX_ROWS * t->c_pitch;

    if (t->is_sum) {
        AMX_LOAD(0, c0, c_bytes);
        AMX_LOAD(1, c0 + 16, c_bytes);
        AMX_LOAD(2, c1, c_bytes);
        AMX_LOAD(3, c1 + 16, c_bytes);
    } else {
        AMX_ZERO(0);
        AMX_ZERO(1);
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
    for (int64_t k = 0; k < t->pairs; k += CPU_PAIR_STEP) {
        const uint32_t *b = t->b + k * CPU_PAIR_PANEL;

        AMX_LOAD(4, a0 + k, a_bytes);
        AMX_LOAD(6, b, b_bytes);
        AMX_DOT(0, 4, 6);
        AMX_LOAD(7, b + 16, b_bytes);
        AMX_DOT(1, 4, 7);
        AMX_LOAD(5, a1 + k, a_bytes);
        AMX_DOT(2, 5, 6);
        AMX_DOT(3, 5, 7);
    }
    AMX_STORE(0, c0, c_bytes);
    AMX_STORE(1, c0 + 16, c_bytes);
    AMX_STORE(2, c1, c_bytes);
    AMX_STORE(3, c1 + 16, c_bytes);
}

/* The same for 16 rows, with half the tiles. */
static inline void amx_16_rows(const struct cpu_pair_tile *t, int64_t first)
{
    const int64_t a_bytes = CPU_PAIR_PITCH * 4, b_bytes = CPU_PAIR_PANEL * 4;
    const int64_t c_bytes = t->c_pitch * 4;
    const uint32_t *a = t->a + first * CPU_PAIR_PITCH;
    float *c = t->c + first * t->c_pitch;

    if (t->is_sum) {
        AMX_LOAD(0, c, c_bytes);
        AMX_LOAD(1, c + 16, c_bytes);
    } else {
        AMX_ZERO(0);
        AMX_ZERO(1);
    }
    for (int64_t k = 0; k < t->pairs; k += CPU_PAIR_STEP) {
        const uint32_t *b = t->b + k * CPU_PAIR_PANEL;

        AMX_LOAD(4, a + k, a_bytes);
        AMX_LOAD(6, b, b_bytes);
        AMX_DOT(0, 4, 6);
        AMX_LOAD(7, b + 16, b_bytes);
        AMX_DOT(1, 4, 7);
    }
    AMX_STORE(0, c, c_bytes);
    AMX_STORE(1, c + 16, c_bytes);
}

/* The whole of t; rows are rounded up to whole tiles. */
static inline void amx_tile(const struct cpu_pair_tile *t)
{
    int64_t r = 0;

    for (; r + AMX_ROWS < t->rows; r += 2 * AMX_ROWS)
        amx_32_rows(t, r);
    if (r < t->rows)
        amx_16_rows(t, r);
}

#endif
