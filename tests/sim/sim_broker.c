/* DESIGN: the shell of broker/main.c, with the world in place of sockets, clock and poll. */
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/id.h"
#include "tests/sim/sim_priv.h"

static void on_reply(void *self, const struct store_reply *reply);

/* Time after which the calls that are waiting go to Redis. */
static void plan_store(int b)
{
    struct sim_broker *n = &sim_world.brokers[b];

    if (n->is_store_due || store_pending(n->link.store) == 0)
        return;
    n->is_store_due = true;
    sim_at(sim_world.now_ms + (sim_between(0, 9) ? sim_between(0, 2) : sim_between(5, 80)),
           (struct event){ .kind = EVENT_BROKER_STORE, .who = b, .life = (uint64_t)n->life });
}

static void answer_at_once(int b, const struct store_call *call, status code, const char *sentence)
{
    struct sim_broker *n = &sim_world.brokers[b];
    struct store_reply reply = { .op = call->op,
                                 .tag = call->tag,
                                 .code = code,
                                 .sentence = sentence,
                                 .worker = "",
                                 .cursor = "",
                                 .next_due_ms = -1 };

    broker_on_store_reply(n->core, sim_world.now_ms, &reply, &n->out);
}

static void take_calls(int b)
{
    struct sim_broker *n = &sim_world.brokers[b];

    /* CAREFUL: answering lets the core add calls, which may move the list. */
    for (size_t i = 0; i < n->out.call_count; i++) {
        struct store_call call = n->out.calls[i];
        status st;

        if (call.op == STORE_SWEEP && sim_is_mutant("no-sweep"))
            continue;
        if (call.op == STORE_RELEASE && sim_is_mutant("unsent-job-kept"))
            continue;
        st = store_add(n->link.store, &call);
        if (st != OK)
            answer_at_once(b, &call, st, status_message());
    }
    n->out.call_count = 0;
    plan_store(b);
}

static void send_frames(int b)
{
    struct sim_broker *n = &sim_world.brokers[b];

    for (size_t i = 0; i < n->out.send_count; i++) {
        struct outbox_send f = n->out.sends[i];

        if (!sim_send_down(b, &f.to, n->out.frames.data + f.at, f.len))
            broker_on_unsent(n->core, sim_world.now_ms, &f, &n->out);
    }
    take_calls(b);
    outbox_reset(&n->out);
}

static void on_reply(void *self, const struct store_reply *reply)
{
    struct sim_broker *n = self;
    struct store_reply r = *reply;

    if (r.op == STORE_SUBMIT && r.code == ERR_UNAVAILABLE &&
        sim_is_mutant("accepted-before-stored")) {
        r.code = OK;
        r.verdict = VERDICT_OK;
        r.state = JOB_QUEUED;
    }
    broker_on_store_reply(n->core, sim_world.now_ms, &r, &n->out);
    take_calls((int)(n - sim_world.brokers));
}

void sim_broker_store(int b)
{
    struct sim_broker *n = &sim_world.brokers[b];

    n->is_store_due = false;
    sim_link_turn(&n->link, on_reply, n);
    send_frames(b);
}

void sim_broker_frame(const struct event *e)
{
    int b = e->place & PLACE_BROKER;
    struct sim_broker *n = &sim_world.brokers[b];
    uint32_t name = n->is_up ? sim_name_at_delivery(e) : 0;
    struct bus_peer from = { .len = 5 };
    struct broker_frame frame = { .from = &from, .bytes = e->bytes, .len = e->len, .tenant = "" };

    if (!name)
        return;
    frame.side = e->place & PLACE_CLIENT ? BROKER_CLIENTS : BROKER_WORKERS;
    frame.role = frame.side == BROKER_CLIENTS ? KEYS_CLIENT : KEYS_WORKER;
    memcpy(from.bytes, &name, sizeof(name));
    broker_on_frame(n->core, sim_world.now_ms, &frame, &n->out);
    take_calls(b);
    send_frames(b);
}

void sim_broker_tick(int b)
{
    struct sim_broker *n = &sim_world.brokers[b];
    int64_t wait_ms = broker_tick(n->core, sim_world.now_ms, &n->out);

    take_calls(b);
    sim_broker_store(b);
    if (wait_ms < 1)
        wait_ms = 1;
    n->tick_at_ms = sim_world.now_ms + wait_ms;
    sim_at(n->tick_at_ms,
           (struct event){ .kind = EVENT_BROKER_TICK, .who = b, .life = (uint64_t)n->life });
}

void sim_broker_start(int b)
{
    struct sim_broker *n = &sim_world.brokers[b];
    struct broker_config config = { .lease_ms = LEASE_MS,
                                    .heartbeat_ms = HEARTBEAT_MS,
                                    .retry_base_ms = RETRY_BASE_MS,
                                    .retry_cap_ms = RETRY_CAP_MS,
                                    .queued_max = 1000,
                                    .retention_ms = 3600000,
                                    .version = "simulated",
                                    .random = sim_random };
    char id[JOB_ID_BYTES];
    uint8_t bytes[9] = { 0 };

    bytes[8] = (uint8_t)b;
    id_make(id, sim_world.now_ms, bytes);
    CHECK(broker_open(&n->core, &config, id) == OK);
    n->is_up = true;
    sim_broker_tick(b);
}

static void drop_reply(void *self, const struct store_reply *reply)
{
    (void)self;
    (void)reply;
}

void sim_broker_crash(int b)
{
    struct sim_broker *n = &sim_world.brokers[b];

    if (!n->is_up)
        return;
    if (sim_chance(0.5)) /* the calls that it has made reach Redis, or not */
        sim_link_turn(&n->link, drop_reply, NULL);
    broker_close(n->core);
    n->core = NULL;
    n->is_up = false;
    n->life++;
    n->is_store_due = false;
    n->frozen_until_ms = 0;
    outbox_reset(&n->out);
    if (sim_world.is_calm)
        return;
    sim_fault(SIM_BROKER_CRASH);
    sim_link_close(&n->link);
    sim_link_open(&n->link, b == 0 ? "broker0" : b == 1 ? "broker1" : "broker2");
    sim_at(sim_world.now_ms + sim_between(10, 2500),
           (struct event){ .kind = EVENT_BROKER_START, .who = b, .life = (uint64_t)n->life });
}
