/* cpu_bf16.h - matrix products of 16-bit floats, for CPUs that have instructions for them.
 *
 * With precision bf16 both operands of a product are rounded to bf16 (to nearest even) just before
 * they meet; sums, epilogues and all tensors stay float. Two values along k share a 32-bit word, a
 * pair, the lower k in the lower half: that is what the instructions of both sets read.
 * Rows of A and of W are padded with zeros to a multiple of CPU_PAIR_STEP pairs. */
#ifndef ONESTEP_KERNELS_CPU_CPU_BF16_H
#define ONESTEP_KERNELS_CPU_CPU_BF16_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cpu/cpu_isa.h"

/* Pairs that one AMX instruction takes of a row. */
#define CPU_PAIR_STEP 16

/* Pairs between rows of a block of A: an odd number of cache lines. */
#define CPU_PAIR_PITCH (CPU_DEPTH / 2 + 16)

/* Columns of a panel, the same for both sets. */
#define CPU_PAIR_PANEL 32

/* Operands of one product: any number of rows by one panel. */
struct cpu_pair_tile {
    const uint32_t *a;   /* [rows][pairs], CPU_PAIR_PITCH between rows; readable up to a multiple of
                            16 rows */
    const uint32_t *b;   /* [pairs][CPU_PAIR_PANEL], dense */
    float *c;            /* [rows][CPU_PAIR_PANEL]; writable up to a multiple of 16 rows */
    int64_t c_pitch;     /* floats between rows of c */
    int64_t rows, pairs; /* pairs is a multiple of CPU_PAIR_STEP */
    bool is_sum;         /* add to what is in c */
};

/* One instruction set. */
struct cpu_bf16 {
    const char *name;

    /* Around all tiles of a task, in its thread; NULL: nothing to do. */
    void (*begin)(void);
    void (*end)(void);

    /* c = a b, or c += a b. */
    void (*tile)(const struct cpu_pair_tile *t);
};

#if defined(__x86_64__)
extern const struct cpu_bf16 cpu_bf16_avx512; /* needs AVX512_BF16 */
extern const struct cpu_bf16 cpu_bf16_amx;    /* needs AMX-BF16 and cpu_amx_allow */

/* Does this CPU have AMX-BF16, and will the system save its registers? Asks the system for them, so
 * it is called before threads are made. This function can't fail. */
bool cpu_amx_allow(void);
#endif

/* dst[r * CPU_PAIR_PITCH + i] = the pair src[r * CPU_PITCH + 2 i], [.. + 2 i + 1]; zero behind
 * depth, up to a multiple of CPU_PAIR_STEP. dst may begin where src does. Needs AVX512_BF16. */
void cpu_bf16_round(uint32_t *dst, const float *src, int64_t rows, int64_t depth);

/* dst[i * CPU_PAIR_PANEL + j] = the pair src[j * src_pitch + 2 i], [.. + 2 i + 1] for j < 16; zero
 * where j >= count and behind depth. Needs AVX512_BF16. */
void cpu_bf16_pack(uint32_t *dst, const float *src, int64_t src_pitch, int64_t count,
                   int64_t depth);

/* dst[i * CPU_PAIR_PANEL + j] = the pair src[2 i * src_pitch + j], src[(2 i + 1) * src_pitch + j];
 * zero where j >= count (at most CPU_PAIR_PANEL) and behind row `rows`, up to a multiple of
 * CPU_PAIR_STEP pairs. Needs AVX512_BF16. */
void cpu_bf16_pack_rows(uint32_t *dst, const float *src, int64_t src_pitch, int64_t rows,
                        int64_t count);

#endif
