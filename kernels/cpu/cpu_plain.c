#define CPU_LANES 4
#define CPU_TILE_ROWS 4
#define CPU_ISA cpu_plain
#define CPU_ISA_NAME "plain"

#include "kernels/cpu/cpu_lanes.h"
