/* A name whose addresses change between one look and the next, as an attacker's name server makes
 * it. The test answers for the resolver, and for connect(), so that nothing leaves this machine:
 * the public address that it makes up is the test's own server; so is port 8080 of this machine. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/http.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

#define NAME "rebind.test"
#define PUBLIC "93.184.216.34"

/* What NAME resolves to: one answer per look, the last for ever; addresses separated by blanks. */
static const char *const *answers;
static atomic_int looks;
static int server_port; /* where PUBLIC really is; 0: no test of this file runs */
static atomic_int reached_public;

static struct addrinfo *address_of(const char *text, const char *service, int socktype)
{
    struct addrinfo hints = { .ai_family = AF_INET,
                              .ai_socktype = socktype,
                              .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");

    return real(text, service, &hints, &found) == 0 ? found : NULL;
}

/* Takes the place of libc's. */
int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    char list[128], *next = NULL;
    struct addrinfo **end = out;
    int look;

    if (!server_port || !node || strcmp(node, NAME) != 0)
        return real(node, service, hints, out);
    look = atomic_fetch_add(&looks, 1);
    for (int i = 0; i < look && answers[1]; i++)
        answers++;
    *out = NULL;
    snprintf(list, sizeof(list), "%s", answers[0]);
    for (char *a = strtok_r(list, " ", &next); a; a = strtok_r(NULL, " ", &next)) {
        *end = address_of(a, service, hints ? hints->ai_socktype : SOCK_STREAM);
        if (!*end)
            return EAI_FAIL;
        end = &(*end)->ai_next;
    }
    return 0;
}

/* Likewise: PUBLIC is our own server, at any port. */
int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    struct sockaddr_in in;

    if (server_port && address->sa_family == AF_INET && len >= sizeof(in)) {
        memcpy(&in, address, sizeof(in));
        if (in.sin_addr.s_addr == inet_addr(PUBLIC))
            atomic_fetch_add(&reached_public, 1);
        if (in.sin_addr.s_addr == inet_addr(PUBLIC) || in.sin_port == htons(8080)) {
            in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            in.sin_port = htons((uint16_t)server_port);
            return real(fd, (const struct sockaddr *)&in, sizeof(in));
        }
    }
    return real(fd, address, len);
}

struct rig {
    struct httpd d;
    struct http client;
};

static void set_up(struct rig *k, const char *const *list)
{
    httpd_start(&k->d, &(struct httpd_config){ 0 });
    answers = list;
    server_port = k->d.port;
    httpd_store(&k->d, "/a", "public", 6);
    EXPECT_OK(http_open(&k->client, &(struct http_config){ .allow_private_hosts = false }));
}

static void tear_down(struct rig *k)
{
    http_close(&k->client);
    server_port = 0;
    httpd_stop(&k->d);
}

static status get(struct rig *k, const char *url)
{
    struct http_response r = { 0 };
    const struct http_request q = {
        .method = HTTP_GET, .url = url, .follow_redirects = true, .response_bytes_max = 1000
    };
    status st = http_do(&k->client, &q, &r);

    http_response_free(&r);
    return st;
}

/* Public when it is first looked at, this machine when a redirect leads back to it. */
TEST(storage_a_name_that_changes_its_address_is_checked_anew)
{
    static const char *const list[] = { PUBLIC, "127.0.0.1", NULL };
    struct rig k;

    set_up(&k, list);
    EXPECT_OK(get(&k, "http://" NAME "/a"));
    EXPECT_INT(atomic_load(&looks), 1);
    EXPECT_INT(httpd_requests(&k.d), 1);
    httpd_redirect(&k.d, "/a", "http://" NAME ":8080/secret");
    httpd_store(&k.d, "/secret", "private", 7);
    EXPECT_STATUS(get(&k, "http://" NAME "/a"), ERR_BADARG);
    EXPECT_MESSAGE("not public");
    EXPECT_INT(atomic_load(&looks), 2);  /* another port: another look */
    EXPECT_INT(httpd_requests(&k.d), 2); /* /secret was not asked for */
    tear_down(&k);
}

/* An answer with both: the private one is passed over, whatever its place. */
TEST(storage_of_a_mixed_answer_only_public_addresses_are_used)
{
    static const char *const lists[][2] = { { "127.0.0.1 " PUBLIC, NULL },
                                            { "10.1.2.3 169.254.169.254 " PUBLIC, NULL },
                                            { PUBLIC " 127.0.0.1", NULL } };

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct rig k;
        int before = atomic_load(&reached_public);

        set_up(&k, lists[i]);
        EXPECT_OK(get(&k, "http://" NAME "/a"));
        EXPECT_INT(atomic_load(&reached_public) - before, 1);
        tear_down(&k);
    }
}

TEST(storage_a_name_with_private_addresses_only_is_refused)
{
    static const char *const list[] = { "127.0.0.1 10.0.0.1 192.168.1.1", NULL };
    struct rig k;

    set_up(&k, list);
    EXPECT_STATUS(get(&k, "http://" NAME "/a"), ERR_BADARG);
    EXPECT_MESSAGE("not public");
    EXPECT_INT(httpd_requests(&k.d), 0);
    tear_down(&k);
}
