#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu/cpu_priv.h"

/* Work below this is over before another thread has woken up. */
#define WORK_WORTH_A_THREAD 2e5

static const struct cpu_isa *isa_choose(int limit)
{
#if defined(__x86_64__)
    /* These also ask XCR0 whether the system saves the wide registers. */
    bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");

    if (limit == KERN_ISA_AUTO)
        limit = KERN_ISA_AMX;
    if (has_avx512 && has_avx2 && limit >= KERN_ISA_AVX512)
        return &cpu_avx512;
    if (has_avx2 && limit >= KERN_ISA_AVX2)
        return &cpu_avx2;
#else
    (void)limit;
#endif
    return &cpu_plain;
}

/* *bf16 = the best set for products of that precision; NULL for float. */
static status bf16_choose(const struct kern_config *config, const struct cpu_isa *isa,
                          const struct cpu_bf16 **bf16)
{
    *bf16 = NULL;
    if (config->precision <= KERN_PRECISION_F32)
        return OK;
    if (config->precision == KERN_PRECISION_F16)
        return FAIL(ERR_BADARG, "precision f16 is for cuda; set precision to f32 or bf16");
#if defined(__x86_64__)
    int limit = config->isa == KERN_ISA_AUTO ? KERN_ISA_AMX : config->isa;

    if (isa == &cpu_avx512 && __builtin_cpu_supports("avx512bf16")) {
        if (limit >= KERN_ISA_AMX && cpu_amx_allow())
            *bf16 = &cpu_bf16_amx;
        else if (limit >= KERN_ISA_AVX512_BF16)
            *bf16 = &cpu_bf16_avx512;
    }
#endif
    if (*bf16)
        return OK;
    return FAIL(
        ERR_BADARG,
        "precision bf16 needs a CPU with AVX512_BF16 or AMX, which this one (%s) is not, or "
        "is not allowed to be by isa; set precision to f32",
        isa->name);
}

/* Cores that this process may use. */
static int online_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return CPU_COUNT(&set);
}

static float *scratch_new(int64_t n)
{
    return aligned_alloc(64, (size_t)n * sizeof(float));
}

static void cpu_close(struct kern_ctx *ctx)
{
    struct cpu_ctx *c = cpu_ctx_of(ctx);

    if (!c)
        return;
    cpu_pool_close(c->pool);
    free(c->workers);
    free(c->shared);
    free(c->affine);
    free(c);
}

static status cpu_open(struct kern_ctx **ctx, const struct kern_config *config)
{
    struct cpu_ctx *c = calloc(1, sizeof(*c));
    int threads = config->threads > 0 ? config->threads : online_cores();
    status st = OK;

    if (!c)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory for a kernel context", sizeof(*c));
    c->isa = isa_choose(config->isa);
    TRY(bf16_choose(config, c->isa, &c->bf16));
    c->workers = scratch_new(threads * CPU_WORKER_FLOATS);
    c->shared = scratch_new(CPU_SHARED_FLOATS);
    c->shared_n = CPU_SHARED_FLOATS;
    c->affine = scratch_new(CPU_AFFINE_FLOATS);
    if (!c->workers || !c->shared || !c->affine)
        TRY(FAIL(ERR_NOMEM, "no memory for the scratch of %d threads; lower their number",
                 threads));
    TRY(cpu_pool_open(&c->pool, threads));
    snprintf(c->base.description, sizeof(c->base.description), "cpu, %s%s, %d thread%s",
             c->bf16 ? c->bf16->name : c->isa->name, c->bf16 ? ", bf16 products" : "", threads,
             threads == 1 ? "" : "s");
    c->base.layout =
        (struct kern_layout){ .dtype = KERN_F32, .slice_bytes = KERN_HOST_SLICE_BYTES };
    *ctx = &c->base;
    return OK;
out:
    cpu_close(&c->base);
    return st;
}

float *cpu_worker(struct cpu_ctx *ctx, int worker)
{
    return ctx->workers + worker * CPU_WORKER_FLOATS;
}

status cpu_shared(struct cpu_ctx *ctx, int64_t n, float **p)
{
    n = cpu_parts(n, 16) * 16; /* whole cache lines */
    if (n > ctx->shared_n) {
        float *bigger = scratch_new(n);

        if (!bigger)
            return FAIL(ERR_NOMEM, "no %zu bytes of memory for a layer's packed weights",
                        (size_t)n * sizeof(float));
        free(ctx->shared);
        ctx->shared = bigger;
        ctx->shared_n = n;
    }
    *p = ctx->shared;
    return OK;
}

void cpu_run(struct cpu_ctx *ctx, double work, int64_t count, cpu_task run, void *arg)
{
    if (work < WORK_WORTH_A_THREAD) {
        for (int64_t task = 0; task < count; task++)
            run(arg, task, 0);
        return;
    }
    cpu_pool_run(ctx->pool, count, run, arg);
}

const struct kern_table kern_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .conv2d = cpu_conv2d,
    .conv_temporal = cpu_conv_temporal,
    .linear = cpu_linear,
    .geglu = cpu_geglu,
    .group_norm = cpu_group_norm,
    .layer_norm = cpu_layer_norm,
    .attention = cpu_attention,
    .attention_temporal = cpu_attention_temporal,
    .add = cpu_add,
    .blend = cpu_blend,
    .concat = cpu_concat,
    .silu = cpu_silu,
    .copy = cpu_copy,
};
