/* embed.h - sinusoidal embedding of a number, and the two-layer network behind it.
 *
 * sinus(v, d) = [cos(v f_0) .. cos(v f_(d/2-1)), sin(v f_0) ..], f_i = 10000^(-i / (d/2)), in float as
 * the reference computes it.
 * Source: diffusers models/embeddings.py get_timestep_embedding (flip_sin_to_cos, shift 0),
 *         TimestepEmbedding. */
#ifndef ONESTEP_WORKER_MODEL_EMBED_H
#define ONESTEP_WORKER_MODEL_EMBED_H

#include "kernels/op/op.h"
#include "worker/model/weights.h"

/* linear_2(silu(linear_1 x)). */
struct embed_mlp {
    struct linear linear1, linear2; /* [hidden][in], [out][hidden] */
};

/* dst[0..d-1] = sinus(value, d); d is even (CHECK). This function can't fail. */
void embed_sinus(float value, int64_t d, float *dst);

/* Bind prefix.linear_1 and prefix.linear_2. Errors: as weights_linear. */
MUST_USE status embed_load(struct embed_mlp *mlp, struct weights *w, const char *prefix,
                           const int64_t sizes[3]);

/* y = linear_2(silu(linear_1 x)) with y taken from dev's arena.
 * Shapes: x [n,1,1,in]; y [n,1,1,out]. Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status embed_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                              const struct embed_mlp *mlp);

#endif
