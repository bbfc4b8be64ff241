#include "common/s3.h"

#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "tests/tool/test.h"

static const char *address(const struct s3_config *c, const char *bucket, const char *key)
{
    static char text[URL_ROOM];
    struct s3 s;

    EXPECT_OK(s3_open(&s, c));
    EXPECT_OK(s3_address(&s, bucket, key, text, sizeof(text)));
    s3_close(&s);
    return text;
}

TEST(storage_objects_have_addresses)
{
    struct s3_config c = { 0 };

    EXPECT_TEXT(address(&c, "clips", "a/b.mp4"),
                "https://clips.s3.us-east-1.amazonaws.com/a/b.mp4");
    c.region = "eu-west-3";
    EXPECT_TEXT(address(&c, "clips", "k"), "https://clips.s3.eu-west-3.amazonaws.com/k");
    c.endpoint = "http://minio.lan:9000";
    EXPECT_TEXT(address(&c, "clips", "k"), "http://clips.minio.lan:9000/k");
    c.path_style = true;
    EXPECT_TEXT(address(&c, "clips", "run=7/a b"), "http://minio.lan:9000/clips/run%3D7/a%20b");
    c.endpoint = "http://[::1]:9000/";
    EXPECT_TEXT(address(&c, "clips", "k"), "http://[::1]:9000/clips/k");
}

TEST(storage_bad_settings_are_named)
{
    static const struct {
        struct s3_config c;
        const char *says;
    } rows[] = {
        { { .endpoint = "minio.lan" }, "not a URL" },
        { { .endpoint = "file:///x" }, "s3_endpoint" },
        { { .endpoint = "http://h/path" }, "no path" },
        { { .credentials = { .access_key = "a" } }, "AWS_SECRET_ACCESS_KEY" },
        { { .credentials = { .secret_key = "b" } }, "AWS_ACCESS_KEY_ID" },
        { { .region = "eu west" }, "s3_region" },
    };
    struct s3_config by_address = { .endpoint = "http://127.0.0.1:9000" };
    struct s3 s;
    char text[URL_ROOM];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        EXPECT_STATUS(s3_open(&s, &rows[i].c), ERR_BADARG);
        EXPECT_MESSAGE(rows[i].says);
    }
    EXPECT_OK(s3_open(&s, &by_address));
    EXPECT_STATUS(s3_address(&s, "clips", "k", text, sizeof(text)), ERR_BADARG);
    EXPECT_MESSAGE("s3_path_style");
    EXPECT_STATUS(s3_address(&s, "Clips", "k", text, sizeof(text)), ERR_BADARG);
    EXPECT_MESSAGE("not a bucket");
}

TEST(storage_buckets_have_rules)
{
    static const char *const good[] = { "abc", "a.b-c", "0a9", "clips-2026.example.com" };
    static const char *const bad[] = {
        "",
        "ab",
        "-ab",
        "ab-",
        ".ab",
        "ab.",
        "a..b",
        "a.-b",
        "a-.b",
        "Abc",
        "a_b",
        "a/b",
        "a b",
        "a123456789012345678901234567890123456789012345678901234567890"
        "12345"
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        EXPECT(s3_is_bucket(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        EXPECT(!s3_is_bucket(bad[i]));
}
