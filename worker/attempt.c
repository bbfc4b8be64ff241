#include "worker/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

status attempt_new(struct attempt **a, const struct lease *lease, const struct job_spec *spec)
{
    struct attempt *p = calloc(1, sizeof(*p));

    if (!p)
        return FAIL(ERR_NOMEM, "no memory for another job");
    p->lease = *lease;
    p->asked = *spec;
    p->begin_ms = clock_mono_ms();
    frames_init(&p->frames);
    stages_init(&p->stages, NULL, NULL);
    *a = p;
    return OK;
}

void attempt_strip(struct attempt *a)
{
    media_image_free(&a->image);
    frames_close(&a->frames);
    frames_init(&a->frames);
}

void attempt_free(struct attempt *a)
{
    if (!a)
        return;
    media_image_free(&a->image);
    frames_close(&a->frames);
    free(a);
}

static bool is_about_the_result(const char *name)
{
    static const char *const others[] = { "priority", "timeout", "attempts", "labels", "put_url" };

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(name, others[i]) == 0)
            return false;
    }
    return true;
}

status attempt_spec_hash(const struct attempt *a, char hex[DIGEST_HEX_ROOM])
{
    status st = OK;
    struct buf text = { 0 };
    uint8_t sha256[DIGEST_BYTES];
    char value[SPEC_URL_MAX];

    for (size_t i = 0; i < spec_param_count; i++) {
        const struct spec_param *p = &spec_params[i];

        if (is_about_the_result(p->name))
            TRY(buf_printf(&text, "%s=%s\n", p->name,
                           spec_get(&a->asked, p, value, sizeof(value))));
    }
    TRY(digest_sha256(text.data, text.len, sha256));
    digest_hex(sha256, hex);
out:
    buf_free(&text);
    return st;
}
