/* cuda_weights.h - the layouts of weights on the device, and the list of the copies.
 *
 * Thread: compute only. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_WEIGHTS_H
#define ONESTEP_KERNELS_CUDA_CUDA_WEIGHTS_H

#include "common/base/status.h"

/* The layouts of cuda_weight. One host address may have a copy in each. */
enum cuda_weight_kind {
    CUDA_WEIGHT_FLOATS,       /* as it is: norms, biases, embeddings */
    CUDA_WEIGHT_MATRIX,       /* the right operand of a product */
    CUDA_WEIGHT_GATED_MATRIX, /* the same with value and gate columns side by side */
    CUDA_WEIGHT_GATED_BIAS,   /* the bias of such a layer, in the same order */
    CUDA_WEIGHT_PHASES        /* a 3x3 convolution behind nearest resampling by two, as four 2x2 */
};

struct cuda_map;

/* An empty list. Errors: ERR_NOMEM. */
MUST_USE status cuda_map_open(struct cuda_map **map);

/* Empty it. This function can't fail. */
void cuda_map_clear(struct cuda_map *map);

/* Accepts NULL; device memory is not its own. */
void cuda_map_close(struct cuda_map *map);

#endif
