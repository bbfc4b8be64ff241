/* size.h - how many frames a clip has, and how wide and high it is.
 *
 * A job may leave its size open; then it follows from the photograph and from the size the model
 * was trained at. Everything here is arithmetic on whole numbers: the same job has the same size
 * everywhere. */
#ifndef ONESTEP_WORKER_SIZE_H
#define ONESTEP_WORKER_SIZE_H

#include <stdint.h>

#include "common/base/status.h"
#include "proto/spec.h"

/* The smallest width and height of a video: one macroblock of H.264. */
#define SIZE_VIDEO_MIN_PX 16

/* What a model says about sizes. */
struct size_model {
    int64_t frames;     /* frames the model was trained on: the UNet's num_frames */
    int64_t native_px;  /* side of the square with the training area: sample_size * vae_factor */
    int64_t vae_factor; /* pixels per latent in both directions; sizes must be multiples of it */
    int64_t grid_px; /* sizes we choose are multiples of this: vae_factor * 2^UNet downsamplings */
};

/* Replace "choose" in frames, width and height of spec; image_w x image_h is the photograph after
 * rotation. A free size keeps the photograph's shape: width = native_px * sqrt(image_w / image_h),
 * height = native_px * sqrt(image_h / image_w), each rounded to the nearest multiple of grid_px, at
 * least one multiple (and SIZE_VIDEO_MIN_PX), at most the parameter's bound.
 * Errors: ERR_BADARG when a given size is too small for a video or isn't a multiple of vae_factor;
 * the sentence names the nearest ones that are. */
MUST_USE status size_resolve(struct job_spec *spec, const struct size_model *model, int64_t image_w,
                             int64_t image_h);

#endif
