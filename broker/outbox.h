/* outbox.h - what the broker's core wants done: calls to the store, and frames to peers.
 *
 * The core performs no I/O; the shell (or a test) takes these out and does them. Order counts only
 * within each list. */
#ifndef ONESTEP_BROKER_OUTBOX_H
#define ONESTEP_BROKER_OUTBOX_H

#include <stddef.h>

#include "common/base/buf.h"
#include "common/bus.h"
#include "common/store.h"
#include "proto/msg.h"

/* The two doors of a broker. */
enum broker_side { BROKER_CLIENTS = 0, BROKER_WORKERS, BROKER_SIDE_COUNT };

/* One encoded frame. */
struct outbox_send {
    enum broker_side side;
    struct bus_peer to;
    size_t at, len;     /* where it lies in frames */
    bool is_job;        /* a JOB: what can't be delivered must be given back at once */
    struct lease lease; /* is_job: the lease in it */
};

/* Zeroed: empty. */
struct outbox {
    struct store_call *calls; /* they borrow from the core: take them before its next function */
    size_t call_count, call_room;
    struct outbox_send *sends;
    size_t send_count, send_room;
    struct buf frames;
};

/* Forget everything, keep the memory. */
void outbox_reset(struct outbox *out);

/* Free the memory. Accepts a zeroed struct. */
void outbox_free(struct outbox *out);

/* Add a store call. This function can't fail: without memory for it the process ends. */
void outbox_call(struct outbox *out, const struct store_call *call);

/* Add a frame. Errors: those of codec_encode; nothing is added then. */
MUST_USE status outbox_send(struct outbox *out, enum broker_side side, const struct bus_peer *to,
                            const struct msg *m);

#endif
