/* The setting redis_url: what is accepted has a label, and host and port or a path. */
#include <stdlib.h>
#include <string.h>

#include "common/redis.h"
#include "tests/fuzz/fuzz.h"

FUZZ(redis_url, 512)
{
    char *text = fuzz_text(bytes, len);
    struct redis_address a;

    if (redis_parse_url(&a, text) == OK) {
        CHECK(a.db >= 0 && a.db <= 15 && a.label[0]);
        CHECK(memchr(a.label, '\0', sizeof(a.label)));
        if (a.is_unix)
            CHECK(a.path[0] == '/' && memchr(a.path, '\0', sizeof(a.path)));
        else
            CHECK(a.host[0] && memchr(a.host, '\0', sizeof(a.host)) && a.port > 0 &&
                  a.port <= 65535 && !strchr(a.host, '@'));
    } else {
        CHECK(strstr(status_message(), "redis_url"));
    }
    free(text);
}
