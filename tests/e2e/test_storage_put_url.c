/* A job with a presigned address of its user's, from the command line to the PUT, with the real
 * programs: the address is a server of the tests' own. */
#include <stdio.h>
#include <string.h>

#include "tests/e2e/stack.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

#define THERE "/videos/mine.mp4?X-Amz-Signature=s3cr3t"

/* The programs, with results in a folder, and a job whose video is wanted at the server there. */
static void begin(struct stack *s, const struct httpd *there, char job[JOB_ID_BYTES])
{
    char store[FILE_PATH_BYTES + 64], flag[128];

    snprintf(store, sizeof(store), "blob: \"file://%.1000s\"\nallow_private_hosts: true\n",
             stack_path("results"));
    stack_open_with(s, &(struct stack_config){ .store = store });
    stack_add_worker(s, 0);
    snprintf(flag, sizeof(flag), "--put-url=http://127.0.0.1:%d" THERE, there->port);
    snprintf(job, JOB_ID_BYTES, "%s",
             stack_submit(s, (const char *[]){ "--frames=2", flag, NULL }));
}

/* What is told of the job, and what broker and worker wrote down, holds no secret. */
static void expect_no_secret(struct stack *s, const char *job)
{
    struct stack_output o = ONESTEP("status", job, "--json", s->broker_flag);
    struct buf text = { .max_bytes = 16 << 20 };

    stack_expect(&o, 0, NULL);
    EXPECT(!strstr(o.out, "s3cr3t"));
    EXPECT_OK(file_read(s->workers[0].err_path, 16 << 20, &text));
    EXPECT(strstr(text.data, job) && !strstr(text.data, "s3cr3t"));
    EXPECT_OK(file_read(s->broker.err_path, 16 << 20, &text));
    EXPECT(text.len && !strstr(text.data, "s3cr3t"));
    buf_free(&text);
}

/* The job is done once its video, the one of the store, is at the address. */
TEST_TIMEOUT(storage_put_url_gets_the_video, 120)
{
    struct stack s;
    struct httpd there;
    struct stack_output o;
    struct buf stored = { .max_bytes = 16 << 20 }, brought = { .max_bytes = 16 << 20 };
    char job[JOB_ID_BYTES], name[64];

    httpd_start(&there, &(struct httpd_config){ 0 });
    begin(&s, &there, job);
    o = ONESTEP("wait", job, s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT_INT(httpd_puts(&there, THERE), 1);
    EXPECT_INT(httpd_requests(&there), 1);
    EXPECT(httpd_stored(&there, THERE, &brought));
    o = ONESTEP("fetch", job, "-o", stack_path("got"), s.broker_flag);
    stack_expect(&o, 0, NULL);
    snprintf(name, sizeof(name), "got/%s.mp4", job);
    EXPECT_OK(file_read(stack_path(name), 16 << 20, &stored));
    EXPECT(stored.len > 0 && stored.len == brought.len);
    EXPECT(memcmp(stored.data, brought.data, stored.len) == 0);
    expect_no_secret(&s, job);
    buf_free(&stored);
    buf_free(&brought);
    stack_close(&s);
    httpd_stop(&there);
}

/* The address refuses: the job fails with its words; its result is in the store all the same. */
TEST_TIMEOUT(storage_put_url_that_refuses_fails_the_job, 120)
{
    struct stack s;
    struct httpd there;
    struct stack_output o;
    struct json j = { 0 };
    struct json_value line, error;
    const char *body = "<Error><Message>Request has expired</Message></Error>", *sentence, *at;
    char job[JOB_ID_BYTES], manifest[FILE_PATH_BYTES];

    httpd_start(&there, &(struct httpd_config){ 0 });
    httpd_fault(&there, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 403, .body = body });
    begin(&s, &there, job);
    o = ONESTEP("wait", job, s.broker_flag);
    stack_expect(&o, 2, "failed after 1 of 3 tries: put_url: ");
    o = ONESTEP("status", job, "--json", s.broker_flag);
    line = stack_json(&j, o.out);
    EXPECT_TEXT(stack_text(&line, "state"), "dead");
    error = json_find(&line, "error");
    sentence = stack_text(&error, "message");
    EXPECT(strstr(sentence, "/videos/mine.mp4: PUT answered 403 (access denied; "));
    EXPECT(strstr(sentence, "Request has expired"));
    at = strstr(sentence, "the result itself is published: file://");
    EXPECT(at);
    snprintf(manifest, sizeof(manifest), "%s", strstr(at, "file://") + strlen("file://"));
    o = ONESTEP("verify", manifest);
    stack_expect(&o, 0, NULL);
    expect_no_secret(&s, job);
    json_free(&j);
    stack_close(&s);
    httpd_stop(&there);
}
