/* store_fixture.h - a store on a private Redis in the test's folder, and calls in one line each. */
#ifndef ONESTEP_TESTS_UNIT_COMMON_STORE_FIXTURE_H
#define ONESTEP_TESTS_UNIT_COMMON_STORE_FIXTURE_H

#include <stdint.h>

#include "common/redis_child.h"
#include "common/store.h"

#define LIMIT_JOBS_SEEN 16

/* A reply with the strings and parts that a test looks at, copied. */
struct answer {
    status code;
    char sentence[512];
    enum msg_verdict verdict;
    enum job_state state;
    struct lease lease;
    bool has_job;
    struct job_spec spec;
    size_t job_count;
    struct job_status jobs[LIMIT_JOBS_SEEN];
    char texts[LIMIT_JOBS_SEEN][3][256]; /* worker, stage, sentence of each job */
    char cursor[64];
    int64_t expired, promoted, next_due_ms;
    int64_t job_counts[JOB_STATE_COUNT];
};

/* Start Redis and open the store; both end with the test. */
struct store *fixture_open(void);

/* The Redis of fixture_open. */
struct redis_child *fixture_redis(void);

/* The configuration that fixture_open used. */
struct store_config fixture_config(void);

/* Make a call and wait for its answer. */
struct answer fixture_call(struct store *s, const struct store_call *call);

/* Send one command by a connection of its own; it must not be refused. Arguments end with NULL. The
 * text that it answers is valid until the next one. */
const char *fixture_command(const char *word, ...);

/* The id of job number n. */
const char *fixture_id(int n);

/* Calls with the usual arguments. */
struct answer fixture_submit(struct store *s, int n, const struct job_spec *spec);
struct answer fixture_claim(struct store *s, int64_t lease_ms);
struct answer fixture_renew(struct store *s, const struct lease *l, bool is_started,
                            int64_t lease_ms);
struct answer fixture_complete(struct store *s, const struct lease *l);
struct answer fixture_fail(struct store *s, const struct lease *l, status code);
struct answer fixture_release(struct store *s, const struct lease *l);
struct answer fixture_cancel(struct store *s, int n);
struct answer fixture_status(struct store *s, int n);
struct answer fixture_sweep(struct store *s);
struct answer fixture_audit(struct store *s);

/* A spec that passes every check. */
struct job_spec fixture_spec(void);

/* Submit job n and hand it to a worker; started: it computes. */
struct lease fixture_leased(struct store *s, int n, bool started, int64_t lease_ms);

/* Sweep until job n is in this state. */
void fixture_sweep_until(struct store *s, int n, enum job_state state);

#endif
