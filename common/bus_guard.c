/* DESIGN: CURVE proves that a peer owns a key; whether that key may come in is asked of a ZAP
 * handler at inproc://zeromq.zap.01 (rfc.zeromq.org/spec/27). CAREFUL: without a handler libzmq
 * admits every key, and with a handler but without a domain it never asks. So the handler is bound
 * before any server socket, the domain is set, and ZAP_ENFORCE_DOMAIN makes libzmq refuse when
 * either is missing. bus_test_guard knocks with an unknown key to see that all of it holds. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/bus_priv.h"

/* In the library since 4.3, in Debian's header not. */
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_DOMAIN "onestep"
#define KNOCK_MS 5000

/* Frames of a request before the credentials: version, request id, domain, address, routing id,
 * mechanism. */
enum {
    ZAP_VERSION = 0,
    ZAP_REQUEST,
    ZAP_DOMAIN_NAME,
    ZAP_ADDRESS,
    ZAP_ROUTING,
    ZAP_MECHANISM,
    ZAP_KEY,
    ZAP_FRAMES
};
#define ZAP_FRAME_ROOM 256

/* --- keys --- */

static status no_curve(void)
{
    return FAIL(ERR_UNAVAILABLE, "libzmq was built without CURVE, so nothing can be encrypted; "
                                 "install Debian's libzmq5");
}

bool bus_is_key(const char *text)
{
    uint8_t bytes[32];

    return strlen(text) == BUS_KEY_ROOM - 1 && zmq_z85_decode(bytes, text) != NULL;
}

status bus_new_keys(struct bus_keys *keys)
{
    return zmq_curve_keypair(keys->public, keys->secret) == 0 ? OK : no_curve();
}

status bus_derive_keys(struct bus_keys *keys)
{
    if (!bus_is_key(keys->secret))
        return FAIL(ERR_BADARG, "that is not a key; `onestep keygen` makes one");
    return zmq_curve_public(keys->public, keys->secret) == 0 ? OK : no_curve();
}

status bus_trust(struct bus *bus, const struct bus_keys *own, const char *server)
{
    if (!bus_is_key(own->secret) || !bus_is_key(own->public) || !bus_is_key(server))
        return FAIL(ERR_BADARG, "that is not a key; `onestep keygen` makes one");
    bus->own = *own;
    memcpy(bus->server, server, BUS_KEY_ROOM);
    bus->is_trusting = true;
    return OK;
}

static status set_text(void *zmq, int option, const char *text)
{
    if (zmq_setsockopt(zmq, option, text, strlen(text)) != 0)
        return FAIL(ERR_BADARG, "libzmq refuses option %d: %s", option, zmq_strerror(errno));
    return OK;
}

/* CAREFUL: libzmq takes a key as text with its NUL. */
static status set_key(void *zmq, int option, const char *key)
{
    if (zmq_setsockopt(zmq, option, key, BUS_KEY_ROOM) != 0)
        return FAIL(ERR_BADARG, "libzmq refuses a key: %s", zmq_strerror(errno));
    return OK;
}

static status set_server_keys(const struct bus *bus, struct bus_socket *socket)
{
    status st = OK;

    TRY(bus_set_int(socket->zmq, ZMQ_CURVE_SERVER, 1));
    TRY(set_key(socket->zmq, ZMQ_CURVE_SECRETKEY, bus->keys.secret));
    TRY(set_text(socket->zmq, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN));
    TRY(bus_set_int(socket->zmq, ZMQ_ZAP_ENFORCE_DOMAIN, 1));
    socket->is_guarded = true;
    memcpy(socket->server, bus->keys.public, BUS_KEY_ROOM);
out:
    return st;
}

static status set_client_keys(void *zmq, const struct bus_keys *own, const char *server)
{
    status st = OK;

    TRY(set_key(zmq, ZMQ_CURVE_SERVERKEY, server));
    TRY(set_key(zmq, ZMQ_CURVE_PUBLICKEY, own->public));
    TRY(set_key(zmq, ZMQ_CURVE_SECRETKEY, own->secret));
out:
    return st;
}

status bus_set_keys(const struct bus *bus, struct bus_socket *socket)
{
    if (socket->is_router)
        return bus->is_guarded ? set_server_keys(bus, socket) : OK;
    return bus->is_trusting ? set_client_keys(socket->zmq, &bus->own, bus->server) : OK;
}

const char *bus_sender(const struct bus_socket *socket)
{
    const char *name;

    if (!socket->is_guarded)
        return "";
    name = zmq_msg_gets(&socket->held, "User-Id");
    return name ? name : "";
}

/* --- the handler --- */

struct question {
    uint8_t frame[ZAP_FRAMES][ZAP_FRAME_ROOM];
    int len[ZAP_FRAMES];
    int count; /* frames that came */
};

/* Errors are those of zmq_recv: the bus is closing. */
static bool take_question(void *zmq, struct question *q)
{
    int has_more = 1;
    size_t size = sizeof(has_more);

    memset(q, 0, sizeof(*q));
    while (has_more) {
        uint8_t rest[ZAP_FRAME_ROOM];
        uint8_t *at = q->count < ZAP_FRAMES ? q->frame[q->count] : rest;
        int len = zmq_recv(zmq, at, ZAP_FRAME_ROOM, 0);

        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return false;
        if (q->count < ZAP_FRAMES)
            q->len[q->count] = len;
        q->count++;
        if (zmq_getsockopt(zmq, ZMQ_RCVMORE, &has_more, &size) != 0)
            return false;
    }
    return true;
}

static bool is_frame(const struct question *q, int index, const char *text)
{
    return q->len[index] == (int)strlen(text) && memcmp(q->frame[index], text, strlen(text)) == 0;
}

static bool is_admitted(const struct bus *bus, const struct question *q, char name[BUS_NAME_ROOM])
{
    char key[BUS_KEY_ROOM];

    return q->count == ZAP_FRAMES && q->len[ZAP_REQUEST] < ZAP_FRAME_ROOM &&
           is_frame(q, ZAP_VERSION, "1.0") && is_frame(q, ZAP_DOMAIN_NAME, ZAP_DOMAIN) &&
           is_frame(q, ZAP_MECHANISM, "CURVE") && q->len[ZAP_KEY] == 32 &&
           zmq_z85_encode(key, q->frame[ZAP_KEY], 32) && bus->admit(bus->admit_self, key, name);
}

static bool answer(void *zmq, const struct question *q, bool is_welcome, const char *name)
{
    const char *code = is_welcome ? "200" : "400", *text = is_welcome ? "OK" : "no such key";
    size_t id_len = (size_t)(q->len[ZAP_REQUEST] < ZAP_FRAME_ROOM ? q->len[ZAP_REQUEST] : 0);

    return zmq_send(zmq, "1.0", 3, ZMQ_SNDMORE) >= 0 &&
           zmq_send(zmq, q->frame[ZAP_REQUEST], id_len, ZMQ_SNDMORE) >= 0 &&
           zmq_send(zmq, code, 3, ZMQ_SNDMORE) >= 0 &&
           zmq_send(zmq, text, strlen(text), ZMQ_SNDMORE) >= 0 &&
           zmq_send(zmq, name, strlen(name), ZMQ_SNDMORE) >= 0 && zmq_send(zmq, "", 0, 0) >= 0;
}

/* Thread: guard. Ends when the bus is closed. */
static void *guard_main(void *self)
{
    struct bus *bus = self;
    struct question q;

    while (take_question(bus->guard_zmq, &q)) {
        char name[BUS_NAME_ROOM] = "";
        bool is_welcome = is_admitted(bus, &q, name);

        if (!answer(bus->guard_zmq, &q, is_welcome, is_welcome ? name : ""))
            break;
    }
    return NULL;
}

/* The guard leaves signals to whoever handles them. */
static bool start_thread(struct bus *bus)
{
    sigset_t all, before;
    bool is_started;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    is_started = pthread_create(&bus->guard, NULL, guard_main, bus) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started;
}

status bus_guard(struct bus *bus, const struct bus_keys *keys, bus_admit_fn admit, void *self)
{
    status st = OK;

    CHECK(!bus->is_guarded);
    if (!zmq_has("curve"))
        TRY(no_curve());
    bus->keys = *keys;
    TRY(bus_derive_keys(&bus->keys));
    bus->admit = admit;
    bus->admit_self = self;
    bus->guard_zmq = zmq_socket(bus->zmq, ZMQ_REP);
    if (!bus->guard_zmq)
        TRY(FAIL(ERR_NOMEM, "libzmq gives no socket: %s", zmq_strerror(errno)));
    TRY(bus_set_int(bus->guard_zmq, ZMQ_LINGER, 0));
    if (zmq_bind(bus->guard_zmq, ZAP_ENDPOINT) != 0)
        TRY(FAIL(ERR_IO, "the guard of the message bus can't listen: %s", zmq_strerror(errno)));
    if (!start_thread(bus))
        TRY(FAIL(ERR_NOMEM, "no resources for another thread"));
    bus->is_guarded = true;
    return OK;
out:
    if (bus->guard_zmq)
        zmq_close(bus->guard_zmq);
    bus->guard_zmq = NULL;
    return st;
}

void bus_end_guard(struct bus *bus)
{
    if (!bus->is_guarded)
        return;
    zmq_ctx_shutdown(bus->zmq); /* ends the guard's wait */
    pthread_join(bus->guard, NULL);
    zmq_close(bus->guard_zmq);
    bus->is_guarded = false;
}

/* --- the test --- */

/* What the library says about a connection next; 0 when it says nothing for wait_ms. */
static int next_event(void *monitor, int64_t wait_ms)
{
    zmq_pollitem_t item = { .socket = monitor, .events = ZMQ_POLLIN };
    uint8_t what[6], where[ZAP_FRAME_ROOM];
    uint16_t event = 0;

    if (zmq_poll(&item, 1, (long)wait_ms) <= 0)
        return 0;
    if (zmq_recv(monitor, what, sizeof(what), 0) == (int)sizeof(what))
        memcpy(&event, what, sizeof(event));
    if (zmq_recv(monitor, where, sizeof(where), 0) < 0)
        return 0;
    return event;
}

static status wait_refused(void *monitor, const char *endpoint)
{
    int64_t deadline_ms = clock_mono_ms() + KNOCK_MS;

    for (int64_t left = KNOCK_MS; left > 0; left = deadline_ms - clock_mono_ms()) {
        switch (next_event(monitor, left)) {
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
            return OK;
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            return FAIL(ERR_CONFLICT,
                        "%s let a stranger in: the guard of this libzmq does not "
                        "work, so nothing is served",
                        endpoint);
        default: /* libzmq's numbers: connected, delayed, closed, ... */
            break;
        }
    }
    return FAIL(ERR_TIMEOUT,
                "%s: a stranger was neither refused nor let in within %d ms; is "
                "another program at this address, or a firewall before it?",
                endpoint, KNOCK_MS);
}

/* Knock at endpoint from a context of its own, as another program would. */
static status knock(void *zmq, const struct bus_socket *door, const char *endpoint)
{
    void *dealer = zmq_socket(zmq, ZMQ_DEALER), *monitor = zmq_socket(zmq, ZMQ_PAIR);
    struct bus_keys stranger;
    status st = OK;

    if (!dealer || !monitor)
        TRY(FAIL(ERR_NOMEM, "libzmq gives no socket: %s", zmq_strerror(errno)));
    TRY(bus_set_int(dealer, ZMQ_LINGER, 0));
    TRY(bus_set_int(monitor, ZMQ_LINGER, 0));
    TRY(bus_set_int(dealer, ZMQ_IPV6, strncmp(endpoint, "tcp://[", 7) == 0));
    TRY(bus_new_keys(&stranger));
    TRY(set_client_keys(dealer, &stranger, door->server));
    if (zmq_socket_monitor(dealer, "inproc://knock", ZMQ_EVENT_ALL) != 0 ||
        zmq_connect(monitor, "inproc://knock") != 0 || zmq_connect(dealer, endpoint) != 0)
        TRY(FAIL(ERR_IO, "%s can't be tested: %s", endpoint, zmq_strerror(errno)));
    TRY(wait_refused(monitor, endpoint));
out:
    if (dealer)
        zmq_close(dealer);
    if (monitor)
        zmq_close(monitor);
    return st;
}

status bus_test_guard(struct bus_socket *socket)
{
    char endpoint[ZAP_FRAME_ROOM];
    size_t len = sizeof(endpoint);
    void *zmq;
    status st;

    CHECK(socket->is_guarded);
    if (zmq_getsockopt(socket->zmq, ZMQ_LAST_ENDPOINT, endpoint, &len) != 0)
        return FAIL(ERR_IO, "libzmq does not say where it listens: %s", zmq_strerror(errno));
    zmq = zmq_ctx_new();
    if (!zmq)
        return FAIL(ERR_NOMEM, "libzmq: %s", zmq_strerror(errno));
    st = knock(zmq, socket, endpoint);
    while (zmq_ctx_term(zmq) != 0 && errno == EINTR)
        ;
    return st;
}
