/* store.h - jobs in Redis: every transition of a job, as pipelined calls of one Lua library.
 *
 * The truth about a job is its hash; every index is derived from it inside the same script
 * (common/store.lua), so that a call happens wholly or not at all. Calls are queued with store_add,
 * sent together by store_flush (one pipeline, one fsync) and answered by store_step in the order of
 * their tags' arrival, those that wait for replicas later. A call is answered exactly once.
 *
 * code in a reply:
 *   OK               the store did it, or refused it: verdict and state say which
 *   ERR_UNAVAILABLE  no answer: nobody knows whether it happened. Every call may be repeated.
 *   ERR_FULL         the queue or Redis' memory is full; nothing happened
 *   ERR_CORRUPT      Redis holds something that we did not write
 * When the connection is lost, all calls under way are answered ERR_UNAVAILABLE, and so is every
 * later one until the connection is back; store_step sees to that by itself, with backoff.
 * Thread: the owner's. */
#ifndef ONESTEP_COMMON_STORE_H
#define ONESTEP_COMMON_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"
#include "common/job.h"
#include "common/tls.h"
#include "proto/msg.h"

struct store;

/* Where and how to connect; strings are borrowed for store_open. */
struct store_config {
    const char *url;           /* redis[s]://HOST:PORT[,...][/DB], unix:///PATH[?db=N] or
                                  sentinel://HOST:PORT[,...]/MASTER */
    const char *password_file; /* its first line is the password; "" or NULL: none */
    const char *user;          /* of Redis' ACL; "" or NULL: the default one */
    struct tls_files tls;      /* for rediss:// */
    bool allow_unsafe;         /* accept a server that may forget acknowledged jobs */
    bool no_functions;         /* EVALSHA also where Redis has functions; for tests */
    int replicas;              /* that must have a change before it is acknowledged; 0: none */
    int64_t timeout_ms;        /* silence after which a connection is given up; 0: 5000 */
};

/* The functions of common/store.lua. */
enum store_op {
    STORE_NONE = 0,
    STORE_SUBMIT,
    STORE_CLAIM,
    STORE_RENEW,
    STORE_COMPLETE,
    STORE_FAIL,
    STORE_RELEASE,
    STORE_CANCEL,
    STORE_SWEEP,
    STORE_STATUS,
    STORE_LIST,
    STORE_STATS,
    STORE_AUDIT,
    STORE_BATCH,       /* rows: total, left, done, dead, cancelled; no row: no such batch */
    STORE_EVENTS,      /* rows: cursor, job, state, tenant, batch */
    STORE_QUEUES,      /* rows: model, MiB needed, tenant, ready, "" or what holds it: cap, pause */
    STORE_WHY,         /* rows: one sentence each on why a job does not run; no row: no such job */
    STORE_QUOTA,       /* verdict */
    STORE_TENANTS,     /* rows: tenant, waiting, held, bytes, paused, and the fields of a quota */
    STORE_PAUSE,       /* verdict; REFUSED: this can only be paused, not drained */
    STORE_FRONT,       /* verdict */
    STORE_REDRIVE,     /* verdict */
    STORE_REDRIVE_ALL, /* one row: cursor of the next page ("" on the last), number revived */
    STORE_OP_COUNT
};

/* Limits of one tenant. */
struct store_quota {
    const char *tenant;
    struct msg_quota limits;
};

/* What a pause is about, and what shall happen to it. */
enum store_scope { STORE_ALL = 0, STORE_MODEL, STORE_TENANT };
enum store_mode {
    STORE_RUN = 0, /* end of a pause or drain */
    STORE_HOLD,    /* what runs goes on, nothing more starts */
    STORE_DRAIN    /* STORE_ALL: no more jobs are taken, what is there runs */
};

/* How failed attempts are tried again: after base, 2 base, 4 base, ... up to cap; the upper half of
 * each wait is random. */
struct store_retry {
    int64_t base_ms, cap_ms;
    double random; /* [0,1), new for each call */
};

/* One call. Everything is borrowed until store_add returns. */
struct store_call {
    enum store_op op;
    uint64_t tag; /* comes back in the reply */
    union {
        struct {
            const char *job;
            const struct job_spec *spec;
            int64_t queued_max; /* jobs that may wait at once */
        } submit;
        struct {
            const char *const *models; /* in the order in which they are looked at */
            size_t model_count;
            const char *worker; /* "host/id", shown to people */
            uint64_t nonce;     /* random, new for each call */
            int64_t lease_ms;
            int64_t memory_mib; /* of the worker's device; 0: not known */
        } claim;
        struct {
            const struct msg_lease_state *state;
            int64_t lease_ms;
        } renew;
        struct {
            struct lease lease;
            const struct job_result *result;
        } complete;
        struct {
            struct lease lease;
            status code;
            const char *sentence;
            struct store_retry retry;
        } fail;
        struct lease release;
        const char *cancel;  /* job */
        const char *why;     /* job */
        const char *front;   /* job: before all others of its tenant */
        const char *redrive; /* job: dead, gets all its tries again */
        struct {
            const char *tenant, *name;
        } batch;
        struct {
            const char *cursor; /* ""; or of the last row seen, digits and '-' */
            int64_t limit;
        } events, redrive_all;
        struct store_quota quota;
        struct {
            enum store_scope scope;
            const char *name; /* of the model or tenant */
            enum store_mode mode;
        } pause;
        bool audit_repair; /* derive anew what disagrees with the jobs */
        struct msg_ids status;
        struct msg_list list;
        struct {
            int64_t limit; /* jobs moved by one call */
            struct store_retry retry;
            int64_t gap_ms;       /* nobody swept for so long: leases get grace first */
            int64_t lease_ms;     /* that grace */
            int64_t retention_ms; /* ended jobs are forgotten after this; 0: never */
        } sweep;
    };
};

#define STORE_CELLS_MAX 12

/* A row of an answer: texts, as many as the comment of its op names. */
struct store_row {
    const char *cells[STORE_CELLS_MAX]; /* beyond cell_count: "" */
    size_t cell_count;
};

/* One answer. Everything is borrowed for the call of the store_reply_fn. */
struct store_reply {
    enum store_op op;
    uint64_t tag;
    status code;
    const char *sentence;          /* when code is not OK */
    enum msg_verdict verdict;      /* of the ops that change a job; and see enum store_op */
    enum job_state state;          /* of the job after the call, for the same */
    struct lease lease;            /* claim; cancel of a leased job: the lease that was ended */
    const char *worker;            /* cancel of a leased job: who held it */
    const struct job_spec *spec;   /* claim; NULL: there is no job to do */
    const struct job_status *jobs; /* status (in the order of the ids), list */
    size_t job_count;
    const char *cursor;  /* list: for the next page, "" on the last */
    int64_t expired;     /* sweep: leases that ran out */
    int64_t promoted;    /* sweep: delayed jobs that became ready */
    int64_t next_due_ms; /* sweep: until the next lease or delay ends; -1: nothing is waited for */
    int64_t job_counts[JOB_STATE_COUNT]; /* stats */
    const struct store_row *rows;        /* the ops that say so, and what an audit found */
    size_t row_count;
};

/* Takes one answer; self is what was given to store_step. May call store_add. */
typedef void (*store_reply_fn)(void *self, const struct store_reply *reply);

/* Connect, check the server, load the library.
 * Errors: ERR_BADARG for the url; ERR_UNAVAILABLE when nobody listens or the password is wrong;
 * ERR_CONFLICT when the server is too old or not durable; each sentence says what to do. */
MUST_USE status store_open(struct store **store, const struct store_config *config);

/* Close; calls under way are dropped unanswered. Accepts NULL. */
void store_close(struct store *store);

/* Queue one call. Errors: ERR_BADARG (a spec that can't be encoded), ERR_FULL (too many under way),
 * ERR_NOMEM: it will not be answered then. */
MUST_USE status store_add(struct store *store, const struct store_call *call);

/* Send what was queued, as far as the socket takes it; the rest goes with store_step. */
void store_flush(struct store *store);

/* Read and hand out replies, send the rest, reconnect when it is time. Never blocks. Call when the
 * descriptor is ready, and at the latest after store_wait_ms. */
void store_step(struct store *store, int64_t now_ms, store_reply_fn on_reply, void *self);

/* The descriptor to poll, -1 while not connected; want_write is set when there is more to send. */
int store_fd(const struct store *store, bool *want_write);

/* Milliseconds until store_step wants to be called even if nothing happens; -1: no need. */
int64_t store_wait_ms(const struct store *store, int64_t now_ms);

/* Calls that wait for an answer. */
size_t store_pending(const struct store *store);

/* Is there a connection with the library loaded? */
bool store_is_connected(const struct store *store);

/* Add one call, and step until it is answered; for tools and tests.
 * Errors: those of store_add, and the reply's code. */
MUST_USE status store_call_now(struct store *store, const struct store_call *call,
                               store_reply_fn on_reply, void *self);

#endif
