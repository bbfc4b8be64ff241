/* DESIGN: an access to shared memory is compared with what is known of each grain of it. Barriers
 * advance epochs, of the block and of the warp: an access of an older epoch of the block, or of the
 * same warp and an older epoch of the warp, came before. Everything else is no order, even if the
 * interpreter happened to run it so. A grain is four bytes, or two where a kernel stores less. */
#include <string.h>

#include "tests/ptx/ptx_priv.h"

enum { ONE_READER, READERS_OF_A_WARP, READERS_OF_WARPS };

/* --- global ----------------------------------------------------------------------------------- */

static bool is_inside(const struct ptx_range *r, uint64_t at, uint32_t bytes)
{
    return at >= r->at && at - r->at <= r->bytes && bytes <= r->bytes - (at - r->at);
}

static bool touches(const struct ptx_range *r, uint64_t at, uint32_t bytes)
{
    return at < r->at + r->bytes && r->at < at + bytes;
}

void *ptx_global(struct ptx_warp *w, const struct ptx_op *op, int lane, uint64_t at, uint32_t bytes)
{
    struct ptx_block *b = w->block;
    const struct ptx_memory *m = b->launch->memory;

    if (at % bytes != 0) {
        ptx_fault(w, op, lane, "global address %#llx is not aligned to %u bytes",
                  (unsigned long long)at, bytes);
        return NULL;
    }
    if (!b->last || !is_inside(b->last, at, bytes)) {
        b->last = NULL;
        for (int i = 0; i < m->block_count && !b->last; i++) {
            if (is_inside(&m->blocks[i], at, bytes))
                b->last = &m->blocks[i];
        }
    }
    if (!b->last) {
        ptx_fault(w, op, lane, "global address %#llx lies outside what was allocated",
                  (unsigned long long)at);
        return NULL;
    }
    for (int i = 0; i < m->hole_count; i++) {
        if (touches(&m->holes[i], at, bytes)) {
            ptx_fault(w, op, lane,
                      "global address %#llx lies outside every operand, %lld bytes "
                      "into what is beside one",
                      (unsigned long long)at, (long long)(at - m->holes[i].at));
            return NULL;
        }
    }
    return (void *)(uintptr_t)at;
}

/* --- shared ----------------------------------------------------------------------------------- */

/* Did that access come before whatever the thread does now? */
static bool is_before(const struct ptx_warp *w, uint32_t thread, uint32_t other,
                      uint32_t block_epoch, uint32_t warp_epoch)
{
    if (block_epoch < w->block->epoch || thread == other)
        return true;
    return other / PTX_LANES == w->index && warp_epoch < w->epoch;
}

/* NULL, or how a read of the grain goes wrong. */
static const char *read_grain(const struct ptx_warp *w, struct ptx_grain *g, uint32_t thread,
                              enum ptx_access access)
{
    const struct ptx_block *b = w->block;

    if (g->is_copied)
        return "is read while a copy to it is under way";
    if (g->write_block < b->first_epoch)
        return "is read and was never written";
    if (!is_before(w, thread, g->write_thread, g->write_block, g->write_warp))
        return "is read, and nothing puts the write before it in order";
    if (access == PTX_ASYNC_READ) {
        if (b->fences[g->write_thread] <= g->write_fences ||
            b->fence_epoch[g->write_thread] >= b->epoch)
            return "is read by a product, and no proxy fence and barrier follow the write";
        return NULL; /* see product_reads */
    }
    if (g->read_block < b->epoch ||
        (g->readers < READERS_OF_WARPS && g->read_thread / PTX_LANES == w->index &&
         g->read_warp < w->epoch)) {
        g->readers = ONE_READER;
        g->read_thread = (uint16_t)thread;
    } else if (g->read_thread / PTX_LANES != w->index) {
        g->readers = READERS_OF_WARPS;
    } else if (g->read_thread != thread && g->readers == ONE_READER) {
        g->readers = READERS_OF_A_WARP;
    }
    g->read_block = b->epoch;
    g->read_warp = w->epoch;
    return NULL;
}

/* NULL, or how a write goes wrong. */
static const char *write_grain(const struct ptx_warp *w, struct ptx_grain *g, uint32_t thread,
                               enum ptx_access access)
{
    const struct ptx_block *b = w->block;

    if (access == PTX_COPY_END) {
        g->is_copied = 0;
    } else {
        if (g->is_copied)
            return "is written while a copy to it is under way";
        if (g->write_block >= b->first_epoch &&
            !is_before(w, thread, g->write_thread, g->write_block, g->write_warp))
            return "is written twice, and nothing puts the writes in order";
        if (g->read_block == b->epoch && (g->readers == READERS_OF_WARPS ||
                                          !is_before(w, g->readers == ONE_READER ? thread : PTX_ALL,
                                                     g->read_thread, g->read_block, g->read_warp)))
            return "is written, and nothing puts a read before it in order";
    }
    if (access == PTX_COPY_BEGIN) {
        g->is_copied = 1;
        return NULL;
    }
    g->write_block = b->epoch;
    g->write_warp = w->epoch;
    g->write_thread = (uint16_t)thread;
    g->write_fences = (uint16_t)b->fences[thread];
    return NULL;
}

/* Is what lies there an operand of a product that was not waited for? */
static bool product_reads(const struct ptx_block *b, uint32_t at, uint32_t bytes)
{
    for (int i = 0; b->product_count > 0 && i < b->warp_count; i++) {
        for (size_t j = 0; j < b->warps[i].product_count; j++) {
            const struct ptx_product *p = &b->warps[i].products[j];

            if (at < p->at + p->bytes && p->at < at + bytes)
                return true;
        }
    }
    return false;
}

void *ptx_shared(struct ptx_warp *w, const struct ptx_op *op, int lane, uint32_t at, uint32_t bytes,
                 enum ptx_access access)
{
    struct ptx_block *b = w->block;
    const uint32_t from = at - PTX_SHARED_BASE, thread = w->index * PTX_LANES + (uint32_t)lane;
    const uint32_t bits = b->kernel->shared_grain_bits;
    const bool is_write = access != PTX_READ && access != PTX_ASYNC_READ;
    const char *what = NULL;

    if (at % bytes != 0)
        what = "is not aligned to its size";
    else if (at < PTX_SHARED_BASE || from > b->shared_bytes || bytes > b->shared_bytes - from)
        what = "lies outside the block's shared memory";
    else if (is_write && access != PTX_COPY_END && product_reads(b, at, bytes))
        what = "is written while a product that reads it is under way";
    for (uint32_t i = from >> bits; !what && i <= (from + bytes - 1) >> bits; i++)
        what = is_write ? write_grain(w, &b->grain[i], thread, access)
                        : read_grain(w, &b->grain[i], thread, access);
    if (what) {
        ptx_fault(w, op, lane, "shared memory at byte %u (%u bytes) %s", from, bytes, what);
        return NULL;
    }
    return b->shared + from;
}

/* --- counting --------------------------------------------------------------------------------- */

#define BANKS 32
#define SECTOR_BYTES 32

/* Lanes go through the banks together as long as they ask for at most 128 bytes. */
void ptx_count_shared(struct ptx_warp *w, const uint32_t *at, uint32_t mask, uint32_t bytes)
{
    struct ptx_counts *counts = &w->block->kernel->counts;
    const int words = bytes < 4 ? 1 : (int)bytes / 4, together = PTX_LANES / words;

    if (!w->block->launch->is_counted)
        return;
    for (int first = 0; first < PTX_LANES; first += together) {
        uint32_t seen[BANKS][PTX_LANES];
        int depth[BANKS] = { 0 }, most = 0;

        for (int l = first; l < first + together; l++) {
            for (int i = 0; (mask >> l & 1) && i < words; i++) {
                const uint32_t word = at[l] / 4 + (uint32_t)i;
                int *n = &depth[word % BANKS], j = 0;

                while (j < *n && seen[word % BANKS][j] != word)
                    j++;
                if (j == *n)
                    seen[word % BANKS][(*n)++] = word;
                most = *n > most ? *n : most;
            }
        }
        counts->shared_turns += most;
        counts->shared_best += most > 0;
    }
}

void ptx_count_global(struct ptx_warp *w, const uint64_t *at, uint32_t mask, uint32_t bytes)
{
    struct ptx_counts *counts = &w->block->kernel->counts;
    uint64_t seen[2 * PTX_LANES];
    int n = 0;

    if (!w->block->launch->is_counted)
        return;
    for (int l = 0; l < PTX_LANES; l++) {
        const uint64_t sector = at[l] / SECTOR_BYTES; /* an access is aligned: it has one */
        int j = n;

        if (!(mask >> l & 1))
            continue;
        counts->global_bytes += bytes;
        /* The neighbour's is the likely one. */
        while (j > 0 && seen[j - 1] != sector)
            j--;
        if (j == 0)
            seen[n++] = sector;
    }
    counts->global_sectors += n;
}
