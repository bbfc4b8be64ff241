#include "common/redis.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "common/base/buf.h"
#include "common/base/check.h"

#define DEFAULT_PORT 6379

/* Replies and commands under way: a broker's turn is far below. */
#define OUT_BYTES_MAX ((size_t)256 << 20)
#define READ_BYTES ((size_t)64 << 10)

struct redis {
    int fd;
    struct tls *tls; /* NULL: plain */
    bool is_tls;
    struct tls_files files;      /* valid while candidates are tried */
    char host[256];              /* is_tls: whom the certificate must name */
    bool is_connected;           /* the connect was seen to succeed */
    char label[300];             /* for sentences */
    redisReader *reader;         /* parses what arrives */
    redisReply *reply;           /* handed out last */
    struct buf out;              /* commands */
    size_t sent_bytes;           /* of out */
    char in[READ_BYTES];         /* what one read brings */
    struct addrinfo *candidates; /* addresses of the host */
    const struct addrinfo *next; /* to be tried when this one refuses */
};

static const redisReply nil_reply = { .type = REDIS_REPLY_NIL };

/* --- addresses --- */

static status bad_url(const char *url)
{
    return FAIL(ERR_BADARG,
                "redis_url: \"%.100s\" is not redis://HOST:PORT[/DB], rediss:// for TLS, or "
                "unix:///PATH[?db=N]",
                url);
}

static bool read_number(const char *text, int max, int *value)
{
    char *end;
    long number = strtol(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || number > max)
        return false;
    *value = (int)number;
    return true;
}

static status parse_unix(struct redis_address *a, const char *url)
{
    const char *path = url + strlen("unix://");
    const char *query = strstr(path, "?db=");
    size_t len = query ? (size_t)(query - path) : strlen(path);

    if (*path != '/' || (query && !read_number(query + 4, 15, &a->db)))
        return bad_url(url);
    if (len >= sizeof(a->path))
        return FAIL(ERR_BADARG,
                    "redis_url: the socket's path has %zu bytes, the limit is %zu; use "
                    "a shorter folder",
                    len, sizeof(a->path) - 1);
    a->is_unix = true;
    memcpy(a->path, path, len);
    snprintf(a->label, sizeof(a->label), "%s", a->path);
    return OK;
}

static status parse_tcp(struct redis_address *a, const char *url)
{
    char host[sizeof(a->host)];
    const char *start = strstr(url, "://") + 3;
    size_t len = strcspn(start, "/");
    const char *db = start[len] ? start + len + 1 : "";
    char *colon;

    if (memchr(start, '@', len))
        return FAIL(ERR_BADARG, "redis_url: no password in the url, please; write it into a file "
                                "and set redis_password_file");
    if (len == 0 || len >= sizeof(host) || (*db && !read_number(db, 15, &a->db)))
        return bad_url(url);
    memcpy(host, start, len);
    host[len] = '\0';
    a->port = DEFAULT_PORT;
    colon = strrchr(host, ':');
    if (colon && !strchr(colon, ']')) {
        if (!read_number(colon + 1, 65535, &a->port) || a->port == 0)
            return bad_url(url);
        *colon = '\0';
    }
    len = strlen(host);
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        memmove(host, host + 1, len - 1);
    }
    if (!host[0])
        return bad_url(url);
    memcpy(a->host, host, sizeof(host));
    snprintf(a->label, sizeof(a->label), "%s:%d", a->host, a->port);
    return OK;
}

status redis_parse_url(struct redis_address *address, const char *url)
{
    memset(address, 0, sizeof(*address));
    if (strncmp(url, "unix://", 7) == 0)
        return parse_unix(address, url);
    address->is_tls = strncmp(url, "rediss://", 9) == 0;
    if (address->is_tls || strncmp(url, "redis://", 8) == 0)
        return parse_tcp(address, url);
    return bad_url(url);
}

/* --- connecting --- */

static status refused(const struct redis *r, int code)
{
    bool is_file = r->label[0] == '/';

    if (code == EPROTO && r->tls)
        return FAIL(ERR_UNAVAILABLE,
                    "no Redis at %s (%s); check redis_ca_file, and that the server "
                    "speaks TLS there",
                    r->label, tls_reason(r->tls));

    if (code == ENOENT || code == ECONNREFUSED)
        return FAIL(ERR_UNAVAILABLE, "no Redis at %s (%s); start redis-server or set redis_url",
                    r->label, code == ENOENT ? "no such socket" : "connection refused");
    if (code == EACCES && is_file)
        return FAIL(ERR_UNAVAILABLE, "no access to Redis at %s: run as the user who owns it",
                    r->label);
    return FAIL(ERR_UNAVAILABLE, "no Redis at %s (%s); start redis-server or set redis_url",
                r->label, strerror(code));
}

static int open_fd(struct redis *r, int family)
{
    int one = 1;

    tls_close(r->tls);
    r->tls = NULL;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->fd >= 0 && family != AF_UNIX)
        setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return r->fd;
}

static status connect_unix(struct redis *r, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (open_fd(r, AF_UNIX) < 0)
        return FAIL(ERR_IO, "no socket: %s", strerror(errno));
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(r->fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS)
        return refused(r, errno);
    return OK;
}

/* Begin with the next address of the host. */
static status connect_next(struct redis *r)
{
    int code = ECONNREFUSED;

    while (r->next) {
        const struct addrinfo *a = r->next;

        r->next = a->ai_next;
        if (open_fd(r, a->ai_family) >= 0 &&
            (connect(r->fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS))
            return r->is_tls ? tls_open(&r->tls, r->fd, r->host, &r->files) : OK;
        code = errno;
    }
    return refused(r, code);
}

static status connect_tcp(struct redis *r, const struct redis_address *address)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC };
    char port[16];
    int code;

    snprintf(port, sizeof(port), "%d", address->port);
    code = getaddrinfo(address->host, port, &hints, &r->candidates);
    if (code != 0)
        return FAIL(ERR_UNAVAILABLE, "no Redis at %s (%s); set redis_url", r->label,
                    gai_strerror(code));
    r->next = r->candidates;
    return connect_next(r);
}

status redis_connect(struct redis **redis, const struct redis_address *address,
                     const struct tls_files *files)
{
    struct redis *r = calloc(1, sizeof(*r));
    status st = OK;

    *redis = NULL;
    if (!r)
        return FAIL(ERR_NOMEM, "no memory for a connection to Redis");
    r->fd = -1;
    r->out.max_bytes = OUT_BYTES_MAX;
    memcpy(r->label, address->label, sizeof(r->label));
    memcpy(r->host, address->host, sizeof(r->host));
    r->is_tls = address->is_tls;
    if (files)
        r->files = *files;
    r->reader = redisReaderCreate();
    if (!r->reader)
        TRY(FAIL(ERR_NOMEM, "no memory for a connection to Redis"));
    TRY(address->is_unix ? connect_unix(r, address->path) : connect_tcp(r, address));
    *redis = r;
    return OK;
out:
    redis_close(r);
    return st;
}

void redis_close(struct redis *redis)
{
    if (!redis)
        return;
    if (redis->reply)
        freeReplyObject(redis->reply);
    if (redis->reader)
        redisReaderFree(redis->reader);
    if (redis->candidates)
        freeaddrinfo(redis->candidates);
    tls_close(redis->tls);
    if (redis->fd >= 0)
        close(redis->fd);
    buf_free(&redis->out);
    free(redis);
}

/* The connect that was under way ended with code. */
static status connect_failed(struct redis *r, int code)
{
    return r->next ? connect_next(r) : refused(r, code);
}

/* --- bytes --- */

status redis_format(struct buf *text, const char **argv, const size_t *lens, int argc)
{
    char *command = NULL;
    int len = redisFormatCommandArgv(&command, argc, argv, lens);
    status st;

    if (len < 0)
        return FAIL(ERR_NOMEM, "no memory for a command to Redis");
    st = buf_append(text, command, (size_t)len);
    redisFreeCommand(command);
    return st;
}

status redis_add(struct redis *redis, const void *encoded, size_t len)
{
    return buf_append(&redis->out, encoded, len);
}

static status lost(const struct redis *r, int code)
{
    const char *why = code == EPROTO && r->tls ? tls_reason(r->tls) : strerror(code);

    return FAIL(ERR_UNAVAILABLE, "the connection to Redis at %s is lost (%s)", r->label,
                code ? why : "it closed");
}

static ssize_t put(struct redis *r, const void *bytes, size_t len)
{
    return r->tls ? tls_send(r->tls, bytes, len) : send(r->fd, bytes, len, MSG_NOSIGNAL);
}

static ssize_t take(struct redis *r)
{
    return r->tls ? tls_receive(r->tls, r->in, sizeof(r->in))
                  : recv(r->fd, r->in, sizeof(r->in), 0);
}

status redis_send(struct redis *redis)
{
    while (redis->sent_bytes < redis->out.len) {
        ssize_t n =
            put(redis, redis->out.data + redis->sent_bytes, redis->out.len - redis->sent_bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOTCONN))
            return OK;
        if (n < 0)
            return redis->is_connected ? lost(redis, errno) : connect_failed(redis, errno);
        redis->is_connected = true;
        redis->sent_bytes += (size_t)n;
    }
    buf_reset(&redis->out);
    redis->sent_bytes = 0;
    return OK;
}

status redis_receive(struct redis *redis, size_t *got)
{
    *got = 0;
    if (!redis->is_connected)
        return OK;
    for (;;) {
        ssize_t n = take(redis);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return OK;
        if (n <= 0)
            return lost(redis, n < 0 ? errno : 0);
        if (redisReaderFeed(redis->reader, redis->in, (size_t)n) != REDIS_OK)
            return FAIL(ERR_CORRUPT, "%s does not talk like Redis: %s", redis->label,
                        redis->reader->errstr);
        *got += (size_t)n;
        /* CAREFUL: what TLS has read already is not seen by poll: read until it says EAGAIN. */
        if (!redis->tls && (size_t)n < sizeof(redis->in))
            return OK;
    }
}

status redis_next(struct redis *redis, const struct redis_value **value)
{
    void *reply = NULL;

    *value = NULL;
    if (redis->reply)
        freeReplyObject(redis->reply);
    redis->reply = NULL;
    if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK)
        return FAIL(ERR_CORRUPT, "%s does not talk like Redis: %s", redis->label,
                    redis->reader->errstr);
    redis->reply = reply;
    *value = reply;
    return OK;
}

struct redis_value *redis_take(struct redis *redis)
{
    struct redis_value *value = (void *)redis->reply;

    redis->reply = NULL;
    return value;
}

void redis_free_value(struct redis_value *value)
{
    if (value)
        freeReplyObject(value);
}

int redis_fd(const struct redis *redis)
{
    return redis->fd;
}

bool redis_wants_write(const struct redis *redis)
{
    if (redis->tls)
        return tls_wants_write(redis->tls);
    return !redis->is_connected || redis->sent_bytes < redis->out.len;
}

/* --- values: a struct redis_value is a redisReply --- */

static const redisReply *reply_of(const struct redis_value *value)
{
    return (const void *)value;
}

enum redis_kind redis_kind(const struct redis_value *value)
{
    switch (reply_of(value)->type) {
    case REDIS_REPLY_INTEGER:
        return REDIS_INT;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        return REDIS_TEXT;
    case REDIS_REPLY_ERROR:
        return REDIS_ERROR;
    case REDIS_REPLY_ARRAY:
        return REDIS_ARRAY;
    default: /* hiredis' own numbers, of which a server may send new ones */
        return REDIS_NONE;
    }
}

int64_t redis_int(const struct redis_value *value)
{
    const redisReply *r = reply_of(value);

    if (r->type == REDIS_REPLY_INTEGER)
        return r->integer;
    return r->type == REDIS_REPLY_STRING ? strtoll(r->str, NULL, 10) : 0;
}

const char *redis_text(const struct redis_value *value, size_t *len)
{
    const redisReply *r = reply_of(value);
    bool is_text = r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS ||
                   r->type == REDIS_REPLY_ERROR;

    if (len)
        *len = is_text ? (size_t)r->len : 0;
    return is_text ? r->str : "";
}

size_t redis_count(const struct redis_value *value)
{
    const redisReply *r = reply_of(value);

    return r->type == REDIS_REPLY_ARRAY ? r->elements : 0;
}

const struct redis_value *redis_at(const struct redis_value *value, size_t index)
{
    const redisReply *r = reply_of(value);

    if (index >= redis_count(value))
        return (const void *)&nil_reply;
    return (const void *)r->element[index];
}
