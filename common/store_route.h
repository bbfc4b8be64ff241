/* store_route.h - which Redis to talk to: one server, the master that Sentinel names, or the node
 * of a Cluster that has our slot. Private to common/store.c.
 *
 * The address changes under way: Redis says MOVED, Sentinel names another master, a server is gone.
 * Thread: the store's owner. */
#ifndef ONESTEP_COMMON_STORE_ROUTE_H
#define ONESTEP_COMMON_STORE_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/redis.h"

/* Servers in a redis_url. */
#define STORE_SEEDS_MAX 8

struct store_route {
    struct redis_address seeds[STORE_SEEDS_MAX]; /* of redis_url: servers, or sentinels */
    size_t seed_count;
    size_t next;     /* seed to be tried next */
    char master[64]; /* name of the master that the sentinels watch; "": no sentinels */
    int db;          /* of redis_url */
    bool has_target; /* target is known: from Sentinel, or from MOVED */
    struct redis_address target;
};

/* Read redis_url: redis://HOST:PORT[,HOST:PORT...][/DB], unix:///PATH[?db=N] or
 * sentinel://HOST:PORT[,HOST:PORT...]/MASTER. Errors: ERR_BADARG. */
MUST_USE status store_route_parse(struct store_route *route, const char *url);

/* The address to connect to now; *is_sentinel: to ask it for the master, not to work with. */
const struct redis_address *store_route_pick(const struct store_route *route, bool *is_sentinel);

/* The server said "MOVED SLOT HOST:PORT": go there. Errors: ERR_CORRUPT. */
MUST_USE status store_route_move(struct store_route *route, const char *moved);

/* A sentinel has answered who the master is. Errors: ERR_UNAVAILABLE when it does not know. */
MUST_USE status store_route_name(struct store_route *route, const struct redis_value *answer);

/* The address is of no use: another one next time. */
void store_route_fail(struct store_route *route);

#endif
