/* ask.h - questions and orders of operators, and their answers: rows of texts. */
#ifndef ONESTEP_CLIENT_ASK_H
#define ONESTEP_CLIENT_ASK_H

#include <stdbool.h>
#include <stddef.h>

#include "client/session.h"
#include "common/base/json.h"
#include "proto/msg.h"

/* One column of the rows that a question is answered by. */
struct ask_column {
    const char *key;   /* in JSON */
    bool is_number;    /* in JSON; a text that is "" is null there */
    const char *title; /* for people; NULL: not shown to them */
    int width;         /* of it, at least */
};

/* Told of each row in order; it is borrowed for the call. A failure ends it. */
typedef status (*ask_row_fn)(void *self, const struct msg_row *row);

/* Ask, page by page, until there is no more. Errors: those of session_call and on_row. */
MUST_USE status ask_rows(struct session *s, enum msg_question question, const char *name,
                         ask_row_fn on_row, void *self);

/* Give an order; the answer lies in the session until the next call. Errors: as session_call. */
MUST_USE status ask_order(struct session *s, const struct msg_rule *rule, struct msg_rows *answer);

/* Cell index, "" beyond the last. This function can't fail. */
const char *ask_cell(const struct msg_row *row, size_t index);

/* The members of a row, count columns of it, into an object of w. */
void ask_write_row(struct json_writer *w, const struct ask_column *columns, size_t count,
                   const struct msg_row *row);

/* Append the line of titles, or of a row, for people. Errors: as buf_append. */
MUST_USE status ask_append_titles(struct buf *text, const struct ask_column *columns, size_t count);
MUST_USE status ask_append_row(struct buf *text, const struct ask_column *columns, size_t count,
                               const struct msg_row *row);

#endif
