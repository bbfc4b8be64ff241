/* cuda_driver.h - the few things the CUDA table asks of a GPU: memory, copies, launches.
 *
 * A table of functions, so that the same host code runs on a GPU (cuda_libcuda.c, the driver API of
 * the installed libcuda) and in tests on a machine without one (tests/ptx, which interprets the PTX
 * of the same kernels). Device memory is named by a cuda_ptr, an address that only the device
 * follows. Calls are in order: a copy or launch sees everything that was asked for before it.
 * Errors of every call: ERR_DEVICE with the driver's own name of the error; after one of them that
 * the hardware reports ("sticky"), all later calls fail, and the process must end.
 * Threads: any, one at a time. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_DRIVER_H
#define ONESTEP_KERNELS_CUDA_CUDA_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

/* An address in device memory; 0: none. */
typedef uint64_t cuda_ptr;

struct cuda_device;   /* an open device; opaque, owned by whoever opened it */
struct cuda_function; /* a kernel of a loaded module; owned by the device */

/* What is known of an open device. */
struct cuda_info {
    char name[96];        /* "NVIDIA H100 80GB HBM3" */
    int capability;       /* 10 * major + minor: 80, 89, 90 */
    int multiprocessors;  /* streaming multiprocessors */
    size_t memory_bytes;  /* of the whole device */
    size_t free_bytes;    /* not in use by anybody when it was opened */
    int shared_max_bytes; /* most shared memory that one block may ask for */
};

/* One kernel launch. */
struct cuda_launch {
    struct cuda_function *function;
    uint32_t grid[3], block[3]; /* x, y, z */
    uint32_t shared_bytes;      /* dynamic shared memory; above 48 KiB the driver opts in for it */
    const void *args;           /* the kernel's one parameter, a struct passed by value */
    size_t args_bytes;          /* its size; at most 4 KiB */
};

/* One implementation. */
struct cuda_driver {
    const char *name; /* "libcuda", "interpreter" */
    /* Open device number ordinal. Errors: ERR_UNAVAILABLE when there is no driver or no such
     * device, with a sentence that says which; ERR_DEVICE. */
    status (*open)(struct cuda_device **device, int ordinal);
    void (*close)(struct cuda_device *device); /* accepts NULL; frees what was not given back */
    void (*describe)(const struct cuda_device *device, struct cuda_info *info);
    /* Load a module. libcuda takes a fat binary, the interpreter the text of a PTX file, both with
     * a NUL behind it that bytes does not count. */
    status (*load)(struct cuda_device *device, const void *image, size_t bytes);
    /* *function = the extern "C" kernel called name of any loaded module. ERR_NOTFOUND. */
    status (*find)(struct cuda_device *device, const char *name, struct cuda_function **function);
    /* Errors: ERR_NOMEM with the size. Aligned to 256 bytes. */
    status (*alloc)(struct cuda_device *device, size_t bytes, cuda_ptr *ptr);
    void (*release)(struct cuda_device *device, cuda_ptr ptr); /* accepts 0 */
    status (*upload)(struct cuda_device *device, cuda_ptr dst, const void *src, size_t bytes);
    status (*download)(struct cuda_device *device, void *dst, cuda_ptr src, size_t bytes);
    status (*copy)(struct cuda_device *device, cuda_ptr dst, cuda_ptr src, size_t bytes);
    status (*launch)(struct cuda_device *device, const struct cuda_launch *launch);
    status (*sync)(struct cuda_device *device); /* wait until all that was asked for is done */
};

/* A module, as cuda_driver.load takes it. */
struct cuda_image {
    const char *name; /* of the source file, for error sentences */
    const void *data; /* fat binary or PTX */
    size_t bytes;     /* without the NUL behind it */
};

/* What a table runs on. */
struct cuda_target {
    const struct cuda_driver *driver; /* which implementation */
    const struct cuda_image *images;  /* [image_count], every kernel in the form that it loads */
    int image_count;                  /* 0: built without nvcc */
};

/* The GPU's driver and the fat binaries inside this program; made by the Makefile. */
extern const struct cuda_target cuda_builtin;

/* cuda_libcuda.c. Needs nothing of CUDA to compile; looks for libcuda.so.1 when opened. */
extern const struct cuda_driver cuda_libcuda;

#endif
