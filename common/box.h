/* box.h - a function that reads untrusted bytes, run in a process that can do nothing else.
 *
 * box_open forks a keeper while the program is still small and has one thread. For every call the
 * keeper forks a child, which gives up everything but its own memory: no file, socket, process or
 * signal can be made, memory and processor time are limited, and any system call that is not needed
 * to compute kills it (seccomp). Input and output are one block of shared memory. A child that is
 * taken over by what it reads can spoil this one answer, which the caller has to check like
 * anything else from outside; one that crashes, hangs or grows costs this one call.
 *
 *   box_open(&b, &(struct box_config){ .work = decode, .output_bytes_max = 1 << 20, ... });
 *   box_run(&b, "photo.jpg", bytes, len, &out);       any thread, any number of times
 *
 * Under a sanitizer memory is not limited: it takes address space for its own ends.
 * Thread: any; calls wait for each other. box_open before the program has threads. */
#ifndef ONESTEP_COMMON_BOX_H
#define ONESTEP_COMMON_BOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/base/status.h"

/* What the child runs: input to output, at most room bytes, *len of which count. Its failure and
 * sentence are box_run's. name is for sentences. */
typedef status (*box_function)(const char *name, const void *input, size_t input_bytes,
                               void *output, size_t room, size_t *len);

/* Limits of one call. */
struct box_config {
    box_function work;       /* runs in the child */
    size_t input_bytes_max;  /* more is refused */
    size_t output_bytes_max; /* room that work gets; taken only as it is written */
    size_t memory_bytes;     /* of the child's own */
    int cpu_s;               /* processor time */
    int wall_ms;             /* time from beginning to end */
};

/* A keeper. A zeroed struct is closed. */
struct box {
    struct box_config config;
    pid_t keeper;         /* valid while is_open */
    int fd;               /* to the keeper */
    pthread_mutex_t lock; /* one call at a time */
    bool is_open;
};

/* What work wrote. A zeroed struct is empty. CAREFUL: it is from outside. */
struct box_output {
    const void *bytes; /* valid until box_output_free */
    size_t len;        /* at most output_bytes_max */
    void *block;       /* for box_output_free */
    size_t block_bytes;
};

/* Start the keeper. Errors: ERR_NOMEM, ERR_IO when the system allows no process. */
MUST_USE status box_open(struct box *b, const struct box_config *config);

/* End the keeper. Accepts a zeroed struct. */
void box_close(struct box *b);

/* Run work on len bytes (0 too). name: for sentences; cut at 255 bytes.
 * Errors: those of work; ERR_BADARG over input_bytes_max; ERR_CORRUPT when the child crashed, was
 * stopped at a system call, or ran out of time, naming which; ERR_NOMEM; ERR_DEVICE when the keeper
 * is gone: the program has to be started again. */
MUST_USE status box_run(struct box *b, const char *name, const void *input, size_t len,
                        struct box_output *out);

/* Give the output back. Accepts a zeroed struct. */
void box_output_free(struct box_output *out);

#endif
