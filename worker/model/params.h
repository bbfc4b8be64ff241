/* params.h - the checked values of a part's config.json.
 *
 * A value of the wrong type or out of bounds is ERR_CORRUPT, one that another build might support
 * is ERR_BADARG; both sentences name the file and the key. Thread: the owner's. */
#ifndef ONESTEP_WORKER_MODEL_PARAMS_H
#define ONESTEP_WORKER_MODEL_PARAMS_H

#include "common/base/json.h"
#include "worker/model/weights.h"

/* Widest layer and most levels, layers, heads that a config may ask for: beyond any model of this
 * family, and small enough that no product of two overflows. */
#define PARAMS_WIDTH_MAX 8192
#define PARAMS_LEVELS_MAX 8
#define PARAMS_LAYERS_MAX 8

/* Groups of every GroupNorm of the family; each width is a multiple. */
#define PARAMS_NORM_GROUPS 32

/* An open config file. */
struct params {
    struct json doc;        /* owns every value */
    struct json_value root; /* its top-level object */
};

/* Read and parse dir/name, or what loader->original has in its place; its bytes go into the
 * loader's content hash.
 * Errors: as file_read and json_parse. */
MUST_USE status params_open(struct params *p, struct weights_loader *loader, const char *dir,
                            const char *name);

/* Accepts a zeroed struct. */
void params_close(struct params *p);

/* The text of key must be want. Errors: ERR_CORRUPT; ERR_BADARG for another text. */
MUST_USE status params_expect_text(const struct params *p, const char *key, const char *want);

/* The bool of key must be want when the key is there. Errors: as params_expect_text. */
MUST_USE status params_expect_bool(const struct params *p, const char *key, bool want);

/* The whole number of key must be want. Errors: as params_expect_text. */
MUST_USE status params_expect_int(const struct params *p, const char *key, int64_t want);

/* The same for keys that older writers leave out: want is the default of diffusers and of
 * transformers, so an absent or null one is right. Errors: as params_expect_text. */
MUST_USE status params_allow_text(const struct params *p, const char *key, const char *want);
MUST_USE status params_allow_int(const struct params *p, const char *key, int64_t want);

/* dst[0..*count-1] = the widths of key: 1..PARAMS_LEVELS_MAX multiples of PARAMS_NORM_GROUPS. */
MUST_USE status params_widths(const struct params *p, const char *key, int64_t *dst, int *count);

/* dst[0..count-1] = the numbers of key in 1..max: one number for all levels, or one per level. */
MUST_USE status params_per_level(const struct params *p, const char *key, int count, int64_t max,
                                 int64_t *dst);

/* index = which of names (ended by NULL) text index of the array at key is, for each of its count
 * texts. Errors: ERR_CORRUPT when there are not count; ERR_BADARG for a text that is not in
 * names. */
MUST_USE status params_choices(const struct params *p, const char *key, int count,
                               const char *const *names, int *index);

#endif
