/* DESIGN: what clients ask. Nothing is answered before the store has answered, and no answer says
 * more than the store did: a job without a reply is told as "unavailable", and may be asked for
 * again, since every request is harmless twice. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/broker_priv.h"
#include "common/base/check.h"
#include "common/base/log.h"

/* Jobs in one LISTED, so that it fits into a message whatever the jobs look like: URLs, labels and
 * sentence of one take at most 3 * 2 KiB + 1 KiB + 0.5 KiB + 1 KiB for the rest. */
#define LIST_JOBS_MAX 28
_Static_assert(
    (size_t)LIST_JOBS_MAX *(3 * SPEC_URL_MAX + SPEC_LABELS_MAX + MSG_SENTENCE_MAX + 1024) + 1024 <=
        LIMIT_MSG_BYTES,
    "a page of the longest jobs fits into a message");

/* One verdict of SUBMITTED or CANCELLED is known; the last one sends the answer. */
static void take_verdict(struct broker *b, struct request *r, size_t index,
                         const struct msg_job_verdict *v, struct outbox *out)
{
    struct msg answer = { .seq = r->seq };

    CHECK(index < r->count);
    r->jobs[index].verdict = v->verdict;
    r->jobs[index].state = v->state;
    r->jobs[index].code = v->code;
    if (v->sentence && *v->sentence)
        request_keep_sentence(r, index, v->sentence);
    if (!request_is_complete(r))
        return;
    for (size_t i = 0; i < r->count; i++)
        r->jobs[i].sentence = r->sentence_at[i] ? r->sentences.data + r->sentence_at[i] : "";
    answer.type = r->type == MSG_SUBMIT ? MSG_SUBMITTED : MSG_CANCELLED;
    answer.submitted = (struct msg_job_verdicts){ r->jobs, r->count };
    broker_answer(b, r->side, &r->peer, &answer, out);
    request_end(b, r);
}

/* An answer to a request for nothing at all. */
static void answer_empty(struct broker *b, const struct bus_peer *from, enum msg_type type,
                         uint64_t seq, struct outbox *out)
{
    struct msg answer = { .type = type, .seq = seq };

    if (type == MSG_STATUSES)
        answer.statuses.cursor = "";
    broker_answer(b, BROKER_CLIENTS, from, &answer, out);
}

/* --- SUBMIT --- */

/* A client's jobs are those of its card's tenant. One that claims another is told so: a job that
 * quietly becomes somebody else's would not be found again. */
static status settle_tenant(const struct broker *b, const struct msg_submit_item *item)
{
    struct job_spec *spec = (struct job_spec *)(uintptr_t)&item->spec; /* in the broker's arena */
    const char *own = b->frame->tenant;

    if (!*own)
        return OK;
    if (*spec->tenant && strcmp(spec->tenant, own) != 0)
        return FAIL(ERR_CONFLICT,
                    "tenant: the key of this program is of tenant %s, the job says %s: leave "
                    "tenant out, or use another key",
                    own, spec->tenant);
    snprintf(spec->tenant, sizeof(spec->tenant), "%s", own);
    return OK;
}

void handle_submit(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out)
{
    struct request *r;

    (void)now_ms;
    if (m->submit.item_count == 0) {
        answer_empty(b, from, MSG_SUBMITTED, m->seq, out);
        return;
    }
    r = request_begin(b, BROKER_CLIENTS, from, m, out);
    if (!r)
        return;
    r->count = r->waiting = m->submit.item_count;
    for (size_t i = 0; i < r->count; i++) {
        const struct msg_submit_item *item = &m->submit.items[i];
        struct store_call call = { .op = STORE_SUBMIT, .tag = request_tag(r, i) };
        status st = spec_check(&item->spec);

        if (st == OK)
            st = settle_tenant(b, item);

        memcpy(r->jobs[i].job, item->job, JOB_ID_BYTES);
        if (st != OK) { /* this may end the request: nothing of it is touched below */
            struct msg_job_verdict v = { .verdict = VERDICT_REFUSED,
                                         .code = st,
                                         .sentence = status_message() };
            bool is_last = i + 1 == r->count;

            take_verdict(b, r, i, &v, out);
            if (is_last)
                return;
            continue;
        }
        call.submit.job = item->job;
        call.submit.spec = &item->spec;
        call.submit.queued_max = b->config.queued_max;
        outbox_call(out, &call);
    }
}

/* Why a submit or cancel was not done, for people. */
static void conflict_sentence(char *text, size_t room, const struct request *r, size_t index,
                              const struct store_reply *reply)
{
    if (r->type == MSG_SUBMIT)
        snprintf(text, room, "job %s exists with other parameters (it is %s); use another key",
                 r->jobs[index].job, job_state_name(reply->state));
    else
        snprintf(text, room, "job %s is %s already", r->jobs[index].job,
                 job_state_name(reply->state));
}

void handle_submit_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                         const struct store_reply *reply, struct outbox *out)
{
    struct msg_job_verdict v = { .verdict = reply->verdict,
                                 .state = reply->state,
                                 .code = reply->code,
                                 .sentence = reply->sentence };
    char text[128];

    (void)now_ms;
    if (reply->code != OK)
        v.verdict = VERDICT_REFUSED;
    if (v.verdict == VERDICT_OK) {
        broker_count(b, METER_ACCEPTED, 0);
        log_info("job.accepted", "job=%s", r->jobs[index].job);
        dispatch_wake(b, NULL, 1);
    }
    if (v.verdict == VERDICT_CONFLICT) {
        conflict_sentence(text, sizeof(text), r, index, reply);
        v.code = ERR_CONFLICT;
        v.sentence = text;
    }
    take_verdict(b, r, index, &v, out);
}

/* --- CANCEL --- */

void handle_cancel(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out)
{
    struct request *r;

    (void)now_ms;
    if (m->cancel.id_count == 0) {
        answer_empty(b, from, MSG_CANCELLED, m->seq, out);
        return;
    }
    r = request_begin(b, BROKER_CLIENTS, from, m, out);
    if (!r)
        return;
    r->count = r->waiting = m->cancel.id_count;
    for (size_t i = 0; i < r->count; i++) {
        struct store_call call = { .op = STORE_CANCEL, .tag = request_tag(r, i) };

        memcpy(r->jobs[i].job, m->cancel.ids[i], JOB_ID_BYTES);
        call.cancel = m->cancel.ids[i];
        outbox_call(out, &call);
    }
}

/* Tell the worker, if it is one of ours; otherwise it hears it with its next heartbeat. */
static void tell_holder(struct broker *b, const struct store_reply *reply, struct outbox *out)
{
    const char *slash = strrchr(reply->worker, '/');
    struct worker *w = slash ? dispatch_find_id(b, slash + 1) : NULL;
    struct msg m = { .type = MSG_CANCEL_LEASE,
                     .cancel_lease = { reply->lease, VERDICT_CANCELLED } };

    if (w)
        broker_answer(b, BROKER_WORKERS, &w->peer, &m, out);
}

void handle_cancel_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                         const struct store_reply *reply, struct outbox *out)
{
    struct msg_job_verdict v = { .verdict = reply->verdict,
                                 .state = reply->state,
                                 .code = reply->code,
                                 .sentence = reply->sentence };
    char text[128];

    (void)now_ms;
    if (reply->code != OK)
        v.verdict = VERDICT_REFUSED;
    if (v.verdict == VERDICT_OK) {
        log_info("job.cancelled", "job=%s", r->jobs[index].job);
        if (reply->lease.job[0])
            tell_holder(b, reply, out);
    }
    if (v.verdict == VERDICT_CONFLICT) {
        conflict_sentence(text, sizeof(text), r, index, reply);
        v.code = ERR_CONFLICT;
        v.sentence = text;
    }
    if (v.verdict == VERDICT_UNKNOWN) {
        snprintf(text, sizeof(text), "there is no job %s", r->jobs[index].job);
        v.code = ERR_NOTFOUND;
        v.sentence = text;
    }
    take_verdict(b, r, index, &v, out);
}

/* --- requests of one call --- */

void handle_status(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out)
{
    struct store_call call = { .op = STORE_STATUS };

    (void)now_ms;
    if (m->status.id_count == 0) {
        answer_empty(b, from, MSG_STATUSES, m->seq, out);
        return;
    }
    call.status = m->status;
    (void)request_ask(b, from, m, &call, out);
}

void handle_status_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                         const struct store_reply *reply, struct outbox *out)
{
    struct msg answer = { .type = MSG_STATUSES,
                          .seq = r->seq,
                          .statuses = { reply->jobs, reply->job_count, "" } };
    status st;

    (void)now_ms;
    (void)index;
    if (request_end_asked(b, r, reply, out))
        return;
    /* As many as fit; the client asks again for the rest. */
    while ((st = outbox_send(out, r->side, &r->peer, &answer)) == ERR_FULL &&
           answer.statuses.job_count > 1)
        answer.statuses.job_count /= 2;
    if (st != OK) {
        log_error("answer.failed", "type=statuses reason=\"%s\"", status_message());
        broker_answer_error(r->side, &r->peer, r->seq, ERR_CORRUPT, status_message(), out);
    }
}

void handle_list(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out)
{
    struct store_call call = { .op = STORE_LIST };

    (void)now_ms;
    call.list = m->list;
    if (call.list.limit > LIST_JOBS_MAX)
        call.list.limit = LIST_JOBS_MAX;
    if (m->list.cursor[strspn(m->list.cursor, "0123456789")] != '\0') {
        broker_answer_error(BROKER_CLIENTS, from, m->seq, ERR_BADARG,
                            "the cursor is not one that a list gave", out);
        return;
    }
    (void)request_ask(b, from, m, &call, out);
}

void handle_list_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                       const struct store_reply *reply, struct outbox *out)
{
    struct msg answer = { .type = MSG_LISTED,
                          .seq = r->seq,
                          .listed = { reply->jobs, reply->job_count, reply->cursor } };

    (void)now_ms;
    (void)index;
    if (!request_end_asked(b, r, reply, out))
        broker_answer(b, r->side, &r->peer, &answer, out);
}

void handle_ping(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out)
{
    struct store_call call = { .op = STORE_STATS };

    (void)now_ms;
    (void)request_ask(b, from, m, &call, out);
}

void handle_ping_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                       const struct store_reply *reply, struct outbox *out)
{
    struct msg answer = { .type = MSG_PONG, .seq = r->seq };

    (void)now_ms;
    (void)index;
    if (request_end_asked(b, r, reply, out))
        return;
    answer.pong.broker = b->id;
    answer.pong.version = b->config.version;
    answer.pong.worker_count = dispatch_count(b);
    memcpy(answer.pong.job_counts, reply->job_counts, sizeof(answer.pong.job_counts));
    broker_answer(b, r->side, &r->peer, &answer, out);
}
