/* manual.h - one description of a program, written as --help for a terminal or as a manual page.
 *
 * The writer is handed the parts in reading order: title, then sections with text, entries and
 * lines. Thread: the owner's. */
#ifndef ONESTEP_COMMON_MANUAL_H
#define ONESTEP_COMMON_MANUAL_H

#include "common/base/buf.h"
#include "common/base/status.h"

/* Columns of a terminal that help is wrapped to. */
#define MANUAL_COLUMNS 88

/* How the parts are written. */
enum manual_form {
    MANUAL_ILLEGAL = 0,
    MANUAL_TERMINAL, /* plain text, wrapped to MANUAL_COLUMNS */
    MANUAL_ROFF,     /* man(7) source */
};

/* A text being written. */
struct manual {
    struct buf *out; /* borrowed; grows */
    enum manual_form form;
    bool has_section; /* a section was begun */
};

/* Begin the text of the program or topic called name (section 1 of the manual); summary is one line
 * without a full stop. Errors of this and every other function: as buf_append. */
MUST_USE status manual_begin(struct manual *m, const char *name, const char *summary);

/* Begin a section; title as in a sentence ("Exit codes"). */
MUST_USE status manual_section(struct manual *m, const char *title);

/* Paragraphs, separated by empty lines; line breaks inside one do not matter. */
MUST_USE status manual_text(struct manual *m, const char *text);

/* One entry of a list: left is what is typed, right explains it. */
MUST_USE status manual_entry(struct manual *m, const char *left, const char *right);

/* Lines that keep their breaks: usage, examples. */
MUST_USE status manual_lines(struct manual *m, const char *text);

/* One entry per exit code of Onestep's programs, from status_exit_code. */
MUST_USE status manual_exit_codes(struct manual *m);

#endif
