#include "worker/model/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "worker/model/params.h"
#include "worker/model/snapshot.h"

/* Address space, not memory: the dry run of a plan touches none of it. */
#define PLAN_BYTES ((size_t)1 << 38)
/* Address space for layer structs: far above what the bounds of params.h allow to be used. */
#define LAYERS_BYTES ((size_t)1 << 28)

static const char vae_stem[] = "diffusion_pytorch_model", clip_stem[] = "model";

/* dst = dir/part. */
static status join(char *dst, const char *dir, const char *part)
{
    return file_join(dst, FILE_PATH_BYTES, dir, part);
}

static void set_name(struct checkpoint *c, const char *dir)
{
    size_t len = strlen(dir), start;

    if (original_is(dir))
        len -= strlen(strrchr(dir, '.'));
    while (len > 1 && dir[len - 1] == '/')
        len--;
    for (start = len; start > 0 && dir[start - 1] != '/'; start--)
        ;
    snprintf(c->name, sizeof(c->name), "%.*s", (int)(len - start), dir + start);
}

static status check_index(struct weights_loader *loader, const char *dir)
{
    status st;
    struct params p = { 0 };
    char path[FILE_PATH_BYTES];

    TRY(join(path, dir, "model_index.json"));
    if (!file_exists(path))
        TRY(FAIL(ERR_NOTFOUND,
                 "%s: no such file; a model is a diffusers folder with model_index.json, unet/, "
                 "vae/, image_encoder/, scheduler/ and feature_extractor/ in it",
                 path));
    TRY(params_open(&p, loader, dir, "model_index.json"));
    TRY(params_expect_text(&p, "_class_name", "StableVideoDiffusionPipeline"));
out:
    params_close(&p);
    return st;
}

/* Anything but v-prediction on continuous Karras sigmas would need other formulas. */
static status load_scheduler(struct checkpoint_scheduler *s, struct weights_loader *loader,
                             const char *dir)
{
    status st;
    struct params p = { 0 };

    TRY(params_open(&p, loader, dir, "scheduler_config.json"));
    TRY(params_expect_text(&p, "_class_name", "EulerDiscreteScheduler"));
    TRY(params_expect_text(&p, "prediction_type", "v_prediction"));
    TRY(params_expect_text(&p, "timestep_type", "continuous"));
    TRY(params_expect_text(&p, "timestep_spacing", "leading"));
    TRY(params_expect_bool(&p, "use_karras_sigmas", true));
    TRY(params_expect_bool(&p, "use_exponential_sigmas", false));
    TRY(params_expect_bool(&p, "use_beta_sigmas", false));
    /* CAREFUL: the other value, "sigma_min", ends the steps above 0. */
    TRY(params_allow_text(&p, "final_sigmas_type", "zero"));
    TRY(json_get_double(&p.root, "sigma_min", 1e-6, 1e6, &s->sigma_min));
    TRY(json_get_double(&p.root, "sigma_max", 1e-6, 1e6, &s->sigma_max));
    if (s->sigma_min >= s->sigma_max)
        TRY(FAIL(ERR_BADARG, "%s sigma_min is not below sigma_max", p.root.path));
out:
    params_close(&p);
    return st;
}

/* The parts fit together: the embedding's width, the latent's channels. */
static status check_parts(const struct checkpoint *c, const char *dir)
{
    const int64_t latent = c->vae.config.latent_channels;

    if (c->clip.config.projection != c->unet.config.cross_attention_dim)
        return FAIL(ERR_CORRUPT,
                    "%s: image_encoder's projection_dim is %" PRId64
                    ", unet's cross_attention_dim is %" PRId64 "; they must be equal",
                    dir, c->clip.config.projection, c->unet.config.cross_attention_dim);
    if (c->unet.config.out_channels != latent || c->unet.config.in_channels != 2 * latent)
        return FAIL(ERR_CORRUPT,
                    "%s: vae's latent_channels is %" PRId64 "; unet's out_channels must be that "
                    "and its in_channels twice that, not %" PRId64 " and %" PRId64,
                    dir, latent, c->unet.config.out_channels, c->unet.config.in_channels);
    return OK;
}

/* One arena for all weights, as large as the files' headers say. */
static status open_arenas(struct checkpoint *c, const struct original *original, const char *unet,
                          const char *vae, const char *clip)
{
    status st;
    size_t bytes[3] = { 0 };

    if (original) {
        bytes[0] = original_bytes(original, ARENA_ALIGN);
    } else {
        TRY(weights_measure(unet, vae_stem, &bytes[0]));
        TRY(weights_measure(vae, vae_stem, &bytes[1]));
        TRY(weights_measure(clip, clip_stem, &bytes[2]));
    }
    TRY(arena_open(&c->values, "the memory for weights",
                   bytes[0] + bytes[1] + bytes[2] + SNAPSHOT_HEADER_BYTES));
    TRY(arena_open(&c->layers, "the memory for layer tables", LAYERS_BYTES));
out:
    return st;
}

/* Addresses for values that are never read. */
static status open_plan_arenas(struct checkpoint *c)
{
    status st;

    TRY(arena_open(&c->values, "the addresses of weights", PLAN_BYTES));
    TRY(arena_open(&c->layers, "the memory for layer tables", LAYERS_BYTES));
out:
    return st;
}

/* The block of a snapshot that was mapped. Nothing is written to it. */
static status open_mapped_arenas(struct checkpoint *c)
{
    arena_open_at(&c->values, "the mapped weights", (void *)(uintptr_t)c->snapshot.data,
                  c->snapshot.bytes);
    return arena_open(&c->layers, "the memory for layer tables", LAYERS_BYTES);
}

static status load_parts(struct checkpoint *c, struct weights_loader *loader, const char *dir)
{
    status st;
    void *header;
    char unet[FILE_PATH_BYTES], vae[FILE_PATH_BYTES], clip[FILE_PATH_BYTES];
    char scheduler[FILE_PATH_BYTES], pixels[FILE_PATH_BYTES];

    TRY(join(unet, dir, "unet"));
    TRY(join(vae, dir, "vae"));
    TRY(join(clip, dir, "image_encoder"));
    TRY(join(pixels, dir, "feature_extractor"));
    TRY(join(scheduler, dir, "scheduler"));
    TRY(load_scheduler(&c->scheduler, loader, scheduler));
    if (loader->is_blank)
        TRY(open_plan_arenas(c));
    else if (loader->is_mapped)
        TRY(open_mapped_arenas(c));
    else
        TRY(open_arenas(c, loader->original, unet, vae, clip));
    /* Whether or not there is a snapshot, so that a plan is true of both. */
    TRY(arena_take(&c->values, SNAPSHOT_HEADER_BYTES, &header));
    TRY(clip_load(&c->clip, loader, clip, pixels));
    TRY(vae_load(&c->vae, loader, vae));
    TRY(unet_load(&c->unet, loader, unet));
    TRY(check_parts(c, dir));
    if (loader->original)
        TRY(original_finish(loader->original));
out:
    return st;
}

/* See original.h. */
static status open_original(struct weights_loader *loader, struct original *original,
                            const char *path)
{
    status st;

    TRY(original_open(original, path));
    loader->original = original;
    weights_identify(loader, path);
    if (!loader->is_blank && !loader->is_mapped)
        weights_hash(loader, original->content.map.data, original->content.map.bytes);
out:
    return st;
}

static status open_with(struct checkpoint *c, struct weights_loader *loader, const char *dir)
{
    status st;
    struct original original = { 0 };

    *c = (struct checkpoint){ .snapshot = c->snapshot };
    loader->values = &c->values;
    loader->layers = &c->layers;
    if (!file_exists(dir))
        TRY(FAIL(ERR_NOTFOUND,
                 "%s: no such folder or file; name the diffusers folder of a model, or SVD in one "
                 ".safetensors file",
                 dir));
    if (original_is(dir))
        TRY(open_original(loader, &original, dir));
    else
        TRY(check_index(loader, dir));
    TRY(load_parts(c, loader, dir));
    set_name(c, dir);
    original_close(&original);
    return OK;
out:
    original_close(&original);
    checkpoint_close(c);
    return st;
}

static void set_hash(struct checkpoint *c, const struct weights_loader *loader)
{
    snprintf(c->hash, sizeof(c->hash), "%016" PRIx64 "%016" PRIx64, loader->hash[0],
             loader->hash[1]);
}

status checkpoint_open(struct checkpoint *c, const char *dir)
{
    status st;
    struct weights_loader loader = { .is_blank = false };

    c->snapshot = (struct mapping){ 0 };
    TRY(open_with(c, &loader, dir));
    set_hash(c, &loader);
out:
    return st;
}

/* What a snapshot of dir's weights must be; key->name is name. */
static status find_key(struct snapshot_key *key, char name[128], const char *dir)
{
    status st;
    struct checkpoint c = { 0 };
    struct weights_loader loader = { .is_blank = true };

    TRY(open_with(&c, &loader, dir));
    snprintf(name, 128, "%s", c.name);
    key->name = name;
    key->bytes = c.values.used_bytes;
    memcpy(key->identity, loader.identity, sizeof(key->identity));
out:
    checkpoint_close(&c);
    return st;
}

/* From the files, and then keep it. CAREFUL: a snapshot is of what was loaded, not of what key
 * found: the files may have changed in between. */
static status open_and_keep(struct checkpoint *c, const char *dir, struct snapshot_key *key)
{
    status st;
    struct weights_loader loader = { .is_mapped = false };

    TRY(open_with(c, &loader, dir));
    set_hash(c, &loader);
    memcpy(key->identity, loader.identity, sizeof(key->identity));
    key->bytes = c->values.used_bytes;
    if (snapshot_write(arena_whole(&c->values), key, c->hash) != OK) {
        log_warn("weights.not_kept", "dir=%s because=\"%s\"", key->dir, status_message());
        status_clear();
    }
out:
    return st;
}

status checkpoint_open_cached(struct checkpoint *c, const char *dir, const char *cache_dir)
{
    status st;
    struct weights_loader loader = { .is_mapped = true };
    struct snapshot_key key = { .dir = cache_dir };
    char hash[sizeof(c->hash)], name[sizeof(c->name)];

    *c = (struct checkpoint){ 0 };
    TRY(find_key(&key, name, dir));
    st = snapshot_map(&c->snapshot, &key, hash);
    if (st != OK) {
        if (st != ERR_NOTFOUND)
            log_warn("weights.refused", "because=\"%s\"", status_message());
        status_clear();
        return open_and_keep(c, dir, &key);
    }
    TRY(open_with(c, &loader, dir));
    memcpy(c->hash, hash, sizeof(hash));
out:
    return st;
}

status checkpoint_open_blank(struct checkpoint *c, const char *dir, weights_asked *asked,
                             void *self)
{
    struct weights_loader loader = { .is_blank = true, .asked = asked, .asked_self = self };

    c->snapshot = (struct mapping){ 0 };
    return open_with(c, &loader, dir);
}

void checkpoint_close(struct checkpoint *c)
{
    arena_close(&c->values);
    arena_close(&c->layers);
    file_unmap(&c->snapshot);
    *c = (struct checkpoint){ 0 };
}

/* --- measuring -------------------------------------------------------------------------------- */

/* Under kern_plan tensors have addresses and no memory; host pointers are never followed. */
static float *nowhere(void)
{
    static float word;

    return &word;
}

static status ignore_frame(void *self, int64_t index, const float *rgb)
{
    (void)self;
    (void)index;
    (void)rgb;
    return OK;
}

/* The parts of a job, each on a device of its own so that its peak is its own. */
enum part { PART_CLIP, PART_ENCODE, PART_UNET, PART_DECODE, PART_COUNT };

static status run_part(struct dev *dev, const struct checkpoint *c,
                       const struct checkpoint_job *job, enum part part)
{
    const int64_t factor = vae_factor(&c->vae), h = job->height / factor, w = job->width / factor;
    const struct unet_input input = { .latents = nowhere(),
                                      .image_latent = nowhere(),
                                      .embedding = nowhere(),
                                      .frames = job->frames,
                                      .h = h,
                                      .w = w };
    const struct vae_decode_args decode = { .latents = nowhere(),
                                            .frames = job->frames,
                                            .h = h,
                                            .w = w,
                                            .chunk = job->chunk,
                                            .frame = nowhere(),
                                            .on_frame = ignore_frame };

    switch (part) {
    case PART_CLIP:
        return clip_embed(dev, &c->clip, nowhere(), nowhere());
    case PART_ENCODE:
        return vae_encode(dev, &c->vae, nowhere(), job->height, job->width, nowhere());
    case PART_UNET:
        return unet_forward(dev, &c->unet, &input, nowhere());
    case PART_DECODE:
        return vae_decode(dev, &c->vae, &decode);
    case PART_COUNT:
        break;
    }
    CHECK(!"a part of a job");
    return OK;
}

static status measure(const struct checkpoint *c, const struct checkpoint_job *job, enum part part,
                      size_t *bytes, double *flops)
{
    status st;
    const struct kern_config config = { .layout = job->layout };
    struct dev dev = { 0 };

    TRY(dev_open(&dev, "plan", &config, PLAN_BYTES));
    TRY(run_part(&dev, c, job, part));
    *bytes = dev.act.peak_bytes;
    *flops = dev.flops;
out:
    dev_close(&dev);
    return st;
}

status checkpoint_plan(const struct checkpoint *c, const struct checkpoint_job *job,
                       struct checkpoint_need *need)
{
    status st;
    const int64_t factor = vae_factor(&c->vae);
    size_t bytes[PART_COUNT] = { 0 };
    double flops[PART_COUNT] = { 0 };

    *need = (struct checkpoint_need){ .weight_bytes = c->values.used_bytes };
    if (job->frames < 1 || job->width < factor || job->height < factor || job->chunk < 0 ||
        job->width % factor != 0 || job->height % factor != 0)
        TRY(FAIL(ERR_BADARG,
                 "%" PRId64 " frames of %" PRId64 "x%" PRId64 ": width and height must be "
                 "multiples of %" PRId64 ", and there must be at least one frame",
                 job->frames, job->width, job->height, factor));
    for (int i = 0; i < PART_COUNT; i++) {
        TRY(measure(c, job, (enum part)i, &bytes[i], &flops[i]));
        if (bytes[i] > need->act_bytes)
            need->act_bytes = bytes[i];
    }
    need->clip_bytes = bytes[PART_CLIP];
    need->encode_bytes = bytes[PART_ENCODE];
    need->unet_bytes = bytes[PART_UNET];
    need->decode_bytes = bytes[PART_DECODE];
    need->clip_flops = flops[PART_CLIP];
    need->encode_flops = flops[PART_ENCODE];
    need->unet_flops = flops[PART_UNET];
    need->decode_flops = flops[PART_DECODE];
out:
    return st;
}
