/* Parameters as people type them, one "name=value" a line, and as the store keeps them. What a
 * parameter accepts can be shown and typed again; a whole job survives the store. */
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "proto/codec.h"
#include "proto/spec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/proto/same.h"

static void set_line(struct job_spec *spec, char *line)
{
    char *value = strchr(line, '=');
    const struct spec_param *p;
    struct job_spec before = *spec, again;
    char text[SPEC_URL_MAX];

    if (value)
        *value++ = '\0';
    p = spec_find(line);
    if (!p || !value)
        return;
    if (spec_set(spec, p, value) != OK) {
        CHECK(memcmp(spec, &before, sizeof(before)) == 0);
        return;
    }
    again = before;
    CHECK(spec_set(&again, p, spec_get(spec, p, text, sizeof(text))) == OK);
    CHECK(same_spec(spec, &again));
}

static void keep(const struct job_spec *spec)
{
    struct job_spec back, resolved = *spec;
    struct buf bytes = { 0 };

    CHECK(codec_spec_encode(spec, &bytes) == OK);
    CHECK(bytes.len <= codec_spec_bytes(spec));
    CHECK(codec_spec_decode(&back, bytes.data ? bytes.data : "", bytes.len) == OK);
    CHECK(same_spec(spec, &back));
    CHECK(spec_check(&back) == OK);
    spec_resolve(&resolved);
    CHECK(spec_check(&resolved) == OK);
    buf_free(&bytes);
}

FUZZ(spec, 4 << 10)
{
    char *text = fuzz_text(bytes, len), *next = NULL;
    struct job_spec spec;

    spec_init(&spec);
    for (char *line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next))
        set_line(&spec, line);
    if (spec_check(&spec) == OK)
        keep(&spec);
    free(text);
}
