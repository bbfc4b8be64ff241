/* s3.h - where an object store is and how to speak to it: settings, addresses, credentials.
 *
 * Shared by fetch and blob. Requests are signed with SigV4 by common/http.
 * Thread: one at a time, for the sake of credentials that are renewed. */
#ifndef ONESTEP_COMMON_S3_H
#define ONESTEP_COMMON_S3_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"
#include "common/credentials.h"
#include "common/url.h"

/* As configured. Strings are borrowed until s3_open returns; NULL and "" mean the default. */
struct s3_config {
    const char *endpoint; /* http(s)://host[:port]; default AWS, by region */
    const char *region;   /* default "us-east-1" */
    bool path_style;      /* endpoint/bucket/key instead of bucket.endpoint/key */
    struct credentials_config credentials;
};

struct s3 {
    struct url endpoint; /* path "" */
    char region[64];     /* of the signature */
    bool path_style;     /* see s3_config */
    struct credentials credentials;
};

/* Fill in what c->credentials leaves open from the variables that AWS's own tools read: keys, token
 * and profile; the file, and the container's endpoint. The instance's is asked when
 * AWS_EC2_METADATA_SERVICE_ENDPOINT names it. Borrowed from the environment. */
void s3_config_from_env(struct s3_config *c);

/* Wipe the secrets among these variables from the environment: for a program that has opened its
 * stores and starts no other that needs them. */
void s3_wipe_env(void);

/* Check c and keep copies. Errors: ERR_BADARG naming the setting; ERR_NOTFOUND, ERR_CORRUPT for
 * the credentials file. */
MUST_USE status s3_open(struct s3 *s, const struct s3_config *c);

/* Forget the secrets. Accepts a zeroed struct. */
void s3_close(struct s3 *s);

/* The http(s) address of an object. bucket: a bucket's name; key: not escaped.
 * Errors: ERR_BADARG for a bad bucket or when dst is too small. */
MUST_USE status s3_address(const struct s3 *s, const char *bucket, const char *key, char *dst,
                           size_t room);

/* Who signs requests to it; access_key is "" without credentials. Borrows from s until the next
 * call. Errors: those of credentials_get. */
MUST_USE status s3_signer(struct s3 *s, struct sigv4_signer *who);

/* Is name a valid bucket: 3 to 63 of a-z 0-9 . -, starting and ending with a letter or digit? */
bool s3_is_bucket(const char *name);

#endif
