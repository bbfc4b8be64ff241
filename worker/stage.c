#include "worker/stage.h"

#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"

/* The model's stages take this part of an attempt, whatever the model; the rest is input and
 * output. */
#define MODEL_SHARE 0.90

const char *stage_name(enum stage stage)
{
    static const char *const names[STAGE_COUNT] = {
        [STAGE_FETCH] = "fetch",   [STAGE_DECODE_IMAGE] = "decode_image",
        [STAGE_CLIP] = "clip",     [STAGE_VAE_ENCODE] = "vae_encode",
        [STAGE_UNET] = "unet",     [STAGE_VAE_DECODE] = "vae_decode",
        [STAGE_ENCODE] = "encode", [STAGE_UPLOAD] = "uploading",
    };

    CHECK(stage > STAGE_NONE && stage < STAGE_COUNT);
    return names[stage];
}

void stages_init(struct stages *s, stage_listener listener, void *self)
{
    static const double work[STAGE_COUNT] = {
        [STAGE_CLIP] = 1,
        [STAGE_VAE_ENCODE] = 2,
        [STAGE_UNET] = 35,
        [STAGE_VAE_DECODE] = 62,
    };

    memset(s, 0, sizeof(*s));
    s->listener = listener;
    s->self = self;
    s->share[STAGE_FETCH] = 0.02;
    s->share[STAGE_DECODE_IMAGE] = 0.01;
    s->share[STAGE_ENCODE] = 0.05;
    s->share[STAGE_UPLOAD] = 0.02;
    stages_weigh(s, work);
}

void stages_weigh(struct stages *s, const double *work)
{
    double sum = 0;

    for (int i = STAGE_CLIP; i <= STAGE_VAE_DECODE; i++)
        sum += work[i];
    CHECK(sum > 0);
    for (int i = STAGE_CLIP; i <= STAGE_VAE_DECODE; i++)
        s->share[i] = MODEL_SHARE * work[i] / sum;
}

void stage_show(struct stages *s, enum stage stage, double fraction)
{
    double progress = 0;

    CHECK(stage > STAGE_NONE && stage < STAGE_COUNT);
    CHECK(fraction >= 0 && fraction <= 1);
    if (!s->listener)
        return;
    for (int i = 0; i < (int)stage; i++)
        progress += s->share[i];
    progress += s->share[stage] * fraction;
    s->listener(s->self, stage, progress < 1 ? progress : 1);
}

double stage_begin(void)
{
    return clock_mono_s();
}

void stage_end(struct stages *s, enum stage stage, double begin)
{
    s->seconds[stage] += clock_mono_s() - begin;
}
