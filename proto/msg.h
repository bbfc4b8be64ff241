/* msg.h - the messages between client, broker and worker, as plain C structs.
 *
 * struct msg is what proto/codec makes of bytes, and what it turns into bytes. One request, one
 * answer with the same seq; JOB, CANCEL_LEASE, DRAIN and an ERROR that asks a worker for HELLO
 * (ERR_NOTFOUND) come unasked, with seq 0.
 *
 *   client -> broker          answer              worker -> broker       answer
 *   SUBMIT                    SUBMITTED           HELLO                  WELCOME
 *   STATUS                    STATUSES            CREDIT                 - (repeated in STATE)
 *   LIST                      LISTED              STATE                  STATE_ACK
 *   CANCEL                    CANCELLED           DONE, FAIL, RELEASE    ACK
 *   PING                      PONG                BYE                    -
 *   ASK, RULE                 ROWS
 *                                                 broker -> worker: JOB, CANCEL_LEASE, DRAIN
 *   any request may be answered by ERROR: nothing was done, or (ERR_UNAVAILABLE) nobody knows
 *   whether it was; every request may be sent again with the same ids.
 *
 * Strings are never NULL; "" means none. Pointers in a decoded message lie in the arena that was
 * given to codec_decode. Times are milliseconds; *_at_ms since 1970 UTC, 0: has not happened. */
#ifndef ONESTEP_PROTO_MSG_H
#define ONESTEP_PROTO_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"
#include "proto/spec.h"

/* A job id: 2 hex digits of shard and 24 base32 characters, in [0-9a-z]; common/id.h makes them.
 * Workers and brokers are named by ids of the same form. */
#define JOB_ID_CHARS 26
#define JOB_ID_BYTES (JOB_ID_CHARS + 1)

/* Where a job is in its life; common/job.h has the drawing and the transitions. */
enum job_state {
    JOB_ILLEGAL = 0, /* no such job */
    JOB_QUEUED,      /* waits for a worker */
    JOB_DELAYED,     /* waits for its next try */
    JOB_LEASED,      /* a worker has it and prepares */
    JOB_RUNNING,     /* a worker computes */
    JOB_DONE,        /* the result is published */
    JOB_DEAD,        /* given up; code and sentence say why */
    JOB_CANCELLED,   /* a user asked to stop */
    JOB_BLOCKED,     /* waits for other jobs to end */
    JOB_STATE_COUNT
};

/* How a request about one job or one lease ended. */
enum msg_verdict {
    VERDICT_NONE = 0,
    VERDICT_OK,        /* done as asked; for a lease: go on */
    VERDICT_DUPLICATE, /* the very same was asked before; nothing changed, all is well */
    VERDICT_CONFLICT,  /* the id exists with other parameters, or the state forbids the request */
    VERDICT_REFUSED,   /* not accepted; code and sentence say why */
    VERDICT_UNKNOWN,   /* no such job */
    VERDICT_LOST,      /* the lease is no longer the sender's: stop, nothing will be accepted */
    VERDICT_CANCELLED, /* the job was cancelled: stop */
    VERDICT_TIMEOUT,   /* the attempt ran longer than its timeout: stop */
    VERDICT_RELEASED,  /* the worker itself handed the lease back (agent to worker only) */
    VERDICT_COUNT
};

/* The right to run one attempt of one job. Compared for equality of all three. */
struct lease {
    char job[JOB_ID_BYTES];
    int64_t attempt; /* 1 for the first */
    uint64_t nonce;  /* random; in keys and logs as 16 hex digits */
};

/* Where the result is. URLs that a reader of the blob store can open; "" when absent. */
struct job_result {
    const char *video;    /* MP4 */
    const char *poster;   /* PNG */
    const char *manifest; /* JSON */
};

/* What is known about one job. Which fields are valid depends on state. */
struct job_status {
    char job[JOB_ID_BYTES];
    enum job_state state;     /* JOB_ILLEGAL: no such job, and nothing else is valid */
    int64_t attempt;          /* leases handed out so far; 0: none */
    int64_t tries;            /* attempts that were started or failed */
    int64_t attempts_max;     /* tries after which the job is dead */
    int64_t priority;         /* as submitted */
    int64_t submitted_at_ms;  /* wall clock of the store */
    int64_t started_at_ms;    /* of the present or last attempt */
    int64_t ended_at_ms;      /* of the job */
    double progress;          /* 0..1 of the present attempt */
    const char *model;        /* as submitted */
    const char *labels;       /* as submitted */
    const char *worker;       /* present or last holder: "host/id" or "" */
    const char *stage;        /* what the worker does now, "" when it does nothing */
    status code;              /* of the last failed attempt; OK: none failed */
    const char *sentence;     /* of the last failed attempt */
    struct job_result result; /* when JOB_DONE */
    const char *tenant;       /* as submitted */
    const char *batch;        /* as submitted */
    int64_t deadline_at_ms;   /* 0: none */
    int64_t position;         /* JOB_QUEUED: about how many go before it, and itself */
    int64_t eta_ms;           /* JOB_QUEUED, JOB_RUNNING: about how long until it is done */
};

/* --- client and broker ----------------------------------------------------------------------- */

/* One job of a SUBMIT. */
struct msg_submit_item {
    char job[JOB_ID_BYTES];
    struct job_spec spec;
};

/* At most LIMIT_JOBS_PER_MSG, and LIMIT_MSG_BYTES encoded: codec_spec_bytes helps to split. */
struct msg_submit {
    const struct msg_submit_item *items;
    size_t item_count;
};

/* Answer for one job of SUBMIT or CANCEL. SUBMIT: OK, DUPLICATE, CONFLICT, REFUSED.
 * CANCEL: OK, DUPLICATE (was cancelled before), CONFLICT (has ended), UNKNOWN. */
struct msg_job_verdict {
    char job[JOB_ID_BYTES];
    enum msg_verdict verdict;
    enum job_state state; /* of the job after the request */
    status code;          /* when REFUSED or CONFLICT; ERR_UNAVAILABLE: send this one again */
    const char *sentence; /* for people, when code is not OK */
};

/* SUBMITTED, CANCELLED: one verdict for each item, in the order of the request. */
struct msg_job_verdicts {
    const struct msg_job_verdict *items;
    size_t item_count;
};

/* STATUS, CANCEL: at most LIMIT_JOBS_PER_MSG ids. */
struct msg_ids {
    const char (*ids)[JOB_ID_BYTES];
    size_t id_count;
};

/* LIST: newest first. */
struct msg_list {
    enum job_state state; /* only jobs in this state; JOB_ILLEGAL: all */
    const char *label;    /* only jobs with this "key=value" or "key" among their labels; "": all */
    int64_t limit;        /* jobs in the answer, 1..LIMIT_JOBS_PER_MSG */
    const char *cursor;   /* "" for the first page, then the cursor of the last answer */
};

/* STATUSES: jobs in the order of the request. What does not fit in a message is left out at the
 * end: when job_count is below what was asked for, ask again for the rest.
 * LISTED: cursor is "" on the last page; a page may be short or empty before that. */
struct msg_statuses {
    const struct job_status *jobs;
    size_t job_count;
    const char *cursor;
};

/* PONG: who answers, and how much there is to do. */
struct msg_pong {
    const char *broker;                  /* its id */
    const char *version;                 /* its release */
    int64_t worker_count;                /* workers that this broker hears now */
    int64_t job_counts[JOB_STATE_COUNT]; /* jobs in each state; [0] is unused */
};

/* What an ASK is about, and the cells of the rows that answer it. Numbers on the wire, for ever. */
enum msg_question {
    ASK_NOTHING = 0,
    ASK_WHY,     /* name: a job; a sentence each on why it does not run; no row: no such job */
    ASK_EVENTS,  /* cursor, job, state, tenant, batch; those behind the cursor, oldest first */
    ASK_WORKERS, /* those of this broker, in the order of enum msg_worker_cell */
    ASK_LANES,   /* model, MiB that were too few, tenant, ready, what holds it: "", pause or cap */
    ASK_TENANTS, /* those with limits: tenant, waiting, held, bytes, paused, fields of msg_quota */
    ASK_QUESTION_COUNT
};

/* Cells of a worker. */
enum msg_worker_cell {
    WORKER_ID = 0,
    WORKER_HOST,
    WORKER_STATE,      /* idle, busy, draining, silent */
    WORKER_JOB,        /* that it computes, or prepares; "" */
    WORKER_STAGE,      /* of that job */
    WORKER_LEASES,     /* jobs that it has */
    WORKER_MEMORY_MIB, /* that a job may use; 0: it does not say */
    WORKER_MODELS,     /* with commas between */
    WORKER_HEARD_MS,   /* since its last message */
    WORKER_VERSION,
    WORKER_DEVICE,
    WORKER_CELL_COUNT
};

/* ASK: a question whose answer is rows of texts. */
struct msg_ask {
    enum msg_question question;
    const char *name;   /* what it is about */
    const char *cursor; /* "" for the first page, then the cursor of the last answer */
};

/* What a RULE orders; admins alone may. Numbers on the wire, for ever. */
enum msg_order {
    RULE_NOTHING = 0,
    RULE_RUN,          /* of scope and name: the end of a pause, or of a drain */
    RULE_PAUSE,        /* of scope and name: what runs goes on, nothing more starts */
    RULE_DRAIN,        /* SCOPE_QUEUE: no more jobs are taken, what is there runs */
    RULE_DRAIN_WORKER, /* name: a worker; it takes no more jobs and ends. Verdict: OK, UNKNOWN */
    RULE_FRONT,        /* name: a queued job; before all others of its tenant */
    RULE_REDRIVE,      /* name: a dead job; it gets all its tries again */
    RULE_REDRIVE_ALL,  /* a page of the dead, behind cursor; one row: number revived */
    RULE_QUOTA,        /* name: a tenant; its limits */
    RULE_AUDIT,        /* a sentence for each place in Redis that disagrees with the jobs */
    RULE_REPAIR,       /* the same, and derive it anew */
    RULE_ORDER_COUNT
};

/* What a pause is about. Numbers on the wire, for ever. */
enum msg_scope { SCOPE_QUEUE = 0, SCOPE_MODEL, SCOPE_TENANT, SCOPE_COUNT };

/* Limits of a tenant; 0: none, -1: as it is. */
struct msg_quota {
    int64_t queued_max;  /* jobs that wait */
    int64_t running_max; /* jobs that are leased or run */
    int64_t bytes_max;   /* parameters of all its jobs */
    int64_t rate, burst; /* submissions: a second in the long run, and at once */
    int64_t weight;      /* share of the devices against other tenants, 1.. */
};

/* RULE: an order about more than one's own jobs. */
struct msg_rule {
    enum msg_order order;
    enum msg_scope scope; /* of a pause */
    const char *name;     /* what it is about; "" for SCOPE_QUEUE */
    const char *cursor;   /* as in ASK */
    struct msg_quota quota;
};

/* A row of texts; a text is cut to MSG_CELL_MAX bytes. */
struct msg_row {
    const char *const *cells;
    size_t cell_count; /* 1..MSG_CELLS_MAX */
};
#define MSG_CELLS_MAX 12
#define MSG_CELL_MAX 511
#define MSG_ROWS_MAX 128

/* ROWS: the answer to ASK and RULE. */
struct msg_rows {
    enum msg_verdict verdict; /* of a RULE: OK, CONFLICT, REFUSED, UNKNOWN; of an ASK: NONE */
    enum job_state state;     /* of the job that the RULE is about, after it */
    const struct msg_row *rows;
    size_t row_count;   /* 0..MSG_ROWS_MAX */
    int64_t row_total;  /* rows that there are, of which these are some */
    const char *cursor; /* for the next page; "": this is the last */
};

/* ERROR: the request was not done, and why. */
struct msg_error {
    status code;
    const char *sentence;
};

/* --- worker and broker ----------------------------------------------------------------------- */

/* HELLO: first message on every connection, and again whenever a broker does not know us. Credit
 * counters start from zero with it. */
struct msg_hello {
    char worker[JOB_ID_BYTES];
    const char *host;          /* for people */
    const char *device;        /* for people */
    const char *version;       /* its release */
    const char *const *models; /* names of the models that it serves, best first */
    size_t model_count;        /* 1..MSG_MODELS_MAX */
    int64_t memory_mib;        /* that a job may use on its device; 0: it does not say */
};
#define MSG_PEOPLE_MAX 160 /* bytes of host, device and version */
#define MSG_MODELS_MAX 8

/* WELCOME: what the broker expects. */
struct msg_welcome {
    char broker[JOB_ID_BYTES];
    int64_t lease_ms;     /* a lease ends when no STATE renews it for so long */
    int64_t heartbeat_ms; /* how often STATE is wanted */
};

/* CREDIT: jobs that the worker was ever ready to take since its HELLO. */
struct msg_credit {
    int64_t granted_total;
};

/* JOB: a lease and what to do. */
struct msg_job {
    struct lease lease;
    int64_t lease_ms;
    struct job_spec spec;
};

/* One held lease in a heartbeat. */
struct msg_lease_state {
    struct lease lease;
    bool is_started;   /* compute has begun: from now on the attempt counts as a try */
    double progress;   /* 0..1 */
    const char *stage; /* at most MSG_STAGE_MAX bytes, [a-z0-9_] */
};
#define MSG_STAGE_MAX 31

/* STATE: the heartbeat, with every held lease. */
struct msg_state {
    int64_t granted_total; /* as in CREDIT */
    const struct msg_lease_state *leases;
    size_t lease_count; /* 0..MSG_LEASES_MAX */
};
#define MSG_LEASES_MAX 64

/* What became of one lease. */
struct msg_lease_verdict {
    struct lease lease;
    enum msg_verdict verdict; /* OK, LOST, CANCELLED or TIMEOUT */
};

/* STATE_ACK: a verdict for each lease of the STATE. */
struct msg_state_ack {
    int64_t dispatched_total; /* JOBs sent since HELLO; more than were received: some got lost */
    const struct msg_lease_verdict *verdicts;
    size_t verdict_count;
};

/* DONE: the result is published. */
struct msg_done {
    struct lease lease;
    struct job_result result;
};

/* FAIL: the attempt has failed. */
struct msg_fail {
    struct lease lease;
    status code;          /* status_is_retryable decides whether there is another try */
    const char *sentence; /* for people, at most MSG_SENTENCE_MAX bytes */
};
#define MSG_SENTENCE_MAX 511

/* RELEASE: the holder gives the lease back; it costs no try. */
struct msg_release {
    struct lease lease;
};

/* ACK: what became of DONE, FAIL or RELEASE: OK, DUPLICATE, or LOST, CANCELLED. */
struct msg_ack {
    struct lease lease;
    enum msg_verdict verdict;
};

/* CANCEL_LEASE: LOST, CANCELLED or TIMEOUT, told early; the next STATE_ACK says the same. */
struct msg_cancel_lease {
    struct lease lease;
    enum msg_verdict verdict;
};

/* Numbers on the wire, for ever. */
enum msg_type {
    MSG_NONE = 0,
    MSG_SUBMIT,
    MSG_SUBMITTED,
    MSG_STATUS,
    MSG_STATUSES,
    MSG_LIST,
    MSG_LISTED,
    MSG_CANCEL,
    MSG_CANCELLED,
    MSG_PING,
    MSG_PONG,
    MSG_ERROR,
    MSG_HELLO,
    MSG_WELCOME,
    MSG_CREDIT,
    MSG_JOB,
    MSG_STATE,
    MSG_STATE_ACK,
    MSG_DONE,
    MSG_FAIL,
    MSG_RELEASE,
    MSG_ACK,
    MSG_CANCEL_LEASE,
    MSG_DRAIN,
    MSG_BYE,
    MSG_ASK,
    MSG_RULE,
    MSG_ROWS,
    MSG_TYPE_COUNT
};

/* One message. type says which member is valid; PING, DRAIN and BYE have none. */
struct msg {
    enum msg_type type;
    uint64_t seq; /* the sender's number; an answer repeats the request's */
    union {
        struct msg_submit submit;
        struct msg_job_verdicts submitted;
        struct msg_ids status;
        struct msg_statuses statuses;
        struct msg_list list;
        struct msg_statuses listed;
        struct msg_ids cancel;
        struct msg_job_verdicts cancelled;
        struct msg_pong pong;
        struct msg_ask ask;
        struct msg_rule rule;
        struct msg_rows rows;
        struct msg_error error;
        struct msg_hello hello;
        struct msg_welcome welcome;
        struct msg_credit credit;
        struct msg_job job;
        struct msg_state state;
        struct msg_state_ack state_ack;
        struct msg_done done;
        struct msg_fail fail;
        struct msg_release release;
        struct msg_ack ack;
        struct msg_cancel_lease cancel_lease;
    };
};

/* Word of a message type, "submit", "state_ack", ..., for logs. This function can't fail. */
const char *msg_type_name(enum msg_type type);

/* Word of a verdict, "ok", "duplicate", ..., for logs and JSON. This function can't fail. */
const char *msg_verdict_name(enum msg_verdict verdict);

/* Word of an order, "pause", "redrive_all", ..., for logs and JSON. This function can't fail. */
const char *msg_order_name(enum msg_order order);

/* Is text the id of a job, worker or broker: JOB_ID_CHARS characters of [0-9a-z]? */
bool msg_is_id(const char *text);

/* Same job, attempt and nonce? */
bool msg_lease_equal(const struct lease *a, const struct lease *b);

#endif
