#include "common/config_help.h"

#include <stdio.h>
#include <string.h>

#include "common/base/check.h"

/* Longest word whose nearest neighbours are looked for. */
#define WORD_MAX 48

const char *config_flag_name(const char *name, char *dst, size_t room)
{
    snprintf(dst, room, "--%s", name);
    for (char *c = dst; *c; c++) {
        if (*c == '_')
            *c = '-';
    }
    return dst;
}

static char folded(char c)
{
    return c == '_' ? '-' : c;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b: optimal string alignment,
 * three rows of the usual table. Both are shorter than WORD_MAX. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t a_len = strlen(a), b_len = strlen(b);

    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *now = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *above2 = rows[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            bool is_same = folded(a[i - 1]) == folded(b[j - 1]);

            now[j] = smaller(above[j] + 1, now[j - 1] + 1);
            now[j] = smaller(now[j], above[j - 1] + !is_same);
            if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
                folded(a[i - 2]) == folded(b[j - 1]))
                now[j] = smaller(now[j], above2[j - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

void config_nearest_see(struct config_nearest *n, const char *known)
{
    size_t wrong_len = strlen(n->wrong), known_len = strlen(known);
    size_t distance;

    if (wrong_len == 0 || wrong_len >= WORD_MAX || known_len >= WORD_MAX)
        return;
    distance = edit_distance(n->wrong, known);
    /* One slip per four letters, and one more: "modle" yes, "zebra" for "model" no. */
    if (distance > 1 + smaller(wrong_len, known_len) / 4 || distance >= known_len)
        return;
    if (!n->best || distance < n->distance) {
        n->best = known;
        n->distance = distance;
    }
}

static const char *placeholder_of(const struct config_row *row)
{
    switch (row->type) {
    case CFG_INT:
        return "N";
    case CFG_DOUBLE:
        return "X";
    case CFG_BOOL:
        return "";
    case CFG_TEXT:
        return *row->unit ? row->unit : "TEXT";
    case CFG_CHOICE:
        return "NAME";
    case CFG_LIST:
        return "A,B";
    case CFG_ILLEGAL:
        break;
    }
    CHECK(!"a row without a type");
    return "";
}

static status describe_range(const struct config_row *row, struct buf *text)
{
    status st = OK;

    if (row->type == CFG_INT || row->type == CFG_DOUBLE) {
        TRY(buf_printf(text, "%.15g..%.15g%s%s", row->min, row->max, *row->unit ? " " : "",
                       row->unit));
    } else if (row->type == CFG_CHOICE) {
        for (int i = 0; row->choices[i]; i++)
            TRY(buf_printf(text, "%s%s", i ? ", " : "", row->choices[i]));
    } else if (row->type == CFG_LIST) {
        TRY(buf_printf(text, "up to %d", CFG_LIST_ITEMS));
    }
out:
    return st;
}

/* An empty text and a switch that is off go without saying. */
static bool has_telling_default(const struct config_row *row)
{
    return !row->default_text || (*row->default_text && strcmp(row->default_text, "false") != 0);
}

status config_describe(const struct config_row *row, struct buf *text)
{
    size_t before = text->len;
    status st = OK;

    TRY(describe_range(row, text));
    if (!has_telling_default(row))
        return OK;
    if (text->len > before)
        TRY(buf_append_text(text, "; "));
    if (row->default_text)
        TRY(buf_printf(text, "default %s", row->default_text));
    else
        TRY(buf_append_text(text, "must be given"));
out:
    return st;
}

/* help, and the description in brackets when there is one. */
static status append_help(const struct config_row *row, struct buf *text)
{
    struct buf description = { 0 };
    status st = OK;

    TRY(config_describe(row, &description));
    TRY(buf_append_text(text, row->help));
    if (description.len)
        TRY(buf_printf(text, " (%s)", description.data));
out:
    buf_free(&description);
    return st;
}

status config_entries(const struct config_row *rows, size_t row_count, struct manual *m)
{
    struct buf right = { 0 };
    char flag[64], left[96];
    status st = OK;

    for (size_t i = 0; i < row_count; i++) {
        const char *placeholder = placeholder_of(&rows[i]);

        buf_reset(&right);
        TRY(append_help(&rows[i], &right));
        snprintf(left, sizeof(left), "%s%s%s", config_flag_name(rows[i].name, flag, sizeof(flag)),
                 *placeholder ? " " : "", placeholder);
        TRY(manual_entry(m, left, right.data));
    }
out:
    buf_free(&right);
    return st;
}

static status write_manual(const struct config_program *program, struct manual *m)
{
    char usage[160];
    status st = OK;

    TRY(manual_begin(m, program->name, program->summary));
    snprintf(usage, sizeof(usage), "%s [--config FILE.yaml] [--SETTING VALUE ...]", program->name);
    TRY(manual_section(m, m->form == MANUAL_ROFF ? "Synopsis" : "Usage"));
    TRY(manual_lines(m, usage));
    TRY(manual_section(m, "Description"));
    TRY(manual_text(m, program->description));
    TRY(manual_section(m, "Settings"));
    TRY(manual_text(m,
                    "The flag --some-name VALUE is the line \"some_name: VALUE\" of the YAML file. "
                    "Flags win over the file, the file over the defaults."));
    TRY(config_entries(program->rows, program->row_count, m));
    TRY(manual_section(m, "Options"));
    TRY(manual_entry(m, "--config FILE", "read settings from this YAML file"));
    TRY(manual_entry(m, "--print-config", "print all settings as a YAML file and exit"));
    TRY(manual_entry(m, "--version", "print version and libraries and exit"));
    TRY(manual_entry(m, "--help", "print this text and exit"));
    TRY(manual_section(m, "Exit codes"));
    TRY(manual_exit_codes(m));
    TRY(manual_section(m, "Examples"));
    TRY(manual_lines(m, program->examples));
out:
    return st;
}

status config_help(const struct config_program *program, struct buf *text)
{
    struct manual m = { .out = text, .form = MANUAL_TERMINAL };

    return write_manual(program, &m);
}

status config_man(const struct config_program *program, struct buf *text)
{
    struct manual m = { .out = text, .form = MANUAL_ROFF };

    return write_manual(program, &m);
}

status config_print(const struct config_program *program, const void *cfg, struct buf *text)
{
    status st = OK;

    for (size_t i = 0; i < program->row_count; i++) {
        const struct config_row *row = &program->rows[i];

        TRY(buf_append_text(text, "# "));
        TRY(append_help(row, text));
        TRY(buf_printf(text, "\n%s: ", row->name));
        TRY(config_get(cfg, row, text));
        TRY(buf_append_text(text, "\n"));
    }
out:
    return st;
}
