/* The JSON files of a checkpoint, one of them replaced by the input: its first byte says which, the
 * rest is its content. The weights are those of a real checkpoint. A config that is accepted can be
 * planned: no layer of it is a bug to the operators. */
#include <string.h>
#include <unistd.h>

#include "kernels/op/op.h"
#include "tests/fuzz/fuzz.h"
#include "worker/model/checkpoint.h"

#define FIXTURE "tests/fixtures/tiny-a"
#define VALUES_BYTES ((size_t)64 << 20)
#define LAYERS_BYTES ((size_t)64 << 20)
#define PLAN_BYTES ((size_t)1 << 32) /* of address space */

enum file { FILE_INDEX = 0, FILE_SCHEDULER, FILE_UNET, FILE_VAE, FILE_CLIP, FILE_PIXELS, FILES };

static const char *const names[FILES] = {
    [FILE_INDEX] = "model_index.json",
    [FILE_SCHEDULER] = "scheduler/scheduler_config.json",
    [FILE_UNET] = "unet/config.json",
    [FILE_VAE] = "vae/config.json",
    [FILE_CLIP] = "image_encoder/config.json",
    [FILE_PIXELS] = "feature_extractor/preprocessor_config.json",
};

/* dst = root/name, a copy of the fixture's file. */
static void copy_fixture(const char *folder, const char *name)
{
    char from[FILE_PATH_BYTES], inner[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct buf content = { 0 };

    CHECK(file_join(from, sizeof(from), FIXTURE, name) == OK);
    CHECK(file_join(inner, sizeof(inner), folder, name) == OK);
    CHECK(file_read(from, (size_t)8 << 20, &content) == OK);
    fuzz_file(path, inner, content.data, content.len);
    buf_free(&content);
}

/* Two trees: the JSON files alone, and with weights beside those of the three networks. */
static void make_trees(void)
{
    static const char *const weights[] = { "unet/diffusion_pytorch_model.safetensors",
                                           "vae/diffusion_pytorch_model.safetensors",
                                           "image_encoder/model.safetensors" };
    char done[FILE_PATH_BYTES];

    CHECK(file_join(done, sizeof(done), fuzz_tmpdir(), "whole/" FIXTURE) == OK);
    if (file_exists(done))
        return;
    for (size_t i = 0; i < FILES; i++) {
        copy_fixture("bare", names[i]);
        copy_fixture("whole", names[i]);
    }
    for (size_t i = 0; i < sizeof(weights) / sizeof(weights[0]); i++)
        copy_fixture("whole", weights[i]);
    fuzz_file(done, "whole/" FIXTURE, "", 0);
}

/* folder = the part of the tree that the file is in. */
static void put_file(char folder[FILE_PATH_BYTES], const char *tree, enum file which,
                     const uint8_t *bytes, size_t len)
{
    char inner[FILE_PATH_BYTES], path[FILE_PATH_BYTES];

    CHECK(file_join(inner, sizeof(inner), tree, names[which]) == OK);
    fuzz_file(path, inner, bytes, len);
    CHECK(file_parent(folder, FILE_PATH_BYTES, path) == OK);
}

static status ignore_frame(void *self, int64_t index, const float *rgb)
{
    (void)self, (void)index, (void)rgb;
    return OK;
}

/* The planner follows no pointer to numbers, so one float stands for all of them. It may find the
 * network too large, and must not find it wrong. */
static void plan_unet(struct dev *dev, const struct unet *unet, float *nothing)
{
    struct unet_input input = {
        .latents = nothing,
        .image_latent = nothing,
        .embedding = nothing,
        .frames = 3,
        .h = 5,
        .w = 7,
    };
    status st = unet_forward(dev, unet, &input, nothing);

    CHECK(st == OK || st == ERR_NOMEM);
}

static void plan_vae(struct dev *dev, const struct vae *vae, float *nothing)
{
    int64_t side = 3 * vae_factor(vae);
    struct vae_decode_args args = {
        .latents = nothing,
        .frame = nothing,
        .frames = 3,
        .h = 5,
        .w = 7,
        .chunk = 2,
        .on_frame = ignore_frame,
    };
    status st = vae_encode(dev, vae, nothing, side, side, nothing);

    CHECK(st == OK || st == ERR_NOMEM);
    st = vae_decode(dev, vae, &args);
    CHECK(st == OK || st == ERR_NOMEM);
}

static void plan_clip(struct dev *dev, const struct clip *clip, float *nothing)
{
    status st = clip_embed(dev, clip, nothing, nothing);

    CHECK(st == OK || st == ERR_NOMEM);
}

/* Load the network of this file from folder, and plan it. */
static void load(enum file which, const char *folder, const char *pixels)
{
    static struct unet unet;
    static struct vae vae;
    static struct clip clip;
    struct arena values = { 0 }, layers = { 0 };
    struct weights_loader loader = { .values = &values, .layers = &layers };
    struct kern_config config = { 0 };
    struct dev dev = { 0 };
    float nothing = 0;

    CHECK(arena_open(&values, "values", VALUES_BYTES) == OK);
    CHECK(arena_open(&layers, "layers", LAYERS_BYTES) == OK);
    CHECK(dev_open(&dev, "plan", &config, PLAN_BYTES) == OK);
    if (which == FILE_UNET && unet_load(&unet, &loader, folder) == OK)
        plan_unet(&dev, &unet, &nothing);
    if (which == FILE_VAE && vae_load(&vae, &loader, folder) == OK)
        plan_vae(&dev, &vae, &nothing);
    if (which == FILE_CLIP && clip_load(&clip, &loader, folder, pixels) == OK)
        plan_clip(&dev, &clip, &nothing);
    dev_close(&dev);
    arena_close(&layers);
    arena_close(&values);
}

/* The first two files are read before any weights are looked for; there are none to be found. */
static void open_bare(void)
{
    struct checkpoint checkpoint = { 0 };
    char root[FILE_PATH_BYTES];

    CHECK(file_join(root, sizeof(root), fuzz_tmpdir(), "bare") == OK);
    CHECK(checkpoint_open(&checkpoint, root) != OK);
    CHECK(!checkpoint.values.base && !checkpoint.layers.base);
}

FUZZ(configs, 3 << 10)
{
    enum file which;
    char folder[FILE_PATH_BYTES], pixels[FILE_PATH_BYTES];

    make_trees();
    if (len == 0)
        return;
    which = (enum file)(bytes[0] % FILES);
    if (which == FILE_INDEX || which == FILE_SCHEDULER) {
        put_file(folder, "bare", which, bytes + 1, len - 1);
        open_bare();
        copy_fixture("bare", names[which]);
        return;
    }
    put_file(folder, "whole", which, bytes + 1, len - 1);
    CHECK(file_join(pixels, sizeof(pixels), fuzz_tmpdir(), "whole/feature_extractor") == OK);
    if (which == FILE_PIXELS)
        CHECK(file_join(folder, sizeof(folder), fuzz_tmpdir(), "whole/image_encoder") == OK);
    load(which == FILE_PIXELS ? FILE_CLIP : which, folder, pixels);
    copy_fixture("whole", names[which]);
}
