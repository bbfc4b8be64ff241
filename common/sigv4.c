#include "common/sigv4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/base/check.h"

#define CANONICAL_MAX ((size_t)64 << 10)
#define ALGORITHM "AWS4-HMAC-SHA256"

/* SHA-256 of no bytes. */
static const char nothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/* A query parameter or a header, in text of the pass. */
struct pair {
    const char *name, *value; /* NUL-ended */
    size_t index;             /* its place as given, which sorting by name keeps */
};

/* One signature under way. */
struct pass {
    const struct sigv4_signer *who;
    const struct sigv4_request *q;
    struct pair params[SIGV4_PARAMS_MAX];
    size_t param_count;
    struct pair headers[SIGV4_HEADERS_MAX];
    size_t header_count;
    char date[17], day[9];
    char scope[128];      /* DAY/REGION/SERVICE/aws4_request */
    struct buf text;      /* what the pairs point to; reserved whole, so that it never moves */
    struct buf path;      /* canonical */
    struct buf query;     /* canonical */
    struct buf names;     /* of signed headers, joined by ";" */
    struct buf canonical; /* the canonical request */
};

/* --- escapes -------------------------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_plain(char c, bool keep_slash)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
}

/* Append len characters that may be escaped already, escaped once. */
static status add_escaped(struct buf *b, const char *text, size_t len, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    status st = OK;

    TRY(buf_reserve(b, 3 * len));
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%' && i + 2 < len && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
            c = (char)(16 * hex_value(text[i + 1]) + hex_value(text[i + 2]));
            i += 2;
        }
        if (is_plain(c, keep_slash)) {
            TRY(buf_append(b, &c, 1));
        } else {
            const char escape[] = { '%', digits[(unsigned char)c >> 4], digits[c & 15] };

            TRY(buf_append(b, escape, sizeof(escape)));
        }
    }
out:
    return st;
}

/* --- query ---------------------------------------------------------------------------------- */

/* Keep name and value, len characters, escaped, as a parameter. */
static status add_param(struct pass *p, const char *name, size_t name_len, const char *value,
                        size_t value_len)
{
    struct pair *pair = &p->params[p->param_count];
    status st = OK;

    if (p->param_count == SIGV4_PARAMS_MAX)
        TRY(FAIL(ERR_BADARG, "a query with more than %d parameters", SIGV4_PARAMS_MAX));
    pair->name = p->text.data + p->text.len;
    TRY(add_escaped(&p->text, name, name_len, false));
    TRY(buf_append(&p->text, "", 1));
    pair->value = p->text.data + p->text.len;
    TRY(add_escaped(&p->text, value, value_len, false));
    TRY(buf_append(&p->text, "", 1));
    pair->index = p->param_count++;
out:
    return st;
}

static status add_param_text(struct pass *p, const char *name, const char *value)
{
    return add_param(p, name, strlen(name), value, strlen(value));
}

static status read_query(struct pass *p)
{
    status st = OK;

    for (const char *at = p->q->url->query; *at;) {
        size_t len = strcspn(at, "&");
        size_t name_len = strcspn(at, "=&");

        if (len > 0)
            TRY(add_param(p, at, name_len, at + name_len + (name_len < len),
                          name_len < len ? len - name_len - 1 : 0));
        at += len + (at[len] == '&');
    }
out:
    return st;
}

/* CAREFUL: names first, then values. Sorting "name=value" as one text puts "a-=" before "a=". */
static int by_name_and_value(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->value, y->value);
}

static status write_query(struct pass *p)
{
    status st = OK;

    qsort(p->params, p->param_count, sizeof(p->params[0]), by_name_and_value);
    for (size_t i = 0; i < p->param_count; i++)
        TRY(buf_printf(&p->query, "%s%s=%s", i ? "&" : "", p->params[i].name, p->params[i].value));
out:
    return st;
}

/* --- headers -------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Keep a header: its name in lower case, blanks around the value gone, blanks inside made one. */
static status add_header(struct pass *p, const char *name, size_t name_len, const char *value)
{
    struct pair *pair = &p->headers[p->header_count];
    bool had_blank = false, is_begun = false;
    status st = OK;

    if (p->header_count == SIGV4_HEADERS_MAX)
        TRY(FAIL(ERR_BADARG, "more than %d headers", SIGV4_HEADERS_MAX));
    if (name_len == 0)
        TRY(FAIL(ERR_BADARG, "a header without a name"));
    pair->name = p->text.data + p->text.len;
    for (size_t i = 0; i < name_len; i++) {
        char c = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];

        if (c <= 0x20 || c == 0x7f || c == ';')
            TRY(FAIL(ERR_BADARG, "%.40s: not a header's name", name));
        TRY(buf_append(&p->text, &c, 1));
    }
    TRY(buf_append(&p->text, "", 1));
    pair->value = p->text.data + p->text.len;
    for (const char *c = value; *c; c++) {
        if ((unsigned char)*c < 0x20 && *c != '\t')
            TRY(FAIL(ERR_BADARG, "%.*s: a control character in a header", (int)name_len, name));
        if (!is_blank(*c) && had_blank && is_begun)
            TRY(buf_append(&p->text, " ", 1));
        had_blank = is_blank(*c);
        if (had_blank)
            continue;
        is_begun = true;
        TRY(buf_append(&p->text, c, 1));
    }
    TRY(buf_append(&p->text, "", 1));
    pair->index = p->header_count++;
out:
    return st;
}

static status add_header_text(struct pass *p, const char *name, const char *value)
{
    return add_header(p, name, strlen(name), value);
}

static status add_host(struct pass *p)
{
    const struct url *u = p->q->url;
    bool is_usual = u->port == 0 || u->port == (u->scheme == URL_HTTPS ? 443 : 80);
    char host[URL_HOST_ROOM + 16], port[8] = "";

    if (!is_usual)
        snprintf(port, sizeof(port), ":%d", u->port);
    snprintf(host, sizeof(host), "%s%s%s%s", u->host_is_ipv6 ? "[" : "", u->host,
             u->host_is_ipv6 ? "]" : "", port);
    return add_header_text(p, "host", host);
}

/* Would the caller's header of this name be sent beside one of ours? */
static bool is_signers(const char *name, size_t len)
{
    static const char *const names[] = { "host", "authorization", "x-amz-date",
                                         "x-amz-content-sha256", "x-amz-security-token" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i]) == len && strncasecmp(names[i], name, len) == 0)
            return true;
    }
    return false;
}

static status read_headers(struct pass *p)
{
    status st = OK;

    TRY(add_host(p));
    for (size_t i = 0; p->q->headers && p->q->headers[i]; i++) {
        const char *line = p->q->headers[i];
        size_t name_len = strcspn(line, ":");

        if (!line[name_len])
            TRY(FAIL(ERR_BADARG, "%.40s: a header without a colon", line));
        if (is_signers(line, name_len))
            TRY(FAIL(ERR_BADARG, "%.*s: a header that the signer sends itself", (int)name_len,
                     line));
        TRY(add_header(p, line, name_len, line + name_len + 1));
    }
out:
    return st;
}

static int by_name_and_place(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : (x->index > y->index) - (x->index < y->index);
}

static bool continues(const struct pass *p, size_t i)
{
    return i > 0 && strcmp(p->headers[i].name, p->headers[i - 1].name) == 0;
}

/* The list of names; headers are sorted from then on. */
static status sort_headers(struct pass *p)
{
    status st = OK;

    qsort(p->headers, p->header_count, sizeof(p->headers[0]), by_name_and_place);
    for (size_t i = 0; i < p->header_count; i++) {
        if (!continues(p, i))
            TRY(buf_printf(&p->names, "%s%s", i ? ";" : "", p->headers[i].name));
    }
out:
    return st;
}

/* --- the signature -------------------------------------------------------------------------- */

static status write_canonical(struct pass *p, const char *payload)
{
    struct buf *b = &p->canonical;
    status st = OK;

    TRY(write_query(p));
    TRY(buf_printf(b, "%s\n%s\n%s", p->q->method, p->path.data, p->query.len ? p->query.data : ""));
    for (size_t i = 0; i < p->header_count; i++) {
        if (continues(p, i))
            TRY(buf_printf(b, ",%s", p->headers[i].value));
        else
            TRY(buf_printf(b, "\n%s:%s", p->headers[i].name, p->headers[i].value));
    }
    TRY(buf_printf(b, "\n\n%s\n%s", p->names.data, payload));
out:
    return st;
}

/* key = HMAC(key, text). */
static status step(uint8_t key[DIGEST_BYTES], const char *text)
{
    uint8_t next[DIGEST_BYTES];
    status st = digest_hmac(key, DIGEST_BYTES, text, strlen(text), next);

    memcpy(key, next, sizeof(next));
    explicit_bzero(next, sizeof(next));
    return st;
}

static status derive_key(const struct pass *p, const char *start, size_t len,
                         uint8_t key[DIGEST_BYTES])
{
    status st = OK;

    TRY(digest_hmac(start, len, p->day, strlen(p->day), key));
    TRY(step(key, p->who->region));
    TRY(step(key, p->who->service));
    TRY(step(key, "aws4_request"));
out:
    return st;
}

/* The key of the pass's day, from the cache when it is there. */
static status signing_key(const struct pass *p, struct sigv4_cache *cache,
                          uint8_t key[DIGEST_BYTES])
{
    char start[512];
    size_t len = strlen(p->who->secret_key);
    uint8_t made_of[DIGEST_BYTES];
    status st = OK;

    if (len > sizeof(start) - sizeof(p->scope) - 4)
        return FAIL(ERR_BADARG, "a secret key of %zu characters", len);
    memcpy(start, "AWS4", 4);
    memcpy(start + 4, p->who->secret_key, len);
    memcpy(start + 4 + len, p->scope, sizeof(p->scope));
    TRY(digest_sha256(start, 4 + len + strlen(p->scope), made_of));
    if (cache && memcmp(cache->made_of, made_of, sizeof(made_of)) == 0) {
        memcpy(key, cache->key, DIGEST_BYTES);
        goto out;
    }
    TRY(derive_key(p, start, 4 + len, key));
    if (cache) {
        memcpy(cache->made_of, made_of, sizeof(made_of));
        memcpy(cache->key, key, DIGEST_BYTES);
    }
out:
    explicit_bzero(start, sizeof(start));
    return st;
}

static status write_signature(const struct pass *p, struct sigv4_cache *cache,
                              char hex[DIGEST_HEX_ROOM])
{
    char text[256];
    uint8_t key[DIGEST_BYTES] = { 0 }, mac[DIGEST_BYTES];
    int len;
    status st = OK;

    TRY(digest_sha256(p->canonical.data, p->canonical.len, mac));
    len = snprintf(text, sizeof(text), ALGORITHM "\n%s\n%s\n%s", p->date, p->scope,
                   digest_hex(mac, hex));
    CHECK(len > 0 && (size_t)len < sizeof(text));
    TRY(signing_key(p, cache, key));
    TRY(digest_hmac(key, sizeof(key), text, (size_t)len, mac));
    digest_hex(mac, hex);
out:
    explicit_bzero(key, sizeof(key));
    return st;
}

static status begin(struct pass *p, const struct sigv4_signer *who, const struct sigv4_request *q)
{
    time_t seconds = (time_t)(q->wall_ms / 1000);
    struct tm utc;
    int len;
    status st = OK;

    CHECK(q->url->scheme == URL_HTTP || q->url->scheme == URL_HTTPS);
    memset(p, 0, sizeof(*p));
    p->who = who;
    p->q = q;
    p->text.max_bytes = p->canonical.max_bytes = CANONICAL_MAX;
    TRY(buf_reserve(&p->text, CANONICAL_MAX));
    if (!gmtime_r(&seconds, &utc) || utc.tm_year < 70 || utc.tm_year > 8099)
        TRY(FAIL(ERR_BADARG, "the clock is outside 1970 to 9999"));
    strftime(p->date, sizeof(p->date), "%Y%m%dT%H%M%SZ", &utc);
    memcpy(p->day, p->date, 8);
    len = snprintf(p->scope, sizeof(p->scope), "%s/%s/%s/aws4_request", p->day, who->region,
                   who->service);
    if ((size_t)len >= sizeof(p->scope))
        TRY(FAIL(ERR_BADARG, "%.40s...: a region of %zu characters", who->region,
                 strlen(who->region)));
    TRY(add_escaped(&p->path, q->url->path, strlen(q->url->path), true));
    TRY(read_query(p));
    TRY(read_headers(p));
out:
    return st;
}

static void end(struct pass *p)
{
    /* The session token went through it. */
    if (p->text.data)
        explicit_bzero(p->text.data, p->text.len);
    if (p->canonical.data)
        explicit_bzero(p->canonical.data, p->canonical.len);
    buf_free(&p->text);
    buf_free(&p->path);
    buf_free(&p->query);
    buf_free(&p->names);
    buf_free(&p->canonical);
}

/* scheme://host[:port] and the canonical path; with a query, "?" and that; then more. */
static status write_url(const struct pass *p, const char *more, char *dst, size_t room)
{
    struct url origin = *p->q->url;
    char start[URL_ROOM];
    int len;
    status st;

    origin.path[0] = origin.query[0] = '\0';
    st = url_format(&origin, start, sizeof(start));
    if (st != OK)
        return st;
    len = snprintf(dst, room, "%s%s%s%s%s", start, p->path.data, p->query.len ? "?" : "",
                   p->query.len ? p->query.data : "", more);
    return len > 0 && (size_t)len < room
               ? OK
               : FAIL(ERR_BADARG, "%s: a signed URL of %d characters, room for %zu", start, len,
                      room);
}

static bool is_set(const char *text)
{
    return text && *text;
}

status sigv4_sign(struct sigv4_cache *cache, const struct sigv4_signer *who,
                  const struct sigv4_request *q, struct sigv4_signed *out)
{
    struct pass *p = malloc(sizeof(*p));
    char hex[DIGEST_HEX_ROOM];
    int len;
    status st = OK;

    if (!p)
        return FAIL(ERR_NOMEM, "no memory for a signature");
    TRY(begin(p, who, q));
    snprintf(out->payload, sizeof(out->payload), "%s", q->payload ? q->payload : nothing);
    TRY(add_header_text(p, "x-amz-date", p->date));
    if (strcmp(who->service, "s3") == 0)
        TRY(add_header_text(p, "x-amz-content-sha256", out->payload));
    if (is_set(who->session_token))
        TRY(add_header_text(p, "x-amz-security-token", who->session_token));
    TRY(sort_headers(p));
    TRY(write_canonical(p, out->payload));
    TRY(write_signature(p, cache, hex));
    memcpy(out->date, p->date, sizeof(out->date));
    TRY(write_url(p, "", out->url, sizeof(out->url)));
    len = snprintf(out->authorization, sizeof(out->authorization),
                   ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s", who->access_key,
                   p->scope, p->names.data, hex);
    if ((size_t)len >= sizeof(out->authorization))
        TRY(FAIL(ERR_BADARG, "the names of the headers are %zu characters long", p->names.len));
out:
    end(p);
    free(p);
    return st;
}

/* The parameters of a presigned URL but its signature. */
static status add_presign_params(struct pass *p, int seconds)
{
    char text[512];
    status st = OK;

    snprintf(text, sizeof(text), "%s/%s", p->who->access_key, p->scope);
    TRY(add_param_text(p, "X-Amz-Algorithm", ALGORITHM));
    TRY(add_param_text(p, "X-Amz-Credential", text));
    TRY(add_param_text(p, "X-Amz-Date", p->date));
    snprintf(text, sizeof(text), "%d", seconds);
    TRY(add_param_text(p, "X-Amz-Expires", text));
    TRY(add_param_text(p, "X-Amz-SignedHeaders", p->names.data));
    if (is_set(p->who->session_token))
        TRY(add_param_text(p, "X-Amz-Security-Token", p->who->session_token));
out:
    return st;
}

status sigv4_presign(struct sigv4_cache *cache, const struct sigv4_signer *who,
                     const struct sigv4_request *q, int seconds, char *dst, size_t room)
{
    struct pass *p;
    char more[sizeof("&X-Amz-Signature=") + DIGEST_HEX_ROOM] = "&X-Amz-Signature=";
    status st = OK;

    if (seconds < 1 || seconds > SIGV4_SECONDS_MAX)
        return FAIL(ERR_BADARG, "a presigned URL for %d seconds, want 1 to %d", seconds,
                    SIGV4_SECONDS_MAX);
    p = malloc(sizeof(*p));
    if (!p)
        return FAIL(ERR_NOMEM, "no memory for a signature");
    TRY(begin(p, who, q));
    TRY(sort_headers(p));
    TRY(add_presign_params(p, seconds));
    TRY(write_canonical(p, q->payload ? q->payload : SIGV4_UNSIGNED));
    TRY(write_signature(p, cache, more + strlen(more)));
    TRY(write_url(p, more, dst, room));
out:
    end(p);
    free(p);
    return st;
}
