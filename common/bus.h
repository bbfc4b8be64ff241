/* bus.h - ZeroMQ ROUTER and DEALER sockets that never block and never pretend.
 *
 * A send that succeeds means that the message is in a queue of this process, nothing more: every
 * message that matters is answered, and sent again until it is. Messages above LIMIT_MSG_BYTES are
 * dropped by the library together with their connection.
 *
 * A guarded bus (bus_guard) encrypts what its ROUTERs hear (CURVE), and lets in only those whose
 * keys it was told of. A bus with keys (bus_trust) encrypts what its DEALERs say, and speaks to no
 * server but the one it was told of. Without either, everybody who reaches an endpoint is let in.
 *
 * Endpoints: tcp://HOST:PORT (HOST an address; * for all when binding) and ipc:///PATH (at most 107
 * bytes of path).
 * Thread: a bus and its sockets belong to the thread that uses them. */
#ifndef ONESTEP_COMMON_BUS_H
#define ONESTEP_COMMON_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

struct bus;
struct bus_socket;

/* A peer of a ROUTER: the routing id that the library gave to one connection. */
struct bus_peer {
    uint8_t bytes[64];
    size_t len;
};

/* One thing to wait for: a socket, or a file descriptor when socket is NULL. */
struct bus_wait {
    struct bus_socket *socket;
    int fd;
    bool want_write; /* fd: also wait until it can be written */
    bool is_ready;   /* result: there is something to receive, or fd is ready */
};

/* Start the library. Errors: ERR_UNAVAILABLE when it is too old to be safe; ERR_NOMEM. */
MUST_USE status bus_open(struct bus **bus);

/* Stop it; all its sockets must be closed. What was not sent is dropped. Accepts NULL. */
void bus_close(struct bus *bus);

/* --- keys --- */

#define BUS_KEY_ROOM 41  /* a key as text: 40 characters of Z85, and a NUL */
#define BUS_NAME_ROOM 64 /* a sender's name, NUL-ended */

/* A key pair. Whoever has the secret is its owner. */
struct bus_keys {
    char secret[BUS_KEY_ROOM];
    char public[BUS_KEY_ROOM];
};

/* A new pair. Errors: ERR_UNAVAILABLE when the library was built without encryption. */
MUST_USE status bus_new_keys(struct bus_keys *keys);

/* Fill the public half from the secret one.
 * Errors: ERR_BADARG when it is no key; ERR_UNAVAILABLE as above. */
MUST_USE status bus_derive_keys(struct bus_keys *keys);

/* Does text have the form of a key? */
bool bus_is_key(const char *text);

/* Who may come in: true with a name for the owner of this public key. Called on a thread of the
 * bus, for each connection once. */
typedef bool (*bus_admit_fn)(void *self, const char key[BUS_KEY_ROOM], char name[BUS_NAME_ROOM]);

/* Guard every ROUTER that is bound from now on: keys are the server's. Call once, before the first.
 * Errors: ERR_BADARG, ERR_UNAVAILABLE, ERR_NOMEM, ERR_IO. */
MUST_USE status bus_guard(struct bus *bus, const struct bus_keys *keys, bus_admit_fn admit,
                          void *self);

/* Prove that this guarded ROUTER refuses a stranger: knock with a key made just now.
 * Errors: ERR_CONFLICT when it was let in, ERR_TIMEOUT when the door says nothing; then stop. */
MUST_USE status bus_test_guard(struct bus_socket *socket);

/* DEALERs that are connected from now on use these keys, and speak only to the server with the
 * public key server. Errors: ERR_BADARG. */
MUST_USE status bus_trust(struct bus *bus, const struct bus_keys *own, const char *server);

/* Who sent the frame that bus_receive handed out last: the name that admit gave, "" on a socket
 * without guard. Valid until the next bus_receive. */
const char *bus_sender(const struct bus_socket *socket);

/* --- sockets --- */

/* Is the endpoint well-formed? Errors: ERR_BADARG with a sentence that shows the right form. */
MUST_USE status bus_check_endpoint(const char *endpoint);

/* Would this endpoint be reached from other machines (not ipc, not a loopback address)? */
bool bus_is_remote(const char *endpoint);

/* A ROUTER that listens at endpoint.
 * Errors: ERR_BADARG; ERR_CONFLICT when the address is in use; ERR_IO when it can't be had. */
MUST_USE status bus_bind(struct bus *bus, const char *endpoint, struct bus_socket **socket);

/* Let a ROUTER listen at one more endpoint. Errors: as bus_bind. */
MUST_USE status bus_bind_also(struct bus_socket *socket, const char *endpoint);

/* A DEALER that connects to endpoint, now or as soon as somebody listens there, and again after a
 * loss. Errors: ERR_BADARG, ERR_NOMEM. */
MUST_USE status bus_connect(struct bus *bus, const char *endpoint, struct bus_socket **socket);

/* Close it at once. Accepts NULL. */
void bus_close_socket(struct bus_socket *socket);

/* Queue one frame. to: the peer for a ROUTER, NULL for a DEALER.
 * Errors: ERR_NOTFOUND when the peer is gone; ERR_FULL when its queue is full or (DEALER) there is
 * no connection yet and the queue is full. Nothing was sent then. */
MUST_USE status bus_send(struct bus_socket *socket, const struct bus_peer *to, const void *bytes,
                         size_t len);

/* Take the next frame if there is one, else return false. from (ROUTER; may be NULL) is its sender.
 * *bytes is valid until the next call on this socket. Frames of a wrong shape are dropped. */
bool bus_receive(struct bus_socket *socket, struct bus_peer *from, const void **bytes, size_t *len);

/* Wait until one of count things is ready or timeout_ms is over (-1: no limit); sets is_ready in
 * each. Returns early on a signal. This function can't fail. */
void bus_poll(struct bus_wait *waits, size_t count, int64_t timeout_ms);

#define BUS_WAITS_MAX 16

/* "libzmq 4.3.4", the library that is loaded, into dst (room bytes, always NUL-ended). Returns
 * dst. */
const char *bus_library(char *dst, size_t room);

#endif
