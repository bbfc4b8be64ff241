/* peer.h - a server of the entries' own, which takes one connection and speaks first.
 *
 *   peer_open(&p, path);                     listens at a unix socket
 *   peer_greet(&p, bytes, len, hang_up);     a thread takes the connection and sends the bytes
 *   ... connect ...
 *   peer_wait(&p);                           they are sent; p.connection may be written to
 *   peer_close(&p); */
#ifndef ONESTEP_TESTS_FUZZ_COMMON_PEER_H
#define ONESTEP_TESTS_FUZZ_COMMON_PEER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* One server. */
struct peer {
    int listener, connection; /* -1: none */
    const void *bytes;        /* what is sent at once; borrowed */
    size_t len;
    bool hangs_up; /* and says no more */
    pthread_t thread;
};

/* Listen at the unix socket path, which is made anew. */
void peer_open(struct peer *p, const char *path);

/* Take one connection and send len bytes, in a thread of its own. */
void peer_greet(struct peer *p, const void *bytes, size_t len, bool hang_up);

/* Wait until that is done. */
void peer_wait(struct peer *p);

/* Close both sockets. */
void peer_close(struct peer *p);

#endif
