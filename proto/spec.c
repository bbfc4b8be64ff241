#include "proto/spec.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "proto/proto_priv.h"

static const char *const sampler_names[] = { "consistency", "tts_literal", "tts_fmid", "euler",
                                             NULL };
static const char *const noise_names[] = { "philox", "torch", NULL };
static const char *const format_names[] = { "mp4", "webm", "png", NULL };
static const char *const eps0_names[] = { "fresh", "initial", NULL };
static const char *const after_failed_names[] = { "cancel", "run", NULL };

#define FIELD(f) offsetof(struct job_spec, f), sizeof(((struct job_spec *)0)->f)
#define INT(name, f, min, max, text, unit, help)                                                   \
    {                                                                                              \
        name, SPEC_INT, FIELD(f), min, max, text, NULL, unit, help                                 \
    }
#define REAL(name, f, min, max, text, unit, help)                                                  \
    {                                                                                              \
        name, SPEC_DOUBLE, FIELD(f), min, max, text, NULL, unit, help                              \
    }
#define TEXT(name, f, text, help)                                                                  \
    {                                                                                              \
        name, SPEC_TEXT, FIELD(f), 0, 0, text, NULL, "", help                                      \
    }
#define CHOICE(name, f, text, names, help)                                                         \
    {                                                                                              \
        name, SPEC_CHOICE, FIELD(f), 0, 0, text, names, "", help                                   \
    }

const struct spec_param spec_params[] = {
    TEXT("image", image, NULL, "photograph: a file, an http(s):// URL or an s3:// key"),
    TEXT("model", model, "default", "name of the model that shall run the job"),
    INT("frames", frames, 0, 512, "0", "frames", "frames in the clip; 0: the model's own number"),
    INT("width", width_px, 0, 4096, "0", "px", "width of the clip; 0: from the photograph"),
    INT("height", height_px, 0, 4096, "0", "px", "height of the clip; 0: from the photograph"),
    INT("fps", fps, 1, 120, "7", "", "frames per second"),
    INT("motion_bucket", motion_bucket, 0, 1023, "127", "", "amount of motion; more is more"),
    REAL("noise_aug", noise_aug, 0, 10, "0.02", "", "noise added to the photograph"),
    { "seed", SPEC_SEED, FIELD(seed), 0, 0, "0", NULL, "", "seed of all randomness" },
    CHOICE("sampler", sampler, "consistency", sampler_names, "how latents are made from noise"),
    INT("steps", steps, 0, 1000, "0", "", "sampler steps; 0: 1, for euler 25"),
    REAL("guidance_min", guidance_min, 0, 30, "1", "", "guidance of the first frame"),
    REAL("guidance_max", guidance_max, 0, 30, "0", "",
         "guidance of the last frame; 0: 1, for euler 3"),
    CHOICE("noise", noise, "philox", noise_names, "noise generator; torch repeats torch.randn"),
    CHOICE("eps0", eps0, "fresh", eps0_names, "noise of the time travel samplers"),
    INT("decode_chunk_frames", decode_chunk_frames, 0, 512, "0", "frames",
        "frames that the VAE decodes together; 0: all"),
    CHOICE("format", format, "mp4", format_names,
           "mp4 (H.264), webm (VP9), or png: every frame, in a tar"),
    TEXT("output", output, "", "prefix of the result's keys"),
    INT("priority", priority, -100, 100, "0", "",
        "higher runs earlier; one step is worth ten minutes of waiting"),
    INT("timeout", timeout_s, 1, 86400, "3600", "s", "longest run of one attempt"),
    INT("attempts", attempts, 1, 20, "3", "", "tries before the job is given up"),
    TEXT("labels", labels, "", "key=value pairs, separated by commas"),
    TEXT("tenant", tenant, "", "who asks, for shares and quotas; empty: default"),
    TEXT("batch", batch, "", "jobs with the same batch are counted together"),
    INT("delay", delay_s, 0, 31536000, "0", "s", "wait so long before the job may run"),
    INT("deadline", deadline_s, 0, 31536000, "0", "s",
        "give the job up when it is not done so long after its submission; 0: never"),
    TEXT("after", after, "", "ids of jobs that must end first, separated by commas, at most 16"),
    CHOICE("after_failed", after_failed, "cancel", after_failed_names,
           "what to do when a job of --after failed"),
    TEXT("put_url", put_url, "",
         "presigned http(s):// URL that gets the video by one PUT once it is published"),
};
const size_t spec_param_count = sizeof(spec_params) / sizeof(spec_params[0]);

const struct spec_param *spec_find(const char *name)
{
    for (size_t i = 0; i < spec_param_count; i++) {
        const char *a = spec_params[i].name;
        const char *b = name;

        while (*a && (*a == *b || (*a == '_' && *b == '-'))) {
            a++;
            b++;
        }
        if (*a == '\0' && *b == '\0')
            return &spec_params[i];
    }
    return NULL;
}

static void *field_of(const struct job_spec *s, const struct spec_param *p)
{
    return (char *)(uintptr_t)s + p->offset;
}

void spec_init(struct job_spec *s)
{
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < spec_param_count; i++) {
        const struct spec_param *p = &spec_params[i];

        if (p->default_text && *p->default_text)
            CHECK(spec_set(s, p, p->default_text) == OK);
    }
}

static status check_number(const struct spec_param *p, double value, const char *text)
{
    if (!(value >= p->min && value <= p->max))
        return FAIL(ERR_BADARG, "%s: %s is outside %g..%g", p->name, text, p->min, p->max);
    return OK;
}

static status set_int(struct job_spec *s, const struct spec_param *p, const char *text)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return FAIL(ERR_BADARG, "%s: \"%.40s\" is not an integer (%g..%g)", p->name, text, p->min,
                    p->max);
    if (check_number(p, (double)value, text) != OK)
        return ERR_BADARG;
    *(int64_t *)field_of(s, p) = value;
    return OK;
}

static status set_seed(struct job_spec *s, const struct spec_param *p, const char *text)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (end == text || *end || errno || strchr(text, '-'))
        return FAIL(ERR_BADARG, "%s: \"%.40s\" is not an integer in 0..2^64-1", p->name, text);
    *(uint64_t *)field_of(s, p) = value;
    return OK;
}

static status set_double(struct job_spec *s, const struct spec_param *p, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !isfinite(value))
        return FAIL(ERR_BADARG, "%s: \"%.40s\" is not a number (%g..%g)", p->name, text, p->min,
                    p->max);
    if (check_number(p, value, text) != OK)
        return ERR_BADARG;
    *(double *)field_of(s, p) = value;
    return OK;
}

static status set_text(struct job_spec *s, const struct spec_param *p, const char *text)
{
    size_t len = strlen(text);

    if (len >= p->size)
        return FAIL(ERR_BADARG, "%s: %zu bytes, the limit is %zu", p->name, len, p->size - 1);
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return FAIL(ERR_BADARG, "%s: control character at byte %zu", p->name,
                        (size_t)(c - text));
    }
    if (!codec_is_text((const uint8_t *)text, len))
        return FAIL(ERR_BADARG, "%s: not UTF-8 text", p->name);
    memcpy(field_of(s, p), text, len + 1);
    return OK;
}

static status set_choice(struct job_spec *s, const struct spec_param *p, const char *text)
{
    char all[160] = "";

    for (int i = 0; p->choices[i]; i++) {
        if (strcmp(text, p->choices[i]) == 0) {
            *(int *)field_of(s, p) = i;
            return OK;
        }
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? ", " : "",
                 p->choices[i]);
    }
    return FAIL(ERR_BADARG, "%s: \"%.40s\" is not one of %s", p->name, text, all);
}

status spec_set(struct job_spec *s, const struct spec_param *p, const char *text)
{
    switch (p->type) {
    case SPEC_INT:
        return set_int(s, p, text);
    case SPEC_SEED:
        return set_seed(s, p, text);
    case SPEC_DOUBLE:
        return set_double(s, p, text);
    case SPEC_TEXT:
        return set_text(s, p, text);
    case SPEC_CHOICE:
        return set_choice(s, p, text);
    }
    CHECK(!"a row with an unknown type");
    return ERR_BADARG;
}

const char *spec_get(const struct job_spec *s, const struct spec_param *p, char *dst, size_t room)
{
    const void *field = field_of(s, p);

    switch (p->type) {
    case SPEC_INT:
        snprintf(dst, room, "%lld", (long long)*(const int64_t *)field);
        break;
    case SPEC_SEED:
        snprintf(dst, room, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case SPEC_DOUBLE:
        snprintf(dst, room, "%.17g", *(const double *)field);
        if (strtod(dst, NULL) == *(const double *)field) {
            char shorter[32];

            snprintf(shorter, sizeof(shorter), "%.15g", *(const double *)field);
            if (strtod(shorter, NULL) == *(const double *)field)
                snprintf(dst, room, "%s", shorter);
        }
        break;
    case SPEC_TEXT:
        snprintf(dst, room, "%s", (const char *)field);
        break;
    case SPEC_CHOICE:
        snprintf(dst, room, "%s", p->choices[*(const int *)field]);
        break;
    }
    return dst;
}

static int choice_count(const struct spec_param *p)
{
    int n = 0;

    while (p->choices[n])
        n++;
    return n;
}

static status check_param(const struct job_spec *s, const struct spec_param *p)
{
    const void *field = field_of(s, p);
    char text[SPEC_URL_MAX];
    struct job_spec copy;

    if (p->type == SPEC_CHOICE) {
        int value = *(const int *)field;

        if (value < 0 || value >= choice_count(p))
            return FAIL(ERR_BADARG, "%s: %d is not a known choice", p->name, value);
        return OK;
    }
    if (p->type == SPEC_TEXT && !memchr(field, '\0', p->size))
        return FAIL(ERR_BADARG, "%s: longer than %zu bytes", p->name, p->size - 1);
    if (p->type == SPEC_TEXT && !p->default_text && *(const char *)field == '\0')
        return FAIL(ERR_BADARG, "%s: must be given", p->name);
    return spec_set(&copy, p, spec_get(s, p, text, sizeof(text)));
}

/* Names go into Redis keys, metrics and paths. */
bool spec_is_name(const char *text)
{
    if (!*text)
        return false;
    for (; *text; text++) {
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *text))
            return false;
    }
    return true;
}

/* A prefix is a relative path of plain segments: no "..", no leading or doubled slash. */
static bool is_prefix(const char *text)
{
    char segment[SPEC_PREFIX_MAX];

    while (*text) {
        size_t len = strcspn(text, "/");

        memcpy(segment, text, len);
        segment[len] = '\0';
        if (!spec_is_name(segment) || segment[0] == '.')
            return false;
        text += len;
        if (*text == '/' && *++text == '\0')
            return true;
    }
    return true;
}

static bool is_label_list(const char *text)
{
    while (*text) {
        size_t len = strcspn(text, ",");
        const char *equals = memchr(text, '=', len);

        if (!equals || equals == text)
            return false;
        text += len;
        if (*text == ',' && *++text == '\0')
            return false;
    }
    return true;
}

bool spec_is_tenant(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return len > 0 && len < SPEC_TENANT_MAX && text[len] == '\0';
}

/* Ids of 26 characters, separated by commas. */
static bool is_id_list(const char *text)
{
    while (*text) {
        size_t len = strcspn(text, ",");

        if (len != 26 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") != len)
            return false;
        text += len;
        if (*text == ',' && *++text == '\0')
            return false;
    }
    return true;
}

/* The parameters that only the queue looks at. */
static status check_queue(const struct job_spec *s)
{
    if (*s->tenant && !spec_is_tenant(s->tenant))
        return FAIL(ERR_BADARG, "tenant: \"%s\" may hold only a-z, 0-9 and '-'", s->tenant);
    if (*s->batch && !spec_is_name(s->batch))
        return FAIL(ERR_BADARG, "batch: \"%s\" may hold only letters, digits, '.', '_' and '-'",
                    s->batch);
    if (!is_id_list(s->after))
        return FAIL(ERR_BADARG, "after: \"%.60s\" is not a list of job ids, separated by commas",
                    s->after);
    if (s->deadline_s != 0 && s->deadline_s <= s->delay_s)
        return FAIL(ERR_BADARG, "deadline: %lld s is not above the delay of %lld s",
                    (long long)s->deadline_s, (long long)s->delay_s);
    return OK;
}

/* CAREFUL: the URL is a secret and in no sentence. Whether it can be read is for whoever has a
 * parser of URLs to say, before it is used. */
static bool is_web_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

status spec_check(const struct job_spec *s)
{
    for (size_t i = 0; i < spec_param_count; i++) {
        status st = check_param(s, &spec_params[i]);

        if (st != OK)
            return st;
    }
    if (!spec_is_name(s->model))
        return FAIL(ERR_BADARG, "model: \"%s\" may hold only letters, digits, '.', '_' and '-'",
                    s->model);
    if (!is_prefix(s->output))
        return FAIL(ERR_BADARG,
                    "output: \"%s\" must be plain path segments (letters, digits, '.', "
                    "'_', '-'), without \"..\" or a leading slash",
                    s->output);
    if (!is_label_list(s->labels))
        return FAIL(ERR_BADARG, "labels: \"%.60s\" is not key=value[,key=value...]", s->labels);
    if ((s->width_px == 0) != (s->height_px == 0))
        return FAIL(ERR_BADARG, "width, height: give both or neither");
    if (s->guidance_max != 0 && s->guidance_max < s->guidance_min)
        return FAIL(ERR_BADARG, "guidance_max: %g is below guidance_min %g", s->guidance_max,
                    s->guidance_min);
    if (*s->put_url && !is_web_url(s->put_url))
        return FAIL(ERR_BADARG, "put_url: want an http:// or https:// URL");
    return check_queue(s);
}

void spec_resolve(struct job_spec *s)
{
    bool is_euler = s->sampler == SPEC_EULER;

    if (s->steps == 0)
        s->steps = is_euler ? 25 : 1;
    if (s->guidance_max == 0) {
        double wanted = is_euler ? 3 : 1;

        s->guidance_max = wanted > s->guidance_min ? wanted : s->guidance_min;
    }
}
