#include "tests/storm/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"

#define DOORS_MAX 16
#define PAIRS_MAX 256
#define PIECE_BYTES 65536
#define TICK_MS 5

/* Where to listen and where to pass on. */
struct door {
    int fd;
    char target[108];
};

/* One way of a connection: what was read and not yet written. */
struct way {
    char bytes[PIECE_BYTES];
    size_t at, len;
    int64_t not_before_ms; /* PROXY_DELAY */
};

struct pair {
    int fd[2]; /* the end that connected, the target; -1: free */
    struct way way[2];
    enum proxy_fault fault;
    int64_t until_ms;
    int swallowed; /* PROXY_HALF_OPEN: what end 0 or 1 says */
};

struct proxy {
    struct door doors[DOORS_MAX];
    atomic_int door_count;
    struct pair *pairs[PAIRS_MAX];
    atomic_llong counts[PROXY_FAULT_COUNT];
    atomic_bool is_calm, is_stopping;
    uint64_t random; /* the thread's */
    int64_t fault_every_ms, fault_at_ms;
    pthread_t thread;
};

static uint64_t next_random(struct proxy *p)
{
    uint64_t z = p->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return z ^ z >> 31;
}

/* --- connections --- */

static int connect_target(const char *target)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    bool is_port = target[strspn(target, "0123456789")] == '\0';
    int fd = socket(is_port ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, rc;

    if (fd < 0)
        return -1;
    in.sin_port = htons((uint16_t)atoi(target));
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", target);
    rc = is_port ? connect(fd, (struct sockaddr *)&in, sizeof(in))
                 : connect(fd, (struct sockaddr *)&un, sizeof(un));
    if (rc != 0) {
        close(fd);
        return -1;
    }
    if (is_port)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void end_pair(struct pair *c, bool by_reset)
{
    struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

    for (int i = 0; i < 2; i++) {
        if (c->fd[i] >= 0 && by_reset)
            setsockopt(c->fd[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        if (c->fd[i] >= 0)
            close(c->fd[i]);
        c->fd[i] = -1;
    }
    c->way[0].len = c->way[1].len = c->way[0].at = c->way[1].at = 0;
}

static struct pair *free_pair(struct proxy *p)
{
    for (int i = 0; i < PAIRS_MAX; i++) {
        if (!p->pairs[i]) {
            p->pairs[i] = calloc(1, sizeof(struct pair));
            CHECK(p->pairs[i]);
            p->pairs[i]->fd[0] = -1;
        }
        if (p->pairs[i]->fd[0] < 0)
            return p->pairs[i];
    }
    return NULL;
}

static void accept_all(struct proxy *p, const struct door *door)
{
    int fd;

    while ((fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct pair *c = free_pair(p);
        int target = c ? connect_target(door->target) : -1;

        if (target < 0) {
            close(fd);
            continue;
        }
        c->fd[0] = fd;
        c->fd[1] = target;
        c->fault = PROXY_PASS;
    }
}

/* --- faults --- */

static void begin_fault(struct proxy *p, int64_t now_ms)
{
    struct pair *c = p->pairs[next_random(p) % PAIRS_MAX];
    enum proxy_fault fault = (enum proxy_fault)(1 + next_random(p) % (PROXY_FAULT_COUNT - 1));

    for (int tries = 0; tries < 64 && (!c || c->fd[0] < 0 || c->fault != PROXY_PASS); tries++)
        c = p->pairs[next_random(p) % PAIRS_MAX];
    if (!c || c->fd[0] < 0 || c->fault != PROXY_PASS)
        return;
    atomic_fetch_add(&p->counts[fault], 1);
    if (fault == PROXY_RESET) {
        end_pair(c, true);
        return;
    }
    c->fault = fault;
    c->swallowed = (int)(next_random(p) % 2);
    c->until_ms = now_ms + 100 + (int64_t)(next_random(p) % 2400);
}

static void end_fault(struct pair *c)
{
    /* Bytes were swallowed: the rest makes no sense any more. */
    if (c->fault == PROXY_HALF_OPEN)
        end_pair(c, true);
    c->fault = PROXY_PASS;
}

static void tick_faults(struct proxy *p, int64_t now_ms)
{
    bool is_calm = atomic_load(&p->is_calm);

    for (int i = 0; i < PAIRS_MAX; i++) {
        struct pair *c = p->pairs[i];

        if (c && c->fd[0] >= 0 && c->fault != PROXY_PASS && (is_calm || now_ms >= c->until_ms))
            end_fault(c);
    }
    if (!is_calm && p->fault_every_ms && now_ms >= p->fault_at_ms) {
        p->fault_at_ms = now_ms + p->fault_every_ms;
        begin_fault(p, now_ms);
    }
}

/* --- bytes --- */

/* Read what end from says. Returns false when it has ended. */
static bool read_way(struct proxy *p, struct pair *c, int from, int64_t now_ms)
{
    struct way *w = &c->way[from];
    ssize_t n;

    if (w->len > 0 || c->fault == PROXY_STALL)
        return true;
    n = recv(c->fd[from], w->bytes, sizeof(w->bytes), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return false;
    if (n < 0 || (c->fault == PROXY_HALF_OPEN && c->swallowed == from))
        return true;
    w->at = 0;
    w->len = (size_t)n;
    w->not_before_ms = c->fault == PROXY_DELAY ? now_ms + (int64_t)(next_random(p) % 400) : 0;
    return true;
}

static bool write_way(struct pair *c, int from, int64_t now_ms)
{
    struct way *w = &c->way[from];
    size_t len = c->fault == PROXY_BYTES && w->len > 0 ? 1 : w->len;
    ssize_t n;

    if (w->len == 0 || c->fault == PROXY_STALL || now_ms < w->not_before_ms)
        return true;
    n = send(c->fd[!from], w->bytes + w->at, len, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    w->at += (size_t)n;
    w->len -= (size_t)n;
    return true;
}

static void move_bytes(struct proxy *p, struct pair *c, int64_t now_ms)
{
    int rounds = c->fault == PROXY_BYTES ? 64 : 1;

    for (int i = 0; i < rounds; i++) {
        for (int from = 0; from < 2; from++) {
            bool is_open = read_way(p, c, from, now_ms) && write_way(c, from, now_ms);

            if (!is_open && c->way[from].len == 0) {
                end_pair(c, false);
                return;
            }
        }
    }
}

static int prepare(struct proxy *p, struct pollfd *polls)
{
    int count = 0;

    for (int i = 0; i < atomic_load(&p->door_count); i++)
        polls[count++] = (struct pollfd){ .fd = p->doors[i].fd, .events = POLLIN };
    for (int i = 0; i < PAIRS_MAX; i++) {
        const struct pair *c = p->pairs[i];

        for (int end = 0; c && c->fd[0] >= 0 && c->fault == PROXY_PASS && end < 2; end++) {
            short events =
                (short)((c->way[end].len == 0 ? POLLIN : 0) | (c->way[!end].len > 0 ? POLLOUT : 0));

            polls[count++] = (struct pollfd){ .fd = c->fd[end], .events = events };
        }
    }
    return count;
}

static void *serve(void *arg)
{
    static struct pollfd polls[DOORS_MAX + 2 * PAIRS_MAX];
    struct proxy *p = arg;

    while (!atomic_load(&p->is_stopping)) {
        int count = prepare(p, polls);
        int64_t now_ms;

        poll(polls, (nfds_t)count, TICK_MS);
        now_ms = clock_mono_ms();
        for (int i = 0; i < atomic_load(&p->door_count); i++)
            accept_all(p, &p->doors[i]);
        tick_faults(p, now_ms);
        for (int i = 0; i < PAIRS_MAX; i++) {
            if (p->pairs[i] && p->pairs[i]->fd[0] >= 0)
                move_bytes(p, p->pairs[i], now_ms);
        }
    }
    return NULL;
}

/* --- the interface --- */

status proxy_open(struct proxy **proxy, uint64_t seed, int64_t fault_every_ms)
{
    struct proxy *p = calloc(1, sizeof(*p));

    *proxy = NULL;
    if (!p)
        return FAIL(ERR_NOMEM, "no memory for the proxy");
    p->random = seed;
    p->fault_every_ms = fault_every_ms;
    if (pthread_create(&p->thread, NULL, serve, p) != 0) {
        free(p);
        return FAIL(ERR_NOMEM, "no thread for the proxy");
    }
    *proxy = p;
    return OK;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    if (fd >= 0 && (bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || listen(fd, 64) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int listen_port(int *port)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && (bind(fd, (struct sockaddr *)&in, sizeof(in)) != 0 || listen(fd, 64) != 0 ||
                    getsockname(fd, (struct sockaddr *)&in, &len) != 0)) {
        close(fd);
        return -1;
    }
    *port = ntohs(in.sin_port);
    return fd;
}

status proxy_add(struct proxy *proxy, const char *path, const char *target, int *port)
{
    int n = atomic_load(&proxy->door_count);
    struct door *d = &proxy->doors[n];

    CHECK(n < DOORS_MAX);
    d->fd = path ? listen_unix(path) : listen_port(port);
    if (d->fd < 0)
        return FAIL(ERR_IO, "the proxy can't listen: %s", strerror(errno));
    snprintf(d->target, sizeof(d->target), "%s", target);
    atomic_store(&proxy->door_count, n + 1);
    return OK;
}

void proxy_calm(struct proxy *proxy)
{
    atomic_store(&proxy->is_calm, true);
}

int64_t proxy_count(const struct proxy *proxy, enum proxy_fault fault)
{
    return atomic_load(&proxy->counts[fault]);
}

void proxy_close(struct proxy *proxy)
{
    if (!proxy)
        return;
    atomic_store(&proxy->is_stopping, true);
    pthread_join(proxy->thread, NULL);
    for (int i = 0; i < atomic_load(&proxy->door_count); i++)
        close(proxy->doors[i].fd);
    for (int i = 0; i < PAIRS_MAX; i++) {
        if (proxy->pairs[i])
            end_pair(proxy->pairs[i], false);
        free(proxy->pairs[i]);
    }
    free(proxy);
}
