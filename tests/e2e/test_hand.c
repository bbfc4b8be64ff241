#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/media.h"
#include "tests/e2e/stack.h"
#include "tests/tool/test.h"

#define PHOTO stack_source("ops/samples/coffee.jpg")
#define NO_FLAGS ((const char *const[]){ NULL })

/* The way of a job through three programs with YAML files, and every question about it. */
TEST_TIMEOUT(hand_job_from_submit_to_fetch, 120)
{
    struct stack s;
    struct stack_output o;
    struct json j = { 0 };
    struct json_value line, result;
    char job[JOB_ID_BYTES], path[FILE_PATH_BYTES], name[64];

    stack_open(&s);
    stack_add_worker(&s, 0);
    stack_add_worker(&s, 1);
    snprintf(job, sizeof(job), "%s",
             stack_submit(&s, (const char *const[]){ "--labels=project=birds", "--seed=5", NULL }));
    o = ONESTEP("wait", job, s.broker_flag);
    stack_expect(&o, 0, job);
    EXPECT(strstr(o.out, "  done  /"));

    o = ONESTEP("status", job, "--json", s.broker_flag);
    stack_expect(&o, 0, NULL);
    line = stack_json(&j, o.out);
    EXPECT_TEXT(stack_text(&line, "state"), "done");
    EXPECT_TEXT(stack_text(&line, "labels"), "project=birds");
    EXPECT_INT(stack_int(&line, "attempt"), 1);
    result = json_find(&line, "result");
    EXPECT(strncmp(stack_text(&result, "video"), "file:///", 8) == 0);
    json_free(&j);

    o = ONESTEP("queues", "--json", s.broker_flag);
    stack_expect(&o, 0, NULL);
    line = stack_json(&j, o.out);
    EXPECT(stack_int(&line, "workers") >= 1); /* the other may still be loading */
    result = json_find(&line, "jobs");
    EXPECT_INT(stack_int(&result, "done"), 1);
    EXPECT_INT(stack_int(&result, "queued"), 0);
    json_free(&j);

    o = ONESTEP("list", "--label=project=birds", "--json", s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 1);
    EXPECT(strstr(o.out, job));
    o = ONESTEP("list", "--label=project=fish", s.broker_flag);
    stack_expect(&o, 0, "no jobs like that");
    EXPECT_INT(stack_lines(o.out), 0);

    o = ONESTEP("fetch", job, "-o", stack_path("got"), s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 3);
    snprintf(name, sizeof(name), "got/%s.mp4", job);
    snprintf(path, sizeof(path), "%s", stack_path(name));
    {
        struct media_video_info video;

        EXPECT_OK(media_video_probe(&video, path));
        EXPECT_INT(video.frame_count, 4);
    }
    stack_close(&s);
}

/* Questions about jobs that are not there, or not done. */
TEST_TIMEOUT(hand_questions_without_answers, 60)
{
    static const char nobody[] = "00aaaaaaaaaaaaaaaaaaaaaaaa";
    struct stack s;
    struct stack_output o;
    char job[JOB_ID_BYTES];

    stack_open(&s);
    o = ONESTEP("status", nobody, s.broker_flag);
    stack_expect(&o, 3, "is not known here");
    o = ONESTEP("status", nobody, "--json", s.broker_flag);
    stack_expect(&o, 3, NULL);
    EXPECT(strstr(o.out, "\"state\":\"unknown\""));
    o = ONESTEP("wait", nobody, s.broker_flag);
    stack_expect(&o, 3, "is not known here");
    o = ONESTEP("cancel", nobody, s.broker_flag);
    stack_expect(&o, 3, "is not known here");
    o = ONESTEP("fetch", nobody, s.broker_flag, "-o", test_tmpdir());
    stack_expect(&o, 3, "is not known here");

    snprintf(job, sizeof(job), "%s", stack_submit(&s, NO_FLAGS));
    o = ONESTEP("fetch", job, s.broker_flag, "-o", test_tmpdir());
    stack_expect(&o, 4, "is queued; `onestep wait");
    o = ONESTEP("wait", job, s.broker_flag, "--give-up-s=1");
    stack_expect(&o, 8, "not ended after 1 s: 1 of 1 jobs; they go on");
    o = ONESTEP("cancel", job, s.broker_flag);
    stack_expect(&o, 0, NULL);
    o = ONESTEP("wait", job, s.broker_flag);
    stack_expect(&o, 12, "was cancelled");
    stack_close(&s);
}

/* Ctrl-C ends the watching, not the job. */
TEST_TIMEOUT(hand_wait_can_be_interrupted, 60)
{
    struct stack s;
    struct stack_program wait;
    struct stack_output o;
    char job[JOB_ID_BYTES];

    stack_open(&s);
    snprintf(job, sizeof(job), "%s", stack_submit(&s, NO_FLAGS));
    stack_begin(&wait, "onestep", (const char *const[]){ "wait", job, s.broker_flag, NULL });
    stack_wait_text(wait.err_path, "queued");
    EXPECT(kill(wait.pid, SIGINT) == 0);
    o = stack_end(&wait);
    stack_expect(&o, 12, "interrupted; jobs that go on: 1");
    o = ONESTEP("list", "--state=queued", s.broker_flag, "--json");
    EXPECT(strstr(o.out, job));
    stack_close(&s);
}

/* A running job is stopped, and its worker takes the next. */
TEST_TIMEOUT(hand_cancel_stops_a_running_job, 120)
{
    struct stack s;
    struct stack_output o;
    char job[JOB_ID_BYTES], next[JOB_ID_BYTES];

    stack_open(&s);
    stack_add_worker(&s, 0);
    snprintf(job, sizeof(job), "%s",
             stack_submit(&s, (const char *const[]){ "--frames=400", "--sampler=euler", NULL }));
    stack_wait_state(&s, job, "running");
    o = ONESTEP("cancel", job, s.broker_flag, "--json");
    stack_expect(&o, 0, NULL);
    EXPECT(strstr(o.out, "\"verdict\":\"ok\"") && strstr(o.out, "\"state\":\"cancelled\""));
    o = ONESTEP("cancel", job, s.broker_flag, "--json");
    stack_expect(&o, 0, NULL);
    EXPECT(strstr(o.out, "\"verdict\":\"duplicate\""));
    snprintf(next, sizeof(next), "%s",
             stack_submit(&s, (const char *const[]){ "--frames=2", NULL }));
    o = ONESTEP("wait", next, job, s.broker_flag);
    stack_expect(&o, 12, NULL);
    EXPECT(strstr(o.out, "  done  /"));
    o = ONESTEP("cancel", next, s.broker_flag);
    stack_expect(&o, 4, "is done already");
    stack_close(&s);
}

static void write_manifest(const char *name, int rows, int fps)
{
    struct buf text = { 0 };

    for (int i = 0; i < rows; i++)
        EXPECT_OK(buf_printf(&text,
                             "{\"image\": \"%s\", \"fps\": %d, \"labels\": {\"n\": \"%d\"}}\n",
                             PHOTO, fps, i));
    stack_write(name, text.data);
    buf_free(&text);
}

/* A thousand rows, sent twice under one key: the same thousand jobs. */
TEST_TIMEOUT(hand_thousand_rows_are_idempotent, 120)
{
    struct stack s;
    struct stack_output o;
    struct buf first = { 0 };

    stack_open(&s);
    write_manifest("jobs.jsonl", 1000, 7);
    o = ONESTEP("submit", "--manifest", stack_path("jobs.jsonl"), "--key=night", s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 1000);
    EXPECT_OK(buf_append_text(&first, o.out));
    o = ONESTEP("submit", "--manifest", stack_path("jobs.jsonl"), "--key=night", s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT_TEXT(o.out, first.data);
    o = ONESTEP("list", "--state=queued", "--limit=5000", "--json", s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 1000);

    /* the same key for something else is a mistake that is told row by row */
    write_manifest("jobs.jsonl", 3, 8);
    o = ONESTEP("submit", "--manifest", stack_path("jobs.jsonl"), "--key=night", s.broker_flag);
    stack_expect(&o, 4, "jobs queued: 0, refused: 3");
    EXPECT_INT(stack_lines(o.out), 0);
    EXPECT(strstr(o.err, "row 2 (file://"));
    buf_free(&first);
    stack_close(&s);
}

/* Bad rows are told with their lines; the good ones are queued. */
TEST_TIMEOUT(hand_bad_rows_do_not_stop_good_ones, 60)
{
    struct stack s;
    struct stack_output o;
    char text[4 * FILE_PATH_BYTES];

    stack_open(&s);
    snprintf(text, sizeof(text),
             "{\"image\": \"%s\"}\n{\"image\": \"%s\", \"fsp\": 3}\nnonsense\n"
             "{\"image\": \"none.jpg\"}\n{\"image\": \"%s\", \"fps\": 12}\n",
             PHOTO, PHOTO, PHOTO);
    stack_write("jobs.jsonl", text);
    o = ONESTEP("submit", "--manifest", stack_path("jobs.jsonl"), "--check");
    stack_expect(&o, 2, "jobs that are fine: 2, refused: 3; nothing was queued");
    o = ONESTEP("submit", "--manifest", stack_path("jobs.jsonl"), s.broker_flag, "--json");
    stack_expect(&o, 2, "jobs queued: 2, refused: 3");
    EXPECT(strstr(o.err, "jobs.jsonl:2: unknown key \"fsp\"; did you mean \"fps\"?"));
    EXPECT(strstr(o.err, "jobs.jsonl:3: "));
    EXPECT(strstr(o.err, "none.jpg: no such file"));
    EXPECT_INT(stack_lines(o.out), 5);
    o = ONESTEP("list", s.broker_flag, "--json");
    EXPECT_INT(stack_lines(o.out), 2);
    stack_close(&s);
}

TEST_TIMEOUT(hand_no_broker, 60)
{
    struct stack_output o =
        ONESTEP("submit", PHOTO, "--broker=tcp://127.0.0.1:1", "--broker-timeout-ms=800", "--json");

    stack_expect(&o, 7,
                 "no broker answers at tcp://127.0.0.1:1: start onestep-broker or give "
                 "--broker");
    EXPECT(strstr(o.out, "{\"error\":{\"code\":\"unavailable\",\"exit\":7,"));
    o = ONESTEP("list", "--broker=localhost", "--broker-timeout-ms=800");
    stack_expect(&o, 2, "localhost");
}

TEST_TIMEOUT(hand_no_redis, 60)
{
    struct stack_output o = stack_run(
        "onestep-broker", (const char *const[]){ "--redis-url=redis://127.0.0.1:1", NULL });

    stack_expect(&o, 7, "no Redis at 127.0.0.1:1");
    EXPECT(strstr(o.err, "start redis-server or set redis_url"));
}

/* A slip in a YAML file: file, line, and what was meant; for all three programs. */
TEST_TIMEOUT(hand_unknown_yaml_key, 60)
{
    struct stack_output o;

    stack_write("worker.yaml", "# where the model is\n\nmodle: /m\n");
    o = stack_run("onestep-worker",
                  (const char *const[]){ "--config", stack_path("worker.yaml"), NULL });
    stack_expect(&o, 2, "worker.yaml:3: unknown key \"modle\"; did you mean \"model\"?");
    stack_write("broker.yaml", "lease_ms: 5000\nredis_ulr: x\n");
    o = stack_run("onestep-broker",
                  (const char *const[]){ "--config", stack_path("broker.yaml"), NULL });
    stack_expect(&o, 2, "broker.yaml:2: unknown key \"redis_ulr\"; did you mean \"redis_url\"?");
    stack_write("client.yaml", "brokers: x\n");
    o = ONESTEP("list", "--config", stack_path("client.yaml"));
    stack_expect(&o, 2, "client.yaml:1: unknown key \"brokers\"; did you mean \"broker\"?");
}

TEST_TIMEOUT(hand_worker_needs_a_model, 60)
{
    struct stack_output o =
        stack_run("onestep-worker", (const char *const[]){ "--model=/nonexistent/model", NULL });

    stack_expect(&o, 3, "/nonexistent/model");
    o = stack_run("onestep-worker", (const char *const[]){ NULL });
    stack_expect(&o, 2, "model must be given: --model");
}

/* Every program explains itself, and its settings can be written down and read back. */
TEST_TIMEOUT(hand_programs_explain_themselves, 60)
{
    static const char *const programs[] = { "onestep-broker", "onestep-worker" };
    struct stack_output o;

    for (int i = 0; i < 2; i++) {
        o = stack_run(programs[i], (const char *const[]){ "--help", NULL });
        stack_expect(&o, 0, NULL);
        EXPECT(strstr(o.out, "\nExit codes:\n") && strstr(o.out, "\nExamples:\n"));
        o = stack_run(programs[i], (const char *const[]){ "--man", NULL });
        stack_expect(&o, 0, NULL);
        EXPECT(strncmp(o.out, ".TH ONESTEP\\-", 13) == 0);
        o = stack_run(programs[i], (const char *const[]){ "--version", NULL });
        stack_expect(&o, 0, NULL);
        o = stack_run(programs[i], (const char *const[]){ "--print-config", NULL });
        stack_expect(&o, 0, NULL);
        stack_write("printed.yaml", o.out);
        o = stack_run(programs[i], (const char *const[]){ "--config", stack_path("printed.yaml"),
                                                          "--print-config", NULL });
        stack_expect(&o, 0, NULL);
    }
    o = ONESTEP("--version");
    stack_expect(&o, 0, NULL);
    EXPECT(strstr(o.out, "libraries: "));
    o = ONESTEP("man");
    stack_expect(&o, 0, NULL);
    EXPECT(strncmp(o.out, ".TH ONESTEP 1 ", 14) == 0);
}
