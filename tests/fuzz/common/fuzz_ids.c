/* An id from a stranger, an idempotency key, a list of ids: what passes becomes part of Redis keys
 * and paths, so nothing else may; and the same key is the same job.
 *
 * The input is text, NUL, text: an id or list, and a key. */
#include <stdlib.h>
#include <string.h>

#include "common/id.h"
#include "proto/spec.h"
#include "tests/fuzz/fuzz.h"

/* The rule once more, the other way round. */
static bool looks_like_id(const char *text, size_t len)
{
    if (len != JOB_ID_CHARS)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyz", text[i]))
            return false;
    }
    return true;
}

static void try_list(const char *text)
{
    const struct spec_param *after = spec_find("after");
    struct job_spec spec;
    bool is_good = true, is_over = !*text;

    spec_init(&spec);
    strcpy(spec.image, "file:///a.jpg");
    if (spec_set(&spec, after, text) != OK)
        return;
    for (const char *at = text; is_good && !is_over; at += strcspn(at, ",") + 1) {
        size_t len = strcspn(at, ",");

        is_good = looks_like_id(at, len);
        is_over = at[len] == '\0';
    }
    CHECK((spec_check(&spec) == OK) == is_good);
}

static void try_key(const char *tenant, const char *key)
{
    char id[JOB_ID_BYTES], again[JOB_ID_BYTES], other[JOB_ID_BYTES];
    size_t len = strlen(key);
    status st = id_from_key(id, tenant, key);

    CHECK((st == OK) == (len > 0 && len <= ID_KEY_MAX));
    if (st != OK) {
        CHECK(st == ERR_BADARG && status_message()[0] != '\0');
        return;
    }
    CHECK(msg_is_id(id) && looks_like_id(id, strlen(id)));
    CHECK(id_from_key(again, tenant, key) == OK && strcmp(id, again) == 0);
    CHECK(id_from_key(other, "another-tenant", key) == OK);
    CHECK(strcmp(tenant, "another-tenant") == 0 || strcmp(id, other) != 0);
}

FUZZ(ids, 4 << 10)
{
    char *text = malloc(len + 2);
    const char *key;

    CHECK(text);
    if (len)
        memcpy(text, bytes, len);
    text[len] = text[len + 1] = '\0';
    key = text + strlen(text) + 1;
    status_clear();
    CHECK(msg_is_id(text) == looks_like_id(text, strlen(text)));
    try_list(text);
    try_key("default", key > text + len ? "" : key);
    free(text);
}
