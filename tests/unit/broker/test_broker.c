/* The broker's core against a store that the test plays: every message, answer and loss. */
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "common/base/limits.h"
#include "proto/codec.h"
#include "tests/tool/test.h"
#include "tests/unit/broker/world.h"

static const struct lease lease_a = { .job = JOB_A, .attempt = 1, .nonce = 77 };
static const char *const models[] = { "default", "other" };

static struct job_spec good_spec(void)
{
    struct job_spec s;

    spec_init(&s);
    strcpy(s.image, "file:///a.jpg");
    return s;
}

/* --- clients --- */

TEST(a_submit_is_answered_when_all_its_jobs_are_stored)
{
    struct world w = world_open();
    struct msg_submit_item items[3] = { { .job = JOB_A }, { .job = JOB_B }, { .job = WORKER_1 } };
    struct msg m = { .type = MSG_SUBMIT, .seq = 9, .submit = { items, 3 } };
    uint64_t tags[2];

    items[0].spec = items[1].spec = items[2].spec = good_spec();
    items[1].spec.fps = 0; /* out of bounds: never gets to the store */
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 2);
    EXPECT_TEXT(world_called(&w, 0, STORE_SUBMIT)->submit.job, JOB_A);
    EXPECT_INT(world_called(&w, 0, STORE_SUBMIT)->submit.queued_max, 50);
    EXPECT_TEXT(world_called(&w, 1, STORE_SUBMIT)->submit.job, WORKER_1);
    EXPECT_INT(w.out.send_count, 0); /* durable before visible */
    tags[0] = w.out.calls[0].tag;
    tags[1] = w.out.calls[1].tag;
    world_reply(&w, &(struct store_reply){ .op = STORE_SUBMIT,
                                           .tag = tags[1],
                                           .verdict = VERDICT_CONFLICT,
                                           .state = JOB_DONE });
    EXPECT_INT(w.out.send_count, 0);
    world_reply(
        &w, &(struct store_reply){
                .op = STORE_SUBMIT, .tag = tags[0], .verdict = VERDICT_OK, .state = JOB_QUEUED });
    m = world_sent(&w, 0, MSG_SUBMITTED, 1);
    EXPECT_INT(m.seq, 9);
    EXPECT_INT(m.submitted.item_count, 3);
    EXPECT_INT(m.submitted.items[0].verdict, VERDICT_OK);
    EXPECT_INT(m.submitted.items[1].verdict, VERDICT_REFUSED);
    EXPECT_INT(m.submitted.items[1].code, ERR_BADARG);
    EXPECT(strstr(m.submitted.items[1].sentence, "fps") != NULL);
    EXPECT_INT(m.submitted.items[2].verdict, VERDICT_CONFLICT);
    EXPECT(strstr(m.submitted.items[2].sentence, "exists with other parameters (it is done)"));
    EXPECT_INT(broker_pending(w.broker), 0);
    world_close(&w);
}

/* Whoever has a key may do what its card says, and nothing else. */
TEST(a_role_opens_its_own_door_only)
{
    static const bool may[KEYS_ROLE_COUNT][BROKER_SIDE_COUNT] = {
        [KEYS_CLIENT] = { true, false },
        [KEYS_WORKER] = { false, true },
        [KEYS_ADMIN] = { true, false },
    };
    static const struct msg said[BROKER_SIDE_COUNT] = {
        { .type = MSG_LIST, .list = { .label = "", .limit = 1, .cursor = "" } },
        { .type = MSG_RELEASE, .release = { { JOB_A, 1, 7 } } },
    };

    for (int role = KEYS_STRANGER; role < KEYS_ROLE_COUNT; role++) {
        for (int side = 0; side < BROKER_SIDE_COUNT; side++) {
            struct world w = world_open();
            struct msg m;

            w.role[side] = (enum keys_role)role;
            world_give(&w, (enum broker_side)side, 1, &said[side]);
            EXPECT_INT(w.out.call_count, may[role][side]);
            EXPECT_INT(w.out.send_count, !may[role][side]);
            if (!may[role][side]) {
                m = world_sent(&w, 0, MSG_ERROR, 1);
                EXPECT_INT(m.error.code, ERR_CONFLICT);
                EXPECT(strstr(m.error.sentence, keys_role_name((enum keys_role)role)) != NULL);
            }
            world_close(&w);
        }
    }
}

/* Whose jobs they are says the card, not the message. */
TEST(a_job_is_of_the_tenant_of_its_senders_card)
{
    struct world w = world_open();
    struct msg_submit_item items[3] = { { .job = JOB_A }, { .job = JOB_B }, { .job = WORKER_1 } };
    struct msg m = { .type = MSG_SUBMIT, .submit = { items, 3 } };

    items[0].spec = items[1].spec = items[2].spec = good_spec();
    strcpy(items[1].spec.tenant, "fish");
    strcpy(items[2].spec.tenant, "birds");
    world_give(&w, BROKER_CLIENTS, 1, &m); /* without a card's tenant: as the jobs say */
    EXPECT_INT(w.out.call_count, 3);
    EXPECT_TEXT(w.out.calls[0].submit.spec->tenant, "");
    EXPECT_TEXT(w.out.calls[1].submit.spec->tenant, "fish");
    w.tenant = "birds";
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 2);
    EXPECT_TEXT(w.out.calls[0].submit.spec->tenant, "birds");
    EXPECT_TEXT(w.out.calls[1].submit.job, WORKER_1);
    EXPECT_TEXT(w.out.calls[1].submit.spec->tenant, "birds");
    for (int i = 0; i < 2; i++) {
        broker_on_store_reply(w.broker, w.now_ms,
                              &(struct store_reply){ .op = STORE_SUBMIT,
                                                     .tag = w.out.calls[i].tag,
                                                     .verdict = VERDICT_OK,
                                                     .state = JOB_QUEUED,
                                                     .sentence = "" },
                              &w.out);
    }
    m = world_sent(&w, 0, MSG_SUBMITTED, 1);
    EXPECT_INT(m.submitted.items[1].verdict, VERDICT_REFUSED);
    EXPECT_INT(m.submitted.items[1].code, ERR_CONFLICT);
    EXPECT(strstr(m.submitted.items[1].sentence, "is of tenant birds, the job says fish"));
    EXPECT_INT(m.submitted.items[2].verdict, VERDICT_OK);
    world_close(&w);
}

TEST(a_submit_of_nothing_good_is_answered_at_once)
{
    struct world w = world_open();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    spec_init(&item.spec); /* without an image */
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 0);
    m = world_sent(&w, 0, MSG_SUBMITTED, 1);
    EXPECT_INT(m.submitted.items[0].verdict, VERDICT_REFUSED);
    m = (struct msg){ .type = MSG_SUBMIT };
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(world_sent(&w, 0, MSG_SUBMITTED, 1).submitted.item_count, 0);
    EXPECT_INT(broker_pending(w.broker), 0);
    world_close(&w);
}

TEST(without_the_store_a_submit_is_told_to_come_again)
{
    struct world w = world_open();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    item.spec = good_spec();
    world_give(&w, BROKER_CLIENTS, 1, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_SUBMIT,
                                           .tag = w.out.calls[0].tag,
                                           .code = ERR_UNAVAILABLE,
                                           .sentence = "no Redis" });
    m = world_sent(&w, 0, MSG_SUBMITTED, 1);
    EXPECT_INT(m.submitted.items[0].verdict, VERDICT_REFUSED);
    EXPECT_INT(m.submitted.items[0].code, ERR_UNAVAILABLE);
    EXPECT_TEXT(m.submitted.items[0].sentence, "no Redis");
    world_close(&w);
}

static void fill_status(struct job_status *s, const char *url)
{
    *s = (struct job_status){ .job = JOB_A,
                              .state = JOB_DONE,
                              .model = "",
                              .labels = "",
                              .worker = "",
                              .stage = "",
                              .tenant = "",
                              .batch = "",
                              .sentence = "",
                              .result = { url, url, url } };
}

TEST(a_status_answer_holds_as_many_jobs_as_fit)
{
    static struct job_status jobs[LIMIT_JOBS_PER_MSG];
    static char ids[LIMIT_JOBS_PER_MSG][JOB_ID_BYTES];
    char url[SPEC_URL_MAX];
    struct world w = world_open();
    struct msg m = { .type = MSG_STATUS,
                     .status = { (const char(*)[JOB_ID_BYTES])ids, LIMIT_JOBS_PER_MSG } };

    memset(url, 'u', sizeof(url));
    url[sizeof(url) - 1] = '\0';
    for (int i = 0; i < LIMIT_JOBS_PER_MSG; i++) {
        strcpy(ids[i], JOB_A);
        fill_status(&jobs[i], url);
    }
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(world_called(&w, 0, STORE_STATUS)->status.id_count, LIMIT_JOBS_PER_MSG);
    world_reply(&w, &(struct store_reply){ .op = STORE_STATUS,
                                           .tag = w.out.calls[0].tag,
                                           .jobs = jobs,
                                           .job_count = LIMIT_JOBS_PER_MSG });
    m = world_sent(&w, 0, MSG_STATUSES, 1);
    EXPECT(m.statuses.job_count >= 16 && m.statuses.job_count < LIMIT_JOBS_PER_MSG);
    EXPECT_INT(broker_pending(w.broker), 0);
    world_close(&w);
}

TEST(a_list_is_asked_for_in_pages_that_fit)
{
    struct world w = world_open();
    struct msg m = { .type = MSG_LIST, .list = { JOB_DEAD, "a=b", LIMIT_JOBS_PER_MSG, "12" } };

    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT(world_called(&w, 0, STORE_LIST)->list.limit <= 31);
    EXPECT_TEXT(w.out.calls[0].list.cursor, "12");
    world_reply(
        &w, &(struct store_reply){ .op = STORE_LIST, .tag = w.out.calls[0].tag, .cursor = "7" });
    EXPECT_TEXT(world_sent(&w, 0, MSG_LISTED, 1).listed.cursor, "7");
    m.list.cursor = "(inf";
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 0);
    EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_BADARG);
    world_close(&w);
}

TEST(a_ping_tells_who_is_there_and_an_error_when_redis_is_not)
{
    struct world w = world_open();
    struct msg m = { .type = MSG_PING, .seq = 3 };

    world_give(&w, BROKER_CLIENTS, 1, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_STATS,
                                           .tag = world_called(&w, 0, STORE_STATS)->tag,
                                           .job_counts = { [JOB_QUEUED] = 5 } });
    m = world_sent(&w, 0, MSG_PONG, 1);
    EXPECT_TEXT(m.pong.broker, BROKER);
    EXPECT_TEXT(m.pong.version, "1.2.3");
    EXPECT_INT(m.pong.job_counts[JOB_QUEUED], 5);
    m = (struct msg){ .type = MSG_PING, .seq = 4 };
    world_give(&w, BROKER_CLIENTS, 1, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_STATS,
                                           .tag = w.out.calls[0].tag,
                                           .code = ERR_UNAVAILABLE,
                                           .sentence = "no Redis at x" });
    m = world_sent(&w, 0, MSG_ERROR, 1);
    EXPECT_INT(m.seq, 4);
    EXPECT_INT(m.error.code, ERR_UNAVAILABLE);
    EXPECT_TEXT(m.error.sentence, "no Redis at x");
    world_close(&w);
}

/* --- workers --- */

/* The store has a job for the claim with this tag. */
static void reply_job(struct world *w, uint64_t tag, const struct lease *lease)
{
    struct job_spec spec = good_spec();

    world_reply(
        w, &(struct store_reply){ .op = STORE_CLAIM, .tag = tag, .lease = *lease, .spec = &spec });
}

static void reply_no_job(struct world *w, uint64_t tag)
{
    world_reply(w, &(struct store_reply){ .op = STORE_CLAIM, .tag = tag });
}

TEST(credit_becomes_a_claim_and_a_claim_becomes_a_job)
{
    struct world w = world_open();
    const struct store_call *call;
    struct msg m;

    world_hello(&w, 1, WORKER_1);
    EXPECT_INT(w.out.call_count, 0); /* no credit yet */
    world_credit(&w, 1, 1);
    call = world_called(&w, 0, STORE_CLAIM);
    EXPECT_INT(call->claim.model_count, 2);
    EXPECT_TEXT(call->claim.models[1], "other");
    EXPECT_TEXT(call->claim.worker, "node/" WORKER_1);
    EXPECT_INT(call->claim.lease_ms, 30000);
    reply_job(&w, call->tag, &lease_a);
    m = world_sent(&w, 0, MSG_JOB, 1);
    EXPECT(msg_lease_equal(&m.job.lease, &lease_a));
    EXPECT_TEXT(m.job.spec.image, "file:///a.jpg");
    EXPECT_INT(w.out.call_count, 0); /* its credit is used up */
    world_credit(&w, 1, 1);          /* the same credit again grants nothing */
    EXPECT_INT(w.out.call_count, 0);
    world_credit(&w, 1, 2);
    EXPECT_INT(w.out.call_count, 1);
    world_close(&w);
}

/* Its memory decides which jobs it is given. */
TEST(a_claim_says_how_much_memory_the_worker_has)
{
    struct world w = world_open();

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    EXPECT_INT(world_called(&w, 0, STORE_CLAIM)->claim.memory_mib, 8001);
    world_close(&w);
}

TEST(an_empty_claim_waits_for_news)
{
    struct world w = world_open();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    item.spec = good_spec();
    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    reply_no_job(&w, w.out.calls[0].tag);
    EXPECT_INT(w.out.call_count, 0);
    world_give(&w, BROKER_CLIENTS, 2, &m);
    EXPECT_INT(w.out.call_count, 1);
    world_reply(&w, &(struct store_reply){ .op = STORE_SUBMIT,
                                           .tag = w.out.calls[0].tag,
                                           .verdict = VERDICT_OK,
                                           .state = JOB_QUEUED });
    world_called(&w, 0, STORE_CLAIM); /* as soon as the job is stored */
    world_close(&w);
}

/* The answer to a claim: empty. */
static void reply_empty(struct world *w, uint64_t tag)
{
    world_reply(w, &(struct store_reply){ .op = STORE_CLAIM, .tag = tag });
}

/* While there are jobs, each answer doubles the claims at the store, up to the worker's credit; an
 * empty one ends that. */
TEST(a_long_line_is_claimed_by_whole_pipelines)
{
    struct world w = world_open();
    struct lease lease = lease_a;
    size_t claims[4] = { 0 };
    uint64_t tag;

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 9);
    EXPECT_INT(w.out.call_count, 1); /* one, as long as nobody knows more */
    tag = w.out.calls[0].tag;
    for (int i = 0; i < 4; i++) {
        lease.attempt++;
        reply_job(&w, tag, &lease);
        claims[i] = w.out.call_count;
    }
    EXPECT_INT(claims[0], 2);
    EXPECT_INT(claims[1], 3); /* 4 may be there, one was */
    EXPECT_INT(claims[2], 3); /* 3 are, 3 jobs were sent, and 9 may be */
    EXPECT_INT(claims[3], 0);
    for (int i = 0; i < 5; i++) {
        reply_empty(&w, tag);
        EXPECT_INT(w.out.call_count, i == 4); /* the last: there was news meanwhile */
    }
    reply_empty(&w, tag);
    EXPECT_INT(w.out.call_count, 0);
    world_close(&w);
}

/* A job that is accepted while an empty answer is on its way must not wait for the slow poll. */
TEST(news_during_a_claim_is_not_lost)
{
    struct world w = world_open();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };
    uint64_t claim, submit;

    item.spec = good_spec();
    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    claim = world_called(&w, 0, STORE_CLAIM)->tag;
    world_give(&w, BROKER_CLIENTS, 2, &m);
    submit = world_called(&w, 0, STORE_SUBMIT)->tag;
    world_reply(
        &w, &(struct store_reply){
                .op = STORE_SUBMIT, .tag = submit, .verdict = VERDICT_OK, .state = JOB_QUEUED });
    EXPECT_INT(w.out.call_count, 0);
    reply_empty(&w, claim); /* it ran before the job was there */
    EXPECT_INT(w.out.call_count, 1);
    reply_empty(&w, claim);
    EXPECT_INT(w.out.call_count, 0);
    world_close(&w);
}

TEST(one_new_job_wakes_one_worker)
{
    struct world w = world_open();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    item.spec = good_spec();
    for (int n = 1; n <= 2; n++) {
        world_hello(&w, n, n == 1 ? WORKER_1 : WORKER_2);
        world_credit(&w, n, 1);
        reply_no_job(&w, w.out.calls[0].tag);
    }
    world_give(&w, BROKER_CLIENTS, 3, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_SUBMIT,
                                           .tag = w.out.calls[0].tag,
                                           .verdict = VERDICT_OK,
                                           .state = JOB_QUEUED });
    EXPECT_INT(w.out.call_count, 1);
    reply_job(&w, world_called(&w, 0, STORE_CLAIM)->tag, &lease_a);
    world_called(&w, 0, STORE_CLAIM); /* where one job was there may be more: the other tries */
    world_close(&w);
}

TEST(a_job_for_a_worker_that_has_left_goes_back)
{
    struct world w = world_open();
    struct msg m = { .type = MSG_BYE };
    uint64_t tag;

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    tag = w.out.calls[0].tag;
    world_give(&w, BROKER_WORKERS, 1, &m);
    world_hello(&w, 2, WORKER_2); /* takes the same place */
    reply_job(&w, tag, &lease_a);
    EXPECT_INT(w.out.send_count, 0);
    EXPECT(msg_lease_equal(&world_called(&w, 0, STORE_RELEASE)->release, &lease_a));
    world_close(&w);
}

TEST(a_job_that_can_not_be_sent_goes_back)
{
    struct world w = world_open();
    struct outbox_send send;

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    reply_job(&w, w.out.calls[0].tag, &lease_a);
    send = w.out.sends[0];
    outbox_reset(&w.out);
    broker_on_unsent(w.broker, w.now_ms, &send, &w.out);
    EXPECT(msg_lease_equal(&world_called(&w, 0, STORE_RELEASE)->release, &lease_a));
    world_credit(&w, 1, 2); /* it must say HELLO again, so that both count from zero */
    EXPECT_INT(w.out.call_count, 0);
    EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_NOTFOUND);
    world_close(&w);
}

TEST(a_job_whose_parameters_are_garbage_is_buried)
{
    struct world w = world_open();

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    world_reply(&w, &(struct store_reply){ .op = STORE_CLAIM,
                                           .tag = w.out.calls[0].tag,
                                           .lease = lease_a,
                                           .code = ERR_CORRUPT,
                                           .sentence = "bad" });
    EXPECT_INT(world_called(&w, 0, STORE_FAIL)->fail.code, ERR_CORRUPT);
    EXPECT(!status_is_retryable(w.out.calls[0].fail.code));
    EXPECT(msg_lease_equal(&w.out.calls[0].fail.lease, &lease_a));
    world_close(&w);
}

TEST(a_worker_that_comes_back_counts_from_zero)
{
    struct world w = world_open();

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    reply_job(&w, w.out.calls[0].tag, &lease_a);
    world_hello(&w, 7, WORKER_1); /* a new connection of the same worker */
    world_credit(&w, 7, 1);
    EXPECT_INT(w.out.call_count, 1);
    world_credit(&w, 1, 5); /* the old connection is nobody's any more */
    EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_NOTFOUND);
    world_close(&w);
}

TEST(a_heartbeat_renews_every_lease_and_gets_verdicts)
{
    struct world w = world_open();
    struct lease lease_b = { .job = JOB_B, .attempt = 2, .nonce = 5 };
    struct lease lease_c = { .job = JOB_B, .attempt = 3, .nonce = 6 };
    struct msg_lease_state leases[3] = { { lease_a, true, 0.5, "unet" },
                                         { lease_b, false, 0, "fetch" },
                                         { lease_c, false, 0, "" } };
    struct msg m = { .type = MSG_STATE, .seq = 44, .state = { 0, leases, 3 } };
    uint64_t tags[3];

    world_hello(&w, 1, WORKER_1);
    world_give(&w, BROKER_WORKERS, 1, &m);
    for (size_t i = 0; i < 3; i++)
        tags[i] = world_called(&w, i, STORE_RENEW)->tag;
    EXPECT_INT(w.out.calls[0].renew.state->is_started, true);
    EXPECT_TEXT(w.out.calls[1].renew.state->stage, "fetch");
    world_reply(&w,
                &(struct store_reply){ .op = STORE_RENEW, .tag = tags[0], .verdict = VERDICT_OK });
    world_reply(
        &w, &(struct store_reply){ .op = STORE_RENEW, .tag = tags[1], .code = ERR_UNAVAILABLE });
    EXPECT_INT(w.out.send_count, 0);
    world_reply(
        &w, &(struct store_reply){ .op = STORE_RENEW, .tag = tags[2], .verdict = VERDICT_LOST });
    m = world_sent(&w, 0, MSG_STATE_ACK, 1);
    EXPECT_INT(m.seq, 44);
    EXPECT_INT(m.state_ack.verdict_count, 2); /* nothing is said about what nobody knows */
    EXPECT(msg_lease_equal(&m.state_ack.verdicts[0].lease, &lease_a));
    EXPECT_INT(m.state_ack.verdicts[0].verdict, VERDICT_OK);
    EXPECT(msg_lease_equal(&m.state_ack.verdicts[1].lease, &lease_c));
    EXPECT_INT(m.state_ack.verdicts[1].verdict, VERDICT_LOST);
    world_close(&w);
}

TEST(a_heartbeat_of_a_stranger_is_served_and_answered_with_a_wish)
{
    struct world w = world_open();
    struct msg_lease_state lease = { lease_a, true, 0.5, "unet" };
    struct msg m = { .type = MSG_STATE, .seq = 2, .state = { 1, &lease, 1 } };

    world_give(&w, BROKER_WORKERS, 1, &m); /* this broker has just been started again */
    EXPECT_INT(w.out.call_count, 1);
    EXPECT_INT(w.out.calls[0].op, STORE_RENEW);
    EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_NOTFOUND);
    EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).seq, 0);
    world_reply(&w, &(struct store_reply){
                        .op = STORE_RENEW, .tag = w.out.calls[0].tag, .verdict = VERDICT_OK });
    EXPECT_INT(world_sent(&w, 0, MSG_STATE_ACK, 1).state_ack.verdict_count, 1);
    world_close(&w);
}

TEST(lost_jobs_are_seen_in_the_count_of_a_heartbeat)
{
    struct world w = world_open();
    struct msg m = { .type = MSG_STATE, .seq = 2, .state = { 1, NULL, 0 } };

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    reply_job(&w, w.out.calls[0].tag, &lease_a);
    world_give(&w, BROKER_WORKERS, 1, &m);
    EXPECT_INT(world_sent(&w, 0, MSG_STATE_ACK, 1).state_ack.dispatched_total, 1);
    world_close(&w);
}

TEST(done_fail_and_release_get_the_stores_verdict)
{
    struct world w = world_open();
    struct msg done = { .type = MSG_DONE, .seq = 5, .done = { lease_a, { "v", "p", "m" } } };
    struct msg fail = { .type = MSG_FAIL, .seq = 6, .fail = { lease_a, ERR_IO, "no disk" } };
    struct msg release = { .type = MSG_RELEASE, .seq = 7, .release = { lease_a } };
    struct msg m;

    world_give(&w, BROKER_WORKERS, 1, &done);
    EXPECT_TEXT(world_called(&w, 0, STORE_COMPLETE)->complete.result->poster, "p");
    world_reply(&w, &(struct store_reply){ .op = STORE_COMPLETE,
                                           .tag = w.out.calls[0].tag,
                                           .verdict = VERDICT_DUPLICATE,
                                           .state = JOB_DONE });
    m = world_sent(&w, 0, MSG_ACK, 1);
    EXPECT_INT(m.seq, 5);
    EXPECT_INT(m.ack.verdict, VERDICT_DUPLICATE);
    EXPECT(msg_lease_equal(&m.ack.lease, &lease_a));
    world_give(&w, BROKER_WORKERS, 1, &fail);
    EXPECT_INT(world_called(&w, 0, STORE_FAIL)->fail.code, ERR_IO);
    EXPECT_TEXT(w.out.calls[0].fail.sentence, "no disk");
    EXPECT_INT(w.out.calls[0].fail.retry.base_ms, 10);
    EXPECT(w.out.calls[0].fail.retry.random >= 0 && w.out.calls[0].fail.retry.random < 1);
    world_reply(&w, &(struct store_reply){ .op = STORE_FAIL,
                                           .tag = w.out.calls[0].tag,
                                           .verdict = VERDICT_LOST,
                                           .state = JOB_DONE });
    EXPECT_INT(world_sent(&w, 0, MSG_ACK, 1).ack.verdict, VERDICT_LOST);
    world_give(&w, BROKER_WORKERS, 1, &release);
    world_reply(&w, &(struct store_reply){ .op = STORE_RELEASE,
                                           .tag = world_called(&w, 0, STORE_RELEASE)->tag,
                                           .code = ERR_UNAVAILABLE,
                                           .sentence = "no Redis" });
    m = world_sent(&w, 0, MSG_ERROR, 1); /* the worker says it again */
    EXPECT_INT(m.seq, 7);
    EXPECT_INT(m.error.code, ERR_UNAVAILABLE);
    world_close(&w);
}

TEST(a_cancel_reaches_the_worker_that_holds_the_job)
{
    struct world w = world_open();
    char ids[2][JOB_ID_BYTES] = { JOB_A, JOB_B };
    struct msg m = { .type = MSG_CANCEL,
                     .seq = 8,
                     .cancel = { (const char(*)[JOB_ID_BYTES])ids, 2 } };
    uint64_t tags[2];

    world_hello(&w, 1, WORKER_1);
    world_give(&w, BROKER_CLIENTS, 2, &m);
    tags[0] = world_called(&w, 0, STORE_CANCEL)->tag;
    tags[1] = world_called(&w, 1, STORE_CANCEL)->tag;
    world_reply(&w, &(struct store_reply){ .op = STORE_CANCEL,
                                           .tag = tags[0],
                                           .verdict = VERDICT_OK,
                                           .state = JOB_CANCELLED,
                                           .lease = lease_a,
                                           .worker = "node/" WORKER_1 });
    m = world_sent(&w, 0, MSG_CANCEL_LEASE, 1);
    EXPECT_INT(m.cancel_lease.verdict, VERDICT_CANCELLED);
    EXPECT(msg_lease_equal(&m.cancel_lease.lease, &lease_a));
    world_reply(&w, &(struct store_reply){
                        .op = STORE_CANCEL, .tag = tags[1], .verdict = VERDICT_UNKNOWN });
    m = world_sent(&w, 0, MSG_CANCELLED, 2);
    EXPECT_INT(m.cancelled.items[0].verdict, VERDICT_OK);
    EXPECT_INT(m.cancelled.items[1].verdict, VERDICT_UNKNOWN);
    EXPECT(strstr(m.cancelled.items[1].sentence, "there is no job " JOB_B) != NULL);
    world_close(&w);
}

/* --- time --- */

TEST(a_silent_worker_gets_no_jobs_and_is_forgotten)
{
    struct world w = world_open();
    struct msg m = { .type = MSG_PING };

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    reply_no_job(&w, w.out.calls[0].tag);
    w.now_ms += 5001;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    for (size_t i = 0; i < w.out.call_count; i++)
        EXPECT(w.out.calls[i].op != STORE_CLAIM);
    w.now_ms += 30000;
    broker_tick(w.broker, w.now_ms, &w.out);
    world_give(&w, BROKER_CLIENTS, 2, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_STATS, .tag = w.out.calls[0].tag });
    EXPECT_INT(world_sent(&w, 0, MSG_PONG, 2).pong.worker_count, 0);
    world_close(&w);
}

TEST(sweeps_come_one_at_a_time_and_when_they_are_due)
{
    struct world w = world_open();
    int64_t wait_ms = broker_tick(w.broker, w.now_ms, &w.out);
    const struct store_call *call = world_called(&w, 0, STORE_SWEEP);

    EXPECT(wait_ms > 0 && wait_ms <= 1000);
    EXPECT_INT(call->sweep.lease_ms, 30000);
    EXPECT(call->sweep.gap_ms >= 3000);
    w.now_ms += 5000;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    EXPECT_INT(w.out.call_count, 0); /* the first has not been answered */
    world_reply(&w, &(struct store_reply){ .op = STORE_SWEEP, .next_due_ms = 100 });
    EXPECT(broker_tick(w.broker, w.now_ms, &w.out) <= 100);
    w.now_ms += 100;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    world_called(&w, 0, STORE_SWEEP);
    world_reply(&w, &(struct store_reply){ .op = STORE_SWEEP, .code = ERR_UNAVAILABLE });
    w.now_ms += 1000;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    world_called(&w, 0, STORE_SWEEP); /* and goes on when the store is back */
    world_close(&w);
}

TEST(jobs_of_other_brokers_are_found_by_looking_now_and_then)
{
    struct world w = world_open();

    broker_tick(w.broker, w.now_ms, &w.out);
    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    reply_no_job(&w, w.out.calls[0].tag);
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms + 1, &w.out);
    EXPECT_INT(w.out.call_count, 0);
    broker_tick(w.broker, w.now_ms + 250, &w.out);
    world_called(&w, 0, STORE_CLAIM);
    world_close(&w);
}

TEST(a_draining_broker_claims_nothing_and_gives_back)
{
    struct world w = world_open();
    uint64_t tag;

    world_hello(&w, 1, WORKER_1);
    world_credit(&w, 1, 1);
    tag = w.out.calls[0].tag;
    broker_drain(w.broker);
    reply_job(&w, tag, &lease_a);
    EXPECT_INT(w.out.send_count, 0);
    EXPECT_INT(w.out.call_count, 1);
    world_called(&w, 0, STORE_RELEASE);
    world_close(&w);
}

/* --- bad input --- */

TEST(messages_at_the_wrong_door_are_told_the_right_one)
{
    struct world w = world_open();
    struct msg m = { .type = MSG_PING, .seq = 3 };

    world_give(&w, BROKER_WORKERS, 1, &m);
    m = world_sent(&w, 0, MSG_ERROR, 1);
    EXPECT_INT(m.seq, 3);
    EXPECT_INT(m.error.code, ERR_BADARG);
    EXPECT(strstr(m.error.sentence, "client_endpoint") != NULL);
    m = (struct msg){ .type = MSG_CREDIT };
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT(strstr(world_sent(&w, 0, MSG_ERROR, 1).error.sentence, "worker_endpoint") != NULL);
    m = (struct msg){ .type = MSG_DRAIN };
    world_give(&w, BROKER_WORKERS, 1, &m);
    EXPECT(strstr(world_sent(&w, 0, MSG_ERROR, 1).error.sentence, "no use for drain") != NULL);
    world_close(&w);
}

TEST(too_many_requests_at_once_are_told_to_wait)
{
    struct world w = world_open();
    struct msg m = { .type = MSG_PING, .seq = 3 };
    int accepted = 0;

    for (;;) {
        world_give(&w, BROKER_CLIENTS, 1, &m);
        if (w.out.call_count == 0)
            break;
        EXPECT(++accepted <= 10000);
    }
    EXPECT(accepted >= 1000);
    EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_UNAVAILABLE);
    world_close(&w);
}

/* A store that answers anything. */
static void answer_oddly(struct world *w, const struct store_call *call)
{
    static struct job_spec spec;
    struct store_reply r = { .op = call->op,
                             .tag = call->tag,
                             .sentence = "?",
                             .worker = "",
                             .cursor = "",
                             .next_due_ms = -1 };

    spec = good_spec();
    r.code = test_random() % 4 ? OK : ERR_UNAVAILABLE;
    r.verdict = (enum msg_verdict)(1 + test_random() % (VERDICT_COUNT - 1));
    r.state = (enum job_state)(test_random() % JOB_STATE_COUNT);
    if (r.op == STORE_CLAIM && r.code == OK && test_random() % 2) {
        r.lease = lease_a;
        r.spec = &spec;
    }
    broker_on_store_reply(w->broker, w->now_ms, &r, &w->out);
}

/* Answer every call, and those that come of it. */
static void answer_all(struct world *w)
{
    struct store_call calls[64];

    for (int turn = 0; w->out.call_count > 0; turn++) {
        size_t count = w->out.call_count;

        EXPECT(count <= 64 && turn < 1000);
        memcpy(calls, w->out.calls, count * sizeof(calls[0]));
        outbox_reset(&w->out);
        for (size_t i = 0; i < count; i++)
            answer_oddly(w, &calls[i]);
    }
}

/* Random damage to good messages, with that store: the core neither falls over nor loses a
 * request. */
TEST(damaged_messages_and_odd_answers_do_no_harm)
{
    struct world w = world_open();
    struct msg_lease_state leases[2] = { { lease_a, true, 0.5, "unet" }, { lease_a, true, 0, "" } };
    char ids[2][JOB_ID_BYTES] = { JOB_A, JOB_B };
    struct msg samples[] = {
        { .type = MSG_PING },
        { .type = MSG_STATE, .state = { 3, leases, 2 } },
        { .type = MSG_CANCEL, .cancel = { (const char(*)[JOB_ID_BYTES])ids, 2 } },
        { .type = MSG_STATUS, .status = { (const char(*)[JOB_ID_BYTES])ids, 2 } },
        { .type = MSG_CREDIT, .credit = { 3 } },
        { .type = MSG_DONE, .done = { lease_a, { "v", "p", "m" } } },
        { .type = MSG_HELLO, .hello = { WORKER_1, "h", "d", "v", models, 2 } },
        { .type = MSG_BYE },
    };

    for (int round = 0; round < 20000; round++) {
        struct bus_peer from = world_peer((int)(test_random() % 3));
        struct broker_frame frame = { .tenant = "",
                                      .side = (enum broker_side)(test_random() % 2),
                                      .from = &from,
                                      .role = (enum keys_role)(test_random() % KEYS_ROLE_COUNT) };
        struct buf bytes = { 0 };

        EXPECT_OK(
            codec_encode(&samples[test_random() % (sizeof(samples) / sizeof(samples[0]))], &bytes));
        if (test_random() % 2)
            bytes.data[test_random() % bytes.len] ^= (char)(1 << test_random() % 8);
        frame.bytes = bytes.data;
        frame.len = bytes.len;
        outbox_reset(&w.out);
        broker_on_frame(w.broker, w.now_ms, &frame, &w.out);
        answer_all(&w);
        buf_free(&bytes);
        w.now_ms += (int64_t)(test_random() % 100);
        broker_tick(w.broker, w.now_ms, &w.out);
        answer_all(&w);
    }
    EXPECT_INT(broker_pending(w.broker), 0);
    world_close(&w);
}
