#include "common/base/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/check.h"

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

void arena_close(struct arena *a)
{
    if (a->base)
        munmap(a->base, a->size_bytes);
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
    a->used_bytes += need;
    if (a->used_bytes > a->peak_bytes)
        a->peak_bytes = a->used_bytes;
    return OK;
}

status arena_take_zeroed(struct arena *a, size_t bytes, void **ptr)
{
    status st = arena_take(a, bytes, ptr);

    if (st == OK)
        memset(*ptr, 0, bytes);
    return st;
}

status arena_take_text(struct arena *a, const char *text, const char **copy)
{
    size_t bytes = strlen(text) + 1;
    void *p = NULL;
    status st = arena_take(a, bytes, &p);

    if (st == OK)
        *copy = memcpy(p, text, bytes);
    return st;
}

size_t arena_mark(const struct arena *a)
{
    return a->used_bytes;
}

void arena_release(struct arena *a, size_t mark)
{
    CHECK(mark <= a->used_bytes);
    a->used_bytes = mark;
}
