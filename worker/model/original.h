/* original.h - SVD in one file, as its makers publish it: svd_xt.safetensors.
 *
 * The file holds the tensors of all parts under the names of the code that trained them, and no
 * configuration. This module answers the questions of a loader of diffusers folders out of it: the
 * text that a config file would have, made from the shapes of tensors and from what is constant in
 * the family, and each tensor under its diffusers name. A part is what its folder would be called:
 * "unet", "vae", "image_encoder", "scheduler", "feature_extractor".
 *
 *   model.diffusion_model.                     UNet
 *   first_stage_model.decoder.                 VAE, decoder
 *   conditioner.embedders.3.encoder.           VAE, encoder
 *   conditioner.embedders.0.open_clip.model.   CLIP, below visual.
 *
 * Source: huggingface/diffusers scripts/convert_svd_to_diffusers.py; Stability-AI/generative-models
 *         sgm/modules/diffusionmodules/video_model.py, sgm/modules/autoencoding/temporal_ae.py.
 * Thread: the owner's. */
#ifndef ONESTEP_WORKER_MODEL_ORIGINAL_H
#define ONESTEP_WORKER_MODEL_ORIGINAL_H

#include "worker/model/safetensors.h"

/* An open file. */
struct original {
    struct safetensors content; /* all tensors */
    char path[FILE_PATH_BYTES]; /* starts every error sentence */
    bool *is_bound;             /* per tensor of content: a model asked for it */
    void *turned;               /* the tensor that was transposed last, or NULL */
    int levels, layers;         /* of the UNet, from which blocks there are */
    int vae_levels;             /* of the VAE */
};

/* Is path the name of a single file, as opposed to a folder? This function can't fail. */
bool original_is(const char *path);

/* Map the file at path and see what is in it.
 * Errors: as safetensors_open; ERR_CORRUPT when it is no SVD. */
MUST_USE status original_open(struct original *o, const char *path);

/* Accepts a zeroed struct. */
void original_close(struct original *o);

/* Append what part's config file called name would say. Errors: ERR_CORRUPT, ERR_NOTFOUND. */
MUST_USE status original_config(const struct original *o, const char *part, const char *name,
                                struct buf *text);

/* A tensor that a model asks for. */
struct original_want {
    const char *part;     /* "unet" */
    const char *name;     /* in diffusers' layout */
    int rank;             /* dimensions of shape */
    const int64_t *shape; /* exactly this */
};

/* *t = the tensor, in the shape that was asked for; valid until the next call.
 * Errors: ERR_CORRUPT naming the file, the tensor's name in it, and both shapes; ERR_NOMEM. */
MUST_USE status original_find(struct original *o, const struct original_want *want,
                              struct safetensors_tensor *t);

/* The room that all tensors of the parts need as float, each rounded up by align bytes. */
size_t original_bytes(const struct original *o, size_t align);

/* Refuse tensors of the parts that no model asked for. Errors: ERR_CORRUPT. */
MUST_USE status original_finish(const struct original *o);

#endif
