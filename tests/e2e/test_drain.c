/* Workers that are asked to stop while they compute. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/e2e/stack.h"
#include "tests/tool/test.h"

/* One signal: what runs is finished, what waits stays for others. */
TEST_TIMEOUT(drain_finishes_the_running_job_only, 120)
{
    struct stack s;
    struct stack_output o;
    char running[JOB_ID_BYTES], waiting[JOB_ID_BYTES];

    stack_open(&s);
    stack_add_worker(&s, 0);
    snprintf(running, sizeof(running), "%s",
             stack_submit(&s, (const char *const[]){ "--frames=40", "--sampler=euler", NULL }));
    stack_wait_state(&s, running, "running");
    EXPECT(kill(s.workers[0].pid, SIGTERM) == 0);
    stack_wait_text(s.workers[0].err_path, "worker.signal");
    snprintf(waiting, sizeof(waiting), "%s", stack_submit(&s, (const char *const[]){ NULL }));
    o = stack_end(&s.workers[0]);
    stack_expect(&o, 0, "worker.end");
    stack_wait_state(&s, running, "done");
    stack_wait_state(&s, waiting, "queued");
    stack_close(&s);
}

/* Two signals: the running job is handed back at once, and costs no try. */
TEST_TIMEOUT(drain_hands_back_at_a_second_signal, 120)
{
    struct stack s;
    struct stack_output o;
    struct json j = { 0 };
    struct json_value line;
    char job[JOB_ID_BYTES];

    stack_open(&s);
    stack_add_worker(&s, 0);
    snprintf(job, sizeof(job), "%s",
             stack_submit(&s, (const char *const[]){ "--frames=400", "--sampler=euler", NULL }));
    stack_wait_state(&s, job, "running");
    EXPECT(kill(s.workers[0].pid, SIGTERM) == 0);
    stack_wait_text(s.workers[0].err_path, "worker.signal signal=15");
    EXPECT(kill(s.workers[0].pid, SIGTERM) == 0);
    o = stack_end(&s.workers[0]);
    stack_expect(&o, 0, "worker.end");
    o = ONESTEP("status", job, "--json", s.broker_flag);
    stack_expect(&o, 0, NULL);
    line = stack_json(&j, o.out);
    EXPECT_TEXT(stack_text(&line, "state"), "queued");
    EXPECT_INT(stack_int(&line, "attempt"), 1);
    EXPECT_INT(stack_int(&line, "tries"), 0);
    json_free(&j);
    stack_close(&s);
}
