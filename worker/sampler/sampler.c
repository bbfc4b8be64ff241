/* DESIGN: one function per sampler, each a loop that reads like its paper, over a struct run that
 * knows how to evaluate the network (scaling, guidance, hooks) and how to combine tensors. */
#include "worker/sampler/sampler.h"

#include <math.h>
#include <string.h>

#include "common/base/check.h"

/* Curvature of the Karras schedule. Source: arXiv:2206.00364 eq. 5. */
#define RHO 7.0

/* Largest guidance weight that is accepted; 25 is far beyond any use. */
#define GUIDANCE_MAX 100.0

static const char *const names[] = { "none", "consistency", "tts_literal", "tts_fmid", "euler" };

const char *sampler_name(enum sampler_kind kind)
{
    CHECK((unsigned)kind <= SAMPLER_EULER);
    return names[kind];
}

enum sampler_kind sampler_from_name(const char *name)
{
    for (int i = SAMPLER_CONSISTENCY; i <= SAMPLER_EULER; i++) {
        if (strcmp(name, names[i]) == 0)
            return (enum sampler_kind)i;
    }
    return SAMPLER_NONE;
}

/* --- what a run will do ----------------------------------------------------------------------- */

static bool is_tts(const struct sampler_config *c)
{
    return c->kind == SAMPLER_TTS_LITERAL || c->kind == SAMPLER_TTS_FMID;
}

static bool is_weight(double g)
{
    return isfinite(g) && g >= 0 && g <= GUIDANCE_MAX;
}

/* Most steps that the config's grid has room for. */
static int steps_max(const struct sampler_config *c)
{
    if (c->kind == SAMPLER_EULER)
        return SAMPLER_STEPS_MAX;
    return is_tts(c) ? c->grid - 1 : c->grid;
}

status sampler_check(const struct sampler_config *c)
{
    if ((unsigned)c->kind > SAMPLER_EULER || c->kind == SAMPLER_NONE)
        return FAIL(ERR_BADARG, "sampler is unknown; use consistency, tts_literal, tts_fmid or "
                                "euler");
    if (c->grid < 2 || c->grid > SAMPLER_STEPS_MAX)
        return FAIL(ERR_BADARG, "grid is %d; it must be 2 to %d points", c->grid,
                    SAMPLER_STEPS_MAX);
    if (c->steps < 1 || c->steps > steps_max(c))
        return FAIL(ERR_BADARG, "steps is %d; sampler %s takes 1 to %d", c->steps, names[c->kind],
                    steps_max(c));
    if (!(c->sigma_min > 0 && c->sigma_min < c->sigma_max && isfinite(c->sigma_max)))
        return FAIL(ERR_BADARG, "sigma_min is %g and sigma_max %g; want 0 < sigma_min < sigma_max",
                    c->sigma_min, c->sigma_max);
    if (!is_weight(c->guidance_min) || !is_weight(c->guidance_max))
        return FAIL(ERR_BADARG, "guidance is %g to %g; it must be 0 to %g", c->guidance_min,
                    c->guidance_max, GUIDANCE_MAX);
    return OK;
}

bool sampler_is_guided(const struct sampler_config *config)
{
    return config->guidance_max > 1;
}

int sampler_evaluations(const struct sampler_config *config)
{
    return is_tts(config) ? 2 * config->steps : config->steps;
}

void sampler_karras(double *sigmas, int count, double sigma_min, double sigma_max)
{
    double high = pow(sigma_max, 1 / RHO), low = pow(sigma_min, 1 / RHO);

    sigmas[0] = sigma_max;
    for (int i = 1; i < count; i++)
        sigmas[i] = pow(high + (double)i / (count - 1) * (low - high), RHO);
}

/* steps levels of the training grid, then 0. */
static void grid_sigmas(const struct sampler_config *c, int steps, double *sigmas)
{
    double grid[SAMPLER_STEPS_MAX];

    sampler_karras(grid, c->grid, c->sigma_min, c->sigma_max);
    for (int i = 0; i < steps; i++)
        sigmas[i] = grid[i * (c->grid / steps)];
    sigmas[steps] = 0;
}

void sampler_sigmas(const struct sampler_config *config, double *sigmas)
{
    if (config->kind != SAMPLER_EULER) {
        grid_sigmas(config, config->steps, sigmas);
        return;
    }
    sampler_karras(sigmas, config->steps, config->sigma_min, config->sigma_max);
    sigmas[config->steps] = 0;
}

/* --- a run ------------------------------------------------------------------------------------ */

struct run {
    const struct sampler_config *config;
    const struct sampler_space *space;
    const struct sampler_ops *ops;
    int64_t count;  /* floats in a tensor */
    int evaluation; /* next one's number */
    int draw;       /* next draw's number */
    float *x;       /* latents */
    float *input;   /* c_in x */
    float *F;       /* network output */
    float *uncond;  /* unconditional output; NULL without guidance */
    float *f;       /* denoised estimate */
    float *noise;   /* of the step */
    float *initial; /* noise of the start; NULL unless the sampler uses it again */
};

/* Preconditioning at one noise level. */
struct level {
    double sigma, c_in, c_skip, c_out, c_noise;
};

static struct level level_at(double sigma)
{
    double norm = sqrt(sigma * sigma + 1);

    return (struct level){ .sigma = sigma,
                           .c_in = 1 / norm,
                           .c_skip = 1 / (norm * norm),
                           .c_out = -sigma / norm,
                           .c_noise = 0.25 * log(sigma) };
}

/* y = a x + b z; y may be x or z. */
static void combine(const struct run *r, float *y, double a, const float *x, double b,
                    const float *z)
{
    for (int64_t i = 0; i < r->count; i++)
        y[i] = (float)(a * (double)x[i] + b * (double)z[i]);
}

/* F = uncond + g (F - uncond), g linear over the frames. */
static void guide(struct run *r)
{
    const struct sampler_config *c = r->config;
    const int64_t frames = r->space->frames, elements = r->space->frame_elements;

    for (int64_t f = 0; f < frames; f++) {
        double t = frames > 1 ? (double)f / (double)(frames - 1) : 0;
        double g = c->guidance_min + t * (c->guidance_max - c->guidance_min);

        for (int64_t i = f * elements; i < (f + 1) * elements; i++) {
            double u = r->uncond[i];

            r->F[i] = (float)(u + g * ((double)r->F[i] - u));
        }
    }
}

/* r->F = network at r->x. */
static status evaluate(struct run *r, const struct level *l)
{
    status st;
    struct sampler_call call = {
        .x = r->input, .sigma = l->sigma, .c_noise = l->c_noise, .evaluation = r->evaluation++
    };

    combine(r, r->input, l->c_in, r->x, 0, r->x);
    if (r->uncond)
        TRY(r->ops->network(r->ops->self, &call, r->uncond));
    call.with_condition = true;
    TRY(r->ops->network(r->ops->self, &call, r->F));
    if (r->uncond)
        guide(r);
    if (r->ops->on_output)
        TRY(r->ops->on_output(r->ops->self, call.evaluation, r->F));
    return OK;
out:
    return st;
}

/* r->f = denoised estimate at r->x, r->F the output it came from. */
static status denoise(struct run *r, const struct level *l)
{
    status st;

    TRY(evaluate(r, l));
    combine(r, r->f, l->c_skip, r->x, l->c_out, r->F);
out:
    return st;
}

static status draw(struct run *r, float *dst)
{
    return r->ops->noise(r->ops->self, r->draw++, dst);
}

static status end_step(struct run *r, int step, double sigma)
{
    return r->ops->on_step ? r->ops->on_step(r->ops->self, step, sigma, r->x) : OK;
}

/* x = f(x, s_i) + s_{i+1} noise. */
static status run_consistency(struct run *r, const double *sigmas)
{
    status st = OK;

    for (int i = 0; i < r->config->steps; i++) {
        struct level l = level_at(sigmas[i]);

        TRY(denoise(r, &l));
        if (sigmas[i + 1] > 0) {
            TRY(draw(r, r->noise));
            combine(r, r->x, 1, r->f, sigmas[i + 1], r->noise);
        } else {
            memcpy(r->x, r->f, (size_t)r->count * sizeof(float));
        }
        TRY(end_step(r, i, sigmas[i + 1]));
    }
out:
    return st;
}

/* x += (x - f)/s (s' - s). */
static status run_euler(struct run *r, const double *sigmas)
{
    status st = OK;

    for (int i = 0; i < r->config->steps; i++) {
        struct level l = level_at(sigmas[i]);
        double step = (sigmas[i + 1] - sigmas[i]) / sigmas[i];

        TRY(denoise(r, &l));
        combine(r, r->x, 1 + step, r->x, -step, r->f);
        TRY(end_step(r, i, sigmas[i + 1]));
    }
out:
    return st;
}

/* From hi over mid to lo. On entry r->noise is eps0. Source: arXiv:2409.11367 eq. 13. */
static status tts_step(struct run *r, double hi_sigma, double mid_sigma, double lo_sigma)
{
    status st;
    const struct level hi = level_at(hi_sigma), mid = level_at(mid_sigma);
    const bool is_literal = r->config->kind == SAMPLER_TTS_LITERAL;

    TRY(denoise(r, &hi));
    /* x_mid = f_hi + s_mid e1, e1 = (eps0 + (x - f_hi)/s_hi)/2 */
    for (int64_t i = 0; i < r->count; i++) {
        double f = r->f[i], e1 = ((double)r->noise[i] + ((double)r->x[i] - f) / hi.sigma) / 2;

        r->x[i] = (float)(f + mid.sigma * e1);
    }
    TRY(denoise(r, &mid));
    /* e2 = (eps0 + (x_mid - f_mid)/s_mid)/2 */
    for (int64_t i = 0; i < r->count; i++) {
        double eps0 = r->noise[i], f = r->f[i];
        double e2 = (eps0 + ((double)r->x[i] - f) / mid.sigma) / 2;
        double end = is_literal ? hi.c_skip * (f + hi.sigma * e2) + hi.c_out * (double)r->F[i] : f;

        r->x[i] = (float)(end + lo_sigma * eps0);
    }
out:
    return st;
}

static status run_tts(struct run *r, const double *sigmas)
{
    status st = OK;
    const int steps = r->config->steps;
    double finer[SAMPLER_STEPS_MAX + 1];

    /* With one point more, every point but the first lies between two of sigmas. */
    grid_sigmas(r->config, steps + 1, finer);
    for (int i = 0; i < steps; i++) {
        if (r->initial)
            memcpy(r->noise, r->initial, (size_t)r->count * sizeof(float));
        else
            TRY(draw(r, r->noise));
        TRY(tts_step(r, sigmas[i], finer[i + 1], sigmas[i + 1]));
        TRY(end_step(r, i, sigmas[i + 1]));
    }
out:
    return st;
}

static bool keeps_initial(const struct sampler_config *c)
{
    return is_tts(c) && c->eps0 == SAMPLER_EPS0_INITIAL;
}

static size_t tensor_bytes(const struct sampler_space *space)
{
    size_t bytes = (size_t)(space->frames * space->frame_elements) * sizeof(float);

    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

size_t sampler_scratch_bytes(const struct sampler_config *config, const struct sampler_space *space)
{
    size_t tensors = 4;

    tensors += sampler_is_guided(config) ? 1 : 0;
    tensors += keeps_initial(config) ? 1 : 0;
    return tensors * tensor_bytes(space);
}

static status take_tensors(struct run *r)
{
    status st = OK;
    float **all[] = { &r->input, &r->F, &r->f, &r->noise, &r->uncond, &r->initial };
    const bool wanted[] = {
        true, true, true, true, sampler_is_guided(r->config), keeps_initial(r->config)
    };
    void *p = NULL;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (!wanted[i])
            continue;
        TRY(arena_take(r->space->scratch, (size_t)r->count * sizeof(float), &p));
        *all[i] = p;
    }
out:
    return st;
}

/* x = sqrt(s_max^2 + 1) noise, which the first c_in turns back into unit noise. */
static status start(struct run *r, double sigma)
{
    status st;
    double scale = sqrt(sigma * sigma + 1);

    TRY(draw(r, r->noise));
    if (r->initial)
        memcpy(r->initial, r->noise, (size_t)r->count * sizeof(float));
    combine(r, r->x, scale, r->noise, 0, r->noise);
out:
    return st;
}

static status run_kind(struct run *r, const double *sigmas)
{
    switch (r->config->kind) {
    case SAMPLER_CONSISTENCY:
        return run_consistency(r, sigmas);
    case SAMPLER_TTS_LITERAL:
    case SAMPLER_TTS_FMID:
        return run_tts(r, sigmas);
    case SAMPLER_EULER:
        return run_euler(r, sigmas);
    case SAMPLER_NONE:
        break;
    }
    return FAIL(ERR_BADARG, "no sampler was chosen");
}

status sampler_run(const struct sampler_config *config, const struct sampler_space *space,
                   const struct sampler_ops *ops, float *x)
{
    status st;
    struct run r = { .config = config,
                     .space = space,
                     .ops = ops,
                     .count = space->frames * space->frame_elements,
                     .x = x };
    double sigmas[SAMPLER_STEPS_MAX + 1];
    size_t mark = arena_mark(space->scratch);

    CHECK(r.count > 0 && ops->network && ops->noise);
    TRY(sampler_check(config));
    TRY(take_tensors(&r));
    sampler_sigmas(config, sigmas);
    TRY(start(&r, sigmas[0]));
    TRY(run_kind(&r, sigmas));
out:
    arena_release(space->scratch, mark);
    return st;
}
