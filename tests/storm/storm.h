/* storm.h - the real programs and a real Redis (fsync always) while everything is killed.
 *
 * Clients submit through a fault proxy to brokers, which reach Redis through it; workers compute
 * real clips with a tiny checkpoint. Somebody is killed by SIGKILL or frozen by SIGSTOP all the
 * time, and the disk is full now and then. What `onestep submit` printed was promised; after the
 * storm every promise must be kept, with one result that agrees with its manifest and its bytes. */
#ifndef ONESTEP_TESTS_STORM_STORM_H
#define ONESTEP_TESTS_STORM_STORM_H

#include <stdbool.h>
#include <stdint.h>

/* How long and how hard. */
struct storm_config {
    const char *bin; /* folder of the programs */
    const char *dir; /* where everything is; empty, short */
    uint64_t seed;
    int64_t seconds;        /* of the storm; then it is calm */
    int64_t kills;          /* or until so many; 0: no limit */
    int64_t kill_every_ms;  /* between two */
    int64_t batch_every_ms; /* between two submits, of each client */
    int64_t stuck_ms;       /* after it: longest time in which nothing moves; 0: 120000 */
    bool is_idle;           /* there are no workers: to see that this is noticed */
};

/* Whom the storm hits. */
enum storm_victim { STORM_BROKER = 0, STORM_WORKER, STORM_CLIENT, STORM_REDIS, STORM_VICTIMS };

/* What it came to. */
struct storm_result {
    int64_t kills[STORM_VICTIMS], freezes[STORM_VICTIMS], disk_full, proxy_faults;
    int64_t promised;    /* jobs whose ids a client printed */
    int64_t done;        /* of these */
    int64_t dead;        /* of these: quarantined, as each of three workers died while it ran */
    int64_t computed;    /* clips that were computed to their end and uploaded */
    int64_t seen;        /* results that were looked at while it stormed */
    int64_t drain_ms;    /* from the end of the storm until all were done */
    bool has_small_disk; /* else no disk became full */
    char violation[640]; /* "" or what was lost or doubled */
};

/* Run one. Returns false when a promise was broken, or when it can't be run; violation says why. */
bool storm_run(const struct storm_config *config, struct storm_result *result);

/* Print the counts on stdout. */
void storm_print(const struct storm_result *result);

#endif
