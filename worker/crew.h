/* crew.h - the threads that do a worker's jobs: intake, compute, result, delivery.
 *
 *   crew_take ---> intake ---> compute ------> result -------> delivery ---> ops.done, fail or
 *   (net)          fetch,      pipeline   ^    encode     ^    upload        stopped
 *                  decode         '-frames'               '- files on disk
 *
 * Arrows between threads are bounded mailboxes; the last is a folder with a budget.
 *
 * While a clip computes, the next one's input is fetched, the last one is encoded, and those before
 * it are stored.
 * The mailboxes are bounded: a stage that is behind holds up the one before it. A bad job ends with
 * a sentence and the crew goes on. A broken device ends the crew's usefulness: ops.broken is called
 * once, and jobs fail from then on.
 * Thread: open, close and main functions by the owner; crew_take, crew_cancel and crew_renew by one
 * thread, net. */
#ifndef ONESTEP_WORKER_CREW_H
#define ONESTEP_WORKER_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/base/mailbox.h"
#include "common/metrics.h"
#include "worker/attempt.h"
#include "worker/delivery.h"
#include "worker/intake.h"
#include "worker/pipeline.h"
#include "worker/result.h"

/* What the crew tells the world, from any of its threads; nothing here may block for long. Of done,
 * fail and stopped, one ends each lease that was taken. */
struct crew_ops {
    void *self; /* handed to every function */
    /* Compute has begun. */
    void (*start)(void *self, const struct lease *lease);
    /* progress 0..1 of the whole attempt. */
    void (*report)(void *self, const struct lease *lease, const char *stage, double progress);
    /* The clip is safe on disk; what is left is to store it. */
    void (*kept)(void *self, const struct lease *lease);
    /* Clips on disk have reached their budget: take no jobs; or there is room again. */
    void (*full)(void *self, bool is_full);
    /* Published. */
    void (*done)(void *self, const struct lease *lease, const struct job_result *result);
    /* Failed; the sentence is for the user. */
    void (*fail)(void *self, const struct lease *lease, status code, const char *sentence);
    /* Work has stopped after crew_cancel or crew_stop. */
    void (*stopped)(void *self, const struct lease *lease);
    /* The device has failed: take no more jobs and end the process. */
    void (*broken)(void *self);
};

/* What the crew works with. Everything is borrowed until crew_close, strings until crew_open
 * returns. */
struct crew_config {
    struct pipeline *pipeline;     /* used by the compute thread, questions answered to intake */
    struct media_decoder *decoder; /* open; used by the intake thread */
    struct fetch_config fetch;     /* where input may come from */
    struct result_config result;   /* where results go */
    uint64_t spool_bytes_max;      /* of clips on disk that wait for the store */
    struct metrics *metrics;       /* of worker/meter.h; NULL: nothing is counted */
    const char *dump_dir;          /* dump every job's tensors here; "" or NULL: do not */
    const char *model_dir;         /* named in dumps */
    struct crew_ops ops;           /* the world */
};

/* The threads and what they share. */
struct crew {
    struct pipeline *pipeline;       /* compute */
    struct intake intake;            /* intake */
    struct result finder;            /* intake: looks for results that exist already */
    struct result result;            /* result */
    struct delivery delivery;        /* finished clips on their way out */
    struct metrics *metrics;         /* borrowed, or NULL */
    struct crew_ops ops;             /* any thread of the crew */
    char dump_dir[FILE_PATH_BYTES];  /* "" : no dumps */
    char model_dir[FILE_PATH_BYTES]; /* for dumps */
    struct mailbox to_intake, to_compute, to_result; /* of struct attempt * */
    pthread_t threads[3];                            /* valid up to thread_count */
    int thread_count;                                /* threads that were started */
    atomic_bool is_broken;                           /* the device has failed */
    pthread_mutex_t lock;                            /* guards held, and cancel reasons in it */
    struct attempt *held;                            /* every attempt that has not ended */
    bool is_open;                                    /* lock exists */
};

/* Open stores and start the threads. Errors: those of fetch_open, result_open, mailbox_open;
 * ERR_NOMEM. On error *c is closed. */
MUST_USE status crew_open(struct crew *c, const struct crew_config *config);

/* Stop every job (ops.stopped), end the threads, close. Accepts a zeroed struct. */
void crew_close(struct crew *c);

/* Take a job. Never blocks; a job that can't be taken fails at once through ops.fail. */
void crew_take(struct crew *c, const struct lease *lease, const struct job_spec *spec);

/* Stop working on a lease; ops.stopped follows unless the attempt has ended already. */
void crew_cancel(struct crew *c, const struct lease *lease, enum msg_verdict why);

/* The lease is ours at least until then, by clock_mono_ms: no upload for it goes on beyond that.
 * Before the first word uploads have their own time limits only. */
void crew_renew(struct crew *c, const struct lease *lease, int64_t until_ms);

#endif
