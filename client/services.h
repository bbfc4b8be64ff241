/* services.h - the services of `onestep run`: a private Redis, a broker and a worker.
 *
 * Everything durable (queue, logs, a lock) is in OUT/.onestep; the sockets are in a folder of their
 * own, since the path of a socket must be short. The services die with this process. One of them
 * that dies by accident is started again, once each; jobs survive that.
 * Thread: the process' first, before and while it has others. */
#ifndef ONESTEP_CLIENT_SERVICES_H
#define ONESTEP_CLIENT_SERVICES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/file.h"
#include "common/redis_child.h"
#include "common/url.h"

#define SERVICES_ARGS_MAX 32
/* Room for the folder of sockets: with "/client.sock" it must fit into sockaddr_un's 108 bytes. */
#define SERVICES_DIR_ROOM 96
/* Room for an ipc:// address in it. */
#define SERVICES_URL_ROOM 128

/* What is to be started. Strings are borrowed until services_stop. */
struct services_config {
    const char *out;    /* absolute folder of results */
    const char *model;  /* folder of the checkpoint */
    const char *device; /* of the worker */
    int64_t threads;    /* of the worker; 0: its own choice */
    const char *dump;   /* absolute folder for intermediate tensors; "": none */
};

/* One program that was started. */
struct service {
    const char *name;                    /* of the program */
    pid_t pid;                           /* 0: not running */
    char path[FILE_PATH_BYTES];          /* of the program; without a slash: to be found in PATH */
    char log_path[FILE_PATH_BYTES];      /* its standard error */
    const char *argv[SERVICES_ARGS_MAX]; /* NULL-ended; borrowed from struct services */
    int restarts_left;
};

/* A zeroed struct is stopped. CAREFUL: it must not be moved while running. */
struct services {
    struct services_config config;
    char state_dir[FILE_PATH_BYTES];    /* OUT/.onestep */
    char run_dir[SERVICES_DIR_ROOM];    /* folder of the sockets; "": not made */
    char client_url[SERVICES_URL_ROOM]; /* ipc:// address for clients */
    char worker_url[SERVICES_URL_ROOM]; /* ipc:// address for workers */
    char redis_dir[FILE_PATH_BYTES];
    char blob_url[URL_ROOM]; /* file:// address of OUT */
    char work_dir[FILE_PATH_BYTES];
    char threads[24];
    int lock_fd; /* held while running; 0: none */
    struct redis_child redis;
    int redis_restarts_left;
    struct service broker, worker;
};

/* Start all three. The broker may still be on its way to its first answer, and the worker may still
 * load its model, or fail at it: services_check tells.
 * Errors: ERR_CONFLICT when another run uses OUT; ERR_NOTFOUND when a program is missing; ERR_FULL,
 * ERR_IO; those of redis_child_start. Nothing is left running then. */
MUST_USE status services_start(struct services *s, const struct services_config *config);

/* Has one ended? It is started again if that may help and was not done before.
 * Errors: the status and the sentence that the service ended with. */
MUST_USE status services_check(struct services *s);

/* Stop all and remove the sockets. Accepts a zeroed struct. */
void services_stop(struct services *s);

/* The failure of a program that has ended with this status of waitpid: its own exit code and
 * sentence, when the last line of its log is "NAME: SENTENCE", or what can be said about it. */
MUST_USE status services_fail_ended(const char *name, const char *log_path, int wait_status);

/* The folder in which this program lies. Errors: ERR_IO, ERR_BADARG. */
MUST_USE status services_own_folder(char *dst, size_t room);

#endif
