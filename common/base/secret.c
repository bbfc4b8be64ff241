#include "common/base/secret.h"

#include <string.h>
#include <sys/mman.h>

void *secret_alloc(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    if (madvise(p, bytes, MADV_DONTDUMP) != 0) {
        munmap(p, bytes);
        return NULL;
    }
    return p;
}

void secret_free(void *p, size_t bytes)
{
    if (!p)
        return;
    explicit_bzero(p, bytes);
    munmap(p, bytes);
}
