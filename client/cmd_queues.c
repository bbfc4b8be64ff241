#include <inttypes.h>

#include "client/ask.h"
#include "client/cmd.h"
#include "client/output.h"
#include "common/job.h"

/* In the order of ASK_LANES. */
static const struct ask_column columns[] = {
    { "model", false, "MODEL", 12 },    { "above_mib", true, "ABOVE_MIB", 9 },
    { "tenant", false, "TENANT", 12 },  { "queued", true, "QUEUED", 7 },
    { "held_by", false, "HELD BY", 0 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* What is printed, as it is put together. */
struct report {
    bool is_json;
    size_t lines;
    struct buf text;
    struct json_writer w;
};

static status on_line(void *self, const struct msg_row *row)
{
    struct report *r = self;
    status st = OK;

    if (r->is_json) {
        json_write_object(&r->w);
        ask_write_row(&r->w, columns, COLUMNS, row);
        json_write_end(&r->w);
        return OK;
    }
    if (r->lines++ == 0) {
        TRY(buf_append_text(&r->text, "\n"));
        TRY(ask_append_titles(&r->text, columns, COLUMNS));
    }
    TRY(ask_append_row(&r->text, columns, COLUMNS, row));
out:
    return st;
}

static void begin_json(struct report *r, const struct msg_pong *pong)
{
    json_write_object(&r->w);
    json_write_key(&r->w, "broker");
    json_write_text(&r->w, pong->broker);
    json_write_key(&r->w, "version");
    json_write_text(&r->w, pong->version);
    json_write_key(&r->w, "workers");
    json_write_int(&r->w, pong->worker_count);
    json_write_key(&r->w, "jobs");
    json_write_object(&r->w);
    for (int i = JOB_ILLEGAL + 1; i < JOB_STATE_COUNT; i++) {
        json_write_key(&r->w, job_state_name((enum job_state)i));
        json_write_int(&r->w, pong->job_counts[i]);
    }
    json_write_end(&r->w);
    json_write_key(&r->w, "lines");
    json_write_array(&r->w);
}

static status begin_text(struct report *r, const struct msg_pong *pong)
{
    status st = OK;

    TRY(buf_printf(&r->text, "broker     %s, release %s\nworkers    %" PRId64 "\n", pong->broker,
                   pong->version, pong->worker_count));
    for (int i = JOB_ILLEGAL + 1; i < JOB_STATE_COUNT; i++)
        TRY(buf_printf(&r->text, "%-10s %" PRId64 "\n", job_state_name((enum job_state)i),
                       pong->job_counts[i]));
out:
    return st;
}

status cmd_queues(const struct command_line *line)
{
    struct report report = { .is_json = line->options.json };
    struct session session = { 0 };
    struct msg request = { .type = MSG_PING }, answer;
    status st = OK;

    report.w.out = &report.text;
    TRY(session_connect(&session, &line->options));
    TRY(session_call(&session, &request, &answer));
    if (report.is_json)
        begin_json(&report, &answer.pong);
    else
        TRY(begin_text(&report, &answer.pong));
    TRY(ask_rows(&session, ASK_LANES, "", on_line, &report));
    if (report.is_json) {
        json_write_end(&report.w);
        json_write_end(&report.w);
        TRY(output_json(&report.w, &report.text));
    } else {
        TRY(output_text(report.text.data));
    }
out:
    session_close(&session);
    buf_free(&report.text);
    return st;
}
