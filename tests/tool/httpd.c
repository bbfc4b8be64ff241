/* One thread accepts, one thread serves each connection; one lock guards the objects and the fault.
 * Stopping shuts every socket down, so that threads that wait in recv or stall wake up and end. */
#include "tests/tool/httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/digest.h"
#include "tests/tool/test.h"

#define OBJECTS_MAX 64
#define CONNECTIONS_MAX 256
#define HEAD_BYTES 16384
#define PATH_ROOM 2048

struct object {
    char path[PATH_ROOM];
    char redirect[PATH_ROOM]; /* when not "": where to */
    struct buf bytes;
};

struct httpd_state {
    struct httpd_config config;
    int listener;
    pthread_t acceptor;
    pthread_mutex_t lock;
    struct object objects[OBJECTS_MAX];
    int object_count;
    struct httpd_fault fault;
    char fault_header[PATH_ROOM];
    int faults_left; /* -1: without end */
    int request_count;
    char last_head[HEAD_BYTES];
    int stop_pipe[2]; /* readable once the server stops */
    int fds[CONNECTIONS_MAX];
    pthread_t threads[CONNECTIONS_MAX];
    int connection_count;
};

/* One connection with what was read of it. */
struct connection {
    struct httpd_state *s;
    int fd;
    char head[HEAD_BYTES]; /* of the request, NUL-ended */
    struct buf body;
    char spare[HEAD_BYTES]; /* bytes read beyond the request */
    size_t spare_len;
    char method[16], target[PATH_ROOM];
};

struct answer {
    int code;
    const char *header; /* "Name: value" or NULL */
    const char *body;   /* may hold NULs */
    size_t body_len;
    bool is_head;
    enum httpd_fault_kind fault;
};

static void must(bool condition, const char *what)
{
    if (!condition)
        test_fail(__FILE__, __LINE__, "httpd: %s: %s", what, strerror(errno));
}

/* --- objects -------------------------------------------------------------------------------- */

static struct object *find(struct httpd_state *s, const char *path)
{
    for (int i = 0; i < s->object_count; i++) {
        if (strcmp(s->objects[i].path, path) == 0)
            return &s->objects[i];
    }
    return NULL;
}

static struct object *find_or_add(struct httpd_state *s, const char *path)
{
    struct object *o = find(s, path);

    if (o)
        return o;
    must(s->object_count < OBJECTS_MAX && strlen(path) < PATH_ROOM, "too many objects");
    o = &s->objects[s->object_count++];
    *o = (struct object){ .bytes = { .max_bytes = (size_t)256 << 20 } };
    snprintf(o->path, sizeof(o->path), "%s", path);
    return o;
}

static void store(struct httpd_state *s, const char *path, const void *bytes, size_t len)
{
    struct object *o = find_or_add(s, path);

    buf_reset(&o->bytes);
    must(buf_append(&o->bytes, bytes, len) == OK, "no memory");
}

/* --- bytes in and out ----------------------------------------------------------------------- */

static bool send_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        len -= (size_t)put;
    }
    return true;
}

static bool send_text(int fd, const char *text)
{
    return send_all(fd, text, strlen(text));
}

/* Close so that the other side sees a reset. */
static void reset_connection(int fd)
{
    struct linger now = { 1, 0 };

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void wait_for_stop(const struct connection *c)
{
    struct pollfd p[2] = { { c->s->stop_pipe[0], POLLIN, 0 }, { c->fd, POLLRDHUP, 0 } };

    while (poll(p, 2, -1) < 0 && errno == EINTR)
        continue;
}

/* The value of a header of the request; "" when it is not there. */
static const char *header_value(const struct connection *c, const char *name, char *dst,
                                size_t room)
{
    size_t name_len = strlen(name);

    dst[0] = '\0';
    for (const char *line = strstr(c->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        const char *text = line + 2;

        if (strncasecmp(text, name, name_len) != 0 || text[name_len] != ':')
            continue;
        text += name_len + 1;
        text += strspn(text, " ");
        snprintf(dst, room, "%.*s", (int)strcspn(text, "\r"), text);
        break;
    }
    return dst;
}

static bool read_head(struct connection *c)
{
    size_t len = c->spare_len;
    char *end;

    memcpy(c->head, c->spare, len);
    c->head[len] = '\0';
    while (!(end = strstr(c->head, "\r\n\r\n"))) {
        ssize_t got = recv(c->fd, c->head + len, sizeof(c->head) - len - 1, 0);

        if (got <= 0)
            return false;
        len += (size_t)got;
        c->head[len] = '\0';
    }
    end += 4;
    c->spare_len = len - (size_t)(end - c->head);
    memcpy(c->spare, end, c->spare_len);
    *end = '\0';
    return sscanf(c->head, "%15s %2047s", c->method, c->target) == 2;
}

static bool read_body(struct connection *c)
{
    char value[64];
    size_t want =
        (size_t)strtoull(header_value(c, "Content-Length", value, sizeof(value)), NULL, 10);
    size_t used = want < c->spare_len ? want : c->spare_len;

    buf_reset(&c->body);
    c->body.max_bytes = (size_t)256 << 20;
    if (strcasecmp(header_value(c, "Expect", value, sizeof(value)), "100-continue") == 0 &&
        !send_text(c->fd, "HTTP/1.1 100 Continue\r\n\r\n"))
        return false;
    must(buf_reserve(&c->body, want) == OK && buf_append(&c->body, c->spare, used) == OK, "memory");
    memmove(c->spare, c->spare + used, c->spare_len - used);
    c->spare_len -= used;
    while (c->body.len < want) {
        ssize_t got = recv(c->fd, c->body.data + c->body.len, want - c->body.len, 0);

        if (got <= 0)
            return false;
        c->body.len += (size_t)got;
    }
    return true;
}

/* Send it; may the connection go on? */
static bool send_answer(const struct connection *c, const struct answer *a)
{
    char head[PATH_ROOM + 512], chunk[32];
    size_t send_len = a->is_head ? 0 : a->body_len;
    bool is_chunked = a->fault == HTTPD_CHUNKED;
    int len = snprintf(head, sizeof(head), "HTTP/1.1 %d Answer\r\n%s%s", a->code,
                       a->header ? a->header : "", a->header ? "\r\n" : "");

    if (is_chunked)
        len +=
            snprintf(head + len, sizeof(head) - (size_t)len, "Transfer-Encoding: chunked\r\n\r\n");
    else
        len += snprintf(head + len, sizeof(head) - (size_t)len, "Content-Length: %zu\r\n\r\n",
                        a->body_len);
    if (a->fault == HTTPD_SHORT_BODY)
        send_len /= 2;
    if (a->fault == HTTPD_TRICKLE && send_len > 1)
        send_len = 1;
    if (!send_all(c->fd, head, (size_t)len))
        return false;
    snprintf(chunk, sizeof(chunk), "%zx\r\n", send_len);
    if (is_chunked && send_len && !send_text(c->fd, chunk))
        return false;
    if (!send_all(c->fd, a->body, send_len))
        return false;
    if (is_chunked && !send_text(c->fd, send_len ? "\r\n0\r\n\r\n" : "0\r\n\r\n"))
        return false;
    if (a->fault == HTTPD_TRICKLE)
        wait_for_stop(c);
    return a->fault != HTTPD_SHORT_BODY && a->fault != HTTPD_TRICKLE;
}

/* --- requests ------------------------------------------------------------------------------- */

/* NULL, or the S3 error code that the request deserves. */
static const char *check_s3(const struct connection *c)
{
    const struct httpd_config *g = &c->s->config;
    char hash[80], token[4096], hex[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];
    const struct httpd_signed r = {
        .method = c->method,
        .target = c->target,
        .headers = strstr(c->head, "\r\n") + 2,
        .body_hash = hash,
        .access_key = g->access_key,
        .secret_key = g->secret_key,
        .region = g->region ? g->region : "us-east-1",
    };

    header_value(c, "x-amz-content-sha256", hash, sizeof(hash));
    header_value(c, "x-amz-security-token", token, sizeof(token));
    must(digest_sha256(c->body.data, c->body.len, sha256) == OK, "digest");
    if (!*hash)
        return "MissingContentSha256";
    if (strcmp(token, g->session_token ? g->session_token : "") != 0)
        return "InvalidToken";
    if (strcmp(hash, digest_hex(sha256, hex)) != 0)
        return "XAmzContentSHA256Mismatch";
    return httpd_check_signature(&r);
}

static void take_fault(struct httpd_state *s, struct httpd_fault *f, char *header, size_t room)
{
    *f = (struct httpd_fault){ 0 };
    if (s->faults_left == 0)
        return;
    if (s->faults_left > 0)
        s->faults_left--;
    *f = s->fault;
    snprintf(header, room, "%s", s->fault_header);
    f->header = *header ? header : NULL;
}

/* What the objects have to say. Called with the lock held; the body points into them. */
static void do_request(struct connection *c, struct answer *a, char *location)
{
    struct object *o = find(c->s, c->target);
    char value[16];

    if (strcmp(c->method, "PUT") == 0) {
        if (o && strcmp(header_value(c, "If-None-Match", value, sizeof(value)), "*") == 0) {
            a->code = 412;
            return;
        }
        store(c->s, c->target, c->body.data, c->body.len);
        a->code = 200;
    } else if (!o) {
        a->code = 404;
    } else if (*o->redirect) {
        a->code = 302;
        snprintf(location, PATH_ROOM, "Location: %.2000s", o->redirect);
        a->header = location;
    } else {
        a->code = 200;
        a->header = "ETag: \"etag-of-it\"";
        a->body = o->bytes.data;
        a->body_len = o->bytes.len;
    }
}

/* Answer one request; may the connection go on? */
static bool serve(struct connection *c)
{
    struct httpd_state *s = c->s;
    struct httpd_fault f;
    struct answer a = { .is_head = strcmp(c->method, "HEAD") == 0, .body = "" };
    char fault_header[PATH_ROOM], location[PATH_ROOM], error[256];
    const char *refusal = s->config.access_key ? check_s3(c) : NULL;
    bool goes_on;

    pthread_mutex_lock(&s->lock);
    s->request_count++;
    snprintf(s->last_head, sizeof(s->last_head), "%s", c->head);
    take_fault(s, &f, fault_header, sizeof(fault_header));
    a.fault = f.kind;
    if (refusal) {
        snprintf(error, sizeof(error), "<Error><Message>%s</Message></Error>", refusal);
        a = (struct answer){ .code = 403, .body = error, .body_len = strlen(error) };
    } else if (f.kind == HTTPD_STATUS) {
        a.code = f.code;
        a.header = f.header;
    } else if (f.kind != HTTPD_RESET && f.kind != HTTPD_STALL) {
        do_request(c, &a, location);
    }
    if (f.kind == HTTPD_RESET || f.kind == HTTPD_LOST || f.kind == HTTPD_STALL) {
        pthread_mutex_unlock(&s->lock);
        if (f.kind == HTTPD_STALL)
            wait_for_stop(c);
        reset_connection(c->fd);
        return false;
    }
    /* CAREFUL: the lock is held while sending; a trickle waits, so its body must not be needed. */
    if (f.kind == HTTPD_TRICKLE) {
        pthread_mutex_unlock(&s->lock);
        return send_answer(c, &a);
    }
    goes_on = send_answer(c, &a);
    pthread_mutex_unlock(&s->lock);
    return goes_on;
}

static void *connection_main(void *self)
{
    struct connection *c = self;

    while (read_head(c) && read_body(c) && serve(c))
        continue;
    shutdown(c->fd, SHUT_RDWR);
    pthread_mutex_lock(&c->s->lock);
    for (int i = 0; i < c->s->connection_count; i++) {
        if (c->s->fds[i] == c->fd)
            c->s->fds[i] = -1;
    }
    pthread_mutex_unlock(&c->s->lock);
    close(c->fd);
    buf_free(&c->body);
    free(c);
    return NULL;
}

static void *acceptor_main(void *self)
{
    struct httpd_state *s = self;
    struct pollfd p[2] = { { s->stop_pipe[0], POLLIN, 0 }, { s->listener, POLLIN, 0 } };

    for (;;) {
        struct connection *c;
        int fd;

        if (poll(p, 2, -1) < 0 && errno == EINTR)
            continue;
        if (p[0].revents)
            return NULL;
        fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        c = calloc(1, sizeof(*c));
        must(c && s->connection_count < CONNECTIONS_MAX, "too many connections");
        c->s = s;
        c->fd = fd;
        pthread_mutex_lock(&s->lock);
        s->fds[s->connection_count] = fd;
        must(pthread_create(&s->threads[s->connection_count++], NULL, connection_main, c) == 0,
             "no thread");
        pthread_mutex_unlock(&s->lock);
    }
}

/* --- what tests call ------------------------------------------------------------------------ */

void httpd_start(struct httpd *d, const struct httpd_config *c)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(a);
    struct httpd_state *s = calloc(1, sizeof(*s));

    must(s != NULL, "no memory");
    s->config = *c;
    must(pthread_mutex_init(&s->lock, NULL) == 0 && pipe(s->stop_pipe) == 0, "pipe");
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(s->listener >= 0 && bind(s->listener, (struct sockaddr *)&a, sizeof(a)) == 0 &&
             listen(s->listener, 64) == 0 && getsockname(s->listener, (void *)&a, &len) == 0,
         "listen");
    must(pthread_create(&s->acceptor, NULL, acceptor_main, s) == 0, "no thread");
    d->state = s;
    d->port = ntohs(a.sin_port);
}

void httpd_stop(struct httpd *d)
{
    struct httpd_state *s = d->state;

    if (!s)
        return;
    must(write(s->stop_pipe[1], "x", 1) == 1, "stop");
    pthread_join(s->acceptor, NULL);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->connection_count; i++) {
        if (s->fds[i] >= 0)
            shutdown(s->fds[i], SHUT_RDWR);
    }
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->connection_count; i++)
        pthread_join(s->threads[i], NULL);
    for (int i = 0; i < s->object_count; i++)
        buf_free(&s->objects[i].bytes);
    close(s->listener);
    close(s->stop_pipe[0]);
    close(s->stop_pipe[1]);
    pthread_mutex_destroy(&s->lock);
    free(s);
    d->state = NULL;
}

void httpd_store(struct httpd *d, const char *path, const void *bytes, size_t len)
{
    pthread_mutex_lock(&d->state->lock);
    store(d->state, path, bytes, len);
    pthread_mutex_unlock(&d->state->lock);
}

bool httpd_stored(struct httpd *d, const char *path, struct buf *out)
{
    struct object *o;

    pthread_mutex_lock(&d->state->lock);
    o = find(d->state, path);
    if (o && out)
        must(buf_append(out, o->bytes.data, o->bytes.len) == OK, "no memory");
    pthread_mutex_unlock(&d->state->lock);
    return o != NULL;
}

void httpd_redirect(struct httpd *d, const char *path, const char *to)
{
    pthread_mutex_lock(&d->state->lock);
    snprintf(find_or_add(d->state, path)->redirect, PATH_ROOM, "%s", to);
    pthread_mutex_unlock(&d->state->lock);
}

void httpd_fault(struct httpd *d, const struct httpd_fault *f)
{
    struct httpd_state *s = d->state;

    pthread_mutex_lock(&s->lock);
    s->fault = *f;
    s->faults_left = f->kind == HTTPD_NO_FAULT ? 0 : f->count ? f->count : -1;
    snprintf(s->fault_header, sizeof(s->fault_header), "%s", f->header ? f->header : "");
    pthread_mutex_unlock(&s->lock);
}

int httpd_requests(const struct httpd *d)
{
    int count;

    pthread_mutex_lock(&d->state->lock);
    count = d->state->request_count;
    pthread_mutex_unlock(&d->state->lock);
    return count;
}

void httpd_last_head(const struct httpd *d, char *dst, size_t room)
{
    pthread_mutex_lock(&d->state->lock);
    snprintf(dst, room, "%s", d->state->last_head);
    pthread_mutex_unlock(&d->state->lock);
}
