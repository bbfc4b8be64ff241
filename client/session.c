#include "client/session.h"

#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/keys.h"
#include "proto/codec.h"

/* Silence after which the next broker is asked. A healthy one answers within a few fsyncs. */
#define TRY_MS 1000

/* Pause after a broker said that it can't serve just now. */
#define RETRY_MS 250

status session_open(struct session *s, const struct config_list *endpoints, int64_t timeout_ms)
{
    status st = OK;

    memset(s, 0, sizeof(*s));
    s->interrupt_fd = -1;
    s->timeout_ms = timeout_ms;
    s->endpoints = *endpoints;
    s->frame.max_bytes = LIMIT_MSG_BYTES;
    if (endpoints->count == 0)
        TRY(FAIL(ERR_BADARG, "no broker is known: give --broker tcp://HOST:PORT"));
    for (int i = 0; i < endpoints->count; i++)
        TRY(bus_check_endpoint(endpoints->item[i]));
    TRY(arena_open(&s->arena, "answer", CODEC_ARENA_BYTES));
    TRY(bus_open(&s->bus));
    return OK;
out:
    session_close(s);
    return st;
}

status session_connect(struct session *s, const struct options *options)
{
    status st = OK;

    TRY(session_open(s, &options->broker, options->broker_timeout_ms));
    TRY(keys_trust(s->bus, options->curve_key, options->broker_key));
    return OK;
out:
    session_close(s);
    return st;
}

void session_close(struct session *s)
{
    for (int i = 0; i < s->endpoints.count; i++)
        bus_close_socket(s->sockets[i]);
    bus_close(s->bus);
    arena_close(&s->arena);
    buf_free(&s->frame);
    memset(s, 0, sizeof(*s));
}

static status send_request(struct session *s)
{
    struct bus_socket **socket = &s->sockets[s->current];
    status st = OK;

    if (!*socket)
        TRY(bus_connect(s->bus, s->endpoints.item[s->current], socket));
    /* A full queue means that nobody has listened for long: the next try may be elsewhere. */
    st = bus_send(*socket, NULL, s->frame.data, s->frame.len);
    if (st == ERR_FULL || st == ERR_NOTFOUND)
        st = OK;
out:
    return st;
}

/* An answer to the present request, from any broker that it was sent to? */
static status take_answer(struct session *s, struct msg *answer, bool *is_there)
{
    const void *bytes;
    size_t len;

    *is_there = false;
    for (int i = 0; i < s->endpoints.count; i++) {
        while (s->sockets[i] && bus_receive(s->sockets[i], NULL, &bytes, &len)) {
            status st;

            arena_release(&s->arena, 0);
            memset(answer, 0, sizeof(*answer));
            st = codec_decode(answer, bytes, len, &s->arena);
            if (answer->seq != s->seq && st != ERR_CONFLICT)
                continue; /* the late answer to an earlier request */
            if (st != OK)
                return st;
            *is_there = true;
            s->current = i;
            return OK;
        }
    }
    return OK;
}

/* Wait until something arrives. Errors: ERR_CANCELLED. */
static status wait_for_bytes(struct session *s, int64_t timeout_ms)
{
    struct bus_wait waits[CFG_LIST_ITEMS + 1];
    size_t count = 0;

    _Static_assert(CFG_LIST_ITEMS + 1 <= BUS_WAITS_MAX + 1, "room for every broker and a signal");
    if (s->interrupt_fd >= 0)
        waits[count++] = (struct bus_wait){ .fd = s->interrupt_fd };
    for (int i = 0; i < s->endpoints.count && count < BUS_WAITS_MAX; i++) {
        if (s->sockets[i])
            waits[count++] = (struct bus_wait){ .socket = s->sockets[i], .fd = -1 };
    }
    bus_poll(waits, count, timeout_ms);
    if (s->interrupt_fd >= 0 && waits[0].is_ready)
        return FAIL(ERR_CANCELLED, "interrupted");
    return OK;
}

status session_pause(struct session *s, int64_t timeout_ms)
{
    int64_t until = clock_mono_ms() + timeout_ms;
    struct bus_wait wait = { .fd = s->interrupt_fd };

    for (;;) {
        int64_t left = until - clock_mono_ms();

        if (left <= 0)
            return OK;
        bus_poll(&wait, s->interrupt_fd >= 0, left);
        if (wait.is_ready)
            return FAIL(ERR_CANCELLED, "interrupted");
    }
}

/* One try: the answer, or nothing within its time. */
static status try_once(struct session *s, int64_t deadline, struct msg *answer, bool *is_there)
{
    int64_t until = clock_mono_ms() + TRY_MS;
    status st = OK;

    if (until > deadline)
        until = deadline;
    TRY(send_request(s));
    for (;;) {
        int64_t left = until - clock_mono_ms();

        TRY(take_answer(s, answer, is_there));
        if (*is_there || left <= 0)
            return OK;
        TRY(wait_for_bytes(s, left));
    }
out:
    return st;
}

static status fail_unavailable(const struct session *s)
{
    char all[512] = "";

    if (s->sentence[0])
        return FAIL(ERR_UNAVAILABLE, "%s", s->sentence);
    for (int i = 0; i < s->endpoints.count; i++) {
        size_t len = strlen(all);

        snprintf(all + len, sizeof(all) - len, "%s%.100s", i ? ", " : "", s->endpoints.item[i]);
    }
    return FAIL(ERR_UNAVAILABLE,
                "no broker answers at %.380s: start onestep-broker or give --broker", all);
}

/* What an ERROR means for the caller: OK to try again, or its code. */
static status take_error(struct session *s, const struct msg_error *error)
{
    if (error->code != ERR_UNAVAILABLE)
        return FAIL(error->code == OK ? ERR_CORRUPT : error->code, "%s", error->sentence);
    snprintf(s->sentence, sizeof(s->sentence), "%s", error->sentence);
    return session_pause(s, RETRY_MS);
}

static enum msg_type answer_type(enum msg_type request)
{
    switch ((int)request) {
    case MSG_SUBMIT:
        return MSG_SUBMITTED;
    case MSG_STATUS:
        return MSG_STATUSES;
    case MSG_LIST:
        return MSG_LISTED;
    case MSG_CANCEL:
        return MSG_CANCELLED;
    case MSG_PING:
        return MSG_PONG;
    case MSG_ASK:
    case MSG_RULE:
        return MSG_ROWS;
    }
    CHECK(!"not a client's request");
    return MSG_NONE;
}

status session_call(struct session *s, struct msg *request, struct msg *answer)
{
    int64_t deadline = clock_mono_ms() + s->timeout_ms;
    enum msg_type want = answer_type(request->type);
    status st = OK;

    request->seq = ++s->seq;
    buf_reset(&s->frame);
    s->sentence[0] = '\0';
    TRY(codec_encode(request, &s->frame));
    while (clock_mono_ms() < deadline) {
        bool is_there = false;

        TRY(try_once(s, deadline, answer, &is_there));
        if (is_there && answer->type == want)
            return OK;
        if (is_there && answer->type != MSG_ERROR)
            TRY(FAIL(ERR_CORRUPT, "%s answered %s to %s", s->endpoints.item[s->current],
                     msg_type_name(answer->type), msg_type_name(request->type)));
        if (is_there)
            TRY(take_error(s, &answer->error));
        s->current = (s->current + 1) % s->endpoints.count;
    }
    st = fail_unavailable(s);
out:
    return st;
}
