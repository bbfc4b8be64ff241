/* sigv4.h - AWS Signature Version 4: a request's Authorization header, or a presigned URL.
 *
 * Both come from one canonical form: the path is taken apart at its % escapes and escaped anew,
 * once and strictly (all but A-Z a-z 0-9 - . _ ~ /); so is the query, which is then sorted by name
 * and value; headers go in lower case, sorted by name only, their blanks collapsed, and those with
 * one name joined by commas in their order. Nothing is done to "..", "." or empty parts of a path:
 * to S3 they are parts of a key.
 * CAREFUL: what is sent must be what was signed, so the caller requests sigv4_signed.url and not
 * its own spelling of it, and sends each header of the list as it gave it.
 * Source: AWS, "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API reference.
 * Thread: any; a struct sigv4_cache belongs to one thread at a time. */
#ifndef ONESTEP_COMMON_SIGV4_H
#define ONESTEP_COMMON_SIGV4_H

#include <stdint.h>

#include "common/base/status.h"
#include "common/digest.h"
#include "common/url.h"

/* What S3 takes in place of a digest when a body is not covered. */
#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
/* Query parameters and headers of one request; more is ERR_BADARG. */
#define SIGV4_PARAMS_MAX 128
#define SIGV4_HEADERS_MAX 48
/* An escaped path and query may be three times as long as what was asked for. */
#define SIGV4_URL_ROOM (4 * URL_ROOM + 8192)
/* Presigned URLs live a week at most. */
#define SIGV4_SECONDS_MAX 604800

/* Who signs, and for which service where. Borrowed. */
struct sigv4_signer {
    const char *access_key, *secret_key;
    const char *session_token; /* NULL or "": none */
    const char *region;        /* "us-east-1" */
    const char *service; /* "s3"; of any other, the payload's digest is not sent as a header */
};

/* The key that a day's signatures share. Zeroed: none yet. Holds a secret: keep it in memory of
 * common/base/secret. */
struct sigv4_cache {
    uint8_t made_of[DIGEST_BYTES]; /* digest of secret, day, region and service */
    uint8_t key[DIGEST_BYTES];
};

/* What is to be signed. Borrowed. */
struct sigv4_request {
    const char *method;         /* "GET" */
    const struct url *url;      /* http or https */
    const char *const *headers; /* NULL-ended "Name: value" lines, without Host; or NULL */
    const char *payload;        /* SHA-256 in hex, or SIGV4_UNSIGNED; NULL: of no bytes */
    int64_t wall_ms;            /* now, by the server's clock */
};

/* What is to be sent. */
struct sigv4_signed {
    char url[SIGV4_URL_ROOM]; /* the canonical spelling of the request's */
    char date[17];            /* value of X-Amz-Date */
    char payload[65];         /* value of X-Amz-Content-Sha256 */
    char authorization[2048]; /* value of Authorization */
};

/* Sign with a header. cache may be NULL. The caller also sends X-Amz-Date, X-Amz-Content-Sha256 (of
 * s3), X-Amz-Security-Token (when there is a token): they are covered, and must not be among
 * q->headers. Errors: ERR_BADARG for a request beyond the limits, with a malformed header or one of
 * those; ERR_NOMEM. */
MUST_USE status sigv4_sign(struct sigv4_cache *cache, const struct sigv4_signer *who,
                           const struct sigv4_request *q, struct sigv4_signed *out);

/* A URL that anybody may use for seconds. q->headers must then be sent as they are; q->payload is
 * NULL for SIGV4_UNSIGNED. Errors: as sigv4_sign; ERR_BADARG when dst is too small. */
MUST_USE status sigv4_presign(struct sigv4_cache *cache, const struct sigv4_signer *who,
                              const struct sigv4_request *q, int seconds, char *dst, size_t room);

#endif
