/* job.h - the states of a job and the events that move it from one to another.
 *
 *   submit --> QUEUED --claim--> LEASED --start--> RUNNING --complete--> DONE
 *               ^  ^               | |               | | |
 *               |  '----release----' '---expire-.    | | '--fail for good, or tries used up--> DEAD
 *               |  '----release-------------------- -' |
 *               '--due-- DELAYED <-----fail, expire with tries left
 *
 *   submit with a delay --> DELAYED; with jobs to wait for --> BLOCKED --due--> QUEUED
 *   cancel: QUEUED, DELAYED, BLOCKED, LEASED, RUNNING --> CANCELLED
 *   redrive: DEAD --> QUEUED
 *   a deadline that passes: any of the first five --> DEAD
 *
 * The transitions themselves happen in common/store.lua, atomically; this table is what they are
 * tested against, and what people read. */
#ifndef ONESTEP_COMMON_JOB_H
#define ONESTEP_COMMON_JOB_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/msg.h"

/* What can happen to a job. */
enum job_event {
    JOB_EVENT_SUBMIT = 0,
    JOB_EVENT_CLAIM,    /* a worker is given the lease */
    JOB_EVENT_START,    /* the worker reports that it computes */
    JOB_EVENT_COMPLETE, /* the holder reports a result */
    JOB_EVENT_RETRY,    /* the holder failed or vanished, and there are tries left */
    JOB_EVENT_KILL,     /* the holder failed for good, or no tries are left */
    JOB_EVENT_RELEASE,  /* the holder gives it back, or vanished before it started */
    JOB_EVENT_DUE,      /* the wait is over: for the next try, a delay, or other jobs */
    JOB_EVENT_CANCEL,
    JOB_EVENT_REDRIVE, /* an operator gives a dead job all its tries again */
    JOB_EVENT_COUNT
};

/* The state after event in state from; JOB_ILLEGAL when the event is refused there. */
enum job_state job_next(enum job_state from, enum job_event event);

/* Does the job stay in this state for ever? */
bool job_is_final(enum job_state state);

/* Word of a state in Redis, JSON and --state: "queued", "delayed", "leased", "running", "done",
 * "dead", "cancelled", "blocked"; "unknown" for JOB_ILLEGAL. This function can't fail. */
const char *job_state_name(enum job_state state);

/* The state with that name; JOB_ILLEGAL when there is none. */
enum job_state job_state_from_name(const char *name, size_t len);

#endif
