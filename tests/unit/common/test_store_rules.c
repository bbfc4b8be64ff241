/* Who runs next, who must wait, and what operators can do about it, in a real Redis. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"
#include "tests/unit/common/store_fixture.h"

#define LONG_MS 60000

/* Rows of the last answer, copied. */
static struct {
    int count;
    char cells[64][STORE_CELLS_MAX][128];
    status code;
    enum msg_verdict verdict;
    char sentence[512];
} got;

static void see(void *self, const struct store_reply *r)
{
    (void)self;
    got.code = r->code;
    got.verdict = r->verdict;
    got.count = (int)r->row_count;
    snprintf(got.sentence, sizeof(got.sentence), "%s", r->sentence);
    for (int i = 0; i < got.count && i < 64; i++)
        for (int j = 0; j < STORE_CELLS_MAX; j++)
            snprintf(got.cells[i][j], sizeof(got.cells[i][j]), "%s", r->rows[i].cells[j]);
}

/* The verdict, and the rows in got. */
static enum msg_verdict ask(struct store *s, struct store_call call)
{
    status st = store_call_now(s, &call, see, NULL);

    EXPECT(st == got.code);
    return got.verdict;
}

static struct job_spec spec_of(const char *tenant)
{
    struct job_spec spec = fixture_spec();

    strcpy(spec.tenant, tenant);
    return spec;
}

static enum job_state state_of(struct store *s, int n)
{
    return fixture_status(s, n).jobs[0].state;
}

static struct answer claim_with(struct store *s, const char *worker, int64_t memory_mib)
{
    static const char *const models[] = { "default" };
    struct store_call call = { .op = STORE_CLAIM };

    call.claim.models = models;
    call.claim.model_count = 1;
    call.claim.worker = worker;
    call.claim.nonce = test_random();
    call.claim.lease_ms = LONG_MS;
    call.claim.memory_mib = memory_mib;
    return fixture_call(s, &call);
}

static void expect_sound(struct store *s)
{
    struct answer a = fixture_audit(s);

    if (a.code != OK)
        test_fail(__FILE__, __LINE__, "audit: %s", a.sentence);
}

static void set_quota(struct store *s, struct store_quota quota)
{
    EXPECT_INT(ask(s, (struct store_call){ .op = STORE_QUOTA, .quota = quota }), VERDICT_OK);
}

static enum msg_verdict pause_it(struct store *s, enum store_scope scope, const char *name,
                                 enum store_mode mode)
{
    return ask(s, (struct store_call){ .op = STORE_PAUSE, .pause = { scope, name, mode } });
}

TEST(tenants_share_the_devices_by_weight)
{
    struct store *s = fixture_open();
    struct job_spec a = spec_of("a"), b = spec_of("b");
    int of_b = 0;

    set_quota(s, (struct store_quota){ .tenant = "b", .limits = { .weight = 3 } });
    for (int n = 0; n < 40; n++) { /* a comes first, with everything */
        EXPECT_INT(fixture_submit(s, n, &a).verdict, VERDICT_OK);
        EXPECT_INT(fixture_submit(s, 100 + n, &b).verdict, VERDICT_OK);
    }
    for (int i = 0; i < 40; i++)
        of_b += atoi(fixture_claim(s, LONG_MS).lease.job + 5) >= 100;
    EXPECT(of_b >= 29 && of_b <= 31); /* three of four: an error of one job in each direction */
    expect_sound(s);
    store_close(s);
}

/* A small tenant does not wait for a large one; and one that was away saved nothing up. */
TEST(a_small_tenant_is_not_buried_by_a_large_one)
{
    struct store *s = fixture_open();
    struct job_spec a = spec_of("a"), b = spec_of("b");
    int of_b = 0;

    for (int n = 0; n < 60; n++)
        fixture_submit(s, n, &a);
    for (int i = 0; i < 20; i++)
        fixture_claim(s, LONG_MS);
    for (int n = 100; n < 120; n++)
        fixture_submit(s, n, &b);
    for (int i = 0; i < 10; i++)
        of_b += atoi(fixture_claim(s, LONG_MS).lease.job + 5) >= 100;
    EXPECT(of_b >= 4 && of_b <= 6);
    store_close(s);
}

/* Time is charged as it was used, not as it was thought to be: short jobs get more turns. */
TEST(what_was_charged_becomes_what_was_used)
{
    struct store *s = fixture_open();
    struct job_spec a = spec_of("a"), b = spec_of("b");
    int of_a = 0;

    for (int n = 0; n < 30; n++) {
        fixture_submit(s, n, &a);
        fixture_submit(s, 100 + n, &b);
    }
    for (int i = 0; i < 20; i++) { /* jobs of a end at once, those of b never */
        struct lease l = fixture_claim(s, LONG_MS).lease;

        if (atoi(l.job + 5) < 100) {
            EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_OK);
            of_a++;
        }
    }
    EXPECT(of_a >= 18);
    expect_sound(s);
    store_close(s);
}

TEST(quotas_are_kept)
{
    struct store *s = fixture_open();
    struct job_spec a = spec_of("a"), b = spec_of("b");
    struct answer r;
    struct lease l;

    set_quota(
        s, (struct store_quota){ .tenant = "a", .limits = { .queued_max = 2, .running_max = 1 } });
    fixture_submit(s, 1, &a);
    fixture_submit(s, 2, &a);
    r = fixture_submit(s, 3, &a);
    EXPECT_INT(r.code, ERR_FULL);
    EXPECT(strstr(r.sentence, "tenant a has its quota of 2 waiting jobs") != NULL);
    l = fixture_claim(s, LONG_MS).lease;
    EXPECT_TEXT(l.job, fixture_id(1));
    EXPECT(!fixture_claim(s, LONG_MS).has_job); /* one runs */
    fixture_submit(s, 4, &b);
    EXPECT_TEXT(fixture_claim(s, LONG_MS).lease.job, fixture_id(4)); /* nobody else is held up */
    ask(s, (struct store_call){ .op = STORE_QUEUES });
    EXPECT_INT(got.count, 1);
    EXPECT_TEXT(got.cells[0][2], "a");
    EXPECT_TEXT(got.cells[0][4], "cap");
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_OK);
    EXPECT_TEXT(fixture_claim(s, LONG_MS).lease.job, fixture_id(2));
    set_quota(s, (struct store_quota){ .tenant = "c", .limits = { .rate = 1, .burst = 2 } });
    a = spec_of("c");
    EXPECT_INT(fixture_submit(s, 11, &a).code, OK);
    EXPECT_INT(fixture_submit(s, 12, &a).code, OK);
    r = fixture_submit(s, 13, &a);
    EXPECT(strstr(r.sentence, "tenant c has its quota of 1 jobs a second") != NULL);
    set_quota(s, (struct store_quota){ .tenant = "d", .limits = { .bytes_max = 10 } });
    a = spec_of("d");
    r = fixture_submit(s, 14, &a);
    EXPECT(strstr(r.sentence, "tenant d has its quota of 10 bytes") != NULL);
    ask(s, (struct store_call){ .op = STORE_TENANTS });
    EXPECT_INT(got.count, 3);
    EXPECT_TEXT(got.cells[0][0], "a");
    EXPECT_TEXT(got.cells[0][2], "1");
    expect_sound(s);
    store_close(s);
}

TEST(a_pause_stops_the_claims_and_a_drain_the_submissions)
{
    struct store *s = fixture_open();
    struct job_spec a = spec_of("a");

    fixture_submit(s, 1, &a);
    EXPECT_INT(pause_it(s, STORE_ALL, "", STORE_HOLD), VERDICT_OK);
    EXPECT(!fixture_claim(s, LONG_MS).has_job);
    EXPECT_INT(pause_it(s, STORE_ALL, "", STORE_RUN), VERDICT_OK);
    EXPECT_INT(pause_it(s, STORE_MODEL, "default", STORE_HOLD), VERDICT_OK);
    EXPECT(!fixture_claim(s, LONG_MS).has_job);
    ask(s, (struct store_call){ .op = STORE_WHY, .why = fixture_id(1) });
    EXPECT_TEXT(got.cells[1][0], "model default is paused");
    EXPECT_INT(pause_it(s, STORE_MODEL, "default", STORE_RUN), VERDICT_OK);
    EXPECT_INT(pause_it(s, STORE_TENANT, "a", STORE_HOLD), VERDICT_OK);
    EXPECT(!fixture_claim(s, LONG_MS).has_job);
    EXPECT_INT(pause_it(s, STORE_TENANT, "a", STORE_DRAIN), VERDICT_REFUSED);
    EXPECT_INT(pause_it(s, STORE_TENANT, "a", STORE_RUN), VERDICT_OK);
    EXPECT_INT(pause_it(s, STORE_ALL, "", STORE_DRAIN), VERDICT_OK);
    EXPECT_INT(fixture_submit(s, 2, &a).code, ERR_FULL);
    EXPECT(fixture_claim(s, LONG_MS).has_job);
    EXPECT_INT(pause_it(s, STORE_ALL, "", STORE_RUN), VERDICT_OK);
    EXPECT_INT(fixture_submit(s, 2, &a).code, OK);
    expect_sound(s);
    store_close(s);
}

TEST(a_job_can_be_moved_to_the_front)
{
    struct store *s = fixture_open();

    for (int n = 1; n <= 3; n++)
        fixture_submit(s, n, NULL);
    EXPECT_INT(fixture_status(s, 3).jobs[0].position, 3);
    EXPECT(fixture_status(s, 3).jobs[0].eta_ms > fixture_status(s, 1).jobs[0].eta_ms);
    EXPECT_INT(ask(s, (struct store_call){ .op = STORE_FRONT, .front = fixture_id(3) }),
               VERDICT_OK);
    EXPECT_INT(fixture_status(s, 3).jobs[0].position, 1);
    EXPECT_TEXT(fixture_claim(s, LONG_MS).lease.job, fixture_id(3));
    EXPECT_INT(ask(s, (struct store_call){ .op = STORE_FRONT, .front = fixture_id(3) }),
               VERDICT_CONFLICT);
    EXPECT_INT(ask(s, (struct store_call){ .op = STORE_FRONT, .front = fixture_id(9) }),
               VERDICT_UNKNOWN);
    store_close(s);
}

TEST(a_job_waits_for_others)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct lease l;

    snprintf(spec.after, sizeof(spec.after), "%s", fixture_id(1));
    EXPECT_INT(fixture_submit(s, 2, &spec).code, ERR_NOTFOUND);
    l = fixture_leased(s, 1, true, LONG_MS);
    fixture_submit(s, 3, NULL);
    snprintf(spec.after, sizeof(spec.after), "%s,%s", fixture_id(1), fixture_id(3));
    EXPECT_INT(fixture_submit(s, 2, &spec).state, JOB_BLOCKED);
    spec.after_failed = SPEC_RUN_ANYWAY;
    EXPECT_INT(fixture_submit(s, 4, &spec).state, JOB_BLOCKED);
    fixture_complete(s, &l);
    fixture_sweep(s);
    EXPECT_INT(state_of(s, 2), JOB_BLOCKED);
    expect_sound(s);
    fixture_cancel(s, 3);
    EXPECT(fixture_sweep(s).code == OK);
    EXPECT_INT(state_of(s, 2), JOB_CANCELLED);
    EXPECT_INT(state_of(s, 4), JOB_QUEUED);
    spec.after_failed = SPEC_CANCEL_TOO;
    EXPECT_INT(fixture_submit(s, 5, &spec).code, ERR_CONFLICT);
    snprintf(spec.after, sizeof(spec.after), "%s", fixture_id(1));
    EXPECT_INT(fixture_submit(s, 6, &spec).state, JOB_QUEUED); /* it is done already */
    expect_sound(s);
    store_close(s);
}

TEST(a_thousand_children_hear_of_their_parent)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct lease l = fixture_leased(s, 1, true, LONG_MS);
    struct store_call stats = { .op = STORE_STATS };

    snprintf(spec.after, sizeof(spec.after), "%s", fixture_id(1));
    for (int n = 2; n <= 1001; n++)
        fixture_call(s, &(struct store_call){ .op = STORE_SUBMIT,
                                              .submit = { fixture_id(n), &spec, 100000 } });
    EXPECT_INT(fixture_call(s, &stats).job_counts[JOB_BLOCKED], 1000);
    fixture_complete(s, &l);
    for (int i = 0; i < 7; i++)
        EXPECT_INT(fixture_sweep(s).code, OK);
    EXPECT_INT(fixture_call(s, &stats).job_counts[JOB_QUEUED], 1000);
    expect_sound(s);
    store_close(s);
}

static void expect_batch(struct store *s, const char *left, const char *done, const char *dead)
{
    ask(s, (struct store_call){ .op = STORE_BATCH, .batch = { "default", "night" } });
    EXPECT_INT(got.count, 1);
    EXPECT_TEXT(got.cells[0][0], "3");
    EXPECT_TEXT(got.cells[0][1], left);
    EXPECT_TEXT(got.cells[0][2], done);
    EXPECT_TEXT(got.cells[0][3], dead);
}

TEST(batches_are_counted_and_dead_letters_come_back)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct lease l;
    char second[JOB_ID_BYTES];
    struct store_call redrive = { .op = STORE_REDRIVE, .redrive = second };

    memcpy(second, fixture_id(2), sizeof(second));
    strcpy(spec.batch, "night");
    for (int n = 1; n <= 3; n++)
        fixture_submit(s, n, &spec);
    expect_batch(s, "3", "0", "0");
    l = fixture_claim(s, LONG_MS).lease;
    fixture_complete(s, &l);
    l = fixture_claim(s, LONG_MS).lease;
    fixture_fail(s, &l, ERR_BADARG);
    fixture_cancel(s, 3);
    expect_batch(s, "0", "1", "1");
    ask(s, (struct store_call){ .op = STORE_EVENTS, .events = { "", 100 } });
    EXPECT_INT(got.count, 4);
    EXPECT_TEXT(got.cells[0][2], "done");
    EXPECT_TEXT(got.cells[2][2], "batch");
    EXPECT_TEXT(got.cells[2][4], "night");
    EXPECT_INT(ask(s, redrive), VERDICT_OK);
    expect_batch(s, "1", "1", "0");
    EXPECT_INT(ask(s, redrive), VERDICT_CONFLICT);
    l = fixture_claim(s, LONG_MS).lease;
    EXPECT_TEXT(l.job, fixture_id(2));
    fixture_fail(s, &l, ERR_BADARG);
    ask(s, (struct store_call){ .op = STORE_REDRIVE_ALL, .redrive_all = { "", 10 } });
    EXPECT_TEXT(got.cells[0][0], "");
    EXPECT_TEXT(got.cells[0][1], "1");
    EXPECT_INT(state_of(s, 2), JOB_QUEUED);
    expect_sound(s);
    store_close(s);
}

TEST(events_go_on_where_a_follower_was)
{
    struct store *s = fixture_open();
    char cursor[128];

    fixture_submit(s, 1, NULL);
    fixture_cancel(s, 1);
    ask(s, (struct store_call){ .op = STORE_EVENTS, .events = { "", 10 } });
    EXPECT_INT(got.count, 1);
    EXPECT_TEXT(got.cells[0][1], fixture_id(1));
    EXPECT_TEXT(got.cells[0][2], "cancelled");
    snprintf(cursor, sizeof(cursor), "%s", got.cells[0][0]);
    fixture_leased(s, 2, true, LONG_MS);
    ask(s, (struct store_call){ .op = STORE_EVENTS, .events = { cursor, 10 } });
    EXPECT_INT(got.count, 1);
    EXPECT_TEXT(got.cells[0][1], fixture_id(2));
    EXPECT_TEXT(got.cells[0][2], "running");
    store_close(s);
}

TEST(a_delay_and_a_deadline_are_kept)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct answer a;

    spec.delay_s = 3600;
    EXPECT_INT(fixture_submit(s, 1, &spec).state, JOB_DELAYED);
    fixture_sweep(s);
    EXPECT_INT(state_of(s, 1), JOB_DELAYED);
    fixture_command("ZADD", "{00}delayed", "1000", fixture_id(1), NULL); /* 1970 */
    fixture_sweep(s);
    EXPECT_INT(state_of(s, 1), JOB_QUEUED);
    spec.delay_s = 0;
    spec.deadline_s = 100;
    fixture_submit(s, 2, &spec);
    a = fixture_status(s, 2);
    EXPECT_INT(a.jobs[0].deadline_at_ms, a.jobs[0].submitted_at_ms + 100000);
    expect_sound(s);
    fixture_command("ZADD", "{00}deadlines", "1000", fixture_id(2), NULL);
    fixture_sweep(s);
    a = fixture_status(s, 2);
    EXPECT_INT(a.jobs[0].state, JOB_DEAD);
    EXPECT_INT(a.jobs[0].code, ERR_TIMEOUT);
    EXPECT_TEXT(a.texts[0][2], "its deadline passed while it was queued");
    expect_sound(s);
    store_close(s);
}

/* Lose a worker of this name while it runs the only job. */
static void lose(struct store *s, int n, const char *worker)
{
    struct answer a = claim_with(s, worker, 0);

    EXPECT(a.has_job);
    fixture_renew(s, &a.lease, true, LONG_MS);
    fixture_command("ZADD", "{00}leases", "1000", fixture_id(n), NULL); /* 1970 */
    EXPECT_INT(fixture_sweep(s).expired, 1);
}

TEST(a_job_that_takes_three_workers_down_is_quarantined)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct answer a;

    spec.attempts = 10;
    fixture_submit(s, 1, &spec);
    lose(s, 1, "h/w1");
    fixture_sweep_until(s, 1, JOB_QUEUED);
    lose(s, 1, "h/w1"); /* the same again: one suspect */
    fixture_sweep_until(s, 1, JOB_QUEUED);
    lose(s, 1, "h/w2");
    fixture_sweep_until(s, 1, JOB_QUEUED);
    lose(s, 1, "h/w3");
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].state, JOB_DEAD);
    EXPECT(strstr(a.texts[0][2], "quarantined: 3 workers were lost while they ran it") != NULL);
    ask(s, (struct store_call){ .op = STORE_REDRIVE_ALL, .redrive_all = { "", 10 } });
    EXPECT_TEXT(got.cells[0][1], "0"); /* only by its name */
    EXPECT_INT(ask(s, (struct store_call){ .op = STORE_REDRIVE, .redrive = fixture_id(1) }),
               VERDICT_OK);
    EXPECT_INT(state_of(s, 1), JOB_QUEUED);
    expect_sound(s);
    store_close(s);
}

TEST(a_job_without_memory_goes_to_a_larger_worker)
{
    struct store *s = fixture_open();
    struct answer a;

    fixture_submit(s, 1, NULL);
    EXPECT(claim_with(s, "h/big", 48000).has_job); /* so that it is known that there is one */
    fixture_submit(s, 2, NULL);
    a = claim_with(s, "h/small", 16000);
    EXPECT_INT(fixture_fail(s, &a.lease, ERR_NOMEM).state, JOB_DELAYED);
    fixture_sweep_until(s, 2, JOB_QUEUED);
    EXPECT(!claim_with(s, "h/small", 16000).has_job);
    ask(s, (struct store_call){ .op = STORE_WHY, .why = fixture_id(2) });
    EXPECT(strstr(got.cells[1][0], "ran out of memory on a worker with 16000 MiB") != NULL);
    expect_sound(s);
    a = claim_with(s, "h/big", 48000);
    EXPECT_TEXT(a.lease.job, fixture_id(2));
    EXPECT_INT(fixture_fail(s, &a.lease, ERR_NOMEM).state, JOB_DEAD); /* though tries are left */
    a = fixture_status(s, 2);
    EXPECT(strstr(a.texts[0][2], "more memory than the 48000 MiB of the largest worker") != NULL);
    expect_sound(s);
    store_close(s);
}

TEST(two_timeouts_are_enough)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct answer a;

    spec.attempts = 10;
    fixture_submit(s, 1, &spec);
    for (int i = 0; i < 2; i++) {
        a = fixture_claim(s, LONG_MS);
        EXPECT(a.has_job);
        EXPECT_INT(fixture_fail(s, &a.lease, ERR_TIMEOUT).state, i ? JOB_DEAD : JOB_DELAYED);
        if (i == 0)
            fixture_sweep_until(s, 1, JOB_QUEUED);
    }
    store_close(s);
}

/* The library and status_is_retryable are of one mind. */
TEST(every_code_has_a_policy)
{
    struct store *s = fixture_open();

    for (int code = OK + 1; code < STATUS_COUNT; code++) {
        struct lease l = fixture_leased(s, code, true, LONG_MS);

        EXPECT_INT(fixture_fail(s, &l, (status)code).state,
                   status_is_retryable((status)code) ? JOB_DELAYED : JOB_DEAD);
    }
    expect_sound(s);
    store_close(s);
}

/* Whatever is broken, the hashes are enough to mend it. */
TEST(the_repair_derives_everything_from_the_jobs)
{
    static const char *const broken[] = {
        "{00}index",         "{00}leases",         "{00}delayed",
        "{00}ended",         "{00}dead",           "{00}deadlines",
        "{00}counts",        "{00}active:default", "{00}ready:default:default",
        "{00}tenant:default"
    };
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct lease l, held;

    held = fixture_leased(s, 1, true, LONG_MS);
    l = fixture_leased(s, 2, true, LONG_MS);
    fixture_complete(s, &l);
    l = fixture_leased(s, 3, true, LONG_MS);
    fixture_fail(s, &l, ERR_BADARG);
    l = fixture_leased(s, 4, true, LONG_MS);
    fixture_fail(s, &l, ERR_IO);
    spec.deadline_s = 3600;
    strcpy(spec.batch, "b");
    strcpy(spec.after, fixture_id(1));
    fixture_submit(s, 5, &spec);
    spec.after[0] = '\0';
    fixture_submit(s, 6, &spec);
    expect_sound(s);
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        fixture_command("DEL", broken[i], NULL);
        if (fixture_audit(s).code != ERR_CORRUPT)
            test_fail(__FILE__, __LINE__, "the audit does not miss %s", broken[i]);
        ask(s, (struct store_call){ .op = STORE_AUDIT, .audit_repair = true });
        expect_sound(s);
    }
    EXPECT_INT(fixture_status(s, 6).jobs[0].position, 1);
    EXPECT_INT(fixture_complete(s, &held).verdict, VERDICT_OK);
    fixture_sweep(s);
    EXPECT_INT(state_of(s, 5), JOB_QUEUED);
    EXPECT(fixture_claim(s, LONG_MS).has_job);
    store_close(s);
}

/* Redis before 7, and users who may not load functions. */
TEST(the_library_also_runs_as_scripts)
{
    struct store *s = fixture_open();
    struct store_config config = fixture_config();
    struct lease l;

    store_close(s);
    config.no_functions = true;
    EXPECT_OK(store_open(&s, &config));
    l = fixture_leased(s, 1, true, LONG_MS);
    fixture_command("SCRIPT", "FLUSH", NULL);
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_OK);
    expect_sound(s);
    store_close(s);
}

static long long used_memory(void)
{
    const char *found = strstr(fixture_command("INFO", "memory", NULL), "used_memory:");

    EXPECT(found != NULL);
    return atoll(found + strlen("used_memory:"));
}

/* What a queued job costs Redis besides its parameters. */
TEST(a_queued_job_takes_little_memory)
{
    enum { JOBS = 4000 };
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    long long before, after, payload;

    fixture_submit(s, 99999, NULL); /* the keys that all share */
    before = used_memory();
    for (int n = 0; n < JOBS; n++)
        fixture_call(s, &(struct store_call){ .op = STORE_SUBMIT,
                                              .submit = { fixture_id(n), &spec, 100000 } });
    after = used_memory();
    payload = atoll(fixture_command("HGET", "{00}tenant:default", "bytes", NULL)) / (JOBS + 1);
    printf("a queued job: %lld bytes over its parameters of %lld\n",
           (after - before) / JOBS - payload, payload);
    EXPECT((after - before) / JOBS - payload <= 700);
    store_close(s);
}
