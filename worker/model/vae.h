/* vae.h - SVD's autoencoder: an image encoder and a decoder that also mixes over frames.
 *
 * Encoder: per image, latent = mean of the posterior. Decoder: each residual block is a spatial one
 * followed by a temporal one; GroupNorm statistics of the temporal part and its zero padding span
 * the frames that are decoded together, so the chunk size changes pixels.
 * Source: arXiv:2311.15127; diffusers models/autoencoders/autoencoder_kl_temporal_decoder.py,
 *         vae.py.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_MODEL_VAE_H
#define ONESTEP_WORKER_MODEL_VAE_H

#include "kernels/op/op.h"
#include "worker/model/attention.h"
#include "worker/model/progress.h"
#include "worker/model/res.h"
#include "worker/model/weights.h"

/* Most resolution levels of a checkpoint. */
#define VAE_LEVELS_MAX 8

/* From vae/config.json. */
struct vae_config {
    int levels;                       /* resolutions; pixels per latent = 2^(levels-1) */
    int64_t channels[VAE_LEVELS_MAX]; /* per level, finest first */
    int layers;              /* residual blocks per encoder level; the decoder has one more */
    int64_t latent_channels; /* channels of a latent */
    double scaling_factor;   /* latents of the UNet = scaling_factor * latents of the VAE */
};

/* One resolution of the encoder or the decoder. */
struct vae_level {
    struct res_block *blocks; /* [block_count] */
    int block_count;          /* residual blocks */
    bool has_resample;        /* resample is used */
    struct conv resample;     /* 3x3: stride 2 going down, after nearest x2 going up */
};

/* Encoder or decoder. */
struct vae_half {
    struct conv in, out;                     /* 3x3 */
    struct vae_level levels[VAE_LEVELS_MAX]; /* in the order of the forward pass */
    struct res_block *mid;                   /* [mid_count] */
    int mid_count;                           /* the attention comes after the first */
    struct attention attention;              /* of the middle */
    struct norm norm_out;                    /* before out */
};

/* All weights. */
struct vae {
    struct vae_config config; /* sizes */
    struct vae_half encoder;  /* image -> moments */
    struct conv quant;        /* 1x1, the rows of the mean only */
    struct vae_half decoder;  /* latents -> frames */
    struct conv time_out;     /* (3,1,1) over the RGB frames */
};

/* What vae_decode is asked for. */
struct vae_decode_args {
    const float *latents; /* [frames][h][w][latent_channels], already divided by scaling_factor */
    int64_t frames;       /* frames of the clip */
    int64_t h, w;         /* latent size */
    int64_t chunk;        /* frames decoded together; 0: all (diffusers' decode_chunk_size) */
    float *frame;         /* scratch of the caller for one frame: [H][W][3] floats */
    /* Called with frames 0, 1, .. in turn as each becomes final; rgb [H][W][3] in -1..1, not
     * clamped, valid during the call. */
    status (*on_frame)(void *self, int64_t index, const float *rgb);
    void *self;                      /* handed to on_frame */
    const struct progress *progress; /* NULL: none */
};

/* Read dir/config.json and bind every weight. Errors: as clip_load. */
MUST_USE status vae_load(struct vae *vae, struct weights_loader *loader, const char *dir);

/* Pixels per latent along one axis: 8 for SVD. This function can't fail. */
int vae_factor(const struct vae *vae);

/* latent = mean of the posterior of image, not scaled.
 * Shapes: image [H][W][3] in -1..1; latent [H/factor][W/factor][latent_channels]; H, W multiples of
 *         factor (CHECK).
 * Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED. */
MUST_USE status vae_encode(struct dev *dev, const struct vae *vae, const float *image, int64_t H,
                           int64_t W, float *latent);

/* Decode a clip and hand its frames out in order. Errors: as vae_encode, and on_frame's. */
MUST_USE status vae_decode(struct dev *dev, const struct vae *vae,
                           const struct vae_decode_args *args);

#endif
