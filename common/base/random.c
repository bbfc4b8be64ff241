#include "common/base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

#include "common/base/check.h"

status random_bytes(void *dst, size_t bytes)
{
    char *p = dst;

    while (bytes) {
        ssize_t got = getrandom(p, bytes, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return FAIL(ERR_IO, "the kernel gives no random bytes: %s", strerror(errno));
        p += got;
        bytes -= (size_t)got;
    }
    return OK;
}

status random_id(char *dst, size_t room)
{
    status st;

    CHECK(room >= 1);
    st = random_bytes(dst, room - 1);
    if (st != OK)
        return st;
    for (size_t i = 0; i + 1 < room; i++)
        dst[i] = "0123456789abcdefghijklmnopqrstuv"[(unsigned char)dst[i] & 31];
    dst[room - 1] = '\0';
    return OK;
}
