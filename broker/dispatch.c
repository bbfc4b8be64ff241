/* DESIGN: credit is cumulative, as in TCP windows: a worker says how many jobs it was ever ready to
 * take since its HELLO, the broker knows how many it has sent. A repeated or late message can't
 * grant twice. A claim is for one job; the store decides which.
 *
 * Wake-ups instead of polling: news of a job makes as many workers hopeful as there may be jobs. A
 * hopeful worker with credit claims; an empty answer ends its hope, unless there was news since the
 * claim. A slow poll finds what other brokers accepted. While its claims bring jobs, a worker may
 * have twice as many at the store as before, up to its credit: a long line is emptied by whole
 * pipelines, and a single job costs a single claim. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/broker_priv.h"
#include "common/base/check.h"
#include "common/base/log.h"

/* Silent for so many heartbeats, a worker gets no more jobs. */
#define STALE_HEARTBEATS 5

/* Claims for one worker that may be at the store at once. */
#define CLAIMS_MAX 16

/* Tag of a claim: generation of the worker above its place. */
#define PLACE_BITS 16
_Static_assert(BROKER_WORKERS_MAX <= 1 << PLACE_BITS, "a place fits into a tag");

static bool is_same_peer(const struct bus_peer *a, const struct bus_peer *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

struct worker *dispatch_find(struct broker *b, const struct bus_peer *peer)
{
    for (size_t i = 0; i < b->worker_end; i++) {
        if (b->workers[i].is_used && is_same_peer(&b->workers[i].peer, peer))
            return &b->workers[i];
    }
    return NULL;
}

struct worker *dispatch_find_id(struct broker *b, const char *id)
{
    for (size_t i = 0; i < b->worker_end; i++) {
        if (b->workers[i].is_used && strcmp(b->workers[i].id, id) == 0)
            return &b->workers[i];
    }
    return NULL;
}

void dispatch_forget(struct worker *w)
{
    uint32_t generation = w->generation + 1;

    memset(w, 0, sizeof(*w));
    w->generation = generation;
}

static struct worker *free_place(struct broker *b)
{
    for (size_t i = 0; i < b->worker_end; i++) {
        if (!b->workers[i].is_used)
            return &b->workers[i];
    }
    return b->worker_end < BROKER_WORKERS_MAX ? &b->workers[b->worker_end++] : NULL;
}

struct worker *dispatch_admit(struct broker *b, const struct bus_peer *peer, const char *id)
{
    struct worker *same_peer = dispatch_find(b, peer), *same_id, *w;
    bool must_drain;

    if (same_peer && strcmp(same_peer->id, id) != 0)
        dispatch_forget(same_peer);
    same_id = dispatch_find_id(b, id); /* it comes again, perhaps by a new connection */
    must_drain = same_id && same_id->must_drain;
    if (same_id)
        dispatch_forget(same_id);
    w = free_place(b);
    if (!w)
        return NULL;
    w->is_used = true;
    w->is_leaving = w->must_drain = must_drain;
    w->generation++;
    w->window = 1;
    w->peer = *peer;
    memcpy(w->id, id, JOB_ID_BYTES);
    return w;
}

void dispatch_leave(struct worker *w)
{
    w->is_leaving = true;
    if (w->held_count == 0 && !w->must_drain)
        dispatch_forget(w);
}

void dispatch_note_leases(struct worker *w, const struct msg_state *state)
{
    const struct msg_lease_state *shown = state->lease_count ? &state->leases[0] : NULL;

    for (size_t i = 0; i < state->lease_count && !shown->is_started; i++) {
        if (state->leases[i].is_started)
            shown = &state->leases[i];
    }
    w->held_count = (int64_t)state->lease_count;
    snprintf(w->job, sizeof(w->job), "%s", shown ? shown->lease.job : "");
    snprintf(w->stage, sizeof(w->stage), "%s", shown ? shown->stage : "");
}

void dispatch_note_end(struct worker *w)
{
    if (w->held_count > 0 && --w->held_count == 0)
        w->job[0] = w->stage[0] = '\0';
    if (w->is_leaving)
        dispatch_leave(w);
}

static bool has_credit(const struct worker *w)
{
    return !w->is_leaving && w->granted_total > w->dispatched_total;
}

static bool serves(const struct worker *w, const char *model)
{
    for (size_t i = 0; i < w->model_count; i++) {
        if (strcmp(w->models[i], model) == 0)
            return true;
    }
    return false;
}

void dispatch_wake(struct broker *b, const char *model, int64_t count)
{
    for (size_t n = 0; n < b->worker_end && count > 0; n++) {
        struct worker *w = &b->workers[(b->next_worker + n) % b->worker_end];

        if (!w->is_used || !has_credit(w) || (model && !serves(w, model)))
            continue;
        w->has_news = w->claiming > 0;
        if (w->is_hopeful)
            continue;
        w->is_hopeful = true;
        count--;
    }
}

static bool is_stale(const struct broker *b, const struct worker *w, int64_t now_ms)
{
    return now_ms - w->heard_ms > STALE_HEARTBEATS * b->config.heartbeat_ms;
}

const char *dispatch_state_name(const struct broker *b, const struct worker *w, int64_t now_ms)
{
    if (is_stale(b, w, now_ms))
        return "silent";
    if (w->is_leaving)
        return "draining";
    return w->held_count > 0 ? "busy" : "idle";
}

static void claim(struct broker *b, struct worker *w, struct outbox *out)
{
    struct store_call call = { .op = STORE_CLAIM };

    /* The shell takes calls before the next function of the core, but several claims of one
     * function share the outbox: the models are the worker's own, and pointers to them are too. */
    call.tag = (uint64_t)w->generation << PLACE_BITS | (uint64_t)(w - b->workers);
    for (size_t i = 0; i < w->model_count; i++)
        w->model_names[i] = w->models[i];
    call.claim.models = w->model_names;
    call.claim.model_count = w->model_count;
    call.claim.worker = w->label;
    call.claim.nonce = b->config.random();
    call.claim.lease_ms = b->config.lease_ms;
    call.claim.memory_mib = w->memory_mib;
    w->claiming++;
    outbox_call(out, &call);
}

/* Another claim: it has hope, and room for one job more than those that are under way. */
static bool wants_claim(const struct worker *w)
{
    return w->is_used && w->is_hopeful && w->claiming < w->window && has_credit(w) &&
           w->granted_total - w->dispatched_total > w->claiming;
}

void dispatch_claims(struct broker *b, int64_t now_ms, struct outbox *out)
{
    size_t end = b->is_draining ? 0 : b->worker_end;

    for (size_t n = 0; n < end; n++) {
        struct worker *w = &b->workers[(b->next_worker + n) % end];

        while (wants_claim(w) && !is_stale(b, w, now_ms))
            claim(b, w, out);
    }
    if (end > 0)
        b->next_worker = (b->next_worker + 1) % end; /* so that all get their turn */
}

/* --- the answer --- */

static void give_back(const struct lease *lease, struct outbox *out)
{
    struct store_call call = { .op = STORE_RELEASE, .tag = TAG_NONE };

    call.release = *lease;
    outbox_call(out, &call);
}

/* A job whose parameters can't be read will not get better by waiting. */
static void bury(const struct broker *b, const struct lease *lease, const char *sentence,
                 struct outbox *out)
{
    struct store_call call = { .op = STORE_FAIL, .tag = TAG_NONE };

    call.fail.lease = *lease;
    call.fail.code = ERR_CORRUPT;
    call.fail.sentence = sentence;
    call.fail.retry = broker_retry(b);
    outbox_call(out, &call);
}

static void send_job(struct broker *b, struct worker *w, const struct lease *lease,
                     const struct job_spec *spec, struct outbox *out)
{
    struct msg m = { .type = MSG_JOB, .job = { .lease = *lease, .lease_ms = b->config.lease_ms } };

    m.job.spec = *spec;
    if (outbox_send(out, BROKER_WORKERS, &w->peer, &m) != OK) {
        log_error("job.unsendable", "job=%s reason=\"%s\"", lease->job, status_message());
        bury(b, lease, "its parameters can't be sent", out);
        return;
    }
    w->dispatched_total++;
    log_info("job.leased", "job=%s attempt=%" PRId64 " lease=%016" PRIx64 " worker=%s", lease->job,
             lease->attempt, lease->nonce, w->label);
}

/* A claim was empty. What was told meanwhile may have come after it. */
static void lose_hope(struct worker *w)
{
    w->window = 1;
    if (w->claiming > 0)
        return; /* the last answer decides */
    w->is_hopeful = w->has_news;
    w->has_news = false;
}

void dispatch_on_claim(struct broker *b, int64_t now_ms, const struct store_reply *reply,
                       struct outbox *out)
{
    size_t place = reply->tag & ((1u << PLACE_BITS) - 1);
    struct worker *w = &b->workers[place];
    struct lease lease = reply->lease;
    bool is_there = w->is_used && w->generation == (uint32_t)(reply->tag >> PLACE_BITS);

    (void)now_ms;
    CHECK(place < BROKER_WORKERS_MAX);
    if (is_there) {
        CHECK(w->claiming > 0);
        w->claiming--;
    }
    if (reply->code != OK && lease.job[0]) {
        log_error("job.unreadable", "job=%s reason=\"%s\"", lease.job, reply->sentence);
        bury(b, &lease, "its parameters in Redis can't be read", out);
        return;
    }
    if (reply->code != OK || !reply->spec) {
        if (is_there)
            lose_hope(w);
        return;
    }
    if (is_there && w->window < CLAIMS_MAX)
        w->window *= 2;
    dispatch_wake(b, NULL, 1); /* where one job was there may be more */
    if (is_there && has_credit(w) && !b->is_draining) {
        broker_count(b, METER_LEASES, 0);
        send_job(b, w, &lease, reply->spec, out);
    } else {
        give_back(&lease, out);
    }
}

void dispatch_on_unsent(struct broker *b, const struct outbox_send *send, struct outbox *out)
{
    struct worker *w = dispatch_find(b, &send->to);

    log_warn("job.unsent", "job=%s worker=%s", send->lease.job, w ? w->label : "gone");
    give_back(&send->lease, out);
    if (w)
        dispatch_forget(w); /* it is gone, or does not read; it says HELLO if it comes back */
}

void dispatch_drop_silent(struct broker *b, int64_t now_ms)
{
    for (size_t i = 0; i < b->worker_end; i++) {
        struct worker *w = &b->workers[i];

        if (!w->is_used || now_ms - w->heard_ms <= b->config.lease_ms)
            continue;
        log_warn("worker.silent", "worker=%s silent_ms=%" PRId64, w->label, now_ms - w->heard_ms);
        dispatch_forget(w);
    }
}

int64_t dispatch_count(const struct broker *b)
{
    int64_t count = 0;

    for (size_t i = 0; i < b->worker_end; i++)
        count += b->workers[i].is_used;
    return count;
}
