#include "client/services.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/output.h"
#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/config.h"
#include "common/digest.h"

/* A worker that dies is missed after this; a busy machine must not make a living one be missed. */
#define LEASE_MS "8000"

/* Between two tries of a job: there is one worker, and nothing to be gained by waiting for long. */
#define RETRY_BASE_MS "500"
#define RETRY_CAP_MS "2000"

/* Patience with a program that was told to stop, before it is told so again, and killed. */
#define STOP_MS 1500
#define HAND_BACK_MS 5000

/* With less than this left, a disk is called full: one write of Redis must fit. */
#define FULL_BYTES ((size_t)16 << 10)

/* Longest folder that the folder of sockets may be in. */
#define BASE_MAX 50

/* --- processes -------------------------------------------------------------------------------- */

/* In the child: only calls that are allowed between fork and exec in a process with threads. */
_Noreturn static void become(const struct service *v, int log_fd, pid_t parent)
{
    static const char sorry[] = ": not found beside onestep nor in PATH; install it there\n";
    sigset_t none;

    /* A terminal's Ctrl-C is for `onestep run`, which then stops us in order. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execvp(v->path, (char *const *)(uintptr_t)v->argv);
    if (write(STDERR_FILENO, v->name, strlen(v->name)) > 0 &&
        write(STDERR_FILENO, sorry, sizeof(sorry) - 1) > 0)
        _exit(status_exit_code(ERR_NOTFOUND));
    _exit(status_exit_code(ERR_IO));
}

/* Start v; its log is emptied unless it goes on. */
static status service_start(struct service *v, bool goes_on)
{
    pid_t parent = getpid(), pid;
    int fd;

    fd = open(v->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (goes_on ? 0 : O_TRUNC),
              0600);
    if (fd < 0)
        return file_errno(errno, v->log_path);
    pid = fork();
    if (pid == 0)
        become(v, fd, parent);
    close(fd);
    if (pid < 0)
        return FAIL(ERR_NOMEM, "%s: no process for it: %s", v->name, strerror(errno));
    v->pid = pid;
    return OK;
}

/* Wait until v has ended, at most timeout_ms. */
static bool service_wait(struct service *v, int timeout_ms)
{
    int pidfd = pidfd_open(v->pid, 0);
    struct pollfd wait = { .fd = pidfd, .events = POLLIN };
    int64_t until = clock_mono_ms() + timeout_ms;
    bool has_ended = false;

    while (pidfd >= 0 && !has_ended) {
        int64_t left = until - clock_mono_ms();

        has_ended = poll(&wait, 1, left > 0 ? (int)left : 0) == 1;
        if (left <= 0)
            break;
    }
    if (pidfd >= 0)
        close(pidfd);
    if (has_ended || pidfd < 0) {
        waitpid(v->pid, NULL, 0);
        v->pid = 0;
        return true;
    }
    return false;
}

/* SIGTERM lets a worker finish its job, a second one makes it hand the job back. */
static void service_stop(struct service *v)
{
    if (v->pid == 0)
        return;
    kill(v->pid, SIGTERM);
    if (service_wait(v, STOP_MS))
        return;
    kill(v->pid, SIGTERM);
    if (service_wait(v, HAND_BACK_MS))
        return;
    kill(v->pid, SIGKILL);
    waitpid(v->pid, NULL, 0);
    v->pid = 0;
}

/* The last line of the file at path that is not empty; "" when there is none. */
static void last_line(const char *path, char *dst, size_t room)
{
    char tail[2048];
    off_t size;
    ssize_t got = 0;
    size_t end, start;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    dst[0] = '\0';
    if (fd < 0)
        return;
    size = lseek(fd, 0, SEEK_END);
    if (size > 0)
        got = pread(fd, tail, sizeof(tail),
                    size > (off_t)sizeof(tail) ? size - (off_t)sizeof(tail) : 0);
    close(fd);
    for (end = got > 0 ? (size_t)got : 0; end > 0 && tail[end - 1] == '\n';)
        end--;
    for (start = end; start > 0 && tail[start - 1] != '\n';)
        start--;
    if (end - start >= room)
        end = start + room - 1;
    memcpy(dst, tail + start, end - start);
    dst[end - start] = '\0';
}

static status status_of_exit_code(int code)
{
    for (int i = 1; i < STATUS_COUNT; i++) {
        if (status_exit_code((status)i) == code)
            return (status)i;
    }
    return ERR_IO;
}

status services_fail_ended(const char *name, const char *log_path, int wait_status)
{
    size_t name_len = strlen(name);
    char line[400];

    last_line(log_path, line, sizeof(line));
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) != 0 &&
        strncmp(line, name, name_len) == 0 && strncmp(line + name_len, ": ", 2) == 0)
        return FAIL(status_of_exit_code(WEXITSTATUS(wait_status)), "%s", line);
    if (WIFSIGNALED(wait_status))
        return FAIL(ERR_IO, "%s was ended by signal %d (%s); see %s", name, WTERMSIG(wait_status),
                    strsignal(WTERMSIG(wait_status)), log_path);
    return FAIL(ERR_IO, "%s ended with exit code %d; see %s (%.120s)", name,
                WEXITSTATUS(wait_status), log_path, line);
}

/* Would the same program end the same way again? */
static bool is_hopeless(status code)
{
    return !status_is_retryable(code) || code == ERR_NOMEM || code == ERR_DEVICE;
}

static status service_check(struct service *v)
{
    int wait_status;
    status code;

    if (v->pid == 0 || waitpid(v->pid, &wait_status, WNOHANG) != v->pid)
        return OK;
    v->pid = 0;
    code = services_fail_ended(v->name, v->log_path, wait_status);
    if (is_hopeless(code) || v->restarts_left == 0)
        return code;
    v->restarts_left--;
    output_note("%s; starting it again", status_message());
    return service_start(v, true);
}

/* --- places ----------------------------------------------------------------------------------- */

status services_own_folder(char *dst, size_t room)
{
    char path[FILE_PATH_BYTES];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (len < 0)
        return FAIL(ERR_IO, "/proc/self/exe: %s", strerror(errno));
    path[len] = '\0';
    return file_parent(dst, room, path);
}

/* The program called name, beside this one or else from PATH. */
static status find_program(const char *name, char path[FILE_PATH_BYTES])
{
    char folder[FILE_PATH_BYTES];
    status st = OK;

    TRY(services_own_folder(folder, sizeof(folder)));
    TRY(file_join(path, FILE_PATH_BYTES, folder, name));
    if (access(path, X_OK) != 0)
        snprintf(path, FILE_PATH_BYTES, "%s", name);
out:
    return st;
}

static status take_lock(struct services *s)
{
    char path[FILE_PATH_BYTES], owner[32] = "";
    status st = OK;
    int len;

    TRY(file_join(path, sizeof(path), s->state_dir, "lock"));
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        s->lock_fd = 0;
        TRY(file_errno(errno, path));
    }
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t got = read(s->lock_fd, owner, sizeof(owner) - 1);
        long pid = got > 0 ? strtol(owner, NULL, 10) : 0;

        close(s->lock_fd);
        s->lock_fd = 0;
        TRY(FAIL(ERR_CONFLICT,
                 "%s is in use by another `onestep run` (process %ld); wait for it, "
                 "stop it with kill %ld, or give another -o DIR",
                 s->config.out, pid, pid));
    }
    len = snprintf(owner, sizeof(owner), "%ld\n", (long)getpid());
    if (ftruncate(s->lock_fd, 0) != 0 || write(s->lock_fd, owner, (size_t)len) != len)
        TRY(file_errno(errno, path));
out:
    return st;
}

/* A folder of this user's alone, with a short path that follows from OUT: what a killed run left
 * there is found and removed by the next. */
static status make_run_dir(struct services *s)
{
    const char *base = config_env("XDG_RUNTIME_DIR");
    uint8_t sha256[DIGEST_BYTES];
    char hex[DIGEST_HEX_ROOM], path[SERVICES_DIR_ROOM];
    struct stat info;
    status st = OK;

    TRY(digest_sha256(s->config.out, strlen(s->config.out), sha256));
    digest_hex(sha256, hex);
    if (!base || access(base, W_OK) != 0 || strlen(base) > BASE_MAX)
        base = "/tmp";
    snprintf(path, sizeof(path), "%.*s/onestep-%u-%.12s", BASE_MAX, base, (unsigned)getuid(), hex);
    if (lstat(path, &info) == 0) {
        if (!S_ISDIR(info.st_mode) || info.st_uid != getuid())
            TRY(FAIL(ERR_CONFLICT, "%s is not a folder of yours; remove it", path));
        TRY(file_remove_tree(path));
    }
    if (mkdir(path, 0700) != 0)
        TRY(file_errno(errno, path));
    memcpy(s->run_dir, path, sizeof(path));
    snprintf(s->client_url, sizeof(s->client_url), "ipc://%s/client.sock", s->run_dir);
    snprintf(s->worker_url, sizeof(s->worker_url), "ipc://%s/worker.sock", s->run_dir);
out:
    return st;
}

static status make_places(struct services *s)
{
    status st = OK;

    TRY(file_join(s->state_dir, sizeof(s->state_dir), s->config.out, ".onestep"));
    TRY(file_make_dirs(s->state_dir));
    TRY(take_lock(s));
    TRY(make_run_dir(s));
    TRY(file_join(s->redis_dir, sizeof(s->redis_dir), s->state_dir, "redis"));
    TRY(file_join(s->work_dir, sizeof(s->work_dir), s->state_dir, "work"));
    TRY(url_from_path(s->config.out, s->blob_url, sizeof(s->blob_url)));
out:
    return st;
}

/* --- the three -------------------------------------------------------------------------------- */

static bool disk_is_full(const char *folder)
{
    struct statvfs disk;

    return statvfs(folder, &disk) == 0 && disk.f_bavail * disk.f_frsize < FULL_BYTES;
}

static status fail_full(const struct services *s)
{
    return FAIL(ERR_FULL, "%s: the disk is full; free some space or give another -o DIR",
                s->config.out);
}

static status start_redis(struct services *s)
{
    status st;

    char socket_path[SERVICES_URL_ROOM];
    struct redis_child_config config = { .dir = s->redis_dir, .socket_path = socket_path };

    snprintf(socket_path, sizeof(socket_path), "%s/redis.sock", s->run_dir);
    st = redis_child_start(&s->redis, &config);
    /* A server that ended at its start says so, but not why. */
    return st != OK && disk_is_full(s->state_dir) ? fail_full(s) : st;
}

static status prepare(struct services *s, struct service *v, const char *name, const char *log_name)
{
    status st = OK;

    v->name = name;
    v->restarts_left = 1;
    TRY(find_program(name, v->path));
    TRY(file_join(v->log_path, sizeof(v->log_path), s->state_dir, log_name));
out:
    return st;
}

static status start_broker(struct services *s)
{
    const char *argv[] = { "onestep-broker", "--client-endpoint",
                           s->client_url,    "--worker-endpoint",
                           s->worker_url,    "--redis-url",
                           s->redis.url,     "--lease-ms",
                           LEASE_MS,         "--retry-base-ms",
                           RETRY_BASE_MS,    "--retry-cap-ms",
                           RETRY_CAP_MS,     NULL };
    status st = OK;

    _Static_assert(sizeof(argv) / sizeof(argv[0]) <= SERVICES_ARGS_MAX, "room for its flags");
    memcpy(s->broker.argv, argv, sizeof(argv));
    TRY(prepare(s, &s->broker, "onestep-broker", "broker.log"));
    TRY(service_start(&s->broker, false));
out:
    return st;
}

static status start_worker(struct services *s)
{
    const struct services_config *c = &s->config;
    const char *argv[] = { "onestep-worker", "--model",      c->model,     "--brokers",
                           s->worker_url,    "--device",     c->device,    "--threads",
                           s->threads,       "--input-root", "/",          "--allow-private-hosts",
                           "--blob",         s->blob_url,    "--work-dir", s->work_dir,
                           "--dump",         c->dump,        NULL };
    status st = OK;

    _Static_assert(sizeof(argv) / sizeof(argv[0]) <= SERVICES_ARGS_MAX, "room for its flags");
    memcpy(s->worker.argv, argv, sizeof(argv));
    snprintf(s->threads, sizeof(s->threads), "%lld", (long long)c->threads);
    TRY(prepare(s, &s->worker, "onestep-worker", "worker.log"));
    TRY(service_start(&s->worker, false));
out:
    return st;
}

status services_start(struct services *s, const struct services_config *config)
{
    status st = OK;

    memset(s, 0, sizeof(*s));
    s->config = *config;
    s->redis_restarts_left = 1;
    TRY(make_places(s));
    TRY(start_redis(s));
    TRY(start_broker(s));
    TRY(start_worker(s));
    return OK;
out:
    services_stop(s);
    return st;
}

status services_check(struct services *s)
{
    status st = OK;

    if (s->redis.pid && redis_child_has_ended(&s->redis)) {
        /* Redis ends rather than go on without having written what it acknowledged. */
        if (disk_is_full(s->state_dir))
            TRY(fail_full(s));
        if (s->redis_restarts_left == 0)
            TRY(FAIL(ERR_UNAVAILABLE, "redis-server has ended again; see %s", s->redis.log_path));
        s->redis_restarts_left--;
        output_note("redis-server has ended; starting it again");
        TRY(start_redis(s));
    }
    TRY(service_check(&s->broker));
    TRY(service_check(&s->worker));
out:
    return st;
}

void services_stop(struct services *s)
{
    char sentence[512];

    service_stop(&s->worker);
    service_stop(&s->broker);
    redis_child_stop(&s->redis);
    /* What is being reported matters more than a socket that could not be removed. */
    snprintf(sentence, sizeof(sentence), "%s", status_message());
    if (s->run_dir[0] && file_remove_tree(s->run_dir) != OK) {
        output_note("%s", status_message());
        if (*sentence)
            (void)!FAIL(ERR_IO, "%s", sentence);
    }
    if (s->lock_fd)
        close(s->lock_fd);
    memset(s, 0, sizeof(*s));
}
