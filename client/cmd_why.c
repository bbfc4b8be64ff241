#include "client/ask.h"
#include "client/cmd.h"
#include "client/jobs.h"
#include "client/output.h"

/* The sentences about one job. */
struct reasons {
    bool is_json;
    size_t count;
    struct buf text;
    struct json_writer w;
};

static status on_sentence(void *self, const struct msg_row *row)
{
    struct reasons *r = self;

    r->count++;
    if (!r->is_json)
        return buf_printf(&r->text, "    %s\n", ask_cell(row, 0));
    json_write_text(&r->w, ask_cell(row, 0));
    return OK;
}

static status explain(struct session *session, struct reasons *r, const char *job)
{
    status st = OK;

    r->count = 0;
    r->w = (struct json_writer){ .out = &r->text };
    buf_reset(&r->text);
    if (r->is_json) {
        json_write_object(&r->w);
        json_write_key(&r->w, "job");
        json_write_text(&r->w, job);
        json_write_key(&r->w, "why");
        json_write_array(&r->w);
    } else {
        TRY(buf_printf(&r->text, "%s\n", job));
    }
    TRY(ask_rows(session, ASK_WHY, job, on_sentence, r));
    if (r->count == 0)
        output_note("job %s is not known here; ended jobs are forgotten after some days", job);
    if (r->is_json) {
        json_write_end(&r->w);
        json_write_end(&r->w);
        TRY(output_json(&r->w, &r->text));
    } else if (r->count > 0) {
        TRY(output_text(r->text.data));
    }
out:
    return st;
}

status cmd_why(const struct command_line *line)
{
    struct reasons reasons = { .is_json = line->options.json };
    struct session session = { 0 };
    struct jobs jobs = { 0 };
    status st = OK, worst = OK;

    TRY(jobs_from_words(&jobs, line->words, line->word_count));
    TRY(session_connect(&session, &line->options));
    for (size_t i = 0; i < jobs.count; i++) {
        TRY(explain(&session, &reasons, jobs.ids[i]));
        if (reasons.count == 0)
            worst = ERR_NOTFOUND;
    }
    st = worst;
    status_clear();
out:
    session_close(&session);
    jobs_free(&jobs);
    buf_free(&reasons.text);
    return st;
}
