/* attempt.h - one try at one job: everything that is known while a lease is held.
 *
 * An attempt goes from thread to thread with the work (intake, compute, result); its owner is the
 * thread that has it. While frames are encoded two threads have it: compute writes what the clip
 * needs, result reads frames through struct frames, which says when compute is through with it. */
#ifndef ONESTEP_WORKER_ATTEMPT_H
#define ONESTEP_WORKER_ATTEMPT_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/base/status.h"
#include "common/digest.h"
#include "common/media.h"
#include "proto/msg.h"
#include "proto/spec.h"
#include "worker/frames.h"
#include "worker/pipeline.h"
#include "worker/stage.h"

/* What is known about a job's input. */
struct attempt_input {
    uint64_t bytes;                   /* size as fetched */
    char sha256_hex[DIGEST_HEX_ROOM]; /* of the bytes as fetched */
};

struct crew;

/* One try. */
struct attempt {
    struct lease lease;         /* job, attempt number, nonce */
    struct job_spec asked;      /* parameters as they came */
    struct job_spec spec;       /* resolved; valid after intake */
    struct attempt_input input; /* valid after intake */
    struct media_image image;   /* the photograph; valid after intake, owned */
    struct pipeline_need need;  /* memory and work; valid after intake */
    struct frames frames;       /* the finished clip; compute fills, result reads */
    struct stages stages;       /* progress and times */
    atomic_bool cancel;         /* set by any thread: stop working */
    atomic_llong until_ms;      /* monotonic; moved by net: the lease's end; 0: not known yet */
    enum msg_verdict why; /* why the agent took the lease away, VERDICT_NONE: it did not; under
                                   the crew's lock */
    int64_t begin_ms;     /* monotonic; when the lease came */
    struct crew *crew;    /* that works on it; borrowed */
    struct attempt *next; /* in the crew's list; under its lock */
};

/* A fresh attempt; its content is the caller's to fill. Errors: ERR_NOMEM. */
MUST_USE status attempt_new(struct attempt **a, const struct lease *lease,
                            const struct job_spec *spec);

/* Free photograph and frames; the compute thread is through with them. */
void attempt_strip(struct attempt *a);

/* Accepts NULL. */
void attempt_free(struct attempt *a);

/* SHA-256 in hex of the asked parameters that a result depends on (all but priority, timeout,
 * attempts, labels, put_url): two attempts with the same job id and the same value may share a
 * result. Errors: ERR_NOMEM. */
MUST_USE status attempt_spec_hash(const struct attempt *a, char hex[DIGEST_HEX_ROOM]);

#endif
