/* The connection to Redis: what is refused at the door, and what happens when it breaks. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/bus.h"
#include "common/redis.h"
#include "tests/tool/test.h"
#include "tests/unit/common/store_fixture.h"

#define LONG_MS 60000
#define DEADLINE_MS 20000

static void expect_not_opened(const struct store_config *config, status code, const char *part)
{
    struct store *s;

    EXPECT_STATUS(store_open(&s, config), code);
    EXPECT_MESSAGE(part);
}

TEST(urls_are_taken_apart)
{
    static const char *const bad[] = { "",
                                       "redis://",
                                       "redis:///3",
                                       "redis://h:0",
                                       "redis://h:1x",
                                       "redis://h/99",
                                       "redis://h:70000",
                                       "unix://",
                                       "unix://a",
                                       "unix:///a?db=x",
                                       "http://h",
                                       "h:6379" };
    struct redis_address a;

    EXPECT_OK(redis_parse_url(&a, "redis://h.example:7000/3"));
    EXPECT_TEXT(a.host, "h.example");
    EXPECT_INT(a.port, 7000);
    EXPECT_INT(a.db, 3);
    EXPECT_TEXT(a.label, "h.example:7000");
    EXPECT_OK(redis_parse_url(&a, "redis://h"));
    EXPECT_INT(a.port, 6379);
    EXPECT_OK(redis_parse_url(&a, "redis://[::1]:7000"));
    EXPECT_TEXT(a.host, "::1");
    EXPECT_OK(redis_parse_url(&a, "unix:///run/r.sock?db=2"));
    EXPECT_TEXT(a.path, "/run/r.sock");
    EXPECT_INT(a.db, 2);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        EXPECT_STATUS(redis_parse_url(&a, bad[i]), ERR_BADARG);
        EXPECT_MESSAGE("redis_url");
    }
    EXPECT_STATUS(redis_parse_url(&a, "redis://:secret@h:1"), ERR_BADARG);
    EXPECT_MESSAGE("redis_password_file");
    EXPECT(strstr(status_message(), "secret") == NULL);
}

TEST(no_server_is_one_clear_sentence)
{
    char url[200];

    snprintf(url, sizeof(url), "unix://%s/none.sock", test_tmpdir());
    expect_not_opened(&(struct store_config){ .url = url }, ERR_UNAVAILABLE,
                      "none.sock (no such socket); start redis-server or set redis_url");
    expect_not_opened(&(struct store_config){ .url = "redis://127.0.0.1:1" }, ERR_UNAVAILABLE,
                      "no Redis at 127.0.0.1:1 (connection refused); start redis-server or set "
                      "redis_url");
}

TEST(a_server_that_may_forget_is_refused_unless_allowed)
{
    struct store *s = fixture_open();
    struct store_config config = fixture_config();

    store_close(s);
    fixture_command("CONFIG", "SET", "appendonly", "no", NULL);
    expect_not_opened(&config, ERR_CONFLICT, "would forget all jobs when it stops");
    EXPECT_MESSAGE("--appendonly yes");
    EXPECT_MESSAGE("redis_unsafe: true");
    config.allow_unsafe = true;
    EXPECT_OK(store_open(&s, &config));
    store_close(s);
    config.allow_unsafe = false;
    fixture_command("CONFIG", "SET", "appendonly", "yes", NULL);
    fixture_command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", NULL);
    expect_not_opened(&config, ERR_CONFLICT, "may throw jobs away");
    EXPECT_MESSAGE("--maxmemory-policy noeviction");
}

TEST(a_server_with_other_data_forms_or_roles_is_refused)
{
    struct store *s = fixture_open();
    struct store_config config = fixture_config();

    store_close(s);
    fixture_command("HSET", "{00}config", "schema", "9", NULL);
    expect_not_opened(&config, ERR_CONFLICT, "form 9");
    fixture_command("HSET", "{00}config", "schema", "2", NULL);
    fixture_command("REPLICAOF", "127.0.0.1", "1", NULL);
    expect_not_opened(&config, ERR_UNAVAILABLE, "is a replica");
}

TEST(a_user_that_may_not_see_settings_is_told_what_to_do)
{
    struct store *s = fixture_open();
    struct store_config config = fixture_config();

    store_close(s);
    fixture_command("ACL", "SETUSER", "default", "-config", NULL);
    expect_not_opened(&config, ERR_CONFLICT, "redis_unsafe: true");
    config.allow_unsafe = true;
    EXPECT_OK(store_open(&s, &config));
    store_close(s);
}

/* A server that answers SELECT and INFO as a Redis of this version would. */
static pid_t start_old_redis(const char *path, const char *info)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    pid_t pid;

    EXPECT(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    EXPECT(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    EXPECT(listen(listener, 1) == 0);
    pid = fork();
    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);

        dprintf(fd, "+OK\r\n$%zu\r\n%s\r\n", strlen(info), info);
        pause();
    }
    close(listener);
    return pid;
}

TEST(a_redis_that_is_too_old_is_refused)
{
    char path[160], url[200];
    pid_t pid;

    snprintf(path, sizeof(path), "%s/old", test_tmpdir());
    snprintf(url, sizeof(url), "unix://%s", path);
    pid = start_old_redis(path, "# Server\r\nredis_version:6.0.16\r\nrole:master\r\n");
    expect_not_opened(&(struct store_config){ .url = url }, ERR_CONFLICT, "version 6.0.16");
    EXPECT_MESSAGE("needs 6.2 or newer");
    EXPECT(kill(pid, SIGKILL) == 0);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    EXPECT(f != NULL);
    fputs(text, f);
    fclose(f);
}

TEST(a_password_comes_from_a_file)
{
    struct store *s = fixture_open();
    struct store_config config = fixture_config();
    char path[200];

    store_close(s);
    fixture_command("CONFIG", "SET", "requirepass", "open sesame", NULL);
    expect_not_opened(&config, ERR_UNAVAILABLE, "wants a password");
    EXPECT_MESSAGE("redis_password_file");
    snprintf(path, sizeof(path), "%s/password", test_tmpdir());
    config.password_file = path;
    expect_not_opened(&config, ERR_NOTFOUND, path);
    write_file(path, "wrong\n");
    expect_not_opened(&config, ERR_UNAVAILABLE, "refuses the password");
    write_file(path, "\n");
    expect_not_opened(&config, ERR_BADARG, "first line");
    write_file(path, "open sesame\n");
    EXPECT_OK(store_open(&s, &config));
    EXPECT_INT(fixture_submit(s, 1, NULL).verdict, VERDICT_OK);
    store_close(s);
}

TEST(something_that_is_not_redis_is_refused)
{
    struct bus *bus;
    struct bus_socket *socket;
    char endpoint[200], url[200];

    snprintf(endpoint, sizeof(endpoint), "ipc://%s/other", test_tmpdir());
    snprintf(url, sizeof(url), "unix://%s/other", test_tmpdir());
    EXPECT_OK(bus_open(&bus));
    EXPECT_OK(bus_bind(bus, endpoint, &socket));
    expect_not_opened(&(struct store_config){ .url = url, .timeout_ms = 500 }, ERR_CORRUPT,
                      "does not talk like Redis");
    bus_close_socket(socket);
    bus_close(bus);
}

/* Replies that came, by tag. */
struct seen {
    int count, unavailable;
    status codes[4096];
    char sentence[512];
};

static void see(void *self, const struct store_reply *r)
{
    struct seen *seen = self;

    EXPECT(r->tag < 4096);
    EXPECT_INT(seen->codes[r->tag], STATUS_COUNT); /* once each */
    seen->codes[r->tag] = r->code;
    seen->count++;
    seen->unavailable += r->code == ERR_UNAVAILABLE;
    if (r->code != OK)
        snprintf(seen->sentence, sizeof(seen->sentence), "%s", r->sentence);
}

static void clear(struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    for (int i = 0; i < 4096; i++)
        seen->codes[i] = STATUS_COUNT;
}

/* One turn of a broker: step, then wait a little for more. */
static void turn(struct store *s, struct seen *seen)
{
    struct bus_wait wait = { .fd = -1 };
    int64_t wait_ms = store_wait_ms(s, clock_mono_ms());

    store_flush(s);
    wait.fd = store_fd(s, &wait.want_write);
    if (wait_ms < 0 || wait_ms > 100)
        wait_ms = 100;
    bus_poll(&wait, wait.fd >= 0 ? 1 : 0, wait_ms);
    store_step(s, clock_mono_ms(), see, seen);
}

static void add_submits(struct store *s, int first, int count)
{
    struct job_spec spec = fixture_spec();

    for (int n = first; n < first + count; n++) {
        struct store_call call = { .op = STORE_SUBMIT,
                                   .tag = (uint64_t)n,
                                   .submit = { fixture_id(n), &spec, 100000 } };

        EXPECT_OK(store_add(s, &call));
    }
}

static void turn_until(struct store *s, struct seen *seen, int count)
{
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

    while (seen->count < count) {
        EXPECT(clock_mono_ms() < deadline_ms);
        turn(s, seen);
    }
}

static void turn_until_connected(struct store *s, struct seen *seen)
{
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

    while (!store_is_connected(s)) {
        EXPECT(clock_mono_ms() < deadline_ms);
        turn(s, seen);
    }
}

TEST(a_thousand_calls_go_in_one_pipeline)
{
    static struct seen seen;
    struct store *s = fixture_open();

    clear(&seen);
    add_submits(s, 0, 1000);
    EXPECT_INT(store_pending(s), 1000);
    turn_until(s, &seen, 1000);
    for (int n = 0; n < 1000; n++)
        EXPECT_INT(seen.codes[n], OK);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(a_server_that_forgot_the_scripts_gets_them_again)
{
    static struct seen seen;
    struct store *s = fixture_open();

    clear(&seen);
    fixture_command("FUNCTION", "FLUSH", NULL);
    add_submits(s, 0, 100);
    turn_until(s, &seen, 100);
    EXPECT_INT(seen.unavailable, 0);
    for (int n = 0; n < 100; n++)
        EXPECT_INT(fixture_submit(s, n, NULL).verdict, VERDICT_DUPLICATE);
    fixture_command("FUNCTION", "FLUSH", NULL);
    EXPECT_INT(fixture_claim(s, LONG_MS).has_job, true);
    store_close(s);
}

TEST(when_memory_is_full_new_jobs_are_refused_and_running_ones_end)
{
    struct store *s = fixture_open();
    struct store_config config = fixture_config();
    struct lease l = fixture_leased(s, 1, true, LONG_MS);
    struct answer a;

    fixture_command("CONFIG", "SET", "maxmemory", "1", NULL);
    a = fixture_submit(s, 2, NULL);
    EXPECT_INT(a.code, ERR_FULL);
    EXPECT(strstr(a.sentence, "no memory left") != NULL);
    EXPECT_INT(fixture_renew(s, &l, true, LONG_MS).verdict, VERDICT_OK);
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_OK);
    store_close(s);
    EXPECT_OK(store_open(&s, &config)); /* a broker can also be started then */
    store_close(s);
}

static void restart_redis(void)
{
    struct redis_child_config config = { .dir = test_tmpdir() };

    EXPECT_OK(redis_child_start(fixture_redis(), &config));
}

TEST(acknowledged_jobs_survive_a_crash_of_redis)
{
    static struct seen seen;
    struct store *s = fixture_open();
    int acknowledged = 0;

    clear(&seen);
    add_submits(s, 0, 2000);
    turn_until(s, &seen, 500);
    redis_child_kill(fixture_redis());
    turn_until(s, &seen, 2000); /* every call is answered, one way or the other */
    restart_redis();
    turn_until_connected(s, &seen);
    for (int n = 0; n < 2000; n++) {
        if (seen.codes[n] != OK)
            continue;
        acknowledged++;
        EXPECT_INT(fixture_status(s, n).jobs[0].state, JOB_QUEUED);
    }
    EXPECT(acknowledged >= 500);
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

TEST(while_redis_is_away_calls_are_answered_and_later_ones_work)
{
    static struct seen seen;
    struct store *s = fixture_open();
    struct lease l = fixture_leased(s, 5000, true, LONG_MS);

    clear(&seen);
    redis_child_kill(fixture_redis());
    add_submits(s, 0, 10);
    turn_until(s, &seen, 10);
    EXPECT_INT(seen.unavailable, 10);
    EXPECT(strstr(seen.sentence, "Redis") != NULL);
    EXPECT(!store_is_connected(s));
    add_submits(s, 10, 10); /* known to be down: answered in the next step */
    store_step(s, clock_mono_ms(), see, &seen);
    EXPECT_INT(seen.count, 20);
    restart_redis();
    turn_until_connected(s, &seen);
    clear(&seen);
    add_submits(s, 0, 20);
    turn_until(s, &seen, 20);
    EXPECT_INT(seen.unavailable, 0);
    EXPECT_INT(fixture_complete(s, &l).verdict, VERDICT_OK); /* the lease lives in Redis */
    EXPECT_INT(fixture_audit(s).code, OK);
    store_close(s);
}

/* A call that comes between the loss and the end of the reconnection is not sent; its answer must
 * not be taken from a later one. */
TEST(calls_made_while_the_connection_comes_back_are_answered_in_order)
{
    static struct seen seen;
    struct store *s = fixture_open();
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
    int n = 0;

    clear(&seen);
    redis_child_kill(fixture_redis());
    add_submits(s, n++, 1);
    turn_until(s, &seen, 1);
    restart_redis();
    while (!store_is_connected(s)) {
        EXPECT(clock_mono_ms() < deadline_ms && n < 4000);
        add_submits(s, n++, 1);
        turn(s, &seen);
        bus_poll(NULL, 0, 1); /* so that the loop does not run out of tags before Redis is back */
    }
    turn_until(s, &seen, n);
    EXPECT_INT(store_pending(s), 0);
    EXPECT_INT(fixture_submit(s, 5000, NULL).verdict, VERDICT_OK);
    EXPECT_INT(fixture_status(s, 5000).jobs[0].state, JOB_QUEUED);
    store_close(s);
}

TEST(a_redis_that_hangs_is_given_up_and_found_again)
{
    static struct seen seen;
    struct store *s = fixture_open();
    struct store_config config = fixture_config();

    store_close(s);
    config.timeout_ms = 300;
    EXPECT_OK(store_open(&s, &config));
    clear(&seen);
    EXPECT(kill(fixture_redis()->pid, SIGSTOP) == 0);
    add_submits(s, 0, 3);
    turn_until(s, &seen, 3);
    EXPECT_INT(seen.unavailable, 3);
    EXPECT(strstr(seen.sentence, "has not answered for") != NULL);
    EXPECT(kill(fixture_redis()->pid, SIGCONT) == 0);
    turn_until_connected(s, &seen);
    for (int n = 0; n < 3; n++) { /* it may have happened or not: asking again tells */
        enum msg_verdict v = fixture_submit(s, n, NULL).verdict;

        EXPECT(v == VERDICT_OK || v == VERDICT_DUPLICATE);
    }
    store_close(s);
}

TEST(an_idle_connection_is_not_given_up)
{
    static struct seen seen;
    struct store *s = fixture_open();

    clear(&seen);
    store_step(s, clock_mono_ms(), see, &seen);
    store_step(s, clock_mono_ms() + 3600000, see, &seen); /* an hour without a call */
    EXPECT(store_is_connected(s));
    add_submits(s, 0, 1);
    store_step(s, clock_mono_ms() + 7200000, see, &seen);
    EXPECT(store_is_connected(s));
    store_close(s);
}
