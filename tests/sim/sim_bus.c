/* DESIGN: common/bus.h and the clocks of common/base/clock.h for client/session.c, which runs in a
 * coroutine: waiting gives the world its turn. These definitions are linked before the libraries,
 * so that bus.o and clock.o stay out of the program. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "tests/sim/sim_priv.h"

/* A frame that has arrived. */
struct letter {
    struct letter *next;
    size_t len;
    char bytes[];
};

struct bus_socket {
    int conn;
    struct letter *first, *last, *taken;
    struct bus_socket *next;
};

static struct bus_socket *sockets; /* all that are open */

int64_t clock_mono_ms(void)
{
    return sim_world.now_ms;
}

double clock_mono_s(void)
{
    return (double)sim_world.now_ms * 1e-3;
}

int64_t clock_wall_ms(void)
{
    return sim_world.now_ms + sim_world.redis_ms;
}

/* For what starts before the world does: real time. */
bool clock_wait_for(bool (*is_true)(void *self), void *self, int timeout_ms)
{
    for (int ms = 0; !is_true(self); ms++) {
        if (ms >= timeout_ms)
            return false;
        poll(NULL, 0, 1);
    }
    return true;
}

/* Nothing is in it. */
struct bus {
    int unused;
};

status bus_open(struct bus **bus)
{
    static struct bus only;

    *bus = &only;
    return OK;
}

void bus_close(struct bus *bus)
{
    (void)bus;
}

status bus_check_endpoint(const char *endpoint)
{
    return strncmp(endpoint, "tcp://", 6) == 0 ? OK : FAIL(ERR_BADARG, "%s: no endpoint", endpoint);
}

status bus_connect(struct bus *bus, const char *endpoint, struct bus_socket **socket)
{
    struct bus_socket *s = calloc(1, sizeof(*s));
    const char *port = strrchr(endpoint, ':');

    (void)bus;
    CHECK(s && port && sim_world.current_client >= 0);
    s->conn = sim_connect(true, sim_world.current_client, atoi(port + 1) - CLIENT_PORT);
    s->next = sockets;
    sockets = s;
    *socket = s;
    return OK;
}

static void drop_letters(struct letter *l)
{
    while (l) {
        struct letter *next = l->next;

        free(l);
        l = next;
    }
}

void bus_close_socket(struct bus_socket *socket)
{
    struct bus_socket **at = &sockets;

    if (!socket)
        return;
    while (*at != socket)
        at = &(*at)->next;
    *at = socket->next;
    sim_disconnect(socket->conn);
    drop_letters(socket->first);
    free(socket->taken);
    free(socket);
}

status bus_send(struct bus_socket *socket, const struct bus_peer *to, const void *bytes, size_t len)
{
    CHECK(!to);
    sim_send_up(socket->conn, bytes, len);
    return OK;
}

bool bus_receive(struct bus_socket *socket, struct bus_peer *from, const void **bytes, size_t *len)
{
    struct letter *l = socket->first;

    (void)from;
    if (!l)
        return false;
    socket->first = l->next;
    if (!socket->first)
        socket->last = NULL;
    free(socket->taken);
    socket->taken = l;
    *bytes = l->bytes;
    *len = l->len;
    return true;
}

static bool see_ready(struct bus_wait *waits, size_t count)
{
    bool any = false;

    for (size_t i = 0; i < count; i++) {
        waits[i].is_ready = waits[i].socket && waits[i].socket->first;
        any = any || waits[i].is_ready;
    }
    return any;
}

void bus_poll(struct bus_wait *waits, size_t count, int64_t timeout_ms)
{
    int64_t until_ms = sim_world.now_ms + timeout_ms;

    CHECK(timeout_ms >= 0);
    while (!see_ready(waits, count) && sim_world.now_ms < until_ms)
        sim_client_sleep(until_ms);
}

void sim_bus_deliver(int conn, const void *bytes, size_t len)
{
    for (struct bus_socket *s = sockets; s; s = s->next) {
        struct letter *l;

        if (s->conn != conn)
            continue;
        l = malloc(sizeof(*l) + len);
        CHECK(l);
        l->next = NULL;
        l->len = len;
        memcpy(l->bytes, bytes, len);
        if (s->last)
            s->last->next = l;
        else
            s->first = l;
        s->last = l;
        if (sim_world.clients[sim_world.conns[conn].owner].is_up)
            sim_client_wake(sim_world.conns[conn].owner);
        return;
    }
}

/* --- keys: nothing is encrypted here --- */

static status no_keys(void)
{
    return FAIL(ERR_UNAVAILABLE, "the simulation encrypts nothing");
}

status bus_new_keys(struct bus_keys *keys)
{
    (void)keys;
    return no_keys();
}

status bus_derive_keys(struct bus_keys *keys)
{
    (void)keys;
    return no_keys();
}

bool bus_is_key(const char *text)
{
    (void)text;
    return false;
}

status bus_trust(struct bus *bus, const struct bus_keys *own, const char *server)
{
    (void)bus;
    (void)own;
    (void)server;
    return no_keys();
}
