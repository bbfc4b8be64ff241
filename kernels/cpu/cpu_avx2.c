#if defined(__x86_64__)
#pragma GCC target("avx2,fma")

#define CPU_LANES 8
#define CPU_TILE_ROWS 6
#define CPU_ISA cpu_avx2
#define CPU_ISA_NAME "avx2"

#include "kernels/cpu/cpu_lanes.h"

#endif
