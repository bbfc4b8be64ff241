/* random.h - unpredictable bytes from the kernel, for identifiers and nonces.
 *
 * Not for noise in images: that is a pure function of the job's seed. Thread: any. */
#ifndef ONESTEP_COMMON_BASE_RANDOM_H
#define ONESTEP_COMMON_BASE_RANDOM_H

#include <stddef.h>

#include "common/base/status.h"

/* Fill dst with bytes random bytes. Errors: ERR_IO when the kernel refuses. */
MUST_USE status random_bytes(void *dst, size_t bytes);

/* Fill dst with room - 1 random characters out of 0-9a-v (5 bits each) and a NUL; 27 gives 130
 * bits.
 * Errors: ERR_IO when the kernel refuses. */
MUST_USE status random_id(char *dst, size_t room);

#endif
