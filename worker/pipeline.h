/* pipeline.h - the order of one clip: photograph -> embedding and latent -> UNet -> frames.
 *
 * The only place that knows in which order the parts of a model work together; none of them knows
 * another. A clip is a pure function of (model, resolved parameters, photograph, kernel table):
 * batch, attempt, thread count and what ran before do not matter.
 * Thread: compute only, except where said. */
#ifndef ONESTEP_WORKER_PIPELINE_H
#define ONESTEP_WORKER_PIPELINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/op/op.h"
#include "proto/spec.h"
#include "worker/dump.h"
#include "worker/frames.h"
#include "worker/model/checkpoint.h"
#include "worker/model/image.h"
#include "worker/size.h"
#include "worker/stage.h"

/* What to load and where to run it. */
struct pipeline_config {
    const char *model_dir;   /* diffusers folder, or single file */
    const char *weights_dir; /* keeps loaded weights for the next start; "" or NULL: none does */
    const char *device;      /* "auto", "cpu", "ref", "cuda" or "cuda:N" */
    struct kern_config kern; /* threads, instruction set */
    size_t memory_max_bytes; /* weights, activations and frames together; 0: three quarters of the
                                machine's memory (or of the control group's limit), or all that the
                                GPU has free */
    bool is_plan;            /* only pipeline_plan will be called: weights are not loaded */
};

/* A loaded model on an open device. */
struct pipeline {
    struct checkpoint checkpoint; /* weights */
    struct dev dev;               /* kernels and activation memory */
    struct size_model sizes;      /* what the model says about sizes */
    size_t memory_max_bytes;      /* as configured or found */
};

/* The memory of one job, in bytes. */
struct pipeline_need {
    struct checkpoint_need model; /* weights, and activations per stage */
    size_t host_bytes;  /* image, noise and latents outside the device's arena, at the peak */
    size_t frame_bytes; /* finished frames of this clip and of the last one */
    size_t total_bytes; /* weights + activations, and where the device has no memory of its own
                           also host + frames */
    size_t limit_bytes; /* memory_max_bytes */
};

/* One clip to be made. Everything is borrowed until pipeline_run returns. */
struct pipeline_clip {
    const struct job_spec *spec; /* resolved by pipeline_resolve */
    const struct image *image;   /* the photograph as decoded */
    struct frames *frames; /* after frames_init; pixels go there, frames_end is the caller's */
    const struct pipeline_need *need; /* of this spec and image */
    struct stages *stages;            /* progress and seconds of STAGE_CLIP .. STAGE_VAE_DECODE */
    const atomic_bool *cancel;        /* polled between kernels; NULL: never cancelled */
    struct dump *dump;                /* NULL: none */
};

/* Load the model and open the device. Errors: those of checkpoint_open; ERR_BADARG for an unknown
 * device; ERR_NOMEM when the weights alone are above the limit. On error *p is closed. */
MUST_USE status pipeline_open(struct pipeline *p, const struct pipeline_config *config);

/* Accepts a zeroed struct. */
void pipeline_close(struct pipeline *p);

/* Replace every "choose" in spec by what will be used: frames, size, steps, guidance. Then check
 * what only the model can check. image_w x image_h: the photograph. Thread: any.
 * Errors: ERR_BADARG with the parameter and its remedy. */
MUST_USE status pipeline_resolve(const struct pipeline *p, struct job_spec *spec, int64_t image_w,
                                 int64_t image_h);

/* What a resolved job needs. Thread: any. Errors: as checkpoint_plan. */
MUST_USE status pipeline_plan(const struct pipeline *p, const struct job_spec *spec,
                              int64_t image_w, int64_t image_h, struct pipeline_need *need);

/* Refuse what does not fit. Errors: ERR_NOMEM with the job's size and both numbers in MiB. */
MUST_USE status pipeline_admit(const struct job_spec *spec, const struct pipeline_need *need);

/* Make the clip: resolve, plan and admit have succeeded. Opens clip->frames; each frame is put as
 * it becomes final. Errors: ERR_CANCELLED, ERR_NOMEM, ERR_DEVICE; ERR_CORRUPT when the model's
 * latents are not finite; those of the dump. */
MUST_USE status pipeline_run(struct pipeline *p, const struct pipeline_clip *clip);

/* One sentence for logs and manifests: "cpu, avx512, 2 threads". Lives as long as p is open. */
const char *pipeline_device(const struct pipeline *p);

#endif
