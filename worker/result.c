#include "worker/result.h"

#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/id.h"

/* The files of one attempt on their way out. */
struct parcel {
    struct result *r;             /* borrowed */
    struct attempt *a;            /* borrowed */
    char base[BLOB_KEY_MAX + 1];  /* key prefix of the job */
    char video[FILE_PATH_BYTES];  /* being written */
    char poster[FILE_PATH_BYTES]; /* being written */
    struct manifest manifest;     /* what is to be published */
};

status result_open(struct result *r, const struct result_config *config)
{
    status st = OK;

    *r = (struct result){ .maker = config->maker };
    if (strlen(config->work_dir) >= sizeof(r->work_dir))
        TRY(FAIL(ERR_BADARG, "work_dir: longer than %zu bytes", sizeof(r->work_dir) - 1));
    memcpy(r->work_dir, config->work_dir, strlen(config->work_dir) + 1);
    TRY(blob_open(&r->blob, &config->blob));
out:
    return st;
}

void result_close(struct result *r)
{
    blob_close(&r->blob);
    *r = (struct result){ 0 };
}

/* --- keys ------------------------------------------------------------------------------------ */

static void base_key(const struct attempt *a, char *dst, size_t room)
{
    size_t len = strlen(a->asked.output);

    while (len > 0 && a->asked.output[len - 1] == '/')
        len--;
    CHECK((size_t)snprintf(dst, room, "%.*s%s%s", (int)len, a->asked.output, len ? "/" : "",
                           a->lease.job) < room);
}

static void manifest_key(const struct attempt *a, char *dst, size_t room)
{
    char base[BLOB_KEY_MAX + 1];

    base_key(a, base, sizeof(base));
    CHECK((size_t)snprintf(dst, room, "%s/manifest.json", base) < room);
}

static status open_parcel(struct parcel *p, struct result *r, struct attempt *a)
{
    status st = OK;
    char nonce[17], name[32];

    *p = (struct parcel){ .r = r, .a = a };
    p->manifest.maker = &r->maker;
    p->manifest.attempt = a;
    base_key(a, p->base, sizeof(p->base));
    id_nonce_text(nonce, a->lease.nonce);
    snprintf(name, sizeof(name), "%s.mp4", nonce);
    TRY(file_join(p->video, sizeof(p->video), r->work_dir, name));
    snprintf(name, sizeof(name), "%s.png", nonce);
    TRY(file_join(p->poster, sizeof(p->poster), r->work_dir, name));
out:
    return st;
}

/* --- adopting -------------------------------------------------------------------------------- */

static status adopt(const struct attempt *a, const char *key, const struct buf *text,
                    struct result_urls *urls)
{
    status st = OK;
    struct manifest_found found;
    char spec_hash[DIGEST_HEX_ROOM];

    TRY(manifest_read(&found, key, text));
    TRY(attempt_spec_hash(a, spec_hash));
    if (strcmp(spec_hash, found.spec_hash) != 0)
        TRY(FAIL(ERR_CONFLICT,
                 "%s: the store holds the result of another job with this id and other "
                 "parameters; use another output prefix or idempotency key",
                 key));
    memcpy(urls->video, found.video_url, sizeof(urls->video));
    memcpy(urls->poster, found.poster_url, sizeof(urls->poster));
    urls->is_adopted = true;
out:
    return st;
}

status result_find(struct result *r, struct attempt *a, struct result_urls *urls, bool *found)
{
    status st = OK;
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    char key[BLOB_KEY_MAX + 1];

    *found = false;
    manifest_key(a, key, sizeof(key));
    r->blob.cancel = &a->cancel;
    st = blob_get(&r->blob, key, &text);
    r->blob.cancel = NULL;
    if (st == ERR_NOTFOUND) {
        st = OK;
        goto out;
    }
    TRY(st);
    TRY(adopt(a, key, &text, urls));
    TRY(blob_url(&r->blob, key, urls->manifest, sizeof(urls->manifest)));
    *found = true;
out:
    buf_free(&text);
    return st;
}

/* --- encoding -------------------------------------------------------------------------------- */

/* Frames into files; the poster is the first frame. Only busy time counts, waiting is the
 * clip's. */
static status encode(struct parcel *p)
{
    status st = OK;
    struct attempt *a = p->a;
    const struct job_spec *spec = &a->spec;
    const struct media_video_config config = {
        .path = p->video,
        .width_px = (int)spec->width_px,
        .height_px = (int)spec->height_px,
        .fps = (int)spec->fps,
    };
    struct media_video video = { 0 };
    const uint8_t *rgb;
    double begin;

    for (int64_t i = 0; i < spec->frames; i++) {
        TRY(frames_wait(&a->frames, i, &rgb));
        begin = stage_begin();
        if (i == 0) {
            TRY(media_png_write(p->poster, rgb, config.width_px, config.height_px));
            TRY(media_video_open(&video, &config));
        }
        TRY(media_video_add(&video, rgb));
        stage_end(&a->stages, STAGE_ENCODE, begin);
    }
    TRY(frames_join(&a->frames));
    stage_show(&a->stages, STAGE_ENCODE, 1);
    begin = stage_begin();
    TRY(media_video_finish(&video));
    stage_end(&a->stages, STAGE_ENCODE, begin);
out:
    media_video_close(&video);
    return st;
}

/* --- publishing ------------------------------------------------------------------------------ */

static status store(struct parcel *p, const char *path, const char *name,
                    struct manifest_output *output)
{
    status st = OK;
    const struct lease *lease = &p->a->lease;
    const char *type = strcmp(name, "video.mp4") == 0 ? "video/mp4" : "image/png";
    uint8_t sha256[DIGEST_BYTES];
    char nonce[17];

    id_nonce_text(nonce, lease->nonce);
    CHECK((size_t)snprintf(output->key, sizeof(output->key), "%s/a%lld-%s/%s", p->base,
                           (long long)lease->attempt, nonce, name) < sizeof(output->key));
    TRY(digest_file(path, sha256, &output->bytes));
    digest_hex(sha256, output->sha256_hex);
    TRY(blob_put_file(&p->r->blob, output->key, path, type, sha256));
    TRY(blob_url(&p->r->blob, output->key, output->url, sizeof(output->url)));
out:
    return st;
}

static status publish(struct parcel *p, struct result_urls *urls)
{
    status st = OK;
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    char key[BLOB_KEY_MAX + 1];
    bool found;

    manifest_key(p->a, key, sizeof(key));
    TRY(manifest_write(&text, &p->manifest));
    st = blob_put_new(&p->r->blob, key, text.data, text.len);
    if (st == ERR_CONFLICT) {
        TRY(result_find(p->r, p->a, urls, &found));
        if (!found)
            TRY(FAIL(ERR_IO, "%s: the store said that it exists and that it does not", key));
        goto out;
    }
    TRY(st);
    memcpy(urls->video, p->manifest.video.url, sizeof(urls->video));
    memcpy(urls->poster, p->manifest.poster.url, sizeof(urls->poster));
    TRY(blob_url(&p->r->blob, key, urls->manifest, sizeof(urls->manifest)));
out:
    buf_free(&text);
    return st;
}

/* A store that is quick does not look at its cancel flag. */
static status check_wanted(const struct attempt *a)
{
    return atomic_load(&a->cancel) ? FAIL(ERR_CANCELLED, "stopped before it was published") : OK;
}

static status upload(struct parcel *p, struct result_urls *urls)
{
    status st = OK;
    struct attempt *a = p->a;
    double begin = stage_begin();

    stage_show(&a->stages, STAGE_UPLOAD, 0);
    p->r->blob.cancel = &a->cancel;
    TRY(check_wanted(a));
    TRY(store(p, p->video, "video.mp4", &p->manifest.video));
    stage_show(&a->stages, STAGE_UPLOAD, 0.5);
    TRY(store(p, p->poster, "poster.png", &p->manifest.poster));
    /* The manifest holds the seconds of all that comes before it. */
    stage_end(&a->stages, STAGE_UPLOAD, begin);
    TRY(check_wanted(a));
    TRY(publish(p, urls));
    stage_show(&a->stages, STAGE_UPLOAD, 1);
out:
    p->r->blob.cancel = NULL;
    return st;
}

/* Wait for the compute thread after a failure here, keeping the sentence of the failure. */
static status give_up(struct attempt *a, status st)
{
    char sentence[sizeof(a->frames.message)];

    snprintf(sentence, sizeof(sentence), "%s", status_message());
    atomic_store(&a->cancel, true);
    if (frames_join(&a->frames) == OK)
        status_clear();
    return FAIL(st, "%s", sentence);
}

/* Remove what is left of a file; a failure to do so is no failure of the job. */
static void drop(const char *path)
{
    if (path[0] && file_remove(path) != OK)
        log_warn("result.leftover", "error=\"%s\"", status_message());
}

status result_run(struct result *r, struct attempt *a, struct result_urls *urls)
{
    status st = OK;
    struct parcel parcel;

    *urls = (struct result_urls){ .is_adopted = false };
    TRY(open_parcel(&parcel, r, a));
    TRY(encode(&parcel));
    TRY(upload(&parcel, urls));
out:
    if (st != OK)
        st = give_up(a, st);
    drop(parcel.video);
    drop(parcel.poster);
    return st;
}
