#include "tests/unit/broker/world.h"

#include <string.h>

#include "proto/codec.h"
#include "tests/tool/test.h"

static const char *const models[] = { "default", "other" };

struct world world_open(void)
{
    struct world w = { .now_ms = 1000000, .role = { KEYS_CLIENT, KEYS_WORKER }, .tenant = "" };
    struct broker_config config = { .lease_ms = 30000,
                                    .heartbeat_ms = 1000,
                                    .retry_base_ms = 10,
                                    .retry_cap_ms = 100,
                                    .queued_max = 50,
                                    .version = "1.2.3",
                                    .random = test_random };

    EXPECT_OK(broker_open(&w.broker, &config, BROKER));
    EXPECT_OK(arena_open(&w.arena, "test", 8 * CODEC_ARENA_BYTES));
    return w;
}

void world_close(struct world *w)
{
    broker_close(w->broker);
    outbox_free(&w->out);
    arena_close(&w->arena);
}

struct bus_peer world_peer(int n)
{
    return (struct bus_peer){ .bytes = { 0, 1, 2, 3, (uint8_t)n }, .len = 5 };
}

void world_give(struct world *w, enum broker_side side, int n, const struct msg *m)
{
    struct bus_peer from = world_peer(n);
    struct buf frame = { 0 };

    outbox_reset(&w->out);
    EXPECT_OK(codec_encode(m, &frame));
    broker_on_frame(
        w->broker, w->now_ms,
        &(struct broker_frame){ side, &from, frame.data, frame.len, w->role[side], w->tenant },
        &w->out);
    buf_free(&frame);
}

void world_reply(struct world *w, const struct store_reply *r)
{
    struct store_reply full = *r;

    if (!full.sentence)
        full.sentence = "";
    if (!full.worker)
        full.worker = "";
    if (!full.cursor)
        full.cursor = "";
    outbox_reset(&w->out);
    broker_on_store_reply(w->broker, w->now_ms, &full, &w->out);
}

struct msg world_sent(struct world *w, size_t i, enum msg_type type, int n)
{
    struct bus_peer to = world_peer(n);
    struct msg m;

    EXPECT(i < w->out.send_count);
    EXPECT_OK(
        codec_decode(&m, w->out.frames.data + w->out.sends[i].at, w->out.sends[i].len, &w->arena));
    EXPECT_TEXT(msg_type_name(m.type), msg_type_name(type));
    EXPECT(memcmp(&w->out.sends[i].to, &to, sizeof(to)) == 0);
    return m;
}

const struct store_call *world_called(const struct world *w, size_t i, enum store_op op)
{
    EXPECT(i < w->out.call_count);
    EXPECT_INT(w->out.calls[i].op, op);
    return &w->out.calls[i];
}

void world_hello(struct world *w, int n, const char *id)
{
    struct msg m = { .type = MSG_HELLO,
                     .seq = 1,
                     .hello = { .host = "node",
                                .device = "cpu",
                                .version = "1",
                                .models = models,
                                .model_count = 2,
                                .memory_mib = 8000 + n } };

    strcpy(m.hello.worker, id);
    world_give(w, BROKER_WORKERS, n, &m);
    m = world_sent(w, 0, MSG_WELCOME, n);
    EXPECT_TEXT(m.welcome.broker, BROKER);
    EXPECT_INT(m.welcome.lease_ms, 30000);
    EXPECT_INT(m.welcome.heartbeat_ms, 1000);
}

void world_credit(struct world *w, int n, int64_t total)
{
    struct msg m = { .type = MSG_CREDIT, .credit = { total } };

    world_give(w, BROKER_WORKERS, n, &m);
}
