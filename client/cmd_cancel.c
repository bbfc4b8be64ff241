#include <stdio.h>

#include "client/cmd.h"
#include "client/jobs.h"
#include "client/output.h"
#include "common/job.h"

/* A cancellation. */
struct cancelling {
    bool is_json;
    struct buf text;
    status first; /* of the first job that could not be cancelled */
};

static status print_verdict(struct cancelling *c, const struct msg_job_verdict *v, status code,
                            const char *sentence)
{
    struct json_writer w = { .out = &c->text };

    json_write_object(&w);
    json_write_key(&w, "job");
    json_write_text(&w, v->job);
    json_write_key(&w, "verdict");
    json_write_text(&w, msg_verdict_name(v->verdict));
    json_write_key(&w, "state");
    json_write_text(&w, job_state_name(v->state));
    output_write_error(&w, code, sentence);
    json_write_end(&w);
    return output_json(&w, &c->text);
}

static status on_verdict(void *self, const struct msg_job_verdict *v)
{
    struct cancelling *c = self;
    char sentence[600], text[JOB_ID_BYTES + 16];
    status code = OK;

    if (v->verdict == VERDICT_UNKNOWN)
        code = ERR_NOTFOUND;
    else if (v->verdict != VERDICT_OK && v->verdict != VERDICT_DUPLICATE)
        code = v->code == OK ? ERR_CONFLICT : v->code;
    if (code == ERR_NOTFOUND)
        snprintf(sentence, sizeof(sentence), "job %s is not known here", v->job);
    else if (code == ERR_CONFLICT)
        snprintf(sentence, sizeof(sentence), "job %s is %s already", v->job,
                 job_state_name(v->state));
    else
        snprintf(sentence, sizeof(sentence), "job %s: %s", v->job, v->sentence);
    if (code != OK)
        output_note("%s", sentence);
    if (c->first == OK)
        c->first = code;
    if (c->is_json)
        return print_verdict(c, v, code, sentence);
    if (code != OK)
        return OK;
    snprintf(text, sizeof(text), "%s  cancelled\n", v->job);
    return output_text(text);
}

status cmd_cancel(const struct command_line *line)
{
    struct cancelling cancelling = { .is_json = line->options.json };
    struct session session = { 0 };
    struct jobs jobs = { 0 };
    status st = OK;

    TRY(jobs_from_words(&jobs, line->words, line->word_count));
    TRY(session_connect(&session, &line->options));
    TRY(jobs_cancel(&session, (const char(*)[JOB_ID_BYTES])jobs.ids, jobs.count, on_verdict,
                    &cancelling));
    st = cancelling.first;
    status_clear();
out:
    session_close(&session);
    jobs_free(&jobs);
    buf_free(&cancelling.text);
    return st;
}
