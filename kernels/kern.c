#include "kernels/kern.h"

#include <string.h>

#include "kernels/kern_ctx.h"

static const struct kern_table *const tables[] = { &kern_ref, &kern_cpu, &kern_cuda, &kern_plan };

const struct kern_table *kern_find(const char *name)
{
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (strcmp(name, tables[i]->name) == 0)
            return tables[i];
    }
    return NULL;
}

void kern_exact(struct kern_ctx *ctx, bool is_exact)
{
    ctx->is_exact = is_exact;
}

struct kern_layout kern_layout(const struct kern_ctx *ctx)
{
    return ctx->layout;
}

const char *kern_describe(const struct kern_ctx *ctx)
{
    return ctx->description;
}

size_t kern_dtype_bytes(enum kern_dtype dtype)
{
    return dtype == KERN_F16 || dtype == KERN_BF16 ? sizeof(uint16_t) : sizeof(float);
}

/* Exact for every half, subnormals, infinities and NaN included: the exponent is rebased by a
 * multiplication, which also normalises subnormals. */
static float float_of_half(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13;
    float f;

    memcpy(&f, &bits, sizeof(f));
    f *= 0x1p112f;
    memcpy(&bits, &f, sizeof(bits));
    bits |= (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
    bits |= (uint32_t)(h & 0x8000) << 16;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static float float_of_bfloat(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

void kern_widen(float *dst, const void *weight, enum kern_dtype dtype, int64_t first, int64_t count)
{
    const uint16_t *src = (const uint16_t *)weight + first;

    if (dtype == KERN_F16) {
        for (int64_t i = 0; i < count; i++)
            dst[i] = float_of_half(src[i]);
    } else if (dtype == KERN_BF16) {
        for (int64_t i = 0; i < count; i++)
            dst[i] = float_of_bfloat(src[i]);
    } else {
        memcpy(dst, (const float *)weight + first, (size_t)count * sizeof(float));
    }
}
