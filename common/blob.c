#include "common/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/blob_priv.h"

#define KEY_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/=-"

status blob_check_key(const char *key)
{
    size_t len = strlen(key);
    const char *fault = NULL;

    if (len < 1 || len > BLOB_KEY_MAX)
        return FAIL(ERR_BADARG, "an object key of %zu characters, want 1 to %d", len, BLOB_KEY_MAX);
    if (key[strspn(key, KEY_CHARACTERS)])
        fault = "a character other than A-Z a-z 0-9 . _ / = -";
    for (const char *part = key; part && !fault;) {
        size_t part_len = strcspn(part, "/");

        if (part_len == 0)
            fault = "an empty part";
        else if (strspn(part, ".") >= part_len && part_len <= 2)
            fault = "a . or .. part";
        part = part[part_len] ? part + part_len + 1 : NULL;
    }
    return fault ? FAIL(ERR_BADARG, "%.100s: %s in an object key", key, fault) : OK;
}

status blob_open(struct blob *b, const struct blob_config *c)
{
    status st = OK;
    struct url u;

    *b = (struct blob){ 0 };
    TRY(url_parse(&u, c->url));
    if (u.scheme != URL_FILE && u.scheme != URL_S3)
        TRY(FAIL(ERR_BADARG, "%s: not an object store; want file:///folder or s3://bucket/prefix",
                 c->url));
    b->state = calloc(1, sizeof(*b->state));
    if (!b->state)
        TRY(FAIL(ERR_NOMEM, "no memory for an object store"));
    b->state->backend = u.scheme == URL_FILE ? &blob_file : &blob_s3;
    b->state->part_bytes = c->part_bytes ? c->part_bytes : BLOB_PART_BYTES_DEFAULT;
    b->state->timeout_ms = c->timeout_ms ? c->timeout_ms : BLOB_TIMEOUT_MS_DEFAULT;
    TRY(b->state->backend->open(b->state, c, &u));
    return OK;
out:
    blob_close(b);
    return st;
}

void blob_close(struct blob *b)
{
    if (!b->state)
        return;
    http_close(&b->state->http);
    s3_close(&b->state->s3);
    free(b->state);
    b->state = NULL;
}

/* The state for a call. */
static struct blob_state *begin_call(const struct blob *b)
{
    struct blob_state *s = b->state;

    CHECK(s);
    s->cancel = b->cancel;
    s->owner = b->owner;
    s->until_ms = b->until_ms;
    s->has_deadline = b->deadline_ms != 0;
    s->deadline_ms = clock_mono_ms() + s->timeout_ms;
    if (b->deadline_ms && b->deadline_ms < s->deadline_ms)
        s->deadline_ms = b->deadline_ms;
    return s;
}

/* The state for a call with this key. */
static status begin(const struct blob *b, const char *key, struct blob_state **s)
{
    *s = begin_call(b);
    return blob_check_key(key);
}

status blob_changed(const char *path)
{
    return FAIL(ERR_CORRUPT, "%s: its content changed after its SHA-256 was taken", path);
}

status blob_put_file(struct blob *b, const char *key, const char *path, const char *content_type,
                     const uint8_t sha256[DIGEST_BYTES])
{
    status st = OK;
    struct blob_state *s;
    struct blob_source from = { path, -1, 0, content_type, sha256 };
    struct stat info;

    TRY(begin(b, key, &s));
    from.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (from.fd < 0 || fstat(from.fd, &info) != 0)
        TRY(file_errno(errno, path));
    if (!S_ISREG(info.st_mode) || info.st_size <= 0)
        TRY(FAIL(ERR_BADARG, "%s: not a file with something in it", path));
    from.bytes = (uint64_t)info.st_size;
    TRY(s->backend->put(s, key, &from));
out:
    if (from.fd >= 0)
        close(from.fd);
    return st;
}

status blob_has_put_new(struct blob *b, bool *has)
{
    struct blob_state *s = begin_call(b);

    return s->backend->has_put_new(s, has);
}

status blob_list(struct blob *b, const char *prefix, blob_on_entry on_entry, void *self)
{
    struct blob_state *s = begin_call(b);

    if (strlen(prefix) > BLOB_KEY_MAX || prefix[strspn(prefix, KEY_CHARACTERS)])
        return FAIL(ERR_BADARG, "%.100s: not the beginning of an object key", prefix);
    return s->backend->list(s, prefix, on_entry, self);
}

status blob_remove(struct blob *b, const struct blob_entry *entry)
{
    struct blob_state *s;
    status st = begin(b, entry->key, &s);

    return st == OK ? s->backend->remove(s, entry) : st;
}

status blob_presign(struct blob *b, const char *key, int seconds, char *dst, size_t room)
{
    struct blob_state *s;
    status st = begin(b, key, &s);

    return st == OK ? s->backend->presign(s, key, seconds, dst, room) : st;
}

status blob_put_new(struct blob *b, const char *key, const void *bytes, size_t len)
{
    struct blob_state *s;
    status st = begin(b, key, &s);

    if (st == OK && len == 0)
        st = FAIL(ERR_BADARG, "%s: an object without a byte", key);
    return st == OK ? s->backend->put_new(s, key, bytes, len) : st;
}

status blob_get(struct blob *b, const char *key, struct buf *out)
{
    struct blob_state *s;
    status st = begin(b, key, &s);

    return st == OK ? s->backend->get(s, key, out) : st;
}

status blob_get_to_file(struct blob *b, const char *key, const char *path)
{
    struct blob_state *s;
    status st = begin(b, key, &s);

    return st == OK ? s->backend->get_to_file(s, key, path) : st;
}

status blob_head(struct blob *b, const char *key, struct blob_info *info)
{
    struct blob_state *s;
    struct blob_info unused;
    status st = begin(b, key, &s);

    return st == OK ? s->backend->head(s, key, info ? info : &unused) : st;
}

status blob_url(const struct blob *b, const char *key, char *dst, size_t room)
{
    status st = blob_check_key(key);

    CHECK(b->state);
    return st == OK ? b->state->backend->url(b->state, key, dst, room) : st;
}

status blob_compare(struct blob_state *s, const char *key, const void *bytes, size_t len)
{
    struct buf there = { .max_bytes = len + 1 };
    char url[BLOB_URL_ROOM] = "";
    status st = s->backend->get(s, key, &there);
    bool is_equal = st == OK && there.len == len && memcmp(there.data, bytes, len) == 0;

    buf_free(&there);
    if (is_equal)
        return OK;
    if (st != OK && st != ERR_FULL) /* ERR_FULL: longer than ours, so another object */
        return st;
    st = s->backend->url(s, key, url, sizeof(url));
    return st == OK ? FAIL(ERR_CONFLICT, "%s: exists already with other content", url) : st;
}
