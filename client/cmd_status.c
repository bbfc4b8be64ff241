#include <string.h>

#include "client/cmd.h"
#include "client/jobs.h"
#include "client/output.h"
#include "common/base/clock.h"
#include "common/base/limits.h"

/* A table, or JSON lines, of jobs. */
struct report {
    bool is_json;
    bool has_title;
    struct buf text;
    status worst; /* ERR_NOTFOUND once a job was unknown */
};

static status report_job(void *self, size_t index, const struct job_status *job)
{
    struct report *r = self;
    struct json_writer w = { .out = &r->text };
    status st = OK;

    (void)index;
    if (job->state == JOB_ILLEGAL) {
        r->worst = ERR_NOTFOUND;
        if (!r->is_json)
            output_note("job %s is not known here; ended jobs are forgotten after some days",
                        job->job);
    }
    if (r->is_json) {
        output_write_job(&w, job);
        return output_json(&w, &r->text);
    }
    buf_reset(&r->text);
    if (!r->has_title)
        TRY(output_job_title(&r->text));
    r->has_title = true;
    TRY(output_job_line(&r->text, job, clock_wall_ms()));
    TRY(output_text(r->text.data));
out:
    return st;
}

status cmd_status(const struct command_line *line)
{
    struct report report = { .is_json = line->options.json };
    struct session session = { 0 };
    struct jobs jobs = { 0 };
    status st = OK;

    TRY(jobs_from_words(&jobs, line->words, line->word_count));
    TRY(session_connect(&session, &line->options));
    TRY(jobs_ask(&session, (const char(*)[JOB_ID_BYTES])jobs.ids, jobs.count, report_job, &report));
    st = report.worst;
    status_clear();
out:
    session_close(&session);
    jobs_free(&jobs);
    buf_free(&report.text);
    return st;
}

status cmd_list(const struct command_line *line)
{
    const struct options *o = &line->options;
    struct report report = { .is_json = o->json };
    struct session session = { 0 };
    char cursor[256] = "";
    int64_t left = o->limit;
    status st = OK;

    TRY(session_connect(&session, o));
    while (left > 0) {
        struct msg request = { .type = MSG_LIST };
        struct msg answer;

        request.list.state = (enum job_state)o->state;
        request.list.label = o->label;
        request.list.limit = left < LIMIT_JOBS_PER_MSG ? left : LIMIT_JOBS_PER_MSG;
        request.list.cursor = cursor;
        TRY(session_call(&session, &request, &answer));
        for (size_t i = 0; i < answer.listed.job_count && left > 0; i++, left--)
            TRY(report_job(&report, i, &answer.listed.jobs[i]));
        if (!*answer.listed.cursor)
            break;
        if (strlen(answer.listed.cursor) >= sizeof(cursor))
            TRY(FAIL(ERR_CORRUPT, "the broker's cursor is %zu bytes long",
                     strlen(answer.listed.cursor)));
        memcpy(cursor, answer.listed.cursor, strlen(answer.listed.cursor) + 1);
    }
    if (left == o->limit)
        output_note("no jobs%s", o->state || *o->label ? " like that" : "");
out:
    session_close(&session);
    buf_free(&report.text);
    return st;
}
