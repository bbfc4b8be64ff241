/* clock.h - the two clocks. Cores get now_ms handed in; only shells read a clock. */
#ifndef ONESTEP_COMMON_BASE_CLOCK_H
#define ONESTEP_COMMON_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC: for deadlines and durations inside one machine. */
int64_t clock_mono_ms(void);

/* Seconds of CLOCK_MONOTONIC as a double, for stage times. */
double clock_mono_s(void);

/* Milliseconds since 1970 UTC: for time stamps that people and other machines read. */
int64_t clock_wall_ms(void);

/* Look at a condition until it holds or timeout_ms have passed; the answer is whether it holds. For
 * what can't be waited for with poll or a condition variable: another program's start, a file. The
 * pauses between two looks grow from 1 to 50 ms. is_true is called once at least. */
bool clock_wait_for(bool (*is_true)(void *self), void *self, int timeout_ms);

#endif
