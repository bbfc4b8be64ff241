/* DESIGN: what workers say. Leases belong to workers, not to brokers: STATE, DONE, FAIL and RELEASE
 * are taken from any connection, and judged by the store alone. Only CREDIT needs a HELLO on the
 * same connection; without one the worker is told to say it again. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/broker_priv.h"
#include "common/base/check.h"
#include "common/base/log.h"

#define LEASE_FORMAT "job=%s attempt=%" PRId64 " lease=%016" PRIx64
#define LEASE_ARGS(l) (l)->job, (l)->attempt, (l)->nonce

/* --- HELLO, CREDIT, BYE --- */

void handle_hello(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                  const struct msg *m, struct outbox *out)
{
    const struct msg_hello *hello = &m->hello;
    struct msg answer = { .type = MSG_WELCOME, .seq = m->seq };
    struct worker *w = dispatch_admit(b, from, hello->worker);

    if (!w) {
        broker_answer_error(BROKER_WORKERS, from, m->seq, ERR_FULL,
                            "this broker has as many workers as it can serve; use another", out);
        return;
    }
    snprintf(w->label, sizeof(w->label), "%.150s/%s", hello->host, hello->worker);
    w->model_count = hello->model_count;
    for (size_t i = 0; i < hello->model_count; i++)
        snprintf(w->models[i], sizeof(w->models[i]), "%s", hello->models[i]);
    snprintf(w->device, sizeof(w->device), "%s", hello->device);
    snprintf(w->version, sizeof(w->version), "%s", hello->version);
    w->memory_mib = hello->memory_mib;
    w->heard_ms = now_ms;
    log_info("worker.hello", "worker=%s device=\"%s\" memory_mib=%" PRId64 " version=%s model=%s",
             w->label, hello->device, w->memory_mib, hello->version, w->models[0]);
    memcpy(answer.welcome.broker, b->id, JOB_ID_BYTES);
    answer.welcome.lease_ms = b->config.lease_ms;
    answer.welcome.heartbeat_ms = b->config.heartbeat_ms;
    broker_answer(b, BROKER_WORKERS, from, &answer, out);
}

/* The worker of this connection takes so many jobs; NULL: it is not known here. */
static struct worker *take_credit(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                                  int64_t granted_total)
{
    struct worker *w = dispatch_find(b, from);

    if (!w)
        return NULL;
    w->heard_ms = now_ms;
    if (granted_total > w->granted_total) {
        w->granted_total = granted_total;
        w->is_hopeful = true;
    }
    return w;
}

static void ask_for_hello(const struct bus_peer *from, struct outbox *out)
{
    broker_answer_error(BROKER_WORKERS, from, 0, ERR_NOTFOUND,
                        "this broker does not know this worker; say HELLO", out);
}

void handle_credit(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out)
{
    if (!take_credit(b, now_ms, from, m->credit.granted_total))
        ask_for_hello(from, out);
}

void handle_bye(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                struct outbox *out)
{
    struct worker *w = dispatch_find(b, from);

    (void)now_ms;
    (void)m;
    (void)out;
    if (!w)
        return;
    log_info("worker.bye", "worker=%s", w->label);
    w->must_drain = false;
    dispatch_leave(w);
}

/* --- STATE --- */

static void answer_state(struct broker *b, struct request *r, struct outbox *out)
{
    struct msg answer = { .type = MSG_STATE_ACK, .seq = r->seq };
    size_t known = 0;

    /* A lease that the store said nothing about is left out: the worker asks again. */
    for (size_t i = 0; i < r->count; i++) {
        if (r->leases[i].verdict != VERDICT_NONE)
            r->leases[known++] = r->leases[i];
    }
    answer.state_ack.dispatched_total = r->worker_dispatched;
    answer.state_ack.verdicts = r->leases;
    answer.state_ack.verdict_count = known;
    broker_answer(b, r->side, &r->peer, &answer, out);
    request_end(b, r);
}

void handle_state(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                  const struct msg *m, struct outbox *out)
{
    struct worker *w = take_credit(b, now_ms, from, m->state.granted_total);
    struct request *r = request_begin(b, BROKER_WORKERS, from, m, out);

    if (!w)
        ask_for_hello(from, out);
    else
        dispatch_note_leases(w, &m->state);
    if (w && w->must_drain) /* until it says BYE: a DRAIN may be lost */
        broker_answer(b, BROKER_WORKERS, from, &(struct msg){ .type = MSG_DRAIN }, out);
    if (!r)
        return;
    r->worker_dispatched = w ? w->dispatched_total : 0;
    r->count = r->waiting = m->state.lease_count;
    for (size_t i = 0; i < r->count; i++) {
        struct store_call call = { .op = STORE_RENEW, .tag = request_tag(r, i) };

        r->leases[i] = (struct msg_lease_verdict){ .lease = m->state.leases[i].lease };
        call.renew.state = &m->state.leases[i];
        call.renew.lease_ms = b->config.lease_ms;
        outbox_call(out, &call);
    }
    if (r->count == 0)
        answer_state(b, r, out);
}

void handle_state_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                        const struct store_reply *reply, struct outbox *out)
{
    const struct lease *lease = &r->leases[index].lease;

    (void)now_ms;
    CHECK(index < r->count);
    if (reply->code == OK) {
        r->leases[index].verdict = reply->verdict;
        if (reply->verdict == VERDICT_DUPLICATE) /* done: its worker has not heard it yet */
            r->leases[index].verdict = VERDICT_OK;
        else if (reply->verdict != VERDICT_OK)
            log_warn("lease.refused", LEASE_FORMAT " verdict=%s state=%s", LEASE_ARGS(lease),
                     msg_verdict_name(reply->verdict), job_state_name(reply->state));
    }
    if (request_is_complete(r))
        answer_state(b, r, out);
}

/* --- DONE, FAIL, RELEASE --- */

static void ask_about(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                      const struct msg *m, struct store_call *call, struct outbox *out)
{
    struct worker *w = dispatch_find(b, from);
    struct request *r = request_begin(b, BROKER_WORKERS, from, m, out);

    if (w) {
        w->heard_ms = now_ms;
        dispatch_note_end(w);
    }
    if (!r)
        return;
    r->waiting = 1;
    r->lease = m->done.lease; /* first member of done, fail and release */
    call->tag = request_tag(r, 0);
    outbox_call(out, call);
}

_Static_assert(offsetof(struct msg_done, lease) == 0 && offsetof(struct msg_fail, lease) == 0 &&
                   offsetof(struct msg_release, lease) == 0,
               "the lease comes first");

void handle_done(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out)
{
    struct store_call call = { .op = STORE_COMPLETE };

    call.complete.lease = m->done.lease;
    call.complete.result = &m->done.result;
    ask_about(b, now_ms, from, m, &call, out);
}

void handle_fail(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out)
{
    struct store_call call = { .op = STORE_FAIL };

    log_warn("attempt.failed", LEASE_FORMAT " code=%s reason=\"%s\"", LEASE_ARGS(&m->fail.lease),
             status_name(m->fail.code), m->fail.sentence);
    call.fail.lease = m->fail.lease;
    call.fail.code = m->fail.code;
    call.fail.sentence = m->fail.sentence;
    call.fail.retry = broker_retry(b);
    ask_about(b, now_ms, from, m, &call, out);
}

void handle_release(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                    const struct msg *m, struct outbox *out)
{
    struct store_call call = { .op = STORE_RELEASE };

    call.release = m->release.lease;
    ask_about(b, now_ms, from, m, &call, out);
}

void handle_ack_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                      const struct store_reply *reply, struct outbox *out)
{
    struct msg answer = { .type = MSG_ACK, .seq = r->seq, .ack = { r->lease, reply->verdict } };

    (void)now_ms;
    (void)index;
    CHECK(request_is_complete(r));
    if (reply->code != OK) {
        broker_answer_error(r->side, &r->peer, r->seq, reply->code, reply->sentence, out);
    } else {
        if (reply->verdict == VERDICT_OK)
            broker_count(b, METER_ENDED, r->type);
        else if (reply->verdict != VERDICT_DUPLICATE)
            broker_count(b, METER_LATE, 0);
        if (reply->verdict == VERDICT_OK)
            log_info("lease.ended", LEASE_FORMAT " by=%s state=%s", LEASE_ARGS(&r->lease),
                     msg_type_name(r->type), job_state_name(reply->state));
        else if (reply->verdict != VERDICT_DUPLICATE)
            log_warn("lease.refused", LEASE_FORMAT " by=%s verdict=%s state=%s",
                     LEASE_ARGS(&r->lease), msg_type_name(r->type),
                     msg_verdict_name(reply->verdict), job_state_name(reply->state));
        broker_answer(b, r->side, &r->peer, &answer, out);
        if (reply->state == JOB_QUEUED)
            dispatch_wake(b, NULL, 1);
    }
    request_end(b, r);
}
