/* DESIGN: between each store and Redis stands a proxy of this process. It passes whole commands
 * over one connection of its own, so that Redis sees one order of calls, shows the checker what
 * Redis did, and breaks the store's connection before or after commands were carried out.
 *
 * store_open waits for the server, and the proxy is in the same thread: it is opened in a helper
 * thread while this one serves the proxy. The world stands still meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "tests/sim/sim_priv.h"

#define ARGS_MAX 256
#define KEYS_MAX 2048

static char dir[80];
static redisContext *redis; /* the one connection */
static volatile int64_t *clock_us;

/* How the library was called last: the words before the function's name. */
static char prefix[4][64];
static int prefix_count;

/* --- the server --- */

static bool open_clock(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *page = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(*clock_us)) == 0)
        page = mmap(NULL, sizeof(*clock_us), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (page == MAP_FAILED)
        return false;
    clock_us = page;
    *clock_us = 1763800000000000;
    return true;
}

/* LD_PRELOAD is cut at spaces, so the library is named through a link in dir, from dir. */
static void become_server(const char *library)
{
    char log[120], sock[120], *target = realpath(library, NULL);

    snprintf(log, sizeof(log), "%s/redis.log", dir);
    snprintf(sock, sizeof(sock), "%s/redis.sock", dir);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!target || chdir(dir) != 0 || symlink(target, "sim_clock.so") != 0)
        _exit(127);
    setenv("LD_PRELOAD", "./sim_clock.so", 1);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", sock, "--dir", dir,
           "--save", "", "--appendonly", "no", "--logfile", log, "--maxmemory-policy", "noeviction",
           (char *)NULL);
    _exit(127);
}

static bool is_up(void *self)
{
    redis = redisConnectUnix(self);
    if (redis && !redis->err)
        return true;
    redisFree(redis);
    return false;
}

bool sim_open(const char *folder, const char *bin)
{
    char clock_path[120], library[512], sock[120];

    snprintf(dir, sizeof(dir), "%s", folder);
    snprintf(clock_path, sizeof(clock_path), "%s/clock", dir);
    snprintf(sock, sizeof(sock), "%s/redis.sock", dir);
    snprintf(library, sizeof(library), "%s/sim_clock.so", bin);
    if (access(library, R_OK) != 0 || !open_clock(clock_path)) {
        fprintf(stderr, "sim: %s or %s can't be used\n", library, clock_path);
        return false;
    }
    if (fork() == 0)
        become_server(library);
    if (clock_wait_for(is_up, sock, 20000))
        return true;
    fprintf(stderr, "sim: redis-server does not start; is it installed? see %s/redis.log\n", dir);
    return false;
}

int64_t sim_redis_now_ms(void)
{
    return sim_world.now_ms + sim_world.redis_ms;
}

void sim_redis_set_clock(void)
{
    *clock_us = sim_redis_now_ms() * 1000;
}

static redisReply *command(const char *text)
{
    redisReply *r = redisCommand(redis, text);

    CHECK(r);
    return r;
}

/* --- failover: the state of a replica that is behind --- */

static struct {
    char *key, *value;
    size_t key_len, value_len;
    int64_t ttl_ms;
} saved[KEYS_MAX];
static size_t saved_count;
static bool has_snapshot;
static struct sim_model saved_models[JOBS];

static void drop_snapshot(void)
{
    for (size_t i = 0; i < saved_count; i++) {
        free(saved[i].key);
        free(saved[i].value);
    }
    saved_count = 0;
    has_snapshot = false;
}

static char *copy(const redisReply *r)
{
    char *bytes = malloc(r->len + 1);

    CHECK(bytes);
    memcpy(bytes, r->str, r->len);
    return bytes;
}

void sim_redis_snapshot(void)
{
    redisReply *keys = command("KEYS *");

    drop_snapshot();
    CHECK(keys->elements <= KEYS_MAX);
    for (size_t i = 0; i < keys->elements; i++) {
        const redisReply *k = keys->element[i];

        redisAppendCommand(redis, "DUMP %b", k->str, k->len);
        redisAppendCommand(redis, "PTTL %b", k->str, k->len);
    }
    for (size_t i = 0; i < keys->elements; i++) {
        redisReply *value, *ttl;

        CHECK(redisGetReply(redis, (void **)&value) == REDIS_OK);
        CHECK(redisGetReply(redis, (void **)&ttl) == REDIS_OK);
        if (value->type == REDIS_REPLY_STRING) {
            saved[saved_count].key = copy(keys->element[i]);
            saved[saved_count].key_len = keys->element[i]->len;
            saved[saved_count].value = copy(value);
            saved[saved_count].value_len = value->len;
            saved[saved_count++].ttl_ms = ttl->integer > 0 ? ttl->integer : 0;
        }
        freeReplyObject(value);
        freeReplyObject(ttl);
    }
    freeReplyObject(keys);
    memcpy(saved_models, sim_world.models, sizeof(saved_models));
    has_snapshot = true;
}

bool sim_redis_rollback(void)
{
    if (!has_snapshot)
        return false;
    freeReplyObject(command("FLUSHDB"));
    for (size_t i = 0; i < saved_count; i++)
        redisAppendCommand(redis, "RESTORE %b %lld %b", saved[i].key, saved[i].key_len,
                           (long long)saved[i].ttl_ms, saved[i].value, saved[i].value_len);
    for (size_t i = 0; i < saved_count; i++) {
        redisReply *r;

        CHECK(redisGetReply(redis, (void **)&r) == REDIS_OK && r->type != REDIS_REPLY_ERROR);
        freeReplyObject(r);
    }
    memcpy(sim_world.models, saved_models, sizeof(saved_models));
    sim_world.rollbacks++;
    sim_world.is_capped = false;
    return true;
}

void sim_redis_clear(void)
{
    drop_snapshot();
    prefix_count = 0;
    freeReplyObject(command("FLUSHALL"));
    freeReplyObject(command("SCRIPT FLUSH"));
    freeReplyObject(command("FUNCTION FLUSH"));
}

/* --- bytes --- */

/* The number in a line "*3\r\n" or "$5\r\n" at *at, which moves behind it; -1: not wholly there. */
static long line_number(const char *bytes, size_t len, size_t *at)
{
    const char *end = memchr(bytes + *at, '\n', len - *at);
    long n;

    if (!end)
        return -1;
    n = atol(bytes + *at + 1);
    *at = (size_t)(end - bytes) + 1;
    return n;
}

/* Take one command apart; returns its length, 0: not wholly there. */
static size_t split(const char *bytes, size_t len, const char **argv, size_t *lens, int *argc)
{
    size_t at = 0;
    long count = len ? line_number(bytes, len, &at) : -1;

    CHECK(count <= ARGS_MAX);
    for (long i = 0; i < count; i++) {
        long n = at < len ? line_number(bytes, len, &at) : -1;

        if (n < 0 || at + (size_t)n + 2 > len)
            return 0;
        argv[i] = bytes + at;
        lens[i] = (size_t)n;
        at += (size_t)n + 2;
    }
    *argc = (int)count;
    return count > 0 ? at : 0;
}

static void write_reply(struct buf *out, const redisReply *r)
{
    char head[64];

    switch (r->type) {
    case REDIS_REPLY_STRING:
        snprintf(head, sizeof(head), "$%zu\r\n", (size_t)r->len);
        CHECK(buf_append(out, head, strlen(head)) == OK && buf_append(out, r->str, r->len) == OK);
        CHECK(buf_append(out, "\r\n", 2) == OK);
        return;
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        CHECK(buf_append(out, r->type == REDIS_REPLY_STATUS ? "+" : "-", 1) == OK);
        CHECK(buf_append(out, r->str, r->len) == OK && buf_append(out, "\r\n", 2) == OK);
        return;
    case REDIS_REPLY_INTEGER:
        snprintf(head, sizeof(head), ":%lld\r\n", r->integer);
        break;
    case REDIS_REPLY_ARRAY:
        snprintf(head, sizeof(head), "*%zu\r\n", r->elements);
        break;
    default:
        snprintf(head, sizeof(head), "$-1\r\n");
        break;
    }
    CHECK(buf_append(out, head, strlen(head)) == OK);
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++)
        write_reply(out, r->element[i]);
}

/* --- the proxy --- */

struct redisReply *sim_redis_call(const char *function, const char **args, int count)
{
    const char *argv[ARGS_MAX];
    int argc = 0;

    if (prefix_count == 0)
        return NULL;
    while (argc < prefix_count) {
        argv[argc] = prefix[argc];
        argc++;
    }
    argv[argc++] = function;
    for (int i = 0; i < count; i++)
        argv[argc++] = args[i];
    return redisCommandArgv(redis, argc, argv, NULL);
}

static bool is_call(const char *word, size_t len)
{
    return (len == 7 && memcmp(word, "EVALSHA", 7) == 0) ||
           (len == 5 && memcmp(word, "FCALL", 5) == 0);
}

static void show(const char **argv, const size_t *lens, int argc, const redisReply *reply)
{
    static char texts[ARGS_MAX][768]; /* ends with NUL; long ones are cut */
    const char *copies[ARGS_MAX];
    int first = 0;

    if (is_call(argv[0], lens[0]))
        first = 4;
    if (!first || reply->type == REDIS_REPLY_ERROR)
        return;
    sim_world.result->calls++;
    prefix_count = first;
    for (int i = 0; i < first; i++)
        snprintf(prefix[i], sizeof(prefix[i]), "%.*s", (int)lens[i], argv[i]);
    for (int i = first; i < argc; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%.*s", (int)lens[i], argv[i]);
        copies[i - first] = texts[i];
    }
    sim_check_call(copies, argc - first, reply);
}

/* Carry out one command; its reply goes to out. */
static void carry_out(const char **argv, size_t *lens, int argc, struct buf *out)
{
    char *broken = NULL;
    redisReply *r;

    if (argc == 3 && ((lens[0] == 6 && memcmp(argv[0], "SCRIPT", 6) == 0) ||
                      (lens[0] == 8 && memcmp(argv[0], "FUNCTION", 8) == 0))) {
        char *text = strndup(argv[2], lens[2]);

        broken = sim_mutant_script(text);
        free(text);
        if (broken) {
            argv[2] = broken;
            lens[2] = strlen(broken);
        }
    }
    r = redisCommandArgv(redis, argc, argv, lens);
    CHECK(r);
    if (r->type == REDIS_REPLY_ERROR && is_call(argv[0], lens[0]))
        sim_violate("Redis: %s", r->str);
    show(argv, lens, argc, r);
    write_reply(out, r);
    freeReplyObject(r);
    free(broken);
}

static void hang_up(struct sim_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    buf_reset(&link->in);
}

static bool is_away(const struct sim_link *link)
{
    return !link->is_sound && !sim_world.is_calm &&
           sim_world.now_ms < sim_world.redis_away_until_ms;
}

static void answer(struct sim_link *link, const struct buf *out)
{
    size_t at = 0;

    while (at < out->len) {
        ssize_t n = send(link->fd, out->data + at, out->len - at, MSG_NOSIGNAL);

        CHECK(n > 0); /* a socket pair of this machine has room for a broker's turn */
        at += (size_t)n;
    }
}

/* Everything that the store has written. Returns whether there was something. */
static bool pump(struct sim_link *link)
{
    const char *argv[ARGS_MAX];
    size_t lens[ARGS_MAX], used = 0, len;
    struct buf out = { 0 };
    char bytes[65536];
    int argc, fd;
    ssize_t n;
    bool is_lost = !link->is_sound && sim_chance(0.02);
    int64_t lost_after = is_lost && sim_chance(0.5) ? sim_between(0, 3) : INT64_MAX;

    while ((fd = accept4(link->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        hang_up(link);
        link->fd = fd;
    }
    if (link->fd < 0)
        return false;
    if (is_away(link)) {
        hang_up(link);
        return true;
    }
    while ((n = recv(link->fd, bytes, sizeof(bytes), 0)) > 0)
        CHECK(buf_append(&link->in, bytes, (size_t)n) == OK);
    if (n == 0) {
        hang_up(link);
        return true;
    }
    while ((len = split(link->in.data + used, link->in.len - used, argv, lens, &argc)) > 0 &&
           lost_after-- > 0) {
        carry_out(argv, lens, argc, &out);
        used += len;
    }
    if (is_lost && link->in.len > 0) {
        sim_fault(used < link->in.len ? SIM_CALL_LOST : SIM_REPLY_LOST);
        if (out.len > 0) { /* some answers may have got through */
            out.len = (size_t)sim_between(0, (int64_t)out.len - 1);
            answer(link, &out);
        }
        hang_up(link);
    } else if (used > 0) {
        answer(link, &out);
        memmove(link->in.data, link->in.data + used, link->in.len - used);
        link->in.len -= used;
    }
    buf_free(&out);
    return used > 0 || is_lost;
}

/* Let the store send, be answered, and hand the answers out, until it waits for nothing. */
void sim_link_turn(struct sim_link *link, store_reply_fn on_reply, void *self)
{
    int idle = 0;

    while (idle < 3) {
        bool moved;

        store_flush(link->store);
        moved = pump(link);
        store_step(link->store, sim_world.now_ms, on_reply, self);
        idle = moved ? 0 : idle + 1;
        if (store_pending(link->store) == 0 && store_is_connected(link->store))
            break;
    }
}

/* --- opening --- */

struct opening {
    struct sim_link *link;
    atomic_bool is_done;
    status st;
    char why[512];
};

static void *open_store(void *arg)
{
    struct opening *o = arg;
    char url[140];
    struct store_config config = { .url = url, .allow_unsafe = true, .no_functions = true };

    snprintf(url, sizeof(url), "unix://%s", o->link->path);
    o->st = store_open(&o->link->store, &config);
    snprintf(o->why, sizeof(o->why), "%s", status_message());
    atomic_store(&o->is_done, true);
    return NULL;
}

void sim_link_open(struct sim_link *link, const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct opening o = { .link = link };
    bool was_sound = link->is_sound;
    pthread_t thread;

    link->fd = -1;
    link->is_sound = true;
    snprintf(link->path, sizeof(link->path), "%s/%s", dir, name);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", link->path);
    unlink(link->path);
    link->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(link->listen_fd >= 0);
    CHECK(bind(link->listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(link->listen_fd, 16) == 0);
    CHECK(pthread_create(&thread, NULL, open_store, &o) == 0);
    while (!atomic_load(&o.is_done)) {
        struct pollfd p = { .fd = link->fd >= 0 ? link->fd : link->listen_fd, .events = POLLIN };

        poll(&p, 1, 1);
        pump(link);
    }
    pthread_join(thread, NULL);
    if (o.st != OK)
        fprintf(stderr, "sim: %s\n", o.why);
    CHECK(o.st == OK);
    link->is_sound = was_sound;
}

void sim_link_close(struct sim_link *link)
{
    store_close(link->store);
    link->store = NULL;
    hang_up(link);
    close(link->listen_fd);
    unlink(link->path);
    buf_free(&link->in);
}
