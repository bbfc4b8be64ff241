#include "common/base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/base/limits.h"

/* --- parsing --------------------------------------------------------------------------------- */

/* The parser recurses, so depth is limited before it sees the text. Brackets inside texts do not
 * count; a text that is not closed is left for the parser to report. */
static int depth_of(const char *text, size_t len)
{
    int depth = 0, deepest = 0;
    bool in_text = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_text && c == '\\')
            i++;
        else if (c == '"')
            in_text = !in_text;
        else if (!in_text && (c == '{' || c == '['))
            deepest = ++depth > deepest ? depth : deepest;
        else if (!in_text && (c == '}' || c == ']'))
            depth--;
    }
    return deepest;
}

/* The end of a long name tells more than its beginning, and keys must fit behind it. */
static void set_name(struct json *j, const char *name)
{
    size_t len = strlen(name), max = sizeof(j->name) - sizeof("...");

    snprintf(j->name, sizeof(j->name), "%s%s", len > max ? "..." : "",
             len > max ? name + len - max : name);
}

status json_parse(struct json *j, const char *name, const char *text, size_t len)
{
    json_error_t error;

    *j = (struct json){ 0 };
    set_name(j, name);
    if (depth_of(text, len) > JSON_DEPTH_MAX)
        return FAIL(ERR_CORRUPT, "%s: nested deeper than %d levels", j->name, JSON_DEPTH_MAX);
    j->root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (j->root)
        return OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return FAIL(ERR_NOMEM, "%s: no memory to parse it", j->name);
    return FAIL(ERR_CORRUPT, "%s: line %d, column %d: not valid JSON: %s", j->name, error.line,
                error.column, error.text);
}

status json_open_file(struct json *j, const char *path)
{
    status st = OK;
    struct buf text = { 0 };

    *j = (struct json){ 0 };
    TRY(file_read(path, LIMIT_TEXT_FILE_BYTES, &text));
    TRY(json_parse(j, path, text.data, text.len));
out:
    buf_free(&text);
    return st;
}

void json_free(struct json *j)
{
    json_decref(j->root);
    *j = (struct json){ 0 };
}

/* --- values ---------------------------------------------------------------------------------- */

static struct json_value value_of(const json_t *node)
{
    return (struct json_value){ .node = json_is_null(node) ? NULL : node };
}

struct json_value json_root(const struct json *j)
{
    struct json_value v = value_of(j->root);

    snprintf(v.path, sizeof(v.path), "%s:", j->name);
    return v;
}

/* "file.json:" + "a" -> "file.json: a"; + "b" -> "file.json: a.b". Too long a path is cut. */
static struct json_value child_named(const struct json_value *v, const char *key,
                                     const json_t *node)
{
    struct json_value child = value_of(node);
    size_t len = strlen(v->path);
    const char *joint = len && v->path[len - 1] == ':' ? " " : ".";

    if (snprintf(child.path, sizeof(child.path), "%s%s%s", v->path, joint, key) < 0)
        child.path[0] = '\0';
    return child;
}

enum json_kind json_kind(const struct json_value *v)
{
    const json_t *node = v->node;

    if (!node)
        return JSON_KIND_ABSENT;
    switch (json_typeof(node)) {
    case JSON_OBJECT:
        return JSON_KIND_OBJECT;
    case JSON_ARRAY:
        return JSON_KIND_ARRAY;
    case JSON_STRING:
        return JSON_KIND_TEXT;
    case JSON_INTEGER:
        return JSON_KIND_INT;
    case JSON_REAL:
        return JSON_KIND_DOUBLE;
    case JSON_TRUE:
    case JSON_FALSE:
        return JSON_KIND_BOOL;
    case JSON_NULL:
        return JSON_KIND_ABSENT;
    }
    return JSON_KIND_ABSENT;
}

size_t json_count(const struct json_value *v)
{
    if (json_kind(v) == JSON_KIND_ARRAY)
        return json_array_size(v->node);
    return json_kind(v) == JSON_KIND_OBJECT ? json_object_size(v->node) : 0;
}

struct json_value json_find(const struct json_value *v, const char *key)
{
    return child_named(v, key, v->node ? json_object_get(v->node, key) : NULL);
}

struct json_value json_at(const struct json_value *v, size_t index)
{
    struct json_value child = value_of(v->node ? json_array_get(v->node, index) : NULL);

    if (snprintf(child.path, sizeof(child.path), "%s[%zu]", v->path, index) < 0)
        child.path[0] = '\0';
    return child;
}

bool json_next(const struct json_value *v, struct json_member *m)
{
    /* The iterator interface of the parser takes a non-const tree, but only reads it. */
    json_t *node = (json_t *)(size_t)v->node;

    if (json_kind(v) != JSON_KIND_OBJECT)
        return false;
    m->position = m->position ? json_object_iter_next(node, m->position) : json_object_iter(node);
    if (!m->position)
        return false;
    m->key = json_object_iter_key(m->position);
    m->value = child_named(v, m->key, json_object_iter_value(m->position));
    return true;
}

/* --- values as C types ----------------------------------------------------------------------- */

static const char *kind_name(enum json_kind kind)
{
    switch (kind) {
    case JSON_KIND_ABSENT:
        return "missing";
    case JSON_KIND_OBJECT:
        return "an object";
    case JSON_KIND_ARRAY:
        return "an array";
    case JSON_KIND_TEXT:
        return "a text";
    case JSON_KIND_INT:
        return "a whole number";
    case JSON_KIND_DOUBLE:
        return "a number with a fraction";
    case JSON_KIND_BOOL:
        return "true or false";
    }
    return "unknown";
}

static status want_kind(const struct json_value *v, enum json_kind want)
{
    enum json_kind kind = json_kind(v);

    if (kind == want)
        return OK;
    return FAIL(ERR_CORRUPT, "%s is %s, want %s", v->path, kind_name(kind), kind_name(want));
}

status json_want_object(const struct json_value *v)
{
    return want_kind(v, JSON_KIND_OBJECT);
}

status json_want_array(const struct json_value *v, size_t min, size_t max)
{
    status st = want_kind(v, JSON_KIND_ARRAY);
    size_t count = json_count(v);

    if (st != OK || (count >= min && count <= max))
        return st;
    return FAIL(ERR_CORRUPT, "%s has %zu elements, want %zu to %zu", v->path, count, min, max);
}

status json_to_int(const struct json_value *v, int64_t min, int64_t max, int64_t *out)
{
    status st = want_kind(v, JSON_KIND_INT);
    int64_t value;

    if (st != OK)
        return st;
    value = json_integer_value(v->node);
    if (value < min || value > max)
        return FAIL(ERR_CORRUPT, "%s is %lld, want %lld to %lld", v->path, (long long)value,
                    (long long)min, (long long)max);
    *out = value;
    return OK;
}

status json_to_double(const struct json_value *v, double min, double max, double *out)
{
    double value;

    if (json_kind(v) != JSON_KIND_INT && json_kind(v) != JSON_KIND_DOUBLE)
        return FAIL(ERR_CORRUPT, "%s is %s, want a number", v->path, kind_name(json_kind(v)));
    value = json_number_value(v->node);
    if (!(value >= min && value <= max))
        return FAIL(ERR_CORRUPT, "%s is %g, want %g to %g", v->path, value, min, max);
    *out = value;
    return OK;
}

status json_to_bool(const struct json_value *v, bool *out)
{
    status st = want_kind(v, JSON_KIND_BOOL);

    if (st == OK)
        *out = json_is_true((const json_t *)v->node);
    return st;
}

status json_to_text(const struct json_value *v, const char **out)
{
    status st = want_kind(v, JSON_KIND_TEXT);

    if (st == OK)
        *out = json_string_value(v->node);
    return st;
}

status json_to_ints(const struct json_value *v, int64_t min, int64_t max, int64_t *dst, size_t room,
                    size_t *count)
{
    status st;

    TRY(json_want_array(v, 0, room));
    for (size_t i = 0; i < json_count(v); i++) {
        struct json_value element = json_at(v, i);

        TRY(json_to_int(&element, min, max, &dst[i]));
    }
    *count = json_count(v);
out:
    return st;
}

/* --- keys ------------------------------------------------------------------------------------ */

status json_get_int(const struct json_value *v, const char *key, int64_t min, int64_t max,
                    int64_t *out)
{
    struct json_value child = json_find(v, key);

    return json_to_int(&child, min, max, out);
}

status json_get_double(const struct json_value *v, const char *key, double min, double max,
                       double *out)
{
    struct json_value child = json_find(v, key);

    return json_to_double(&child, min, max, out);
}

status json_get_bool(const struct json_value *v, const char *key, bool *out)
{
    struct json_value child = json_find(v, key);

    return json_to_bool(&child, out);
}

status json_get_text(const struct json_value *v, const char *key, const char **out)
{
    struct json_value child = json_find(v, key);

    return json_to_text(&child, out);
}

status json_opt_int(const struct json_value *v, const char *key, int64_t min, int64_t max,
                    int64_t *out)
{
    struct json_value child = json_find(v, key);

    return child.node ? json_to_int(&child, min, max, out) : OK;
}

status json_opt_double(const struct json_value *v, const char *key, double min, double max,
                       double *out)
{
    struct json_value child = json_find(v, key);

    return child.node ? json_to_double(&child, min, max, out) : OK;
}

status json_opt_bool(const struct json_value *v, const char *key, bool *out)
{
    struct json_value child = json_find(v, key);

    return child.node ? json_to_bool(&child, out) : OK;
}

status json_opt_text(const struct json_value *v, const char *key, const char **out)
{
    struct json_value child = json_find(v, key);

    return child.node ? json_to_text(&child, out) : OK;
}

/* --- writing --------------------------------------------------------------------------------- */

static void put(struct json_writer *w, const char *bytes, size_t len)
{
    if (w->st == OK)
        w->st = buf_append(w->out, bytes, len);
}

static void put_line_break(struct json_writer *w)
{
    put(w, "\n", 1);
    for (int i = 0; i < w->depth; i++)
        put(w, "  ", 2);
}

/* The comma and the line break before a key or an element. */
static void begin_member(struct json_writer *w)
{
    bool *is_empty = &w->is_empty[w->depth - 1];

    if (!*is_empty)
        put(w, ",", 1);
    *is_empty = false;
    if (w->indent)
        put_line_break(w);
}

static void begin_value(struct json_writer *w)
{
    CHECK(!w->is_done);
    if (w->depth == 0)
        return;
    CHECK((w->kind[w->depth - 1] == '{') == w->has_key);
    if (!w->has_key)
        begin_member(w);
    w->has_key = false;
}

static void end_value(struct json_writer *w)
{
    w->is_done = w->depth == 0;
}

static void put_word(struct json_writer *w, const char *word)
{
    begin_value(w);
    put(w, word, strlen(word));
    end_value(w);
}

static void open_level(struct json_writer *w, char bracket)
{
    begin_value(w);
    CHECK(w->depth < JSON_DEPTH_MAX);
    w->kind[w->depth] = bracket;
    w->is_empty[w->depth] = true;
    w->depth++;
    put(w, &bracket, 1);
}

void json_write_object(struct json_writer *w)
{
    open_level(w, '{');
}

void json_write_array(struct json_writer *w)
{
    open_level(w, '[');
}

void json_write_end(struct json_writer *w)
{
    CHECK(w->depth > 0 && !w->has_key);
    w->depth--;
    if (w->indent && !w->is_empty[w->depth])
        put_line_break(w);
    put(w, w->kind[w->depth] == '{' ? "}" : "]", 1);
    end_value(w);
}

/* Bytes of the UTF-8 sequence at s, 0 when it is not one: overlong forms, surrogates and values
 * above U+10FFFF are not (RFC 3629). */
static size_t utf8_len(const unsigned char *s)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t len;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        len = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        len = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

/* One character of a text; the answer is how many bytes of it were used. */
static size_t put_char(struct json_writer *w, const unsigned char *s)
{
    static const char short_escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char escape[8];
    size_t len = utf8_len(s);

    for (const char *e = short_escapes; *e; e += 2) {
        if (*s == (unsigned char)e[0]) {
            escape[0] = '\\';
            escape[1] = e[1];
            put(w, escape, 2);
            return 1;
        }
    }
    if (len == 0) {
        put(w, "\xef\xbf\xbd", 3);
        return 1;
    }
    if (*s < 0x20 || *s == 0x7f) {
        snprintf(escape, sizeof(escape), "\\u%04x", *s);
        put(w, escape, 6);
        return 1;
    }
    put(w, (const char *)s, len);
    return len;
}

static void put_quoted(struct json_writer *w, const char *text)
{
    put(w, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)text; *s;)
        s += put_char(w, s);
    put(w, "\"", 1);
}

void json_write_key(struct json_writer *w, const char *key)
{
    CHECK(w->depth > 0 && w->kind[w->depth - 1] == '{' && !w->has_key);
    begin_member(w);
    put_quoted(w, key);
    put(w, ": ", w->indent ? 2 : 1);
    w->has_key = true;
}

void json_write_text(struct json_writer *w, const char *text)
{
    if (!text) {
        json_write_null(w);
        return;
    }
    begin_value(w);
    put_quoted(w, text);
    end_value(w);
}

void json_write_int(struct json_writer *w, int64_t value)
{
    char digits[32];

    snprintf(digits, sizeof(digits), "%lld", (long long)value);
    put_word(w, digits);
}

void json_write_double(struct json_writer *w, double value)
{
    char digits[40] = "0";

    if (!isfinite(value) && w->st == OK)
        w->st = FAIL(ERR_BADARG, "JSON has no way to write the number %f", value);
    /* 17 digits always read back the same; often fewer do. */
    for (int precision = 1; isfinite(value) && precision <= 17; precision++) {
        snprintf(digits, sizeof(digits), "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    put_word(w, digits);
}

void json_write_bool(struct json_writer *w, bool value)
{
    put_word(w, value ? "true" : "false");
}

void json_write_null(struct json_writer *w)
{
    put_word(w, "null");
}

status json_write_finish(struct json_writer *w)
{
    CHECK(w->is_done);
    if (w->indent)
        put(w, "\n", 1);
    return w->st;
}
