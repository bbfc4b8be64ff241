/* keeper.h - a process that keeps the services of `onestep run --keep` up after run has ended.
 *
 * It has no terminal, starts again what dies by accident, and stops all of it on SIGTERM.
 * Thread: the process' first, before it has others. */
#ifndef ONESTEP_CLIENT_KEEPER_H
#define ONESTEP_CLIENT_KEEPER_H

#include "client/services.h"

/* A zeroed struct is none. */
struct keeper {
    pid_t pid;                          /* 0: none */
    char client_url[SERVICES_URL_ROOM]; /* address for clients */
    char log_path[FILE_PATH_BYTES];     /* what it says once all is up */
};

/* Start the process and wait until it has started the services. interrupt_fd is closed in it.
 * Errors: those of services_start; ERR_IO, ERR_NOMEM. */
MUST_USE status keeper_start(struct keeper *k, const struct services_config *config,
                             int interrupt_fd);

/* Is it still there? Errors: what it ended with. */
MUST_USE status keeper_check(struct keeper *k);

/* Let it stop the services, and wait for that. Accepts a zeroed struct. */
void keeper_stop(struct keeper *k);

#endif
