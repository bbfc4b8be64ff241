/* S3 and its relatives. Every request is signed and every body's SHA-256 is part of the signature,
 * so the server refuses damaged uploads.
 *
 * put_new is a PUT with If-None-Match: *. CAREFUL: when its first answer is lost, the retry is
 * told 412 by its own success; so a refusal is always followed by a look at what is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/random.h"
#include "common/blob_priv.h"

/* Times that put_new starts again after 409: another conditional PUT was under way and came to
 * nothing. */
#define RACES_MAX 3

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
    if (!*s->s3.access_key)
        TRY(FAIL(ERR_BADARG,
                 "%s: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                 "or a credentials file",
                 c->url));
    TRY(http_open(&s->http, &http));
out:
    return st;
}

/* A request and what it points to. */
struct call {
    struct http_request q;
    struct sigv4_signer sign;
    struct http_response r;
    char url[URL_ROOM];
};

static status begin(struct call *k, struct blob_state *s, const char *key, enum http_method method)
{
    char full[2 * BLOB_KEY_MAX];

    memset(k, 0, sizeof(*k));
    k->sign = s3_signer(&s->s3);
    k->q.method = method;
    k->q.url = k->url;
    k->q.sign = &k->sign;
    k->q.timeout_ms = s->timeout_ms;
    k->q.cancel = s->cancel;
    snprintf(full, sizeof(full), "%s%s", s->prefix, key);
    return s3_address(&s->s3, s->bucket, full, k->url, sizeof(k->url));
}

/* Do it; anything but 2xx is an error. */
static status finish(struct call *k, struct blob_state *s)
{
    status st = http_do(&s->http, &k->q, &k->r);

    return st == OK ? http_check(&k->q, &k->r) : st;
}

static status put(struct blob_state *s, const char *key, const struct mapping *content,
                  const char *content_type, const uint8_t sha256[DIGEST_BYTES])
{
    struct call k;
    char type[128], hex[DIGEST_HEX_ROOM];
    status st = OK;

    TRY(begin(&k, s, key, HTTP_PUT));
    snprintf(type, sizeof(type), "Content-Type: %s", content_type);
    k.q.headers[0] = type;
    k.q.body = content->data;
    k.q.body_bytes = content->bytes;
    k.q.body_sha256_hex = digest_hex(sha256, hex);
    TRY(finish(&k, s));
out:
    http_response_free(&k.r);
    return st;
}

/* One conditional PUT. Errors: ERR_CONFLICT for 412 and 409, told apart by *code. */
static status put_if_none(struct blob_state *s, const char *key, const void *bytes, size_t len,
                          int *code)
{
    struct call k;
    uint8_t sha256[DIGEST_BYTES];
    char hex[DIGEST_HEX_ROOM];
    status st = OK;

    TRY(begin(&k, s, key, HTTP_PUT));
    TRY(digest_sha256(bytes, len, sha256));
    k.q.headers[0] = "Content-Type: application/json";
    k.q.headers[1] = "If-None-Match: *";
    k.q.body = bytes;
    k.q.body_bytes = len;
    k.q.body_sha256_hex = digest_hex(sha256, hex);
    TRY(finish(&k, s));
out:
    *code = k.r.code;
    http_response_free(&k.r);
    return st;
}

static status put_new(struct blob_state *s, const char *key, const void *bytes, size_t len)
{
    for (int races = 0;; races++) {
        int code = 0;
        status st = put_if_none(s, key, bytes, len, &code);

        if (code == 501)
            return FAIL(ERR_BADARG,
                        "%s://%s: no conditional PUT (If-None-Match) there, and without "
                        "it two attempts could both publish; use a store that has it",
                        url_scheme_name(s->s3.endpoint.scheme), s->s3.endpoint.host);
        if (st != ERR_CONFLICT)
            return st;
        st = blob_compare(s, key, bytes, len);
        if (code != 409 || st != ERR_NOTFOUND || races == RACES_MAX)
            return st;
    }
}

static status get(struct blob_state *s, const char *key, struct buf *out)
{
    struct call k;
    status st = OK;

    buf_reset(out);
    TRY(begin(&k, s, key, HTTP_GET));
    k.q.response_bytes_max = out->max_bytes ? out->max_bytes : BUF_MAX_DEFAULT;
    st = finish(&k, s);
    if (st == ERR_BADARG && k.r.code == 200)
        st = ERR_FULL; /* the sentence speaks of the limit */
    TRY(st);
    TRY(buf_append(out, k.r.body.data, k.r.body.len));
out:
    http_response_free(&k.r);
    return st;
}

/* The copy need not survive a power cut, the object does: so no folder is synced here. */
static status get_to_file(struct blob_state *s, const char *key, const char *path)
{
    struct call k;
    char id[11], tmp[FILE_PATH_BYTES] = "";
    int fd = -1;
    status st = OK;

    TRY(begin(&k, s, key, HTTP_GET));
    TRY(random_id(id, sizeof(id)));
    if ((size_t)snprintf(tmp, sizeof(tmp), "%s.%s.tmp", path, id) >= sizeof(tmp))
        TRY(file_errno(ENAMETOOLONG, path));
    fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        TRY(file_errno(errno, path));
    k.q.response_fd = fd;
    k.q.response_bytes_max = INT64_MAX;
    TRY(finish(&k, s));
    /* A try that was cut short may have left more behind than the last one wrote. */
    if (ftruncate(fd, (off_t)k.r.body_bytes) != 0 || fsync(fd) != 0 || rename(tmp, path) != 0)
        TRY(file_errno(errno, path));
out:
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && st != OK)
        unlink(tmp);
    http_response_free(&k.r);
    return st;
}

static status head(struct blob_state *s, const char *key, struct blob_info *info)
{
    struct call k;
    status st = OK;

    TRY(begin(&k, s, key, HTTP_HEAD));
    TRY(finish(&k, s));
    info->bytes = k.r.body_bytes;
out:
    http_response_free(&k.r);
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
    .put_new = put_new,
    .get = get,
    .get_to_file = get_to_file,
    .head = head,
    .url = url,
};
