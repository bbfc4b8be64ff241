/* store_priv.h - how calls of the store become commands and replies become answers. */
#ifndef ONESTEP_COMMON_STORE_PRIV_H
#define ONESTEP_COMMON_STORE_PRIV_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/redis.h"
#include "common/store.h"

/* STATUS has the most arguments: its ids and the words before them. */
#define STORE_ARGS_MAX (LIMIT_JOBS_PER_MSG + 8)
#define STORE_TAG "{00}" /* hash tag of the only shard */

/* The two loaded forms of the library. Both are the same text; only the second may run when Redis
 * has reached its memory limit, so that new jobs are refused then and running ones still end. */
struct store_scripts {
    bool are_functions;
    char submit[64]; /* name of the function, or SHA-1 of the script */
    char work[64];
};

/* Append the command of a call to text. Errors: ERR_BADARG, ERR_NOMEM. */
MUST_USE status store_format(const struct store_call *call, const struct store_scripts *scripts,
                             struct buf *text);

/* Fill the op's part of a reply from Redis' answer; what it points to lies in a or in value.
 * Errors: ERR_CORRUPT when the answer has not the form that the library gives. */
MUST_USE status store_read_reply(struct store_reply *reply, const struct redis_value *value,
                                 struct job_spec *spec, struct arena *a);

#endif
