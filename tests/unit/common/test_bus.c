/* Sockets: what arrives, what is refused, and what is said about it. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <zmq.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/bus.h"
#include "tests/tool/test.h"

#define DEADLINE_MS 5000

static const char *ipc_endpoint(void)
{
    static char endpoint[160];

    snprintf(endpoint, sizeof(endpoint), "ipc://%s/bus", test_tmpdir());
    return endpoint;
}

/* A loopback endpoint with a port that was free a moment ago. */
static const char *tcp_endpoint(void)
{
    static char endpoint[64];
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    EXPECT(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    EXPECT(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    close(fd);
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    return endpoint;
}

/* Wait for a frame on s and return it as text. */
static const char *receive_text(struct bus_socket *s, struct bus_peer *from)
{
    static char text[128];
    struct bus_wait wait = { .socket = s };
    int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;
    const void *bytes;
    size_t len;

    while (!bus_receive(s, from, &bytes, &len)) {
        EXPECT(clock_mono_ms() < deadline_ms);
        bus_poll(&wait, 1, 100);
    }
    EXPECT(len < sizeof(text));
    memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}

static void talk_both_ways(const char *endpoint)
{
    struct bus *bus;
    struct bus_socket *server, *client;
    struct bus_peer peer;

    EXPECT_OK(bus_open(&bus));
    EXPECT_OK(bus_bind(bus, endpoint, &server));
    EXPECT_OK(bus_connect(bus, endpoint, &client));
    EXPECT_OK(bus_send(client, NULL, "hello", 5));
    EXPECT_TEXT(receive_text(server, &peer), "hello");
    EXPECT_OK(bus_send(server, &peer, "welcome", 7));
    EXPECT_TEXT(receive_text(client, NULL), "welcome");
    EXPECT_OK(bus_send(client, NULL, "", 0));
    EXPECT_TEXT(receive_text(server, &peer), "");
    bus_close_socket(client);
    bus_close_socket(server);
    bus_close(bus);
}

TEST(frames_go_both_ways)
{
    talk_both_ways(ipc_endpoint());
    talk_both_ways(tcp_endpoint());
}

TEST(endpoints_are_checked)
{
    static const char *const good[] = { "tcp://127.0.0.1:7450", "tcp://*:1", "tcp://[::1]:65535",
                                        "tcp://host.example:80", "ipc:///tmp/a" };
    static const char *const bad[] = {
        "",          "tcp://",        "tcp://a",    "tcp://a:",       "tcp://:1",
        "tcp://a:0", "tcp://a:65536", "tcp://a:1x", "tcp://a:-1",     "tcp://::1:80",
        "udp://a:1", "ipc://a",       "ipc://",     "127.0.0.1:7450", "inproc://a"
    };
    char longest[200] = "ipc:///";

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        EXPECT_OK(bus_check_endpoint(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        EXPECT_STATUS(bus_check_endpoint(bad[i]), ERR_BADARG);
        EXPECT_MESSAGE("is not an endpoint; write");
    }
    memset(longest + 7, 'x', 106);
    EXPECT_OK(bus_check_endpoint(longest));
    longest[7 + 106] = 'x';
    EXPECT_STATUS(bus_check_endpoint(longest), ERR_BADARG);
    EXPECT_MESSAGE("use a shorter folder");
}

TEST(remote_endpoints_are_known)
{
    EXPECT(!bus_is_remote("ipc:///tmp/a"));
    EXPECT(!bus_is_remote("tcp://127.0.0.1:1"));
    EXPECT(!bus_is_remote("tcp://127.9.9.9:1"));
    EXPECT(!bus_is_remote("tcp://[::1]:1"));
    EXPECT(!bus_is_remote("tcp://localhost:1"));
    EXPECT(bus_is_remote("tcp://*:1"));
    EXPECT(bus_is_remote("tcp://0.0.0.0:1"));
    EXPECT(bus_is_remote("tcp://[::]:1"));
    EXPECT(bus_is_remote("tcp://10.0.0.1:1"));
}

TEST(an_address_in_use_is_refused)
{
    const char *tcp = tcp_endpoint();
    struct bus *bus;
    struct bus_socket *first, *second;

    EXPECT_OK(bus_open(&bus));
    EXPECT_OK(bus_bind(bus, tcp, &first));
    EXPECT_STATUS(bus_bind(bus, tcp, &second), ERR_CONFLICT);
    EXPECT_MESSAGE(tcp);
    EXPECT_MESSAGE("is in use");
    EXPECT_OK(bus_bind_also(first, ipc_endpoint()));
    EXPECT_STATUS(bus_bind(bus, ipc_endpoint(), &second), ERR_CONFLICT);
    EXPECT_MESSAGE("is in use");
    bus_close_socket(first);
    bus_close(bus);
}

TEST(an_address_that_is_not_ours_is_refused)
{
    struct bus *bus;
    struct bus_socket *s;

    EXPECT_OK(bus_open(&bus));
    EXPECT_STATUS(bus_bind(bus, "tcp://192.0.2.1:17452", &s), ERR_IO);
    EXPECT_MESSAGE("192.0.2.1");
    EXPECT_STATUS(bus_bind(bus, "ipc:///no/such/folder/s", &s), ERR_IO);
    EXPECT_MESSAGE("/no/such/folder/s");
    bus_close(bus);
}

TEST(a_socket_left_behind_by_a_crash_is_taken_over_and_private)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat info;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    EXPECT(strlen(ipc_endpoint() + 6) < sizeof(address.sun_path));
    memcpy(address.sun_path, ipc_endpoint() + 6, strlen(ipc_endpoint() + 6));
    EXPECT(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    close(fd); /* the file stays, nobody listens */
    talk_both_ways(ipc_endpoint());
    {
        struct bus *bus;
        struct bus_socket *s;

        EXPECT_OK(bus_open(&bus));
        EXPECT_OK(bus_bind(bus, ipc_endpoint(), &s));
        EXPECT(stat(ipc_endpoint() + 6, &info) == 0);
        EXPECT_INT(info.st_mode & 077, 0);
        bus_close_socket(s);
        bus_close(bus);
    }
}

TEST(a_send_to_a_peer_that_is_gone_fails)
{
    struct bus *bus;
    struct bus_socket *server, *client;
    struct bus_peer peer;
    int64_t deadline_ms;

    EXPECT_OK(bus_open(&bus));
    EXPECT_OK(bus_bind(bus, ipc_endpoint(), &server));
    EXPECT_OK(bus_connect(bus, ipc_endpoint(), &client));
    EXPECT_OK(bus_send(client, NULL, "x", 1));
    receive_text(server, &peer);
    bus_close_socket(client);
    deadline_ms = clock_mono_ms() + DEADLINE_MS;
    while (bus_send(server, &peer, "y", 1) == OK) {
        struct bus_wait wait = { .socket = server };

        EXPECT(clock_mono_ms() < deadline_ms);
        bus_poll(&wait, 1, 10);
    }
    EXPECT_STATUS(bus_send(server, &peer, "y", 1), ERR_NOTFOUND);
    bus_close_socket(server);
    bus_close(bus);
}

TEST(a_full_queue_is_an_error_and_not_a_wait)
{
    struct bus *bus;
    struct bus_socket *client;
    status st = OK;

    EXPECT_OK(bus_open(&bus));
    EXPECT_OK(bus_connect(bus, ipc_endpoint(), &client));
    for (int i = 0; i < 1000 && st == OK; i++)
        st = bus_send(client, NULL, "x", 1);
    EXPECT_INT(st, ERR_FULL);
    bus_close_socket(client);
    bus_close(bus);
}

/* Frames that this module never makes: several parts, long routing ids, too many bytes. */
TEST(foreign_frames_are_dropped)
{
    static char big[LIMIT_MSG_BYTES + 1], name[100] = { 1 };
    struct bus *bus;
    struct bus_socket *server;
    struct bus_peer peer;
    void *zmq = zmq_ctx_new();
    void *named = zmq_socket(zmq, ZMQ_DEALER), *large = zmq_socket(zmq, ZMQ_DEALER);
    int linger_ms = 0;

    EXPECT_OK(bus_open(&bus));
    EXPECT_OK(bus_bind(bus, ipc_endpoint(), &server));
    zmq_setsockopt(named, ZMQ_ROUTING_ID, name, sizeof(name));
    zmq_setsockopt(named, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
    zmq_setsockopt(large, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
    EXPECT(zmq_connect(named, ipc_endpoint()) == 0);
    EXPECT(zmq_connect(large, ipc_endpoint()) == 0);
    zmq_send(named, "named", 5, 0);
    zmq_send(large, big, sizeof(big), 0);
    zmq_send(large, "a", 1, ZMQ_SNDMORE);
    zmq_send(large, "b", 1, 0);
    zmq_send(large, "fine", 4, 0);
    EXPECT_TEXT(receive_text(server, &peer), "fine");
    zmq_close(named);
    zmq_close(large);
    zmq_ctx_term(zmq);
    bus_close_socket(server);
    bus_close(bus);
}

TEST(a_descriptor_can_be_waited_for)
{
    struct bus_wait wait;
    int fds[2];

    EXPECT(pipe(fds) == 0);
    wait = (struct bus_wait){ .fd = fds[0] };
    bus_poll(&wait, 1, 0);
    EXPECT(!wait.is_ready);
    EXPECT(write(fds[1], "x", 1) == 1);
    bus_poll(&wait, 1, DEADLINE_MS);
    EXPECT(wait.is_ready);
    wait = (struct bus_wait){ .fd = fds[1], .want_write = true };
    bus_poll(&wait, 1, DEADLINE_MS);
    EXPECT(wait.is_ready);
    close(fds[0]);
    close(fds[1]);
}

/* --- keys and the guard --- */

/* Admits one key under one name. */
struct porter {
    char key[BUS_KEY_ROOM];
    atomic_int asked;
    bool admits_all; /* a guard that does not work */
};

static bool ask_porter(void *self, const char key[BUS_KEY_ROOM], char name[BUS_NAME_ROOM])
{
    struct porter *p = self;

    atomic_fetch_add(&p->asked, 1);
    snprintf(name, BUS_NAME_ROOM, "worker-7");
    return p->admits_all || strcmp(key, p->key) == 0;
}

/* A guarded ROUTER, and another bus that may knock there. */
struct gate {
    struct bus *bus, *other;
    struct bus_socket *door;
    struct bus_keys server, friend;
    struct porter porter;
    char endpoint[64];
};

static void open_gate(struct gate *g)
{
    memset(g, 0, sizeof(*g));
    snprintf(g->endpoint, sizeof(g->endpoint), "%s", tcp_endpoint());
    EXPECT_OK(bus_new_keys(&g->server));
    EXPECT_OK(bus_new_keys(&g->friend));
    memcpy(g->porter.key, g->friend.public, BUS_KEY_ROOM);
    EXPECT_OK(bus_open(&g->bus));
    EXPECT_OK(bus_guard(g->bus, &g->server, ask_porter, &g->porter));
    EXPECT_OK(bus_bind(g->bus, g->endpoint, &g->door));
    EXPECT_OK(bus_open(&g->other));
}

static void close_gate(struct gate *g)
{
    bus_close(g->other);
    bus_close_socket(g->door);
    bus_close(g->bus);
}

TEST(a_friend_is_let_in_and_named)
{
    struct gate g;
    struct bus_socket *client;
    struct bus_peer peer;

    open_gate(&g);
    EXPECT_OK(bus_trust(g.other, &g.friend, g.server.public));
    EXPECT_OK(bus_connect(g.other, g.endpoint, &client));
    EXPECT_OK(bus_send(client, NULL, "hello", 5));
    EXPECT_TEXT(receive_text(g.door, &peer), "hello");
    EXPECT_TEXT(bus_sender(g.door), "worker-7");
    EXPECT_OK(bus_send(g.door, &peer, "welcome", 7));
    EXPECT_TEXT(receive_text(client, NULL), "welcome");
    EXPECT_TEXT(bus_sender(client), "");
    bus_close_socket(client);
    close_gate(&g);
}

/* Is what this client says heard, before the friend's word that is said later? */
static bool is_heard(struct gate *g, const struct bus_keys *keys, const char *server)
{
    struct bus_socket *stranger, *client;
    struct bus *bus;
    struct bus_peer peer;
    bool is_let_in;

    EXPECT_OK(bus_open(&bus));
    if (keys)
        EXPECT_OK(bus_trust(bus, keys, server));
    EXPECT_OK(bus_connect(bus, g->endpoint, &stranger));
    EXPECT_OK(bus_send(stranger, NULL, "let me in", 9));
    EXPECT_OK(bus_trust(g->other, &g->friend, g->server.public));
    for (int i = 0; i < 3; i++) { /* each is a handshake later than the stranger's */
        EXPECT_OK(bus_connect(g->other, g->endpoint, &client));
        EXPECT_OK(bus_send(client, NULL, "friend", 6));
        is_let_in = strcmp(receive_text(g->door, &peer), "friend") != 0;
        bus_close_socket(client);
        if (is_let_in)
            break;
    }
    bus_close_socket(stranger);
    bus_close(bus);
    return is_let_in;
}

TEST(a_stranger_is_not_let_in)
{
    struct gate g;
    struct bus_keys stranger;

    EXPECT_OK(bus_new_keys(&stranger));
    open_gate(&g);
    EXPECT(!is_heard(&g, &stranger, g.server.public)); /* a key of no card */
    EXPECT(!is_heard(&g, &g.friend, stranger.public)); /* it trusts another server */
    EXPECT(!is_heard(&g, NULL, NULL));                 /* no encryption at all */
    EXPECT_OK(bus_test_guard(g.door));
    close_gate(&g);
}

TEST(a_guard_that_lets_everybody_in_is_noticed)
{
    struct gate g;

    open_gate(&g);
    g.porter.admits_all = true;
    EXPECT_STATUS(bus_test_guard(g.door), ERR_CONFLICT);
    EXPECT_MESSAGE("let a stranger in");
    close_gate(&g);
}

TEST(what_is_no_key_is_refused)
{
    struct bus_keys keys;
    struct bus *bus;

    EXPECT_OK(bus_new_keys(&keys));
    EXPECT(bus_is_key(keys.secret) && bus_is_key(keys.public));
    EXPECT(!bus_is_key("") && !bus_is_key("too short"));
    EXPECT(!bus_is_key("0123456789012345678901234567890123456\"89"));
    EXPECT_OK(bus_open(&bus));
    EXPECT_STATUS(bus_trust(bus, &keys, "no key"), ERR_BADARG);
    keys.secret[0] = '"';
    EXPECT_STATUS(bus_derive_keys(&keys), ERR_BADARG);
    EXPECT_STATUS(bus_guard(bus, &keys, ask_porter, NULL), ERR_BADARG);
    bus_close(bus);
}
