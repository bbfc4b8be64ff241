#include "tests/unit/common/store_fixture.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/id.h"
#include "common/redis.h"
#include "tests/tool/test.h"

#define DEADLINE_MS 20000

static struct redis_child child;

struct redis_child *fixture_redis(void)
{
    return &child;
}

struct store_config fixture_config(void)
{
    return (struct store_config){ .url = child.url };
}

struct store *fixture_open(void)
{
    struct redis_child_config config = { .dir = test_tmpdir() };
    struct store_config store_config;
    struct store *s;

    EXPECT_OK(redis_child_start(&child, &config));
    store_config = fixture_config();
    EXPECT_OK(store_open(&s, &store_config));
    return s;
}

static void copy_jobs(struct answer *a, const struct store_reply *r)
{
    EXPECT(r->job_count <= LIMIT_JOBS_SEEN);
    a->job_count = r->job_count;
    for (size_t i = 0; i < r->job_count; i++) {
        struct job_status *j = &a->jobs[i];

        *j = r->jobs[i];
        snprintf(a->texts[i][0], sizeof(a->texts[i][0]), "%s", j->worker);
        snprintf(a->texts[i][1], sizeof(a->texts[i][1]), "%s", j->stage);
        snprintf(a->texts[i][2], sizeof(a->texts[i][2]), "%s", j->sentence);
        j->worker = j->stage = j->sentence = NULL; /* gone with the reply */
    }
}

static void copy_reply(void *self, const struct store_reply *r)
{
    struct answer *a = self;

    a->code = r->code;
    snprintf(a->sentence, sizeof(a->sentence), "%s", r->sentence);
    a->verdict = r->verdict;
    a->state = r->state;
    a->lease = r->lease;
    a->has_job = r->spec != NULL;
    if (r->spec)
        a->spec = *r->spec;
    copy_jobs(a, r);
    snprintf(a->cursor, sizeof(a->cursor), "%s", r->cursor);
    a->expired = r->expired;
    a->promoted = r->promoted;
    a->next_due_ms = r->next_due_ms;
    memcpy(a->job_counts, r->job_counts, sizeof(a->job_counts));
}

struct answer fixture_call(struct store *s, const struct store_call *call)
{
    struct answer a = { .code = STATUS_COUNT };

    /* The code of the reply is what the test looks at. */
    if (store_call_now(s, call, copy_reply, &a) != OK && a.code == STATUS_COUNT)
        test_fail(__FILE__, __LINE__, "no answer: %s", status_message());
    return a;
}

const char *fixture_command(const char *word, ...)
{
    static char answer[16384];
    const char *argv[16];
    int count = 0;
    struct redis_address address;
    struct redis *r;
    struct buf text = { 0 };
    const struct redis_value *value = NULL;
    va_list args;

    va_start(args, word);
    for (; word; word = va_arg(args, const char *))
        argv[count++] = word;
    va_end(args);
    EXPECT_OK(redis_parse_url(&address, child.url));
    EXPECT_OK(redis_connect(&r, &address, NULL));
    EXPECT_OK(redis_format(&text, argv, NULL, count));
    EXPECT_OK(redis_add(r, text.data, text.len));
    EXPECT_OK(redis_send(r));
    while (!value) {
        struct pollfd p = { .fd = redis_fd(r), .events = POLLIN };
        size_t got;

        EXPECT(poll(&p, 1, DEADLINE_MS) == 1);
        EXPECT_OK(redis_receive(r, &got));
        EXPECT_OK(redis_next(r, &value));
    }
    if (redis_kind(value) == REDIS_ERROR)
        test_fail(__FILE__, __LINE__, "%s: %s", argv[0], redis_text(value, NULL));
    snprintf(answer, sizeof(answer), "%s", redis_text(value, NULL));
    buf_free(&text);
    redis_close(r);
    return answer;
}

const char *fixture_id(int n)
{
    static char ids[4][JOB_ID_BYTES];
    static int next;
    char *id = ids[next++ % 4];

    snprintf(id, JOB_ID_BYTES, "00job%021d", n);
    return id;
}

struct job_spec fixture_spec(void)
{
    struct job_spec spec;

    spec_init(&spec);
    strcpy(spec.image, "file:///a.jpg");
    return spec;
}

struct answer fixture_submit(struct store *s, int n, const struct job_spec *spec)
{
    struct job_spec usual = fixture_spec();

    return fixture_call(
        s, &(struct store_call){ .op = STORE_SUBMIT,
                                 .submit = { fixture_id(n), spec ? spec : &usual, 1000 } });
}

struct answer fixture_claim(struct store *s, int64_t lease_ms)
{
    static const char *const models[] = { "default" };
    struct store_call call = { .op = STORE_CLAIM };
    struct answer a;

    call.claim.models = models;
    call.claim.model_count = 1;
    call.claim.worker = "host/w1";
    call.claim.nonce = test_random();
    call.claim.lease_ms = lease_ms;
    a = fixture_call(s, &call);
    EXPECT(!a.has_job || a.lease.nonce == call.claim.nonce);
    return a;
}

struct answer fixture_renew(struct store *s, const struct lease *l, bool is_started,
                            int64_t lease_ms)
{
    struct msg_lease_state state = { *l, is_started, 0.5, "unet" };

    return fixture_call(s,
                        &(struct store_call){ .op = STORE_RENEW, .renew = { &state, lease_ms } });
}

struct answer fixture_complete(struct store *s, const struct lease *l)
{
    struct job_result result = { "file:///v.mp4", "file:///p.png", "file:///m.json" };

    return fixture_call(s,
                        &(struct store_call){ .op = STORE_COMPLETE, .complete = { *l, &result } });
}

struct answer fixture_fail(struct store *s, const struct lease *l, status code)
{
    struct store_call call = { .op = STORE_FAIL };

    call.fail.lease = *l;
    call.fail.code = code;
    call.fail.sentence = "it broke";
    call.fail.retry = (struct store_retry){ .base_ms = 20, .cap_ms = 40, .random = 0.5 };
    return fixture_call(s, &call);
}

struct answer fixture_release(struct store *s, const struct lease *l)
{
    return fixture_call(s, &(struct store_call){ .op = STORE_RELEASE, .release = *l });
}

struct answer fixture_cancel(struct store *s, int n)
{
    return fixture_call(s, &(struct store_call){ .op = STORE_CANCEL, .cancel = fixture_id(n) });
}

struct answer fixture_status(struct store *s, int n)
{
    char id[1][JOB_ID_BYTES];
    struct store_call call = { .op = STORE_STATUS,
                               .status = { (const char(*)[JOB_ID_BYTES])id, 1 } };

    memcpy(id[0], fixture_id(n), JOB_ID_BYTES);
    return fixture_call(s, &call);
}

struct answer fixture_sweep(struct store *s)
{
    struct store_call call = { .op = STORE_SWEEP };

    call.sweep.limit = 100;
    call.sweep.retry = (struct store_retry){ .base_ms = 1, .cap_ms = 2, .random = 0 };
    call.sweep.gap_ms = 60000;
    call.sweep.lease_ms = 30000;
    return fixture_call(s, &call);
}

struct answer fixture_audit(struct store *s)
{
    return fixture_call(s, &(struct store_call){ .op = STORE_AUDIT });
}

struct lease fixture_leased(struct store *s, int n, bool started, int64_t lease_ms)
{
    struct answer a = fixture_submit(s, n, NULL);

    EXPECT_INT(a.verdict, VERDICT_OK);
    a = fixture_claim(s, lease_ms);
    EXPECT(a.has_job);
    EXPECT_TEXT(a.lease.job, fixture_id(n));
    if (started) {
        struct answer r = fixture_renew(s, &a.lease, true, lease_ms);

        EXPECT_INT(r.verdict, VERDICT_OK);
    }
    return a.lease;
}

void fixture_sweep_until(struct store *s, int n, enum job_state state)
{
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
    struct answer a;

    do {
        EXPECT_INT(fixture_sweep(s).code, OK);
        a = fixture_status(s, n);
        EXPECT(clock_mono_ms() < deadline_ms);
    } while (a.jobs[0].state != state);
}
