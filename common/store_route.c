#include "common/store_route.h"

#include <stdio.h>
#include <string.h>

#include "common/base/check.h"

static status bad_list(const char *url)
{
    return FAIL(ERR_BADARG,
                "redis_url: \"%.100s\" is not redis://HOST:PORT[,HOST:PORT...][/DB], "
                "unix:///PATH[?db=N] or sentinel://HOST:PORT[,HOST:PORT...]/MASTER",
                url);
}

/* Add every HOST:PORT of list with this scheme and the database of suffix, "" or "/DB". */
static status add_seeds(struct store_route *route, const char *scheme, const char *list,
                        const char *suffix)
{
    size_t len = strcspn(list, "/");
    status st = OK;

    for (const char *end = list + len; list < end;) {
        size_t part = strcspn(list, ",/");
        char url[320];

        if (route->seed_count == STORE_SEEDS_MAX)
            return FAIL(ERR_BADARG, "redis_url: more than %d servers", STORE_SEEDS_MAX);
        if (part == 0 || part > 256)
            return bad_list(list);
        snprintf(url, sizeof(url), "%s%.*s%.16s", scheme, (int)part, list, suffix);
        TRY(redis_parse_url(&route->seeds[route->seed_count], url));
        route->seed_count++;
        list += part;
        if (*list == ',')
            list++;
    }
out:
    return st;
}

status store_route_parse(struct store_route *route, const char *url)
{
    bool has_sentinels = strncmp(url, "sentinel://", 11) == 0;
    const char *scheme = strncmp(url, "rediss://", 9) == 0 ? "rediss://" : "redis://";
    const char *list = url + (has_sentinels ? 11 : strlen(scheme));
    status st = OK;

    memset(route, 0, sizeof(*route));
    if (!has_sentinels && (strncmp(url, scheme, strlen(scheme)) != 0 || !strchr(url, ','))) {
        TRY(redis_parse_url(&route->seeds[0], url));
        route->seed_count = 1;
    } else {
        size_t len = strcspn(list, "/");

        if (has_sentinels) {
            size_t name = list[len] ? strlen(list + len + 1) : 0;

            if (name == 0 || name >= sizeof(route->master))
                return bad_list(url);
            memcpy(route->master, list + len + 1, name);
        }
        TRY(add_seeds(route, scheme, list, has_sentinels ? "" : list + len));
    }
    if (route->seed_count == 0)
        return bad_list(url);
    route->db = route->seeds[0].db;
out:
    return st;
}

const struct redis_address *store_route_pick(const struct store_route *route, bool *is_sentinel)
{
    *is_sentinel = route->master[0] && !route->has_target;
    CHECK(route->next < route->seed_count);
    return route->has_target ? &route->target : &route->seeds[route->next];
}

static void set_target(struct store_route *route, const char *host, int port)
{
    struct redis_address *a = &route->target;

    memset(a, 0, sizeof(*a));
    snprintf(a->host, sizeof(a->host), "%s", host);
    a->port = port;
    a->db = route->db;
    a->is_tls = route->seeds[0].is_tls;
    snprintf(a->label, sizeof(a->label), "%s:%d", a->host, a->port);
    route->has_target = true;
}

status store_route_move(struct store_route *route, const char *moved)
{
    char host[200];
    int slot, port;

    /* An empty host means: the one that you asked. */
    if (sscanf(moved, "MOVED %d %199[^: ]:%d", &slot, host, &port) != 3 || port < 1 || port > 65535)
        return FAIL(ERR_CORRUPT, "Redis redirects with \"%.60s\"", moved);
    set_target(route, host, port);
    return OK;
}

status store_route_name(struct store_route *route, const struct redis_value *answer)
{
    const char *host = redis_text(redis_at(answer, 0), NULL);
    int64_t port = redis_int(redis_at(answer, 1));

    if (redis_count(answer) != 2 || !*host || port < 1 || port > 65535)
        return FAIL(ERR_UNAVAILABLE, "the sentinel at %s knows no master called %s; see redis_url",
                    route->seeds[route->next].label, route->master);
    set_target(route, host, (int)port);
    return OK;
}

void store_route_fail(struct store_route *route)
{
    route->has_target = false;
    route->next = (route->next + 1) % route->seed_count;
}
