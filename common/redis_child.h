/* redis_child.h - a private redis-server on a unix socket, for `onestep run` and for tests.
 *
 * Durable: every write is in the append-only file before it is acknowledged, and a file whose end
 * was torn by a crash is repaired before the server reads it. The server dies with the thread that
 * started it. Thread: the starter's. */
#ifndef ONESTEP_COMMON_REDIS_CHILD_H
#define ONESTEP_COMMON_REDIS_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/status.h"

/* Where the server works; strings are borrowed for redis_child_start. */
struct redis_child_config {
    const char *dir;          /* data folder, made when missing; redis.log is in it */
    const char *socket_path;  /* absolute, at most 107 bytes; NULL: DIR/redis.sock */
    int64_t maxmemory_bytes;  /* 0: no limit */
    int64_t ready_timeout_ms; /* longest wait until it answers; 0: 30000 */
};

struct redis_child {
    pid_t pid;             /* 0: not running */
    char socket_path[108]; /* where it listens */
    char url[128];         /* for redis_url: "unix://" and the socket's path */
    char log_path[512];    /* what it says */
};

/* Start it and wait until it answers.
 * Errors: ERR_NOTFOUND when redis-server is not installed; ERR_CONFLICT when another server uses
 * the folder or the socket; ERR_CORRUPT when its file can't be repaired; ERR_IO, ERR_FULL,
 * ERR_TIMEOUT. */
MUST_USE status redis_child_start(struct redis_child *child,
                                  const struct redis_child_config *config);

/* Has it ended by itself? Reaps it; pid is then 0. */
bool redis_child_has_ended(struct redis_child *child);

/* End it with SIGTERM, after 5 s with SIGKILL, and remove its socket. Accepts a zeroed struct. */
void redis_child_stop(struct redis_child *child);

/* End it with SIGKILL, as a crash would; for tests. Accepts a zeroed struct. */
void redis_child_kill(struct redis_child *child);

#endif
