#include "common/credentials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/secret.h"
#include "common/http.h"

/* Keys are renewed this long before they expire. */
#define EARLY_MS ((int64_t)300000)
#define ANSWER_BYTES_MAX ((size_t)64 << 10)
#define ENDPOINT_TIMEOUT_MS 10000
#define FILE_BYTES_MAX ((size_t)64 << 10)

enum place { NOWHERE = 0, GIVEN, IN_FILE, AT_CONTAINER, AT_INSTANCE };

/* One set of keys. */
struct keys {
    char access[256];
    char secret[256];
    char token[4096];
    int64_t expires_ms; /* wall clock; 0: never */
};

/* All of it is in secret memory. */
struct credentials_state {
    enum place place;
    struct keys keys; /* access "" while they are to be fetched */
    char file[FILE_PATH_BYTES];
    char profile[128];
    char url[URL_ROOM];
    char token[2048];
    char token_file[FILE_PATH_BYTES];
    struct http http;
};

static bool is_set(const char *text)
{
    return text && *text;
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

static status copy_path(char *dst, const char *name, const char *text)
{
    if (!text)
        text = "";
    if (strlen(text) >= FILE_PATH_BYTES)
        return FAIL(ERR_BADARG, "%s: a path of %zu characters", name, strlen(text));
    memcpy(dst, text, strlen(text) + 1);
    return OK;
}

/* --- the file ------------------------------------------------------------------------------- */

/* The text without blanks around it, cut in place. */
static char *trim(char *text)
{
    size_t len;

    text += strspn(text, " \t\r");
    for (len = strlen(text); len && strchr(" \t\r", text[len - 1]); len--)
        text[len - 1] = '\0';
    return text;
}

/* The profile's section of an AWS credentials file, which text holds and which is changed. */
static status parse_file(struct credentials_state *s, char *text)
{
    struct keys *k = &s->keys;
    const struct {
        const char *key;
        char *dst;
        size_t room;
    } rows[] = {
        { "aws_access_key_id", k->access, sizeof(k->access) },
        { "aws_secret_access_key", k->secret, sizeof(k->secret) },
        { "aws_session_token", k->token, sizeof(k->token) },
    };
    bool is_ours = false;
    char heading[sizeof(s->profile) + 2], *next = NULL;

    snprintf(heading, sizeof(heading), "[%s]", s->profile);
    for (char *line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        char *key = trim(line);
        char *value = strchr(key, '=');
        status st;

        if (*key == '[')
            is_ours = strcmp(key, heading) == 0;
        if (!is_ours || !value || *key == '#' || *key == ';')
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
    if (!*k->access || !*k->secret)
        return FAIL(ERR_CORRUPT, "%s: no aws_access_key_id and aws_secret_access_key in %s",
                    s->file, heading);
    return OK;
}

static status read_file(struct credentials_state *s)
{
    struct buf text = { 0 };
    status st = file_read(s->file, FILE_BYTES_MAX, &text);

    if (st == OK)
        st = parse_file(s, text.data ? text.data : (char[]){ "" });
    if (text.data)
        explicit_bzero(text.data, text.capacity);
    buf_free(&text);
    return st;
}

/* --- endpoints ------------------------------------------------------------------------------ */

/* "2026-01-31T23:59:59Z" in ms; 0 when it is something else. */
static int64_t read_time(const char *text)
{
    struct tm utc = { 0 };
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);

    return end ? 1000 * (int64_t)timegm(&utc) : 0;
}

/* Keys as both endpoints answer with them. */
static status parse_answer(struct credentials_state *s, const char *text, size_t len)
{
    struct json j = { 0 };
    struct keys *k = &s->keys;
    struct json_value root;
    const char *access, *secret, *token = "", *expires = "";
    status st = OK;

    TRY(json_parse(&j, "the credentials' endpoint", text, len));
    root = json_root(&j);
    TRY(json_get_text(&root, "AccessKeyId", &access));
    TRY(json_get_text(&root, "SecretAccessKey", &secret));
    TRY(json_opt_text(&root, "Token", &token));
    TRY(json_opt_text(&root, "Expiration", &expires));
    TRY(copy(k->access, sizeof(k->access), "AccessKeyId", access));
    TRY(copy(k->secret, sizeof(k->secret), "SecretAccessKey", secret));
    TRY(copy(k->token, sizeof(k->token), "Token", token));
    if (!*access || !*secret)
        TRY(FAIL(ERR_CORRUPT, "the credentials' endpoint answered without keys"));
    k->expires_ms = read_time(expires);
    if (*expires && !k->expires_ms)
        TRY(FAIL(ERR_CORRUPT, "the credentials' endpoint answered with a strange Expiration"));
out:
    json_free(&j);
    return st;
}

/* Ask the endpoint; the answer's text goes to out. header: "Name: value" or NULL. */
static status ask(struct credentials_state *s, enum http_method method, const char *url,
                  const char *header, struct buf *out)
{
    struct http_request q = { .method = method,
                              .url = url,
                              .headers = { header },
                              .body = "",
                              .response_bytes_max = ANSWER_BYTES_MAX,
                              .timeout_ms = ENDPOINT_TIMEOUT_MS };
    struct http_response r = { 0 };
    status st = OK;

    TRY(http_do(&s->http, &q, &r));
    TRY(http_check(&q, &r));
    buf_reset(out);
    TRY(buf_append(out, r.body.data ? r.body.data : "", r.body.len));
out:
    if (r.body.data)
        explicit_bzero(r.body.data, r.body.capacity);
    http_response_free(&r);
    return st;
}

/* A header with a secret in it, one word. */
static status make_header(char *dst, size_t room, const char *name, char *value)
{
    value = trim(value);
    value[strcspn(value, "\r\n")] = '\0';
    if (!*value || (size_t)snprintf(dst, room, "%s: %s", name, value) >= room)
        return FAIL(ERR_CORRUPT, "%s: a token of %zu characters", name, strlen(value));
    return OK;
}

static status ask_container(struct credentials_state *s, struct buf *answer)
{
    struct buf token = { .max_bytes = sizeof(s->token) };
    char header[sizeof(s->token) + 32] = "";
    status st = OK;

    if (*s->token_file)
        TRY(file_read(s->token_file, sizeof(s->token) - 1, &token));
    else if (*s->token)
        TRY(buf_append_text(&token, s->token));
    if (token.len)
        TRY(make_header(header, sizeof(header), "Authorization", token.data));
    TRY(ask(s, HTTP_GET, s->url, *header ? header : NULL, answer));
out:
    if (token.data)
        explicit_bzero(token.data, token.capacity);
    explicit_bzero(header, sizeof(header));
    buf_free(&token);
    return st;
}

/* A token, the name of the role, its keys. Source: EC2 user guide, "Use the Instance Metadata
 * Service", version 2. */
static status ask_instance(struct credentials_state *s, struct buf *answer)
{
    static const char roles[] = "/latest/meta-data/iam/security-credentials/";
    char url[2 * URL_ROOM], header[1024], role[256];
    status st = OK;

    snprintf(url, sizeof(url), "%s/latest/api/token", s->url);
    TRY(ask(s, HTTP_PUT, url, "X-aws-ec2-metadata-token-ttl-seconds: 300", answer));
    TRY(make_header(header, sizeof(header), "X-aws-ec2-metadata-token", answer->data));
    snprintf(url, sizeof(url), "%s%s", s->url, roles);
    TRY(ask(s, HTTP_GET, url, header, answer));
    snprintf(role, sizeof(role), "%.*s", (int)strcspn(answer->data, "\r\n"), answer->data);
    snprintf(url, sizeof(url), "%s%s%s", s->url, roles, role);
    TRY(ask(s, HTTP_GET, url, header, answer));
out:
    explicit_bzero(header, sizeof(header));
    return st;
}

static status refresh(struct credentials_state *s)
{
    struct buf answer = { .max_bytes = ANSWER_BYTES_MAX };
    status st = OK;

    if (s->place == IN_FILE)
        return read_file(s);
    TRY(s->place == AT_CONTAINER ? ask_container(s, &answer) : ask_instance(s, &answer));
    TRY(parse_answer(s, answer.data ? answer.data : "", answer.len));
out:
    if (answer.data)
        explicit_bzero(answer.data, answer.capacity);
    buf_free(&answer);
    return st;
}

/* --- what others call ----------------------------------------------------------------------- */

static status take_given(struct credentials_state *s, const struct credentials_config *g)
{
    struct keys *k = &s->keys;
    status st = OK;

    if (is_set(g->access_key) != is_set(g->secret_key))
        TRY(FAIL(ERR_BADARG, "S3 credentials: only one of AWS_ACCESS_KEY_ID and "
                             "AWS_SECRET_ACCESS_KEY is set; give both"));
    TRY(copy(k->access, sizeof(k->access), "AWS_ACCESS_KEY_ID", g->access_key));
    TRY(copy(k->secret, sizeof(k->secret), "AWS_SECRET_ACCESS_KEY", g->secret_key));
    TRY(copy(k->token, sizeof(k->token), "AWS_SESSION_TOKEN", g->session_token));
out:
    return st;
}

static status take_places(struct credentials_state *s, const struct credentials_config *g)
{
    bool has_path = is_set(g->container_path);
    bool is_container = has_path || is_set(g->container_url);
    const char *url = is_container ? g->container_url : g->instance_url;
    char agent[URL_ROOM];
    struct url u;
    status st = OK;

    TRY(copy_path(s->file, "s3_credentials_file", g->file));
    TRY(copy_path(s->token_file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                  g->container_token_file));
    TRY(copy(s->profile, sizeof(s->profile), "AWS_PROFILE",
             is_set(g->profile) ? g->profile : "default"));
    if (has_path) {
        snprintf(agent, sizeof(agent), "http://169.254.170.2%s", g->container_path);
        url = agent;
    }
    TRY(copy(s->url, sizeof(s->url), "the address of the credentials' endpoint", url));
    if (is_set(url))
        TRY(url_parse(&u, url));
    if (strlen(g->container_token ? g->container_token : "") >= sizeof(s->token))
        TRY(FAIL(ERR_BADARG, "AWS_CONTAINER_AUTHORIZATION_TOKEN: more than %zu characters",
                 sizeof(s->token) - 1));
    snprintf(s->token, sizeof(s->token), "%s", g->container_token ? g->container_token : "");
    if (*s->keys.access)
        s->place = GIVEN;
    else if (*s->file)
        s->place = IN_FILE;
    else if (is_container)
        s->place = AT_CONTAINER;
    else if (is_set(g->instance_url))
        s->place = AT_INSTANCE;
out:
    return st;
}

status credentials_open(struct credentials *c, const struct credentials_config *config)
{
    /* The endpoints are the machine's own: link-local or loopback. */
    const struct http_config http = { .allow_private_hosts = true,
                                      .connect_timeout_ms = 2000,
                                      .tries_max = 3 };
    struct credentials_state *s = secret_alloc(sizeof(*s));
    status st = OK;

    c->state = s;
    if (!s)
        return FAIL(ERR_NOMEM, "no memory for credentials");
    TRY(take_given(s, config));
    TRY(take_places(s, config));
    if (s->place == IN_FILE)
        TRY(read_file(s));
    if (s->place == AT_CONTAINER || s->place == AT_INSTANCE)
        TRY(http_open(&s->http, &http));
    return OK;
out:
    credentials_close(c);
    return st;
}

void credentials_close(struct credentials *c)
{
    if (!c->state)
        return;
    http_close(&c->state->http);
    secret_free(c->state, sizeof(*c->state));
    c->state = NULL;
}

bool credentials_are_known(const struct credentials *c)
{
    return c->state && c->state->place != NOWHERE;
}

status credentials_get(struct credentials *c, struct sigv4_signer *who)
{
    struct credentials_state *s = c->state;
    bool is_missing, is_old;
    status st = OK;

    CHECK(s);
    is_missing = s->place > GIVEN && !*s->keys.access;
    is_old = s->keys.expires_ms && clock_wall_ms() > s->keys.expires_ms - EARLY_MS;
    if (is_missing || is_old)
        st = refresh(s);
    /* While the old ones live, a failure to renew them is not yet one. */
    if (st != OK && is_old && !is_missing && clock_wall_ms() < s->keys.expires_ms) {
        status_clear();
        st = OK;
    }
    who->access_key = s->keys.access;
    who->secret_key = s->keys.secret;
    who->session_token = s->keys.token;
    return st;
}

bool credentials_expire(struct credentials *c)
{
    struct credentials_state *s = c->state;

    if (s->place <= GIVEN)
        return false;
    explicit_bzero(&s->keys, sizeof(s->keys));
    return true;
}
