/* Which addresses a stranger's URL may make us connect to. The tables are the IANA
 * special-purpose registries of IPv4 and IPv6 (RFC 6890 and its updates); everything that is not
 * global unicast is refused. Of IPv6 that is all but 2000::/3, so that ::1, fc00::/7, fe80::/10,
 * ff00::/8, ::ffff:0:0/96 (IPv4 in disguise) and 64:ff9b::/96 (NAT64) need no row. */
#include "common/http.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static const struct {
    uint8_t prefix[4];
    int bits;
} closed4[] = {
    { { 0, 0, 0, 0 }, 8 },       /* this network */
    { { 10, 0, 0, 0 }, 8 },      /* private */
    { { 100, 64, 0, 0 }, 10 },   /* carrier-grade NAT */
    { { 127, 0, 0, 0 }, 8 },     /* loopback */
    { { 169, 254, 0, 0 }, 16 },  /* link-local, cloud metadata */
    { { 172, 16, 0, 0 }, 12 },   /* private */
    { { 192, 0, 0, 0 }, 24 },    /* protocol assignments */
    { { 192, 0, 2, 0 }, 24 },    /* documentation */
    { { 192, 88, 99, 0 }, 24 },  /* 6to4 relays */
    { { 192, 168, 0, 0 }, 16 },  /* private */
    { { 198, 18, 0, 0 }, 15 },   /* benchmarks */
    { { 198, 51, 100, 0 }, 24 }, /* documentation */
    { { 203, 0, 113, 0 }, 24 },  /* documentation */
    { { 224, 0, 0, 0 }, 4 },     /* multicast */
    { { 240, 0, 0, 0 }, 4 },     /* reserved, broadcast */
};

static const struct {
    uint8_t prefix[4];
    int bits;
} closed6[] = {
    { { 0x20, 0x01, 0x00, 0x00 }, 23 }, /* protocol assignments: Teredo, ORCHID, benchmarks */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
    { { 0x20, 0x02, 0x00, 0x00 }, 16 }, /* 6to4 */
    { { 0x3f, 0xff, 0x00, 0x00 }, 20 }, /* documentation */
};

/* Do the first bits of address (4 bytes are looked at) equal those of prefix? */
static bool matches(const uint8_t *address, const uint8_t prefix[4], int bits)
{
    for (int i = 0; i < bits; i++) {
        if ((address[i / 8] ^ prefix[i / 8]) & (0x80 >> (i % 8)))
            return false;
    }
    return true;
}

static bool is_public4(const uint8_t *address)
{
    for (size_t i = 0; i < sizeof(closed4) / sizeof(closed4[0]); i++) {
        if (matches(address, closed4[i].prefix, closed4[i].bits))
            return false;
    }
    return true;
}

static bool is_public6(const uint8_t *address)
{
    if ((address[0] & 0xe0) != 0x20)
        return false;
    for (size_t i = 0; i < sizeof(closed6) / sizeof(closed6[0]); i++) {
        if (matches(address, closed6[i].prefix, closed6[i].bits))
            return false;
    }
    return true;
}

bool http_address_is_public(const void *sockaddr, size_t len)
{
    sa_family_t family;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;

    if (len < offsetof(struct sockaddr, sa_data))
        return false;
    memcpy(&family, (const char *)sockaddr + offsetof(struct sockaddr, sa_family), sizeof(family));
    if (family == AF_INET && len >= sizeof(in4)) {
        memcpy(&in4, sockaddr, sizeof(in4));
        return is_public4((const uint8_t *)&in4.sin_addr);
    }
    if (family == AF_INET6 && len >= sizeof(in6)) {
        memcpy(&in6, sockaddr, sizeof(in6));
        return is_public6((const uint8_t *)&in6.sin6_addr);
    }
    return false;
}

bool http_port_is_webs(const void *sockaddr, size_t len)
{
    static const unsigned ports[] = { 80, 443, 8080, 8443 };
    struct sockaddr_in in; /* the port is at the same place in both families */

    if (len < sizeof(in))
        return false;
    memcpy(&in, sockaddr, sizeof(in));
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        if (ntohs(in.sin_port) == ports[i])
            return true;
    }
    return false;
}
