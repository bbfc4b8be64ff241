#include "common/manual.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"

/* Where the explanation of an entry starts on a terminal. */
#define ENTRY_COLUMN 28

/* A word of a paragraph; words are separated by blanks and single line breaks. */
struct word {
    const char *start;
    size_t len;
    bool begins_paragraph; /* an empty line came before it */
};

/* The next word at *text, which moves behind it; len 0 at the end. */
static struct word next_word(const char **text)
{
    struct word w = { 0 };
    int breaks = 0;

    while (**text && isspace((unsigned char)**text)) {
        if (**text == '\n')
            breaks++;
        (*text)++;
    }
    w.start = *text;
    w.begins_paragraph = breaks > 1;
    while (**text && !isspace((unsigned char)**text))
        (*text)++;
    w.len = (size_t)(*text - w.start);
    return w;
}

static status append_blanks(struct buf *out, size_t count)
{
    status st = OK;

    for (size_t i = 0; i < count; i++)
        TRY(buf_append_text(out, " "));
out:
    return st;
}

/* Columns that len bytes of UTF-8 take: every byte but the followers of a sequence. */
static size_t columns_of(const char *text, size_t len)
{
    size_t columns = 0;

    for (size_t i = 0; i < len; i++)
        columns += ((unsigned char)text[i] & 0xc0) != 0x80;
    return columns;
}

/* Wrap text; every line is indented, and column says how far the first line is already. */
static status append_wrapped(struct buf *out, const char *text, size_t indent, size_t column)
{
    bool is_first = true;
    status st = OK;

    for (;;) {
        struct word w = next_word(&text);
        size_t columns = columns_of(w.start, w.len);

        if (w.len == 0)
            break;
        if (!is_first && w.begins_paragraph)
            TRY(buf_append_text(out, "\n"));
        if (!is_first && (w.begins_paragraph || column + 1 + columns > MANUAL_COLUMNS)) {
            TRY(buf_append_text(out, "\n"));
            TRY(append_blanks(out, indent));
            column = indent;
        } else if (!is_first) {
            TRY(buf_append_text(out, " "));
            column++;
        }
        TRY(buf_append(out, w.start, w.len));
        column += columns;
        is_first = false;
    }
    TRY(buf_append_text(out, "\n"));
out:
    return st;
}

/* Escape for roff: backslashes, hyphens that are to be typed, and leading control characters. */
static status append_roff(struct buf *out, const char *text, size_t len)
{
    status st = OK;

    for (size_t i = 0; i < len; i++) {
        bool starts_line = i == 0 || text[i - 1] == '\n';

        if (starts_line && (text[i] == '.' || text[i] == '\''))
            TRY(buf_append_text(out, "\\&"));
        if (text[i] == '\\')
            TRY(buf_append_text(out, "\\e"));
        else if (text[i] == '-')
            TRY(buf_append_text(out, "\\-"));
        else
            TRY(buf_append(out, text + i, 1));
    }
out:
    return st;
}

static status append_roff_paragraphs(struct buf *out, const char *text)
{
    bool is_first = true;
    status st = OK;

    for (;;) {
        struct word w = next_word(&text);

        if (w.len == 0)
            break;
        if (!is_first)
            TRY(buf_append_text(out, w.begins_paragraph ? "\n.PP\n" : " "));
        TRY(append_roff(out, w.start, w.len));
        is_first = false;
    }
    TRY(buf_append_text(out, "\n"));
out:
    return st;
}

static status append_upper(struct buf *out, const char *text)
{
    status st = OK;

    for (; *text; text++) {
        char c = (char)toupper((unsigned char)*text);

        TRY(append_roff(out, &c, 1));
    }
out:
    return st;
}

status manual_begin(struct manual *m, const char *name, const char *summary)
{
    status st = OK;

    CHECK(m->form == MANUAL_TERMINAL || m->form == MANUAL_ROFF);
    if (m->form == MANUAL_TERMINAL)
        return buf_printf(m->out, "%s - %s\n", name, summary);
    TRY(buf_append_text(m->out, ".TH "));
    TRY(append_upper(m->out, name));
    TRY(buf_printf(m->out, " 1 \"\" \"Onestep %s\" \"Onestep\"\n.SH NAME\n", ONESTEP_VERSION));
    TRY(append_roff(m->out, name, strlen(name)));
    TRY(buf_append_text(m->out, " \\- "));
    TRY(append_roff(m->out, summary, strlen(summary)));
    TRY(buf_append_text(m->out, "\n"));
out:
    return st;
}

status manual_section(struct manual *m, const char *title)
{
    status st = OK;

    m->has_section = true;
    if (m->form == MANUAL_TERMINAL)
        return buf_printf(m->out, "\n%s:\n", title);
    TRY(buf_append_text(m->out, ".SH "));
    TRY(append_upper(m->out, title));
    TRY(buf_append_text(m->out, "\n"));
out:
    return st;
}

status manual_text(struct manual *m, const char *text)
{
    status st = OK;

    if (m->form == MANUAL_TERMINAL) {
        TRY(buf_append_text(m->out, m->has_section ? "  " : "\n"));
        return append_wrapped(m->out, text, m->has_section ? 2 : 0, m->has_section ? 2 : 0);
    }
    TRY(buf_append_text(m->out, ".PP\n"));
    TRY(append_roff_paragraphs(m->out, text));
out:
    return st;
}

status manual_entry(struct manual *m, const char *left, const char *right)
{
    size_t column = 2 + columns_of(left, strlen(left));
    status st = OK;

    if (m->form == MANUAL_ROFF) {
        TRY(buf_append_text(m->out, ".TP\n.B "));
        TRY(append_roff(m->out, left, strlen(left)));
        TRY(buf_append_text(m->out, "\n"));
        return append_roff_paragraphs(m->out, right);
    }
    TRY(buf_printf(m->out, "  %s", left));
    if (column + 2 > ENTRY_COLUMN) {
        TRY(buf_append_text(m->out, "\n"));
        column = 0;
    }
    TRY(append_blanks(m->out, ENTRY_COLUMN - column));
    TRY(append_wrapped(m->out, right, ENTRY_COLUMN, ENTRY_COLUMN));
out:
    return st;
}

status manual_lines(struct manual *m, const char *text)
{
    status st = OK;

    if (m->form == MANUAL_ROFF)
        TRY(buf_append_text(m->out, ".PP\n.nf\n"));
    while (*text) {
        size_t len = strcspn(text, "\n");

        if (m->form == MANUAL_ROFF) {
            TRY(append_roff(m->out, text, len));
        } else {
            TRY(buf_append_text(m->out, len ? "  " : ""));
            TRY(buf_append(m->out, text, len));
        }
        TRY(buf_append_text(m->out, "\n"));
        text += len + (text[len] == '\n');
    }
    if (m->form == MANUAL_ROFF)
        TRY(buf_append_text(m->out, ".fi\n"));
out:
    return st;
}

status manual_exit_codes(struct manual *m)
{
    static const char *const meanings[STATUS_COUNT] = {
        [OK] = "success",
        [ERR_BADARG] = "the request is wrong: a flag, a setting, a parameter",
        [ERR_NOTFOUND] = "a file, job or model that was named does not exist",
        [ERR_CONFLICT] = "it exists already and differs, or its state forbids the request",
        [ERR_CORRUPT] = "bytes are not what they should be: image, checkpoint, message",
        [ERR_IO] = "reading or writing failed",
        [ERR_UNAVAILABLE] = "a service does not answer: broker, Redis, storage",
        [ERR_TIMEOUT] = "a deadline passed",
        [ERR_FULL] = "no room: disk, queue, quota",
        [ERR_NOMEM] = "not enough memory",
        [ERR_DEVICE] = "the compute device failed",
        [ERR_CANCELLED] = "cancelled, or interrupted by a signal",
    };
    char code[16];
    status st = OK;

    for (int i = 0; i < STATUS_COUNT; i++) {
        CHECK(meanings[i]);
        snprintf(code, sizeof(code), "%d", status_exit_code((status)i));
        TRY(manual_entry(m, code, meanings[i]));
    }
out:
    return st;
}
