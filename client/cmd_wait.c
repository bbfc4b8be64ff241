#include <stdio.h>

#include "client/cmd.h"
#include "client/interrupt.h"
#include "client/jobs.h"
#include "client/output.h"
#include "client/watch.h"
#include "common/job.h"

/* Jobs being waited for. */
struct waiting {
    bool is_json;
    struct buf text;
    status first; /* of the first job that has no result */
    size_t ended; /* jobs told */
};

/* What a job that has ended means for the exit code. */
static status status_of(const struct job_status *job)
{
    if (job->state == JOB_DONE)
        return OK;
    if (job->state == JOB_CANCELLED)
        return ERR_CANCELLED;
    if (job->state == JOB_ILLEGAL)
        return ERR_NOTFOUND;
    return job->code == OK ? ERR_IO : job->code;
}

static void tell_failure(const struct job_status *job)
{
    if (job->state == JOB_ILLEGAL)
        output_note("job %s is not known here", job->job);
    else if (job->state == JOB_CANCELLED)
        output_note("job %s was cancelled", job->job);
    else
        output_note("job %s failed after %lld of %lld tries: %s", job->job, (long long)job->tries,
                    (long long)job->attempts_max, job->sentence);
}

static status on_end(void *self, size_t index, const struct job_status *job)
{
    struct waiting *w = self;
    struct json_writer json = { .out = &w->text };
    char address[1024];
    status ended = status_of(job), st = OK;

    (void)index;
    w->ended++;
    if (ended != OK)
        tell_failure(job);
    if (w->first == OK)
        w->first = ended;
    if (w->is_json) {
        output_write_job(&json, job);
        return output_json(&json, &w->text);
    }
    buf_reset(&w->text);
    TRY(buf_printf(&w->text, "%s  %s", job->job, job_state_name(job->state)));
    if (job->state == JOB_DONE)
        TRY(buf_printf(&w->text, "  %s",
                       output_address(job->result.video, address, sizeof(address))));
    TRY(buf_append_text(&w->text, "\n"));
    TRY(output_text(w->text.data));
out:
    return st;
}

status cmd_wait(const struct command_line *line)
{
    struct waiting waiting = { .is_json = line->options.json };
    struct session session = { 0 };
    struct jobs jobs = { 0 };
    struct watch watch = { .session = &session, .jobs = &jobs, .on_end = on_end, .self = &waiting };
    int interrupt_fd = -1;
    status st = OK;

    TRY(jobs_from_words(&jobs, line->words, line->word_count));
    TRY(interrupt_open(&interrupt_fd));
    TRY(session_connect(&session, &line->options));
    session.interrupt_fd = interrupt_fd;
    watch.give_up_ms = line->options.give_up_s * 1000;
    st = watch_run(&watch);
    if (st == ERR_CANCELLED)
        st = FAIL(ERR_CANCELLED,
                  "interrupted; jobs that go on: %zu - `onestep wait` watches them again, "
                  "`onestep cancel` stops them",
                  jobs.count - waiting.ended);
    if (st == OK) {
        st = waiting.first;
        status_clear();
    }
out:
    session_close(&session);
    interrupt_close(interrupt_fd);
    jobs_free(&jobs);
    buf_free(&waiting.text);
    return st;
}
