/* broker.h - the broker's mind: accepts jobs, hands them to workers, watches leases.
 *
 * A pure core in a thin shell: these functions change the broker's own structs and fill an outbox,
 * nothing else. Time, frames, the store's answers and randomness are handed in, so that a test
 * plays a whole cluster. broker/main.c is the shell.
 *
 * The broker holds no truth. What a client hears was in Redis before; a lease is there before its
 * job goes out; a broker that dies takes nothing with it but connections, and its workers go to
 * another.
 *
 * A store call of an outbox borrows from the broker: after each function here, take the calls out
 * of the outbox before calling the next. Thread: net. */
#ifndef ONESTEP_BROKER_BROKER_H
#define ONESTEP_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/outbox.h"
#include "common/base/status.h"
#include "common/keys.h"
#include "common/metrics.h"
#include "common/store.h"

/* Workers that one broker can have; further ones are told to go to another. */
#define BROKER_WORKERS_MAX 4096

struct broker;

/* Settings of the core; those of the program are in broker/main.c. */
struct broker_config {
    int64_t lease_ms;         /* a lease ends when it was not renewed for so long */
    int64_t heartbeat_ms;     /* how often workers shall renew */
    int64_t retry_base_ms;    /* wait before the second try */
    int64_t retry_cap_ms;     /* longest wait before a try */
    int64_t queued_max;       /* jobs that may wait */
    int64_t retention_ms;     /* ended jobs are remembered so long */
    const char *version;      /* release; borrowed */
    uint64_t (*random)(void); /* 64 random bits */
    struct metrics *metrics;  /* of broker/meter.h; NULL: nothing is counted */
};

/* Make a broker with an id. Errors: ERR_NOMEM. */
MUST_USE status broker_open(struct broker **broker, const struct broker_config *config,
                            const char id[JOB_ID_BYTES]);

/* Free it. Accepts NULL. */
void broker_close(struct broker *broker);

/* A frame as it came in; everything is borrowed for the call. */
struct broker_frame {
    enum broker_side side;       /* the door it came through */
    const struct bus_peer *from; /* its sender */
    const void *bytes;
    size_t len;
    enum keys_role role; /* what the sender may do */
    const char *tenant;  /* of the sender's card; "": it has none */
};

/* A frame came in. Whatever is in it: this function can't fail. */
void broker_on_frame(struct broker *b, int64_t now_ms, const struct broker_frame *frame,
                     struct outbox *out);

/* The store answered a call, or the shell could not even queue it (code says so). */
void broker_on_store_reply(struct broker *b, int64_t now_ms, const struct store_reply *reply,
                           struct outbox *out);

/* A frame of the outbox could not be sent. */
void broker_on_unsent(struct broker *b, int64_t now_ms, const struct outbox_send *send,
                      struct outbox *out);

/* Do what is due; returns milliseconds until something is due again. */
int64_t broker_tick(struct broker *b, int64_t now_ms, struct outbox *out);

/* Claim no more jobs: the broker is about to stop. */
void broker_drain(struct broker *b);

/* Requests that still wait for the store. */
size_t broker_pending(const struct broker *b);

/* Workers that are heard now. */
size_t broker_workers(const struct broker *b);

#endif
