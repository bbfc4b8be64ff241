/* credentials.h - access keys of an object store, from wherever the machine keeps them.
 *
 * The first of these that is there is used: keys given outright, an AWS credentials file, the
 * container's endpoint (ECS, EKS), the instance's metadata service (EC2, IMDSv2; only when it is
 * asked for by its address, since elsewhere nothing answers there). Keys that expire are fetched
 * anew five minutes earlier; a file is read anew when the store says that its keys have expired.
 * They are kept in memory that core dumps leave out, and wiped. No sentence holds one.
 * Thread: one at a time. */
#ifndef ONESTEP_COMMON_CREDENTIALS_H
#define ONESTEP_COMMON_CREDENTIALS_H

#include <stdbool.h>

#include "common/base/status.h"
#include "common/sigv4.h"

/* Where they may be. Strings are borrowed until credentials_open returns; NULL and "" mean none. */
struct credentials_config {
    const char *access_key, *secret_key; /* both or none */
    const char *session_token;           /* that goes with them */
    const char *file;                    /* AWS ini file */
    const char *profile;                 /* its section; default "default" */
    const char *container_path;          /* path at ECS's agent, http://169.254.170.2 */
    const char *container_url;           /* http(s) URL that answers with keys */
    const char *container_token;         /* for its Authorization header */
    const char *container_token_file;    /* a file that holds that token; read at each refresh */
    const char *instance_url;            /* "http://169.254.169.254" */
};

struct credentials {
    struct credentials_state *state; /* NULL in a zeroed struct */
};

/* Take over the settings, and get keys that are given outright or in the file.
 * Errors: ERR_BADARG naming the setting; ERR_NOTFOUND, ERR_CORRUPT for the file; ERR_NOMEM. */
MUST_USE status credentials_open(struct credentials *c, const struct credentials_config *config);

/* Wipe and close. Accepts a zeroed struct. */
void credentials_close(struct credentials *c);

/* Is there a place to get keys from? */
bool credentials_are_known(const struct credentials *c);

/* Fill in access_key, secret_key and session_token of who; "" when there is no place to get them
 * from. Borrowed until the next call. Errors: those of the file; ERR_UNAVAILABLE, ERR_TIMEOUT,
 * ERR_BADARG, ERR_CORRUPT for an endpoint. */
MUST_USE status credentials_get(struct credentials *c, struct sigv4_signer *who);

/* The store says that the keys have expired: get others next time. Can there be others? */
bool credentials_expire(struct credentials *c);

#endif
