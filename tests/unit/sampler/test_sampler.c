/* Samplers with a network whose answer is known in closed form.
 *
 * For data N(mu, s^2) the best denoiser is D = (s^2 x + sigma^2 mu) / (s^2 + sigma^2), and the
 * probability-flow ODE through (x, sigma) ends at mu + (x - mu) s / sqrt(s^2 + sigma^2); a perfect
 * consistency model returns that end. Either becomes a network by F = (f - c_skip x) / c_out. */
#include "worker/sampler/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"

#define MU 0.3
#define S 0.6
#define SIGMA_MAX 80.0

/* One run and what it saw. */
struct world {
    double (*f)(double x, double sigma); /* denoised estimate at x */
    int64_t count;                       /* floats per tensor */
    double shift;                        /* added to F in the unconditional pass */
    int fail_at;                         /* evaluation that fails; -1: none */
    int calls, draws, steps, outputs;    /* counted */
    double sigmas[64];                   /* of each evaluation */
    double step_sigmas[64];              /* handed to on_step */
    bool conditions[64];                 /* of each call */
    uint64_t random;                     /* state of the noise */
    float last_output;                   /* F[0] after guidance */
};

static double gaussian_denoiser(double x, double sigma)
{
    return (S * S * x + sigma * sigma * MU) / (S * S + sigma * sigma);
}

static double ode_end(double x, double sigma)
{
    return MU + (x - MU) * S / sqrt(S * S + sigma * sigma);
}

static status network(void *self, const struct sampler_call *call, float *F)
{
    struct world *w = self;
    double s = call->sigma, norm = sqrt(s * s + 1);

    EXPECT_NEAR(call->c_noise, log(s) / 4, 1e-12);
    if (call->evaluation == w->fail_at)
        return FAIL(ERR_DEVICE, "the network broke");
    w->conditions[w->calls] = call->with_condition;
    w->sigmas[w->calls++] = s;
    for (int64_t i = 0; i < w->count; i++) {
        double x = (double)call->x[i] * norm; /* undo c_in */
        double f = w->f(x, s);

        F[i] = (float)((f - x / (norm * norm)) / (-s / norm));
        F[i] += call->with_condition ? 0 : (float)w->shift;
    }
    return OK;
}

static float next_normal(struct world *w)
{
    double u[2];

    for (int i = 0; i < 2; i++) {
        w->random = w->random * 6364136223846793005u + 1442695040888963407u;
        u[i] = ((double)(w->random >> 11) + 0.5) * 0x1p-53;
    }
    return (float)(sqrt(-2 * log(u[0])) * cos(6.283185307179586 * u[1]));
}

static status noise(void *self, int draw, float *dst)
{
    struct world *w = self;

    EXPECT_INT(draw, w->draws);
    w->draws++;
    for (int64_t i = 0; i < w->count; i++)
        dst[i] = next_normal(w);
    return OK;
}

static status on_step(void *self, int step, double sigma, float *x)
{
    struct world *w = self;

    (void)x;
    EXPECT_INT(step, w->steps);
    w->step_sigmas[w->steps++] = sigma;
    return OK;
}

static status on_output(void *self, int evaluation, const float *F)
{
    struct world *w = self;

    EXPECT_INT(evaluation, w->outputs);
    w->outputs++;
    w->last_output = F[0];
    return OK;
}

static struct sampler_config config(enum sampler_kind kind, int steps)
{
    return (struct sampler_config){ .kind = kind,
                                    .steps = steps,
                                    .grid = 100,
                                    .sigma_min = 0.002,
                                    .sigma_max = SIGMA_MAX,
                                    .guidance_min = 1,
                                    .guidance_max = 1 };
}

static status run_frames(struct world *w, const struct sampler_config *c, int64_t frames, float *x)
{
    struct arena scratch = { 0 };
    struct sampler_space space = { .frames = frames, .frame_elements = w->count / frames };
    const struct sampler_ops ops = {
        .self = w, .network = network, .noise = noise, .on_output = on_output, .on_step = on_step
    };
    status st;

    /* Exactly as much as was promised. */
    EXPECT_OK(arena_open(&scratch, "scratch", sampler_scratch_bytes(c, &space)));
    space.scratch = &scratch;
    st = sampler_run(c, &space, &ops, x);
    EXPECT_INT(scratch.used_bytes, 0);
    if (st == OK)
        EXPECT_INT(scratch.peak_bytes, scratch.size_bytes);
    arena_close(&scratch);
    return st;
}

static struct world world(double (*f)(double, double), int64_t count)
{
    return (struct world){ .f = f, .count = count, .fail_at = -1, .random = 1 };
}

static float *run(struct world *w, const struct sampler_config *c)
{
    float *x = malloc((size_t)w->count * sizeof(float));

    EXPECT(x);
    EXPECT_OK(run_frames(w, c, 1, x));
    return x;
}

/* The noise that draw number draw will give to element 0 (count 1). */
static double noise_of(int draw)
{
    struct world w = world(NULL, 1);
    float value = 0;

    for (int i = 0; i <= draw; i++)
        value = next_normal(&w);
    return (double)value;
}

static double start_of(void)
{
    return sqrt(SIGMA_MAX * SIGMA_MAX + 1) * noise_of(0);
}

/* Float tensors between steps: a few roundings of values of size SIGMA_MAX. */
#define ROUNDING 2e-5

TEST(one_step_of_any_kind_but_tts_is_the_denoiser)
{
    static const enum sampler_kind kinds[] = { SAMPLER_CONSISTENCY, SAMPLER_EULER };

    for (int k = 0; k < 2; k++) {
        struct world w = world(gaussian_denoiser, 1);
        struct sampler_config c = config(kinds[k], 1);
        float *x = run(&w, &c);

        EXPECT_NEAR(x[0], gaussian_denoiser(start_of(), SIGMA_MAX), ROUNDING);
        EXPECT_INT(w.calls, 1);
        EXPECT_INT(w.draws, 1);
        EXPECT_INT(w.outputs, 1);
        EXPECT_INT(w.steps, 1);
        EXPECT_NEAR(w.step_sigmas[0], 0, 0);
        free(x);
    }
}

TEST(euler_converges_with_order_one)
{
    double error[4];

    for (int i = 0; i < 4; i++) {
        struct world w = world(gaussian_denoiser, 1);
        struct sampler_config c = config(SAMPLER_EULER, 8 << i);
        float *x = run(&w, &c);

        error[i] = fabs((double)x[0] - ode_end(start_of(), SIGMA_MAX));
        free(x);
    }
    /* Twice the steps, half the error; the next term of the expansion is still seen at 16 steps. */
    EXPECT(error[3] > 1e-4);
    EXPECT_NEAR(log2(error[1] / error[2]), 1, 0.2);
    EXPECT_NEAR(log2(error[2] / error[3]), 1, 0.1);
}

/* With a perfect consistency model every number of steps gives samples of the data. */
TEST(consistency_keeps_the_distribution)
{
    enum { COUNT = 200000 };

    for (int steps = 1; steps <= 4; steps++) {
        struct world w = world(ode_end, COUNT);
        struct sampler_config c = config(SAMPLER_CONSISTENCY, steps);
        float *x = run(&w, &c);
        double mean = 0, variance = 0;

        for (int i = 0; i < COUNT; i++)
            mean += (double)x[i] / COUNT;
        for (int i = 0; i < COUNT; i++)
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / COUNT;
        /* Six standard deviations of the estimates, and the start's lack of mu and excess of
         * variance, which are MU * S / 80 and 0.01 %. */
        EXPECT_NEAR(mean, MU, 6 * S / sqrt(COUNT) + MU * S / SIGMA_MAX);
        EXPECT_NEAR(variance, S * S, S * S * (6 * sqrt(2.0 / COUNT) + 2e-4));
        EXPECT_INT(w.calls, steps);
        EXPECT_INT(w.draws, steps);
        EXPECT_INT(w.steps, steps);
        free(x);
    }
}

/* Each step written out, for one element. */
TEST(consistency_by_hand)
{
    struct world w = world(gaussian_denoiser, 1);
    struct sampler_config c = config(SAMPLER_CONSISTENCY, 3);
    double s[4], x = start_of();
    float *got = run(&w, &c);

    sampler_sigmas(&c, s);
    for (int i = 0; i < 3; i++) {
        EXPECT_NEAR(w.sigmas[i], s[i], 0);
        EXPECT_NEAR(w.step_sigmas[i], s[i + 1], 0);
        x = gaussian_denoiser(x, s[i]);
        if (i < 2)
            x += s[i + 1] * noise_of(i + 1);
    }
    EXPECT_NEAR(got[0], x, ROUNDING);
    free(got);
}

/* One time travel step from the printed equations, in terms of D and F. */
static double tts_by_hand(double x, double eps0, const double level[3], bool is_literal)
{
    double hi = level[0], mid = level[1], lo = level[2];
    double hi2 = hi * hi + 1, mid2 = mid * mid + 1;
    double f_hi = gaussian_denoiser(x, hi);
    double x_mid = f_hi + mid * (eps0 + (x - f_hi) / hi) / 2;
    double f_mid = gaussian_denoiser(x_mid, mid);
    double F_mid = (f_mid - x_mid / mid2) / (-mid / sqrt(mid2));
    double e2 = (eps0 + (x_mid - f_mid) / mid) / 2;

    if (!is_literal)
        return f_mid + lo * eps0;
    return (f_mid + hi * e2) / hi2 - hi / sqrt(hi2) * F_mid + lo * eps0;
}

static void tts_case(bool is_literal, bool is_fresh, int steps)
{
    struct world w = world(gaussian_denoiser, 1);
    struct sampler_config c = config(is_literal ? SAMPLER_TTS_LITERAL : SAMPLER_TTS_FMID, steps);
    struct sampler_config finer = config(SAMPLER_CONSISTENCY, steps + 1);
    double s[8], between[8], x = start_of();
    float *got;

    c.eps0 = is_fresh ? SAMPLER_EPS0_FRESH : SAMPLER_EPS0_INITIAL;
    got = run(&w, &c);
    sampler_sigmas(&c, s);
    sampler_sigmas(&finer, between);
    for (int i = 0; i < steps; i++) {
        const double level[3] = { s[i], between[i + 1], s[i + 1] };

        EXPECT(level[0] > level[1] && level[1] > level[2]);
        EXPECT_NEAR(w.sigmas[2 * i], level[0], 0);
        EXPECT_NEAR(w.sigmas[2 * i + 1], level[1], 0);
        EXPECT_NEAR(w.step_sigmas[i], level[2], 0);
        x = tts_by_hand(x, noise_of(is_fresh ? i + 1 : 0), level, is_literal);
    }
    EXPECT_NEAR(got[0], x, ROUNDING);
    EXPECT_INT(w.calls, 2 * steps);
    EXPECT_INT(w.outputs, 2 * steps);
    EXPECT_INT(w.steps, steps);
    EXPECT_INT(w.draws, is_fresh ? 1 + steps : 1);
    free(got);
}

TEST(time_travel_by_hand)
{
    for (int steps = 1; steps <= 3; steps++) {
        tts_case(true, true, steps);
        tts_case(true, false, steps);
        tts_case(false, true, steps);
        tts_case(false, false, steps);
    }
}

/* Weights rise linearly over the frames: with F = uncond + g (cond - uncond) and uncond - cond =
 * shift, one step moves frame f by c_out (1 - g_f) shift. */
TEST(guidance_rises_over_the_frames)
{
    enum { FRAMES = 14, ELEMENTS = 3 };
    static const double weights[] = { 1.0, 1.153846, 1.307692 };
    struct world guided = world(gaussian_denoiser, FRAMES * ELEMENTS), plain = guided;
    struct sampler_config c = config(SAMPLER_EULER, 1);
    float a[FRAMES * ELEMENTS], b[FRAMES * ELEMENTS];
    double c_out = -SIGMA_MAX / sqrt(SIGMA_MAX * SIGMA_MAX + 1);

    EXPECT_OK(run_frames(&plain, &c, FRAMES, b));
    EXPECT_INT(plain.calls, 1);
    c.guidance_max = 3;
    guided.shift = 0.5;
    EXPECT_OK(run_frames(&guided, &c, FRAMES, a));
    EXPECT_INT(guided.calls, 2);
    EXPECT_INT(guided.outputs, 1);
    EXPECT(!guided.conditions[0] && guided.conditions[1]);
    for (int i = 0; i < FRAMES * ELEMENTS; i++) {
        double g = 1 + 2.0 * (i / ELEMENTS) / (FRAMES - 1);

        EXPECT_NEAR(a[i], (double)b[i] + c_out * (1 - g) * 0.5, ROUNDING);
        if (i / ELEMENTS < 3)
            EXPECT_NEAR(g, weights[i / ELEMENTS], 6e-7); /* six digits in the table */
    }
}

TEST(one_frame_has_the_first_weight)
{
    struct world w = world(gaussian_denoiser, 4), plain = w;
    struct sampler_config c = config(SAMPLER_EULER, 1);
    float a[4], b[4];

    EXPECT_OK(run_frames(&plain, &c, 1, b));
    c.guidance_max = 3;
    w.shift = 7;
    EXPECT_OK(run_frames(&w, &c, 1, a));
    for (int i = 0; i < 4; i++)
        EXPECT_NEAR(a[i], b[i], ROUNDING);
}

TEST(a_failing_network_ends_the_run)
{
    struct world w = world(gaussian_denoiser, 4);
    struct sampler_config c = config(SAMPLER_CONSISTENCY, 3);
    float x[4];

    w.fail_at = 1;
    EXPECT_STATUS(run_frames(&w, &c, 1, x), ERR_DEVICE);
    EXPECT_INT(w.calls, 1);
    EXPECT_INT(w.steps, 1);
}

static status double_x(void *self, int step, double sigma, float *x)
{
    (void)self;
    (void)sigma;
    x[0] *= step == 0 ? 2 : 1;
    return OK;
}

/* What a later feature does between steps: look at the latents and change them. */
TEST(a_step_hook_may_change_the_latents)
{
    struct world w = world(gaussian_denoiser, 1);
    struct sampler_config c = config(SAMPLER_CONSISTENCY, 2);
    struct arena scratch = { 0 };
    struct sampler_space space = { .frames = 1, .frame_elements = 1, .scratch = &scratch };
    const struct sampler_ops ops = {
        .self = &w, .network = network, .noise = noise, .on_step = double_x
    };
    double s[3], want;
    float x;

    sampler_sigmas(&c, s);
    EXPECT_OK(arena_open(&scratch, "scratch", sampler_scratch_bytes(&c, &space)));
    EXPECT_OK(sampler_run(&c, &space, &ops, &x));
    want = gaussian_denoiser(start_of(), s[0]) + s[1] * noise_of(1);
    EXPECT_NEAR(x, gaussian_denoiser(2 * want, s[1]), ROUNDING);
}

TEST(too_little_scratch_is_an_error)
{
    struct world w = world(gaussian_denoiser, 1);
    struct sampler_config c = config(SAMPLER_CONSISTENCY, 1);
    struct arena scratch = { 0 };
    struct sampler_space space = { .frames = 1, .frame_elements = 1, .scratch = &scratch };
    const struct sampler_ops ops = { .self = &w, .network = network, .noise = noise };
    float x;

    EXPECT_OK(arena_open(&scratch, "scratch", sampler_scratch_bytes(&c, &space) - ARENA_ALIGN));
    EXPECT_STATUS(sampler_run(&c, &space, &ops, &x), ERR_NOMEM);
    EXPECT_INT(scratch.used_bytes, 0);
}
