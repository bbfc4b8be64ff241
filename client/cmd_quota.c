#include <string.h>

#include "client/ask.h"
#include "client/cmd.h"
#include "client/output.h"

/* In the order of ASK_TENANTS. */
static const struct ask_column columns[] = {
    { "tenant", false, "TENANT", 16 },
    { "waiting", true, "WAITING", 7 },
    { "held", true, "HELD", 5 },
    { "bytes", true, "BYTES", 9 },
    { "paused", true, "PAUSED", 6 },
    { "queued_max", true, "QUEUED_MAX", 10 },
    { "running_max", true, "RUNNING_MAX", 11 },
    { "bytes_max", true, "BYTES_MAX", 9 },
    { "rate", true, "RATE", 6 },
    { "burst", true, "BURST", 6 },
    { "weight", true, "WEIGHT", 0 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* The table, of one tenant or all. */
struct table {
    bool is_json;
    const char *tenant; /* NULL: all */
    size_t count;
    struct buf text;
};

static status on_tenant(void *self, const struct msg_row *row)
{
    struct table *t = self;
    struct json_writer w = { .out = &t->text };
    status st = OK;

    if (t->tenant && strcmp(t->tenant, ask_cell(row, 0)) != 0)
        return OK;
    buf_reset(&t->text);
    if (t->is_json) {
        t->count++;
        json_write_object(&w);
        ask_write_row(&w, columns, COLUMNS, row);
        json_write_end(&w);
        return output_json(&w, &t->text);
    }
    if (t->count++ == 0)
        TRY(ask_append_titles(&t->text, columns, COLUMNS));
    TRY(ask_append_row(&t->text, columns, COLUMNS, row));
    TRY(output_text(t->text.data));
out:
    return st;
}

static bool sets_something(const struct options *o)
{
    return o->queued_max >= 0 || o->running_max >= 0 || o->bytes_max >= 0 || o->rate >= 0 ||
           o->burst >= 0 || o->weight >= 0;
}

static status set_limits(struct session *session, const struct options *o, const char *tenant)
{
    struct msg_rule rule = { .order = RULE_QUOTA,
                             .scope = SCOPE_TENANT,
                             .name = tenant,
                             .cursor = "",
                             .quota = { o->queued_max, o->running_max, o->bytes_max, o->rate,
                                        o->burst, o->weight } };
    struct msg_rows answer;
    status st = ask_order(session, &rule, &answer);

    if (st == OK && answer.verdict != VERDICT_OK)
        return FAIL(ERR_CONFLICT, "tenant %s: the broker says %s", tenant,
                    msg_verdict_name(answer.verdict));
    return st;
}

status cmd_quota(const struct command_line *line)
{
    const struct options *o = &line->options;
    struct table table = { .is_json = o->json, .tenant = line->word_count ? line->words[0] : NULL };
    struct session session = { 0 };
    status st = OK;

    if (sets_something(o) && !table.tenant)
        TRY(FAIL(ERR_BADARG, "quota: whose limits? Name a tenant"));
    TRY(session_connect(&session, o));
    if (sets_something(o))
        TRY(set_limits(&session, o, table.tenant));
    TRY(ask_rows(&session, ASK_TENANTS, "", on_tenant, &table));
    if (table.count == 0 && table.tenant)
        output_note("tenant %s has no limits", table.tenant);
    else if (table.count == 0)
        output_note("no tenant has limits");
out:
    session_close(&session);
    buf_free(&table.text);
    return st;
}
