#include "worker/model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/json.h"
#include "common/base/limits.h"

/* --- content hash ----------------------------------------------------------------------------- */

/* One multiplication and one shift per word and lane: fast enough to run over gigabytes at load. It
 * tells checkpoints apart; it does not resist anybody who wants a collision. */
static void hash_word(uint64_t hash[2], uint64_t word)
{
    hash[0] = (hash[0] ^ word) * 0x9e3779b97f4a7c15u;
    hash[0] ^= hash[0] >> 29;
    hash[1] = (hash[1] ^ word) * 0xd6e8feb86659fd93u;
    hash[1] ^= hash[1] >> 32;
}

void weights_hash(struct weights_loader *loader, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t word;
    size_t rest;

    hash_word(loader->hash, len);
    for (rest = len; rest >= sizeof(word); rest -= sizeof(word), p += sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        hash_word(loader->hash, word);
    }
    word = 0;
    memcpy(&word, p, rest);
    hash_word(loader->hash, word);
}

/* --- files ------------------------------------------------------------------------------------ */

static status open_file(struct weights *w, const char *path)
{
    status st;
    struct weights_file *file = &w->files[w->file_count];

    CHECK(w->file_count < WEIGHTS_FILES_MAX);
    *file = (struct weights_file){ 0 };
    if ((size_t)snprintf(file->path, sizeof(file->path), "%s", path) >= sizeof(file->path))
        TRY(FAIL(ERR_BADARG, "the path of a weights file has more than %zu bytes",
                 sizeof(file->path) - 1));
    TRY(safetensors_open(&file->content, path));
    w->file_count++;
    file->is_bound = calloc(file->content.count + 1, sizeof(*file->is_bound));
    if (!file->is_bound)
        TRY(FAIL(ERR_NOMEM, "no memory for the tensors of %s", path));
    if (w->loader)
        weights_hash(w->loader, file->content.map.data, file->content.map.bytes);
    return OK;
out:
    return st;
}

static bool is_open(const struct weights *w, const char *path)
{
    for (int i = 0; i < w->file_count; i++) {
        if (strcmp(w->files[i].path, path) == 0)
            return true;
    }
    return false;
}

/* The shards that index.json's weight_map names. */
static status open_shards(struct weights *w, const char *dir, const char *index_path)
{
    status st;
    struct json doc = { 0 };
    struct json_value root, map;
    struct json_member m = { 0 };
    char path[FILE_PATH_BYTES];
    const char *name;

    TRY(json_open_file(&doc, index_path));
    root = json_root(&doc);
    map = json_find(&root, "weight_map");
    TRY(json_want_object(&map));
    if (json_count(&map) == 0)
        TRY(FAIL(ERR_CORRUPT, "%s: weight_map is empty", index_path));
    while (json_next(&map, &m)) {
        TRY(json_to_text(&m.value, &name));
        if (strchr(name, '/') || name[0] == '.')
            TRY(FAIL(ERR_CORRUPT, "%s: \"%s\" is not the name of a file beside it", index_path,
                     name));
        TRY(file_join(path, sizeof(path), dir, name));
        if (is_open(w, path))
            continue;
        if (w->file_count == WEIGHTS_FILES_MAX)
            TRY(FAIL(ERR_BADARG, "%s: more than %d files", index_path, WEIGHTS_FILES_MAX));
        TRY(open_file(w, path));
    }
out:
    json_free(&doc);
    return st;
}

/* In this order; the first that exists is opened. */
static const struct {
    const char *suffix;
    bool is_index;
} variants[] = {
    { ".safetensors", false },
    { ".safetensors.index.json", true },
    { ".fp16.safetensors", false },
    { ".safetensors.index.fp16.json", true },
};

status weights_open(struct weights *w, struct weights_loader *loader, const char *dir,
                    const char *stem)
{
    status st;
    char name[256], path[FILE_PATH_BYTES];

    *w = (struct weights){ .loader = loader, .dir = dir };
    if (loader && loader->is_blank)
        return OK;
    w->files = calloc(WEIGHTS_FILES_MAX, sizeof(*w->files));
    if (!w->files)
        TRY(FAIL(ERR_NOMEM, "no memory for the weights of %s", dir));
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", stem, variants[i].suffix);
        TRY(file_join(path, sizeof(path), dir, name));
        if (!file_exists(path))
            continue;
        TRY(variants[i].is_index ? open_shards(w, dir, path) : open_file(w, path));
        return OK;
    }
    TRY(FAIL(ERR_NOTFOUND,
             "%s: no %s.safetensors and no %s.fp16.safetensors in it; the weights of a checkpoint "
             "lie beside its config.json",
             dir, stem, stem));
out:
    weights_close(w);
    return st;
}

void weights_close(struct weights *w)
{
    for (int i = 0; i < w->file_count; i++) {
        safetensors_close(&w->files[i].content);
        free(w->files[i].is_bound);
    }
    free(w->files);
    *w = (struct weights){ 0 };
}

status weights_measure(const char *dir, const char *stem, size_t *bytes)
{
    status st;
    struct weights w = { 0 };
    size_t sum = 0;

    TRY(weights_open(&w, NULL, dir, stem));
    for (int f = 0; f < w.file_count; f++) {
        const struct safetensors *s = &w.files[f].content;

        /* An element takes at least a byte of the file, so the sum stays far below SIZE_MAX. */
        for (size_t i = 0; i < s->count; i++)
            sum += (size_t)s->tensors[i].count * sizeof(float) + ARENA_ALIGN;
    }
    *bytes = sum;
out:
    weights_close(&w);
    return st;
}

static bool is_harmless(const char *name)
{
    static const char tail[] = "position_ids";
    size_t len = strlen(name);

    return len >= sizeof(tail) - 1 && strcmp(name + len - (sizeof(tail) - 1), tail) == 0;
}

status weights_finish(struct weights *w)
{
    status st = OK;
    const struct safetensors_tensor *first = NULL;
    const char *path = NULL;
    size_t surplus = 0;
    char shape[128];

    for (int f = 0; f < w->file_count; f++) {
        const struct weights_file *file = &w->files[f];

        for (size_t i = 0; i < file->content.count; i++) {
            if (file->is_bound[i] || is_harmless(file->content.tensors[i].name))
                continue;
            if (surplus++)
                continue;
            first = &file->content.tensors[i];
            path = file->path;
        }
    }
    if (surplus)
        TRY(FAIL(ERR_CORRUPT,
                 "%s: tensor \"%s\" %s and %zu more have no place in the model that config.json "
                 "beside it describes",
                 path, first->name,
                 safetensors_shape_text(first->shape, first->rank, shape, sizeof(shape)),
                 surplus - 1));
out:
    weights_close(w);
    return st;
}

/* --- tensors ---------------------------------------------------------------------------------- */

const char *weights_name(char *dst, const char *prefix, const char *name)
{
    int len = snprintf(dst, WEIGHTS_NAME_BYTES, "%s.%s", prefix, name);

    CHECK(len > 0 && len < WEIGHTS_NAME_BYTES);
    return dst;
}

static bool has_shape(const struct safetensors_tensor *t, int rank, const int64_t *shape)
{
    if (t->rank != rank)
        return false;
    for (int i = 0; i < rank; i++) {
        if (t->shape[i] != shape[i])
            return false;
    }
    return true;
}

static bool is_real(enum safetensors_dtype dtype)
{
    return dtype == SAFETENSORS_F32 || dtype == SAFETENSORS_F16 || dtype == SAFETENSORS_BF16;
}

/* A blank loader gets tensors without data. */
static status ask(struct weights *w, const struct safetensors_tensor **t, const char *name,
                  int rank, const int64_t *shape)
{
    struct safetensors_tensor *blank = &w->blank;

    *blank = (struct safetensors_tensor){ .name = name, .rank = rank, .count = 1 };
    for (int i = 0; i < rank; i++) {
        blank->shape[i] = shape[i];
        blank->count *= shape[i];
    }
    *t = blank;
    if (!w->loader->asked)
        return OK;
    return w->loader->asked(w->loader->asked_self, w->dir, name, rank, shape);
}

static status read_values(const struct safetensors_tensor *t, int64_t first, int64_t count,
                          float *dst)
{
    return t->data ? safetensors_read_f32(t, first, count, dst) : OK;
}

/* Find and check a tensor, and note that it is used. */
static status bind(struct weights *w, const struct safetensors_tensor **t, const char *name,
                   int rank, const int64_t *shape)
{
    char found[128], wanted[128];

    if (w->loader->is_blank)
        return ask(w, t, name, rank, shape);
    CHECK(w->file_count > 0);
    safetensors_shape_text(shape, rank, wanted, sizeof(wanted));
    for (int f = 0; f < w->file_count; f++) {
        struct weights_file *file = &w->files[f];

        *t = safetensors_find(&file->content, name);
        if (!*t)
            continue;
        if (!has_shape(*t, rank, shape))
            return FAIL(
                ERR_CORRUPT, "%s: tensor \"%s\" has shape %s; config.json beside it wants %s",
                file->path, name,
                safetensors_shape_text((*t)->shape, (*t)->rank, found, sizeof(found)), wanted);
        if (!is_real((*t)->dtype))
            return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" has dtype %s; want F32, F16 or BF16",
                        file->path, name, (*t)->dtype_name);
        file->is_bound[*t - file->content.tensors] = true;
        return OK;
    }
    return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" %s is missing; config.json beside it wants it",
                w->files[0].path, name, wanted);
}

static status take_floats(struct weights *w, int64_t count, float **values)
{
    void *p = NULL;
    status st = arena_take(w->loader->values, (size_t)count * sizeof(float), &p);

    *values = p;
    return st;
}

status weights_vector(struct weights *w, const float **dst, const char *name, int rank,
                      const int64_t *shape)
{
    status st;
    const struct safetensors_tensor *t;
    float *values;

    TRY(bind(w, &t, name, rank, shape));
    TRY(take_floats(w, t->count, &values));
    TRY(read_values(t, 0, t->count, values));
    *dst = values;
out:
    return st;
}

status weights_scalar(struct weights *w, float *dst, const char *name)
{
    status st;
    const struct safetensors_tensor *t;
    const int64_t one = 1;

    *dst = 0;
    TRY(bind(w, &t, name, 1, &one));
    TRY(read_values(t, 0, 1, dst));
out:
    return st;
}

status weights_norm(struct weights *w, struct norm *norm, const char *prefix, int64_t c, int groups,
                    float eps)
{
    status st;
    char name[WEIGHTS_NAME_BYTES];

    *norm = (struct norm){ .c = c, .groups = groups, .eps = eps };
    TRY(weights_vector(w, &norm->gamma, weights_name(name, prefix, "weight"), 1, &c));
    TRY(weights_vector(w, &norm->beta, weights_name(name, prefix, "bias"), 1, &c));
out:
    return st;
}

/* The tensors of layers names[0..count-1] below prefix, one after the other, into dst. */
static status stack(struct weights *w, const float **dst, const char *prefix,
                    const char *const *names, const struct weights_linear_spec *spec)
{
    status st;
    const struct safetensors_tensor *t;
    const int64_t shape[2] = { spec->out, spec->in };
    bool is_bias = spec->in == 0;
    int64_t size = is_bias ? spec->out : spec->out * spec->in;
    char layer[WEIGHTS_NAME_BYTES], name[WEIGHTS_NAME_BYTES];
    float *values;

    TRY(take_floats(w, 3 * size, &values));
    for (int i = 0; i < 3; i++) {
        weights_name(layer, prefix, names[i]);
        weights_name(name, layer, is_bias ? "bias" : "weight");
        TRY(bind(w, &t, name, is_bias ? 1 : 2, shape));
        TRY(read_values(t, 0, size, values + i * size));
    }
    *dst = values;
out:
    return st;
}

status weights_qkv(struct weights *w, struct linear *linear, const char *prefix,
                   const char *const names[3], const struct weights_linear_spec *spec)
{
    status st;
    const struct weights_linear_spec bias = { .out = spec->out, .in = 0 };

    *linear = (struct linear){ .out = 3 * spec->out, .in = spec->in };
    TRY(stack(w, &linear->weight, prefix, names, spec));
    if (spec->has_bias)
        TRY(stack(w, &linear->bias, prefix, names, &bias));
out:
    return st;
}

static status check_unused(struct weights *w, const char *prefix,
                           const struct weights_linear_spec *spec)
{
    status st;
    const struct safetensors_tensor *t;
    const int64_t shape[2] = { spec->out, spec->in };
    char name[WEIGHTS_NAME_BYTES];

    TRY(bind(w, &t, weights_name(name, prefix, "weight"), 2, shape));
    if (spec->has_bias)
        TRY(bind(w, &t, weights_name(name, prefix, "bias"), 1, shape));
out:
    return st;
}

status weights_linear(struct weights *w, struct linear *linear, const char *prefix,
                      const struct weights_linear_spec *spec)
{
    status st;
    const int64_t shape[2] = { spec->out, spec->in };
    char name[WEIGHTS_NAME_BYTES];

    if (!linear)
        return check_unused(w, prefix, spec);
    *linear = (struct linear){ .out = spec->out, .in = spec->in };
    TRY(weights_vector(w, &linear->weight, weights_name(name, prefix, "weight"), 2, shape));
    if (spec->has_bias)
        TRY(weights_vector(w, &linear->bias, weights_name(name, prefix, "bias"), 1, shape));
out:
    return st;
}

/* [ci][taps] -> [taps][ci], for one output channel. */
static void taps_first(float *dst, const float *src, int64_t ci, int64_t taps)
{
    for (int64_t i = 0; i < ci; i++) {
        for (int64_t t = 0; t < taps; t++)
            dst[t * ci + i] = src[i * taps + t];
    }
}

static status read_conv(const struct safetensors_tensor *t, float *values, int64_t taps)
{
    status st = OK;
    int64_t co = t->shape[0], ci = t->shape[1], row = ci * taps;
    float *scratch;

    if (!t->data)
        return OK;
    if (taps == 1)
        return safetensors_read_f32(t, 0, t->count, values);
    scratch = malloc((size_t)row * sizeof(float) + 1);
    if (!scratch)
        TRY(FAIL(ERR_NOMEM, "no memory to convert tensor \"%s\"", t->name));
    for (int64_t o = 0; o < co; o++) {
        TRY(safetensors_read_f32(t, o * row, row, scratch));
        taps_first(values + o * row, scratch, ci, taps);
    }
out:
    free(scratch);
    return st;
}

status weights_conv(struct weights *w, struct conv *conv, const char *prefix,
                    const struct weights_conv_spec *spec)
{
    status st;
    const struct safetensors_tensor *t;
    int kw = spec->is_temporal ? 1 : spec->k;
    const int64_t shape[5] = { spec->co, spec->ci, spec->k, kw, 1 };
    char name[WEIGHTS_NAME_BYTES];
    float *values;

    *conv = (struct conv){ .co = spec->co, .ci = spec->ci, .kh = spec->k, .kw = kw };
    TRY(bind(w, &t, weights_name(name, prefix, "weight"), spec->is_temporal ? 5 : 4, shape));
    TRY(take_floats(w, t->count, &values));
    TRY(read_conv(t, values, (int64_t)spec->k * kw));
    conv->weight = values;
    if (!spec->no_bias)
        TRY(weights_vector(w, &conv->bias, weights_name(name, prefix, "bias"), 1, &spec->co));
out:
    return st;
}
