#include "worker/result.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/id.h"

#define POSTER "poster.png"

status result_open(struct result *r, const struct result_config *config)
{
    status st = OK;

    *r = (struct result){ .use_nvenc = config->use_nvenc, .maker = config->maker };
    if (strlen(config->work_dir) >= sizeof(r->work_dir))
        TRY(FAIL(ERR_BADARG, "work_dir: longer than %zu bytes", sizeof(r->work_dir) - 1));
    memcpy(r->work_dir, config->work_dir, strlen(config->work_dir) + 1);
    if (strlen(config->blob.url) >= sizeof(r->url))
        TRY(FAIL(ERR_BADARG, "blob: longer than %zu bytes", sizeof(r->url) - 1));
    memcpy(r->url, config->blob.url, strlen(config->blob.url) + 1);
    TRY(blob_open(&r->blob, &config->blob));
    TRY(handover_open(&r->handover, &config->handover));
out:
    return st;
}

void result_close(struct result *r)
{
    blob_close(&r->blob);
    handover_close(&r->handover);
    *r = (struct result){ 0 };
}

/* What ends the calls that follow early: a flag, and the end of the lease of a; or NULL. */
static void begin_calls(struct result *r, const atomic_bool *cancel, const struct attempt *a)
{
    r->blob.cancel = cancel;
    r->blob.until_ms = r->handover.until_ms = a ? &a->until_ms : NULL;
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

/* --- adopting -------------------------------------------------------------------------------- */

/* These files are the published result. */
static void note_video(struct result_urls *urls, const struct manifest_output *video,
                       const struct manifest_output *poster)
{
    memcpy(urls->video, video->url, sizeof(urls->video));
    memcpy(urls->video_key, video->key, sizeof(urls->video_key));
    memcpy(urls->video_sha256_hex, video->sha256_hex, sizeof(urls->video_sha256_hex));
    memcpy(urls->poster, poster->url, sizeof(urls->poster));
    urls->is_published = true;
}

/* own: key of the video that would be ours; "": none. */
static status adopt(const char *spec_hash, const char *own, const char *key, const struct buf *text,
                    struct result_urls *urls)
{
    status st = OK;
    struct manifest_found found;

    TRY(manifest_read(&found, key, text));
    if (strcmp(spec_hash, found.spec_hash) != 0)
        TRY(FAIL(ERR_CONFLICT,
                 "%s: the store holds the result of another job with this id and other "
                 "parameters; use another output prefix or idempotency key",
                 key));
    note_video(urls, &found.video, &found.poster);
    urls->is_adopted = strcmp(found.video.key, own) != 0;
out:
    return st;
}

/* What is looked for: a manifest at key, of a job with this spec_hash; own as above. */
struct wanted {
    const char *key, *spec_hash, *own;
};

static status find(struct result *r, const struct wanted *w, struct result_urls *urls, bool *found)
{
    status st = OK;
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };

    *found = false;
    st = blob_get(&r->blob, w->key, &text);
    if (st == ERR_NOTFOUND) {
        st = OK;
        goto out;
    }
    TRY(st);
    TRY(blob_url(&r->blob, w->key, urls->manifest, sizeof(urls->manifest)));
    TRY(adopt(w->spec_hash, w->own, w->key, &text, urls));
    *found = true;
out:
    buf_free(&text);
    return st;
}

status result_find(struct result *r, struct attempt *a, struct result_urls *urls, bool *found)
{
    char key[BLOB_KEY_MAX + 1], spec_hash[DIGEST_HEX_ROOM];
    const struct wanted wanted = { key, spec_hash, "" };
    status st = attempt_spec_hash(a, spec_hash);

    *urls = (struct result_urls){ .is_adopted = false };
    manifest_key(a, key, sizeof(key));
    begin_calls(r, &a->cancel, a);
    if (st == OK)
        st = find(r, &wanted, urls, found);
    begin_calls(r, NULL, NULL);
    return st;
}

/* --- encoding -------------------------------------------------------------------------------- */

static enum media_container container_of(const struct job_spec *spec)
{
    static const enum media_container containers[] = {
        [SPEC_MP4] = MEDIA_MP4, [SPEC_WEBM] = MEDIA_WEBM, [SPEC_PNG] = MEDIA_FRAMES
    };

    CHECK(spec->format >= 0 && spec->format < (int)(sizeof(containers) / sizeof(containers[0])));
    return containers[spec->format];
}

static const char *video_name(const struct job_spec *spec, char name[16])
{
    enum media_container c = container_of(spec);

    snprintf(name, 16, "%s.%s", c == MEDIA_FRAMES ? "frames" : "video", media_container_ending(c));
    return name;
}

static struct media_video_config video_of(const struct result *r, const struct job_spec *spec,
                                          const char *path)
{
    return (struct media_video_config){
        .path = path,
        .container = container_of(spec),
        .use_nvenc = r->use_nvenc,
        .width_px = (int)spec->width_px,
        .height_px = (int)spec->height_px,
        .fps = (int)spec->fps,
    };
}

/* Frames into files; the poster is the first frame. Only busy time counts, waiting is the
 * clip's. */
static status encode(const struct result *r, struct attempt *a, const char *video_path,
                     const char *poster_path, const char **encoder)
{
    status st = OK;
    const struct job_spec *spec = &a->spec;
    const struct media_video_config config = video_of(r, spec, video_path);
    struct media_video video = { 0 };
    const uint8_t *rgb;
    double begin;

    for (int64_t i = 0; i < spec->frames; i++) {
        TRY(frames_wait(&a->frames, i, &rgb));
        begin = stage_begin();
        if (i == 0) {
            TRY(media_png_write(poster_path, rgb, config.width_px, config.height_px));
            TRY(media_video_open(&video, &config));
            *encoder = media_video_encoder(&video);
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

/* Size, SHA-256, key and address of the file called name in the item. The digest is taken of the
 * finished file, not as it grows: the index of an MP4 goes to its front last. */
static status describe(struct result *r, const struct attempt *a, struct spool_item *item,
                       const char *name, const char *type)
{
    status st = OK;
    struct spool_file *f = &item->files[item->file_count++];
    struct manifest_output *out = &f->out;
    char path[FILE_PATH_BYTES], base[BLOB_KEY_MAX + 1], nonce[17];
    uint8_t sha256[DIGEST_BYTES];

    base_key(a, base, sizeof(base));
    id_nonce_text(nonce, a->lease.nonce);
    snprintf(f->name, sizeof(f->name), "%s", name);
    snprintf(f->type, sizeof(f->type), "%s", type);
    CHECK((size_t)snprintf(out->key, sizeof(out->key), "%s/a%lld-%s/%s", base,
                           (long long)a->lease.attempt, nonce, name) < sizeof(out->key));
    TRY(spool_path(item, name, path));
    TRY(digest_file(path, sha256, &out->bytes));
    digest_hex(sha256, out->sha256_hex);
    TRY(blob_url(&r->blob, out->key, out->url, sizeof(out->url)));
out:
    return st;
}

static status keep(struct result *r, struct attempt *a, struct spool_item *item,
                   const char *encoder)
{
    status st = OK;
    struct manifest manifest = { .maker = &r->maker, .attempt = a };
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    char name[16];

    memcpy(item->store, r->url, sizeof(item->store));
    manifest_key(a, item->manifest_key, sizeof(item->manifest_key));
    memcpy(item->put_url, a->asked.put_url, sizeof(item->put_url));
    TRY(attempt_spec_hash(a, item->spec_hash));
    TRY(describe(r, a, item, video_name(&a->spec, name),
                 media_container_type(container_of(&a->spec))));
    TRY(describe(r, a, item, POSTER, "image/png"));
    manifest.encoder = encoder;
    manifest.video = item->files[0].out;
    manifest.poster = item->files[1].out;
    TRY(manifest_write(&text, &manifest));
    TRY(spool_keep(item, &text));
    item->attempt = a;
out:
    buf_free(&text);
    return st;
}

/* Wait for the compute thread after a failure here and drop what was made, keeping the sentence of
 * the failure. */
static status give_up(struct attempt *a, struct spool_item *item, status st)
{
    char sentence[sizeof(a->frames.message)];

    snprintf(sentence, sizeof(sentence), "%s", status_message());
    atomic_store(&a->cancel, true);
    if (frames_join(&a->frames) == OK)
        status_clear();
    spool_drop(item);
    return FAIL(st, "%s", sentence);
}

status result_make(struct result *r, struct attempt *a, struct spool_item **item)
{
    status st = OK;
    char video[FILE_PATH_BYTES], poster[FILE_PATH_BYTES], name[16];
    const char *encoder = "";

    *item = NULL;
    TRY(spool_begin(item, r->work_dir, &a->lease));
    TRY(spool_path(*item, video_name(&a->spec, name), video));
    TRY(spool_path(*item, POSTER, poster));
    TRY(encode(r, a, video, poster, &encoder));
    TRY(keep(r, a, *item, encoder));
    return OK;
out:
    st = give_up(a, *item, st);
    *item = NULL;
    return st;
}

/* --- publishing ------------------------------------------------------------------------------ */

static status store_file(struct result *r, const struct spool_item *item,
                         const struct spool_file *f)
{
    status st = OK;
    char path[FILE_PATH_BYTES];
    uint8_t sha256[DIGEST_BYTES];

    TRY(spool_path(item, f->name, path));
    TRY(digest_from_hex(f->out.sha256_hex, sha256));
    TRY(blob_put_file(&r->blob, f->out.key, path, f->type, sha256));
out:
    return st;
}

/* What the attempt's keys begin with. */
static void attempt_key(const struct spool_item *item, char key[BLOB_KEY_MAX + 1])
{
    const char *first = item->files[0].out.key;
    const char *name = strrchr(first, '/');

    snprintf(key, BLOB_KEY_MAX + 1, "%.*s", name ? (int)(name - first) : 0, first);
}

/* Where the manifest goes: to the job's key, where only the first can write; or, in a store that
 * can't see to that, to one of the attempt's own. */
static status place_manifest(struct result *r, const struct spool_item *item,
                             char key[BLOB_KEY_MAX + 1], bool *is_shared)
{
    status st = OK;
    char own[BLOB_KEY_MAX + 1];

    TRY(blob_has_put_new(&r->blob, is_shared));
    attempt_key(item, own);
    if ((*is_shared ? snprintf(key, BLOB_KEY_MAX + 1, "%s", item->manifest_key)
                    : snprintf(key, BLOB_KEY_MAX + 1, "%s/%s", own, SPOOL_MANIFEST)) > BLOB_KEY_MAX)
        TRY(FAIL(ERR_BADARG, "%s: no room for its manifest's key", own));
out:
    return st;
}

/* The manifest to the attempt's own key. */
static status put_own(struct result *r, const struct spool_item *item, const char *key)
{
    status st = OK;
    char path[FILE_PATH_BYTES];
    uint8_t sha256[DIGEST_BYTES];

    TRY(spool_path(item, SPOOL_MANIFEST, path));
    TRY(digest_from_hex(item->manifest_sha256, sha256));
    TRY(blob_put_file(&r->blob, key, path, "application/json", sha256));
out:
    return st;
}

/* A store that is quick does not look at its cancel flag. */
static status check_wanted(const atomic_bool *cancel)
{
    return atomic_load(cancel) ? FAIL(ERR_CANCELLED, "stopped before it was published") : OK;
}

/* The manifest into the store under key, or the one that is there into urls. */
static status publish(struct result *r, const struct spool_item *item, const struct wanted *w,
                      bool is_shared, struct result_urls *urls)
{
    status st = OK;
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    bool found;

    TRY(spool_manifest(item, &text));
    if (is_shared)
        st = blob_put_new(&r->blob, w->key, text.data, text.len);
    else
        st = put_own(r, item, w->key);
    if (st == ERR_CONFLICT) {
        TRY(find(r, w, urls, &found));
        if (!found)
            TRY(FAIL(ERR_IO, "%s: the store said that it exists and that it does not", w->key));
        goto out;
    }
    TRY(st);
    TRY(blob_url(&r->blob, w->key, urls->manifest, sizeof(urls->manifest)));
    note_video(urls, &item->files[0].out, &item->files[1].out);
out:
    buf_free(&text);
    return st;
}

/* --- bringing it to its user ----------------------------------------------------------------- */

/* The sentence of a failure to hand over also says where the result is. */
static status tell_published(status st, const struct result_urls *urls)
{
    char sentence[256];

    if (st == OK || st == ERR_CANCELLED)
        return st;
    snprintf(sentence, sizeof(sentence), "%s", status_message());
    return FAIL(st, "%s; the result itself is published: %s", sentence, urls->manifest);
}

/* The published video from the store to the address. */
static status bring_stored(struct result *r, const struct lease *lease, const char *put_url,
                           const char *type, const struct result_urls *urls)
{
    status st = OK;
    uint8_t sha256[DIGEST_BYTES];
    char nonce[17], name[32], path[FILE_PATH_BYTES] = "";
    const struct handover_file f = { path, type, sha256 };

    id_nonce_text(nonce, lease->nonce);
    snprintf(name, sizeof(name), ".%s.published", nonce);
    TRY(digest_from_hex(urls->video_sha256_hex, sha256));
    TRY(file_join(path, sizeof(path), r->work_dir, name));
    TRY(blob_get_to_file(&r->blob, urls->video_key, path));
    TRY(handover_put(&r->handover, put_url, &f, r->blob.cancel));
out:
    if (*path)
        unlink(path);
    return st;
}

/* The item's own video, which is the published one. */
static status bring_own(struct result *r, const struct spool_item *item)
{
    status st = OK;
    uint8_t sha256[DIGEST_BYTES];
    char path[FILE_PATH_BYTES];
    const struct handover_file f = { path, item->files[0].type, sha256 };

    TRY(spool_path(item, item->files[0].name, path));
    TRY(digest_from_hex(item->files[0].out.sha256_hex, sha256));
    TRY(handover_put(&r->handover, item->put_url, &f, r->blob.cancel));
out:
    return st;
}

/* Without a lease an item may bring what it has published itself, as a shared manifest says, and
 * nothing else: the attempt that has the lease now sees to that. */
static status bring(struct result *r, const struct spool_item *item, bool is_shared,
                    const struct result_urls *urls)
{
    status st = OK;

    if (!*item->put_url || (!item->attempt && (!is_shared || urls->is_adopted)))
        return OK;
    st = urls->is_adopted ? bring_stored(r, &item->lease, item->put_url, item->files[0].type, urls)
                          : bring_own(r, item);
    return tell_published(st, urls);
}

status result_hand_over(struct result *r, struct attempt *a, const struct result_urls *urls)
{
    status st = OK;

    if (!*a->asked.put_url)
        return OK;
    begin_calls(r, &a->cancel, a);
    st = bring_stored(r, &a->lease, a->asked.put_url, media_container_type(container_of(&a->asked)),
                      urls);
    begin_calls(r, NULL, NULL);
    return tell_published(st, urls);
}

/* --- all of it ------------------------------------------------------------------------------- */

status result_store(struct result *r, const struct spool_item *item, const atomic_bool *cancel,
                    struct result_urls *urls)
{
    status st = OK;
    struct attempt *a = item->attempt;
    char key[BLOB_KEY_MAX + 1], owner[BLOB_KEY_MAX + 1];
    const struct wanted wanted = { key, item->spec_hash, item->files[0].out.key };
    bool found = false, is_shared;

    *urls = (struct result_urls){ .is_adopted = false };
    begin_calls(r, cancel, a);
    attempt_key(item, owner);
    r->blob.owner = owner;
    TRY(check_wanted(cancel));
    TRY(place_manifest(r, item, key, &is_shared));
    /* After a lost answer, or under a lease of the past, the job may have its result already. */
    if (!a || item->tries > 0)
        TRY(find(r, &wanted, urls, &found));
    for (int i = 0; i < item->file_count && !found; i++) {
        if (a && item->tries == 0)
            stage_show(&a->stages, STAGE_UPLOAD, (double)i / item->file_count);
        TRY(store_file(r, item, &item->files[i]));
        TRY(check_wanted(cancel));
    }
    if (!found)
        TRY(publish(r, item, &wanted, is_shared, urls));
    TRY(bring(r, item, is_shared, urls));
    if (a)
        stage_show(&a->stages, STAGE_UPLOAD, 1);
out:
    begin_calls(r, NULL, NULL);
    r->blob.owner = NULL;
    return st;
}
