#include <stdbool.h>

#include "client/ask.h"
#include "client/cmd.h"
#include "client/output.h"

/* One audit and what it found. */
struct audit {
    struct session *session;
    bool is_json;
    int64_t found; /* places that disagree */
    struct buf text;
};

static status print_finding(struct audit *a, const char *sentence)
{
    struct json_writer w = { .out = &a->text };
    status st = OK;

    buf_reset(&a->text);
    if (a->is_json) {
        json_write_object(&w);
        json_write_key(&w, "finding");
        json_write_text(&w, sentence);
        json_write_end(&w);
        return output_json(&w, &a->text);
    }
    TRY(buf_printf(&a->text, "%s\n", sentence));
    TRY(output_text(a->text.data));
out:
    return st;
}

static status look(struct audit *a, enum msg_order order)
{
    struct msg_rule rule = { .order = order, .name = "", .cursor = "" };
    struct msg_rows answer;
    status st = OK;

    TRY(ask_order(a->session, &rule, &answer));
    for (size_t i = 0; i < answer.row_count; i++)
        TRY(print_finding(a, ask_cell(&answer.rows[i], 0)));
    a->found = answer.row_total;
    if (answer.row_total > (int64_t)answer.row_count)
        output_note("%lld findings, of which %zu are shown", (long long)answer.row_total,
                    answer.row_count);
out:
    return st;
}

status cmd_audit(const struct command_line *line)
{
    struct session session = { 0 };
    struct audit audit = { .session = &session, .is_json = line->options.json };
    int64_t first;
    status st = OK;

    TRY(session_connect(&session, &line->options));
    TRY(look(&audit, line->options.repair ? RULE_REPAIR : RULE_AUDIT));
    first = audit.found;
    if (first > 0 && line->options.repair)
        TRY(look(&audit, RULE_AUDIT));
    if (audit.found > 0)
        TRY(FAIL(ERR_CORRUPT, "%lld places in Redis disagree with the jobs%s",
                 (long long)audit.found,
                 line->options.repair ? " even after the repair" : "; --repair derives them anew"));
    output_note(first > 0 ? "repaired" : "everything agrees");
out:
    session_close(&session);
    buf_free(&audit.text);
    return st;
}
