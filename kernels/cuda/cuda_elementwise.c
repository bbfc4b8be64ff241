/* Sums, blends, copies, activations, and the way to the device and back. */
#include "kernels/cuda/cuda_elementwise.h"

#include "kernels/cuda/cuda_priv.h"

#define BLOCK_THREADS 256

/* Blocks that keep a GPU busy, for each multiprocessor. */
#define WAVES 16

static int64_t elements_of(const struct tensor *t)
{
    return t->n * t->h * t->w * t->c;
}

static uint32_t blocks_for(const struct cuda_ctx *c, int64_t threads)
{
    const int64_t wanted = cuda_parts(threads, BLOCK_THREADS);
    const int64_t most = (int64_t)WAVES * c->info.multiprocessors;

    return (uint32_t)(wanted < most ? wanted : most);
}

/* Where the operand lies on the device: a tensor is there, a weight is copied. */
static status place(struct cuda_ctx *c, const struct tensor *t, uint64_t *at, int32_t *is_float)
{
    *is_float = t->dtype == KERN_F32;
    *at = cuda_at(t->data);
    return *is_float ? cuda_floats(c, t->data, elements_of(t), at) : OK;
}

static status run(struct cuda_ctx *c, const struct cuda_elements *g, const char *const names[2])
{
    const bool vector = (g->c | g->x_c) % 8 == 0 && (g->x | g->y | g->z) % 16 == 0;
    const struct cuda_call call = {
        .name = names[vector ? 0 : 1],
        .grid = { blocks_for(c, vector ? g->count / 8 : g->count) },
        .block = { BLOCK_THREADS },
        .args = g,
        .args_bytes = sizeof(*g),
    };

    return cuda_launch(c, &call);
}

/* y = op of x and z (NULL: none). */
static status run_element(struct kern_ctx *ctx, enum cuda_element op, const struct tensor *y,
                          const struct tensor *x, const struct tensor *z, float a)
{
    static const char *const names[2] = { "element", "element_odd" };
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    struct cuda_elements g = { .y = cuda_at(y->data),
                               .count = elements_of(y),
                               .frame = y->h * y->w * y->c,
                               .c = (int32_t)y->c,
                               .op = (int32_t)op,
                               .a = a };
    status st = OK;

    TRY(place(c, x, &g.x, &g.x_is_float));
    if (z) {
        TRY(place(c, z, &g.z, &g.z_is_float));
        if (elements_of(z) != elements_of(y))
            g.z_rows = (int32_t)z->n;
    }
    TRY(run(c, &g, names));
out:
    return st;
}

status cuda_add(struct kern_ctx *ctx, const struct kern_add *a)
{
    return run_element(ctx, CUDA_ELEMENT_ADD, &a->y, &a->x, &a->z, 0);
}

status cuda_blend(struct kern_ctx *ctx, const struct kern_blend *a)
{
    return run_element(ctx, CUDA_ELEMENT_BLEND, &a->y, &a->x, &a->z, a->a);
}

status cuda_silu(struct kern_ctx *ctx, const struct kern_silu *a)
{
    return run_element(ctx, CUDA_ELEMENT_SILU, &a->y, &a->x, NULL, 0);
}

status cuda_copy(struct kern_ctx *ctx, const struct kern_copy *a)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);

    if (a->x.dtype == KERN_F32)
        return run_element(ctx, CUDA_ELEMENT_COPY, &a->y, &a->x, NULL, 0);
    return c->driver->copy(c->device, cuda_at(a->y.data), cuda_at(a->x.data),
                           (size_t)elements_of(&a->x) * sizeof(uint16_t));
}

status cuda_concat(struct kern_ctx *ctx, const struct kern_concat *a)
{
    static const char *const names[2] = { "concat", "concat_odd" };
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    struct cuda_elements g = { .y = cuda_at(a->y.data),
                               .count = elements_of(&a->y),
                               .c = (int32_t)a->y.c,
                               .x_c = (int32_t)a->x.c };
    status st = OK;

    TRY(place(c, &a->x, &g.x, &g.x_is_float));
    TRY(place(c, &a->z, &g.z, &g.z_is_float));
    TRY(run(c, &g, names));
out:
    return st;
}

/* Floats and elements, in pieces that fit into the scratch block. */
#define PIECE ((int64_t)(CUDA_SCRATCH_BYTES / sizeof(float)))

static status convert(struct cuda_ctx *c, const char *name, const struct cuda_convert *g)
{
    const struct cuda_call call = { .name = name,
                                    .grid = { blocks_for(c, g->count) },
                                    .block = { BLOCK_THREADS },
                                    .args = g,
                                    .args_bytes = sizeof(*g) };

    return cuda_launch(c, &call);
}

status cuda_upload(struct kern_ctx *ctx, const struct tensor *y, const float *src)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    status st = OK;

    for (int64_t i = 0, count = elements_of(y); i < count; i += PIECE) {
        struct cuda_convert g = { .elements = cuda_at(y->data) + (uint64_t)i * sizeof(uint16_t),
                                  .floats = c->scratch,
                                  .count = count - i < PIECE ? count - i : PIECE };

        TRY(c->driver->upload(c->device, g.floats, src + i, (size_t)g.count * sizeof(float)));
        TRY(convert(c, "upload", &g));
    }
out:
    return st;
}

status cuda_download(struct kern_ctx *ctx, const struct tensor *x, float *dst)
{
    struct cuda_ctx *c = cuda_ctx_of(ctx);
    status st = OK;

    for (int64_t i = 0, count = elements_of(x); i < count; i += PIECE) {
        struct cuda_convert g = { .elements = cuda_at(x->data) + (uint64_t)i * sizeof(uint16_t),
                                  .floats = c->scratch,
                                  .count = count - i < PIECE ? count - i : PIECE };

        TRY(convert(c, "download", &g));
        TRY(c->driver->download(c->device, dst + i, g.floats, (size_t)g.count * sizeof(float)));
    }
out:
    return st;
}
