#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma,prefer-vector-width=512")

#define CPU_LANES 16
#include "kernels/cpu/cpu_vec.h"

#include "kernels/cpu/cpu_bf16.h"

/* Rows of a register tile: 12 x 2 sums, 2 vectors of b and a broadcast leave 5 registers free. */
#define TILE_ROWS 12

/* CAREFUL: the instruction takes its first operand as the upper half. */
CPU_INLINE __m512i pairs_of(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* 32 floats at src, of which count exist, as 16 pairs. */
CPU_INLINE __m512i load_pairs(const float *src, int64_t count)
{
    return pairs_of(vec_load_some(src, count > 0 ? count : 0),
                    count > CPU_LANES ? vec_load_some(src + CPU_LANES, count - CPU_LANES)
                                      : (vec){ 0 });
}

void cpu_bf16_round(uint32_t *dst, const float *src, int64_t rows, int64_t depth)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < depth; k += 2 * CPU_LANES)
            _mm512_storeu_si512(dst + r * CPU_PAIR_PITCH + k / 2,
                                load_pairs(src + r * CPU_PITCH + k, depth - k));
    }
}

/* Squares of 16 columns by 16 pairs are loaded along k and stored along the columns. */
void cpu_bf16_pack(uint32_t *dst, const float *src, int64_t src_pitch, int64_t count, int64_t depth)
{
    for (int64_t k = 0; k < depth; k += 2 * CPU_LANES) {
        vec row[CPU_LANES];

        for (int64_t j = 0; j < CPU_LANES; j++)
            row[j] = j < count ? (vec)load_pairs(src + j * src_pitch + k, depth - k) : (vec){ 0 };
        vec_transpose(row);
        for (int64_t i = 0; i < CPU_LANES; i++)
            _mm512_storeu_si512(dst + (k / 2 + i) * CPU_PAIR_PANEL, (__m512i)row[i]);
    }
}

/* 16 floats of each of two rows as 16 pairs of one above the other. */
CPU_INLINE __m512i zip(__m512 upper, __m512 lower)
{
    __m512i rows = pairs_of(upper, lower);
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

    return _mm512_permutexvar_epi16(order, rows);
}

void cpu_bf16_pack_rows(uint32_t *dst, const float *src, int64_t src_pitch, int64_t rows,
                        int64_t count)
{
    for (int64_t i = 0; i < (rows + 31) / 32 * 32; i += 2, dst += CPU_PAIR_PANEL) {
        for (int64_t j = 0; j < CPU_PAIR_PANEL; j += CPU_LANES) {
            const float *row = src + i * src_pitch + j;
            int64_t some = count > j ? count - j : 0;
            vec upper = vec_load_some(row, i < rows ? some : 0);
            vec lower = vec_load_some(row + src_pitch, i + 1 < rows ? some : 0);

            _mm512_storeu_si512(dst + j, zip(upper, lower));
        }
    }
}

/* `rows` (a constant after inlining) rows from `first` on. */
CPU_INLINE void tile_rows(const struct cpu_pair_tile *t, int64_t first, const int rows)
{
    const uint32_t *a = t->a + first * CPU_PAIR_PITCH, *b = t->b;
    float *c = t->c + first * t->c_pitch;
    __m512 sum[TILE_ROWS][2];

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        sum[i][0] = t->is_sum ? _mm512_loadu_ps(c + i * t->c_pitch) : _mm512_setzero_ps();
        sum[i][1] = t->is_sum ? _mm512_loadu_ps(c + i * t->c_pitch + 16) : _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < t->pairs; k++) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + k * CPU_PAIR_PANEL);
        __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + k * CPU_PAIR_PANEL + 16);

#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i * CPU_PAIR_PITCH + k]);

            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        _mm512_storeu_ps(c + i * t->c_pitch, sum[i][0]);
        _mm512_storeu_ps(c + i * t->c_pitch + 16, sum[i][1]);
    }
}

static void tile(const struct cpu_pair_tile *t)
{
    int64_t r = 0;

    for (; r + TILE_ROWS <= t->rows; r += TILE_ROWS)
        tile_rows(t, r, TILE_ROWS);
    for (; r + 4 <= t->rows; r += 4)
        tile_rows(t, r, 4);
    for (; r < t->rows; r++)
        tile_rows(t, r, 1);
}

const struct cpu_bf16 cpu_bf16_avx512 = { .name = "avx512_bf16", .tile = tile };

#endif
