#include "client/watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/output.h"
#include "common/base/clock.h"
#include "common/job.h"

/* Between two rounds of questions: short at first, as long as many jobs ask for later. */
#define ROUND_MS_MIN 150
#define ROUND_MS_MAX 2000

/* What was last heard about one job. */
struct watch_job {
    enum job_state state;
    bool has_ended;
    double progress;
    char stage[MSG_STAGE_MAX + 1];
    int64_t attempt;
};

void watch_note(struct watch *w, const char *fmt, ...)
{
    char text[768];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    progress_clear(&w->progress);
    output_note("%s", text);
}

/* Where standard error is no terminal, a line tells each step of a job. */
static void tell_step(struct watch *w, const struct job_status *job, const struct watch_job *before)
{
    bool is_new = job->state != before->state || job->attempt != before->attempt ||
                  strcmp(job->stage, before->stage) != 0;

    if (w->progress.is_terminal || !is_new || job_is_final(job->state))
        return;
    if (job->state == JOB_RUNNING || job->state == JOB_LEASED)
        output_note("%s %s: %s %d%%", job->job, job_state_name(job->state),
                    *job->stage ? job->stage : "starting", (int)(job->progress * 100));
    else
        output_note("%s %s", job->job, job_state_name(job->state));
}

/* A failed attempt that is followed by another one is told as well. */
static void tell_retry(struct watch *w, const struct job_status *job,
                       const struct watch_job *before)
{
    if (job->state == JOB_DELAYED && before->state != JOB_DELAYED && job->code != OK)
        watch_note(w, "%s: attempt %lld of %lld failed (%s); it will be tried again", job->job,
                   (long long)job->tries, (long long)job->attempts_max, job->sentence);
}

static status take_status(struct watch *w, size_t index, const struct job_status *job)
{
    struct watch_job *known = &w->states[index];
    status st = OK;

    tell_step(w, job, known);
    tell_retry(w, job, known);
    known->state = job->state;
    known->attempt = job->attempt;
    known->progress = job->progress;
    snprintf(known->stage, sizeof(known->stage), "%s", job->stage);
    if (job->state != JOB_ILLEGAL && !job_is_final(job->state))
        return OK;
    known->has_ended = true;
    known->progress = 1;
    progress_clear(&w->progress);
    TRY(w->on_end(w->self, index, job));
out:
    return st;
}

static void sum_up(struct watch *w)
{
    struct progress_view v = { .total = w->jobs->count, .stage = "queued" };
    double sum = 0;

    for (size_t i = 0; i < w->jobs->count; i++) {
        const struct watch_job *job = &w->states[i];

        sum += job->progress;
        if (job->has_ended && job->state == JOB_DONE)
            v.done++;
        else if (job->has_ended)
            v.failed++;
        else if (job->state == JOB_RUNNING || job->state == JOB_LEASED) {
            if (v.running++ == 0)
                v.stage = *job->stage ? job->stage : "starting";
        }
    }
    if (v.done + v.failed == v.total)
        v.stage = "done";
    v.fraction = v.total ? sum / (double)v.total : 1;
    v.elapsed_ms = clock_mono_ms() - w->began_ms;
    w->view = v;
}

static status on_status(void *self, size_t index, const struct job_status *job)
{
    struct watch *w = self;

    return take_status(w, w->asked_index[index], job);
}

/* Ask about every job that has not ended. */
static status ask_round(struct watch *w)
{
    size_t count = 0;

    for (size_t i = 0; i < w->jobs->count; i++) {
        if (w->states[i].has_ended)
            continue;
        memcpy(w->asked.ids[count], w->jobs->ids[i], JOB_ID_BYTES);
        w->asked_index[count++] = i;
    }
    return jobs_ask(w->session, (const char(*)[JOB_ID_BYTES])w->asked.ids, count, on_status, w);
}

static bool all_have_ended(const struct watch *w)
{
    return w->view.done + w->view.failed == w->view.total;
}

/* No broker answered for a whole session_call: go on hoping, for a while. */
static status bear_silence(struct watch *w)
{
    int64_t patience = w->patience_ms ? w->patience_ms : WATCH_PATIENCE_MS;
    char sentence[512];
    status st = OK;

    snprintf(sentence, sizeof(sentence), "%s", status_message());
    /* Who watches may know why, and then there is no hope. */
    if (w->on_tick)
        TRY(w->on_tick(w->self));
    if (clock_mono_ms() - w->heard_ms > patience)
        TRY(FAIL(ERR_UNAVAILABLE, "%s", sentence));
    if (!w->is_silent)
        watch_note(w, "%s; still trying", sentence);
    w->is_silent = true;
out:
    return st;
}

static status watch_round(struct watch *w)
{
    status st = ask_round(w);

    if (st == ERR_UNAVAILABLE)
        return bear_silence(w);
    if (st != OK)
        return st;
    w->heard_ms = clock_mono_ms();
    w->is_silent = false;
    sum_up(w);
    progress_draw(&w->progress, &w->view);
    return w->on_tick ? w->on_tick(w->self) : OK;
}

static int64_t round_ms(const struct watch *w)
{
    /* A question about a hundred jobs is a message of some KiB and as many reads of Redis. */
    int64_t ms = ROUND_MS_MIN + (int64_t)w->jobs->count;

    return ms > ROUND_MS_MAX ? ROUND_MS_MAX : ms;
}

status watch_run(struct watch *w)
{
    size_t room = w->jobs->count ? w->jobs->count : 1;
    status st = OK;

    w->states = calloc(room, sizeof(*w->states));
    w->asked_index = calloc(room, sizeof(*w->asked_index));
    if (!w->states || !w->asked_index)
        TRY(FAIL(ERR_NOMEM, "no memory to watch %zu jobs", w->jobs->count));
    TRY(jobs_make(&w->asked, room));
    w->began_ms = w->heard_ms = clock_mono_ms();
    progress_begin(&w->progress);
    for (;;) {
        TRY(watch_round(w));
        if (all_have_ended(w))
            break;
        if (w->give_up_ms && clock_mono_ms() - w->began_ms > w->give_up_ms)
            TRY(FAIL(ERR_TIMEOUT, "not ended after %lld s: %zu of %zu jobs; they go on",
                     (long long)(w->give_up_ms / 1000),
                     w->view.total - w->view.done - w->view.failed, w->view.total));
        TRY(session_pause(w->session, round_ms(w)));
    }
out:
    progress_clear(&w->progress);
    jobs_free(&w->asked);
    free(w->asked_index);
    free(w->states);
    w->asked_index = NULL;
    w->states = NULL;
    return st;
}
