#include "worker/manifest.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/id.h"
#include "common/url.h"

static void write_text(struct json_writer *w, const char *key, const char *text)
{
    json_write_key(w, key);
    json_write_text(w, text);
}

static void write_int(struct json_writer *w, const char *key, int64_t value)
{
    json_write_key(w, key);
    json_write_int(w, value);
}

static void write_seconds(struct json_writer *w, const char *key, double seconds)
{
    /* Microseconds are all that a clock can promise. */
    json_write_key(w, key);
    json_write_double(w, (double)(int64_t)(seconds * 1e6 + 0.5) / 1e6);
}

static void write_url(struct json_writer *w, const char *key, const char *url)
{
    char plain[SPEC_URL_MAX];

    write_text(w, key, url_for_people(url, plain, sizeof(plain)));
}

static void write_parameter(struct json_writer *w, const struct job_spec *s,
                            const struct spec_param *p)
{
    const void *field = (const char *)s + p->offset;
    char text[SPEC_URL_MAX];
    uint64_t seed;

    switch (p->type) {
    case SPEC_INT:
        write_int(w, p->name, *(const int64_t *)field);
        return;
    case SPEC_DOUBLE:
        json_write_key(w, p->name);
        json_write_double(w, *(const double *)field);
        return;
    case SPEC_SEED:
        seed = *(const uint64_t *)field;
        if (seed <= INT64_MAX) {
            write_int(w, p->name, (int64_t)seed);
            return;
        }
        break;
    case SPEC_TEXT:
    case SPEC_CHOICE:
        break;
    }
    write_text(w, p->name, spec_get(s, p, text, sizeof(text)));
}

static void write_parameters(struct json_writer *w, const struct job_spec *s)
{
    json_write_key(w, "parameters");
    json_write_object(w);
    for (size_t i = 0; i < spec_param_count; i++) {
        if (strcmp(spec_params[i].name, "image") == 0)
            write_url(w, "image", s->image);
        else if (strcmp(spec_params[i].name, "put_url") == 0)
            write_url(w, "put_url", s->put_url);
        else
            write_parameter(w, s, &spec_params[i]);
    }
    json_write_end(w);
}

/* Is there a later pair with the key that pair (len bytes of key) has? JSON has no double keys. */
static bool is_repeated(const char *pair, size_t len)
{
    for (const char *next = strchr(pair, ','); next; next = strchr(next + 1, ',')) {
        if (strncmp(next + 1, pair, len) == 0 && next[1 + len] == '=')
            return true;
    }
    return false;
}

/* "a=b,c=d" as an object; of a repeated key the last value. */
static void write_labels(struct json_writer *w, const char *labels)
{
    char text[SPEC_LABELS_MAX];

    json_write_key(w, "labels");
    json_write_object(w);
    for (const char *pair = labels; *pair; pair += strcspn(pair, ","), pair += *pair == ',') {
        size_t len = strcspn(pair, ",");
        size_t key_len = strcspn(pair, "=");

        CHECK(key_len < len && len < sizeof(text));
        if (is_repeated(pair, key_len))
            continue;
        memcpy(text, pair, len);
        text[len] = '\0';
        text[key_len] = '\0';
        write_text(w, text, text + key_len + 1);
    }
    json_write_end(w);
}

static void write_input(struct json_writer *w, const struct attempt *a)
{
    json_write_key(w, "input");
    json_write_object(w);
    write_url(w, "url", a->asked.image);
    write_text(w, "sha256", a->input.sha256_hex);
    write_int(w, "bytes", (int64_t)a->input.bytes);
    write_text(w, "format", a->image.format);
    write_int(w, "width", a->image.width_px);
    write_int(w, "height", a->image.height_px);
    json_write_end(w);
}

static void write_output(struct json_writer *w, const char *name, const struct manifest_output *o)
{
    json_write_key(w, name);
    json_write_object(w);
    write_text(w, "key", o->key);
    write_text(w, "url", o->url);
    write_int(w, "bytes", (int64_t)o->bytes);
    write_text(w, "sha256", o->sha256_hex);
    json_write_end(w);
}

static void write_stages(struct json_writer *w, const struct stages *s)
{
    json_write_key(w, "stage_seconds");
    json_write_object(w);
    for (int i = STAGE_NONE + 1; i < STAGE_UPLOAD; i++)
        write_seconds(w, stage_name((enum stage)i), s->seconds[i]);
    json_write_end(w);
}

static void write_created(struct json_writer *w)
{
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm utc;
    char text[32];

    CHECK(gmtime_r(&now, &utc));
    CHECK(strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc) > 0);
    write_text(w, "created", text);
}

static void write_model(struct json_writer *w, const char *name, const struct manifest_maker *maker)
{
    json_write_key(w, "model");
    json_write_object(w);
    write_text(w, "name", name);
    write_text(w, "checkpoint", maker->checkpoint);
    write_text(w, "hash", maker->hash);
    json_write_end(w);
}

status manifest_write(struct buf *out, const struct manifest *m)
{
    struct json_writer w = { .out = out, .indent = true };
    const struct attempt *a = m->attempt;
    char nonce[17], spec_hash[DIGEST_HEX_ROOM];
    status st = attempt_spec_hash(a, spec_hash);

    if (st != OK)
        return st;
    id_nonce_text(nonce, a->lease.nonce);
    json_write_object(&w);
    write_int(&w, "onestep_manifest", 1);
    write_text(&w, "job", a->lease.job);
    write_int(&w, "attempt", a->lease.attempt);
    write_text(&w, "lease", nonce);
    write_created(&w);
    write_model(&w, a->spec.model, m->maker);
    write_parameters(&w, &a->spec);
    write_text(&w, "spec_hash", spec_hash);
    write_labels(&w, a->spec.labels);
    write_int(&w, "frames", a->spec.frames);
    write_int(&w, "width", a->spec.width_px);
    write_int(&w, "height", a->spec.height_px);
    write_int(&w, "fps", a->spec.fps);
    write_input(&w, a);
    json_write_key(&w, "outputs");
    json_write_object(&w);
    write_output(&w, "video", &m->video);
    write_output(&w, "poster", &m->poster);
    json_write_end(&w);
    write_stages(&w, &a->stages);
    write_seconds(&w, "total_seconds", (double)(clock_mono_ms() - a->begin_ms) / 1000);
    write_text(&w, "device", m->maker->device);
    write_text(&w, "encoder", m->encoder);
    write_text(&w, "build", m->maker->build);
    json_write_end(&w);
    return json_write_finish(&w);
}

static status copy_text(const struct json_value *v, const char *key, char *dst, size_t room)
{
    const char *text;
    status st = json_get_text(v, key, &text);

    if (st != OK)
        return st;
    if (strlen(text) >= room)
        return FAIL(ERR_CORRUPT, "%.80s: %s is longer than %zu bytes", v->path, key, room - 1);
    memcpy(dst, text, strlen(text) + 1);
    return OK;
}

static status read_output(struct manifest_output *o, const struct json_value *outputs,
                          const char *name)
{
    status st = OK;
    struct json_value v = json_find(outputs, name);
    int64_t bytes = 0;

    TRY(copy_text(&v, "key", o->key, sizeof(o->key)));
    TRY(copy_text(&v, "url", o->url, sizeof(o->url)));
    TRY(copy_text(&v, "sha256", o->sha256_hex, sizeof(o->sha256_hex)));
    TRY(json_get_int(&v, "bytes", 0, INT64_MAX, &bytes));
    o->bytes = (uint64_t)bytes;
out:
    return st;
}

status manifest_read(struct manifest_found *found, const char *name, const struct buf *text)
{
    status st = OK;
    struct json document = { 0 };
    struct json_value root, outputs;
    int64_t version;

    TRY(json_parse(&document, name, text->data ? text->data : "", text->len));
    root = json_root(&document);
    TRY(json_get_int(&root, "onestep_manifest", 1, 1, &version));
    TRY(json_get_int(&root, "attempt", 0, INT64_MAX, &found->attempt));
    TRY(copy_text(&root, "spec_hash", found->spec_hash, sizeof(found->spec_hash)));
    outputs = json_find(&root, "outputs");
    TRY(read_output(&found->video, &outputs, "video"));
    TRY(read_output(&found->poster, &outputs, "poster"));
out:
    json_free(&document);
    return st;
}
