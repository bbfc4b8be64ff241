/* image.h - pixels in and out of the models.
 *
 * Images are RGB, 8 bit, [height][width][3] dense rows. Host memory only.
 * Thread: any; scratch comes from the caller's arena and is given back. */
#ifndef ONESTEP_WORKER_MODEL_IMAGE_H
#define ONESTEP_WORKER_MODEL_IMAGE_H

#include <stdint.h>

#include "common/base/arena.h"
#include "worker/model/clip.h"

/* A borrowed RGB image. */
struct image {
    const uint8_t *rgb;    /* [height][width][3] */
    int64_t width, height; /* pixels, at least 1 */
};

/* dst = src resized with Lanczos-3, bit for bit as Pillow does it: fixed-point coefficients, an
 * 8-bit image between the passes, the order of the passes, a copy when nothing changes.
 * Shapes: dst [height][width][3]. Errors: ERR_NOMEM.
 * Source: Pillow src/libImaging/Resample.c (documented algorithm; own code). */
MUST_USE status image_resize(const struct image *src, uint8_t *dst, int64_t width, int64_t height,
                             struct arena *scratch);

/* Bytes that image_resize takes from scratch, from src's size alone. This function can't fail. */
size_t image_resize_scratch(const struct image *src, int64_t width, int64_t height);

/* dst = src / 255 * 2 - 1, count values. This function can't fail. */
void image_to_signed(const uint8_t *src, float *dst, int64_t count);

/* dst = round(clamp(src / 2 + 1/2, 0, 1) * 255), halves to even, count values; NaN becomes 0.
 * This function can't fail. */
void image_from_signed(const float *src, uint8_t *dst, int64_t count);

/* pixel_values for clip_embed from the original photograph: Gaussian blur against aliasing with
 * reflected borders, bicubic to config->image squared without keeping the aspect (corners aligned,
 * a = -0.75), then (x - mean) / std.
 * Shapes: pixel_values [image][image][3]. Errors: ERR_NOMEM.
 * Source: diffusers pipeline_stable_video_diffusion.py _resize_with_antialiasing. */
MUST_USE status image_clip_pixels(const struct image *src, const struct clip_config *config,
                                  float *pixel_values, struct arena *scratch);

/* Bytes that image_clip_pixels takes from scratch, from src's size alone. This function can't
 * fail. */
size_t image_clip_scratch(const struct image *src, const struct clip_config *config);

#endif
