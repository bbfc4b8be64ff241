/* A manifest of jobs, one JSON object a line: each row is refused with its place, or is a job that
 * the broker would take. */
#include <string.h>

#include "client/rows.h"
#include "proto/codec.h"
#include "tests/fuzz/fuzz.h"

static void expect_job(const struct row *row)
{
    struct buf bytes = { 0 };

    CHECK(spec_check(&row->spec) == OK);
    CHECK(codec_spec_encode(&row->spec, &bytes) == OK);
    CHECK(memchr(row->key, '\0', sizeof(row->key)));
    buf_free(&bytes);
}

FUZZ(rows, 4 << 10)
{
    char path[FILE_PATH_BYTES], photo[FILE_PATH_BYTES];
    struct job_spec defaults;
    struct rows r = { 0 };
    struct row row;
    bool has_row;

    fuzz_file(photo, "a.png", "\x89PNG\r\n\x1a\n", 8);
    fuzz_file(path, "jobs.jsonl", bytes, len);
    spec_init(&defaults);
    CHECK(rows_open(&r, path) == OK);
    while (rows_next(&r, &has_row) == OK && has_row) {
        if (rows_read(&r, &defaults, &row) == OK)
            expect_job(&row);
        else
            CHECK(strstr(status_message(), "jobs.jsonl:"));
    }
    rows_close(&r);
}
