/* How fast is the queue, durable: the real broker programs and a private Redis, clients and workers
 * that do nothing but speak. Every job is stored by an fsync before its client hears "accepted" and
 * again before its worker hears that its result counts. `make bench-queue` runs other queues beside
 * it (tests/bench/queue/peers.sh), on the same machine in the same run. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/bus.h"
#include "common/id.h"
#include "common/redis.h"
#include "common/redis_child.h"
#include "proto/codec.h"
#include "tests/tool/bench.h"

#define JOBS_MAX 1100000
#define BROKERS 2
#define PRODUCERS 4
#define WORKERS 4
#define PEERS_MAX (PRODUCERS + WORKERS)
#define DEPTH 64    /* jobs in one SUBMIT */
#define IN_FLIGHT 2 /* SUBMITs of one producer */
#define CREDIT 16   /* of one worker */
#define HEARTBEAT_MS 500
#define GIVE_UP_MS 120000
#define PAYLOAD_BYTES 1024

/* What all processes see. */
struct shared {
    atomic_llong accepted, done, taken;
    atomic_bool is_over;
    double sent_s[JOBS_MAX], got_s[JOBS_MAX];
};

static struct shared *shared;
static struct redis_child redis;
static pid_t brokers[BROKERS], peers[PEERS_MAX];
static char dir[64] = "/tmp/onestep-bench-XXXXXX", bin[512];
static int64_t run; /* numbers jobs of different runs apart */

/* --- plumbing --- */

static void stop_all(void)
{
    for (int i = 0; i < BROKERS; i++) {
        if (brokers[i] > 0)
            kill(brokers[i], SIGKILL);
    }
    for (int i = 0; i < PEERS_MAX; i++) {
        if (peers[i] > 0)
            kill(peers[i], SIGKILL);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "bench_queue: %s: %s\n", what, status_message());
    stop_all();
    exit(1);
}

static void start_broker(int b)
{
    char path[600], client[96], worker[96], url[160];

    snprintf(path, sizeof(path), "%s/onestep-broker", bin);
    snprintf(client, sizeof(client), "ipc://%s/c%d", dir, b);
    snprintf(worker, sizeof(worker), "ipc://%s/w%d", dir, b);
    snprintf(url, sizeof(url), "%s", redis.url);
    brokers[b] = fork();
    if (brokers[b] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(path, path, "--client-endpoint", client, "--worker-endpoint", worker, "--redis-url",
              url, "--lease-ms", "2000", "--heartbeat-ms", "500", "--queued-max", "100000000",
              "--log-level", "error", (char *)NULL);
        _exit(127);
    }
}

/* One command to Redis; its answer is the text or number. */
static int64_t ask_redis(const char *find, const char *const *argv, int argc)
{
    struct redis_address address;
    const struct redis_value *value = NULL;
    struct buf text = { 0 };
    struct redis *r;
    const char *at;
    int64_t n;
    size_t got;

    check(redis_parse_url(&address, redis.url) == OK && redis_connect(&r, &address, NULL) == OK &&
              redis_format(&text, (const char **)(uintptr_t)argv, NULL, argc) == OK &&
              redis_add(r, text.data, text.len) == OK && redis_send(r) == OK,
          argv[0]);
    while (!value) {
        struct pollfd p = { .fd = redis_fd(r), .events = POLLIN };

        poll(&p, 1, 1000);
        check(redis_receive(r, &got) == OK && redis_next(r, &value) == OK, argv[0]);
    }
    at = find ? strstr(redis_text(value, NULL), find) : NULL;
    n = at ? atoll(at + strlen(find)) : redis_int(value);
    buf_free(&text);
    redis_close(r);
    return n;
}

/* The number of a job is in its id. */
static void name_job(char id[JOB_ID_BYTES], int64_t number)
{
    uint8_t bytes[9] = { 0 };

    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
    id_make(id, 1763800000000 + run, bytes);
}

/* --- one end of a connection --- */

struct end {
    struct bus *bus;
    struct bus_socket *socket;
    struct buf frame;
    struct arena arena;
    struct msg m;
};

static void open_end(struct end *e, const char *door, int number)
{
    char endpoint[96];

    memset(e, 0, sizeof(*e));
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/%s%d", dir, door, number % BROKERS);
    check(bus_open(&e->bus) == OK && bus_connect(e->bus, endpoint, &e->socket) == OK &&
              arena_open(&e->arena, "message", CODEC_ARENA_BYTES) == OK,
          endpoint);
}

static void say(struct end *e, const struct msg *m)
{
    buf_reset(&e->frame);
    check(codec_encode(m, &e->frame) == OK, msg_type_name(m->type));
    check(bus_send(e->socket, NULL, e->frame.data, e->frame.len) == OK, "send");
}

/* The next message, if one comes in time. */
static bool hear(struct end *e, int64_t wait_ms)
{
    struct bus_wait wait = { .socket = e->socket };
    const void *bytes;
    size_t len;

    if (!bus_receive(e->socket, NULL, &bytes, &len)) {
        bus_poll(&wait, 1, wait_ms);
        if (!bus_receive(e->socket, NULL, &bytes, &len))
            return false;
    }
    arena_release(&e->arena, 0);
    check(codec_decode(&e->m, bytes, len, &e->arena) == OK, "decode");
    return true;
}

/* --- producers --- */

/* Its address makes it as long as the payload of the peers. */
static void make_spec(struct job_spec *spec)
{
    struct buf bytes = { 0 };
    size_t len;

    spec_init(spec);
    len = (size_t)snprintf(spec->image, sizeof(spec->image), "https://photos.example.org/");
    check(codec_spec_encode(spec, &bytes) == OK, "spec");
    memset(spec->image + len, 'x', PAYLOAD_BYTES - bytes.len - 1);
    buf_free(&bytes);
}

/* Submit jobs from..from+count-1, depth in a message; in_flight messages at a time. */
static void produce(int number, int64_t from, int64_t count, int depth, int in_flight)
{
    static struct msg_submit_item items[LIMIT_JOBS_PER_MSG];
    struct end e;
    int64_t next = from, waiting = 0;

    open_end(&e, "c", number);
    for (int i = 0; i < depth; i++)
        make_spec(&items[i].spec);
    while (next < from + count || waiting > 0) {
        while (next < from + count && waiting < in_flight) {
            struct msg m = { .type = MSG_SUBMIT, .seq = (uint64_t)next };
            int n = 0;

            for (; n < depth && next < from + count; n++, next++) {
                name_job(items[n].job, next);
                shared->sent_s[next] = clock_mono_s();
            }
            m.submit = (struct msg_submit){ items, (size_t)n };
            say(&e, &m);
            waiting++;
        }
        check(hear(&e, GIVE_UP_MS) && e.m.type == MSG_SUBMITTED, "no answer to SUBMIT");
        for (size_t i = 0; i < e.m.submitted.item_count; i++)
            check(e.m.submitted.items[i].verdict == VERDICT_OK, "a job was not accepted");
        atomic_fetch_add(&shared->accepted, (long long)e.m.submitted.item_count);
        waiting--;
    }
}

/* --- workers --- */

static int64_t number_of(const char *id)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint8_t bits[130];
    int64_t number = 0;
    int n = 0;

    for (int i = 2; i < JOB_ID_CHARS; i++) { /* 120 bits: 48 of time, then bytes 0..8 */
        int v = (int)(strchr(digits, id[i]) - digits);

        for (int b = 4; b >= 0; b--)
            bits[n++] = (uint8_t)(v >> b & 1);
    }
    for (int i = 0; i < 8; i++) {
        int64_t byte = 0;

        for (int b = 0; b < 8; b++)
            byte = byte << 1 | bits[48 + 8 * i + b];
        number |= byte << (8 * i);
    }
    return number;
}

static void greet(struct end *e, int number)
{
    static const char *const models[] = { "default" };
    struct msg m = { .type = MSG_HELLO, .seq = 1 };
    uint8_t bytes[9] = { (uint8_t)number, (uint8_t)run };

    id_make(m.hello.worker, 1, bytes);
    m.hello.host = m.hello.device = m.hello.version = "bench";
    m.hello.models = models;
    m.hello.model_count = 1;
    say(e, &m);
    check(hear(e, GIVE_UP_MS) && e->m.type == MSG_WELCOME, "no WELCOME");
}

/* Take jobs and end each at once; or, with is_lazy, keep them. */
static void work(int number, int credit, bool is_lazy)
{
    static const struct job_result result = { "file:///v/video.mp4", "file:///v/poster.png",
                                              "file:///v/manifest.json" };
    struct end e;
    int64_t granted = credit, told = 0, beat_ms = 0;
    struct msg m;

    open_end(&e, "w", number);
    greet(&e, number);
    while (!atomic_load(&shared->is_over)) {
        if (granted - told >= (credit + 3) / 4 || told == 0) {
            m = (struct msg){ .type = MSG_CREDIT, .credit = { granted } };
            told = granted;
            say(&e, &m);
        }
        if (clock_mono_ms() >= beat_ms) { /* ended jobs need no renewal */
            m = (struct msg){ .type = MSG_STATE, .state = { .granted_total = granted } };
            told = granted;
            beat_ms = clock_mono_ms() + HEARTBEAT_MS;
            say(&e, &m);
        }
        if (!hear(&e, 100))
            continue;
        if (e.m.type == MSG_JOB) {
            int64_t job = number_of(e.m.job.lease.job);

            check(job >= 0 && job < JOBS_MAX, "a job of somebody else");
            shared->got_s[job] = clock_mono_s();
            atomic_fetch_add(&shared->taken, 1);
            m = (struct msg){ .type = MSG_DONE, .done = { e.m.job.lease, result } };
            if (!is_lazy)
                say(&e, &m);
        } else if (e.m.type == MSG_ACK) {
            check(e.m.ack.verdict == VERDICT_OK, "a result was refused");
            atomic_fetch_add(&shared->done, 1);
            granted++;
        }
    }
}

/* --- runs --- */

static pid_t spawn(int slot, void (*f)(int slot, const int64_t *args), const int64_t *args)
{
    fflush(NULL);
    peers[slot] = fork();
    check(peers[slot] >= 0, "fork");
    if (peers[slot] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        f(slot, args);
        _exit(0);
    }
    return peers[slot];
}

static void run_producer(int slot, const int64_t *a)
{
    produce(slot, a[0], a[1], (int)a[2], (int)a[3]);
}

static void run_worker(int slot, const int64_t *a)
{
    work(slot, (int)a[0], a[1]);
}

static void begin_run(void)
{
    run++;
    atomic_store(&shared->accepted, 0);
    atomic_store(&shared->done, 0);
    atomic_store(&shared->taken, 0);
    atomic_store(&shared->is_over, false);
}

static void wait_until(atomic_llong *count, long long want, const char *what)
{
    int64_t give_up_ms = clock_mono_ms() + GIVE_UP_MS;

    while (atomic_load(count) < want) {
        check(clock_mono_ms() < give_up_ms, what);
        poll(NULL, 0, 1);
    }
}

static void end_run(void)
{
    atomic_store(&shared->is_over, true);
    for (int i = 0; i < PEERS_MAX; i++) {
        if (peers[i] > 0)
            waitpid(peers[i], NULL, 0);
        peers[i] = 0;
    }
}

/* Jobs per second from the first SUBMIT to the last ACK. */
static double throughput(int64_t jobs, int depth, int producers)
{
    int64_t each = jobs / producers;
    double begin_s;

    begin_run();
    for (int i = 0; i < WORKERS; i++)
        spawn(PRODUCERS + i, run_worker, (const int64_t[]){ depth == 1 ? 1 : CREDIT, 0 });
    begin_s = clock_mono_s();
    for (int i = 0; i < producers; i++)
        spawn(i, run_producer,
              (const int64_t[]){ i * each, each, depth, depth == 1 ? 1 : IN_FLIGHT });
    wait_until(&shared->done, each * producers, "jobs do not end");
    begin_s = clock_mono_s() - begin_s;
    end_run();
    return (double)(each * producers) / begin_s;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Milliseconds from SUBMIT to JOB while nothing else happens, sorted. */
static void idle_latency(double *ms, int count)
{
    struct end e;
    static struct msg_submit_item item;
    struct msg m = { .type = MSG_SUBMIT, .submit = { &item, 1 } };

    begin_run();
    spawn(PRODUCERS, run_worker, (const int64_t[]){ 1, 0 });
    open_end(&e, "c", 0);
    make_spec(&item.spec);
    poll(NULL, 0, 300); /* the worker's first credit */
    for (int i = 0; i < count; i++) {
        name_job(item.job, i);
        shared->sent_s[i] = clock_mono_s();
        say(&e, &m);
        check(hear(&e, GIVE_UP_MS) && e.m.type == MSG_SUBMITTED, "no answer to SUBMIT");
        wait_until(&shared->done, i + 1, "a job does not end");
        ms[i] = (shared->got_s[i] - shared->sent_s[i]) * 1e3;
        poll(NULL, 0, 3);
    }
    end_run();
    bus_close_socket(e.socket);
    bus_close(e.bus);
    qsort(ms, (size_t)count, sizeof(*ms), by_size);
}

/* Seconds from a worker's SIGKILL until each of its jobs is at another. */
static double dead_worker(int count)
{
    double begin_s, last_s = 0;

    begin_run();
    spawn(0, run_producer, (const int64_t[]){ 0, count, 1, 1 });
    spawn(PRODUCERS, run_worker, (const int64_t[]){ count, 1 });
    wait_until(&shared->taken, count, "jobs are not taken");
    spawn(PRODUCERS + 1, run_worker, (const int64_t[]){ count, 0 });
    kill(peers[PRODUCERS], SIGKILL);
    begin_s = clock_mono_s();
    wait_until(&shared->done, count, "jobs of a dead worker do not go to another");
    for (int i = 0; i < count; i++)
        last_s = shared->got_s[i] > last_s ? shared->got_s[i] : last_s;
    end_run();
    return last_s - begin_s;
}

/* Seconds until a broker that is started answers a PING. */
static double restart_broker(void)
{
    struct msg m = { .type = MSG_PING, .seq = 1 };
    struct end e;
    double begin_s;

    kill(brokers[0], SIGKILL);
    waitpid(brokers[0], NULL, 0);
    begin_s = clock_mono_s();
    start_broker(0);
    open_end(&e, "c", 0);
    say(&e, &m);
    check(hear(&e, GIVE_UP_MS) && e.m.type == MSG_PONG, "no PONG");
    begin_s = clock_mono_s() - begin_s;
    bus_close_socket(e.socket);
    bus_close(e.bus);
    return begin_s;
}

/* --- the report --- */

static void report(const struct bench *b, const char *name, double value, const char *unit)
{
    bench_report(b, &(struct bench_row){ .name = name, .value = value, .unit = unit });
}

static void measure_speed(const struct bench *b)
{
    static double ms[400];

    throughput(4000, DEPTH, PRODUCERS); /* does not count */
    report(b, "queue.durable", throughput(40000, DEPTH, PRODUCERS), "jobs/s");
    report(b, "queue.durable_one_by_one", throughput(2000, 1, 1), "jobs/s");
    idle_latency(ms, 400);
    report(b, "queue.idle_p50", ms[200], "ms");
    report(b, "queue.idle_p99", ms[396], "ms");
    report(b, "queue.dead_worker_max", dead_worker(20), "s");
    ask_redis(NULL, (const char *const[]){ "CONFIG", "SET", "appendfsync", "everysec" }, 4);
    report(b, "queue.everysec", throughput(40000, DEPTH, PRODUCERS), "jobs/s");
    ask_redis(NULL, (const char *const[]){ "CONFIG", "SET", "appendfsync", "always" }, 4);
}

static int64_t memory_bytes(void)
{
    return ask_redis("used_memory:", (const char *const[]){ "INFO", "memory" }, 2);
}

static void measure_size(const struct bench *b, int64_t jobs)
{
    int64_t before = memory_bytes(), after;
    int64_t each = jobs / PRODUCERS;
    double begin_s = clock_mono_s();

    begin_run();
    for (int i = 0; i < PRODUCERS; i++)
        spawn(i, run_producer,
              (const int64_t[]){ i * each, each, LIMIT_JOBS_PER_MSG / 2, IN_FLIGHT });
    wait_until(&shared->accepted, each * PRODUCERS, "jobs are not accepted");
    report(b, "queue.submit_durable", (double)(each * PRODUCERS) / (clock_mono_s() - begin_s),
           "jobs/s");
    end_run();
    after = memory_bytes();
    report(b, "queue.bytes_over_payload",
           (double)(after - before) / (double)(each * PRODUCERS) - PAYLOAD_BYTES, "bytes/job");
    report(b, "queue.broker_restart", restart_broker(), "s");
}

int main(int argc, char **argv)
{
    struct redis_child_config config = { .dir = dir };
    ssize_t len = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
    struct bench b;

    bench_init(&b, argc, argv);
    check(len > 0 && mkdtemp(dir), "a folder below /tmp");
    bin[len] = '\0';
    *strrchr(bin, '/') = '\0';
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(shared != MAP_FAILED, "shared memory");
    check(redis_child_start(&redis, &config) == OK, "redis-server");
    for (int i = 0; i < BROKERS; i++)
        start_broker(i);
    measure_speed(&b);
    measure_size(&b, 200000);
    stop_all();
    redis_child_stop(&redis);
    check(file_remove_tree(dir) == OK, dir);
    return 0;
}
