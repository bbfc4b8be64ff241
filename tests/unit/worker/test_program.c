/* The worker as a process, without a broker: what it refuses before it connects, and how it
 * ends. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

#define ARGS_MAX 24

/* A worker that runs; what it prints on stdout and stderr comes through fd. */
struct program {
    pid_t pid;
    int fd;
    char text[16384];
    size_t len;
};

/* Start onestep-worker with the arguments, which end with NULL. */
static void start(struct program *p, ...)
{
    char path[FILE_PATH_BYTES];
    char *argv[ARGS_MAX] = { path };
    int ends[2], count = 1;
    va_list args;

    memset(p, 0, sizeof(*p));
    EXPECT_OK(file_join(path, sizeof(path), test_bin_dir(), "onestep-worker"));
    if (!file_exists(path))
        test_skip("%s is not built", path);
    va_start(args, p);
    while (count < ARGS_MAX - 1 && (argv[count] = va_arg(args, char *)))
        count++;
    va_end(args);
    EXPECT(pipe2(ends, O_CLOEXEC) == 0);
    p->pid = fork();
    EXPECT(p->pid >= 0);
    if (p->pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execv(path, argv);
        _exit(127);
    }
    close(ends[1]);
    p->fd = ends[0];
}

/* Read until part has been printed, or until the end when part is NULL. */
static void read_until(struct program *p, const char *part)
{
    ssize_t got;

    while (!part || !strstr(p->text, part)) {
        EXPECT(p->len < sizeof(p->text) - 1);
        got = read(p->fd, p->text + p->len, sizeof(p->text) - 1 - p->len);
        if (got <= 0)
            break;
        p->len += (size_t)got;
    }
    if (part && !strstr(p->text, part))
        test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", part, p->text);
}

/* The exit code, once it has ended. */
static int finish(struct program *p)
{
    int code;

    read_until(p, NULL);
    EXPECT(waitpid(p->pid, &code, 0) == p->pid);
    printf("%s", p->text);
    close(p->fd);
    if (!WIFEXITED(code))
        test_fail(__FILE__, __LINE__, "ended by signal %d", WTERMSIG(code));
    return WEXITSTATUS(code);
}

/* Work folders in dir; the cache stays. */
static int entries_in(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    int count = 0;

    EXPECT(d != NULL);
    while ((entry = readdir(d)))
        count += strncmp(entry->d_name, "onestep-worker-", 15) == 0;
    closedir(d);
    return count;
}

static const char *in_tmp(const char *name, char *dst)
{
    EXPECT_OK(file_join(dst, FILE_PATH_BYTES, test_tmpdir(), name));
    return dst;
}

/* A worker that nobody gives work to; ended by signal. */
static void expect_clean_end(int number)
{
    struct program p;
    char work[FILE_PATH_BYTES], out[FILE_PATH_BYTES], url[FILE_PATH_BYTES + 16];

    snprintf(url, sizeof(url), "file://%s", in_tmp("out", out));
    start(&p, "--model", "tests/fixtures/tiny-a", "--work-dir", in_tmp("work", work), "--blob", url,
          "--brokers", "tcp://127.0.0.1:1", "--threads", "2", NULL);
    read_until(&p, "worker.ready");
    EXPECT_INT(entries_in(work), 1);
    EXPECT(kill(p.pid, number) == 0);
    EXPECT_INT(finish(&p), 0);
    EXPECT(strstr(p.text, "worker.end"));
    EXPECT_INT(entries_in(work), 0);
}

TEST(worker_ends_cleanly_on_sigterm)
{
    expect_clean_end(SIGTERM);
}

TEST(worker_ends_cleanly_on_sigint)
{
    expect_clean_end(SIGINT);
}

static void expect_refusal(int code, const char *part, const char *model, const char *device)
{
    struct program p;

    start(&p, "--model", model, "--device", device, "--work-dir", test_tmpdir(), "--blob",
          "file:///x", NULL);
    EXPECT_INT(finish(&p), code);
    if (!strstr(p.text, part))
        test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", part, p.text);
    /* One sentence, nothing else. */
    EXPECT(strchr(p.text, '\n') == p.text + strlen(p.text) - 1);
}

TEST(worker_refuses_what_it_cannot_load)
{
    expect_refusal(3, "no/such/model: no such folder", "no/such/model", "cpu");
    expect_refusal(3, "tests/fixtures/model_index.json: no such file", "tests/fixtures", "cpu");
    expect_refusal(7, "set device to cpu", "tests/fixtures/tiny-a", "cuda:999");
}

/* A store that says no is told before a job is taken: which one it is, and its own words. */
static void expect_store_refusal(int exit_code, int code, const char *body, const char *part)
{
    const char *keys = "[default]\naws_access_key_id=AKID\naws_secret_access_key=s3cr3t\n";
    char endpoint[64], path[FILE_PATH_BYTES], work[FILE_PATH_BYTES];
    struct program p;
    struct httpd d;

    httpd_start(&d, &(struct httpd_config){ .access_key = "AKID", .secret_key = "s3cr3t" });
    httpd_fault(&d, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = code, .body = body });
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", d.port);
    EXPECT_OK(file_write_atomic(in_tmp("keys", path), keys, strlen(keys)));
    start(&p, "--model", "tests/fixtures/tiny-a", "--work-dir", in_tmp("work", work), "--blob",
          "s3://clips/out", "--s3-endpoint", endpoint, "--s3-path-style", "--s3-credentials-file",
          path, "--brokers", "tcp://127.0.0.1:1", "--threads", "1", NULL);
    EXPECT_INT(finish(&p), exit_code);
    if (!strstr(p.text, part) || !strstr(p.text, endpoint))
        test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", part, p.text);
    EXPECT(strstr(p.text, "onestep-worker: blob: s3://clips/out can't be used: "));
    EXPECT(!strstr(p.text, "worker.ready") && !strstr(p.text, "s3cr3t"));
    EXPECT_INT(entries_in(work), 0);
    httpd_stop(&d);
}

TEST(storage_worker_says_what_its_store_refuses)
{
    expect_store_refusal(2, 403,
                         "<Error><Code>AccessDenied</Code><Message>Not yours.</Message></Error>",
                         "answered 403 (access denied; check the credentials and the address): Not "
                         "yours.");
    expect_store_refusal(3, 404,
                         "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not "
                         "exist</Message></Error>",
                         "answered 404 (nothing there): The specified bucket does not exist");
}

TEST(worker_prints_the_memory_plan)
{
    struct program p;

    start(&p, "--model", "tests/fixtures/tiny-a", "--plan", "3x64x32", NULL);
    EXPECT_INT(finish(&p), 0);
    EXPECT(strstr(p.text, "it fits"));
    start(&p, "--model", "tests/fixtures/tiny-a", "--plan", "3x64x32", "--json",
          "--memory-max-bytes", "6500000", NULL);
    EXPECT_INT(finish(&p), 10);
    EXPECT(strstr(p.text, "\"fits\":false"));
    EXPECT(strstr(p.text, "does not fit"));
}

TEST(worker_says_what_it_is)
{
    struct program p;

    start(&p, "--version", NULL);
    EXPECT_INT(finish(&p), 0);
    EXPECT(strstr(p.text, "onestep-worker 0."));
    EXPECT(strstr(p.text, "CUDA backend: "));
}
