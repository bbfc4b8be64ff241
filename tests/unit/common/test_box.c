/* A box holds what runs in it: every way out is tried and ends this one call, not the next. */
#include "common/box.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/media.h"
#include "tests/tool/test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

static void *volatile kept; /* what is assigned here is not optimised away */
static void *volatile nowhere;

static status grow(const char *name)
{
    for (int i = 0; i < 4096; i++) {
        char *p = malloc(1 << 20);

        if (!p)
            return FAIL(ERR_NOMEM, "%s: no memory", name);
        memset(p, 1, 1 << 20);
        kept = p;
    }
    return OK;
}

static status escape(const char *how, const char *name)
{
    struct iovec part = { (void *)(uintptr_t) "x", 1 };

    if (strcmp(how, "open") == 0)
        kept = (void *)(intptr_t)open("/etc/passwd", O_RDONLY);
    else if (strcmp(how, "socket") == 0)
        kept = (void *)(intptr_t)socket(AF_INET, SOCK_STREAM, 0);
    else if (strcmp(how, "fork") == 0)
        kept = (void *)(intptr_t)fork();
    else if (strcmp(how, "exec") == 0)
        execl("/bin/true", "true", (char *)NULL);
    else if (strcmp(how, "kill") == 0)
        kill(getppid(), SIGKILL);
    else if (strcmp(how, "ptrace") == 0)
        syscall(SYS_ptrace, 16, getppid(), 0, 0);
    else if (strcmp(how, "peek") == 0)
        syscall(SYS_process_vm_readv, 1, &part, 1, &part, 1, 0);
    else if (strcmp(how, "code") == 0)
        kept = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
    else if (strcmp(how, "old abi") == 0) /* int 0x80 speaks i386: 5 is open */
        __asm__ volatile("int $0x80" : : "a"(5), "b"(0), "c"(0) : "memory");
    else if (strcmp(how, "free") == 0)
        prctl(PR_SET_DUMPABLE, 1);
    else
        return FAIL(ERR_BADARG, "%s: what is \"%s\"?", name, how);
    return OK;
}

/* The input says what to try; an echo otherwise. */
static status work(const char *name, const void *input, size_t input_bytes, void *output,
                   size_t room, size_t *len)
{
    char how[32] = "";

    memcpy(how, input, input_bytes < sizeof(how) - 1 ? input_bytes : sizeof(how) - 1);
    if (strncmp(how, "echo", 4) == 0) {
        EXPECT(input_bytes <= room);
        memcpy(output, input, input_bytes);
        *len = input_bytes;
        return OK;
    }
    if (strcmp(how, "refuse") == 0)
        return FAIL(ERR_BADARG, "%s: not today", name);
    if (strcmp(how, "crash") == 0)
        *(volatile char *)nowhere = 1;
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "spin") == 0) {
        for (volatile unsigned i = 0;; i++)
            ;
    }
    if (strcmp(how, "lie") == 0) {
        *len = room + 1;
        return OK;
    }
    return strcmp(how, "grow") == 0 ? grow(name) : escape(how, name);
}

static void open_box(struct box *b)
{
    const struct box_config config = { .work = work,
                                       .input_bytes_max = 1 << 20,
                                       .output_bytes_max = 1 << 20,
                                       .memory_bytes = (size_t)64 << 20,
                                       .cpu_s = 1,
                                       .wall_ms = 20000 };

    EXPECT_OK(box_open(b, &config));
}

static status run(struct box *b, const char *how)
{
    struct box_output out;
    status st = box_run(b, "photo", how, strlen(how), &out);

    box_output_free(&out);
    return st;
}

static void expect_alive(struct box *b)
{
    struct box_output out;

    EXPECT_OK(box_run(b, "photo", "echo 1", 6, &out));
    EXPECT(out.len == 6 && memcmp(out.bytes, "echo 1", 6) == 0);
    box_output_free(&out);
}

TEST(storage_box_returns_what_its_work_says)
{
    struct box b = { 0 };
    struct box_output out;
    char *large = calloc(1, 1 << 20);

    EXPECT(large);
    memcpy(large, "echo", 4);
    large[(1 << 20) - 1] = 'z';
    open_box(&b);
    expect_alive(&b);
    EXPECT_OK(box_run(&b, "photo", large, 1 << 20, &out));
    EXPECT(out.len == 1 << 20 && memcmp(out.bytes, large, out.len) == 0);
    box_output_free(&out);
    EXPECT_STATUS(run(&b, "refuse"), ERR_BADARG);
    EXPECT_MESSAGE("photo: not today");
    EXPECT_STATUS(box_run(&b, "photo", large, (1 << 20) + 1, &out), ERR_BADARG);
    EXPECT_MESSAGE("1048577 bytes, limit 1048576");
    box_close(&b);
    box_close(&b);
    free(large);
}

TEST(storage_box_lets_nothing_out)
{
    static const char *const ways[] = { "open",   "socket", "fork", "exec",    "kill",
                                        "ptrace", "peek",   "code", "old abi", "free" };
    struct box b = { 0 };

    open_box(&b);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (run(&b, ways[i]) != ERR_CORRUPT || !strstr(status_message(), "never does"))
            test_fail(__FILE__, __LINE__, "%s: %s", ways[i], status_message());
        expect_alive(&b);
    }
    box_close(&b);
}

TEST(storage_box_survives_crashes_and_greed)
{
    struct box b = { 0 };

    open_box(&b);
    EXPECT_STATUS(run(&b, "crash"), ERR_CORRUPT);
    if (!IS_SANITIZED) /* which has ways of its own to crash */
        EXPECT_MESSAGE("crash (signal 11)");
    EXPECT_STATUS(run(&b, "abort"), ERR_CORRUPT);
    EXPECT_MESSAGE("crash");
    EXPECT_STATUS(run(&b, "lie"), ERR_CORRUPT);
    EXPECT_MESSAGE("senseless");
    if (!IS_SANITIZED) {
        EXPECT_STATUS(run(&b, "grow"), ERR_NOMEM);
        EXPECT_STATUS(run(&b, "spin"), ERR_CORRUPT);
        EXPECT_MESSAGE("more than 1 s");
    }
    expect_alive(&b);
    box_close(&b);
}

TEST(storage_box_without_its_keeper_says_so)
{
    struct box b = { 0 };

    open_box(&b);
    expect_alive(&b);
    EXPECT(kill(b.keeper, SIGINT) == 0 && kill(b.keeper, SIGTERM) == 0);
    expect_alive(&b); /* a terminal's ^C is for the program */
    EXPECT(kill(b.keeper, SIGKILL) == 0);
    EXPECT_STATUS(run(&b, "echo"), ERR_DEVICE);
    EXPECT_MESSAGE("start the worker again");
    box_close(&b);
}

/* Nobody is there any more to read an answer: the keeper must not outlive its program. */
TEST(storage_box_ends_with_its_program)
{
    int ends[2];
    char byte;
    pid_t program;

    EXPECT(pipe(ends) == 0);
    program = fork();
    EXPECT(program >= 0);
    if (program == 0) {
        struct box b = { 0 };
        const struct box_config config = { work, 1024, 1024, 1 << 26, 1, 1000 };

        /* The keeper keeps the standard error alone; so that is what shows when it ends. */
        close(ends[0]);
        dup2(ends[1], STDERR_FILENO);
        _exit(box_open(&b, &config) == OK ? 0 : 1);
    }
    close(ends[1]);
    EXPECT_INT(read(ends[0], &byte, 1), 0);
}
