/* cuda_priv.h - what the files of kern_cuda share: context, launches, weights, scratch.
 *
 * A kernel of the table is two functions: cuda_NAME in C, which knows shapes and picks grid and
 * block, and an extern "C" __global__ function in a .cu file that takes one struct by value,
 * declared in the family's header for both compilers. Tensors are device memory of 16 bits per
 * element, sums are float. Weights arrive as pointers to host memory, as in every table; the
 * device's copy of each, in the layout that its kernel wants, is made when the layer is seen first
 * and kept. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_PRIV_H
#define ONESTEP_KERNELS_CUDA_CUDA_PRIV_H

#include "common/base/check.h"
#include "kernels/cuda/cuda_driver.h"
#include "kernels/kern_ctx.h"

/* Bytes of the scratch block; see cuda_scratch. */
#define CUDA_SCRATCH_BYTES ((size_t)32 << 20)

/* Kernels that one context may call. */
#define CUDA_KERNELS_MAX 128

/* A kernel that was called. */
struct cuda_kernel {
    const char *name;               /* as in struct cuda_call: compared by address */
    struct cuda_function *function; /* of its type of elements */
};

struct cuda_map; /* host address and layout -> device address; opaque, cuda_weights.c */

/* Context of kern_cuda. */
struct cuda_ctx {
    struct kern_ctx base;                         /* must be first */
    const struct cuda_driver *driver;             /* libcuda, or a test's interpreter */
    struct cuda_device *device;                   /* owned */
    struct cuda_info info;                        /* of device */
    bool has_wgmma;                               /* Hopper's products are there and right */
    cuda_ptr scratch;                             /* CUDA_SCRATCH_BYTES */
    cuda_ptr weights;                             /* one block for the device's copies of weights */
    size_t weights_bytes;                         /* its size */
    size_t weights_used_bytes;                    /* handed out, a multiple of 256 */
    struct cuda_map *map;                         /* what is in the block; owned */
    cuda_ptr tensors;                             /* the block of the arena, see cuda_memory */
    struct cuda_kernel kernels[CUDA_KERNELS_MAX]; /* called so far */
    int kernel_count;                             /* how many */
    int64_t launches;                             /* since open */
};

/* A launch of the kernel `name` + "_bf16" or "_f16", after the context's type of elements. */
struct cuda_call {
    const char *name;           /* without the suffix; a string constant, kept */
    uint32_t grid[3], block[3]; /* 0 means 1 */
    uint32_t shared_bytes;      /* dynamic shared memory */
    const void *args;           /* the kernel's one parameter */
    size_t args_bytes;          /* its size */
};

/* How a weight lies on the device. */
struct cuda_layout {
    int kind;     /* enum cuda_weight_kind: with the host address it names the copy */
    size_t bytes; /* size of the copy */
    /* Write the copy of layer, a struct conv, linear or norm, to dst, zeroed memory of that size;
     * is_half: elements are IEEE halves, else bfloat16. This function can't fail. */
    void (*fill)(void *dst, const void *layer, bool is_half);
    const void *layer; /* first argument of fill */
};

/* The whole of a context that kern_cuda opened. */
static inline struct cuda_ctx *cuda_ctx_of(struct kern_ctx *ctx)
{
    return (struct cuda_ctx *)ctx;
}

/* The device address of a tensor's first element; 0 for a tensor without data. */
static inline cuda_ptr cuda_at(const void *data)
{
    return (cuda_ptr)(uintptr_t)data;
}

/* a / b, rounded up. */
static inline int64_t cuda_parts(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Errors: ERR_DEVICE; ERR_NOTFOUND is a CHECK, since the module is our own. */
MUST_USE status cuda_launch(struct cuda_ctx *c, const struct cuda_call *call);

/* *p = the device's copy of what lies at host in that layout, made now if it is new.
 * Errors: ERR_NOMEM when the block is full, ERR_DEVICE. */
MUST_USE status cuda_weight(struct cuda_ctx *c, const void *host, const struct cuda_layout *layout,
                            cuda_ptr *p);

/* *p = count floats that lie at host (gamma, beta, a bias), as floats. host NULL: *p = 0.
 * Errors: as cuda_weight. */
MUST_USE status cuda_floats(struct cuda_ctx *c, const float *host, int64_t count, cuda_ptr *p);

/* *p = bytes of device memory that stay until the table's next kernel. Errors: ERR_NOMEM when there
 * are more than CUDA_SCRATCH_BYTES. */
MUST_USE status cuda_scratch(struct cuda_ctx *c, size_t bytes, cuda_ptr *p);

/* value as a 16-bit element, rounded to nearest even; is_half: IEEE half, else bfloat16. This
 * function can't fail. */
uint16_t cuda_narrow(float value, bool is_half);

/* *is_right = whether this card's wgmma makes the same of a product with exact sums as its mma;
 * false for a card without. Uses the scratch block. Errors: ERR_DEVICE, ERR_NOMEM. */
MUST_USE status cuda_try_wgmma(struct cuda_ctx *c, bool *is_right);

/* The kernels: contracts and formulas are those of the argument structs in kern.h. */
status cuda_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *a);
/* See kern_conv_temporal. */
status cuda_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *a);
/* See kern_linear. */
status cuda_linear(struct kern_ctx *ctx, const struct kern_linear *a);
/* See kern_geglu. */
status cuda_geglu(struct kern_ctx *ctx, const struct kern_geglu *a);
/* See kern_group_norm. */
status cuda_group_norm(struct kern_ctx *ctx, const struct kern_group_norm *a);
/* *factor = [2][clips][c] floats in the scratch block: silu(x * factor[0] + factor[1]) is what a
 * group norm over `span` frames makes of x; clips = x->n / span. Stays until the next kernel but
 * one. Errors: ERR_DEVICE. */
MUST_USE status cuda_group_factors(struct cuda_ctx *c, const struct tensor *x,
                                   const struct norm *layer, int64_t span, cuda_ptr *factor);
/* See kern_layer_norm. */
status cuda_layer_norm(struct kern_ctx *ctx, const struct kern_layer_norm *a);
/* See kern_attention. */
status cuda_attention(struct kern_ctx *ctx, const struct kern_attention *a);
/* See kern_attention_temporal. */
status cuda_attention_temporal(struct kern_ctx *ctx, const struct kern_attention_temporal *a);
/* See kern_add. */
status cuda_add(struct kern_ctx *ctx, const struct kern_add *a);
/* See kern_blend. */
status cuda_blend(struct kern_ctx *ctx, const struct kern_blend *a);
/* See kern_concat. */
status cuda_concat(struct kern_ctx *ctx, const struct kern_concat *a);
/* See kern_silu. */
status cuda_silu(struct kern_ctx *ctx, const struct kern_silu *a);
/* See kern_copy. */
status cuda_copy(struct kern_ctx *ctx, const struct kern_copy *a);
/* y = count floats of host memory at src, rounded. */
MUST_USE status cuda_upload(struct kern_ctx *ctx, const struct tensor *y, const float *src);
/* dst = x as floats, in host memory. */
MUST_USE status cuda_download(struct kern_ctx *ctx, const struct tensor *x, float *dst);

#endif
