/* intake.h - the way in: a job's input is fetched, decoded, and its size settled and admitted.
 *
 * Thread: io (the crew's intake thread). */
#ifndef ONESTEP_WORKER_INTAKE_H
#define ONESTEP_WORKER_INTAKE_H

#include "common/fetch.h"
#include "worker/attempt.h"
#include "worker/pipeline.h"

/* Where input comes from. */
struct intake {
    struct fetch fetch;              /* owned */
    struct media_decoder *decoder;   /* borrowed */
    const struct pipeline *pipeline; /* borrowed; answers questions about sizes and memory */
};

/* Open. Errors: those of fetch_open. */
MUST_USE status intake_open(struct intake *in, const struct fetch_config *fetch,
                            struct media_decoder *decoder, const struct pipeline *pipeline);

/* Accepts a zeroed struct. */
void intake_close(struct intake *in);

/* Fill a->input, image, spec and need.
 * Errors: those of fetch_get, media_decoder_run, pipeline_resolve, pipeline_admit;
 * ERR_CANCELLED. */
MUST_USE status intake_run(struct intake *in, struct attempt *a);

#endif
