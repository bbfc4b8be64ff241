/* DESIGN: orders about the queue, its workers and single jobs. Each is harmless twice, so that it
 * can be sent again when an answer is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"
#include "client/cmd.h"
#include "client/fleet.h"
#include "client/jobs.h"
#include "client/output.h"
#include "common/job.h"

/* Orders of one command line. */
struct ruling {
    bool is_json;
    struct buf text;
    status first;        /* of the first that was not carried out */
    const char *word;    /* drain: the worker it is about */
    bool is_found;       /* drain: a broker knows it */
    const char *what;    /* "queue", "model a", "tenant b" */
    char what_room[128]; /* for it */
};

/* What became of one order. */
struct outcome {
    const char *key, *value; /* "job" and its id, ... */
    enum msg_order order;
    enum msg_verdict verdict;
    status code;
    const char *sentence; /* what it means, or why it was not done */
};

/* One line about it. */
static status tell(struct ruling *r, const struct outcome *o)
{
    struct json_writer w = { .out = &r->text };
    status st = OK;

    if (o->code != OK)
        output_note("%s", o->sentence);
    if (r->first == OK)
        r->first = o->code;
    buf_reset(&r->text);
    if (r->is_json) {
        json_write_object(&w);
        json_write_key(&w, o->key);
        json_write_text(&w, o->value);
        json_write_key(&w, "order");
        json_write_text(&w, msg_order_name(o->order));
        json_write_key(&w, "verdict");
        json_write_text(&w, msg_verdict_name(o->verdict));
        output_write_error(&w, o->code, o->sentence);
        json_write_end(&w);
        return output_json(&w, &r->text);
    }
    if (o->code != OK)
        return OK;
    TRY(buf_printf(&r->text, "%s  %s\n", o->value, o->sentence));
    TRY(output_text(r->text.data));
out:
    return st;
}

/* --- queue, models, tenants --- */

/* "queue", "model NAME" or "tenant NAME". */
static status read_scope(struct ruling *r, const struct command_line *line, struct msg_rule *rule)
{
    const char *word = line->words[0];
    bool is_queue = strcmp(word, "queue") == 0;

    rule->scope = strcmp(word, "model") == 0    ? SCOPE_MODEL
                  : strcmp(word, "tenant") == 0 ? SCOPE_TENANT
                                                : SCOPE_QUEUE;
    if (rule->scope == SCOPE_QUEUE && !is_queue)
        return FAIL(ERR_BADARG, "%s: \"%.60s\" is none of: queue, model NAME, tenant NAME",
                    line->command->name, word);
    if (line->word_count != (is_queue ? 1 : 2))
        return FAIL(ERR_BADARG, "%s %s: %s", line->command->name, word,
                    is_queue ? "there is nothing more to say" : "its name is missing");
    rule->name = is_queue ? "" : line->words[1];
    snprintf(r->what_room, sizeof(r->what_room), "%s%s%.100s", word, is_queue ? "" : " ",
             rule->name);
    r->what = r->what_room;
    return OK;
}

static status order_scope(struct ruling *r, struct session *s, const struct msg_rule *rule,
                          const char *sentence)
{
    struct msg_rows answer;
    status st = OK;

    TRY(ask_order(s, rule, &answer));
    if (answer.verdict != VERDICT_OK)
        TRY(FAIL(ERR_CONFLICT, "%s: the broker says %s", r->what,
                 msg_verdict_name(answer.verdict)));
    TRY(tell(r, &(struct outcome){ "scope", r->what, rule->order, VERDICT_OK, OK, sentence }));
out:
    return st;
}

static status rule_scope(const struct command_line *line, enum msg_order order,
                         const char *sentence)
{
    struct ruling ruling = { .is_json = line->options.json };
    struct msg_rule rule = { .order = order, .cursor = "" };
    struct session session = { 0 };
    status st = OK;

    TRY(read_scope(&ruling, line, &rule));
    TRY(session_connect(&session, &line->options));
    TRY(order_scope(&ruling, &session, &rule, sentence));
out:
    session_close(&session);
    buf_free(&ruling.text);
    return st;
}

status cmd_pause(const struct command_line *line)
{
    return rule_scope(line, RULE_PAUSE, "paused: what runs goes on, nothing more starts");
}

status cmd_resume(const struct command_line *line)
{
    return rule_scope(line, RULE_RUN, "runs");
}

/* --- workers --- */

static status drain_one(void *self, struct session *session, const char *endpoint)
{
    struct ruling *r = self;
    struct msg_rule rule = { .order = RULE_DRAIN_WORKER, .name = r->word, .cursor = "" };
    struct msg_rows answer;
    status st = ask_order(session, &rule, &answer);

    (void)endpoint;
    if (st == OK && answer.verdict == VERDICT_OK)
        r->is_found = true;
    return st;
}

static status drain_worker(struct ruling *r, const struct options *options, const char *worker)
{
    char sentence[128];
    status st = OK;

    r->word = worker;
    r->is_found = false;
    TRY(fleet_visit(options, drain_one, r));
    snprintf(sentence, sizeof(sentence), "no broker knows a worker %.60s; see `onestep workers`",
             worker);
    TRY(tell(r, r->is_found ? &(struct outcome){ "worker", worker, RULE_DRAIN_WORKER, VERDICT_OK,
                                                 OK, "ends when its jobs are done" }
                            : &(struct outcome){ "worker", worker, RULE_DRAIN_WORKER,
                                                 VERDICT_UNKNOWN, ERR_NOTFOUND, sentence }));
out:
    return st;
}

status cmd_drain(const struct command_line *line)
{
    struct ruling ruling = { .is_json = line->options.json };
    status st = OK;

    if (strcmp(line->words[0], "queue") == 0)
        return rule_scope(line, RULE_DRAIN, "takes no more jobs, and runs those that it has");
    for (int i = 0; i < line->word_count; i++) {
        if (!msg_is_id(line->words[i]))
            TRY(FAIL(ERR_BADARG,
                     "\"%.60s\" is not the id of a worker; `onestep workers` lists them",
                     line->words[i]));
    }
    for (int i = 0; i < line->word_count; i++)
        TRY(drain_worker(&ruling, &line->options, line->words[i]));
    st = ruling.first;
    status_clear();
out:
    buf_free(&ruling.text);
    return st;
}

/* --- jobs --- */

static status order_job(struct ruling *r, struct session *s, enum msg_order order, const char *job)
{
    struct msg_rule rule = { .order = order, .name = job, .cursor = "" };
    struct msg_rows answer;
    char sentence[128];
    status code = OK, st = OK;

    TRY(ask_order(s, &rule, &answer));
    snprintf(sentence, sizeof(sentence), "%s",
             order == RULE_FRONT ? "first of its tenant" : "queued again");
    if (answer.verdict == VERDICT_UNKNOWN) {
        code = ERR_NOTFOUND;
        snprintf(sentence, sizeof(sentence), "job %s is not known here", job);
    } else if (answer.verdict == VERDICT_REFUSED) {
        code = ERR_CONFLICT;
        snprintf(sentence, sizeof(sentence), "job %s: its parameters are gone", job);
    } else if (answer.verdict != VERDICT_OK) {
        code = ERR_CONFLICT;
        snprintf(sentence, sizeof(sentence), "job %s is %s, not %s", job,
                 job_state_name(answer.state), order == RULE_FRONT ? "queued" : "dead");
    }
    TRY(tell(r, &(struct outcome){ "job", job, order, answer.verdict, code, sentence }));
out:
    return st;
}

static status rule_jobs(const struct command_line *line, enum msg_order order)
{
    struct ruling ruling = { .is_json = line->options.json };
    struct session session = { 0 };
    struct jobs jobs = { 0 };
    status st = OK;

    TRY(jobs_from_words(&jobs, line->words, line->word_count));
    TRY(session_connect(&session, &line->options));
    /* Who is put to the front last is first: the order of the words is kept. */
    for (size_t i = 0; i < jobs.count; i++)
        TRY(order_job(&ruling, &session, order,
                      jobs.ids[order == RULE_FRONT ? jobs.count - 1 - i : i]));
    st = ruling.first;
    status_clear();
out:
    session_close(&session);
    jobs_free(&jobs);
    buf_free(&ruling.text);
    return st;
}

status cmd_front(const struct command_line *line)
{
    return rule_jobs(line, RULE_FRONT);
}

static status print_revived(bool is_json, long long revived)
{
    struct buf text = { 0 };
    struct json_writer w = { .out = &text };
    status st = OK;

    if (is_json) {
        json_write_object(&w);
        json_write_key(&w, "redriven");
        json_write_int(&w, revived);
        json_write_end(&w);
        TRY(output_json(&w, &text));
    } else {
        TRY(buf_printf(&text, "%lld job%s queued again\n", revived, revived == 1 ? "" : "s"));
        TRY(output_text(text.data));
    }
out:
    buf_free(&text);
    return st;
}

static status redrive_all(const struct command_line *line)
{
    struct session session = { 0 };
    char cursor[128] = "";
    long long revived = 0;
    status st = OK;

    TRY(session_connect(&session, &line->options));
    do {
        struct msg_rule rule = { .order = RULE_REDRIVE_ALL, .name = "", .cursor = cursor };
        struct msg_rows answer;

        TRY(ask_order(&session, &rule, &answer));
        if (answer.row_count != 1 || strlen(answer.cursor) >= sizeof(cursor))
            TRY(FAIL(ERR_CORRUPT, "the broker answered %zu rows to redrive", answer.row_count));
        revived += strtoll(ask_cell(answer.rows, 0), NULL, 10);
        snprintf(cursor, sizeof(cursor), "%s", answer.cursor);
    } while (*cursor);
    TRY(print_revived(line->options.json, revived));
out:
    session_close(&session);
    return st;
}

status cmd_redrive(const struct command_line *line)
{
    if (line->options.all == (line->word_count > 0))
        return FAIL(ERR_BADARG, "redrive: name jobs, or give --all");
    return line->options.all ? redrive_all(line) : rule_jobs(line, RULE_REDRIVE);
}
