/* A worker's agent among brokers of which nothing is sure: frames of any kind in any order, words
 * of the worker about leases that it has, had, or never had, time that jumps.
 *
 * The input is a sequence of steps: kind, argument, length (two bytes, little-endian), that many
 * bytes. What must hold: every frame that goes out is a message of ours; a lease is taken away only
 * from who has it, and once; a stop comes to its end in two seconds. */
#include <string.h>

#include "common/base/arena.h"
#include "proto/codec.h"
#include "tests/fuzz/fuzz.h"
#include "worker/agent_core.h"

#define STEP_BYTES 4
#define BROKERS 2
#define STOP_MS 2000

enum step { STEP_FRAME = 0, STEP_RAW, STEP_NOTE, STEP_TIME, STEP_DRAIN, STEPS };

struct scene {
    struct agent_core *core;
    struct arena arena; /* of a frame that is looked at */
    int64_t now_ms;
    uint64_t seq[BROKERS];               /* of the last frame that went to each */
    struct lease leases[MSG_LEASES_MAX]; /* the worker works on these */
    size_t lease_count;
};

static void on_send(void *self, size_t broker, const void *bytes, size_t len)
{
    struct scene *s = self;
    struct msg m;

    CHECK(broker < BROKERS);
    arena_release(&s->arena, 0);
    CHECK(codec_decode(&m, bytes, len, &s->arena) == OK);
    s->seq[broker] = m.seq;
}

static void on_reconnect(void *self, size_t broker)
{
    (void)self;
    CHECK(broker < BROKERS);
}

static void on_job(void *self, const struct lease *lease, const struct job_spec *spec)
{
    struct scene *s = self;

    CHECK(s->lease_count < MSG_LEASES_MAX);
    CHECK(memchr(spec->image, '\0', sizeof(spec->image)));
    for (size_t i = 0; i < s->lease_count; i++)
        CHECK(!msg_lease_equal(&s->leases[i], lease));
    s->leases[s->lease_count++] = *lease;
}

/* The worker no longer works on lease; false: it did not. */
static bool drop(struct scene *s, const struct lease *lease)
{
    for (size_t i = 0; i < s->lease_count; i++) {
        if (msg_lease_equal(&s->leases[i], lease)) {
            s->leases[i] = s->leases[--s->lease_count];
            return true;
        }
    }
    return false;
}

static void on_cancel(void *self, const struct lease *lease, enum msg_verdict why)
{
    CHECK(why == VERDICT_LOST || why == VERDICT_CANCELLED || why == VERDICT_TIMEOUT ||
          why == VERDICT_RELEASED);
    CHECK(drop(self, lease));
}

/* Byte i of the step, 0 beyond its end. */
static uint8_t byte_at(const uint8_t *bytes, size_t len, size_t i)
{
    return i < len ? bytes[i] : 0;
}

/* A frame whose header is right: its type is the first byte, and it answers the last frame to
 * that broker, or none. */
static void receive(struct scene *s, uint8_t argument, const uint8_t *bytes, size_t len)
{
    uint64_t seq = argument & 2 ? s->seq[argument % BROKERS] : 0;
    struct buf frame = { 0 };
    uint8_t header[CODEC_HEADER_BYTES] = {
        '1', 'S', 'T', 'P', CODEC_VERSION, 0, byte_at(bytes, len, 0)
    };

    for (int i = 0; i < 8; i++)
        header[8 + i] = (uint8_t)(seq >> 8 * i);
    CHECK(buf_append(&frame, header, sizeof(header)) == OK);
    if (len > 1)
        CHECK(buf_append(&frame, bytes + 1, len - 1) == OK);
    agent_core_on_frame(s->core, s->now_ms, argument % BROKERS, frame.data, frame.len);
    buf_free(&frame);
}

/* The worker says something of one of its leases, or of one that it never had. */
static void say(struct scene *s, uint8_t argument, const uint8_t *bytes, size_t len)
{
    static const struct lease foreign = { "00zzzzzzzzzzzzzzzzzzzzzzzz", 1, 1 };
    size_t index = (argument >> 3) % (s->lease_count + 1);
    struct agent_note note = {
        .kind = (enum agent_note_kind)(1 + argument % 6),
        .lease = index < s->lease_count ? s->leases[index] : foreign,
        .stage = "unet",
        .progress = byte_at(bytes, len, 0) / 255.0,
        .result = { "file:///v", "file:///p", "file:///m" },
        .code = (status)(1 + byte_at(bytes, len, 1) % (STATUS_COUNT - 1)),
        .sentence = "no",
    };

    if (note.kind == AGENT_DONE || note.kind == AGENT_FAIL || note.kind == AGENT_RELEASE)
        drop(s, &note.lease);
    agent_core_on_note(s->core, s->now_ms, &note);
}

static void take_step(struct scene *s, const uint8_t *step, size_t len)
{
    const uint8_t *bytes = step + STEP_BYTES;

    switch ((enum step)(step[0] % STEPS)) {
    case STEP_FRAME:
        receive(s, step[1], bytes, len);
        break;
    case STEP_RAW:
        agent_core_on_frame(s->core, s->now_ms, step[1] % BROKERS, bytes, len);
        break;
    case STEP_NOTE:
        say(s, step[1], bytes, len);
        break;
    case STEP_TIME:
        s->now_ms += 50 * (int64_t)step[1];
        CHECK(agent_core_tick(s->core, s->now_ms) >= 0);
        break;
    case STEP_DRAIN:
        agent_core_drain(s->core, s->now_ms);
        break;
    case STEPS:
        break;
    }
}

/* Whatever was before, and with brokers that are silent from now on. */
static void expect_end(struct scene *s)
{
    int64_t end_ms = s->now_ms + STOP_MS;

    agent_core_stop(s->core, s->now_ms);
    while (!agent_core_is_finished(s->core, s->now_ms)) {
        int64_t wait_ms = agent_core_tick(s->core, s->now_ms);

        CHECK(s->now_ms <= end_ms);
        s->now_ms += wait_ms > 1 ? wait_ms : 1;
    }
}

FUZZ(agent, 8 << 10)
{
    struct scene s = { 0 };
    const struct agent_config config = { .brokers = { "tcp://a:1", "tcp://b:2" },
                                         .broker_count = BROKERS,
                                         .models = { "default" },
                                         .model_count = 1,
                                         .host = "host",
                                         .device = "cpu",
                                         .version = "fuzz",
                                         .prefetch = len % 2 };
    const struct agent_port port = { &s, on_send, on_reconnect, on_job, on_cancel, NULL };

    CHECK(arena_open(&s.arena, "frame", CODEC_ARENA_BYTES) == OK);
    CHECK(agent_core_open(&s.core, &config, &port, "00abcdefghjkmnpqrstvwxyz03") == OK);
    while (len >= STEP_BYTES) {
        size_t room = len - STEP_BYTES, want = bytes[2] | (size_t)bytes[3] << 8;

        want = want < room ? want : room;
        take_step(&s, bytes, want);
        bytes += STEP_BYTES + want;
        len -= STEP_BYTES + want;
    }
    expect_end(&s);
    agent_core_close(s.core);
    arena_close(&s.arena);
}
