#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/batch.h"
#include "client/jobs.h"
#include "client/session.h"
#include "common/base/clock.h"
#include "proto/codec.h"
#include "tests/tool/test.h"

/* How the fake broker treats requests. */
enum manner {
    MANNER_GOOD = 0,
    MANNER_DEAF_ONCE,    /* does not answer the first request */
    MANNER_BUSY_TWICE,   /* ERROR ERR_UNAVAILABLE to the first two */
    MANNER_BUSY,         /* ERROR ERR_UNAVAILABLE to all */
    MANNER_REFUSES,      /* ERROR ERR_BADARG */
    MANNER_CONFUSED,     /* PONG to everything */
    MANNER_SHORT,        /* one verdict or status too few */
    MANNER_STALE_FIRST,  /* an ERROR with another seq before the right answer */
    MANNER_PUTS_OFF_ONE, /* the first time, the second job of a SUBMIT "can't be stored just now" */
};

/* A broker in a thread. */
struct fake {
    char endpoint[160];
    enum manner manner;
    atomic_bool stop;
    atomic_int requests;
    atomic_int jobs; /* items of all SUBMITs */
    pthread_t thread;
};

static void answer_submit(const struct msg *request, struct msg *answer,
                          struct msg_job_verdict *verdicts)
{
    for (size_t i = 0; i < request->submit.item_count; i++) {
        verdicts[i] =
            (struct msg_job_verdict){ .verdict = VERDICT_OK, .state = JOB_QUEUED, .sentence = "" };
        memcpy(verdicts[i].job, request->submit.items[i].job, JOB_ID_BYTES);
    }
    answer->type = MSG_SUBMITTED;
    answer->submitted.items = verdicts;
    answer->submitted.item_count = request->submit.item_count;
}

static void answer_status(const struct msg *request, struct msg *answer, struct job_status *jobs)
{
    for (size_t i = 0; i < request->status.id_count; i++) {
        jobs[i] = (struct job_status){ .state = JOB_QUEUED,
                                       .attempts_max = 3,
                                       .model = "default",
                                       .labels = "",
                                       .worker = "",
                                       .stage = "",
                                       .tenant = "",
                                       .batch = "",
                                       .sentence = "",
                                       .result = { "", "", "" } };
        memcpy(jobs[i].job, request->status.ids[i], JOB_ID_BYTES);
    }
    answer->type = MSG_STATUSES;
    answer->statuses.jobs = jobs;
    answer->statuses.job_count = request->status.id_count;
    answer->statuses.cursor = "";
}

static void answer_error(struct msg *answer, status code, const char *sentence)
{
    answer->type = MSG_ERROR;
    answer->error.code = code;
    answer->error.sentence = sentence;
}

/* The answer to the number-th request; false: none. */
static bool make_answer(struct fake *f, int number, const struct msg *request, struct msg *answer)
{
    static _Thread_local struct msg_job_verdict verdicts[LIMIT_JOBS_PER_MSG];
    static _Thread_local struct job_status jobs[LIMIT_JOBS_PER_MSG];

    memset(answer, 0, sizeof(*answer));
    answer->seq = request->seq;
    if (f->manner == MANNER_DEAF_ONCE && number == 1)
        return false;
    if (f->manner == MANNER_BUSY || (f->manner == MANNER_BUSY_TWICE && number <= 2)) {
        answer_error(answer, ERR_UNAVAILABLE, "Redis is away");
    } else if (f->manner == MANNER_REFUSES) {
        answer_error(answer, ERR_BADARG, "not like that");
    } else if (request->type == MSG_SUBMIT) {
        atomic_fetch_add(&f->jobs, (int)request->submit.item_count);
        answer_submit(request, answer, verdicts);
        if (f->manner == MANNER_PUTS_OFF_ONE && number == 1) {
            verdicts[1].verdict = VERDICT_REFUSED;
            verdicts[1].code = ERR_UNAVAILABLE;
            verdicts[1].sentence = "the store was away";
        }
        answer->submitted.item_count -= f->manner == MANNER_SHORT;
    } else if (request->type == MSG_STATUS) {
        answer_status(request, answer, jobs);
        answer->statuses.job_count -= f->manner == MANNER_SHORT;
    }
    if (answer->type == MSG_NONE || f->manner == MANNER_CONFUSED) {
        answer->type = MSG_PONG;
        memset(&answer->pong, 0, sizeof(answer->pong));
        answer->pong.broker = "00bbbbbbbbbbbbbbbbbbbbbbbb";
        answer->pong.version = "1";
    }
    return true;
}

static void reply(struct bus_socket *socket, const struct bus_peer *to, const struct msg *answer)
{
    struct buf frame = { 0 };

    EXPECT_OK(codec_encode(answer, &frame));
    EXPECT_OK(bus_send(socket, to, frame.data, frame.len));
    buf_free(&frame);
}

static void *fake_main(void *self)
{
    struct fake *f = self;
    struct bus *bus;
    struct bus_socket *socket;
    struct arena arena;

    EXPECT_OK(arena_open(&arena, "request", CODEC_ARENA_BYTES));
    EXPECT_OK(bus_open(&bus));
    EXPECT_OK(bus_bind(bus, f->endpoint, &socket));
    while (!atomic_load(&f->stop)) {
        struct bus_wait wait = { .socket = socket, .fd = -1 };
        struct bus_peer peer;
        struct msg request, answer;
        const void *bytes;
        size_t len;

        bus_poll(&wait, 1, 20);
        if (!bus_receive(socket, &peer, &bytes, &len))
            continue;
        arena_release(&arena, 0);
        EXPECT_OK(codec_decode(&request, bytes, len, &arena));
        if (!make_answer(f, atomic_fetch_add(&f->requests, 1) + 1, &request, &answer))
            continue;
        if (f->manner == MANNER_STALE_FIRST) {
            struct msg stale = { .seq = request.seq - 1 };

            answer_error(&stale, ERR_BADARG, "to an earlier request");
            reply(socket, &peer, &stale);
        }
        reply(socket, &peer, &answer);
    }
    bus_close_socket(socket);
    bus_close(bus);
    arena_close(&arena);
    return NULL;
}

static void fake_start(struct fake *f, const char *name, enum manner manner)
{
    memset(f, 0, sizeof(*f));
    f->manner = manner;
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%.100s/%s", test_tmpdir(), name);
    EXPECT(pthread_create(&f->thread, NULL, fake_main, f) == 0);
}

static void fake_stop(struct fake *f)
{
    atomic_store(&f->stop, true);
    pthread_join(f->thread, NULL);
}

static void open_session(struct session *s, const char *a, const char *b, int64_t timeout_ms)
{
    struct config_list list = { .count = b ? 2 : 1 };

    snprintf(list.item[0], sizeof(list.item[0]), "%s", a);
    if (b)
        snprintf(list.item[1], sizeof(list.item[1]), "%s", b);
    EXPECT_OK(session_open(s, &list, timeout_ms));
}

static status ping(struct session *s)
{
    struct msg request = { .type = MSG_PING }, answer;

    return session_call(s, &request, &answer);
}

TEST(session_gets_an_answer)
{
    struct fake broker;
    struct session s;

    fake_start(&broker, "b", MANNER_GOOD);
    open_session(&s, broker.endpoint, NULL, 20000);
    EXPECT_OK(ping(&s));
    EXPECT_OK(ping(&s));
    session_close(&s);
    fake_stop(&broker);
    EXPECT_INT(broker.requests, 2);
}

TEST(session_sends_again)
{
    static const enum manner manners[] = { MANNER_DEAF_ONCE, MANNER_BUSY_TWICE,
                                           MANNER_STALE_FIRST };

    for (size_t i = 0; i < sizeof(manners) / sizeof(manners[0]); i++) {
        struct fake broker;
        struct session s;
        char name[8];

        snprintf(name, sizeof(name), "b%zu", i);
        fake_start(&broker, name, manners[i]);
        open_session(&s, broker.endpoint, NULL, 20000);
        EXPECT_OK(ping(&s));
        session_close(&s);
        fake_stop(&broker);
    }
}

TEST(session_says_who_does_not_answer)
{
    struct session s;
    int64_t begin = clock_mono_ms();

    open_session(&s, "ipc:///nonexistent/a", "ipc:///nonexistent/b", 300);
    EXPECT_STATUS(ping(&s), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("no broker answers at ipc:///nonexistent/a, ipc:///nonexistent/b: start "
                   "onestep-broker or give --broker");
    EXPECT(clock_mono_ms() - begin >= 300);
    session_close(&s);
}

/* The first of the list is away: the second is asked, and from then on first. */
TEST(session_goes_to_the_next_broker)
{
    struct fake broker;
    struct session s;

    fake_start(&broker, "b", MANNER_GOOD);
    open_session(&s, "ipc:///nonexistent/a", broker.endpoint, 20000);
    EXPECT_OK(ping(&s));
    EXPECT_INT(s.current, 1);
    EXPECT_OK(ping(&s));
    session_close(&s);
    fake_stop(&broker);
}

TEST(session_passes_errors_on)
{
    struct fake busy, refuses, confused;
    struct session s;

    fake_start(&busy, "b1", MANNER_BUSY);
    open_session(&s, busy.endpoint, NULL, 1200);
    EXPECT_STATUS(ping(&s), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("Redis is away");
    session_close(&s);
    fake_stop(&busy);

    fake_start(&refuses, "b2", MANNER_REFUSES);
    open_session(&s, refuses.endpoint, NULL, 20000);
    EXPECT_STATUS(ping(&s), ERR_BADARG);
    EXPECT_MESSAGE("not like that");
    session_close(&s);
    fake_stop(&refuses);

    fake_start(&confused, "b3", MANNER_CONFUSED);
    open_session(&s, confused.endpoint, NULL, 20000);
    {
        struct msg request = { .type = MSG_LIST }, answer;

        request.list.label = "";
        request.list.cursor = "";
        request.list.limit = 5;
        EXPECT_STATUS(session_call(&s, &request, &answer), ERR_CORRUPT);
        EXPECT_MESSAGE("answered pong to list");
    }
    session_close(&s);
    fake_stop(&confused);
}

TEST(session_can_be_interrupted)
{
    struct session s;
    int fds[2];

    EXPECT(pipe(fds) == 0);
    EXPECT(write(fds[1], "x", 1) == 1);
    open_session(&s, "ipc:///nonexistent/a", NULL, 60000);
    s.interrupt_fd = fds[0];
    EXPECT_STATUS(ping(&s), ERR_CANCELLED);
    EXPECT_STATUS(session_pause(&s, 60000), ERR_CANCELLED);
    session_close(&s);
}

TEST(session_wants_an_endpoint)
{
    struct config_list none = { 0 }, wrong = { .count = 1, .item = { "localhost" } };
    struct session s;

    EXPECT_STATUS(session_open(&s, &none, 1000), ERR_BADARG);
    EXPECT_MESSAGE("give --broker");
    EXPECT_STATUS(session_open(&s, &wrong, 1000), ERR_BADARG);
    EXPECT_MESSAGE("localhost");
}

/* What a batch told. */
struct told {
    int count;
    int64_t rows;
};

static status on_verdict(void *self, const struct batch_verdict *v)
{
    struct told *told = self;

    EXPECT_STATUS(v->code, OK);
    EXPECT(v->verdict == VERDICT_OK);
    told->count++;
    told->rows += v->row;
    return OK;
}

static void make_item(struct msg_submit_item *item, const char *key)
{
    struct batch_job job = { .key = key };

    spec_init(&job.spec);
    memcpy(job.spec.image, "file:///x.jpg", 14);
    EXPECT_OK(batch_prepare(&job, item));
}

/* More jobs than fit into a message; every one is told once. */
TEST(batch_splits_and_tells_all)
{
    struct told told = { 0 };
    struct fake broker;
    struct session s;
    struct batch batch = { .session = &s, .on_verdict = on_verdict, .self = &told };
    struct msg_submit_item item;
    int64_t rows = 0;

    fake_start(&broker, "b", MANNER_PUTS_OFF_ONE);
    open_session(&s, broker.endpoint, NULL, 20000);
    for (int i = 0; i < 300; i++) {
        make_item(&item, "");
        EXPECT_OK(batch_add(&batch, &item, i));
        rows += i;
    }
    EXPECT_OK(batch_send(&batch));
    EXPECT_INT(told.count, 300);
    EXPECT_INT(told.rows, rows);
    EXPECT_INT(batch.count, 0);
    batch_free(&batch);
    session_close(&s);
    fake_stop(&broker);
    EXPECT_INT(broker.jobs, 301); /* the one that was put off was sent twice */
}

TEST(batch_names_jobs_by_their_keys)
{
    struct msg_submit_item a, b, c;

    make_item(&a, "k/1");
    make_item(&b, "k/1");
    make_item(&c, "k/2");
    EXPECT_TEXT(a.job, b.job);
    EXPECT(a.spec.seed == b.spec.seed);
    EXPECT(strcmp(a.job, c.job) != 0 && a.spec.seed != c.spec.seed);
    make_item(&a, "");
    make_item(&b, "");
    EXPECT(strcmp(a.job, b.job) != 0 && a.spec.seed != b.spec.seed);
}

static status no_verdict(void *self, const struct batch_verdict *v)
{
    (void)self;
    (void)v;
    test_fail(__FILE__, __LINE__, "told though the answer was wrong");
}

static status count_status(void *self, size_t index, const struct job_status *job)
{
    int *count = self;

    EXPECT_INT(index, *count);
    EXPECT(job->state == JOB_QUEUED);
    (*count)++;
    return OK;
}

/* An answer with too little in it is asked for again (status) or refused (submit). */
TEST(answers_are_counted)
{
    struct fake broker;
    struct session s;
    struct batch batch = { .session = &s, .on_verdict = no_verdict };
    struct msg_submit_item item;
    struct jobs jobs = { 0 };
    int count = 0;

    fake_start(&broker, "b", MANNER_SHORT);
    open_session(&s, broker.endpoint, NULL, 20000);
    make_item(&item, "");
    EXPECT_OK(batch_add(&batch, &item, 1));
    EXPECT_STATUS(batch_send(&batch), ERR_CORRUPT);
    EXPECT_MESSAGE("0 verdicts to 1 jobs");
    batch_free(&batch);
    EXPECT_OK(jobs_make(&jobs, 200));
    for (int i = 0; i < 200; i++) {
        make_item(&item, "");
        memcpy(jobs.ids[i], item.job, JOB_ID_BYTES);
    }
    /* every answer leaves one out; the last job is never answered */
    EXPECT_STATUS(jobs_ask(&s, (const char(*)[JOB_ID_BYTES])jobs.ids, 200, count_status, &count),
                  ERR_CORRUPT);
    EXPECT_INT(count, 199);
    jobs_free(&jobs);
    session_close(&s);
    fake_stop(&broker);
}

TEST(job_ids_are_checked)
{
    char good[] = "00aaaaaaaaaaaaaaaaaaaaaaaa", bad[] = "photo.jpg";
    char *words[] = { good, bad };
    struct jobs jobs = { 0 };

    EXPECT_STATUS(jobs_from_words(&jobs, words, 2), ERR_BADARG);
    EXPECT_MESSAGE("\"photo.jpg\" is not a job id");
    EXPECT_OK(jobs_from_words(&jobs, words, 1));
    EXPECT_TEXT(jobs.ids[0], good);
    jobs_free(&jobs);
}
