#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/input.h"
#include "client/rows.h"
#include "common/base/limits.h"
#include "tests/tool/test.h"

static const char jpeg[] = "\xff\xd8\xff\xe0 not much of one";

/* A file in the test's folder. */
static const char *write_file(const char *name, const void *bytes, size_t len)
{
    static char path[FILE_PATH_BYTES];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), name));
    EXPECT_OK(file_write_atomic(path, bytes, len));
    return path;
}

static void open_rows(struct rows *r, const char *text)
{
    write_file("a b.jpg", jpeg, sizeof(jpeg));
    EXPECT_OK(rows_open(r, write_file("jobs.jsonl", text, strlen(text))));
}

/* The first row of a manifest with this text. */
static status read_first(const char *text, struct row *row)
{
    struct rows r = { 0 };
    struct job_spec defaults;
    bool has_row;
    status st;

    spec_init(&defaults);
    open_rows(&r, text);
    EXPECT_OK(rows_next(&r, &has_row));
    EXPECT(has_row);
    st = rows_read(&r, &defaults, row);
    rows_close(&r);
    return st;
}

TEST(rows_set_every_type)
{
    struct row row;

    EXPECT_OK(read_first(
        "{\"image\": \"a b.jpg\", \"fps\": 12, \"noise_aug\": 0.5, \"steps\": null,"
        " \"guidance_min\": 2, \"sampler\": \"euler\", \"seed\": \"18446744073709551615\","
        " \"labels\": {\"project\": \"birds\", \"take\": \"2\"}, \"key\": \"k1\"}\n",
        &row));
    EXPECT(strncmp(row.spec.image, "file:///", 8) == 0);
    EXPECT(strstr(row.spec.image, "/a%20b.jpg"));
    EXPECT_INT(row.spec.fps, 12);
    EXPECT_NEAR(row.spec.noise_aug, 0.5, 0);
    EXPECT_NEAR(row.spec.guidance_min, 2, 0);
    EXPECT_INT(row.spec.sampler, SPEC_EULER);
    EXPECT(row.has_seed && row.spec.seed == UINT64_MAX);
    EXPECT_TEXT(row.spec.labels, "project=birds,take=2");
    EXPECT_TEXT(row.key, "k1");
    EXPECT_OK(read_first("{\"image\": \"https://h.example/x.png\"}", &row));
    EXPECT_TEXT(row.spec.image, "https://h.example/x.png");
    EXPECT(!row.has_seed);
    EXPECT_TEXT(row.key, "");
}

TEST(rows_refuse_with_file_and_line)
{
    static const struct {
        const char *text;
        status code;
        const char *sentence;
    } cases[] = {
        { "{\"image\": \"a b.jpg\", \"fsp\": 3}", ERR_BADARG,
          "jobs.jsonl:1: unknown key \"fsp\"; did you mean \"fps\"?" },
        { "{\"image\": \"a b.jpg\", \"zebra\": 3}", ERR_BADARG, "unknown key \"zebra\"; `onestep" },
        { "\n\n{\"image\": \"a b.jpg\", \"fps\": 500}", ERR_BADARG,
          "jobs.jsonl:3: fps: 500 is outside 1..120" },
        { "{\"image\": \"a b.jpg\", \"fps\": \"12\"}", ERR_BADARG,
          "fps: want a number without quotes" },
        { "{\"image\": \"a b.jpg\", \"fps\": 12.5}", ERR_BADARG, "fps: want an integer" },
        { "{\"image\": \"a b.jpg\", \"fps\": true}", ERR_BADARG, "fps: want a number" },
        { "{\"image\": \"a b.jpg\", \"fps\": [1]}", ERR_BADARG, "fps: want a number" },
        { "{\"image\": \"a b.jpg\", \"model\": {}}", ERR_BADARG, "model: want a single value" },
        { "{\"image\": \"a b.jpg\", \"sampler\": 1}", ERR_BADARG, "sampler: want a text" },
        { "{\"image\": \"a b.jpg\", \"labels\": {\"a\": \"b,c\"}}", ERR_BADARG,
          "labels: keys and values must be texts without" },
        { "{\"image\": \"a b.jpg\", \"labels\": \"ab\"}", ERR_BADARG, "labels: \"ab\" is not" },
        { "{\"image\": \"a b.jpg\", \"key\": \"\"}", ERR_BADARG, "key: 0 bytes" },
        { "{\"image\": \"a b.jpg\", \"key\": 5}", ERR_BADARG, "key: want a text" },
        { "{\"image\": \"a b.jpg\", \"width\": 64}", ERR_BADARG, "give both or neither" },
        { "{\"fps\": 3}", ERR_BADARG, "jobs.jsonl:1: image: must be given" },
        { "{\"image\": \"none.jpg\"}", ERR_NOTFOUND, "none.jpg: no such file" },
        { "{\"image\": \"jobs.jsonl\"}", ERR_CORRUPT, "jobs.jsonl: not an image" },
        { "[1]", ERR_BADARG, "want an object" },
        { "{\"image\": ", ERR_CORRUPT, "jobs.jsonl:1: " },
        { "{\"fps\": 1, \"fps\": 2}", ERR_CORRUPT, "jobs.jsonl:1: " },
        { "{} {}", ERR_CORRUPT, "jobs.jsonl:1: " },
    };
    struct row row;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rows r = { 0 };
        struct job_spec defaults;
        bool has_row;

        spec_init(&defaults);
        open_rows(&r, cases[i].text);
        EXPECT_OK(rows_next(&r, &has_row));
        EXPECT(has_row);
        EXPECT_STATUS(rows_read(&r, &defaults, &row), cases[i].code);
        EXPECT_MESSAGE(cases[i].sentence);
        rows_close(&r);
    }
}

/* One bad row does not hide the next, and a line without end is cut, not swallowed whole. */
TEST(rows_go_on_after_a_bad_one)
{
    struct rows r = { 0 };
    struct buf text = { 0 };
    struct job_spec defaults;
    struct row row;
    bool has_row;

    spec_init(&defaults);
    EXPECT_OK(buf_append_text(&text, "{\"image\": \""));
    for (size_t i = 0; i < 3 * ROWS_LINE_MAX; i += 8)
        EXPECT_OK(buf_append_text(&text, "xxxxxxxx"));
    EXPECT_OK(buf_append_text(&text, "\"}\nnonsense\n  \r\n{\"image\": \"a b.jpg\"}"));
    open_rows(&r, text.data);
    EXPECT_OK(rows_next(&r, &has_row));
    EXPECT_STATUS(rows_read(&r, &defaults, &row), ERR_BADARG);
    EXPECT_MESSAGE("jobs.jsonl:1: longer than 65536 bytes");
    EXPECT(r.text.capacity <= 4 * ROWS_LINE_MAX);
    EXPECT_OK(rows_next(&r, &has_row));
    EXPECT_STATUS(rows_read(&r, &defaults, &row), ERR_CORRUPT);
    EXPECT_MESSAGE("jobs.jsonl:2: ");
    EXPECT_OK(rows_next(&r, &has_row));
    EXPECT_OK(rows_read(&r, &defaults, &row));
    EXPECT_INT(r.line, 4);
    EXPECT_OK(rows_next(&r, &has_row));
    EXPECT(!has_row);
    rows_close(&r);
    buf_free(&text);
}

TEST(rows_need_a_file)
{
    struct rows r = { 0 };

    EXPECT_STATUS(rows_open(&r, "/nonexistent/jobs.jsonl"), ERR_NOTFOUND);
    EXPECT_MESSAGE("/nonexistent/jobs.jsonl");
    rows_close(&r);
}

TEST(input_urls_pass_and_files_are_looked_at)
{
    static const struct {
        const char *text;
        status code;
        const char *sentence;
    } cases[] = {
        { "", ERR_BADARG, "image: empty" },
        { "ftp://h/x.jpg", ERR_BADARG, "scheme ftp is not known" },
        { "https://user:pw@h.example/x.jpg", ERR_BADARG, "" },
        { "none.jpg", ERR_NOTFOUND, "none.jpg: no such file" },
        { ".", ERR_BADARG, "a folder; name the photographs in it" },
        { "empty.jpg", ERR_CORRUPT, "empty.jpg: not an image; give a JPEG" },
        { "text.jpg", ERR_CORRUPT, "text.jpg: not an image" },
        { "huge.jpg", ERR_BADARG, "the limit for a photograph is" },
        { "fifo", ERR_BADARG, "not a regular file" },
    };
    char url[SPEC_URL_MAX], path[FILE_PATH_BYTES];

    write_file("empty.jpg", "", 0);
    write_file("text.jpg", "once upon a time", 16);
    EXPECT(truncate(write_file("huge.jpg", jpeg, sizeof(jpeg)), (off_t)LIMIT_IMAGE_BYTES + 1) == 0);
    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "fifo"));
    EXPECT(mkfifo(path, 0600) == 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_STATUS(input_resolve(cases[i].text, test_tmpdir(), url, sizeof(url)), cases[i].code);
        EXPECT_MESSAGE(cases[i].sentence);
    }
    EXPECT_OK(input_resolve("s3://bucket/a/b.jpg", "", url, sizeof(url)));
    EXPECT_TEXT(url, "s3://bucket/a/b.jpg");
    EXPECT_OK(
        input_resolve(write_file("\xc3\xa4 %.jpg", jpeg, sizeof(jpeg)), "", url, sizeof(url)));
    EXPECT(strstr(url, "/%C3%A4%20%25.jpg"));
}

TEST(input_knows_formats_by_content)
{
    EXPECT_TEXT(input_format((const unsigned char *)"\x89PNG\r\n\x1a\n", 8), "png");
    EXPECT_TEXT(input_format((const unsigned char *)"RIFF\0\0\0\0WEBP", 12), "webp");
    EXPECT_TEXT(input_format((const unsigned char *)"MM\0*", 4), "tiff");
    EXPECT_TEXT(input_format((const unsigned char *)"GIF89a", 6), "gif");
    EXPECT(input_format((const unsigned char *)"\x89PNG\r\n\x1a\n", 7) == NULL);
    EXPECT(input_format((const unsigned char *)"RIFF\0\0\0\0WAVE", 12) == NULL);
    EXPECT(input_format((const unsigned char *)"", 0) == NULL);
}

TEST(input_stem_is_a_plain_word)
{
    static const struct {
        const char *text, *stem;
    } cases[] = {
        { "photos/IMG 1.jpg", "IMG-1" },
        { "cat.tar.png", "cat-tar" },
        { "https://h/x/dog.webp?a=b/c.d", "dog" },
        { ".hidden", "hidden" },
        { "\xc3\xa4.jpg", "x" },
        { "a/b/", "b" },
        { "--..--", "x" },
        { "", "x" },
    };
    char stem[64];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        input_stem(cases[i].text, stem, sizeof(stem));
        EXPECT_TEXT(stem, cases[i].stem);
    }
    input_stem(
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        stem, sizeof(stem));
    EXPECT_INT(strlen(stem), 60);
    input_stem("abcdef", stem, 4);
    EXPECT_TEXT(stem, "abc");
}
