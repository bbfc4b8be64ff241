#include "client/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/interrupt.h"
#include "client/output.h"

/* How often the services are looked at. */
#define LOOK_MS 500

/* What the keeper says when the services are up, or can't be. */
struct report {
    status code;
    char sentence[512];
    char client_url[SERVICES_URL_ROOM];
    char log_path[FILE_PATH_BYTES];
};

static status open_log(struct services *s, struct report *r)
{
    int log_fd = -1, null_fd = -1;
    status st = OK;

    TRY(file_join(r->log_path, sizeof(r->log_path), s->state_dir, "keeper.log"));
    log_fd = open(r->log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (log_fd < 0 || null_fd < 0)
        TRY(file_errno(errno, r->log_path));
    /* Whoever waits for the end of run's output must not wait for us. */
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
out:
    if (log_fd >= 0)
        close(log_fd);
    if (null_fd >= 0)
        close(null_fd);
    return st;
}

static status keep(struct services *s, int signal_fd)
{
    status st = OK;

    for (;;) {
        struct pollfd wait = { .fd = signal_fd, .events = POLLIN };

        if (poll(&wait, 1, LOOK_MS) == 1)
            return OK;
        TRY(services_check(s));
    }
out:
    return st;
}

_Noreturn static void keeper_main(const struct services_config *config, int report_fd)
{
    struct services services = { 0 };
    struct report report = { 0 };
    int signal_fd = -1;
    bool is_heard;
    status st = OK;

    setsid();
    TRY(interrupt_open(&signal_fd));
    TRY(services_start(&services, config));
    TRY(open_log(&services, &report));
out:
    report.code = st;
    snprintf(report.sentence, sizeof(report.sentence), "%s", status_message());
    snprintf(report.client_url, sizeof(report.client_url), "%s", services.client_url);
    is_heard = write(report_fd, &report, sizeof(report)) == (ssize_t)sizeof(report);
    close(report_fd);
    if (st == OK && is_heard)
        st = keep(&services, signal_fd);
    if (st != OK && is_heard)
        output_note("%s", status_message());
    services_stop(&services);
    _exit(status_exit_code(st));
}

status keeper_start(struct keeper *k, const struct services_config *config, int interrupt_fd)
{
    struct report report = { 0 };
    int pipe_fds[2];
    ssize_t got;
    pid_t pid;

    memset(k, 0, sizeof(*k));
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return FAIL(ERR_IO, "a pipe can't be made: %s", strerror(errno));
    pid = fork();
    if (pid == 0) {
        close(pipe_fds[0]);
        close(interrupt_fd);
        keeper_main(config, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    got = pid > 0 ? read(pipe_fds[0], &report, sizeof(report)) : 0;
    close(pipe_fds[0]);
    if (pid < 0)
        return FAIL(ERR_NOMEM, "no process for the services: %s", strerror(errno));
    k->pid = pid;
    if (got == (ssize_t)sizeof(report) && report.code == OK) {
        snprintf(k->client_url, sizeof(k->client_url), "%s", report.client_url);
        snprintf(k->log_path, sizeof(k->log_path), "%s", report.log_path);
        return OK;
    }
    waitpid(pid, NULL, 0);
    k->pid = 0;
    if (got != (ssize_t)sizeof(report))
        return FAIL(ERR_IO, "the process that keeps the services up has ended at its start");
    return FAIL(report.code, "%s", report.sentence);
}

status keeper_check(struct keeper *k)
{
    int wait_status;

    if (k->pid == 0 || waitpid(k->pid, &wait_status, WNOHANG) != k->pid)
        return OK;
    k->pid = 0;
    return services_fail_ended("onestep", k->log_path, wait_status);
}

void keeper_stop(struct keeper *k)
{
    if (k->pid == 0)
        return;
    kill(k->pid, SIGTERM);
    waitpid(k->pid, NULL, 0);
    k->pid = 0;
}
