/* checkpoint.h - a diffusers folder as one loaded model: CLIP, VAE, UNet, scheduler.
 *
 *   model_index.json  image_encoder/  vae/  unet/  scheduler/  feature_extractor/
 *
 * or SVD in one file, see original.h.
 *
 * Everything is checked at open; afterwards a checkpoint is read-only and may serve any job.
 * Thread: open and close by the owner; reading by any. */
#ifndef ONESTEP_WORKER_MODEL_CHECKPOINT_H
#define ONESTEP_WORKER_MODEL_CHECKPOINT_H

#include "kernels/op/op.h"
#include "worker/model/clip.h"
#include "worker/model/unet.h"
#include "worker/model/vae.h"

/* From scheduler/scheduler_config.json: Euler, v-prediction, Karras sigmas. */
struct checkpoint_scheduler {
    double sigma_min, sigma_max; /* ends of the schedule: 0.002 and 700 for SVD */
};

/* A loaded model. */
struct checkpoint {
    char name[128];                        /* of the folder, or of the file, without its end */
    char hash[33];                         /* hex of the content of weights and configs: tells two
                                              checkpoints apart in a manifest, is no defence */
    struct clip clip;                      /* image_encoder/ and feature_extractor/ */
    struct vae vae;                        /* vae/ */
    struct unet unet;                      /* unet/ */
    struct checkpoint_scheduler scheduler; /* scheduler/ */
    struct arena values;                   /* every weight, as float or with its file's 16 bits */
    struct mapping snapshot;               /* the file that values lies in, when it was mapped */
    struct arena layers;                   /* arrays of layer structs */
};

/* What one job needs on the device. */
struct checkpoint_need {
    size_t weight_bytes; /* loaded weights */
    size_t clip_bytes;   /* peak of the activation arena in clip_embed */
    size_t encode_bytes; /* ... in vae_encode */
    size_t unet_bytes;   /* ... in one unet_forward */
    size_t decode_bytes; /* ... in vae_decode */
    size_t act_bytes;    /* the largest of the four: the size for dev_open */
    double clip_flops;   /* floating-point operations of each stage, for progress and ETA */
    double encode_flops; /* ... of vae_encode */
    double unet_flops;   /* ... of one unet_forward */
    double decode_flops; /* ... of vae_decode */
};

/* The shape of a job, as far as memory cares. */
struct checkpoint_job {
    int64_t frames;            /* frames of the clip */
    int64_t width, height;     /* pixels, multiples of vae_factor */
    int64_t chunk;             /* frames decoded together; 0: all */
    struct kern_layout layout; /* of the tensors; zeroed: host floats */
};

/* Load the diffusers folder dir, or the single file that ends in ".safetensors".
 * Errors: ERR_NOTFOUND (no such folder or file), ERR_CORRUPT (files that contradict themselves or
 * the config), ERR_BADARG (a config value that this build does not support; the sentence names
 * the key), ERR_NOMEM. On error *c is closed. */
MUST_USE status checkpoint_open(struct checkpoint *c, const char *dir);

/* The same, with the weights as they are kept in the folder cache_dir (see snapshot.h): mapped, or
 * loaded and then written there. A snapshot that is damaged, or can't be written, is logged and
 * costs time only. c->snapshot.data tells whether it was mapped. Errors: as checkpoint_open. */
MUST_USE status checkpoint_open_cached(struct checkpoint *c, const char *dir,
                                       const char *cache_dir);

/* The model of dir by its configs alone: sizes are right, values undefined, there is no hash, and
 * weights need not exist. For plans, and for who makes checkpoints: asked, if not NULL, is told of
 * every tensor, with the path of the part's folder. Errors: as checkpoint_open, and asked's. */
MUST_USE status checkpoint_open_blank(struct checkpoint *c, const char *dir, weights_asked *asked,
                                      void *self);

/* Accepts a zeroed struct. */
void checkpoint_close(struct checkpoint *c);

/* Measure a job without running it, through the kern_plan table.
 * Errors: ERR_NOMEM when it is beyond any machine; ERR_BADARG when the job's shape is not possible
 * with this checkpoint. */
MUST_USE status checkpoint_plan(const struct checkpoint *c, const struct checkpoint_job *job,
                                struct checkpoint_need *need);

#endif
