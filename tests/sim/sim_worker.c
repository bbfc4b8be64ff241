/* DESIGN: a worker is the shipped agent core over a pretended pipeline: fetch, compute, upload
 * under the attempt's key, manifest if there is none, DONE. A later attempt adopts a manifest that
 * is there. The object store keeps, for each key, whose bytes are under it. */
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/id.h"
#include "proto/codec.h"
#include "tests/sim/sim_priv.h"

enum stage { STAGE_FETCH = 0, STAGE_COMPUTE, STAGE_HALF, STAGE_UPLOAD, STAGE_MANIFEST, STAGE_DONE };

static struct sim_worker *worker_of(void *self)
{
    return self;
}

static int number_of(const struct sim_worker *k)
{
    return (int)(k - sim_world.workers);
}

/* --- the core's port --- */

static void port_send(void *self, size_t broker, const void *bytes, size_t len)
{
    sim_send_up(worker_of(self)->conns[broker], bytes, len);
}

static void port_reconnect(void *self, size_t broker)
{
    struct sim_worker *k = self;

    sim_disconnect(k->conns[broker]);
    k->conns[broker] = sim_connect(false, number_of(k), (int)broker);
}

static void plan(struct sim_worker *k, struct sim_task *t, int64_t wait_ms)
{
    sim_at(sim_world.now_ms + wait_ms, (struct event){ .kind = EVENT_WORKER_TASK,
                                                       .who = number_of(k),
                                                       .life = t->number,
                                                       .place = (int)(t - k->tasks) });
}

/* No two workers, and no worker twice, may have the same lease. */
static void check_lease(const struct lease *lease)
{
    for (int i = 0; i < WORKERS; i++) {
        for (int t = 0; t < TASKS; t++) {
            const struct sim_task *task = &sim_world.workers[i].tasks[t];

            if (task->is_used && msg_lease_equal(&task->lease, lease))
                sim_violate("job %s: two workers have the same lease", lease->job);
        }
    }
}

static void port_on_job(void *self, const struct lease *lease, const struct job_spec *spec)
{
    struct sim_worker *k = self;
    int job = sim_find_job(lease->job);
    int busy = 0;

    check_lease(lease);
    if (job < 0 || strcmp(spec->image, sim_world.jobs[job].spec.image) != 0) {
        sim_violate("a worker is given job %s with parameters of another", lease->job);
        return;
    }
    for (int i = 0; i < TASKS; i++)
        busy += k->tasks[i].is_used && !k->tasks[i].is_cancelled;
    if (busy >= 3)
        sim_violate("job %s: a worker is given more than it has room for", lease->job);
    for (int i = 0; i < TASKS; i++) {
        struct sim_task *t = &k->tasks[i];

        if (t->is_used)
            continue;
        *t = (struct sim_task){
            .is_used = true, .lease = *lease, .result = *lease, .job = job, .number = ++k->next_task
        };
        plan(k, t, sim_between(5, 300));
        return;
    }
    sim_violate("job %s: a worker is given more than it has places for", lease->job);
}

static void port_on_cancel(void *self, const struct lease *lease, enum msg_verdict why)
{
    struct sim_worker *k = self;

    (void)why;
    if (sim_is_mutant("cancel-ignored"))
        return;
    for (int i = 0; i < TASKS; i++) {
        struct sim_task *t = &k->tasks[i];

        if (!t->is_used || !msg_lease_equal(&t->lease, lease))
            continue;
        t->is_cancelled = true;
        if (sim_world.jobs[t->job].is_hanging || sim_between(0, 1))
            plan(k, t, sim_between(1, 100));
    }
}

/* --- notes --- */

static void say(struct sim_worker *k, struct sim_task *t, const struct agent_note *what)
{
    struct agent_note note = *what;

    note.lease = t->lease;
    agent_core_on_note(k->core, sim_world.now_ms, &note);
}

static void end_task(struct sim_worker *k, struct sim_task *t, const struct agent_note *what)
{
    struct sim_task copy = *t;

    memset(t, 0, sizeof(*t));
    say(k, &copy, what);
}

/* --- the object store --- */

static void put_object(struct sim_job *job, const struct lease *lease)
{
    uint64_t nonce = sim_is_mutant("no-nonce-in-key") ? 0 : lease->nonce;
    size_t i = 0;

    while (i < job->object_count &&
           (job->objects[i].attempt != lease->attempt || job->objects[i].nonce != nonce))
        i++;
    if (i == job->object_count) {
        CHECK(job->object_count < OBJECTS);
        job->object_count++;
    }
    job->objects[i].attempt = lease->attempt;
    job->objects[i].nonce = nonce;
    job->objects[i].content = lease->nonce; /* no two computations give the same bytes */
}

/* PUT if there is none, then GET: false when nobody answers and it must be tried again. */
static bool put_manifest(struct sim_job *job, struct sim_task *t)
{
    if (sim_chance(0.1)) {
        sim_fault(SIM_BLOB_LOST);
        if (sim_chance(0.5))
            return false;
    }
    if (!job->has_manifest || sim_is_mutant("manifest-overwritten")) {
        job->has_manifest = true;
        job->manifest = t->lease;
        job->digest = t->lease.nonce;
    }
    if (sim_chance(0.1)) {
        sim_fault(SIM_BLOB_LOST);
        return false;
    }
    if (!sim_is_mutant("own-result-reported"))
        t->result = job->manifest;
    return true;
}

/* --- the pipeline --- */

static void begin_compute(struct sim_worker *k, struct sim_task *t)
{
    struct sim_job *job = &sim_world.jobs[t->job];

    say(k, t, &(struct agent_note){ .kind = AGENT_START });
    if (t->lease.attempt > 1 && job->has_manifest && !sim_is_mutant("own-result-reported")) {
        t->result = job->manifest;
        t->stage = STAGE_DONE;
        plan(k, t, sim_between(1, 50));
        return;
    }
    t->stage = STAGE_HALF;
    plan(k, t, job->is_hanging ? 1000000 : sim_between(20, 2000));
}

static void report(struct sim_worker *k, struct sim_task *t)
{
    struct agent_note note = { .kind = AGENT_REPORT, .stage = "unet", .progress = 0.5 };

    say(k, t, &note);
    t->stage = STAGE_UPLOAD;
    plan(k, t, sim_between(20, 2000));
}

static void finish(struct sim_worker *k, struct sim_task *t)
{
    char video[96], manifest[112];
    struct agent_note note = { .kind = AGENT_DONE };

    sim_result_url(video, sizeof(video), &t->result);
    snprintf(manifest, sizeof(manifest), "%s.json", video);
    note.result = (struct job_result){ video, "", manifest };
    end_task(k, t, &note);
}

static void fail(struct sim_worker *k, struct sim_task *t)
{
    bool is_fatal = sim_between(0, 9) == 0;
    struct agent_note note = { .kind = AGENT_FAIL,
                               .code = is_fatal ? ERR_CORRUPT : ERR_IO,
                               .sentence = is_fatal ? "its input is damaged" : "the disk is slow" };

    end_task(k, t, &note);
}

static void upload(struct sim_worker *k, struct sim_task *t)
{
    struct sim_job *job = &sim_world.jobs[t->job];

    job->computed++;
    put_object(job, &t->lease);
    t->stage = STAGE_MANIFEST;
    plan(k, t, sim_between(1, 300));
}

/* One step; the task, or the worker, may be gone after it. */
static void advance(struct sim_worker *k, struct sim_task *t)
{
    struct sim_job *job = &sim_world.jobs[t->job];

    switch ((enum stage)t->stage) {
    case STAGE_FETCH:
        t->stage = STAGE_COMPUTE;
        if (sim_chance(0.04))
            fail(k, t);
        else
            begin_compute(k, t);
        break;
    case STAGE_COMPUTE:
    case STAGE_HALF:
        report(k, t);
        break;
    case STAGE_UPLOAD:
        if (job->is_poison)
            sim_worker_crash(number_of(k));
        else if (sim_chance(0.06))
            fail(k, t);
        else
            upload(k, t);
        break;
    case STAGE_MANIFEST:
        if (put_manifest(job, t))
            t->stage = STAGE_DONE;
        plan(k, t, sim_between(1, 200));
        break;
    case STAGE_DONE:
        finish(k, t);
        break;
    }
}

static void tick_soon(struct sim_worker *k)
{
    sim_at(sim_world.now_ms, (struct event){ .kind = EVENT_WORKER_TICK,
                                             .who = number_of(k),
                                             .life = (uint64_t)k->life });
}

void sim_worker_task(const struct event *e)
{
    struct sim_worker *k = &sim_world.workers[e->who];
    struct sim_task *t = &k->tasks[e->place];
    int life = k->life;

    if (!k->is_up || !t->is_used || t->number != e->life)
        return;
    /* A cancelled task notices it between two steps, and not before its bytes are on their way. */
    if (t->is_cancelled && (t->stage < STAGE_UPLOAD || sim_world.jobs[t->job].is_hanging))
        end_task(k, t, &(struct agent_note){ .kind = AGENT_STOPPED });
    else
        advance(k, t);
    if (k->is_up && k->life == life)
        tick_soon(k);
}

/* --- its life --- */

void sim_worker_frame(int w, int broker, const void *bytes, size_t len)
{
    struct sim_worker *k = &sim_world.workers[w];

    agent_core_on_frame(k->core, sim_world.now_ms, (size_t)broker, bytes, len);
    tick_soon(k);
}

void sim_worker_tick(int w)
{
    struct sim_worker *k = &sim_world.workers[w];
    int64_t wait_ms;

    if (!k->is_up)
        return;
    wait_ms = agent_core_tick(k->core, sim_world.now_ms);
    if (wait_ms < 1)
        wait_ms = 1;
    /* Of many timers only the soonest matters. */
    if (k->tick_at_ms > sim_world.now_ms && k->tick_at_ms <= sim_world.now_ms + wait_ms)
        return;
    k->tick_at_ms = sim_world.now_ms + wait_ms;
    sim_at(k->tick_at_ms,
           (struct event){ .kind = EVENT_WORKER_TICK, .who = w, .life = (uint64_t)k->life });
}

void sim_worker_start(int w)
{
    struct sim_worker *k = &sim_world.workers[w];
    const struct agent_port port = {
        k, port_send, port_reconnect, port_on_job, port_on_cancel, NULL
    };
    struct agent_config config = { .broker_count = BROKERS,
                                   .models = { "a", "b" },
                                   .model_count = 2,
                                   .host = "simulated",
                                   .device = "none",
                                   .version = "simulated",
                                   .prefetch = w % 2 == 0,
                                   .prefetch_window_ms = 1000 };
    static const char *const endpoints[] = { "tcp://127.0.0.1:1", "tcp://127.0.0.1:2",
                                             "tcp://127.0.0.1:3" };
    uint8_t bytes[9] = { 0 };

    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)sim_between(0, 255);
    bytes[8] = (uint8_t)w;
    id_make(k->id, sim_world.now_ms, bytes);
    for (int b = 0; b < BROKERS; b++)
        config.brokers[b] = endpoints[b];
    CHECK(agent_core_open(&k->core, &config, &port, k->id) == OK);
    for (int b = 0; b < BROKERS; b++)
        k->conns[b] = sim_connect(false, w, b);
    k->is_up = true;
    k->life++;
    k->tick_at_ms = 0;
    tick_soon(k);
}

void sim_worker_crash(int w)
{
    struct sim_worker *k = &sim_world.workers[w];

    if (!k->is_up)
        return;
    agent_core_close(k->core);
    k->core = NULL;
    for (int b = 0; b < BROKERS; b++)
        sim_disconnect(k->conns[b]);
    memset(k->tasks, 0, sizeof(k->tasks));
    k->is_up = false;
    k->life++;
    k->frozen_until_ms = 0;
    if (!sim_world.is_calm)
        sim_fault(SIM_WORKER_CRASH);
    sim_at(sim_world.now_ms + sim_between(10, 2000),
           (struct event){ .kind = EVENT_WORKER_START, .who = w });
}
