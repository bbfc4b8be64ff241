#include "common/base/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/check.h"

/* An arena is one block to AddressSanitizer. These tell it what is handed out, so that a step past
 * the end of a piece, and a use after release, are found there as they are with malloc. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

/* AddressSanitizer keeps an eighth of what it watches. A larger arena is the address space of a dry
 * run, whose pieces have no memory and are never touched. */
#define WATCHED_MAX ((size_t)64 << 30)

/* [from, to) is no one's; the guard behind a piece ends with the arena. */
static void forbid(const struct arena *a, size_t from, size_t to)
{
    size_t end = to < a->size_bytes ? to : a->size_bytes;

    if (end > from && !a->is_foreign && a->size_bytes <= WATCHED_MAX)
        ASAN_POISON_MEMORY_REGION(a->base + from, end - from);
}

/* [from, to) may be used. */
static void allow(const struct arena *a, size_t from, size_t to)
{
    size_t end = to < a->size_bytes ? to : a->size_bytes;

    if (!a->is_foreign && a->size_bytes <= WATCHED_MAX)
        ASAN_UNPOISON_MEMORY_REGION(a->base + from, end - from);
}

status arena_open(struct arena *a, const char *name, size_t size_bytes)
{
    /* mmap, not malloc: untouched pages cost nothing, and the block goes back to the system. */
    void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory for %s", size_bytes, name);
    *a = (struct arena){ .base = p, .size_bytes = size_bytes, .name = name };
    return OK;
}

void arena_open_at(struct arena *a, const char *name, void *base, size_t size_bytes)
{
    CHECK((uintptr_t)base % ARENA_ALIGN == 0);
    *a = (struct arena){ .base = base, .size_bytes = size_bytes, .name = name, .is_foreign = true };
}

void arena_close(struct arena *a)
{
    if (a->base && !a->is_foreign) {
        /* No further than was used, so that the end costs no more than the use did. */
        allow(a, 0, a->peak_bytes + ARENA_ALIGN);
        munmap(a->base, a->size_bytes);
    }
    *a = (struct arena){ 0 };
}

status arena_take(struct arena *a, size_t bytes, void **ptr)
{
    size_t need;

    if (bytes > SIZE_MAX - ARENA_ALIGN)
        return FAIL(ERR_NOMEM, "%s: a request of %zu bytes", a->name, bytes);
    need = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (need > a->size_bytes - a->used_bytes)
        return FAIL(ERR_NOMEM, "%s is full: %zu of %zu bytes used, %zu more asked for", a->name,
                    a->used_bytes, a->size_bytes, bytes);
    *ptr = a->base + a->used_bytes;
    allow(a, a->used_bytes, a->used_bytes + bytes);
    forbid(a, a->used_bytes + bytes, a->used_bytes + need + ARENA_ALIGN);
    a->used_bytes += need;
    if (a->used_bytes > a->peak_bytes)
        a->peak_bytes = a->used_bytes;
    return OK;
}

status arena_take_zeroed(struct arena *a, size_t bytes, void **ptr)
{
    status st = arena_take(a, bytes, ptr);

    CHECK(!a->is_foreign);
    if (st == OK)
        memset(*ptr, 0, bytes);
    return st;
}

status arena_take_text(struct arena *a, const char *text, const char **copy)
{
    size_t bytes = strlen(text) + 1;
    void *p = NULL;
    status st = arena_take(a, bytes, &p);

    CHECK(!a->is_foreign);
    if (st == OK)
        *copy = memcpy(p, text, bytes);
    return st;
}

void *arena_whole(struct arena *a)
{
    CHECK(!a->is_foreign);
    allow(a, 0, a->used_bytes);
    return a->base;
}

size_t arena_mark(const struct arena *a)
{
    return a->used_bytes;
}

void arena_release(struct arena *a, size_t mark)
{
    CHECK(mark <= a->used_bytes);
    forbid(a, mark, a->used_bytes);
    a->used_bytes = mark;
}
