/* crew_world.h - the world around a crew with the tiny model: it gives leases, and keeps a list of
 * what the crew said about them. Whatever fails in here ends the test. */
#ifndef ONESTEP_TESTS_UNIT_WORKER_CREW_WORLD_H
#define ONESTEP_TESTS_UNIT_WORKER_CREW_WORLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "common/media.h"
#include "worker/crew.h"

#define WORLD_MODEL "tests/fixtures/tiny-a"
#define WORLD_DEADLINE_S 30

/* Ids of jobs. */
#define WORLD_JOB_A "00aaaaaaaaaaaaaaaaaaaaaaaa"
#define WORLD_JOB_B "00bbbbbbbbbbbbbbbbbbbbbbbb"

/* How a lease ended. */
enum end { END_NONE = 0, END_DONE, END_FAILED, END_STOPPED };

/* What the crew said about one lease. */
struct said {
    struct lease lease;
    enum end end;
    status code;
    char sentence[512];
    char video[1024], poster[1024], manifest[1024];
    int starts, reports, kept;
    char stage[32]; /* the last one */
    double progress;
};

/* The world. */
struct world {
    struct crew crew;
    struct media_decoder decoder;
    struct pipeline pipeline;
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct said said[64];
    int count;
    bool is_full;               /* as was said last */
    int broken;                 /* times that the device was said to be broken */
    int may_break;              /* times that it should be said */
    const struct rlimit *files; /* limit of file sizes from the start of compute; NULL: none */
    const char *stop_at;        /* cancel the lease when this stage is reported; NULL: never */
};

/* What was said about a lease of this world; under the lock. */
struct said *world_about(struct world *w, const struct lease *lease);

/* dst = the path of name in the test's folder, FILE_PATH_BYTES at most. Returns dst. */
const char *world_path(const char *name, char *dst);

/* The crew with its store in test_tmpdir()/out, or an S3 store at this port of this machine when
 * that is not 0; dump: write dumps to test_tmpdir()/dump. */
void world_open_at(struct world *w, bool dump, int s3_port, uint64_t spool_bytes_max);

/* With a folder as the store, and room for clips. */
void world_open(struct world *w, bool dump);

/* Close all; the device has been said to be broken as often as it should. */
void world_close(struct world *w);

/* A PNG in the test's folder, and a job for it. */
struct job_spec world_job(const char *name);

/* Give the crew a lease of this job. */
struct lease world_take(struct world *w, const struct job_spec *spec, const char *job,
                        int64_t attempt);

/* A copy of what was said once the lease has ended. */
struct said world_wait(struct world *w, const struct lease *lease);

/* dst = the path that a file:// URL names. Returns dst. */
const char *world_path_of(const char *text, char *dst);

#endif
