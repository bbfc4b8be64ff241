#include "worker/dump.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/url.h"

#define NAME_BYTES 64
#define CHANNELS 3

status dump_open(struct dump *d, const char *dir, const char *id)
{
    status st = OK;
    char path[FILE_PATH_BYTES];
    char name[NAME_BYTES];

    if (!d)
        return OK;
    *d = (struct dump){ 0 };
    CHECK(strlen(id) < sizeof(name) - sizeof(".safetensors"));
    snprintf(name, sizeof(name), "%s.safetensors", id);
    TRY(file_make_dirs(dir));
    TRY(file_join(path, sizeof(path), dir, name));
    TRY(safetensors_create(&d->file, path));
out:
    return st;
}

status dump_text(struct dump *d, const char *key, const char *value)
{
    return d ? safetensors_write_meta(&d->file, key, value) : OK;
}

status dump_spec(struct dump *d, const struct job_spec *spec)
{
    char text[SPEC_URL_MAX];
    char plain[SPEC_URL_MAX];

    if (!d)
        return OK;
    for (size_t i = 0; i < spec_param_count; i++) {
        const struct spec_param *p = &spec_params[i];
        const char *value = spec_get(spec, p, text, sizeof(text));
        status st;

        if (strcmp(p->name, "image") == 0 || strcmp(p->name, "put_url") == 0)
            value = url_for_people(value, plain, sizeof(plain));
        st = dump_text(d, p->name, value);
        if (st != OK)
            return st;
    }
    return OK;
}

status dump_vector(struct dump *d, const char *name, const float *data, int64_t count)
{
    const struct safetensors_item item = {
        .name = name, .rank = 2, .shape = { 1, count }, .data = data
    };

    return d ? safetensors_write(&d->file, &item) : OK;
}

status dump_image(struct dump *d, const uint8_t *rgb, int64_t h, int64_t w)
{
    int64_t values = h * w * CHANNELS;
    float *data;
    status st;

    if (!d)
        return OK;
    data = calloc((size_t)values, sizeof(*data));
    if (!data)
        return FAIL(ERR_NOMEM, "no memory to dump an image of %lldx%lld", (long long)w,
                    (long long)h);
    for (int64_t i = 0; i < values; i++)
        data[i] = rgb[i];
    st = safetensors_write(
        &d->file, &(struct safetensors_item){
                      .name = "image", .rank = 3, .shape = { h, w, CHANNELS }, .data = data });
    free(data);
    return st;
}

status dump_write(struct dump *d, const struct dump_tensor *t, const char *name, int index,
                  const char *suffix)
{
    char full[NAME_BYTES];
    char number[16] = "";
    struct safetensors_item item = { .name = full, .is_nhwc = true, .data = t->data };

    if (!d)
        return OK;
    CHECK(!t->has_no_frames || t->n == 1);
    if (index >= 0)
        snprintf(number, sizeof(number), ".%d", index);
    snprintf(full, sizeof(full), "%s%s%s%s", name, number, suffix ? "." : "", suffix ? suffix : "");
    if (!t->has_no_frames)
        item.shape[item.rank++] = t->n;
    item.shape[item.rank++] = t->c;
    item.shape[item.rank++] = t->h;
    item.shape[item.rank++] = t->w;
    return safetensors_write(&d->file, &item);
}

status dump_frames(struct dump *d, int64_t count, int64_t h, int64_t w)
{
    if (!d)
        return OK;
    CHECK(!d->frames && count > 0 && h > 0 && w > 0);
    d->frames = calloc((size_t)count, (size_t)(h * w * CHANNELS) * sizeof(*d->frames));
    if (!d->frames)
        return FAIL(ERR_NOMEM, "no memory to dump %lld frames of %lldx%lld", (long long)count,
                    (long long)w, (long long)h);
    d->count = count;
    d->h = h;
    d->w = w;
    return OK;
}

void dump_frame(struct dump *d, int64_t index, const float *rgb)
{
    int64_t values;
    float *dst;

    if (!d)
        return;
    CHECK(d->frames && index >= 0 && index < d->count);
    values = d->h * d->w * CHANNELS;
    dst = d->frames + index * values;
    for (int64_t i = 0; i < values; i++) {
        float v = rgb[i] * 0.5f + 0.5f;

        dst[i] = v < 0 ? 0 : v > 1 ? 1 : v;
    }
}

status dump_finish(struct dump *d)
{
    status st = OK;

    if (!d)
        return OK;
    if (d->frames) {
        const struct dump_tensor t = {
            .data = d->frames, .n = d->count, .h = d->h, .w = d->w, .c = CHANNELS
        };

        TRY(dump_write(d, &t, "frames", -1, NULL));
    }
    TRY(safetensors_finish(&d->file));
out:
    dump_close(d);
    return st;
}

void dump_close(struct dump *d)
{
    if (!d)
        return;
    safetensors_abandon(&d->file);
    free(d->frames);
    *d = (struct dump){ 0 };
}
