#include "tests/fuzz/proto/same.h"

#include <math.h>
#include <string.h>

#include "common/base/check.h"

static bool same_real(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool same_param(const struct job_spec *a, const struct job_spec *b,
                       const struct spec_param *p)
{
    const void *left = (const char *)a + p->offset, *right = (const char *)b + p->offset;

    switch (p->type) {
    case SPEC_INT:
    case SPEC_SEED:
        return memcmp(left, right, sizeof(uint64_t)) == 0;
    case SPEC_CHOICE:
        return memcmp(left, right, sizeof(int)) == 0;
    case SPEC_DOUBLE:
        return same_real(*(const double *)left, *(const double *)right);
    case SPEC_TEXT:
        return same_text(left, right);
    }
    CHECK(!"a parameter of no type");
    return false;
}

bool same_spec(const struct job_spec *a, const struct job_spec *b)
{
    for (size_t i = 0; i < spec_param_count; i++) {
        if (!same_param(a, b, &spec_params[i]))
            return false;
    }
    return true;
}

static bool same_submit(const struct msg_submit *a, const struct msg_submit *b)
{
    if (a->item_count != b->item_count)
        return false;
    for (size_t i = 0; i < a->item_count; i++) {
        if (!same_text(a->items[i].job, b->items[i].job) ||
            !same_spec(&a->items[i].spec, &b->items[i].spec))
            return false;
    }
    return true;
}

static bool same_job_verdicts(const struct msg_job_verdicts *a, const struct msg_job_verdicts *b)
{
    if (a->item_count != b->item_count)
        return false;
    for (size_t i = 0; i < a->item_count; i++) {
        const struct msg_job_verdict *x = &a->items[i], *y = &b->items[i];

        if (!same_text(x->job, y->job) || x->verdict != y->verdict || x->state != y->state ||
            x->code != y->code || !same_text(x->sentence, y->sentence))
            return false;
    }
    return true;
}

static bool same_ids(const struct msg_ids *a, const struct msg_ids *b)
{
    if (a->id_count != b->id_count)
        return false;
    for (size_t i = 0; i < a->id_count; i++) {
        if (!same_text(a->ids[i], b->ids[i]))
            return false;
    }
    return true;
}

static bool same_result(const struct job_result *a, const struct job_result *b)
{
    return same_text(a->video, b->video) && same_text(a->poster, b->poster) &&
           same_text(a->manifest, b->manifest);
}

static bool same_status(const struct job_status *a, const struct job_status *b)
{
    return same_text(a->job, b->job) && a->state == b->state && a->attempt == b->attempt &&
           a->tries == b->tries && a->attempts_max == b->attempts_max &&
           a->priority == b->priority && a->submitted_at_ms == b->submitted_at_ms &&
           a->started_at_ms == b->started_at_ms && a->ended_at_ms == b->ended_at_ms &&
           same_real(a->progress, b->progress) && same_text(a->model, b->model) &&
           same_text(a->labels, b->labels) && same_text(a->worker, b->worker) &&
           same_text(a->stage, b->stage) && a->code == b->code &&
           same_text(a->sentence, b->sentence) && same_result(&a->result, &b->result) &&
           same_text(a->tenant, b->tenant) && same_text(a->batch, b->batch) &&
           a->deadline_at_ms == b->deadline_at_ms && a->position == b->position &&
           a->eta_ms == b->eta_ms;
}

static bool same_statuses(const struct msg_statuses *a, const struct msg_statuses *b)
{
    if (a->job_count != b->job_count || !same_text(a->cursor, b->cursor))
        return false;
    for (size_t i = 0; i < a->job_count; i++) {
        if (!same_status(&a->jobs[i], &b->jobs[i]))
            return false;
    }
    return true;
}

static bool same_hello(const struct msg_hello *a, const struct msg_hello *b)
{
    if (!same_text(a->worker, b->worker) || !same_text(a->host, b->host) ||
        !same_text(a->device, b->device) || !same_text(a->version, b->version) ||
        a->model_count != b->model_count)
        return false;
    for (size_t i = 0; i < a->model_count; i++) {
        if (!same_text(a->models[i], b->models[i]))
            return false;
    }
    return a->memory_mib == b->memory_mib;
}

static bool same_rule(const struct msg_rule *a, const struct msg_rule *b)
{
    return a->order == b->order && a->scope == b->scope && same_text(a->name, b->name) &&
           same_text(a->cursor, b->cursor) && memcmp(&a->quota, &b->quota, sizeof(a->quota)) == 0;
}

static bool same_rows(const struct msg_rows *a, const struct msg_rows *b)
{
    if (a->verdict != b->verdict || a->state != b->state || a->row_count != b->row_count ||
        a->row_total != b->row_total || !same_text(a->cursor, b->cursor))
        return false;
    for (size_t i = 0; i < a->row_count; i++) {
        if (a->rows[i].cell_count != b->rows[i].cell_count)
            return false;
        for (size_t j = 0; j < a->rows[i].cell_count; j++) {
            if (!same_text(a->rows[i].cells[j], b->rows[i].cells[j]))
                return false;
        }
    }
    return true;
}

static bool same_state(const struct msg_state *a, const struct msg_state *b)
{
    if (a->granted_total != b->granted_total || a->lease_count != b->lease_count)
        return false;
    for (size_t i = 0; i < a->lease_count; i++) {
        const struct msg_lease_state *x = &a->leases[i], *y = &b->leases[i];

        if (!msg_lease_equal(&x->lease, &y->lease) || x->is_started != y->is_started ||
            !same_real(x->progress, y->progress) || !same_text(x->stage, y->stage))
            return false;
    }
    return true;
}

static bool same_state_ack(const struct msg_state_ack *a, const struct msg_state_ack *b)
{
    if (a->dispatched_total != b->dispatched_total || a->verdict_count != b->verdict_count)
        return false;
    for (size_t i = 0; i < a->verdict_count; i++) {
        if (!msg_lease_equal(&a->verdicts[i].lease, &b->verdicts[i].lease) ||
            a->verdicts[i].verdict != b->verdicts[i].verdict)
            return false;
    }
    return true;
}

static bool same_list(const struct msg_list *a, const struct msg_list *b)
{
    return a->state == b->state && same_text(a->label, b->label) && a->limit == b->limit &&
           same_text(a->cursor, b->cursor);
}

static bool same_pong(const struct msg_pong *a, const struct msg_pong *b)
{
    return same_text(a->broker, b->broker) && same_text(a->version, b->version) &&
           a->worker_count == b->worker_count &&
           memcmp(a->job_counts, b->job_counts, sizeof(a->job_counts)) == 0;
}

static bool same_welcome(const struct msg_welcome *a, const struct msg_welcome *b)
{
    return same_text(a->broker, b->broker) && a->lease_ms == b->lease_ms &&
           a->heartbeat_ms == b->heartbeat_ms;
}

static bool same_job(const struct msg_job *a, const struct msg_job *b)
{
    return msg_lease_equal(&a->lease, &b->lease) && a->lease_ms == b->lease_ms &&
           same_spec(&a->spec, &b->spec);
}

static bool same_fail(const struct msg_fail *a, const struct msg_fail *b)
{
    return msg_lease_equal(&a->lease, &b->lease) && a->code == b->code &&
           same_text(a->sentence, b->sentence);
}

static bool same_body(const struct msg *a, const struct msg *b)
{
    switch (a->type) {
    case MSG_SUBMIT:
        return same_submit(&a->submit, &b->submit);
    case MSG_SUBMITTED:
    case MSG_CANCELLED:
        return same_job_verdicts(&a->submitted, &b->submitted);
    case MSG_STATUS:
    case MSG_CANCEL:
        return same_ids(&a->status, &b->status);
    case MSG_STATUSES:
    case MSG_LISTED:
        return same_statuses(&a->statuses, &b->statuses);
    case MSG_LIST:
        return same_list(&a->list, &b->list);
    case MSG_PONG:
        return same_pong(&a->pong, &b->pong);
    case MSG_ERROR:
        return a->error.code == b->error.code && same_text(a->error.sentence, b->error.sentence);
    case MSG_HELLO:
        return same_hello(&a->hello, &b->hello);
    case MSG_WELCOME:
        return same_welcome(&a->welcome, &b->welcome);
    case MSG_CREDIT:
        return a->credit.granted_total == b->credit.granted_total;
    case MSG_JOB:
        return same_job(&a->job, &b->job);
    case MSG_STATE:
        return same_state(&a->state, &b->state);
    case MSG_STATE_ACK:
        return same_state_ack(&a->state_ack, &b->state_ack);
    case MSG_DONE:
        return msg_lease_equal(&a->done.lease, &b->done.lease) &&
               same_result(&a->done.result, &b->done.result);
    case MSG_FAIL:
        return same_fail(&a->fail, &b->fail);
    case MSG_RELEASE:
        return msg_lease_equal(&a->release.lease, &b->release.lease);
    case MSG_ACK:
        return msg_lease_equal(&a->ack.lease, &b->ack.lease) && a->ack.verdict == b->ack.verdict;
    case MSG_CANCEL_LEASE:
        return msg_lease_equal(&a->cancel_lease.lease, &b->cancel_lease.lease) &&
               a->cancel_lease.verdict == b->cancel_lease.verdict;
    case MSG_ASK:
        return a->ask.question == b->ask.question && same_text(a->ask.name, b->ask.name) &&
               same_text(a->ask.cursor, b->ask.cursor);
    case MSG_RULE:
        return same_rule(&a->rule, &b->rule);
    case MSG_ROWS:
        return same_rows(&a->rows, &b->rows);
    case MSG_PING:
    case MSG_DRAIN:
    case MSG_BYE:
        return true; /* nothing in them */
    case MSG_NONE:
    case MSG_TYPE_COUNT:
        break;
    }
    CHECK(!"a message of no type");
    return false;
}

bool same_msg(const struct msg *a, const struct msg *b)
{
    return a->type == b->type && a->seq == b->seq && same_body(a, b);
}
