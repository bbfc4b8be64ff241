/* sampler.h - from noise to latents with few evaluations of a network that it knows nothing about.
 *
 * Letters: sigma noise level, x latents, F raw network output, f = c_skip x + c_out F the denoised
 * estimate, c_in = 1/sqrt(sigma^2+1), c_skip = 1/(sigma^2+1), c_out = -sigma/sqrt(sigma^2+1),
 * c_noise = ln(sigma)/4 (v-prediction in EDM form, unit data variance).
 * Coefficients are double, tensors float. Layout of x is the caller's: frames of frame_elements
 * floats.
 * Source: arXiv:2303.01469 (consistency models), arXiv:2409.11367 eq. 13 (time travel sampler),
 *         arXiv:2206.00364 (EDM), diffusers scheduling_euler_discrete.py.
 * Thread: the caller's. */
#ifndef ONESTEP_WORKER_SAMPLER_SAMPLER_H
#define ONESTEP_WORKER_SAMPLER_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/status.h"

/* Most steps of any sampler, and most points of a training grid; the literature uses up to 100. */
#define SAMPLER_STEPS_MAX 1000

/* Which sampler; its name is in sampler_name. */
enum sampler_kind {
    SAMPLER_NONE = 0,
    SAMPLER_CONSISTENCY, /* stochastic multistep consistency sampling, 1 evaluation per step */
    SAMPLER_TTS_LITERAL, /* time travel sampler as printed: F_mid with the coefficients of hi */
    SAMPLER_TTS_FMID,    /* time travel sampler that ends each step at f_mid */
    SAMPLER_EULER        /* deterministic Euler on the Karras schedule (the teacher) */
};

/* Where the Gaussian of the time travel sampler comes from. */
enum sampler_eps0 { SAMPLER_EPS0_FRESH = 0, SAMPLER_EPS0_INITIAL };

/* What to run. */
struct sampler_config {
    enum sampler_kind kind;      /* which */
    int steps;                   /* 1..grid for consistency and tts (tts needs steps + 1 <= grid) */
    int grid;                    /* points of the training grid: 100 for OSV, 40 for AnimateLCM */
    double sigma_min, sigma_max; /* ends of the grid, from the checkpoint */
    enum sampler_eps0 eps0;      /* time travel sampler only */
    double guidance_min;         /* guidance weight of the first frame */
    double guidance_max;         /* ... of the last frame; linear in between; guidance is used when
                                    this is above 1 */
};

/* One evaluation that is asked of the network. */
struct sampler_call {
    const float *x;      /* c_in * latents, the network's input */
    double sigma;        /* noise level of the latents */
    double c_noise;      /* ln(sigma) / 4 */
    bool with_condition; /* false: the unconditional pass of guidance */
    int evaluation;      /* 0, 1, ..; both passes of one guided evaluation have the same number */
};

/* The world of a sampler. */
struct sampler_ops {
    void *self; /* handed to every function */
    /* F = network(call), as many floats as call->x. */
    status (*network)(void *self, const struct sampler_call *call, float *F);
    /* dst = standard normal noise; draw 0 is the initial latents, 1.. those of the steps, in the
     * order of the calls. */
    status (*noise)(void *self, int draw, float *dst);
    /* F of an evaluation after guidance; may be NULL. */
    status (*on_output)(void *self, int evaluation, const float *F);
    /* After step (0..steps-1): latents at sigma (0 after the last); may change x; may be NULL. */
    status (*on_step)(void *self, int step, double sigma, float *x);
};

/* The tensors of a run. */
struct sampler_space {
    int64_t frames;         /* frames of the clip */
    int64_t frame_elements; /* floats per frame */
    struct arena *scratch;  /* sampler_scratch_bytes are taken and given back */
};

/* Names for jobs and manifests: "consistency", "tts_literal", "tts_fmid", "euler"; and back
 * (SAMPLER_NONE for an unknown name). */
const char *sampler_name(enum sampler_kind kind);
enum sampler_kind sampler_from_name(const char *name);

/* Is config possible? Errors: ERR_BADARG; the sentence names the parameter and its bounds. */
MUST_USE status sampler_check(const struct sampler_config *config);

/* Is guidance on (guidance_max above 1, so that every evaluation has two passes)? */
bool sampler_is_guided(const struct sampler_config *config);

/* Evaluations of the network in a run; a guided one counts once. This function can't fail. */
int sampler_evaluations(const struct sampler_config *config);

/* sigmas[0..count-1] = count points of the Karras schedule with rho 7, from sigma_max down to
 * sigma_min; one point: sigma_max. This function can't fail. */
void sampler_karras(double *sigmas, int count, double sigma_min, double sigma_max);

/* sigmas[0..steps-1] = the noise levels of a run, falling, and sigmas[steps] = 0. Consistency and
 * tts: every floor(grid/steps)-th point of the grid-point Karras schedule; Euler: its own
 * steps-point one. This function can't fail; config passed sampler_check. */
void sampler_sigmas(const struct sampler_config *config, double *sigmas);

/* Bytes of scratch that sampler_run takes. This function can't fail. */
size_t sampler_scratch_bytes(const struct sampler_config *config,
                             const struct sampler_space *space);

/* x = the latents of a finished clip, [frames][frame_elements]; its content before does not matter.
 * Errors: those of sampler_check, ops and the arena. */
MUST_USE status sampler_run(const struct sampler_config *config, const struct sampler_space *space,
                            const struct sampler_ops *ops, float *x);

#endif
