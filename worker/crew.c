#include "worker/crew.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "worker/meter.h"
#include "common/id.h"

/* Jobs that may wait for the intake thread: as many as a worker may hold leases. */
#define TAKEN_MAX MSG_LEASES_MAX
/* Decoded photographs that wait for the device, and clips that wait to be encoded: one each, so
 * that memory is bounded by what pipeline_plan counts. */
#define READY_MAX 1

/* --- how an attempt ends --------------------------------------------------------------------- */

#define LEASE_FORMAT "job=%s attempt=%" PRId64 " lease=%016" PRIx64
#define LEASE_ARGS(l) (l)->job, (l)->attempt, (l)->nonce

static enum msg_verdict forget(struct crew *c, struct attempt *a)
{
    enum msg_verdict why;

    pthread_mutex_lock(&c->lock);
    for (struct attempt **p = &c->held; *p; p = &(*p)->next) {
        if (*p == a) {
            *p = a->next;
            break;
        }
    }
    why = a->why;
    pthread_mutex_unlock(&c->lock);
    return why;
}

static void count_end(struct crew *c, const struct attempt *a, status st)
{
    enum meter_outcome outcome = st == OK              ? METER_DONE
                                 : st == ERR_CANCELLED ? METER_STOPPED
                                                       : METER_FAILED;

    metrics_add(c->metrics, METER_ENDED, outcome, 1);
    metrics_add(c->metrics, METER_HELD, 0, -1);
    if (outcome == METER_FAILED)
        metrics_add(c->metrics, METER_FAILURES, st, 1);
    for (int i = STAGE_NONE + 1; i < STAGE_COUNT; i++)
        metrics_add(c->metrics, METER_STAGE_SECONDS, (size_t)i, a->stages.seconds[i]);
}

/* CAREFUL: a is freed; no other thread may have it any more. */
static void end_attempt(struct crew *c, struct attempt *a, status st,
                        const struct result_urls *urls)
{
    enum msg_verdict why = forget(c, a);
    const struct lease *lease = &a->lease;
    double seconds = (double)(clock_mono_ms() - a->begin_ms) / 1000;

    count_end(c, a, why != VERDICT_NONE ? ERR_CANCELLED : st);
    if (why != VERDICT_NONE || st == ERR_CANCELLED) {
        log_info("job.stopped", LEASE_FORMAT " why=%s", LEASE_ARGS(lease), msg_verdict_name(why));
        c->ops.stopped(c->ops.self, lease);
    } else if (st == OK) {
        const struct job_result result = { urls->video, urls->poster, urls->manifest };

        log_info("job.done", LEASE_FORMAT " seconds=%.3f adopted=%d", LEASE_ARGS(lease), seconds,
                 urls->is_adopted);
        c->ops.done(c->ops.self, lease, &result);
    } else {
        log_warn("job.failed", LEASE_FORMAT " seconds=%.3f code=%s at=%s error=\"%s\"",
                 LEASE_ARGS(lease), seconds, status_name(st), status_where(), status_message());
        c->ops.fail(c->ops.self, lease, st, status_message());
    }
    attempt_free(a);
}

/* A part of the worker that the next job would need as well has failed. */
static void note_device(struct crew *c, status st)
{
    if (st != ERR_DEVICE || atomic_exchange(&c->is_broken, true))
        return;
    log_error("device.failed", "error=\"%s\"", status_message());
    c->ops.broken(c->ops.self);
}

/* --- intake ---------------------------------------------------------------------------------- */

/* A job that ran before may have published without its DONE being heard. */
static status find_earlier(struct crew *c, struct attempt *a, struct result_urls *urls, bool *found)
{
    *found = false;
    return a->lease.attempt > 1 ? result_find(&c->finder, a, urls, found) : OK;
}

static void take_in(struct crew *c, struct attempt *a)
{
    struct result_urls urls;
    bool found;
    status st = OK;

    status_clear();
    if (atomic_load(&a->cancel))
        TRY(FAIL(ERR_CANCELLED, "stopped before it began"));
    TRY(find_earlier(c, a, &urls, &found));
    if (*a->asked.put_url)
        TRY(handover_check(a->asked.put_url));
    if (found) {
        TRY(result_hand_over(&c->finder, a, &urls));
        end_attempt(c, a, OK, &urls);
        return;
    }
    TRY(intake_run(&c->intake, a));
    TRY(mailbox_send(&c->to_compute, &a, MAILBOX_FOREVER));
    return;
out:
    note_device(c, st);
    end_attempt(c, a, st, NULL);
}

static void *intake_main(void *self)
{
    struct crew *c = self;
    struct attempt *a;

    while (mailbox_receive(&c->to_intake, &a, MAILBOX_FOREVER) == OK)
        take_in(c, a);
    mailbox_shut(&c->to_compute);
    return NULL;
}

/* --- compute --------------------------------------------------------------------------------- */

static status begin_dump(struct crew *c, struct attempt *a, struct dump *d)
{
    status st = OK;

    TRY(dump_open(d, c->dump_dir, a->lease.job));
    TRY(dump_spec(d, &a->spec));
    TRY(dump_text(d, "job", a->lease.job));
    TRY(dump_text(d, "checkpoint", c->model_dir));
    TRY(dump_text(d, "checkpoint_hash", c->pipeline->checkpoint.hash));
    TRY(dump_text(d, "device", pipeline_device(c->pipeline)));
    TRY(dump_text(d, "build", c->result.maker.build));
    TRY(dump_image(d, a->image.rgb, a->image.height_px, a->image.width_px));
out:
    return st;
}

static status make_clip(struct crew *c, struct attempt *a)
{
    status st = OK;
    struct dump dump = { .count = 0 };
    const struct image image = { .rgb = a->image.rgb,
                                 .width = a->image.width_px,
                                 .height = a->image.height_px };
    struct pipeline_clip clip = {
        .spec = &a->spec,
        .image = &image,
        .need = &a->need,
        .frames = &a->frames,
        .stages = &a->stages,
        .cancel = &a->cancel,
    };

    if (atomic_load(&c->is_broken))
        TRY(FAIL(ERR_DEVICE, "the compute device of this worker has failed"));
    if (c->dump_dir[0]) {
        clip.dump = &dump;
        TRY(begin_dump(c, a, &dump));
    }
    TRY(pipeline_run(c->pipeline, &clip));
    TRY(dump_finish(clip.dump));
out:
    dump_close(&dump);
    return st;
}

static void compute(struct crew *c, struct attempt *a)
{
    status st;

    status_clear();
    metrics_add(c->metrics, METER_STARTED, 0, 1);
    c->ops.start(c->ops.self, &a->lease);
    log_info("job.start",
             LEASE_FORMAT " frames=%" PRId64 " width=%" PRId64 " height=%" PRId64
                          " sampler=%s steps=%" PRId64 " need_mib=%zu",
             LEASE_ARGS(&a->lease), a->spec.frames, a->spec.width_px, a->spec.height_px,
             spec_find("sampler")->choices[a->spec.sampler], a->spec.steps,
             a->need.total_bytes >> 20);
    /* The result thread waits for frames from now on; frames_end below gives the attempt to it. */
    st = mailbox_send(&c->to_result, &a, MAILBOX_FOREVER);
    CHECK(st == OK);
    st = make_clip(c, a);
    note_device(c, st);
    frames_end(&a->frames, st);
}

static void *compute_main(void *self)
{
    struct crew *c = self;
    struct attempt *a;

    while (mailbox_receive(&c->to_compute, &a, MAILBOX_FOREVER) == OK) {
        if (atomic_load(&a->cancel))
            end_attempt(c, a, ERR_CANCELLED, NULL);
        else
            compute(c, a);
    }
    mailbox_shut(&c->to_result);
    return NULL;
}

/* --- result ---------------------------------------------------------------------------------- */

/* From here on only lease, stages and flags of the attempt are needed; its memory may wait long for
 * the store. */
static void keep(struct crew *c, struct attempt *a, struct spool_item *item)
{
    attempt_strip(a);
    stage_show(&a->stages, STAGE_UPLOAD, 0);
    c->ops.kept(c->ops.self, &a->lease);
    delivery_add(&c->delivery, item);
}

static void *result_main(void *self)
{
    struct crew *c = self;
    struct attempt *a;
    struct spool_item *item;
    status st;

    while (mailbox_receive(&c->to_result, &a, MAILBOX_FOREVER) == OK) {
        status_clear();
        st = result_make(&c->result, a, &item);
        if (st == OK)
            keep(c, a, item);
        else
            end_attempt(c, a, st, NULL);
    }
    return NULL;
}

/* --- delivery -------------------------------------------------------------------------------- */

static void on_ended(void *self, struct attempt *a, status st, const struct result_urls *urls)
{
    end_attempt(self, a, st, urls);
}

static bool is_unwanted(void *self, struct attempt *a)
{
    struct crew *c = self;
    bool is_cancelled;

    pthread_mutex_lock(&c->lock);
    is_cancelled = a->why == VERDICT_CANCELLED;
    pthread_mutex_unlock(&c->lock);
    return is_cancelled;
}

static void on_full(void *self, bool is_full)
{
    struct crew *c = self;

    c->ops.full(c->ops.self, is_full);
}

/* --- net ------------------------------------------------------------------------------------- */

static void on_stage(void *self, enum stage stage, double progress)
{
    const struct attempt *a = self;
    struct crew *c = a->crew;

    c->ops.report(c->ops.self, &a->lease, stage_name(stage), progress);
}

void crew_take(struct crew *c, const struct lease *lease, const struct job_spec *spec)
{
    status st = OK;
    struct attempt *a = NULL;

    TRY(attempt_new(&a, lease, spec));
    a->crew = c;
    stages_init(&a->stages, on_stage, a);
    pthread_mutex_lock(&c->lock);
    a->next = c->held;
    c->held = a;
    pthread_mutex_unlock(&c->lock);
    metrics_add(c->metrics, METER_TAKEN, 0, 1);
    metrics_add(c->metrics, METER_HELD, 0, 1);
    log_info("job.taken", LEASE_FORMAT, LEASE_ARGS(lease));
    st = mailbox_send(&c->to_intake, &a, 0);
    if (st != OK)
        end_attempt(c, a, FAIL(ERR_FULL, "the worker holds more jobs than it asked for"), NULL);
    return;
out:
    c->ops.fail(c->ops.self, lease, st, status_message());
}

void crew_cancel(struct crew *c, const struct lease *lease, enum msg_verdict why)
{
    pthread_mutex_lock(&c->lock);
    for (struct attempt *a = c->held; a; a = a->next) {
        if (msg_lease_equal(&a->lease, lease) && a->why == VERDICT_NONE) {
            a->why = why;
            atomic_store(&a->cancel, true);
        }
    }
    pthread_mutex_unlock(&c->lock);
    delivery_wake(&c->delivery);
}

void crew_renew(struct crew *c, const struct lease *lease, int64_t until_ms)
{
    pthread_mutex_lock(&c->lock);
    for (struct attempt *a = c->held; a; a = a->next) {
        if (msg_lease_equal(&a->lease, lease))
            atomic_store(&a->until_ms, until_ms);
    }
    pthread_mutex_unlock(&c->lock);
}

/* --- opening --------------------------------------------------------------------------------- */

static status open_parts(struct crew *c, const struct crew_config *config)
{
    status st = OK;
    const char *dump_dir = config->dump_dir ? config->dump_dir : "";
    const struct delivery_config delivery = { .result = &config->result,
                                              .bytes_max = config->spool_bytes_max,
                                              .ops = { c, on_ended, is_unwanted, on_full } };

    TRY(file_join(c->dump_dir, sizeof(c->dump_dir), "", dump_dir));
    TRY(file_join(c->model_dir, sizeof(c->model_dir), "", config->model_dir));
    TRY(intake_open(&c->intake, &config->fetch, config->decoder, config->pipeline));
    TRY(result_open(&c->finder, &config->result));
    TRY(result_open(&c->result, &config->result));
    TRY(delivery_open(&c->delivery, &delivery));
    TRY(mailbox_open(&c->to_intake, sizeof(struct attempt *), TAKEN_MAX, false));
    TRY(mailbox_open(&c->to_compute, sizeof(struct attempt *), READY_MAX, false));
    TRY(mailbox_open(&c->to_result, sizeof(struct attempt *), READY_MAX, false));
out:
    return st;
}

/* The crew's threads leave signals to the thread that has the program's handlers. */
static status start_threads(struct crew *c)
{
    static void *(*const mains[])(void *) = { intake_main, compute_main, result_main };
    const int wanted = (int)(sizeof(mains) / sizeof(mains[0]));
    status st = OK;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (st == OK && c->thread_count < wanted) {
        if (pthread_create(&c->threads[c->thread_count], NULL, mains[c->thread_count], c) == 0)
            c->thread_count++;
        else
            st = FAIL(ERR_NOMEM, "no resources for another thread");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return st;
}

status crew_open(struct crew *c, const struct crew_config *config)
{
    status st = OK;

    memset(c, 0, sizeof(*c));
    c->pipeline = config->pipeline;
    c->ops = config->ops;
    c->metrics = config->metrics;
    CHECK(pthread_mutex_init(&c->lock, NULL) == 0);
    c->is_open = true;
    TRY(open_parts(c, config));
    TRY(start_threads(c));
    return OK;
out:
    crew_close(c);
    return st;
}

void crew_close(struct crew *c)
{
    if (!c->is_open)
        return;
    pthread_mutex_lock(&c->lock);
    for (struct attempt *a = c->held; a; a = a->next)
        atomic_store(&a->cancel, true);
    pthread_mutex_unlock(&c->lock);
    if (c->thread_count > 0)
        mailbox_shut(&c->to_intake);
    for (int i = 0; i < c->thread_count; i++)
        pthread_join(c->threads[i], NULL);
    delivery_close(&c->delivery);
    CHECK(!c->held);
    mailbox_close(&c->to_intake);
    mailbox_close(&c->to_compute);
    mailbox_close(&c->to_result);
    intake_close(&c->intake);
    result_close(&c->finder);
    result_close(&c->result);
    pthread_mutex_destroy(&c->lock);
    memset(c, 0, sizeof(*c));
}
