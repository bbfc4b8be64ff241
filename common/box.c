/* DESIGN: three processes. The caller fills a sealed memory file with the input and sends it over a
 * socket. The keeper, which never looks at the input, forks a child per message, waits for it and
 * answers with how it ended. The child maps the file, drops its rights, calls work, writes a result
 * into the file's head and exits.
 *
 *   caller  --- memory file --->  keeper  --- fork --->  child: map, confine, work, exit
 *           <-- how it ended ---          <-- wait ---
 *
 * The keeper is forked from a program without threads, so the child may use the whole C library;
 * forking it for each call costs less than a millisecond, as the keeper is small. */
#include "common/box.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/config.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif

/* A sanitizer makes the child this much slower. */
#define SLOWER (IS_SANITIZED ? 20 : 1)
#define NAME_BYTES 256
#define SENTENCE_BYTES 512

/* The memory file: head, input, output, each at a page's begin. */
struct head {
    size_t input_bytes, output_at;
    char name[NAME_BYTES];
    size_t output_bytes; /* the child writes this and what follows */
    int code;            /* status of work; STATUS_COUNT: it did not return */
    char sentence[SENTENCE_BYTES];
};

/* The keeper's answer. */
struct ended {
    int wait_status; /* of waitpid */
    bool is_late;    /* it was killed after wall_ms */
    int fork_error;  /* errno when there was no child */
};

static size_t round_up(size_t bytes)
{
    const size_t page = 4096;

    return (bytes + page - 1) & ~(page - 1);
}

/* --- the child -------------------------------------------------------------------------------- */

#define DENY BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* If the loaded value is v run the next statement, otherwise skip it. */
#define IF(v) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (v), 0, 1)
#define ALLOW_CALL(name) IF(__NR_##name), ALLOW
#define FAIL_CALL(name)                                                                            \
    IF(__NR_##name), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (EPERM & SECCOMP_RET_DATA))

/* What computing needs: memory that is not code, locks of the C library, and an end. */
static int filter_calls(void)
{
    static struct sock_filter program[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        DENY,
        LOAD(nr),
        ALLOW_CALL(exit_group),
        ALLOW_CALL(exit),
        ALLOW_CALL(brk),
        ALLOW_CALL(munmap),
        ALLOW_CALL(mremap),
        ALLOW_CALL(madvise),
        ALLOW_CALL(futex),
        ALLOW_CALL(clock_gettime),
        ALLOW_CALL(sched_yield),
        ALLOW_CALL(rt_sigaction),
        ALLOW_CALL(rt_sigprocmask),
        ALLOW_CALL(rt_sigreturn),
        ALLOW_CALL(getpid),
        ALLOW_CALL(gettid),
#if IS_SANITIZED
        ALLOW_CALL(sched_getaffinity),
        ALLOW_CALL(sigaltstack),
        ALLOW_CALL(write), /* to the standard error: a report */
#endif
        /* What the C library tries when it finds its heap damaged: it crashes all the same. */
        FAIL_CALL(write),
        FAIL_CALL(writev),
        FAIL_CALL(tgkill),
        /* CAREFUL: mmap and mprotect stay last, as the third argument is loaded over the number. */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mprotect, 1, 0),
        DENY,
        LOAD(args[2]), /* its low half: protections are small numbers */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
        DENY,
        ALLOW,
    };
    const struct sock_fprog filter = { sizeof(program) / sizeof(program[0]), program };

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

static int limit(__rlimit_resource_t what, rlim_t value)
{
    /* The hard limit of processor time sends SIGKILL, which says nothing; so SIGXCPU is first. */
    const struct rlimit r = { value, value + (what == RLIMIT_CPU) };

    return setrlimit(what, &r);
}

/* Of several processes the system should end this one first when memory is short. */
static void be_expendable(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, "1000", 4) < 0)
        log_debug("box.oom", "error=\"%s\"", strerror(errno));
    close(fd);
}

static status confine(const struct box_config *c)
{
    bool failed;

    be_expendable();
    /* Complaints of the C library would need a file; a sanitizer keeps its own. */
    failed = syscall(SYS_close_range, 0, IS_SANITIZED ? 1 : ~0U, 0) != 0 ||
             (IS_SANITIZED && syscall(SYS_close_range, 3, ~0U, 0) != 0);
    failed = failed || limit(RLIMIT_CORE, 0) != 0 || limit(RLIMIT_NOFILE, 0) != 0 ||
             limit(RLIMIT_FSIZE, 0) != 0 || limit(RLIMIT_NPROC, 0) != 0 ||
             limit(RLIMIT_CPU, (rlim_t)c->cpu_s * SLOWER) != 0;
    failed = failed || (!IS_SANITIZED && limit(RLIMIT_DATA, c->memory_bytes) != 0);
    failed = failed || prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
             filter_calls() != 0;
    return failed ? FAIL(ERR_IO, "a process that reads images can't be confined here: %s",
                         strerror(errno))
                  : OK;
}

static _Noreturn void child_main(const struct box_config *c, int fd, size_t bytes)
{
    struct head *h = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const char *input = (const char *)h + round_up(sizeof(*h));
    size_t len = 0;
    status st;

    if (h == MAP_FAILED)
        _exit(1);
    status_clear();
    st = confine(c);
    if (st == OK)
        st = c->work(h->name, input, h->input_bytes, (char *)h + h->output_at, bytes - h->output_at,
                     &len);
    h->output_bytes = len;
    snprintf(h->sentence, sizeof(h->sentence), "%s", status_message());
    h->code = st;
    _exit(0);
}

/* --- the keeper ------------------------------------------------------------------------------- */

static int receive_file(int fd)
{
    char byte;
    struct iovec part = { &byte, 1 };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr m = { .msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control) };
    struct cmsghdr *c;
    ssize_t got;
    int file;

    do
        got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    c = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
        return -1;
    memcpy(&file, CMSG_DATA(c), sizeof(file));
    return file;
}

/* Wait for the child to end, at most wall_ms or until the caller hangs up; then end it. */
static void wait_child(const struct box_config *c, pid_t child, int caller, struct ended *e)
{
    struct pollfd waits[2] = { { .events = POLLIN }, { .fd = caller, .events = POLLRDHUP } };
    int64_t end_ms = clock_mono_ms() + (int64_t)c->wall_ms * SLOWER;
    int64_t left_ms;

    waits[0].fd = (int)syscall(SYS_pidfd_open, child, 0);
    for (left_ms = end_ms - clock_mono_ms(); waits[0].fd >= 0 && left_ms > 0;
         left_ms = end_ms - clock_mono_ms()) {
        if (poll(waits, 2, (int)left_ms) > 0)
            break;
    }
    e->is_late = !(waits[0].revents & POLLIN);
    if (e->is_late)
        kill(child, SIGKILL);
    while (waitpid(child, &e->wait_status, 0) < 0 && errno == EINTR)
        ;
    if (waits[0].fd >= 0)
        close(waits[0].fd);
}

static _Noreturn void keeper_main(const struct box_config *c, int fd)
{
    int file;

    /* A terminal's ^C and a service manager's SIGTERM reach every process of the program; this one
     * is still needed while the program finishes its work, and ends when the program does. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_NAME, "onestep-box");
    config_env_wipe_all(); /* no key is where a stranger's bytes are read */
    tzset(); /* reads a file the first time that somebody asks for a date, which a child can't */
    while ((file = receive_file(fd)) >= 0) {
        struct ended e = { 0 };
        off_t bytes = lseek(file, 0, SEEK_END);
        pid_t child = fork();

        if (child == 0)
            child_main(c, file, (size_t)bytes);
        close(file);
        if (child < 0)
            e.fork_error = errno;
        else
            wait_child(c, child, fd, &e);
        if (send(fd, &e, sizeof(e), MSG_NOSIGNAL) != sizeof(e))
            break;
    }
    _exit(0);
}

/* CAREFUL: of the files of the program only the socket and the standard error stay open. */
static void close_others(int fd)
{
    if (fd > 3)
        syscall(SYS_close_range, 3, fd - 1, 0);
    syscall(SYS_close_range, fd + 1, ~0U, 0);
    close(STDIN_FILENO);
}

status box_open(struct box *b, const struct box_config *config)
{
    int pair[2];

    *b = (struct box){ .config = *config, .fd = -1 };
    CHECK(config->work && config->output_bytes_max > 0 && config->memory_bytes > 0);
    CHECK(config->cpu_s > 0 && config->wall_ms > 0);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return FAIL(ERR_IO, "no socket to a process that reads images: %s", strerror(errno));
    b->keeper = fork();
    if (b->keeper == 0) {
        close_others(pair[1]);
        keeper_main(&b->config, pair[1]);
    }
    close(pair[1]);
    if (b->keeper < 0) {
        close(pair[0]);
        return FAIL(ERR_NOMEM, "no process to read images in: %s", strerror(errno));
    }
    b->fd = pair[0];
    CHECK(pthread_mutex_init(&b->lock, NULL) == 0);
    b->is_open = true;
    return OK;
}

void box_close(struct box *b)
{
    if (!b->is_open)
        return;
    close(b->fd);
    while (waitpid(b->keeper, NULL, 0) < 0 && errno == EINTR)
        ;
    pthread_mutex_destroy(&b->lock);
    *b = (struct box){ 0 };
}

/* --- the caller ------------------------------------------------------------------------------- */

/* A memory file that nobody can make shorter, mapped, with the input in it. */
static status fill(const struct box_config *c, const char *name, const void *input, size_t len,
                   struct box_output *out, int *fd)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    size_t output_at = round_up(sizeof(struct head)) + round_up(len);
    size_t bytes = output_at + round_up(c->output_bytes_max);
    struct head *h;

    *fd = memfd_create("onestep-box", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0 || ftruncate(*fd, (off_t)bytes) != 0 || fcntl(*fd, F_ADD_SEALS, seals) != 0)
        return FAIL(ERR_NOMEM, "%s: no memory to hand it over: %s", name, strerror(errno));
    h = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (h == MAP_FAILED)
        return FAIL(ERR_NOMEM, "%s: no memory to hand it over: %s", name, strerror(errno));
    h->input_bytes = len;
    h->output_at = output_at;
    h->code = STATUS_COUNT;
    snprintf(h->name, sizeof(h->name), "%s", name);
    if (len)
        memcpy((char *)h + round_up(sizeof(*h)), input, len);
    *out = (struct box_output){ .bytes = (char *)h + output_at, .block = h, .block_bytes = bytes };
    return OK;
}

static bool send_file(int to, int file)
{
    char byte = 0;
    struct iovec part = { &byte, 1 };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { .room = { 0 } };
    struct msghdr m = { .msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &file, sizeof(file));
    return sendmsg(to, &m, MSG_NOSIGNAL) == 1;
}

static status keeper_gone(void)
{
    return FAIL(ERR_DEVICE, "the process that reads images is gone; start the worker again");
}

/* How the child ended. */
static status exchange(struct box *b, int file, struct ended *e)
{
    struct pollfd wait = { .fd = b->fd, .events = POLLIN };

    if (!send_file(b->fd, file))
        return keeper_gone();
    while (poll(&wait, 1, -1) < 0) {
        if (errno != EINTR)
            return keeper_gone();
    }
    return recv(b->fd, e, sizeof(*e), 0) == sizeof(*e) ? OK : keeper_gone();
}

/* The sentence of a child that did not return from work. */
static status judge_death(const struct box_config *c, const char *name, const struct ended *e)
{
    int number = WIFSIGNALED(e->wait_status) ? WTERMSIG(e->wait_status) : 0;

    if (e->fork_error)
        return FAIL(ERR_NOMEM, "%s: no process to read it in: %s", name, strerror(e->fork_error));
    if (e->is_late || number == SIGXCPU)
        return FAIL(ERR_CORRUPT, "%s: reading it took more than %d s; save it as plain PNG or JPEG",
                    name, e->is_late ? c->wall_ms / 1000 : c->cpu_s);
    if (number == SIGSYS)
        return FAIL(ERR_CORRUPT,
                    "%s: it made its reader do what a reader never does; do not trust "
                    "where it comes from",
                    name);
    return FAIL(ERR_CORRUPT, "%s: it made its reader crash (%s %d); save it as plain PNG or JPEG",
                name, number ? "signal" : "exit", number ? number : WEXITSTATUS(e->wait_status));
}

/* What the child says is believed as far as it can do no harm. */
static status judge_answer(const struct head *from, size_t room, const char *name, size_t *len)
{
    struct head h = *from;

    h.sentence[sizeof(h.sentence) - 1] = '\0';
    for (char *c = h.sentence; *c; c++) {
        if ((unsigned char)*c < 0x20)
            *c = '?';
    }
    if (h.code < OK || h.code >= STATUS_COUNT || h.output_bytes > room)
        return FAIL(ERR_CORRUPT, "%s: it made its reader give a senseless answer", name);
    if (h.code != OK)
        return FAIL((status)h.code, "%s", h.sentence);
    *len = h.output_bytes;
    return OK;
}

status box_run(struct box *b, const char *name, const void *input, size_t len,
               struct box_output *out)
{
    status st = OK;
    struct ended e = { 0 };
    int file = -1;

    CHECK(b->is_open);
    *out = (struct box_output){ 0 };
    if (len > b->config.input_bytes_max)
        TRY(FAIL(ERR_BADARG, "%s: %zu bytes, limit %zu", name, len, b->config.input_bytes_max));
    TRY(fill(&b->config, name, input, len, out, &file));
    pthread_mutex_lock(&b->lock);
    st = exchange(b, file, &e);
    pthread_mutex_unlock(&b->lock);
    TRY(st);
    if (!WIFEXITED(e.wait_status) || WEXITSTATUS(e.wait_status) != 0 || e.fork_error)
        TRY(judge_death(&b->config, name, &e));
    TRY(judge_answer(out->block, b->config.output_bytes_max, name, &out->len));
out:
    if (file >= 0)
        close(file);
    if (st != OK)
        box_output_free(out);
    return st;
}

void box_output_free(struct box_output *out)
{
    if (out->block)
        munmap(out->block, out->block_bytes);
    *out = (struct box_output){ 0 };
}
