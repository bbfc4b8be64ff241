/* spec.h - what a user asks for: the parameters of one job, their bounds, and their one table.
 *
 * spec_params drives client flags, JSONL manifest keys, --help, man pages, shell completion, the
 * check at the broker's door, the wire, and the echo in the result's manifest. A new parameter is a
 * field, a row, and a line in proto/onestep.proto. */
#ifndef ONESTEP_PROTO_SPEC_H
#define ONESTEP_PROTO_SPEC_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

/* How the latents are made from noise; worker/sampler has the formulas. */
enum spec_sampler { SPEC_CONSISTENCY = 0, SPEC_TTS_LITERAL, SPEC_TTS_FMID, SPEC_EULER };

/* Where noise comes from: a counter-based generator, or the stream of torch.randn on the CPU. */
enum spec_noise { SPEC_PHILOX = 0, SPEC_TORCH };

/* eps0 of the Time Travel Sampler: drawn anew, or the initial noise again. */
enum spec_eps0 { SPEC_EPS0_FRESH = 0, SPEC_EPS0_INITIAL };

/* What the frames are delivered as: H.264 in MP4, VP9 in WebM, or a PNG of each in a tar. */
enum spec_format { SPEC_MP4 = 0, SPEC_WEBM, SPEC_PNG };

/* What becomes of a job when one of those that it waits for has failed or was cancelled. */
enum spec_after_failed { SPEC_CANCEL_TOO = 0, SPEC_RUN_ANYWAY };

#define SPEC_URL_MAX 2048
#define SPEC_NAME_MAX 64
#define SPEC_PREFIX_MAX 256
#define SPEC_LABELS_MAX 1024
#define SPEC_TENANT_MAX 33
#define SPEC_TENANT_DEFAULT "default"
#define SPEC_PARENTS_MAX 16
#define SPEC_AFTER_MAX (SPEC_PARENTS_MAX * 27) /* ids of 26 characters, and commas */

/* The parameters of one job, as asked for. 0 in a field whose row says "0: ..." means "choose". */
struct job_spec {
    char image[SPEC_URL_MAX];  /* file://, http://, https:// or s3:// URL of the photograph */
    char model[SPEC_NAME_MAX]; /* name of the model; a worker takes jobs for the one it serves */
    int64_t frames;            /* frames of the clip; 0: the model's own number */
    int64_t width_px,
        height_px;         /* size of the clip; 0: the photograph's shape at the model's area */
    int64_t fps;           /* frames per second, of the file and as conditioning */
    int64_t motion_bucket; /* SVD's motion_bucket_id: more is more motion */
    double noise_aug;      /* strength of the noise added to the photograph */
    uint64_t seed;         /* all randomness of the job */
    int sampler;           /* enum spec_sampler */
    int64_t steps;         /* sampler steps; 0: 1, and 25 for euler */
    double guidance_min;   /* guidance of the first frame */
    double guidance_max;   /* guidance of the last frame; 0: 1, and 3 for euler */
    int noise;             /* enum spec_noise */
    int eps0;              /* enum spec_eps0 */
    int format;            /* enum spec_format */
    int64_t decode_chunk_frames;  /* frames decoded together by the VAE; 0: all */
    char output[SPEC_PREFIX_MAX]; /* prefix of the result's keys; "": none */
    int64_t priority;  /* higher runs earlier; one step is worth ten minutes of waiting */
    int64_t timeout_s; /* longest run of one attempt */
    int64_t attempts;  /* tries before the job is given up */
    char labels[SPEC_LABELS_MAX]; /* "key=value,key=value", for people and for list --label */
    char tenant[SPEC_TENANT_MAX]; /* who asks: shares, quotas; "": SPEC_TENANT_DEFAULT */
    char batch[SPEC_NAME_MAX];    /* jobs of a name are counted together; "": none */
    int64_t delay_s;              /* not before so long after its submission */
    int64_t deadline_s;           /* given up when not done so long after it; 0: never */
    char after[SPEC_AFTER_MAX];   /* ids of jobs that must end before, separated by commas */
    int after_failed;             /* enum spec_after_failed */
    char put_url[SPEC_URL_MAX];   /* http(s):// URL that gets the video by PUT; "": none. A secret:
                                     it is never written anywhere with its query */
};

/* How a parameter is written, checked and stored. */
enum spec_type { SPEC_INT = 1, SPEC_SEED, SPEC_DOUBLE, SPEC_TEXT, SPEC_CHOICE };

/* One parameter. The name is the same word in flags (--motion-bucket), JSON and the manifest
 * (motion_bucket). */
struct spec_param {
    const char *name;           /* snake_case */
    enum spec_type type;        /* SPEC_SEED is uint64_t, SPEC_CHOICE is int */
    size_t offset;              /* of the field in struct job_spec */
    size_t size;                /* of the field, for SPEC_TEXT */
    double min, max;            /* inclusive bounds, for SPEC_INT and SPEC_DOUBLE */
    const char *default_text;   /* as a user would type it; NULL: must be given */
    const char *const *choices; /* NULL-ended, for SPEC_CHOICE */
    const char *unit;           /* "px", "s", "frames", or "" */
    const char *help;           /* one line for --help and the man page */
};

/* The table and its length. */
extern const struct spec_param spec_params[];
extern const size_t spec_param_count;

/* The row called name ('-' and '_' are the same), or NULL. */
const struct spec_param *spec_find(const char *name);

/* Fill s with the defaults. This function can't fail. */
void spec_init(struct job_spec *s);

/* Set parameter p from text. Errors: ERR_BADARG with a sentence naming the parameter, the text and
 * the bounds; s is then unchanged. */
MUST_USE status spec_set(struct job_spec *s, const struct spec_param *p, const char *text);

/* Write parameter p as text into dst (room bytes, always NUL-ended); returns dst. Numbers read back
 * to the same value. */
const char *spec_get(const struct job_spec *s, const struct spec_param *p, char *dst, size_t room);

/* Check every bound and the rules between parameters; for specs that came over the wire or from a
 * file. Errors: ERR_BADARG. */
MUST_USE status spec_check(const struct job_spec *s);

/* Is text the name of a tenant: a-z, 0-9 and '-', below SPEC_TENANT_MAX, not empty? */
bool spec_is_tenant(const char *text);

/* Is text the name of a model or batch: letters, digits, '.', '_' and '-', not empty? */
bool spec_is_name(const char *text);

/* Replace "choose" in steps and guidance_max by the sampler's defaults. Frames and size need the
 * model: the worker's pipeline resolves them. This function can't fail. */
void spec_resolve(struct job_spec *s);

#endif
