#include "tests/kern/cuda_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "kernels/kern_ctx.h"
#include "tests/kern/check.h"
#include "tests/ptx/ptx_driver.h"

/* Device memory for the operands of one call. */
#define BLOCK_BYTES ((size_t)192 << 20)

/* Elements of guard on both sides of each operand, of a value that both 16-bit types have; the
 * start of an operand stays aligned. */
#define GUARD 256
#define GUARD_BYTES (GUARD * sizeof(uint16_t))
#define GUARD_VALUE 1.625f

#define OPERANDS_MAX 4

/* One operand of the call under way. */
struct operand {
    struct tensor host;   /* floats */
    struct tensor device; /* the same on the device */
    bool is_output;       /* goes back */
};

/* Context: kern_cuda's, and the block that operands are taken from. */
struct rig_ctx {
    struct kern_ctx base;                  /* must be first */
    struct kern_ctx *cuda;                 /* of kern_cuda */
    bool is_interpreted;                   /* the guard bands are holes for its kernels */
    char *block;                           /* device memory, BLOCK_BYTES */
    size_t used_bytes;                     /* of block */
    struct operand operands[OPERANDS_MAX]; /* of the call */
    int count;                             /* how many */
};

static struct rig_ctx *rig_of(struct kern_ctx *ctx)
{
    return (struct rig_ctx *)ctx;
}

static status rig_open(struct kern_ctx **ctx, const struct kern_config *config)
{
    struct rig_ctx *r = calloc(1, sizeof(*r));
    size_t bytes = BLOCK_BYTES;
    void *block = NULL;
    status st = OK;

    CHECK(r);
    TRY(kern_cuda.open(&r->cuda, config));
    TRY(kern_cuda.memory(r->cuda, &bytes, &block));
    r->block = block;
    r->is_interpreted = config->target == &ptx_target;
    memcpy(r->base.description, kern_describe(r->cuda), sizeof(r->base.description));
    r->base.layout = (struct kern_layout){ .dtype = KERN_F32 };
    *ctx = &r->base;
    return OK;
out:
    free(r);
    return st;
}

static void rig_close(struct kern_ctx *ctx)
{
    if (!ctx)
        return;
    kern_cuda.close(rig_of(ctx)->cuda);
    free(ctx);
}

static size_t bytes_of(const struct tensor *t)
{
    return (size_t)(t->n * t->h * t->w * t->c) * sizeof(uint16_t);
}

/* The band of elements at that place of the block. */
static struct tensor band_at(const struct rig_ctx *r, size_t at)
{
    struct tensor band = check_tensor((float *)(void *)(r->block + at), 1, 1, 1, GUARD);

    band.dtype = kern_layout(r->cuda).dtype;
    return band;
}

static status guard(struct rig_ctx *r, size_t at)
{
    const struct tensor band = band_at(r, at);
    float values[GUARD];

    for (int i = 0; i < GUARD; i++)
        values[i] = GUARD_VALUE;
    return kern_cuda.upload(r->cuda, &band, values);
}

static status check_guard(struct rig_ctx *r, size_t at, const char *where)
{
    const struct tensor band = band_at(r, at);
    float values[GUARD];
    status st = OK;

    TRY(kern_cuda.download(r->cuda, &band, values));
    for (int i = 0; i < GUARD; i++) {
        if (!(values[i] == GUARD_VALUE))
            TRY(FAIL(ERR_CORRUPT, "a kernel wrote %s an operand, at element %d", where, i));
    }
out:
    return st;
}

/* A kernel must not even read what lies beside an operand. Bands that the host writes through the
 * table's own kernels are no holes then. */
static void dig_holes(const struct rig_ctx *r)
{
    size_t from = 0;

    for (int i = 0; r->is_interpreted && i < r->count; i++) {
        const struct operand *o = &r->operands[i];
        const size_t first = (size_t)((char *)o->device.data - r->block);

        ptx_driver_hole((cuda_ptr)(uintptr_t)r->block + from, first - from);
        from = first + bytes_of(&o->host);
    }
    if (r->is_interpreted)
        ptx_driver_hole((cuda_ptr)(uintptr_t)r->block + from, BLOCK_BYTES - from);
}

/* The device's operand for host memory t, which an earlier operand may be already. */
static status take(struct rig_ctx *r, struct tensor *t, bool is_output)
{
    struct operand *o;
    size_t bytes;
    status st = OK;

    if (!t->data)
        return OK;
    for (int i = 0; i < r->count; i++) {
        if (r->operands[i].host.data == t->data) {
            r->operands[i].is_output |= is_output;
            *t = r->operands[i].device;
            return OK;
        }
    }
    bytes = (bytes_of(t) + GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES;
    CHECK(r->count < OPERANDS_MAX && r->used_bytes + bytes + 2 * GUARD_BYTES <= BLOCK_BYTES);
    o = &r->operands[r->count++];
    *o = (struct operand){ .host = *t, .device = *t, .is_output = is_output };
    o->device.data = r->block + r->used_bytes + GUARD_BYTES;
    o->device.dtype = kern_layout(r->cuda).dtype;
    TRY(guard(r, r->used_bytes));
    r->used_bytes += GUARD_BYTES + bytes;
    TRY(guard(r, r->used_bytes));
    r->used_bytes += GUARD_BYTES;
    /* The band behind begins where the operand ends, not where its room does; its own elements come
     * over it. */
    TRY(guard(r, (size_t)((char *)o->device.data - r->block) + bytes - GUARD_BYTES));
    TRY(kern_cuda.upload(r->cuda, &o->device, t->data));
    *t = o->device;
out:
    return st;
}

/* What the kernel wrote goes back; NaN where poison was is what it did not write. */
static status give_back(struct rig_ctx *r, struct operand *o)
{
    const int64_t n = o->host.n * o->host.h * o->host.w * o->host.c;
    float *got = malloc((size_t)n * sizeof(float)), *want = o->host.data;
    status st = OK;

    CHECK(got);
    TRY(kern_cuda.download(r->cuda, &o->device, got));
    for (int64_t i = 0; i < n; i++) {
        if (!(isnan(want[i]) && isnan(got[i])))
            want[i] = got[i];
    }
out:
    free(got);
    return st;
}

/* After the kernel: guards, results, and a clean slate. */
static status finish(struct rig_ctx *r, status st)
{
    if (r->is_interpreted)
        ptx_driver_fill_holes();
    for (int i = 0; st == OK && i < r->count; i++) {
        struct operand *o = &r->operands[i];
        const size_t first = (size_t)((char *)o->device.data - r->block);

        TRY(check_guard(r, first - GUARD_BYTES, "before"));
        TRY(check_guard(r, first + bytes_of(&o->host), "behind"));
        if (o->is_output)
            TRY(give_back(r, o));
    }
out:
    r->count = 0;
    r->used_bytes = 0;
    /* The next case may have other weights at the same address. */
    kern_cuda.forget(r->cuda);
    return st;
}

/* A row of co numbers, such as the time embedding. */
static status take_row(struct rig_ctx *r, const void **row, int64_t co)
{
    struct tensor t = check_tensor((float *)*row, 1, 1, 1, co);
    status st = take(r, &t, false);

    *row = t.data;
    return st;
}

static status rig_conv2d(struct kern_ctx *ctx, const struct kern_conv2d *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_conv2d a = *args;
    status st = OK;

    a.residual = a.y;
    a.residual.data = args->residual.data;
    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    TRY(take(r, &a.residual, false));
    TRY(take_row(r, &a.add, a.layer->co));
    dig_holes(r);
    TRY(kern_cuda.conv2d(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_conv_temporal(struct kern_ctx *ctx, const struct kern_conv_temporal *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_conv_temporal a = *args;
    status st = OK;

    a.residual = a.y;
    a.residual.data = args->residual.data;
    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    TRY(take(r, &a.residual, false));
    TRY(take_row(r, &a.add, a.layer->co));
    dig_holes(r);
    TRY(kern_cuda.conv_temporal(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_linear(struct kern_ctx *ctx, const struct kern_linear *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_linear a = *args;
    status st = OK;

    /* Only the address of a residual counts: it is as y. */
    a.residual = a.y;
    a.residual.data = args->residual.data;
    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    TRY(take(r, &a.residual, false));
    TRY(take_row(r, &a.add, a.layer->out));
    dig_holes(r);
    TRY(kern_cuda.linear(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_geglu(struct kern_ctx *ctx, const struct kern_geglu *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_geglu a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    dig_holes(r);
    TRY(kern_cuda.geglu(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_group_norm(struct kern_ctx *ctx, const struct kern_group_norm *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_group_norm a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    dig_holes(r);
    TRY(kern_cuda.group_norm(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_layer_norm(struct kern_ctx *ctx, const struct kern_layer_norm *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_layer_norm a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    dig_holes(r);
    TRY(kern_cuda.layer_norm(r->cuda, &a));
out:
    return finish(r, st);
}

/* One operand of an attention, rows of `width` at *p with `stride` between them. Columns of a
 * matrix that was taken already are found in it. */
static status take_rows(struct rig_ctx *r, const void **p, int64_t rows, int64_t stride,
                        int64_t width)
{
    const float *first = *p;
    struct tensor t = check_tensor((float *)first, 1, 1, 1, (rows - 1) * stride + width);
    status st = OK;

    for (int i = 0; i < r->count; i++) {
        const struct operand *o = &r->operands[i];
        const float *start = o->host.data;

        if (first >= start && first + t.c <= start + o->host.c) {
            *p = (char *)o->device.data + (size_t)(first - start) * sizeof(uint16_t);
            return OK;
        }
    }
    TRY(take(r, &t, false));
    *p = t.data;
out:
    return st;
}

/* q, k and v may be columns of one matrix: then q's operand is all of it. */
static int64_t first_width(const void *q, const void *v, int64_t stride, int64_t width)
{
    return (const float *)v - (const float *)q == 2 * width && stride == 3 * width ? 3 * width
                                                                                   : width;
}

static status rig_attention(struct kern_ctx *ctx, const struct kern_attention *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_attention a = *args;
    const int64_t width = a.heads * a.d;
    struct tensor y = check_tensor(a.y, 1, 1, 1, (a.n * a.queries - 1) * a.y_stride + width);
    status st = OK;

    TRY(take_rows(r, &a.q, a.n * a.queries, a.q_stride,
                  first_width(args->q, args->v, a.q_stride, width)));
    TRY(take_rows(r, &a.k, a.n * a.keys, a.k_stride, width));
    TRY(take_rows(r, &a.v, a.n * a.keys, a.v_stride, width));
    TRY(take(r, &y, true));
    a.y = y.data;
    a.dtype = y.dtype;
    dig_holes(r);
    TRY(kern_cuda.attention(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_attention_temporal(struct kern_ctx *ctx,
                                     const struct kern_attention_temporal *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_attention_temporal a = *args;
    const int64_t width = a.heads * a.d, rows = a.frames * a.pixels;
    struct tensor y = check_tensor(a.y, 1, 1, 1, rows * width);
    status st = OK;

    TRY(take_rows(r, &a.q, rows, a.q_stride, first_width(args->q, args->v, a.q_stride, width)));
    TRY(take_rows(r, &a.k, rows, a.k_stride, width));
    TRY(take_rows(r, &a.v, rows, a.v_stride, width));
    TRY(take(r, &y, true));
    a.y = y.data;
    a.dtype = y.dtype;
    dig_holes(r);
    TRY(kern_cuda.attention_temporal(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_add(struct kern_ctx *ctx, const struct kern_add *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_add a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    TRY(take(r, &a.z, false));
    dig_holes(r);
    TRY(kern_cuda.add(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_blend(struct kern_ctx *ctx, const struct kern_blend *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_blend a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    TRY(take(r, &a.z, false));
    dig_holes(r);
    TRY(kern_cuda.blend(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_concat(struct kern_ctx *ctx, const struct kern_concat *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_concat a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    TRY(take(r, &a.z, false));
    dig_holes(r);
    TRY(kern_cuda.concat(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_silu(struct kern_ctx *ctx, const struct kern_silu *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_silu a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    dig_holes(r);
    TRY(kern_cuda.silu(r->cuda, &a));
out:
    return finish(r, st);
}

static status rig_copy(struct kern_ctx *ctx, const struct kern_copy *args)
{
    struct rig_ctx *r = rig_of(ctx);
    struct kern_copy a = *args;
    status st = OK;

    TRY(take(r, &a.x, false));
    TRY(take(r, &a.y, true));
    dig_holes(r);
    TRY(kern_cuda.copy(r->cuda, &a));
out:
    return finish(r, st);
}

const struct kern_table cuda_rig = {
    .name = "cuda behind host floats",
    .open = rig_open,
    .close = rig_close,
    .conv2d = rig_conv2d,
    .conv_temporal = rig_conv_temporal,
    .linear = rig_linear,
    .geglu = rig_geglu,
    .group_norm = rig_group_norm,
    .layer_norm = rig_layer_norm,
    .attention = rig_attention,
    .attention_temporal = rig_attention_temporal,
    .add = rig_add,
    .blend = rig_blend,
    .concat = rig_concat,
    .silu = rig_silu,
    .copy = rig_copy,
};
