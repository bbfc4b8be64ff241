/* delivery.h - the thread that brings finished clips from disk to storage.
 *
 * A clip is tried at once; while the store does not answer, it stays on disk and is tried again,
 * with pauses that grow to half a minute, as long as it takes. Meanwhile its lease is held (the job
 * says "uploading"). When the store answers that it is full or broken, the attempt fails so that
 * its user hears of it, and the clip stays on disk all the same. A clip whose lease was lost, or
 * that another process left behind, is delivered nevertheless: the job's next attempt adopts it. A
 * clip is dropped when the store has it, when the job was cancelled, or when trying again can't
 * help. A published clip whose user's own address (put_url) does not take it is tried
 * HANDOVER_TRIES_MAX times, while others go on; then the attempt fails.
 * Thread: add, wake: any; open, close: the owner. */
#ifndef ONESTEP_WORKER_DELIVERY_H
#define ONESTEP_WORKER_DELIVERY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/result.h"

struct attempt;

/* What the world hears, on the delivery thread. */
struct delivery_ops {
    void *self;
    /* The attempt is over; it is the listener's again. */
    void (*ended)(void *self, struct attempt *a, status st, const struct result_urls *urls);
    /* Was the job of this attempt, whose cancel flag is set, cancelled by its user? */
    bool (*is_unwanted)(void *self, struct attempt *a);
    /* The clips on disk have reached the budget, or are below it again. */
    void (*full)(void *self, bool is_full);
};

/* How to deliver. Borrowed until delivery_open returns. */
struct delivery_config {
    const struct result_config *result; /* the store, and the folder with the clips */
    uint64_t bytes_max;                 /* on disk, before full is called */
    struct delivery_ops ops;
};

/* The thread and its list. */
struct delivery {
    struct result result; /* its thread's */
    struct delivery_ops ops;
    uint64_t bytes_max;
    pthread_t thread;
    pthread_mutex_t lock;            /* guards what follows */
    pthread_cond_t change;           /* of it; monotonic clock */
    struct spool_item *first, *last; /* waiting, in turn */
    uint64_t bytes;                  /* of all items, the one being stored too */
    bool is_full;                    /* as was told */
    int64_t due_ms, pause_ms;        /* its thread's: next try after a failure, and the pause */
    atomic_bool is_closing;          /* also stops what is being stored */
    bool is_open;
};

/* Ask the store what it can do, take up the clips that are in the folder, and start. A store that
 * does not answer now is no error. Errors: those of result_open, spool_find and blob_has_put_new;
 * ERR_NOMEM. On error *d is closed. */
MUST_USE status delivery_open(struct delivery *d, const struct delivery_config *config);

/* Stop; clips stay on disk, and their attempts end as ERR_CANCELLED. Accepts a zeroed struct. */
void delivery_close(struct delivery *d);

/* Deliver this; item and its attempt are taken. This function can't fail. */
void delivery_add(struct delivery *d, struct spool_item *item);

/* A cancel flag was set. */
void delivery_wake(struct delivery *d);

#endif
