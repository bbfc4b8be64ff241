/* op.h - tensor operators: check shapes, take the result from the arena, call one kernel.
 *
 * A model is a list of op_* calls. Each op that makes a tensor takes it from dev->act; callers give
 * memory back with arena_mark / arena_release. A tensor's elements have the type of dev's
 * kern_layout, and its data may be an address that only the device can follow.
 * CAREFUL: y->data is read. NULL (a zeroed y): y is taken from the arena. Otherwise y is a tensor
 * of the result's shape that exists, and the op writes there; kern.h says what y may alias.
 * Shapes that disagree are a bug in model code: CHECK. Sizes from outside (config, weights, job)
 * were validated before. Errors of every op: ERR_NOMEM when the arena is full, ERR_DEVICE,
 * ERR_CANCELLED once *dev->cancel is true (a job is stopped between kernels).
 * Thread: compute only. */
#ifndef ONESTEP_KERNELS_OP_OP_H
#define ONESTEP_KERNELS_OP_OP_H

#include <stdatomic.h>

#include "common/base/arena.h"
#include "kernels/kern.h"

/* A compute device: a kernel table, its context, and the arena that activations come from. */
struct dev {
    const struct kern_table *kern; /* which implementation */
    struct kern_ctx *ctx;          /* its state, owned */
    struct arena act;              /* activations: of fixed size, on the device */
    int64_t calls;                 /* kernels launched since open */
    double flops;              /* floating-point operations of conv, linear, attention since open */
    const atomic_bool *cancel; /* when set and true every op returns ERR_CANCELLED; borrowed */
};

/* Open table `name` with config and an arena of act_bytes; 0: as large as its memory, for a table
 * with memory of its own. Errors: ERR_BADARG for an unknown name, ERR_NOMEM, ERR_DEVICE,
 * ERR_UNAVAILABLE. */
MUST_USE status dev_open(struct dev *dev, const char *name, const struct kern_config *config,
                         size_t act_bytes);

/* Accepts a zeroed struct. */
void dev_close(struct dev *dev);

/* *t = an uninitialised tensor [n,h,w,c] from dev's arena. */
MUST_USE status op_new(struct dev *dev, struct tensor *t, int64_t n, int64_t h, int64_t w,
                       int64_t c);

/* Elements of t. This function can't fail. */
int64_t op_elements(const struct tensor *t);

/* Bytes of t's elements. This function can't fail. */
size_t op_bytes(const struct tensor *t);

/* The same elements seen as [n,h,w,c]; the count must agree. This function can't fail. */
struct tensor op_view(const struct tensor *t, int64_t n, int64_t h, int64_t w, int64_t c);

/* Optional inputs of a convolution; a zeroed struct asks for the plain one (stride 1, "same" zeros
 * for 3x3, none for 1x1). */
struct op_conv_opt {
    int stride;                    /* 0 means 1 */
    bool is_asymmetric;            /* pad right and bottom only (VAE encoder's downsampling) */
    bool no_pad;                   /* no zeros at all (CLIP's patches) */
    int64_t up_h, up_w;            /* nearest resampling of x to this size first; 0: none */
    const struct tensor *add;      /* [1,1,1,co]; NULL or no data: none */
    const struct tensor *residual; /* as y, or NULL */
    float scale;                   /* 0 means 1 */
    const struct norm *norm;       /* temporal only: silu(group norm(x)) stands for x; or NULL */
};

/* y = scale * (conv(x) + bias + add) + residual; y as above. See kern_conv2d. */
MUST_USE status op_conv2d(struct dev *dev, struct tensor *y, const struct tensor *x,
                          const struct conv *layer, const struct op_conv_opt *opt);

/* The (3,1,1) convolution over the n frames of one clip; of opt only add, residual,
 * scale and norm count. */
MUST_USE status op_conv_temporal(struct dev *dev, struct tensor *y, const struct tensor *x,
                                 const struct conv *layer, const struct op_conv_opt *opt);

/* Optional inputs of a linear layer; a zeroed struct asks for the plain one. */
struct op_linear_opt {
    enum kern_act act;             /* before the residual */
    const struct tensor *add;      /* [1,1,1,out], beside the bias; NULL: none */
    const struct tensor *residual; /* as y, or NULL */
};

/* y = act(x W^T + b + add) + residual; y as above, [n,h,w,out]. */
MUST_USE status op_linear(struct dev *dev, struct tensor *y, const struct tensor *x,
                          const struct linear *layer, const struct op_linear_opt *opt);

/* y = v * gelu(g); y as above, [n,h,w,out/2]. */
MUST_USE status op_geglu(struct dev *dev, struct tensor *y, const struct tensor *x,
                         const struct linear *layer);

/* Group norm with optional SiLU; statistics over span frames; y as above. */
MUST_USE status op_group_norm(struct dev *dev, struct tensor *y, const struct tensor *x,
                              const struct norm *layer, int64_t span, bool silu);

/* Layer norm over c; y as above. */
MUST_USE status op_layer_norm(struct dev *dev, struct tensor *y, const struct tensor *x,
                              const struct norm *layer);

/* Self-attention in each frame. qkv [n,h,w,3*c], columns q | k | v, heads of c/heads;
 * y [n,h,w,c]. */
MUST_USE status op_attention(struct dev *dev, struct tensor *y, const struct tensor *qkv,
                             int64_t heads);

/* Self-attention over the n frames, one sequence per pixel; shapes as op_attention. */
MUST_USE status op_attention_temporal(struct dev *dev, struct tensor *y, const struct tensor *qkv,
                                      int64_t heads);

/* y = x + z with z [n,h,w,c], [n,1,1,c] or [1,1,1,c]; y as above. */
MUST_USE status op_add(struct dev *dev, struct tensor *y, const struct tensor *x,
                       const struct tensor *z);

/* y = a x + (1 - a) z; y as above. */
MUST_USE status op_blend(struct dev *dev, struct tensor *y, const struct tensor *x,
                         const struct tensor *z, float a);

/* y = [x, z] along channels; y as above. */
MUST_USE status op_concat(struct dev *dev, struct tensor *y, const struct tensor *x,
                          const struct tensor *z);

/* y = x * sigmoid(x); y as above. */
MUST_USE status op_silu(struct dev *dev, struct tensor *y, const struct tensor *x);

/* Copy x into y, which exists and has as many elements. */
MUST_USE status op_copy(struct dev *dev, struct tensor *y, const struct tensor *x);

/* Fill t from host memory, or host memory from t: op_elements(t) floats in NHWC order. */
MUST_USE status op_upload(struct dev *dev, struct tensor *t, const float *src);
MUST_USE status op_download(struct dev *dev, const struct tensor *t, float *dst);

#endif
