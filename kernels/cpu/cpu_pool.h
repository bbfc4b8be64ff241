/* cpu_pool.h - the worker threads of kern_cpu: one parallel loop at a time.
 *
 * Tasks are numbered; any thread may get any task, so a task's result must not depend on who runs
 * it or how many threads there are. Thread: cpu_pool_run is called by one thread at a time. */
#ifndef ONESTEP_KERNELS_CPU_CPU_POOL_H
#define ONESTEP_KERNELS_CPU_CPU_POOL_H

#include <stdint.h>

#include "common/base/status.h"

struct cpu_pool; /* opaque */

/* One task. worker: 0 .. threads-1, for scratch memory; 0 is the caller of cpu_pool_run. */
typedef void (*cpu_task)(void *arg, int64_t task, int worker);

/* Start threads-1 threads. Errors: ERR_NOMEM, ERR_DEVICE when a thread can't be started. */
MUST_USE status cpu_pool_open(struct cpu_pool **pool, int threads);

/* Stop the threads. Accepts NULL. */
void cpu_pool_close(struct cpu_pool *pool);

/* Threads, the caller included. This function can't fail. */
int cpu_pool_threads(const struct cpu_pool *pool);

/* Run run(arg, 0..count-1) on all threads and return when every task is done. */
void cpu_pool_run(struct cpu_pool *pool, int64_t count, cpu_task run, void *arg);

#endif
