/* DESIGN: a connection keeps the order of its frames, as TCP does, and may break, which loses what
 * is on its way and gives it a new name at the broker, as ZeroMQ does. A frame may also be lost
 * alone (a full queue), and a copy of one may come late by a connection that nobody reads. */
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "tests/sim/sim_priv.h"

static int64_t delay_ms(void)
{
    if (sim_chance(0.08)) {
        sim_fault(SIM_FRAME_LATE);
        return sim_between(50, 4000);
    }
    return sim_between(0, 3);
}

int sim_connect(bool is_client, int owner, int broker)
{
    struct world *w = &sim_world;

    for (int i = 0; i < CONNS; i++) {
        if (w->conns[i].is_open)
            continue;
        w->conns[i] = (struct sim_conn){ .is_open = true,
                                         .is_client = is_client,
                                         .owner = owner,
                                         .broker = broker,
                                         .id = ++w->next_conn,
                                         .broker_life = w->brokers[broker].life };
        return i;
    }
    CHECK(!"too many connections");
    return -1;
}

void sim_disconnect(int conn)
{
    sim_world.conns[conn].is_open = false;
}

void sim_cut(int conn)
{
    sim_fault(SIM_LINK_CUT);
    sim_world.conns[conn].id = ++sim_world.next_conn;
}

static void post(enum event_kind kind, int conn, int64_t at_ms, const void *bytes, size_t len)
{
    const struct sim_conn *c = &sim_world.conns[conn];
    struct event e = { .kind = kind, .who = conn, .life = c->id, .len = len };

    e.place = c->broker | (c->is_client ? PLACE_CLIENT : 0) | (c->is_stray ? PLACE_STRAY : 0);
    e.bytes = malloc(len);
    CHECK(e.bytes);
    memcpy(e.bytes, bytes, len);
    sim_at(at_ms, e);
}

/* By a connection of an earlier life of its sender, to any broker. */
static void repeat(int conn, const void *bytes, size_t len)
{
    int stray = sim_connect(sim_world.conns[conn].is_client, sim_world.conns[conn].owner,
                            (int)sim_between(0, BROKERS - 1));

    sim_fault(SIM_FRAME_TWICE);
    sim_world.conns[stray].is_stray = true;
    post(EVENT_UP, stray, sim_world.now_ms + sim_between(0, 6000), bytes, len);
    sim_disconnect(stray); /* the frame is on its way all the same */
}

void sim_send_up(int conn, const void *bytes, size_t len)
{
    struct sim_conn *c = &sim_world.conns[conn];
    int64_t at_ms = sim_world.now_ms + delay_ms();

    if (sim_chance(0.15))
        repeat(conn, bytes, len);
    if (sim_chance(0.10)) {
        sim_fault(SIM_FRAME_LOST);
        return;
    }
    if (at_ms < c->up_ms)
        at_ms = c->up_ms;
    c->up_ms = at_ms;
    post(EVENT_UP, conn, at_ms, bytes, len);
}

bool sim_send_down(int broker, const struct bus_peer *to, const void *bytes, size_t len)
{
    uint32_t id;

    memcpy(&id, to->bytes, sizeof(id));
    for (int i = 0; i < CONNS; i++) {
        struct sim_conn *c = &sim_world.conns[i];
        int64_t at_ms;

        if (!c->is_open || c->id != id || c->broker != broker)
            continue;
        if (sim_chance(0.10)) {
            sim_fault(SIM_FRAME_LOST);
            return true;
        }
        at_ms = sim_world.now_ms + delay_ms();
        if (at_ms < c->down_ms)
            at_ms = c->down_ms;
        c->down_ms = at_ms;
        post(EVENT_DOWN, i, at_ms, bytes, len);
        return true;
    }
    return sim_chance(0.5); /* a broken connection is not always noticed */
}

/* The name of the connection by which an arrived frame is answered; 0: the frame is lost. */
uint32_t sim_name_at_delivery(const struct event *e)
{
    struct sim_conn *c = &sim_world.conns[e->who];
    int life = sim_world.brokers[e->place & PLACE_BROKER].life;

    if (e->place & PLACE_STRAY)
        return (uint32_t)e->life;
    if (!c->is_open || c->id != e->life)
        return 0;
    if (c->broker_life != life) {
        c->id = ++sim_world.next_conn; /* ZeroMQ has connected to the new life */
        c->broker_life = life;
    }
    return c->id;
}
