/* progress.h - how far jobs are, as text: a bar that is redrawn on a terminal, lines elsewhere. */
#ifndef ONESTEP_CLIENT_PROGRESS_H
#define ONESTEP_CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known about all jobs that are watched. */
struct progress_view {
    size_t total;       /* jobs watched */
    size_t done;        /* ended with a result */
    size_t failed;      /* ended without: dead, cancelled, unknown */
    size_t running;     /* a worker has them */
    double fraction;    /* 0..1 of all of them, ended ones count 1 */
    const char *stage;  /* of a running job, or what is waited for; "" */
    int64_t elapsed_ms; /* since the watching began */
};

/* Draws on standard error. Zero it, then progress_begin. */
struct progress {
    bool is_terminal; /* a line is redrawn; otherwise nothing but progress_say prints */
    size_t drawn;     /* bytes of the line on the screen */
};

/* One line of at most columns characters: "unet  [#####-----]  50%  12.3 s", and for several jobs
 * "3 of 10 done, 1 failed  unet  [###-------]  35%  12.3 s". Returns dst (room bytes). */
const char *progress_line(const struct progress_view *view, size_t columns, char *dst, size_t room);

/* Find out where standard error goes. */
void progress_begin(struct progress *p);

/* Redraw the line. Nothing when standard error is no terminal. */
void progress_draw(struct progress *p, const struct progress_view *view);

/* Take the line off the screen, before something else is printed. */
void progress_clear(struct progress *p);

#endif
