/* DESIGN: this file tells a job's story at the broker; the chapters are in handle_client.c (from
 * and to clients), handle_ask.c (from and to operators), handle_worker.c (from and to workers) and
 * dispatch.c (which worker gets the next job).
 *
 *   frame --> decode --> handler --> store calls, each with a tag --> replies --> answer
 *
 * A request that needs several calls (SUBMIT of 100 jobs) is kept in a struct request until the
 * last reply is there; the tag of a call says which request and which item it belongs to. */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker_priv.h"
#include "common/base/check.h"
#include "common/base/log.h"

/* How often to look for jobs that another broker accepted: nobody tells us of those. */
#define POLL_MS 250
#define POLL_WORKERS 16

/* Sweeps: at most so far apart, and at most a ninth of a lease; and so close. Three missing ones
 * mean that no broker was there to renew leases at. With a heartbeat of at most a third of a lease,
 * a shorter absence costs no lease, and a longer one brings grace. */
#define SWEEP_MAX_MS 1000
#define SWEEP_MIN_MS 20
#define SWEEPS_PER_LEASE 9
#define SWEEPS_PER_GAP 3
#define SWEEP_LIMIT 200

#define STATS_MS 5000 /* how often the store's jobs are counted for metrics */

#define REAL_BITS 53 /* of a double's mantissa */

/* At which door what is said, by whom, and who listens. */
static const struct {
    enum broker_side side;
    enum keys_role role; /* that is needed; an admin may whatever a client may */
    handler_fn handle;
} handlers[MSG_TYPE_COUNT] = {
    [MSG_SUBMIT] = { BROKER_CLIENTS, KEYS_CLIENT, handle_submit },
    [MSG_STATUS] = { BROKER_CLIENTS, KEYS_CLIENT, handle_status },
    [MSG_LIST] = { BROKER_CLIENTS, KEYS_CLIENT, handle_list },
    [MSG_CANCEL] = { BROKER_CLIENTS, KEYS_CLIENT, handle_cancel },
    [MSG_PING] = { BROKER_CLIENTS, KEYS_CLIENT, handle_ping },
    [MSG_ASK] = { BROKER_CLIENTS, KEYS_CLIENT, handle_ask },
    [MSG_RULE] = { BROKER_CLIENTS, KEYS_ADMIN, handle_rule },
    [MSG_HELLO] = { BROKER_WORKERS, KEYS_WORKER, handle_hello },
    [MSG_CREDIT] = { BROKER_WORKERS, KEYS_WORKER, handle_credit },
    [MSG_STATE] = { BROKER_WORKERS, KEYS_WORKER, handle_state },
    [MSG_DONE] = { BROKER_WORKERS, KEYS_WORKER, handle_done },
    [MSG_FAIL] = { BROKER_WORKERS, KEYS_WORKER, handle_fail },
    [MSG_RELEASE] = { BROKER_WORKERS, KEYS_WORKER, handle_release },
    [MSG_BYE] = { BROKER_WORKERS, KEYS_WORKER, handle_bye },
};

/* May somebody with this role say it? */
static bool is_allowed(enum msg_type type, enum keys_role role)
{
    enum keys_role needed = handlers[type].role;

    return role == needed || (role == KEYS_ADMIN && needed == KEYS_CLIENT);
}

/* Who takes the store's answer to one item of a request of this type. */
static const reply_fn reply_handlers[MSG_TYPE_COUNT] = {
    [MSG_SUBMIT] = handle_submit_reply, [MSG_CANCEL] = handle_cancel_reply,
    [MSG_STATUS] = handle_status_reply, [MSG_LIST] = handle_list_reply,
    [MSG_PING] = handle_ping_reply,     [MSG_STATE] = handle_state_reply,
    [MSG_DONE] = handle_ack_reply,      [MSG_FAIL] = handle_ack_reply,
    [MSG_RELEASE] = handle_ack_reply,   [MSG_ASK] = handle_rows_reply,
    [MSG_RULE] = handle_rows_reply,
};

status broker_open(struct broker **broker, const struct broker_config *config,
                   const char id[JOB_ID_BYTES])
{
    struct broker *b = calloc(1, sizeof(*b));
    status st = OK;

    *broker = NULL;
    if (!b)
        return FAIL(ERR_NOMEM, "no memory for the broker");
    b->config = *config;
    memcpy(b->id, id, JOB_ID_BYTES);
    for (size_t i = 0; i < REQUESTS_MAX; i++)
        b->free_requests[b->free_count++] = (uint16_t)(REQUESTS_MAX - 1 - i);
    b->workers = calloc(BROKER_WORKERS_MAX, sizeof(*b->workers));
    if (!b->workers)
        TRY(FAIL(ERR_NOMEM, "no memory for the broker"));
    TRY(arena_open(&b->arena, "message", CODEC_ARENA_BYTES));
    *broker = b;
    return OK;
out:
    broker_close(b);
    return st;
}

void broker_close(struct broker *broker)
{
    if (!broker)
        return;
    for (size_t i = 0; i < REQUESTS_MAX; i++) {
        if (broker->requests[i])
            buf_free(&broker->requests[i]->sentences);
        free(broker->requests[i]);
    }
    arena_close(&broker->arena);
    free(broker->workers);
    free(broker);
}

/* --- answers --- */

void broker_answer_error(enum broker_side side, const struct bus_peer *to, uint64_t seq,
                         status code, const char *sentence, struct outbox *out)
{
    struct msg m = { .type = MSG_ERROR, .seq = seq, .error = { code, sentence } };

    CHECK(code != OK);
    if (outbox_send(out, side, to, &m) != OK)
        log_error("answer.failed", "type=error reason=\"%s\"", status_message());
}

void broker_answer(struct broker *b, enum broker_side side, const struct bus_peer *to,
                   const struct msg *m, struct outbox *out)
{
    (void)b;
    if (outbox_send(out, side, to, m) == OK)
        return;
    log_error("answer.failed", "type=%s reason=\"%s\"", msg_type_name(m->type), status_message());
    broker_answer_error(side, to, m->seq, ERR_CORRUPT, status_message(), out);
}

void broker_count(struct broker *b, enum meter row, size_t value)
{
    metrics_add(b->config.metrics, row, value, 1);
}

struct store_retry broker_retry(const struct broker *b)
{
    return (struct store_retry){
        .base_ms = b->config.retry_base_ms,
        .cap_ms = b->config.retry_cap_ms,
        .random = (double)(b->config.random() >> (64 - REAL_BITS)) / (double)(1ull << REAL_BITS),
    };
}

/* --- frames --- */

/* A frame that is no message of ours, or not for this door. */
static void refuse(enum broker_side side, const struct bus_peer *from, const struct msg *m,
                   status code, struct outbox *out)
{
    log_warn("message.refused", "side=%s type=%s reason=\"%s\"",
             side == BROKER_CLIENTS ? "clients" : "workers", msg_type_name(m->type),
             status_message());
    broker_answer_error(side, from, m->seq, code, status_message(), out);
}

void broker_on_frame(struct broker *b, int64_t now_ms, const struct broker_frame *frame,
                     struct outbox *out)
{
    struct msg *m = &b->message;
    status st;

    status_clear();
    arena_release(&b->arena, 0);
    st = codec_decode(m, frame->bytes, frame->len, &b->arena);
    if (st == OK && !handlers[m->type].handle)
        st = FAIL(ERR_BADARG, "a broker has no use for %s", msg_type_name(m->type));
    if (st == OK && handlers[m->type].side != frame->side)
        st = FAIL(ERR_BADARG, "%s belongs to the broker's %s: use that address",
                  msg_type_name(m->type),
                  frame->side == BROKER_CLIENTS ? "worker_endpoint" : "client_endpoint");
    if (st == OK && !is_allowed(m->type, frame->role))
        st = FAIL(ERR_CONFLICT,
                  "the key of this program is a %s's, who may not say %s (that needs the role %s): "
                  "use another key, or let the broker's curve_allow have it as another role",
                  keys_role_name(frame->role), msg_type_name(m->type),
                  keys_role_name(handlers[m->type].role));
    broker_count(b, METER_MESSAGES, m->type);
    if (st != OK) {
        broker_count(b, METER_REFUSED, 0);
        refuse(frame->side, frame->from, m, st, out);
        return;
    }
    b->frame = frame;
    handlers[m->type].handle(b, now_ms, frame->from, m, out);
    b->frame = NULL;
    dispatch_claims(b, now_ms, out);
}

/* --- the store's answers --- */

static int64_t sweep_max_ms(const struct broker *b)
{
    int64_t ms = b->config.lease_ms / SWEEPS_PER_LEASE;

    return ms < SWEEP_MAX_MS ? ms : SWEEP_MAX_MS;
}

static void on_sweep(struct broker *b, int64_t now_ms, const struct store_reply *reply)
{
    int64_t wait_ms = sweep_max_ms(b);

    b->is_sweeping = false;
    if (reply->code == OK) {
        if (reply->expired > 0)
            log_warn("lease.expired", "count=%" PRId64, reply->expired);
        metrics_add(b->config.metrics, METER_EXPIRED, 0, (double)reply->expired);
        dispatch_wake(b, NULL, reply->promoted + reply->expired);
        if (reply->next_due_ms >= 0 && reply->next_due_ms < wait_ms)
            wait_ms = reply->next_due_ms;
        if (wait_ms < SWEEP_MIN_MS)
            wait_ms = SWEEP_MIN_MS;
    } else if (reply->code != ERR_UNAVAILABLE) {
        log_error("sweep.failed", "code=%s reason=\"%s\"", status_name(reply->code),
                  reply->sentence);
    }
    b->next_sweep_ms = now_ms + wait_ms;
}

/* The answer to something the broker did of its own accord. */
static void on_own(struct broker *b, const struct store_reply *reply)
{
    for (int i = 0; reply->op == STORE_STATS && reply->code == OK && i < JOB_STATE_COUNT; i++)
        metrics_set(b->config.metrics, METER_JOBS, (size_t)i, (double)reply->job_counts[i]);
    if (reply->code != OK)
        log_warn("store.call", "op=%d code=%s reason=\"%s\"", (int)reply->op,
                 status_name(reply->code), reply->sentence);
}

void broker_on_store_reply(struct broker *b, int64_t now_ms, const struct store_reply *reply,
                           struct outbox *out)
{
    struct request *r;
    size_t index;

    if (reply->op == STORE_SWEEP) {
        on_sweep(b, now_ms, reply);
    } else if (reply->op == STORE_CLAIM) {
        dispatch_on_claim(b, now_ms, reply, out);
    } else if (reply->tag == TAG_NONE) {
        on_own(b, reply);
    } else {
        r = request_of_tag(b, reply->tag, &index);
        CHECK(reply_handlers[r->type]);
        reply_handlers[r->type](b, now_ms, r, index, reply, out);
    }
    dispatch_claims(b, now_ms, out);
}

void broker_on_unsent(struct broker *b, int64_t now_ms, const struct outbox_send *send,
                      struct outbox *out)
{
    (void)now_ms;
    /* Anything but a JOB is asked for again by whoever waits for it. */
    if (send->is_job)
        dispatch_on_unsent(b, send, out);
}

/* --- time --- */

static void begin_sweep(struct broker *b, struct outbox *out)
{
    struct store_call call = { .op = STORE_SWEEP, .tag = TAG_NONE };

    call.sweep.limit = SWEEP_LIMIT;
    call.sweep.retry = broker_retry(b);
    call.sweep.gap_ms = SWEEPS_PER_GAP * sweep_max_ms(b);
    call.sweep.lease_ms = b->config.lease_ms;
    call.sweep.retention_ms = b->config.retention_ms;
    outbox_call(out, &call);
    b->is_sweeping = true;
}

static void ask_stats(struct broker *b, int64_t now_ms, struct outbox *out)
{
    if (!b->config.metrics || now_ms < b->next_stats_ms)
        return;
    outbox_call(out, &(struct store_call){ .op = STORE_STATS, .tag = TAG_NONE });
    b->next_stats_ms = now_ms + STATS_MS;
}

int64_t broker_tick(struct broker *b, int64_t now_ms, struct outbox *out)
{
    int64_t next_ms;

    if (!b->is_started) {
        b->next_sweep_ms = b->next_poll_ms = now_ms;
        b->is_started = true;
    }
    if (!b->is_sweeping && now_ms >= b->next_sweep_ms)
        begin_sweep(b, out);
    if (now_ms >= b->next_poll_ms) {
        dispatch_drop_silent(b, now_ms);
        dispatch_wake(b, NULL, POLL_WORKERS);
        b->next_poll_ms = now_ms + POLL_MS;
    }
    ask_stats(b, now_ms, out);
    dispatch_claims(b, now_ms, out);
    next_ms = b->next_poll_ms;
    if (!b->is_sweeping && b->next_sweep_ms < next_ms)
        next_ms = b->next_sweep_ms;
    return next_ms > now_ms ? next_ms - now_ms : 0;
}

void broker_drain(struct broker *b)
{
    b->is_draining = true;
}

size_t broker_workers(const struct broker *b)
{
    return (size_t)dispatch_count(b);
}

size_t broker_pending(const struct broker *b)
{
    return REQUESTS_MAX - b->free_count;
}
