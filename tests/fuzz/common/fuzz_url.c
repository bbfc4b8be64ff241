/* A URL from a stranger: what is accepted can be written, and reads back as the same; a path can be
 * escaped and comes back; what is shown to people holds no query. */
#include <stdlib.h>
#include <string.h>

#include "common/url.h"
#include "tests/fuzz/fuzz.h"

static void expect_equal(const struct url *a, const struct url *b)
{
    CHECK(a->scheme == b->scheme && a->port == b->port && a->host_is_ipv6 == b->host_is_ipv6);
    CHECK(strcmp(a->host, b->host) == 0);
    CHECK(strcmp(a->path, b->path) == 0);
    CHECK(strcmp(a->query, b->query) == 0);
}

/* What a user of the parser may rely on. */
static void expect_sane(const struct url *u)
{
    bool has_host = u->scheme != URL_FILE;

    CHECK(u->scheme != URL_NONE);
    CHECK((u->host[0] != '\0') == has_host);
    CHECK(u->path[0] == '/' || (u->scheme == URL_FILE && u->path[0] == '.'));
    /* A bucket's other characters are checked where it is used, by s3_is_bucket. */
    CHECK(!strpbrk(u->host, u->scheme == URL_S3 ? "/?#@\\ " : "/?#@\\ %"));
    CHECK(u->host_is_ipv6 || !has_host || u->scheme == URL_S3 || !strpbrk(u->host, "[]"));
    CHECK((u->port >= 1 && u->port <= 65535) == (u->scheme == URL_HTTP || u->scheme == URL_HTTPS));
}

static void carry(const struct url *u)
{
    char text[URL_ROOM], path[URL_ROOM], again[URL_ROOM];
    struct url back;

    CHECK(url_format(u, text, sizeof(text)) == OK);
    CHECK(url_parse(&back, text) == OK);
    expect_equal(u, &back);
    if (url_decode_path(u, path, sizeof(path)) != OK)
        return;
    if (url_encode_path(path, back.path + (u->scheme == URL_S3), sizeof(back.path) - 1) != OK)
        return;
    CHECK(url_decode_path(&back, again, sizeof(again)) == OK);
    CHECK(strcmp(path, again) == 0);
}

static void carry_path(const char *path)
{
    char text[URL_ROOM], again[URL_ROOM];
    struct url u;

    if (url_from_path(path, text, sizeof(text)) != OK)
        return;
    CHECK(url_parse(&u, text) == OK);
    CHECK(u.scheme == URL_FILE);
    CHECK(url_decode_path(&u, again, sizeof(again)) == OK);
    if (path[0] != '/' && strncmp(path, "./", 2) != 0)
        CHECK(strncmp(again, "./", 2) == 0 && strcmp(again + 2, path) == 0);
    else
        CHECK(strcmp(again, path) == 0);
}

FUZZ_STORAGE(url, 2200)
{
    char *text = fuzz_text(bytes, len);
    char shown[48], tiny[8];
    struct url u;

    if (url_parse(&u, text) == OK) {
        expect_sane(&u);
        carry(&u);
        CHECK(!strchr(url_for_people(text, shown, sizeof(shown)), '?'));
    }
    CHECK(strlen(url_for_people(text, tiny, sizeof(tiny))) < sizeof(tiny));
    carry_path(text);
    free(text);
}
