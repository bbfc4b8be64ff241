/* Keys that a machine's own endpoints give out, from their first use to the one after their end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/blob.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

#define ROLES "/latest/meta-data/iam/security-credentials/"
#define MINUTE_MS 60000

enum place { CONTAINER = 0, INSTANCE, PLACES };

/* A machine's endpoints, and who asks them. */
struct rig {
    struct httpd d;
    char base[64], url[128];
    struct credentials_config config;
    struct credentials c;
};

static const char *path_of(enum place p)
{
    return p == CONTAINER ? "/keys" : ROLES "worker-role";
}

/* What the endpoint answers from now on: keys called name that end in so many ms. */
static void give(struct rig *k, enum place p, const char *name, int64_t ends_in_ms)
{
    char text[256], when[32];
    time_t at = (time_t)((clock_wall_ms() + ends_in_ms) / 1000);
    struct tm utc;

    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &utc));
    snprintf(text, sizeof(text),
             "{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"secret\","
             "\"Token\":\"\",\"Expiration\":\"%s\"}",
             name, when);
    httpd_store(&k->d, path_of(p), text, strlen(text));
}

static void set_up(struct rig *k, enum place p)
{
    memset(k, 0, sizeof(*k));
    httpd_start(&k->d, &(struct httpd_config){ 0 });
    snprintf(k->base, sizeof(k->base), "http://127.0.0.1:%d", k->d.port);
    snprintf(k->url, sizeof(k->url), "%s/keys", k->base);
    k->config = p == CONTAINER ? (struct credentials_config){ .container_url = k->url }
                               : (struct credentials_config){ .instance_url = k->base };
    httpd_store(&k->d, ROLES, "worker-role\n", 12);
    httpd_fault(&k->d, &(struct httpd_fault){ .kind = HTTPD_STATUS,
                                              .code = 200,
                                              .body = "to-k/en==",
                                              .only = "PUT /latest/api/token" });
    EXPECT_OK(credentials_open(&k->c, &k->config));
    EXPECT(credentials_are_known(&k->c));
}

static void tear_down(struct rig *k)
{
    credentials_close(&k->c);
    httpd_stop(&k->d);
}

static void expect_key(struct rig *k, const char *name)
{
    struct sigv4_signer who = { 0 };

    EXPECT_OK(credentials_get(&k->c, &who));
    EXPECT_TEXT(who.access_key, name);
    EXPECT_TEXT(who.secret_key, "secret");
}

/* A session token by PUT, the role, its keys; each further request shows the token. */
TEST(storage_keys_come_from_an_instance)
{
    struct rig k;
    char head[4096];

    set_up(&k, INSTANCE);
    give(&k, INSTANCE, "ONE", 60 * MINUTE_MS);
    expect_key(&k, "ONE");
    EXPECT_INT(httpd_requests(&k.d), 3);
    httpd_last_head(&k.d, head, sizeof(head));
    EXPECT(strncmp(head, "GET " ROLES "worker-role ", 4 + sizeof(ROLES) - 1) == 0);
    EXPECT(strcasestr(head, "x-aws-ec2-metadata-token: to-k/en==\r\n"));
    expect_key(&k, "ONE");
    EXPECT_INT(httpd_requests(&k.d), 3); /* kept */
    tear_down(&k);
}

/* An instance without version 2 of the service gives no token, and is not asked further. */
TEST(storage_an_instance_that_gives_no_token_is_an_error)
{
    struct rig k;
    struct sigv4_signer who;

    set_up(&k, INSTANCE);
    httpd_fault(&k.d, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 403 });
    EXPECT_STATUS(credentials_get(&k.c, &who), ERR_BADARG);
    EXPECT_INT(httpd_requests(&k.d), 1);
    tear_down(&k);
}

/* New ones are got while the old ones still live. */
TEST(storage_keys_are_renewed_before_they_expire)
{
    for (int p = 0; p < PLACES; p++) {
        struct rig k;
        int before;

        set_up(&k, p);
        give(&k, p, "OLD", 10 * MINUTE_MS);
        expect_key(&k, "OLD");
        give(&k, p, "NEW", 60 * MINUTE_MS);
        expect_key(&k, "OLD"); /* ten minutes are enough */
        tear_down(&k);

        set_up(&k, p);
        give(&k, p, "OLD", 4 * MINUTE_MS);
        expect_key(&k, "OLD");
        give(&k, p, "NEW", 60 * MINUTE_MS);
        expect_key(&k, "NEW"); /* four are not */
        before = httpd_requests(&k.d);
        expect_key(&k, "NEW");
        EXPECT_INT(httpd_requests(&k.d), before);
        tear_down(&k);
    }
}

/* A renewal that fails is no failure while the old ones live, and one when they do not. */
TEST(storage_keys_that_cannot_be_renewed_are_used_to_their_end)
{
    for (int p = 0; p < PLACES; p++) {
        struct rig k;
        struct sigv4_signer who;

        for (int is_over = 0; is_over < 2; is_over++) {
            set_up(&k, p);
            give(&k, p, "OLD", is_over ? -MINUTE_MS : 4 * MINUTE_MS);
            expect_key(&k, "OLD");
            httpd_fault(&k.d, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 404 });
            if (is_over)
                EXPECT_STATUS(credentials_get(&k.c, &who), ERR_NOTFOUND);
            else
                expect_key(&k, "OLD");
            tear_down(&k);
        }
    }
}

/* The store says in the middle of an upload, in any of its steps, that the keys have expired: new
 * ones are got, and only that step is done again. */
TEST(storage_keys_that_expire_during_an_upload_are_renewed)
{
    static const struct {
        const char *step;
        size_t bytes;
    } rows[] = {
        { "PUT /clips/job/clip.mp4", 900 },
        { "POST /clips/job/clip.mp4?uploads", 4500 },
        { "PUT /clips/job/clip.mp4?partNumber=3", 4500 },
        { "POST /clips/job/clip.mp4?uploadId", 4500 },
        { "PUT /clips/job/manifest.json", 900 },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rig k;
        struct httpd store;
        struct blob b;
        struct buf back = { .max_bytes = 1 << 20 };
        char endpoint[64], path[FILE_PATH_BYTES], *bytes = calloc(1, rows[i].bytes);
        uint8_t sha256[DIGEST_BYTES];
        bool has;

        set_up(&k, CONTAINER);
        give(&k, CONTAINER, "AKID", 60 * MINUTE_MS);
        httpd_start(&store, &(struct httpd_config){ .access_key = "AKID", .secret_key = "secret" });
        snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", store.port);
        EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "clip.mp4"));
        for (size_t j = 0; j < rows[i].bytes; j++)
            bytes[j] = (char)test_random();
        EXPECT_OK(file_write_atomic(path, bytes, rows[i].bytes));
        EXPECT_OK(digest_sha256(bytes, rows[i].bytes, sha256));
        EXPECT_OK(blob_open(
            &b, &(struct blob_config){
                    .url = "s3://clips",
                    .s3 = { .endpoint = endpoint, .path_style = true, .credentials = k.config },
                    .part_bytes = 1000 }));
        EXPECT_OK(blob_has_put_new(&b, &has));
        EXPECT_INT(httpd_requests(&k.d), 1);
        httpd_fault(&store, &(struct httpd_fault){ .kind = HTTPD_STATUS,
                                                   .code = 400,
                                                   .error = "ExpiredToken",
                                                   .count = 1,
                                                   .only = rows[i].step });
        EXPECT_OK(blob_put_file(&b, "job/clip.mp4", path, "video/mp4", sha256));
        EXPECT_OK(blob_put_new(&b, "job/manifest.json", "{}", 2));
        EXPECT_INT(httpd_requests(&k.d), 2);
        EXPECT_OK(blob_get(&b, "job/clip.mp4", &back));
        EXPECT(back.len == rows[i].bytes && memcmp(back.data, bytes, back.len) == 0);
        EXPECT_INT(httpd_objects(&store), 3); /* the probe, the clip, the manifest */
        buf_free(&back);
        free(bytes);
        blob_close(&b);
        httpd_stop(&store);
        tear_down(&k);
    }
}
