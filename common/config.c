/* DESIGN: every source of a setting ends in config_set, so that bounds and sentences are the same
 * for a default, a file and a flag. A source only finds the row and says where the text came from.
 * What was set is remembered per row: a second time in one file is an error, a list flag given
 * twice appends, and a row without default must have been seen in the end. */
#include "common/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/config_help.h"

/* More settings than any program has; bounds the arrays of what was seen. */
#define ROWS_MAX 128

/* Room for "file:line: key" in front of a sentence. */
#define WHAT_BYTES 320

const char *const config_log_levels[] = { "error", "warn", "info", "debug", NULL };
_Static_assert(LOG_ERROR == 0 && LOG_DEBUG == 3, "config_log_levels follows enum log_level");

const char *config_env(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

void config_env_wipe(const char *name)
{
    char *value = getenv(name);

    if (value)
        explicit_bzero(value, strlen(value)); /* not unsetenv: other threads may be looking */
}

void config_env_wipe_all(void)
{
    for (char **variable = environ; *variable; variable++) {
        char *value = strchr(*variable, '=');

        if (value)
            explicit_bzero(value + 1, strlen(value + 1));
    }
}

const char *config_library(char *dst, size_t room)
{
    snprintf(dst, room, "libyaml %s", yaml_get_version_string());
    return dst;
}

/* --- rows ------------------------------------------------------------------------------------- */

static bool names_are_equal(const char *a, const char *b)
{
    while (*a && (*a == *b || (*a == '_' && *b == '-') || (*a == '-' && *b == '_'))) {
        a++;
        b++;
    }
    return *a == '\0' && *b == '\0';
}

const struct config_row *config_find(const struct config_row *rows, size_t row_count,
                                     const char *name)
{
    for (size_t i = 0; i < row_count; i++) {
        if (names_are_equal(rows[i].name, name))
            return &rows[i];
    }
    return NULL;
}

static void *field_of(void *cfg, const struct config_row *row)
{
    return (char *)cfg + row->offset;
}

static const void *field_in(const void *cfg, const struct config_row *row)
{
    return (const char *)cfg + row->offset;
}

static status fail_bounds(const struct config_row *row, const char *what, const char *text)
{
    return FAIL(ERR_BADARG, "%s: %.40s is outside %.15g..%.15g%s%s", what, text, row->min, row->max,
                *row->unit ? " " : "", row->unit);
}

static status set_int(void *cfg, const struct config_row *row, const char *what, const char *text)
{
    char *end;
    long long value;

    CHECK(row->size == sizeof(int64_t));
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno == EINVAL)
        return FAIL(ERR_BADARG, "%s: \"%.40s\" is not an integer (%.15g..%.15g%s%s)", what, text,
                    row->min, row->max, *row->unit ? " " : "", row->unit);
    if (errno == ERANGE || !((double)value >= row->min && (double)value <= row->max))
        return fail_bounds(row, what, text);
    *(int64_t *)field_of(cfg, row) = value;
    return OK;
}

static status set_double(void *cfg, const struct config_row *row, const char *what,
                         const char *text)
{
    char *end;
    double value = strtod(text, &end);

    CHECK(row->size == sizeof(double));
    if (end == text || *end || !isfinite(value))
        return FAIL(ERR_BADARG, "%s: \"%.40s\" is not a number (%.15g..%.15g%s%s)", what, text,
                    row->min, row->max, *row->unit ? " " : "", row->unit);
    if (!(value >= row->min && value <= row->max))
        return fail_bounds(row, what, text);
    *(double *)field_of(cfg, row) = value;
    return OK;
}

static status set_bool(void *cfg, const struct config_row *row, const char *what, const char *text)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = { { "true", true },   { "yes", true }, { "on", true },
                  { "false", false }, { "no", false }, { "off", false } };

    CHECK(row->size == sizeof(bool));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(text, words[i].word) == 0) {
            *(bool *)field_of(cfg, row) = words[i].value;
            return OK;
        }
    }
    return FAIL(ERR_BADARG, "%s: \"%.40s\" is not true or false", what, text);
}

static status check_text(const char *what, const char *text, size_t len, size_t room)
{
    if (len >= room)
        return FAIL(ERR_BADARG, "%s: %zu bytes, the limit is %zu", what, len, room - 1);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return FAIL(ERR_BADARG, "%s: control character at byte %zu", what, i);
    }
    return OK;
}

static status set_text(void *cfg, const struct config_row *row, const char *what, const char *text)
{
    size_t len = strlen(text);
    status st = check_text(what, text, len, row->size);

    if (st == OK)
        memcpy(field_of(cfg, row), text, len + 1);
    return st;
}

static status set_choice(void *cfg, const struct config_row *row, const char *what,
                         const char *text)
{
    struct config_nearest near = { .wrong = text };
    char all[200] = "";

    CHECK(row->size == sizeof(int));
    for (int i = 0; row->choices[i]; i++) {
        size_t len = strlen(all);

        if (strcmp(text, row->choices[i]) == 0) {
            *(int *)field_of(cfg, row) = i;
            return OK;
        }
        config_nearest_see(&near, row->choices[i]);
        snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", row->choices[i]);
    }
    if (near.best)
        return FAIL(ERR_BADARG, "%s: \"%.40s\" is not one of %s; did you mean \"%s\"?", what, text,
                    all, near.best);
    return FAIL(ERR_BADARG, "%s: \"%.40s\" is not one of %s", what, text, all);
}

static status list_append(struct config_list *list, const char *what, const char *text, size_t len)
{
    status st;

    if (list->count == CFG_LIST_ITEMS)
        return FAIL(ERR_BADARG, "%s: more than %d items", what, CFG_LIST_ITEMS);
    if (len == 0)
        return FAIL(ERR_BADARG, "%s: item %d is empty", what, list->count + 1);
    st = check_text(what, text, len, CFG_LIST_TEXT);
    if (st != OK)
        return st;
    memcpy(list->item[list->count], text, len);
    list->item[list->count++][len] = '\0';
    return OK;
}

/* "a,b" appended to list; "" is an empty list. */
static status list_append_words(struct config_list *list, const char *what, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, ",");
        status st = list_append(list, what, text, len);

        if (st != OK)
            return st;
        text += len;
        if (*text == ',' && *++text == '\0')
            return FAIL(ERR_BADARG, "%s: ends with a comma", what);
    }
    return OK;
}

static status set_list(void *cfg, const struct config_row *row, const char *what, const char *text)
{
    struct config_list list = { 0 };
    status st = list_append_words(&list, what, text);

    CHECK(row->size == sizeof(list));
    if (st == OK)
        memcpy(field_of(cfg, row), &list, sizeof(list));
    return st;
}

status config_set(void *cfg, const struct config_row *row, const char *what, const char *text)
{
    switch (row->type) {
    case CFG_INT:
        return set_int(cfg, row, what, text);
    case CFG_DOUBLE:
        return set_double(cfg, row, what, text);
    case CFG_BOOL:
        return set_bool(cfg, row, what, text);
    case CFG_TEXT:
        return set_text(cfg, row, what, text);
    case CFG_CHOICE:
        return set_choice(cfg, row, what, text);
    case CFG_LIST:
        return set_list(cfg, row, what, text);
    case CFG_ILLEGAL:
        break;
    }
    CHECK(!"a row without a type");
    return ERR_BADARG;
}

void config_init(void *cfg, const struct config_row *rows, size_t row_count)
{
    CHECK(row_count <= ROWS_MAX);
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].default_text)
            CHECK(config_set(cfg, &rows[i], rows[i].name, rows[i].default_text) == OK);
    }
}

/* --- values as YAML --------------------------------------------------------------------------- */

/* The number of the character at s if YAML takes it for a line break or refuses it as it is, and
 * how many bytes it has; 0 for any other. Source: YAML 1.1, 5.1 and 5.4. */
static unsigned special_of(const unsigned char *s, size_t *bytes)
{
    *bytes = s[0] == 0xc2 ? 2 : 3;
    if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] <= 0x9f)
        return s[1];
    if (s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9))
        return 0x2000u | (s[2] & 0x3f);
    if (s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf)
        return 0xfeff;
    if (s[0] == 0xef && s[1] == 0xbf && (s[2] == 0xbe || s[2] == 0xbf))
        return 0xffc0u | (s[2] & 0x3f);
    *bytes = 1;
    return 0;
}

static status append_quoted(struct buf *text, const char *value)
{
    size_t step;
    status st = OK;

    TRY(buf_append_text(text, "\""));
    for (; *value; value += step) {
        unsigned special = special_of((const unsigned char *)value, &step);

        if (special) {
            TRY(buf_printf(text, "\\u%04x", special));
            continue;
        }
        if (*value == '"' || *value == '\\')
            TRY(buf_append_text(text, "\\"));
        TRY(buf_append(text, value, 1));
    }
    TRY(buf_append_text(text, "\""));
out:
    return st;
}

static status append_double(struct buf *text, double value)
{
    char shortest[40];

    for (int digits = 6; digits <= 17; digits++) {
        snprintf(shortest, sizeof(shortest), "%.*g", digits, value);
        if (strtod(shortest, NULL) == value)
            break;
    }
    return buf_append_text(text, shortest);
}

static status append_list(struct buf *text, const struct config_list *list)
{
    status st = OK;

    TRY(buf_append_text(text, "["));
    for (int i = 0; i < list->count; i++) {
        if (i)
            TRY(buf_append_text(text, ", "));
        TRY(append_quoted(text, list->item[i]));
    }
    TRY(buf_append_text(text, "]"));
out:
    return st;
}

status config_get(const void *cfg, const struct config_row *row, struct buf *text)
{
    const void *field = field_in(cfg, row);

    switch (row->type) {
    case CFG_INT:
        return buf_printf(text, "%lld", (long long)*(const int64_t *)field);
    case CFG_DOUBLE:
        return append_double(text, *(const double *)field);
    case CFG_BOOL:
        return buf_append_text(text, *(const bool *)field ? "true" : "false");
    case CFG_TEXT:
        return append_quoted(text, field);
    case CFG_CHOICE:
        return buf_append_text(text, row->choices[*(const int *)field]);
    case CFG_LIST:
        return append_list(text, field);
    case CFG_ILLEGAL:
        break;
    }
    CHECK(!"a row without a type");
    return ERR_BADARG;
}

/* --- YAML ---------------------------------------------------------------------------------------
 */

/* One file being read. event is the present event; it is valid while has_event. */
struct reader {
    void *cfg;
    const struct config_row *rows;
    size_t row_count;
    const char *name; /* of the file, for sentences */
    bool *is_set;     /* [row_count] set by this file */
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
};

static size_t line_of(const struct reader *r)
{
    return r->event.start_mark.line + 1;
}

/* Anchors and tags change what a text means without showing it where it is read. */
static status refuse_decoration(const struct reader *r, const yaml_char_t *anchor,
                                const yaml_char_t *tag)
{
    if (anchor)
        return FAIL(ERR_BADARG, "%s:%zu: anchors (&%s) are not read; write the value out", r->name,
                    line_of(r), (const char *)anchor);
    if (tag)
        return FAIL(ERR_BADARG, "%s:%zu: tags (%s) are not read; remove it", r->name, line_of(r),
                    (const char *)tag);
    return OK;
}

static status next_event(struct reader *r)
{
    const yaml_event_t *e = &r->event;

    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = false;
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        if (r->parser.error == YAML_MEMORY_ERROR)
            return FAIL(ERR_NOMEM, "%s: no memory to read it", r->name);
        return FAIL(ERR_CORRUPT, "%s:%zu: not YAML: %s", r->name, r->parser.problem_mark.line + 1,
                    r->parser.problem ? r->parser.problem : "unreadable");
    }
    r->has_event = true;
    if (e->type == YAML_ALIAS_EVENT)
        return FAIL(ERR_BADARG, "%s:%zu: aliases (*%s) are not read; write the value out", r->name,
                    line_of(r), (const char *)e->data.alias.anchor);
    if (e->type == YAML_SCALAR_EVENT)
        return refuse_decoration(r, e->data.scalar.anchor, e->data.scalar.tag);
    if (e->type == YAML_SEQUENCE_START_EVENT)
        return refuse_decoration(r, e->data.sequence_start.anchor, e->data.sequence_start.tag);
    if (e->type == YAML_MAPPING_START_EVENT)
        return refuse_decoration(r, e->data.mapping_start.anchor, e->data.mapping_start.tag);
    return OK;
}

static const char *scalar_of(const struct reader *r)
{
    return (const char *)r->event.data.scalar.value;
}

/* The present scalar is a C string. */
static status check_scalar(const struct reader *r)
{
    if (strlen(scalar_of(r)) != r->event.data.scalar.length)
        return FAIL(ERR_BADARG, "%s:%zu: a NUL byte in a value", r->name, line_of(r));
    return OK;
}

static status read_scalar(struct reader *r, const struct config_row *row, const char *what)
{
    bool is_plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    bool wants_text = row->type == CFG_TEXT || row->type == CFG_CHOICE || row->type == CFG_LIST;
    const char *text = scalar_of(r);
    status st = check_scalar(r);

    if (st != OK)
        return st;
    if (is_plain && (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)) {
        if (row->type != CFG_TEXT && row->type != CFG_LIST)
            return FAIL(ERR_BADARG, "%s: has no value; remove the line for the default", what);
        text = "";
    }
    if (!is_plain && !wants_text)
        return FAIL(ERR_BADARG, "%s: \"%.40s\" is text, want a %s; remove the quotes", what, text,
                    row->type == CFG_BOOL ? "true or false" : "number");
    return config_set(r->cfg, row, what, text);
}

static status read_sequence(struct reader *r, const struct config_row *row, const char *what)
{
    struct config_list list = { 0 };
    status st = OK;

    if (row->type != CFG_LIST)
        return FAIL(ERR_BADARG, "%s: a sequence, want a single value", what);
    TRY(next_event(r));
    while (r->event.type != YAML_SEQUENCE_END_EVENT) {
        if (r->event.type != YAML_SCALAR_EVENT)
            return FAIL(ERR_BADARG, "%s: item %d is not a plain value", what, list.count + 1);
        TRY(check_scalar(r));
        TRY(list_append(&list, what, scalar_of(r), strlen(scalar_of(r))));
        TRY(next_event(r));
    }
    memcpy(field_of(r->cfg, row), &list, sizeof(list));
out:
    return st;
}

static status fail_unknown_key(const struct reader *r, const char *key)
{
    struct config_nearest near = { .wrong = key };

    for (size_t i = 0; i < r->row_count; i++)
        config_nearest_see(&near, r->rows[i].name);
    if (near.best)
        return FAIL(ERR_BADARG, "%s:%zu: unknown key \"%.60s\"; did you mean \"%s\"?", r->name,
                    line_of(r), key, near.best);
    return FAIL(ERR_BADARG, "%s:%zu: unknown key \"%.60s\"; --help lists the known ones", r->name,
                line_of(r), key);
}

/* The present event is a key: take it and its value. */
static status read_pair(struct reader *r)
{
    const struct config_row *row = NULL;
    char what[WHAT_BYTES];
    status st = OK;

    if (r->event.type != YAML_SCALAR_EVENT)
        return FAIL(ERR_BADARG, "%s:%zu: a key must be a plain word", r->name, line_of(r));
    TRY(check_scalar(r));
    row = config_find(r->rows, r->row_count, scalar_of(r));
    if (!row)
        return fail_unknown_key(r, scalar_of(r));
    snprintf(what, sizeof(what), "%s:%zu: %s", r->name, line_of(r), row->name);
    if (r->is_set[row - r->rows])
        return FAIL(ERR_BADARG, "%s: is given twice; keep one", what);
    r->is_set[row - r->rows] = true;
    TRY(next_event(r));
    switch ((int)r->event.type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(r, row, what);
    case YAML_SEQUENCE_START_EVENT:
        return read_sequence(r, row, what);
    default:
        return FAIL(ERR_BADARG, "%s: a mapping, want a single value", what);
    }
out:
    return st;
}

static status read_document(struct reader *r)
{
    status st = OK;

    TRY(next_event(r)); /* stream start */
    TRY(next_event(r));
    if (r->event.type == YAML_STREAM_END_EVENT)
        return OK; /* nothing but comments: every default holds */
    TRY(next_event(r));
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return FAIL(ERR_BADARG, "%s:%zu: want lines of the form \"key: value\"", r->name,
                    line_of(r));
    TRY(next_event(r));
    while (r->event.type != YAML_MAPPING_END_EVENT) {
        TRY(read_pair(r));
        TRY(next_event(r));
    }
    TRY(next_event(r)); /* document end */
    TRY(next_event(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return FAIL(ERR_BADARG, "%s:%zu: a second document; keep one", r->name, line_of(r));
out:
    return st;
}

/* What a program is told from outside, and which rows that set. */
struct source {
    void *cfg;
    const struct config_row *rows;
    size_t row_count;
    bool is_set[ROWS_MAX];  /* by file or flag */
    bool is_flag[ROWS_MAX]; /* by flag */
};

static status parse_into(struct source *s, const char *name, const struct buf *text)
{
    struct reader r = {
        .cfg = s->cfg, .rows = s->rows, .row_count = s->row_count, .name = name, .is_set = s->is_set
    };
    status st;

    if (!yaml_parser_initialize(&r.parser))
        return FAIL(ERR_NOMEM, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text->data ? text->data : ""),
                                 text->len);
    st = read_document(&r);
    if (r.has_event)
        yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return st;
}

static status read_into(struct source *s, const char *path)
{
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    status st = OK;

    TRY(file_read(path, LIMIT_TEXT_FILE_BYTES, &text));
    TRY(parse_into(s, path, &text));
out:
    buf_free(&text);
    return st;
}

status config_parse(void *cfg, const struct config_row *rows, size_t row_count, const char *name,
                    const struct buf *text)
{
    struct source s = { .cfg = cfg, .rows = rows, .row_count = row_count };

    CHECK(row_count <= ROWS_MAX);
    return parse_into(&s, name, text);
}

status config_read(void *cfg, const struct config_row *rows, size_t row_count, const char *path)
{
    struct source s = { .cfg = cfg, .rows = rows, .row_count = row_count };

    CHECK(row_count <= ROWS_MAX);
    return read_into(&s, path);
}

/* --- flags --------------------------------------------------------------------------------------
 */

/* The command line of a program without commands. */
struct flags {
    const struct config_program *program;
    int argc;
    char **argv;
    int index;         /* of the word being looked at */
    char name[64];     /* present flag without "--", up to '=' */
    const char *value; /* present flag's text after '='; NULL: none */
};

enum fixed_flag { FLAG_SETTING = 0, FLAG_CONFIG, FLAG_HELP, FLAG_VERSION, FLAG_PRINT, FLAG_MAN };

static enum fixed_flag fixed_flag_of(const char *name)
{
    static const char *const names[] = { [FLAG_CONFIG] = "config",
                                         [FLAG_HELP] = "help",
                                         [FLAG_VERSION] = "version",
                                         [FLAG_PRINT] = "print-config",
                                         [FLAG_MAN] = "man" };

    for (int i = FLAG_CONFIG; i <= FLAG_MAN; i++) {
        if (strcmp(name, names[i]) == 0)
            return (enum fixed_flag)i;
    }
    return FLAG_SETTING;
}

/* Split the present word into name and value. */
static status flag_split(struct flags *f)
{
    const char *word = f->argv[f->index];
    size_t len;

    if (strcmp(word, "-h") == 0)
        word = "--help";
    if (strncmp(word, "--", 2) != 0 || !word[2])
        return FAIL(ERR_BADARG,
                    "%s: unexpected word \"%.60s\"; flags start with --, and --help "
                    "lists them",
                    f->program->name, word);
    word += 2;
    len = strcspn(word, "=");
    if (len >= sizeof(f->name))
        len = sizeof(f->name) - 1;
    memcpy(f->name, word, len);
    f->name[len] = '\0';
    f->value = strchr(word, '=');
    if (f->value)
        f->value++;
    return OK;
}

/* The present flag's value, from the next word when it has none after '='. */
static status flag_value(struct flags *f, const char **value)
{
    if (!f->value) {
        if (f->index + 1 >= f->argc)
            return FAIL(ERR_BADARG, "--%s: wants a value", f->name);
        f->value = f->argv[++f->index];
    }
    *value = f->value;
    return OK;
}

static status fail_unknown_flag(const struct flags *f)
{
    static const char *const fixed[] = { "config", "help", "version", "print-config" };
    struct config_nearest near = { .wrong = f->name };
    char shown[64];

    for (size_t i = 0; i < f->program->row_count; i++)
        config_nearest_see(&near, f->program->rows[i].name);
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        config_nearest_see(&near, fixed[i]);
    if (!near.best)
        return FAIL(ERR_BADARG, "unknown flag --%s; --help lists the known ones", f->name);
    config_flag_name(near.best, shown, sizeof(shown));
    return FAIL(ERR_BADARG, "unknown flag --%s; did you mean %s?", f->name, shown);
}

/* The row that the present flag sets; *negated for --no-NAME of a CFG_BOOL. */
static status flag_row(const struct flags *f, const struct config_row **row, bool *negated)
{
    const struct config_program *p = f->program;

    *negated = false;
    *row = config_find(p->rows, p->row_count, f->name);
    if (!*row && strncmp(f->name, "no-", 3) == 0) {
        *row = config_find(p->rows, p->row_count, f->name + 3);
        *negated = true;
        if (*row && ((*row)->type != CFG_BOOL || f->value))
            *row = NULL;
    }
    return *row ? OK : fail_unknown_flag(f);
}

static status apply_flag(struct flags *f, struct source *s)
{
    const struct config_row *row;
    const char *value = NULL;
    char what[80];
    bool negated;
    size_t i;
    status st = OK;

    TRY(flag_row(f, &row, &negated));
    snprintf(what, sizeof(what), "--%s", f->name);
    i = (size_t)(row - s->rows);
    if (negated)
        value = "false";
    else if (row->type == CFG_BOOL)
        value = f->value ? f->value : "true";
    else
        TRY(flag_value(f, &value));
    if (row->type == CFG_LIST && s->is_flag[i])
        TRY(list_append_words(field_of(s->cfg, row), what, value));
    else
        TRY(config_set(s->cfg, row, what, value));
    s->is_set[i] = true;
    s->is_flag[i] = true;
out:
    return st;
}

/* What the command line asks for besides settings. */
struct wishes {
    const char *config_path; /* NULL: none */
    enum fixed_flag answer;  /* FLAG_HELP, FLAG_VERSION, FLAG_PRINT or FLAG_MAN; 0: none */
};

static status take_fixed_flag(struct flags *f, enum fixed_flag which, struct wishes *w)
{
    const char *path = NULL;
    status st = OK;

    if (which != FLAG_CONFIG) {
        if (!w->answer)
            w->answer = which;
        return OK;
    }
    TRY(flag_value(f, &path));
    if (w->config_path)
        return FAIL(ERR_BADARG, "--config is given twice; keep one");
    w->config_path = path;
out:
    return st;
}

/* One pass over the words: the fixed flags into w, or, when s is given, the settings into s. */
static status scan_flags(struct flags *f, struct wishes *w, struct source *s)
{
    const struct config_row *row;
    const char *value;
    bool negated;
    status st = OK;

    for (f->index = 1; f->index < f->argc; f->index++) {
        enum fixed_flag which;

        TRY(flag_split(f));
        which = fixed_flag_of(f->name);
        if (which != FLAG_SETTING) {
            struct wishes seen = { 0 };

            TRY(take_fixed_flag(f, which, s ? &seen : w));
        } else if (s) {
            TRY(apply_flag(f, s));
        } else {
            TRY(flag_row(f, &row, &negated));
            if (row->type != CFG_BOOL)
                TRY(flag_value(f, &value));
        }
    }
out:
    return st;
}

static status check_required(const struct source *s)
{
    for (size_t i = 0; i < s->row_count; i++) {
        char flag[64];

        if (s->rows[i].default_text || s->is_set[i])
            continue;
        return FAIL(ERR_BADARG, "%s must be given: %s", s->rows[i].name,
                    config_flag_name(s->rows[i].name, flag, sizeof(flag)));
    }
    return OK;
}

static status print_text(const struct buf *text)
{
    if (fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout) != 0)
        return FAIL(ERR_IO, "standard output: %s", strerror(errno));
    return OK;
}

static status answer(const struct config_program *program, const void *cfg, enum fixed_flag which)
{
    struct buf text = { 0 };
    status st = OK;

    if (which == FLAG_HELP)
        TRY(config_help(program, &text));
    else if (which == FLAG_MAN)
        TRY(config_man(program, &text));
    else if (which == FLAG_PRINT)
        TRY(config_print(program, cfg, &text));
    else
        TRY(buf_append_text(&text, program->version_text));
    TRY(print_text(&text));
out:
    buf_free(&text);
    return st;
}

status config_load(void *cfg, const struct config_program *program, int argc, char **argv,
                   bool *is_done)
{
    struct source s = { .cfg = cfg, .rows = program->rows, .row_count = program->row_count };
    struct flags f = { .program = program, .argc = argc, .argv = argv };
    struct wishes w = { 0 };
    status st = OK;

    config_init(cfg, program->rows, program->row_count);
    *is_done = false;
    TRY(scan_flags(&f, &w, NULL));
    if (w.answer && w.answer != FLAG_PRINT) {
        *is_done = true;
        return answer(program, cfg, w.answer);
    }
    if (w.config_path)
        TRY(read_into(&s, w.config_path));
    TRY(scan_flags(&f, &w, &s));
    if (w.answer) {
        *is_done = true;
        return answer(program, cfg, w.answer);
    }
    TRY(check_required(&s));
out:
    return st;
}
