/* The real programs with keys: who is let in, and who is not. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "tests/e2e/stack.h"
#include "tests/tool/test.h"

/* Add settings to a YAML file of the stack. */
static void append(const char *name, const char *lines)
{
    struct buf text = { 0 };

    EXPECT_OK(file_read(stack_path(name), 1 << 16, &text));
    EXPECT_OK(buf_append_text(&text, lines));
    stack_write(name, text.data);
    buf_free(&text);
}

static void make_key(const char *name, const char *role, const char *dir)
{
    struct stack_output o = ONESTEP("keygen", name, "--role", role, "-o", stack_path(dir));

    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 2);
}

/* A stack whose broker lets in a worker and "anna", a client. */
static void open_guarded(struct stack *s)
{
    char lines[3 * FILE_PATH_BYTES];
    struct stack_output o;

    stack_open(s);
    make_key("broker", "broker", "keys");
    make_key("gpu-7", "worker", "keys");
    make_key("anna", "client", "keys");
    make_key("ruth", "admin", "keys");
    o = ONESTEP("keygen", "bob", "--tenant=birds", "-o", stack_path("keys"));
    stack_expect(&o, 0, NULL);
    make_key("eve", "client", "elsewhere");
    snprintf(lines, sizeof(lines), "curve_key: \"%s\"\ncurve_allow: \"%s\"\n",
             stack_path("keys/broker.key"), stack_path("keys"));
    append("broker.yaml", lines);
    snprintf(lines, sizeof(lines), "curve_key: \"%s\"\nbroker_key: \"%s\"\n",
             stack_path("keys/gpu-7.key"), stack_path("keys/broker.pub"));
    append("worker.yaml", lines);
    stack_kill(&s->broker);
    stack_start_broker(s);
    stack_wait_text(s->broker.err_path, "broker.ready");
    stack_add_worker(s, 0);
}

/* `onestep list` with this secret key. */
static struct stack_output list_as(const struct stack *s, const char *key)
{
    return ONESTEP("list", s->broker_flag, "--broker-timeout-ms=2000", "--curve-key",
                   stack_path(key), "--broker-key", stack_path("keys/broker.pub"));
}

TEST_TIMEOUT(keys_let_in_whoever_has_a_card, 120)
{
    struct stack s;
    struct stack_output o;
    char anna[FILE_PATH_BYTES], broker[FILE_PATH_BYTES];

    open_guarded(&s);
    snprintf(anna, sizeof(anna), "%s", stack_path("keys/anna.key"));
    snprintf(broker, sizeof(broker), "%s", stack_path("keys/broker.pub"));
    o = ONESTEP("submit", s.broker_flag, "--broker-timeout-ms=60000", "--curve-key", anna,
                "--broker-key", broker, stack_source("ops/samples/coffee.jpg"));
    stack_expect(&o, 0, NULL);
    {
        char job[JOB_ID_BYTES];

        snprintf(job, sizeof(job), "%.26s", o.out);
        o = ONESTEP("wait", job, s.broker_flag, "--curve-key", anna, "--broker-key", broker);
        stack_expect(&o, 0, job);
    }
    o = list_as(&s, "elsewhere/eve.key"); /* no card */
    stack_expect(&o, 7, "no broker answers");
    o = ONESTEP("list", s.broker_flag, "--broker-timeout-ms=2000"); /* no key */
    stack_expect(&o, 7, "no broker answers");
    o = list_as(&s, "keys/gpu-7.key"); /* a worker's */
    stack_expect(&o, 4, "is a worker's, who may not say list");
    o = ONESTEP("pause", "queue", s.broker_flag, "--curve-key", anna, "--broker-key", broker);
    stack_expect(&o, 4, "is a client's, who may not say rule (that needs the role admin)");
    o = ONESTEP("pause", "queue", s.broker_flag, "--curve-key", stack_path("keys/ruth.key"),
                "--broker-key", broker);
    stack_expect(&o, 0, NULL);
    {
        char bird[FILE_PATH_BYTES];

        snprintf(bird, sizeof(bird), "%s", stack_path("keys/bob.key"));
        o = ONESTEP("submit", s.broker_flag, "--curve-key", bird, "--broker-key", broker,
                    "--tenant=fish", stack_source("ops/samples/coffee.jpg"));
        stack_expect(&o, 4, "is of tenant birds, the job says fish");
        o = ONESTEP("submit", s.broker_flag, "--curve-key", bird, "--broker-key", broker,
                    stack_source("ops/samples/coffee.jpg"));
        stack_expect(&o, 0, NULL);
        o = ONESTEP("list", "--json", s.broker_flag, "--curve-key", bird, "--broker-key", broker);
        stack_expect(&o, 0, NULL);
        EXPECT(strstr(o.out, "\"tenant\":\"birds\""));
        EXPECT(!strstr(o.out, "fish"));
    }
    o = ONESTEP("workers", s.broker_flag, "--curve-key", anna, "--broker-key", broker);
    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 2);
    EXPECT(unlink(stack_path("keys/anna.pub")) == 0);
    EXPECT(kill(s.broker.pid, SIGHUP) == 0);
    stack_wait_text(s.broker.err_path, "keys.reload");
    o = list_as(&s, "keys/anna.key");
    stack_expect(&o, 7, "no broker answers");
    stack_close(&s);
}

TEST_TIMEOUT(keys_are_needed_beyond_this_machine, 60)
{
    struct stack_output o = stack_run(
        "onestep-broker", (const char *const[]){ "--client-endpoint=tcp://0.0.0.0:7450", NULL });

    stack_expect(&o, 2, "is reached from other machines: set curve_key and curve_allow");
}
