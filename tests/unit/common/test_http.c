/* The client against tests/tool/httpd: answers, caps, retries, redirects, the address guard. */
#include "common/http.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

/* A server with "hello, world" at /x, a client that may talk to it, and a GET of /x. */
struct rig {
    struct httpd server;
    struct http client;
    struct http_request q;
    struct http_response r;
    char url[256];
};

static void point_to(struct rig *k, const char *path)
{
    snprintf(k->url, sizeof(k->url), "http://127.0.0.1:%d%s", k->server.port, path);
    k->q.url = k->url;
}

static void set_up(struct rig *k)
{
    const struct http_config c = { .allow_private_hosts = true, .backoff_ms = 1 };

    *k = (struct rig){ 0 };
    httpd_start(&k->server, &(struct httpd_config){ 0 });
    httpd_store(&k->server, "/x", "hello, world", 12);
    EXPECT_OK(http_open(&k->client, &c));
    point_to(k, "/x");
    k->q.method = HTTP_GET;
    k->q.response_bytes_max = 1000;
}

static void tear_down(struct rig *k)
{
    http_response_free(&k->r);
    http_close(&k->client);
    httpd_stop(&k->server);
}

static void fault(struct rig *k, enum httpd_fault_kind kind, int count)
{
    httpd_fault(&k->server, &(struct httpd_fault){ .kind = kind, .count = count });
}

static void answer(struct rig *k, int code, int count, const char *header)
{
    httpd_fault(&k->server,
                &(struct httpd_fault){
                    .kind = HTTPD_STATUS, .count = count, .code = code, .header = header });
}

static void expect_hello(struct rig *k)
{
    EXPECT_OK(http_do(&k->client, &k->q, &k->r));
    EXPECT_INT(k->r.code, 200);
    EXPECT_TEXT(k->r.body.data, "hello, world");
    EXPECT_INT(k->r.body_bytes, 12);
}

TEST(storage_get_head_and_put)
{
    struct rig k;
    struct buf stored = { 0 };

    set_up(&k);
    expect_hello(&k);
    EXPECT_INT(strlen(k.r.etag), 32);
    EXPECT_INT(k.r.tries, 1);
    k.q.method = HTTP_HEAD;
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_INT(k.r.body_bytes, 12);
    EXPECT_INT(k.r.body.len, 0);
    point_to(&k, "/new");
    k.q.method = HTTP_PUT;
    k.q.body = "some bytes";
    k.q.body_bytes = 10;
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_INT(k.r.code, 200);
    EXPECT(httpd_stored(&k.server, "/new", &stored));
    EXPECT_TEXT(stored.data, "some bytes");
    buf_free(&stored);
    tear_down(&k);
}

/* Two MiB: the client asks first (Expect: 100-continue), and sends from the file. */
TEST(storage_a_large_file_is_sent_and_received)
{
    struct rig k;
    struct buf stored = { .max_bytes = 4 << 20 };
    size_t len = 2 << 20;
    char *bytes = malloc(len), *back = malloc(len), path[512];
    int fd;

    EXPECT(bytes && back);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)test_random();
    snprintf(path, sizeof(path), "%s/large", test_tmpdir());
    fd = open(path, O_RDWR | O_CREAT, 0600);
    EXPECT(fd > 0 && write(fd, bytes, len) == (ssize_t)len);
    set_up(&k);
    point_to(&k, "/large");
    k.q.method = HTTP_PUT;
    k.q.body_fd = fd;
    k.q.body_bytes = len;
    fault(&k, HTTPD_LOST, 1); /* the second try must start from the beginning */
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_INT(k.r.tries, 2);
    EXPECT(httpd_stored(&k.server, "/large", &stored));
    EXPECT(stored.len == len && memcmp(stored.data, bytes, len) == 0);
    k.q.method = HTTP_GET;
    k.q.response_fd = fd;
    k.q.response_bytes_max = len;
    EXPECT(ftruncate(fd, 0) == 0);
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_INT(k.r.body_bytes, len);
    EXPECT(pread(fd, back, len, 0) == (ssize_t)len && memcmp(back, bytes, len) == 0);
    buf_free(&stored);
    free(bytes);
    free(back);
    close(fd);
    tear_down(&k);
}

TEST(storage_a_file_that_shrank_is_not_uploaded)
{
    struct rig k;
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/short", test_tmpdir());
    fd = open(path, O_RDWR | O_CREAT, 0600);
    EXPECT(fd > 0 && write(fd, "abc", 3) == 3);
    set_up(&k);
    point_to(&k, "/short");
    k.q.method = HTTP_PUT;
    k.q.body_fd = fd;
    k.q.body_bytes = 10;
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_IO);
    EXPECT_MESSAGE("shorter than it was");
    close(fd);
    tear_down(&k);
}

TEST(storage_what_may_pass_is_tried_again)
{
    static const int codes[] = { 408, 429, 500, 502, 503, 504 };
    static const enum httpd_fault_kind faults[] = { HTTPD_RESET, HTTPD_SHORT_BODY };
    struct rig k;

    set_up(&k);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        answer(&k, codes[i], 2, NULL);
        expect_hello(&k);
        EXPECT_INT(k.r.tries, 3);
    }
    /* libcurl itself repeats a request at once when a connection that it kept turns out closed: the
     * server sees three either way. */
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        int before = httpd_requests(&k.server);

        fault(&k, faults[i], 2);
        expect_hello(&k);
        EXPECT_INT(httpd_requests(&k.server) - before, 3);
    }
    tear_down(&k);
}

TEST(storage_what_stays_is_not_tried_again)
{
    static const struct {
        int code;
        status means;
    } rows[] = {
        { 400, ERR_BADARG },   { 401, ERR_BADARG },   { 403, ERR_BADARG }, { 404, ERR_NOTFOUND },
        { 409, ERR_CONFLICT }, { 412, ERR_CONFLICT }, { 501, ERR_BADARG }, { 507, ERR_FULL },
        { 301, ERR_BADARG },   { 304, ERR_BADARG },
    };
    struct rig k;

    set_up(&k);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char says[32];

        answer(&k, rows[i].code, 0, NULL);
        EXPECT_OK(http_do(&k.client, &k.q, &k.r));
        EXPECT_INT(k.r.code, rows[i].code);
        EXPECT_INT(k.r.tries, 1);
        EXPECT_STATUS(http_check(&k.q, &k.r), rows[i].means);
        snprintf(says, sizeof(says), "/x: GET answered %d", rows[i].code);
        EXPECT_MESSAGE(says);
    }
    tear_down(&k);
}

TEST(storage_tries_run_out)
{
    struct rig k;

    set_up(&k);
    answer(&k, 503, 0, NULL);
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("/x: answered 503 (5 tries)");
    EXPECT_INT(httpd_requests(&k.server), 5);
    fault(&k, HTTPD_RESET, 0);
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_UNAVAILABLE);
    tear_down(&k);
}

TEST(storage_nobody_listening_is_unavailable)
{
    struct rig k;

    set_up(&k);
    httpd_stop(&k.server);
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("http://127.0.0.1:");
    EXPECT_INT(k.r.tries, 5);
    tear_down(&k);
}

/* The wait that is asked for is waited when there is time, and ends the call when there is not. */
TEST(storage_retry_after_is_honoured)
{
    struct rig k;
    int64_t start_ms;

    set_up(&k);
    answer(&k, 503, 1, "Retry-After: 1");
    start_ms = clock_mono_ms();
    expect_hello(&k);
    EXPECT(clock_mono_ms() - start_ms >= 990);
    answer(&k, 429, 1, "Retry-After: 600");
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("429 (1 try)");
    tear_down(&k);
}

TEST(storage_an_answer_over_the_limit_is_refused)
{
    static const enum httpd_fault_kind kinds[] = { HTTPD_NO_FAULT, HTTPD_CHUNKED };
    struct rig k;
    char *big = calloc(1, 300000);

    EXPECT(big);
    set_up(&k);
    httpd_store(&k.server, "/big", big, 300000);
    point_to(&k, "/big");
    for (int i = 0; i < 2; i++) {
        fault(&k, kinds[i], 0);
        k.q.response_bytes_max = 299999;
        EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_BADARG);
        EXPECT_MESSAGE("more than 299999 bytes");
        EXPECT_INT(k.r.tries, 1);
        k.q.response_bytes_max = 300000;
        EXPECT_OK(http_do(&k.client, &k.q, &k.r));
        EXPECT_INT(k.r.body.len, 300000);
    }
    k.q.response_bytes_max = 11;
    point_to(&k, "/x");
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_BADARG);
    free(big);
    tear_down(&k);
}

/* A server that sends nothing, or almost nothing, holds us no longer than we allow. */
TEST(storage_a_deadline_ends_a_stall)
{
    static const enum httpd_fault_kind kinds[] = { HTTPD_STALL, HTTPD_TRICKLE };
    struct rig k;

    set_up(&k);
    for (int i = 0; i < 2; i++) {
        fault(&k, kinds[i], 0);
        k.q.timeout_ms = 300;
        EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_TIMEOUT);
        EXPECT_MESSAGE("no answer in time");
    }
    tear_down(&k);
}

TEST(storage_a_stall_is_tried_again_while_there_is_time)
{
    const struct http_config c = { .allow_private_hosts = true,
                                   .backoff_ms = 1,
                                   .stall_timeout_ms = 1000 };
    struct rig k;

    set_up(&k);
    http_close(&k.client);
    EXPECT_OK(http_open(&k.client, &c));
    fault(&k, HTTPD_TRICKLE, 1);
    expect_hello(&k);
    EXPECT_INT(k.r.tries, 2);
    tear_down(&k);
}

/* Cancels once the server has seen wanted requests. */
struct canceller {
    struct rig *k;
    int wanted;
    atomic_bool flag;
};

static bool has_seen_them(void *self)
{
    struct canceller *c = self;

    return httpd_requests(&c->k->server) >= c->wanted;
}

static void *cancel_when_seen(void *self)
{
    struct canceller *c = self;

    EXPECT(clock_wait_for(has_seen_them, c, 20000));
    atomic_store(&c->flag, true);
    return NULL;
}

static void expect_cancelled(struct rig *k, int wanted)
{
    struct canceller c = { .k = k, .wanted = wanted };
    pthread_t thread;

    k->q.cancel = &c.flag;
    EXPECT_INT(pthread_create(&thread, NULL, cancel_when_seen, &c), 0);
    EXPECT_STATUS(http_do(&k->client, &k->q, &k->r), ERR_CANCELLED);
    EXPECT_MESSAGE("cancelled");
    pthread_join(thread, NULL);
}

TEST(storage_a_flag_cancels_a_stall_and_a_wait)
{
    struct rig k;

    set_up(&k);
    fault(&k, HTTPD_STALL, 0);
    expect_cancelled(&k, 1);
    answer(&k, 503, 0, "Retry-After: 30");
    expect_cancelled(&k, 2);
    tear_down(&k);
}

TEST(storage_redirects_are_followed_three_times)
{
    struct rig k;
    char to[256];

    set_up(&k);
    httpd_redirect(&k.server, "/a", "/b"); /* relative */
    snprintf(to, sizeof(to), "http://127.0.0.1:%d/c", k.server.port);
    httpd_redirect(&k.server, "/b", to);
    httpd_redirect(&k.server, "/c", "/x");
    httpd_redirect(&k.server, "/d", "/a");
    point_to(&k, "/a");
    k.q.follow_redirects = true;
    expect_hello(&k);
    point_to(&k, "/d");
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_BADARG);
    EXPECT_MESSAGE("more than 3 redirects");
    k.q.follow_redirects = false;
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_INT(k.r.code, 302);
    EXPECT_STATUS(http_check(&k.q, &k.r), ERR_BADARG);
    tear_down(&k);
}

TEST(storage_redirects_to_elsewhere_are_refused)
{
    static const char *const targets[] = {
        "file:///etc/passwd", "ftp://h/x", "gopher://h/", "http://me:pw@h/", "s3://bucket/key",
    };
    struct rig k;

    set_up(&k);
    k.q.follow_redirects = true;
    point_to(&k, "/away");
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        httpd_redirect(&k.server, "/away", targets[i]);
        EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_BADARG);
        EXPECT_MESSAGE("redirects to something that is not an http(s) URL");
        EXPECT_INT(k.r.tries, 1);
    }
    tear_down(&k);
}

/* --- the guard ------------------------------------------------------------------------------ */

static const struct {
    const char *text;
    bool is_public;
} addresses[] = {
    { "0.0.0.0", false },
    { "10.1.2.3", false },
    { "100.64.0.1", false },
    { "100.127.255.255", false },
    { "127.0.0.1", false },
    { "127.255.255.255", false },
    { "169.254.169.254", false },
    { "172.16.0.1", false },
    { "172.31.255.255", false },
    { "192.0.0.8", false },
    { "192.0.2.1", false },
    { "192.88.99.1", false },
    { "192.168.0.1", false },
    { "198.18.0.1", false },
    { "198.19.255.255", false },
    { "198.51.100.1", false },
    { "203.0.113.9", false },
    { "224.0.0.1", false },
    { "239.255.255.255", false },
    { "240.0.0.1", false },
    { "255.255.255.255", false },
    { "8.8.8.8", true },
    { "9.255.255.255", true },
    { "11.0.0.0", true },
    { "100.63.255.255", true },
    { "100.128.0.0", true },
    { "172.15.255.255", true },
    { "172.32.0.0", true },
    { "192.167.255.255", true },
    { "198.17.255.255", true },
    { "198.20.0.0", true },
    { "223.255.255.255", true },
    { "::", false },
    { "::1", false },
    { "::ffff:8.8.8.8", false },
    { "::ffff:127.0.0.1", false },
    { "64:ff9b::808:808", false },
    { "fc00::1", false },
    { "fdff::1", false },
    { "fe80::1", false },
    { "fec0::1", false },
    { "ff02::1", false },
    { "2001::1", false },
    { "2001:1ff:ffff::", false },
    { "2001:db8::1", false },
    { "2002:7f00:1::", false },
    { "3fff:fff::1", false },
    { "4000::1", false },
    { "2001:200::1", true },
    { "2001:4860:4860::8888", true },
    { "2606:4700::1", true },
    { "3fff:1000::1", true },
};

TEST(storage_private_addresses_are_told_from_public_ones)
{
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        struct sockaddr_in in4 = { .sin_family = AF_INET };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
        bool is_4 = inet_pton(AF_INET, addresses[i].text, &in4.sin_addr) == 1;
        bool got;

        EXPECT(is_4 || inet_pton(AF_INET6, addresses[i].text, &in6.sin6_addr) == 1);
        got = is_4 ? http_address_is_public(&in4, sizeof(in4))
                   : http_address_is_public(&in6, sizeof(in6));
        if (got != addresses[i].is_public)
            test_fail(__FILE__, __LINE__, "%s is %spublic", addresses[i].text, got ? "" : "not ");
    }
    EXPECT(!http_address_is_public(&(struct sockaddr_in){ .sin_family = AF_UNIX },
                                   sizeof(struct sockaddr_in)));
    EXPECT(!http_address_is_public(&(struct sockaddr_in){ .sin_family = AF_INET }, 4));
}

/* The server counts requests: none may reach it. localhost is a name, which only resolving
 * unmasks. */
TEST(storage_a_guarded_client_does_not_reach_this_machine)
{
    static const char *const hosts[] = { "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]" };
    struct rig k;

    set_up(&k);
    http_close(&k.client);
    EXPECT_OK(http_open(&k.client, &(struct http_config){ 0 }));
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        snprintf(k.url, sizeof(k.url), "http://%s:%d/x", hosts[i], k.server.port);
        EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_BADARG);
        EXPECT_MESSAGE("not public");
        EXPECT_INT(k.r.tries, 1);
    }
    EXPECT_INT(httpd_requests(&k.server), 0);
    tear_down(&k);
}

/* With a proxy the guard would see the proxy's address only; the variable must be ignored. */
TEST(storage_a_proxy_in_the_environment_is_ignored)
{
    struct rig k;
    struct httpd proxy;
    char url[64];

    set_up(&k);
    httpd_start(&proxy, &(struct httpd_config){ 0 });
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", proxy.port);
    setenv("http_proxy", url, 1);
    setenv("ALL_PROXY", url, 1);
    expect_hello(&k);
    EXPECT_INT(httpd_requests(&proxy), 0);
    httpd_stop(&proxy);
    tear_down(&k);
}

TEST(storage_other_schemes_are_refused)
{
    static const char *const urls[] = { "file:///etc/passwd", "s3://bucket/key", "ftp://h/x", "x" };
    struct rig k;

    set_up(&k);
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        k.q.url = urls[i];
        EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_BADARG);
    }
    http_close(&k.client);
    EXPECT_OK(http_open(&k.client, &(struct http_config){ .https_only = true }));
    point_to(&k, "/x");
    EXPECT_STATUS(http_do(&k.client, &k.q, &k.r), ERR_BADARG);
    EXPECT_MESSAGE("want https://");
    tear_down(&k);
}

TEST(storage_a_missing_ca_file_is_said_at_once)
{
    struct http h;

    EXPECT_STATUS(http_open(&h, &(struct http_config){ .ca_file = "no/such.pem" }), ERR_BADARG);
    EXPECT_MESSAGE("no/such.pem");
    http_close(&h);
}

/* --- signatures ----------------------------------------------------------------------------- */

/* The verifier itself, against the example in AWS's documentation ("GET Object" with a Range). */
TEST(storage_the_verifier_agrees_with_the_published_example)
{
    struct httpd_signed r = {
        .method = "GET",
        .target = "/test.txt",
        .headers =
            "Host: examplebucket.s3.amazonaws.com\r\nRange: bytes=0-9\r\n"
            "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            "\r\nx-amz-date: 20130524T000000Z\r\n"
            "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
            "aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n\r\n",
        .body_hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        .access_key = "AKIAIOSFODNN7EXAMPLE",
        .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        .region = "us-east-1",
    };

    EXPECT_TEXT(httpd_check_signature(&r), NULL);
    r.target = "/test.txu";
    EXPECT_TEXT(httpd_check_signature(&r), "SignatureDoesNotMatch");
    r.target = "/test.txt";
    r.secret_key = "another";
    EXPECT_TEXT(httpd_check_signature(&r), "SignatureDoesNotMatch");
}

TEST(storage_signed_requests_are_accepted_and_others_refused)
{
    static const char wrong_sha256[] =
        "00000000000000000000000000000000000000000000000000000000deadbeef";
    struct sigv4_signer sign = {
        .access_key = "AKID", .secret_key = "secret", .region = "eu-west-3", .service = "s3"
    };
    struct rig k;

    set_up(&k);
    httpd_stop(&k.server);
    httpd_start(&k.server, &(struct httpd_config){ .access_key = "AKID",
                                                   .secret_key = "secret",
                                                   .region = "eu-west-3" });
    httpd_store(&k.server, "/x", "hello, world", 12);
    httpd_store(&k.server, "/b/run%3D7/a%20b", "hello, world", 12);
    point_to(&k, "/x");
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_INT(k.r.code, 403);
    EXPECT_STATUS(http_check(&k.q, &k.r), ERR_BADARG);
    EXPECT_MESSAGE("MissingContentSha256");
    k.q.sign = &sign;
    expect_hello(&k);
    k.q.method = HTTP_HEAD;
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_INT(k.r.code, 200);
    k.q.method = HTTP_GET;
    point_to(&k, "/b/run%3D7/a%20b");
    expect_hello(&k);
    sign.secret_key = "Secret";
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_STATUS(http_check(&k.q, &k.r), ERR_BADARG);
    EXPECT_MESSAGE("SignatureDoesNotMatch");
    EXPECT(!strstr(status_message(), "Secret"));
    sign.secret_key = "secret";
    k.q.method = HTTP_PUT;
    k.q.body = "other bytes";
    k.q.body_bytes = 11;
    k.q.body_sha256_hex = wrong_sha256;
    EXPECT_OK(http_do(&k.client, &k.q, &k.r));
    EXPECT_STATUS(http_check(&k.q, &k.r), ERR_BADARG);
    EXPECT_MESSAGE("XAmzContentSHA256Mismatch");
    tear_down(&k);
}
