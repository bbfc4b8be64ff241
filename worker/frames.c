#include "worker/frames.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"

#define CHANNELS 3

void frames_init(struct frames *f)
{
    *f = (struct frames){ 0 };
    CHECK(pthread_mutex_init(&f->lock, NULL) == 0);
    CHECK(pthread_cond_init(&f->change, NULL) == 0);
}

status frames_open(struct frames *f, int64_t count, int64_t h, int64_t w)
{
    size_t bytes;
    uint8_t *rgb = NULL;

    CHECK(!f->rgb && count > 0 && h > 0 && w > 0);
    if (!__builtin_mul_overflow((size_t)count, (size_t)(h * w * CHANNELS), &bytes))
        rgb = calloc(1, bytes);
    if (!rgb)
        return FAIL(ERR_NOMEM, "no memory for %lld finished frames of %lldx%lld", (long long)count,
                    (long long)w, (long long)h);
    pthread_mutex_lock(&f->lock);
    f->count = count;
    f->h = h;
    f->w = w;
    f->rgb = rgb;
    pthread_mutex_unlock(&f->lock);
    return OK;
}

uint8_t *frames_at(struct frames *f, int64_t index)
{
    CHECK(f->rgb && index >= 0 && index < f->count);
    return f->rgb + index * f->h * f->w * CHANNELS;
}

void frames_put(struct frames *f, int64_t ready)
{
    pthread_mutex_lock(&f->lock);
    CHECK(!f->is_ended && ready >= f->ready && ready <= f->count);
    f->ready = ready;
    pthread_cond_broadcast(&f->change);
    pthread_mutex_unlock(&f->lock);
}

void frames_end(struct frames *f, status st)
{
    pthread_mutex_lock(&f->lock);
    CHECK(!f->is_ended);
    CHECK(st != OK || (f->rgb && f->ready == f->count));
    f->is_ended = true;
    f->end = st;
    if (st != OK)
        snprintf(f->message, sizeof(f->message), "%s", status_message());
    pthread_cond_broadcast(&f->change);
    /* CAREFUL: the reader may free f as soon as the lock is given back. */
    pthread_mutex_unlock(&f->lock);
}

/* Wait for frame index, or for the end. Returns the status the writer ended with when that came
 * first. */
static status wait_for(struct frames *f, int64_t index, bool for_end)
{
    status st = OK;

    pthread_mutex_lock(&f->lock);
    while (!f->is_ended && (for_end || f->ready <= index))
        pthread_cond_wait(&f->change, &f->lock);
    if (f->is_ended && f->end != OK)
        st = FAIL(f->end, "%s", f->message);
    pthread_mutex_unlock(&f->lock);
    return st;
}

status frames_wait(struct frames *f, int64_t index, const uint8_t **rgb)
{
    status st = wait_for(f, index, false);

    if (st == OK)
        *rgb = frames_at(f, index);
    return st;
}

status frames_join(struct frames *f)
{
    return wait_for(f, 0, true);
}

void frames_close(struct frames *f)
{
    free(f->rgb);
    pthread_cond_destroy(&f->change);
    pthread_mutex_destroy(&f->lock);
    *f = (struct frames){ 0 };
}
