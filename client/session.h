/* session.h - requests to a broker and their answers, over whichever broker of a list answers.
 *
 * A request is sent again, with the same ids, to the next broker of the list (or the same, if there
 * is one) until an answer comes or the time is over; every request may safely arrive twice.
 * Thread: the owner's. */
#ifndef ONESTEP_CLIENT_SESSION_H
#define ONESTEP_CLIENT_SESSION_H

#include <stdint.h>

#include "client/options.h"
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/bus.h"
#include "common/config.h"
#include "proto/msg.h"

/* A zeroed struct is closed. */
struct session {
    struct bus *bus;
    struct bus_socket *sockets[CFG_LIST_ITEMS]; /* [endpoints.count]; opened when first needed */
    struct config_list endpoints;               /* brokers, in the order in which they are tried */
    int current;                                /* index of the broker that is asked first */
    int64_t timeout_ms;                         /* longest wait for an answer */
    int interrupt_fd;   /* readable: session_call returns ERR_CANCELLED; -1: none */
    uint64_t seq;       /* of the last request */
    struct buf frame;   /* the request */
    struct arena arena; /* holds the last answer */
    char sentence[512]; /* of the last broker that could not serve */
};

/* Prepare; nothing is connected yet. endpoints are copied.
 * Errors: ERR_BADARG for an endpoint or an empty list; ERR_NOMEM, ERR_UNAVAILABLE. */
MUST_USE status session_open(struct session *s, const struct config_list *endpoints,
                             int64_t timeout_ms);

/* session_open with the brokers, the patience and the keys that the options say.
 * Errors: as session_open, and those of keys_trust. */
MUST_USE status session_connect(struct session *s, const struct options *options);

/* Close. Accepts a zeroed struct. */
void session_close(struct session *s);

/* Send request (its seq is set here) and wait for its answer, which lies in the session until the
 * next call. The answer has the type that belongs to the request.
 * Errors: ERR_UNAVAILABLE when no broker answers, or none reaches its store; ERR_CANCELLED for
 * interrupt_fd; ERR_CORRUPT for a wrong answer; the code and sentence of an ERROR. */
MUST_USE status session_call(struct session *s, struct msg *request, struct msg *answer);

/* Wait timeout_ms, but not beyond interrupt_fd. Errors: ERR_CANCELLED for interrupt_fd. */
MUST_USE status session_pause(struct session *s, int64_t timeout_ms);

#endif
