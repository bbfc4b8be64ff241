/* plan.h - the answer to `onestep-worker --plan 14x1024x576`: what a clip needs, and whether it
 * fits.
 */
#ifndef ONESTEP_WORKER_PLAN_H
#define ONESTEP_WORKER_PLAN_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "worker/pipeline.h"

/* Read "FRAMESxWIDTHxHEIGHT" into spec, whose other parameters stay. Errors: ERR_BADARG. */
MUST_USE status plan_parse(struct job_spec *spec, const char *text);

/* Append the memory plan of the clip that text names, made from a photograph of the same size:
 * lines for people, or one JSON object. *fits: is it within the worker's limit?
 * Errors: ERR_BADARG (text, a size that the model can't make), those of pipeline_plan. */
MUST_USE status plan_write(struct buf *out, const struct pipeline *p, const char *text,
                           bool as_json, bool *fits);

#endif
