/* agent.h - the worker's side of the queue: keeps leases alive, brings jobs in, reports results.
 *
 * One thread, "net", runs agent_run. Everything the worker has to say goes through the functions
 * marked "any thread", which hand a note to that thread; everything the agent has to say comes
 * through struct agent_sink, on the net thread, and must not block (put it in a mailbox).
 *
 *   on_job ------> fetch, decode ----> agent_start ----> compute ----> agent_done | agent_fail
 *                     |    agent_report(stage, progress), as often as you like
 *   on_cancel ---> stop working on that lease; then nothing more is to be said about it
 *
 * A lease that came by on_job ends in exactly one of: agent_done, agent_fail, agent_release (said
 * by the worker), on_cancel (said by the agent). Later words about it are ignored. The agent
 * repeats DONE and FAIL until a broker has given a verdict. Each on_job needs one later agent_done,
 * agent_fail, agent_release, or, after on_cancel, agent_stopped: the agent asks for the next job
 * only when there is room again. */
#ifndef ONESTEP_WORKER_AGENT_H
#define ONESTEP_WORKER_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"
#include "proto/msg.h"

#define AGENT_BROKERS_MAX 8

struct agent;

/* Strings are copied by agent_open. */
struct agent_config {
    const char *brokers[AGENT_BROKERS_MAX]; /* endpoints of the brokers' worker side */
    size_t broker_count;
    const char *models[MSG_MODELS_MAX]; /* names of the models that this worker serves */
    size_t model_count;
    const char *host;           /* for people; "" = the machine's name */
    const char *device;         /* for people, "cpu, 8 threads" */
    const char *version;        /* release */
    int64_t memory_mib;         /* that a job may use on the device; 0: it is not said */
    const char *curve_key;      /* file of this worker's secret key; "" or NULL: not encrypted */
    const char *broker_key;     /* card of the brokers; goes with curve_key */
    int64_t heartbeat_ms;       /* 0: what the broker's WELCOME says */
    bool prefetch;              /* take a second job shortly before the running one ends */
    int64_t prefetch_window_ms; /* how long before; 0: 5000 */
};

/* What the agent tells the worker, always on the net thread. */
struct agent_sink {
    void *self;
    /* A job to run; lease and spec are borrowed for the call. */
    void (*on_job)(void *self, const struct lease *lease, const struct job_spec *spec);
    /* Stop working on this lease: VERDICT_LOST, CANCELLED, TIMEOUT, or RELEASED (drain: it was not
     * started and has been handed back). Its result would be refused; call agent_stopped when the
     * work has stopped. */
    void (*on_cancel)(void *self, const struct lease *lease, enum msg_verdict why);
    /* The lease is ours at least until then, by clock_mono_ms; or NULL. */
    void (*on_renew)(void *self, const struct lease *lease, int64_t until_ms);
};

/* Make an agent. Nothing is connected yet.
 * Errors: ERR_BADARG (an endpoint, a name), ERR_NOMEM, ERR_IO. */
MUST_USE status agent_open(struct agent **agent, const struct agent_config *config,
                           const struct agent_sink *sink);

/* Connect and serve until agent_drain or agent_stop is through. Thread: net.
 * Errors: ERR_UNAVAILABLE when the network library can't be used. Brokers that do not answer are
 * no error: the agent keeps trying. */
MUST_USE status agent_run(struct agent *agent);

/* Free it; agent_run must have returned. Accepts NULL. */
void agent_close(struct agent *agent);

/* Does a broker answer? Thread: any. */
bool agent_is_up(const struct agent *agent);

/* When the net thread last came round, clock_mono_ms. Thread: any. */
int64_t agent_turn_ms(const struct agent *agent);

/* This worker's id, 26 characters. Thread: any. */
const char *agent_id(const struct agent *agent);

/* Compute has begun on this lease: from now on, losing it costs the job a try. Thread: any. */
void agent_start(struct agent *agent, const struct lease *lease);

/* What is being done, for `onestep status`: stage is [a-z0-9_]{1,31}, progress 0..1 of the whole
 * attempt. Never blocks; the newest wins. Thread: any. */
void agent_report(struct agent *agent, const struct lease *lease, const char *stage,
                  double progress);

/* The clip is computed and safe on disk; storing it may take long, so it counts no longer as work
 * when the agent asks for jobs. The lease is renewed all the same. Thread: any. */
void agent_kept(struct agent *agent, const struct lease *lease);

/* Ask for no more jobs, or ask again; one or two that were asked for before may still come.
 * Thread: any. */
void agent_pause(struct agent *agent, bool is_paused);

/* The result is published; record it. Strings are copied. Thread: any. */
void agent_done(struct agent *agent, const struct lease *lease, const struct job_result *result);

/* The attempt failed. code decides whether the job is tried again; sentence is for the user.
 * Thread: any. */
void agent_fail(struct agent *agent, const struct lease *lease, status code, const char *sentence);

/* Hand the job back unfinished; it costs no try. Thread: any. */
void agent_release(struct agent *agent, const struct lease *lease);

/* After on_cancel: the work on this lease has stopped and its room is free. Thread: any. */
void agent_stopped(struct agent *agent, const struct lease *lease);

/* Take no new jobs, hand back what is not started, finish the rest; agent_run then returns.
 * Thread: any, and signal handlers. */
void agent_drain(struct agent *agent);

/* Hand back everything now; agent_run returns within two seconds.
 * Thread: any, and signal handlers. */
void agent_stop(struct agent *agent);

#endif
