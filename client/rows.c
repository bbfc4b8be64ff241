#include "client/rows.h"

#include <errno.h>
#include <string.h>

#include "client/input.h"
#include "common/base/json.h"
#include "common/config.h"

status rows_open(struct rows *r, const char *path)
{
    status st = OK;

    memset(r, 0, sizeof(*r));
    r->text.max_bytes = ROWS_LINE_MAX + 1;
    if (strcmp(path, "-") == 0) {
        r->in = stdin;
        snprintf(r->name, sizeof(r->name), "standard input");
        return OK;
    }
    snprintf(r->name, sizeof(r->name), "%s", path);
    TRY(file_parent(r->folder, sizeof(r->folder), path));
    r->in = fopen(path, "re");
    if (!r->in)
        TRY(file_errno(errno, path));
out:
    return st;
}

void rows_close(struct rows *r)
{
    if (r->in && r->in != stdin)
        fclose(r->in);
    buf_free(&r->text);
    memset(r, 0, sizeof(*r));
}

/* Read one line. What is beyond ROWS_LINE_MAX + 1 bytes is dropped: rows_read will refuse it. */
static status read_line(struct rows *r, bool *is_end)
{
    status st = OK;
    int c;

    buf_reset(&r->text);
    while ((c = getc_unlocked(r->in)) != EOF && c != '\n') {
        char byte = (char)c;

        if (r->text.len <= ROWS_LINE_MAX)
            TRY(buf_append(&r->text, &byte, 1));
    }
    if (c == EOF && ferror(r->in))
        TRY(FAIL(ERR_IO, "%s: %s", r->name, strerror(errno)));
    *is_end = c == EOF && r->text.len == 0;
    r->line++;
out:
    return st;
}

status rows_next(struct rows *r, bool *has_row)
{
    status st = OK;

    *has_row = false;
    for (;;) {
        bool is_end;

        TRY(read_line(r, &is_end));
        if (is_end)
            return OK;
        if (r->text.len > 0 && strspn(r->text.data, " \t\r") < r->text.len) {
            *has_row = true;
            return OK;
        }
    }
out:
    return st;
}

/* Put "name:line: " in front of the last failure's sentence. */
static status fail_row(const struct rows *r, status st)
{
    char sentence[512];

    snprintf(sentence, sizeof(sentence), "%s", status_message());
    return FAIL(st, "%s:%lld: %s", r->name, (long long)r->line, sentence);
}

static status fail_unknown_key(const char *key)
{
    struct config_nearest near = { .wrong = key };

    for (size_t i = 0; i < spec_param_count; i++)
        config_nearest_see(&near, spec_params[i].name);
    config_nearest_see(&near, "key");
    if (near.best)
        return FAIL(ERR_BADARG, "unknown key \"%.60s\"; did you mean \"%s\"?", key, near.best);
    return FAIL(ERR_BADARG, "unknown key \"%.60s\"; `onestep submit --help` lists the parameters",
                key);
}

/* {"a": "b", "c": "d"} as "a=b,c=d". */
static status join_labels(const struct json_value *v, char *dst, size_t room)
{
    struct json_member m = { 0 };
    size_t len = 0;

    dst[0] = '\0';
    while (json_next(v, &m)) {
        const char *text;
        int more;

        if (json_to_text(&m.value, &text) != OK || strchr(text, ',') || strpbrk(m.key, ",="))
            return FAIL(ERR_BADARG,
                        "labels: keys and values must be texts without \",\" and \"=\"");
        more = snprintf(dst + len, room - len, "%s%s=%s", len ? "," : "", m.key, text);
        if (more < 0 || (size_t)more >= room - len)
            return FAIL(ERR_BADARG, "labels: more than %zu bytes", room - 1);
        len += (size_t)more;
    }
    return OK;
}

static status fail_kind(const struct spec_param *p, const char *want)
{
    return FAIL(ERR_BADARG, "%s: want %s", p->name, want);
}

/* The value of parameter p as text for spec_set. */
static status value_as_text(const struct json_value *v, const struct spec_param *p, char *dst,
                            size_t room)
{
    bool wants_number = p->type == SPEC_INT || p->type == SPEC_DOUBLE || p->type == SPEC_SEED;
    const char *text;
    int64_t whole;
    double real;

    switch (json_kind(v)) {
    case JSON_KIND_TEXT:
        /* Seeds above 2^63 do not fit into the numbers of most JSON writers. */
        if (wants_number && p->type != SPEC_SEED)
            return fail_kind(p, "a number without quotes");
        if (json_to_text(v, &text) != OK)
            return ERR_CORRUPT;
        if (strlen(text) >= room)
            return FAIL(ERR_BADARG, "%s: %zu bytes, too long", p->name, strlen(text));
        memcpy(dst, text, strlen(text) + 1);
        return OK;
    case JSON_KIND_INT:
        if (!wants_number)
            return fail_kind(p, "a text");
        if (json_to_int(v, INT64_MIN, INT64_MAX, &whole) != OK)
            return ERR_CORRUPT;
        snprintf(dst, room, "%lld", (long long)whole);
        return OK;
    case JSON_KIND_DOUBLE:
        if (p->type != SPEC_DOUBLE)
            return fail_kind(p, wants_number ? "an integer" : "a text");
        if (json_to_double(v, -1e300, 1e300, &real) != OK)
            return ERR_CORRUPT;
        snprintf(dst, room, "%.17g", real);
        return OK;
    case JSON_KIND_OBJECT:
        if (strcmp(p->name, "labels") == 0)
            return join_labels(v, dst, room);
        return fail_kind(p, "a single value");
    case JSON_KIND_ARRAY:
    case JSON_KIND_BOOL:
    case JSON_KIND_ABSENT:
        break;
    }
    return fail_kind(p, wants_number ? "a number" : "a text");
}

static status read_key(const struct json_value *v, struct row *row)
{
    const char *text;

    if (json_to_text(v, &text) != OK)
        return FAIL(ERR_BADARG, "key: want a text");
    if (!*text || strlen(text) >= sizeof(row->key))
        return FAIL(ERR_BADARG, "key: %zu bytes, want 1 to %zu", strlen(text),
                    sizeof(row->key) - 1);
    memcpy(row->key, text, strlen(text) + 1);
    return OK;
}

static status read_member(const struct json_member *m, struct row *row)
{
    const struct spec_param *p = spec_find(m->key);
    char text[SPEC_URL_MAX];
    status st = OK;

    if (strcmp(m->key, "key") == 0)
        return read_key(&m->value, row);
    if (!p)
        return fail_unknown_key(m->key);
    if (json_kind(&m->value) == JSON_KIND_ABSENT)
        return OK; /* null: as if it were not there */
    TRY(value_as_text(&m->value, p, text, sizeof(text)));
    TRY(spec_set(&row->spec, p, text));
    if (p->type == SPEC_SEED)
        row->has_seed = true;
out:
    return st;
}

static status read_object(struct rows *r, const struct json *j, struct row *row)
{
    struct json_value root = json_root(j);
    struct json_member m = { 0 };
    char image[SPEC_URL_MAX];
    status st = OK;

    if (json_kind(&root) != JSON_KIND_OBJECT)
        return FAIL(ERR_BADARG, "want an object: {\"image\": \"photo.jpg\", ...}");
    while (json_next(&root, &m))
        TRY(read_member(&m, row));
    if (!row->spec.image[0])
        TRY(FAIL(ERR_BADARG, "image: must be given"));
    memcpy(image, row->spec.image, sizeof(image));
    TRY(input_resolve(image, r->folder, row->spec.image, sizeof(row->spec.image)));
    TRY(spec_check(&row->spec));
out:
    return st;
}

status rows_read(struct rows *r, const struct job_spec *defaults, struct row *row)
{
    struct json j = { 0 };
    status st = OK;

    memset(row, 0, sizeof(*row));
    row->spec = *defaults;
    if (r->text.len > ROWS_LINE_MAX) {
        st = FAIL(ERR_BADARG, "longer than %zu bytes", ROWS_LINE_MAX);
        return fail_row(r, st);
    }
    TRY(json_parse(&j, "row", r->text.data, r->text.len));
    TRY(read_object(r, &j, row));
    json_free(&j);
    return OK;
out:
    json_free(&j);
    return fail_row(r, st);
}
