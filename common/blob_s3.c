/* S3 and its relatives. Every request is signed, and a body's SHA-256 is part of the signature, so
 * that a server that compares it refuses damaged uploads. Whether it does, and whether it knows
 * If-None-Match, it is asked before the first upload (blob_s3_probe.c); one that does not compare
 * has to return the MD5 of what it got as ETag. Where it compares, the ETag of a whole file would
 * say nothing more, and an MD5 of it costs more than the upload (2.4 ms per MB, 0.7 of SHA-256).
 *
 * put_new is a PUT with If-None-Match: *. CAREFUL: when its first answer is lost, the retry is
 * told 412 by its own success; so a refusal is always followed by a look at what is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/blob_priv.h"
#include "common/xml.h"

/* Times that put_new starts again after 409: another conditional PUT was under way and came to
 * nothing. */
#define RACES_MAX 3
#define META "x-amz-meta-onestep-"

static status open_bucket(struct blob_state *s, const struct blob_config *c, const struct url *u)
{
    /* The operator names the endpoint, not a stranger: it may well be in a private network. */
    const struct http_config http = { .allow_private_hosts = true, .ca_file = c->ca_file };
    char prefix[BLOB_KEY_MAX];
    size_t len;
    status st = OK;

    if (!s3_is_bucket(u->host))
        TRY(FAIL(ERR_BADARG, "%s: not a bucket; want 3 to 63 of a-z 0-9 . -", u->host));
    TRY(url_decode_path(u, prefix, sizeof(prefix)));
    len = strlen(prefix);
    if (len && prefix[len - 1] == '/')
        prefix[--len] = '\0';
    if (len) {
        TRY(blob_check_key(prefix));
        snprintf(s->prefix, sizeof(s->prefix), "%s/", prefix);
    }
    snprintf(s->bucket, sizeof(s->bucket), "%s", u->host);
    TRY(s3_open(&s->s3, &c->s3));
    if (!credentials_are_known(&s->s3.credentials))
        TRY(FAIL(ERR_BADARG,
                 "%s: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                 "or a credentials file",
                 c->url));
    TRY(http_open(&s->http, &http));
out:
    return st;
}

/* --- requests ------------------------------------------------------------------------------- */

/* full: key with the store's prefix, or "" for the bucket. */
static status begin(struct blob_call *k, struct blob_state *s, enum http_method method,
                    const char *full, const char *query)
{
    struct http_request *q = &k->http.q;
    int64_t left_ms = s->deadline_ms - clock_mono_ms();
    size_t len;
    status st = OK;

    memset(k, 0, sizeof(*k));
    if (left_ms <= 0)
        TRY(FAIL(ERR_TIMEOUT, "s3://%s/%s: no time left for it", s->bucket, full));
    TRY(s3_signer(&s->s3, &k->sign));
    TRY(s3_address(&s->s3, s->bucket, full, k->url, sizeof(k->url)));
    len = strlen(k->url);
    if (*query &&
        (size_t)snprintf(k->url + len, sizeof(k->url) - len, "?%s", query) >= sizeof(k->url) - len)
        TRY(FAIL(ERR_BADARG, "s3://%s/%s: no room for its address", s->bucket, full));
    q->method = method;
    q->url = k->url;
    q->sign = &k->sign;
    q->timeout_ms = (int)left_ms;
    q->cancel = s->cancel;
    q->until_ms = s->until_ms;
out:
    return st;
}

status blob_call_begin(struct blob_call *k, struct blob_state *s, enum http_method method,
                       const char *key, const char *query)
{
    char full[2 * BLOB_KEY_MAX + 4];

    snprintf(full, sizeof(full), "%s%s", s->prefix, key);
    return begin(k, s, method, full, query);
}

status blob_call_begin_bucket(struct blob_call *k, struct blob_state *s, enum http_method method,
                              const char *query)
{
    return begin(k, s, method, "", query);
}

void blob_call_header(struct blob_call *k, const char *text)
{
    CHECK(k->header_count < HTTP_HEADERS_MAX);
    k->http.q.headers[k->header_count++] = text;
}

status blob_call_body(struct blob_call *k, const void *bytes, size_t len)
{
    uint8_t sha256[DIGEST_BYTES];
    status st = digest_sha256(bytes, len, sha256);

    k->http.q.body = bytes;
    k->http.q.body_bytes = len;
    k->http.q.body_sha256_hex = digest_hex(sha256, k->payload);
    return st;
}

void blob_call_describe(struct blob_call *k, const struct blob_state *s, const char *content_type,
                        const uint8_t sha256[DIGEST_BYTES])
{
    char hex[DIGEST_HEX_ROOM];

    snprintf(k->type, sizeof(k->type), "Content-Type: %s", content_type);
    snprintf(k->sha256, sizeof(k->sha256), META "sha256: %s", digest_hex(sha256, hex));
    blob_call_header(k, k->type);
    blob_call_header(k, k->sha256);
    if (s->owner && *s->owner) {
        snprintf(k->owner, sizeof(k->owner), META "owner: %s", s->owner);
        blob_call_header(k, k->owner);
    }
}

const char *blob_call_error(const struct blob_call *k, char dst[64])
{
    const struct buf *b = &k->http.r.body;

    return xml_find(b->data ? b->data : "", b->len, "Error/Code", dst, 64);
}

bool blob_call_renew(struct blob_call *k, struct blob_state *s)
{
    const struct http_response *r = &k->http.r;
    char code[64];

    if (k->was_refreshed || k->http.st != OK || (r->code != 400 && r->code != 403))
        return false;
    blob_call_error(k, code);
    if (strcmp(code, "ExpiredToken") != 0 && strcmp(code, "InvalidToken") != 0 &&
        strcmp(code, "InvalidAccessKeyId") != 0)
        return false;
    k->was_refreshed = true;
    if (!credentials_expire(&s->s3.credentials) || s3_signer(&s->s3, &k->sign) != OK) {
        status_clear();
        return false;
    }
    return true;
}

status blob_call_check(const struct blob_call *k)
{
    char code[64];
    status st = http_check(&k->http.q, &k->http.r);

    if (st != ERR_BADARG || k->http.r.code != 400)
        return st;
    blob_call_error(k, code);
    /* The sentence of http_check has the server's words. */
    if (strcmp(code, "BadDigest") == 0 || strcmp(code, "XAmzContentSHA256Mismatch") == 0)
        return ERR_CORRUPT;
    return strcmp(code, "RequestTimeout") == 0 ? ERR_UNAVAILABLE : st;
}

status blob_call_do(struct blob_call *k, struct blob_state *s)
{
    status st = OK;

    TRY(http_do(&s->http, &k->http.q, &k->http.r));
    if (blob_call_renew(k, s)) {
        TRY(http_do(&s->http, &k->http.q, &k->http.r));
    }
    TRY(blob_call_check(k));
out:
    return st;
}

void blob_call_end(struct blob_call *k)
{
    http_response_free(&k->http.r);
}

/* --- putting -------------------------------------------------------------------------------- */

const char *blob_call_md5(const struct blob_call *k)
{
    const char *etag = k->http.r.etag, *kept = k->http.r.kept.data;
    bool is_md5 = strlen(etag) == 32 && etag[strspn(etag, "0123456789abcdef")] == '\0';

    return is_md5 && !(kept && strstr(kept, BLOB_ENCRYPTION ": aws:kms")) ? etag : "";
}

/* What the store has, by its own word, against the MD5 of what it should have. */
static status compare_md5(const struct blob_call *k, const char *want)
{
    const char *etag = blob_call_md5(k);

    if (*etag && strcmp(etag, want) != 0)
        return FAIL(ERR_IO, "%s: the store kept other bytes (ETag %s, want %s)", k->url, etag,
                    want);
    return OK;
}

/* What a server that does not compare the SHA-256 has stored. */
static status check_etag(const struct blob_call *k, const struct blob_source *from)
{
    char hex[DIGEST_MD5_HEX_ROOM];
    status st = OK;

    if (!*blob_call_md5(k))
        return OK;
    TRY(digest_md5_range(from->fd, from->path, 0, from->bytes, hex));
    TRY(compare_md5(k, hex));
out:
    return st;
}

/* The file against its promise, before a server that does not compare gets it. */
static status check_file(const struct blob_source *from)
{
    uint8_t actual[DIGEST_BYTES];
    status st = digest_range(from->fd, from->path, 0, from->bytes, NULL, actual);

    if (st == OK && memcmp(actual, from->sha256, sizeof(actual)) != 0)
        st = blob_changed(from->path);
    return st;
}

static status put_whole(struct blob_state *s, const char *key, const struct blob_source *from)
{
    struct blob_call k = { .header_count = 0 };
    status st = OK;

    if (!s->checks_sha256)
        TRY(check_file(from));
    TRY(blob_call_begin(&k, s, HTTP_PUT, key, ""));
    blob_call_describe(&k, s, from->content_type, from->sha256);
    k.http.q.body_fd = from->fd;
    k.http.q.body_bytes = from->bytes;
    k.http.q.body_sha256_hex = digest_hex(from->sha256, k.payload);
    k.http.q.keep_headers = BLOB_ENCRYPTION;
    st = blob_call_do(&k, s);
    if (st == ERR_CORRUPT)
        st = blob_changed(from->path);
    TRY(st);
    if (!s->checks_sha256)
        TRY(check_etag(&k, from));
out:
    blob_call_end(&k);
    return st;
}

static status put(struct blob_state *s, const char *key, const struct blob_source *from)
{
    status st = blob_s3_probe(s);

    if (st != OK)
        return st;
    return from->bytes > s->part_bytes ? blob_s3_put_parts(s, key, from) : put_whole(s, key, from);
}

static status has_put_new(struct blob_state *s, bool *has)
{
    status st = blob_s3_probe(s);

    *has = s->has_put_new;
    return st;
}

/* One conditional PUT. Errors: ERR_CONFLICT for 412 and 409, told apart by *code. */
static status put_if_none(struct blob_state *s, const char *key, const void *bytes, size_t len,
                          int *code)
{
    struct blob_call k = { .header_count = 0 };
    uint8_t sha256[DIGEST_BYTES];
    char md5[DIGEST_MD5_HEX_ROOM];
    status st = OK;

    TRY(blob_call_begin(&k, s, HTTP_PUT, key, ""));
    TRY(blob_call_body(&k, bytes, len));
    TRY(digest_sha256(bytes, len, sha256));
    TRY(digest_md5(bytes, len, md5));
    blob_call_describe(&k, s, "application/json", sha256);
    blob_call_header(&k, "If-None-Match: *");
    k.http.q.keep_headers = BLOB_ENCRYPTION;
    TRY(blob_call_do(&k, s));
    TRY(compare_md5(&k, md5));
out:
    *code = k.http.r.code;
    blob_call_end(&k);
    return st;
}

static status head(struct blob_state *s, const char *key, struct blob_info *info);

/* Is what is there what we put? Owner and SHA-256 say so where the store keeps them, else the bytes
 * do. */
static status is_ours(struct blob_state *s, const char *key, const void *bytes, size_t len)
{
    struct blob_info info = { 0 };
    uint8_t sha256[DIGEST_BYTES];
    char hex[DIGEST_HEX_ROOM];
    status st = OK;

    TRY(head(s, key, &info));
    TRY(digest_sha256(bytes, len, sha256));
    if (s->owner && *info.owner && strcmp(info.owner, s->owner) != 0)
        TRY(FAIL(ERR_CONFLICT, "%s: exists already, by %s", key, info.owner));
    if (info.bytes == len && strcmp(info.sha256_hex, digest_hex(sha256, hex)) == 0)
        return OK;
    TRY(blob_compare(s, key, bytes, len));
out:
    return st;
}

static status put_new(struct blob_state *s, const char *key, const void *bytes, size_t len)
{
    status st = blob_s3_probe(s);

    if (st != OK)
        return st;
    if (!s->has_put_new)
        return FAIL(ERR_BADARG,
                    "%s://%s: no conditional PUT (If-None-Match) there, so that two writers of "
                    "one key could both succeed; give each its own key",
                    url_scheme_name(s->s3.endpoint.scheme), s->s3.endpoint.host);
    for (int races = 0;; races++) {
        int code = 0;

        st = put_if_none(s, key, bytes, len, &code);
        if (st != ERR_CONFLICT)
            return st;
        st = is_ours(s, key, bytes, len);
        if (code != 409 || st != ERR_NOTFOUND || races == RACES_MAX)
            return st;
    }
}

/* --- getting -------------------------------------------------------------------------------- */

static status get(struct blob_state *s, const char *key, struct buf *out)
{
    struct blob_call k = { .header_count = 0 };
    const struct http_response *r = &k.http.r;
    status st = OK;

    buf_reset(out);
    TRY(blob_call_begin(&k, s, HTTP_GET, key, ""));
    k.http.q.response_bytes_max = out->max_bytes ? out->max_bytes : BUF_MAX_DEFAULT;
    st = blob_call_do(&k, s);
    if (st == ERR_BADARG && r->code == 200)
        st = ERR_FULL; /* the sentence speaks of the limit */
    TRY(st);
    TRY(buf_append(out, r->body.data, r->body.len));
out:
    blob_call_end(&k);
    return st;
}

/* The copy need not survive a power cut, the object does: so no folder is synced here. */
static status get_to_file(struct blob_state *s, const char *key, const char *path)
{
    struct blob_call k = { .header_count = 0 };
    char id[11], tmp[FILE_PATH_BYTES] = "";
    int fd = -1;
    status st = OK;

    TRY(blob_call_begin(&k, s, HTTP_GET, key, ""));
    TRY(random_id(id, sizeof(id)));
    if ((size_t)snprintf(tmp, sizeof(tmp), "%s.%s.tmp", path, id) >= sizeof(tmp))
        TRY(file_errno(ENAMETOOLONG, path));
    fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        TRY(file_errno(errno, path));
    k.http.q.response_fd = fd;
    k.http.q.response_bytes_max = INT64_MAX;
    TRY(blob_call_do(&k, s));
    /* A try that was cut short may have left more behind than the last one wrote. */
    if (ftruncate(fd, (off_t)k.http.r.body_bytes) != 0 || fsync(fd) != 0 || rename(tmp, path) != 0)
        TRY(file_errno(errno, path));
out:
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && st != OK)
        unlink(tmp);
    blob_call_end(&k);
    return st;
}

/* The value of our metadata called name, of a finished HEAD. */
static void copy_meta(const struct blob_call *k, const char *name, char *dst, size_t room)
{
    const char *at = k->http.r.kept.data ? strstr(k->http.r.kept.data, name) : NULL;

    if (at)
        snprintf(dst, room, "%.*s", (int)strcspn(at + strlen(name), "\n"), at + strlen(name));
}

static status head(struct blob_state *s, const char *key, struct blob_info *info)
{
    struct blob_call k = { .header_count = 0 };
    status st = OK;

    TRY(blob_call_begin(&k, s, HTTP_HEAD, key, ""));
    k.http.q.keep_headers = META;
    TRY(blob_call_do(&k, s));
    *info = (struct blob_info){ .bytes = k.http.r.body_bytes };
    copy_meta(&k, META "sha256: ", info->sha256_hex, sizeof(info->sha256_hex));
    copy_meta(&k, META "owner: ", info->owner, sizeof(info->owner));
    snprintf(info->etag, sizeof(info->etag), "%s", k.http.r.etag);
out:
    blob_call_end(&k);
    return st;
}

static status presign(struct blob_state *s, const char *key, int seconds, char *dst, size_t room)
{
    struct blob_call k = { .header_count = 0 };
    struct url u;
    const struct sigv4_request q = { .method = "GET", .url = &u, .wall_ms = clock_wall_ms() };
    status st = OK;

    TRY(blob_call_begin(&k, s, HTTP_GET, key, ""));
    TRY(url_parse(&u, k.url));
    TRY(sigv4_presign(NULL, &k.sign, &q, seconds, dst, room));
out:
    blob_call_end(&k);
    return st;
}

static status url(const struct blob_state *s, const char *key, char *dst, size_t room)
{
    int len = snprintf(dst, room, "s3://%s/%s%s", s->bucket, s->prefix, key);

    if (len < 0 || (size_t)len >= room)
        return FAIL(ERR_BADARG, "s3://%s/%s%s: no room for this address", s->bucket, s->prefix,
                    key);
    return OK;
}

const struct blob_backend blob_s3 = {
    .open = open_bucket,
    .put = put,
    .has_put_new = has_put_new,
    .put_new = put_new,
    .get = get,
    .get_to_file = get_to_file,
    .head = head,
    .list = blob_s3_list,
    .remove = blob_s3_remove,
    .presign = presign,
    .url = url,
};
