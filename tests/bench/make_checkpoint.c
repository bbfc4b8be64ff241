/* make_checkpoint CONFIG_FOLDER OUT_FOLDER: a checkpoint of any size with random weights.
 *
 *   build/release/bin/make_checkpoint tests/fixtures/svd-xt /tmp/svd-random
 *
 * CONFIG_FOLDER holds the JSON files of a diffusers folder, weights or not; OUT_FOLDER gets copies
 * of them, and weights as F16. Which tensors there are is what the model asks for when it loads, so
 * no list of them can be wrong. Random SVD has real SVD's time and memory, not its pictures.
 *
 * A tensor's values are uniform with a deviation of gain / sqrt(fan in), a function of its name and
 * the index of the element alone: the same file at every run. Gains keep activations near unit
 * size through the whole network; what writes to a residual stream gets less, so that the stream
 * does not grow, and the decoder's last layers make pixels that are neither grey nor saturated. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/base/limits.h"
#include "worker/model/checkpoint.h"

/* One part's file; a part ends when the next begins. */
struct maker {
    const char *config, *out;         /* folders */
    char part[FILE_PATH_BYTES];       /* folder of the open file, below config; "" when none is */
    struct safetensors_writer writer; /* of the open file */
    float *values;                    /* scratch, grows */
    size_t room;                      /* elements of values */
    int64_t part_count, count;        /* parameters of the open file, of all */
};

static const struct {
    const char *in_name; /* the first that is in the name counts */
    float gain;
} gains[] = {
    { "decoder.conv_out.", 0.6f },
    { "time_conv_out.", 1.2f },
    { "to_q.", 1.6f },
    { "to_k.", 1.6f },
    { "q_proj.", 1.6f },
    { "k_proj.", 1.6f },
    { "time_emb_proj.", 2.5f },
    { "time_embedding.", 1.8f },
    { "add_embedding.", 1.8f },
    { "time_pos_embed.", 1.4f },
    { "to_out.", 0.8f },
    { "ff.net.2.", 0.8f },
    { "ff_in.net.2.", 0.8f },
    { "proj_out.", 0.8f },
    { ".conv1.", 1.4f },
    { "encoder.conv_out.", 1.4f },
};

/* The name of the folder at the end of path. */
static const char *last(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static bool ends_with(const char *text, const char *tail)
{
    size_t len = strlen(text), tail_len = strlen(tail);

    return len >= tail_len && strcmp(text + len - tail_len, tail) == 0;
}

/* SplitMix64, Steele et al. 2014: one well mixed word for each counter. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t seed_of(const char *name)
{
    uint64_t seed = 14695981039346656037u;

    for (; *name; name++)
        seed = (seed ^ (uint8_t)*name) * 1099511628211u;
    return seed;
}

/* values[i] = center + deviation * a variable of mean 0 and deviation 1. */
static void fill(float *values, size_t count, const char *name, float center, float deviation)
{
    const uint64_t seed = seed_of(name);
    const float scale = deviation * 2 * sqrtf(3.0f);

    for (size_t i = 0; i < count; i++) {
        float unit = (float)(mix(seed + i * 0x9e3779b97f4a7c15u) >> 40) * 0x1p-24f;

        values[i] = center + scale * (unit - 0.5f);
    }
}

/* Mean and deviation of a tensor, by what it is. */
static void choose(const char *name, int rank, const int64_t *shape, float *center,
                   float *deviation)
{
    int64_t fan_in = 1;
    float gain = 1;

    *center = 0;
    for (int i = 1; i < rank; i++)
        fan_in *= shape[i];
    for (size_t i = 0; i < sizeof(gains) / sizeof(gains[0]) && gain == 1; i++)
        gain = strstr(name, gains[i].in_name) ? gains[i].gain : 1;
    *deviation = gain / sqrtf((float)fan_in);
    if (ends_with(name, "bias"))
        *deviation = 0.1f;
    else if (ends_with(name, "mix_factor"))
        *deviation = 0.8f;
    else if (strstr(name, "class_embedding") || strstr(name, "position_embedding"))
        *deviation = 0.5f;
    else if (rank == 1)
        *center = 1, *deviation = 0.2f;
}

static status finish_part(struct maker *m)
{
    status st;

    if (!m->part[0])
        return OK;
    TRY(safetensors_finish(&m->writer));
    printf("%s: %" PRId64 " parameters\n", last(m->part), m->part_count);
    fflush(stdout);
    m->part_count = 0;
    m->part[0] = '\0';
out:
    return st;
}

static status begin_part(struct maker *m, const char *dir)
{
    status st;
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    const bool is_clip = strcmp(last(dir), "image_encoder") == 0;

    TRY(finish_part(m));
    TRY(file_join(folder, sizeof(folder), m->out, last(dir)));
    TRY(file_join(path, sizeof(path), folder,
                  is_clip ? "model.safetensors" : "diffusion_pytorch_model.safetensors"));
    TRY(safetensors_create(&m->writer, path));
    snprintf(m->part, sizeof(m->part), "%s", dir);
out:
    return st;
}

static status make_tensor(void *self, const char *dir, const char *name, int rank,
                          const int64_t *shape)
{
    status st = OK;
    struct maker *m = self;
    struct safetensors_item item = { .name = name, .rank = rank, .is_half = true };
    size_t count = 1;
    float center, deviation;

    if (strcmp(m->part, dir) != 0)
        TRY(begin_part(m, dir));
    for (int i = 0; i < rank; i++) {
        item.shape[i] = shape[i];
        count *= (size_t)shape[i];
    }
    if (count > m->room) {
        free(m->values);
        m->room = 0;
        m->values = malloc(count * sizeof(float));
        if (!m->values)
            TRY(FAIL(ERR_NOMEM, "no memory for the %zu values of \"%s\"", count, name));
        m->room = count;
    }
    choose(name, rank, shape, &center, &deviation);
    fill(m->values, count, name, center, deviation);
    item.data = m->values;
    TRY(safetensors_write(&m->writer, &item));
    m->part_count += (int64_t)count;
    m->count += (int64_t)count;
out:
    return st;
}

static status copy_config(const struct maker *m, const char *folder, const char *file)
{
    status st;
    struct buf text = { 0 };
    char from[FILE_PATH_BYTES], to[FILE_PATH_BYTES], dir[FILE_PATH_BYTES];

    TRY(file_join(dir, sizeof(dir), m->config, folder));
    TRY(file_join(from, sizeof(from), folder[0] ? dir : m->config, file));
    TRY(file_read(from, LIMIT_TEXT_FILE_BYTES, &text));
    TRY(file_join(dir, sizeof(dir), m->out, folder));
    TRY(file_make_dirs(folder[0] ? dir : m->out));
    TRY(file_join(to, sizeof(to), folder[0] ? dir : m->out, file));
    TRY(file_write_atomic(to, text.data, text.len));
out:
    buf_free(&text);
    return st;
}

static status make(struct maker *m)
{
    static const char *const configs[][2] = {
        { "", "model_index.json" },
        { "unet", "config.json" },
        { "vae", "config.json" },
        { "image_encoder", "config.json" },
        { "scheduler", "scheduler_config.json" },
        { "feature_extractor", "preprocessor_config.json" },
    };
    status st;
    struct checkpoint c = { 0 };

    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
        TRY(copy_config(m, configs[i][0], configs[i][1]));
    TRY(checkpoint_open_blank(&c, m->config, make_tensor, m));
    TRY(finish_part(m));
out:
    checkpoint_close(&c);
    safetensors_abandon(&m->writer);
    free(m->values);
    return st;
}

int main(int argc, char **argv)
{
    struct maker m = { .writer = { .fd = -1 } };

    if (argc != 3) {
        fprintf(stderr, "usage: make_checkpoint CONFIG_FOLDER OUT_FOLDER\n");
        return 2;
    }
    m.config = argv[1];
    m.out = argv[2];
    if (make(&m) != OK) {
        fprintf(stderr, "make_checkpoint: %s\n", status_message());
        return 1;
    }
    printf("all: %" PRId64 " parameters in %s\n", m.count, m.out);
    return 0;
}
