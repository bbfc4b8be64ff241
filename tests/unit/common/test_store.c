/* Every transition of a job in a real Redis. */
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "tests/tool/test.h"
#include "tests/unit/common/store_fixture.h"

#define LONG_MS 60000

static enum job_state state_of(struct store *s, int n)
{
    return fixture_status(s, n).jobs[0].state;
}

TEST(submit_is_idempotent)
{
    struct store *s = fixture_open();
    struct job_spec other = fixture_spec();
    struct answer a = fixture_submit(s, 1, NULL);

    EXPECT_INT(a.verdict, VERDICT_OK);
    EXPECT_INT(a.state, JOB_QUEUED);
    a = fixture_submit(s, 1, NULL);
    EXPECT_INT(a.verdict, VERDICT_DUPLICATE);
    other.seed = 7;
    a = fixture_submit(s, 1, &other);
    EXPECT_INT(a.verdict, VERDICT_CONFLICT);
    EXPECT_INT(fixture_claim(s, LONG_MS).has_job, true);
    EXPECT_INT(fixture_claim(s, LONG_MS).has_job, false);
    EXPECT_INT(fixture_submit(s, 1, NULL).state, JOB_LEASED); /* also later in its life */
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(a_claim_brings_the_parameters_and_a_lease)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct answer a;

    spec.seed = 0xffffffffffffffff;
    strcpy(spec.labels, "a=b");
    fixture_submit(s, 1, &spec);
    a = fixture_claim(s, LONG_MS);
    EXPECT(a.has_job);
    EXPECT(memcmp(&a.spec, &spec, sizeof(spec)) == 0);
    EXPECT_TEXT(a.lease.job, fixture_id(1));
    EXPECT_INT(a.lease.attempt, 1);
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].state, JOB_LEASED);
    EXPECT_INT(a.jobs[0].attempt, 1);
    EXPECT_INT(a.jobs[0].tries, 0);
    EXPECT_TEXT(a.texts[0][0], "host/w1");
    store_close(s);
}

TEST(jobs_go_out_by_priority_then_age_and_to_their_model)
{
    struct store *s = fixture_open();
    struct job_spec urgent = fixture_spec(), foreign = fixture_spec();

    urgent.priority = 1;
    strcpy(foreign.model, "other");
    fixture_submit(s, 1, NULL);
    EXPECT_INT(fixture_submit(s, 2, &foreign).verdict, VERDICT_OK);
    fixture_submit(s, 3, &urgent);
    EXPECT_TEXT(fixture_claim(s, LONG_MS).lease.job, fixture_id(3));
    EXPECT_TEXT(fixture_claim(s, LONG_MS).lease.job, fixture_id(1));
    EXPECT(!fixture_claim(s, LONG_MS).has_job);
    EXPECT_INT(state_of(s, 2), JOB_QUEUED);
    store_close(s);
}

TEST(a_result_is_recorded_once)
{
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 1, true, LONG_MS);
    struct answer a = fixture_complete(s, &l);

    EXPECT_INT(a.verdict, VERDICT_OK);
    EXPECT_INT(a.state, JOB_DONE);
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_DUPLICATE);
    l.nonce++;
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_LOST);
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].tries, 1);
    EXPECT_NEAR(a.jobs[0].progress, 1, 0); /* exact: written as 1 */
    EXPECT(a.jobs[0].ended_at_ms >= a.jobs[0].started_at_ms);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

/* Every call of somebody who has not exactly this lease is refused and changes nothing. */
static void expect_refused(struct store *s, const struct lease *l, enum job_state state)
{
    EXPECT_INT(fixture_renew(s, l, true, LONG_MS).verdict, VERDICT_LOST);
    EXPECT_INT(fixture_complete(s, l).verdict, VERDICT_LOST);
    EXPECT_INT(fixture_fail(s, l, ERR_IO).verdict, VERDICT_LOST);
    EXPECT_INT(fixture_release(s, l).verdict, VERDICT_LOST);
    EXPECT_INT(state_of(s, 1), state);
}

TEST(a_lease_is_attempt_and_nonce)
{
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 1, false, LONG_MS), wrong;

    wrong = l;
    wrong.nonce ^= 1;
    expect_refused(s, &wrong, JOB_LEASED);
    wrong = l;
    wrong.attempt++;
    expect_refused(s, &wrong, JOB_LEASED);
    EXPECT_INT(fixture_renew(s, &l, true, LONG_MS).state, JOB_RUNNING);
    expect_refused(s, &wrong, JOB_RUNNING);
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_OK);
    store_close(s);
}

TEST(a_late_finisher_is_refused)
{
    struct store *s = fixture_open();
    struct lease old = fixture_leased(s, 1, true, 1);
    struct answer a;

    fixture_sweep_until(s, 1, JOB_QUEUED);
    expect_refused(s, &old, JOB_QUEUED);
    a = fixture_claim(s, LONG_MS);
    EXPECT_INT(a.lease.attempt, 2);
    expect_refused(s, &old, JOB_LEASED);
    EXPECT_INT(fixture_complete(s, &a.lease).verdict, VERDICT_OK);
    expect_refused(s, &old, JOB_DONE);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(a_lost_worker_costs_a_try_and_the_last_reason_stays)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct answer a;

    spec.attempts = 2;
    fixture_submit(s, 1, &spec);
    a = fixture_claim(s, 1000);
    fixture_renew(s, &a.lease, true, 1);
    fixture_sweep_until(s, 1, JOB_QUEUED);
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].tries, 1);
    EXPECT_INT(a.jobs[0].code, ERR_UNAVAILABLE);
    EXPECT_TEXT(a.texts[0][2], "worker host/w1 stopped answering during unet in attempt 1");
    a = fixture_claim(s, 1000);
    fixture_renew(s, &a.lease, true, 1);
    fixture_sweep_until(s, 1, JOB_DEAD);
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].tries, 2);
    EXPECT_TEXT(a.texts[0][2], "worker host/w1 stopped answering during unet in attempt 2");
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(a_lease_lost_before_the_start_costs_no_try_but_not_for_ever)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();

    spec.attempts = 1;
    fixture_submit(s, 1, &spec);
    for (int i = 0; i < 5; i++) { /* UNSTARTED_PER_TRY in store.lua */
        EXPECT(fixture_claim(s, 1).has_job);
        fixture_sweep_until(s, 1, JOB_QUEUED);
        EXPECT_INT(fixture_status(s, 1).jobs[0].tries, 0);
    }
    EXPECT(fixture_claim(s, 1).has_job);
    fixture_sweep_until(s, 1, JOB_DEAD);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(an_attempt_that_takes_too_long_is_ended)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct answer a;
    int64_t deadline_ms = clock_mono_ms() + 20000;

    spec.timeout_s = 1;
    spec.attempts = 1;
    fixture_submit(s, 1, &spec);
    a = fixture_claim(s, LONG_MS);
    do {
        EXPECT(clock_mono_ms() < deadline_ms);
        struct answer r = fixture_renew(s, &a.lease, true, LONG_MS);

        EXPECT_INT(r.code, OK);
        if (r.verdict == VERDICT_TIMEOUT)
            break;
        EXPECT_INT(r.verdict, VERDICT_OK);
    } while (true);
    fixture_sweep_until(s, 1, JOB_DEAD);
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].code, ERR_TIMEOUT);
    EXPECT_TEXT(a.texts[0][2], "attempt 1 ran longer than its timeout of 1 s");
    store_close(s);
}

TEST(a_failure_that_may_pass_is_tried_again_and_one_that_will_not_is_final)
{
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 1, true, LONG_MS);
    struct answer a = fixture_fail(s, &l, ERR_IO);

    EXPECT_INT(a.verdict, VERDICT_OK);
    EXPECT_INT(a.state, JOB_DELAYED);
    a = fixture_sweep(s);
    EXPECT(a.next_due_ms <= 20); /* base 20, half of it random with 0.5: 15 */
    fixture_sweep_until(s, 1, JOB_QUEUED);
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].code, ERR_IO);
    EXPECT_TEXT(a.texts[0][2], "it broke");
    l = fixture_claim(s, LONG_MS).lease;
    EXPECT_INT(fixture_fail(s, &l, ERR_CORRUPT).state, JOB_DEAD); /* though tries are left */
    EXPECT_INT(fixture_status(s, 1).jobs[0].tries, 2);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(a_failed_preparation_is_a_try)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();

    spec.attempts = 2;
    fixture_submit(s, 1, &spec);
    for (int i = 0; i < 2; i++) {
        struct answer a = fixture_claim(s, LONG_MS);

        EXPECT(a.has_job);
        EXPECT_INT(fixture_fail(s, &a.lease, ERR_IO).state, i == 0 ? JOB_DELAYED : JOB_DEAD);
        if (i == 0)
            fixture_sweep_until(s, 1, JOB_QUEUED);
    }
    store_close(s);
}

TEST(a_release_keeps_the_place_and_the_tries)
{
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 1, true, LONG_MS);

    fixture_submit(s, 2, NULL);
    EXPECT_INT(fixture_release(s, &l).verdict, VERDICT_OK);
    EXPECT_INT(fixture_status(s, 1).jobs[0].tries, 0);
    l = fixture_claim(s, LONG_MS).lease;
    EXPECT_TEXT(l.job, fixture_id(1));
    EXPECT_INT(l.attempt, 2);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(every_live_job_can_be_cancelled)
{
    struct store *s = fixture_open();
    struct lease l;
    struct answer a;

    l = fixture_leased(s, 1, false, LONG_MS);
    a = fixture_cancel(s, 1);
    EXPECT_INT(a.verdict, VERDICT_OK);
    EXPECT(msg_lease_equal(&a.lease, &l)); /* so that the holder can be told */
    EXPECT_INT(fixture_renew(s, &l, false, LONG_MS).verdict, VERDICT_CANCELLED);
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_CANCELLED);
    l = fixture_leased(s, 2, true, LONG_MS);
    EXPECT_INT(fixture_cancel(s, 2).verdict, VERDICT_OK);
    EXPECT_INT(fixture_renew(s, &l, true, LONG_MS).verdict, VERDICT_CANCELLED);
    l = fixture_leased(s, 3, true, LONG_MS);
    fixture_fail(s, &l, ERR_IO);
    EXPECT_INT(state_of(s, 3), JOB_DELAYED);
    EXPECT_INT(fixture_cancel(s, 3).verdict, VERDICT_OK);
    fixture_submit(s, 4, NULL);
    a = fixture_cancel(s, 4);
    EXPECT_INT(a.verdict, VERDICT_OK);
    EXPECT_TEXT(a.lease.job, "");
    EXPECT(!fixture_claim(s, LONG_MS).has_job);
    for (int n = 1; n <= 4; n++) {
        EXPECT_INT(state_of(s, n), JOB_CANCELLED);
        EXPECT_INT(fixture_cancel(s, n).verdict, VERDICT_DUPLICATE);
    }
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(a_renewal_extends_the_lease)
{
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 1, false, 1); /* over by now, but nobody has swept */

    EXPECT_INT(fixture_renew(s, &l, true, LONG_MS).verdict, VERDICT_OK);
    EXPECT_INT(fixture_sweep(s).expired, 0);
    EXPECT_INT(state_of(s, 1), JOB_RUNNING);
    store_close(s);
}

TEST(many_jobs_are_asked_about_in_one_call)
{
    struct store *s = fixture_open();
    char ids[3][JOB_ID_BYTES];
    struct store_call call = { .op = STORE_STATUS,
                               .status = { (const char(*)[JOB_ID_BYTES])ids, 3 } };
    struct answer a;

    for (int n = 0; n < 3; n++) {
        memcpy(ids[n], fixture_id(n), JOB_ID_BYTES);
        if (n != 1)
            fixture_submit(s, n, NULL);
    }
    a = fixture_call(s, &call);
    EXPECT_INT(a.job_count, 3);
    EXPECT_TEXT(a.jobs[2].job, ids[2]);
    EXPECT_INT(a.jobs[0].state, JOB_QUEUED);
    EXPECT_INT(a.jobs[1].state, JOB_ILLEGAL);
    EXPECT_INT(a.jobs[2].state, JOB_QUEUED);
    store_close(s);
}

TEST(what_has_ended_can_not_be_cancelled)
{
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 1, true, LONG_MS);

    fixture_complete(s, &l);
    EXPECT_INT(fixture_cancel(s, 1).verdict, VERDICT_CONFLICT);
    EXPECT_INT(state_of(s, 1), JOB_DONE);
    l = fixture_leased(s, 2, true, LONG_MS);
    fixture_fail(s, &l, ERR_BADARG);
    EXPECT_INT(fixture_cancel(s, 2).verdict, VERDICT_CONFLICT);
    EXPECT_INT(fixture_cancel(s, 3).verdict, VERDICT_UNKNOWN);
    EXPECT_INT(state_of(s, 3), JOB_ILLEGAL);
    store_close(s);
}

/* Bring a new job n into a state; the lease is only valid when it is held. */
static struct lease bring_to(struct store *s, int n, enum job_state state)
{
    struct lease l = { .attempt = 1 };
    struct job_spec waiting = fixture_spec();

    strcpy(waiting.after, fixture_id(0));
    snprintf(l.job, sizeof(l.job), "%s", fixture_id(n));
    if (state == JOB_ILLEGAL)
        return l;
    if (state == JOB_BLOCKED) {
        fixture_submit(s, n, &waiting);
        return l;
    }
    if (state == JOB_QUEUED || state == JOB_CANCELLED) {
        fixture_submit(s, n, NULL);
        if (state == JOB_CANCELLED)
            fixture_cancel(s, n);
        return l;
    }
    l = fixture_leased(s, n, state != JOB_LEASED, LONG_MS);
    if (state == JOB_DELAYED)
        fixture_fail(s, &l, ERR_IO);
    if (state == JOB_DEAD)
        fixture_fail(s, &l, ERR_BADARG);
    if (state == JOB_DONE)
        fixture_complete(s, &l);
    return l;
}

static void apply(struct store *s, int n, const struct lease *l, enum job_event event)
{
    switch (event) {
    case JOB_EVENT_START:
        fixture_renew(s, l, true, LONG_MS);
        break;
    case JOB_EVENT_COMPLETE:
        fixture_complete(s, l);
        break;
    case JOB_EVENT_RETRY:
        fixture_fail(s, l, ERR_IO);
        break;
    case JOB_EVENT_KILL:
        fixture_fail(s, l, ERR_BADARG);
        break;
    case JOB_EVENT_RELEASE:
        fixture_release(s, l);
        break;
    case JOB_EVENT_CANCEL:
        fixture_cancel(s, n);
        break;
    case JOB_EVENT_SUBMIT:
        fixture_submit(s, n, NULL);
        break;
    case JOB_EVENT_REDRIVE:
        fixture_call(s, &(struct store_call){ .op = STORE_REDRIVE, .redrive = fixture_id(n) });
        break;
    case JOB_EVENT_CLAIM:
        fixture_claim(s, LONG_MS);
        break;
    case JOB_EVENT_DUE: /* needs time: see the tests of retries */
    case JOB_EVENT_COUNT:
        break;
    }
}

TEST(the_store_does_what_the_table_of_states_says)
{
    struct store *s = fixture_open();
    struct job_spec later = fixture_spec();
    int n = 0;

    later.delay_s = 3600;
    fixture_submit(s, 0, &later); /* what the blocked wait for */
    for (int from = 0; from < JOB_STATE_COUNT; from++) {
        for (int event = 0; event < JOB_EVENT_COUNT; event++) {
            enum job_state want = job_next((enum job_state)from, (enum job_event)event);
            struct lease l;

            if (event == JOB_EVENT_DUE)
                continue;
            l = bring_to(s, ++n, (enum job_state)from);
            EXPECT_INT(state_of(s, n), from);
            apply(s, n, &l, (enum job_event)event);
            EXPECT_INT(state_of(s, n), want == JOB_ILLEGAL ? (enum job_state)from : want);
            fixture_cancel(s, n); /* out of the way of the next claim */
        }
    }
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(a_full_queue_refuses_and_recovers)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct store_call call = { .op = STORE_SUBMIT, .submit = { fixture_id(2), &spec, 1 } };
    struct answer a;

    fixture_submit(s, 1, NULL);
    a = fixture_call(s, &call);
    EXPECT_INT(a.code, ERR_FULL);
    EXPECT(strstr(a.sentence, "the queue is full: 1 jobs wait (queued_max)") != NULL);
    call.submit.job = fixture_id(1);
    EXPECT_INT(fixture_call(s, &call).verdict,
               VERDICT_DUPLICATE); /* what is in may be asked again */
    fixture_claim(s, LONG_MS);
    call.submit.job = fixture_id(2);
    EXPECT_INT(fixture_call(s, &call).verdict, VERDICT_OK);
    store_close(s);
}

TEST(after_an_outage_leases_get_grace)
{
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 1, true, 1);
    struct store_call call = { .op = STORE_SWEEP };
    struct answer a;

    call.sweep.limit = 10;
    call.sweep.retry = (struct store_retry){ .base_ms = 1, .cap_ms = 1 };
    call.sweep.lease_ms = 30000;
    fixture_command("SET", "{00}swept", "1000", NULL); /* 1970: long ago */
    a = fixture_call(s, &call);
    EXPECT_INT(a.expired, 0);
    EXPECT(a.next_due_ms > 20000 && a.next_due_ms <= 30000);
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_OK);
    store_close(s);
}

static struct answer list(struct store *s, enum job_state state, const char *label, int64_t limit,
                          const char *cursor)
{
    struct store_call call = { .op = STORE_LIST };

    call.list = (struct msg_list){ state, label, limit, cursor };
    return fixture_call(s, &call);
}

TEST(lists_are_newest_first_in_pages)
{
    struct store *s = fixture_open();
    struct answer a;
    char cursor[64];

    for (int n = 1; n <= 5; n++)
        fixture_submit(s, n, NULL);
    a = list(s, JOB_ILLEGAL, "", 2, "");
    EXPECT_INT(a.job_count, 2);
    EXPECT_TEXT(a.jobs[0].job, fixture_id(5));
    EXPECT_TEXT(a.jobs[1].job, fixture_id(4));
    fixture_submit(s, 6, NULL); /* does not disturb the pages */
    snprintf(cursor, sizeof(cursor), "%s", a.cursor);
    a = list(s, JOB_ILLEGAL, "", 2, cursor);
    EXPECT_TEXT(a.jobs[0].job, fixture_id(3));
    EXPECT_TEXT(a.jobs[1].job, fixture_id(2));
    snprintf(cursor, sizeof(cursor), "%s", a.cursor);
    a = list(s, JOB_ILLEGAL, "", 2, cursor);
    EXPECT_INT(a.job_count, 1);
    EXPECT_TEXT(a.jobs[0].job, fixture_id(1));
    EXPECT_TEXT(a.cursor, "");
    EXPECT_INT(list(s, JOB_ILLEGAL, "", 6, "").job_count, 6);
    EXPECT_TEXT(list(s, JOB_ILLEGAL, "", 6, "").cursor, "");
    store_close(s);
}

TEST(lists_are_filtered_by_state_and_label)
{
    struct store *s = fixture_open();
    struct job_spec spec = fixture_spec();
    struct answer a;

    strcpy(spec.labels, "owner=ann,batch=7");
    fixture_submit(s, 1, &spec);
    strcpy(spec.labels, "owner=anna");
    fixture_submit(s, 2, &spec);
    strcpy(spec.labels, "xowner=ann");
    fixture_submit(s, 3, &spec);
    fixture_cancel(s, 2);
    a = list(s, JOB_ILLEGAL, "owner=ann", 10, "");
    EXPECT_INT(a.job_count, 1);
    EXPECT_TEXT(a.jobs[0].job, fixture_id(1));
    EXPECT_INT(list(s, JOB_ILLEGAL, "owner", 10, "").job_count, 2);
    EXPECT_INT(list(s, JOB_CANCELLED, "", 10, "").job_count, 1);
    EXPECT_INT(list(s, JOB_QUEUED, "owner", 10, "").job_count, 1);
    EXPECT_INT(list(s, JOB_QUEUED, "batch=7", 10, "").job_count, 1);
    EXPECT_INT(list(s, JOB_ILLEGAL, "%a+", 10, "").job_count, 0); /* no pattern */
    store_close(s);
}

TEST(counts_are_kept_and_ended_jobs_are_forgotten_in_time)
{
    struct store *s = fixture_open();
    struct store_call call = { .op = STORE_STATS };
    struct lease l;
    struct answer a;

    fixture_submit(s, 10, NULL);
    fixture_cancel(s, 10);
    l = fixture_leased(s, 1, true, LONG_MS);
    fixture_complete(s, &l);
    fixture_leased(s, 2, true, LONG_MS);
    fixture_submit(s, 3, NULL);
    a = fixture_call(s, &call);
    EXPECT_INT(a.job_counts[JOB_QUEUED], 1);
    EXPECT_INT(a.job_counts[JOB_RUNNING], 1);
    EXPECT_INT(a.job_counts[JOB_DONE], 1);
    EXPECT_INT(a.job_counts[JOB_CANCELLED], 1);
    fixture_command("ZADD", "{00}ended", "1000", fixture_id(1), NULL); /* 1970: long ago */
    call = (struct store_call){ .op = STORE_SWEEP };
    call.sweep.limit = 10;
    call.sweep.gap_ms = call.sweep.lease_ms = LONG_MS;
    call.sweep.retention_ms = 7 * 24 * 3600 * (int64_t)1000;
    EXPECT_INT(fixture_call(s, &call).code, OK);
    EXPECT_INT(state_of(s, 1), JOB_ILLEGAL);
    EXPECT_INT(state_of(s, 10), JOB_CANCELLED);
    EXPECT_INT(list(s, JOB_ILLEGAL, "", 10, "").job_count, 3);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(the_audit_finds_damage)
{
    struct store *s = fixture_open();
    struct answer a;

    fixture_submit(s, 1, NULL);
    EXPECT_INT(fixture_audit(s).code, OK);
    fixture_command("ZREM", "{00}ready:default:default", fixture_id(1), NULL);
    a = fixture_audit(s);
    EXPECT_INT(a.code, ERR_CORRUPT);
    EXPECT(strstr(a.sentence, "is queued but not in its index") != NULL);
    store_close(s);
}

TEST(a_job_whose_parameters_are_gone_dies_with_a_reason)
{
    struct store *s = fixture_open();
    char key[64];
    struct answer a;

    fixture_submit(s, 1, NULL);
    fixture_submit(s, 2, NULL);
    snprintf(key, sizeof(key), "{00}spec:%s", fixture_id(1));
    fixture_command("DEL", key, NULL);
    EXPECT_TEXT(fixture_claim(s, LONG_MS).lease.job, fixture_id(2));
    a = fixture_status(s, 1);
    EXPECT_INT(a.jobs[0].state, JOB_DEAD);
    EXPECT_INT(a.jobs[0].code, ERR_CORRUPT);
    fixture_command("SET", key, "garbage", NULL);
    store_close(s);
}

/* Random calls by random holders; whatever they do, indexes and counts follow the jobs. */
TEST_TIMEOUT(a_random_life_leaves_the_indexes_right, 120)
{
    enum { JOBS = 20 };
    struct store *s = fixture_open();
    struct lease leases[64];
    size_t count = 0;

    for (int round = 0; round < 1500; round++) {
        int n = (int)(test_random() % JOBS);
        struct lease l = count ? leases[test_random() % count] : (struct lease){ .job = "" };
        struct answer a;

        switch (test_random() % 8) {
        case 0:
        case 1:
            fixture_submit(s, round, NULL);
            break;
        case 2:
        case 3:
            a = fixture_claim(s, test_random() % 2 ? LONG_MS : 1);
            if (a.has_job)
                leases[count < 64 ? count++ : test_random() % 64] = a.lease;
            break;
        case 4:
            if (l.job[0])
                fixture_renew(s, &l, test_random() % 2, test_random() % 2 ? LONG_MS : 1);
            break;
        case 5:
            if (l.job[0])
                fixture_complete(s, &l);
            break;
        case 6:
            if (l.job[0] && test_random() % 2)
                fixture_release(s, &l);
            else if (l.job[0])
                fixture_fail(s, &l, test_random() % 2 ? ERR_IO : ERR_BADARG);
            break;
        default:
            if (test_random() % 2)
                fixture_cancel(s, n);
            fixture_sweep(s);
        }
        if (round % 50 == 0) {
            a = fixture_audit(s);
            if (a.code != OK)
                test_fail(__FILE__, __LINE__, "round %d: %s", round, a.sentence);
        }
    }
    store_close(s);
}
