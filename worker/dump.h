/* dump.h - the intermediate tensors of one job as a safetensors file, for comparison with
 * diffusers.
 *
 * File: DIR/<job id>.safetensors, float32, in diffusers' layouts (F frames, C latent channels, D
 * width of the embedding, h x w latent size, H x W pixels; i counts from 0):
 *
 *   image                    [H0,W0,3]   the photograph as decoded, 0..255
 *   image_embedding          [1,D]       output of the CLIP tower
 *   image_noise              [3,H,W]     unit variance; added to the photograph times noise_aug
 *   conditioning_latent      [C,h,w]     VAE mean of the photograph with noise added, not scaled
 *   initial_noise            [F,C,h,w]   unit variance
 *   step_noise.<i>           [F,C,h,w]   unit variance; draw i of the sampler, if it draws
 *   unet_output.<i>          [F,C,h,w]   of evaluation i, after guidance
 *   unet_output.<i>.uncond   [F,C,h,w]   with guidance only: the two passes
 *   unet_output.<i>.cond     [F,C,h,w]
 *   latents.<i>              [F,C,h,w]   after the sampler step that ends with evaluation i
 *   final_latents            [F,C,h,w]   before division by the VAE's scaling factor
 *   frames                   [F,3,H,W]   0..1, before rounding to 8 bits
 *
 * Metadata: every parameter of the job as resolved (the image without its query), and "checkpoint",
 * "checkpoint_hash", "device", "build", "job".
 *
 * Every function takes a NULL dump, which is "no dump", and does nothing then.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_DUMP_H
#define ONESTEP_WORKER_DUMP_H

#include <stdint.h>

#include "common/base/status.h"
#include "proto/spec.h"
#include "worker/model/safetensors.h"

/* A file being written. */
struct dump {
    struct safetensors_writer file; /* unfinished until dump_finish */
    float *frames;                  /* [count][h][w][3], owned; collected until dump_finish */
    int64_t count, h, w;            /* shape of frames; 0 before dump_frames */
};

/* Start dir/<id>.safetensors; the folder is made when it is missing. Zeroes *d first.
 * Errors: ERR_IO, ERR_FULL, ERR_NOTFOUND. */
MUST_USE status dump_open(struct dump *d, const char *dir, const char *id);

/* Metadata: each parameter of spec. Errors: ERR_FULL. */
MUST_USE status dump_spec(struct dump *d, const struct job_spec *spec);

/* One metadata pair. Errors: ERR_FULL. */
MUST_USE status dump_text(struct dump *d, const char *key, const char *value);

/* A row vector [1,count]. Errors: ERR_IO, ERR_FULL. */
MUST_USE status dump_vector(struct dump *d, const char *name, const float *data, int64_t count);

/* The photograph, rgb [h][w][3], as "image". Errors: ERR_IO, ERR_FULL, ERR_NOMEM. */
MUST_USE status dump_image(struct dump *d, const uint8_t *rgb, int64_t h, int64_t w);

/* A tensor to be dumped; data is [n][h][w][c]. */
struct dump_tensor {
    const float *data;  /* borrowed */
    int64_t n, h, w, c; /* shape in memory */
    bool has_no_frames; /* n is 1 and the file has [c,h,w], not [1,c,h,w] */
};

/* Write t under name, or "name.<index>" when index >= 0, with ".suffix" when suffix isn't NULL.
 * Errors: ERR_IO, ERR_FULL. */
MUST_USE status dump_write(struct dump *d, const struct dump_tensor *t, const char *name, int index,
                           const char *suffix);

/* Make room for count frames of w x h. Errors: ERR_NOMEM. */
MUST_USE status dump_frames(struct dump *d, int64_t count, int64_t h, int64_t w);

/* Frame index, rgb [h][w][3] in -1..1 as the VAE makes it; kept as clamp(rgb / 2 + 1/2, 0, 1). */
void dump_frame(struct dump *d, int64_t index, const float *rgb);

/* Write the frames and give the file its name; closes d. Errors: ERR_IO, ERR_FULL. */
MUST_USE status dump_finish(struct dump *d);

/* Remove an unfinished file. Accepts NULL and zeroed and finished dumps. */
void dump_close(struct dump *d);

#endif
