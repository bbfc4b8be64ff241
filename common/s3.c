#include "common/s3.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/config.h"

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

void s3_config_from_env(struct s3_config *c)
{
    struct credentials_config *g = &c->credentials;

    g->access_key = config_env("AWS_ACCESS_KEY_ID");
    g->secret_key = config_env("AWS_SECRET_ACCESS_KEY");
    g->session_token = config_env("AWS_SESSION_TOKEN");
    g->profile = config_env("AWS_PROFILE");
    if (!is_set(g->file))
        g->file = config_env("AWS_SHARED_CREDENTIALS_FILE");
    g->container_path = config_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    g->container_url = config_env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    g->container_token = config_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    g->container_token_file = config_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    g->instance_url = config_env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
}

void s3_wipe_env(void)
{
    config_env_wipe("AWS_SECRET_ACCESS_KEY");
    config_env_wipe("AWS_SESSION_TOKEN");
    config_env_wipe("AWS_CONTAINER_AUTHORIZATION_TOKEN");
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
    TRY(credentials_open(&s->credentials, &c->credentials));
out:
    if (st != OK)
        s3_close(s);
    return st;
}

void s3_close(struct s3 *s)
{
    credentials_close(&s->credentials);
}

status s3_signer(struct s3 *s, struct sigv4_signer *who)
{
    *who = (struct sigv4_signer){ .region = s->region, .service = "s3" };
    return credentials_get(&s->credentials, who);
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
