#include "common/url.h"

#include <string.h>

#include "tests/tool/test.h"

static const struct {
    const char *text;
    enum url_scheme scheme;
    const char *host;
    int port;
    const char *path, *query;
} good[] = {
    { "http://Example.COM", URL_HTTP, "example.com", 80, "/", "" },
    { "https://h.example:8443/a/b%20c?x=1&y=/?", URL_HTTPS, "h.example", 8443, "/a/b%20c",
      "x=1&y=/?" },
    { "https://h?q", URL_HTTPS, "h", 443, "/", "q" },
    { "http://192.0.2.7/x", URL_HTTP, "192.0.2.7", 80, "/x", "" },
    { "http://[2001:DB8::1]:81/", URL_HTTP, "2001:db8::1", 81, "/", "" },
    { "http://my_minio.internal./", URL_HTTP, "my_minio.internal.", 80, "/", "" },
    { "http://3com.example/", URL_HTTP, "3com.example", 80, "/", "" },
    { "file:///data/in/a%20b.jpg", URL_FILE, "", 0, "/data/in/a%20b.jpg", "" },
    { "file://localhost/x", URL_FILE, "", 0, "/x", "" },
    { "file://./out/x", URL_FILE, "", 0, "./out/x", "" },
    { "s3://bucket/run=7/seed.png", URL_S3, "bucket", 0, "/run=7/seed.png", "" },
    { "s3://bucket", URL_S3, "bucket", 0, "/", "" },
};

TEST(storage_good_urls_fall_into_their_parts)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct url u;

        EXPECT_OK(url_parse(&u, good[i].text));
        EXPECT_INT(u.scheme, good[i].scheme);
        EXPECT_TEXT(u.host, good[i].host);
        EXPECT_INT(u.port, good[i].port);
        EXPECT_TEXT(u.path, good[i].path);
        EXPECT_TEXT(u.query, good[i].query);
    }
}

/* Each with a word of its sentence. */
static const struct {
    const char *text, *says;
} bad[] = {
    { "", "not a URL" },
    { "photo.jpg", "not a URL" },
    { "/etc/passwd", "not a URL" },
    { "http:/x", "not a URL" },
    { "ftp://h/x", "unknown scheme" },
    { "HTTP://h/x", "unknown scheme" },
    { "javascript://h/x", "unknown scheme" },
    { "http://", "valid host" },
    { "http:///x", "valid host" },
    { "http://user:secret@h/x", "user name" },
    { "http://a@b@h/", "user name" },
    { "http://h\\@evil/", "URL; escape" },
    { "http://h/a b", "space" },
    { "http://h/a\nb", "space" },
    { "http://h/\xc3\xa9", "ASCII" },
    { "http://h/%", "two hexadecimal" },
    { "http://h/%4", "two hexadecimal" },
    { "http://h/%zz", "two hexadecimal" },
    { "http://h/#top", "fragment" },
    { "http://h:/", "valid port" },
    { "http://h:0/", "valid port" },
    { "http://h:65536/", "valid port" },
    { "http://h:80x/", "valid port" },
    { "http://h:000080/", "valid port" },
    { "http://-h/", "valid host" },
    { "http://h-/", "valid host" },
    { "http://h..x/", "valid host" },
    { "http://h%2e/", "valid host" },
    { "http://2130706433/", "valid host" },
    { "http://0x7f000001/", "valid host" },
    { "http://127.1/", "valid host" },
    { "http://127.0.0.0x1/", "valid host" },
    { "http://0177.0.0.1/", "valid host" },
    { "http://1.2.3.4.5/", "valid host" },
    { "http://1.2.3.4./", "valid host" },
    { "http://[::1/", "bracket" },
    { "http://[::1]x/", "valid port" },
    { "http://[fe80::1%25eth0]/", "valid host" },
    { "http://[1.2.3.4]/", "valid host" },
    { "file://host/x", "host in a file URL" },
    { "file://", "no path" },
    { "file:///x?y", "%3F" },
    { "s3:///key", "no bucket" },
    { "s3://bucket/key?x", "%3F" },
};

TEST(storage_bad_urls_are_refused_with_a_reason)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct url u;
        status st;

        status_clear();
        st = url_parse(&u, bad[i].text);
        if (st != ERR_BADARG || !strstr(status_message(), bad[i].says))
            test_fail(__FILE__, __LINE__, "%s: %s \"%s\", want \"%s\"", bad[i].text,
                      status_name(st), status_message(), bad[i].says);
    }
}

TEST(storage_a_url_that_is_too_long_is_refused)
{
    char text[URL_ROOM + 100] = "http://h/", again[URL_ROOM];
    struct url u;

    memset(text + 9, 'x', sizeof(text) - 10);
    EXPECT_STATUS(url_parse(&u, text), ERR_BADARG);
    EXPECT_MESSAGE("limit");
    text[URL_ROOM - 1] = '\0';
    EXPECT_OK(url_parse(&u, text));
    /* Without a path, one character is kept for its "/". */
    memcpy(text, "http://h?", 9);
    EXPECT_STATUS(url_parse(&u, text), ERR_BADARG);
    text[URL_ROOM - 2] = '\0';
    EXPECT_OK(url_parse(&u, text));
    EXPECT_OK(url_format(&u, again, sizeof(again)));
    EXPECT_OK(url_parse(&u, again));
}

TEST(storage_a_path_that_has_a_url_has_a_good_one)
{
    char path[URL_ROOM], text[URL_ROOM];
    struct url u;

    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[URL_ROOM - sizeof("file://")] = '\0';
    EXPECT_OK(url_from_path(path, text, sizeof(text)));
    EXPECT_INT(strlen(text), URL_ROOM - 1);
    EXPECT_OK(url_parse(&u, text));
}

/* A password or a signature must not reach a log through a sentence. */
TEST(storage_secrets_stay_out_of_sentences)
{
    struct url u;
    char shown[64];

    EXPECT_STATUS(url_parse(&u, "http://me:hunter2@h/x y"), ERR_BADARG);
    EXPECT(!strstr(status_message(), "hunter2"));
    EXPECT_STATUS(url_parse(&u, "http://h/x y?X-Amz-Signature=abc"), ERR_BADARG);
    EXPECT(!strstr(status_message(), "abc"));
    EXPECT_TEXT(url_for_people("https://u:p@h/path?sig=1", shown, sizeof(shown)),
                "https://***@h/path");
    EXPECT_TEXT(url_for_people("a\x1b[2Jb", shown, sizeof(shown)), "a?[2Jb");
    EXPECT_TEXT(url_for_people("https://h/0123456789", shown, 16), "https://h/01...");
}

TEST(storage_formatting_is_the_reverse_of_parsing)
{
    static const char *const texts[] = {
        "http://h/",     "https://h:8443/a?b=c", "http://[2001:db8::1]:81/x",
        "s3://bucket/k", "file:///a/b",          "file://./a",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct url u;
        char text[URL_ROOM];

        EXPECT_OK(url_parse(&u, texts[i]));
        EXPECT_OK(url_format(&u, text, sizeof(text)));
        EXPECT_TEXT(text, texts[i]);
        EXPECT_STATUS(url_format(&u, text, strlen(texts[i])), ERR_BADARG);
    }
}

TEST(storage_paths_are_escaped_and_back)
{
    struct url u;
    char text[64], url[128];

    EXPECT_OK(url_encode_path("run=7/a b+c~\xc3\xa9", text, sizeof(text)));
    EXPECT_TEXT(text, "run%3D7/a%20b%2Bc~%C3%A9");
    EXPECT_STATUS(url_encode_path("a b", text, 5), ERR_BADARG);
    EXPECT_OK(url_encode_path("a b", text, 6));
    EXPECT_OK(url_from_path("/in/100% #1?.jpg", url, sizeof(url)));
    EXPECT_TEXT(url, "file:///in/100%25%20%231%3F.jpg");
    EXPECT_OK(url_parse(&u, url));
    EXPECT_OK(url_decode_path(&u, text, sizeof(text)));
    EXPECT_TEXT(text, "/in/100% #1?.jpg");
    EXPECT_OK(url_from_path("./x", url, sizeof(url)));
    EXPECT_TEXT(url, "file://./x");
    EXPECT_STATUS(url_from_path("", url, sizeof(url)), ERR_BADARG);
    EXPECT_OK(url_parse(&u, "s3://bucket/a%3Db"));
    EXPECT_OK(url_decode_path(&u, text, sizeof(text)));
    EXPECT_TEXT(text, "a=b");
    EXPECT_OK(url_parse(&u, "file:///a%00b"));
    EXPECT_STATUS(url_decode_path(&u, text, sizeof(text)), ERR_BADARG);
    EXPECT_OK(url_parse(&u, "file:///abcdef"));
    EXPECT_STATUS(url_decode_path(&u, text, 7), ERR_BADARG);
    EXPECT_OK(url_decode_path(&u, text, 8));
}
