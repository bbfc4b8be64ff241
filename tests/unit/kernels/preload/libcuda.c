/* DESIGN: a libcuda.so.1 of one pretended GPU, for the host code that speaks with the real one. Its
 * device memory is the process's own, a launch does nothing, and every call that needs a context
 * refuses a thread that has none, as the driver does. Tests set fake_gpu before they open it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/kernels/fake_gpu.h"

/* Source: CUDA driver API, CUresult. */
#define INVALID_VALUE 1
#define OUT_OF_MEMORY 2
#define NO_DEVICE 100
#define INVALID_CONTEXT 201
#define NOT_FOUND 500

struct fake_gpu fake_gpu = { .count = 1, .capability = 80, .memory_bytes = (size_t)1 << 30 };

static int context; /* its address is the context */
static _Thread_local void *current;

#define NEED_CONTEXT()                                                                             \
    do {                                                                                           \
        fake_gpu.calls++;                                                                          \
        if (current != &context)                                                                   \
            return INVALID_CONTEXT;                                                                \
    } while (0)

int cuInit(unsigned flags)
{
    return flags == 0 ? 0 : INVALID_VALUE;
}

int cuGetErrorName(int code, const char **name)
{
    *name = code == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
            : code == 700             ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                      : "CUDA_ERROR_OTHER";
    return 0;
}

int cuGetErrorString(int code, const char **text)
{
    *text = code == 700 ? "an illegal memory access was encountered" : "it did not work";
    return 0;
}

int cuDeviceGetCount(int *count)
{
    *count = fake_gpu.count;
    return fake_gpu.count == 0 ? NO_DEVICE : 0;
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char *name, int bytes, int device)
{
    (void)device;
    snprintf(name, (size_t)bytes, "Pretended");
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    *value = attribute == 75   ? fake_gpu.capability / 10
             : attribute == 76 ? fake_gpu.capability % 10
             : attribute == 16 ? 4
                               : 160 << 10;
    return 0;
}

int cuDevicePrimaryCtxRetain(void **to, int device)
{
    (void)device;
    fake_gpu.retained++;
    *to = &context;
    return 0;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    fake_gpu.retained--;
    return 0;
}

int cuCtxSetCurrent(void *to)
{
    current = to;
    return 0;
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    NEED_CONTEXT();
    *free_bytes = fake_gpu.memory_bytes - fake_gpu.taken_bytes;
    *total_bytes = fake_gpu.memory_bytes;
    return 0;
}

int cuModuleLoadData(void **module, const void *image)
{
    NEED_CONTEXT();
    *module = (void *)image;
    return 0;
}

int cuModuleUnload(void *module)
{
    (void)module;
    NEED_CONTEXT();
    return 0;
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    (void)module;
    NEED_CONTEXT();
    *function = &context;
    return strstr(name, "hopper") ? NOT_FOUND : 0;
}

int cuFuncSetAttribute(void *function, int attribute, int value)
{
    (void)function;
    (void)attribute;
    (void)value;
    NEED_CONTEXT();
    return 0;
}

/* The size lies before the block, which stays aligned. */
#define HEAD 256

int cuMemAlloc_v2(uint64_t *ptr, size_t bytes)
{
    char *block;

    NEED_CONTEXT();
    if (bytes > fake_gpu.memory_bytes - fake_gpu.taken_bytes)
        return OUT_OF_MEMORY;
    block = aligned_alloc(HEAD, (bytes + 2 * HEAD - 1) / HEAD * HEAD);
    if (!block)
        return OUT_OF_MEMORY;
    memcpy(block, &bytes, sizeof(bytes));
    fake_gpu.taken_bytes += bytes;
    fake_gpu.blocks++;
    fake_gpu.memory = block + HEAD;
    *ptr = (uint64_t)(uintptr_t)fake_gpu.memory;
    return 0;
}

int cuMemFree_v2(uint64_t ptr)
{
    char *block = (char *)(uintptr_t)ptr - HEAD;
    size_t bytes;

    NEED_CONTEXT();
    memcpy(&bytes, block, sizeof(bytes));
    fake_gpu.taken_bytes -= bytes;
    fake_gpu.blocks--;
    free(block);
    return 0;
}

int cuMemcpyHtoDAsync_v2(uint64_t dst, const void *src, size_t bytes, void *stream)
{
    (void)stream;
    NEED_CONTEXT();
    memcpy((void *)(uintptr_t)dst, src, bytes);
    return fake_gpu.broken;
}

int cuMemcpyDtoHAsync_v2(void *dst, uint64_t src, size_t bytes, void *stream)
{
    (void)stream;
    NEED_CONTEXT();
    memcpy(dst, (const void *)(uintptr_t)src, bytes);
    return fake_gpu.broken;
}

int cuMemcpyDtoDAsync_v2(uint64_t dst, uint64_t src, size_t bytes, void *stream)
{
    (void)stream;
    NEED_CONTEXT();
    memmove((void *)(uintptr_t)dst, (const void *)(uintptr_t)src, bytes);
    return fake_gpu.broken;
}

int cuStreamCreate(void **stream, unsigned flags)
{
    (void)flags;
    NEED_CONTEXT();
    *stream = &context;
    return 0;
}

int cuStreamDestroy_v2(void *stream)
{
    (void)stream;
    NEED_CONTEXT();
    return 0;
}

int cuStreamSynchronize(void *stream)
{
    (void)stream;
    NEED_CONTEXT();
    return fake_gpu.broken;
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   void *stream, void **params, void **extra)
{
    (void)function;
    (void)stream;
    (void)params;
    (void)extra;
    NEED_CONTEXT();
    if (!grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z ||
        shared_bytes > 160 << 10)
        return INVALID_VALUE;
    fake_gpu.launches++;
    return fake_gpu.broken;
}
