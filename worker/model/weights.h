/* weights.h - one part of a checkpoint: a folder of safetensors, bound tensor by tensor.
 *
 * A model asks for each tensor by name and shape and gets it as float in the layout that the kernels
 * want; weights_finish then refuses a file with tensors that nobody asked for. So a wrong, missing,
 * surplus or truncated tensor is one error that names file, tensor, shape found and shape wanted.
 *
 *   struct weights w = { 0 };
 *   TRY(weights_open(&w, loader, "model/unet", "diffusion_pytorch_model"));
 *   TRY(weights_conv(&w, &unet->in, "conv_in", &(struct weights_conv_spec){ .co = 320, .. }));
 *   TRY(weights_finish(&w));
 *
 * Thread: the owner's. */
#ifndef ONESTEP_WORKER_MODEL_WEIGHTS_H
#define ONESTEP_WORKER_MODEL_WEIGHTS_H

#include <stdbool.h>

#include "common/base/arena.h"
#include "kernels/kern.h"
#include "worker/model/safetensors.h"

/* Longest tensor name that is looked for. */
#define WEIGHTS_NAME_BYTES 192

/* Where loaded weights go; one per checkpoint. */
struct weights_loader {
    struct arena *values; /* float tensors, sized from the files' headers */
    struct arena *layers; /* arrays of layer structs */
    uint64_t hash[2];     /* running content hash of every byte that was read */
};

/* A safetensors file of the part. */
struct weights_file {
    char path[1024];           /* for error sentences */
    struct safetensors tensors; /* its content */
    bool *is_bound;            /* per tensor: a model asked for it */
};

/* An open part. */
struct weights {
    struct weights_loader *loader; /* borrowed */
    char dir[1024];                /* the folder, for error sentences */
    struct weights_file *files;    /* [file_count], owned */
    int file_count;                /* 1, or the number of shards */
};

/* The bytes that all tensors of dir take once loaded, from their headers alone.
 * Errors: as weights_open. */
MUST_USE status weights_measure(const char *dir, const char *stem, size_t *bytes);

/* Open dir/stem.safetensors, or the shards of dir/stem.safetensors.index.json, or the fp16 variant of
 * either (stem.fp16.safetensors). Errors: ERR_NOTFOUND, ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
MUST_USE status weights_open(struct weights *w, struct weights_loader *loader, const char *dir,
                             const char *stem);

/* Refuse tensors that were never asked for, and close. w is closed in any case.
 * Known harmless leftovers are ignored by name: "*.position_ids", an index buffer that old versions
 * of transformers saved. Errors: ERR_CORRUPT. */
MUST_USE status weights_finish(struct weights *w);

/* Accepts a zeroed struct. */
void weights_close(struct weights *w);

/* *dst = the tensor called name, of exactly this shape, as float, in the file's layout.
 * Errors: ERR_CORRUPT naming file, tensor, and both shapes; ERR_NOMEM. */
MUST_USE status weights_vector(struct weights *w, const float **dst, const char *name,
                               int rank, const int64_t *shape);

/* *dst = the one element of a tensor of shape [1]. Errors: as weights_vector. */
MUST_USE status weights_scalar(struct weights *w, float *dst, const char *name);

/* Check that the tensor exists with this shape, and do not load it (it has no effect).
 * Errors: as weights_vector. */
MUST_USE status weights_unused(struct weights *w, const char *name, int rank,
                               const int64_t *shape);

/* prefix.weight [c], prefix.bias [c]. groups 0: LayerNorm. Errors: as weights_vector. */
MUST_USE status weights_norm(struct weights *w, struct norm *norm, const char *prefix, int64_t c,
                             int groups, float eps);

/* Sizes of a linear layer. */
struct weights_linear_spec {
    int64_t out, in; /* features */
    bool has_bias;   /* prefix.bias exists */
};

/* prefix.weight [out][in], prefix.bias [out]. Errors: as weights_vector. */
MUST_USE status weights_linear(struct weights *w, struct linear *linear, const char *prefix,
                               const struct weights_linear_spec *spec);

/* names[0..2] = {q, k, v} layers of equal size below prefix, stacked to one [3*out][in].
 * Errors: as weights_vector. */
MUST_USE status weights_qkv(struct weights *w, struct linear *linear, const char *prefix,
                            const char *const names[3], const struct weights_linear_spec *spec);

/* Sizes of a convolution. */
struct weights_conv_spec {
    int64_t co, ci;   /* channels */
    int kh, kw;       /* taps; temporal: 3 and 1 */
    bool is_temporal; /* the file's shape is [co][ci][3][1][1] */
    bool no_bias;     /* prefix.bias does not exist */
};

/* prefix.weight [co][ci][kh][kw] -> [co][kh][kw][ci], prefix.bias [co]. Errors: as weights_vector. */
MUST_USE status weights_conv(struct weights *w, struct conv *conv, const char *prefix,
                             const struct weights_conv_spec *spec);

#endif
