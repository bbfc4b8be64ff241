/* A video on its way to the address that its user gave, with a server there that goes wrong. */
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"
#include "worker/handover.h"

#define QUERY "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=s3cr3t"
#define BYTES 100000

struct rig {
    struct httpd there;
    struct handover h;
    char url[128], path[FILE_PATH_BYTES], bytes[BYTES];
    uint8_t sha256[DIGEST_BYTES];
    struct handover_file file;
    atomic_bool cancel;
};

static void set_up(struct rig *k)
{
    memset(k, 0, sizeof(*k));
    httpd_start(&k->there, &(struct httpd_config){ 0 });
    snprintf(k->url, sizeof(k->url), "http://127.0.0.1:%d/u/clip.mp4" QUERY, k->there.port);
    EXPECT_OK(file_join(k->path, sizeof(k->path), test_tmpdir(), "clip.mp4"));
    for (size_t i = 0; i < BYTES; i++)
        k->bytes[i] = (char)test_random();
    EXPECT_OK(file_write_atomic(k->path, k->bytes, BYTES));
    EXPECT_OK(digest_sha256(k->bytes, BYTES, k->sha256));
    k->file = (struct handover_file){ k->path, "video/mp4", k->sha256 };
    EXPECT_OK(handover_open(&k->h, &(struct handover_config){ .allow_private_hosts = true }));
}

static void tear_down(struct rig *k)
{
    handover_close(&k->h);
    httpd_stop(&k->there);
}

static status put(struct rig *k)
{
    return handover_put(&k->h, k->url, &k->file, &k->cancel);
}

static void fault(struct rig *k, const struct httpd_fault *f)
{
    httpd_fault(&k->there, f);
}

/* One PUT with length and type, unsigned by us, to the address as it was given. */
TEST(storage_handover_is_one_plain_put)
{
    struct rig k;
    struct buf there = { .max_bytes = 1 << 20 };
    char head[4096];

    set_up(&k);
    EXPECT_OK(put(&k));
    EXPECT_INT(httpd_requests(&k.there), 1);
    EXPECT(httpd_stored(&k.there, "/u/clip.mp4" QUERY, &there));
    EXPECT(there.len == BYTES && memcmp(there.data, k.bytes, BYTES) == 0);
    httpd_last_head(&k.there, head, sizeof(head));
    EXPECT(strncmp(head, "PUT /u/clip.mp4" QUERY " HTTP/1.1\r\n", 17 + strlen(QUERY)) == 0);
    EXPECT(strstr(head, "Content-Length: 100000\r\n") &&
           strstr(head, "Content-Type: video/mp4\r\n"));
    EXPECT(!strstr(head, "Authorization") && !strstr(head, "Transfer-Encoding"));
    EXPECT(!strstr(head, "Expect"));
    buf_free(&there);
    tear_down(&k);
}

/* Signature Version 2 covers the type, which whoever signed did not know. */
TEST(storage_handover_adds_nothing_to_an_old_signature)
{
    struct rig k;
    char head[4096];

    set_up(&k);
    snprintf(k.url, sizeof(k.url),
             "http://127.0.0.1:%d/u/clip.mp4?AWSAccessKeyId=A&Signature=s%%3D&Expires=1",
             k.there.port);
    EXPECT_OK(put(&k));
    httpd_last_head(&k.there, head, sizeof(head));
    EXPECT(!strstr(head, "Content-Type"));
    tear_down(&k);
}

/* What passes is tried again: 503, a reset, an answer that was lost. */
TEST(storage_handover_survives_passing_faults)
{
    static const struct httpd_fault kinds[] = {
        { .kind = HTTPD_STATUS, .code = 503, .count = 1 },
        { .kind = HTTPD_RESET, .count = 1 },
        { .kind = HTTPD_LOST, .count = 1 },
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct rig k;
        struct buf there = { .max_bytes = 1 << 20 };

        set_up(&k);
        fault(&k, &kinds[i]);
        EXPECT_OK(put(&k));
        EXPECT_INT(httpd_requests(&k.there), 2);
        EXPECT(httpd_stored(&k.there, "/u/clip.mp4" QUERY, &there) && there.len == BYTES);
        buf_free(&there);
        tear_down(&k);
    }
}

/* What stays is said once, in words, and without the signature. */
TEST(storage_handover_refusals_are_told_without_the_query)
{
    static const struct {
        struct httpd_fault fault;
        status st;
        const char *words;
    } rows[] = {
        { { .kind = HTTPD_STATUS, .code = 403, .error = "ExpiredToken" }, ERR_BADARG, "403" },
        { { .kind = HTTPD_STATUS, .code = 400 }, ERR_BADARG, "400" },
        { { .kind = HTTPD_STATUS, .code = 404 }, ERR_NOTFOUND, "404" },
        { { .kind = HTTPD_STATUS, .code = 412 }, ERR_CONFLICT, "412" },
        { { .kind = HTTPD_STATUS, .code = 501 }, ERR_BADARG, "501" },
        { { .kind = HTTPD_STATUS, .code = 307, .header = "Location: http://127.0.0.1:1/x" },
          ERR_BADARG,
          "redirect" },
        { { .kind = HTTPD_WRONG_ETAG }, ERR_IO, "other bytes arrived" },
    };
    struct rig k;

    set_up(&k);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int before = httpd_requests(&k.there);

        fault(&k, &rows[i].fault);
        EXPECT_STATUS(put(&k), rows[i].st);
        EXPECT_INT(httpd_requests(&k.there) - before, 1);
        EXPECT_MESSAGE(rows[i].words);
        EXPECT(strncmp(status_message(), "put_url: ", 9) == 0);
        EXPECT(!strstr(status_message(), "s3cr3t") && !strstr(status_message(), "X-Amz"));
        printf("# %s\n", status_message());
    }
    tear_down(&k);
}

/* An ETag is not the MD5 where a key service keeps the key. */
TEST(storage_handover_knows_etags_of_other_encryption)
{
    struct rig k;

    set_up(&k);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_WRONG_ETAG,
                                     .header = "x-amz-server-side-encryption: aws:kms" });
    EXPECT_OK(put(&k));
    tear_down(&k);
}

TEST(storage_handover_ends_when_cancelled_or_nobody_listens)
{
    struct rig k;

    set_up(&k);
    atomic_store(&k.cancel, true);
    EXPECT_STATUS(put(&k), ERR_CANCELLED);
    atomic_store(&k.cancel, false);
    httpd_stop(&k.there);
    EXPECT_STATUS(put(&k), ERR_UNAVAILABLE);
    EXPECT(!strstr(status_message(), "s3cr3t"));
    tear_down(&k);
}

TEST(storage_handover_does_not_send_a_file_that_changed)
{
    struct rig k;

    set_up(&k);
    k.sha256[0] ^= 1;
    EXPECT_STATUS(put(&k), ERR_CORRUPT);
    EXPECT_INT(httpd_requests(&k.there), 0);
    tear_down(&k);
}

/* The address is a stranger's: what an input may not name, it may not name either. */
TEST(storage_handover_is_guarded_like_inputs)
{
    static const char *const hosts[] = { "127.0.0.1",       "localhost",  "169.254.169.254",
                                         "10.0.0.1",        "[::1]",      "[::ffff:127.0.0.1]",
                                         "[fd00:ec2::254]", "192.168.0.1" };
    static const char *const bad[] = { "ftp://h.example/x", "s3://bucket/x",
                                       "file:///tmp/x",     "https://u:p@h.example/x",
                                       "http://0x7f.1/x",   "http://2130706433/x",
                                       "https://h/a b",     "nonsense" };
    struct rig k;

    set_up(&k);
    handover_close(&k.h);
    EXPECT_OK(handover_open(&k.h, &(struct handover_config){ .allow_private_hosts = false }));
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        snprintf(k.url, sizeof(k.url), "http://%s:80/x" QUERY, hosts[i]);
        EXPECT_OK(handover_check(k.url));
        EXPECT_STATUS(put(&k), ERR_BADARG);
        EXPECT_MESSAGE("not public");
        EXPECT(!strstr(status_message(), "s3cr3t"));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        EXPECT_STATUS(handover_check(bad[i]), ERR_BADARG);
    EXPECT_INT(httpd_requests(&k.there), 0);
    tear_down(&k);
}
