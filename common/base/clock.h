/* clock.h - the two clocks. Cores get now_ms handed in; only shells read a clock. */
#ifndef ONESTEP_COMMON_BASE_CLOCK_H
#define ONESTEP_COMMON_BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC: for deadlines and durations inside one machine. */
int64_t clock_mono_ms(void);

/* Seconds of CLOCK_MONOTONIC as a double, for stage times. */
double clock_mono_s(void);

/* Milliseconds since 1970 UTC: for time stamps that people and other machines read. */
int64_t clock_wall_ms(void);

#endif
