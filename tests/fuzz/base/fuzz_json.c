/* JSON from a checkpoint, a manifest or a row: what is accepted can be written, and reads back as
 * the same tree; every getter copes with every value. */
#include <math.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "tests/fuzz/fuzz.h"

static void write_value(struct json_writer *w, const struct json_value *v)
{
    struct json_member m = { 0 };
    const char *text = NULL;
    int64_t whole = 0;
    double real = 0;
    bool flag = false;

    switch (json_kind(v)) {
    case JSON_KIND_ABSENT:
        json_write_null(w);
        return;
    case JSON_KIND_OBJECT:
        CHECK(json_want_object(v) == OK);
        json_write_object(w);
        while (json_next(v, &m)) {
            json_write_key(w, m.key);
            write_value(w, &m.value);
        }
        json_write_end(w);
        return;
    case JSON_KIND_ARRAY:
        json_write_array(w);
        for (size_t i = 0; i < json_count(v); i++) {
            struct json_value element = json_at(v, i);

            write_value(w, &element);
        }
        json_write_end(w);
        return;
    case JSON_KIND_TEXT:
        CHECK(json_to_text(v, &text) == OK);
        json_write_text(w, text);
        return;
    case JSON_KIND_INT:
        CHECK(json_to_int(v, INT64_MIN, INT64_MAX, &whole) == OK);
        json_write_int(w, whole);
        return;
    case JSON_KIND_DOUBLE:
        CHECK(json_to_double(v, -HUGE_VAL, HUGE_VAL, &real) == OK);
        json_write_double(w, real);
        return;
    case JSON_KIND_BOOL:
        CHECK(json_to_bool(v, &flag) == OK);
        json_write_bool(w, flag);
        return;
    }
    CHECK(!"a value of no kind");
}

static void expect_equal(const struct json_value *a, const struct json_value *b);

static void expect_equal_members(const struct json_value *a, const struct json_value *b)
{
    struct json_member m = { 0 };

    CHECK(json_count(a) == json_count(b));
    while (json_next(a, &m)) {
        struct json_value other = json_find(b, m.key);

        expect_equal(&m.value, &other);
    }
    for (size_t i = 0; json_kind(a) == JSON_KIND_ARRAY && i < json_count(a); i++) {
        struct json_value left = json_at(a, i), right = json_at(b, i);

        expect_equal(&left, &right);
    }
}

/* 4.0 is written as 4, so a number may come back as the other kind, with the same value. */
static void expect_equal(const struct json_value *a, const struct json_value *b)
{
    const char *left = "", *right = "";
    double x = 0, y = 0;
    bool is_x = false, is_y = false;

    if (json_kind(a) == JSON_KIND_DOUBLE || json_kind(a) == JSON_KIND_INT) {
        CHECK(json_to_double(a, -HUGE_VAL, HUGE_VAL, &x) == OK);
        CHECK(json_to_double(b, -HUGE_VAL, HUGE_VAL, &y) == OK);
        CHECK(x == y);
        return;
    }
    CHECK(json_kind(a) == json_kind(b));
    if (json_to_text(a, &left) == OK) {
        CHECK(json_to_text(b, &right) == OK);
        CHECK(strcmp(left, right) == 0);
    }
    if (json_to_bool(a, &is_x) == OK)
        CHECK(json_to_bool(b, &is_y) == OK && is_x == is_y);
    expect_equal_members(a, b);
}

/* What the readers of configs ask for, of a value that may be anything. */
static void ask(const struct json_value *v)
{
    int64_t whole = -1, list[4];
    double real = -1;
    size_t count = 0;
    bool flag = false;
    const char *text = "kept";

    if (json_opt_int(v, "frames", 1, 100, &whole) == OK)
        CHECK(whole == -1 || (whole >= 1 && whole <= 100));
    if (json_opt_double(v, "scale", 0, 1, &real) == OK)
        CHECK(real == -1 || (real >= 0 && real <= 1));
    if (json_opt_text(v, "name", &text) == OK)
        CHECK(text);
    (void)(json_opt_bool(v, "flag", &flag) == OK);
    if (json_to_ints(v, 0, 9, list, 4, &count) == OK) {
        CHECK(count <= 4 && count == json_count(v));
        for (size_t i = 0; i < count; i++)
            CHECK(list[i] >= 0 && list[i] <= 9);
    }
}

FUZZ(json, 4 << 10)
{
    struct json j = { 0 }, back = { 0 };
    struct buf out = { 0 };
    struct json_value root, other;
    struct json_writer w = { .out = &out, .indent = len % 2 };

    if (json_parse(&j, "fuzz.json", (const char *)bytes, len) == OK) {
        root = json_root(&j);
        ask(&root);
        write_value(&w, &root);
        CHECK(json_write_finish(&w) == OK);
        CHECK(json_parse(&back, "back.json", out.data, out.len) == OK);
        other = json_root(&back);
        expect_equal(&root, &other);
    }
    json_free(&j);
    json_free(&back);
    buf_free(&out);
}
