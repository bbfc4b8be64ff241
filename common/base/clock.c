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

int64_t clock_wall_ms(void)
{
    struct timespec t = clock_read(CLOCK_REALTIME);

    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
