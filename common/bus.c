/* DESIGN: what libzmq promises is little, and it was measured: a send to a peer that is gone, or
 * slow, reports success unless the ROUTER is MANDATORY; what sits in a queue at a crash is lost. So
 * sends never wait, queues are short, nothing lingers, and every layer above repeats what matters.
 * ZMTP heartbeats only close half-open connections: libzmq's own thread answers them even when the
 * program hangs, so liveness is the business of our own messages. Routing ids are left to the
 * library: two peers with one id would silence each other without an error. */
#include "common/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <zmq.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/bus_priv.h"

/* Messages in one peer's queue, each way. Credit keeps a worker's below 10; a client asks a few
 * things at a time. What does not fit waits at the sender, or is an error there. */
#define QUEUE_MESSAGES 64

#define HEARTBEAT_MS 2000
#define HEARTBEAT_TIMEOUT_MS 6000
#define HANDSHAKE_MS 5000
#define RECONNECT_FIRST_MS 100
#define RECONNECT_MAX_MS 2000

#define IPC_PATH_MAX 107 /* sun_path without its NUL */

status bus_open(struct bus **bus)
{
    int major, minor, patch;
    struct bus *b;

    *bus = NULL;
    zmq_version(&major, &minor, &patch);
    if (major < 4 || (major == 4 && (minor < 3 || (minor == 3 && patch < 2))))
        return FAIL(ERR_UNAVAILABLE,
                    "libzmq %d.%d.%d loses messages in its heartbeats; install 4.3.2 or newer",
                    major, minor, patch);
    b = calloc(1, sizeof(*b));
    if (!b)
        return FAIL(ERR_NOMEM, "no memory for the message bus");
    b->zmq = zmq_ctx_new();
    if (!b->zmq) {
        free(b);
        return FAIL(ERR_NOMEM, "libzmq: %s", zmq_strerror(errno));
    }
    *bus = b;
    return OK;
}

void bus_close(struct bus *bus)
{
    if (!bus)
        return;
    bus_end_guard(bus);
    while (zmq_ctx_term(bus->zmq) != 0 && errno == EINTR)
        ;
    free(bus);
}

/* --- endpoints --- */

static const char *ipc_path(const char *endpoint)
{
    return strncmp(endpoint, "ipc://", 6) == 0 ? endpoint + 6 : NULL;
}

static const char *tcp_host(const char *endpoint, size_t *len)
{
    const char *colon = strrchr(endpoint, ':');

    if (strncmp(endpoint, "tcp://", 6) != 0 || !colon || colon < endpoint + 6)
        return NULL;
    *len = (size_t)(colon - (endpoint + 6));
    return endpoint + 6;
}

static status check_tcp(const char *endpoint)
{
    size_t host_len = 0;
    const char *host = tcp_host(endpoint, &host_len);
    const char *port = host ? host + host_len + 1 : "";
    char *end = NULL;
    long number = *port >= '0' && *port <= '9' ? strtol(port, &end, 10) : 0;
    bool is_v6 = host && host[0] == '[';

    if (!host || host_len == 0 || number < 1 || number > 65535 || *end ||
        (is_v6 && host[host_len - 1] != ']') || (!is_v6 && memchr(host, ':', host_len)))
        return FAIL(ERR_BADARG,
                    "\"%s\" is not an endpoint; write tcp://HOST:PORT, for example "
                    "tcp://127.0.0.1:7450, or ipc:///PATH",
                    endpoint);
    return OK;
}

status bus_check_endpoint(const char *endpoint)
{
    const char *path = ipc_path(endpoint);

    if (!path)
        return check_tcp(endpoint);
    if (*path != '/')
        return FAIL(ERR_BADARG, "\"%s\" is not an endpoint; write ipc:// and an absolute path",
                    endpoint);
    if (strlen(path) > IPC_PATH_MAX)
        return FAIL(ERR_BADARG,
                    "%s: the path has %zu bytes, a socket's may have %d; use a "
                    "shorter folder",
                    endpoint, strlen(path), IPC_PATH_MAX);
    return OK;
}

bool bus_is_remote(const char *endpoint)
{
    size_t len = 0;
    const char *host = tcp_host(endpoint, &len);

    if (!host)
        return false;
    return !(len >= 4 && memcmp(host, "127.", 4) == 0) &&
           !(len == 5 && memcmp(host, "[::1]", 5) == 0) &&
           !(len == 9 && memcmp(host, "localhost", 9) == 0);
}

/* --- sockets --- */

status bus_set_int(void *zmq, int option, int value)
{
    if (zmq_setsockopt(zmq, option, &value, sizeof(value)) != 0)
        return FAIL(ERR_BADARG, "libzmq refuses option %d: %s", option, zmq_strerror(errno));
    return OK;
}

static status set_options(void *zmq, bool is_router)
{
    const struct {
        int option, value;
    } options[] = {
        { ZMQ_LINGER, 0 },
        { ZMQ_SNDHWM, QUEUE_MESSAGES },
        { ZMQ_RCVHWM, QUEUE_MESSAGES },
        { ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS },
        { ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS },
        { ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS },
        { ZMQ_RECONNECT_IVL, RECONNECT_FIRST_MS },
        { ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS },
    };
    int64_t max_bytes = LIMIT_MSG_BYTES;

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        status st = bus_set_int(zmq, options[i].option, options[i].value);

        if (st != OK)
            return st;
    }
    if (zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &max_bytes, sizeof(max_bytes)) != 0)
        return FAIL(ERR_BADARG, "libzmq refuses MAXMSGSIZE: %s", zmq_strerror(errno));
    return is_router ? bus_set_int(zmq, ZMQ_ROUTER_MANDATORY, 1) : OK;
}

static status open_socket(struct bus *bus, bool is_router, struct bus_socket **socket)
{
    struct bus_socket *s = calloc(1, sizeof(*s));
    status st = OK;

    if (!s)
        return FAIL(ERR_NOMEM, "no memory for a socket");
    zmq_msg_init(&s->held);
    s->is_router = is_router;
    s->zmq = zmq_socket(bus->zmq, is_router ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!s->zmq)
        TRY(FAIL(ERR_NOMEM, "libzmq gives no socket: %s", zmq_strerror(errno)));
    TRY(set_options(s->zmq, is_router));
    TRY(bus_set_keys(bus, s));
    *socket = s;
    return OK;
out:
    bus_close_socket(s);
    return st;
}

void bus_close_socket(struct bus_socket *socket)
{
    if (!socket)
        return;
    zmq_msg_close(&socket->held);
    if (socket->zmq)
        zmq_close(socket->zmq);
    free(socket);
}

/* Does somebody answer at this path? libzmq would delete the file and take the address over. */
static bool is_listened_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answers;

    if (fd < 0)
        return false;
    memcpy(address.sun_path, path, strlen(path) + 1);
    answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return answers;
}

/* Only for an address that is written so: with it, libzmq makes IPv6 sockets for IPv4 names too,
 * which a kernel without IPv6 refuses. */
static status set_family(struct bus_socket *socket, const char *endpoint)
{
    return bus_set_int(socket->zmq, ZMQ_IPV6, strncmp(endpoint, "tcp://[", 7) == 0);
}

status bus_bind_also(struct bus_socket *socket, const char *endpoint)
{
    const char *path = ipc_path(endpoint);
    mode_t old_mask;
    int failed, code;
    status st = bus_check_endpoint(endpoint);

    CHECK(socket->is_router);
    if (st != OK)
        return st;
    if (path && is_listened_at(path))
        return FAIL(ERR_CONFLICT,
                    "%s is in use: another program listens there; stop it or choose "
                    "another endpoint",
                    endpoint);
    st = set_family(socket, endpoint);
    if (st != OK)
        return st;
    old_mask = umask(077); /* an ipc socket is for this user alone */
    failed = zmq_bind(socket->zmq, endpoint);
    code = errno;
    umask(old_mask);
    if (!failed)
        return OK;
    if (code == EADDRINUSE)
        return FAIL(ERR_CONFLICT,
                    "%s is in use: another program listens there; stop it or choose "
                    "another endpoint",
                    endpoint);
    return FAIL(ERR_IO, "can't listen at %s: %s; give an address of this machine", endpoint,
                zmq_strerror(code));
}

status bus_bind(struct bus *bus, const char *endpoint, struct bus_socket **socket)
{
    struct bus_socket *s = NULL;
    status st = OK;

    *socket = NULL;
    TRY(open_socket(bus, true, &s));
    TRY(bus_bind_also(s, endpoint));
    *socket = s;
    return OK;
out:
    bus_close_socket(s);
    return st;
}

status bus_connect(struct bus *bus, const char *endpoint, struct bus_socket **socket)
{
    struct bus_socket *s = NULL;
    status st = OK;

    *socket = NULL;
    TRY(bus_check_endpoint(endpoint));
    TRY(open_socket(bus, false, &s));
    TRY(set_family(s, endpoint));
    if (zmq_connect(s->zmq, endpoint) != 0)
        TRY(FAIL(ERR_BADARG, "can't connect to %s: %s", endpoint, zmq_strerror(errno)));
    *socket = s;
    return OK;
out:
    bus_close_socket(s);
    return st;
}

/* --- frames --- */

static status send_failed(int code)
{
    if (code == EHOSTUNREACH)
        return FAIL(ERR_NOTFOUND, "the peer is gone");
    if (code == EAGAIN)
        return FAIL(ERR_FULL, "the peer's queue is full");
    return FAIL(ERR_IO, "libzmq can't send: %s", zmq_strerror(code));
}

status bus_send(struct bus_socket *socket, const struct bus_peer *to, const void *bytes, size_t len)
{
    CHECK(socket->is_router == (to != NULL));
    CHECK(len <= LIMIT_MSG_BYTES);
    if (to && zmq_send(socket->zmq, to->bytes, to->len, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
        return send_failed(errno);
    if (zmq_send(socket->zmq, bytes, len, ZMQ_DONTWAIT) < 0)
        return send_failed(errno);
    return OK;
}

/* Take the next part into held. */
static bool take_part(struct bus_socket *socket, bool *has_more)
{
    zmq_msg_close(&socket->held);
    zmq_msg_init(&socket->held);
    if (zmq_msg_recv(&socket->held, socket->zmq, ZMQ_DONTWAIT) < 0)
        return false;
    *has_more = zmq_msg_more(&socket->held) != 0;
    return true;
}

/* Take one message. is_ours: it has the shape [routing id] frame. */
static bool take_message(struct bus_socket *socket, struct bus_peer *from, bool *is_ours)
{
    bool has_more = false;

    *is_ours = true;
    if (!take_part(socket, &has_more))
        return false;
    if (socket->is_router) {
        from->len = zmq_msg_size(&socket->held);
        *is_ours = from->len <= sizeof(from->bytes) && has_more;
        if (*is_ours)
            memcpy(from->bytes, zmq_msg_data(&socket->held), from->len);
        if (has_more && !take_part(socket, &has_more))
            return false;
    }
    while (has_more) {
        *is_ours = false;
        if (!take_part(socket, &has_more))
            return false;
    }
    return true;
}

bool bus_receive(struct bus_socket *socket, struct bus_peer *from, const void **bytes, size_t *len)
{
    struct bus_peer nobody;
    bool is_ours = false;

    while (!is_ours) {
        if (!take_message(socket, from ? from : &nobody, &is_ours))
            return false;
    }
    *bytes = zmq_msg_data(&socket->held);
    *len = zmq_msg_size(&socket->held);
    return true;
}

void bus_poll(struct bus_wait *waits, size_t count, int64_t timeout_ms)
{
    zmq_pollitem_t items[BUS_WAITS_MAX];

    CHECK(count <= BUS_WAITS_MAX);
    for (size_t i = 0; i < count; i++) {
        bool is_fd = waits[i].socket == NULL;

        items[i] = (zmq_pollitem_t){
            .socket = is_fd ? NULL : waits[i].socket->zmq,
            .fd = waits[i].fd,
            .events = (short)(ZMQ_POLLIN | (is_fd && waits[i].want_write ? ZMQ_POLLOUT : 0)),
        };
        waits[i].is_ready = false;
    }
    if (zmq_poll(items, (int)count, timeout_ms < 0 ? -1 : (long)timeout_ms) <= 0)
        return;
    for (size_t i = 0; i < count; i++)
        waits[i].is_ready = items[i].revents != 0;
}

const char *bus_library(char *dst, size_t room)
{
    int major, minor, patch;

    zmq_version(&major, &minor, &patch);
    snprintf(dst, room, "libzmq %d.%d.%d", major, minor, patch);
    return dst;
}
