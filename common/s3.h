/* s3.h - where an object store is and how to speak to it: settings, addresses, credentials.
 *
 * Shared by fetch and blob. Requests are signed with SigV4 by common/http.
 * Thread: any; struct s3 is read-only after s3_open. */
#ifndef ONESTEP_COMMON_S3_H
#define ONESTEP_COMMON_S3_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"
#include "common/sigv4.h"
#include "common/url.h"

/* As configured. Strings are borrowed until s3_open returns; NULL and "" mean the default. */
struct s3_config {
    const char *endpoint;         /* http(s)://host[:port]; default AWS, by region */
    const char *region;           /* default "us-east-1" */
    bool path_style;              /* endpoint/bucket/key instead of bucket.endpoint/key */
    const char *access_key;       /* usually AWS_ACCESS_KEY_ID, handed in by config */
    const char *secret_key;       /* AWS_SECRET_ACCESS_KEY */
    const char *session_token;    /* AWS_SESSION_TOKEN; optional */
    const char *credentials_file; /* AWS ini file, [default]; read without access_key */
};

struct s3 {
    struct url endpoint;  /* path "" */
    char region[64];      /* of the signature */
    bool path_style;      /* see s3_config */
    char access_key[256]; /* "" while no credentials are known: requests go unsigned */
    char secret_key[256]; /* never logged */
    char token[4096];     /* session token; "" when there is none */
};

/* Check c and keep copies. Errors: ERR_BADARG naming the setting; ERR_NOTFOUND, ERR_CORRUPT for
 * the credentials file. */
MUST_USE status s3_open(struct s3 *s, const struct s3_config *c);

/* Forget the secrets. Accepts a zeroed struct. */
void s3_close(struct s3 *s);

/* The http(s) address of an object. bucket: a bucket's name; key: not escaped.
 * Errors: ERR_BADARG for a bad bucket or when dst is too small. */
MUST_USE status s3_address(const struct s3 *s, const char *bucket, const char *key, char *dst,
                           size_t room);

/* Who signs requests to it; access_key is "" without credentials. Borrows from s. */
struct sigv4_signer s3_signer(const struct s3 *s);

/* Is name a valid bucket: 3 to 63 of a-z 0-9 . -, starting and ending with a letter or digit? */
bool s3_is_bucket(const char *name);

#endif
