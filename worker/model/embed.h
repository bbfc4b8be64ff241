/* embed.h - sinusoidal embedding of a number, and the two-layer network behind it.
 *
 * sinus(v, d) = [cos(v f_0) .. cos(v f_(d/2-1)), sin(v f_0) ..], f_i = 10000^(-i / (d/2)), in float
 * as the reference computes it.
 * Source: diffusers models/embeddings.py get_timestep_embedding (flip_sin_to_cos, shift 0),
 *         TimestepEmbedding.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_MODEL_EMBED_H
#define ONESTEP_WORKER_MODEL_EMBED_H

#include "kernels/op/op.h"
#include "worker/model/weights.h"

/* linear2(silu(linear1 x)). */
struct embed_mlp {
    struct linear linear1, linear2; /* [hidden][in], [out][hidden] */
};

/* Sizes of an embed_mlp. */
struct embed_spec {
    int64_t in, hidden, out; /* features */
};

/* dst[0..d-1] = sinus(value, d); d is even (CHECK). This function can't fail. */
void embed_sinus(float value, int64_t d, float *dst);

/* t = one row sinus(values[i], d) for each of count values; its elements are overwritten in
 * order, so t may be [count,1,1,d] or [1,1,1,count*d]. d <= PARAMS_WIDTH_MAX (CHECK).
 * Errors: ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status embed_upload(struct dev *dev, struct tensor *t, const float *values, int64_t count,
                             int64_t d);

/* Bind prefix.linear_1 and prefix.linear_2. Errors: as weights_linear. */
MUST_USE status embed_load(struct embed_mlp *mlp, struct weights *w, const char *prefix,
                           const struct embed_spec *spec);

/* y = linear2(silu(linear1 x)); y as in kernels/op. Scratch stays taken: the caller releases.
 * Shapes: x [n,1,1,in]; y [n,1,1,out]. Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status embed_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                              const struct embed_mlp *mlp);

#endif
