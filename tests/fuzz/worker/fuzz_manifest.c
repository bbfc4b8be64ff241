/* A manifest that another attempt left in the store: it is refused, or its texts fit. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/manifest.h"

FUZZ_STORAGE(manifest, 8 << 10)
{
    struct manifest_found found;
    struct buf text = { 0 };

    CHECK(buf_append(&text, bytes, len) == OK);
    if (manifest_read(&found, "fuzz.json", &text) == OK) {
        CHECK(found.attempt >= 0);
        CHECK(memchr(found.spec_hash, '\0', sizeof(found.spec_hash)));
        CHECK(memchr(found.video.url, '\0', sizeof(found.video.url)));
        CHECK(memchr(found.poster.url, '\0', sizeof(found.poster.url)));
    }
    buf_free(&text);
}
