/* watch.h - follow jobs until all have ended, showing progress.
 *
 * Jobs are asked about again and again; a broker that is away is waited for.
 * Thread: the owner's. */
#ifndef ONESTEP_CLIENT_WATCH_H
#define ONESTEP_CLIENT_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/jobs.h"
#include "client/progress.h"

/* Told once of each job when it has ended (or is unknown: JOB_ILLEGAL). index is its place among
 * the ids; job is borrowed for the call. A failure ends the watching. */
typedef status (*watch_end_fn)(void *self, size_t index, const struct job_status *job);

/* Called between two rounds of questions, and often while no broker answers. A failure ends the
 * watching. */
typedef status (*watch_tick_fn)(void *self);

/* Zero it, set what is not said to be private, then watch_run. */
struct watch {
    struct session *session; /* borrowed; its interrupt_fd ends the watching */
    const struct jobs *jobs; /* borrowed */
    watch_end_fn on_end;
    watch_tick_fn on_tick; /* or NULL */
    void *self;            /* for both */
    int64_t give_up_ms;    /* longest watching; 0: no limit */
    int64_t patience_ms;   /* longest time without any broker; 0: WATCH_PATIENCE_MS */
    /* private */
    struct watch_job *states; /* [jobs->count] */
    struct jobs asked;        /* those of the present round */
    size_t *asked_index;      /* [asked.count] their places among jobs */
    struct progress progress;
    struct progress_view view;
    int64_t began_ms;
    int64_t heard_ms; /* when a broker last answered */
    bool is_silent;   /* it was said that no broker answers */
};

#define WATCH_PATIENCE_MS 60000

/* Watch until every job has ended. Errors: ERR_CANCELLED (interrupted), ERR_TIMEOUT (give_up_ms),
 * ERR_UNAVAILABLE (patience_ms), those of on_end and on_tick, ERR_NOMEM. */
MUST_USE status watch_run(struct watch *w);

/* Print a note between two drawings of the progress line. This function can't fail. */
void watch_note(struct watch *w, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
