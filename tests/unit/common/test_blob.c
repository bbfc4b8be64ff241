/* Both back ends go through the same promises; then each through what only it can suffer. */
#include "common/blob.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/tool/disk.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

/* A store of either kind. */
struct rig {
    struct blob blob;
    struct httpd server; /* for s3 */
    bool is_s3;
    char url[512];
    char endpoint[64];
};

static void open_blob(struct rig *k, struct blob *b)
{
    struct blob_config c = { .url = k->url };

    if (k->is_s3)
        c.s3 =
            (struct s3_config){ .endpoint = k->endpoint,
                                .path_style = true,
                                .credentials = { .access_key = "AKID", .secret_key = "secret" } };
    EXPECT_OK(blob_open(b, &c));
}

static void set_up(struct rig *k, bool is_s3)
{
    bool has = false;

    *k = (struct rig){ .is_s3 = is_s3 };
    if (is_s3) {
        httpd_start(&k->server,
                    &(struct httpd_config){ .access_key = "AKID", .secret_key = "secret" });
        snprintf(k->endpoint, sizeof(k->endpoint), "http://127.0.0.1:%d", k->server.port);
        snprintf(k->url, sizeof(k->url), "s3://clips/results/");
    } else {
        snprintf(k->url, sizeof(k->url), "file://%s/store/results", test_tmpdir());
    }
    open_blob(k, &k->blob);
    EXPECT_OK(blob_has_put_new(&k->blob, &has)); /* so that faults meet what a test asks for */
    EXPECT(has);
}

static void tear_down(struct rig *k)
{
    blob_close(&k->blob);
    httpd_stop(&k->server);
}

static void expect_object(struct rig *k, const char *key, const void *bytes, size_t len)
{
    struct buf out = { 0 };
    struct blob_info info = { 0 };

    EXPECT_OK(blob_get(&k->blob, key, &out));
    EXPECT(out.len == len && memcmp(out.data, bytes, len) == 0);
    EXPECT_OK(blob_head(&k->blob, key, &info));
    EXPECT_INT(info.bytes, len);
    buf_free(&out);
}

/* A file of the test's own with this content, and its digest. */
static const char *make_file(const void *bytes, size_t len, uint8_t sha256[DIGEST_BYTES])
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/upload", test_tmpdir());
    EXPECT_OK(file_write_atomic(path, bytes, len));
    EXPECT_OK(digest_sha256(bytes, len, sha256));
    return path;
}

/* --- what both promise ---------------------------------------------------------------------- */

static void put_and_get(bool is_s3)
{
    struct rig k;
    uint8_t sha256[DIGEST_BYTES];
    char bytes[5000], copy[512];
    struct buf out = { .max_bytes = 10 };

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)test_random();
    set_up(&k, is_s3);
    EXPECT_STATUS(blob_get(&k.blob, "job/video.mp4", &out), ERR_NOTFOUND);
    EXPECT_STATUS(blob_head(&k.blob, "job/video.mp4", NULL), ERR_NOTFOUND);
    EXPECT_OK(blob_put_file(&k.blob, "job/a=1/video.mp4", make_file(bytes, 5000, sha256),
                            "video/mp4", sha256));
    expect_object(&k, "job/a=1/video.mp4", bytes, 5000);
    EXPECT_OK(blob_put_file(&k.blob, "job/a=1/video.mp4", make_file(bytes, 70, sha256), "video/mp4",
                            sha256));
    expect_object(&k, "job/a=1/video.mp4", bytes, 70);
    EXPECT_STATUS(blob_get(&k.blob, "job/a=1/video.mp4", &out), ERR_FULL);
    snprintf(copy, sizeof(copy), "%s/copy", test_tmpdir());
    EXPECT_OK(blob_get_to_file(&k.blob, "job/a=1/video.mp4", copy));
    out.max_bytes = 1000;
    EXPECT_OK(file_read(copy, 1000, &out));
    EXPECT(out.len == 70 && memcmp(out.data, bytes, 70) == 0);
    EXPECT_STATUS(blob_get_to_file(&k.blob, "none", copy), ERR_NOTFOUND);
    EXPECT(file_exists(copy));
    buf_free(&out);
    tear_down(&k);
}

TEST(storage_a_folder_keeps_objects)
{
    put_and_get(false);
}

TEST(storage_s3_keeps_objects)
{
    put_and_get(true);
}

static void put_new(bool is_s3)
{
    struct rig k;

    set_up(&k, is_s3);
    EXPECT_OK(blob_put_new(&k.blob, "job/manifest.json", "first", 5));
    EXPECT_OK(blob_put_new(&k.blob, "job/manifest.json", "first", 5));
    EXPECT_STATUS(blob_put_new(&k.blob, "job/manifest.json", "fir", 3), ERR_CONFLICT);
    EXPECT_STATUS(blob_put_new(&k.blob, "job/manifest.json", "firs", 4), ERR_CONFLICT);
    EXPECT_STATUS(blob_put_new(&k.blob, "job/manifest.json", "firsts", 6), ERR_CONFLICT);
    EXPECT_STATUS(blob_put_new(&k.blob, "job/manifest.json", "other", 5), ERR_CONFLICT);
    EXPECT_MESSAGE("job/manifest.json: exists already with other content");
    expect_object(&k, "job/manifest.json", "first", 5);
    EXPECT_STATUS(blob_put_new(&k.blob, "empty", "", 0), ERR_BADARG);
    tear_down(&k);
}

TEST(storage_a_folder_takes_a_new_object_once)
{
    put_new(false);
}

TEST(storage_s3_takes_a_new_object_once)
{
    put_new(true);
}

struct racer {
    struct blob blob;
    int number;
    status result;
};

static void *race(void *self)
{
    struct racer *r = self;
    char text[32];

    snprintf(text, sizeof(text), "attempt %d", r->number);
    r->result = blob_put_new(&r->blob, "job/manifest.json", text, strlen(text));
    return NULL;
}

/* Of eight attempts that publish at once, one wins, and what is there is the winner's. */
static void race_for_it(bool is_s3)
{
    struct rig k;
    struct racer racers[8];
    pthread_t threads[8];
    int winner = -1;
    char text[32];

    set_up(&k, is_s3);
    for (int i = 0; i < 8; i++) {
        racers[i].number = i;
        open_blob(&k, &racers[i].blob);
    }
    for (int i = 0; i < 8; i++)
        EXPECT_INT(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        if (racers[i].result == OK) {
            EXPECT_INT(winner, -1);
            winner = i;
        } else {
            EXPECT_INT(racers[i].result, ERR_CONFLICT);
        }
        blob_close(&racers[i].blob);
    }
    snprintf(text, sizeof(text), "attempt %d", winner);
    expect_object(&k, "job/manifest.json", text, strlen(text));
    tear_down(&k);
}

TEST(storage_one_of_many_wins_a_folder)
{
    race_for_it(false);
}

TEST(storage_one_of_many_wins_s3)
{
    race_for_it(true);
}

TEST(storage_a_file_that_is_not_what_was_promised_is_not_stored)
{
    for (int is_s3 = 0; is_s3 < 2; is_s3++) {
        struct rig k;
        uint8_t sha256[DIGEST_BYTES];
        const char *path = make_file("some video", 10, sha256);

        set_up(&k, is_s3);
        EXPECT_OK(file_write_atomic(path, "same video", 10));
        EXPECT_STATUS(blob_put_file(&k.blob, "v", path, "video/mp4", sha256), ERR_CORRUPT);
        EXPECT_MESSAGE("changed after its SHA-256");
        EXPECT_STATUS(blob_put_file(&k.blob, "v", "no/such", "video/mp4", sha256), ERR_NOTFOUND);
        EXPECT_STATUS(blob_head(&k.blob, "v", NULL), ERR_NOTFOUND);
        tear_down(&k);
    }
}

TEST(storage_keys_have_rules)
{
    static const char *const good[] = { "a", "a/b.c", "A_z-9=x/.hidden/..." };
    static const char *const bad[] = {
        "",     "/a",    "a/",  "a//b", ".",    "..",  "a/..",
        "../a", "a/./b", "a b", "a%2e", "a\\b", "a\n", "\xc3\xa9",
    };
    char longest[BLOB_KEY_MAX + 2];
    struct rig k;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        EXPECT_OK(blob_check_key(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        EXPECT_STATUS(blob_check_key(bad[i]), ERR_BADARG);
    memset(longest, 'x', sizeof(longest));
    longest[BLOB_KEY_MAX + 1] = '\0';
    EXPECT_STATUS(blob_check_key(longest), ERR_BADARG);
    longest[BLOB_KEY_MAX] = '\0';
    EXPECT_OK(blob_check_key(longest));
    set_up(&k, false);
    EXPECT_STATUS(blob_put_new(&k.blob, "../escaped", "x", 1), ERR_BADARG);
    EXPECT_STATUS(blob_head(&k.blob, "../../etc/passwd", NULL), ERR_BADARG);
    tear_down(&k);
}

TEST(storage_objects_have_urls)
{
    struct rig k;
    char url[BLOB_URL_ROOM], want[BLOB_URL_ROOM];

    set_up(&k, true);
    EXPECT_OK(blob_url(&k.blob, "a=1/v.mp4", url, sizeof(url)));
    EXPECT_TEXT(url, "s3://clips/results/a=1/v.mp4");
    EXPECT_STATUS(blob_url(&k.blob, "a=1/v.mp4", url, 28), ERR_BADARG);
    tear_down(&k);
    set_up(&k, false);
    snprintf(want, sizeof(want), "file://%s/store/results/a%%3D1/v.mp4", test_tmpdir());
    EXPECT_OK(blob_url(&k.blob, "a=1/v.mp4", url, sizeof(url)));
    EXPECT_TEXT(url, want);
    tear_down(&k);
}

TEST(storage_bad_stores_are_refused_with_a_reason)
{
    static const struct {
        const char *url, *says;
    } rows[] = {
        { "results", "not a URL" },
        { "http://h/x", "not an object store" },
        { "s3://Bad_Bucket/x", "not a bucket" },
        { "s3://bucket/a//b", "empty part" },
        { "s3://bucket/x", "AWS_ACCESS_KEY_ID" },
    };
    struct blob b;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        EXPECT_STATUS(blob_open(&b, &(struct blob_config){ .url = rows[i].url }), ERR_BADARG);
        EXPECT_MESSAGE(rows[i].says);
        EXPECT(b.state == NULL);
    }
}

/* --- a folder ------------------------------------------------------------------------------- */

TEST(storage_a_relative_folder_is_made_and_told_absolutely)
{
    struct blob b;
    char url[BLOB_URL_ROOM];

    EXPECT_INT(chdir(test_tmpdir()), 0);
    EXPECT_OK(blob_open(&b, &(struct blob_config){ .url = "file://./some%20data/out" }));
    EXPECT_OK(blob_put_new(&b, "k", "v", 1));
    EXPECT(file_exists("some data/out/k"));
    EXPECT_OK(blob_url(&b, "k", url, sizeof(url)));
    EXPECT(strncmp(url, "file:///", 8) == 0 && strstr(url, "/some%20data/out/k"));
    blob_close(&b);
}

TEST(storage_a_file_in_the_way_of_a_folder_says_so)
{
    struct blob b;
    char path[512], url[600];

    snprintf(path, sizeof(path), "%s/file", test_tmpdir());
    snprintf(url, sizeof(url), "file://%s", path);
    EXPECT_OK(file_write_atomic(path, "x", 1));
    EXPECT_STATUS(blob_open(&b, &(struct blob_config){ .url = url }), ERR_CONFLICT);
    EXPECT_MESSAGE(path);
}

TEST(storage_a_full_disk_says_so_and_leaves_nothing)
{
    struct blob b;
    const char *dir;
    char *bytes = malloc(300000), url[600], path[512];
    uint8_t sha256[DIGEST_BYTES];

    EXPECT(bytes);
    for (size_t i = 0; i < 300000; i++)
        bytes[i] = (char)test_random();
    make_file(bytes, 300000, sha256);
    dir = disk_small(128 << 10);
    snprintf(url, sizeof(url), "file://%s/out", dir);
    snprintf(path, sizeof(path), "%s/upload", test_tmpdir());
    EXPECT_OK(blob_open(&b, &(struct blob_config){ .url = url }));
    EXPECT_STATUS(blob_put_file(&b, "job/v.mp4", path, "video/mp4", sha256), ERR_FULL);
    EXPECT_MESSAGE("job/v.mp4");
    EXPECT_STATUS(blob_put_new(&b, "job/m.json", bytes, 300000), ERR_FULL);
    EXPECT_STATUS(blob_head(&b, "job/v.mp4", NULL), ERR_NOTFOUND);
    EXPECT_STATUS(blob_head(&b, "job/m.json", NULL), ERR_NOTFOUND);
    /* The half-written temporary files are gone: what is small fits. */
    EXPECT_OK(blob_put_new(&b, "job/m.json", bytes, 60000));
    free(bytes);
    blob_close(&b);
}

TEST(storage_a_download_to_a_full_disk_says_so)
{
    struct rig k;
    char *bytes = calloc(1, 300000), path[512];
    uint8_t sha256[DIGEST_BYTES];

    EXPECT(bytes);
    set_up(&k, true);
    EXPECT_OK(blob_put_file(&k.blob, "v", make_file(bytes, 300000, sha256), "video/mp4", sha256));
    snprintf(path, sizeof(path), "%s/v.mp4", disk_small(128 << 10));
    EXPECT_STATUS(blob_get_to_file(&k.blob, "v", path), ERR_FULL);
    EXPECT(!file_exists(path));
    free(bytes);
    tear_down(&k);
}

/* --- S3 ------------------------------------------------------------------------------------- */

static void fault(struct rig *k, enum httpd_fault_kind kind, int code, int count)
{
    httpd_fault(&k->server, &(struct httpd_fault){ .kind = kind, .code = code, .count = count });
}

TEST(storage_s3_uploads_survive_passing_faults)
{
    static const struct {
        enum httpd_fault_kind kind;
        int code;
    } rows[] = {
        { HTTPD_STATUS, 503 }, { HTTPD_STATUS, 500 }, { HTTPD_RESET, 0 }, { HTTPD_LOST, 0 }
    };
    struct rig k;
    uint8_t sha256[DIGEST_BYTES];
    const char *path = make_file("some video", 10, sha256);

    set_up(&k, true);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char key[32];

        snprintf(key, sizeof(key), "job/%zu", i);
        fault(&k, rows[i].kind, rows[i].code, 1);
        EXPECT_OK(blob_put_file(&k.blob, key, path, "video/mp4", sha256));
        expect_object(&k, key, "some video", 10);
    }
    tear_down(&k);
}

/* The connection ends while the body is on its way: all of it is sent anew. */
TEST(storage_a_put_that_is_cut_is_sent_anew)
{
    enum { LEN = 12 << 20 };
    struct rig k;
    char *bytes = malloc(LEN);
    uint8_t sha256[DIGEST_BYTES];
    int before;

    EXPECT(bytes);
    for (size_t i = 0; i < LEN; i++)
        bytes[i] = (char)(i * 7 + i / 1000);
    set_up(&k, true);
    EXPECT_OK(blob_put_new(&k.blob, "first", "x", 1)); /* and the probe */
    before = httpd_requests(&k.server);
    fault(&k, HTTPD_CUT, 0, 2);
    EXPECT_OK(blob_put_file(&k.blob, "v", make_file(bytes, LEN, sha256), "video/mp4", sha256));
    EXPECT_INT(httpd_requests(&k.server) - before, 3);
    expect_object(&k, "v", bytes, LEN);
    free(bytes);
    tear_down(&k);
}

/* The bucket as a part of the host's name, which is signed and asked for as such. */
TEST(storage_of_virtual_hosts_is_reached)
{
    struct rig k = { .is_s3 = true };
    char head[8192], host[64];
    bool has;

    httpd_start(&k.server, &(struct httpd_config){ .access_key = "AKID", .secret_key = "secret" });
    snprintf(k.endpoint, sizeof(k.endpoint), "http://localhost:%d", k.server.port);
    EXPECT_OK(blob_open(
        &k.blob, &(struct blob_config){
                     .url = "s3://clips/results",
                     .s3 = { .endpoint = k.endpoint,
                             .credentials = { .access_key = "AKID", .secret_key = "secret" } } }));
    EXPECT_OK(blob_has_put_new(&k.blob, &has));
    EXPECT(has);
    EXPECT_OK(blob_put_new(&k.blob, "job/m", "mine", 4));
    httpd_last_head(&k.server, head, sizeof(head));
    snprintf(host, sizeof(host), "\r\nHost: clips.localhost:%d\r\n", k.server.port);
    EXPECT(strncmp(head, "PUT /results/job/m HTTP", 23) == 0 && strstr(head, host));
    expect_object(&k, "job/m", "mine", 4);
    tear_down(&k);
}

/* The server stored the manifest and its answer was lost: the retry meets its own success (412). */
TEST(storage_a_lost_answer_is_not_taken_for_a_rival)
{
    struct rig k;

    set_up(&k, true);
    fault(&k, HTTPD_LOST, 0, 1);
    EXPECT_OK(blob_put_new(&k.blob, "job/manifest.json", "mine", 4));
    expect_object(&k, "job/manifest.json", "mine", 4);
    fault(&k, HTTPD_LOST, 0, 1);
    EXPECT_STATUS(blob_put_new(&k.blob, "job/manifest.json", "late", 4), ERR_CONFLICT);
    expect_object(&k, "job/manifest.json", "mine", 4);
    tear_down(&k);
}

/* 409: another conditional PUT was under way. If it came to nothing, ours goes in. */
TEST(storage_a_race_that_nobody_won_is_run_again)
{
    struct rig k;

    set_up(&k, true);
    fault(&k, HTTPD_STATUS, 409, 1);
    EXPECT_OK(blob_put_new(&k.blob, "job/manifest.json", "mine", 4));
    expect_object(&k, "job/manifest.json", "mine", 4);
    tear_down(&k);
}

TEST(storage_without_conditional_put_is_recognised)
{
    for (int i = 0; i < 2; i++) {
        const struct httpd_config config = { .access_key = "AKID",
                                             .secret_key = "secret",
                                             .ignores_if_none_match = i };
        struct rig k = { .is_s3 = true, .url = "s3://clips/results/" };
        bool has = true;

        httpd_start(&k.server, &config);
        snprintf(k.endpoint, sizeof(k.endpoint), "http://127.0.0.1:%d", k.server.port);
        open_blob(&k, &k.blob);
        if (i == 0)
            httpd_fault(&k.server,
                        &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 501, .count = 1 });
        EXPECT_OK(blob_has_put_new(&k.blob, &has));
        EXPECT(!has);
        EXPECT_STATUS(blob_put_new(&k.blob, "job/manifest.json", "mine", 4), ERR_BADARG);
        EXPECT_MESSAGE("no conditional PUT");
        EXPECT_STATUS(blob_head(&k.blob, "job/manifest.json", NULL), ERR_NOTFOUND);
        tear_down(&k);
    }
}

TEST(storage_s3_refusals_are_told_in_the_servers_words)
{
    struct rig k;
    struct blob b;
    uint8_t sha256[DIGEST_BYTES];
    const char *path = make_file("some video", 10, sha256);
    struct blob_config c = { .url = "s3://clips/x" };

    set_up(&k, true);
    c.s3 = (struct s3_config){ .endpoint = k.endpoint,
                               .path_style = true,
                               .credentials = { .access_key = "AKID", .secret_key = "wrong" } };
    EXPECT_OK(blob_open(&b, &c));
    EXPECT_STATUS(blob_put_file(&b, "v", path, "video/mp4", sha256), ERR_BADARG);
    EXPECT_MESSAGE("access denied");
    EXPECT_MESSAGE("SignatureDoesNotMatch");
    blob_close(&b);
    tear_down(&k);
}

TEST(storage_s3_that_is_down_is_unavailable)
{
    struct rig k;
    uint8_t sha256[DIGEST_BYTES];
    const char *path = make_file("some video", 10, sha256);

    set_up(&k, true);
    httpd_stop(&k.server);
    EXPECT_STATUS(blob_put_file(&k.blob, "v", path, "video/mp4", sha256), ERR_UNAVAILABLE);
    EXPECT_MESSAGE(k.endpoint);
    tear_down(&k);
}

/* A download that breaks off leaves neither a part nor a temporary file, and the old copy. */
TEST(storage_a_download_is_whole_or_absent)
{
    struct rig k;
    char path[512], pattern[600];
    uint8_t sha256[DIGEST_BYTES];
    struct buf out = { 0 };

    snprintf(path, sizeof(path), "%s/v.mp4", test_tmpdir());
    set_up(&k, true);
    EXPECT_OK(
        blob_put_file(&k.blob, "v", make_file("some video", 10, sha256), "video/mp4", sha256));
    fault(&k, HTTPD_SHORT_BODY, 0, 1);
    EXPECT_OK(blob_get_to_file(&k.blob, "v", path));
    EXPECT_OK(file_read(path, 100, &out));
    EXPECT_TEXT(out.data, "some video");
    fault(&k, HTTPD_SHORT_BODY, 0, 0);
    EXPECT_STATUS(blob_get_to_file(&k.blob, "v", path), ERR_UNAVAILABLE);
    EXPECT_OK(file_read(path, 100, &out));
    EXPECT_TEXT(out.data, "some video");
    snprintf(pattern, sizeof(pattern), "test $(ls '%s' | grep -c tmp) = 0", test_tmpdir());
    EXPECT_INT(system(pattern), 0);
    buf_free(&out);
    tear_down(&k);
}
