/* DESIGN: the server is durable by its flags alone: nothing is read from a configuration file.
 * A crash can cut its append-only file in the middle of a script; Redis 7.0 would then, by default,
 * keep the beginning of the script and let the rest come back to life one restart later. So the
 * file is repaired by redis-check-aof, which cuts before the script, and the server is told to
 * refuse what is left torn. A lock on DIR/redis.lock, inherited by the server, says that the folder
 * is in use for exactly as long as the server lives. */
#include "common/redis_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/limits.h"

#define READY_TIMEOUT_DEFAULT_MS 30000
#define STOP_TIMEOUT_MS 5000

/* --- processes --- */

/* Descriptors of a new process. */
struct handles {
    int in_fd, out_fd; /* out is also stderr */
    int keep_fd;       /* stays open in it; -1: none */
    int error_fd;      /* gets errno when the program can't be run */
};

/* What a child does between fork and exec. Only async-signal-safe calls here. */
static void become(const char *const *argv, const struct handles *h, pid_t parent)
{
    sigset_t none;
    int code;

    /* The starter may hold signals back; the server must hear its SIGTERM. */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A ^C at the terminal is for the program in front; it stops the server in its own time. */
    setpgid(0, 0);
    /* Not SIGTERM, which Redis refuses while it writes its first file. Nothing is lost: what was
     * acknowledged is on disk. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    if (dup2(h->in_fd, 0) >= 0 && dup2(h->out_fd, 1) >= 0 && dup2(h->out_fd, 2) >= 0 &&
        (h->keep_fd < 0 || fcntl(h->keep_fd, F_SETFD, 0) == 0))
        execvp(argv[0], (char *const *)(uintptr_t)argv);
    code = errno;
    if (write(h->error_fd, &code, sizeof(code)) < 0)
        _exit(126);
    _exit(127);
}

static status exec_failed(const char *program, int code)
{
    if (code == ENOENT)
        return FAIL(ERR_NOTFOUND,
                    "%s is not installed; run `make deps` or install the package "
                    "redis-server",
                    program);
    return FAIL(ERR_IO, "can't start %s: %s", program, strerror(code));
}

/* Start a program. Errors: ERR_NOTFOUND, ERR_IO. */
static status spawn(const char *const *argv, struct handles h, pid_t *pid)
{
    int pipe_fds[2], code = 0;
    pid_t parent = getpid();
    ssize_t n;

    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return FAIL(ERR_IO, "no pipe: %s", strerror(errno));
    h.error_fd = pipe_fds[1];
    *pid = fork();
    if (*pid == 0)
        become(argv, &h, parent);
    code = errno;
    close(pipe_fds[1]);
    if (*pid < 0) {
        close(pipe_fds[0]);
        *pid = 0;
        return FAIL(ERR_IO, "no process for %s: %s", argv[0], strerror(code));
    }
    do
        n = read(pipe_fds[0], &code, sizeof(code));
    while (n < 0 && errno == EINTR);
    close(pipe_fds[0]);
    if (n != sizeof(code))
        return OK;
    waitpid(*pid, NULL, 0);
    *pid = 0;
    return exec_failed(argv[0], code);
}

/* Reaps it. self: pid_t. */
static bool has_ended(void *self)
{
    const pid_t *pid = self;
    pid_t got = waitpid(*pid, NULL, WNOHANG);

    return got == *pid || (got < 0 && errno == ECHILD);
}

/* --- the folder --- */

/* Lock the folder for a server about to be started. */
static status lock_dir(const char *dir, int *fd)
{
    char path[FILE_PATH_BYTES];
    status st = file_join(path, sizeof(path), dir, "redis.lock");

    if (st != OK)
        return st;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return file_errno(errno, path);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return OK;
    close(*fd);
    *fd = -1;
    return FAIL(ERR_CONFLICT,
                "%s is in use by another redis-server; stop it or give another "
                "folder",
                dir);
}

/* redis-check-aof would take a damaged manifest for a log, and cut it to nothing. */
static status check_manifest(const char *path)
{
    struct buf text = { 0 };
    status st = OK;

    TRY(file_read(path, LIMIT_TEXT_FILE_BYTES, &text));
    if (text.len < 5 || memcmp(text.data, "file ", 5) != 0)
        TRY(FAIL(ERR_CORRUPT,
                 "%s is damaged: it does not begin with \"file\"; restore it, or "
                 "give another folder",
                 path));
out:
    buf_free(&text);
    return st;
}

/* Run redis-check-aof, which asks before it cuts. */
static status fix_log(const char *manifest, int log_fd)
{
    const char *argv[] = { "redis-check-aof", "--fix", manifest, NULL };
    int answers[2], result = 0;
    pid_t pid = 0;
    status st = OK;

    if (pipe2(answers, O_CLOEXEC) != 0)
        return FAIL(ERR_IO, "no pipe: %s", strerror(errno));
    if (write(answers[1], "y\n", 2) != 2)
        st = FAIL(ERR_IO, "no pipe: %s", strerror(errno));
    close(answers[1]);
    if (st == OK)
        st = spawn(argv, (struct handles){ answers[0], log_fd, -1, -1 }, &pid);
    close(answers[0]);
    if (st != OK)
        return st;
    while (waitpid(pid, &result, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(result) || WEXITSTATUS(result) != 0)
        return FAIL(ERR_CORRUPT,
                    "%s: redis-check-aof can't repair the log it names; redis.log "
                    "says why",
                    manifest);
    return OK;
}

/* Repair what a crash left of the append-only file. */
static status repair(const char *dir, int log_fd)
{
    char manifest[FILE_PATH_BYTES];
    status st = OK;

    TRY(file_join(manifest, sizeof(manifest), dir, "appendonlydir/appendonly.aof.manifest"));
    if (!file_exists(manifest))
        return OK;
    TRY(check_manifest(manifest));
    TRY(fix_log(manifest, log_fd));
out:
    return st;
}

/* --- starting --- */

/* The last line of its log, for a sentence. */
static void last_line(const char *path, char *line, size_t room)
{
    FILE *f = fopen(path, "re");
    char text[300];

    snprintf(line, room, "nothing in its log");
    while (f && fgets(text, sizeof(text), f)) {
        const char *mark = strpbrk(text, "*#"); /* after pid and date */
        const char *said = mark && mark[1] == ' ' ? mark + 2 : text;
        int len = (int)strcspn(said, "\n");

        if (len > 0)
            snprintf(line, room, "%.*s", len < (int)room ? len : (int)room - 1, said);
    }
    if (f)
        fclose(f);
}

/* Does it answer PING? */
static bool answers_ping(const struct redis_child *child)
{
    static const char ping[] = "PING\r\n";
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct pollfd p = { .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .events = POLLIN };
    char reply[8] = "";
    bool is_pong = false;

    if (p.fd < 0)
        return false;
    memcpy(address.sun_path, child->socket_path, sizeof(address.sun_path));
    if (connect(p.fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(p.fd, ping, strlen(ping), MSG_NOSIGNAL) == (ssize_t)strlen(ping) &&
        poll(&p, 1, 1000) == 1 && recv(p.fd, reply, sizeof(reply) - 1, 0) > 0)
        is_pong = strncmp(reply, "+PONG", 5) == 0; /* and not -LOADING */
    close(p.fd);
    return is_pong;
}

/* Ready, or ended: then there is nothing to wait for. self: struct redis_child. */
static bool is_settled(void *self)
{
    struct redis_child *child = self;

    return answers_ping(child) || redis_child_has_ended(child);
}

static status wait_ready(struct redis_child *child, int64_t timeout_ms)
{
    bool is_over = clock_wait_for(is_settled, child, (int)timeout_ms);
    char line[200];

    if (is_over && child->pid)
        return OK;
    last_line(child->log_path, line, sizeof(line));
    if (is_over)
        return FAIL(ERR_IO, "redis-server ended at once (%s); see %s", line, child->log_path);
    return FAIL(ERR_TIMEOUT, "redis-server is not ready after %lld ms (%s); see %s",
                (long long)timeout_ms, line, child->log_path);
}

static status start_server(struct redis_child *child, const struct redis_child_config *config,
                           int log_fd, int lock_fd)
{
    char maxmemory[32];
    /* clang-format off */
    const char *argv[] = {
        "redis-server", "--port", "0", "--daemonize", "no", "--databases", "1",
        "--unixsocket", child->socket_path, "--unixsocketperm", "600",
        "--dir", config->dir, "--save", "",
        "--appendonly", "yes", "--appendfsync", "always",
        "--no-appendfsync-on-rewrite", "no", "--aof-load-truncated", "no",
        "--maxmemory", maxmemory, "--maxmemory-policy", "noeviction", NULL,
    };
    /* clang-format on */
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    status st;

    if (null_fd < 0)
        return FAIL(ERR_IO, "/dev/null: %s", strerror(errno));
    snprintf(maxmemory, sizeof(maxmemory), "%lld", (long long)config->maxmemory_bytes);
    st = spawn(argv, (struct handles){ null_fd, log_fd, lock_fd, -1 }, &child->pid);
    close(null_fd);
    return st;
}

static status fill_paths(struct redis_child *child, const struct redis_child_config *config)
{
    char path[FILE_PATH_BYTES];
    status st = OK;

    if (config->socket_path)
        snprintf(path, sizeof(path), "%s", config->socket_path);
    else
        TRY(file_join(path, sizeof(path), config->dir, "redis.sock"));
    if (path[0] != '/' || strlen(path) >= sizeof(child->socket_path))
        TRY(FAIL(ERR_BADARG,
                 "%s: a socket needs an absolute path of at most %zu bytes; use a "
                 "shorter folder",
                 path, sizeof(child->socket_path) - 1));
    memcpy(child->socket_path, path, strlen(path) + 1);
    snprintf(child->url, sizeof(child->url), "unix://%s", child->socket_path);
    TRY(file_join(child->log_path, sizeof(child->log_path), config->dir, "redis.log"));
out:
    return st;
}

status redis_child_start(struct redis_child *child, const struct redis_child_config *config)
{
    int64_t timeout_ms =
        config->ready_timeout_ms ? config->ready_timeout_ms : READY_TIMEOUT_DEFAULT_MS;
    int lock_fd = -1, log_fd = -1;
    status st = OK;

    memset(child, 0, sizeof(*child));
    TRY(fill_paths(child, config));
    TRY(file_make_dirs(config->dir));
    TRY(lock_dir(config->dir, &lock_fd));
    if (answers_ping(child))
        TRY(FAIL(ERR_CONFLICT, "another redis-server listens at %s; stop it or give another path",
                 child->socket_path));
    log_fd = open(child->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        TRY(file_errno(errno, child->log_path));
    TRY(repair(config->dir, log_fd));
    TRY(start_server(child, config, log_fd, lock_fd));
    TRY(wait_ready(child, timeout_ms));
out:
    if (log_fd >= 0)
        close(log_fd);
    if (lock_fd >= 0)
        close(lock_fd);
    if (st != OK)
        redis_child_kill(child);
    return st;
}

/* --- ending --- */

bool redis_child_has_ended(struct redis_child *child)
{
    if (child->pid > 0 && has_ended(&child->pid))
        child->pid = 0;
    return child->pid == 0;
}

void redis_child_stop(struct redis_child *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGTERM);
        if (!clock_wait_for(has_ended, &child->pid, STOP_TIMEOUT_MS)) {
            redis_child_kill(child);
            return;
        }
        unlink(child->socket_path);
    }
    child->pid = 0;
}

void redis_child_kill(struct redis_child *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        unlink(child->socket_path);
    }
    child->pid = 0;
}
