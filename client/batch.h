/* batch.h - jobs on their way to the broker: named, checked, sent many at a time.
 *
 * Each job that was added ends in exactly one call of on_verdict, or in a failure of batch_add or
 * batch_send. Thread: the owner's. */
#ifndef ONESTEP_CLIENT_BATCH_H
#define ONESTEP_CLIENT_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/session.h"
#include "common/base/limits.h"
#include "proto/msg.h"

/* One job to be sent. */
struct batch_job {
    struct job_spec spec; /* complete but for the seed, when has_seed is false */
    bool has_seed;
    const char *key; /* makes id and seed; "": both are random */
    int64_t row;     /* number for people: line of the manifest, or position of the image */
};

/* What the broker said. Everything is borrowed for the call. */
struct batch_verdict {
    const struct msg_submit_item *item;
    int64_t row;
    enum msg_verdict verdict;
    enum job_state state;
    status code; /* OK when the job is queued, now or earlier */
    const char *sentence;
};

/* Told of every job. A failure ends the sending. */
typedef status (*batch_verdict_fn)(void *self, const struct batch_verdict *v);

/* Zero it, set the first three, then add. */
struct batch {
    struct session *session; /* borrowed */
    batch_verdict_fn on_verdict;
    void *self;
    struct msg_submit_item *items; /* [LIMIT_JOBS_PER_MSG], owned */
    int64_t rows[LIMIT_JOBS_PER_MSG];
    size_t count;
    size_t bytes; /* what items take on the wire, at most */
};

/* Give the job its id and, when it has none, its seed; check it. Errors: ERR_BADARG, ERR_NOMEM. */
MUST_USE status batch_prepare(const struct batch_job *job, struct msg_submit_item *item);

/* Does an address that the flags give fit this number of jobs? It takes one video only; with
 * is_manifest each row has to have its own. Errors: ERR_BADARG. */
MUST_USE status batch_check_put_url(const struct job_spec *flags, int job_count, bool is_manifest);

/* Add a prepared job; sends what has gathered when a message is full.
 * Errors: those of session_call and on_verdict; ERR_NOMEM. */
MUST_USE status batch_add(struct batch *b, const struct msg_submit_item *item, int64_t row);

/* Send what is left. Errors: as batch_add; the jobs then stay in the batch. */
MUST_USE status batch_send(struct batch *b);

/* Free. Accepts a zeroed struct. */
void batch_free(struct batch *b);

#endif
