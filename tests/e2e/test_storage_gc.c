/* The sweep for what lost attempts left, over a folder and with a real broker. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/blob.h"
#include "tests/e2e/stack.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

/* Put an object with something in it at <job>/<dir>/<name>. */
static void put(struct blob *b, const char *job, const char *dir, const char *name)
{
    char key[BLOB_KEY_MAX];

    snprintf(key, sizeof(key), "out/%s/%s/%s", job, dir, name);
    EXPECT_OK(blob_put_new(b, key, "bytes", 5));
}

static bool is_there(struct blob *b, const char *job, const char *dir, const char *name)
{
    char key[BLOB_KEY_MAX];

    snprintf(key, sizeof(key), "out/%s/%s/%s", job, dir, name);
    return blob_head(b, key, NULL) == OK;
}

TEST_TIMEOUT(storage_gc_removes_what_lost_attempts_left, 180)
{
    static const char lost[] = "a1-00000000000000aa";
    static const char forgotten[] = "00abcdefghjkmnpqrstvwxyz01";
    struct stack s;
    struct stack_output o;
    struct blob b = { 0 };
    char done[JOB_ID_BYTES], dead[JOB_ID_BYTES], waiting[JOB_ID_BYTES], url[BLOB_URL_ROOM];
    char other[FILE_PATH_BYTES], store[BLOB_URL_ROOM];

    stack_open(&s);
    snprintf(store, sizeof(store), "file://%s", s.data);
    EXPECT_OK(blob_open(&b, &(struct blob_config){ .url = store }));
    stack_add_worker(&s, 0);
    snprintf(done, sizeof(done), "%s",
             stack_submit(&s, (const char *[]){ "--frames=2", "--output=out", NULL }));
    o = ONESTEP("wait", done, s.broker_flag);
    stack_expect(&o, 0, NULL);
    stack_kill(&s.workers[0]);
    snprintf(dead, sizeof(dead), "%s", stack_submit(&s, (const char *[]){ "--frames=2", NULL }));
    o = ONESTEP("cancel", dead, s.broker_flag);
    stack_expect(&o, 0, NULL);
    snprintf(waiting, sizeof(waiting), "%s",
             stack_submit(&s, (const char *[]){ "--frames=3", NULL }));
    put(&b, done, lost, "video.mp4");
    put(&b, dead, lost, "video.mp4");
    put(&b, waiting, lost, "video.mp4");
    put(&b, forgotten, lost, "poster.png");
    put(&b, done, "b1-00000000000000aa", "video.mp4");
    EXPECT_OK(blob_put_new(&b, "unrelated/file.txt", "bytes", 5));

    /* By default nothing is old enough; then it is only told; then it is done, once. */
    o = ONESTEP("gc", store, s.broker_flag);
    stack_expect(&o, 0, "0 leftovers");
    o = ONESTEP("gc", store, "--older-than-h=0", s.broker_flag);
    stack_expect(&o, 0, "3 leftovers, 15 bytes; --remove removes them");
    EXPECT_INT(stack_lines(o.out), 3);
    EXPECT(is_there(&b, done, lost, "video.mp4"));
    o = ONESTEP("gc", store, "--older-than-h=0", "--remove", "--json", s.broker_flag);
    stack_expect(&o, 0, "3 leftovers, 15 bytes removed");
    EXPECT(strstr(o.out, "\"removed\":true") || strstr(o.out, "\"removed\": true"));
    EXPECT(!is_there(&b, done, lost, "video.mp4"));
    EXPECT(!is_there(&b, dead, lost, "video.mp4"));
    EXPECT(!is_there(&b, forgotten, lost, "poster.png"));
    EXPECT(is_there(&b, waiting, lost, "video.mp4"));
    EXPECT(is_there(&b, done, "b1-00000000000000aa", "video.mp4"));
    EXPECT_OK(blob_head(&b, "unrelated/file.txt", NULL));
    o = ONESTEP("gc", store, "--older-than-h=0", "--remove", s.broker_flag);
    stack_expect(&o, 0, "0 leftovers");
    /* The result is whole. */
    snprintf(other, sizeof(other), "%s", stack_path("fetched"));
    o = ONESTEP("fetch", done, "-o", other, s.broker_flag);
    stack_expect(&o, 0, NULL);

    /* Without a broker to ask, nothing is guessed. */
    snprintf(url, sizeof(url), "--broker=ipc://%s", stack_path("nobody"));
    put(&b, forgotten, lost, "poster.png");
    o = ONESTEP("gc", store, "--older-than-h=0", "--remove", url, "--broker-timeout-ms=300");
    EXPECT(o.code == 7);
    EXPECT(is_there(&b, forgotten, lost, "poster.png"));
    blob_close(&b);
    stack_close(&s);
}

/* In S3 an upload in parts that nobody will finish is a leftover too: it is aborted. */
TEST_TIMEOUT(storage_gc_aborts_unfinished_uploads, 120)
{
    static const char place[] = "/clips/out/00abcdefghjkmnpqrstvwxyz01/a1-00000000000000aa/video";
    struct stack s;
    struct httpd d;
    struct stack_output o;
    char path[256], endpoint[96];

    EXPECT(setenv("AWS_ACCESS_KEY_ID", "AKID", 1) == 0);
    EXPECT(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1) == 0);
    httpd_start(&d, &(struct httpd_config){ .access_key = "AKID", .secret_key = "secret" });
    stack_open(&s);
    snprintf(endpoint, sizeof(endpoint), "--s3-endpoint=http://127.0.0.1:%d", d.port);
    snprintf(path, sizeof(path), "%s.mp4?upload~7", place); /* begun, and a part of it */
    httpd_store(&d, path, "", 0);
    snprintf(path, sizeof(path), "%s.mp4?upload~7?1", place);
    httpd_store(&d, path, "bytes", 5);
    httpd_store(&d, "/clips/out/theirs/video.mp4?upload~8", "", 0);
    o = ONESTEP("gc", "s3://clips/out", "--older-than-h=0", s.broker_flag, endpoint,
                "--s3-path-style");
    stack_expect(&o, 0, "1 leftover");
    EXPECT(strstr(o.out, "a1-00000000000000aa/video.mp4") && !strstr(o.out, "theirs"));
    EXPECT_INT(httpd_objects(&d), 3);
    o = ONESTEP("gc", "s3://clips/out", "--older-than-h=0", "--remove", s.broker_flag, endpoint,
                "--s3-path-style");
    stack_expect(&o, 0, "1 leftover");
    EXPECT_INT(httpd_objects(&d), 1);
    stack_close(&s);
    httpd_stop(&d);
}
