/* Object addresses. Lines: endpoint, region, bucket, key, and anything for path_style. The address
 * is a URL, below the endpoint's host, whose path decodes to bucket and key. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/s3.h"
#include "tests/fuzz/fuzz.h"

static void expect_address(const struct s3 *s, const char *bucket, const char *key,
                           const char *text)
{
    char path[URL_ROOM], want_path[2 * URL_ROOM], want_host[2 * URL_HOST_ROOM];
    struct url u;

    CHECK(s3_is_bucket(bucket));
    CHECK(url_parse(&u, text) == OK);
    CHECK(u.scheme == s->endpoint.scheme && u.port == s->endpoint.port);
    CHECK(u.query[0] == '\0');
    snprintf(want_host, sizeof(want_host), "%s%s%s", s->path_style ? "" : bucket,
             s->path_style ? "" : ".", s->endpoint.host);
    CHECK(strcmp(u.host, want_host) == 0);
    CHECK(url_decode_path(&u, path, sizeof(path)) == OK);
    snprintf(want_path, sizeof(want_path), "/%s%s%s", s->path_style ? bucket : "",
             s->path_style ? "/" : "", key);
    CHECK(strcmp(path, want_path) == 0);
}

FUZZ_STORAGE(s3, 4 << 10)
{
    char *text = fuzz_text(bytes, len), *rest = text, *line[5];
    char address[URL_ROOM];
    struct s3_config config = { 0 };
    struct s3 s = { 0 };

    for (int i = 0; i < 5; i++)
        line[i] = rest ? strsep(&rest, "\n") : "";
    config.endpoint = line[0];
    config.region = line[1];
    config.path_style = line[4][0] != '\0';
    if (s3_open(&s, &config) == OK) {
        if (s3_address(&s, line[2], line[3], address, sizeof(address)) == OK)
            expect_address(&s, line[2], line[3], address);
    }
    s3_close(&s);
    free(text);
}
