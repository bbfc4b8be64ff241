/* The agent's core against brokers and a clock that the test plays. */
#include <string.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/limits.h"
#include "proto/codec.h"
#include "tests/tool/test.h"
#include "worker/agent_core.h"

#define ME "00wwwwwwwwwwwwwwwwwwwwwwww"
#define BROKER_ID "00kkkkkkkkkkkkkkkkkkkkkkkk"
#define SENT_MAX 512

/* What the core wanted, and the present time. */
struct world {
    struct agent_core *core;
    int64_t now_ms;
    struct arena arena;
    size_t sent_count;
    struct {
        size_t broker;
        struct msg m;
    } sent[SENT_MAX];
    int reconnects[AGENT_BROKERS_MAX];
    int job_count;
    struct lease last_job;
    int cancel_count;
    struct lease last_cancel;
    enum msg_verdict last_why;
    int64_t welcome_heartbeat_ms;
    struct lease renewed; /* last */
    int64_t until_ms;     /* of it; 0: none was */
};

static void on_send(void *self, size_t broker, const void *bytes, size_t len)
{
    struct world *w = self;

    EXPECT(w->sent_count < SENT_MAX);
    w->sent[w->sent_count].broker = broker;
    EXPECT_OK(codec_decode(&w->sent[w->sent_count++].m, bytes, len, &w->arena));
}

static void on_reconnect(void *self, size_t broker)
{
    struct world *w = self;

    w->reconnects[broker]++;
}

static void on_job(void *self, const struct lease *lease, const struct job_spec *spec)
{
    struct world *w = self;

    EXPECT_TEXT(spec->image, "file:///a.jpg");
    w->last_job = *lease;
    w->job_count++;
}

static void on_cancel(void *self, const struct lease *lease, enum msg_verdict why)
{
    struct world *w = self;

    w->last_cancel = *lease;
    w->last_why = why;
    w->cancel_count++;
}

static void on_renew(void *self, const struct lease *lease, int64_t until_ms)
{
    struct world *w = self;

    w->renewed = *lease;
    w->until_ms = until_ms;
}

static struct agent_config usual_config(void)
{
    return (struct agent_config){
        .brokers = { "tcp://10.0.0.1:1", "tcp://10.0.0.2:1" },
        .broker_count = 1,
        .models = { "default" },
        .model_count = 1,
        .host = "node",
        .device = "cpu",
        .version = "1",
    };
}

static struct world *open_world(const struct agent_config *config)
{
    static struct world w;
    struct agent_port port = { &w, on_send, on_reconnect, on_job, on_cancel, on_renew };

    memset(&w, 0, sizeof(w));
    w.now_ms = 5000;
    w.welcome_heartbeat_ms = 1000;
    EXPECT_OK(arena_open(&w.arena, "test", 32 * CODEC_ARENA_BYTES));
    EXPECT_OK(agent_core_open(&w.core, config, &port, ME));
    return &w;
}

static void close_world(struct world *w)
{
    agent_core_close(w->core);
    arena_close(&w->arena);
}

static void clear(struct world *w)
{
    w->sent_count = 0;
    arena_release(&w->arena, 0);
}

/* The last message of this type to this broker since clear, or NULL. */
static const struct msg *last_sent(const struct world *w, size_t broker, enum msg_type type)
{
    for (size_t i = w->sent_count; i > 0; i--) {
        if (w->sent[i - 1].broker == broker && w->sent[i - 1].m.type == type)
            return &w->sent[i - 1].m;
    }
    return NULL;
}

static int count_sent(const struct world *w, enum msg_type type)
{
    int count = 0;

    for (size_t i = 0; i < w->sent_count; i++)
        count += w->sent[i].m.type == type;
    return count;
}

static const struct msg *must_have_sent(const struct world *w, size_t broker, enum msg_type type)
{
    const struct msg *m = last_sent(w, broker, type);

    if (!m)
        test_fail(__FILE__, __LINE__, "no %s was sent", msg_type_name(type));
    return m;
}

static void give(struct world *w, size_t broker, const struct msg *m)
{
    struct buf frame = { 0 };

    EXPECT_OK(codec_encode(m, &frame));
    agent_core_on_frame(w->core, w->now_ms, broker, frame.data, frame.len);
    buf_free(&frame);
}

static void give_welcome(struct world *w, size_t broker)
{
    const struct msg *hello = must_have_sent(w, broker, MSG_HELLO);
    struct msg m = { .type = MSG_WELCOME,
                     .seq = hello->seq,
                     .welcome = { BROKER_ID, 30000, w->welcome_heartbeat_ms } };

    give(w, broker, &m);
}

static void tick(struct world *w, int64_t ms)
{
    w->now_ms += ms;
    agent_core_tick(w->core, w->now_ms);
}

/* Let time go by while some brokers (a bit each) answer heartbeats. */
static void pass_time(struct world *w, int64_t ms, int alive)
{
    struct msg m = { .type = MSG_STATE_ACK };

    for (; ms > 0; ms -= 500) {
        tick(w, ms < 500 ? ms : 500);
        for (size_t i = 0; i < AGENT_BROKERS_MAX; i++) {
            if (alive & 1 << i)
                give(w, i, &m);
        }
    }
}

/* Connected to its only broker, with credit granted. */
static struct world *open_connected(const struct agent_config *config)
{
    struct world *w = open_world(config);

    tick(w, 0);
    give_welcome(w, 0);
    return w;
}

static struct lease lease_of(int n)
{
    struct lease l = { .job = "00jjjjjjjjjjjjjjjjjjjjjjjj", .attempt = 1, .nonce = (uint64_t)n };

    l.job[24] = n < 10 ? 'j' : (char)('0' + n / 10);
    l.job[25] = (char)('0' + n % 10);
    return l;
}

static void give_job(struct world *w, size_t broker, int n)
{
    struct msg m = { .type = MSG_JOB, .job = { .lease = lease_of(n), .lease_ms = 30000 } };

    spec_init(&m.job.spec);
    strcpy(m.job.spec.image, "file:///a.jpg");
    give(w, broker, &m);
}

static void note(struct world *w, enum agent_note_kind kind, int n)
{
    struct agent_note say = { .kind = kind,
                              .lease = lease_of(n),
                              .stage = "unet",
                              .progress = 0.5,
                              .result = { "v", "p", "m" },
                              .code = ERR_IO,
                              .sentence = "no disk" };

    agent_core_on_note(w->core, w->now_ms, &say);
}

static void give_ack(struct world *w, int n, enum msg_verdict verdict)
{
    struct msg m = { .type = MSG_ACK, .seq = 1, .ack = { lease_of(n), verdict } };

    give(w, 0, &m);
}

static void give_verdict(struct world *w, int n, enum msg_verdict verdict)
{
    struct msg_lease_verdict v = { lease_of(n), verdict };
    struct msg m = { .type = MSG_STATE_ACK, .seq = 1, .state_ack = { 0, &v, 1 } };

    give(w, 0, &m);
}

static int64_t granted(const struct world *w)
{
    const struct msg *m = last_sent(w, 0, MSG_CREDIT);

    return m ? m->credit.granted_total : 0;
}

/* --- links --- */

TEST(hello_is_said_until_welcome)
{
    struct agent_config config = usual_config();
    struct world *w = open_world(&config);
    struct msg early = { .type = MSG_WELCOME, .welcome = { BROKER_ID, 30000, 1000 } };

    tick(w, 0);
    EXPECT_TEXT(must_have_sent(w, 0, MSG_HELLO)->hello.worker, ME);
    EXPECT_TEXT(last_sent(w, 0, MSG_HELLO)->hello.models[0], "default");
    early.seq = last_sent(w, 0, MSG_HELLO)->seq;
    tick(w, 500);
    EXPECT_INT(count_sent(w, MSG_HELLO), 1);
    tick(w, 600);
    EXPECT_INT(count_sent(w, MSG_HELLO), 2);
    give(w, 0, &early); /* counters were reset by the second HELLO: its own answer counts */
    EXPECT_INT(count_sent(w, MSG_CREDIT), 0);
    give_welcome(w, 0);
    EXPECT_INT(granted(w), 1);
    close_world(w);
}

TEST(a_broker_that_refuses_is_asked_less_often)
{
    struct agent_config config = usual_config();
    struct world *w = open_world(&config);
    struct msg m = { .type = MSG_ERROR, .error = { ERR_FULL, "use another" } };

    tick(w, 0);
    m.seq = last_sent(w, 0, MSG_HELLO)->seq;
    give(w, 0, &m);
    tick(w, 2000);
    EXPECT_INT(count_sent(w, MSG_HELLO), 1);
    tick(w, 3500);
    EXPECT_INT(count_sent(w, MSG_HELLO), 2);
    close_world(w);
}

TEST(a_silent_broker_is_connected_to_anew)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    for (int i = 0; i < 3; i++)
        tick(w, 1000);
    EXPECT_INT(w->reconnects[0], 0);
    clear(w);
    tick(w, 1000);
    EXPECT_INT(w->reconnects[0], 1);
    must_have_sent(w, 0, MSG_HELLO);
    close_world(w);
}

TEST(a_broker_that_forgot_us_hears_hello_and_credit_again)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg m = { .type = MSG_ERROR, .error = { ERR_NOTFOUND, "say HELLO" } };

    give_job(w, 0, 1);
    note(w, AGENT_DONE, 1);
    EXPECT_INT(granted(w), 2);
    clear(w);
    give(w, 0, &m);
    give_welcome(w, 0);
    EXPECT_INT(granted(w), 1); /* counts from zero */
    close_world(w);
}

/* The broker that was last granted something. */
static size_t home_of(const struct world *w)
{
    for (size_t i = w->sent_count; i > 0; i--) {
        if (w->sent[i - 1].m.type == MSG_CREDIT)
            return w->sent[i - 1].broker;
    }
    test_fail(__FILE__, __LINE__, "no credit was granted");
}

TEST(of_two_brokers_one_is_home_and_the_other_takes_over)
{
    struct agent_config config = usual_config();
    struct world *w;
    size_t home, other, hellos;

    config.broker_count = 2;
    w = open_world(&config);
    tick(w, 0);
    give_welcome(w, 0);
    give_welcome(w, 1);
    tick(w, 0);
    EXPECT_INT(count_sent(w, MSG_STATE), 2); /* both know that we live */
    hellos = (size_t)count_sent(w, MSG_HELLO);
    pass_time(w, 11000, 3); /* long enough to move to the one that ranks higher */
    for (size_t i = 0; (size_t)count_sent(w, MSG_HELLO) > hellos && i < 2; i++)
        give_welcome(w, i); /* HELLO takes back the credit of the old home */
    home = home_of(w);
    other = 1 - home;
    give_job(w, home, 1);
    note(w, AGENT_START, 1);
    clear(w);
    pass_time(w, 5000, 1 << other); /* home is silent */
    EXPECT(w->reconnects[home] >= 1);
    EXPECT_INT(w->reconnects[other], 0);
    EXPECT_INT(must_have_sent(w, other, MSG_STATE)->state.lease_count, 1);
    clear(w);
    note(w, AGENT_DONE, 1);
    must_have_sent(w, other, MSG_DONE);
    EXPECT_INT(must_have_sent(w, other, MSG_CREDIT)->credit.granted_total, 1);
    close_world(w);
}

/* --- jobs --- */

TEST(one_job_at_a_time_without_prefetch)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    EXPECT_INT(granted(w), 1);
    give_job(w, 0, 1);
    EXPECT_INT(w->job_count, 1);
    EXPECT(msg_lease_equal(&w->last_job, &(struct lease){ 0 }) == false);
    tick(w, 1000);
    EXPECT_INT(granted(w), 1);
    note(w, AGENT_START, 1);
    EXPECT_INT(granted(w), 1);
    note(w, AGENT_DONE, 1); /* the device is free, though the verdict is still to come */
    EXPECT_INT(granted(w), 2);
    close_world(w);
}

TEST(with_prefetch_the_next_job_is_asked_for_when_the_running_one_ends_soon)
{
    struct agent_config config = usual_config();
    struct agent_note say = { .kind = AGENT_REPORT, .lease = lease_of(1), .stage = "unet" };
    struct world *w;

    config.prefetch = true;
    config.prefetch_window_ms = 5000;
    w = open_connected(&config);
    give_job(w, 0, 1);
    EXPECT_INT(granted(w), 1); /* one that waits is enough */
    note(w, AGENT_START, 1);
    say.progress = 0.5;
    pass_time(w, 10000, 1); /* 10 s for one half: 10 s to go */
    agent_core_on_note(w->core, w->now_ms, &say);
    EXPECT_INT(granted(w), 1);
    say.progress = 0.8; /* 2.5 s to go */
    agent_core_on_note(w->core, w->now_ms, &say);
    EXPECT_INT(granted(w), 2);
    give_job(w, 0, 2);
    EXPECT_INT(w->job_count, 2);
    tick(w, 100);
    EXPECT_INT(granted(w), 2); /* not a third */
    close_world(w);
}

/* Clips that wait for a store that is down keep their leases, and the device its work. */
TEST(storage_kept_leases_do_not_hold_up_the_next_job)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    const struct msg *state;

    for (int i = 1; i <= MSG_LEASES_MAX / 2 + 1; i++) {
        EXPECT_INT(granted(w), i);
        give_job(w, 0, i);
        note(w, AGENT_START, i);
        EXPECT_INT(granted(w), i);
        clear(w);
        note(w, AGENT_KEPT, i);
        if (i <= MSG_LEASES_MAX / 2)
            EXPECT_INT(granted(w), i + 1);
    }
    EXPECT_INT(count_sent(w, MSG_CREDIT), 0); /* some places stay free for what is owed */
    clear(w);
    pass_time(w, 1000, 1);
    state = must_have_sent(w, 0, MSG_STATE);
    EXPECT_INT(state->state.lease_count, MSG_LEASES_MAX / 2 + 1);
    note(w, AGENT_DONE, 1);
    give_ack(w, 1, VERDICT_OK);
    EXPECT_INT(granted(w), MSG_LEASES_MAX / 2 + 2);
    close_world(w);
}

TEST(storage_a_paused_agent_asks_for_no_jobs)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    give_job(w, 0, 1);
    agent_core_pause(w->core, true);
    note(w, AGENT_DONE, 1);
    give_ack(w, 1, VERDICT_OK);
    tick(w, 1000);
    EXPECT_INT(granted(w), 1);
    agent_core_pause(w->core, false);
    tick(w, 1000);
    EXPECT_INT(granted(w), 2);
    close_world(w);
}

TEST(a_job_that_was_not_asked_for_is_handed_back)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    give_job(w, 0, 1);
    give_job(w, 0, 2);
    EXPECT_INT(w->job_count, 1);
    EXPECT(msg_lease_equal(
        &must_have_sent(w, 0, MSG_RELEASE)->release.lease,
        &(struct lease){ .job = "00jjjjjjjjjjjjjjjjjjjjjjj2", .attempt = 1, .nonce = 2 }));
    close_world(w);
}

TEST(a_job_with_parameters_out_of_bounds_fails_at_once)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg m = { .type = MSG_JOB, .job = { .lease = lease_of(1), .lease_ms = 30000 } };

    spec_init(&m.job.spec); /* no image */
    give(w, 0, &m);
    EXPECT_INT(w->job_count, 0);
    EXPECT_INT(must_have_sent(w, 0, MSG_FAIL)->fail.code, ERR_BADARG);
    EXPECT(strstr(last_sent(w, 0, MSG_FAIL)->fail.sentence, "image") != NULL);
    close_world(w);
}

TEST(a_heartbeat_tells_every_lease)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    const struct msg *m;

    give_job(w, 0, 1);
    clear(w);
    tick(w, 1000);
    m = must_have_sent(w, 0, MSG_STATE);
    EXPECT_INT(m->state.granted_total, 1);
    EXPECT_INT(m->state.lease_count, 1);
    EXPECT(!m->state.leases[0].is_started);
    note(w, AGENT_START, 1);
    note(w, AGENT_REPORT, 1);
    clear(w);
    tick(w, 200); /* a start is told without waiting for the next heartbeat */
    m = must_have_sent(w, 0, MSG_STATE);
    EXPECT(m->state.leases[0].is_started);
    EXPECT_TEXT(m->state.leases[0].stage, "unet");
    EXPECT_NEAR(m->state.leases[0].progress, 0.5, 0); /* exact in binary */
    close_world(w);
}

/* A lease lasts, for whoever stores its clip, from the heartbeat that renewed it, less an eighth;
 * and only the answer to the last one that named it, with the store's word, renews it. */
TEST(storage_a_renewed_lease_says_how_long_an_upload_may_take)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg_lease_verdict verdict = { .verdict = VERDICT_OK };
    struct msg ack = { .type = MSG_STATE_ACK, .state_ack = { .verdicts = &verdict } };
    int64_t sent_ms;

    give_job(w, 0, 1);
    verdict.lease = lease_of(1);
    clear(w);
    tick(w, 1000);
    sent_ms = w->now_ms;
    ack.seq = must_have_sent(w, 0, MSG_STATE)->seq;
    tick(w, 500);
    give(w, 0, &ack); /* the store said nothing */
    EXPECT_INT(w->until_ms, 0);
    ack.state_ack.verdict_count = 1;
    ack.seq++;
    give(w, 0, &ack); /* an answer to something else */
    EXPECT_INT(w->until_ms, 0);
    ack.seq--;
    give(w, 0, &ack);
    EXPECT(msg_lease_equal(&w->renewed, &verdict.lease));
    EXPECT_INT(w->until_ms, sent_ms + 30000 - 30000 / 8);
    close_world(w);
}

TEST(heartbeats_are_never_rarer_than_a_third_of_the_lease)
{
    struct agent_config config = usual_config();
    struct world *w = open_world(&config);

    w->welcome_heartbeat_ms = 25000; /* of a lease of 30000 */
    tick(w, 0);
    give_welcome(w, 0);
    tick(w, 0);
    clear(w);
    tick(w, 10000);
    must_have_sent(w, 0, MSG_STATE);
    close_world(w);
}

TEST(what_is_owed_is_said_until_there_is_a_verdict)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg busy = { .type = MSG_ERROR, .error = { ERR_UNAVAILABLE, "no Redis" } };
    struct msg alive = { .type = MSG_STATE_ACK };
    int said;

    give_job(w, 0, 1);
    note(w, AGENT_DONE, 1);
    EXPECT_TEXT(must_have_sent(w, 0, MSG_DONE)->done.result.manifest, "m");
    busy.seq = last_sent(w, 0, MSG_DONE)->seq;
    give(w, 0, &busy);
    for (int i = 0; i < 200; i++) { /* 20 s */
        tick(w, 100);
        give(w, 0, &alive);
    }
    said = count_sent(w, MSG_DONE);
    EXPECT(said >= 6 && said <= 12); /* pauses 0.3, 0.6, 1.2, 2.4, 4.8, 5, 5 s */
    EXPECT_INT(must_have_sent(w, 0, MSG_STATE)->state.lease_count, 1); /* and it is renewed */
    give_ack(w, 1, VERDICT_OK);
    clear(w);
    tick(w, 10000);
    EXPECT_INT(count_sent(w, MSG_DONE), 0);
    close_world(w);
}

TEST(what_is_owed_survives_the_loss_of_the_broker)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    give_job(w, 0, 1);
    for (int i = 0; i < 4; i++)
        tick(w, 1000);
    EXPECT_INT(w->reconnects[0], 1);
    clear(w);
    note(w, AGENT_FAIL, 1);
    EXPECT_INT(count_sent(w, MSG_FAIL), 0); /* nobody is there */
    tick(w, 5000);
    give_welcome(w, 0);
    tick(w, 0);
    EXPECT_INT(must_have_sent(w, 0, MSG_FAIL)->fail.code, ERR_IO);
    EXPECT_TEXT(last_sent(w, 0, MSG_FAIL)->fail.sentence, "no disk");
    EXPECT_INT(must_have_sent(w, 0, MSG_STATE)->state.lease_count, 1);
    close_world(w);
}

TEST(a_result_that_the_wire_refuses_becomes_a_failure)
{
    static char url[SPEC_URL_MAX + 10];
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct agent_note say = { .kind = AGENT_DONE, .lease = lease_of(1), .result = { url, "", "" } };

    memset(url, 'u', sizeof(url) - 1);
    give_job(w, 0, 1);
    agent_core_on_note(w->core, w->now_ms, &say);
    EXPECT_INT(must_have_sent(w, 0, MSG_FAIL)->fail.code, ERR_BADARG);
    EXPECT(strstr(last_sent(w, 0, MSG_FAIL)->fail.sentence, "video") != NULL);
    close_world(w);
}

TEST(a_refused_result_becomes_a_failure)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg m = { .type = MSG_ERROR, .error = { ERR_BADARG, "no such thing" } };

    give_job(w, 0, 1);
    note(w, AGENT_DONE, 1);
    m.seq = last_sent(w, 0, MSG_DONE)->seq;
    give(w, 0, &m);
    EXPECT_TEXT(must_have_sent(w, 0, MSG_FAIL)->fail.sentence, "no such thing");
    close_world(w);
}

TEST(a_lost_lease_stops_the_work_and_frees_its_room_when_it_has_stopped)
{
    static const enum msg_verdict bad[] = { VERDICT_LOST, VERDICT_CANCELLED, VERDICT_TIMEOUT };
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    for (int n = 1; n <= 3; n++) {
        struct lease l = lease_of(n);

        give_job(w, 0, n);
        EXPECT_INT(w->job_count, n);
        note(w, AGENT_START, n);
        give_verdict(w, n, VERDICT_OK);
        EXPECT_INT(w->cancel_count, n - 1);
        give_verdict(w, n, bad[n - 1]);
        EXPECT_INT(w->cancel_count, n);
        EXPECT_INT(w->last_why, bad[n - 1]);
        EXPECT(msg_lease_equal(&w->last_cancel, &l));
        give_verdict(w, n, bad[n - 1]); /* told once */
        EXPECT_INT(w->cancel_count, n);
        EXPECT_INT(granted(w), n); /* the device is still busy with it */
        clear(w);
        tick(w, 1000);
        EXPECT_INT(must_have_sent(w, 0, MSG_STATE)->state.lease_count, 0);
        note(w, n == 3 ? AGENT_DONE : AGENT_STOPPED, n); /* a result came too late: never sent */
        EXPECT_INT(count_sent(w, MSG_DONE), 0);
        EXPECT_INT(granted(w), n + 1);
    }
    close_world(w);
}

TEST(a_cancel_that_is_told_early_works_too)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg m = { .type = MSG_CANCEL_LEASE, .cancel_lease = { lease_of(1), VERDICT_CANCELLED } };

    give_job(w, 0, 1);
    m.cancel_lease.lease.nonce++;
    give(w, 0, &m); /* another lease of the same job */
    EXPECT_INT(w->cancel_count, 0);
    m.cancel_lease.lease = lease_of(1);
    give(w, 0, &m);
    EXPECT_INT(w->cancel_count, 1);
    close_world(w);
}

TEST(jobs_lost_on_the_way_are_noticed_and_credit_is_counted_anew)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg m = { .type = MSG_STATE_ACK, .state_ack = { .dispatched_total = 1 } };

    EXPECT_INT(granted(w), 1);
    clear(w);
    give(w, 0, &m); /* it sent one that never came */
    give_welcome(w, 0);
    EXPECT_INT(granted(w), 1);
    close_world(w);
}

TEST(a_worker_that_stops_by_itself_hands_the_job_back)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    give_job(w, 0, 1);
    note(w, AGENT_STOPPED, 1);
    must_have_sent(w, 0, MSG_RELEASE);
    close_world(w);
}

/* --- the end --- */

TEST(a_drain_finishes_what_has_started_and_hands_back_the_rest)
{
    struct agent_config config = usual_config();
    struct world *w;

    config.prefetch = true;
    w = open_connected(&config);
    give_job(w, 0, 1);
    note(w, AGENT_START, 1);
    tick(w, 100);
    note(w, AGENT_REPORT, 1); /* half done: the next is asked for */
    give_job(w, 0, 2);
    EXPECT_INT(w->job_count, 2);
    clear(w);
    agent_core_drain(w->core, w->now_ms);
    must_have_sent(w, 0, MSG_BYE);
    EXPECT_INT(w->cancel_count, 1);
    EXPECT_INT(w->last_why, VERDICT_RELEASED);
    EXPECT_INT((int)w->last_cancel.nonce, 2);
    must_have_sent(w, 0, MSG_RELEASE);
    give_ack(w, 2, VERDICT_OK);
    give_job(w, 0, 3); /* was on its way */
    EXPECT_INT(w->job_count, 2);
    give_ack(w, 3, VERDICT_OK);
    EXPECT(!agent_core_is_finished(w->core, w->now_ms));
    clear(w);
    tick(w, 1000);
    EXPECT_INT(must_have_sent(w, 0, MSG_STATE)->state.lease_count, 1);
    note(w, AGENT_DONE, 1);
    EXPECT(!agent_core_is_finished(w->core, w->now_ms)); /* the result must be recorded */
    give_ack(w, 1, VERDICT_OK);
    EXPECT(agent_core_is_finished(w->core, w->now_ms));
    EXPECT_INT(count_sent(w, MSG_CREDIT), 0);
    close_world(w);
}

TEST(a_stop_hands_everything_back_and_does_not_wait_for_ever)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    give_job(w, 0, 1);
    note(w, AGENT_START, 1);
    agent_core_stop(w->core, w->now_ms);
    must_have_sent(w, 0, MSG_RELEASE);
    EXPECT_INT(w->cancel_count, 1);
    EXPECT(!agent_core_is_finished(w->core, w->now_ms));
    EXPECT(agent_core_is_finished(w->core, w->now_ms + 2000)); /* without an answer */
    give_ack(w, 1, VERDICT_OK);
    EXPECT(agent_core_is_finished(w->core, w->now_ms));
    close_world(w);
}

TEST(a_drain_without_brokers_leaves_what_waits_to_the_end_of_its_lease)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    give_job(w, 0, 1);
    agent_core_drain(w->core, w->now_ms);
    for (int i = 0; i < 4; i++)
        tick(w, 1000);
    EXPECT(!agent_core_is_finished(w->core, w->now_ms)); /* a broker may come back */
    for (int i = 0; i < 4; i++)
        tick(w, 1000);
    EXPECT(agent_core_is_finished(w->core, w->now_ms));
    close_world(w);
}

TEST(an_idle_drain_is_over_at_once)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);

    EXPECT(!agent_core_is_finished(w->core, w->now_ms));
    agent_core_drain(w->core, w->now_ms);
    EXPECT(agent_core_is_finished(w->core, w->now_ms));
    close_world(w);
}

/* --- bad input --- */

TEST(bad_settings_are_refused)
{
    struct agent_config config = usual_config();
    struct agent_port port = { 0 };
    struct agent_core *core;

    config.brokers[0] = "localhost:7451";
    EXPECT_STATUS(agent_core_open(&core, &config, &port, ME), ERR_BADARG);
    EXPECT_MESSAGE("localhost:7451");
    config = usual_config();
    config.broker_count = 0;
    EXPECT_STATUS(agent_core_open(&core, &config, &port, ME), ERR_BADARG);
    config = usual_config();
    config.models[0] = "";
    EXPECT_STATUS(agent_core_open(&core, &config, &port, ME), ERR_BADARG);
    EXPECT_MESSAGE("model_name");
}

TEST(messages_for_nobody_do_no_harm)
{
    struct agent_config config = usual_config();
    struct world *w = open_connected(&config);
    struct msg m = { .type = MSG_PONG, .pong = { "", "", 0, { 0 } } };

    give(w, 0, &m);
    agent_core_on_frame(w->core, w->now_ms, 0, "garbage", 7);
    agent_core_on_frame(w->core, w->now_ms, 0, "", 0);
    give_ack(w, 5, VERDICT_OK);
    give_verdict(w, 5, VERDICT_LOST);
    note(w, AGENT_DONE, 5);
    EXPECT_INT(count_sent(w, MSG_DONE), 0);
    EXPECT_INT(w->cancel_count, 0);
    close_world(w);
}
