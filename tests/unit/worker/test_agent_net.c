/* The queue as it is shipped: real broker processes, a real Redis, agents on real sockets. Only the
 * work is played by the test. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/bus.h"
#include "common/job.h"
#include "common/redis_child.h"
#include "proto/codec.h"
#include "tests/tool/test.h"
#include "worker/agent.h"

#define DEADLINE_MS 30000
#define SEEN_MAX 256

/* --- processes --- */

struct broker_process {
    pid_t pid;
    char client[160], worker[160]; /* endpoints */
    char log[160];
};

static struct redis_child redis;

static void start_redis(void)
{
    struct redis_child_config config = { .dir = test_tmpdir() };

    EXPECT_OK(redis_child_start(&redis, &config));
}

static void name_broker(struct broker_process *b, int n)
{
    snprintf(b->client, sizeof(b->client), "ipc://%s/c%d", test_tmpdir(), n);
    snprintf(b->worker, sizeof(b->worker), "ipc://%s/w%d", test_tmpdir(), n);
    snprintf(b->log, sizeof(b->log), "%s/broker%d.log", test_tmpdir(), n);
}

static void start_broker(struct broker_process *b)
{
    char program[600];

    snprintf(program, sizeof(program), "%s/onestep-broker", test_bin_dir());
    b->pid = fork();
    EXPECT(b->pid >= 0);
    if (b->pid == 0) {
        int log = open(b->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(log, 2);
        execl(program, program, "--client-endpoint", b->client, "--worker-endpoint", b->worker,
              "--redis-url", redis.url, "--lease-ms", "1500", "--heartbeat-ms", "200",
              "--retry-base-ms", "10", "--retry-cap-ms", "20", (char *)NULL);
        _exit(127);
    }
}

/* Its exit code. */
static int end_broker(struct broker_process *b, int signal_number)
{
    int result;

    EXPECT(kill(b->pid, signal_number) == 0);
    EXPECT(waitpid(b->pid, &result, 0) == b->pid);
    b->pid = 0;
    return WIFEXITED(result) ? WEXITSTATUS(result) : -WTERMSIG(result);
}

/* --- a client --- */

struct client {
    struct bus *bus;
    struct bus_socket *socket;
    struct arena arena;
    uint64_t seq;
};

static void open_client(struct client *c, const struct broker_process *b)
{
    memset(c, 0, sizeof(*c));
    EXPECT_OK(bus_open(&c->bus));
    EXPECT_OK(bus_connect(c->bus, b->client, &c->socket));
    EXPECT_OK(arena_open(&c->arena, "client", CODEC_ARENA_BYTES));
}

static void close_client(struct client *c)
{
    bus_close_socket(c->socket);
    bus_close(c->bus);
    arena_close(&c->arena);
}

/* Wait up to wait_ms for the answer to the last request. */
static bool receive(struct client *c, struct msg *answer, int64_t wait_ms)
{
    int64_t deadline_ms = clock_mono_ms() + wait_ms;
    struct bus_wait wait = { .socket = c->socket };
    const void *bytes;
    size_t len;

    while (clock_mono_ms() < deadline_ms) {
        bus_poll(&wait, 1, 20);
        while (bus_receive(c->socket, NULL, &bytes, &len)) {
            arena_release(&c->arena, 0);
            EXPECT_OK(codec_decode(answer, bytes, len, &c->arena));
            if (answer->seq == c->seq)
                return true;
        }
    }
    return false;
}

/* Ask until there is an answer that is not "unavailable". */
static struct msg ask(struct client *c, struct msg *m)
{
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
    struct msg answer;

    for (;;) {
        struct buf frame = { 0 };

        EXPECT(clock_mono_ms() < deadline_ms);
        m->seq = ++c->seq;
        EXPECT_OK(codec_encode(m, &frame));
        (void)!bus_send(c->socket, NULL, frame.data, frame.len); /* asked again below */
        buf_free(&frame);
        if (receive(c, &answer, 500) &&
            !(answer.type == MSG_ERROR && answer.error.code == ERR_UNAVAILABLE))
            return answer;
    }
}

static const char *id_of(int n)
{
    static char ids[4][JOB_ID_BYTES];
    static int next;
    char *id = ids[next++ % 4];

    snprintf(id, JOB_ID_BYTES, "00job%021d", n);
    return id;
}

static void submit(struct client *c, int n)
{
    struct msg_submit_item item;
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    memcpy(item.job, id_of(n), JOB_ID_BYTES);
    spec_init(&item.spec);
    strcpy(item.spec.image, "file:///a.jpg");
    for (;;) {
        struct msg answer = ask(c, &m);

        EXPECT_TEXT(msg_type_name(answer.type), "submitted");
        if (answer.submitted.items[0].code == ERR_UNAVAILABLE)
            continue;
        EXPECT(answer.submitted.items[0].verdict == VERDICT_OK ||
               answer.submitted.items[0].verdict == VERDICT_DUPLICATE);
        return;
    }
}

static struct job_status status_of(struct client *c, int n)
{
    char id[1][JOB_ID_BYTES];
    struct msg m = { .type = MSG_STATUS, .status = { (const char(*)[JOB_ID_BYTES])id, 1 } };

    memcpy(id[0], id_of(n), JOB_ID_BYTES);
    m = ask(c, &m);
    if (m.type == MSG_ERROR)
        test_fail(__FILE__, __LINE__, "%s: %s", status_name(m.error.code), m.error.sentence);
    EXPECT_TEXT(msg_type_name(m.type), "statuses");
    return m.statuses.jobs[0];
}

/* What is waited for, and where. */
struct wish {
    struct client *client;
    struct played *played;
    int n;
    int64_t count;
    enum job_state state;
};

static bool has_state(void *self)
{
    struct wish *w = self;

    return status_of(w->client, w->n).state == w->state;
}

static void wait_state(struct client *c, int n, enum job_state state)
{
    struct wish w = { .client = c, .n = n, .state = state };

    if (!clock_wait_for(has_state, &w, DEADLINE_MS))
        test_fail(__FILE__, __LINE__, "job %d is %s, want %s", n,
                  job_state_name(status_of(c, n).state), job_state_name(state));
}

static bool has_workers(void *self)
{
    struct wish *w = self;
    struct msg m = { .type = MSG_PING };

    return ask(w->client, &m).pong.worker_count == w->count;
}

/* --- a worker whose work is played --- */

struct played {
    struct agent *agent;
    pthread_t thread;
    pthread_mutex_t lock;
    struct lease jobs[SEEN_MAX]; /* that came by on_job */
    int job_count;
    struct lease cancels[SEEN_MAX];
    enum msg_verdict whys[SEEN_MAX];
    int cancel_count;
    bool finishes; /* every job is done at once */
};

static void play_done(struct played *p, const struct lease *lease)
{
    struct job_result result = { "file:///v.mp4", "file:///p.png", "file:///m.json" };

    agent_done(p->agent, lease, &result);
}

static void on_job(void *self, const struct lease *lease, const struct job_spec *spec)
{
    struct played *p = self;

    EXPECT_TEXT(spec->image, "file:///a.jpg");
    pthread_mutex_lock(&p->lock);
    EXPECT(p->job_count < SEEN_MAX);
    p->jobs[p->job_count++] = *lease;
    pthread_mutex_unlock(&p->lock);
    if (p->finishes) {
        agent_start(p->agent, lease);
        play_done(p, lease);
    }
}

static void on_cancel(void *self, const struct lease *lease, enum msg_verdict why)
{
    struct played *p = self;

    pthread_mutex_lock(&p->lock);
    EXPECT(p->cancel_count < SEEN_MAX);
    p->cancels[p->cancel_count] = *lease;
    p->whys[p->cancel_count++] = why;
    pthread_mutex_unlock(&p->lock);
    agent_stopped(p->agent, lease);
}

static void *run(void *self)
{
    struct played *p = self;

    EXPECT_OK(agent_run(p->agent));
    return NULL;
}

static void start_worker(struct played *p, const struct broker_process *brokers, size_t count,
                         bool finishes)
{
    struct agent_config config = { .broker_count = count,
                                   .models = { "default" },
                                   .model_count = 1,
                                   .host = "",
                                   .device = "played",
                                   .version = "0",
                                   .heartbeat_ms = 0 };
    struct agent_sink sink = { p, on_job, on_cancel, NULL };

    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    p->finishes = finishes;
    for (size_t i = 0; i < count; i++)
        config.brokers[i] = brokers[i].worker;
    EXPECT_OK(agent_open(&p->agent, &config, &sink));
    EXPECT(pthread_create(&p->thread, NULL, run, p) == 0);
}

static void join_worker(struct played *p)
{
    EXPECT(pthread_join(p->thread, NULL) == 0);
    agent_close(p->agent);
}

static int jobs_of(struct played *p)
{
    int count;

    pthread_mutex_lock(&p->lock);
    count = p->job_count;
    pthread_mutex_unlock(&p->lock);
    return count;
}

static bool has_jobs(void *self)
{
    struct wish *w = self;

    return jobs_of(w->played) >= w->count;
}

/* Wait for job number n (from 0) of this worker. */
static struct lease wait_job(struct played *p, int n)
{
    EXPECT(clock_wait_for(has_jobs, &(struct wish){ .played = p, .count = n + 1 }, DEADLINE_MS));
    return p->jobs[n];
}

static bool has_cancel(void *self)
{
    struct wish *w = self;
    int count;

    pthread_mutex_lock(&w->played->lock);
    count = w->played->cancel_count;
    pthread_mutex_unlock(&w->played->lock);
    return count > 0;
}

static enum msg_verdict wait_cancel(struct played *p, const struct lease *lease)
{
    EXPECT(clock_wait_for(has_cancel, &(struct wish){ .played = p }, DEADLINE_MS));
    EXPECT(msg_lease_equal(&p->cancels[0], lease));
    return p->whys[0];
}

/* --- tests --- */

TEST(jobs_go_through_two_workers_once_each)
{
    static struct played p[2];
    struct broker_process b;
    struct client c;
    int total = 0;

    start_redis();
    name_broker(&b, 0);
    start_broker(&b);
    start_worker(&p[0], &b, 1, true);
    start_worker(&p[1], &b, 1, true);
    open_client(&c, &b);
    EXPECT(clock_wait_for(has_workers, &(struct wish){ .client = &c, .count = 2 }, DEADLINE_MS));
    for (int n = 0; n < 60; n++)
        submit(&c, n);
    for (int n = 0; n < 60; n++) {
        wait_state(&c, n, JOB_DONE);
        EXPECT_INT(status_of(&c, n).tries, 1);
        EXPECT_TEXT(status_of(&c, n).result.manifest, "file:///m.json");
    }
    for (int i = 0; i < 2; i++) {
        agent_drain(p[i].agent);
        join_worker(&p[i]);
        EXPECT(p[i].job_count > 0); /* both had their share */
        total += p[i].job_count;
    }
    EXPECT_INT(total, 60);
    close_client(&c);
    EXPECT_INT(end_broker(&b, SIGTERM), 0);
}

TEST(a_broker_that_is_killed_and_started_again_loses_nothing)
{
    static struct played p;
    struct broker_process b;
    struct client c;
    struct lease l;

    start_redis();
    name_broker(&b, 0);
    start_broker(&b);
    start_worker(&p, &b, 1, false);
    open_client(&c, &b);
    submit(&c, 1);
    submit(&c, 2);
    l = wait_job(&p, 0);
    agent_start(p.agent, &l);
    wait_state(&c, 1, JOB_RUNNING);
    EXPECT_INT(end_broker(&b, SIGKILL), -SIGKILL);
    agent_report(p.agent, &l, "unet", 0.5);
    start_broker(&b);
    play_done(&p, &l);
    wait_state(&c, 1, JOB_DONE);
    EXPECT_INT(status_of(&c, 1).attempt, 1);
    l = wait_job(&p, 1);
    EXPECT_TEXT(l.job, id_of(2));
    play_done(&p, &l);
    wait_state(&c, 2, JOB_DONE);
    agent_drain(p.agent);
    join_worker(&p);
    close_client(&c);
    EXPECT_INT(end_broker(&b, SIGTERM), 0);
}

TEST(a_worker_that_is_killed_loses_its_job_to_another)
{
    static struct played p;
    struct broker_process b;
    struct client c;
    struct lease l;
    pid_t victim;

    start_redis();
    name_broker(&b, 0);
    start_broker(&b);
    victim = fork(); /* before there are threads here */
    EXPECT(victim >= 0);
    if (victim == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        start_worker(&p, &b, 1, false);
        l = wait_job(&p, 0);
        agent_start(p.agent, &l);
        agent_report(p.agent, &l, "unet", 0.3);
        pause();
    }
    open_client(&c, &b);
    submit(&c, 1);
    wait_state(&c, 1, JOB_RUNNING);
    start_worker(&p, &b, 1, false);
    EXPECT(kill(victim, SIGKILL) == 0);
    EXPECT(waitpid(victim, NULL, 0) == victim);
    l = wait_job(&p, 0);
    EXPECT_INT(l.attempt, 2);
    EXPECT(strstr(status_of(&c, 1).sentence, "stopped answering") != NULL);
    play_done(&p, &l);
    wait_state(&c, 1, JOB_DONE);
    EXPECT_INT(status_of(&c, 1).tries, 2);
    agent_drain(p.agent);
    join_worker(&p);
    close_client(&c);
    EXPECT_INT(end_broker(&b, SIGTERM), 0);
}

TEST(redis_may_be_killed_while_a_job_runs)
{
    static struct played p;
    struct broker_process b;
    struct client c;
    struct lease l;
    struct msg m = { .type = MSG_PING }, answer;
    struct buf frame = { 0 };

    start_redis();
    name_broker(&b, 0);
    start_broker(&b);
    start_worker(&p, &b, 1, false);
    open_client(&c, &b);
    submit(&c, 1);
    l = wait_job(&p, 0);
    agent_start(p.agent, &l);
    wait_state(&c, 1, JOB_RUNNING);
    redis_child_kill(&redis);
    m.seq = ++c.seq;
    EXPECT_OK(codec_encode(&m, &frame));
    EXPECT_OK(bus_send(c.socket, NULL, frame.data, frame.len));
    EXPECT(receive(&c, &answer, DEADLINE_MS)); /* an answer, not silence */
    EXPECT_INT(answer.error.code, ERR_UNAVAILABLE);
    EXPECT(strstr(answer.error.sentence, "Redis") != NULL);
    play_done(&p, &l); /* owed until Redis is back */
    start_redis();
    wait_state(&c, 1, JOB_DONE);
    EXPECT_INT(status_of(&c, 1).attempt, 1);
    agent_drain(p.agent);
    join_worker(&p);
    close_client(&c);
    buf_free(&frame);
    EXPECT_INT(end_broker(&b, SIGTERM), 0);
}

TEST(a_running_job_can_be_cancelled)
{
    static struct played p;
    struct broker_process b;
    struct client c;
    struct lease l;
    char id[1][JOB_ID_BYTES];
    struct msg m = { .type = MSG_CANCEL, .cancel = { (const char(*)[JOB_ID_BYTES])id, 1 } };

    start_redis();
    name_broker(&b, 0);
    start_broker(&b);
    start_worker(&p, &b, 1, false);
    open_client(&c, &b);
    submit(&c, 1);
    submit(&c, 2);
    l = wait_job(&p, 0);
    agent_start(p.agent, &l);
    memcpy(id[0], id_of(1), JOB_ID_BYTES);
    EXPECT_INT(ask(&c, &m).cancelled.items[0].verdict, VERDICT_OK);
    EXPECT_INT(wait_cancel(&p, &l), VERDICT_CANCELLED);
    EXPECT_TEXT(wait_job(&p, 1).job, id_of(2)); /* and goes on with the next */
    EXPECT_INT(status_of(&c, 1).state, JOB_CANCELLED);
    agent_stop(p.agent);
    join_worker(&p);
    wait_state(&c, 2, JOB_QUEUED); /* handed back at once */
    close_client(&c);
    EXPECT_INT(end_broker(&b, SIGTERM), 0);
}

TEST(when_a_broker_dies_the_other_takes_over)
{
    static struct played p;
    struct broker_process b[2];
    struct client c;
    struct lease l;

    start_redis();
    for (int i = 0; i < 2; i++) {
        name_broker(&b[i], i);
        start_broker(&b[i]);
    }
    start_worker(&p, b, 2, false);
    open_client(&c, &b[0]);
    submit(&c, 1);
    l = wait_job(&p, 0);
    agent_start(p.agent, &l);
    wait_state(&c, 1, JOB_RUNNING);
    close_client(&c);
    end_broker(&b[0], SIGKILL);
    open_client(&c, &b[1]);
    play_done(&p, &l);
    wait_state(&c, 1, JOB_DONE);
    EXPECT_INT(status_of(&c, 1).attempt, 1);
    submit(&c, 2);
    l = wait_job(&p, 1);
    EXPECT_TEXT(l.job, id_of(2));
    play_done(&p, &l);
    wait_state(&c, 2, JOB_DONE);
    agent_drain(p.agent);
    join_worker(&p);
    close_client(&c);
    EXPECT_INT(end_broker(&b[1], SIGTERM), 0);
}

/* What a broker says that refuses to start; *code is its exit code. */
static void refused_start(struct broker_process *b, int *code, char *said, size_t room)
{
    int result;
    FILE *f;
    size_t n;

    start_broker(b);
    EXPECT(waitpid(b->pid, &result, 0) == b->pid);
    *code = WIFEXITED(result) ? WEXITSTATUS(result) : -1;
    f = fopen(b->log, "r");
    EXPECT(f != NULL);
    n = fread(said, 1, room - 1, f);
    said[n] = '\0';
    fclose(f);
}

TEST(a_broker_says_why_it_does_not_start)
{
    struct broker_process b, second;
    struct client c;
    char said[4000];
    int code;

    snprintf(redis.url, sizeof(redis.url), "unix://%s/none", test_tmpdir());
    name_broker(&b, 0);
    refused_start(&b, &code, said, sizeof(said));
    EXPECT_INT(code, status_exit_code(ERR_UNAVAILABLE));
    EXPECT(strstr(said, "start redis-server or set redis_url") != NULL);
    start_redis();
    start_broker(&b);
    open_client(&c, &b);
    submit(&c, 1);
    name_broker(&second, 0);
    snprintf(second.log, sizeof(second.log), "%s/second.log", test_tmpdir());
    refused_start(&second, &code, said, sizeof(said));
    EXPECT_INT(code, status_exit_code(ERR_CONFLICT));
    EXPECT(strstr(said, "is in use") != NULL);
    submit(&c, 2); /* the first was not disturbed */
    close_client(&c);
    EXPECT_INT(end_broker(&b, SIGINT), 0);
}
