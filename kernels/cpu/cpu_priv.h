/* cpu_priv.h - what the files of kern_cpu share: context, scratch memory, matrix product. */
#ifndef ONESTEP_KERNELS_CPU_CPU_PRIV_H
#define ONESTEP_KERNELS_CPU_CPU_PRIV_H

#include "kernels/cpu/cpu_bf16.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_pool.h"
#include "kernels/kern_ctx.h"

/* Context of kern_cpu. */
struct cpu_ctx {
    struct kern_ctx base;        /* must be first */
    const struct cpu_isa *isa;   /* chosen at open */
    const struct cpu_bf16 *bf16; /* products of bf16, or NULL: of float */
    struct cpu_pool *pool;       /* threads */
    float *workers;              /* CPU_WORKER_FLOATS for each thread */
    float *shared;               /* one block for all threads, see cpu_shared */
    int64_t shared_n;            /* floats in shared */
    float *affine;               /* CPU_AFFINE_FLOATS: of the norm in front of a convolution */
};

/* Scratch of one thread: 1.5 MiB holds a block of each operand of a matrix product (0.4 MiB) and
 * the tiles of an attention head of 512 (0.8 MiB): near enough to the second-level cache. */
#define CPU_WORKER_FLOATS ((int64_t)384 << 10)

/* Shared scratch at open: 8 MiB of packed weights, a part of a usual third-level cache. */
#define CPU_SHARED_FLOATS ((int64_t)2 << 20)

/* Factor and shift of the widest layer that any model has. */
#define CPU_AFFINE_FLOATS ((int64_t)2 * 8192)

/* The whole of a context that kern_cpu opened. */
static inline struct cpu_ctx *cpu_ctx_of(struct kern_ctx *ctx)
{
    return (struct cpu_ctx *)ctx;
}

/* The instructions for products of bf16, or NULL: products of float. */
static inline const struct cpu_bf16 *cpu_bf16_of(const struct cpu_ctx *ctx)
{
    return ctx->base.is_exact ? NULL : ctx->bf16;
}

/* The smaller one. */
static inline int64_t cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* a / b, rounded up. */
static inline int64_t cpu_parts(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Rows of the token matrix. */
static inline int64_t cpu_rows(const struct tensor *t)
{
    return t->n * t->h * t->w;
}

/* The scratch of one thread, CPU_WORKER_FLOATS. This function can't fail. */
float *cpu_worker(struct cpu_ctx *ctx, int worker);

/* *p = n floats that all threads share until the next call. Errors: ERR_NOMEM. */
MUST_USE status cpu_shared(struct cpu_ctx *ctx, int64_t n, float **p);

/* *affine = [factor, shift][c] of a group norm over all frames of clip, until the next call.
 * Overwrites the shared scratch. Errors: ERR_NOMEM. */
MUST_USE status cpu_clip_affine(struct cpu_ctx *ctx, const struct tensor *clip,
                                const struct norm *layer, const float **affine);

/* Run tasks 0..count-1 in all threads, or in this one when the work of all together (in
 * floating-point operations or bytes, roughly) is not worth waking another. */
void cpu_run(struct cpu_ctx *ctx, double work, int64_t count, cpu_task run, void *arg);

/* A rectangle of the left matrix. */
struct cpu_block {
    int64_t m0, rows;  /* rows of y */
    int64_t k0, depth; /* columns, at most CPU_DEPTH */
};

/* Most weights of a column that fold may make: 16 columns of them go through a thread's scratch. */
#define CPU_FOLD_MAX (CPU_WORKER_FLOATS / 16)

/* y = epilogue(A W^T): A [m][k] is gathered block by block, W [n][k] are weights as in kern.h. */
struct cpu_gemm {
    /* Write block `at` of A, row r to block + r * CPU_PITCH. */
    void (*fill)(const void *source, const struct cpu_block *at, float *block);
    const void *source;    /* first argument of fill and fold */
    const void *weight;    /* [n][k]; with gate [2 n][k]; unused with fold */
    enum kern_dtype dtype; /* of weight */
    /* NULL, or: write the k weights of one column of y to dst. k is at most CPU_FOLD_MAX then. */
    void (*fold)(const void *source, int64_t column, float *dst);
    int64_t m, k;          /* shape of A */
    struct cpu_epilogue e; /* e.n columns of y */
};

/* Errors: ERR_NOMEM. */
MUST_USE status cpu_gemm_run(struct cpu_ctx *ctx, const struct cpu_gemm *g);

/* The kernels: contracts and formulas are those of the argument structs in kern.h. */
status cpu_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *a);
/* See kern_conv_temporal. */
status cpu_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *a);
/* See kern_linear. */
status cpu_linear(struct kern_ctx *ctx, const struct kern_linear *a);
/* See kern_geglu. */
status cpu_geglu(struct kern_ctx *ctx, const struct kern_geglu *a);
/* See kern_group_norm. */
status cpu_group_norm(struct kern_ctx *ctx, const struct kern_group_norm *a);
/* See kern_layer_norm. */
status cpu_layer_norm(struct kern_ctx *ctx, const struct kern_layer_norm *a);
/* See kern_attention. */
status cpu_attention(struct kern_ctx *ctx, const struct kern_attention *a);
/* See kern_attention_temporal. */
status cpu_attention_temporal(struct kern_ctx *ctx, const struct kern_attention_temporal *a);
/* See kern_add. */
status cpu_add(struct kern_ctx *ctx, const struct kern_add *a);
/* See kern_blend. */
status cpu_blend(struct kern_ctx *ctx, const struct kern_blend *a);
/* See kern_concat. */
status cpu_concat(struct kern_ctx *ctx, const struct kern_concat *a);
/* See kern_silu. */
status cpu_silu(struct kern_ctx *ctx, const struct kern_silu *a);
/* See kern_copy. */
status cpu_copy(struct kern_ctx *ctx, const struct kern_copy *a);

#endif
