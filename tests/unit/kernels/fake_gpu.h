/* fake_gpu.h - the pretended GPU of preload/libcuda.c, as its tests set it up and look at it. */
#ifndef ONESTEP_TESTS_UNIT_KERNELS_FAKE_GPU_H
#define ONESTEP_TESTS_UNIT_KERNELS_FAKE_GPU_H

#include <stddef.h>

struct fake_gpu {
    int count;           /* GPUs that the driver finds */
    int capability;      /* 10 * major + minor */
    size_t memory_bytes; /* that there are */
    int broken;          /* CUresult of every copy, launch and wait */

    size_t taken_bytes; /* of memory_bytes */
    int blocks;         /* of memory that are taken */
    int retained;       /* contexts that were not released */
    int launches;       /* kernels that were launched */
    int calls;          /* that need a context */
    void *memory;       /* the block that was taken last */
};

#endif
