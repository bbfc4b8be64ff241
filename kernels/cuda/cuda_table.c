#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_priv.h"
#include "kernels/cuda/cuda_weights.h"

/* Scratch that blocks of a model take in one piece: on a GPU a launch wants many rows. */
#define SLICE_BYTES ((int64_t)4 << 30)

/* What the driver itself may still need of the device's memory, for kernels and their stacks. */
#define DRIVER_BYTES ((size_t)512 << 20)

/* The longest name of a kernel, with its NUL. */
#define KERNEL_NAME_BYTES 64

static void cuda_close(struct kern_ctx *ctx)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);

    if (!c)
        return;
    if (c->device) {
        c->driver->release(c->device, c->tensors);
        c->driver->release(c->device, c->weights);
        c->driver->release(c->device, c->scratch);
        c->driver->close(c->device);
    }
    cuda_map_close(c->map);
    free(c);
}

/* The device's copies of so many bytes of host weights: 32-bit ones shrink to half, 16-bit ones
 * stay, a tenth and 64 MiB are for padding to whole tiles, and weights that have two copies. */
static size_t weights_bound(size_t host_bytes)
{
    return host_bytes + host_bytes / 10 + ((size_t)64 << 20);
}

static status load_images(struct cuda_ctx *c, const struct cuda_target *target)
{
    status st = OK;

    if (target->image_count == 0)
        TRY(FAIL(ERR_UNAVAILABLE, "this build has no CUDA kernels, since there was no nvcc; build "
                                  "it where CUDA is installed, or set device to cpu"));
    for (int i = 0; i < target->image_count; i++)
        TRY(c->driver->load(c->device, target->images[i].data, target->images[i].bytes));
out:
    return st;
}

static status cuda_open(struct kern_ctx **ctx, const struct kern_config *config)
{
    const struct cuda_target *target = config->target ? config->target : &cuda_builtin;
    struct cuda_ctx *c;
    status st = OK;

    if (config->precision == KERN_PRECISION_F32)
        return FAIL(ERR_BADARG, "device cuda computes in 16 bits; set precision to bf16 or f16");
    c = calloc(1, sizeof(*c));
    if (!c)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory for a kernel context", sizeof(*c));
    c->driver = target->driver;
    c->base.layout.dtype = config->precision == KERN_PRECISION_F16 ? KERN_F16 : KERN_BF16;
    c->base.layout.slice_bytes = SLICE_BYTES;
    /* Seen on an H200: a transcendental function for each operand of each product takes three times
     * as long as the products. */
    c->base.layout.has_norm_apart = true;
    TRY(cuda_map_open(&c->map));
    TRY(c->driver->open(&c->device, config->ordinal));
    c->driver->describe(c->device, &c->info);
    TRY(load_images(c, target));
    c->weights_bytes = weights_bound(config->weight_bytes);
    TRY(c->driver->alloc(c->device, c->weights_bytes, &c->weights));
    TRY(c->driver->alloc(c->device, CUDA_SCRATCH_BYTES, &c->scratch));
    if (config->use_wgmma)
        TRY(cuda_try_wgmma(c, &c->has_wgmma));
    snprintf(c->base.description, sizeof(c->base.description), "cuda:%d, %s, %s, %s, %s",
             config->ordinal, c->info.name, c->base.layout.dtype == KERN_F16 ? "f16" : "bf16",
             c->driver->name, c->has_wgmma ? "wgmma" : "mma");
    *ctx = &c->base;
    return OK;
out:
    cuda_close(&c->base);
    return st;
}

static status cuda_memory(struct kern_ctx *ctx, size_t *bytes, void **base)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    size_t taken = c->weights_bytes + CUDA_SCRATCH_BYTES + DRIVER_BYTES;
    status st = OK;

    CHECK(!c->tensors);
    if (*bytes == 0) {
        if (c->info.free_bytes <= taken)
            TRY(FAIL(ERR_NOMEM, "GPU %s has %zu MiB free; the weights and the driver need %zu",
                     c->info.name, c->info.free_bytes >> 20, taken >> 20));
        *bytes = (c->info.free_bytes - taken) / 256 * 256;
    }
    TRY(c->driver->alloc(c->device, *bytes, &c->tensors));
    *base = (void *)(uintptr_t)c->tensors;
out:
    return st;
}

static void cuda_forget(struct kern_ctx *ctx)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);

    cuda_map_clear(c->map);
    c->weights_used_bytes = 0;
}

status cuda_scratch(struct cuda_ctx *c, size_t bytes, cuda_ptr *p)
{
    if (bytes > CUDA_SCRATCH_BYTES)
        return FAIL(ERR_NOMEM, "a kernel needs %zu MiB of scratch, there are %zu", bytes >> 20,
                    CUDA_SCRATCH_BYTES >> 20);
    *p = c->scratch;
    return OK;
}

/* *function = the kernel called name, looked up once. */
static status find(struct cuda_ctx *c, const char *name, struct cuda_function **function)
{
    char whole[KERNEL_NAME_BYTES];
    int i = 0;
    status st;

    while (i < c->kernel_count && c->kernels[i].name != name)
        i++;
    if (i < c->kernel_count) {
        *function = c->kernels[i].function;
        return OK;
    }
    CHECK(c->kernel_count < CUDA_KERNELS_MAX);
    snprintf(whole, sizeof(whole), "%s_%s", name,
             c->base.layout.dtype == KERN_F16 ? "f16" : "bf16");
    st = c->driver->find(c->device, whole, function);
    CHECK(st != ERR_NOTFOUND);
    if (st == OK)
        c->kernels[c->kernel_count++] = (struct cuda_kernel){ name, *function };
    return st;
}

status cuda_launch(struct cuda_ctx *c, const struct cuda_call *call)
{
    struct cuda_launch l = { .shared_bytes = call->shared_bytes,
                             .args = call->args,
                             .args_bytes = call->args_bytes };
    status st = OK;

    TRY(find(c, call->name, &l.function));
    for (int i = 0; i < 3; i++) {
        l.grid[i] = call->grid[i] ? call->grid[i] : 1;
        l.block[i] = call->block[i] ? call->block[i] : 1;
    }
    TRY(c->driver->launch(c->device, &l));
    c->launches++;
out:
    return st;
}

const struct kern_table kern_cuda = {
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .memory = cuda_memory,
    .upload = cuda_upload,
    .download = cuda_download,
    .forget = cuda_forget,
    .conv2d = cuda_conv2d,
    .conv_temporal = cuda_conv_temporal,
    .linear = cuda_linear,
    .geglu = cuda_geglu,
    .group_norm = cuda_group_norm,
    .layer_norm = cuda_layer_norm,
    .attention = cuda_attention,
    .attention_temporal = cuda_attention_temporal,
    .add = cuda_add,
    .blend = cuda_blend,
    .concat = cuda_concat,
    .silu = cuda_silu,
    .copy = cuda_copy,
};
