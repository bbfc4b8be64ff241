/* tls.h - TLS as a client over a socket that never blocks. The only user of libssl.
 *
 * The two functions that move bytes are like send and recv: -1 with errno EAGAIN when the socket
 * has to be waited for, EPROTO when the other side is not who it should be or does not speak TLS;
 * tls_reason says why. The handshake happens on the way. Thread: the owner's. */
#ifndef ONESTEP_COMMON_TLS_H
#define ONESTEP_COMMON_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/base/status.h"

/* Files in PEM; "" or NULL: none. */
struct tls_files {
    const char *ca;   /* who may have signed the server's certificate; none: the system's */
    const char *cert; /* our own certificate, for servers that want one */
    const char *key;  /* its key; goes with cert */
};

struct tls;

/* Prepare TLS 1.2 or newer over fd with the server of this name or address, which its certificate
 * must have. fd stays the caller's.
 * Errors: ERR_IO when a file can't be used; ERR_BADARG; ERR_NOMEM. */
MUST_USE status tls_open(struct tls **tls, int fd, const char *server,
                         const struct tls_files *files);

/* Free it; says nothing to the server. Accepts NULL. */
void tls_close(struct tls *tls);

/* As send and recv, see above; tls_receive returns 0 at the end. */
ssize_t tls_send(struct tls *tls, const void *bytes, size_t len);
ssize_t tls_receive(struct tls *tls, void *bytes, size_t room);

/* Must fd be polled for writing before the next try? */
bool tls_wants_write(const struct tls *tls);

/* Why the last function failed with EPROTO; until the next call. */
const char *tls_reason(const struct tls *tls);

#endif
