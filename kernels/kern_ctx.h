/* kern_ctx.h - the part of a kernel context that every table has in common. For tables only. */
#ifndef ONESTEP_KERNELS_KERN_CTX_H
#define ONESTEP_KERNELS_KERN_CTX_H

#include "kernels/kern.h"

/* A table embeds this as the first member of its own context. */
struct kern_ctx {
    char description[96]; /* the sentence of kern_describe */
    bool is_exact;        /* see kern_exact */
};

#endif
