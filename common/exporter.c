#include "common/exporter.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

/* Somebody who scrapes asks for one thing every few seconds. */
#define CONNECTIONS_MAX 16
#define PATIENCE_S 5
#define CONNECTION_BYTES ((size_t)16 << 10) /* a longer request is refused */
#define PAGE_BYTES_MAX ((size_t)1 << 20)

struct exporter {
    struct exporter_config config;
    struct MHD_Daemon *daemon;
    int fd; /* listens; the daemon's once it runs */
};

/* --- answers --- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned code, const char *text, size_t len)
{
    struct MHD_Response *r = /* copied; the library takes it as not const */
        MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result;

    if (!r)
        return MHD_NO;
    result = MHD_add_response_header(r, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    if (result == MHD_YES)
        result = MHD_queue_response(c, code, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned code, const char *text)
{
    return answer(c, code, text, strlen(text));
}

static enum MHD_Result answer_metrics(const struct exporter *e, struct MHD_Connection *c)
{
    struct buf text = { .max_bytes = PAGE_BYTES_MAX };
    enum MHD_Result result;

    if (e->config.refresh)
        e->config.refresh(e->config.self);
    if (metrics_write(e->config.metrics, &text) == OK)
        result = answer(c, MHD_HTTP_OK, text.data, text.len);
    else
        result = answer_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
    buf_free(&text);
    return result;
}

static enum MHD_Result answer_ready(const struct exporter *e, struct MHD_Connection *c)
{
    const char *why = e->config.not_ready(e->config.self);
    char line[200];

    if (!why)
        return answer_text(c, MHD_HTTP_OK, "ready\n");
    snprintf(line, sizeof(line), "%s\n", why);
    return answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, line);
}

/* Called by the library for each request. Thread: the exporter's. */
static enum MHD_Result on_request(void *self, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_len, void **state)
{
    const struct exporter *e = self;

    (void)version;
    (void)body;
    (void)body_len;
    (void)state;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    if (strcmp(path, "/metrics") == 0)
        return answer_metrics(e, c);
    if (strcmp(path, "/readyz") == 0)
        return answer_ready(e, c);
    if (strcmp(path, "/healthz") == 0 && e->config.is_healthy(e->config.self))
        return answer_text(c, MHD_HTTP_OK, "healthy\n");
    if (strcmp(path, "/healthz") == 0)
        return answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, "it hangs\n");
    return answer_text(c, MHD_HTTP_NOT_FOUND, "try /metrics, /healthz or /readyz\n");
}

/* --- listening --- */

static status bad_address(const char *listen)
{
    return FAIL(ERR_BADARG,
                "metrics_listen: \"%.80s\" is not ADDRESS:PORT, as in 127.0.0.1:9450 or "
                "[::1]:9450",
                listen);
}

static status resolve(const char *listen, struct addrinfo **found)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                    .ai_socktype = SOCK_STREAM };
    const char *colon = strrchr(listen, ':'), *host = listen;
    size_t len = colon ? (size_t)(colon - listen) : 0;
    char text[64];

    if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    } else if (memchr(host, ':', len)) {
        return bad_address(listen);
    }
    if (!colon || len == 0 || len >= sizeof(text) || colon[1] < '0' || colon[1] > '9' ||
        strtol(colon + 1, NULL, 10) > 65535)
        return bad_address(listen);
    memcpy(text, host, len);
    text[len] = '\0';
    return getaddrinfo(text, colon + 1, &hints, found) == 0 ? OK : bad_address(listen);
}

static status listen_at(const char *where, int *fd)
{
    struct addrinfo *a = NULL;
    int one = 1;
    status st = OK;

    TRY(resolve(where, &a));
    *fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0)
        TRY(FAIL(ERR_IO, "no socket: %s", strerror(errno)));
    if (bind(*fd, a->ai_addr, a->ai_addrlen) != 0 || listen(*fd, CONNECTIONS_MAX) != 0)
        TRY(FAIL(errno == EADDRINUSE ? ERR_CONFLICT : ERR_IO,
                 "metrics_listen: can't listen at %s: %s; give another address or port", where,
                 strerror(errno)));
out:
    if (a)
        freeaddrinfo(a);
    return st;
}

/* The library's thread leaves signals to whoever handles them. */
static void start(struct exporter *e)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    e->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request, e,
        MHD_OPTION_LISTEN_SOCKET, e->fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)PATIENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        CONNECTION_BYTES, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

status exporter_open(struct exporter **exporter, const struct exporter_config *config)
{
    struct exporter *e = calloc(1, sizeof(*e));
    status st = OK;

    *exporter = NULL;
    if (!e)
        return FAIL(ERR_NOMEM, "no memory for metrics");
    e->fd = -1;
    e->config = *config;
    TRY(listen_at(config->listen, &e->fd));
    start(e);
    if (!e->daemon)
        TRY(FAIL(ERR_IO, "metrics_listen: libmicrohttpd can't serve at %s", config->listen));
    *exporter = e;
    return OK;
out:
    exporter_close(e);
    return st;
}

void exporter_close(struct exporter *exporter)
{
    if (!exporter)
        return;
    if (exporter->daemon)
        MHD_stop_daemon(exporter->daemon); /* closes fd */
    else if (exporter->fd >= 0)
        close(exporter->fd);
    free(exporter);
}
