/* weights.h - one part of a checkpoint: a folder of safetensors, bound tensor by tensor.
 *
 * A model asks for each tensor by name and shape and gets it in the layout that the kernels want:
 * weights of layers with the file's 32 or 16 bits, all else as float. weights_finish then refuses a
 * file with tensors that nobody asked for. So a wrong, missing, surplus or truncated tensor is one
 * error that names file, tensor, shape found and shape wanted.
 *
 *   struct weights w = { 0 };
 *   TRY(weights_open(&w, loader, "model/unet", "diffusion_pytorch_model"));
 *   TRY(weights_norm(&w, &unet->norm_out, "conv_norm_out", 320, 32, 1e-5f));
 *   TRY(weights_finish(&w));
 *
 * Thread: the owner's. */
#ifndef ONESTEP_WORKER_MODEL_WEIGHTS_H
#define ONESTEP_WORKER_MODEL_WEIGHTS_H

#include <stdbool.h>

#include "common/base/arena.h"
#include "common/base/file.h"
#include "kernels/kern.h"
#include "worker/model/original.h"
#include "worker/model/safetensors.h"

/* Longest tensor name that is looked for, with its NUL. */
#define WEIGHTS_NAME_BYTES 192

/* Most shards of a part. */
#define WEIGHTS_FILES_MAX 64

/* Told of each tensor that a model asks for; see weights_loader. */
typedef status weights_asked(void *self, const char *dir, const char *name, int rank,
                             const int64_t *shape);

/* Where loaded weights go; one per checkpoint. */
struct weights_loader {
    struct arena *values; /* float tensors, sized with weights_measure */
    struct arena *layers; /* arrays of layer structs */
    uint64_t hash[2];     /* running content hash of everything that was read */
    uint64_t identity[2]; /* running hash of names, sizes, times and inodes of what was opened */
    struct original *original; /* the single file that all parts are in; NULL: folders */

    bool is_blank;  /* read no weights, leave the model's values undefined; without weights files
                             they count as float */
    bool is_mapped; /* values holds a snapshot: take the places, read scalars only */
    weights_asked *asked; /* blank: hears what would be read, from the part in dir; or NULL */
    void *asked_self;     /* asked's first argument */
};

/* A safetensors file of the part. */
struct weights_file {
    char path[FILE_PATH_BYTES]; /* for error sentences */
    struct safetensors content; /* its tensors */
    bool *is_bound;             /* per tensor: a model asked for it */
};

/* An open part. */
struct weights {
    struct weights_loader *loader;  /* borrowed */
    struct weights_file *files;     /* [file_count], owned */
    int file_count;                 /* 1, or the number of shards; 0: blank loader, single file */
    const char *dir;                /* borrowed: as given to weights_open */
    struct safetensors_tensor made; /* the tensor asked for last, where file_count is 0 */
};

/* Fold bytes into the loader's content hash. This function can't fail. */
void weights_hash(struct weights_loader *loader, const void *bytes, size_t len);

/* Fold the identity of the file at path, which is open, into the loader's. This function can't
 * fail. */
void weights_identify(struct weights_loader *loader, const char *path);

/* The room in loader->values that all tensors of dir need, from the files' headers alone.
 * Errors: as weights_open. */
MUST_USE status weights_measure(const char *dir, const char *stem, size_t *bytes);

/* Open dir/stem.safetensors, or the shards of dir/stem.safetensors.index.json, or, when there is
 * neither, the fp16 variant of either (stem.fp16.safetensors, stem.safetensors.index.fp16.json).
 * With loader->original, whose path dir begins with: nothing is opened here.
 * Errors: ERR_NOTFOUND, ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
MUST_USE status weights_open(struct weights *w, struct weights_loader *loader, const char *dir,
                             const char *stem);

/* Refuse tensors that were never asked for (of a single file: see original_finish), and close; w is
 * closed in any case.
 * Known harmless leftovers are ignored by name: "*position_ids", an index buffer that old
 * versions of transformers saved. Errors: ERR_CORRUPT. */
MUST_USE status weights_finish(struct weights *w);

/* Accepts a zeroed struct. */
void weights_close(struct weights *w);

/* *dst = the tensor called name, of exactly this shape, as float, in the file's layout.
 * Errors: ERR_CORRUPT naming file, tensor, and both shapes; ERR_NOMEM. */
MUST_USE status weights_vector(struct weights *w, const float **dst, const char *name, int rank,
                               const int64_t *shape);

/* *dst = the one element of a tensor of shape [1]. Errors: as weights_vector. */
MUST_USE status weights_scalar(struct weights *w, float *dst, const char *name);

/* prefix.weight [c], prefix.bias [c]. groups 0: LayerNorm. Errors: as weights_vector. */
MUST_USE status weights_norm(struct weights *w, struct norm *norm, const char *prefix, int64_t c,
                             int groups, float eps);

/* Sizes of a linear layer. */
struct weights_linear_spec {
    int64_t out, in; /* features */
    bool has_bias;   /* prefix.bias exists */
};

/* prefix.weight [out][in], prefix.bias [out]. linear NULL: the layer has no effect; its tensors are
 * checked and not loaded. Errors: as weights_vector. */
MUST_USE status weights_linear(struct weights *w, struct linear *linear, const char *prefix,
                               const struct weights_linear_spec *spec);

/* names[0..2] = the {q, k, v} layers of equal size below prefix, stacked to one [3*out][in].
 * Errors: as weights_vector. */
MUST_USE status weights_qkv(struct weights *w, struct linear *linear, const char *prefix,
                            const char *const names[3], const struct weights_linear_spec *spec);

/* Sizes of a convolution. */
struct weights_conv_spec {
    int64_t co, ci;   /* channels */
    int k;            /* taps: 3 means 3x3, or (3,1,1) when temporal */
    bool is_temporal; /* the file's shape is [co][ci][k][1][1], not [co][ci][k][k] */
    bool no_bias;     /* prefix.bias does not exist */
};

/* prefix.weight [co][ci][k][k] -> [co][k][k][ci], prefix.bias [co]. Errors: as weights_vector. */
MUST_USE status weights_conv(struct weights *w, struct conv *conv, const char *prefix,
                             const struct weights_conv_spec *spec);

/* dst = prefix.name, in a buffer of WEIGHTS_NAME_BYTES; a longer name is a bug. Returns dst. */
const char *weights_name(char *dst, const char *prefix, const char *name);

#endif
