/* seed.h - seeds of jobs that were given none.
 *
 * They are below 2^53, so that every JSON reader keeps them exactly. */
#ifndef ONESTEP_CLIENT_SEED_H
#define ONESTEP_CLIENT_SEED_H

#include <stdint.h>

#include "common/base/status.h"

/* A random one. This function can't fail. */
uint64_t seed_random(void);

/* The one that belongs to an idempotency key: the first 53 bits of SHA-256("seed", NUL, key), so
 * that the same submission sent again is the same job. Errors: ERR_NOMEM. */
MUST_USE status seed_from_key(const char *key, uint64_t *seed);

#endif
