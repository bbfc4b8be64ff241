/* progress.h - how a long model call says how far it is. */
#ifndef ONESTEP_WORKER_MODEL_PROGRESS_H
#define ONESTEP_WORKER_MODEL_PROGRESS_H

/* A listener. The numbers count blocks of the network: done of total, 1 <= done <= total. */
struct progress {
    void (*step)(void *self, int done, int total); /* called between kernels; must be quick */
    void *self;                                    /* handed to step */
};

/* Call p->step unless p is NULL. */
static inline void progress_step(const struct progress *p, int done, int total)
{
    if (p)
        p->step(p->self, done, total);
}

#endif
