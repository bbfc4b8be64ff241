#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")

#define CPU_LANES 16
#define CPU_TILE_ROWS 12
#define CPU_ISA cpu_avx512
#define CPU_ISA_NAME "avx512"

#include "kernels/cpu/cpu_lanes.h"

#endif
