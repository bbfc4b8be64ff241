/* single.h - a diffusers folder rewritten as the single file that the makers of SVD publish. Made
 * from the names alone, word by word, so that it shares nothing with worker/model/original.c. */
#ifndef ONESTEP_TESTS_UNIT_MODEL_SINGLE_H
#define ONESTEP_TESTS_UNIT_MODEL_SINGLE_H

#include <stdbool.h>
#include <stdint.h>

/* What the renaming has to know of the folder. */
struct single_shape {
    int layers;               /* residual blocks of a level of the UNet's down path */
    int vae_levels;           /* resolutions of the VAE */
    bool up_has_attention[8]; /* levels of the UNet's up path */
};

/* A tensor of the file. */
struct single_tensor {
    char name[256];   /* as in the file */
    int rank;         /* dimensions */
    int64_t shape[8]; /* sizes */
    bool is_turned;   /* values are the transpose of the folder's */
    bool is_stack;    /* q, k and v one below the other */
    bool is_dropped;  /* it is part of such a stack, of which q stands for all */
};

/* *t = the tensor called name of a part ("unet", "vae", "image_encoder"), in the file. */
void single_name(struct single_tensor *t, const struct single_shape *s, const char *part,
                 const char *name, int rank, const int64_t *shape);

/* Write the folder, and tensors as they are beside the model in the published files, to path. */
void single_write(const char *path, const struct single_shape *s, const char *folder);

#endif
