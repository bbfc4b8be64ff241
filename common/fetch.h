/* fetch.h - get the bytes of a job's input: file://, http(s):// or s3://.
 *
 * The URL comes from a stranger. A file is opened only below an input root, without following "..",
 * links out of it or magic links. An http(s) host is refused when the address it resolves to is
 * loopback, private, link-local, multicast or otherwise not public, or the port is not one of the
 * web's, at every connection and every redirect, unless allow_private_hosts. Size and time are
 * capped, and what is not of the wanted kind is refused. What came over the network is kept in a
 * cache (common/cache.h), files are not.
 * Thread: one at a time; a worker's io thread owns it. */
#ifndef ONESTEP_COMMON_FETCH_H
#define ONESTEP_COMMON_FETCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/cache.h"
#include "common/s3.h"

#define FETCH_TIMEOUT_MS_DEFAULT 60000
#define FETCH_ROOTS_MAX 8

/* Strings are borrowed until fetch_open returns. */
struct fetch_config {
    const char *input_root;    /* directories that file:// may read, with ":" between; NULL or "":
                                 file:// is refused */
    bool allow_private_hosts;  /* let http(s) URLs name hosts that are not public, and any port */
    const char *ca_file;       /* certificates for https in PEM; NULL: the system's */
    struct s3_config s3;       /* for s3:// URLs */
    size_t max_bytes;          /* of one input; 0: LIMIT_IMAGE_BYTES */
    int timeout_ms;            /* for one input, retries included; 0: FETCH_TIMEOUT_MS_DEFAULT */
    struct cache_config cache; /* dir NULL or "": none */
    /* Is this, from the network, an input of the kind that jobs have? NULL: everything is. */
    bool (*is_wanted)(const void *bytes, size_t len);
    const char *wanted; /* for the sentence: "a JPEG, ... or GIF image"; with is_wanted */
};

struct fetch {
    struct fetch_state *state; /* NULL in a zeroed struct */
    const atomic_bool *cancel; /* set by the caller between calls, polled in them; or NULL */
};

/* Open. Errors: ERR_BADARG (a bad setting), ERR_NOTFOUND (input_root), ERR_NOMEM. */
MUST_USE status fetch_open(struct fetch *f, const struct fetch_config *c);

/* Close. Accepts a zeroed struct. */
void fetch_close(struct fetch *f);

/* Append the bytes that url names to out, whose max_bytes is raised as needed.
 * Errors: ERR_BADARG (malformed URL, outside the roots, private host, odd port, too large, access
 * denied), ERR_CORRUPT (not of the wanted kind), ERR_NOTFOUND, ERR_IO, ERR_UNAVAILABLE,
 * ERR_TIMEOUT, ERR_CANCELLED, ERR_NOMEM; out is then reset. */
MUST_USE status fetch_get(struct fetch *f, const char *url, struct buf *out);

#endif
