/* agent_core.h - the agent's mind: which broker is home, which leases are held, what is owed.
 *
 * Performs no I/O: what it wants done goes through struct agent_port, which the shell
 * (worker/agent.c) or a test provides; time, frames and the worker's notes are handed in. A port
 * function must not call back into the core. Thread: net. */
#ifndef ONESTEP_WORKER_AGENT_CORE_H
#define ONESTEP_WORKER_AGENT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/agent.h"

struct agent_core;

/* What the core wants done. */
struct agent_port {
    void *self;
    /* Send a frame to broker number broker; it may be lost. */
    void (*send)(void *self, size_t broker, const void *bytes, size_t len);
    /* Drop the connection to a broker, with all that waits in it, and make a new one. */
    void (*reconnect)(void *self, size_t broker);
    /* As in struct agent_sink. */
    void (*on_job)(void *self, const struct lease *lease, const struct job_spec *spec);
    /* As in struct agent_sink. */
    void (*on_cancel)(void *self, const struct lease *lease, enum msg_verdict why);
    /* As in struct agent_sink; or NULL. */
    void (*on_renew)(void *self, const struct lease *lease, int64_t until_ms);
};

/* What the worker says about a lease: the functions of worker/agent.h as data. */
enum agent_note_kind {
    AGENT_START = 1,
    AGENT_REPORT,
    AGENT_KEPT,
    AGENT_DONE,
    AGENT_FAIL,
    AGENT_RELEASE,
    AGENT_STOPPED
};

/* One thing said about one lease. */
struct agent_note {
    enum agent_note_kind kind;
    struct lease lease;
    char stage[MSG_STAGE_MAX + 1]; /* AGENT_REPORT */
    double progress;               /* AGENT_REPORT */
    struct job_result result;      /* AGENT_DONE; borrowed */
    status code;                   /* AGENT_FAIL */
    const char *sentence;          /* AGENT_FAIL; borrowed */
};

/* Make a core for the worker with this id; copies config. Errors: ERR_BADARG, ERR_NOMEM. */
MUST_USE status agent_core_open(struct agent_core **core, const struct agent_config *config,
                                const struct agent_port *port, const char id[JOB_ID_BYTES]);

/* Free it. Accepts NULL. */
void agent_core_close(struct agent_core *core);

/* A frame came from broker number broker. Whatever is in it: this function can't fail. */
void agent_core_on_frame(struct agent_core *core, int64_t now_ms, size_t broker, const void *bytes,
                         size_t len);

/* The worker said something. */
void agent_core_on_note(struct agent_core *core, int64_t now_ms, const struct agent_note *note);

/* Ask for no jobs, or ask again. What was asked for before may still come. */
void agent_core_pause(struct agent_core *core, bool is_paused);

/* Take no new jobs, hand back what is not started, finish the rest. */
void agent_core_drain(struct agent_core *core, int64_t now_ms);

/* Hand back everything. */
void agent_core_stop(struct agent_core *core, int64_t now_ms);

/* Do what is due; returns milliseconds until something is due again. */
int64_t agent_core_tick(struct agent_core *core, int64_t now_ms);

/* Drained or stopped, and nothing is owed any more? */
bool agent_core_is_finished(const struct agent_core *core, int64_t now_ms);

/* Does a broker answer? */
bool agent_core_is_up(const struct agent_core *core);

/* Endpoint of a broker, as in the configuration. */
const char *agent_core_endpoint(const struct agent_core *core, size_t broker);

#endif
