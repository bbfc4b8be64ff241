/* kern.h - the kernels of the engine: argument structs, formulas, and the table that holds them.
 *
 * A kernel is pointers in, pointers out: kernels/op has checked the shapes, the caller owns all
 * tensors, nothing is logged. Each kernel exists in every table:
 *   kern_ref  plain loops, double sums, the truth;
 *   kern_cpu  threads; AVX-512, AVX2 or plain C, chosen at run time;
 *   kern_cuda an NVIDIA GPU.
 * Layout: activations are NHWC = [n][h][w][c], frames of a clip ride in n. That is at once the
 * token matrix [n*h*w][c] of linear layers and the input of both attentions: nothing is transposed.
 * Weights are [out][...][in], converted once at load from the checkpoint's layout.
 * A kernel returns OK or ERR_NOMEM / ERR_DEVICE; wrong shapes are a CHECK in kernels/op.
 * Aliasing: y may be x or residual where a comment says so, never otherwise.
 * Thread: one caller at a time per kern_ctx; a kernel may use the context's own threads inside. */
#ifndef ONESTEP_KERNELS_KERN_H
#define ONESTEP_KERNELS_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

/* Type of elements. The tensors of a table all have the type of its struct kern_layout; weights are
 * host memory of 32 or 16 bits in every table. */
enum kern_dtype { KERN_NONE = 0, KERN_F32, KERN_F16, KERN_BF16 };

/* A dense activation [n][h][w][c]; borrows data. A token matrix is n frames of h*w rows of c. */
struct tensor {
    void *data;            /* first element; written by the kernel that has it as y */
    enum kern_dtype dtype; /* type of the elements */
    int64_t n, h, w, c;    /* frames (or images), rows, columns, channels */
};

/* Affine normalisation layer. */
struct norm {
    const float *gamma; /* [c] */
    const float *beta;  /* [c] */
    int64_t c;          /* channels */
    int groups;         /* GroupNorm: channel groups; 0 for LayerNorm */
    float eps;          /* added to the biased variance */
};

/* Convolution layer; the temporal one has kh = 3 taps over frames and kw = 1. */
struct conv {
    const void *weight; /* [co][kh][kw][ci] */
    const float *bias;  /* [co], or NULL */
    int64_t co, ci;     /* output and input channels */
    int kh, kw;         /* taps */
    enum kern_dtype
        dtype; /* of weight, as the checkpoint has it; KERN_NONE is KERN_F32. Widening 16
                              bits is exact, so results are those of the same weights as float */
};

/* Fully connected layer y = W x + b. */
struct linear {
    const void *weight;    /* [out][in] */
    const float *bias;     /* [out], or NULL */
    int64_t out, in;       /* features */
    enum kern_dtype dtype; /* of weight, as in struct conv */
};

/* Activation in a linear layer's epilogue. GELU is the exact erf form, quick GELU is
 * x * sigmoid(1.702 x). */
enum kern_act { KERN_ACT_NONE = 0, KERN_ACT_SILU, KERN_ACT_GELU, KERN_ACT_QUICK_GELU };

/* y = scale * (conv(up(x)) + bias + add) + residual
 * conv is a cross-correlation with zero padding outside up(x); up is nearest-neighbour resampling
 * of x to up_h x up_w (source row = floor(row * h / up_h)), or the identity when up_h == 0.
 * Shapes: x [n,h,w,ci]; y [n, (H+pad_top+pad_bottom-kh)/stride+1, (W+...)/stride+1, co] with H x W
 * the size after up; add [co] of the tensors'
 * type, or NULL; residual as y or NULL (y may be residual).
 * Source: torch.nn.functional.conv2d, interpolate(mode="nearest"). */
struct kern_conv2d {
    struct tensor x, y, residual; /* residual.data == NULL: none */
    const struct conv *layer;     /* weights */
    const void *add;              /* [co] per-channel constant (time embedding), or NULL */
    float scale;                  /* 1 unless a blend is folded in */
    int stride;                   /* 1 or more, both axes */
    int pad_top, pad_left, pad_bottom, pad_right; /* zeros around up(x) */
    int64_t up_h, up_w;                           /* size after nearest resampling; 0: none */
};

/* y = scale * (conv over frames + bias + add) + residual
 * y[f,p,o] = sum_t sum_i W[o,t,i] x[f+t-1,p,i], zero frames before the first and after the last.
 * With norm, silu(group norm(x)) stands for x, with statistics over the whole clip: the normalised
 * tensor is never stored. CAREFUL: the frames outside are zero after the norm.
 * Shapes: x [f,h,w,ci]; y [f,h,w,co]; the n frames are one clip; y may be residual, not x.
 * Source: torch.nn.Conv3d with kernel (3,1,1), padding (1,0,0). */
struct kern_conv_temporal {
    struct tensor x, y, residual; /* residual.data == NULL: none */
    const struct conv *layer;     /* kh = 3, kw = 1: weight [co][3][ci] */
    const struct norm *norm;      /* of ci channels, groups > 0, or NULL */
    const void *add;              /* [co] per-channel constant, as in kern_conv2d */
    float scale;                  /* 1 unless a blend is folded in */
};

/* y = act(x W^T + bias + add) + residual, row by row.
 * Shapes: x [.., in] and y, residual [.., out] with equal n*h*w; add [out] of the tensors' type, or
 * NULL; y may be residual, not x. */
struct kern_linear {
    struct tensor x, y, residual; /* residual.data == NULL: none */
    const struct linear *layer;   /* weights */
    const void *add;              /* [out] constant beside the bias, or NULL */
    enum kern_act act;            /* applied before the residual is added */
};

/* y = v * gelu(g), [v g] = x W^T + bias: the first out/2 rows of W make v, the others the gate g.
 * Shapes: x [.., in]; y [.., out/2]. Source: diffusers models/activations.py GEGLU. */
struct kern_geglu {
    struct tensor x, y;         /* tokens */
    const struct linear *layer; /* out = 2 * y.c */
};

/* y = act((x - mean) / sqrt(var + eps) * gamma + beta), act = SiLU or identity.
 * Mean and biased variance over one group of c/groups channels, all pixels, and `span` consecutive
 * frames: 1 for per-image norms, the clip's frame count in temporal blocks. y may be x.
 * Shapes: x, y [n,h,w,c]; n % span == 0. Source: arXiv:1803.08494, torch.nn.GroupNorm. */
struct kern_group_norm {
    struct tensor x, y;       /* same shape */
    const struct norm *layer; /* groups > 0 */
    int64_t span;             /* frames that share statistics */
    bool silu;                /* apply x * sigmoid(x) afterwards */
};

/* y = (x - mean) / sqrt(var + eps) * gamma + beta over the c channels of each row. y may be x.
 * Source: arXiv:1607.06450, torch.nn.LayerNorm. */
struct kern_layer_norm {
    struct tensor x, y;       /* same shape */
    const struct norm *layer; /* groups == 0 */
};

/* Scaled dot-product attention inside each frame:
 * y[n,i,head] = sum_j softmax_j(q[n,i,head] . k[n,j,head] / sqrt(d)) v[n,j,head].
 * Shapes: q, y [n, h*w = queries, heads*d]; k, v [n, keys, heads*d]. Rows may lie apart by more
 * than heads*d (q, k and v can be columns of one matrix): *_stride counts elements between rows. */
struct kern_attention {
    const void *q, *k, *v;                /* first element of each operand */
    void *y;                              /* dense output, not aliased */
    enum kern_dtype dtype;                /* type of all four */
    int64_t q_stride, k_stride, v_stride; /* elements between rows */
    int64_t y_stride;                     /* elements between rows of y */
    int64_t n, queries, keys;             /* frames, rows of q and y, rows of k and v per frame */
    int64_t heads, d;                     /* heads and head size */
};

/* Attention over frames: for every pixel and head a sequence of `frames` tokens.
 * Shapes: q, k, v [frames, pixels, heads*d] with row strides as above; y dense. */
struct kern_attention_temporal {
    const void *q, *k, *v; /* first element of each operand */
    void *y;               /* [frames, pixels, heads*d], not aliased */
    enum kern_dtype dtype; /* type of all four */
    int64_t q_stride, k_stride,
        v_stride;           /* elements between rows (a row is one pixel of one frame) */
    int64_t frames, pixels; /* sequence length, number of sequences */
    int64_t heads, d;       /* heads and head size */
};

/* An operand of add, concat or copy may be floats in host memory in any table: it is a weight (an
 * embedding, a bias as a row) then.
 *
 * y = x + z, z broadcast: z has x's shape, or one row per frame ([n,1,1,c]), or one row in all
 * ([1,1,1,c]). y may be x. */
struct kern_add {
    struct tensor x, z, y; /* operands */
};

/* y = a x + (1 - a) z, the AlphaBlender. y may be x or z. Source: diffusers models/resnet.py. */
struct kern_blend {
    struct tensor x, z, y; /* same shape */
    float a;               /* weight of x, sigmoid of the checkpoint's mix_factor */
};

/* y[.., 0..c1-1] = x, y[.., c1..] = z: channel concatenation, [current, skip]. */
struct kern_concat {
    struct tensor x, z, y; /* y.c == x.c + z.c */
};

/* y = x * sigmoid(x). y may be x. */
struct kern_silu {
    struct tensor x, y; /* same shape */
};

/* y = x. */
struct kern_copy {
    struct tensor x, y; /* same shape */
};

/* How operands of the products in convolutions and linear layers are rounded. Sums are float either
 * way, and tensors are what struct kern_layout says. AUTO is the table's own: bf16 for kern_cuda,
 * which has no float; float for the others. */
enum kern_precision {
    KERN_PRECISION_AUTO = 0,
    KERN_PRECISION_F32,
    KERN_PRECISION_BF16,
    KERN_PRECISION_F16
};

/* How a table wants its tensors. It decides how much memory a model needs, so that a plan made with
 * kern_plan has to know it. */
struct kern_layout {
    enum kern_dtype dtype; /* type of the elements of all tensors */
    bool has_norm_apart; /* a norm in front of a convolution over frames is faster as a pass of its
                              own, with a tensor for its result */
    int64_t slice_bytes; /* scratch that is worth having in one piece: blocks of a model that can
                              work on a few frames at a time take no more, or one frame */
};

struct cuda_target; /* kernels/cuda/cuda_driver.h */

/* What open() needs. */
struct kern_config {
    int threads; /* worker threads, the caller included; 0: one per online core */
    int isa;     /* highest instruction set for kern_cpu, enum kern_isa; KERN_ISA_AUTO: the best */
    enum kern_precision precision; /* of products */
    int ordinal;                   /* number of the GPU, for kern_cuda */
    bool use_wgmma;      /* kern_cuda: Hopper's own products, where a trial at open is right */
    size_t weight_bytes; /* of host memory with the model's weights, so that kern_cuda keeps room */
    const struct cuda_target *target; /* for kern_cuda: what to use instead of libcuda, or NULL */
    struct kern_layout layout; /* for kern_plan alone: the layout of the table that is planned for;
                                  zeroed: host floats */
};

/* Instruction sets kern_cpu can be held to, in rising order; the last two differ from AVX-512 with
 * KERN_PRECISION_BF16 only. */
enum kern_isa {
    KERN_ISA_AUTO = 0,
    KERN_ISA_PLAIN,
    KERN_ISA_AVX2,
    KERN_ISA_AVX512,
    KERN_ISA_AVX512_BF16,
    KERN_ISA_AMX
};

struct kern_ctx; /* threads, scratch and caches of one table; opaque */

/* One implementation of everything above. */
struct kern_table {
    const char *name; /* "ref", "cpu" */
    /* ERR_BADARG: this table or CPU has not got the precision. */
    status (*open)(struct kern_ctx **ctx, const struct kern_config *config);
    void (*close)(struct kern_ctx *ctx); /* accepts NULL */
    /* *base = memory for tensors, kept until close. *bytes is what is wanted, 0 all there is, and
     * becomes what was taken. NULL: tensors are host memory, and the caller provides it.
     * Errors: ERR_NOMEM. */
    status (*memory)(struct kern_ctx *ctx, size_t *bytes, void **base);
    /* y = floats of host memory, host memory = x as floats; NULL, both: tensors are host floats. */
    status (*upload)(struct kern_ctx *ctx, const struct tensor *y, const float *src);
    status (*download)(struct kern_ctx *ctx, const struct tensor *x, float *dst);
    /* Weights that were seen may change or go: drop what was made of them. NULL: nothing is. */
    void (*forget)(struct kern_ctx *ctx);
    status (*conv2d)(struct kern_ctx *ctx, const struct kern_conv2d *a);
    status (*conv_temporal)(struct kern_ctx *ctx, const struct kern_conv_temporal *a);
    status (*linear)(struct kern_ctx *ctx, const struct kern_linear *a);
    status (*geglu)(struct kern_ctx *ctx, const struct kern_geglu *a);
    status (*group_norm)(struct kern_ctx *ctx, const struct kern_group_norm *a);
    status (*layer_norm)(struct kern_ctx *ctx, const struct kern_layer_norm *a);
    status (*attention)(struct kern_ctx *ctx, const struct kern_attention *a);
    status (*attention_temporal)(struct kern_ctx *ctx, const struct kern_attention_temporal *a);
    status (*add)(struct kern_ctx *ctx, const struct kern_add *a);
    status (*blend)(struct kern_ctx *ctx, const struct kern_blend *a);
    status (*concat)(struct kern_ctx *ctx, const struct kern_concat *a);
    status (*silu)(struct kern_ctx *ctx, const struct kern_silu *a);
    status (*copy)(struct kern_ctx *ctx, const struct kern_copy *a);
};

extern const struct kern_table kern_ref;  /* kernels/ref: the truth, slow */
extern const struct kern_table kern_cpu;  /* kernels/cpu: fast on any x86-64, plain C elsewhere */
extern const struct kern_table kern_cuda; /* kernels/cuda: 16-bit tensors on a GPU */
extern const struct kern_table kern_plan; /* kernels/plan.c: computes nothing, for memory plans */

/* Bytes of one element: 4, or 2. This function can't fail. */
size_t kern_dtype_bytes(enum kern_dtype dtype);

/* dst[0..count-1] = weights first .. first+count-1 as float, exactly. This function can't fail. */
void kern_widen(float *dst, const void *weight, enum kern_dtype dtype, int64_t first,
                int64_t count);

/* The table called name, or NULL. */
const struct kern_table *kern_find(const char *name);

/* From here on ctx computes products of float, whatever its precision; false: of its precision.
 * This function can't fail. */
void kern_exact(struct kern_ctx *ctx, bool is_exact);

/* How ctx wants its tensors. This function can't fail. */
struct kern_layout kern_layout(const struct kern_ctx *ctx);

/* One sentence for logs and --version: what ctx runs on ("cpu, avx512, 2 threads"). */
const char *kern_describe(const struct kern_ctx *ctx);

#endif
