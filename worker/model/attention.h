/* attention.h - the VAE's attention: one head over the pixels of each frame, with residual.
 *
 * y = x + out(softmax(q k^T / sqrt(c)) v), q, k, v from group norm of x.
 * Source: diffusers models/attention_processor.py Attention, as built by UNetMidBlock2D and
 *         MidBlockTemporalDecoder.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_MODEL_ATTENTION_H
#define ONESTEP_WORKER_MODEL_ATTENTION_H

#include "kernels/op/op.h"
#include "worker/model/weights.h"

/* The weights. */
struct attention {
    struct norm norm;       /* 32 groups */
    struct linear qkv, out; /* [3c][c], [c][c] */
};

/* Bind the tensors below prefix; c channels, eps of the norm. Errors: as weights_vector. */
MUST_USE status attention_load(struct attention *a, struct weights *w, const char *prefix,
                               int64_t c, float eps);

/* y = attention of x; y exists and may be x. Shapes: x, y [n,h,w,c].
 * Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status attention_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                                  const struct attention *l);

#endif
