/* A web server answers with the input, whose first byte chooses the request. Redirects are not
 * followed here: an input must not reach another host. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http.h"
#include "tests/fuzz/fuzz.h"

#define BODY_BYTES_MAX 1024

struct server {
    int listener;
    int port;
    const uint8_t *answer;
    size_t answer_bytes;
};

/* Read up to the empty line that ends the request's header. */
static void read_request(int fd)
{
    char text[4096] = "";
    size_t used = 0;

    while (used + 1 < sizeof(text) && !strstr(text, "\r\n\r\n")) {
        ssize_t got = recv(fd, text + used, sizeof(text) - 1 - used, 0);

        if (got <= 0)
            return;
        used += (size_t)got;
        text[used] = '\0';
    }
}

/* pthread: answer one connection. */
static void *serve(void *self)
{
    const struct server *s = self;
    int fd = accept(s->listener, NULL, NULL);
    char rest[1024];

    CHECK(fd >= 0);
    read_request(fd);
    (void)!send(fd, s->answer, s->answer_bytes, MSG_NOSIGNAL); /* the client may have enough */
    shutdown(fd, SHUT_WR);
    while (recv(fd, rest, sizeof(rest), 0) > 0)
        ;
    close(fd);
    return NULL;
}

static void listen_somewhere(struct server *s)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t room = sizeof(address);

    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(s->listener >= 0);
    CHECK(bind(s->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(s->listener, 1) == 0);
    CHECK(getsockname(s->listener, (struct sockaddr *)&address, &room) == 0);
    s->port = ntohs(address.sin_port);
}

static void ask(struct server *s, uint8_t choice)
{
    static const enum http_method methods[] = { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_GET };
    const struct http_config config = { .allow_private_hosts = true, .tries_max = 1 };
    char url[64], shown[64];
    struct http_request q = { .method = methods[choice % 4],
                              .url = url,
                              .body = "abc",
                              .body_bytes = 3,
                              .response_bytes_max = BODY_BYTES_MAX,
                              .timeout_ms = 5000 };
    struct http_response r = { 0 };
    struct http h = { 0 };
    status st;

    snprintf(url, sizeof(url), "http://127.0.0.1:%d/x?secret", s->port);
    snprintf(shown, sizeof(shown), "http://127.0.0.1:%d/x:", s->port);
    CHECK(http_open(&h, &config) == OK);
    st = http_do(&h, &q, &r);
    if (st == OK)
        st = http_check(&q, &r);
    CHECK(r.tries == 1);
    CHECK(memchr(r.etag, '\0', sizeof(r.etag)) && !strpbrk(r.etag, "\" \r\n\t"));
    /* What is kept of an error's body is more than of a small answer. */
    CHECK(r.body.len <= (r.code / 100 == 2 ? BODY_BYTES_MAX : 4096u));
    CHECK(st != OK || r.code / 100 == 2);
    /* The sentence begins with the address, less its query. */
    CHECK(st == OK || strncmp(status_message(), shown, strlen(shown)) == 0);
    http_response_free(&r);
    http_close(&h);
}

FUZZ_STORAGE(http, 4 << 10)
{
    struct server s = { .answer = bytes + 1, .answer_bytes = len - 1 };
    pthread_t thread;

    if (len == 0)
        return;
    listen_somewhere(&s);
    CHECK(pthread_create(&thread, NULL, serve, &s) == 0);
    ask(&s, bytes[0]);
    CHECK(pthread_join(thread, NULL) == 0);
    close(s.listener);
}
