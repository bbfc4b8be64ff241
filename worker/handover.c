#include "worker/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/url.h"

/* A try may take this long, and longer for what is larger than a slow line brings in that time:
 * others wait behind it. */
#define TIMEOUT_MS 60000
#define SLOW_BYTES_PER_MS 256
#define TRIES_MAX 3
#define SENTENCE_ROOM 256

status handover_open(struct handover *h, const struct handover_config *c)
{
    const struct http_config http = { .allow_private_hosts = c->allow_private_hosts,
                                      .ca_file = c->ca_file,
                                      .tries_max = TRIES_MAX };

    return http_open(&h->http, &http);
}

void handover_close(struct handover *h)
{
    http_close(&h->http);
}

/* Say whose fault it is. */
static status tell(status st)
{
    char sentence[SENTENCE_ROOM];

    if (st == OK)
        return OK;
    snprintf(sentence, sizeof(sentence), "%s", status_message());
    return FAIL(st, "put_url: %s", sentence);
}

static status parse(const char *url, struct url *u)
{
    status st = url_parse(u, url);

    if (st == OK && u->scheme != URL_HTTP && u->scheme != URL_HTTPS)
        st = FAIL(ERR_BADARG, "want an http:// or https:// URL");
    return st;
}

status handover_check(const char *url)
{
    struct url u;

    return tell(parse(url, &u));
}

/* Has the query a parameter called name? */
static bool has_param(const char *query, const char *name)
{
    size_t len = strlen(name);

    while (*query) {
        if (strncmp(query, name, len) == 0 && query[len] == '=')
            return true;
        query += strcspn(query, "&");
        query += *query == '&';
    }
    return false;
}

/* Is an ETag of 32 hex digits that of another thing than the content? With keys of a key service it
 * is. Source: Amazon S3 API reference, "Object". */
static bool is_md5(const struct http_response *r)
{
    if (strlen(r->etag) != 32 || r->etag[strspn(r->etag, "0123456789abcdef")])
        return false;
    return !r->kept.data || !strstr(r->kept.data, "encryption: aws:kms");
}

static status check_answer(const struct http_request *q, const struct http_response *r,
                           const char *path, const char *md5)
{
    status st = OK;

    TRY(http_check(q, r));
    if (is_md5(r) && strcmp(r->etag, md5) != 0)
        TRY(FAIL(ERR_IO, "other bytes arrived there than %s has (ETag %s, want %s)", path, r->etag,
                 md5));
out:
    return st;
}

static status put(struct handover *h, const struct url *u, struct http_request *q,
                  const struct handover_file *f)
{
    struct http_response r = { 0 };
    uint8_t actual[DIGEST_BYTES];
    char md5[DIGEST_MD5_HEX_ROOM], type[160];
    status st = OK;

    TRY(digest_range(q->body_fd, f->path, 0, q->body_bytes, NULL, actual));
    if (memcmp(actual, f->sha256, sizeof(actual)) != 0)
        TRY(FAIL(ERR_CORRUPT, "%s: its content changed after its SHA-256 was taken", f->path));
    TRY(digest_md5_range(q->body_fd, f->path, 0, q->body_bytes, md5));
    snprintf(type, sizeof(type), "Content-Type: %s", f->content_type);
    if (!has_param(u->query, "Signature"))
        q->headers[0] = type;
    TRY(http_do(&h->http, q, &r));
    TRY(check_answer(q, &r, f->path, md5));
out:
    http_response_free(&r);
    return st;
}

status handover_put(struct handover *h, const char *url, const struct handover_file *f,
                    const atomic_bool *cancel)
{
    struct http_request q = { .method = HTTP_PUT,
                              .url = url,
                              .body_fd = -1,
                              .keep_headers = "x-amz-server-side-encryption",
                              .cancel = cancel,
                              .until_ms = h->until_ms };
    struct stat info;
    struct url u;
    status st = OK;

    TRY(parse(url, &u));
    q.body_fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (q.body_fd < 0 || fstat(q.body_fd, &info) != 0)
        TRY(file_errno(errno, f->path));
    q.body_bytes = (uint64_t)info.st_size;
    q.timeout_ms = TIMEOUT_MS + (int)(q.body_bytes / SLOW_BYTES_PER_MS);
    TRY(put(h, &u, &q, f));
out:
    if (q.body_fd >= 0)
        close(q.body_fd);
    return tell(st);
}
