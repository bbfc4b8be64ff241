/* sim.h - a whole cluster in one thread and in virtual time, from one seed.
 *
 *   clients   client/session.c, each in a coroutine, over the bus of sim_bus.c
 *   brokers   broker/broker.c in a shell that does what broker/main.c does
 *   workers   worker/agent_core.c over a pretended pipeline and object store
 *   store     common/store.c and the shipped scripts in a real redis-server, whose clock is the
 *             virtual one (preload/clock.c); every command passes the proxy of sim_redis.c
 *
 * Everything that happens follows from the seed: the same seed is the same world. Faults are put in
 * everywhere outside the cores; sim_check.c compares what Redis does, and what clients are told,
 * with the rules. After the faults stop, everything must come to its end.
 * Thread: one; there is one world at a time. */
#ifndef ONESTEP_TESTS_SIM_SIM_H
#define ONESTEP_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is done to the cluster, counted in struct sim_result. */
enum sim_fault {
    SIM_FRAME_LOST = 0, /* a frame is dropped */
    SIM_FRAME_TWICE,    /* a copy comes later, by another connection, to any broker */
    SIM_FRAME_LATE,     /* a frame, and all behind it, are held up */
    SIM_LINK_CUT,       /* a connection breaks: what is on its way is lost */
    SIM_CALL_LOST,      /* the connection to Redis breaks before calls were done */
    SIM_REPLY_LOST,     /* it breaks after they were done */
    SIM_REDIS_AWAY,     /* nobody reaches Redis for a while */
    SIM_ROLLBACK,       /* failover to a replica that was behind */
    SIM_CLOCK_STEP,     /* the clock of Redis jumps, forward or back */
    SIM_BROKER_CRASH,
    SIM_BROKER_FREEZE,
    SIM_WORKER_CRASH,
    SIM_WORKER_FREEZE, /* longer than a lease: it wakes up as a zombie */
    SIM_CLIENT_CRASH,
    SIM_BLOB_LOST, /* a PUT does not happen, or its answer is lost */
    SIM_FAULT_COUNT
};

/* What one world, or many, came to. */
struct sim_result {
    int64_t worlds, jobs;            /* played, submitted */
    int64_t calls, events;           /* scripts run by Redis, events of the simulator */
    int64_t faults[SIM_FAULT_COUNT]; /* put in */
    int64_t done, dead, cancelled;   /* how jobs ended */
    int64_t reruns;                  /* computed again although a result was there or on its way */
    int64_t redispatched;            /* attempts beyond the first */
    char violation[640];             /* "" or the first rule that was broken, with the seed */
};

/* Start redis-server below dir. bin: the folder with sim_clock.so. Returns false, with a sentence
 * on stderr, when that can't be done. Call once in a process. */
bool sim_open(const char *dir, const char *bin);

/* Play the world of this seed, and add what it came to. mutant: a name of sim_mutant_name, or NULL
 * for the design as it is. Returns false when a rule was broken. */
bool sim_run(uint64_t seed, const char *mutant, struct sim_result *result);

/* Name of mutant number index, NULL beyond the last; *broken says which rule it breaks. */
const char *sim_mutant_name(size_t index, const char **broken);

/* All faults of a result. */
int64_t sim_faults(const struct sim_result *result);

/* Word of a fault. */
const char *sim_fault_name(enum sim_fault fault);

/* Add b to a. */
void sim_add(struct sim_result *a, const struct sim_result *b);

/* Print the counts of a result on stdout. */
void sim_print(const struct sim_result *result, double seconds);

#endif
