/* transformer.h - SVD's spatio-temporal transformer: attention in each frame, then over frames.
 *
 * Cross-attention sees one key only, so its softmax is 1 and its output is the same for every
 * token: Out2(Wv c) + b. That vector is made once per call and added through the bias of the
 * self-attention's output layer; norm2, to_q and to_k of attn2 are checked at load and never used
 * (exact).
 * Source: diffusers models/transformers/transformer_temporal.py TransformerSpatioTemporalModel,
 *         models/attention.py BasicTransformerBlock, TemporalBasicTransformerBlock.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_MODEL_TRANSFORMER_H
#define ONESTEP_WORKER_MODEL_TRANSFORMER_H

#include "kernels/op/op.h"
#include "worker/model/embed.h"
#include "worker/model/weights.h"

/* GEGLU feed-forward: out(v * gelu(g)). */
struct transformer_ff {
    struct norm norm;        /* LayerNorm before it */
    struct linear proj, out; /* [8c][c], [c][4c] */
};

/* Attention with the folded one-key cross-attention. */
struct transformer_attention {
    struct norm norm;                 /* LayerNorm before it */
    struct linear qkv, out;           /* self-attention: [3c][c] without bias, [c][c] */
    struct linear cross_v, cross_out; /* cross-attention: [c][context], [c][c] */
};

/* One layer: a spatial block and a temporal block. */
struct transformer_layer {
    struct transformer_attention attention, attention_time; /* in a frame, over frames */
    struct transformer_ff ff, ff_in_time, ff_time;          /* spatial; temporal first and last */
};

/* The module. */
struct transformer {
    int64_t heads;                    /* of every attention */
    struct norm norm;                 /* 32 groups */
    struct linear proj_in, proj_out;  /* [c][c] */
    struct embed_mlp positions;       /* embedding of the frame's index */
    struct transformer_layer *layers; /* [layer_count] */
    int layer_count;                  /* at least 1 */
    float mix;                        /* weight of the spatial branch: sigmoid(mix_factor) */
};

/* What to load. */
struct transformer_spec {
    int64_t c;       /* channels, a multiple of 32 and of heads */
    int64_t heads;   /* attention heads */
    int64_t context; /* width of the image embedding */
    int layers;      /* transformer layers */
};

/* Bind the tensors below prefix ("down_blocks.0.attentions.1"). Errors: as weights_linear. */
MUST_USE status transformer_load(struct transformer *t, struct weights *w, const char *prefix,
                                 const struct transformer_spec *spec);

/* y = module(x); y exists and may be x; the n frames are one clip.
 * Shapes: x, y [f,h,w,c]; context [1,1,1,context].
 * Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status transformer_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                                    const struct transformer *t, const struct tensor *context);

#endif
