/* Requests to be signed. Lines: method, URL, and headers. A request is refused or signed; then its
 * canonical URL is signed to the same, so that signing changes nothing any more, and a presigned
 * URL holds what it should. */
#include <stdlib.h>
#include <string.h>

#include "common/sigv4.h"
#include "tests/fuzz/fuzz.h"

static const struct sigv4_signer who = { "AKID", "secret", "token", "us-east-1", "s3" };

static void sign_again(struct sigv4_request *q, const struct sigv4_signed *first)
{
    static struct sigv4_signed second;
    struct url u;

    CHECK(strspn(first->url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
                             ":%?&=[]") == strlen(first->url));
    if (strlen(first->url) >= URL_ROOM - 1)
        return;
    CHECK(url_parse(&u, first->url) == OK);
    q->url = &u;
    CHECK(sigv4_sign(NULL, &who, q, &second) == OK);
    CHECK(strcmp(first->url, second.url) == 0);
    CHECK(strcmp(first->authorization, second.authorization) == 0);
}

FUZZ_STORAGE(sigv4, 8 << 10)
{
    static struct sigv4_signed out;
    static char presigned[SIGV4_URL_ROOM];
    struct sigv4_cache cache = { { 0 }, { 0 } };
    char *text = fuzz_text(bytes, len), *rest = text;
    const char *method = strsep(&rest, "\n"), *address = rest ? strsep(&rest, "\n") : "";
    const char *headers[SIGV4_HEADERS_MAX + 8] = { NULL };
    struct url u;
    struct sigv4_request q = {
        .method = method, .url = &u, .headers = headers, .wall_ms = 1700000000000
    };
    status st = url_parse(&u, address);

    for (int i = 0; rest && i < SIGV4_HEADERS_MAX + 7; i++)
        headers[i] = strsep(&rest, "\n");
    if (st == OK && (u.scheme == URL_HTTP || u.scheme == URL_HTTPS)) {
        st = sigv4_sign(&cache, &who, &q, &out);
        CHECK(st == OK || st == ERR_BADARG || st == ERR_FULL);
        if (st == OK)
            sign_again(&q, &out);
        q.url = &u;
        st = sigv4_presign(&cache, &who, &q, 60, presigned, sizeof(presigned));
        CHECK(st == OK || st == ERR_BADARG || st == ERR_FULL);
        CHECK(st != OK || strstr(presigned, "&X-Amz-Signature="));
    }
    free(text);
}
