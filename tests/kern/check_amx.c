/* check_amx.c - the loops of the AMX product, with tiles in plain C: on any machine. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"

/* Eight tiles of 16 rows of 16 words, and what the instructions do to them.
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS. */
static uint32_t tiles[8][16][16];

static void tile_load(int t, const void *p, int64_t stride)
{
    for (int r = 0; r < 16; r++)
        memcpy(tiles[t][r], (const char *)p + r * stride, sizeof(tiles[t][r]));
}

static void tile_store(int t, void *p, int64_t stride)
{
    for (int r = 0; r < 16; r++)
        memcpy((char *)p + r * stride, tiles[t][r], sizeof(tiles[t][r]));
}

static float float_of(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

static void tile_dot(int c, int a, int b)
{
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 16; j++) {
            float sum = float_of(tiles[c][i][j]);

            for (int k = 0; k < 16; k++) {
                uint32_t x = tiles[a][i][k], y = tiles[b][k][j];

                sum += float_of(x << 16) * float_of(y << 16);
                sum += float_of(x & 0xffff0000u) * float_of(y & 0xffff0000u);
            }
            memcpy(&tiles[c][i][j], &sum, sizeof(sum));
        }
    }
}

#define AMX_ZERO(t) memset(tiles[t], 0, sizeof(tiles[t]))
#define AMX_LOAD(t, p, stride) tile_load(t, p, stride)
#define AMX_STORE(t, p, stride) tile_store(t, p, stride)
#define AMX_DOT(c, a, b) tile_dot(c, a, b)

#include "kernels/cpu/cpu_amx_tile.h"

enum { ROWS_MAX = 96, PAIRS_MAX = CPU_DEPTH / 2, C_PITCH = 3 * CPU_PAIR_PANEL + 16 };

/* Small whole numbers, which every step computes exactly. */
static uint32_t random_pair(void)
{
    uint32_t pair = 0;

    for (int half = 0; half < 2; half++) {
        float f = (float)((int)(test_random() % 9) - 4);
        uint32_t bits;

        memcpy(&bits, &f, sizeof(bits));
        pair |= bits >> 16 << 16 * half;
    }
    return pair;
}

static float dot(const uint32_t *a, const uint32_t *b, int64_t pairs)
{
    float sum = 0;

    for (int64_t k = 0; k < pairs; k++) {
        uint32_t x = a[k], y = b[k * CPU_PAIR_PANEL];

        sum += float_of(x << 16) * float_of(y << 16);
        sum += float_of(x & 0xffff0000u) * float_of(y & 0xffff0000u);
    }
    return sum;
}

static void tile_case(int64_t rows, int64_t pairs, bool is_sum)
{
    static uint32_t a[ROWS_MAX * CPU_PAIR_PITCH], b[PAIRS_MAX * CPU_PAIR_PANEL];
    static float c[ROWS_MAX * C_PITCH], before[ROWS_MAX * C_PITCH];
    const struct cpu_pair_tile t = { .a = a,
                                     .b = b,
                                     .c = c + CPU_PAIR_PANEL,
                                     .c_pitch = C_PITCH,
                                     .rows = rows,
                                     .pairs = pairs,
                                     .is_sum = is_sum };

    for (size_t i = 0; i < sizeof(a) / sizeof(a[0]); i++)
        a[i] = random_pair();
    for (size_t i = 0; i < sizeof(b) / sizeof(b[0]); i++)
        b[i] = random_pair();
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
        c[i] = before[i] = (float)(i % 7);
    amx_tile(&t);
    for (int64_t r = 0; r < ROWS_MAX; r++) {
        for (int64_t i = 0; i < C_PITCH; i++) {
            int64_t column = i - CPU_PAIR_PANEL, at = r * C_PITCH + i;
            bool is_in = r < rows && column >= 0 && column < CPU_PAIR_PANEL;
            bool is_free = r < (rows + 15) / 16 * 16 && column >= 0 && column < CPU_PAIR_PANEL;
            float want = is_in ? dot(a + r * CPU_PAIR_PITCH, b + column, pairs) : 0;

            if (is_in && is_sum)
                want += before[at];
            if (is_in || !is_free)
                EXPECT_NEAR(c[at], is_in ? want : before[at], 0);
        }
    }
}

TEST(amx_loops_in_plain_c)
{
    static const int64_t rows[] = { 1, 15, 16, 17, 31, 32, 33, 48, 49, 95, 96 };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        tile_case(rows[i], CPU_PAIR_STEP, false);
        tile_case(rows[i], CPU_PAIR_STEP, true);
        tile_case(rows[i], 5 * CPU_PAIR_STEP, i % 2);
    }
    tile_case(96, PAIRS_MAX, true);
}
