/* proxy.h - passes bytes between two ends of a connection, and does to them what networks do.
 *
 * A thread of its own serves all doors. Faults come to one connection after the other, by chance:
 * it stalls, is reset, is half open (one way passes, the other is swallowed), passes single bytes,
 * or passes everything late. Thread: the caller's, for all functions. */
#ifndef ONESTEP_TESTS_STORM_PROXY_H
#define ONESTEP_TESTS_STORM_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"

/* What is done to a connection. */
enum proxy_fault {
    PROXY_PASS = 0,
    PROXY_STALL,     /* nothing passes for a while */
    PROXY_RESET,     /* RST to both ends */
    PROXY_HALF_OPEN, /* what one end says is swallowed, until the other gives up */
    PROXY_BYTES,     /* one byte at a time */
    PROXY_DELAY,     /* each piece comes late */
    PROXY_FAULT_COUNT
};

struct proxy;

/* Start the thread. fault_every_ms: how often some connection gets a fault; 0: never. */
MUST_USE status proxy_open(struct proxy **proxy, uint64_t seed, int64_t fault_every_ms);

/* Listen at a free port of 127.0.0.1 (*port) or, when path is not NULL, at that unix socket, and
 * pass on to target: a port when it is all digits, else the path of a unix socket.
 * Errors: ERR_IO. */
MUST_USE status proxy_add(struct proxy *proxy, const char *path, const char *target, int *port);

/* No more faults; those that are being done end. */
void proxy_calm(struct proxy *proxy);

/* Faults of a kind so far. */
int64_t proxy_count(const struct proxy *proxy, enum proxy_fault fault);

/* Stop. Accepts NULL. */
void proxy_close(struct proxy *proxy);

#endif
