/* DESIGN: each call is one FCALL or EVALSHA of a function in common/store*.lua; the comments there
 * name the arguments in the order in which they are given here. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/id.h"
#include "common/store_priv.h"
#include "proto/codec.h"

/* A command under construction; numbers are written into room of its own. */
struct args {
    const char *argv[STORE_ARGS_MAX];
    size_t lens[STORE_ARGS_MAX];
    int count;
    char numbers[STORE_ARGS_MAX][32];
};

static void add_bytes(struct args *a, const char *bytes, size_t len)
{
    CHECK(a->count < STORE_ARGS_MAX);
    a->argv[a->count] = bytes;
    a->lens[a->count++] = len;
}

static void add_text(struct args *a, const char *text)
{
    add_bytes(a, text, strlen(text));
}

static void add_int(struct args *a, int64_t value)
{
    CHECK(a->count < STORE_ARGS_MAX);
    snprintf(a->numbers[a->count], sizeof(a->numbers[0]), "%" PRId64, value);
    add_text(a, a->numbers[a->count]);
}

static void add_real(struct args *a, double value)
{
    CHECK(a->count < STORE_ARGS_MAX);
    snprintf(a->numbers[a->count], sizeof(a->numbers[0]), "%.6f", value);
    add_text(a, a->numbers[a->count]);
}

static void add_nonce(struct args *a, uint64_t nonce)
{
    CHECK(a->count < STORE_ARGS_MAX);
    id_nonce_text(a->numbers[a->count], nonce);
    add_text(a, a->numbers[a->count]);
}

static void add_lease(struct args *a, const struct lease *lease)
{
    add_text(a, lease->job);
    add_int(a, lease->attempt);
    add_nonce(a, lease->nonce);
}

static void add_retry(struct args *a, const struct store_retry *retry)
{
    add_int(a, retry->base_ms);
    add_int(a, retry->cap_ms);
    add_real(a, retry->random);
}

static status add_submit(struct args *a, const struct store_call *call, struct buf *bytes)
{
    const struct job_spec *spec = call->submit.spec;
    status st = codec_spec_encode(spec, bytes);

    if (st != OK)
        return st;
    add_text(a, call->submit.job);
    add_text(a, *spec->tenant ? spec->tenant : SPEC_TENANT_DEFAULT);
    add_text(a, spec->model);
    add_int(a, spec->priority);
    add_int(a, spec->attempts);
    add_int(a, spec->timeout_s * 1000);
    add_text(a, spec->labels);
    add_text(a, spec->batch);
    add_int(a, spec->delay_s * 1000);
    add_int(a, spec->deadline_s * 1000);
    add_text(a, spec->after);
    add_text(a, spec->after_failed == SPEC_RUN_ANYWAY ? "run" : "cancel");
    add_int(a, call->submit.queued_max);
    add_bytes(a, bytes->data, bytes->len);
    return OK;
}

static void add_claim(struct args *a, const struct store_call *call)
{
    add_text(a, call->claim.worker);
    add_nonce(a, call->claim.nonce);
    add_int(a, call->claim.lease_ms);
    add_int(a, call->claim.memory_mib);
    for (size_t i = 0; i < call->claim.model_count; i++)
        add_text(a, call->claim.models[i]);
}

static void add_renew(struct args *a, const struct store_call *call)
{
    const struct msg_lease_state *s = call->renew.state;

    add_int(a, call->renew.lease_ms);
    add_lease(a, &s->lease);
    add_text(a, s->is_started ? "1" : "0");
    add_text(a, s->stage);
    add_real(a, s->progress);
}

static void add_complete(struct args *a, const struct store_call *call)
{
    add_lease(a, &call->complete.lease);
    add_text(a, call->complete.result->video);
    add_text(a, call->complete.result->poster);
    add_text(a, call->complete.result->manifest);
}

static void add_fail(struct args *a, const struct store_call *call)
{
    add_lease(a, &call->fail.lease);
    add_text(a, status_name(call->fail.code));
    add_text(a, call->fail.sentence);
    add_retry(a, &call->fail.retry);
}

static void add_sweep(struct args *a, const struct store_call *call)
{
    add_int(a, call->sweep.limit);
    add_retry(a, &call->sweep.retry);
    add_int(a, call->sweep.gap_ms);
    add_int(a, call->sweep.lease_ms);
    add_int(a, call->sweep.retention_ms);
}

static void add_list(struct args *a, const struct store_call *call)
{
    enum job_state state = call->list.state;

    add_text(a, state == JOB_ILLEGAL ? "" : job_state_name(state));
    add_text(a, call->list.label);
    add_int(a, call->list.limit);
    add_text(a, call->list.cursor);
}

static void add_stats(struct args *a)
{
    for (int i = 1; i < JOB_STATE_COUNT; i++)
        add_text(a, job_state_name((enum job_state)i));
}

static void add_quota(struct args *a, const struct store_quota *quota)
{
    const struct msg_quota *limits = &quota->limits;

    add_text(a, quota->tenant);
    add_int(a, limits->queued_max);
    add_int(a, limits->running_max);
    add_int(a, limits->bytes_max);
    add_int(a, limits->rate);
    add_int(a, limits->burst);
    add_int(a, limits->weight != 0 ? limits->weight : 1);
}

static void add_pause(struct args *a, const struct store_call *call)
{
    static const char *const scopes[] = { "all", "model", "tenant" };
    static const char *const modes[] = { "resume", "pause", "drain" };

    add_text(a, scopes[call->pause.scope]);
    add_text(a, call->pause.scope == STORE_ALL ? "" : call->pause.name);
    add_text(a, modes[call->pause.mode]);
}

static const char *const function_names[STORE_OP_COUNT] = {
    [STORE_SUBMIT] = "submit",   [STORE_CLAIM] = "claim",
    [STORE_RENEW] = "renew",     [STORE_COMPLETE] = "complete",
    [STORE_FAIL] = "fail",       [STORE_RELEASE] = "release",
    [STORE_CANCEL] = "cancel",   [STORE_SWEEP] = "sweep",
    [STORE_STATUS] = "status",   [STORE_LIST] = "list",
    [STORE_STATS] = "stats",     [STORE_AUDIT] = "audit",
    [STORE_BATCH] = "batch",     [STORE_EVENTS] = "events",
    [STORE_QUEUES] = "queues",   [STORE_WHY] = "why",
    [STORE_QUOTA] = "quota",     [STORE_TENANTS] = "tenants",
    [STORE_PAUSE] = "pause",     [STORE_FRONT] = "front",
    [STORE_REDRIVE] = "redrive", [STORE_REDRIVE_ALL] = "redrive_all",
};

/* Arguments of the calls about queues and tenants, and of those that ask. */
static void add_asking(struct args *a, const struct store_call *call)
{
    switch (call->op) {
    case STORE_STATUS:
        for (size_t i = 0; i < call->status.id_count; i++)
            add_text(a, call->status.ids[i]);
        break;
    case STORE_LIST:
        add_list(a, call);
        break;
    case STORE_STATS:
        add_stats(a);
        break;
    case STORE_AUDIT:
        add_text(a, call->audit_repair ? "1" : "0");
        break;
    case STORE_BATCH:
        add_text(a, call->batch.tenant);
        add_text(a, call->batch.name);
        break;
    case STORE_EVENTS:
        add_text(a, call->events.cursor);
        add_int(a, call->events.limit);
        break;
    case STORE_REDRIVE_ALL:
        add_int(a, call->redrive_all.limit);
        add_text(a, call->redrive_all.cursor);
        break;
    case STORE_QUOTA:
        add_quota(a, &call->quota);
        break;
    case STORE_PAUSE:
        add_pause(a, call);
        break;
    case STORE_WHY:
    case STORE_FRONT:
    case STORE_REDRIVE:
        add_text(a, call->why); /* a job's id, all three */
        break;
    default: /* queues and tenants have none */
        break;
    }
}

static status add_arguments(struct args *a, const struct store_call *call, struct buf *bytes)
{
    switch (call->op) {
    case STORE_SUBMIT:
        return add_submit(a, call, bytes);
    case STORE_CLAIM:
        add_claim(a, call);
        return OK;
    case STORE_RENEW:
        add_renew(a, call);
        return OK;
    case STORE_COMPLETE:
        add_complete(a, call);
        return OK;
    case STORE_FAIL:
        add_fail(a, call);
        return OK;
    case STORE_RELEASE:
        add_lease(a, &call->release);
        return OK;
    case STORE_CANCEL:
        add_text(a, call->cancel);
        return OK;
    case STORE_SWEEP:
        add_sweep(a, call);
        return OK;
    case STORE_STATUS:
    case STORE_LIST:
    case STORE_STATS:
    case STORE_AUDIT:
    case STORE_BATCH:
    case STORE_EVENTS:
    case STORE_QUEUES:
    case STORE_WHY:
    case STORE_QUOTA:
    case STORE_TENANTS:
    case STORE_PAUSE:
    case STORE_FRONT:
    case STORE_REDRIVE:
    case STORE_REDRIVE_ALL:
        add_asking(a, call);
        return OK;
    case STORE_NONE:
    case STORE_OP_COUNT:
        break;
    }
    CHECK(!"a call of no kind");
    return ERR_BADARG;
}

status store_format(const struct store_call *call, const struct store_scripts *scripts,
                    struct buf *text)
{
    struct args a = { .count = 0 };
    struct buf bytes = { 0 };
    status st = OK;

    CHECK(call->op > STORE_NONE && call->op < STORE_OP_COUNT);
    add_text(&a, scripts->are_functions ? "FCALL" : "EVALSHA");
    add_text(&a, call->op == STORE_SUBMIT ? scripts->submit : scripts->work);
    add_text(&a, "1");
    add_text(&a, STORE_TAG);
    add_text(&a, function_names[call->op]);
    TRY(add_arguments(&a, call, &bytes));
    TRY(redis_format(text, a.argv, a.lens, a.count));
out:
    buf_free(&bytes);
    return st;
}
