/* noise.h - standard normal noise as a pure function of the job's seed.
 *
 * NOISE_PHILOX: value = f(seed, stream, index), Philox4x32-10 and Box-Muller; the same on any
 *               device, in any order, in any batch. The default.
 * NOISE_TORCH:  the stream of torch.randn(generator = torch.Generator("cpu").manual_seed(seed)),
 *               float32; draws must come in the reference's order because they share one state.
 * Index order of a draw is that of a dense tensor [frames][channels][height][width]; values are
 * stored at their place in [frames][height][width][channels].
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11; pytorch
 *         aten/src/ATen/native/cpu/DistributionTemplates.h, core/DistributionsHelper.h.
 * Thread: the owner's. */
#ifndef ONESTEP_WORKER_SAMPLER_NOISE_H
#define ONESTEP_WORKER_SAMPLER_NOISE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"

/* Which generator; its name is in noise_kind_name. */
enum noise_kind { NOISE_NONE = 0, NOISE_PHILOX, NOISE_TORCH };

/* What a draw is for: with NOISE_PHILOX the stream it comes from. Step k of a sampler uses
 * NOISE_STEP + k. */
enum { NOISE_PIXELS = 0, NOISE_LATENTS = 1, NOISE_STEP = 2 };

/* A source of noise. */
struct noise {
    enum noise_kind kind; /* which generator */
    uint64_t seed;        /* of the job */
    uint32_t state[624];  /* NOISE_TORCH: Mersenne Twister */
    int state_index;      /* NOISE_TORCH: next word of state; 624: refill */
    bool has_cached;      /* NOISE_TORCH: cached is valid (draws below 16 values come in pairs) */
    double cached;        /* NOISE_TORCH: second value of the last pair */
};

/* Shape of a draw. */
struct noise_shape {
    int64_t frames, channels, height, width; /* all at least 1 */
};

/* Start the generator. This function can't fail; kind is not NOISE_NONE (CHECK). */
void noise_init(struct noise *noise, enum noise_kind kind, uint64_t seed);

/* The generator called "philox" or "torch", or NOISE_NONE; and the name of a generator. */
enum noise_kind noise_kind_from_name(const char *name);
const char *noise_kind_name(enum noise_kind kind);

/* out = the ten-round Philox4x32 of counter under key. This function can't fail. */
void noise_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* dst [frames][height][width][channels] = the next draw. stream matters to NOISE_PHILOX only, the
 * order of calls to NOISE_TORCH only. This function can't fail. */
void noise_draw(struct noise *noise, uint32_t stream, const struct noise_shape *shape, float *dst);

#endif
