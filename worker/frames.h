/* frames.h - the finished frames of one clip, filled by the compute thread while the io thread
 * encodes.
 *
 * One buffer holds the whole clip, so the two threads never wait for room: the reader waits for the
 * frame it wants next, the writer never waits. Frames become ready in order; how many there will be
 * (count) is known to the reader once frames_wait has given it the first one.
 * Thread: one writer (open, frames_put, frames_end) and one reader (frames_wait, close). The writer
 * doesn't touch the struct after frames_end. */
#ifndef ONESTEP_WORKER_FRAMES_H
#define ONESTEP_WORKER_FRAMES_H

#include <pthread.h>
#include <stdint.h>

#include "common/base/status.h"

struct frames {
    int64_t count, h, w;   /* size of the clip; set by frames_open */
    uint8_t *rgb;          /* [count][h][w][3], owned; NULL before frames_open */
    int64_t ready;         /* frames that are final; under lock */
    bool is_ended;         /* frames_end was called; under lock */
    status end;            /* how the writer ended, valid when is_ended */
    char message[512];     /* the sentence that goes with end */
    pthread_mutex_t lock;  /* guards ready, is_ended, end, message, rgb until it is set */
    pthread_cond_t change; /* signalled when one of them changes */
};

/* Prepare a zeroed struct; no pixels yet. This function can't fail. */
void frames_init(struct frames *f);

/* Take memory for count frames of w x h pixels. Errors: ERR_NOMEM. */
MUST_USE status frames_open(struct frames *f, int64_t count, int64_t h, int64_t w);

/* Where frame index is to be written, by the writer, before frames_put says that it is final. */
uint8_t *frames_at(struct frames *f, int64_t index);

/* Frames 0..ready-1 are final. This function can't fail. */
void frames_put(struct frames *f, int64_t ready);

/* The writer's last call: OK when every frame is final, otherwise the failure, whose sentence is
 * this thread's status_message(). */
void frames_end(struct frames *f, status st);

/* Wait until frame index is final and point *rgb [h][w][3] at it.
 * Errors: what the writer ended with, its sentence set again in this thread. */
MUST_USE status frames_wait(struct frames *f, int64_t index, const uint8_t **rgb);

/* Wait until the writer has ended, however. Errors: as frames_wait. */
MUST_USE status frames_join(struct frames *f);

/* Free what frames_init and frames_open made. Only after the writer has ended, or never began. */
void frames_close(struct frames *f);

#endif
