/* The real programs, asked and ordered about by operators. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/e2e/stack.h"
#include "tests/tool/test.h"

#define PHOTO stack_source("ops/samples/coffee.jpg")
#define NO_FLAGS ((const char *const[]){ NULL })

/* Run `onestep` with these words at this stack, which must succeed; returns what it printed. */
#define ASK(s, ...) ask_stack((const char *const[]){ __VA_ARGS__, (s)->broker_flag, NULL })

static struct stack_output ask_stack(const char *const *words)
{
    struct stack_output o = stack_run("onestep", words);

    stack_expect(&o, 0, NULL);
    return o;
}

static void expect_part(const struct stack_output *o, const char *part)
{
    if (!strstr(o->out, part))
        test_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", part, o->out);
}

/* What is waited for: words that print part. */
struct words_wait {
    const char *const *words;
    const char *part;
};

static bool prints(void *self)
{
    struct words_wait *w = self;
    struct stack_output o = stack_run("onestep", w->words);

    return o.code == 0 && strstr(o.out, w->part);
}

static void wait_print(const char *const *words, const char *part)
{
    struct words_wait w = { words, part };

    if (!clock_wait_for(prints, &w, STACK_WAIT_MS))
        test_fail(__FILE__, __LINE__, "onestep %s never said %s", words[0], part);
}

static void submit(struct stack *s, char job[JOB_ID_BYTES], const char *const *flags)
{
    snprintf(job, JOB_ID_BYTES, "%s", stack_submit(s, flags));
}

/* The line of a paused queue: where jobs stand in it, why, and who is put first. */
TEST_TIMEOUT(rule_pause_front_and_resume, 120)
{
    struct stack s;
    struct stack_output o;
    char first[JOB_ID_BYTES], second[JOB_ID_BYTES], *at;

    stack_open(&s);
    submit(&s, first, (const char *const[]){ "--frames=2", NULL });
    submit(&s, second, (const char *const[]){ "--frames=2", "--batch=pair", NULL });
    o = ASK(&s, "status", first, second);
    expect_part(&o, "number 1 in the line, done in about");
    expect_part(&o, "number 2 in the line, done in about");
    o = ASK(&s, "why", first, "--json");
    expect_part(&o, "\"it is queued\"");
    expect_part(&o, "no worker has asked for jobs of model default so far");
    o = ASK(&s, "pause", "queue");
    o = ASK(&s, "why", first);
    expect_part(&o, "the whole queue is paused");
    o = ASK(&s, "front", second);
    o = ASK(&s, "status", second, "--json");
    expect_part(&o, "\"position\":1");
    stack_add_worker(&s, 0);
    wait_print((const char *const[]){ "workers", s.broker_flag, "--json", NULL },
               "\"state\":\"idle\"");
    o = ASK(&s, "queues", "--json");
    expect_part(&o, "\"lines\":[{\"model\":\"default\",\"above_mib\":0,\"tenant\":\"default\","
                    "\"queued\":2,\"held_by\":\"pause\"}]");
    o = ASK(&s, "resume", "queue");
    o = ASK(&s, "wait", first, second);
    /* the events say who came first, and can be read from any of them on */
    o = ASK(&s, "events", first, second);
    EXPECT_INT(stack_lines(o.out), 4);
    EXPECT(strncmp(o.out + strcspn(o.out, " "), "   ", 3) == 0);
    at = strstr(o.out, second);
    EXPECT(at && at < strstr(o.out, first));
    {
        char cursor[64];

        snprintf(cursor, sizeof(cursor), "%.*s", (int)strcspn(o.out, " "), o.out);
        o = ASK(&s, "events", "--once", "--json", "--since", cursor);
        EXPECT(!strstr(o.out, cursor));
        EXPECT_INT(stack_lines(o.out), 4); /* three of the jobs, and the end of the batch */
        expect_part(&o, "\"job\":null,\"state\":\"batch\",\"tenant\":\"default\","
                        "\"batch\":\"pair\"");
    }
    stack_close(&s);
}

/* A dead job is redriven once its input is there; a drained worker ends by itself. */
TEST_TIMEOUT(rule_redrive_and_drain, 120)
{
    struct stack s;
    struct stack_output o;
    char job[JOB_ID_BYTES], worker[JOB_ID_BYTES], copy[FILE_PATH_BYTES];
    struct buf photo = { 0 };

    stack_open(&s);
    EXPECT_OK(file_read(PHOTO, 16 << 20, &photo));
    snprintf(copy, sizeof(copy), "%s", stack_path("photo.jpg"));
    EXPECT_OK(file_write_new(copy, photo.data, photo.len));
    o = ONESTEP("submit", s.broker_flag, copy, "--frames=2");
    stack_expect(&o, 0, NULL);
    snprintf(job, sizeof(job), "%.26s", o.out);
    EXPECT(unlink(copy) == 0);
    stack_add_worker(&s, 0);
    stack_wait_state(&s, job, "dead");
    o = ONESTEP("front", job, s.broker_flag);
    stack_expect(&o, 4, "is dead, not queued");
    EXPECT_OK(file_write_new(copy, photo.data, photo.len));
    o = ASK(&s, "redrive", "--all", "--json");
    EXPECT_TEXT(o.out, "{\"redriven\":1}\n");
    o = ASK(&s, "wait", job);
    o = ONESTEP("redrive", job, s.broker_flag, "--json");
    stack_expect(&o, 4, "is done, not dead");
    expect_part(&o, "\"verdict\":\"conflict\"");
    o = ASK(&s, "audit");
    EXPECT_INT(stack_lines(o.out), 0);

    o = ASK(&s, "workers");
    snprintf(worker, sizeof(worker), "%.26s", strchr(o.out, '\n') + 1);
    o = ONESTEP("drain", job, s.broker_flag); /* not a worker's id */
    stack_expect(&o, 3, "no broker knows a worker");
    o = ASK(&s, "drain", worker);
    EXPECT_INT(stack_end(&s.workers[0]).code, 0);
    o = ASK(&s, "workers", "--json");
    EXPECT_INT(stack_lines(o.out), 0);
    o = ASK(&s, "drain", "queue");
    o = ONESTEP("submit", s.broker_flag, PHOTO);
    stack_expect(&o, 9, "the queue is being drained");
    buf_free(&photo);
    stack_close(&s);
}

/* Limits of a tenant hold, are shown, and stay as they are when others are set. */
TEST_TIMEOUT(rule_quota_of_a_tenant, 60)
{
    struct stack s;
    struct stack_output o;

    stack_open(&s);
    o = ASK(&s, "quota", "birds", "--queued-max=1", "--weight=3", "--json");
    expect_part(&o, "\"queued_max\":1,\"running_max\":0,");
    o = ASK(&s, "quota", "birds", "--running-max=7", "--json");
    expect_part(&o, "\"queued_max\":1,\"running_max\":7,");
    expect_part(&o, "\"weight\":3}");
    stack_submit(&s, (const char *const[]){ "--tenant=birds", NULL });
    o = ONESTEP("submit", s.broker_flag, PHOTO, "--tenant=birds");
    stack_expect(&o, 9, "tenant birds has its quota of 1 waiting jobs");
    o = ASK(&s, "quota");
    EXPECT_INT(stack_lines(o.out), 2);
    o = ONESTEP("quota", s.broker_flag, "--weight=2");
    stack_expect(&o, 2, "whose limits? Name a tenant");
    o = ONESTEP("pause", "birds", s.broker_flag);
    stack_expect(&o, 2, "\"birds\" is none of: queue, model NAME, tenant NAME");
    stack_close(&s);
}

/* An audit finds what somebody has broken, and its repair mends it. */
TEST_TIMEOUT(rule_audit_repairs, 60)
{
    struct stack s;
    struct stack_output o;
    char command[FILE_PATH_BYTES + 64];

    stack_open(&s);
    stack_submit(&s, NO_FLAGS);
    EXPECT(strncmp(s.redis.url, "unix://", 7) == 0);
    snprintf(command, sizeof(command), "redis-cli -s '%.*s' hset '{00}counts' queued 7 >/dev/null",
             (int)strcspn(s.redis.url + 7, "?"), s.redis.url + 7);
    EXPECT_INT(system(command), 0);
    o = ONESTEP("audit", s.broker_flag);
    stack_expect(&o, 5, "1 places in Redis disagree with the jobs; --repair derives them anew");
    EXPECT_TEXT(o.out, "queued is 7, not 1\n");
    o = ONESTEP("audit", "--repair", s.broker_flag);
    stack_expect(&o, 0, "repaired");
    EXPECT_INT(stack_lines(o.out), 1);
    o = ONESTEP("audit", s.broker_flag);
    stack_expect(&o, 0, "everything agrees");
    stack_close(&s);
}

/* A job that a worker has too little memory for goes to the one with more, and not back. */
TEST_TIMEOUT(rule_memory_decides_who_gets_a_job, 120)
{
    struct stack s;
    struct stack_output o;
    char job[JOB_ID_BYTES];

    stack_open(&s);
    stack_add_worker(&s, 0);
    submit(&s, job, (const char *const[]){ "--frames=2", NULL });
    o = ASK(&s, "wait", job); /* the store knows now that there are workers with so much */
    stack_kill(&s.workers[0]);
    stack_begin(&s.workers[1], "onestep-worker",
                (const char *const[]){ "--config", stack_path("worker.yaml"),
                                       "--memory-max-bytes=60000000", NULL });
    submit(&s, job, (const char *const[]){ "--frames=14", NULL });
    wait_print((const char *const[]){ "why", job, s.broker_flag, NULL },
               "it ran out of memory on a worker with 57 MiB and waits for a larger one");
    wait_print((const char *const[]){ "workers", s.broker_flag, NULL }, "  57  ");
    stack_add_worker(&s, 0);
    o = ASK(&s, "wait", job);
    o = ASK(&s, "status", job, "--json");
    expect_part(&o, "\"tries\":2,"); /* one on the small worker, one on the large */
    stack_close(&s);
}
