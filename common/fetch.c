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

struct fetch_state {
    char root[FILE_PATH_BYTES];     /* input_root, absolute as configured; "" when there is none */
    char resolved[FILE_PATH_BYTES]; /* the same without links */
    int root_fd;                    /* -1 when there is none */
    struct http guarded;            /* for strangers' URLs */
    struct http trusted;            /* for the S3 endpoint, which the operator names */
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

static status open_root(struct fetch_state *s, const char *root)
{
    char resolved[PATH_MAX];
    size_t len;
    status st = OK;

    TRY(make_absolute(s->root, sizeof(s->root), root));
    for (len = strlen(s->root); len > 1 && s->root[len - 1] == '/'; len--)
        s->root[len - 1] = '\0';
    s->root_fd = open(s->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->root_fd < 0 && errno == ENOENT)
        TRY(FAIL(ERR_NOTFOUND, "input_root: %s: no such folder; make it or name another", root));
    if (s->root_fd < 0 || !realpath(s->root, resolved))
        TRY(file_errno(errno, root));
    TRY(file_join(s->resolved, sizeof(s->resolved), "", resolved));
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
    s->root_fd = -1;
    s->max_bytes = c->max_bytes ? c->max_bytes : LIMIT_IMAGE_BYTES;
    s->timeout_ms = c->timeout_ms ? c->timeout_ms : FETCH_TIMEOUT_MS_DEFAULT;
    if (c->input_root && *c->input_root)
        TRY(open_root(s, c->input_root));
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
    if (s->root_fd >= 0)
        close(s->root_fd);
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
    if (s->root_fd < 0)
        return FAIL(ERR_BADARG,
                    "%s: this worker reads no files; set its input_root to the folder "
                    "with the images, or give an http(s) or s3 URL",
                    path);
    return FAIL(ERR_BADARG,
                "%s: outside the worker's input_root %s (or a link that leads out of it); "
                "put the image there",
                path, s->root);
}

static status open_below_root(struct fetch_state *s, const char *path, int *fd)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    const char *rest = below(path, s->root);
    long got;

    if (!rest)
        rest = below(path, s->resolved);
    if (s->root_fd < 0 || !rest)
        return outside(s, path);
    got = syscall(SYS_openat2, s->root_fd, rest, &how, sizeof(how));
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

static status get_http(struct fetch_state *s, struct http *h, struct http_request *q,
                       struct buf *out)
{
    struct http_response r = { 0 };
    status st = OK;

    q->method = HTTP_GET;
    q->response_bytes_max = s->max_bytes;
    q->timeout_ms = s->timeout_ms;
    TRY(http_do(h, q, &r));
    TRY(http_check(q, &r));
    TRY(buf_append(out, r.body.data, r.body.len));
out:
    http_response_free(&r);
    return st;
}

static status get_s3(struct fetch_state *s, const struct url *u, const atomic_bool *cancel,
                     struct buf *out)
{
    const struct sigv4_signer sign = s3_signer(&s->s3);
    char key[URL_ROOM], address[URL_ROOM];
    struct http_request q = { .url = address, .cancel = cancel };
    status st = OK;

    TRY(url_decode_path(u, key, sizeof(key)));
    if (!*key)
        TRY(FAIL(ERR_BADARG, "s3://%s: no key; want s3://bucket/key", u->host));
    TRY(s3_address(&s->s3, u->host, key, address, sizeof(address)));
    q.sign = *s->s3.access_key ? &sign : NULL;
    TRY(get_http(s, &s->trusted, &q, out));
out:
    return st;
}

status fetch_get(struct fetch *f, const char *url, struct buf *out)
{
    struct fetch_state *s = f->state;
    struct http_request q = { .url = url, .follow_redirects = true, .cancel = f->cancel };
    struct url u;
    status st = OK;

    CHECK(s);
    /* Room for the largest input, the piece that shows it is too large, and what was there. */
    if (out->max_bytes < out->len + s->max_bytes + (128 << 10))
        out->max_bytes = out->len + s->max_bytes + (128 << 10);
    TRY(url_parse(&u, url));
    if (u.scheme == URL_FILE)
        TRY(get_file(s, &u, out));
    else if (u.scheme == URL_S3)
        TRY(get_s3(s, &u, f->cancel, out));
    else
        TRY(get_http(s, &s->guarded, &q, out));
out:
    if (st != OK)
        buf_reset(out);
    return st;
}
