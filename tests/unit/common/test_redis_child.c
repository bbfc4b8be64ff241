/* The private redis-server: it is alone, it is durable, and it does not outlive its owner. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/tool/test.h"
#include "tests/unit/common/store_fixture.h"

#define DEADLINE_MS 20000

TEST(a_folder_has_one_server)
{
    struct redis_child first, second;
    struct redis_child_config config = { .dir = test_tmpdir() };
    char other[200];

    EXPECT_OK(redis_child_start(&first, &config));
    EXPECT_STATUS(redis_child_start(&second, &config), ERR_CONFLICT);
    EXPECT_MESSAGE("in use by another redis-server");
    snprintf(other, sizeof(other), "%s/other", test_tmpdir());
    config = (struct redis_child_config){ .dir = other, .socket_path = first.socket_path };
    EXPECT_STATUS(redis_child_start(&second, &config), ERR_CONFLICT);
    EXPECT_MESSAGE("listens at");
    EXPECT(!redis_child_has_ended(&first));
    redis_child_stop(&first);
    EXPECT(access(first.socket_path, F_OK) != 0);
    config = (struct redis_child_config){ .dir = test_tmpdir() };
    EXPECT_OK(redis_child_start(&second, &config)); /* the folder is free again */
    redis_child_stop(&second);
    redis_child_stop(&second); /* and twice is fine */
}

TEST(a_path_with_spaces_works_and_the_socket_is_private)
{
    struct redis_child child;
    struct stat info;
    char dir[200];
    struct redis_child_config config = { .dir = dir };

    snprintf(dir, sizeof(dir), "%s/my data \"x\"", test_tmpdir());
    EXPECT_OK(redis_child_start(&child, &config));
    EXPECT(stat(child.socket_path, &info) == 0);
    EXPECT_INT(info.st_mode & 077, 0);
    redis_child_stop(&child);
}

TEST(a_socket_path_that_is_too_long_is_refused)
{
    struct redis_child child;
    struct redis_child_config config = { .dir = test_tmpdir() };
    char path[140] = "/";

    memset(path + 1, 'x', 107);
    config.socket_path = path;
    EXPECT_STATUS(redis_child_start(&child, &config), ERR_BADARG);
    EXPECT_MESSAGE("use a shorter folder");
    config.socket_path = "relative";
    EXPECT_STATUS(redis_child_start(&child, &config), ERR_BADARG);
}

TEST(without_redis_installed_the_sentence_says_so)
{
    struct redis_child child;
    struct redis_child_config config = { .dir = test_tmpdir() };

    setenv("PATH", "/nowhere", 1);
    EXPECT_STATUS(redis_child_start(&child, &config), ERR_NOTFOUND);
    EXPECT_MESSAGE("redis-server is not installed");
    EXPECT_MESSAGE("make deps");
}

TEST(a_server_that_can_not_start_says_why)
{
    struct redis_child child;
    char sock[200];
    struct redis_child_config config = { .dir = test_tmpdir(), .socket_path = sock };

    snprintf(sock, sizeof(sock), "%s/none/redis.sock", test_tmpdir());
    EXPECT_STATUS(redis_child_start(&child, &config), ERR_IO);
    EXPECT_MESSAGE("ended at once");
    EXPECT_MESSAGE("No such file");
}

/* The append-only file that is being written. */
static void find_aof(char *path, size_t room)
{
    char dir[200];
    struct dirent *entry;
    DIR *d;

    snprintf(dir, sizeof(dir), "%s/appendonlydir", test_tmpdir());
    d = opendir(dir);
    EXPECT(d != NULL);
    path[0] = '\0';
    while ((entry = readdir(d))) {
        if (strstr(entry->d_name, ".incr.aof"))
            snprintf(path, room, "%s/%s", dir, entry->d_name);
    }
    closedir(d);
    EXPECT(path[0] != '\0');
}

/* A crash in the middle of a script must not let its other half come back one restart later. */
TEST(a_torn_file_is_repaired_at_the_border_of_a_script)
{
    struct store *s = fixture_open();
    struct redis_child_config config = { .dir = test_tmpdir() };
    struct store_config store_config;
    struct stat info;
    char path[500];

    EXPECT_INT(fixture_submit(s, 1, NULL).verdict, VERDICT_OK);
    EXPECT_INT(fixture_submit(s, 2, NULL).verdict, VERDICT_OK);
    store_close(s);
    redis_child_kill(fixture_redis());
    find_aof(path, sizeof(path));
    EXPECT(stat(path, &info) == 0);
    EXPECT(truncate(path, info.st_size - 40) == 0);
    for (int life = 0; life < 2; life++) {
        EXPECT_OK(redis_child_start(fixture_redis(), &config));
        store_config = fixture_config();
        EXPECT_OK(store_open(&s, &store_config));
        EXPECT_INT(fixture_status(s, 1).jobs[0].state, JOB_QUEUED);
        EXPECT_INT(fixture_status(s, 2).jobs[0].state, JOB_ILLEGAL); /* wholly absent */
        EXPECT_INT(fixture_audit(s).code, OK);
        EXPECT_INT(fixture_submit(s, 10 + life, NULL).verdict, VERDICT_OK);
        store_close(s);
        redis_child_kill(fixture_redis());
    }
}

TEST(a_file_that_is_not_an_append_only_file_is_refused)
{
    struct store *s = fixture_open();
    struct redis_child_config config = { .dir = test_tmpdir() };
    char path[200];
    FILE *f;

    store_close(s);
    redis_child_kill(fixture_redis());
    snprintf(path, sizeof(path), "%s/appendonlydir/appendonly.aof.manifest", test_tmpdir());
    f = fopen(path, "w");
    EXPECT(f != NULL);
    fputs("nonsense\n", f);
    fclose(f);
    EXPECT_STATUS(redis_child_start(fixture_redis(), &config), ERR_CORRUPT);
    EXPECT_MESSAGE("appendonly.aof.manifest is damaged");
}

/* Ended, or waiting to be reaped by whoever inherited it. self: pid_t. */
static bool is_gone(void *self)
{
    const pid_t *pid = self;
    char path[64], state[64] = "";
    FILE *f;

    if (kill(*pid, 0) != 0)
        return true;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)*pid);
    f = fopen(path, "r");
    if (!f)
        return true;
    if (fscanf(f, "%*d %*s %63s", state) != 1)
        state[0] = '\0';
    fclose(f);
    return state[0] == 'Z';
}

TEST(the_server_dies_with_its_owner)
{
    int fds[2];
    pid_t owner, server = 0;

    test_tmpdir();
    EXPECT(pipe(fds) == 0);
    owner = fork();
    if (owner == 0) {
        struct redis_child_config config = { .dir = test_tmpdir() };

        EXPECT_OK(redis_child_start(fixture_redis(), &config));
        EXPECT(write(fds[1], &fixture_redis()->pid, sizeof(pid_t)) == sizeof(pid_t));
        fixture_command("CONFIG", "SET", "appendonly", "no", NULL);
        fixture_command("CONFIG", "SET", "appendonly", "yes", NULL); /* no SIGTERM helps now */
        raise(SIGKILL);
    }
    EXPECT(read(fds[0], &server, sizeof(server)) == sizeof(server));
    EXPECT(waitpid(owner, NULL, 0) == owner);
    EXPECT(clock_wait_for(is_gone, &server, DEADLINE_MS));
}
