/* sim_priv.h - the world of the simulator and what its files do for each other. */
#ifndef ONESTEP_TESTS_SIM_SIM_PRIV_H
#define ONESTEP_TESTS_SIM_SIM_PRIV_H

#include <ucontext.h>

#include "broker/broker.h"
#include "client/session.h"
#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/store.h"
#include "proto/msg.h"
#include "tests/sim/sim.h"
#include "worker/agent_core.h"

#define BROKERS 3
#define WORKERS 6
#define CLIENTS 3
#define JOBS 40
#define CAP 2      /* leases that tenant t1 may hold */
#define TASKS 8    /* leases that a worker works at */
#define OBJECTS 96 /* uploads for one job */

#define LEASE_MS 3000
#define HEARTBEAT_MS 500
#define RETRY_BASE_MS 400
#define RETRY_CAP_MS 3000
#define CLIENT_PORT 7000 /* endpoint of broker i, for the bus of the clients */

/* Where a job is, for the checker. */
struct sim_job {
    char id[JOB_ID_BYTES];
    struct job_spec spec;
    int client; /* who submits it */
    int parent; /* job that must end before, -1: none */
    int64_t submit_at_ms;
    bool is_acked;        /* the client was told that it is stored */
    int64_t cancel_at_ms; /* 0: never */
    bool is_cancel_acked;
    bool is_poison;  /* kills each worker that computes it */
    bool is_hanging; /* never ends by itself */
    bool has_ended;  /* the client was told so */
    enum job_state ended;
    char shown[96]; /* result that the client was shown */
    int computed;   /* finished computations */
    /* the object store */
    bool has_manifest;
    struct lease manifest; /* of the attempt whose manifest is there */
    uint64_t digest;       /* of the video, as the manifest says */
    struct {
        int64_t attempt;
        uint64_t nonce, content;
    } objects[OBJECTS];
    size_t object_count;
};

/* What the checker knows of a job in Redis; rolled back with it. */
struct sim_model {
    bool exists;
    enum job_state state;
    struct lease lease; /* of the last claim */
    int64_t attempt;
    int64_t stored_ms;     /* of Redis' clock */
    int64_t started_ms;    /* running: of Redis' clock */
    int64_t deadline_ms;   /* leased: of Redis' clock */
    int64_t not_before_ms; /* delayed: when it may be ready again, of Redis' clock */
};

/* A connection between a worker or client and a broker. */
struct sim_conn {
    bool is_open;
    bool is_client;
    bool is_stray; /* for one late frame */
    int owner;     /* worker or client */
    int broker;
    uint32_t id;            /* what the broker knows it by; a new one after a break */
    int broker_life;        /* life of the broker that knows the id */
    int64_t up_ms, down_ms; /* when the last frame of each way arrives: order is kept */
};
#define CONNS 512

/* A store and the proxy between it and Redis. */
struct sim_link {
    struct store *store;
    int listen_fd, fd; /* of the proxy; -1: nobody is connected */
    struct buf in;     /* commands that have not come wholly */
    bool is_sound;     /* no faults: it is being opened */
    char path[100];
};

/* A broker and its shell. */
struct sim_broker {
    struct broker *core;
    struct outbox out;
    struct sim_link link;
    int life; /* counts restarts; events of an earlier one are void */
    bool is_up;
    int64_t frozen_until_ms;
    bool is_store_due;  /* an event will talk to the store */
    int64_t tick_at_ms; /* of the newest tick event */
};

/* A lease that a worker works at. */
struct sim_task {
    bool is_used, is_cancelled;
    int stage;
    struct lease lease;
    int job;
    uint64_t number;     /* tells events for an earlier task in this place */
    struct lease result; /* attempt whose result it reports */
};

/* A worker: the core and what it works at. */
struct sim_worker {
    struct agent_core *core;
    char id[JOB_ID_BYTES];
    int conns[BROKERS];
    int life;
    bool is_up;
    int64_t frozen_until_ms;
    int64_t tick_at_ms;
    struct sim_task tasks[TASKS];
    uint64_t next_task;
};

/* A client: a coroutine. */
struct sim_client {
    ucontext_t context;
    void *stack;
    struct session session;
    bool has_session;
    int life;
    bool is_up, is_finished;
    int64_t wake_at_ms;
    uint64_t wake_number; /* of the newest wake event */
};

/* What can happen. */
enum event_kind {
    EVENT_UP = 1, /* frame to a broker */
    EVENT_DOWN,   /* frame to a worker or client */
    EVENT_BROKER_TICK,
    EVENT_BROKER_STORE,
    EVENT_BROKER_START,
    EVENT_WORKER_TICK,
    EVENT_WORKER_TASK,
    EVENT_WORKER_START,
    EVENT_CLIENT_WAKE,
    EVENT_CLIENT_START,
    EVENT_FAULT,
    EVENT_LOOK
};

/* Something that happens at a time. */
struct event {
    int64_t at_ms;
    uint64_t order; /* of events at the same time */
    enum event_kind kind;
    int who;       /* node or connection */
    uint64_t life; /* of the node, or id of the connection, or number of the task or wake */
    int place;     /* of the task; of a frame: its broker and the bits below */
    char *bytes;   /* of a frame; owned */
    size_t len;
};

/* Where a frame goes to and by what. */
#define PLACE_BROKER 7
#define PLACE_CLIENT 8
#define PLACE_STRAY 16

struct redisReply;

/* All of it. */
struct world {
    uint64_t seed, random;
    const char *mutant;
    int64_t now_ms;   /* monotonic clock of everybody */
    int64_t redis_ms; /* what Redis' clock is ahead of it */
    bool is_calm;     /* no more faults */
    double harshness; /* factor for the rates of faults: worlds differ */
    struct event *heap;
    size_t heap_count, heap_room;
    uint64_t next_order;
    uint32_t next_conn;
    struct sim_conn conns[CONNS];
    struct sim_broker brokers[BROKERS];
    struct sim_worker workers[WORKERS];
    struct sim_client clients[CLIENTS];
    struct sim_job jobs[JOBS];
    struct sim_model models[JOBS];
    int64_t redis_away_until_ms;
    int rollbacks;
    bool is_capped;     /* tenant t1 may hold CAP leases and no more */
    int current_client; /* whose coroutine runs; -1: none */
    ucontext_t main_context;
    struct sim_result *result;
};

/* The one. */
extern struct world sim_world;

/* --- sim_world.c --- */

/* 64 bits of the world's sequence. */
uint64_t sim_random(void);

/* A number from low to high, both included. */
int64_t sim_between(int64_t low, int64_t high);

/* Does a fault of this probability happen? Never while it is calm. */
bool sim_chance(double probability);

/* Count one. */
void sim_fault(enum sim_fault fault);

/* Is this rule broken on purpose? */
bool sim_is_mutant(const char *name);

/* A rule is broken; the first one counts. */
void sim_violate(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Was a rule broken? */
bool sim_is_over(void);

/* Let it happen then. */
void sim_at(int64_t at_ms, struct event event);

/* Number of the job with this id; -1: none. */
int sim_find_job(const char *id);

/* --- sim_net.c: connections and frames --- */

/* A new connection; returns its place. */
int sim_connect(bool is_client, int owner, int broker);

/* Its owner closes it. */
void sim_disconnect(int conn);

/* Send a frame to the broker; it may be lost, late, or come twice. */
void sim_send_up(int conn, const void *bytes, size_t len);

/* Send a frame to whom the broker knows by this name; false: it is told that he is gone. */
bool sim_send_down(int broker, const struct bus_peer *to, const void *bytes, size_t len);

/* The connection breaks. */
void sim_cut(int conn);

/* The name by which the sender of an arrived frame is answered; 0: the frame is lost. */
uint32_t sim_name_at_delivery(const struct event *e);

/* --- sim_bus.c: the bus of the clients --- */

/* A frame for a client has arrived. */
void sim_bus_deliver(int conn, const void *bytes, size_t len);

/* --- sim_redis.c --- */

/* Open a store by a proxy of this name. */
void sim_link_open(struct sim_link *link, const char *name);

/* Close both. */
void sim_link_close(struct sim_link *link);

/* Let the store send, be answered, and hand the answers out, until it waits for nothing. */
void sim_link_turn(struct sim_link *link, store_reply_fn on_reply, void *self);

/* Forget everything. */
void sim_redis_clear(void);

/* Show Redis the present time. */
void sim_redis_set_clock(void);

/* Keep the present state: the replica gets so far. */
void sim_redis_snapshot(void);

/* Fail over to that replica; false: there is none. */
bool sim_redis_rollback(void);

/* What Redis' clock shows. */
int64_t sim_redis_now_ms(void);

/* Call a function of the library past all faults; NULL before anybody has called one. Owned. */
struct redisReply *sim_redis_call(const char *function, const char **args, int count);

/* --- nodes --- */

/* A new life begins. */
void sim_broker_start(int b);

/* It ends, with all that is in memory. */
void sim_broker_crash(int b);

/* A frame has arrived. */
void sim_broker_frame(const struct event *e);

/* Its timer is due. */
void sim_broker_tick(int b);

/* Its calls go to Redis. */
void sim_broker_store(int b);

/* A new life begins, with a new name. */
void sim_worker_start(int w);

/* It ends, with all that is in memory. */
void sim_worker_crash(int w);

/* A frame has arrived. */
void sim_worker_frame(int w, int broker, const void *bytes, size_t len);

/* Its timer is due. */
void sim_worker_tick(int w);

/* The next step of its work on a lease is due. */
void sim_worker_task(const struct event *e);

/* A new life begins. */
void sim_client_start(int c);

/* It ends. */
void sim_client_crash(int c);

/* Let it run until it waits again. */
void sim_client_wake(int c);

/* Wait, in a coroutine, until then or until something comes. */
void sim_client_sleep(int64_t until_ms);

/* --- sim_check.c --- */

/* Redis has carried out a call of the library; argv begins with the function. */
void sim_check_call(const char **argv, int argc, const struct redisReply *reply);

/* Look at all jobs, and let the library audit itself. */
void sim_check_rules(bool is_end);

/* A client is told this about a job. */
void sim_check_shown(int job, const struct job_status *status);

/* Where the result of this attempt is. */
void sim_result_url(char *dst, size_t room, const struct lease *lease);

/* --- sim_mutant.c --- */

/* Break the rule in the text of a library that is on its way to Redis; NULL: leave it. Owned. */
char *sim_mutant_script(const char *text);

#endif
