/* DESIGN: one supervisor loop. Every few milliseconds it reaps who has ended, starts who is
 * missing, thaws who was frozen, and hits somebody. Clients are `onestep submit --key`, so that a
 * killed one is simply run again; a line that one has printed is a promise of the system, whatever
 * happened to the client then. A viewer asks for results while it storms: what it has seen must
 * still be so in the end. */
#include "tests/storm/storm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/digest.h"
#include "common/redis_child.h"
#include "common/store.h"
#include "proto/msg.h"
#include "tests/storm/proxy.h"

#define BROKERS 2
#define WORKERS 4
#define CLIENTS 3
#define ROWS 4 /* jobs of one submit */
#define JOBS_MAX 65536
#define SEEN_AT_ONCE 16
#define ARGS_MAX 48
#define LEASE_MS 2000
#define FREEZE_MS 3000 /* longer than a lease: a zombie */
#define TICK_MS 10
#define DISK_BYTES ((size_t)192 << 20)
#define STUCK_MS 120000 /* after the storm: longest time in which nothing moves */
#define VIEW_MS 100     /* then: between two questions */
#define TEXT_BYTES_MAX (4 << 20)

/* A program that is kept running. */
struct node {
    pid_t pid; /* 0: not running */
    int64_t thaw_at_ms, start_at_ms;
    char out[160]; /* of a client: what it prints */
    int batch;     /* of a client */
};

/* A promised job. */
struct promise {
    char id[JOB_ID_BYTES];
    char shown[200]; /* manifest that somebody has seen */
    char mark[64];   /* how far it was when last seen */
};

struct storm {
    const struct storm_config *config;
    struct storm_result *result;
    uint64_t random;
    struct redis_child redis;
    struct proxy *proxy;
    struct node brokers[BROKERS], workers[WORKERS], clients[CLIENTS], viewer;
    char disk[128], store[128], photo[600], root[512], model[600];
    int client_ports[BROKERS], worker_ports[BROKERS]; /* of the proxy */
    char redis_path[160];                             /* of the proxy */
    int next_batch;
    struct promise *promises; /* [JOBS_MAX] */
    size_t promise_count;
    size_t next_view; /* promise that is asked about next, in the calm */
    int64_t moves;    /* counts whatever shows that things go on */
    int64_t begin_ms, hit_at_ms, ballast_until_ms, ballast_at_ms;
};

static uint64_t next_random(struct storm *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int below(struct storm *s, int n)
{
    return (int)(next_random(s) % (uint64_t)n);
}

static void violate(struct storm *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void violate(struct storm *s, const char *fmt, ...)
{
    va_list args;

    if (s->result->violation[0])
        return;
    va_start(args, fmt);
    vsnprintf(s->result->violation, sizeof(s->result->violation), fmt, args);
    va_end(args);
}

/* --- programs --- */

static void become(const char *path, const char *const *argv, const char *out)
{
    int null = open("/dev/null", O_RDWR), to = open(out, O_WRONLY | O_CREAT | O_APPEND, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null < 0 || to < 0)
        _exit(125);
    dup2(null, STDIN_FILENO);
    dup2(to, STDOUT_FILENO);
    dup2(to, STDERR_FILENO);
    execv(path, (char *const *)(uintptr_t)argv);
    _exit(126);
}

static pid_t start(const struct storm *s, const char *program, const char *const *argv,
                   const char *out)
{
    char path[600];
    pid_t pid;

    snprintf(path, sizeof(path), "%s/%s", s->config->bin, program);
    pid = fork();
    if (pid == 0)
        become(path, argv, out);
    return pid > 0 ? pid : 0;
}

static void start_broker(struct storm *s, int b)
{
    char client[64], worker[64], redis[200], out[160];
    const char *argv[] = { "onestep-broker",
                           "--client-endpoint",
                           client,
                           "--worker-endpoint",
                           worker,
                           "--redis-url",
                           redis,
                           "--lease-ms",
                           "2000",
                           "--heartbeat-ms",
                           "300",
                           "--retry-base-ms",
                           "100",
                           "--retry-cap-ms",
                           "1000",
                           "--log-level",
                           "error",
                           NULL };

    snprintf(client, sizeof(client), "ipc://%s/c%d", s->config->dir, b);
    snprintf(worker, sizeof(worker), "ipc://%s/w%d", s->config->dir, b);
    snprintf(redis, sizeof(redis), "unix://%s", s->redis_path);
    snprintf(out, sizeof(out), "%s/broker%d.log", s->config->dir, b);
    s->brokers[b].pid = start(s, "onestep-broker", argv, out);
}

static void start_worker(struct storm *s, int w)
{
    char brokers[BROKERS][64], blob[200], out[160];
    const char *argv[] = { "onestep-worker",
                           "--model",
                           s->model,
                           "--brokers",
                           brokers[0],
                           "--brokers",
                           brokers[1],
                           "--input-root",
                           s->root,
                           "--blob",
                           blob,
                           "--threads",
                           "1",
                           "--work-dir",
                           s->config->dir,
                           "--log-level",
                           "error",
                           NULL };

    for (int b = 0; b < BROKERS; b++)
        snprintf(brokers[b], sizeof(brokers[b]), "tcp://127.0.0.1:%d", s->worker_ports[b]);
    snprintf(blob, sizeof(blob), "file://%s", s->store);
    snprintf(out, sizeof(out), "%s/worker%d.log", s->config->dir, w);
    s->workers[w].pid = start(s, "onestep-worker", argv, out);
}

/* `onestep WORD... --broker ...` into out. */
static pid_t start_client(struct storm *s, const char *const *words, const char *out)
{
    char brokers[BROKERS][64];
    const char *argv[ARGS_MAX] = { "onestep" };
    int argc = 1;

    for (; *words && argc < ARGS_MAX - 2 * BROKERS - 1; words++)
        argv[argc++] = *words;
    for (int b = 0; b < BROKERS; b++) {
        snprintf(brokers[b], sizeof(brokers[b]), "tcp://127.0.0.1:%d", s->client_ports[b]);
        argv[argc++] = "--broker";
        argv[argc++] = brokers[b];
    }
    return start(s, "onestep", argv, out);
}

static void submit_batch(struct storm *s, int c)
{
    struct node *n = &s->clients[c];
    char key[48], frames[16];
    const char *words[] = { "submit", s->photo,     s->photo, s->photo,
                            s->photo, "--key",      key,      "--frames",
                            frames,   "--width",    "64",     "--height",
                            "64",     "--attempts", "20",     "--broker-timeout-ms",
                            "8000",   NULL };

    if (n->batch < 0)
        n->batch = s->next_batch++;
    snprintf(key, sizeof(key), "storm-%llu-%d", (unsigned long long)s->config->seed, n->batch);
    snprintf(frames, sizeof(frames), "%d", 2 + n->batch % 3 * 3);
    snprintf(n->out, sizeof(n->out), "%s/submit%d.out", s->config->dir, c);
    unlink(n->out);
    n->pid = start_client(s, words, n->out);
}

/* --- promises --- */

static struct promise *find_promise(struct storm *s, const char *id)
{
    for (size_t i = s->promise_count; i > 0; i--) {
        if (strcmp(s->promises[i - 1].id, id) == 0)
            return &s->promises[i - 1];
    }
    return NULL;
}

/* Call f for each line of the file at path that begins with an id or a brace. */
static void each_line(struct storm *s, const char *path, void (*f)(struct storm *s, char *line))
{
    struct buf text = { 0 };
    char *next = NULL;

    if (file_read(path, TEXT_BYTES_MAX, &text) == OK && text.len > 0 &&
        buf_append(&text, "", 1) == OK) {
        for (char *line = strtok_r(text.data, "\n", &next); line;
             line = strtok_r(NULL, "\n", &next))
            f(s, line);
    }
    buf_free(&text);
}

static void take_promise(struct storm *s, char *line)
{
    if (strlen(line) != JOB_ID_CHARS || !msg_is_id(line) || find_promise(s, line))
        return;
    CHECK(s->promise_count < JOBS_MAX);
    memcpy(s->promises[s->promise_count++].id, line, JOB_ID_BYTES);
    s->moves++;
}

/* How far a job is: state, attempt, stage. Progress alone would be moved by a job that hangs. */
static void take_mark(struct storm *s, struct promise *p, const struct json_value *job,
                      const char *state)
{
    const char *stage = "";
    char mark[sizeof(p->mark)];
    int64_t attempt = 0;

    if (json_get_int(job, "attempt", 0, INT64_MAX, &attempt) != OK ||
        json_get_text(job, "stage", &stage) != OK)
        stage = "";
    snprintf(mark, sizeof(mark), "%.12s %lld %.30s", state, (long long)attempt, stage);
    s->moves += strcmp(mark, p->mark) != 0;
    memcpy(p->mark, mark, sizeof(mark));
}

/* One line of `onestep status --json` or `wait --json`. */
static void take_status(struct storm *s, char *line)
{
    struct json j = { 0 };
    const char *job = "", *state = "", *manifest = "";
    struct json_value root, result;
    struct promise *p;

    if (line[0] != '{' || json_parse(&j, "status", line, strlen(line)) != OK)
        return;
    root = json_root(&j);
    if (json_get_text(&root, "job", &job) == OK && json_get_text(&root, "state", &state) == OK &&
        (p = find_promise(s, job))) {
        take_mark(s, p, &root, state);
        result = json_find(&root, "result");
        if (strcmp(state, "unknown") == 0)
            violate(s, "job %s was accepted and is %s", job, state);
        if (strcmp(state, "dead") == 0) { /* the storm killed each worker that ran it */
            s->result->dead += !p->shown[0];
            snprintf(p->shown, sizeof(p->shown), "dead");
        }
        if (strcmp(state, "done") == 0 && json_get_text(&result, "manifest", &manifest) == OK) {
            s->result->seen++;
            if (p->shown[0] && strcmp(p->shown, manifest) != 0)
                violate(s, "job %s: the result %s was shown, and now %s", job, p->shown, manifest);
            snprintf(p->shown, sizeof(p->shown), "%s", manifest);
        }
    }
    json_free(&j);
}

/* --- the loop --- */

static void start_redis(struct storm *s)
{
    static char socket_path[160], dir[160];
    struct redis_child_config config = { .dir = dir, .socket_path = socket_path };

    snprintf(dir, sizeof(dir), "%s/redis", s->disk);
    snprintf(socket_path, sizeof(socket_path), "%s/redis.sock", s->config->dir);
    if (redis_child_start(&s->redis, &config) != OK)
        s->redis.pid = 0; /* the disk is full: the next turn tries again */
}

static void view(struct storm *s)
{
    const char *words[SEEN_AT_ONCE + 3] = { "status", "--json" };
    int count = 2;

    if (s->promise_count == 0)
        return;
    for (int i = 0; i < SEEN_AT_ONCE; i++)
        words[count++] = s->promises[next_random(s) % s->promise_count].id;
    snprintf(s->viewer.out, sizeof(s->viewer.out), "%s/view.out", s->config->dir);
    unlink(s->viewer.out);
    s->viewer.pid = start_client(s, words, s->viewer.out);
}

/* Has it ended? */
static bool reap(struct node *n, int *code)
{
    int st;

    if (n->pid == 0 || waitpid(n->pid, &st, WNOHANG) != n->pid)
        return false;
    *code = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
    n->pid = 0;
    n->thaw_at_ms = 0;
    return true;
}

static void look_after_clients(struct storm *s, int64_t now_ms, bool is_calm)
{
    int code;

    for (int c = 0; c < CLIENTS; c++) {
        struct node *n = &s->clients[c];

        if (reap(n, &code)) {
            each_line(s, n->out, take_promise);
            if (code == 0) {
                s->moves++;
                n->batch = -1;
                n->start_at_ms = now_ms + s->config->batch_every_ms;
            }
        }
        /* In the calm only what was begun is finished. */
        if (n->pid == 0 && now_ms >= n->start_at_ms && (!is_calm || n->batch >= 0))
            submit_batch(s, c);
    }
    if (reap(&s->viewer, &code))
        each_line(s, s->viewer.out, take_status);
    if (s->viewer.pid == 0 && !is_calm)
        view(s);
}

static void look_after(struct storm *s, int64_t now_ms, bool is_calm)
{
    struct node *all[BROKERS + WORKERS];
    int code;

    for (int i = 0; i < BROKERS + WORKERS; i++) {
        struct node *n = i < BROKERS ? &s->brokers[i] : &s->workers[i - BROKERS];

        all[i] = n;
        if (reap(n, &code) && code == 126)
            violate(s, "a program can't be started from %s", s->config->bin);
        if (n->pid && n->thaw_at_ms && (is_calm || now_ms >= n->thaw_at_ms)) {
            kill(n->pid, SIGCONT);
            n->thaw_at_ms = 0;
        }
    }
    for (int b = 0; b < BROKERS; b++) {
        if (s->brokers[b].pid == 0)
            start_broker(s, b);
    }
    for (int w = 0; w < WORKERS && !s->config->is_idle; w++) {
        if (s->workers[w].pid == 0)
            start_worker(s, w);
    }
    (void)all;
    if (s->redis.pid == 0 || redis_child_has_ended(&s->redis))
        start_redis(s);
    look_after_clients(s, now_ms, is_calm);
}

/* --- hitting --- */

static void hit_node(struct storm *s, struct node *n, enum storm_victim who, int64_t now_ms)
{
    if (n->pid == 0 || n->thaw_at_ms)
        return;
    if (who != STORM_CLIENT && below(s, 10) == 0) {
        kill(n->pid, SIGSTOP);
        n->thaw_at_ms = now_ms + FREEZE_MS;
        s->result->freezes[who]++;
        return;
    }
    kill(n->pid, SIGKILL);
    s->result->kills[who]++;
}

static void hit_somebody(struct storm *s, int64_t now_ms)
{
    int dice = below(s, 100);

    if (dice < 40) {
        hit_node(s, &s->brokers[below(s, BROKERS)], STORM_BROKER, now_ms);
    } else if (dice < 72) {
        hit_node(s, &s->workers[below(s, WORKERS)], STORM_WORKER, now_ms);
    } else if (dice < 95) {
        hit_node(s, &s->clients[below(s, CLIENTS)], STORM_CLIENT, now_ms);
    } else if (s->redis.pid) {
        redis_child_kill(&s->redis);
        s->result->kills[STORM_REDIS]++;
    }
}

/* Fill the small disk for a while, now and then. */
static void fill_disk(struct storm *s, int64_t now_ms, bool is_calm)
{
    static char block[1 << 20];
    char path[200];
    int fd;

    snprintf(path, sizeof(path), "%s/ballast", s->disk);
    if (s->ballast_until_ms && (is_calm || now_ms >= s->ballast_until_ms)) {
        unlink(path);
        s->ballast_until_ms = 0;
        s->ballast_at_ms = now_ms + 12000;
    }
    if (is_calm || !s->result->has_small_disk || s->ballast_until_ms || now_ms < s->ballast_at_ms)
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (fd >= 0 && write(fd, block, sizeof(block)) > 0)
        ;
    if (fd >= 0)
        close(fd);
    s->result->disk_full++;
    s->ballast_until_ms = now_ms + 1500;
}

static int64_t kills_of(const struct storm_result *r)
{
    int64_t sum = 0;

    for (int v = 0; v < STORM_VICTIMS; v++)
        sum += r->kills[v];
    return sum;
}

static void rage(struct storm *s)
{
    const struct storm_config *c = s->config;
    int64_t now_ms = clock_mono_ms();

    s->begin_ms = now_ms;
    s->hit_at_ms = now_ms + 2000;
    s->ballast_at_ms = now_ms + 5000;
    while (now_ms - s->begin_ms < c->seconds * 1000 && !s->result->violation[0] &&
           (c->kills == 0 || kills_of(s->result) < c->kills)) {
        look_after(s, now_ms, false);
        fill_disk(s, now_ms, false);
        if (now_ms >= s->hit_at_ms) {
            s->hit_at_ms = now_ms + c->kill_every_ms / 2 + below(s, (int)c->kill_every_ms);
            hit_somebody(s, now_ms);
        }
        poll(NULL, 0, TICK_MS);
        now_ms = clock_mono_ms();
    }
}

/* --- after the storm --- */

static bool is_submitting(const struct storm *s)
{
    for (int c = 0; c < CLIENTS; c++) {
        if (s->clients[c].pid || s->clients[c].batch >= 0)
            return true;
    }
    return false;
}

static const struct promise *first_open(const struct storm *s, size_t *count)
{
    const struct promise *first = NULL;

    *count = 0;
    for (size_t i = 0; i < s->promise_count; i++) {
        if (s->promises[i].shown[0])
            continue;
        first = first ? first : &s->promises[i];
        (*count)++;
    }
    return first;
}

/* Ask about the next of those that have not ended, all in turn. */
static void view_open(struct storm *s, int64_t now_ms)
{
    const char *words[SEEN_AT_ONCE + 3] = { "status", "--json" };
    int count = 2;

    for (size_t n = 0; n < s->promise_count && count < SEEN_AT_ONCE + 2; n++) {
        const struct promise *p = &s->promises[s->next_view++ % s->promise_count];

        if (!p->shown[0])
            words[count++] = p->id;
    }
    if (count == 2)
        return;
    snprintf(s->viewer.out, sizeof(s->viewer.out), "%s/view.out", s->config->dir);
    unlink(s->viewer.out);
    s->viewer.pid = start_client(s, words, s->viewer.out);
    s->viewer.start_at_ms = now_ms + VIEW_MS;
}

/* It is calm: all that was begun must end. There is no limit while anything moves: a submit that
 * is through, a job that goes on or ends, whichever it is. When nothing does for long, it is over.
 */
static void drain(struct storm *s)
{
    int64_t begin_ms = clock_mono_ms(), now_ms = begin_ms, moved_ms = begin_ms, moves = s->moves;
    int64_t stuck_ms = s->config->stuck_ms ? s->config->stuck_ms : STUCK_MS;
    const struct promise *open;
    size_t count;

    proxy_calm(s->proxy);
    fill_disk(s, begin_ms, true);
    while (!s->result->violation[0] &&
           ((open = first_open(s, &count)) || is_submitting(s) || s->viewer.pid)) {
        look_after(s, now_ms, true);
        if (s->viewer.pid == 0 && now_ms >= s->viewer.start_at_ms)
            view_open(s, now_ms);
        if (s->moves != moves)
            moved_ms = now_ms;
        moves = s->moves;
        if (now_ms - moved_ms >= stuck_ms)
            violate(s,
                    "the storm is over, and nothing has moved for %d s: %zu of %zu jobs have "
                    "not ended%s%s%s",
                    (int)(stuck_ms / 1000), count, s->promise_count, open ? ", the first is " : "",
                    open ? open->id : "", is_submitting(s) ? "; a client can't submit" : "");
        poll(NULL, 0, TICK_MS);
        now_ms = clock_mono_ms();
    }
    s->result->drain_ms = now_ms - begin_ms;
}

static bool digest_of(const char *path, char hex[DIGEST_HEX_ROOM])
{
    uint8_t sha256[DIGEST_BYTES];
    uint64_t bytes;

    if (digest_file(path, sha256, &bytes) != OK)
        return false;
    digest_hex(sha256, hex);
    return true;
}

/* The manifest is about this job, and the video has the digest that it says. */
static void check_result(struct storm *s, const struct promise *p)
{
    struct json j = { 0 };
    const char *path = strncmp(p->shown, "file://", 7) == 0 ? p->shown + 7 : p->shown;
    const char *job = "", *url = "", *sha = "";
    char hex[DIGEST_HEX_ROOM];
    struct json_value root, outputs, video;

    if (json_open_file(&j, path) != OK) {
        violate(s, "job %s: its manifest %s can't be read", p->id, path);
        return;
    }
    root = json_root(&j);
    outputs = json_find(&root, "outputs");
    video = json_find(&outputs, "video");
    if (json_get_text(&root, "job", &job) != OK || json_get_text(&video, "url", &url) != OK ||
        json_get_text(&video, "sha256", &sha) != OK || strcmp(job, p->id) != 0 ||
        strncmp(url, "file://", 7) != 0)
        violate(s, "job %s: %s is not its manifest", p->id, path);
    else if (!digest_of(url + 7, hex) || strcmp(hex, sha) != 0)
        violate(s, "job %s: %s is not the video that the manifest describes", p->id, url);
    else
        s->result->done++;
    json_free(&j);
}

/* Attempts that have uploaded a video. */
static int64_t computed(const struct storm *s, const char *id)
{
    char path[400];
    int64_t count = 0;
    struct dirent *e;
    DIR *d;

    snprintf(path, sizeof(path), "%s/%s", s->store, id);
    d = opendir(path);
    while (d && (e = readdir(d))) {
        snprintf(path, sizeof(path), "%s/%s/%s/video.mp4", s->store, id, e->d_name);
        count += e->d_name[0] == 'a' && access(path, F_OK) == 0;
    }
    if (d)
        closedir(d);
    return count;
}

/* Every index and count in Redis agrees with the jobs. */
static void audit(struct storm *s)
{
    struct store_config config = { .url = s->redis.url };
    struct store_call call = { .op = STORE_AUDIT };
    struct store *store = NULL;

    if (store_open(&store, &config) != OK || store_call_now(store, &call, NULL, NULL) != OK)
        violate(s, "audit: %s", status_message());
    store_close(store);
}

static void judge(struct storm *s)
{
    audit(s);
    for (size_t i = 0; i < s->promise_count && !s->result->violation[0]; i++) {
        if (strcmp(s->promises[i].shown, "dead") == 0)
            continue;
        check_result(s, &s->promises[i]);
        s->result->computed += computed(s, s->promises[i].id);
    }
    s->result->promised = (int64_t)s->promise_count;
    for (int f = 1; f < PROXY_FAULT_COUNT; f++)
        s->result->proxy_faults += proxy_count(s->proxy, (enum proxy_fault)f);
}

/* --- begin and end --- */

/* In a mount namespace of our own, so that the mount ends with this process. */
static bool mount_small(const char *path)
{
    char options[64];

    snprintf(options, sizeof(options), "size=%zu", DISK_BYTES);
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", path, "tmpfs", 0, options) == 0;
}

static status prepare(struct storm *s)
{
    const char *dir = s->config->dir;
    char target[160];
    status st = OK;

    snprintf(s->disk, sizeof(s->disk), "%s/disk", dir);
    snprintf(s->store, sizeof(s->store), "%s/disk/blob", dir);
    snprintf(s->redis_path, sizeof(s->redis_path), "%s/redis.proxy", dir);
    TRY(file_make_dirs(s->disk));
    s->result->has_small_disk = mount_small(s->disk);
    snprintf(s->photo, sizeof(s->photo), "%s/ops/samples/coffee.jpg", s->root);
    snprintf(s->model, sizeof(s->model), "%s/tests/fixtures/tiny-a", s->root);
    TRY(proxy_open(&s->proxy, s->config->seed, 150));
    snprintf(target, sizeof(target), "%s/redis.sock", dir);
    TRY(proxy_add(s->proxy, s->redis_path, target, NULL));
    for (int b = 0; b < BROKERS; b++) {
        snprintf(target, sizeof(target), "%s/c%d", dir, b);
        TRY(proxy_add(s->proxy, NULL, target, &s->client_ports[b]));
        snprintf(target, sizeof(target), "%s/w%d", dir, b);
        TRY(proxy_add(s->proxy, NULL, target, &s->worker_ports[b]));
    }
    start_redis(s);
    if (s->redis.pid == 0)
        st = FAIL(ERR_UNAVAILABLE, "redis-server does not start below %s", s->disk);
out:
    return st;
}

static void stop(struct node *n)
{
    if (n->pid == 0)
        return;
    kill(n->pid, SIGKILL);
    waitpid(n->pid, NULL, 0);
    n->pid = 0;
}

static void stop_all(struct storm *s)
{
    for (int c = 0; c < CLIENTS; c++)
        stop(&s->clients[c]);
    stop(&s->viewer);
    for (int w = 0; w < WORKERS; w++)
        stop(&s->workers[w]);
    for (int b = 0; b < BROKERS; b++)
        stop(&s->brokers[b]);
    redis_child_stop(&s->redis);
    proxy_close(s->proxy);
    free(s->promises);
}

bool storm_run(const struct storm_config *config, struct storm_result *result)
{
    static struct storm s;

    memset(&s, 0, sizeof(s));
    memset(result, 0, sizeof(*result));
    s.config = config;
    s.result = result;
    s.random = config->seed;
    s.promises = calloc(JOBS_MAX, sizeof(*s.promises));
    for (int c = 0; c < CLIENTS; c++)
        s.clients[c].batch = -1;
    if (!s.promises || !getcwd(s.root, sizeof(s.root) - 64) || prepare(&s) != OK) {
        violate(&s, "the storm can't begin: %s", status_message());
    } else {
        rage(&s);
        drain(&s);
        judge(&s);
    }
    stop_all(&s);
    return !result->violation[0];
}

void storm_print(const struct storm_result *r)
{
    int64_t again = r->computed - r->done;

    printf("%lld kills (%lld brokers, %lld workers, %lld clients, %lld redis-server), "
           "%lld frozen (%lld workers), disk full %lld times%s, %lld faults of the proxy\n",
           (long long)kills_of(r), (long long)r->kills[STORM_BROKER],
           (long long)r->kills[STORM_WORKER], (long long)r->kills[STORM_CLIENT],
           (long long)r->kills[STORM_REDIS],
           (long long)(r->freezes[STORM_BROKER] + r->freezes[STORM_WORKER]),
           (long long)r->freezes[STORM_WORKER], (long long)r->disk_full,
           r->has_small_disk ? "" : " (a small disk can't be mounted here)",
           (long long)r->proxy_faults);
    printf("%lld jobs promised, %lld done, %lld dead; %lld computed more than once (%.2f %%); "
           "%lld results looked at meanwhile; drained in %.1f s\n",
           (long long)r->promised, (long long)r->done, (long long)r->dead, (long long)again,
           r->done ? 100.0 * (double)again / (double)r->done : 0.0, (long long)r->seen,
           (double)r->drain_ms * 1e-3);
    printf("%s\n", r->violation[0] ? r->violation : "0 lost, 0 doubled, 0 changed");
}
