#include "common/s3.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/file.h"

static bool is_set(const char *text)
{
    return text && *text;
}

static bool is_ipv4(const char *host)
{
    struct in_addr address;

    return inet_pton(AF_INET, host, &address) == 1;
}

/* Copy a setting called name. */
static status copy(char *dst, size_t room, const char *name, const char *text)
{
    if (!text)
        text = "";
    if (strlen(text) >= room)
        return FAIL(ERR_BADARG, "%s: %zu characters, limit %zu", name, strlen(text), room - 1);
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return FAIL(ERR_BADARG, "%s: holds a space, control or non-ASCII character", name);
    }
    memcpy(dst, text, strlen(text) + 1);
    return OK;
}

/* The text without blanks around it, cut in place. */
static char *trim(char *text)
{
    size_t len;

    text += strspn(text, " \t\r");
    for (len = strlen(text); len && strchr(" \t\r", text[len - 1]); len--)
        text[len - 1] = '\0';
    return text;
}

/* The [default] section of an AWS credentials file, which text holds and which is changed. */
static status parse_credentials(struct s3 *s, const char *path, char *text)
{
    const struct {
        const char *key;
        char *dst;
        size_t room;
    } rows[] = {
        { "aws_access_key_id", s->access_key, sizeof(s->access_key) },
        { "aws_secret_access_key", s->secret_key, sizeof(s->secret_key) },
        { "aws_session_token", s->token, sizeof(s->token) },
    };
    bool in_default = false;
    char *next = NULL;

    for (char *line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        char *key = trim(line);
        char *value = strchr(key, '=');
        status st;

        if (*key == '[')
            in_default = strcmp(key, "[default]") == 0;
        if (!in_default || !value || *key == '#' || *key == ';')
            continue;
        *value++ = '\0';
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            if (strcmp(trim(key), rows[i].key) != 0)
                continue;
            st = copy(rows[i].dst, rows[i].room, rows[i].key, trim(value));
            if (st != OK)
                return st;
        }
    }
    if (!*s->access_key || !*s->secret_key)
        return FAIL(ERR_CORRUPT, "%s: no aws_access_key_id and aws_secret_access_key in [default]",
                    path);
    return OK;
}

static status read_credentials(struct s3 *s, const char *path)
{
    struct buf text = { 0 };
    status st = file_read(path, 64 << 10, &text);

    if (st == OK)
        st = parse_credentials(s, path, text.data ? text.data : (char[]){ "" });
    if (text.data)
        explicit_bzero(text.data, text.len);
    buf_free(&text);
    return st;
}

status s3_open(struct s3 *s, const struct s3_config *c)
{
    char aws[128];
    const char *endpoint = c->endpoint;
    status st = OK;

    memset(s, 0, sizeof(*s));
    s->path_style = c->path_style;
    TRY(copy(s->region, sizeof(s->region), "s3_region",
             is_set(c->region) ? c->region : "us-east-1"));
    if (!is_set(endpoint)) {
        snprintf(aws, sizeof(aws), "https://s3.%s.amazonaws.com", s->region);
        endpoint = aws;
    }
    TRY(url_parse(&s->endpoint, endpoint));
    if (s->endpoint.scheme != URL_HTTP && s->endpoint.scheme != URL_HTTPS)
        TRY(FAIL(ERR_BADARG, "s3_endpoint: %s; want http:// or https://", endpoint));
    if (strcmp(s->endpoint.path, "/") != 0 || *s->endpoint.query)
        TRY(FAIL(ERR_BADARG, "s3_endpoint: %s; want no path after the host", endpoint));
    s->endpoint.path[0] = '\0';
    if (is_set(c->access_key) != is_set(c->secret_key))
        TRY(FAIL(ERR_BADARG, "S3 credentials: only one of AWS_ACCESS_KEY_ID and "
                             "AWS_SECRET_ACCESS_KEY is set; give both"));
    TRY(copy(s->access_key, sizeof(s->access_key), "AWS_ACCESS_KEY_ID", c->access_key));
    TRY(copy(s->secret_key, sizeof(s->secret_key), "AWS_SECRET_ACCESS_KEY", c->secret_key));
    TRY(copy(s->token, sizeof(s->token), "AWS_SESSION_TOKEN", c->session_token));
    if (!*s->access_key && is_set(c->credentials_file))
        TRY(read_credentials(s, c->credentials_file));
out:
    if (st != OK)
        s3_close(s);
    return st;
}

void s3_close(struct s3 *s)
{
    explicit_bzero(s, sizeof(*s));
}

struct sigv4_signer s3_signer(const struct s3 *s)
{
    return (struct sigv4_signer){ s->access_key, s->secret_key, s->token, s->region, "s3" };
}

bool s3_is_bucket(const char *name)
{
    size_t len = strlen(name);

    if (len < 3 || len > 63 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != len)
        return false;
    if (strstr(name, "..") || strstr(name, ".-") || strstr(name, "-."))
        return false;
    return !strchr(".-", name[0]) && !strchr(".-", name[len - 1]);
}

status s3_address(const struct s3 *s, const char *bucket, const char *key, char *dst, size_t room)
{
    struct url u = s->endpoint;
    char escaped[URL_ROOM];
    int len;
    status st;

    CHECK(s->endpoint.scheme);
    if (!s3_is_bucket(bucket))
        return FAIL(ERR_BADARG, "%.80s: not a bucket; want 3 to 63 of a-z 0-9 . -", bucket);
    st = url_encode_path(key, escaped, sizeof(escaped));
    if (st != OK)
        return st;
    len = s->path_style ? snprintf(u.path, sizeof(u.path), "/%s/%s", bucket, escaped)
                        : snprintf(u.path, sizeof(u.path), "/%s", escaped);
    if ((size_t)len >= sizeof(u.path))
        return FAIL(ERR_BADARG, "s3://%s/%.100s: the key is too long", bucket, key);
    if (!s->path_style && (s->endpoint.host_is_ipv6 || is_ipv4(s->endpoint.host)))
        return FAIL(ERR_BADARG,
                    "s3_endpoint: %s is an address, and buckets have no host below it; "
                    "set s3_path_style: true",
                    s->endpoint.host);
    if (!s->path_style) {
        len = snprintf(u.host, sizeof(u.host), "%s.%s", bucket, s->endpoint.host);
        if ((size_t)len >= sizeof(u.host))
            return FAIL(ERR_BADARG, "s3://%s: no host BUCKET.%s; set s3_path_style: true", bucket,
                        s->endpoint.host);
    }
    return url_format(&u, dst, room);
}
