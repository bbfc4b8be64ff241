/* handover.h - bring a published video to the address that its user gave with the job (put_url).
 *
 * One plain PUT to a presigned URL, for users who have storage of their own and give nobody keys.
 * The URL comes from a stranger, so the guard of common/http applies as to inputs: public addresses
 * and the web's ports only, unless allow_private_hosts; redirects are not followed. It is a secret:
 * sentences show it without its query.
 * A header that a signature does not cover may be added to a URL of Signature Version 4, but not
 * to one of Version 2, which covers the Content-Type: the video's type goes with the former only.
 * Thread: one at a time. */
#ifndef ONESTEP_WORKER_HANDOVER_H
#define ONESTEP_WORKER_HANDOVER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "common/digest.h"
#include "common/http.h"

/* Tries, each of several requests, before the job fails for its address. */
#define HANDOVER_TRIES_MAX 6

/* Strings are borrowed until handover_open returns. */
struct handover_config {
    bool allow_private_hosts; /* connect to addresses that are not public, and to any port */
    const char *ca_file;      /* certificates for https in PEM; NULL: the system's */
};

struct handover {
    struct http http;             /* owned */
    const atomic_llong *until_ms; /* as of struct http_request; the caller's, between calls */
};

/* A file to bring. Borrowed. */
struct handover_file {
    const char *path;         /* on disk */
    const char *content_type; /* "video/mp4" */
    const uint8_t *sha256;    /* of its content, DIGEST_BYTES */
};

/* Open. Errors: those of http_open. */
MUST_USE status handover_open(struct handover *h, const struct handover_config *c);

/* Accepts a zeroed struct. */
void handover_close(struct handover *h);

/* Can anything be brought to this address? Asks nobody. Errors: ERR_BADARG. */
MUST_USE status handover_check(const char *url);

/* PUT the file there; the ETag of the answer, where it is an MD5, must be the file's. A second time
 * does no harm. Sentences begin with "put_url: ".
 * Errors: ERR_BADARG (the URL, a refused address, 403: not or no longer permitted, a redirect),
 * ERR_NOTFOUND, ERR_CONFLICT, ERR_FULL, ERR_IO (other bytes arrived), ERR_CORRUPT (the file is not
 * what sha256 says), ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_CANCELLED, ERR_NOMEM. */
MUST_USE status handover_put(struct handover *h, const char *url, const struct handover_file *f,
                             const atomic_bool *cancel);

#endif
