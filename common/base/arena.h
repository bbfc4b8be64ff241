/* arena.h - one block of memory, handed out from the front, given back by mark.
 *
 * Memory has three lifetimes: process, batch (one job), call. An arena holds one of them: take
 * while building, mark and release around a call's scratch, reset when the batch is reported.
 * Thread: the owner's; an arena is not shared. */
#ifndef ONESTEP_COMMON_BASE_ARENA_H
#define ONESTEP_COMMON_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

/* Every pointer taken is aligned to this: a cache line, and an AVX-512 register. */
#define ARENA_ALIGN 64

struct arena {
    char *base;        /* start of the block; NULL in a zeroed arena */
    size_t size_bytes; /* capacity */
    size_t used_bytes; /* handed out, a multiple of ARENA_ALIGN */
    size_t peak_bytes; /* largest used_bytes seen since open */
    const char *name;  /* for error sentences; borrowed, outlives the arena */
    bool is_foreign;   /* the block belongs to somebody else, perhaps to a device: never touched */
};

/* Reserve size_bytes for an arena called name. Errors: ERR_NOMEM. */
MUST_USE status arena_open(struct arena *a, const char *name, size_t size_bytes);

/* Hand out a block that somebody else owns and that need not be memory of this process; base is
 * aligned to ARENA_ALIGN (CHECK). arena_take_zeroed and _text are not for it (CHECK). */
void arena_open_at(struct arena *a, const char *name, void *base, size_t size_bytes);

/* Give the block back. Accepts a zeroed arena. */
void arena_close(struct arena *a);

/* bytes of uninitialised memory, ARENA_ALIGN-aligned; *ptr is set only on OK.
 * Errors: ERR_NOMEM when the arena is exhausted; the sentence names it, its size and the
 * request. */
MUST_USE status arena_take(struct arena *a, size_t bytes, void **ptr);

/* Like arena_take, filled with zero. */
MUST_USE status arena_take_zeroed(struct arena *a, size_t bytes, void **ptr);

/* A copy of the string text. Errors: ERR_NOMEM. */
MUST_USE status arena_take_text(struct arena *a, const char *text, const char **copy);

/* All that was taken, used_bytes from the start with the gaps between; from here on a sanitizer
 * lets the gaps be read. Not for a foreign block (CHECK). This function can't fail. */
void *arena_whole(struct arena *a);

/* The present fill level, to be handed to arena_release. */
size_t arena_mark(const struct arena *a);

/* Give back everything taken since mark. */
void arena_release(struct arena *a, size_t mark);

#endif
