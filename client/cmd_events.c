#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"
#include "client/cmd.h"
#include "client/interrupt.h"
#include "client/jobs.h"
#include "client/output.h"
#include "client/watch.h"
#include "common/base/clock.h"
#include "common/job.h"

/* Pause between two questions when nothing new has come. */
#define POLL_MS 250

enum event_cell {
    EVENT_CURSOR = 0,
    EVENT_JOB,
    EVENT_STATE,
    EVENT_TENANT,
    EVENT_BATCH,
    EVENT_CELLS
};

static const struct ask_column columns[EVENT_CELLS] = {
    [EVENT_CURSOR] = { "cursor", false, "CURSOR", 16 },
    [EVENT_JOB] = { "job", false, "JOB", JOB_ID_CHARS },
    [EVENT_STATE] = { "state", false, "STATE", 9 },
    [EVENT_TENANT] = { "tenant", false, "TENANT", 7 },
    [EVENT_BATCH] = { "batch", false, "BATCH", 0 },
};

/* The stream as it is followed. */
struct following {
    const struct options *options;
    struct session session;
    struct jobs jobs; /* none: all */
    struct buf text;
    char cursor[128]; /* of the last event that was seen */
    int64_t heard_ms; /* when a broker last answered */
    bool is_silent;   /* it was said that none does */
    bool has_ended;   /* all of jobs, when they were last asked about */
};

static bool is_wanted(const struct following *f, const char *job)
{
    for (size_t i = 0; i < f->jobs.count; i++) {
        if (strcmp(f->jobs.ids[i], job) == 0)
            return true;
    }
    return f->jobs.count == 0;
}

static status print_event(struct following *f, const struct msg_row *row)
{
    struct json_writer w = { .out = &f->text };
    status st = OK;

    buf_reset(&f->text);
    if (f->options->json) {
        json_write_object(&w);
        ask_write_row(&w, columns, EVENT_CELLS, row);
        json_write_end(&w);
        return output_json(&w, &f->text);
    }
    TRY(ask_append_row(&f->text, columns, EVENT_CELLS, row));
    TRY(output_text(f->text.data));
out:
    return st;
}

static status ask_page(struct following *f, const char *cursor, struct msg *answer)
{
    struct msg request = { .type = MSG_ASK, .ask = { ASK_EVENTS, "", cursor } };

    return session_call(&f->session, &request, answer);
}

/* Is the cursor a before b? They are two numbers with '-' between. */
static bool is_before(const char *a, const char *b)
{
    char *rest_a, *rest_b;
    unsigned long long ms_a = strtoull(a, &rest_a, 10), ms_b = strtoull(b, &rest_b, 10);

    if (ms_a != ms_b)
        return ms_a < ms_b;
    return strtoull(*rest_a ? rest_a + 1 : "0", NULL, 10) <
           strtoull(*rest_b ? rest_b + 1 : "0", NULL, 10);
}

/* Say so when events behind the wanted cursor may be forgotten already. */
static status look_for_gap(struct following *f)
{
    struct msg answer;
    status st = OK;

    if (!*f->options->since)
        return OK;
    TRY(ask_page(f, "", &answer));
    if (answer.rows.row_count > 0 && is_before(f->options->since, ask_cell(answer.rows.rows, 0)))
        output_note("events before %s are forgotten; some behind %s may be missing",
                    ask_cell(answer.rows.rows, 0), f->options->since);
out:
    return st;
}

static status on_status(void *self, size_t index, const struct job_status *job)
{
    struct following *f = self;

    (void)index;
    f->has_ended &= job->state == JOB_ILLEGAL || job_is_final(job->state);
    return OK;
}

/* One page; *is_over: there is nothing more to wait for. */
static status follow_page(struct following *f, bool *is_over)
{
    struct msg answer;
    status st = OK;

    TRY(ask_page(f, f->cursor, &answer));
    for (size_t i = 0; i < answer.rows.row_count; i++) {
        const struct msg_row *row = &answer.rows.rows[i];

        if (is_wanted(f, ask_cell(row, EVENT_JOB)))
            TRY(print_event(f, row));
        snprintf(f->cursor, sizeof(f->cursor), "%s", ask_cell(row, EVENT_CURSOR));
    }
    if (answer.rows.row_count > 0)
        return OK;
    /* Jobs that had ended before this empty page have no event to come. */
    *is_over = f->options->once || (f->jobs.count > 0 && f->has_ended);
    if (*is_over)
        return OK;
    f->has_ended = f->jobs.count > 0;
    TRY(jobs_ask(&f->session, (const char(*)[JOB_ID_BYTES])f->jobs.ids, f->jobs.count, on_status,
                 f));
    if (!f->has_ended)
        TRY(session_pause(&f->session, POLL_MS));
out:
    return st;
}

/* Brokers that are away for a while are waited for. */
static status follow(struct following *f)
{
    bool is_over = false;
    status st = OK;

    TRY(look_for_gap(f));
    f->heard_ms = clock_mono_ms();
    while (!is_over) {
        st = follow_page(f, &is_over);
        if (st == ERR_UNAVAILABLE && clock_mono_ms() - f->heard_ms < WATCH_PATIENCE_MS) {
            if (!f->is_silent)
                output_note("%s; still trying", status_message());
            f->is_silent = true;
            TRY(session_pause(&f->session, POLL_MS));
            continue;
        }
        TRY(st);
        f->is_silent = false;
        f->heard_ms = clock_mono_ms();
    }
out:
    return st;
}

status cmd_events(const struct command_line *line)
{
    struct following f = { .options = &line->options };
    int interrupt_fd = -1;
    status st = OK;

    snprintf(f.cursor, sizeof(f.cursor), "%s", line->options.since);
    if (line->word_count > 0)
        TRY(jobs_from_words(&f.jobs, line->words, line->word_count));
    TRY(interrupt_open(&interrupt_fd));
    TRY(session_connect(&f.session, &line->options));
    f.session.interrupt_fd = interrupt_fd;
    st = follow(&f);
    if (st == ERR_CANCELLED)
        st = FAIL(ERR_CANCELLED, "interrupted%s%s", *f.cursor ? "; go on with --since " : "",
                  f.cursor);
out:
    session_close(&f.session);
    interrupt_close(interrupt_fd);
    jobs_free(&f.jobs);
    buf_free(&f.text);
    return st;
}
