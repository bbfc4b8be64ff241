/* workdir.h - a private folder for clips from their first frame until they are stored.
 *
 * A worker that is killed, or that ends while the store is down, leaves its folder behind; the next
 * one that starts on the same base takes its finished clips (worker/spool.h) and removes it. A lock
 * on the folder says that its owner lives. */
#ifndef ONESTEP_WORKER_WORKDIR_H
#define ONESTEP_WORKER_WORKDIR_H

#include <stdbool.h>

#include "common/base/file.h"
#include "common/base/status.h"

struct workdir {
    char path[FILE_PATH_BYTES]; /* base/onestep-worker-XXXXXX */
    int fd;                     /* of the folder, locked; valid while is_open */
    bool is_open;               /* there is something to remove */
};

/* Make a folder below base, move there what dead workers of this user finished, and remove what
 * else they left; base is made when it is missing. Errors: ERR_IO, ERR_FULL, ERR_NOTFOUND naming
 * the path. */
MUST_USE status workdir_open(struct workdir *w, const char *base);

/* Remove the folder with all files in it, unless there are finished clips in it. Accepts a zeroed
 * struct. */
void workdir_close(struct workdir *w);

#endif
