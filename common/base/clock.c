#include "common/base/clock.h"

#include <time.h>

static struct timespec clock_read(clockid_t id)
{
    struct timespec t = { 0 };

    clock_gettime(id, &t);
    return t;
}

int64_t clock_mono_ms(void)
{
    struct timespec t = clock_read(CLOCK_MONOTONIC);

    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

double clock_mono_s(void)
{
    struct timespec t = clock_read(CLOCK_MONOTONIC);

    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool clock_wait_for(bool (*is_true)(void *self), void *self, int timeout_ms)
{
    int64_t end_ms = clock_mono_ms() + timeout_ms;

    for (int64_t pause_ms = 1; !is_true(self); pause_ms = pause_ms * 2 < 50 ? pause_ms * 2 : 50) {
        int64_t left_ms = end_ms - clock_mono_ms();
        struct timespec pause = { .tv_nsec = 1000000 };

        if (left_ms <= 0)
            return false;
        pause.tv_nsec *= pause_ms < left_ms ? pause_ms : left_ms;
        nanosleep(&pause, NULL); /* a signal only makes the next look come earlier */
    }
    return true;
}

int64_t clock_wall_ms(void)
{
    struct timespec t = clock_read(CLOCK_REALTIME);

    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
