#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/media.h"
#include "tests/e2e/stack.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

static void store_photo(struct httpd *d, const char *path)
{
    struct buf photo = { 0 };

    EXPECT_OK(file_read("ops/samples/coffee.jpg", 16 << 20, &photo));
    httpd_store(d, path, photo.data, photo.len);
    buf_free(&photo);
}

/* A photograph on a web server. */
TEST_TIMEOUT(storage_remote_photo_by_http, 120)
{
    struct httpd d;
    struct stack_output o;
    struct json j = { 0 };
    struct json_value line;
    char url[64];

    httpd_start(&d, &(struct httpd_config){ 0 });
    store_photo(&d, "/a%20b.jpg");
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/a%%20b.jpg", d.port);
    o = ONESTEP("run", url, "--model", stack_model(), "-o", stack_path("data"), "--frames=2",
                "--json");
    stack_expect(&o, 0, NULL);
    line = stack_json(&j, o.out);
    EXPECT_TEXT(stack_text(&line, "image"), url);
    EXPECT(strstr(stack_text(&line, "video"), "/data/a-20b/"));
    json_free(&j);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/none.jpg", d.port);
    o = ONESTEP("run", url, "--model", stack_model(), "-o", stack_path("data"));
    stack_expect(&o, 3, "/none.jpg");
    httpd_stop(&d);
}

/* Neither the worker's arguments nor its environment, nor its helpers', show the text. */
static void expect_no_secret(pid_t worker, const char *text)
{
    char command[512];

    snprintf(command, sizeof(command),
             "for p in %d $(cat /proc/%d/task/*/children); do "
             "grep -aq '^AWS_\\|%s' /proc/$p/cmdline && exit 1; "
             "cat /proc/$p/env[i]* | grep -aq '%s' && exit 2; done; exit 0",
             (int)worker, (int)worker, text, text);
    EXPECT_INT(system(command), 0);
}

/* Photograph, video and manifest in an object store, with signatures that it checks. */
TEST_TIMEOUT(storage_remote_results_in_s3, 120)
{
    struct httpd d;
    struct stack s;
    struct stack_output o;
    struct media_video_info video;
    char job[JOB_ID_BYTES], endpoint[64], store[96], name[64], text[4096];

    EXPECT(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1) == 0);
    EXPECT(setenv("AWS_SECRET_ACCESS_KEY", "sesame", 1) == 0);
    httpd_start(&d, &(struct httpd_config){ .access_key = "AKIDEXAMPLE", .secret_key = "sesame" });
    store_photo(&d, "/photos/in/coffee.jpg");
    stack_open(&s);
    snprintf(text, sizeof(text),
             "model: \"%.1000s\"\nbrokers: [\"tcp://127.0.0.1:%d\"]\nblob: s3://clips/out\n"
             "s3_endpoint: http://127.0.0.1:%d\ns3_path_style: true\nthreads: 1\n",
             stack_model(), s.worker_port, d.port);
    stack_write("worker.yaml", text);
    stack_add_worker(&s, 0);
    o = ONESTEP("submit", "s3://photos/in/coffee.jpg", "--frames=2", "--output=birds",
                s.broker_flag);
    stack_expect(&o, 0, NULL);
    snprintf(job, sizeof(job), "%s", o.out);
    o = ONESTEP("wait", job, s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT(strstr(o.out, "  done  s3://clips/out/birds/"));

    expect_no_secret(s.workers[0].pid, "sesame");
    snprintf(endpoint, sizeof(endpoint), "--s3-endpoint=http://127.0.0.1:%d", d.port);
    snprintf(store, sizeof(store), "%s", stack_path("got"));
    o = ONESTEP("fetch", job, "-o", store, s.broker_flag, endpoint, "--s3-path-style");
    stack_expect(&o, 0, NULL);
    snprintf(name, sizeof(name), "got/%s.mp4", job);
    EXPECT_OK(media_video_probe(&video, stack_path(name)));
    EXPECT_INT(video.frame_count, 2);

    /* a video that is not the one of the manifest is not taken for it */
    {
        struct json j = { 0 };
        struct json_value line, result;

        o = ONESTEP("status", job, "--json", s.broker_flag);
        line = stack_json(&j, o.out);
        result = json_find(&line, "result");
        httpd_store(&d, stack_text(&result, "video") + strlen("s3:/"), "not it", 6);
        json_free(&j);
    }
    o = ONESTEP("fetch", job, "-o", store, s.broker_flag, endpoint, "--s3-path-style", "--json");
    stack_expect(&o, 5, "its SHA-256 is not the manifest's");
    EXPECT(!file_exists(stack_path(name)));

    EXPECT(setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1) == 0);
    o = ONESTEP("fetch", job, "-o", store, s.broker_flag, endpoint, "--s3-path-style");
    EXPECT(o.code != 0);
    EXPECT(strstr(o.err, "answered 403") && !strstr(o.err, "wrong"));
    stack_close(&s);
    httpd_stop(&d);
}
