#include <inttypes.h>

#include "client/cmd.h"
#include "client/output.h"
#include "client/session.h"
#include "common/job.h"

static status print_json(const struct msg_pong *pong)
{
    struct buf text = { 0 };
    struct json_writer w = { .out = &text };
    status st = OK;

    json_write_object(&w);
    json_write_key(&w, "broker");
    json_write_text(&w, pong->broker);
    json_write_key(&w, "version");
    json_write_text(&w, pong->version);
    json_write_key(&w, "workers");
    json_write_int(&w, pong->worker_count);
    json_write_key(&w, "jobs");
    json_write_object(&w);
    for (int i = JOB_ILLEGAL + 1; i < JOB_STATE_COUNT; i++) {
        json_write_key(&w, job_state_name((enum job_state)i));
        json_write_int(&w, pong->job_counts[i]);
    }
    json_write_end(&w);
    json_write_end(&w);
    st = output_json(&w, &text);
    buf_free(&text);
    return st;
}

static status print_lines(const struct msg_pong *pong)
{
    struct buf text = { 0 };
    status st = OK;

    TRY(buf_printf(&text, "broker     %s, release %s\nworkers    %" PRId64 "\n", pong->broker,
                   pong->version, pong->worker_count));
    for (int i = JOB_ILLEGAL + 1; i < JOB_STATE_COUNT; i++)
        TRY(buf_printf(&text, "%-10s %" PRId64 "\n", job_state_name((enum job_state)i),
                       pong->job_counts[i]));
    TRY(output_text(text.data));
out:
    buf_free(&text);
    return st;
}

status cmd_queues(const struct command_line *line)
{
    struct session session = { 0 };
    struct msg request = { .type = MSG_PING }, answer;
    status st = OK;

    TRY(session_connect(&session, &line->options));
    TRY(session_call(&session, &request, &answer));
    TRY(line->options.json ? print_json(&answer.pong) : print_lines(&answer.pong));
out:
    session_close(&session);
    return st;
}
