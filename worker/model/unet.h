/* unet.h - SVD's spatio-temporal UNet: one evaluation of the network F.
 *
 * Source: arXiv:2311.15127; diffusers models/unets/unet_spatio_temporal_condition.py,
 *         unet_3d_blocks.py. Everything is config-driven; latents of any h, w >= 1.
 * Thread: compute only. */
#ifndef ONESTEP_WORKER_MODEL_UNET_H
#define ONESTEP_WORKER_MODEL_UNET_H

#include "kernels/op/op.h"
#include "worker/model/embed.h"
#include "worker/model/progress.h"
#include "worker/model/res.h"
#include "worker/model/transformer.h"
#include "worker/model/weights.h"

/* Most resolution levels, and residual blocks per level, of a checkpoint. */
#define UNET_LEVELS_MAX 8
#define UNET_LAYERS_MAX 8

/* From unet/config.json. */
struct unet_config {
    int levels;                               /* resolutions */
    int64_t channels[UNET_LEVELS_MAX];        /* per level, finest first */
    int layers[UNET_LEVELS_MAX];              /* residual blocks going down; one more going up */
    int64_t heads[UNET_LEVELS_MAX];           /* attention heads */
    int transformer_layers[UNET_LEVELS_MAX];  /* layers of each transformer */
    bool down_has_attention[UNET_LEVELS_MAX]; /* CrossAttnDownBlock..., not DownBlock... */
    bool up_has_attention[UNET_LEVELS_MAX];   /* in the order of the up path, coarsest first */
    int64_t in_channels, out_channels;        /* latent + image latent; latent */
    int64_t cross_attention_dim;              /* width of the image embedding */
    int64_t addition_time_embed_dim;          /* width of each added id's sinusoid */
    int frames;                               /* frames that the checkpoint was trained for */
    int64_t sample_size;                      /* side of the square latents it was trained at */
};

/* One resolution of the down or the up path. */
struct unet_level {
    struct res_block *res;         /* [block_count] */
    struct transformer *attention; /* [block_count], or NULL */
    int block_count;               /* residual blocks */
    bool has_resample;             /* resample is used */
    struct conv resample;          /* 3x3: stride 2 going down, after nearest resampling going up */
};

/* All weights. */
struct unet {
    struct unet_config config;               /* sizes */
    struct conv in, out;                     /* 3x3 */
    struct embed_mlp time, added;            /* of the timestep, of the added ids */
    struct unet_level down[UNET_LEVELS_MAX]; /* finest first */
    struct res_block mid[2];                 /* around mid_attention */
    struct transformer mid_attention;        /* always there */
    struct unet_level up[UNET_LEVELS_MAX];   /* coarsest first */
    struct norm norm_out;                    /* before out */
};

/* What one evaluation is asked for. All pointers are host memory. */
struct unet_input {
    const float *latents;      /* [frames][h][w][out_channels], scaled by c_in */
    const float *image_latent; /* [h][w][in_channels - out_channels] for every frame; NULL: zeros */
    const float *embedding;    /* [cross_attention_dim] of the image; NULL: zeros */
    int64_t frames, h, w;      /* clip length and latent size */
    float timestep;            /* c_noise = ln(sigma) / 4 */
    float fps;                 /* added id 0: frames per second minus 1 */
    float motion_bucket;       /* added id 1 */
    float noise_aug;           /* added id 2 */
    const struct progress *progress; /* NULL: none */
    /* For tests and dumps: called with the output of "conv_in", "down_blocks.i", "mid_block",
     * "up_blocks.i"; NULL: not called. t is valid during the call. */
    status (*on_block)(void *self, const char *name, struct dev *dev, const struct tensor *t);
    void *self; /* handed to on_block */
};

/* Read dir/config.json and bind every weight. Errors: as clip_load. */
MUST_USE status unet_load(struct unet *unet, struct weights_loader *loader, const char *dir);

/* out = F(input), the raw network output: host memory [frames][h][w][out_channels].
 * Errors: ERR_NOMEM, ERR_DEVICE, ERR_CANCELLED, and on_block's. */
MUST_USE status unet_forward(struct dev *dev, const struct unet *unet,
                             const struct unet_input *input, float *out);

#endif
