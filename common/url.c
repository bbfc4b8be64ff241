#include "common/url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"

#define SHOWN_ROOM 160

static const struct {
    const char *name;
    int port;
} schemes[] = {
    [URL_NONE] = { "", 0 },         [URL_FILE] = { "file", 0 }, [URL_HTTP] = { "http", 80 },
    [URL_HTTPS] = { "https", 443 }, [URL_S3] = { "s3", 0 },
};
#define SCHEME_COUNT (sizeof(schemes) / sizeof(schemes[0]))

const char *url_scheme_name(enum url_scheme scheme)
{
    CHECK((size_t)scheme < SCHEME_COUNT);
    return schemes[scheme].name;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

const char *url_for_people(const char *text, char *dst, size_t room)
{
    size_t len = strcspn(text, "?#");
    const char *authority = strstr(text, "://");
    const char *at = NULL;
    int shown;

    CHECK(room >= 8);
    if (authority && authority < text + len) {
        size_t authority_len = strcspn(authority + 3, "/?#");

        for (size_t i = 0; i < authority_len; i++) {
            if (authority[3 + i] == '@')
                at = authority + 3 + i;
        }
    }
    if (at)
        shown = snprintf(dst, room, "%.*s***%.*s", (int)(authority + 3 - text), text,
                         (int)(text + len - at), at);
    else
        shown = snprintf(dst, room, "%.*s", (int)len, text);
    if ((size_t)shown >= room)
        memcpy(dst + room - 4, "...", 4);
    for (char *c = dst; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    return dst;
}

/* One sentence for every fault: the URL, what is wrong, and how it should be. */
static status refuse(const char *text, const char *why)
{
    char shown[SHOWN_ROOM];

    return FAIL(ERR_BADARG, "%s: %s", url_for_people(text, shown, sizeof(shown)), why);
}

/* Printable ASCII without what other parsers take for something else, and whole % escapes. */
static const char *fault_of_characters(const char *text)
{
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7f)
            return "a space or control character in a URL; write it as %20 or the like";
        if ((unsigned char)*c > 0x7f)
            return "a character outside ASCII in a URL; escape it with %";
        if (strchr("\\\"<>^`{|}", *c))
            return "one of \\ \" < > ^ ` { | } in a URL; escape it with %";
        if (*c == '#')
            return "a # in a URL; leave the fragment out, or escape it as %23";
        if (*c == '%' && (hex_value(c[1]) < 0 || hex_value(c[2]) < 0))
            return "a % in a URL that two hexadecimal digits do not follow; escape it as %25";
    }
    return NULL;
}

static enum url_scheme find_scheme(const char *text, size_t len)
{
    for (size_t i = 1; i < SCHEME_COUNT; i++) {
        if (strlen(schemes[i].name) == len && strncmp(schemes[i].name, text, len) == 0)
            return (enum url_scheme)i;
    }
    return URL_NONE;
}

/* CAREFUL: resolvers read 127.1, 0x7f000001, 2130706433 and 010.0.0.1 as IPv4 addresses. A host
 * whose last label starts like a number must be four plain decimal numbers. */
static bool is_host(const char *host)
{
    const char *label = host;
    const char *last;
    struct in_addr address;

    if (!*host || strlen(host) > 253)
        return false;
    for (;;) {
        size_t len = strcspn(label, ".");

        last = label;
        if (len < 1 || len > 63 || label[0] == '-' || label[len - 1] == '-')
            return false;
        for (size_t i = 0; i < len; i++) {
            if (!is_alnum(label[i]) && label[i] != '-' && label[i] != '_')
                return false;
        }
        if (!label[len])
            break;
        label += len + 1;
        if (!*label)
            break; /* one dot at the end: a fully qualified name */
    }
    if (is_digit(*last))
        return inet_pton(AF_INET, host, &address) == 1;
    return true;
}

/* text is "PORT" and nothing else. */
static bool parse_port(int *port, const char *text, size_t len)
{
    int value = 0;

    if (len < 1 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]))
            return false;
        value = 10 * value + (text[i] - '0');
    }
    *port = value;
    return value >= 1 && value <= 65535;
}

/* Host and port of http and https from authority, len characters. */
static const char *fault_of_authority(struct url *u, const char *authority, size_t len)
{
    const char *host = authority;
    size_t host_len = strcspn(authority, ":/?");
    const char *rest;
    struct in6_addr address;

    if (len > 0 && authority[0] == '[') {
        host++;
        host_len = strcspn(host, "]/?");
        u->host_is_ipv6 = true;
        if (host[host_len] != ']')
            return "an IPv6 address without its closing bracket";
    }
    if (host_len >= sizeof(u->host))
        return "the host name is too long";
    memcpy(u->host, host, host_len);
    u->host[host_len] = '\0';
    for (char *c = u->host; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    }
    rest = host + host_len + (u->host_is_ipv6 ? 1 : 0);
    if (u->host_is_ipv6 ? inet_pton(AF_INET6, u->host, &address) != 1 : !is_host(u->host))
        return "not a valid host; want a name, four decimal numbers, or [IPv6]";
    u->port = schemes[u->scheme].port;
    if (rest == authority + len)
        return NULL;
    if (*rest != ':' || !parse_port(&u->port, rest + 1, (size_t)(authority + len - rest - 1)))
        return "not a valid port; want :1 to :65535";
    return NULL;
}

/* Everything after "scheme://". */
static const char *fault_of_rest(struct url *u, const char *rest)
{
    size_t authority_len = strcspn(rest, "/?");
    const char *path = rest + authority_len;
    size_t path_len = strcspn(path, "?");
    const char *fault;

    if (memchr(rest, '@', authority_len))
        return "a user name or password in a URL; leave it out";
    if (u->scheme == URL_FILE && strncmp(rest, "./", 2) == 0)
        path = rest;
    else if (u->scheme == URL_FILE && authority_len && strncmp(rest, "localhost/", 10) != 0)
        return "a host in a file URL; want file:///absolute/path or file://./relative/path";
    if (u->scheme == URL_HTTP || u->scheme == URL_HTTPS) {
        fault = fault_of_authority(u, rest, authority_len);
        if (fault)
            return fault;
    }
    if (u->scheme == URL_S3) {
        if (!authority_len || authority_len >= sizeof(u->host))
            return "no bucket; want s3://bucket/key";
        memcpy(u->host, rest, authority_len);
        u->host[authority_len] = '\0';
    }
    path_len = strcspn(path, "?");
    if (path[path_len] == '?' && (u->scheme == URL_FILE || u->scheme == URL_S3))
        return "a ? in a file or s3 URL; escape it as %3F";
    if (u->scheme == URL_FILE && path_len == 0)
        return "no path; want file:///absolute/path or file://./relative/path";
    snprintf(u->path, sizeof(u->path), "%s%.*s", path_len ? "" : "/", (int)path_len, path);
    snprintf(u->query, sizeof(u->query), "%s", path[path_len] == '?' ? path + path_len + 1 : "");
    return NULL;
}

status url_parse(struct url *u, const char *text)
{
    size_t scheme_len = strcspn(text, ":/?"), len = strlen(text);
    const char *rest = text + scheme_len + 3;
    const char *fault = NULL;

    memset(u, 0, sizeof(*u));
    if (strncmp(text + scheme_len, "://", 3) != 0)
        return refuse(text, "not a URL; want file://, http://, https:// or s3://");
    u->scheme = find_scheme(text, scheme_len);
    if (u->scheme == URL_NONE)
        return refuse(text, "unknown scheme; want file://, http://, https:// or s3://");
    /* url_format writes an empty path as "/", and what it wrote must be a URL again. */
    if (rest[strcspn(rest, "/?")] != '/')
        len++;
    if (len >= URL_ROOM)
        return FAIL(ERR_BADARG, "a URL of %zu characters, limit %d", len, URL_ROOM - 1);
    fault = fault_of_characters(text);
    if (!fault)
        fault = fault_of_rest(u, rest);
    return fault ? refuse(text, fault) : OK;
}

status url_format(const struct url *u, char *dst, size_t room)
{
    char port[8] = "";
    int len;

    if (u->port && u->port != schemes[u->scheme].port)
        snprintf(port, sizeof(port), ":%d", u->port);
    len = snprintf(dst, room, "%s://%s%s%s%s%s%s%s", url_scheme_name(u->scheme),
                   u->host_is_ipv6 ? "[" : "", u->host, u->host_is_ipv6 ? "]" : "", port, u->path,
                   u->query[0] ? "?" : "", u->query);
    if (len < 0 || (size_t)len >= room)
        return FAIL(ERR_BADARG, "%s://%s: the URL is longer than %zu characters",
                    url_scheme_name(u->scheme), u->host, room - 1);
    return OK;
}

status url_decode_path(const struct url *u, char *dst, size_t room)
{
    const char *src = u->path;
    size_t len = 0;

    if (u->scheme == URL_S3)
        src++;
    for (; *src; src++) {
        char c = *src;

        if (c == '%') {
            c = (char)(16 * hex_value(src[1]) + hex_value(src[2]));
            src += 2;
        }
        if (c == '\0')
            return FAIL(ERR_BADARG, "%.100s: %%00 in a path", u->path);
        if (len + 1 >= room)
            return FAIL(ERR_BADARG, "%.100s: a path of %zu characters or more", u->path, room);
        dst[len++] = c;
    }
    dst[len] = '\0';
    return OK;
}

status url_encode_path(const char *text, char *dst, size_t room)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;

    for (const char *c = text; *c; c++) {
        bool is_plain = is_alnum(*c) || strchr("-._~/", *c);

        if (len + (is_plain ? 1 : 3) >= room)
            return FAIL(ERR_BADARG, "%.100s: longer than %zu characters once escaped", text,
                        room - 1);
        if (is_plain) {
            dst[len++] = *c;
        } else {
            dst[len++] = '%';
            dst[len++] = digits[(unsigned char)*c >> 4];
            dst[len++] = digits[(unsigned char)*c & 15];
        }
    }
    dst[len] = '\0';
    return OK;
}

status url_from_path(const char *path, char *dst, size_t room)
{
    const char *prefix = path[0] == '/' ? "file://" : "file://./";
    size_t prefix_len = strlen(prefix);

    if (!*path)
        return FAIL(ERR_BADARG, "an empty path has no URL");
    if (strncmp(path, "./", 2) == 0)
        path += 2;
    if (prefix_len >= room)
        return FAIL(ERR_BADARG, "%.100s: no room for its URL", path);
    memcpy(dst, prefix, prefix_len);
    return url_encode_path(path, dst + prefix_len, room - prefix_len);
}
