#include "worker/model/params.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/limits.h"

status params_open(struct params *p, struct weights_loader *loader, const char *dir,
                   const char *name)
{
    status st;
    struct buf text = { 0 };
    char path[FILE_PATH_BYTES];

    *p = (struct params){ 0 };
    if (loader->original) {
        snprintf(path, sizeof(path), "%.900s (%s, from its tensors)", loader->original->path,
                 file_name(dir));
        TRY(original_config(loader->original, file_name(dir), name, &text));
    } else {
        TRY(file_join(path, sizeof(path), dir, name));
        TRY(file_read(path, LIMIT_TEXT_FILE_BYTES, &text));
        weights_identify(loader, path);
    }
    weights_hash(loader, text.data, text.len);
    TRY(json_parse(&p->doc, path, text.data, text.len));
    p->root = json_root(&p->doc);
    TRY(json_want_object(&p->root));
    buf_free(&text);
    return OK;
out:
    buf_free(&text);
    params_close(p);
    return st;
}

void params_close(struct params *p)
{
    json_free(&p->doc);
    *p = (struct params){ 0 };
}

static status check_text(const struct params *p, const char *key, const char *text,
                         const char *want)
{
    if (strcmp(text, want) == 0)
        return OK;
    return FAIL(ERR_BADARG, "%s is \"%s\"; only \"%s\" is supported", json_find(&p->root, key).path,
                text, want);
}

static status check_int(const struct params *p, const char *key, int64_t value, int64_t want)
{
    if (value == want)
        return OK;
    return FAIL(ERR_BADARG, "%s is %" PRId64 "; only %" PRId64 " is supported",
                json_find(&p->root, key).path, value, want);
}

status params_expect_text(const struct params *p, const char *key, const char *want)
{
    status st;
    const char *text;

    TRY(json_get_text(&p->root, key, &text));
    TRY(check_text(p, key, text, want));
out:
    return st;
}

status params_allow_text(const struct params *p, const char *key, const char *want)
{
    status st;
    const char *text = want;

    TRY(json_opt_text(&p->root, key, &text));
    TRY(check_text(p, key, text, want));
out:
    return st;
}

status params_expect_bool(const struct params *p, const char *key, bool want)
{
    status st;
    bool value = want;

    TRY(json_opt_bool(&p->root, key, &value));
    if (value != want)
        TRY(FAIL(ERR_BADARG, "%s is %s; only %s is supported", json_find(&p->root, key).path,
                 value ? "true" : "false", want ? "true" : "false"));
out:
    return st;
}

status params_expect_int(const struct params *p, const char *key, int64_t want)
{
    status st;
    int64_t value;

    TRY(json_get_int(&p->root, key, INT64_MIN, INT64_MAX, &value));
    TRY(check_int(p, key, value, want));
out:
    return st;
}

status params_allow_int(const struct params *p, const char *key, int64_t want)
{
    status st;
    int64_t value = want;

    TRY(json_opt_int(&p->root, key, INT64_MIN, INT64_MAX, &value));
    TRY(check_int(p, key, value, want));
out:
    return st;
}

status params_widths(const struct params *p, const char *key, int64_t *dst, int *count)
{
    status st;
    struct json_value v = json_find(&p->root, key);
    size_t n;

    TRY(json_want_array(&v, 1, PARAMS_LEVELS_MAX));
    TRY(json_to_ints(&v, 1, PARAMS_WIDTH_MAX, dst, PARAMS_LEVELS_MAX, &n));
    for (size_t i = 0; i < n; i++) {
        if (dst[i] % PARAMS_NORM_GROUPS != 0)
            TRY(FAIL(ERR_BADARG, "%s is %" PRId64 " for level %zu; it must be a multiple of %d",
                     v.path, dst[i], i, PARAMS_NORM_GROUPS));
    }
    *count = (int)n;
out:
    return st;
}

status params_per_level(const struct params *p, const char *key, int count, int64_t max,
                        int64_t *dst)
{
    status st;
    struct json_value v = json_find(&p->root, key);
    size_t n;

    if (json_kind(&v) == JSON_KIND_ARRAY) {
        TRY(json_want_array(&v, (size_t)count, (size_t)count));
        TRY(json_to_ints(&v, 1, max, dst, (size_t)count, &n));
        return OK;
    }
    TRY(json_get_int(&p->root, key, 1, max, &dst[0]));
    for (int i = 1; i < count; i++)
        dst[i] = dst[0];
out:
    return st;
}

static int choice(const char *text, const char *const *names)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0)
            return i;
    }
    return -1;
}

status params_choices(const struct params *p, const char *key, int count, const char *const *names,
                      int *index)
{
    status st;
    struct json_value v = json_find(&p->root, key);
    const char *text;

    TRY(json_want_array(&v, (size_t)count, (size_t)count));
    for (int i = 0; i < count; i++) {
        struct json_value item = json_at(&v, (size_t)i);

        TRY(json_to_text(&item, &text));
        index[i] = choice(text, names);
        if (index[i] < 0)
            TRY(FAIL(ERR_BADARG, "%s is \"%s\", which is not supported", item.path, text));
    }
out:
    return st;
}
