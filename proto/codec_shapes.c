/* DESIGN: the whole wire format beside the structs, with every limit. A new field of a message is a
 * line in proto/onestep.proto, a member in proto/msg.h and a row here. */
#include "common/base/limits.h"
#include "proto/onestep.pb-c.h"
#include "proto/proto_priv.h"

/* Largest values that make sense; they keep sums and products of them inside 64 bits. */
#define COUNT_MAX INT32_MAX
#define MS_MAX ((int64_t)1 << 48)
#define TIME_SPAN_MAX_MS ((int64_t)7 * 24 * 3600 * 1000)
#define BYTES_MAX ((int64_t)1 << 48)
#define PRIORITY_MAX 1000
#define WEIGHT_MAX 1000000
#define CURSOR_BYTES_MAX 64
#define LABEL_BYTES_MAX 128

#define ROW(type_, field_, wire_)                                                                  \
    .name = #field_, .at = offsetof(type_, field_), .wire_at = offsetof(wire_, field_)
#define INT(type_, wire_, field_, min_, max_)                                                      \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_INT, .min = min_, .max = max_                     \
    }
#define WORD(type_, wire_, field_)                                                                 \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_WORD                                              \
    }
#define REAL(type_, wire_, field_, min_, max_)                                                     \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_REAL, .min = min_, .max = max_                    \
    }
#define BOOL(type_, wire_, field_)                                                                 \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_BOOL                                              \
    }
#define ENUM(type_, wire_, field_, min_, max_)                                                     \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_ENUM, .min = min_, .max = max_                    \
    }
#define ID(type_, wire_, field_)                                                                   \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_ID                                                \
    }
#define TEXT(type_, wire_, field_, min_, max_)                                                     \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_TEXT, .min = min_, .max = max_                    \
    }
#define SENTENCE(type_, wire_, field_, max_)                                                       \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_SENTENCE, .max = max_                             \
    }
#define PART(type_, wire_, field_, part_)                                                          \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_PART, .part = part_                               \
    }
#define SPEC(type_, wire_, field_)                                                                 \
    {                                                                                              \
        ROW(type_, field_, wire_), .kind = CODEC_SPEC, .part = &spec_shape                         \
    }
#define MANY(type_, wire_, field_, count_, min_, max_)                                             \
    ROW(type_, field_, wire_), .count_at = offsetof(type_, count_),                                \
                               .wire_count_at = offsetof(wire_, n_##field_), .min = min_,          \
                               .max = max_
#define PARTS(type_, wire_, field_, count_, max_, part_)                                           \
    {                                                                                              \
        MANY(type_, wire_, field_, count_, 0, max_), .kind = CODEC_PARTS, .part = part_            \
    }

#define SHAPE(name_, type_, descriptor_, fields_)                                                  \
    {                                                                                              \
        .name = name_, .bytes = sizeof(type_), .wire = &descriptor_, .fields = fields_,            \
        .field_count = sizeof(fields_) / sizeof(fields_[0])                                        \
    }

static const struct codec_shape spec_shape = {
    .name = "job spec",
    .bytes = sizeof(struct job_spec),
    .wire = &onestep__job_spec__descriptor,
};

static const struct codec_field lease_fields[] = {
    ID(struct lease, Onestep__Lease, job),
    INT(struct lease, Onestep__Lease, attempt, 1, COUNT_MAX),
    WORD(struct lease, Onestep__Lease, nonce),
};
static const struct codec_shape lease_shape =
    SHAPE("lease", struct lease, onestep__lease__descriptor, lease_fields);

static const struct codec_field result_fields[] = {
    TEXT(struct job_result, Onestep__Result, video, 0, SPEC_URL_MAX - 1),
    TEXT(struct job_result, Onestep__Result, poster, 0, SPEC_URL_MAX - 1),
    TEXT(struct job_result, Onestep__Result, manifest, 0, SPEC_URL_MAX - 1),
};
static const struct codec_shape result_shape =
    SHAPE("result", struct job_result, onestep__result__descriptor, result_fields);

/* --- client and broker --- */

static const struct codec_field item_fields[] = {
    ID(struct msg_submit_item, Onestep__SubmitItem, job),
    SPEC(struct msg_submit_item, Onestep__SubmitItem, spec),
};
static const struct codec_shape item_shape =
    SHAPE("submit item", struct msg_submit_item, onestep__submit_item__descriptor, item_fields);

static const struct codec_field submit_fields[] = {
    PARTS(struct msg_submit, Onestep__Submit, items, item_count, LIMIT_JOBS_PER_MSG, &item_shape),
};

static const struct codec_field verdict_fields[] = {
    ID(struct msg_job_verdict, Onestep__JobVerdict, job),
    ENUM(struct msg_job_verdict, Onestep__JobVerdict, verdict, 1, VERDICT_COUNT - 1),
    ENUM(struct msg_job_verdict, Onestep__JobVerdict, state, 0, JOB_STATE_COUNT - 1),
    ENUM(struct msg_job_verdict, Onestep__JobVerdict, code, 0, STATUS_COUNT - 1),
    SENTENCE(struct msg_job_verdict, Onestep__JobVerdict, sentence, MSG_SENTENCE_MAX),
};
static const struct codec_shape verdict_shape =
    SHAPE("job verdict", struct msg_job_verdict, onestep__job_verdict__descriptor, verdict_fields);

static const struct codec_field verdicts_fields[] = {
    PARTS(struct msg_job_verdicts, Onestep__JobVerdicts, items, item_count, LIMIT_JOBS_PER_MSG,
          &verdict_shape),
};

static const struct codec_field ids_fields[] = {
    { MANY(struct msg_ids, Onestep__Ids, ids, id_count, 0, LIMIT_JOBS_PER_MSG), .kind = CODEC_IDS },
};

static const struct codec_field list_fields[] = {
    ENUM(struct msg_list, Onestep__List, state, 0, JOB_STATE_COUNT - 1),
    TEXT(struct msg_list, Onestep__List, label, 0, LABEL_BYTES_MAX),
    INT(struct msg_list, Onestep__List, limit, 1, LIMIT_JOBS_PER_MSG),
    TEXT(struct msg_list, Onestep__List, cursor, 0, CURSOR_BYTES_MAX),
};

static const struct codec_field status_fields[] = {
    ID(struct job_status, Onestep__JobStatus, job),
    ENUM(struct job_status, Onestep__JobStatus, state, 0, JOB_STATE_COUNT - 1),
    INT(struct job_status, Onestep__JobStatus, attempt, 0, COUNT_MAX),
    INT(struct job_status, Onestep__JobStatus, tries, 0, COUNT_MAX),
    INT(struct job_status, Onestep__JobStatus, attempts_max, 0, COUNT_MAX),
    INT(struct job_status, Onestep__JobStatus, priority, -PRIORITY_MAX, PRIORITY_MAX),
    INT(struct job_status, Onestep__JobStatus, submitted_at_ms, 0, MS_MAX),
    INT(struct job_status, Onestep__JobStatus, started_at_ms, 0, MS_MAX),
    INT(struct job_status, Onestep__JobStatus, ended_at_ms, 0, MS_MAX),
    REAL(struct job_status, Onestep__JobStatus, progress, 0, 1),
    TEXT(struct job_status, Onestep__JobStatus, model, 0, SPEC_NAME_MAX - 1),
    TEXT(struct job_status, Onestep__JobStatus, labels, 0, SPEC_LABELS_MAX - 1),
    TEXT(struct job_status, Onestep__JobStatus, worker, 0, 2 * MSG_PEOPLE_MAX),
    TEXT(struct job_status, Onestep__JobStatus, stage, 0, MSG_STAGE_MAX),
    ENUM(struct job_status, Onestep__JobStatus, code, 0, STATUS_COUNT - 1),
    SENTENCE(struct job_status, Onestep__JobStatus, sentence, MSG_SENTENCE_MAX),
    PART(struct job_status, Onestep__JobStatus, result, &result_shape),
    TEXT(struct job_status, Onestep__JobStatus, tenant, 0, SPEC_TENANT_MAX - 1),
    TEXT(struct job_status, Onestep__JobStatus, batch, 0, SPEC_NAME_MAX - 1),
    INT(struct job_status, Onestep__JobStatus, deadline_at_ms, 0, MS_MAX),
    INT(struct job_status, Onestep__JobStatus, position, 0, COUNT_MAX),
    INT(struct job_status, Onestep__JobStatus, eta_ms, 0, MS_MAX),
};
static const struct codec_shape status_shape =
    SHAPE("job status", struct job_status, onestep__job_status__descriptor, status_fields);

static const struct codec_field statuses_fields[] = {
    PARTS(struct msg_statuses, Onestep__Statuses, jobs, job_count, LIMIT_JOBS_PER_MSG,
          &status_shape),
    TEXT(struct msg_statuses, Onestep__Statuses, cursor, 0, CURSOR_BYTES_MAX),
};

static const struct codec_field pong_fields[] = {
    TEXT(struct msg_pong, Onestep__Pong, broker, 0, JOB_ID_CHARS),
    TEXT(struct msg_pong, Onestep__Pong, version, 0, MSG_PEOPLE_MAX),
    INT(struct msg_pong, Onestep__Pong, worker_count, 0, COUNT_MAX),
    { ROW(struct msg_pong, job_counts, Onestep__Pong), .kind = CODEC_INTS,
      .wire_count_at = offsetof(Onestep__Pong, n_job_counts), .max = JOB_STATE_COUNT },
};

static const struct codec_field ask_fields[] = {
    ENUM(struct msg_ask, Onestep__Ask, question, 1, ASK_QUESTION_COUNT - 1),
    TEXT(struct msg_ask, Onestep__Ask, name, 0, SPEC_NAME_MAX - 1),
    TEXT(struct msg_ask, Onestep__Ask, cursor, 0, CURSOR_BYTES_MAX),
};

static const struct codec_field quota_fields[] = {
    INT(struct msg_quota, Onestep__Quota, queued_max, -1, COUNT_MAX),
    INT(struct msg_quota, Onestep__Quota, running_max, -1, COUNT_MAX),
    INT(struct msg_quota, Onestep__Quota, bytes_max, -1, BYTES_MAX),
    INT(struct msg_quota, Onestep__Quota, rate, -1, COUNT_MAX),
    INT(struct msg_quota, Onestep__Quota, burst, -1, COUNT_MAX),
    INT(struct msg_quota, Onestep__Quota, weight, -1, WEIGHT_MAX),
};
static const struct codec_shape quota_shape =
    SHAPE("quota", struct msg_quota, onestep__quota__descriptor, quota_fields);

static const struct codec_field rule_fields[] = {
    ENUM(struct msg_rule, Onestep__Rule, order, 1, RULE_ORDER_COUNT - 1),
    ENUM(struct msg_rule, Onestep__Rule, scope, 0, SCOPE_COUNT - 1),
    TEXT(struct msg_rule, Onestep__Rule, name, 0, SPEC_NAME_MAX - 1),
    TEXT(struct msg_rule, Onestep__Rule, cursor, 0, CURSOR_BYTES_MAX),
    PART(struct msg_rule, Onestep__Rule, quota, &quota_shape),
};

static const struct codec_field row_fields[] = {
    { MANY(struct msg_row, Onestep__Row, cells, cell_count, 1, MSG_CELLS_MAX),
      .kind = CODEC_CELLS },
};
static const struct codec_shape row_shape =
    SHAPE("row", struct msg_row, onestep__row__descriptor, row_fields);

static const struct codec_field rows_fields[] = {
    ENUM(struct msg_rows, Onestep__Rows, verdict, 0, VERDICT_COUNT - 1),
    ENUM(struct msg_rows, Onestep__Rows, state, 0, JOB_STATE_COUNT - 1),
    PARTS(struct msg_rows, Onestep__Rows, rows, row_count, MSG_ROWS_MAX, &row_shape),
    INT(struct msg_rows, Onestep__Rows, row_total, 0, COUNT_MAX),
    TEXT(struct msg_rows, Onestep__Rows, cursor, 0, CURSOR_BYTES_MAX),
};

static const struct codec_field error_fields[] = {
    ENUM(struct msg_error, Onestep__Error, code, 1, STATUS_COUNT - 1),
    SENTENCE(struct msg_error, Onestep__Error, sentence, MSG_SENTENCE_MAX),
};

/* --- worker and broker --- */

static const struct codec_field hello_fields[] = {
    ID(struct msg_hello, Onestep__Hello, worker),
    SENTENCE(struct msg_hello, Onestep__Hello, host, MSG_PEOPLE_MAX),
    SENTENCE(struct msg_hello, Onestep__Hello, device, MSG_PEOPLE_MAX),
    SENTENCE(struct msg_hello, Onestep__Hello, version, MSG_PEOPLE_MAX),
    { MANY(struct msg_hello, Onestep__Hello, models, model_count, 1, MSG_MODELS_MAX),
      .kind = CODEC_TEXTS },
    INT(struct msg_hello, Onestep__Hello, memory_mib, 0, COUNT_MAX),
};

static const struct codec_field welcome_fields[] = {
    ID(struct msg_welcome, Onestep__Welcome, broker),
    INT(struct msg_welcome, Onestep__Welcome, lease_ms, 1, TIME_SPAN_MAX_MS),
    INT(struct msg_welcome, Onestep__Welcome, heartbeat_ms, 1, TIME_SPAN_MAX_MS),
};

static const struct codec_field credit_fields[] = {
    INT(struct msg_credit, Onestep__Credit, granted_total, 0, MS_MAX),
};

static const struct codec_field job_fields[] = {
    PART(struct msg_job, Onestep__Job, lease, &lease_shape),
    INT(struct msg_job, Onestep__Job, lease_ms, 1, TIME_SPAN_MAX_MS),
    SPEC(struct msg_job, Onestep__Job, spec),
};

static const struct codec_field lease_state_fields[] = {
    PART(struct msg_lease_state, Onestep__LeaseState, lease, &lease_shape),
    BOOL(struct msg_lease_state, Onestep__LeaseState, is_started),
    REAL(struct msg_lease_state, Onestep__LeaseState, progress, 0, 1),
    TEXT(struct msg_lease_state, Onestep__LeaseState, stage, 0, MSG_STAGE_MAX),
};
static const struct codec_shape lease_state_shape = SHAPE(
    "lease state", struct msg_lease_state, onestep__lease_state__descriptor, lease_state_fields);

static const struct codec_field state_fields[] = {
    INT(struct msg_state, Onestep__Heartbeat, granted_total, 0, MS_MAX),
    PARTS(struct msg_state, Onestep__Heartbeat, leases, lease_count, MSG_LEASES_MAX,
          &lease_state_shape),
};

static const struct codec_field lease_verdict_fields[] = {
    PART(struct msg_lease_verdict, Onestep__LeaseVerdict, lease, &lease_shape),
    ENUM(struct msg_lease_verdict, Onestep__LeaseVerdict, verdict, 1, VERDICT_COUNT - 1),
};
static const struct codec_shape lease_verdict_shape =
    SHAPE("lease verdict", struct msg_lease_verdict, onestep__lease_verdict__descriptor,
          lease_verdict_fields);

static const struct codec_field state_ack_fields[] = {
    INT(struct msg_state_ack, Onestep__HeartbeatAck, dispatched_total, 0, MS_MAX),
    PARTS(struct msg_state_ack, Onestep__HeartbeatAck, verdicts, verdict_count, MSG_LEASES_MAX,
          &lease_verdict_shape),
};

static const struct codec_field done_fields[] = {
    PART(struct msg_done, Onestep__Done, lease, &lease_shape),
    PART(struct msg_done, Onestep__Done, result, &result_shape),
};

static const struct codec_field fail_fields[] = {
    PART(struct msg_fail, Onestep__Fail, lease, &lease_shape),
    ENUM(struct msg_fail, Onestep__Fail, code, 1, STATUS_COUNT - 1),
    SENTENCE(struct msg_fail, Onestep__Fail, sentence, MSG_SENTENCE_MAX),
};

static const struct codec_field release_fields[] = {
    PART(struct msg_release, Onestep__Release, lease, &lease_shape),
};

/* struct msg_ack, msg_cancel_lease and msg_lease_verdict are laid out alike. */
_Static_assert(sizeof(struct msg_ack) == sizeof(struct msg_lease_verdict) &&
                   offsetof(struct msg_ack, verdict) == offsetof(struct msg_lease_verdict, verdict),
               "ACK has the fields of a lease verdict");
_Static_assert(sizeof(struct msg_cancel_lease) == sizeof(struct msg_lease_verdict) &&
                   offsetof(struct msg_cancel_lease, verdict) ==
                       offsetof(struct msg_lease_verdict, verdict),
               "CANCEL_LEASE has the fields of a lease verdict");

/* --- which message has which body --- */

#define BODY(name_, type_, descriptor_, fields_) SHAPE(name_, type_, descriptor_, fields_)
#define EMPTY(name_)                                                                               \
    {                                                                                              \
        .name = name_, .wire = &onestep__empty__descriptor                                         \
    }

static const struct codec_shape shapes[MSG_TYPE_COUNT] = {
    [MSG_SUBMIT] = BODY("SUBMIT", struct msg_submit, onestep__submit__descriptor, submit_fields),
    [MSG_SUBMITTED] = BODY("SUBMITTED", struct msg_job_verdicts, onestep__job_verdicts__descriptor,
                           verdicts_fields),
    [MSG_STATUS] = BODY("STATUS", struct msg_ids, onestep__ids__descriptor, ids_fields),
    [MSG_STATUSES] =
        BODY("STATUSES", struct msg_statuses, onestep__statuses__descriptor, statuses_fields),
    [MSG_LIST] = BODY("LIST", struct msg_list, onestep__list__descriptor, list_fields),
    [MSG_LISTED] =
        BODY("LISTED", struct msg_statuses, onestep__statuses__descriptor, statuses_fields),
    [MSG_CANCEL] = BODY("CANCEL", struct msg_ids, onestep__ids__descriptor, ids_fields),
    [MSG_CANCELLED] = BODY("CANCELLED", struct msg_job_verdicts, onestep__job_verdicts__descriptor,
                           verdicts_fields),
    [MSG_PING] = EMPTY("PING"),
    [MSG_PONG] = BODY("PONG", struct msg_pong, onestep__pong__descriptor, pong_fields),
    [MSG_ERROR] = BODY("ERROR", struct msg_error, onestep__error__descriptor, error_fields),
    [MSG_HELLO] = BODY("HELLO", struct msg_hello, onestep__hello__descriptor, hello_fields),
    [MSG_WELCOME] =
        BODY("WELCOME", struct msg_welcome, onestep__welcome__descriptor, welcome_fields),
    [MSG_CREDIT] = BODY("CREDIT", struct msg_credit, onestep__credit__descriptor, credit_fields),
    [MSG_JOB] = BODY("JOB", struct msg_job, onestep__job__descriptor, job_fields),
    [MSG_STATE] = BODY("STATE", struct msg_state, onestep__heartbeat__descriptor, state_fields),
    [MSG_STATE_ACK] = BODY("STATE_ACK", struct msg_state_ack, onestep__heartbeat_ack__descriptor,
                           state_ack_fields),
    [MSG_DONE] = BODY("DONE", struct msg_done, onestep__done__descriptor, done_fields),
    [MSG_FAIL] = BODY("FAIL", struct msg_fail, onestep__fail__descriptor, fail_fields),
    [MSG_RELEASE] =
        BODY("RELEASE", struct msg_release, onestep__release__descriptor, release_fields),
    [MSG_ACK] =
        BODY("ACK", struct msg_ack, onestep__lease_verdict__descriptor, lease_verdict_fields),
    [MSG_CANCEL_LEASE] = BODY("CANCEL_LEASE", struct msg_cancel_lease,
                              onestep__lease_verdict__descriptor, lease_verdict_fields),
    [MSG_DRAIN] = EMPTY("DRAIN"),
    [MSG_BYE] = EMPTY("BYE"),
    [MSG_ASK] = BODY("ASK", struct msg_ask, onestep__ask__descriptor, ask_fields),
    [MSG_RULE] = BODY("RULE", struct msg_rule, onestep__rule__descriptor, rule_fields),
    [MSG_ROWS] = BODY("ROWS", struct msg_rows, onestep__rows__descriptor, rows_fields),
};

const struct codec_shape *codec_shape_of(enum msg_type type)
{
    if ((unsigned)type >= MSG_TYPE_COUNT || type == MSG_NONE)
        return NULL;
    return &shapes[type];
}
