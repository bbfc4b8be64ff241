#include "tests/tool/httpd.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/digest.h"
#include "tests/tool/test.h"

#define TEXT_BYTES 16384
#define PARAMS_MAX 64

/* Text being put together; running out of room ends the test. */
struct text {
    char data[TEXT_BYTES];
    size_t len;
};

static void add(struct text *t, const char *bytes, size_t len)
{
    EXPECT(len < sizeof(t->data) - t->len);
    memcpy(t->data + t->len, bytes, len);
    t->len += len;
    t->data[t->len] = '\0';
}

static void add_text(struct text *t, const char *text)
{
    add(t, text, strlen(text));
}

static int nibble(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* AWS's UriEncode of text that may be escaped already: unescape, then escape all but A-Z a-z 0-9
 * - . _ ~ and, when keep_slash, "/". */
static void add_encoded(struct text *t, const char *text, size_t len, bool keep_slash)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char escaped[4];

        if (c == '%' && i + 2 < len && nibble(text[i + 1]) >= 0 && nibble(text[i + 2]) >= 0) {
            c = (unsigned char)(16 * nibble(text[i + 1]) + nibble(text[i + 2]));
            i += 2;
        }
        if (isalnum(c) || (c && strchr("-._~", c)) || (keep_slash && c == '/')) {
            add(t, (const char *)&c, 1);
        } else {
            snprintf(escaped, sizeof(escaped), "%%%02X", c);
            add_text(t, escaped);
        }
    }
}

/* By name, then by value: "=" ends a name, and comes before everything that can be in one. */
static int by_param(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;

    while (*x && *x == *y)
        x++, y++;
    return (*x == '=' ? 1 : *x) - (*y == '=' ? 1 : *y);
}

/* name=value&..., each encoded, sorted by code point. */
static void add_query(struct text *t, const char *query)
{
    char *params[PARAMS_MAX];
    int count = 0;

    while (*query) {
        size_t len = strcspn(query, "&");
        size_t name_len = strcspn(query, "=&");
        struct text *p = calloc(1, sizeof(*p));

        EXPECT(p && count < PARAMS_MAX);
        add_encoded(p, query, name_len, false);
        add_text(p, "=");
        if (name_len < len)
            add_encoded(p, query + name_len + 1, len - name_len - 1, false);
        params[count++] = p->data; /* the start of p */
        query += len + (query[len] == '&');
    }
    qsort(params, (size_t)count, sizeof(params[0]), by_param);
    for (int i = 0; i < count; i++) {
        add_text(t, i ? "&" : "");
        add_text(t, params[i]);
        free(params[i]);
    }
}

/* The value of the header called name into t, without blanks around it and with one for several
 * inside; of more such headers the values joined by commas. Is there one? */
static bool add_header_value(struct text *t, const char *headers, const char *name, size_t name_len)
{
    bool is_found = false;

    for (const char *line = headers; *line;) {
        size_t len = strcspn(line, "\r\n");
        bool had_blank = false, has_begun = false;
        const char *next = line + len;

        next += strspn(next, "\r\n");
        if (len > name_len && line[name_len] == ':' && strncasecmp(line, name, name_len) == 0) {
            if (is_found)
                add_text(t, ",");
            is_found = true;
            for (size_t i = name_len + 1; i < len; i++) {
                bool is_blank = line[i] == ' ' || line[i] == '\t';

                if (!is_blank && had_blank && has_begun)
                    add_text(t, " ");
                had_blank = is_blank;
                has_begun = has_begun || !is_blank;
                if (!is_blank)
                    add(t, line + i, 1);
            }
        }
        line = next;
    }
    return is_found;
}

/* The text between after and one of ends in the Authorization header. */
static bool find_part(const char *authorization, const char *after, char *dst, size_t room)
{
    const char *at = strstr(authorization, after);
    size_t len;

    if (!at)
        return false;
    at += strlen(after);
    len = strcspn(at, ", ");
    if (len == 0 || len >= room)
        return false;
    memcpy(dst, at, len);
    dst[len] = '\0';
    return true;
}

/* Everything that must be signed is: host, and what begins with x-amz-. */
static bool covers(const char *signed_names, const char *headers)
{
    char wanted[128], list[1026];

    snprintf(list, sizeof(list), ";%s;", signed_names);
    if (!strstr(list, ";host;"))
        return false;
    for (const char *line = headers; *line; line += strspn(line, "\r\n")) {
        size_t name_len = strcspn(line, ":");

        if (strncasecmp(line, "x-amz-", 6) == 0 && name_len < 100) {
            snprintf(wanted, sizeof(wanted), ";%.*s;", (int)name_len, line);
            for (char *c = wanted; *c; c++)
                *c = (char)tolower((unsigned char)*c);
            if (!strstr(list, wanted))
                return false;
        }
        line += strcspn(line, "\r\n");
    }
    return true;
}

static const char *add_canonical(struct text *t, const struct httpd_signed *r, const char *names)
{
    size_t path_len = strcspn(r->target, "?");

    add_text(t, r->method);
    add_text(t, "\n");
    add_encoded(t, r->target, path_len, true);
    add_text(t, "\n");
    add_query(t, r->target[path_len] ? r->target + path_len + 1 : "");
    add_text(t, "\n");
    for (const char *name = names; *name;) {
        size_t len = strcspn(name, ";");

        add(t, name, len);
        add_text(t, ":");
        if (!add_header_value(t, r->headers, name, len))
            return "a signed header is missing";
        add_text(t, "\n");
        name += len + (name[len] == ';');
    }
    add_text(t, "\n");
    add_text(t, names);
    add_text(t, "\n");
    add_text(t, r->body_hash);
    return NULL;
}

/* key = HMAC(key, text), 32 bytes. */
static void step(uint8_t key[DIGEST_BYTES], const char *text)
{
    uint8_t next[DIGEST_BYTES];

    EXPECT_OK(digest_hmac(key, DIGEST_BYTES, text, strlen(text), next));
    memcpy(key, next, sizeof(next));
}

static void sign(const struct httpd_signed *r, const char *date, const char *day,
                 const struct text *canonical, char hex[DIGEST_HEX_ROOM])
{
    uint8_t digest[DIGEST_BYTES];
    char start[256];
    struct text to_sign = { .len = 0 };

    EXPECT_OK(digest_sha256(canonical->data, canonical->len, digest));
    add_text(&to_sign, "AWS4-HMAC-SHA256\n");
    add_text(&to_sign, date);
    snprintf(start, sizeof(start), "\n%s/%s/s3/aws4_request\n", day, r->region);
    add_text(&to_sign, start);
    add_text(&to_sign, digest_hex(digest, hex));
    snprintf(start, sizeof(start), "AWS4%s", r->secret_key);
    EXPECT_OK(digest_hmac(start, strlen(start), day, strlen(day), digest));
    step(digest, r->region);
    step(digest, "s3");
    step(digest, "aws4_request");
    step(digest, to_sign.data);
    digest_hex(digest, hex);
}

const char *httpd_check_signature(const struct httpd_signed *r)
{
    struct text authorization = { .len = 0 }, date = { .len = 0 }, canonical = { .len = 0 };
    char credential[256], names[1024], signature[128], wanted[256], day[9];
    char hex[DIGEST_HEX_ROOM];
    const char *fault;

    if (!add_header_value(&authorization, r->headers, "authorization", 13))
        return "no Authorization header";
    if (!add_header_value(&date, r->headers, "x-amz-date", 10) || date.len != 16)
        return "no X-Amz-Date, or more than one";
    if (strncmp(authorization.data, "AWS4-HMAC-SHA256 ", 17) != 0 ||
        !find_part(authorization.data, "Credential=", credential, sizeof(credential)) ||
        !find_part(authorization.data, "SignedHeaders=", names, sizeof(names)) ||
        !find_part(authorization.data, "Signature=", signature, sizeof(signature)))
        return "a malformed Authorization header";
    snprintf(day, sizeof(day), "%.8s", date.data);
    snprintf(wanted, sizeof(wanted), "%s/%s/%s/s3/aws4_request", r->access_key, day, r->region);
    if (strcmp(credential, wanted) != 0)
        return "another key, day, region or service in its credential";
    if (!covers(names, r->headers))
        return "a header that must be signed is not";
    fault = add_canonical(&canonical, r, names);
    if (fault)
        return fault;
    sign(r, date.data, day, &canonical, hex);
    return strcmp(signature, hex) == 0 ? NULL : "SignatureDoesNotMatch";
}
