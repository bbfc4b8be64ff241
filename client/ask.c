#include "client/ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ask_cell(const struct msg_row *row, size_t index)
{
    return index < row->cell_count ? row->cells[index] : "";
}

status ask_rows(struct session *s, enum msg_question question, const char *name, ask_row_fn on_row,
                void *self)
{
    char cursor[128] = "";
    status st = OK;

    do {
        struct msg request = { .type = MSG_ASK, .ask = { question, name, cursor } };
        struct msg answer;

        TRY(session_call(s, &request, &answer));
        for (size_t i = 0; i < answer.rows.row_count; i++)
            TRY(on_row(self, &answer.rows.rows[i]));
        if (strlen(answer.rows.cursor) >= sizeof(cursor) ||
            (*answer.rows.cursor && strcmp(answer.rows.cursor, cursor) == 0))
            TRY(FAIL(ERR_CORRUPT, "the broker's cursor \"%.80s\" leads nowhere",
                     answer.rows.cursor));
        snprintf(cursor, sizeof(cursor), "%s", answer.rows.cursor);
    } while (*cursor);
out:
    return st;
}

status ask_order(struct session *s, const struct msg_rule *rule, struct msg_rows *answer)
{
    struct msg request = { .type = MSG_RULE, .rule = *rule }, m;
    status st = session_call(s, &request, &m);

    if (st == OK)
        *answer = m.rows;
    return st;
}

void ask_write_row(struct json_writer *w, const struct ask_column *columns, size_t count,
                   const struct msg_row *row)
{
    for (size_t i = 0; i < count; i++) {
        const char *cell = ask_cell(row, i);

        json_write_key(w, columns[i].key);
        if (columns[i].is_number)
            json_write_int(w, strtoll(cell, NULL, 10));
        else
            json_write_text(w, *cell ? cell : NULL);
    }
}

status ask_append_titles(struct buf *text, const struct ask_column *columns, size_t count)
{
    const char *gap = "";
    status st = OK;

    for (size_t i = 0; i < count; i++) {
        if (!columns[i].title)
            continue;
        TRY(buf_printf(text, "%s%-*s", gap, columns[i].width, columns[i].title));
        gap = "  ";
    }
    TRY(buf_append_text(text, "\n"));
out:
    return st;
}

status ask_append_row(struct buf *text, const struct ask_column *columns, size_t count,
                      const struct msg_row *row)
{
    const char *gap = "";
    status st = OK;

    for (size_t i = 0; i < count; i++) {
        if (!columns[i].title)
            continue;
        TRY(buf_printf(text, "%s%-*s", gap, columns[i].width, ask_cell(row, i)));
        gap = "  ";
    }
    TRY(buf_append_text(text, "\n"));
out:
    return st;
}
