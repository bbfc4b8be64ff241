/* stack.h - the real programs, run by end-to-end tests: started, waited for, killed, asked.
 *
 * Everything a test starts dies with it. Each test has its own folder, ports and Redis. */
#ifndef ONESTEP_TESTS_E2E_STACK_H
#define ONESTEP_TESTS_E2E_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/redis_child.h"
#include "proto/msg.h"

/* Longest wait for anything that is expected to happen, on a busy machine. */
#define STACK_WAIT_MS 60000

#define STACK_ARGS_MAX 40
#define STACK_WORKERS 2

/* A program that was started. */
struct stack_program {
    pid_t pid;                      /* 0: not running */
    char out_path[FILE_PATH_BYTES]; /* its standard output */
    char err_path[FILE_PATH_BYTES]; /* its standard error */
};

/* What a program that has ended left. Valid until the next stack_run or stack_end of this test. */
struct stack_output {
    int code;        /* exit code, or 128 + signal */
    const char *out; /* standard output */
    const char *err; /* standard error */
};

/* Redis, broker and workers as three programs by hand: a YAML file each, over tcp://. */
struct stack {
    struct redis_child redis;
    struct stack_program broker;
    struct stack_program workers[STACK_WORKERS];
    int client_port, worker_port; /* of the broker, on 127.0.0.1 */
    char broker_flag[64];         /* "--broker=tcp://127.0.0.1:PORT" */
    char data[FILE_PATH_BYTES];   /* folder of results */
};

/* A path in the test's folder; each call returns another buffer, of which there are some. */
const char *stack_path(const char *name);

/* Path of a fixture or sample, absolute. */
const char *stack_source(const char *path);

/* The checkpoint that tests run on: small, random weights. */
const char *stack_model(void);

/* Write text to the file name in the test's folder; returns its path. */
const char *stack_write(const char *name, const char *text);

/* Start a program of ours ("onestep", ...) with arguments up to NULL. */
void stack_begin(struct stack_program *p, const char *program, const char *const *args);

/* Wait for its end. */
struct stack_output stack_end(struct stack_program *p);

/* Start and wait. */
struct stack_output stack_run(const char *program, const char *const *args);

/* `onestep` with these words. */
#define ONESTEP(...) stack_run("onestep", (const char *const[]){ __VA_ARGS__, NULL })

/* End it by SIGKILL, as a crash would. */
void stack_kill(struct stack_program *p);

/* Has it ended? It is not reaped. */
bool stack_has_ended(const struct stack_program *p);

/* Fail unless the program ended with this code; and, when part is not NULL, said part on standard
 * error. */
void stack_expect(const struct stack_output *o, int code, const char *part);

/* Wait until the file at path holds part. */
void stack_wait_text(const char *path, const char *part);

/* Wait until nothing of this test runs any more: no process whose command line names text. */
void stack_wait_gone(const char *text);

/* The id of a process whose command line names both texts, waited for. */
pid_t stack_find_process(const char *program, const char *text);

/* Parse one JSON line. The document is to be freed by the caller. */
struct json_value stack_json(struct json *j, const char *line);

/* A text member of an object; fails when there is none. Borrowed from the document. */
const char *stack_text(const struct json_value *v, const char *key);

/* A whole member of an object. */
long long stack_int(const struct json_value *v, const char *key);

/* Lines in text. */
int stack_lines(const char *text);

/* What may differ from test to test. */
struct stack_config {
    int lease_ms;      /* 0: 3000 */
    const char *store; /* the workers' settings of the store, as YAML; NULL: the folder data */
};

/* Start Redis, and a broker at free ports; prepare the workers' YAML. */
void stack_open(struct stack *s);

/* As stack_open. */
void stack_open_with(struct stack *s, const struct stack_config *c);

/* Start worker number index (0 or 1). */
void stack_add_worker(struct stack *s, int index);

/* Start the broker (again, at the same ports). */
void stack_start_broker(struct stack *s);

/* Start Redis (again, on the same data). */
void stack_start_redis(struct stack *s);

/* Stop all. */
void stack_close(struct stack *s);

/* Wait until job has this state ("running", ...), as `onestep status` says. */
void stack_wait_state(struct stack *s, const char *job, const char *state);

/* Submit one photograph with further flags up to NULL; the id is valid until the next call. */
const char *stack_submit(struct stack *s, const char *const *flags);

#endif
