/* kern_ctx.h - the part of a kernel context that every table has in common. For tables only. */
#ifndef ONESTEP_KERNELS_KERN_CTX_H
#define ONESTEP_KERNELS_KERN_CTX_H

#include "kernels/kern.h"

/* slice_bytes of the tables that run on a CPU: memory is dearer than calls. */
#define KERN_HOST_SLICE_BYTES ((int64_t)256 << 20)

/* A table embeds this as the first member of its own context. */
struct kern_ctx {
    char description[160];     /* the sentence of kern_describe */
    struct kern_layout layout; /* set by open */
    bool is_exact;             /* see kern_exact */
};

#endif
