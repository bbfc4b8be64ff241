#include "worker/model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

static void hash_bytes(uint64_t hash[2], const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t word;
    size_t rest;

    hash_word(hash, len);
    for (rest = len; rest >= sizeof(word); rest -= sizeof(word), p += sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        hash_word(hash, word);
    }
    word = 0;
    memcpy(&word, p, rest);
    hash_word(hash, word);
}

void weights_hash(struct weights_loader *loader, const void *bytes, size_t len)
{
    hash_bytes(loader->hash, bytes, len);
}

void weights_identify(struct weights_loader *loader, const char *path)
{
    const char *name = file_name(path);
    struct stat info = { 0 };

    if (stat(path, &info) != 0)
        info = (struct stat){ 0 };
    hash_bytes(loader->identity, name, strlen(name));
    hash_word(loader->identity, (uint64_t)info.st_size);
    hash_word(loader->identity, (uint64_t)info.st_ino);
    hash_word(loader->identity, (uint64_t)info.st_mtim.tv_sec);
    hash_word(loader->identity, (uint64_t)info.st_mtim.tv_nsec);
}

/* Are values to be read from the files? */
static bool has_values(const struct weights_loader *loader)
{
    return !loader->is_blank && !loader->is_mapped;
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
        weights_identify(w->loader, path);
    if (w->loader && has_values(w->loader))
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
    if (loader && loader->original)
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
    if (loader && loader->is_blank)
        return OK;
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

/* What a blank loader without files gets: a tensor that has a shape, and no type or data. */
static const struct safetensors_tensor *blank_tensor(struct weights *w, const char *name, int rank,
                                                     const int64_t *shape)
{
    struct safetensors_tensor *blank = &w->made;

    *blank = (struct safetensors_tensor){ .name = name, .rank = rank, .count = 1 };
    for (int i = 0; i < rank; i++) {
        blank->shape[i] = shape[i];
        blank->count *= shape[i];
    }
    return blank;
}

static status read_values(const struct weights *w, const struct safetensors_tensor *t, float *dst)
{
    return has_values(w->loader) ? safetensors_read_f32(t, 0, t->count, dst) : OK;
}

/* Find and check a tensor, and note that it is used. */
static status find(struct weights *w, const struct safetensors_tensor **t, const char *name,
                   int rank, const int64_t *shape)
{
    char found[128], wanted[128];

    safetensors_shape_text(shape, rank, wanted, sizeof(wanted));
    for (int f = 0; f < w->file_count; f++) {
        struct weights_file *file = &w->files[f];

        *t = safetensors_find(&file->content, name);
        if (!*t)
            continue;
        if (!safetensors_has_shape(*t, rank, shape))
            return FAIL(
                ERR_CORRUPT, "%s: tensor \"%s\" has shape %s; config.json beside it wants %s",
                file->path, name,
                safetensors_shape_text((*t)->shape, (*t)->rank, found, sizeof(found)), wanted);
        if (!safetensors_is_real(*t))
            return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" has dtype %s; want F32, F16 or BF16",
                        file->path, name, (*t)->dtype_name);
        file->is_bound[*t - file->content.tensors] = true;
        return OK;
    }
    return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" %s is missing; config.json beside it wants it",
                w->files[0].path, name, wanted);
}

static status bind(struct weights *w, const struct safetensors_tensor **t, const char *name,
                   int rank, const int64_t *shape)
{
    status st = OK;
    const struct weights_loader *l = w->loader;

    CHECK(w->file_count > 0 || l->is_blank || l->original);
    if (l->asked)
        TRY(l->asked(l->asked_self, w->dir, name, rank, shape));
    if (l->original) {
        const struct original_want want = { file_name(w->dir), name, rank, shape };

        TRY(original_find(l->original, &want, &w->made));
        *t = &w->made;
    } else if (w->file_count > 0) {
        TRY(find(w, t, name, rank, shape));
    } else {
        *t = blank_tensor(w, name, rank, shape);
    }
out:
    return st;
}

/* How the weights of a layer are kept: as the file has them. */
static enum kern_dtype dtype_of(const struct safetensors_tensor *t)
{
    if (t->dtype == SAFETENSORS_F16)
        return KERN_F16;
    return t->dtype == SAFETENSORS_BF16 ? KERN_BF16 : KERN_F32;
}

/* Room for the weights of a layer. */
static status take_weights(struct weights *w, int64_t count, enum kern_dtype dtype, void **values)
{
    return arena_take(w->loader->values, (size_t)count * kern_dtype_bytes(dtype), values);
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
    TRY(read_values(w, t, values));
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
    if (!w->loader->is_blank)
        TRY(safetensors_read_f32(t, 0, 1, dst));
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

/* t[0..2] = the tensors called part of the layers names[0..2] below prefix. */
static status bind_three(struct weights *w, struct safetensors_tensor t[3], const char *prefix,
                         const char *const *names, const char *part,
                         const struct weights_linear_spec *spec)
{
    status st = OK;
    const struct safetensors_tensor *one;
    const bool is_bias = strcmp(part, "bias") == 0;
    const int64_t shape[2] = { spec->out, spec->in };
    char layer[WEIGHTS_NAME_BYTES], name[WEIGHTS_NAME_BYTES];

    for (int i = 0; i < 3; i++) {
        weights_name(layer, prefix, names[i]);
        TRY(bind(w, &one, weights_name(name, layer, part), is_bias ? 1 : 2, shape));
        t[i] = *one;
    }
out:
    return st;
}

/* The three weights, one below the other; of 16 bits only if all are of the same. */
static status stack_weights(struct weights *w, struct linear *linear,
                            const struct safetensors_tensor t[3])
{
    status st;
    const size_t count = (size_t)t[0].count;
    bool is_same = t[1].dtype == t[0].dtype && t[2].dtype == t[0].dtype;
    void *values;
    char *at;

    linear->dtype = is_same ? dtype_of(&t[0]) : KERN_F32;
    TRY(take_weights(w, 3 * t[0].count, linear->dtype, &values));
    linear->weight = at = values;
    for (int i = 0; i < 3 && has_values(w->loader); i++) {
        if (linear->dtype == KERN_F32)
            TRY(safetensors_read_f32(&t[i], 0, t[i].count, (float *)at));
        else
            memcpy(at, t[i].data, t[i].bytes);
        at += count * kern_dtype_bytes(linear->dtype);
    }
out:
    return st;
}

status weights_qkv(struct weights *w, struct linear *linear, const char *prefix,
                   const char *const names[3], const struct weights_linear_spec *spec)
{
    status st;
    struct safetensors_tensor t[3];
    float *bias;

    *linear = (struct linear){ .out = 3 * spec->out, .in = spec->in };
    TRY(bind_three(w, t, prefix, names, "weight", spec));
    TRY(stack_weights(w, linear, t));
    if (spec->has_bias) {
        TRY(bind_three(w, t, prefix, names, "bias", spec));
        TRY(take_floats(w, 3 * spec->out, &bias));
        for (int i = 0; i < 3; i++)
            TRY(read_values(w, &t[i], bias + i * spec->out));
        linear->bias = bias;
    }
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
    const struct safetensors_tensor *t;
    const int64_t shape[2] = { spec->out, spec->in };
    char name[WEIGHTS_NAME_BYTES];
    void *values;

    if (!linear)
        return check_unused(w, prefix, spec);
    *linear = (struct linear){ .out = spec->out, .in = spec->in };
    TRY(bind(w, &t, weights_name(name, prefix, "weight"), 2, shape));
    linear->dtype = dtype_of(t);
    TRY(take_weights(w, t->count, linear->dtype, &values));
    linear->weight = values;
    if (has_values(w->loader))
        memcpy(values, t->data, t->bytes);
    if (spec->has_bias)
        TRY(weights_vector(w, &linear->bias, weights_name(name, prefix, "bias"), 1, shape));
out:
    return st;
}

/* [ci][taps] -> [taps][ci], for one output channel. src has any alignment. */
static void taps_first16(uint16_t *dst, const uint8_t *src, int64_t ci, int64_t taps)
{
    for (int64_t i = 0; i < ci; i++) {
        for (int64_t t = 0; t < taps; t++)
            memcpy(dst + t * ci + i, src + (i * taps + t) * 2, 2);
    }
}

static void taps_first32(uint32_t *dst, const uint8_t *src, int64_t ci, int64_t taps)
{
    for (int64_t i = 0; i < ci; i++) {
        for (int64_t t = 0; t < taps; t++)
            memcpy(dst + t * ci + i, src + (i * taps + t) * 4, 4);
    }
}

static void copy_conv(void *dst, const struct safetensors_tensor *t, int64_t taps)
{
    const int64_t ci = t->shape[1], row = ci * taps;

    for (int64_t o = 0; o < t->shape[0]; o++) {
        if (kern_dtype_bytes(dtype_of(t)) == 2)
            taps_first16((uint16_t *)dst + o * row, t->data + o * row * 2, ci, taps);
        else
            taps_first32((uint32_t *)dst + o * row, t->data + o * row * 4, ci, taps);
    }
}

status weights_conv(struct weights *w, struct conv *conv, const char *prefix,
                    const struct weights_conv_spec *spec)
{
    status st;
    const struct safetensors_tensor *t;
    int kw = spec->is_temporal ? 1 : spec->k;
    const int64_t shape[5] = { spec->co, spec->ci, spec->k, kw, 1 };
    char name[WEIGHTS_NAME_BYTES];
    void *values;

    *conv = (struct conv){ .co = spec->co, .ci = spec->ci, .kh = spec->k, .kw = kw };
    TRY(bind(w, &t, weights_name(name, prefix, "weight"), spec->is_temporal ? 5 : 4, shape));
    conv->dtype = dtype_of(t);
    TRY(take_weights(w, t->count, conv->dtype, &values));
    conv->weight = values;
    if (has_values(w->loader))
        copy_conv(values, t, (int64_t)spec->k * kw);
    if (!spec->no_bias)
        TRY(weights_vector(w, &conv->bias, weights_name(name, prefix, "bias"), 1, &spec->co));
out:
    return st;
}
