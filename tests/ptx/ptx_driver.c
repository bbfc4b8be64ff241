#include "tests/ptx/ptx_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "tests/ptx/ptx_priv.h"

#define MODULES_MAX 16
#define DEVICE_BYTES ((size_t)3 << 30)

struct cuda_device {
    struct cuda_info info;
    struct ptx_module *modules[MODULES_MAX];
    int module_count;
    struct ptx_memory memory;
    size_t block_room, hole_room;
    size_t taken_bytes;
};

static struct cuda_device *newest; /* for ptx_driver_hole */

static status driver_open(struct cuda_device **device, int ordinal)
{
    struct cuda_device *d;

    if (ordinal < 0 || ordinal > 1)
        return FAIL(ERR_UNAVAILABLE, "the interpreter has the devices 0 and 1, not %d", ordinal);
    d = calloc(1, sizeof(*d));
    CHECK(d);
    /* Two multiprocessors: small shapes use the kernels of large ones then. */
    d->info = (struct cuda_info){
        .name = "PTX interpreter",
        .capability = ordinal == 0 ? 80 : 90,
        .multiprocessors = 2,
        .memory_bytes = DEVICE_BYTES,
        .free_bytes = DEVICE_BYTES,
        .shared_max_bytes = ordinal == 0 ? 163 << 10 : 227 << 10,
    };
    *device = newest = d;
    return OK;
}

static void driver_close(struct cuda_device *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->module_count; i++)
        ptx_free(d->modules[i]);
    for (int i = 0; i < d->memory.block_count; i++)
        free((void *)(uintptr_t)d->memory.blocks[i].at);
    free(d->memory.blocks);
    free(d->memory.holes);
    newest = newest == d ? NULL : newest;
    free(d);
}

static void driver_describe(const struct cuda_device *d, struct cuda_info *info)
{
    *info = d->info;
}

static status driver_load(struct cuda_device *d, const void *image, size_t bytes)
{
    status st = OK;

    CHECK(d->module_count < MODULES_MAX);
    TRY(ptx_parse(&d->modules[d->module_count], "ptx", image, bytes));
    d->module_count++;
out:
    return st;
}

static status driver_find(struct cuda_device *d, const char *name, struct cuda_function **function)
{
    for (int i = 0; i < d->module_count; i++) {
        *function = (struct cuda_function *)ptx_find(d->modules[i], name);
        if (*function)
            return OK;
    }
    return FAIL(ERR_NOTFOUND, "no module has a CUDA kernel called %s", name);
}

static status driver_alloc(struct cuda_device *d, size_t bytes, cuda_ptr *ptr)
{
    void *block;

    if (bytes > DEVICE_BYTES - d->taken_bytes)
        return FAIL(ERR_NOMEM, "GPU %s has no %zu MiB of memory left", d->info.name, bytes >> 20);
    block = aligned_alloc(256, (bytes + 255) / 256 * 256);
    CHECK(block);
    memset(block, 0xff, bytes);
    ptx_grow(&d->memory.blocks, &d->block_room, (size_t)d->memory.block_count,
             sizeof(*d->memory.blocks));
    d->memory.blocks[d->memory.block_count++] = (struct ptx_range){ (uintptr_t)block, bytes };
    d->taken_bytes += bytes;
    *ptr = (uintptr_t)block;
    return OK;
}

static void driver_release(struct cuda_device *d, cuda_ptr ptr)
{
    for (int i = 0; i < d->memory.block_count; i++) {
        if (d->memory.blocks[i].at == ptr) {
            free((void *)(uintptr_t)ptr);
            d->taken_bytes -= d->memory.blocks[i].bytes;
            d->memory.blocks[i] = d->memory.blocks[--d->memory.block_count];
            return;
        }
    }
    CHECK(ptr == 0);
}

/* The host's copies stay inside allocations too. */
static status check_range(const struct cuda_device *d, cuda_ptr at, size_t bytes)
{
    for (int i = 0; i < d->memory.block_count; i++) {
        const struct ptx_range *r = &d->memory.blocks[i];

        if (at >= r->at && bytes <= r->bytes && at - r->at <= r->bytes - bytes)
            return OK;
    }
    return FAIL(ERR_DEVICE, "a copy of %zu bytes outside what was allocated", bytes);
}

static status driver_upload(struct cuda_device *d, cuda_ptr dst, const void *src, size_t bytes)
{
    status st = OK;

    TRY(check_range(d, dst, bytes));
    memcpy((void *)(uintptr_t)dst, src, bytes);
out:
    return st;
}

static status driver_download(struct cuda_device *d, void *dst, cuda_ptr src, size_t bytes)
{
    status st = OK;

    TRY(check_range(d, src, bytes));
    memcpy(dst, (const void *)(uintptr_t)src, bytes);
out:
    return st;
}

static status driver_copy(struct cuda_device *d, cuda_ptr dst, cuda_ptr src, size_t bytes)
{
    status st = OK;

    TRY(check_range(d, dst, bytes));
    TRY(driver_upload(d, dst, (const void *)(uintptr_t)src, bytes));
    TRY(check_range(d, src, bytes));
out:
    return st;
}

static status driver_launch(struct cuda_device *d, const struct cuda_launch *l)
{
    const struct ptx_launch launch = {
        .memory = &d->memory,
        .grid = { l->grid[0], l->grid[1], l->grid[2] },
        .block = { l->block[0], l->block[1], l->block[2] },
        .shared_bytes = l->shared_bytes,
        .args = l->args,
        .args_bytes = l->args_bytes,
    };
    struct ptx_kernel *k = (struct ptx_kernel *)l->function;

    if (l->shared_bytes > (uint32_t)d->info.shared_max_bytes)
        return FAIL(ERR_DEVICE, "%s: %u bytes of shared memory, a block may have %d", ptx_name(k),
                    l->shared_bytes, d->info.shared_max_bytes);
    return ptx_run(k, &launch);
}

static status driver_sync(struct cuda_device *d)
{
    (void)d;
    return OK;
}

const struct cuda_driver ptx_driver = {
    .name = "interpreter",
    .open = driver_open,
    .close = driver_close,
    .describe = driver_describe,
    .load = driver_load,
    .find = driver_find,
    .alloc = driver_alloc,
    .release = driver_release,
    .upload = driver_upload,
    .download = driver_download,
    .copy = driver_copy,
    .launch = driver_launch,
    .sync = driver_sync,
};

void ptx_driver_hole(cuda_ptr at, size_t bytes)
{
    CHECK(newest);
    ptx_grow(&newest->memory.holes, &newest->hole_room, (size_t)newest->memory.hole_count,
             sizeof(*newest->memory.holes));
    newest->memory.holes[newest->memory.hole_count++] = (struct ptx_range){ at, bytes };
}

void ptx_driver_fill_holes(void)
{
    if (newest)
        newest->memory.hole_count = 0;
}

bool ptx_driver_drop(const char *name, const char *opcode, int index)
{
    struct ptx_kernel *k = NULL;

    CHECK(newest);
    for (int i = 0; i < newest->module_count && !k; i++)
        k = ptx_find(newest->modules[i], name);
    return k && ptx_drop(k, opcode, index);
}
