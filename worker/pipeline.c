/* DESIGN: a run is a struct of everything that lives as long as one clip, and four steps that fill
 * it in order. Host memory of a clip comes from one arena that is opened for the run and closed
 * with it; device memory from dev->act, which was reserved when the model was loaded. pipeline_plan
 * adds up the same requests that the steps make. */
#include "worker/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "worker/memory.h"
#include "worker/sampler/noise.h"
#include "worker/sampler/sampler.h"

/* Points of the grid of noise levels that OSV was distilled on. Source: arXiv:2409.11367 section
 * 5. */
#define GRID_POINTS 100
#define RGB 3

/* The state of one clip. */
struct run {
    struct pipeline *p;               /* borrowed */
    const struct pipeline_clip *clip; /* borrowed */
    struct arena host;                /* images, noise, latents */
    struct noise noise;               /* CAREFUL: torch's stream depends on the order of draws */
    struct noise_shape latent_shape;  /* of the clip's latents */
    float *embedding;                 /* [projection] */
    float *image_latent;              /* [h][w][c] */
    float *latents;                   /* [frames][h][w][c] */
    bool is_guided;                   /* two passes of the UNet per evaluation */
    int evaluation;                   /* the last one that the sampler asked for */
    int passes_done, passes_total;    /* calls of the UNet */
};

static status take_floats(struct arena *a, int64_t count, float **dst)
{
    void *p;
    status st = arena_take(a, (size_t)count * sizeof(float), &p);

    if (st == OK)
        *dst = p;
    return st;
}

static int64_t latent_values(const struct run *r)
{
    const struct noise_shape *s = &r->latent_shape;

    return s->frames * s->channels * s->height * s->width;
}

static struct sampler_config sampler_of(const struct pipeline *p, const struct job_spec *spec)
{
    static const enum sampler_kind kinds[] = {
        [SPEC_CONSISTENCY] = SAMPLER_CONSISTENCY,
        [SPEC_TTS_LITERAL] = SAMPLER_TTS_LITERAL,
        [SPEC_TTS_FMID] = SAMPLER_TTS_FMID,
        [SPEC_EULER] = SAMPLER_EULER,
    };

    CHECK(spec->sampler >= 0 && spec->sampler < (int)(sizeof(kinds) / sizeof(kinds[0])));
    return (struct sampler_config){
        .kind = kinds[spec->sampler],
        .steps = (int)spec->steps,
        .grid = GRID_POINTS,
        .sigma_min = p->checkpoint.scheduler.sigma_min,
        .sigma_max = p->checkpoint.scheduler.sigma_max,
        .eps0 = spec->eps0 == SPEC_EPS0_INITIAL ? SAMPLER_EPS0_INITIAL : SAMPLER_EPS0_FRESH,
        .guidance_min = spec->guidance_min,
        .guidance_max = spec->guidance_max,
    };
}

static int passes_of(const struct sampler_config *c)
{
    return sampler_evaluations(c) * (sampler_is_guided(c) ? 2 : 1);
}

/* --- the steps ------------------------------------------------------------------------------- */

/* CLIP sees the photograph itself, not the resized or noised one. */
static status run_clip(struct run *r)
{
    status st = OK;
    const struct clip *clip = &r->p->checkpoint.clip;
    int64_t side = clip->config.image;
    size_t mark = arena_mark(&r->host);
    float *pixels;

    TRY(take_floats(&r->host, side * side * RGB, &pixels));
    TRY(image_clip_pixels(r->clip->image, &clip->config, pixels, &r->host));
    TRY(clip_embed(&r->p->dev, clip, pixels, r->embedding));
    TRY(dump_vector(r->clip->dump, "image_embedding", r->embedding, clip->config.projection));
out:
    arena_release(&r->host, mark);
    return st;
}

static status run_vae_encode(struct run *r)
{
    status st = OK;
    const struct job_spec *spec = r->clip->spec;
    const struct noise_shape *s = &r->latent_shape;
    struct noise_shape pixels = { 1, RGB, spec->height_px, spec->width_px };
    int64_t values = spec->height_px * spec->width_px * RGB;
    size_t mark = arena_mark(&r->host);
    float strength = (float)spec->noise_aug;
    float *image, *noise;
    void *rgb;

    TRY(take_floats(&r->host, values, &image));
    TRY(take_floats(&r->host, values, &noise));
    TRY(arena_take(&r->host, (size_t)values, &rgb));
    TRY(image_resize(r->clip->image, rgb, spec->width_px, spec->height_px, &r->host));
    image_to_signed(rgb, image, values);
    noise_draw(&r->noise, NOISE_PIXELS, &pixels, noise);
    TRY(dump_write(r->clip->dump,
                   &(struct dump_tensor){ .data = noise,
                                          .n = 1,
                                          .h = spec->height_px,
                                          .w = spec->width_px,
                                          .c = RGB,
                                          .has_no_frames = true },
                   "image_noise", -1, NULL));
    for (int64_t i = 0; i < values; i++)
        image[i] += strength * noise[i];
    TRY(vae_encode(&r->p->dev, &r->p->checkpoint.vae, image, spec->height_px, spec->width_px,
                   r->image_latent));
    TRY(dump_write(r->clip->dump,
                   &(struct dump_tensor){ .data = r->image_latent,
                                          .n = 1,
                                          .h = s->height,
                                          .w = s->width,
                                          .c = s->channels,
                                          .has_no_frames = true },
                   "conditioning_latent", -1, NULL));
out:
    arena_release(&r->host, mark);
    return st;
}

static status dump_latents(const struct run *r, const float *data, const char *name, int index,
                           const char *suffix)
{
    const struct noise_shape *s = &r->latent_shape;
    const struct dump_tensor t = {
        .data = data, .n = s->frames, .h = s->height, .w = s->width, .c = s->channels
    };

    return dump_write(r->clip->dump, &t, name, index, suffix);
}

static void on_unet_block(void *self, int done, int total)
{
    struct run *r = self;

    stage_show(r->clip->stages, STAGE_UNET,
               (r->passes_done + (double)done / total) / r->passes_total);
}

/* The sampler's network: guidance is two calls, the unconditional one without embedding and without
 * image latent. Source: diffusers pipeline_stable_video_diffusion.py. */
static status on_network(void *self, const struct sampler_call *call, float *F)
{
    status st = OK;
    struct run *r = self;
    const struct job_spec *spec = r->clip->spec;
    const struct progress progress = { on_unet_block, r };
    const struct unet_input input = {
        .latents = call->x,
        .image_latent = call->with_condition ? r->image_latent : NULL,
        .embedding = call->with_condition ? r->embedding : NULL,
        .frames = r->latent_shape.frames,
        .h = r->latent_shape.height,
        .w = r->latent_shape.width,
        .timestep = (float)call->c_noise,
        .fps = (float)(spec->fps - 1), /* CAREFUL: SVD was trained on frames per second minus one */
        .motion_bucket = (float)spec->motion_bucket,
        .noise_aug = (float)spec->noise_aug,
        .progress = &progress,
    };

    r->evaluation = call->evaluation;
    TRY(unet_forward(&r->p->dev, &r->p->checkpoint.unet, &input, F));
    r->passes_done++;
    if (r->is_guided)
        TRY(dump_latents(r, F, "unet_output", call->evaluation,
                         call->with_condition ? "cond" : "uncond"));
out:
    return st;
}

static status on_noise(void *self, int draw, float *dst)
{
    struct run *r = self;

    if (draw == 0) {
        noise_draw(&r->noise, NOISE_LATENTS, &r->latent_shape, dst);
        return dump_latents(r, dst, "initial_noise", -1, NULL);
    }
    noise_draw(&r->noise, NOISE_STEP + (uint32_t)(draw - 1), &r->latent_shape, dst);
    return dump_latents(r, dst, "step_noise", draw - 1, NULL);
}

static status on_output(void *self, int evaluation, const float *F)
{
    return dump_latents(self, F, "unet_output", evaluation, NULL);
}

static status on_step(void *self, int step, double sigma, float *x)
{
    const struct run *r = self;

    (void)step;
    (void)sigma;
    return dump_latents(r, x, "latents", r->evaluation, NULL);
}

static bool are_finite(const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(x[i]))
            return false;
    }
    return true;
}

static status run_unet(struct run *r)
{
    status st = OK;
    const struct job_spec *spec = r->clip->spec;
    const struct sampler_config config = sampler_of(r->p, spec);
    const struct sampler_space space = {
        .frames = r->latent_shape.frames,
        .frame_elements = latent_values(r) / r->latent_shape.frames,
        .scratch = &r->host,
    };
    const struct sampler_ops ops = {
        .self = r,
        .network = on_network,
        .noise = on_noise,
        .on_output = on_output,
        .on_step = on_step,
    };

    r->is_guided = sampler_is_guided(&config);
    r->passes_total = passes_of(&config);
    TRY(sampler_run(&config, &space, &ops, r->latents));
    CHECK(r->passes_done == r->passes_total);
    if (!are_finite(r->latents, latent_values(r)))
        TRY(FAIL(ERR_CORRUPT,
                 "the model %s made latents that are not finite numbers; its weights "
                 "are damaged, or guidance %g is too strong for it",
                 r->p->checkpoint.name, spec->guidance_max));
    TRY(dump_latents(r, r->latents, "final_latents", -1, NULL));
out:
    return st;
}

static void on_decode_block(void *self, int done, int total)
{
    struct run *r = self;

    stage_show(r->clip->stages, STAGE_VAE_DECODE, (double)done / total);
}

static status on_frame(void *self, int64_t index, const float *rgb)
{
    struct run *r = self;
    struct frames *frames = r->clip->frames;
    int64_t values = frames->h * frames->w * RGB;

    if (!are_finite(rgb, values))
        return FAIL(ERR_CORRUPT,
                    "the model %s made a frame that is not finite numbers; its VAE "
                    "weights are damaged",
                    r->p->checkpoint.name);
    dump_frame(r->clip->dump, index, rgb);
    image_from_signed(rgb, frames_at(frames, index), values);
    frames_put(frames, index + 1);
    return OK;
}

static status run_vae_decode(struct run *r)
{
    status st = OK;
    const struct job_spec *spec = r->clip->spec;
    const struct progress progress = { on_decode_block, r };
    struct vae_decode_args args = {
        .latents = r->latents,
        .frames = r->latent_shape.frames,
        .h = r->latent_shape.height,
        .w = r->latent_shape.width,
        .chunk = spec->decode_chunk_frames,
        .on_frame = on_frame,
        .self = r,
        .progress = &progress,
    };
    float scale = (float)(1 / r->p->checkpoint.vae.config.scaling_factor);

    TRY(frames_open(r->clip->frames, spec->frames, spec->height_px, spec->width_px));
    TRY(dump_frames(r->clip->dump, spec->frames, spec->height_px, spec->width_px));
    TRY(take_floats(&r->host, spec->height_px * spec->width_px * RGB, &args.frame));
    for (int64_t i = 0; i < latent_values(r); i++)
        r->latents[i] *= scale;
    TRY(vae_decode(&r->p->dev, &r->p->checkpoint.vae, &args));
out:
    return st;
}

/* --- the order ------------------------------------------------------------------------------- */

static status run_stage(struct run *r, enum stage stage, status (*step)(struct run *))
{
    double begin = stage_begin();
    status st;

    stage_show(r->clip->stages, stage, 0);
    st = step(r);
    stage_end(r->clip->stages, stage, begin);
    return st;
}

static struct noise_shape latent_shape_of(const struct pipeline *p, const struct job_spec *spec)
{
    return (struct noise_shape){
        .frames = spec->frames,
        .channels = p->checkpoint.vae.config.latent_channels,
        .height = spec->height_px / p->sizes.vae_factor,
        .width = spec->width_px / p->sizes.vae_factor,
    };
}

static void weigh_stages(const struct run *r)
{
    const struct checkpoint_need *need = &r->clip->need->model;
    const struct sampler_config config = sampler_of(r->p, r->clip->spec);
    double work[STAGE_COUNT] = {
        [STAGE_CLIP] = need->clip_flops,
        [STAGE_VAE_ENCODE] = need->encode_flops,
        [STAGE_UNET] = need->unet_flops * passes_of(&config),
        [STAGE_VAE_DECODE] = need->decode_flops,
    };

    stages_weigh(r->clip->stages, work);
}

status pipeline_run(struct pipeline *p, const struct pipeline_clip *clip)
{
    status st = OK;
    struct run r = { .p = p, .clip = clip, .latent_shape = latent_shape_of(p, clip->spec) };
    size_t mark = arena_mark(&p->dev.act);
    enum noise_kind kind = clip->spec->noise == SPEC_TORCH ? NOISE_TORCH : NOISE_PHILOX;

    CHECK(clip->spec->frames > 0 && clip->spec->width_px > 0 && clip->spec->height_px > 0);
    p->dev.cancel = clip->cancel;
    noise_init(&r.noise, kind, clip->spec->seed);
    weigh_stages(&r);
    TRY(arena_open(&r.host, "memory for the job's images and latents", clip->need->host_bytes));
    TRY(take_floats(&r.host, p->checkpoint.clip.config.projection, &r.embedding));
    TRY(take_floats(&r.host, latent_values(&r) / r.latent_shape.frames, &r.image_latent));
    TRY(take_floats(&r.host, latent_values(&r), &r.latents));
    /* As in the reference pipeline, which encodes in float32 whatever the UNet's type. */
    kern_exact(p->dev.ctx, true);
    TRY(run_stage(&r, STAGE_CLIP, run_clip));
    TRY(run_stage(&r, STAGE_VAE_ENCODE, run_vae_encode));
    kern_exact(p->dev.ctx, false);
    TRY(run_stage(&r, STAGE_UNET, run_unet));
    TRY(run_stage(&r, STAGE_VAE_DECODE, run_vae_decode));
out:
    p->dev.cancel = NULL;
    arena_release(&p->dev.act, mark);
    arena_close(&r.host);
    return st;
}

/* --- before the run -------------------------------------------------------------------------- */

status pipeline_resolve(const struct pipeline *p, struct job_spec *spec, int64_t image_w,
                        int64_t image_h)
{
    status st = OK;
    struct sampler_config config;

    spec_resolve(spec);
    TRY(size_resolve(spec, &p->sizes, image_w, image_h));
    config = sampler_of(p, spec);
    TRY(sampler_check(&config));
out:
    return st;
}

/* bytes rounded up as an arena does. */
static size_t taken(int64_t bytes)
{
    return ((size_t)bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The peak of run.host: what lives through the clip, and the hungriest step on top. */
static size_t host_bytes(const struct pipeline *p, const struct job_spec *spec,
                         const struct image *image)
{
    const struct clip_config *clip = &p->checkpoint.clip.config;
    const struct noise_shape s = latent_shape_of(p, spec);
    const struct sampler_config config = sampler_of(p, spec);
    int64_t frame_latent = s.channels * s.height * s.width;
    int64_t pixels = spec->height_px * spec->width_px * RGB;
    const struct sampler_space space = { .frames = s.frames, .frame_elements = frame_latent };
    size_t f = sizeof(float);
    size_t kept = taken(clip->projection * (int64_t)f) + taken(frame_latent * (int64_t)f) +
                  taken(s.frames * frame_latent * (int64_t)f);
    size_t embed = taken((int64_t)clip->image * clip->image * RGB * (int64_t)f) +
                   image_clip_scratch(image, clip);
    size_t encode = 2 * taken(pixels * (int64_t)f) + taken(pixels) +
                    image_resize_scratch(image, spec->width_px, spec->height_px);
    size_t sample = sampler_scratch_bytes(&config, &space);
    size_t decode = taken(pixels * (int64_t)f);

    return kept + larger(larger(embed, encode), larger(sample, decode));
}

/* The memory of dev is its own: nothing else of a job counts against the limit. */
static bool has_own_memory(const struct dev *dev)
{
    return dev->kern->memory != NULL;
}

status pipeline_plan(const struct pipeline *p, const struct job_spec *spec, int64_t image_w,
                     int64_t image_h, struct pipeline_need *need)
{
    status st = OK;
    const struct image image = { .width = image_w, .height = image_h };
    const struct checkpoint_job job = {
        .frames = spec->frames,
        .width = spec->width_px,
        .height = spec->height_px,
        .chunk = spec->decode_chunk_frames,
        .layout = kern_layout(p->dev.ctx),
    };

    *need = (struct pipeline_need){ .limit_bytes = p->memory_max_bytes };
    st = checkpoint_plan(&p->checkpoint, &job, &need->model);
    if (st == ERR_NOMEM)
        TRY(FAIL(ERR_NOMEM,
                 "a clip of %lld frames of %lldx%lld needs more memory than can be planned for; "
                 "ask for fewer or smaller frames",
                 (long long)spec->frames, (long long)spec->width_px, (long long)spec->height_px));
    TRY(st);
    need->host_bytes = host_bytes(p, spec, &image);
    need->frame_bytes = 2 * (size_t)(spec->frames * spec->height_px * spec->width_px * RGB);
    need->total_bytes = need->model.weight_bytes + need->model.act_bytes;
    if (!has_own_memory(&p->dev))
        need->total_bytes += need->host_bytes + need->frame_bytes;
out:
    return st;
}

static unsigned long long mib(size_t bytes)
{
    return (unsigned long long)((bytes + (1u << 20) - 1) >> 20);
}

status pipeline_admit(const struct job_spec *spec, const struct pipeline_need *need)
{
    if (need->total_bytes <= need->limit_bytes)
        return OK;
    return FAIL(ERR_NOMEM,
                "a clip of %lld frames of %lldx%lld needs %llu MiB of memory (weights %llu, "
                "activations %llu), this worker may use %llu; ask for fewer or smaller frames",
                (long long)spec->frames, (long long)spec->width_px, (long long)spec->height_px,
                mib(need->total_bytes), mib(need->model.weight_bytes), mib(need->model.act_bytes),
                mib(need->limit_bytes));
}

/* --- opening --------------------------------------------------------------------------------- */

/* *table and *ordinal from "cpu", "ref", "cuda" or "cuda:N". */
static status parse_device(const char *device, const char **table, int *ordinal)
{
    char end;

    *ordinal = 0;
    *table = "cuda";
    if (strcmp(device, "cuda") == 0 || sscanf(device, "cuda:%3d%c", ordinal, &end) == 1)
        return OK;
    *table = device;
    if (strcmp(device, "cpu") == 0 || strcmp(device, "ref") == 0)
        return OK;
    return FAIL(ERR_BADARG,
                "device %s is not known; use auto, cpu, cuda, cuda:N, or ref (slow, exact)",
                device);
}

static size_t memory_limit(const struct pipeline_config *config)
{
    size_t total;

    if (config->memory_max_bytes > 0)
        return config->memory_max_bytes;
    total = memory_total_bytes();
    return total > 0 ? total / 4 * 3 : SIZE_MAX / 4;
}

/* Open the device called so, with what the limit leaves for tensors. A device with memory of its
 * own decides the limit, unless there is one. */
static status open_device(struct pipeline *p, const struct pipeline_config *config,
                          const char *device)
{
    const size_t weight_bytes = p->checkpoint.values.used_bytes;
    struct kern_config kern = config->kern;
    const char *table;
    size_t act_bytes = 1;
    status st = OK;

    TRY(parse_device(device, &table, &kern.ordinal));
    p->memory_max_bytes = memory_limit(config);
    if (!config->is_plan && weight_bytes >= p->memory_max_bytes)
        TRY(FAIL(ERR_NOMEM, "%s: the weights take %llu MiB, memory_max_bytes allows %llu",
                 config->model_dir, mib(weight_bytes), mib(p->memory_max_bytes)));
    if (!config->is_plan)
        act_bytes = p->memory_max_bytes - weight_bytes;
    if (kern_find(table)->memory && config->memory_max_bytes == 0)
        act_bytes = 0;
    kern.weight_bytes = config->is_plan ? 0 : weight_bytes;
    TRY(dev_open(&p->dev, table, &kern, act_bytes));
    if (has_own_memory(&p->dev))
        p->memory_max_bytes = weight_bytes + p->dev.act.size_bytes;
out:
    return st;
}

/* The best device that works and has the memory, and a line in the log that says why. */
static status open_best_device(struct pipeline *p, const struct pipeline_config *config)
{
    status st;

    if (config->kern.precision == KERN_PRECISION_F32)
        return open_device(p, config, "cpu"); /* a GPU has no such thing here */
    st = open_device(p, config, "cuda");
    if (st != ERR_UNAVAILABLE && st != ERR_NOMEM)
        return st;
    log_info("device.auto", "device=cpu because=\"%s\"", status_message());
    status_clear();
    return open_device(p, config, "cpu");
}

static struct size_model sizes_of(const struct checkpoint *c)
{
    const struct unet_config *unet = &c->unet.config;
    int64_t factor = vae_factor(&c->vae);

    return (struct size_model){
        .frames = unet->frames,
        .native_px = unet->sample_size * factor,
        .vae_factor = factor,
        .grid_px = factor << (unet->levels - 1),
    };
}

status pipeline_open(struct pipeline *p, const struct pipeline_config *config)
{
    const bool is_auto = strcmp(config->device, "auto") == 0;
    const char *table;
    int ordinal;
    status st = OK;

    *p = (struct pipeline){ 0 };
    if (!is_auto)
        TRY(parse_device(config->device, &table, &ordinal));
    if (config->is_plan)
        TRY(checkpoint_open_blank(&p->checkpoint, config->model_dir, NULL, NULL));
    else if (config->weights_dir && config->weights_dir[0])
        TRY(checkpoint_open_cached(&p->checkpoint, config->model_dir, config->weights_dir));
    else
        TRY(checkpoint_open(&p->checkpoint, config->model_dir));
    p->sizes = sizes_of(&p->checkpoint);
    TRY(is_auto ? open_best_device(p, config) : open_device(p, config, config->device));
    return OK;
out:
    pipeline_close(p);
    return st;
}

void pipeline_close(struct pipeline *p)
{
    dev_close(&p->dev);
    checkpoint_close(&p->checkpoint);
    *p = (struct pipeline){ 0 };
}

const char *pipeline_device(const struct pipeline *p)
{
    return kern_describe(p->dev.ctx);
}
