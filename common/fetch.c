#include "common/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/http.h"

#define SHOWN_ROOM 160

/* A directory that files may be read below. */
struct root {
    char path[FILE_PATH_BYTES];     /* absolute as configured */
    char resolved[FILE_PATH_BYTES]; /* the same without links */
    int fd;
};

struct fetch_state {
    struct root roots[FETCH_ROOTS_MAX];
    int root_count;
    struct cache cache; /* closed when there is none */
    bool (*is_wanted)(const void *bytes, size_t len);
    const char *wanted;
    struct http guarded; /* for strangers' URLs */
    struct http trusted; /* for the S3 endpoint, which the operator names */
    struct s3 s3;
    size_t max_bytes;
    int timeout_ms;
};

/* path, absolute, without following links. */
static status make_absolute(char *dst, size_t room, const char *path)
{
    char cwd[FILE_PATH_BYTES];

    if (path[0] == '/')
        return file_join(dst, room, "", path);
    if (!getcwd(cwd, sizeof(cwd)))
        return file_errno(errno, ".");
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    return strcmp(path, ".") == 0 ? file_join(dst, room, "", cwd) : file_join(dst, room, cwd, path);
}

static status open_root(struct root *r, const char *path)
{
    char resolved[PATH_MAX];
    size_t len;
    status st = OK;

    r->fd = -1;
    TRY(make_absolute(r->path, sizeof(r->path), path));
    for (len = strlen(r->path); len > 1 && r->path[len - 1] == '/'; len--)
        r->path[len - 1] = '\0';
    r->fd = open(r->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (r->fd < 0 && errno == ENOENT)
        TRY(FAIL(ERR_NOTFOUND, "input_root: %s: no such folder; make it or name another", path));
    if (r->fd < 0 || !realpath(r->path, resolved))
        TRY(file_errno(errno, path));
    TRY(file_join(r->resolved, sizeof(r->resolved), "", resolved));
out:
    return st;
}

/* roots: paths with ":" between. */
static status open_roots(struct fetch_state *s, const char *roots)
{
    char path[FILE_PATH_BYTES];
    status st = OK;

    while (*roots) {
        size_t len = strcspn(roots, ":");

        if (s->root_count == FETCH_ROOTS_MAX)
            TRY(FAIL(ERR_BADARG, "input_root: more than %d folders", FETCH_ROOTS_MAX));
        if (len == 0 || len >= sizeof(path))
            TRY(FAIL(ERR_BADARG, "input_root: a folder of %zu characters, want 1 to %zu", len,
                     sizeof(path) - 1));
        memcpy(path, roots, len);
        path[len] = '\0';
        TRY(open_root(&s->roots[s->root_count++], path));
        roots += len + (roots[len] == ':');
    }
out:
    return st;
}

status fetch_open(struct fetch *f, const struct fetch_config *c)
{
    const struct http_config guarded = { .allow_private_hosts = c->allow_private_hosts,
                                         .ca_file = c->ca_file };
    const struct http_config trusted = { .allow_private_hosts = true, .ca_file = c->ca_file };
    struct fetch_state *s = calloc(1, sizeof(*s));
    status st = OK;

    *f = (struct fetch){ .state = s };
    if (!s)
        return FAIL(ERR_NOMEM, "no memory for a fetcher");
    s->max_bytes = c->max_bytes ? c->max_bytes : LIMIT_IMAGE_BYTES;
    s->timeout_ms = c->timeout_ms ? c->timeout_ms : FETCH_TIMEOUT_MS_DEFAULT;
    s->is_wanted = c->is_wanted;
    s->wanted = c->wanted;
    TRY(open_roots(s, c->input_root ? c->input_root : ""));
    if (c->cache.dir && *c->cache.dir)
        TRY(cache_open(&s->cache, &c->cache));
    TRY(s3_open(&s->s3, &c->s3));
    TRY(http_open(&s->guarded, &guarded));
    TRY(http_open(&s->trusted, &trusted));
    return OK;
out:
    fetch_close(f);
    return st;
}

void fetch_close(struct fetch *f)
{
    struct fetch_state *s = f->state;

    if (!s)
        return;
    http_close(&s->guarded);
    http_close(&s->trusted);
    s3_close(&s->s3);
    cache_close(&s->cache);
    for (int i = 0; i < s->root_count; i++) {
        if (s->roots[i].fd >= 0)
            close(s->roots[i].fd);
    }
    free(s);
    f->state = NULL;
}

/* --- files ---------------------------------------------------------------------------------- */

/* path below root, or NULL. */
static const char *below(const char *path, const char *root)
{
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

    if (strncmp(path, root, len) != 0 || path[len] != '/')
        return NULL;
    path += len;
    path += strspn(path, "/");
    return *path ? path : NULL;
}

static status outside(const struct fetch_state *s, const char *path)
{
    if (!s->root_count)
        return FAIL(ERR_BADARG,
                    "%s: this worker reads no files; set its input_root to the folder "
                    "with the images, or give an http(s) or s3 URL",
                    path);
    return FAIL(ERR_BADARG,
                "%s: outside the worker's input_root %s%s (or a link that leads out of it); "
                "put the image there",
                path, s->roots[0].path, s->root_count > 1 ? " and others" : "");
}

/* The root that path is below, the one that is given first when they overlap; *rest: the path from
 * there. */
static const struct root *find_root(const struct fetch_state *s, const char *path,
                                    const char **rest)
{
    for (int i = 0; i < s->root_count; i++) {
        *rest = below(path, s->roots[i].path);
        if (!*rest)
            *rest = below(path, s->roots[i].resolved);
        if (*rest)
            return &s->roots[i];
    }
    return NULL;
}

static status open_below_root(struct fetch_state *s, const char *path, int *fd)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    const char *rest;
    const struct root *root = find_root(s, path, &rest);
    long got;

    if (!root)
        return outside(s, path);
    got = syscall(SYS_openat2, root->fd, rest, &how, sizeof(how));
    if (got < 0 && errno == EXDEV)
        return outside(s, path);
    if (got < 0 && errno == ENOSYS)
        return FAIL(ERR_IO,
                    "%s: this kernel has no openat2, which guards input_root; want Linux 5.6 "
                    "or later",
                    path);
    if (got < 0)
        return file_errno(errno, path);
    *fd = (int)got;
    return OK;
}

static status too_large(const struct fetch_state *s, const char *name)
{
    return FAIL(ERR_BADARG, "%s: more than %zu bytes, the limit of an input", name, s->max_bytes);
}

static status read_all(struct fetch_state *s, int fd, const char *path, struct buf *out)
{
    size_t start = out->len;
    status st = OK;

    for (;;) {
        ssize_t got;

        TRY(buf_reserve(out, 64 << 10));
        got = read(fd, out->data + out->len, 64 << 10);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            TRY(file_errno(errno, path));
        if (got == 0)
            break;
        out->len += (size_t)got;
        if (out->len - start > s->max_bytes)
            TRY(too_large(s, path));
    }
    out->data[out->len] = '\0';
out:
    return st;
}

static status get_file(struct fetch_state *s, const struct url *u, struct buf *out)
{
    char name[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct stat info;
    int fd = -1;
    status st = OK;

    TRY(url_decode_path(u, name, sizeof(name)));
    TRY(make_absolute(path, sizeof(path), name));
    TRY(open_below_root(s, path, &fd));
    if (fstat(fd, &info) != 0)
        TRY(file_errno(errno, path));
    if (!S_ISREG(info.st_mode))
        TRY(FAIL(ERR_BADARG, "%s: not a regular file", path));
    if ((uint64_t)info.st_size > s->max_bytes)
        TRY(too_large(s, path));
    TRY(read_all(s, fd, path, out));
out:
    if (fd >= 0)
        close(fd);
    return st;
}

/* --- http and s3 ---------------------------------------------------------------------------- */

/* What the cache asks for: one URL. */
struct remote {
    struct fetch_state *s;
    const char *url; /* as the job gave it, for sentences */
    const struct url *u;
    const atomic_bool *cancel;
};

/* Refuse what no job could use, before it fills the cache. */
static status check_kind(const struct fetch_state *s, const char *url, const void *bytes,
                         size_t len)
{
    char shown[SHOWN_ROOM];

    return !s->is_wanted || s->is_wanted(bytes, len)
               ? OK
               : FAIL(ERR_CORRUPT, "%s: not %s", url_for_people(url, shown, sizeof(shown)),
                      s->wanted);
}

/* etag: of the content that the cache has; its URL may say that nothing has changed. */
static status get_http(const struct remote *r, struct http *h, struct http_request *q,
                       struct buf *out, char etag[CACHE_ETAG_ROOM], bool *is_same)
{
    struct http_response answer = { 0 };
    char header[CACHE_ETAG_ROOM + 32];
    status st = OK;

    q->method = HTTP_GET;
    q->response_bytes_max = r->s->max_bytes;
    q->timeout_ms = r->s->timeout_ms;
    q->cancel = r->cancel;
    if (*etag) {
        snprintf(header, sizeof(header), "If-None-Match: \"%s\"", etag);
        q->headers[0] = header;
    }
    TRY(http_do(h, q, &answer));
    *is_same = *etag && answer.code == 304;
    if (*is_same)
        goto out;
    TRY(http_check(q, &answer));
    TRY(check_kind(r->s, r->url, answer.body.data, answer.body.len));
    TRY(buf_append(out, answer.body.data, answer.body.len));
    snprintf(etag, CACHE_ETAG_ROOM, "%s", answer.etag);
out:
    http_response_free(&answer);
    return st;
}

static status get_s3(const struct remote *r, struct buf *out, char etag[CACHE_ETAG_ROOM],
                     bool *is_same)
{
    struct fetch_state *s = r->s;
    struct sigv4_signer sign;
    char key[URL_ROOM], address[URL_ROOM];
    struct http_request q = { .url = address };
    status st = OK;

    TRY(url_decode_path(r->u, key, sizeof(key)));
    if (!*key)
        TRY(FAIL(ERR_BADARG, "s3://%s: no key; want s3://bucket/key", r->u->host));
    TRY(s3_address(&s->s3, r->u->host, key, address, sizeof(address)));
    TRY(s3_signer(&s->s3, &sign));
    q.sign = *sign.access_key ? &sign : NULL;
    TRY(get_http(r, &s->trusted, &q, out, etag, is_same));
out:
    return st;
}

static status get_remote(void *self, struct buf *out, char etag[CACHE_ETAG_ROOM], bool *is_same)
{
    const struct remote *r = self;
    struct http_request q = { .url = r->url, .follow_redirects = true };

    if (r->u->scheme == URL_S3)
        return get_s3(r, out, etag, is_same);
    return get_http(r, &r->s->guarded, &q, out, etag, is_same);
}

static status get_cached(struct remote *r, struct buf *out)
{
    const struct cache_source source = {
        .self = r, .fetch = get_remote, .cancel = r->cancel, .wait_ms = r->s->timeout_ms
    };
    char etag[CACHE_ETAG_ROOM] = "";
    bool is_same;

    if (r->s->cache.is_open)
        return cache_get(&r->s->cache, r->url, &source, out);
    return get_remote(r, out, etag, &is_same);
}

status fetch_get(struct fetch *f, const char *url, struct buf *out)
{
    struct fetch_state *s = f->state;
    struct url u;
    struct remote remote = { .s = s, .url = url, .u = &u, .cancel = f->cancel };
    status st = OK;

    CHECK(s);
    /* Room for the largest input, the piece that shows it is too large, and what was there. */
    if (out->max_bytes < out->len + s->max_bytes + (128 << 10))
        out->max_bytes = out->len + s->max_bytes + (128 << 10);
    TRY(url_parse(&u, url));
    if (u.scheme == URL_FILE)
        TRY(get_file(s, &u, out));
    else
        TRY(get_cached(&remote, out));
out:
    if (st != OK)
        buf_reset(out);
    return st;
}
