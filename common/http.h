/* http.h - one HTTP exchange with caps, retries and a guard against private addresses.
 *
 * The only user of libcurl.
 *
 * The guard: only public addresses, only ports 80, 443, 8080 and 8443, as they are in the address
 * that is about to be connected to, at every connection and redirect.
 *
 * A client keeps its connections between requests. It never uses a proxy, cookies, netrc or an
 * environment variable. TLS certificates are always verified.
 * Up to HTTP_FLIGHT_MAX requests may be under way at once (http_start, http_wait).
 * Tried again, with full jitter: 408, 429, 500, 502, 503, 504, failed connects, resets, bodies cut
 * short, stalls. Retry-After is waited for, or ends the call when time does not allow that.
 * Never: other 4xx, 501, refused addresses, certificates that cannot be trusted. But a signed
 * request that is answered 403 by a server whose Date says that our clock is wrong is signed again
 * by that clock, once.
 * Thread: one at a time. */
#ifndef ONESTEP_COMMON_HTTP_H
#define ONESTEP_COMMON_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/sigv4.h"

#define HTTP_HEADERS_MAX 16
#define HTTP_REDIRECTS_MAX 3
#define HTTP_FLIGHT_MAX 16

/* How a client behaves. Strings are borrowed until http_open returns. 0 means the default. */
struct http_config {
    bool allow_private_hosts; /* connect to addresses that are not public, and to any port */
    bool https_only;          /* refuse http:// also for redirects */
    const char *ca_file;      /* PEM; NULL: the system's */
    int connect_timeout_ms;   /* default 10,000 */
    int stall_timeout_ms;     /* give up after this long below 1 KiB/s; default 20,000 */
    int tries_max;            /* default 5 */
    int backoff_ms;           /* longest first wait; doubles at each try; default 250 */
    int backoff_max_ms;       /* ceiling of a wait; default 10,000 */
    int retries_max;          /* retry budget; a good answer gives a tenth back; default 100 */
};

/* What to do. */
enum http_method { HTTP_NONE = 0, HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_POST, HTTP_DELETE };

/* One request. Everything is borrowed for the call. */
struct http_request {
    enum http_method method;
    const char *url;                       /* http:// or https:// */
    const char *headers[HTTP_HEADERS_MAX]; /* "Name: value", NULL-ended when fewer */
    const void *body;                      /* PUT, POST: bytes, or NULL to send body_fd */
    int body_fd;                           /* PUT, POST: read from body_offset at each try */
    uint64_t body_offset;                  /* in body_fd */
    uint64_t body_bytes;                   /* to send, of either */
    const char *body_sha256_hex;           /* for signing; NULL: of no bytes */
    const char *keep_headers;              /* prefix of the names that r->kept gets; or NULL */
    const struct sigv4_signer *sign;       /* NULL: unsigned */
    bool follow_redirects;                 /* up to HTTP_REDIRECTS_MAX, each checked; GET only */
    size_t response_bytes_max;             /* longer bodies are refused */
    int response_fd;                       /* > 0: a 2xx body is written here from offset 0 */
    int timeout_ms;                        /* for the call, tries and waits included; 0: 60,000 */
    const atomic_bool *cancel;             /* polled; or NULL */
    const atomic_llong *until_ms;          /* clock_mono_ms at which to give up, which others move
                                              while the call is under way; 0: never; or NULL */
};

/* The answer. Zero it before first use; http_response_free at the end. */
struct http_response {
    int code;            /* 200, 404, ...; the last answer's */
    struct buf body;     /* of a GET or an error; empty when it went to response_fd */
    uint64_t body_bytes; /* length received; of HEAD: Content-Length */
    char etag[128];      /* without quotes; "" when absent */
    struct buf kept;     /* "name: value\n" of keep_headers, names in lower case */
    int tries;           /* requests made, redirects not counted */
};

/* A request under way and what came of it. The caller fills q, and zeroes the rest. */
struct http_call {
    struct http_request q;
    struct http_response r;
    status st;          /* as http_do's; valid once http_wait gave the call back */
    char sentence[256]; /* that goes with it */
};

struct http {
    struct http_state *state; /* NULL in a zeroed struct */
};

/* Open a client. Errors: ERR_NOMEM, ERR_BADARG (ca_file). */
MUST_USE status http_open(struct http *h, const struct http_config *c);

/* Close. Accepts a zeroed struct. */
void http_close(struct http *h);

/* Do one request. OK means that a final answer came, whatever its code: the caller reads r->code.
 * Errors: ERR_BADARG (malformed URL, refused address or redirect, answer over response_bytes_max,
 * certificate), ERR_UNAVAILABLE (no answer, or 408/429/5xx until tries ran out), ERR_TIMEOUT,
 * ERR_CANCELLED, ERR_IO and ERR_FULL (response_fd, body_fd), ERR_NOMEM. */
MUST_USE status http_do(struct http *h, const struct http_request *q, struct http_response *r);

/* Begin a request. c is borrowed until http_wait returns it; at most HTTP_FLIGHT_MAX are under way.
 * Errors: ERR_NOMEM; everything else is in the call when it comes back. */
MUST_USE status http_start(struct http *h, struct http_call *c);

/* Work on the requests under way until one has its end, and return that; NULL when there is none.
 * With several, the order is that of their ends. */
struct http_call *http_wait(struct http *h);

/* Free body and kept headers. Accepts a zeroed struct. */
void http_response_free(struct http_response *r);

/* A status with a sentence for an answer that is not 2xx: what was asked of which URL, the code,
 * and the server's own words when it gave any. OK for 2xx.
 * Errors: 404, 410: ERR_NOTFOUND; 409, 412: ERR_CONFLICT; 507: ERR_FULL; 408, 429 and other 5xx:
 * ERR_UNAVAILABLE, but 501 and the rest: ERR_BADARG. */
MUST_USE status http_check(const struct http_request *q, const struct http_response *r);

/* "GET". Never freed. */
const char *http_method_name(enum http_method method);

/* May the guard connect to this address (a struct sockaddr of len bytes)? Public unicast only: of
 * IPv6 only 2000::/3 without 6to4, Teredo and documentation.
 * Source: IANA special-purpose address registries. */
bool http_address_is_public(const void *sockaddr, size_t len);

/* Is the port of this address (as above) one that web servers have: 80, 443, 8080, 8443? */
bool http_port_is_webs(const void *sockaddr, size_t len);

/* "libcurl/7.88.1 OpenSSL/3.0.17 ...", the libraries that are loaded. Never freed. */
const char *http_library(void);

#endif
