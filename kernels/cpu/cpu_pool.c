/* DESIGN: own threads, not OpenMP: the number of threads belongs to a context, the thread
 * sanitizer sees every synchronisation, and idle threads sleep after a short spin, so that the
 * other threads of a worker process (network, encoding) get the cores.
 *
 * A job is open while tasks are left. A thread joins an open job under the lock and then takes
 * task numbers from a shared counter without it. The caller works too; when the counter runs out
 * it closes the job and waits for those who joined. A thread that wakes up too late finds the job
 * closed and sleeps again, so a short loop never waits for a thread that was asleep. */
#include "kernels/cpu/cpu_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Turns of the waiting loop before a thread sleeps: about 50 us, the pause between two kernels. */
#define SPIN_TURNS 1000

struct cpu_pool {
    int threads; /* caller included */
    int started; /* threads running, less the caller */
    pthread_t *ids;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_uint generation; /* rises when a job is opened, and at the end */
    atomic_bool is_closing;
    atomic_int busy; /* threads inside the job, less the caller */

    /* The job; written under the lock. */
    bool is_open;
    cpu_task run;
    void *arg;
    int64_t count;
    atomic_int_fast64_t next; /* first task that nobody has taken */
};

/* What a thread needs to know about itself. */
struct self {
    struct cpu_pool *pool;
    int worker;
};

static void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_tasks(struct cpu_pool *p, int worker)
{
    for (;;) {
        int64_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);

        if (task >= p->count)
            return;
        p->run(p->arg, task, worker);
    }
}

/* Wait until the generation is not `seen` any more; returns with the lock held. */
static unsigned wait_for_news(struct cpu_pool *p, unsigned seen)
{
    for (int i = 0; i < SPIN_TURNS; i++) {
        if (atomic_load_explicit(&p->generation, memory_order_relaxed) != seen)
            break;
        spin_pause();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->generation, memory_order_relaxed) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    return atomic_load_explicit(&p->generation, memory_order_relaxed);
}

static void *thread_main(void *arg)
{
    struct self self = *(struct self *)arg;
    struct cpu_pool *p = self.pool;
    unsigned seen = 0;

    free(arg);
    for (;;) {
        seen = wait_for_news(p, seen);
        if (atomic_load(&p->is_closing)) {
            pthread_mutex_unlock(&p->lock);
            return NULL;
        }
        if (!p->is_open) {
            pthread_mutex_unlock(&p->lock);
            continue;
        }
        atomic_fetch_add(&p->busy, 1);
        pthread_mutex_unlock(&p->lock);

        take_tasks(p, self.worker);

        pthread_mutex_lock(&p->lock);
        if (atomic_fetch_sub(&p->busy, 1) == 1)
            pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

static status start_thread(struct cpu_pool *p)
{
    struct self *self = malloc(sizeof(*self));

    if (!self)
        return FAIL(ERR_NOMEM, "no memory for a thread");
    *self = (struct self){ p, p->started + 1 };
    if (pthread_create(&p->ids[p->started], NULL, thread_main, self) != 0) {
        free(self);
        return FAIL(ERR_DEVICE, "can't start thread %d of %d; lower the number of threads",
                    p->started + 2, p->threads);
    }
    p->started++;
    return OK;
}

status cpu_pool_open(struct cpu_pool **pool, int threads)
{
    struct cpu_pool *p = calloc(1, sizeof(*p));
    status st = OK;

    if (!p)
        return FAIL(ERR_NOMEM, "no memory for %d threads", threads);
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    p->ids = calloc((size_t)threads, sizeof(*p->ids));
    if (!p->ids)
        TRY(FAIL(ERR_NOMEM, "no memory for %d threads", threads));
    while (p->started < threads - 1)
        TRY(start_thread(p));
    *pool = p;
    return OK;
out:
    cpu_pool_close(p);
    return st;
}

void cpu_pool_close(struct cpu_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->is_closing, true);
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->ids[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->ids);
    free(pool);
}

int cpu_pool_threads(const struct cpu_pool *pool)
{
    return pool->threads;
}

static void open_job(struct cpu_pool *p, int64_t count, cpu_task run, void *arg)
{
    pthread_mutex_lock(&p->lock);
    p->run = run;
    p->arg = arg;
    p->count = count;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    p->is_open = true;
    atomic_fetch_add(&p->generation, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void close_job(struct cpu_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->is_open = false;
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < SPIN_TURNS && atomic_load(&p->busy) > 0; i++)
        spin_pause();
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->busy) > 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void cpu_pool_run(struct cpu_pool *pool, int64_t count, cpu_task run, void *arg)
{
    if (pool->threads == 1 || count <= 1) {
        for (int64_t task = 0; task < count; task++)
            run(arg, task, 0);
        return;
    }
    open_job(pool, count, run, arg);
    take_tasks(pool, 0);
    close_job(pool);
}
