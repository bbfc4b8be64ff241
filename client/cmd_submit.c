#include <stdio.h>
#include <string.h>

#include "client/batch.h"
#include "client/cmd.h"
#include "client/input.h"
#include "client/output.h"
#include "client/rows.h"
#include "client/session.h"

/* One submission. */
struct submission {
    const struct command_line *line;
    struct session session;
    struct batch batch;
    struct buf text; /* a JSON line being written */
    int64_t taken;   /* jobs that are queued, now or earlier */
    int64_t refused; /* jobs that are not */
    status first;    /* code of the first refusal */
};

static status print_verdict(struct submission *s, const struct batch_verdict *v)
{
    struct json_writer w = { .out = &s->text };

    json_write_object(&w);
    json_write_key(&w, "job");
    json_write_text(&w, v->item->job);
    json_write_key(&w, "row");
    json_write_int(&w, v->row);
    json_write_key(&w, "image");
    json_write_text(&w, v->item->spec.image);
    json_write_key(&w, "seed");
    if (v->item->spec.seed <= INT64_MAX) {
        json_write_int(&w, (int64_t)v->item->spec.seed);
    } else {
        char seed[24];

        snprintf(seed, sizeof(seed), "%llu", (unsigned long long)v->item->spec.seed);
        json_write_text(&w, seed);
    }
    json_write_key(&w, "verdict");
    json_write_text(&w, msg_verdict_name(v->verdict));
    json_write_key(&w, "state");
    json_write_text(&w, v->state == JOB_ILLEGAL ? NULL : options_states[v->state]);
    output_write_error(&w, v->code, v->sentence);
    json_write_end(&w);
    return output_json(&w, &s->text);
}

static void count_refusal(struct submission *s, status code)
{
    s->refused++;
    if (s->first == OK)
        s->first = code;
}

static status on_verdict(void *self, const struct batch_verdict *v)
{
    struct submission *s = self;
    char id[JOB_ID_BYTES + 1];

    if (v->code == OK) {
        s->taken++;
    } else {
        output_note("row %lld (%s): %s", (long long)v->row, v->item->spec.image, v->sentence);
        count_refusal(s, v->code);
    }
    if (s->line->options.json)
        return print_verdict(s, v);
    if (v->code != OK)
        return OK;
    snprintf(id, sizeof(id), "%s\n", v->item->job);
    return output_text(id);
}

/* A row that was refused here: it is told, and the others go on. */
static status tell_bad_row(struct submission *s, int64_t row, const char *image, status code)
{
    struct json_writer w = { .out = &s->text };
    char sentence[512];

    snprintf(sentence, sizeof(sentence), "%s", status_message());
    output_note("%s", sentence);
    count_refusal(s, code);
    if (!s->line->options.json)
        return OK;
    json_write_object(&w);
    json_write_key(&w, "job");
    json_write_null(&w);
    json_write_key(&w, "row");
    json_write_int(&w, row);
    json_write_key(&w, "image");
    json_write_text(&w, image);
    json_write_key(&w, "verdict");
    json_write_text(&w, msg_verdict_name(VERDICT_REFUSED));
    output_write_error(&w, code, sentence);
    json_write_end(&w);
    return output_json(&w, &s->text);
}

/* The whole key of a job: the submission's and the row's own, or its number. */
static status make_key(const struct submission *s, const char *row_key, int64_t row, char *dst,
                       size_t room)
{
    const char *key = s->line->options.key;
    int len = 0;

    if (!*key && !*row_key) {
        dst[0] = '\0';
        return OK;
    }
    if (*key && *row_key)
        len = snprintf(dst, room, "%s/%s", key, row_key);
    else if (*key)
        len = snprintf(dst, room, "%s/%lld", key, (long long)row);
    else
        len = snprintf(dst, room, "%s", row_key);
    if (len < 0 || (size_t)len >= room)
        return FAIL(ERR_BADARG, "row %lld: the key is longer than %zu bytes", (long long)row,
                    room - 1);
    return OK;
}

static status add_job(struct submission *s, const struct row *row, int64_t number)
{
    char key[ID_KEY_MAX];
    struct batch_job job = { .spec = row->spec, .key = key, .row = number };
    struct msg_submit_item item;
    status st = OK;

    job.has_seed = row->has_seed || s->line->has_seed;
    st = make_key(s, row->key, number, key, sizeof(key));
    if (st == OK)
        st = batch_prepare(&job, &item);
    if (st != OK)
        return tell_bad_row(s, number, row->spec.image, st);
    if (s->line->options.check) {
        s->taken++;
        return OK;
    }
    return batch_add(&s->batch, &item, number);
}

static status submit_manifest(struct submission *s)
{
    struct rows rows = { 0 };
    struct row row;
    status st = OK;

    TRY(rows_open(&rows, s->line->options.manifest));
    for (;;) {
        bool has_row;
        status row_status;

        TRY(rows_next(&rows, &has_row));
        if (!has_row)
            break;
        row_status = rows_read(&rows, &s->line->spec, &row);
        if (row_status == OK)
            TRY(add_job(s, &row, rows.line));
        else
            TRY(tell_bad_row(s, rows.line, NULL, row_status));
    }
    if (s->taken + s->refused + (int64_t)s->batch.count == 0)
        TRY(FAIL(ERR_BADARG, "%s: no rows; write one JSON object per line", rows.name));
out:
    rows_close(&rows);
    return st;
}

static status submit_images(struct submission *s)
{
    struct row row = { .spec = s->line->spec };
    status st = OK;

    for (int i = 0; i < s->line->word_count; i++) {
        const char *image = s->line->words[i];
        status image_status = input_resolve(image, "", row.spec.image, sizeof(row.spec.image));

        if (image_status == OK)
            TRY(add_job(s, &row, i + 1));
        else
            TRY(tell_bad_row(s, i + 1, image, image_status));
    }
out:
    return st;
}

static status tell_sum(struct submission *s)
{
    struct json_writer w = { .out = &s->text };

    if (s->line->options.check)
        output_note("jobs that are fine: %lld, refused: %lld; nothing was queued",
                    (long long)s->taken, (long long)s->refused);
    else if (s->refused)
        output_note("jobs queued: %lld, refused: %lld", (long long)s->taken, (long long)s->refused);
    if (!s->line->options.check || !s->line->options.json)
        return OK;
    json_write_object(&w);
    json_write_key(&w, "checked");
    json_write_int(&w, s->taken);
    json_write_key(&w, "refused");
    json_write_int(&w, s->refused);
    json_write_end(&w);
    return output_json(&w, &s->text);
}

/* Say how far a submission came that broke off. */
static void tell_break(const struct submission *s)
{
    const struct options *o = &s->line->options;

    if (o->check || s->taken + (int64_t)s->batch.count == 0)
        return;
    if (*o->key)
        output_note("jobs queued before that: %lld; send all of it again with the same --key, "
                    "and each job still runs once",
                    (long long)s->taken);
    else
        output_note("jobs queued before that: %lld; of the next %zu nobody knows - with --key a "
                    "submission can be sent again",
                    (long long)s->taken, s->batch.count);
}

static status check_usage(const struct command_line *line)
{
    bool has_manifest = *line->options.manifest;

    if (has_manifest && line->word_count > 0)
        return FAIL(ERR_BADARG, "submit: give images or --manifest, not both");
    if (!has_manifest && line->word_count == 0)
        return FAIL(ERR_BADARG, "submit: nothing to do; usage: onestep submit %s",
                    line->command->arguments);
    return OK;
}

status cmd_submit(const struct command_line *line)
{
    struct submission s = { .line = line };
    status st = OK;

    TRY(check_usage(line));
    if (!line->options.check)
        TRY(session_connect(&s.session, &line->options));
    s.batch.session = &s.session;
    s.batch.on_verdict = on_verdict;
    s.batch.self = &s;
    TRY(batch_check_put_url(&line->spec, line->word_count, *line->options.manifest));
    TRY(*line->options.manifest ? submit_manifest(&s) : submit_images(&s));
    TRY(batch_send(&s.batch));
    TRY(tell_sum(&s));
    st = s.first;
    if (st != OK)
        status_clear();
out:
    if (st != OK && *status_message()) {
        output_failure(st, line->options.json);
        tell_break(&s);
        status_clear();
    }
    batch_free(&s.batch);
    session_close(&s.session);
    buf_free(&s.text);
    return st;
}
