#include "worker/intake.h"

#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/url.h"

status intake_open(struct intake *in, const struct fetch_config *fetch,
                   struct media_decoder *decoder, const struct pipeline *pipeline)
{
    *in = (struct intake){ .decoder = decoder, .pipeline = pipeline };
    return fetch_open(&in->fetch, fetch);
}

void intake_close(struct intake *in)
{
    fetch_close(&in->fetch);
    *in = (struct intake){ 0 };
}

/* The last segment of the URL's path, for sentences about the image. */
static const char *name_of(const char *url, char *dst, size_t room)
{
    const char *slash;

    url_for_people(url, dst, room);
    slash = strrchr(dst, '/');
    return slash && slash[1] ? slash + 1 : dst;
}

static status fetch_input(struct intake *in, struct attempt *a, struct buf *bytes)
{
    status st = OK;
    double begin = stage_begin();

    stage_show(&a->stages, STAGE_FETCH, 0);
    in->fetch.cancel = &a->cancel;
    st = fetch_get(&in->fetch, a->asked.image, bytes);
    in->fetch.cancel = NULL;
    stage_end(&a->stages, STAGE_FETCH, begin);
    return st;
}

static status decode_input(struct intake *in, struct attempt *a, const struct buf *bytes)
{
    status st = OK;
    double begin = stage_begin();
    uint8_t sha256[DIGEST_BYTES];
    char name[SPEC_URL_MAX];

    stage_show(&a->stages, STAGE_DECODE_IMAGE, 0);
    TRY(digest_sha256(bytes->data, bytes->len, sha256));
    digest_hex(sha256, a->input.sha256_hex);
    a->input.bytes = bytes->len;
    TRY(media_decoder_run(in->decoder, &a->image, name_of(a->asked.image, name, sizeof(name)),
                          bytes->data, bytes->len));
out:
    stage_end(&a->stages, STAGE_DECODE_IMAGE, begin);
    return st;
}

status intake_run(struct intake *in, struct attempt *a)
{
    status st = OK;
    struct buf bytes = { 0 };
    int64_t w, h;

    TRY(spec_check(&a->asked));
    TRY(fetch_input(in, a, &bytes));
    TRY(decode_input(in, a, &bytes));
    w = a->image.width_px;
    h = a->image.height_px;
    a->spec = a->asked;
    TRY(pipeline_resolve(in->pipeline, &a->spec, w, h));
    TRY(pipeline_plan(in->pipeline, &a->spec, w, h, &a->need));
    TRY(pipeline_admit(&a->spec, &a->need));
out:
    buf_free(&bytes);
    return st;
}
