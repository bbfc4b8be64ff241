/* A broker among peers and a store of which nothing is sure but the types: frames of any kind in
 * any order, answers of the store in any order and with any verdict, time that jumps.
 *
 * The input is a sequence of steps: kind, argument, length (two bytes, little-endian), that many
 * bytes. What must hold: every frame that goes out is a message of ours, and when the store has
 * answered everything, nobody waits any more. */
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "common/base/arena.h"
#include "proto/codec.h"
#include "tests/fuzz/fuzz.h"

#define STEP_BYTES 4
#define CALLS_MAX 2048
#define PEERS 4

enum step { STEP_FRAME = 0, STEP_RAW, STEP_REPLY, STEP_TIME, STEP_UNSENT, STEPS };

/* A call that the store has not answered. */
struct call {
    enum store_op op;
    uint64_t tag;
};

struct scene {
    struct broker *broker;
    struct outbox out;
    struct arena arena;   /* of a frame that is looked at */
    struct job_spec spec; /* of the jobs that the store gives out */
    int64_t now_ms;
    uint64_t seq; /* of the next frame */
    struct call calls[CALLS_MAX];
    size_t call_count;
    struct outbox_send sent; /* the last frame that went out */
    bool has_sent;
};

static const char job_id[JOB_ID_BYTES] = "00abcdefghjkmnpqrstvwxyz01";

static uint64_t no_dice(void)
{
    return 0x0123456789abcdefu;
}

static void answer(struct scene *s, size_t index, const uint8_t *bytes, size_t len);

/* Do what the broker asked for: look at its frames, note its calls. */
static void collect(struct scene *s)
{
    struct msg m;

    for (size_t i = 0; i < s->out.send_count; i++) {
        arena_release(&s->arena, 0);
        CHECK(codec_decode(&m, s->out.frames.data + s->out.sends[i].at, s->out.sends[i].len,
                           &s->arena) == OK);
        CHECK(s->out.sends[i].to.len <= sizeof(s->out.sends[i].to.bytes));
        s->sent = s->out.sends[i];
        s->has_sent = true;
    }
    for (size_t i = 0; i < s->out.call_count; i++) {
        CHECK(s->call_count < CALLS_MAX);
        CHECK(s->out.calls[i].op > STORE_NONE && s->out.calls[i].op < STORE_OP_COUNT);
        s->calls[s->call_count].op = s->out.calls[i].op;
        s->calls[s->call_count++].tag = s->out.calls[i].tag;
    }
    outbox_reset(&s->out);
    while (s->call_count > CALLS_MAX / 2)
        answer(s, 0, NULL, 0);
}

/* Byte i of the step, 0 beyond its end. */
static uint8_t byte_at(const uint8_t *bytes, size_t len, size_t i)
{
    return i < len ? bytes[i] : 0;
}

/* The store answers call index; no bytes: it can't. */
static void answer(struct scene *s, size_t index, const uint8_t *bytes, size_t len)
{
    struct store_reply reply = { .op = s->calls[index].op,
                                 .tag = s->calls[index].tag,
                                 .sentence = "",
                                 .worker = "",
                                 .cursor = "",
                                 .next_due_ms = -1 };
    struct job_status job = { .model = "",
                              .labels = "",
                              .worker = "",
                              .stage = "",
                              .sentence = "",
                              .tenant = "",
                              .batch = "" };

    static const struct store_row row = { { "17-1", "", "x", "", "", "", "", "", "", "", "", "" },
                                          3 };

    memmove(s->calls + index, s->calls + index + 1,
            (--s->call_count - index) * sizeof(s->calls[0]));
    reply.code = len ? (status)(byte_at(bytes, len, 0) % STATUS_COUNT) : ERR_UNAVAILABLE;
    if (reply.code != OK)
        reply.sentence = "the store says no";
    reply.verdict = (enum msg_verdict)(1 + byte_at(bytes, len, 1) % (VERDICT_COUNT - 1));
    reply.state = (enum job_state)(byte_at(bytes, len, 2) % JOB_STATE_COUNT);
    if (byte_at(bytes, len, 3) & 1) {
        memcpy(reply.lease.job, job_id, sizeof(job_id));
        reply.lease.attempt = (int8_t)byte_at(bytes, len, 4);
        reply.lease.nonce = no_dice();
        reply.worker = "host/00abcdefghjkmnpqrstvwxyz02";
    }
    if (reply.op == STORE_CLAIM && (byte_at(bytes, len, 3) & 2))
        reply.spec = &s->spec;
    if (reply.op == STORE_STATUS || reply.op == STORE_LIST) {
        memcpy(job.job, job_id, sizeof(job_id));
        job.state = reply.state;
        job.attempt = (int8_t)byte_at(bytes, len, 4);
        job.result = (struct job_result){ "", "", "" };
        reply.jobs = &job;
        reply.job_count = byte_at(bytes, len, 3) & 1;
    }
    if (reply.op >= STORE_AUDIT && (byte_at(bytes, len, 3) & 4)) {
        reply.rows = &row;
        reply.row_count = 1;
    }
    reply.next_due_ms = (int8_t)byte_at(bytes, len, 5);
    reply.expired = reply.promoted = byte_at(bytes, len, 6);
    broker_on_store_reply(s->broker, s->now_ms, &reply, &s->out);
    collect(s);
}

/* Two peers at each door. */
static struct bus_peer peer_of(uint8_t argument)
{
    struct bus_peer peer = { .bytes = { 'p', (uint8_t)('0' + argument % PEERS) }, .len = 2 };

    return peer;
}

static struct broker_frame frame_of(uint8_t argument, const struct bus_peer *from,
                                    const void *bytes, size_t len)
{
    bool is_worker = argument % PEERS / 2;

    return (struct broker_frame){ is_worker ? BROKER_WORKERS : BROKER_CLIENTS,
                                  from,
                                  bytes,
                                  len,
                                  is_worker ? KEYS_WORKER : KEYS_ADMIN,
                                  argument & 0x80 ? "birds" : "" };
}

/* A frame whose header is right; its type is the first byte. */
static void send_frame(struct scene *s, uint8_t argument, const uint8_t *bytes, size_t len)
{
    struct buf frame = { 0 };
    struct bus_peer from = peer_of(argument);
    struct broker_frame sent;
    uint8_t header[CODEC_HEADER_BYTES] = {
        '1', 'S', 'T', 'P', CODEC_VERSION, 0, byte_at(bytes, len, 0), 0, (uint8_t)s->seq++
    };

    CHECK(buf_append(&frame, header, sizeof(header)) == OK);
    if (len > 1)
        CHECK(buf_append(&frame, bytes + 1, len - 1) == OK);
    sent = frame_of(argument, &from, frame.data, frame.len);
    broker_on_frame(s->broker, s->now_ms, &sent, &s->out);
    buf_free(&frame);
}

static void take_step(struct scene *s, const uint8_t *step, size_t len)
{
    const uint8_t *bytes = step + STEP_BYTES;
    struct bus_peer from = peer_of(step[1]);
    struct broker_frame frame;

    switch ((enum step)(step[0] % STEPS)) {
    case STEP_FRAME:
        send_frame(s, step[1], bytes, len);
        break;
    case STEP_RAW:
        frame = frame_of(step[1], &from, bytes, len);
        broker_on_frame(s->broker, s->now_ms, &frame, &s->out);
        break;
    case STEP_REPLY:
        if (s->call_count)
            answer(s, step[1] % s->call_count, bytes, len);
        break;
    case STEP_TIME:
        s->now_ms += 100 * (int64_t)step[1];
        CHECK(broker_tick(s->broker, s->now_ms, &s->out) >= 0);
        break;
    case STEP_UNSENT:
        if (s->has_sent)
            broker_on_unsent(s->broker, s->now_ms, &s->sent, &s->out);
        s->has_sent = false;
        break;
    case STEPS:
        break;
    }
    collect(s);
}

static void open_scene(struct scene *s)
{
    static const struct broker_config config = {
        .lease_ms = 30000,
        .heartbeat_ms = 1000,
        .retry_base_ms = 100,
        .retry_cap_ms = 1000,
        .queued_max = 1000,
        .version = "fuzz",
        .random = no_dice,
    };

    memset(s, 0, sizeof(*s));
    spec_init(&s->spec);
    strcpy(s->spec.image, "file:///a.jpg");
    CHECK(arena_open(&s->arena, "frame", CODEC_ARENA_BYTES) == OK);
    CHECK(broker_open(&s->broker, &config, "00abcdefghjkmnpqrstvwxyz03") == OK);
}

FUZZ(broker, 8 << 10)
{
    static struct scene s;

    open_scene(&s);
    while (len >= STEP_BYTES) {
        size_t room = len - STEP_BYTES, want = bytes[2] | (size_t)bytes[3] << 8;

        want = want < room ? want : room;
        take_step(&s, bytes, want);
        bytes += STEP_BYTES + want;
        len -= STEP_BYTES + want;
    }
    broker_drain(s.broker);
    for (int i = 0; s.call_count > 0; i++) {
        CHECK(i < 10 * CALLS_MAX);
        answer(&s, 0, NULL, 0);
    }
    CHECK(broker_pending(s.broker) == 0);
    broker_close(s.broker);
    outbox_free(&s.out);
    arena_close(&s.arena);
}
