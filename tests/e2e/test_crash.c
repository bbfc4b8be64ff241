#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/stack.h"
#include "tests/tool/disk.h"
#include "tests/tool/test.h"

#define PHOTO stack_source("ops/samples/coffee.jpg")
#define JOBS 6

/* Queue JOBS small clips; their ids, one a line, go to ids. */
static void submit_some(struct stack *s, struct buf *ids)
{
    struct stack_output o =
        ONESTEP("submit", PHOTO, PHOTO, PHOTO, PHOTO, PHOTO, PHOTO, "--frames=8", s->broker_flag);

    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), JOBS);
    EXPECT_OK(buf_append_text(ids, o.out));
}

/* Start to wait for all jobs of ids. */
static void begin_wait(struct stack *s, struct stack_program *wait, struct buf *ids)
{
    const char *args[JOBS + 4] = { "wait", s->broker_flag, "--json" };
    char *next = NULL;

    for (int i = 0; i < JOBS; i++)
        args[3 + i] = strtok_r(i ? NULL : ids->data, "\n", &next);
    stack_begin(wait, "onestep", args);
}

/* All are done, each told once, each with a result of its own. */
static void expect_all_done(struct stack_program *wait)
{
    struct stack_output o = stack_end(wait);
    int done = 0;

    stack_expect(&o, 0, NULL);
    for (const char *at = o.out; (at = strstr(at, "\"state\":\"done\"")); at++)
        done++;
    EXPECT_INT(done, JOBS);
    EXPECT_INT(stack_lines(o.out), JOBS);
}

/* A worker dies in the middle of a job; the other takes it over. */
TEST_TIMEOUT(crash_of_a_worker, 120)
{
    struct stack s;
    struct stack_program wait;
    struct buf ids = { 0 };

    stack_open(&s);
    stack_add_worker(&s, 0);
    submit_some(&s, &ids);
    begin_wait(&s, &wait, &ids);
    stack_wait_text(wait.err_path, " running: ");
    stack_kill(&s.workers[0]);
    stack_add_worker(&s, 1);
    expect_all_done(&wait);
    buf_free(&ids);
    stack_close(&s);
}

/* The broker dies; another one on the same addresses goes on. Worker and client find it. */
TEST_TIMEOUT(crash_of_the_broker, 120)
{
    struct stack s;
    struct stack_program wait;
    struct buf ids = { 0 };

    stack_open(&s);
    stack_add_worker(&s, 0);
    submit_some(&s, &ids);
    begin_wait(&s, &wait, &ids);
    stack_wait_text(wait.err_path, " running: ");
    stack_kill(&s.broker);
    stack_start_broker(&s);
    expect_all_done(&wait);
    buf_free(&ids);
    stack_close(&s);
}

/* Redis dies in the middle of the queue and comes back: no job is lost, none is done twice. */
TEST_TIMEOUT(crash_of_redis, 120)
{
    struct stack s;
    struct stack_program wait;
    struct stack_output o;
    struct buf ids = { 0 };

    stack_open(&s);
    stack_add_worker(&s, 0);
    submit_some(&s, &ids);
    begin_wait(&s, &wait, &ids);
    stack_wait_text(wait.err_path, " running: ");
    redis_child_kill(&s.redis);
    /* meanwhile clients hear what is wrong */
    o = ONESTEP("list", s.broker_flag, "--broker-timeout-ms=1500");
    stack_expect(&o, 7, "Redis");
    stack_start_redis(&s);
    expect_all_done(&wait);
    buf_free(&ids);
    stack_close(&s);
}

/* The disk for results is full: the job says so, and nothing half-written is a result. */
TEST_TIMEOUT(storage_crash_full_disk, 120)
{
    struct stack_output o;
    char out[FILE_PATH_BYTES];

    snprintf(out, sizeof(out), "%s/data", disk_small((size_t)160 << 10));
    o = ONESTEP("run", PHOTO, "--model", stack_model(), "-o", out, "--attempts=1", "--frames=8",
                "--width=256", "--height=256", "--threads=1");
    stack_expect(&o, 9, out);
    /* without the right to mount, disk_small limits the size of files instead */
    EXPECT(strstr(o.err, "the disk is full; free some space") || strstr(o.err, "file size limit"));
    EXPECT_INT(stack_lines(o.out), 0);
}
