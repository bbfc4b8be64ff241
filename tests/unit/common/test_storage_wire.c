/* Requests as they look on the wire, before a verifier that shares nothing with the signer: the 27
 * that libcurl's own signer was measured with, most of which it got wrong, and their neighbours.
 *
 *   row                                    test
 *   1-11, 12-20, 22-25                     storage_every_kind_of_request_is_signed_right, by number
 *   1, 2  a digest in every request        storage_a_digest_and_a_date_are_sent_once
 *   21    X-Amz-Date of the caller's own   storage_a_digest_and_a_date_are_sent_once
 *   26    Expect:, sent or suppressed      storage_expect_is_never_signed
 *   27    a body from a pipe               storage_a_body_without_a_length_is_not_sent
 * What the canonical form of each is, is test_sigv4.c's, against AWS and botocore. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/http.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

static const struct sigv4_signer who = { "AK:ID", "s:e/c+r=t", "to/k+en==", "eu-west-3", "s3" };

static void open_both(struct httpd *d, struct http *client)
{
    httpd_start(d, &(struct httpd_config){ .access_key = who.access_key,
                                           .secret_key = who.secret_key,
                                           .session_token = who.session_token,
                                           .region = who.region,
                                           .ignores_sha256 = true });
    EXPECT_OK(http_open(client, &(struct http_config){ .allow_private_hosts = true }));
}

static void close_both(struct httpd *d, struct http *client)
{
    http_close(client);
    httpd_stop(d);
}

/* Do it, and have it accepted. */
static void ask(struct http *client, struct http_request *q, const char *what)
{
    struct http_response r = { 0 };

    q->response_bytes_max = 10000;
    q->sign = &who;
    EXPECT_OK(http_do(client, q, &r));
    if (r.code == 400 || r.code == 403)
        test_fail(__FILE__, __LINE__, "%s: answered %d %s", what, r.code,
                  r.body.len ? r.body.data : "");
    http_response_free(&r);
}

TEST(storage_every_kind_of_request_is_signed_right)
{
    static const char sha256[] = "c2b2e3ee0a6d1d3cb8ab5ba1c6a3df2c"
                                 "d1cbb6cc4f0c2aee1b8a0a8bc0a1f3c1"; /* any: it is not compared */
    static const struct {
        int row; /* of the table; 0: a neighbour */
        enum http_method method;
        const char *target, *headers[4], *payload;
    } rows[] = {
        { 1, HTTP_GET, "/b/plain", { NULL }, NULL },
        { 2, HTTP_GET, "/b/plain", { NULL }, sha256 },
        { 3, HTTP_PUT, "/b/file", { NULL }, NULL },
        { 4, HTTP_PUT, "/b/file", { NULL }, sha256 },
        { 5, HTTP_PUT, "/b/unsigned-body", { NULL }, SIGV4_UNSIGNED },
        { 6, HTTP_POST, "/b/key?uploads", { NULL }, NULL },
        { 7, HTTP_POST, "/b/key?uploads=", { NULL }, NULL },
        { 8, HTTP_GET, "/b/?partNumber=1&uploadId=x", { NULL }, NULL },
        { 9, HTTP_GET, "/b/?uploadId=x&partNumber=1", { NULL }, NULL },
        { 10, HTTP_GET, "/b/?prefix=%2B~%3D", { NULL }, NULL },
        { 10, HTTP_GET, "/b/?uploadId=%2B~%3D&partNumber=1", { NULL }, NULL },
        { 11, HTTP_GET, "/b/?uploadId=a/b==&partNumber=1", { NULL }, NULL },
        { 0, HTTP_GET, "/b/?prefix=a/b==&a-=1&a=2", { NULL }, NULL },
        { 12, HTTP_PUT, "/b/a%20b", { NULL }, NULL },
        { 13, HTTP_PUT, "/b/run=7/seed=42", { NULL }, NULL },
        { 14, HTTP_PUT, "/b/run%3D7", { NULL }, NULL },
        { 15, HTTP_PUT, "/b/a:b", { NULL }, NULL },
        { 0, HTTP_PUT, "/b/a:b+c", { NULL }, NULL },
        { 16, HTTP_PUT, "/b/%e2%82%ac", { NULL }, NULL },
        { 0, HTTP_PUT, "/b//a/../b/.", { NULL }, NULL },
        { 17, HTTP_PUT, "/b/m", { "x-amz-meta-seed: 1", "x-amz-meta-seed-hi: 2" }, NULL },
        { 17, HTTP_PUT, "/b/m", { "x-amz-meta-seed-hi: 2", "x-amz-meta-seed: 1" }, NULL },
        { 18,
          HTTP_PUT,
          "/b/k",
          { "x-amz-server-side-encryption: aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id: k" },
          NULL },
        { 19, HTTP_PUT, "/b/new", { "If-None-Match: *" }, NULL },
        { 20, HTTP_GET, "/b/token", { NULL }, NULL }, /* as all here: who has one */
        { 22, HTTP_PUT, "/b/blanks", { "x-amz-meta-p:  a  b " }, NULL },
        { 23, HTTP_PUT, "/b/empty", { "x-amz-meta-p:" }, NULL },
        { 24, HTTP_PUT, "/b/twice", { "x-amz-meta-p: b", "x-amz-meta-p: a" }, NULL },
        { 25, HTTP_PUT, "/b/typed", { "x-amz-checksum-sha256: x=", "Content-Type: a/b" }, NULL },
        { 0, HTTP_HEAD, "/b/file", { NULL }, NULL },
        { 0, HTTP_DELETE, "/b/file", { NULL }, NULL },
    };
    unsigned seen = 0;
    struct httpd d;
    struct http client;

    open_both(&d, &client);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char url[256];
        struct http_request q = { .method = rows[i].method,
                                  .url = url,
                                  .body = "some bytes",
                                  .body_bytes = 10,
                                  .body_sha256_hex = rows[i].payload };

        snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", d.port, rows[i].target);
        memcpy(q.headers, rows[i].headers, sizeof(rows[i].headers));
        ask(&client, &q, rows[i].target);
        seen |= 1u << rows[i].row;
    }
    /* 21, 26 and 27 have tests of their own. */
    EXPECT_INT(seen | 1u << 21 | 1u << 26 | 1u << 27, (1u << 28) - 1);
    close_both(&d, &client);
}

/* How often is a header called name in head? */
static int count(const char *head, const char *name)
{
    int n = 0;

    for (const char *at = head; (at = strcasestr(at, name)); at += strlen(name))
        n += at[-1] == '\n';
    return n;
}

TEST(storage_a_digest_and_a_date_are_sent_once)
{
    struct httpd d;
    struct http client;
    struct http_response r = { 0 };
    char url[128], head[8192];
    struct http_request q = { .method = HTTP_GET, .url = url };

    open_both(&d, &client);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/b/k", d.port);
    ask(&client, &q, url);
    httpd_last_head(&d, head, sizeof(head));
    EXPECT_INT(count(head, "x-amz-date:"), 1);
    EXPECT_INT(count(head, "x-amz-content-sha256:"), 1);
    EXPECT_INT(count(head, "x-amz-security-token:"), 1);
    EXPECT_INT(count(head, "authorization:"), 1);
    q.headers[0] = "X-Amz-Date: 20130524T000000Z";
    EXPECT_STATUS(http_do(&client, &q, &r), ERR_BADARG);
    EXPECT_MESSAGE("the signer sends itself");
    EXPECT_INT(httpd_requests(&d), 1);
    http_response_free(&r);
    close_both(&d, &client);
}

/* Small bodies are sent without asking, large ones ask; the signature covers neither. */
TEST(storage_expect_is_never_signed)
{
    enum { SMALL = 1000, LARGE = 17 << 20 };
    static const size_t sizes[] = { SMALL, LARGE };
    struct httpd d;
    struct http client;
    char path[FILE_PATH_BYTES], url[128], head[8192];

    open_both(&d, &client);
    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "body"));
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/b/k", d.port);
    for (size_t i = 0; i < 2; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct http_request q = { .method = HTTP_PUT,
                                  .url = url,
                                  .body_fd = fd,
                                  .body_bytes = sizes[i],
                                  .body_sha256_hex = SIGV4_UNSIGNED };

        EXPECT(fd >= 0 && ftruncate(fd, (off_t)sizes[i]) == 0);
        ask(&client, &q, url);
        httpd_last_head(&d, head, sizeof(head));
        EXPECT_INT(count(head, "expect:"), sizes[i] == LARGE);
        EXPECT(!strstr(strcasestr(head, "signedheaders="), "expect;"));
        close(fd);
    }
    close_both(&d, &client);
}

/* S3 wants a length, and a retry its body again: what cannot be read twice is refused. */
TEST(storage_a_body_without_a_length_is_not_sent)
{
    struct httpd d;
    struct http client;
    char url[128];
    int ends[2];
    struct http_response r = { 0 };
    struct http_request q = { .method = HTTP_PUT,
                              .url = url,
                              .body_bytes = 10,
                              .body_sha256_hex = SIGV4_UNSIGNED,
                              .sign = &who };

    open_both(&d, &client);
    EXPECT(pipe(ends) == 0 && write(ends[1], "0123456789", 10) == 10);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/b/k", d.port);
    q.body_fd = ends[0];
    EXPECT_STATUS(http_do(&client, &q, &r), ERR_IO);
    EXPECT_MESSAGE("the file being uploaded");
    EXPECT_INT(httpd_requests(&d), 0);
    EXPECT(!httpd_stored(&d, "/b/k", NULL));
    http_response_free(&r);
    close(ends[0]);
    close(ends[1]);
    close_both(&d, &client);
}
