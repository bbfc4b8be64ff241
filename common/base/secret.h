/* secret.h - memory for keys: pages of its own that no core dump holds, wiped when they go back.
 *
 * Thread: any; what is in the memory is the caller's. */
#ifndef ONESTEP_COMMON_BASE_SECRET_H
#define ONESTEP_COMMON_BASE_SECRET_H

#include <stddef.h>

/* bytes of zeroes, kept out of core dumps. NULL when there is no memory, or when the kernel cannot
 * leave it out. */
void *secret_alloc(size_t bytes);

/* Wipe and give back what secret_alloc(bytes) gave. Accepts NULL. */
void secret_free(void *p, size_t bytes);

#endif
