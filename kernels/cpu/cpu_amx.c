#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma GCC target("amx-tile,amx-bf16")
#include <immintrin.h>

#define AMX_ZERO(t) _tile_zero(t)
#define AMX_LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define AMX_STORE(t, p, stride) _tile_stored(t, p, stride)
#define AMX_DOT(c, a, b) _tile_dpbf16ps(c, a, b)

#include "kernels/cpu/cpu_amx_tile.h"

/* Leaf 7 of CPUID, register EDX. */
#define CPUID_AMX_BF16 (1u << 22)
#define CPUID_AMX_TILE (1u << 24)

/* Source: linux, Documentation/arch/x86/xstate.rst. */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

/* What LDTILECFG reads: palette 1, and the shape of each tile. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

bool cpu_amx_allow(void)
{
    unsigned a, b, c, d;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    if (!(d & CPUID_AMX_BF16) || !(d & CPUID_AMX_TILE))
        return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* Eight tiles of 16 rows of 64 bytes.
 * CAREFUL: a constant in memory, not a local. gcc's _tile_loadconfig tells the optimiser that it
 * reads 8 of the 64 bytes, and stores to the rest of a local are dropped. */
static const struct tile_config tiles = {
    .palette = 1,
    .row_bytes = { 64, 64, 64, 64, 64, 64, 64, 64 },
    .rows = { AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS },
};

static void begin(void)
{
    _tile_loadconfig(&tiles);
}

/* Leaves the registers empty, so that a switch of threads has nothing to save. */
static void end(void)
{
    _tile_release();
}

const struct cpu_bf16 cpu_bf16_amx = {
    .name = "amx", .begin = begin, .end = end, .tile = amx_tile
};

#endif
