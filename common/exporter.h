/* exporter.h - what a program tells its operators over HTTP: GET /metrics, /healthz, /readyz.
 *
 *   /metrics  its numbers for Prometheus
 *   /healthz  200 while it does its work, 503 when it hangs: restart it
 *   /readyz   200 when it can serve, else 503 and a sentence: send nothing to it yet
 *
 * Nothing can be changed through it, and it reads nothing but the path. The only user of
 * libmicrohttpd, which has a thread of its own here. */
#ifndef ONESTEP_COMMON_EXPORTER_H
#define ONESTEP_COMMON_EXPORTER_H

#include <stdbool.h>

#include "common/base/status.h"
#include "common/metrics.h"

struct exporter;

/* What to tell; borrowed until exporter_close, except listen. The functions are called on the
 * exporter's thread. */
struct exporter_config {
    const char *listen; /* ADDRESS:PORT, "127.0.0.1:9450" or "[::]:9450" */
    const struct metrics *metrics;
    void *self;                           /* handed to the following */
    void (*refresh)(void *self);          /* set numbers that are known elsewhere; or NULL */
    bool (*is_healthy)(void *self);       /* does it do its work? */
    const char *(*not_ready)(void *self); /* why it can't serve, or NULL when it can */
};

/* Begin to answer. Errors: ERR_BADARG for the address; ERR_CONFLICT when it is in use; ERR_IO. */
MUST_USE status exporter_open(struct exporter **exporter, const struct exporter_config *config);

/* Stop. Accepts NULL. */
void exporter_close(struct exporter *exporter);

#endif
