/* cache.h - fetched bytes on disk, so that a thousand jobs on one image fetch it once.
 *
 * Content lies under its SHA-256, which is checked at every reading; an index says which name (a
 * URL) had which content, when, and with which ETag. Within fresh_ms a name is not asked for again;
 * later its source is asked whether the content is still the same. Of many threads and processes
 * that want one name at the same time, one fetches and the others wait for it. When there are more
 * than bytes_max bytes, those that were not used for longest are deleted.
 *
 *   DIR/data/<sha256>   content; its time is that of the last use
 *   DIR/name/<sha256 of the name>   "<sha256> <etag>"; its time is that of the last fetch
 *   DIR/lock/<3 digits>   locked while a name that begins so is being fetched
 *
 * A cache that can't be written is told in the log, and costs time only.
 * Thread: any; a folder may be shared by any number of processes of one user. */
#ifndef ONESTEP_COMMON_CACHE_H
#define ONESTEP_COMMON_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/status.h"

#define CACHE_ETAG_ROOM 128

/* How to keep. dir is borrowed until cache_open returns. */
struct cache_config {
    const char *dir;    /* made when it is missing, for this user alone */
    uint64_t bytes_max; /* of content */
    int64_t fresh_ms;   /* how long content is taken for the newest without asking */
};

/* An open cache. A zeroed struct is closed. */
struct cache {
    char dir[FILE_PATH_BYTES];
    uint64_t bytes_max;
    int64_t fresh_ms;
    bool is_open;
};

/* Where content comes from. */
struct cache_source {
    void *self;
    /* Append the content to out and its ETag ("" for none) to etag. etag comes in as what the cache
     * has, or ""; when that is still right *is_same is set and nothing is appended. */
    status (*fetch)(void *self, struct buf *out, char etag[CACHE_ETAG_ROOM], bool *is_same);
    const atomic_bool *cancel; /* polled while another fetches; or NULL */
    int wait_ms;               /* for another to fetch; then this one fetches as well */
};

/* Open. Errors: ERR_IO, ERR_FULL naming the folder; ERR_BADARG when others may write there. */
MUST_USE status cache_open(struct cache *c, const struct cache_config *config);

/* Accepts a zeroed struct. */
void cache_close(struct cache *c);

/* Append what name stands for to out. Errors: those of source->fetch; ERR_CANCELLED; ERR_NOMEM and
 * ERR_FULL of out. */
MUST_USE status cache_get(struct cache *c, const char *name, const struct cache_source *source,
                          struct buf *out);

#endif
