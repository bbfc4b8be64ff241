/* Several Redis servers: replicas that must confirm, a failover by Sentinel, a Cluster whose slot
 * moves. What was acknowledged is there afterwards. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/bus.h"
#include "common/id.h"
#include "tests/tool/test.h"
#include "tests/unit/common/store_fixture.h"

#define DEADLINE_MS 150000
#define JOBS 300

/* A server on a port of its own; it dies with the test. */
struct server {
    pid_t pid;
    int port;
};

static int free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    /* The bus of a Cluster takes the port 10000 above. Not test_random: another test that runs with
     * the same seed must find other ports. */
    do {
        a.sin_port = htons((uint16_t)(20000 + id_random() % 20000));
    } while (bind(fd, (struct sockaddr *)&a, len) != 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* Run a shell command; its output is the answer, without the newline at its end. */
static const char *shell(const char *format, ...)
{
    static char out[8192];
    char command[1024];
    va_list args;
    size_t len;
    FILE *f;

    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    f = popen(command, "r");
    EXPECT(f != NULL);
    len = fread(out, 1, sizeof(out) - 1, f);
    pclose(f);
    while (len > 0 && out[len - 1] == '\n')
        len--;
    out[len] = '\0';
    return out;
}

static void wait_for_text(int port, const char *command, const char *text)
{
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

    while (!strstr(shell("redis-cli -p %d %s 2>&1", port, command), text)) {
        EXPECT(clock_mono_ms() < deadline_ms);
        bus_poll(NULL, 0, 50);
    }
}

/* Start a redis-server that dies with the test. */
static pid_t spawn(const char *const *argv)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        int fd = open("/dev/null", O_RDWR);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fd, 1);
        dup2(fd, 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

static void run_server(struct server *s, const char *const *more)
{
    char port[16], dir[300];
    const char *argv[40] = { "redis-server",
                             "--port",
                             port,
                             "--bind",
                             "127.0.0.1",
                             "--dir",
                             dir,
                             "--save",
                             "",
                             "--appendonly",
                             "yes",
                             "--appendfsync",
                             "always",
                             "--maxmemory-policy",
                             "noeviction",
                             "--repl-diskless-sync-delay",
                             "0" };
    int count = 17;

    for (; *more; more++)
        argv[count++] = *more;
    snprintf(port, sizeof(port), "%d", s->port);
    snprintf(dir, sizeof(dir), "%s/%d", test_tmpdir(), s->port);
    EXPECT(mkdir(dir, 0700) == 0 || errno == EEXIST);
    s->pid = spawn(argv);
    wait_for_text(s->port, "PING", "PONG");
}

static struct server start_server(const char *const *more)
{
    struct server s = { .port = free_port() };

    run_server(&s, more);
    return s;
}

static const char *const plain[] = { NULL };

static struct server start_replica(const struct server *master)
{
    struct server s = start_server(plain);

    shell("redis-cli -p %d REPLICAOF 127.0.0.1 %d", s.port, master->port);
    wait_for_text(s.port, "INFO replication", "master_link_status:up");
    return s;
}

static void end_server(struct server *s)
{
    EXPECT(kill(s->pid, SIGKILL) == 0);
    EXPECT(waitpid(s->pid, NULL, 0) == s->pid);
}

static struct store *open_at(const char *url, int replicas)
{
    struct store_config config = { .url = url, .replicas = replicas, .timeout_ms = 1000 };
    struct store *s;

    EXPECT_OK(store_open(&s, &config));
    return s;
}

/* Submit job n until it is acknowledged, as a client does. */
static void submit_surely(struct store *s, int n)
{
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

    for (;;) {
        struct answer a = fixture_submit(s, n, NULL);

        if (a.code == OK) {
            EXPECT(a.verdict == VERDICT_OK || a.verdict == VERDICT_DUPLICATE);
            return;
        }
        EXPECT_INT(a.code, ERR_UNAVAILABLE);
        if (clock_mono_ms() > deadline_ms)
            test_fail(__FILE__, __LINE__, "job %d: %s", n, a.sentence);
        bus_poll(NULL, 0, 20);
    }
}

static void expect_all_there(struct store *s)
{
    struct answer a;

    for (int n = 0; n < JOBS; n++) {
        do
            a = fixture_status(s, n);
        while (a.code == ERR_UNAVAILABLE); /* the test has a time limit */
        EXPECT_INT(a.code, OK);
        EXPECT_INT(a.jobs[0].state, JOB_QUEUED);
    }
    a = fixture_audit(s);
    if (a.code != OK)
        test_fail(__FILE__, __LINE__, "audit: %s", a.sentence);
}

TEST(lists_of_servers_are_taken_apart)
{
    static const char *const bad[] = { "sentinel://h:1", "sentinel:///m",
                                       "redis://a,,b",   "sentinel://h:x/m",
                                       "redis://a,b/99", "redis://a,a,a,a,a,a,a,a,a" };
    struct store *s;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct store_config config = { .url = bad[i] };

        EXPECT_STATUS(store_open(&s, &config), ERR_BADARG);
        EXPECT_MESSAGE("redis_url");
    }
}

TEST_TIMEOUT(a_change_is_acknowledged_when_replicas_have_it, 200)
{
    struct server master = start_server(plain), replica = start_replica(&master);
    char url[64];
    struct store *s;
    struct answer a;

    snprintf(url, sizeof(url), "redis://127.0.0.1:1,127.0.0.1:%d", master.port); /* first is dead */
    s = open_at(url, 1);
    submit_surely(s, 1);
    end_server(&replica);
    wait_for_text(master.port, "INFO replication", "connected_slaves:0");
    a = fixture_submit(s, 2, NULL);
    EXPECT_INT(a.code, ERR_UNAVAILABLE);
    EXPECT(strstr(a.sentence, "0 of the 1 replicas") != NULL);
    run_server(&replica, plain);
    shell("redis-cli -p %d REPLICAOF 127.0.0.1 %d", replica.port, master.port);
    wait_for_text(replica.port, "INFO replication", "master_link_status:up");
    submit_surely(s, 2);
    store_close(s);
}

/* Kill the master, wait for another, and give it a second replica; then wait to be killed, since
 * that replica dies with its starter. */
static void fail_over(const struct server *master, int sentinel_port)
{
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
    struct server next;

    EXPECT(kill(master->pid, SIGKILL) == 0);
    do {
        EXPECT(clock_mono_ms() < deadline_ms);
        bus_poll(NULL, 0, 50);
        next.port = atoi(
            shell("redis-cli -p %d SENTINEL GET-MASTER-ADDR-BY-NAME m | tail -1", sentinel_port));
    } while (next.port == 0 || next.port == master->port);
    start_replica(&next);
    for (;;)
        pause();
}

/* Two replicas must confirm, since the one that is elected may be any of them. */
TEST_TIMEOUT(a_failover_loses_nothing_that_was_acknowledged, 240)
{
    struct server master = start_server(plain);
    struct server first = start_replica(&master), second = start_replica(&master);
    struct server sentinel = { .port = free_port() };
    char url[64], path[300];
    pid_t killer = 0;
    struct store *s;
    FILE *f;

    snprintf(path, sizeof(path), "%s/sentinel.conf", test_tmpdir());
    f = fopen(path, "w");
    EXPECT(f != NULL);
    fprintf(f,
            "port %d\nbind 127.0.0.1\nsentinel monitor m 127.0.0.1 %d 1\n"
            "sentinel down-after-milliseconds m 2000\nsentinel failover-timeout m 5000\n",
            sentinel.port, master.port);
    fclose(f);
    sentinel.pid = spawn((const char *[]){ "redis-server", path, "--sentinel", NULL });
    wait_for_text(sentinel.port, "SENTINEL REPLICAS m", "slave-repl-offset");
    wait_for_text(sentinel.port, "INFO sentinel", "slaves=2");
    snprintf(url, sizeof(url), "sentinel://127.0.0.1:%d/m", sentinel.port);
    s = open_at(url, 2);
    for (int n = 0; n < JOBS; n++) {
        if (n == JOBS / 3) {
            fflush(NULL);
            killer = fork();
            EXPECT(killer >= 0);
            if (killer == 0)
                fail_over(&master, sentinel.port);
        }
        submit_surely(s, n);
    }
    expect_all_there(s);
    store_close(s);
    kill(killer, SIGKILL);
    EXPECT(waitpid(killer, NULL, 0) == killer);
    EXPECT(waitpid(master.pid, NULL, 0) == master.pid);
    end_server(&sentinel);
    end_server(&first);
    end_server(&second);
}

/* Move the slot of our keys from one node to the other. */
static void move_slot(const struct server *from, const struct server *to)
{
    char from_id[64], to_id[64], slot[16];

    snprintf(slot, sizeof(slot), "%s", shell("redis-cli -p %d CLUSTER KEYSLOT {00}", from->port));
    snprintf(from_id, sizeof(from_id), "%s", shell("redis-cli -p %d CLUSTER MYID", from->port));
    snprintf(to_id, sizeof(to_id), "%s", shell("redis-cli -p %d CLUSTER MYID", to->port));
    shell("redis-cli -p %d CLUSTER SETSLOT %s IMPORTING %s", to->port, slot, from_id);
    shell("redis-cli -p %d CLUSTER SETSLOT %s MIGRATING %s", from->port, slot, to_id);
    while (*shell("redis-cli -p %d CLUSTER GETKEYSINSLOT %s 1", from->port, slot))
        shell("redis-cli -p %d MIGRATE 127.0.0.1 %d '' 0 5000 KEYS "
              "$(redis-cli -p %d CLUSTER GETKEYSINSLOT %s 100) 2>&1",
              from->port, to->port, from->port, slot);
    shell("redis-cli -p %d CLUSTER SETSLOT %s NODE %s", to->port, slot, to_id);
    shell("redis-cli -p %d CLUSTER SETSLOT %s NODE %s", from->port, slot, to_id);
}

TEST_TIMEOUT(a_slot_of_a_cluster_moves_and_the_jobs_with_it, 200)
{
    static const char *const clustered[] = { "--cluster-enabled", "yes", NULL };
    struct server a = start_server(clustered), b = start_server(clustered);
    char url[64];
    struct store *s;
    pid_t mover;

    shell("redis-cli -p %d CLUSTER ADDSLOTSRANGE 0 16383", a.port);
    shell("redis-cli -p %d CLUSTER MEET 127.0.0.1 %d", a.port, b.port);
    wait_for_text(b.port, "CLUSTER INFO", "cluster_state:ok");
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", b.port);
    s = open_at(url, 0); /* it is not the one: it says so */
    for (int n = 0; n < JOBS / 3; n++)
        submit_surely(s, n);
    fflush(NULL);
    mover = fork();
    EXPECT(mover >= 0);
    if (mover == 0) {
        move_slot(&a, &b);
        _exit(0);
    }
    for (int n = JOBS / 3; n < JOBS; n++)
        submit_surely(s, n);
    EXPECT(waitpid(mover, NULL, 0) == mover);
    wait_for_text(b.port, "EXISTS {00}index", "1");
    submit_surely(s, 0);
    expect_all_there(s);
    EXPECT(fixture_claim(s, 60000).has_job);
    store_close(s);
}
