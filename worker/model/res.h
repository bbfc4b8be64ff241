/* res.h - residual blocks: the spatial one, and the spatio-temporal one of SVD.
 *
 * spatial:   xs = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1 x)) + W silu(e))))   per frame
 * temporal:  v  = the same with (3,1,1) convolutions on xs, norms over all frames of the clip
 * block:     y  = xs + mix * v, mix the AlphaBlender's weight of the temporal branch
 * Source: diffusers models/resnet.py ResnetBlock2D, TemporalResnetBlock, SpatioTemporalResBlock.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_MODEL_RES_H
#define ONESTEP_WORKER_MODEL_RES_H

#include "kernels/op/op.h"
#include "worker/model/weights.h"

/* One half of a block: two normalised convolutions with the time embedding between them. */
struct res_half {
    struct norm norm1, norm2; /* 32 groups */
    struct conv conv1, conv2; /* 3x3, or (3,1,1) in the temporal half */
    struct linear time;       /* [co][embedding]; weight NULL: no time embedding */
};

/* A whole block. */
struct res_block {
    struct res_half spatial;  /* per frame */
    struct conv shortcut;     /* 1x1; weight NULL when ci == co */
    struct res_half temporal; /* over frames */
    bool is_temporal;         /* false: the block ends after the spatial half */
    float mix;                /* weight of the temporal branch */
};

/* What to load. */
struct res_spec {
    int64_t ci, co;    /* channels in and out, multiples of 32 */
    int64_t embedding; /* width of the time embedding; 0: none */
    float eps;         /* of the spatial norms */
    float eps_time;    /* of the temporal norms */
    bool is_temporal;  /* load the temporal half and the mixing factor */
    bool is_switched;  /* mix = sigmoid(factor) (VAE) and not 1 - sigmoid(factor) (UNet) */
};

/* Bind the tensors below prefix ("down_blocks.0.resnets.1"). Errors: as weights_vector. */
MUST_USE status res_load(struct res_block *block, struct weights *w, const char *prefix,
                         const struct res_spec *spec);

/* y = block(x). y exists; it may be x when the shapes are equal. The n frames are one clip.
 * Shapes: x [f,h,w,ci]; y [f,h,w,co]; silu_e [1,1,1,embedding] = SiLU of the time embedding, NULL
 *         when the block has none.
 * Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status res_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                            const struct res_block *block, const struct tensor *silu_e);

/* The two halves of res_forward, for a caller that wants x's memory back in between:
 * y = spatial(x), then y = y + mix * temporal(y) if the block has a temporal half. */
MUST_USE status res_spatial(struct dev *dev, struct tensor *y, const struct tensor *x,
                            const struct res_block *block, const struct tensor *silu_e);
MUST_USE status res_temporal(struct dev *dev, struct tensor *y, const struct res_block *block,
                             const struct tensor *silu_e);

#endif
