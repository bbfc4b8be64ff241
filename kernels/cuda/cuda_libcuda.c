/* DESIGN: the driver API, found at run time, so that one program runs with and without a GPU and is
 * built without CUDA's headers. Its types are plain: handles are pointers, results and attributes
 * are ints. One stream: everything is in order, and only downloads and sync wait. The driver keeps
 * the current context per thread, and a device may be used by another thread than the one that
 * opened it: so every call makes the context current first, which costs it nothing to speak of. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_driver.h"

/* Source: CUDA driver API, CUresult, CUdevice_attribute, CUfunction_attribute, CUstream_flags. */
#define CUDA_ERROR_OUT_OF_MEMORY 2
#define CUDA_ERROR_NO_DEVICE 100
#define CUDA_ERROR_NOT_FOUND 500
#define ATTRIBUTE_MULTIPROCESSORS 16
#define ATTRIBUTE_MAJOR 75
#define ATTRIBUTE_MINOR 76
#define ATTRIBUTE_SHARED_OPTIN 97
#define FUNCTION_MAX_DYNAMIC_SHARED 8
#define STREAM_NON_BLOCKING 1

/* Shared memory that a launch may have without asking. */
#define SHARED_FREE_BYTES (48u << 10)

/* Kernels of all modules that find was asked for. */
#define FUNCTIONS_MAX 256
#define MODULES_MAX 16

typedef int result; /* CUresult */

/* The functions of libcuda.so.1 that are used, by the names it exports. */
#define FUNCTIONS(X)                                                                               \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuGetErrorName, (result code, const char **name))                                            \
    X(cuGetErrorString, (result code, const char **text))                                          \
    X(cuDeviceGetCount, (int *count))                                                              \
    X(cuDeviceGet, (int *device, int ordinal))                                                     \
    X(cuDeviceGetName, (char *name, int bytes, int device))                                        \
    X(cuDeviceGetAttribute, (int *value, int attribute, int device))                               \
    X(cuDevicePrimaryCtxRetain, (void **context, int device))                                      \
    X(cuDevicePrimaryCtxRelease_v2, (int device))                                                  \
    X(cuCtxSetCurrent, (void *context))                                                            \
    X(cuMemGetInfo_v2, (size_t * free_bytes, size_t * total_bytes))                                \
    X(cuModuleLoadData, (void **module, const void *image))                                        \
    X(cuModuleUnload, (void *module))                                                              \
    X(cuModuleGetFunction, (void **function, void *module, const char *name))                      \
    X(cuFuncSetAttribute, (void *function, int attribute, int value))                              \
    X(cuMemAlloc_v2, (cuda_ptr * ptr, size_t bytes))                                               \
    X(cuMemFree_v2, (cuda_ptr ptr))                                                                \
    X(cuMemcpyHtoDAsync_v2, (cuda_ptr dst, const void *src, size_t bytes, void *stream))           \
    X(cuMemcpyDtoHAsync_v2, (void *dst, cuda_ptr src, size_t bytes, void *stream))                 \
    X(cuMemcpyDtoDAsync_v2, (cuda_ptr dst, cuda_ptr src, size_t bytes, void *stream))              \
    X(cuStreamCreate, (void **stream, unsigned flags))                                             \
    X(cuStreamDestroy_v2, (void *stream))                                                          \
    X(cuStreamSynchronize, (void *stream))                                                         \
    X(cuLaunchKernel, (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,          \
                       unsigned block_x, unsigned block_y, unsigned block_z,                       \
                       unsigned shared_bytes, void *stream, void **params, void **extra))

/* Their addresses. */
struct library {
    void *handle; /* of dlopen */
#define MEMBER(name, params) result(*name) params;
    FUNCTIONS(MEMBER)
#undef MEMBER
};

struct cuda_function {
    void *function;        /* CUfunction */
    uint32_t shared_bytes; /* dynamic shared memory that it may have */
    char name[64];         /* for error sentences */
};

struct cuda_device {
    struct library lib;                            /* open while the device is */
    int device;                                    /* CUdevice */
    void *context, *stream;                        /* CUcontext, the primary one; CUstream */
    void *modules[MODULES_MAX];                    /* CUmodule */
    int module_count;                              /* loaded */
    struct cuda_function functions[FUNCTIONS_MAX]; /* found so far */
    int function_count;                            /* how many */
    struct cuda_info info;                         /* for describe */
};

/* A failed call as one sentence. */
static status fail(const struct cuda_device *d, result code, const char *what)
{
    const char *name = "an unknown error", *text = "";

    d->lib.cuGetErrorName(code, &name);
    d->lib.cuGetErrorString(code, &text);
    return FAIL(code == CUDA_ERROR_OUT_OF_MEMORY ? ERR_NOMEM : ERR_DEVICE, "GPU %s: %s: %s (%s)",
                d->info.name, what, text, name);
}

#define TRY_CUDA(d, call, what)                                                                    \
    do {                                                                                           \
        result code_ = (d)->lib.call;                                                              \
        if (code_ != 0)                                                                            \
            TRY(fail(d, code_, what));                                                             \
    } while (0)

/* Make the device the calling thread's. */
static status enter(const struct cuda_device *d)
{
    status st = OK;

    TRY_CUDA(d, cuCtxSetCurrent(d->context), "its context");
out:
    return st;
}

static status open_library(struct library *lib)
{
    lib->handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!lib->handle)
        return FAIL(ERR_UNAVAILABLE, "no NVIDIA driver: %s; install one, or set device to cpu",
                    dlerror());
#define LOOK_UP(name, params)                                                                      \
    *(void **)&lib->name = dlsym(lib->handle, #name);                                              \
    if (!lib->name)                                                                                \
        return FAIL(ERR_UNAVAILABLE, "the NVIDIA driver is too old: it has no %s", #name);
    FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    return OK;
}

static status choose_device(struct cuda_device *d, int ordinal)
{
    int count = 0;
    result code = d->lib.cuInit(0);
    status st = OK;

    if (code == 0)
        code = d->lib.cuDeviceGetCount(&count);
    if (code == CUDA_ERROR_NO_DEVICE || (code == 0 && count == 0))
        return FAIL(ERR_UNAVAILABLE, "the NVIDIA driver finds no GPU; set device to cpu");
    if (code != 0)
        return fail(d, code, "start of the driver");
    if (ordinal < 0 || ordinal >= count)
        return FAIL(ERR_UNAVAILABLE,
                    "there is no GPU number %d; take one of 0 to %d, or set device to cpu", ordinal,
                    count - 1);
    TRY_CUDA(d, cuDeviceGet(&d->device, ordinal), "opening it");
    TRY_CUDA(d, cuDeviceGetName(d->info.name, sizeof(d->info.name), d->device), "its name");
out:
    return st;
}

static status ask_attributes(struct cuda_device *d)
{
    int major = 0, minor = 0;
    status st = OK;

    TRY_CUDA(d, cuDeviceGetAttribute(&major, ATTRIBUTE_MAJOR, d->device), "its capability");
    TRY_CUDA(d, cuDeviceGetAttribute(&minor, ATTRIBUTE_MINOR, d->device), "its capability");
    TRY_CUDA(d,
             cuDeviceGetAttribute(&d->info.multiprocessors, ATTRIBUTE_MULTIPROCESSORS, d->device),
             "its multiprocessors");
    TRY_CUDA(d, cuDeviceGetAttribute(&d->info.shared_max_bytes, ATTRIBUTE_SHARED_OPTIN, d->device),
             "its shared memory");
    TRY_CUDA(d, cuMemGetInfo_v2(&d->info.free_bytes, &d->info.memory_bytes), "its memory");
    d->info.capability = 10 * major + minor;
    if (d->info.capability < 80)
        TRY(FAIL(ERR_UNAVAILABLE,
                 "GPU %s has compute capability %d.%d; 8.0 (Ampere) or later is needed",
                 d->info.name, major, minor));
out:
    return st;
}

static void libcuda_close(struct cuda_device *d)
{
    if (!d)
        return;
    if (d->context) {
        d->lib.cuCtxSetCurrent(d->context);
        /* Errors here were reported when they arose: nothing more can be done about them. */
        for (int i = 0; i < d->module_count; i++)
            d->lib.cuModuleUnload(d->modules[i]);
        if (d->stream)
            d->lib.cuStreamDestroy_v2(d->stream);
        d->lib.cuDevicePrimaryCtxRelease_v2(d->device);
    }
    if (d->lib.handle)
        dlclose(d->lib.handle);
    free(d);
}

static status libcuda_open(struct cuda_device **device, int ordinal)
{
    struct cuda_device *d = calloc(1, sizeof(*d));
    status st = OK;

    if (!d)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory for a GPU's state", sizeof(*d));
    TRY(open_library(&d->lib));
    TRY(choose_device(d, ordinal));
    TRY_CUDA(d, cuDevicePrimaryCtxRetain(&d->context, d->device), "its context");
    TRY(enter(d));
    TRY(ask_attributes(d));
    TRY_CUDA(d, cuStreamCreate(&d->stream, STREAM_NON_BLOCKING), "a stream");
    *device = d;
    return OK;
out:
    libcuda_close(d);
    return st;
}

static void libcuda_describe(const struct cuda_device *d, struct cuda_info *info)
{
    *info = d->info;
}

static status libcuda_load(struct cuda_device *d, const void *image, size_t bytes)
{
    status st = OK;

    (void)bytes; /* the image says how long it is */
    if (d->module_count == MODULES_MAX)
        return FAIL(ERR_FULL, "more than %d CUDA modules", MODULES_MAX);
    TRY(enter(d));
    TRY_CUDA(d, cuModuleLoadData(&d->modules[d->module_count], image), "loading kernels");
    d->module_count++;
out:
    return st;
}

static status libcuda_find(struct cuda_device *d, const char *name, struct cuda_function **function)
{
    struct cuda_function *f = &d->functions[d->function_count];
    result code = CUDA_ERROR_NOT_FOUND;
    status st = OK;

    TRY(enter(d));
    if (d->function_count == FUNCTIONS_MAX || strlen(name) >= sizeof(f->name))
        return FAIL(ERR_FULL, "no room for the CUDA kernel %s", name);
    for (int i = 0; i < d->module_count && code == CUDA_ERROR_NOT_FOUND; i++)
        code = d->lib.cuModuleGetFunction(&f->function, d->modules[i], name);
    if (code == CUDA_ERROR_NOT_FOUND)
        return FAIL(ERR_NOTFOUND, "no module has a CUDA kernel called %s", name);
    if (code != 0)
        return fail(d, code, name);
    f->shared_bytes = SHARED_FREE_BYTES;
    snprintf(f->name, sizeof(f->name), "%s", name);
    d->function_count++;
    *function = f;
out:
    return st;
}

static status libcuda_alloc(struct cuda_device *d, size_t bytes, cuda_ptr *ptr)
{
    result code;
    status st = OK;

    TRY(enter(d));
    code = d->lib.cuMemAlloc_v2(ptr, bytes);
    if (code == CUDA_ERROR_OUT_OF_MEMORY)
        return FAIL(ERR_NOMEM, "GPU %s has no %zu MiB of memory left", d->info.name, bytes >> 20);
    if (code != 0)
        return fail(d, code, "taking memory");
out:
    return st;
}

static void libcuda_release(struct cuda_device *d, cuda_ptr ptr)
{
    if (!ptr)
        return;
    d->lib.cuCtxSetCurrent(d->context);
    d->lib.cuMemFree_v2(ptr); /* a broken device was reported by the call that broke it */
}

static status libcuda_upload(struct cuda_device *d, cuda_ptr dst, const void *src, size_t bytes)
{
    status st = OK;

    TRY(enter(d));
    /* From pageable memory this returns when src has been read. */
    TRY_CUDA(d, cuMemcpyHtoDAsync_v2(dst, src, bytes, d->stream), "copying to it");
out:
    return st;
}

static status libcuda_sync(struct cuda_device *d)
{
    status st = OK;

    TRY(enter(d));
    TRY_CUDA(d, cuStreamSynchronize(d->stream), "running kernels");
out:
    return st;
}

static status libcuda_download(struct cuda_device *d, void *dst, cuda_ptr src, size_t bytes)
{
    status st = OK;

    TRY(enter(d));
    TRY_CUDA(d, cuMemcpyDtoHAsync_v2(dst, src, bytes, d->stream), "copying from it");
    TRY(libcuda_sync(d));
out:
    return st;
}

static status libcuda_copy(struct cuda_device *d, cuda_ptr dst, cuda_ptr src, size_t bytes)
{
    status st = OK;

    TRY(enter(d));
    TRY_CUDA(d, cuMemcpyDtoDAsync_v2(dst, src, bytes, d->stream), "copying inside it");
out:
    return st;
}

static status libcuda_launch(struct cuda_device *d, const struct cuda_launch *l)
{
    struct cuda_function *f = l->function;
    void *params[] = { (void *)l->args };
    status st = OK;

    TRY(enter(d));
    if (l->shared_bytes > f->shared_bytes) {
        TRY_CUDA(d,
                 cuFuncSetAttribute(f->function, FUNCTION_MAX_DYNAMIC_SHARED, (int)l->shared_bytes),
                 f->name);
        f->shared_bytes = l->shared_bytes;
    }
    TRY_CUDA(d,
             cuLaunchKernel(f->function, l->grid[0], l->grid[1], l->grid[2], l->block[0],
                            l->block[1], l->block[2], l->shared_bytes, d->stream, params, NULL),
             f->name);
out:
    return st;
}

const struct cuda_driver cuda_libcuda = {
    .name = "libcuda",
    .open = libcuda_open,
    .close = libcuda_close,
    .describe = libcuda_describe,
    .load = libcuda_load,
    .find = libcuda_find,
    .alloc = libcuda_alloc,
    .release = libcuda_release,
    .upload = libcuda_upload,
    .download = libcuda_download,
    .copy = libcuda_copy,
    .launch = libcuda_launch,
    .sync = libcuda_sync,
};
