/* httpd.h - a small HTTP and S3 server on loopback, for tests: objects in memory, faults on demand.
 *
 *   struct httpd d;
 *   httpd_start(&d, &(struct httpd_config){ 0 });
 *   httpd_store(&d, "/photo.jpg", bytes, len);
 *   httpd_fault(&d, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 503, .count = 2 });
 *   ... http://127.0.0.1:<d.port>/photo.jpg answers 503 twice, then the bytes
 *   httpd_stop(&d);
 *
 * GET, HEAD, PUT, DELETE; keep-alive, Expect: 100-continue, If-None-Match: *, x-amz-meta-. With
 * keys it speaks S3 (also lists, and uploads in parts) and refuses a request whose SigV4 signature
 * is not the one that its own implementation arrives at.
 * Whatever fails in here ends the test. Thread: any. */
#ifndef ONESTEP_TESTS_TOOL_HTTPD_H
#define ONESTEP_TESTS_TOOL_HTTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

/* What the server asks of its clients. */
struct httpd_config {
    const char *access_key, *secret_key; /* NULL: requests need no signature */
    const char *session_token;           /* wanted in x-amz-security-token; NULL: none */
    const char *region;                  /* of the signature; NULL: "us-east-1" */
    int64_t clock_ahead_ms;     /* of its clock; it takes what differs 15 minutes at most */
    bool ignores_if_none_match; /* as some relatives of S3 do */
    bool ignores_sha256;        /* does not compare a body with X-Amz-Content-Sha256 */
};

struct httpd {
    struct httpd_state *state;
    int port; /* on 127.0.0.1 */
};

/* How a server can go wrong. */
enum httpd_fault_kind {
    HTTPD_NO_FAULT = 0,
    HTTPD_STATUS,     /* answer code with the header header, do nothing else */
    HTTPD_RESET,      /* reset the connection instead of an answer */
    HTTPD_CUT,        /* reset the connection when half of the request's body has come */
    HTTPD_LOST,       /* do what was asked, then reset instead of answering */
    HTTPD_STALL,      /* never answer */
    HTTPD_SHORT_BODY, /* announce the whole body, send half of it, close */
    HTTPD_TRICKLE,    /* send the head and one byte, then nothing */
    HTTPD_WRONG_ETAG, /* do what was asked, and name the ETag of something else */
    HTTPD_ENDLESS,    /* send a body that has no end */
    HTTPD_CHUNKED,    /* send the body without its length, in chunks */
};

/* What is to happen to the next count requests. */
struct httpd_fault {
    enum httpd_fault_kind kind;
    int count;          /* requests; 0: all from now on */
    int code;           /* for HTTPD_STATUS */
    const char *header; /* HTTPD_STATUS, HTTPD_WRONG_ETAG: "Name: value", or NULL; copied */
    const char *error;  /* for HTTPD_STATUS: code of an S3 error, or NULL; not copied */
    const char *body;   /* for HTTPD_STATUS: what is said, or NULL; not copied */
    const char *only;   /* requests that begin with it, "POST /b/k"; NULL: all; not copied */
};

/* Listen on a free port of 127.0.0.1. */
void httpd_start(struct httpd *d, const struct httpd_config *c);

/* Close every connection and wait for the threads. Accepts a stopped one. */
void httpd_stop(struct httpd *d);

/* Put an object at path (as in a request line, escaped). Strings are copied. */
void httpd_store(struct httpd *d, const char *path, const void *bytes, size_t len);

/* Append the object at path to out; is there one? */
bool httpd_stored(struct httpd *d, const char *path, struct buf *out);

/* How many PUTs of the object at path were answered by 200, those of its parts not counted. */
int httpd_puts(struct httpd *d, const char *path);

/* Answer 302 to this address for path. */
void httpd_redirect(struct httpd *d, const char *path, const char *to);

/* Replace the fault. */
void httpd_fault(struct httpd *d, const struct httpd_fault *f);

/* Whole requests that have come in, and those that were cut. */
int httpd_requests(const struct httpd *d);

/* Objects that are there, parts of unfinished uploads included. */
int httpd_objects(const struct httpd *d);

/* Head of the last request, from its first line on. */
void httpd_last_head(const struct httpd *d, char *dst, size_t room);

/* The parts of a request that AWS Signature Version 4 covers. */
struct httpd_signed {
    const char *method;     /* "GET" */
    const char *target;     /* path and query as in the request line */
    const char *headers;    /* "Name: value\r\n" lines */
    const char *body_hash;  /* the value of x-amz-content-sha256 */
    const char *access_key; /* that the caller trusts */
    const char *secret_key; /* of access_key */
    const char *region;
};

/* NULL when the Authorization header in r->headers is right for r, otherwise what is wrong with it.
 * Source: AWS, "Signature Version 4 signing process" and "Authenticating Requests: Using the
 * Authorization Header"; written from there, sharing nothing with the code under test. */
const char *httpd_check_signature(const struct httpd_signed *r);

#endif
