/* jobs.h - job ids from a command line, and questions about many jobs at once. */
#ifndef ONESTEP_CLIENT_JOBS_H
#define ONESTEP_CLIENT_JOBS_H

#include <stddef.h>

#include "client/session.h"
#include "proto/msg.h"

/* Ids of jobs. A zeroed struct is empty. */
struct jobs {
    char (*ids)[JOB_ID_BYTES]; /* [count], owned */
    size_t count;
};

/* Told of each job in the order of the ids; status is borrowed for the call. A failure ends it. */
typedef status (*jobs_status_fn)(void *self, size_t index, const struct job_status *job);

/* Told of each verdict in the order of the ids. A failure ends it. */
typedef status (*jobs_verdict_fn)(void *self, const struct msg_job_verdict *v);

/* Check and copy count words. Errors: ERR_BADARG for a word that is no id; ERR_NOMEM. */
MUST_USE status jobs_from_words(struct jobs *j, char **words, int count);

/* Make room for count ids, all empty. Errors: ERR_NOMEM. */
MUST_USE status jobs_make(struct jobs *j, size_t count);

/* Free. Accepts a zeroed struct. */
void jobs_free(struct jobs *j);

/* Ask about count jobs, as many messages as it takes.
 * Errors: those of session_call and on_status. */
MUST_USE status jobs_ask(struct session *s, const char (*ids)[JOB_ID_BYTES], size_t count,
                         jobs_status_fn on_status, void *self);

/* Cancel count jobs. Errors: those of session_call and on_verdict. */
MUST_USE status jobs_cancel(struct session *s, const char (*ids)[JOB_ID_BYTES], size_t count,
                            jobs_verdict_fn on_verdict, void *self);

#endif
