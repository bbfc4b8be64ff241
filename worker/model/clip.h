/* clip.h - CLIP vision tower with projection: pixels -> one image embedding.
 *
 * ViT, pre-LN: patch convolution, class token, learned positions, LayerNorm, L x {attention, MLP},
 * token 0, LayerNorm, projection. No L2 normalisation.
 * Source: arXiv:2103.00020; transformers modeling_clip.py CLIPVisionModelWithProjection.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_MODEL_CLIP_H
#define ONESTEP_WORKER_MODEL_CLIP_H

#include "kernels/op/op.h"
#include "worker/model/weights.h"

/* From image_encoder/config.json and feature_extractor/preprocessor_config.json. */
struct clip_config {
    int64_t hidden;      /* width of a token */
    int64_t mlp;         /* width inside the MLP */
    int64_t projection;  /* width of the embedding */
    int layers;          /* transformer layers */
    int heads;           /* attention heads; divides hidden */
    int patch;           /* pixels per patch side */
    int image;           /* pixels per image side */
    enum kern_act act;   /* KERN_ACT_GELU or KERN_ACT_QUICK_GELU */
    float eps;           /* of every LayerNorm */
    float pixel_mean[3]; /* RGB, of values in 0..1 */
    float pixel_std[3];  /* RGB */
};

/* One transformer layer. */
struct clip_layer {
    struct norm norm1, norm2;         /* before attention, before the MLP */
    struct linear qkv, out, fc1, fc2; /* qkv: [3*hidden][hidden] */
};

/* The tower's weights. */
struct clip {
    struct clip_config config;    /* sizes */
    struct conv patches;          /* [hidden][patch][patch][3], no bias */
    const float *class_embedding; /* [hidden] */
    const float *positions;       /* [1 + (image/patch)^2][hidden] */
    struct norm pre, post;        /* before the layers; on token 0 at the end */
    struct linear projection;     /* [projection][hidden], no bias */
    struct clip_layer *layers;    /* [config.layers] */
};

/* Read dir/config.json and preprocessor_dir/preprocessor_config.json and bind every weight.
 * Pointers live in loader's arenas.
 * Errors: ERR_NOTFOUND, ERR_CORRUPT, ERR_BADARG (a config value that is not supported). */
MUST_USE status clip_load(struct clip *clip, struct weights_loader *loader, const char *dir,
                          const char *preprocessor_dir);

/* embedding = tower(pixel_values). Both lie in host memory.
 * Shapes: pixel_values [image][image][3], normalised (image_clip_pixels makes it);
 *         embedding [projection].
 * Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status clip_embed(struct dev *dev, const struct clip *clip, const float *pixel_values,
                           float *embedding);

#endif
