#include "client/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/job.h"
#include "common/url.h"

status output_text(const char *text)
{
    size_t len = strlen(text);

    if (fwrite(text, 1, len, stdout) == len && fflush(stdout) == 0)
        return OK;
    return FAIL(errno == ENOSPC ? ERR_FULL : ERR_IO, "standard output: %s", strerror(errno));
}

status output_json(struct json_writer *w, struct buf *text)
{
    status st = OK;

    TRY(json_write_finish(w));
    TRY(buf_append_text(text, "\n"));
    TRY(output_text(text->data));
out:
    buf_reset(text);
    return st;
}

void output_note(const char *fmt, ...)
{
    char line[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    /* Sentences may quote what came from outside: a terminal must not obey it. */
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    /* A sentence that was handed on by another process of ours says who speaks. */
    fprintf(stderr, "%s%s\n", strncmp(line, "onestep: ", 9) == 0 ? "" : "onestep: ", line);
}

void output_write_error(struct json_writer *w, status code, const char *sentence)
{
    json_write_key(w, "error");
    if (code == OK) {
        json_write_null(w);
        return;
    }
    json_write_object(w);
    json_write_key(w, "code");
    json_write_text(w, status_name(code));
    json_write_key(w, "message");
    json_write_text(w, sentence);
    json_write_end(w);
}

static void write_failure(status code, const char *sentence)
{
    struct buf text = { 0 };
    struct json_writer w = { .out = &text };

    json_write_object(&w);
    json_write_key(&w, "error");
    json_write_object(&w);
    json_write_key(&w, "code");
    json_write_text(&w, status_name(code));
    json_write_key(&w, "exit");
    json_write_int(&w, status_exit_code(code));
    json_write_key(&w, "message");
    json_write_text(&w, sentence);
    json_write_end(&w);
    json_write_end(&w);
    if (output_json(&w, &text) != OK)
        fprintf(stderr, "onestep: %s\n", status_message());
    buf_free(&text);
}

void output_failure(status st, bool is_json)
{
    char sentence[512];

    if (st == OK || !*status_message())
        return;
    snprintf(sentence, sizeof(sentence), "%s", status_message());
    output_note("%s", sentence);
    if (is_json)
        write_failure(st, sentence);
}

static const char *state_word(const struct job_status *job)
{
    return job_state_name(job->state);
}

static void write_time(struct json_writer *w, const char *key, int64_t at_ms)
{
    json_write_key(w, key);
    if (at_ms)
        json_write_int(w, at_ms);
    else
        json_write_null(w);
}

static void write_text_or_null(struct json_writer *w, const char *key, const char *text)
{
    json_write_key(w, key);
    json_write_text(w, text && *text ? text : NULL);
}

static void write_result(struct json_writer *w, const struct job_status *job)
{
    json_write_key(w, "result");
    if (job->state != JOB_DONE) {
        json_write_null(w);
        return;
    }
    json_write_object(w);
    write_text_or_null(w, "video", job->result.video);
    write_text_or_null(w, "poster", job->result.poster);
    write_text_or_null(w, "manifest", job->result.manifest);
    json_write_end(w);
}

void output_write_job(struct json_writer *w, const struct job_status *job)
{
    json_write_object(w);
    json_write_key(w, "job");
    json_write_text(w, job->job);
    json_write_key(w, "state");
    json_write_text(w, state_word(job));
    if (job->state != JOB_ILLEGAL) {
        json_write_key(w, "attempt");
        json_write_int(w, job->attempt);
        json_write_key(w, "tries");
        json_write_int(w, job->tries);
        json_write_key(w, "attempts");
        json_write_int(w, job->attempts_max);
        json_write_key(w, "priority");
        json_write_int(w, job->priority);
        write_text_or_null(w, "model", job->model);
        write_text_or_null(w, "labels", job->labels);
        write_text_or_null(w, "tenant", job->tenant);
        write_text_or_null(w, "batch", job->batch);
        write_time(w, "submitted_at_ms", job->submitted_at_ms);
        write_time(w, "started_at_ms", job->started_at_ms);
        write_time(w, "ended_at_ms", job->ended_at_ms);
        write_time(w, "deadline_at_ms", job->deadline_at_ms);
        json_write_key(w, "position");
        json_write_int(w, job->position);
        json_write_key(w, "eta_ms");
        json_write_int(w, job->eta_ms);
        write_text_or_null(w, "worker", job->worker);
        write_text_or_null(w, "stage", job->stage);
        json_write_key(w, "progress");
        json_write_double(w, job->progress);
        output_write_error(w, job->code, job->sentence);
        write_result(w, job);
    }
    json_write_end(w);
}

const char *output_duration(int64_t ms, char *dst, size_t room)
{
    long long s = (long long)(ms / 1000);

    if (ms < 1000)
        snprintf(dst, room, "%d ms", (int)(ms < 0 ? 0 : ms));
    else if (s < 60)
        snprintf(dst, room, "%.1f s", (double)ms / 1000);
    else if (s < 3600)
        snprintf(dst, room, "%lld min %lld s", s / 60, s % 60);
    else if (s < 48 * 3600)
        snprintf(dst, room, "%lld h %lld min", s / 3600, s / 60 % 60);
    else
        snprintf(dst, room, "%lld days", s / 86400);
    return dst;
}

const char *output_address(const char *url, char *dst, size_t room)
{
    struct url parsed;

    if (url_parse(&parsed, url) != OK || parsed.scheme != URL_FILE ||
        url_decode_path(&parsed, dst, room) != OK)
        snprintf(dst, room, "%s", url);
    return dst;
}

status output_job_title(struct buf *text)
{
    return buf_printf(text, "%-26s  %-9s  %-5s  %-13s  %s\n", "JOB", "STATE", "TRY", "AGE", "WHAT");
}

/* When it may be done, or "". */
static const char *tell_eta(const struct job_status *job, const char *before, char *dst,
                            size_t room)
{
    char duration[32];

    *dst = '\0';
    if (job->eta_ms > 0)
        snprintf(dst, room, "%sabout %s", before,
                 output_duration(job->eta_ms, duration, sizeof(duration)));
    return dst;
}

/* The last column: what is being done, what came out, or what went wrong. */
static void describe(const struct job_status *job, char *dst, size_t room)
{
    char address[1024], eta[64];

    if (job->state == JOB_DONE)
        snprintf(dst, room, "%s", output_address(job->result.video, address, sizeof(address)));
    else if (job->state == JOB_RUNNING || job->state == JOB_LEASED)
        snprintf(dst, room, "%s %d%% on %s%s", *job->stage ? job->stage : "starting",
                 (int)(job->progress * 100), job->worker, tell_eta(job, ", ", eta, sizeof(eta)));
    else if (job->state == JOB_QUEUED && job->position > 0)
        snprintf(dst, room, "number %lld in the line%s%s%s", (long long)job->position,
                 tell_eta(job, ", done in ", eta, sizeof(eta)), job->code != OK ? "; before: " : "",
                 job->code != OK ? job->sentence : "");
    else if (job->code != OK)
        snprintf(dst, room, "%s", job->sentence);
    else
        snprintf(dst, room, "%s", job->labels ? job->labels : "");
}

status output_job_line(struct buf *text, const struct job_status *job, int64_t now_ms)
{
    char what[1200], age[32], tries[32];

    if (job->state == JOB_ILLEGAL)
        return buf_printf(text, "%-26s  unknown\n", job->job);
    snprintf(tries, sizeof(tries), "%lld/%lld", (long long)job->tries,
             (long long)job->attempts_max);
    describe(job, what, sizeof(what));
    return buf_printf(text, "%-26s  %-9s  %-5s  %-13s  %s\n", job->job, state_word(job), tries,
                      output_duration(now_ms - job->submitted_at_ms, age, sizeof(age)), what);
}
