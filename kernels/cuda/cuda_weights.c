/* DESIGN: a model's layers point to host memory, and the device needs each weight in its own type
 * and order. The copy is made when a layer is met first and found again by the host address, so
 * that neither the model nor its loader knows of devices. All copies lie in one block, taken when
 * the table is opened: a model that does not fit is refused then or by its first run. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_priv.h"
#include "kernels/cuda/cuda_weights.h"

#define WEIGHT_ALIGN 256

/* One copy. */
struct entry {
    const void *host; /* NULL: free */
    int kind;         /* see cuda_layout */
    size_t bytes;     /* of the copy */
    cuda_ptr at;      /* on the device */
};

/* Open addressing; at most half full. */
struct cuda_map {
    struct entry *entries; /* [size], owned */
    size_t size, count;    /* a power of two; entries in use */
};

static struct entry *probe(const struct cuda_map *m, const void *host, int kind)
{
    uint64_t hash = ((uint64_t)(uintptr_t)host + (uint64_t)kind) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(hash >> 32) & (m->size - 1);

    while (m->entries[i].host && (m->entries[i].host != host || m->entries[i].kind != kind))
        i = (i + 1) & (m->size - 1);
    return &m->entries[i];
}

static status grow(struct cuda_map *m)
{
    struct cuda_map bigger = { .size = m->size ? 2 * m->size : 1024, .count = m->count };

    bigger.entries = calloc(bigger.size, sizeof(*bigger.entries));
    if (!bigger.entries)
        return FAIL(ERR_NOMEM, "no memory to list %zu weights", bigger.size);
    for (size_t i = 0; i < m->size; i++) {
        if (m->entries[i].host)
            *probe(&bigger, m->entries[i].host, m->entries[i].kind) = m->entries[i];
    }
    free(m->entries);
    *m = bigger;
    return OK;
}

status cuda_map_open(struct cuda_map **map)
{
    *map = calloc(1, sizeof(**map));
    return *map ? OK : FAIL(ERR_NOMEM, "no memory for a list of weights");
}

void cuda_map_clear(struct cuda_map *map)
{
    if (map->entries)
        memset(map->entries, 0, map->size * sizeof(*map->entries));
    map->count = 0;
}

void cuda_map_close(struct cuda_map *map)
{
    if (!map)
        return;
    free(map->entries);
    free(map);
}

/* Make the copy and send it. */
static status send(struct cuda_ctx *c, const struct cuda_layout *layout, cuda_ptr *at)
{
    const size_t room = (layout->bytes + WEIGHT_ALIGN - 1) / WEIGHT_ALIGN * WEIGHT_ALIGN;
    void *copy;
    status st = OK;

    if (room > c->weights_bytes - c->weights_used_bytes)
        return FAIL(ERR_NOMEM,
                    "the device's copies of the weights need more than the %zu MiB kept for them",
                    c->weights_bytes >> 20);
    copy = calloc(1, layout->bytes);
    if (!copy)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory to convert a weight", layout->bytes);
    layout->fill(copy, layout->layer, c->base.layout.dtype == KERN_F16);
    *at = c->weights + c->weights_used_bytes;
    TRY(c->driver->upload(c->device, *at, copy, layout->bytes));
    c->weights_used_bytes += room;
out:
    free(copy);
    return st;
}

status cuda_weight(struct cuda_ctx *c, const void *host, const struct cuda_layout *layout,
                   cuda_ptr *p)
{
    struct entry *e;
    cuda_ptr at = 0;
    status st = OK;

    CHECK(host && layout->bytes > 0);
    if (2 * (c->map->count + 1) > c->map->size)
        TRY(grow(c->map));
    e = probe(c->map, host, layout->kind);
    if (!e->host) {
        TRY(send(c, layout, &at));
        *e = (struct entry){ host, layout->kind, layout->bytes, at };
        c->map->count++;
    }
    CHECK(e->bytes == layout->bytes); /* else another weight's memory was given to this one */
    *p = e->at;
out:
    return st;
}

/* Floats as they are. */
struct floats {
    const float *host;
    int64_t count;
};

static void fill_floats(void *dst, const void *layer, bool is_half)
{
    const struct floats *f = layer;

    (void)is_half;
    memcpy(dst, f->host, (size_t)f->count * sizeof(float));
}

status cuda_floats(struct cuda_ctx *c, const float *host, int64_t count, cuda_ptr *p)
{
    const struct floats f = { host, count };
    const struct cuda_layout layout = { .kind = CUDA_WEIGHT_FLOATS,
                                        .bytes = (size_t)count * sizeof(float),
                                        .fill = fill_floats,
                                        .layer = &f };

    *p = 0;
    return host ? cuda_weight(c, host, &layout, p) : OK;
}

static uint16_t narrow_half(float value)
{
    uint32_t bits, rest, h;

    memcpy(&bits, &value, sizeof(bits));
    h = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(h | 0x7e00); /* NaN */
    if (bits >= 0x477ff000)
        return (uint16_t)(h | 0x7c00); /* rounds to infinity */
    if (bits < 0x33000001)
        return (uint16_t)h; /* rounds to zero */
    if (bits < 0x38800000) {
        /* Subnormal: the leading one becomes explicit, at the place its exponent says. */
        const uint32_t shift = 126 - (bits >> 23);
        const uint32_t digits = (bits & 0x7fffff) | 0x800000;

        rest = digits & ((1u << shift) - 1);
        h |= digits >> shift;
        return (uint16_t)(h + (rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (h & 1))));
    }
    rest = bits & 0x1fff;
    h |= (bits - 0x38000000) >> 13;
    return (uint16_t)(h + (rest > 0x1000 || (rest == 0x1000 && (h & 1))));
}

static uint16_t narrow_bfloat(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); /* NaN */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t cuda_narrow(float value, bool is_half)
{
    return is_half ? narrow_half(value) : narrow_bfloat(value);
}
