/* stage.h - the stages of an attempt: their names, how far it is, and how long each one took.
 *
 * The words are the same in progress messages, logs, metrics and the result's manifest. */
#ifndef ONESTEP_WORKER_STAGE_H
#define ONESTEP_WORKER_STAGE_H

/* In the order of a job; encode runs while later frames still decode. */
enum stage {
    STAGE_NONE = 0,
    STAGE_FETCH,        /* input bytes arrive */
    STAGE_DECODE_IMAGE, /* photograph -> RGB */
    STAGE_CLIP,         /* image -> embedding */
    STAGE_VAE_ENCODE,   /* image -> conditioning latent */
    STAGE_UNET,         /* noise -> latents */
    STAGE_VAE_DECODE,   /* latents -> frames */
    STAGE_ENCODE,       /* frames -> video file */
    STAGE_UPLOAD,       /* files -> storage; they are safe on disk */
    STAGE_COUNT
};

/* Listener: progress is 0..1 of the whole attempt and never falls. Any thread of the attempt. */
typedef void (*stage_listener)(void *self, enum stage stage, double progress);

/* Where an attempt is. Each field is written by the thread that has the attempt at the time. */
struct stages {
    double share[STAGE_COUNT];   /* part of the whole, sums to 1; stages_init, stages_weigh */
    double seconds[STAGE_COUNT]; /* busy time; written by the thread that runs the stage */
    stage_listener listener;     /* told at each stage_show; or NULL */
    void *self;                  /* handed to listener */
};

/* "fetch", "decode_image", ...: [a-z_]. This function can't fail; STAGE_NONE is a bug. */
const char *stage_name(enum stage stage);

/* Begin an attempt, with shares of a usual one. This function can't fail. */
void stages_init(struct stages *s, stage_listener listener, void *self);

/* Share the model's part of the whole among its stages as work [STAGE_COUNT] says; only the entries
 * STAGE_CLIP .. STAGE_VAE_DECODE are read, in any unit, not all zero. */
void stages_weigh(struct stages *s, const double *work);

/* Tell the listener that the attempt is in this stage, fraction 0..1 of which is done. */
void stage_show(struct stages *s, enum stage stage, double fraction);

/* A point in time, in seconds; and the seconds since then added to stage. */
double stage_begin(void);
void stage_end(struct stages *s, enum stage stage, double begin);

#endif
