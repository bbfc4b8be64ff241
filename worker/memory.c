#include "worker/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/file.h"

/* The number in a control group's file; SIZE_MAX when there is no such file or no limit ("max"). */
static size_t limit_in(const char *path)
{
    struct buf text = { 0 };
    size_t bytes = SIZE_MAX;

    if (file_exists(path) && file_read(path, 64, &text) == OK && text.len > 0 &&
        text.data[0] >= '0' && text.data[0] <= '9')
        bytes = (size_t)strtoull(text.data, NULL, 10);
    buf_free(&text);
    return bytes;
}

size_t memory_total_bytes(void)
{
    static const char *const files[] = { "/sys/fs/cgroup/memory.max",
                                         "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    size_t total = pages > 0 && page_bytes > 0 ? (size_t)pages * (size_t)page_bytes : 0;

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        size_t limit = limit_in(files[i]);

        if (limit < total)
            total = limit;
    }
    return total;
}
