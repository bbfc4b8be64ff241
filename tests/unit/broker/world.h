/* world.h - a broker's core whose messages, store and time are played by a test. */
#ifndef ONESTEP_TESTS_UNIT_BROKER_WORLD_H
#define ONESTEP_TESTS_UNIT_BROKER_WORLD_H

#include "broker/broker.h"
#include "common/base/arena.h"
#include "proto/msg.h"

#define JOB_A "00aaaaaaaaaaaaaaaaaaaaaaaa"
#define JOB_B "00bbbbbbbbbbbbbbbbbbbbbbbb"
#define WORKER_1 "00wwwwwwwwwwwwwwwwwwwwwww1"
#define WORKER_2 "00wwwwwwwwwwwwwwwwwwwwwww2"
#define BROKER "00kkkkkkkkkkkkkkkkkkkkkkkk"

/* A broker, its outbox and the present time. */
struct world {
    struct broker *broker;
    struct outbox out;
    int64_t now_ms;
    enum keys_role role[BROKER_SIDE_COUNT]; /* of whoever speaks at this door */
    const char *tenant;                     /* of whoever speaks; "": none */
    struct arena arena;
};

/* A broker that nobody has spoken to, and its end. */
struct world world_open(void);
void world_close(struct world *w);

/* The connection of peer n. */
struct bus_peer world_peer(int n);

/* Forget what the core wanted so far, and hand it a message of peer n. */
void world_give(struct world *w, enum broker_side side, int n, const struct msg *m);

/* Forget what it wanted, and hand it an answer of the store. */
void world_reply(struct world *w, const struct store_reply *r);

/* The frame number i that the core wants to send, which must be of this type and for peer n. */
struct msg world_sent(struct world *w, size_t i, enum msg_type type, int n);

/* The call number i that the core wants, which must be this one. */
const struct store_call *world_called(const struct world *w, size_t i, enum store_op op);

/* Peer n is the worker with this id, for two models and with 8000 + n MiB. */
void world_hello(struct world *w, int n, const char *id);

/* It was ever ready for so many jobs. */
void world_credit(struct world *w, int n, int64_t total);

#endif
