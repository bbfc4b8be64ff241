/* The broker's core against a store that the test plays: every message, answer and loss. */
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "common/base/arena.h"
#include "common/base/limits.h"
#include "proto/codec.h"
#include "tests/tool/test.h"

#define JOB_A "00aaaaaaaaaaaaaaaaaaaaaaaa"
#define JOB_B "00bbbbbbbbbbbbbbbbbbbbbbbb"
#define WORKER_1 "00wwwwwwwwwwwwwwwwwwwwwww1"
#define WORKER_2 "00wwwwwwwwwwwwwwwwwwwwwww2"
#define BROKER "00kkkkkkkkkkkkkkkkkkkkkkkk"

static const struct lease lease_a = { .job = JOB_A, .attempt = 1, .nonce = 77 };
static const char *const models[] = { "default", "other" };

/* A broker, its outbox and the present time. */
struct world {
    struct broker *broker;
    struct outbox out;
    int64_t now_ms;
    enum keys_role role[BROKER_SIDE_COUNT]; /* of whoever speaks at this door */
    struct arena arena;
};

static struct world open_world(void)
{
    struct world w = { .now_ms = 1000000, .role = { KEYS_CLIENT, KEYS_WORKER } };
    struct broker_config config = { .lease_ms = 30000,
                                    .heartbeat_ms = 1000,
                                    .retry_base_ms = 10,
                                    .retry_cap_ms = 100,
                                    .queued_max = 50,
                                    .version = "1.2.3",
                                    .random = test_random };

    EXPECT_OK(broker_open(&w.broker, &config, BROKER));
    EXPECT_OK(arena_open(&w.arena, "test", 8 * CODEC_ARENA_BYTES));
    return w;
}

static void close_world(struct world *w)
{
    broker_close(w->broker);
    outbox_free(&w->out);
    arena_close(&w->arena);
}

static struct bus_peer peer_of(int n)
{
    return (struct bus_peer){ .bytes = { 0, 1, 2, 3, (uint8_t)n }, .len = 5 };
}

/* Forget what the core wanted so far, and hand it a message of peer n. */
static void give(struct world *w, enum broker_side side, int n, const struct msg *m)
{
    struct bus_peer from = peer_of(n);
    struct buf frame = { 0 };

    outbox_reset(&w->out);
    EXPECT_OK(codec_encode(m, &frame));
    broker_on_frame(w->broker, w->now_ms,
                    &(struct broker_frame){ side, &from, frame.data, frame.len, w->role[side] },
                    &w->out);
    buf_free(&frame);
}

static void reply(struct world *w, const struct store_reply *r)
{
    struct store_reply full = *r;

    if (!full.sentence)
        full.sentence = "";
    if (!full.worker)
        full.worker = "";
    if (!full.cursor)
        full.cursor = "";
    outbox_reset(&w->out);
    broker_on_store_reply(w->broker, w->now_ms, &full, &w->out);
}

/* The frame number i that the core wants to send, which must be of this type and for peer n. */
static struct msg sent(struct world *w, size_t i, enum msg_type type, int n)
{
    struct bus_peer to = peer_of(n);
    struct msg m;

    EXPECT(i < w->out.send_count);
    EXPECT_OK(
        codec_decode(&m, w->out.frames.data + w->out.sends[i].at, w->out.sends[i].len, &w->arena));
    EXPECT_TEXT(msg_type_name(m.type), msg_type_name(type));
    EXPECT(memcmp(&w->out.sends[i].to, &to, sizeof(to)) == 0);
    return m;
}

static const struct store_call *called(const struct world *w, size_t i, enum store_op op)
{
    EXPECT(i < w->out.call_count);
    EXPECT_INT(w->out.calls[i].op, op);
    return &w->out.calls[i];
}

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
    struct world w = open_world();
    struct msg_submit_item items[3] = { { .job = JOB_A }, { .job = JOB_B }, { .job = WORKER_1 } };
    struct msg m = { .type = MSG_SUBMIT, .seq = 9, .submit = { items, 3 } };
    uint64_t tags[2];

    items[0].spec = items[1].spec = items[2].spec = good_spec();
    items[1].spec.fps = 0; /* out of bounds: never gets to the store */
    give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 2);
    EXPECT_TEXT(called(&w, 0, STORE_SUBMIT)->submit.job, JOB_A);
    EXPECT_INT(called(&w, 0, STORE_SUBMIT)->submit.queued_max, 50);
    EXPECT_TEXT(called(&w, 1, STORE_SUBMIT)->submit.job, WORKER_1);
    EXPECT_INT(w.out.send_count, 0); /* durable before visible */
    tags[0] = w.out.calls[0].tag;
    tags[1] = w.out.calls[1].tag;
    reply(&w,
          &(struct store_reply){
              .op = STORE_SUBMIT, .tag = tags[1], .verdict = VERDICT_CONFLICT, .state = JOB_DONE });
    EXPECT_INT(w.out.send_count, 0);
    reply(&w, &(struct store_reply){
                  .op = STORE_SUBMIT, .tag = tags[0], .verdict = VERDICT_OK, .state = JOB_QUEUED });
    m = sent(&w, 0, MSG_SUBMITTED, 1);
    EXPECT_INT(m.seq, 9);
    EXPECT_INT(m.submitted.item_count, 3);
    EXPECT_INT(m.submitted.items[0].verdict, VERDICT_OK);
    EXPECT_INT(m.submitted.items[1].verdict, VERDICT_REFUSED);
    EXPECT_INT(m.submitted.items[1].code, ERR_BADARG);
    EXPECT(strstr(m.submitted.items[1].sentence, "fps") != NULL);
    EXPECT_INT(m.submitted.items[2].verdict, VERDICT_CONFLICT);
    EXPECT(strstr(m.submitted.items[2].sentence, "exists with other parameters (it is done)"));
    EXPECT_INT(broker_pending(w.broker), 0);
    close_world(&w);
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
            struct world w = open_world();
            struct msg m;

            w.role[side] = (enum keys_role)role;
            give(&w, (enum broker_side)side, 1, &said[side]);
            EXPECT_INT(w.out.call_count, may[role][side]);
            EXPECT_INT(w.out.send_count, !may[role][side]);
            if (!may[role][side]) {
                m = sent(&w, 0, MSG_ERROR, 1);
                EXPECT_INT(m.error.code, ERR_CONFLICT);
                EXPECT(strstr(m.error.sentence, keys_role_name((enum keys_role)role)) != NULL);
            }
            close_world(&w);
        }
    }
}

TEST(a_submit_of_nothing_good_is_answered_at_once)
{
    struct world w = open_world();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    spec_init(&item.spec); /* without an image */
    give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 0);
    m = sent(&w, 0, MSG_SUBMITTED, 1);
    EXPECT_INT(m.submitted.items[0].verdict, VERDICT_REFUSED);
    m = (struct msg){ .type = MSG_SUBMIT };
    give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(sent(&w, 0, MSG_SUBMITTED, 1).submitted.item_count, 0);
    EXPECT_INT(broker_pending(w.broker), 0);
    close_world(&w);
}

TEST(without_the_store_a_submit_is_told_to_come_again)
{
    struct world w = open_world();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    item.spec = good_spec();
    give(&w, BROKER_CLIENTS, 1, &m);
    reply(&w, &(struct store_reply){ .op = STORE_SUBMIT,
                                     .tag = w.out.calls[0].tag,
                                     .code = ERR_UNAVAILABLE,
                                     .sentence = "no Redis" });
    m = sent(&w, 0, MSG_SUBMITTED, 1);
    EXPECT_INT(m.submitted.items[0].verdict, VERDICT_REFUSED);
    EXPECT_INT(m.submitted.items[0].code, ERR_UNAVAILABLE);
    EXPECT_TEXT(m.submitted.items[0].sentence, "no Redis");
    close_world(&w);
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
    struct world w = open_world();
    struct msg m = { .type = MSG_STATUS,
                     .status = { (const char(*)[JOB_ID_BYTES])ids, LIMIT_JOBS_PER_MSG } };

    memset(url, 'u', sizeof(url));
    url[sizeof(url) - 1] = '\0';
    for (int i = 0; i < LIMIT_JOBS_PER_MSG; i++) {
        strcpy(ids[i], JOB_A);
        fill_status(&jobs[i], url);
    }
    give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(called(&w, 0, STORE_STATUS)->status.id_count, LIMIT_JOBS_PER_MSG);
    reply(&w, &(struct store_reply){ .op = STORE_STATUS,
                                     .tag = w.out.calls[0].tag,
                                     .jobs = jobs,
                                     .job_count = LIMIT_JOBS_PER_MSG });
    m = sent(&w, 0, MSG_STATUSES, 1);
    EXPECT(m.statuses.job_count >= 16 && m.statuses.job_count < LIMIT_JOBS_PER_MSG);
    EXPECT_INT(broker_pending(w.broker), 0);
    close_world(&w);
}

TEST(a_list_is_asked_for_in_pages_that_fit)
{
    struct world w = open_world();
    struct msg m = { .type = MSG_LIST, .list = { JOB_DEAD, "a=b", LIMIT_JOBS_PER_MSG, "12" } };

    give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT(called(&w, 0, STORE_LIST)->list.limit <= 31);
    EXPECT_TEXT(w.out.calls[0].list.cursor, "12");
    reply(&w, &(struct store_reply){ .op = STORE_LIST, .tag = w.out.calls[0].tag, .cursor = "7" });
    EXPECT_TEXT(sent(&w, 0, MSG_LISTED, 1).listed.cursor, "7");
    m.list.cursor = "(inf";
    give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 0);
    EXPECT_INT(sent(&w, 0, MSG_ERROR, 1).error.code, ERR_BADARG);
    close_world(&w);
}

TEST(a_ping_tells_who_is_there_and_an_error_when_redis_is_not)
{
    struct world w = open_world();
    struct msg m = { .type = MSG_PING, .seq = 3 };

    give(&w, BROKER_CLIENTS, 1, &m);
    reply(&w, &(struct store_reply){ .op = STORE_STATS,
                                     .tag = called(&w, 0, STORE_STATS)->tag,
                                     .job_counts = { [JOB_QUEUED] = 5 } });
    m = sent(&w, 0, MSG_PONG, 1);
    EXPECT_TEXT(m.pong.broker, BROKER);
    EXPECT_TEXT(m.pong.version, "1.2.3");
    EXPECT_INT(m.pong.job_counts[JOB_QUEUED], 5);
    m = (struct msg){ .type = MSG_PING, .seq = 4 };
    give(&w, BROKER_CLIENTS, 1, &m);
    reply(&w, &(struct store_reply){ .op = STORE_STATS,
                                     .tag = w.out.calls[0].tag,
                                     .code = ERR_UNAVAILABLE,
                                     .sentence = "no Redis at x" });
    m = sent(&w, 0, MSG_ERROR, 1);
    EXPECT_INT(m.seq, 4);
    EXPECT_INT(m.error.code, ERR_UNAVAILABLE);
    EXPECT_TEXT(m.error.sentence, "no Redis at x");
    close_world(&w);
}

/* --- workers --- */

static void say_hello(struct world *w, int n, const char *id)
{
    struct msg m = { .type = MSG_HELLO,
                     .seq = 1,
                     .hello = { .host = "node",
                                .device = "cpu",
                                .version = "1",
                                .models = models,
                                .model_count = 2 } };

    strcpy(m.hello.worker, id);
    give(w, BROKER_WORKERS, n, &m);
    m = sent(w, 0, MSG_WELCOME, n);
    EXPECT_TEXT(m.welcome.broker, BROKER);
    EXPECT_INT(m.welcome.lease_ms, 30000);
    EXPECT_INT(m.welcome.heartbeat_ms, 1000);
}

static void give_credit(struct world *w, int n, int64_t total)
{
    struct msg m = { .type = MSG_CREDIT, .credit = { total } };

    give(w, BROKER_WORKERS, n, &m);
}

/* The store has a job for the claim with this tag. */
static void reply_job(struct world *w, uint64_t tag, const struct lease *lease)
{
    struct job_spec spec = good_spec();

    reply(w,
          &(struct store_reply){ .op = STORE_CLAIM, .tag = tag, .lease = *lease, .spec = &spec });
}

static void reply_no_job(struct world *w, uint64_t tag)
{
    reply(w, &(struct store_reply){ .op = STORE_CLAIM, .tag = tag });
}

TEST(credit_becomes_a_claim_and_a_claim_becomes_a_job)
{
    struct world w = open_world();
    const struct store_call *call;
    struct msg m;

    say_hello(&w, 1, WORKER_1);
    EXPECT_INT(w.out.call_count, 0); /* no credit yet */
    give_credit(&w, 1, 1);
    call = called(&w, 0, STORE_CLAIM);
    EXPECT_INT(call->claim.model_count, 2);
    EXPECT_TEXT(call->claim.models[1], "other");
    EXPECT_TEXT(call->claim.worker, "node/" WORKER_1);
    EXPECT_INT(call->claim.lease_ms, 30000);
    reply_job(&w, call->tag, &lease_a);
    m = sent(&w, 0, MSG_JOB, 1);
    EXPECT(msg_lease_equal(&m.job.lease, &lease_a));
    EXPECT_TEXT(m.job.spec.image, "file:///a.jpg");
    EXPECT_INT(w.out.call_count, 0); /* its credit is used up */
    give_credit(&w, 1, 1);           /* the same credit again grants nothing */
    EXPECT_INT(w.out.call_count, 0);
    give_credit(&w, 1, 2);
    EXPECT_INT(w.out.call_count, 1);
    close_world(&w);
}

TEST(an_empty_claim_waits_for_news)
{
    struct world w = open_world();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    item.spec = good_spec();
    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    reply_no_job(&w, w.out.calls[0].tag);
    EXPECT_INT(w.out.call_count, 0);
    give(&w, BROKER_CLIENTS, 2, &m);
    EXPECT_INT(w.out.call_count, 1);
    reply(&w, &(struct store_reply){ .op = STORE_SUBMIT,
                                     .tag = w.out.calls[0].tag,
                                     .verdict = VERDICT_OK,
                                     .state = JOB_QUEUED });
    called(&w, 0, STORE_CLAIM); /* as soon as the job is stored */
    close_world(&w);
}

TEST(one_new_job_wakes_one_worker)
{
    struct world w = open_world();
    struct msg_submit_item item = { .job = JOB_A };
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    item.spec = good_spec();
    for (int n = 1; n <= 2; n++) {
        say_hello(&w, n, n == 1 ? WORKER_1 : WORKER_2);
        give_credit(&w, n, 1);
        reply_no_job(&w, w.out.calls[0].tag);
    }
    give(&w, BROKER_CLIENTS, 3, &m);
    reply(&w, &(struct store_reply){ .op = STORE_SUBMIT,
                                     .tag = w.out.calls[0].tag,
                                     .verdict = VERDICT_OK,
                                     .state = JOB_QUEUED });
    EXPECT_INT(w.out.call_count, 1);
    reply_job(&w, called(&w, 0, STORE_CLAIM)->tag, &lease_a);
    called(&w, 0, STORE_CLAIM); /* where one job was there may be more: the other tries */
    close_world(&w);
}

TEST(a_job_for_a_worker_that_has_left_goes_back)
{
    struct world w = open_world();
    struct msg m = { .type = MSG_BYE };
    uint64_t tag;

    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    tag = w.out.calls[0].tag;
    give(&w, BROKER_WORKERS, 1, &m);
    say_hello(&w, 2, WORKER_2); /* takes the same place */
    reply_job(&w, tag, &lease_a);
    EXPECT_INT(w.out.send_count, 0);
    EXPECT(msg_lease_equal(&called(&w, 0, STORE_RELEASE)->release, &lease_a));
    close_world(&w);
}

TEST(a_job_that_can_not_be_sent_goes_back)
{
    struct world w = open_world();
    struct outbox_send send;

    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    reply_job(&w, w.out.calls[0].tag, &lease_a);
    send = w.out.sends[0];
    outbox_reset(&w.out);
    broker_on_unsent(w.broker, w.now_ms, &send, &w.out);
    EXPECT(msg_lease_equal(&called(&w, 0, STORE_RELEASE)->release, &lease_a));
    give_credit(&w, 1, 2); /* it must say HELLO again, so that both count from zero */
    EXPECT_INT(w.out.call_count, 0);
    EXPECT_INT(sent(&w, 0, MSG_ERROR, 1).error.code, ERR_NOTFOUND);
    close_world(&w);
}

TEST(a_job_whose_parameters_are_garbage_is_buried)
{
    struct world w = open_world();

    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    reply(&w, &(struct store_reply){ .op = STORE_CLAIM,
                                     .tag = w.out.calls[0].tag,
                                     .lease = lease_a,
                                     .code = ERR_CORRUPT,
                                     .sentence = "bad" });
    EXPECT_INT(called(&w, 0, STORE_FAIL)->fail.code, ERR_CORRUPT);
    EXPECT(!status_is_retryable(w.out.calls[0].fail.code));
    EXPECT(msg_lease_equal(&w.out.calls[0].fail.lease, &lease_a));
    close_world(&w);
}

TEST(a_worker_that_comes_back_counts_from_zero)
{
    struct world w = open_world();

    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    reply_job(&w, w.out.calls[0].tag, &lease_a);
    say_hello(&w, 7, WORKER_1); /* a new connection of the same worker */
    give_credit(&w, 7, 1);
    EXPECT_INT(w.out.call_count, 1);
    give_credit(&w, 1, 5); /* the old connection is nobody's any more */
    EXPECT_INT(sent(&w, 0, MSG_ERROR, 1).error.code, ERR_NOTFOUND);
    close_world(&w);
}

TEST(a_heartbeat_renews_every_lease_and_gets_verdicts)
{
    struct world w = open_world();
    struct lease lease_b = { .job = JOB_B, .attempt = 2, .nonce = 5 };
    struct lease lease_c = { .job = JOB_B, .attempt = 3, .nonce = 6 };
    struct msg_lease_state leases[3] = { { lease_a, true, 0.5, "unet" },
                                         { lease_b, false, 0, "fetch" },
                                         { lease_c, false, 0, "" } };
    struct msg m = { .type = MSG_STATE, .seq = 44, .state = { 0, leases, 3 } };
    uint64_t tags[3];

    say_hello(&w, 1, WORKER_1);
    give(&w, BROKER_WORKERS, 1, &m);
    for (size_t i = 0; i < 3; i++)
        tags[i] = called(&w, i, STORE_RENEW)->tag;
    EXPECT_INT(w.out.calls[0].renew.state->is_started, true);
    EXPECT_TEXT(w.out.calls[1].renew.state->stage, "fetch");
    reply(&w, &(struct store_reply){ .op = STORE_RENEW, .tag = tags[0], .verdict = VERDICT_OK });
    reply(&w, &(struct store_reply){ .op = STORE_RENEW, .tag = tags[1], .code = ERR_UNAVAILABLE });
    EXPECT_INT(w.out.send_count, 0);
    reply(&w, &(struct store_reply){ .op = STORE_RENEW, .tag = tags[2], .verdict = VERDICT_LOST });
    m = sent(&w, 0, MSG_STATE_ACK, 1);
    EXPECT_INT(m.seq, 44);
    EXPECT_INT(m.state_ack.verdict_count, 2); /* nothing is said about what nobody knows */
    EXPECT(msg_lease_equal(&m.state_ack.verdicts[0].lease, &lease_a));
    EXPECT_INT(m.state_ack.verdicts[0].verdict, VERDICT_OK);
    EXPECT(msg_lease_equal(&m.state_ack.verdicts[1].lease, &lease_c));
    EXPECT_INT(m.state_ack.verdicts[1].verdict, VERDICT_LOST);
    close_world(&w);
}

TEST(a_heartbeat_of_a_stranger_is_served_and_answered_with_a_wish)
{
    struct world w = open_world();
    struct msg_lease_state lease = { lease_a, true, 0.5, "unet" };
    struct msg m = { .type = MSG_STATE, .seq = 2, .state = { 1, &lease, 1 } };

    give(&w, BROKER_WORKERS, 1, &m); /* this broker has just been started again */
    EXPECT_INT(w.out.call_count, 1);
    EXPECT_INT(w.out.calls[0].op, STORE_RENEW);
    EXPECT_INT(sent(&w, 0, MSG_ERROR, 1).error.code, ERR_NOTFOUND);
    EXPECT_INT(sent(&w, 0, MSG_ERROR, 1).seq, 0);
    reply(&w, &(struct store_reply){
                  .op = STORE_RENEW, .tag = w.out.calls[0].tag, .verdict = VERDICT_OK });
    EXPECT_INT(sent(&w, 0, MSG_STATE_ACK, 1).state_ack.verdict_count, 1);
    close_world(&w);
}

TEST(lost_jobs_are_seen_in_the_count_of_a_heartbeat)
{
    struct world w = open_world();
    struct msg m = { .type = MSG_STATE, .seq = 2, .state = { 1, NULL, 0 } };

    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    reply_job(&w, w.out.calls[0].tag, &lease_a);
    give(&w, BROKER_WORKERS, 1, &m);
    EXPECT_INT(sent(&w, 0, MSG_STATE_ACK, 1).state_ack.dispatched_total, 1);
    close_world(&w);
}

TEST(done_fail_and_release_get_the_stores_verdict)
{
    struct world w = open_world();
    struct msg done = { .type = MSG_DONE, .seq = 5, .done = { lease_a, { "v", "p", "m" } } };
    struct msg fail = { .type = MSG_FAIL, .seq = 6, .fail = { lease_a, ERR_IO, "no disk" } };
    struct msg release = { .type = MSG_RELEASE, .seq = 7, .release = { lease_a } };
    struct msg m;

    give(&w, BROKER_WORKERS, 1, &done);
    EXPECT_TEXT(called(&w, 0, STORE_COMPLETE)->complete.result->poster, "p");
    reply(&w, &(struct store_reply){ .op = STORE_COMPLETE,
                                     .tag = w.out.calls[0].tag,
                                     .verdict = VERDICT_DUPLICATE,
                                     .state = JOB_DONE });
    m = sent(&w, 0, MSG_ACK, 1);
    EXPECT_INT(m.seq, 5);
    EXPECT_INT(m.ack.verdict, VERDICT_DUPLICATE);
    EXPECT(msg_lease_equal(&m.ack.lease, &lease_a));
    give(&w, BROKER_WORKERS, 1, &fail);
    EXPECT_INT(called(&w, 0, STORE_FAIL)->fail.code, ERR_IO);
    EXPECT_TEXT(w.out.calls[0].fail.sentence, "no disk");
    EXPECT_INT(w.out.calls[0].fail.retry.base_ms, 10);
    EXPECT(w.out.calls[0].fail.retry.random >= 0 && w.out.calls[0].fail.retry.random < 1);
    reply(&w, &(struct store_reply){ .op = STORE_FAIL,
                                     .tag = w.out.calls[0].tag,
                                     .verdict = VERDICT_LOST,
                                     .state = JOB_DONE });
    EXPECT_INT(sent(&w, 0, MSG_ACK, 1).ack.verdict, VERDICT_LOST);
    give(&w, BROKER_WORKERS, 1, &release);
    reply(&w, &(struct store_reply){ .op = STORE_RELEASE,
                                     .tag = called(&w, 0, STORE_RELEASE)->tag,
                                     .code = ERR_UNAVAILABLE,
                                     .sentence = "no Redis" });
    m = sent(&w, 0, MSG_ERROR, 1); /* the worker says it again */
    EXPECT_INT(m.seq, 7);
    EXPECT_INT(m.error.code, ERR_UNAVAILABLE);
    close_world(&w);
}

TEST(a_cancel_reaches_the_worker_that_holds_the_job)
{
    struct world w = open_world();
    char ids[2][JOB_ID_BYTES] = { JOB_A, JOB_B };
    struct msg m = { .type = MSG_CANCEL,
                     .seq = 8,
                     .cancel = { (const char(*)[JOB_ID_BYTES])ids, 2 } };
    uint64_t tags[2];

    say_hello(&w, 1, WORKER_1);
    give(&w, BROKER_CLIENTS, 2, &m);
    tags[0] = called(&w, 0, STORE_CANCEL)->tag;
    tags[1] = called(&w, 1, STORE_CANCEL)->tag;
    reply(&w, &(struct store_reply){ .op = STORE_CANCEL,
                                     .tag = tags[0],
                                     .verdict = VERDICT_OK,
                                     .state = JOB_CANCELLED,
                                     .lease = lease_a,
                                     .worker = "node/" WORKER_1 });
    m = sent(&w, 0, MSG_CANCEL_LEASE, 1);
    EXPECT_INT(m.cancel_lease.verdict, VERDICT_CANCELLED);
    EXPECT(msg_lease_equal(&m.cancel_lease.lease, &lease_a));
    reply(&w,
          &(struct store_reply){ .op = STORE_CANCEL, .tag = tags[1], .verdict = VERDICT_UNKNOWN });
    m = sent(&w, 0, MSG_CANCELLED, 2);
    EXPECT_INT(m.cancelled.items[0].verdict, VERDICT_OK);
    EXPECT_INT(m.cancelled.items[1].verdict, VERDICT_UNKNOWN);
    EXPECT(strstr(m.cancelled.items[1].sentence, "there is no job " JOB_B) != NULL);
    close_world(&w);
}

/* --- time --- */

TEST(a_silent_worker_gets_no_jobs_and_is_forgotten)
{
    struct world w = open_world();
    struct msg m = { .type = MSG_PING };

    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    reply_no_job(&w, w.out.calls[0].tag);
    w.now_ms += 5001;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    for (size_t i = 0; i < w.out.call_count; i++)
        EXPECT(w.out.calls[i].op != STORE_CLAIM);
    w.now_ms += 30000;
    broker_tick(w.broker, w.now_ms, &w.out);
    give(&w, BROKER_CLIENTS, 2, &m);
    reply(&w, &(struct store_reply){ .op = STORE_STATS, .tag = w.out.calls[0].tag });
    EXPECT_INT(sent(&w, 0, MSG_PONG, 2).pong.worker_count, 0);
    close_world(&w);
}

TEST(sweeps_come_one_at_a_time_and_when_they_are_due)
{
    struct world w = open_world();
    int64_t wait_ms = broker_tick(w.broker, w.now_ms, &w.out);
    const struct store_call *call = called(&w, 0, STORE_SWEEP);

    EXPECT(wait_ms > 0 && wait_ms <= 1000);
    EXPECT_INT(call->sweep.lease_ms, 30000);
    EXPECT(call->sweep.gap_ms >= 3000);
    w.now_ms += 5000;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    EXPECT_INT(w.out.call_count, 0); /* the first has not been answered */
    reply(&w, &(struct store_reply){ .op = STORE_SWEEP, .next_due_ms = 100 });
    EXPECT(broker_tick(w.broker, w.now_ms, &w.out) <= 100);
    w.now_ms += 100;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    called(&w, 0, STORE_SWEEP);
    reply(&w, &(struct store_reply){ .op = STORE_SWEEP, .code = ERR_UNAVAILABLE });
    w.now_ms += 1000;
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms, &w.out);
    called(&w, 0, STORE_SWEEP); /* and goes on when the store is back */
    close_world(&w);
}

TEST(jobs_of_other_brokers_are_found_by_looking_now_and_then)
{
    struct world w = open_world();

    broker_tick(w.broker, w.now_ms, &w.out);
    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    reply_no_job(&w, w.out.calls[0].tag);
    outbox_reset(&w.out);
    broker_tick(w.broker, w.now_ms + 1, &w.out);
    EXPECT_INT(w.out.call_count, 0);
    broker_tick(w.broker, w.now_ms + 250, &w.out);
    called(&w, 0, STORE_CLAIM);
    close_world(&w);
}

TEST(a_draining_broker_claims_nothing_and_gives_back)
{
    struct world w = open_world();
    uint64_t tag;

    say_hello(&w, 1, WORKER_1);
    give_credit(&w, 1, 1);
    tag = w.out.calls[0].tag;
    broker_drain(w.broker);
    reply_job(&w, tag, &lease_a);
    EXPECT_INT(w.out.send_count, 0);
    EXPECT_INT(w.out.call_count, 1);
    called(&w, 0, STORE_RELEASE);
    close_world(&w);
}

/* --- bad input --- */

TEST(messages_at_the_wrong_door_are_told_the_right_one)
{
    struct world w = open_world();
    struct msg m = { .type = MSG_PING, .seq = 3 };

    give(&w, BROKER_WORKERS, 1, &m);
    m = sent(&w, 0, MSG_ERROR, 1);
    EXPECT_INT(m.seq, 3);
    EXPECT_INT(m.error.code, ERR_BADARG);
    EXPECT(strstr(m.error.sentence, "client_endpoint") != NULL);
    m = (struct msg){ .type = MSG_CREDIT };
    give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT(strstr(sent(&w, 0, MSG_ERROR, 1).error.sentence, "worker_endpoint") != NULL);
    m = (struct msg){ .type = MSG_DRAIN };
    give(&w, BROKER_WORKERS, 1, &m);
    EXPECT(strstr(sent(&w, 0, MSG_ERROR, 1).error.sentence, "no use for drain") != NULL);
    close_world(&w);
}

TEST(too_many_requests_at_once_are_told_to_wait)
{
    struct world w = open_world();
    struct msg m = { .type = MSG_PING, .seq = 3 };
    int accepted = 0;

    for (;;) {
        give(&w, BROKER_CLIENTS, 1, &m);
        if (w.out.call_count == 0)
            break;
        EXPECT(++accepted <= 10000);
    }
    EXPECT(accepted >= 1000);
    EXPECT_INT(sent(&w, 0, MSG_ERROR, 1).error.code, ERR_UNAVAILABLE);
    close_world(&w);
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
    struct world w = open_world();
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
        struct bus_peer from = peer_of((int)(test_random() % 3));
        struct broker_frame frame = { .side = (enum broker_side)(test_random() % 2),
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
    close_world(&w);
}
