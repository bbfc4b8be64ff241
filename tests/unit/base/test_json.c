#include "common/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "tests/tool/test.h"

static struct json_value parse(struct json *j, const char *text)
{
    EXPECT_OK(json_parse(j, "unet/config.json", text, strlen(text)));
    return json_root(j);
}

TEST(values_are_read_by_type)
{
    struct json j = { 0 };
    struct json_value v = parse(&j, "{\"i\": -3, \"d\": 0.18215, \"e\": 1e3, \"b\": true, "
                                    "\"t\": \"gelu \\u00e9\", \"n\": null, \"a\": [1, 2, 3]}");
    int64_t i = 0, ints[3];
    double d = 0;
    bool b = false;
    const char *t = NULL;
    size_t count = 0;
    struct json_value a = json_find(&v, "a");

    EXPECT_OK(json_get_int(&v, "i", -10, 10, &i));
    EXPECT_INT(i, -3);
    EXPECT_OK(json_get_double(&v, "d", 0, 1, &d));
    EXPECT(d == 0.18215);
    EXPECT_OK(json_get_double(&v, "i", -10, 10, &d));
    EXPECT(d == -3.0);
    EXPECT_OK(json_get_bool(&v, "b", &b));
    EXPECT(b);
    EXPECT_OK(json_get_text(&v, "t", &t));
    EXPECT_TEXT(t, "gelu \xc3\xa9");
    EXPECT_OK(json_to_ints(&a, 0, 9, ints, 3, &count));
    EXPECT(count == 3 && ints[0] == 1 && ints[2] == 3);
    EXPECT_INT(json_count(&v), 7);
    EXPECT_INT(json_count(&a), 3);
    EXPECT_INT(json_kind(&a), JSON_KIND_ARRAY);
    json_free(&j);
    json_free(&j);
}

TEST(a_wrong_value_is_named_with_its_place)
{
    struct json j = { 0 };
    struct json_value v = parse(&j, "{\"num_frames\": \"14\", \"blocks\": [{\"heads\": 5}, "
                                    "{\"heads\": 2.5}], \"half\": 0.5, \"sizes\": [1, \"x\"]}");
    struct json_value blocks = json_find(&v, "blocks"), second = json_at(&blocks, 1);
    struct json_value third = json_at(&blocks, 2), sizes = json_find(&v, "sizes");
    int64_t i = 77, ints[2];
    double d = 77;
    size_t count = 77;

    EXPECT_STATUS(json_get_int(&v, "num_frames", 1, 100, &i), ERR_CORRUPT);
    EXPECT_TEXT(status_message(), "unet/config.json: num_frames is a text, want a whole number");
    EXPECT_STATUS(json_get_int(&second, "heads", 1, 100, &i), ERR_CORRUPT);
    EXPECT_TEXT(status_message(), "unet/config.json: blocks[1].heads is a number with a fraction, "
                                  "want a whole number");
    EXPECT_STATUS(json_get_int(&third, "heads", 1, 100, &i), ERR_CORRUPT);
    EXPECT_TEXT(status_message(),
                "unet/config.json: blocks[2].heads is missing, want a whole number");
    EXPECT_STATUS(json_get_double(&v, "half", 1, 2, &d), ERR_CORRUPT);
    EXPECT_TEXT(status_message(), "unet/config.json: half is 0.5, want 1 to 2");
    EXPECT_STATUS(json_to_ints(&sizes, 0, 9, ints, 2, &count), ERR_CORRUPT);
    EXPECT_TEXT(status_message(), "unet/config.json: sizes[1] is a text, want a whole number");
    EXPECT_STATUS(json_to_ints(&sizes, 0, 9, ints, 1, &count), ERR_CORRUPT);
    EXPECT_TEXT(status_message(), "unet/config.json: sizes has 2 elements, want 0 to 1");
    EXPECT_STATUS(json_want_array(&v, 0, 9), ERR_CORRUPT);
    EXPECT_STATUS(json_want_object(&blocks), ERR_CORRUPT);
    EXPECT(i == 77 && d == 77 && count == 77);
    json_free(&j);
}

TEST(an_absent_optional_value_keeps_the_default)
{
    struct json j = { 0 };
    struct json_value v = parse(&j, "{\"n\": null, \"i\": 4, \"t\": \"x\"}");
    int64_t i = 9;
    double d = 0.5;
    bool b = true;
    const char *t = "y";

    EXPECT_OK(json_opt_int(&v, "n", 0, 10, &i));
    EXPECT_OK(json_opt_double(&v, "none", 0, 1, &d));
    EXPECT_OK(json_opt_bool(&v, "none", &b));
    EXPECT_OK(json_opt_text(&v, "n", &t));
    EXPECT(i == 9 && d == 0.5 && b && strcmp(t, "y") == 0);
    EXPECT_OK(json_opt_int(&v, "i", 0, 10, &i));
    EXPECT_INT(i, 4);
    EXPECT_STATUS(json_opt_int(&v, "i", 0, 3, &i), ERR_CORRUPT);
    EXPECT_STATUS(json_opt_bool(&v, "t", &b), ERR_CORRUPT);
    EXPECT_STATUS(json_opt_double(&v, "t", 0, 1, &d), ERR_CORRUPT);
    EXPECT_STATUS(json_opt_text(&v, "i", &t), ERR_CORRUPT);
    json_free(&j);
}

TEST(members_come_in_the_order_of_the_file)
{
    struct json j = { 0 };
    struct json_value v = parse(&j, "{\"z\": 1, \"a\": {\"k\": 2}, \"m\": null}");
    struct json_member m = { 0 };
    int64_t i = 0;

    EXPECT(json_next(&v, &m));
    EXPECT_TEXT(m.key, "z");
    EXPECT_OK(json_to_int(&m.value, 1, 1, &i));
    EXPECT(json_next(&v, &m));
    EXPECT_TEXT(m.key, "a");
    EXPECT_TEXT(m.value.path, "unet/config.json: a");
    EXPECT_OK(json_get_int(&m.value, "k", 2, 2, &i));
    EXPECT(json_next(&v, &m));
    EXPECT_TEXT(m.key, "m");
    EXPECT_INT(json_kind(&m.value), JSON_KIND_ABSENT);
    EXPECT(!json_next(&v, &m));
    v = json_find(&v, "z");
    m = (struct json_member){ 0 };
    EXPECT(!json_next(&v, &m));
    json_free(&j);
}

TEST(what_is_not_strict_json_is_refused)
{
    static const char *const bad[] = {
        "",
        "{",
        "{\"a\": 1",
        "{\"a\": 1,}",
        "{\"a\": 1} x",
        "{\"a\": 1, \"a\": 2}",
        "{a: 1}",
        "{\"a\": 01}",
        "{\"a\": NaN}",
        "{\"a\": 1e999}",
        "{\"a\": 99999999999999999999}",
        "{\"a\": \"\\u0000\"}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\xc0\x80\"}",
        "{\"a\": \"\xff\"}",
        "{\"a\": \"tab\there\"}",
        "// c\n{}",
        "7",
    };
    struct json j = { 0 };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        printf("%s\n", bad[i]);
        EXPECT_STATUS(json_parse(&j, "x.json", bad[i], strlen(bad[i])), ERR_CORRUPT);
        EXPECT_MESSAGE("x.json: line ");
        json_free(&j);
    }
    EXPECT_STATUS(json_parse(&j, "x.json", "{}\0", 3), ERR_CORRUPT);
}

TEST(depth_is_limited_before_the_parser_recurses)
{
    struct json j = { 0 };
    size_t len = 1000000;
    char *text = malloc(len);
    char fits[JSON_DEPTH_MAX * 2 + 3] = "";
    const char *quoted = "[\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]";

    EXPECT(text != NULL);
    memset(text, '[', len);
    EXPECT_STATUS(json_parse(&j, "deep", text, len), ERR_CORRUPT);
    EXPECT_MESSAGE("deep: nested deeper than 32 levels");
    free(text);
    memset(fits, '[', JSON_DEPTH_MAX);
    memset(fits + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    EXPECT_OK(json_parse(&j, "fits", fits, strlen(fits)));
    json_free(&j);
    memset(fits, '[', JSON_DEPTH_MAX + 1);
    memset(fits + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    EXPECT_STATUS(json_parse(&j, "deep", fits, strlen(fits)), ERR_CORRUPT);
    /* Brackets inside a text are no levels, and neither is what follows an escaped quote. */
    EXPECT_OK(json_parse(&j, "text", quoted, strlen(quoted)));
    json_free(&j);
}

TEST(a_file_is_opened_by_name)
{
    struct json j = { 0 };
    char path[FILE_PATH_BYTES];
    struct json_value v;

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "x.json"));
    EXPECT_STATUS(json_open_file(&j, path), ERR_NOTFOUND);
    EXPECT_MESSAGE("x.json: no such file");
    EXPECT_OK(file_write_atomic(path, "[1]", 3));
    EXPECT_OK(json_open_file(&j, path));
    v = json_root(&j);
    EXPECT_OK(json_want_array(&v, 1, 1));
    json_free(&j);
}

TEST(a_long_name_keeps_its_end)
{
    struct json j = { 0 };
    char name[600];
    struct json_value v;

    memset(name, 'd', sizeof(name));
    snprintf(name + 580, 20, "/config.json");
    EXPECT_OK(json_parse(&j, name, "{}", 2));
    v = json_root(&j);
    EXPECT_STATUS(json_want_array(&v, 0, 1), ERR_CORRUPT);
    EXPECT_MESSAGE("d/config.json: is an object, want an array");
    json_free(&j);
}

static void write_sample(struct json_writer *w)
{
    json_write_object(w);
    json_write_key(w, "frames");
    json_write_int(w, 14);
    json_write_key(w, "empty");
    json_write_array(w);
    json_write_end(w);
    json_write_key(w, "list");
    json_write_array(w);
    json_write_bool(w, true);
    json_write_null(w);
    json_write_text(w, NULL);
    json_write_object(w);
    json_write_key(w, "s");
    json_write_double(w, 0.1);
    json_write_end(w);
    json_write_end(w);
    json_write_end(w);
}

TEST(a_document_is_written_compact_or_indented)
{
    struct buf b = { 0 };
    struct json_writer w = { .out = &b }, indented = { .out = &b, .indent = true };

    write_sample(&w);
    EXPECT_OK(json_write_finish(&w));
    EXPECT_TEXT(b.data, "{\"frames\":14,\"empty\":[],\"list\":[true,null,null,{\"s\":0.1}]}");
    buf_reset(&b);
    write_sample(&indented);
    EXPECT_OK(json_write_finish(&indented));
    EXPECT_TEXT(b.data, "{\n  \"frames\": 14,\n  \"empty\": [],\n  \"list\": [\n    true,\n"
                        "    null,\n    null,\n    {\n      \"s\": 0.1\n    }\n  ]\n}\n");
    buf_free(&b);
}

TEST(texts_are_escaped_and_made_utf8)
{
    struct buf b = { 0 };
    struct json_writer w = { .out = &b };

    json_write_text(&w, "q\" b\\ n\n t\t e\x1b d\x7f \xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x88 "
                        "bad: \xff \xc3( \xed\xa0\x80 \xc0\xaf \xe2\x82");
    EXPECT_OK(json_write_finish(&w));
    EXPECT_TEXT(b.data,
                "\"q\\\" b\\\\ n\\n t\\t e\\u001b d\\u007f \xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x88 "
                "bad: \xef\xbf\xbd \xef\xbf\xbd( \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
                "\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\"");
    buf_free(&b);
}

/* Each is a sequence that looks like UTF-8 until its second byte (RFC 3629 section 4). */
TEST(near_misses_of_utf8_are_replaced)
{
    static const char *const bad[] = {
        "\xe0\x9f\xbf",     /* overlong U+07FF */
        "\xed\xa0\x80",     /* surrogate U+D800 */
        "\xf0\x8f\xbf\xbf", /* overlong U+FFFF */
        "\xf4\x90\x80\x80", /* U+110000 */
        "\xf5\x80\x80\x80", /* no such first byte */
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf b = { 0 };
        struct json_writer w = { .out = &b };

        json_write_text(&w, bad[i]);
        EXPECT_OK(json_write_finish(&w));
        EXPECT_INT(b.len, 2 + 3 * strlen(bad[i])); /* quotes, and a U+FFFD per byte */
        buf_free(&b);
    }
}

TEST(any_bytes_read_back_as_valid_json)
{
    for (int round = 0; round < 2000; round++) {
        struct buf b = { 0 };
        struct json_writer w = { .out = &b };
        struct json j = { 0 };
        char text[33] = "";

        for (size_t i = 0; i < test_random() % 32; i++)
            text[i] = (char)(test_random() % 255 + 1);
        json_write_array(&w);
        json_write_text(&w, text);
        json_write_end(&w);
        EXPECT_OK(json_write_finish(&w));
        EXPECT_OK(json_parse(&j, "round trip", b.data, b.len));
        json_free(&j);
        buf_free(&b);
    }
}

static const char *number(struct buf *b, double value)
{
    struct json_writer w = { .out = b };

    buf_reset(b);
    json_write_double(&w, value);
    EXPECT_OK(json_write_finish(&w));
    return b->data;
}

TEST(numbers_are_short_and_exact)
{
    struct buf b = { 0 };
    struct json_writer w = { .out = &b };

    EXPECT_TEXT(number(&b, 0.1), "0.1");
    EXPECT_TEXT(number(&b, 1.0), "1");
    EXPECT_TEXT(number(&b, -0.0), "-0");
    EXPECT_TEXT(number(&b, 1.0 / 3), "0.3333333333333333");
    EXPECT_TEXT(number(&b, 5e-324), "5e-324");
    EXPECT_TEXT(number(&b, 1e300), "1e+300");
    for (int i = 0; i < 10000; i++) {
        double x = ldexp(test_normal(), (int)(test_random() % 600) - 300);

        EXPECT(strtod(number(&b, x), NULL) == x);
    }
    json_write_double(&w, NAN);
    EXPECT_STATUS(json_write_finish(&w), ERR_BADARG);
    w = (struct json_writer){ .out = &b };
    json_write_double(&w, INFINITY);
    EXPECT_STATUS(json_write_finish(&w), ERR_BADARG);
    buf_reset(&b);
    w = (struct json_writer){ .out = &b };
    json_write_int(&w, INT64_MIN);
    EXPECT_OK(json_write_finish(&w));
    EXPECT_TEXT(b.data, "-9223372036854775808");
    buf_free(&b);
}

TEST(a_full_buffer_is_reported_at_the_end)
{
    struct buf b = { .max_bytes = 10 };
    struct json_writer w = { .out = &b };

    write_sample(&w);
    EXPECT_STATUS(json_write_finish(&w), ERR_FULL);
    EXPECT_MESSAGE("limited to 10 bytes");
    buf_free(&b);
}
