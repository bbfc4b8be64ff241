/* bus_priv.h - the structs of common/bus.c, and what its guard does for it. */
#ifndef ONESTEP_COMMON_BUS_PRIV_H
#define ONESTEP_COMMON_BUS_PRIV_H

#include <pthread.h>

#include <zmq.h>

#include "common/bus.h"

/* The library's context, and the keys of its sockets. */
struct bus {
    void *zmq;
    bool is_guarded;      /* keys and admit are of a server, and the guard runs */
    bool is_trusting;     /* own and server are set */
    struct bus_keys keys; /* of the server that this is */
    struct bus_keys own;  /* of the client that this is */
    char server[BUS_KEY_ROOM];
    bus_admit_fn admit;
    void *admit_self;
    void *guard_zmq; /* the guard's socket */
    pthread_t guard;
};

/* A socket with its options. */
struct bus_socket {
    void *zmq;
    bool is_router;
    bool is_guarded;
    char server[BUS_KEY_ROOM]; /* is_guarded: its public key */
    zmq_msg_t held;            /* the frame that bus_receive handed out last */
};

/* Set an option. Errors: ERR_BADARG. */
MUST_USE status bus_set_int(void *zmq, int option, int value);

/* Give a new socket the keys that its bus has for its kind. Errors: ERR_BADARG. */
MUST_USE status bus_set_keys(const struct bus *bus, struct bus_socket *socket);

/* Stop the guard, if there is one. Wakes everything that waits in the library. */
void bus_end_guard(struct bus *bus);

#endif
