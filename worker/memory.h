/* memory.h - how much memory this machine lets the process use. */
#ifndef ONESTEP_WORKER_MEMORY_H
#define ONESTEP_WORKER_MEMORY_H

#include <stddef.h>

/* Bytes of physical memory, or the limit of the container (control group, version 1 or 2) when that
 * is lower. 0 when the system does not say. This function can't fail. */
size_t memory_total_bytes(void);

#endif
