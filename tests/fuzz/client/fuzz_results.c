/* A result's manifest as the client reads it: it is refused, or what the client prints of it is
 * JSON. */
#include <string.h>

#include "client/results.h"
#include "tests/fuzz/fuzz.h"

FUZZ(results, 8 << 10)
{
    char path[FILE_PATH_BYTES];
    struct results_manifest m;
    struct buf out = { 0 };
    struct json_writer w = { .out = &out };
    struct json back = { 0 };

    fuzz_file(path, "manifest.json", bytes, len);
    if (results_read(&m, path) == OK) {
        CHECK(strlen(m.video_sha256) == 64 && strlen(m.poster_sha256) == 64);
        json_write_object(&w);
        results_write(&w, &m);
        json_write_end(&w);
        CHECK(json_write_finish(&w) == OK);
        CHECK(json_parse(&back, "printed", out.data, out.len) == OK);
    }
    results_free(&m);
    json_free(&back);
    buf_free(&out);
}
