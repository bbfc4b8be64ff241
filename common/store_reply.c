/* DESIGN: what the functions of common/store.lua answer, read with the distrust that data
 * from outside deserves. */
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/store_priv.h"
#include "proto/codec.h"

/* Rows of one answer; those who ask for more ask in pages. */
#define ROWS_MAX 4096

/* The order of FIELDS in common/store_query.lua. */
enum field {
    FIELD_STATE = 0,
    FIELD_ATTEMPT,
    FIELD_TRIES,
    FIELD_ATTEMPTS,
    FIELD_PRIORITY,
    FIELD_SUBMITTED,
    FIELD_STARTED,
    FIELD_ENDED,
    FIELD_PROGRESS,
    FIELD_MODEL,
    FIELD_LABELS,
    FIELD_WORKER,
    FIELD_STAGE,
    FIELD_CODE,
    FIELD_SENTENCE,
    FIELD_VIDEO,
    FIELD_POSTER,
    FIELD_MANIFEST,
    FIELD_TENANT,
    FIELD_BATCH,
    FIELD_DEADLINE,
    FIELD_POSITION,
    FIELD_ETA,
    FIELD_COUNT
};

static status bad_reply(enum store_op op)
{
    return FAIL(ERR_CORRUPT,
                "Redis answered call %d in a form that is not ours; is another "
                "release of Onestep using it?",
                (int)op);
}

static enum job_state state_of(const struct redis_value *value)
{
    size_t len;
    const char *name = redis_text(value, &len);

    return job_state_from_name(name, len);
}

static enum msg_verdict verdict_of(const struct redis_value *value)
{
    for (int v = 1; v < VERDICT_COUNT; v++) {
        if (strcmp(redis_text(value, NULL), msg_verdict_name((enum msg_verdict)v)) == 0)
            return (enum msg_verdict)v;
    }
    return VERDICT_NONE;
}

static status read_id(char id[JOB_ID_BYTES], const struct redis_value *value)
{
    const char *text = redis_text(value, NULL);

    if (!msg_is_id(text))
        return FAIL(ERR_CORRUPT, "Redis holds \"%.40s\" as a job id", text);
    memcpy(id, text, JOB_ID_BYTES);
    return OK;
}

static status read_verdict(struct store_reply *reply, const struct redis_value *value)
{
    const char *word = redis_text(redis_at(value, 0), NULL);
    const char *detail = redis_text(redis_at(value, 1), NULL);

    if (reply->op == STORE_SUBMIT && strcmp(word, "full") == 0)
        return FAIL(ERR_FULL, "%.200s; try again later", detail);
    if (reply->op == STORE_SUBMIT && strcmp(word, "orphan") == 0)
        return FAIL(ERR_NOTFOUND, "after: there is no job %.40s", detail);
    if (reply->op == STORE_SUBMIT && strcmp(word, "hopeless") == 0)
        return FAIL(ERR_CONFLICT, "after: job %.60s; set after_failed to run, or redrive it",
                    detail);
    reply->verdict = verdict_of(redis_at(value, 0));
    reply->state = state_of(redis_at(value, 1));
    return reply->verdict == VERDICT_NONE ? bad_reply(reply->op) : OK;
}

static status read_cancel(struct store_reply *reply, const struct redis_value *value)
{
    status st = read_verdict(reply, value);

    if (st != OK || redis_count(value) < 6)
        return st;
    reply->worker = redis_text(redis_at(value, 2), NULL);
    reply->lease.attempt = redis_int(redis_at(value, 4));
    reply->lease.nonce = strtoull(redis_text(redis_at(value, 5), NULL), NULL, 16);
    return read_id(reply->lease.job, redis_at(value, 3));
}

static status read_claim(struct store_reply *reply, const struct redis_value *value,
                         struct job_spec *spec)
{
    size_t len;
    const char *bytes = redis_text(redis_at(value, 3), &len);
    status st = OK;

    if (redis_count(value) == 0)
        return OK;
    if (redis_count(value) != 4)
        return bad_reply(reply->op);
    TRY(read_id(reply->lease.job, redis_at(value, 0)));
    reply->lease.attempt = redis_int(redis_at(value, 1));
    reply->lease.nonce = strtoull(redis_text(redis_at(value, 2), NULL), NULL, 16);
    TRY(codec_spec_decode(spec, bytes, len));
    reply->spec = spec;
out:
    return st;
}

static const char *text_of(const struct redis_value *fields, enum field f)
{
    return redis_text(redis_at(fields, f), NULL);
}

static status read_status(struct job_status *s, const struct redis_value *id,
                          const struct redis_value *fields)
{
    status st = OK;

    memset(s, 0, sizeof(*s));
    TRY(read_id(s->job, id));
    if (redis_count(fields) != FIELD_COUNT)
        TRY(bad_reply(STORE_STATUS));
    s->state = state_of(redis_at(fields, FIELD_STATE));
    s->attempt = redis_int(redis_at(fields, FIELD_ATTEMPT));
    s->tries = redis_int(redis_at(fields, FIELD_TRIES));
    s->attempts_max = redis_int(redis_at(fields, FIELD_ATTEMPTS));
    s->priority = redis_int(redis_at(fields, FIELD_PRIORITY));
    s->submitted_at_ms = redis_int(redis_at(fields, FIELD_SUBMITTED));
    s->started_at_ms = redis_int(redis_at(fields, FIELD_STARTED));
    s->ended_at_ms = redis_int(redis_at(fields, FIELD_ENDED));
    s->progress = strtod(text_of(fields, FIELD_PROGRESS), NULL);
    s->model = text_of(fields, FIELD_MODEL);
    s->labels = text_of(fields, FIELD_LABELS);
    s->worker = text_of(fields, FIELD_WORKER);
    s->stage = text_of(fields, FIELD_STAGE);
    s->sentence = text_of(fields, FIELD_SENTENCE);
    s->code = *text_of(fields, FIELD_CODE) ? status_from_name(text_of(fields, FIELD_CODE)) : OK;
    if (s->code == STATUS_COUNT)
        TRY(bad_reply(STORE_STATUS));
    s->result.video = text_of(fields, FIELD_VIDEO);
    s->result.poster = text_of(fields, FIELD_POSTER);
    s->result.manifest = text_of(fields, FIELD_MANIFEST);
    s->tenant =
        *text_of(fields, FIELD_TENANT) ? text_of(fields, FIELD_TENANT) : SPEC_TENANT_DEFAULT;
    s->batch = text_of(fields, FIELD_BATCH);
    s->deadline_at_ms = redis_int(redis_at(fields, FIELD_DEADLINE));
    s->position = redis_int(redis_at(fields, FIELD_POSITION));
    s->eta_ms = redis_int(redis_at(fields, FIELD_ETA));
out:
    return st;
}

/* first: index of the first pair of id and fields. */
static status read_statuses(struct store_reply *reply, const struct redis_value *value,
                            size_t first, struct arena *a)
{
    size_t count = (redis_count(value) - first) / 2;
    struct job_status *jobs;
    void *ptr = NULL;
    status st = OK;

    TRY(arena_take(a, count * sizeof(*jobs), &ptr));
    jobs = ptr;
    for (size_t i = 0; i < count; i++)
        TRY(read_status(&jobs[i], redis_at(value, first + 2 * i),
                        redis_at(value, first + 2 * i + 1)));
    reply->jobs = jobs;
    reply->job_count = count;
out:
    return st;
}

static status read_stats(struct store_reply *reply, const struct redis_value *value)
{
    if (redis_count(value) != JOB_STATE_COUNT - 1)
        return bad_reply(reply->op);
    for (int i = 1; i < JOB_STATE_COUNT; i++) {
        int64_t count = redis_int(redis_at(value, (size_t)i - 1));

        reply->job_counts[i] = count > 0 ? count : 0;
    }
    return OK;
}

static status read_sweep(struct store_reply *reply, const struct redis_value *value)
{
    if (redis_count(value) != 3)
        return bad_reply(reply->op);
    reply->expired = redis_int(redis_at(value, 0));
    reply->promoted = redis_int(redis_at(value, 1));
    reply->next_due_ms = redis_int(redis_at(value, 2));
    return OK;
}

/* Rows of texts; what is more than ROWS_MAX is left out. */
static status read_rows(struct store_reply *reply, const struct redis_value *value, struct arena *a)
{
    size_t count = redis_count(value) < ROWS_MAX ? redis_count(value) : ROWS_MAX;
    struct store_row *rows;
    void *ptr = NULL;
    status st = OK;

    TRY(arena_take(a, count * sizeof(*rows), &ptr));
    rows = ptr;
    for (size_t i = 0; i < count; i++) {
        const struct redis_value *row = redis_at(value, i);

        rows[i].cell_count = redis_count(row);
        if (rows[i].cell_count == 0 || rows[i].cell_count > STORE_CELLS_MAX)
            return bad_reply(reply->op);
        for (size_t j = 0; j < STORE_CELLS_MAX; j++)
            rows[i].cells[j] = redis_text(redis_at(row, j), NULL);
    }
    reply->rows = rows;
    reply->row_count = count;
out:
    return st;
}

static status read_audit(struct store_reply *reply, const struct redis_value *value,
                         struct arena *a)
{
    status st = read_rows(reply, value, a);

    if (st != OK || reply->row_count == 0)
        return st;
    return FAIL(ERR_CORRUPT, "%zu places in Redis disagree with their jobs; the first: %s",
                redis_count(value), reply->rows[0].cells[0]);
}

status store_read_reply(struct store_reply *reply, const struct redis_value *value,
                        struct job_spec *spec, struct arena *a)
{
    if (redis_kind(value) != REDIS_ARRAY)
        return bad_reply(reply->op);
    switch (reply->op) {
    case STORE_SUBMIT:
    case STORE_RENEW:
    case STORE_COMPLETE:
    case STORE_FAIL:
    case STORE_RELEASE:
    case STORE_QUOTA:
    case STORE_PAUSE:
    case STORE_FRONT:
    case STORE_REDRIVE:
        return read_verdict(reply, value);
    case STORE_BATCH:
    case STORE_EVENTS:
    case STORE_QUEUES:
    case STORE_WHY:
    case STORE_TENANTS:
    case STORE_REDRIVE_ALL:
        return read_rows(reply, value, a);
    case STORE_CANCEL:
        return read_cancel(reply, value);
    case STORE_CLAIM:
        return read_claim(reply, value, spec);
    case STORE_SWEEP:
        return read_sweep(reply, value);
    case STORE_STATUS:
        if (redis_count(value) % 2 != 0)
            return bad_reply(reply->op);
        return read_statuses(reply, value, 0, a);
    case STORE_LIST:
        if (redis_count(value) % 2 != 1)
            return bad_reply(reply->op);
        reply->cursor = redis_text(redis_at(value, 0), NULL);
        return read_statuses(reply, value, 1, a);
    case STORE_STATS:
        return read_stats(reply, value);
    case STORE_AUDIT:
        return read_audit(reply, value, a);
    case STORE_NONE:
    case STORE_OP_COUNT:
        break;
    }
    CHECK(!"a reply of no kind");
    return ERR_CORRUPT;
}
