#include "client/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void fill_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
}

status interrupt_open(int *fd)
{
    sigset_t set;

    fill_set(&set);
    *fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (*fd < 0)
        return FAIL(ERR_IO, "signals can't be watched: %s", strerror(errno));
    sigprocmask(SIG_BLOCK, &set, NULL);
    return OK;
}

bool interrupt_take(int fd)
{
    struct signalfd_siginfo info;

    return read(fd, &info, sizeof(info)) == sizeof(info);
}

void interrupt_close(int fd)
{
    sigset_t set;

    if (fd < 0)
        return;
    /* What was seen but not taken must not strike when it is let through again. */
    while (interrupt_take(fd))
        ;
    close(fd);
    fill_set(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}
