/* broker_priv.h - the structs of the broker's core and what its files do for each other. */
#ifndef ONESTEP_BROKER_BROKER_PRIV_H
#define ONESTEP_BROKER_BROKER_PRIV_H

#include "broker/broker.h"
#include "common/base/arena.h"
#include "common/base/limits.h"
#include "proto/codec.h"
#include "broker/meter.h"

/* Requests that wait for the store at once; the shell stops reading long before. */
#define REQUESTS_MAX 4096

/* Tag of a call whose answer nobody waits for. */
#define TAG_NONE UINT64_MAX

/* A message that was turned into store calls and waits for their answers. */
struct request {
    bool is_used;
    uint16_t place; /* in broker.requests */
    enum broker_side side;
    struct bus_peer peer;
    enum msg_type type;
    uint64_t seq;
    size_t waiting;            /* answers that are still to come */
    size_t count;              /* items of the request */
    int64_t worker_dispatched; /* STATE: goes into its STATE_ACK */
    bool is_answered;          /* an ERROR went out: drop what still comes */
    union {
        struct msg_job_verdict jobs[LIMIT_JOBS_PER_MSG]; /* SUBMIT, CANCEL */
        struct msg_lease_verdict leases[MSG_LEASES_MAX]; /* STATE; verdict NONE: no answer */
        struct lease lease;                              /* DONE, FAIL, RELEASE */
        struct {
            enum msg_question question; /* of an ASK */
            enum msg_order order;       /* of a RULE */
            size_t skip;                /* rows that were in earlier pages */
        } ask;                          /* ASK, RULE */
    };
    size_t sentence_at[LIMIT_JOBS_PER_MSG]; /* of jobs[i], in sentences; 0: "" */
    struct buf sentences;                   /* begins with a NUL */
};

/* A worker that said HELLO. */
struct worker {
    bool is_used;
    uint32_t generation; /* tells a late claim for an earlier worker in this place */
    struct bus_peer peer;
    char id[JOB_ID_BYTES];
    char label[192]; /* "host/id", for people */
    char models[MSG_MODELS_MAX][SPEC_NAME_MAX];
    const char *model_names[MSG_MODELS_MAX]; /* of its claim */
    size_t model_count;
    char device[MSG_PEOPLE_MAX + 1];
    char version[MSG_PEOPLE_MAX + 1];
    int64_t memory_mib;            /* that a job may use; 0: it does not say */
    int64_t held_count;            /* leases in its last STATE */
    char job[JOB_ID_BYTES];        /* of these the first that runs, or else the first; "" */
    char stage[MSG_STAGE_MAX + 1]; /* of that job */
    bool is_leaving;               /* it said BYE, or shall drain: no more jobs */
    bool must_drain;               /* told to drain, and has not said BYE since */
    int64_t heard_ms;              /* last message */
    int64_t granted_total;         /* jobs it was ever ready to take since HELLO */
    int64_t dispatched_total;      /* jobs sent to it since HELLO */
    int64_t claiming;              /* claims for it that are at the store */
    int64_t window;  /* how many may be; doubles with each job, 1 after an empty answer */
    bool is_hopeful; /* there may be a job for it: claim */
    bool has_news;   /* that was heard again while claims were at the store */
};

/* Everything that a broker knows; none of it is missed when it dies. */
struct broker {
    struct broker_config config;
    char id[JOB_ID_BYTES];
    struct arena arena;                     /* of the message being handled */
    struct msg message;                     /* that message; store calls borrow from it */
    const struct broker_frame *frame;       /* that it came in; valid in its handler */
    struct request *requests[REQUESTS_MAX]; /* made when first needed, then kept */
    uint16_t free_requests[REQUESTS_MAX];   /* stack of the unused */
    size_t free_count;
    struct worker *workers; /* BROKER_WORKERS_MAX places */
    size_t worker_end;      /* places in use are below */
    size_t next_worker;     /* where the round of claims goes on */
    int64_t next_sweep_ms;
    bool is_sweeping;      /* a sweep is at the store */
    int64_t next_stats_ms; /* when to count the store's jobs */
    int64_t next_poll_ms;  /* when to look for jobs that nobody announced */
    bool is_draining;      /* no more claims */
    bool is_started;       /* the first tick set the times above */
};

/* --- broker.c --- */

/* Send an answer; a failure to encode is logged and becomes an ERROR to the peer. */
void broker_answer(struct broker *b, enum broker_side side, const struct bus_peer *to,
                   const struct msg *m, struct outbox *out);

/* Send an ERROR with this code and sentence. */
void broker_answer_error(enum broker_side side, const struct bus_peer *to, uint64_t seq,
                         status code, const char *sentence, struct outbox *out);

/* Count one more of row. This function can't fail. */
void broker_count(struct broker *b, enum meter row, size_t value);

/* Wait and randomness of a retry. */
struct store_retry broker_retry(const struct broker *b);

/* --- request.c --- */

/* A new request for m of this peer; NULL when there are too many, which the peer has been told. */
struct request *request_begin(struct broker *b, enum broker_side side, const struct bus_peer *from,
                              const struct msg *m, struct outbox *out);

/* Tag of item index of a request, and back. */
uint64_t request_tag(const struct request *r, size_t index);
struct request *request_of_tag(struct broker *b, uint64_t tag, size_t *index);

/* Keep a sentence for job item index. */
void request_keep_sentence(struct request *r, size_t index, const char *sentence);

/* One answer has come: true when it was the last. */
bool request_is_complete(struct request *r);

/* A request of a client that is one call: make both; NULL as request_begin. */
struct request *request_ask(struct broker *b, const struct bus_peer *from, const struct msg *m,
                            struct store_call *call, struct outbox *out);

/* The store has answered that call: the request is over. True when it was an error, which the
 * client has been told. */
bool request_end_asked(struct broker *b, struct request *r, const struct store_reply *reply,
                       struct outbox *out);

/* Give the place back. */
void request_end(struct broker *b, struct request *r);

/* --- handle_client.c, handle_ask.c, handle_worker.c --- */

/* A message of a client or worker; the handlers of broker.c's table. */
typedef void (*handler_fn)(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                           const struct msg *m, struct outbox *out);
void handle_submit(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out);
void handle_status(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out);
void handle_list(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out);
void handle_cancel(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out);
void handle_ping(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out);
void handle_ask(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                struct outbox *out);
void handle_rule(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out);
void handle_hello(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                  const struct msg *m, struct outbox *out);
void handle_credit(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                   const struct msg *m, struct outbox *out);
void handle_state(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                  const struct msg *m, struct outbox *out);
void handle_done(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out);
void handle_fail(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out);
void handle_release(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                    const struct msg *m, struct outbox *out);
void handle_bye(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                struct outbox *out);

/* The store's answer to one item of r. */
typedef void (*reply_fn)(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                         const struct store_reply *reply, struct outbox *out);
void handle_submit_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                         const struct store_reply *reply, struct outbox *out);
void handle_cancel_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                         const struct store_reply *reply, struct outbox *out);
void handle_status_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                         const struct store_reply *reply, struct outbox *out);
void handle_list_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                       const struct store_reply *reply, struct outbox *out);
void handle_ping_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                       const struct store_reply *reply, struct outbox *out);
void handle_rows_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                       const struct store_reply *reply, struct outbox *out);
void handle_state_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                        const struct store_reply *reply, struct outbox *out);
void handle_ack_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                      const struct store_reply *reply, struct outbox *out);

/* --- dispatch.c --- */

/* The worker behind a connection, or NULL. */
struct worker *dispatch_find(struct broker *b, const struct bus_peer *peer);

/* The worker with this id, or NULL. */
struct worker *dispatch_find_id(struct broker *b, const char *id);

/* A place for a worker that says HELLO; its old place, if any, is given up. NULL: no room. */
struct worker *dispatch_admit(struct broker *b, const struct bus_peer *peer, const char *id);

/* Forget a worker. */
void dispatch_forget(struct worker *w);

/* It takes no more jobs, and is forgotten once it holds none. */
void dispatch_leave(struct worker *w);

/* What it says that it holds. */
void dispatch_note_leases(struct worker *w, const struct msg_state *state);

/* It reports the end of one lease. */
void dispatch_note_end(struct worker *w);

/* Word of what it does now: idle, busy, draining or silent. */
const char *dispatch_state_name(const struct broker *b, const struct worker *w, int64_t now_ms);

/* There may be count new jobs, for model or (NULL) for any: let so many workers claim. */
void dispatch_wake(struct broker *b, const char *model, int64_t count);

/* Make the claims that hopeful workers with credit want. */
void dispatch_claims(struct broker *b, int64_t now_ms, struct outbox *out);

/* The store's answer to a claim. */
void dispatch_on_claim(struct broker *b, int64_t now_ms, const struct store_reply *reply,
                       struct outbox *out);

/* A JOB could not be sent: hand its lease back. */
void dispatch_on_unsent(struct broker *b, const struct outbox_send *send, struct outbox *out);

/* Drop workers that were silent for too long. */
void dispatch_drop_silent(struct broker *b, int64_t now_ms);

/* Workers that are heard now. */
int64_t dispatch_count(const struct broker *b);

#endif
