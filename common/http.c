/* One multi handle per client, which keeps connections and names, and a slot with an easy handle
 * for each request under way. A request is a sequence of tries, a try a sequence of redirects,
 * which are followed here and not by libcurl, so that each target is parsed by url.c and checked
 * like the first. http_wait is the only loop: it begins the tries whose time has come, lets libcurl
 * work, and settles what has ended.
 *
 * The guard sits in the function that makes the socket: there the address is known that will
 * really be connected to, so neither a second answer of the name server nor an odd spelling gets
 * past it. */
#include "common/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/random.h"
#include "common/base/secret.h"
#include "common/url.h"

#define TIMEOUT_MS_DEFAULT 60000
#define SHOWN_ROOM 160
#define WHY_ROOM 200
#define STALL_BYTES_PER_S 1024
/* Of an error's body, what is kept for its sentence, and what is read before we hang up. */
#define ERROR_KEPT_BYTES ((size_t)4 << 10)
#define ERROR_READ_BYTES ((size_t)64 << 10)
/* A server that answers 403 while its clock is this far from ours says so about the clock: AWS
 * allows 15 minutes, Swift 5. */
#define SKEW_MIN_MS ((int64_t)240000)

/* Looks at cancel flags are this far apart at most. */
#define LOOK_MS 50
/* Smaller bodies are sent without asking first whether they are welcome. */
#define EXPECT_MIN_BYTES ((uint64_t)16 << 20)
/* What a retry takes from the budget; a good answer gives 1 back. */
#define RETRY_COST 10
#define KEPT_BYTES ((size_t)4 << 10)

/* Where a request is. */
enum phase { FREE = 0, PAUSED, RUNNING, ENDED };

/* One request, as libcurl's callbacks see it. */
struct exchange {
    struct http_state *h;
    CURL *curl;
    enum phase phase;
    struct http_call *call;
    const struct http_request *q; /* of call */
    struct http_response *r;      /* of call */
    struct curl_slist *headers;   /* of the transfer */
    char url[URL_ROOM];           /* of the transfer */
    int hops;                     /* redirects of this try */
    uint64_t sent_bytes;
    int64_t deadline_ms;
    int64_t resume_ms;    /* when PAUSED ends */
    bool is_refused;      /* the guard said no */
    bool is_port_refused; /* because of the port */
    bool is_too_large;    /* the answer is over response_bytes_max */
    bool has_hung_up;     /* enough of an error's body was read */
    status local;         /* a failure of our own: disk, memory; its sentence is in why */
    char why[WHY_ROOM];   /* what went wrong, for the sentence */
    bool may_retry;
    int64_t retry_after_ms;
    int64_t date_ms;       /* the answer's Date; 0: none */
    bool is_clock_correct; /* it was corrected in this call already */
    struct sigv4_signed proof;
};

struct http_state {
    CURLM *multi;
    struct exchange *slots[HTTP_FLIGHT_MAX]; /* made when first needed */
    struct sigv4_cache *signing;             /* in secret memory */
    int64_t skew_ms;           /* of the servers' clock, ahead of ours; of signed requests */
    int budget;                /* retries left, times RETRY_COST */
    struct http_config config; /* defaults filled in; ca_file points to ca_file below */
    char ca_file[FILE_PATH_BYTES];
};

/* --- libcurl's callbacks -------------------------------------------------------------------- */

static curl_socket_t on_socket(void *self, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct exchange *x = self;

    (void)purpose;
    if (!x->h->config.allow_private_hosts) {
        bool is_public = http_address_is_public(&a->addr, a->addrlen);
        bool is_web = http_port_is_webs(&a->addr, a->addrlen);

        x->is_refused |= !is_public;
        x->is_port_refused |= !is_web;
        if (!is_public || !is_web)
            return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static long code_of(const struct exchange *x)
{
    long code = 0;

    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

/* Keep the sentence of a failure of our own before another request's comes. */
static status keep_local(struct exchange *x, status st)
{
    x->local = st;
    if (st != OK)
        snprintf(x->why, WHY_ROOM, "%s", status_message());
    return st;
}

static status write_fd(int fd, const char *bytes, size_t len, uint64_t offset)
{
    while (len) {
        ssize_t put = pwrite(fd, bytes, len, (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return file_errno(put ? errno : EIO, "the file being downloaded");
        bytes += put;
        offset += (uint64_t)put;
        len -= (size_t)put;
    }
    return OK;
}

/* The body of an error or of a PUT's answer: a beginning for the sentence, and an end to
 * patience. */
static size_t on_small_body(struct exchange *x, const char *bytes, size_t len)
{
    struct buf *b = &x->r->body;
    size_t kept = b->len < ERROR_KEPT_BYTES ? ERROR_KEPT_BYTES - b->len : 0;

    keep_local(x, buf_append(b, bytes, kept < len ? kept : len));
    x->r->body_bytes += len;
    x->has_hung_up = x->r->body_bytes > ERROR_READ_BYTES;
    return x->local == OK && !x->has_hung_up ? len : 0;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *self)
{
    struct exchange *x = self;
    size_t len = size * count;
    uint64_t at = x->r->body_bytes;

    if (code_of(x) / 100 != 2 || x->q->method != HTTP_GET)
        return on_small_body(x, bytes, len);
    x->is_too_large = len > x->q->response_bytes_max || at > x->q->response_bytes_max - len;
    if (x->is_too_large)
        return 0;
    if (x->q->response_fd > 0)
        keep_local(x, write_fd(x->q->response_fd, bytes, len, at));
    else
        keep_local(x, buf_append(&x->r->body, bytes, len));
    x->r->body_bytes += len;
    return x->local == OK ? len : 0;
}

/* The value of a header line called name, which ends with ":"; NULL when it is another. */
static const char *value_of(const char *line, size_t len, const char *name, size_t *value_len)
{
    size_t name_len = strlen(name);

    if (len < name_len || strncasecmp(line, name, name_len) != 0)
        return NULL;
    line += name_len;
    len -= name_len;
    for (; len && strchr(" \t", *line); len--)
        line++;
    for (; len && strchr(" \t\r\n", line[len - 1]); len--)
        continue;
    *value_len = len;
    return line;
}

/* Keep a header that was asked for. */
static void keep_header(struct exchange *x, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    size_t name_len = colon ? (size_t)(colon - line) : 0, value_len;
    struct buf *b = &x->r->kept;
    char name[128];
    const char *value;

    if (name_len == 0 || name_len + 2 > sizeof(name) || b->len + len + 2 > KEPT_BYTES)
        return;
    for (size_t i = 0; i < name_len; i++)
        name[i] = line[i] >= 'A' && line[i] <= 'Z' ? (char)(line[i] - 'A' + 'a') : line[i];
    memcpy(name + name_len, ":", 2);
    value = value_of(line, len, name, &value_len);
    keep_local(x, buf_printf(b, "%s %.*s\n", name, (int)value_len, value));
}

static size_t on_header(char *line, size_t size, size_t count, void *self)
{
    struct exchange *x = self;
    size_t len = size * count, value_len, used = 0;
    const char *prefix = x->q->keep_headers;
    const char *value = value_of(line, len, "ETag:", &value_len);
    char text[64];

    if (value) {
        for (size_t i = 0; i < value_len && used + 1 < sizeof(x->r->etag); i++) {
            if (value[i] != '"')
                x->r->etag[used++] = value[i];
        }
        x->r->etag[used] = '\0';
    }
    value = value_of(line, len, "Date:", &value_len);
    if (value && value_len < sizeof(text)) {
        time_t seconds;

        snprintf(text, sizeof(text), "%.*s", (int)value_len, value);
        seconds = curl_getdate(text, NULL);
        x->date_ms = seconds > 0 ? 1000 * (int64_t)seconds : 0;
    }
    if (prefix && len > strlen(prefix) && strncasecmp(line, prefix, strlen(prefix)) == 0)
        keep_header(x, line, len);
    return x->local == OK ? len : 0;
}

static size_t on_send(char *dst, size_t size, size_t count, void *self)
{
    struct exchange *x = self;
    uint64_t left = x->q->body_bytes - x->sent_bytes;
    size_t len = size * count < left ? size * count : (size_t)left;
    ssize_t got = (ssize_t)len;

    if (x->q->body)
        memcpy(dst, (const char *)x->q->body + x->sent_bytes, len);
    else if (len)
        got = pread(x->q->body_fd, dst, len, (off_t)(x->q->body_offset + x->sent_bytes));
    if (got < 0 || (len && got == 0)) {
        keep_local(x, got < 0 ? file_errno(errno, "the file being uploaded")
                              : FAIL(ERR_IO, "the file being uploaded is shorter than it was"));
        return CURL_READFUNC_ABORT;
    }
    x->sent_bytes += (uint64_t)got;
    return (size_t)got;
}

static int on_seek(void *self, curl_off_t offset, int origin)
{
    struct exchange *x = self;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->q->body_bytes)
        return CURL_SEEKFUNC_FAIL;
    x->sent_bytes = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* self: a struct exchange. */
static bool is_cancelled(void *self)
{
    const struct exchange *x = self;

    return x->q->cancel && atomic_load(x->q->cancel);
}

/* Is the time over that somebody else sets? */
static bool is_late(const struct exchange *x)
{
    int64_t until_ms = x->q->until_ms ? atomic_load(x->q->until_ms) : 0;

    return until_ms && clock_mono_ms() >= until_ms;
}

static bool must_stop(struct exchange *x)
{
    return is_cancelled(x) || is_late(x);
}

static int on_progress(void *self, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return must_stop(self);
}

/* --- a client ------------------------------------------------------------------------------- */

static void init_once(void)
{
    CHECK(curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK);
}

static int or_default(int value, int otherwise)
{
    return value ? value : otherwise;
}

status http_open(struct http *h, const struct http_config *c)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *ca_file = c->ca_file ? c->ca_file : "";
    struct http_state *s;

    h->state = NULL;
    if (strlen(ca_file) >= sizeof(s->ca_file))
        return FAIL(ERR_BADARG, "ca_file: a path of %zu bytes", strlen(ca_file));
    if (*ca_file && access(ca_file, R_OK) != 0)
        return FAIL(ERR_BADARG, "ca_file: %s cannot be read; give a file of PEM certificates",
                    ca_file);
    pthread_once(&once, init_once);
    s = calloc(1, sizeof(*s));
    if (s) {
        s->multi = curl_multi_init();
        s->signing = secret_alloc(sizeof(*s->signing));
    }
    if (!s || !s->multi || !s->signing) {
        http_close(&(struct http){ s });
        return FAIL(ERR_NOMEM, "no memory for an HTTP client");
    }
    memcpy(s->ca_file, ca_file, strlen(ca_file) + 1);
    s->config = *c;
    s->config.ca_file = s->ca_file;
    s->config.connect_timeout_ms = or_default(c->connect_timeout_ms, 10000);
    s->config.stall_timeout_ms = or_default(c->stall_timeout_ms, 20000);
    s->config.tries_max = or_default(c->tries_max, 5);
    s->config.backoff_ms = or_default(c->backoff_ms, 250);
    s->config.backoff_max_ms = or_default(c->backoff_max_ms, 10000);
    s->config.retries_max = or_default(c->retries_max, 100);
    s->budget = RETRY_COST * s->config.retries_max;
    h->state = s;
    return OK;
}

/* Take a transfer away from libcurl. */
static void detach(struct exchange *x)
{
    if (x->phase == RUNNING)
        curl_multi_remove_handle(x->h->multi, x->curl);
    curl_slist_free_all(x->headers);
    x->headers = NULL;
}

void http_close(struct http *h)
{
    struct http_state *s = h->state;

    if (!s)
        return;
    for (int i = 0; i < HTTP_FLIGHT_MAX && s->slots[i]; i++) {
        detach(s->slots[i]);
        curl_easy_cleanup(s->slots[i]->curl);
        free(s->slots[i]);
    }
    curl_multi_cleanup(s->multi);
    secret_free(s->signing, sizeof(*s->signing));
    free(s);
    h->state = NULL;
}

void http_response_free(struct http_response *r)
{
    buf_free(&r->body);
    buf_free(&r->kept);
}

/* --- one try -------------------------------------------------------------------------------- */

/* Options that are the same for every request of this client. */
static CURLcode set_policy(struct exchange *x)
{
    CURL *curl = x->curl;
    const struct http_config *c = &x->h->config;
    int64_t left_ms = x->deadline_ms - clock_mono_ms();
    const char *protocols = c->https_only ? "https" : "http,https";
    CURLcode code;

    curl_easy_reset(curl);
    code = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, protocols);
    /* CAREFUL: through a proxy the guard would see only the proxy's address; "" also switches the
     * proxies of the environment off. */
    code |= curl_easy_setopt(curl, CURLOPT_PROXY, "");
    code |= curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    code |= curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    code |= curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    code |= curl_easy_setopt(curl, CURLOPT_USERAGENT, "onestep/" ONESTEP_VERSION);
    code |= curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)c->connect_timeout_ms);
    code |= curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(left_ms > 1 ? left_ms : 1));
    code |= curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_S);
    code |=
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)(c->stall_timeout_ms + 999) / 1000);
    if (*c->ca_file)
        code |= curl_easy_setopt(curl, CURLOPT_CAINFO, c->ca_file);
    code |= curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    code |= curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, x);
    code |= curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    code |= curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    code |= curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
    return code;
}

/* Options of this request. */
static CURLcode set_request(struct exchange *x, const char *url)
{
    CURL *curl = x->curl;
    const struct http_request *q = x->q;
    CURLcode code = curl_easy_setopt(curl, CURLOPT_URL, url);

    code |= curl_easy_setopt(curl, CURLOPT_HTTPHEADER, x->headers);
    code |= curl_easy_setopt(curl, CURLOPT_PRIVATE, x);
    code |= curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    code |= curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    code |= curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    code |= curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    if (q->method == HTTP_HEAD)
        code |= curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (q->method == HTTP_GET) {
        size_t max =
            q->response_bytes_max > ERROR_READ_BYTES ? q->response_bytes_max : ERROR_READ_BYTES;

        code |= curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)max);
    }
    if (q->method == HTTP_DELETE)
        code |= curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "DELETE");
    if (q->method == HTTP_PUT || q->method == HTTP_POST) {
        code |= curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        if (q->method == HTTP_POST)
            code |= curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "POST");
        code |= curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_bytes);
        code |= curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_send);
        code |= curl_easy_setopt(curl, CURLOPT_READDATA, x);
        code |= curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
        code |= curl_easy_setopt(curl, CURLOPT_SEEKDATA, x);
        code |= curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
    }
    return code;
}

/* CAREFUL: to libcurl "Name:" means to leave that header out, and "Name;" to send it empty. */
static bool add_header(struct curl_slist **list, const char *line)
{
    size_t name_len = strcspn(line, ":");
    const char *value = line[name_len] ? line + name_len + 1 : "";
    char empty[128];
    struct curl_slist *longer;

    if (!value[strspn(value, " \t")]) {
        snprintf(empty, sizeof(empty), "%.*s;", (int)name_len, line);
        line = empty;
    }
    longer = curl_slist_append(*list, line);
    if (longer)
        *list = longer;
    return longer != NULL;
}

static bool add_header_value(struct curl_slist **list, const char *name, const char *value)
{
    char line[4200];

    snprintf(line, sizeof(line), "%s: %s", name, value);
    return add_header(list, line);
}

static bool make_headers(struct exchange *x)
{
    const struct http_request *q = x->q;
    struct curl_slist **list = &x->headers;
    bool is_ok = true;

    if (q->body_bytes < EXPECT_MIN_BYTES)
        is_ok = (*list = curl_slist_append(NULL, "Expect:")) != NULL;
    for (int i = 0; i < HTTP_HEADERS_MAX && q->headers[i]; i++)
        is_ok = is_ok && add_header(list, q->headers[i]);
    if (!q->sign)
        return is_ok;
    is_ok = is_ok && add_header_value(list, "X-Amz-Date", x->proof.date) &&
            add_header_value(list, "X-Amz-Content-Sha256", x->proof.payload) &&
            add_header_value(list, "Authorization", x->proof.authorization);
    if (q->sign->session_token && *q->sign->session_token)
        is_ok = is_ok && add_header_value(list, "X-Amz-Security-Token", q->sign->session_token);
    return is_ok;
}

/* Sign the request for url as it is sent now. */
static status make_proof(struct exchange *x, const char *url)
{
    const struct http_request *q = x->q;
    const char *headers[HTTP_HEADERS_MAX + 1] = { NULL };
    struct url u;
    const struct sigv4_request signed_part = {
        .method = http_method_name(q->method),
        .url = &u,
        .headers = headers,
        .payload = q->body_sha256_hex,
        .wall_ms = clock_wall_ms() + x->h->skew_ms,
    };
    status st = url_parse(&u, url);

    memcpy(headers, q->headers, sizeof(q->headers));
    return st == OK ? sigv4_sign(x->h->signing, q->sign, &signed_part, &x->proof) : st;
}

/* What a failed transfer means; the reason goes to x->why. */
static status judge_transfer(struct exchange *x, CURLcode code)
{
    x->may_retry = false;
    if (x->local != OK)
        return x->local;
    if (x->is_too_large || code == CURLE_FILESIZE_EXCEEDED) {
        snprintf(x->why, WHY_ROOM, "more than %zu bytes, the limit", x->q->response_bytes_max);
        return ERR_BADARG;
    }
    if (x->is_port_refused && !x->is_refused) {
        snprintf(x->why, WHY_ROOM,
                 "its port is none of 80, 443, 8080, 8443; allow_private_hosts: true would permit "
                 "it");
        return ERR_BADARG;
    }
    if (x->is_refused) {
        snprintf(x->why, WHY_ROOM,
                 "the host's address is not public (loopback, private, ...); "
                 "allow_private_hosts: true would permit it");
        return ERR_BADARG;
    }
    switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
        snprintf(x->why, WHY_ROOM, "%s", is_cancelled(x) ? "cancelled" : "its time is over");
        return is_cancelled(x) ? ERR_CANCELLED : ERR_TIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        snprintf(x->why, WHY_ROOM, "no memory");
        return ERR_NOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        snprintf(x->why, WHY_ROOM,
                 "its certificate cannot be trusted; check the host, or give its "
                 "authority as ca_file");
        return ERR_BADARG;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        snprintf(x->why, WHY_ROOM, "%s", curl_easy_strerror(code));
        return ERR_BADARG;
    case CURLE_OPERATION_TIMEDOUT:
        snprintf(x->why, WHY_ROOM, "no answer in time");
        x->may_retry = true;
        return ERR_TIMEOUT;
    default:
        snprintf(x->why, WHY_ROOM, "%s", curl_easy_strerror(code));
        x->may_retry = true;
        return ERR_UNAVAILABLE;
    }
}

/* Is the answer one that another try may change? Source: RFC 9110; the codes of S3's SlowDown and
 * InternalError. */
static bool is_passing(int code)
{
    return code == 408 || code == 429 || code == 500 || code == 502 || code == 503 || code == 504;
}

static void settle(struct exchange *x, status st);

/* Begin one request to x->url. */
static void begin_transfer(struct exchange *x)
{
    const char *url = x->url;
    CURLcode code = CURLE_OUT_OF_MEMORY;

    buf_reset(&x->r->body);
    buf_reset(&x->r->kept);
    x->r->body.max_bytes =
        x->q->response_bytes_max > ERROR_READ_BYTES ? x->q->response_bytes_max : ERROR_READ_BYTES;
    x->r->body_bytes = x->sent_bytes = 0;
    x->r->code = 0;
    x->r->etag[0] = '\0';
    x->is_refused = x->is_port_refused = false;
    x->is_too_large = x->has_hung_up = x->may_retry = false;
    x->retry_after_ms = x->date_ms = 0;
    if (x->q->sign) {
        if (keep_local(x, make_proof(x, url)) != OK) {
            settle(x, x->local);
            return;
        }
        url = x->proof.url;
    }
    if (make_headers(x))
        code = set_policy(x);
    if (code == CURLE_OK)
        code = set_request(x, url);
    if (code == CURLE_OK && curl_multi_add_handle(x->h->multi, x->curl) != CURLM_OK)
        code = CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK) {
        x->phase = RUNNING;
        return;
    }
    detach(x);
    settle(x, judge_transfer(x, code));
}

/* A transfer has ended. */
static void end_transfer(struct exchange *x, CURLcode code)
{
    curl_off_t value = 0;
    status st = OK;

    x->r->code = (int)code_of(x);
    if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && x->has_hung_up))
        st = judge_transfer(x, code);
    if (st == OK && x->q->method == HTTP_HEAD &&
        curl_easy_getinfo(x->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &value) == CURLE_OK)
        x->r->body_bytes = value > 0 ? (uint64_t)value : 0;
    if (curl_easy_getinfo(x->curl, CURLINFO_RETRY_AFTER, &value) == CURLE_OK && value > 0)
        x->retry_after_ms = value < 3600 ? 1000 * (int64_t)value : 3600000;
    detach(x);
    settle(x, st);
}

/* May a GET that was sent to from go on to the address to? */
static status check_redirect(struct exchange *x, const struct url *from, const char *to)
{
    struct url u;
    char shown[SHOWN_ROOM];

    x->may_retry = false;
    if (!to || url_parse(&u, to) != OK || (u.scheme != URL_HTTP && u.scheme != URL_HTTPS)) {
        snprintf(x->why, WHY_ROOM, "it redirects to something that is not an http(s) URL");
        return ERR_BADARG;
    }
    if (u.scheme == URL_HTTP && (from->scheme == URL_HTTPS || x->h->config.https_only)) {
        snprintf(x->why, WHY_ROOM, "it redirects from https to http (%s)",
                 url_for_people(to, shown, 100));
        return ERR_BADARG;
    }
    return OK;
}

static bool is_redirected(const struct exchange *x)
{
    int code = x->r->code;

    return x->q->follow_redirects && code >= 301 && code <= 308 && (code <= 303 || code >= 307);
}

/* Go where the answer points. Errors: ERR_BADARG when that is not allowed. */
static status follow(struct exchange *x)
{
    struct url u;
    char *to = NULL;
    status st;

    if (x->hops++ == HTTP_REDIRECTS_MAX) {
        snprintf(x->why, WHY_ROOM, "more than %d redirects", HTTP_REDIRECTS_MAX);
        return ERR_BADARG;
    }
    curl_easy_getinfo(x->curl, CURLINFO_REDIRECT_URL, &to);
    st = url_parse(&u, x->url);
    if (st == OK)
        st = check_redirect(x, &u, to);
    if (st != OK)
        return st;
    snprintf(x->url, sizeof(x->url), "%s", to);
    begin_transfer(x);
    return OK;
}

/* Was a signed request refused because our clock is wrong? Then that is corrected. */
static bool correct_clock(struct exchange *x)
{
    int64_t skew_ms = x->date_ms - clock_wall_ms();

    if (!x->q->sign || x->r->code != 403 || !x->date_ms || x->is_clock_correct ||
        llabs(skew_ms - x->h->skew_ms) < SKEW_MIN_MS)
        return false;
    x->h->skew_ms = skew_ms;
    x->is_clock_correct = true;
    return true;
}

/* --- tries ---------------------------------------------------------------------------------- */

/* Full jitter: uniform between 0 and a bound that doubles with each try. */
static int64_t backoff_ms(const struct http_config *c, int tries)
{
    int64_t bound_ms = c->backoff_ms;
    uint32_t dice = 0;

    for (int i = 1; i < tries && bound_ms < c->backoff_max_ms; i++)
        bound_ms *= 2;
    if (bound_ms > c->backoff_max_ms)
        bound_ms = c->backoff_max_ms;
    if (random_bytes(&dice, sizeof(dice)) != OK)
        return bound_ms;
    return dice % (bound_ms + 1);
}

static void begin_try(struct exchange *x)
{
    x->r->tries++;
    x->hops = 0;
    x->local = OK;
    snprintf(x->url, sizeof(x->url), "%s", x->q->url);
    if (must_stop(x))
        settle(x, judge_transfer(x, CURLE_ABORTED_BY_CALLBACK));
    else
        begin_transfer(x);
}

static void finish(struct exchange *x, status st)
{
    struct http_call *c = x->call;
    char shown[SHOWN_ROOM];

    x->phase = ENDED;
    c->st = st;
    if (st == OK && x->r->code / 100 == 2 && x->h->budget < RETRY_COST * x->h->config.retries_max)
        x->h->budget++;
    if (st != OK && x->local != OK)
        snprintf(c->sentence, sizeof(c->sentence), "%s", x->why);
    else if (st != OK)
        snprintf(c->sentence, sizeof(c->sentence), "%s: %s (%d %s)",
                 url_for_people(x->q->url, shown, sizeof(shown)), x->why, x->r->tries,
                 x->r->tries == 1 ? "try" : "tries");
}

/* Is there another try? Then its time is set. */
static bool pause_for_retry(struct exchange *x)
{
    struct http_state *h = x->h;
    int64_t now_ms = clock_mono_ms();
    int64_t pause_ms;

    if (!x->may_retry || x->r->tries >= h->config.tries_max)
        return false;
    pause_ms = x->retry_after_ms ? x->retry_after_ms : backoff_ms(&h->config, x->r->tries);
    if (now_ms + pause_ms >= x->deadline_ms)
        return false;
    if (h->budget < RETRY_COST) {
        size_t len = strlen(x->why);

        snprintf(x->why + len, WHY_ROOM - len, "; too many failures lately to try again");
        return false;
    }
    h->budget -= RETRY_COST;
    x->resume_ms = now_ms + pause_ms;
    x->phase = PAUSED;
    return true;
}

/* What comes after a transfer that ended with st: a redirect, another try, the end. */
static void settle(struct exchange *x, status st)
{
    if (st == OK && is_redirected(x)) {
        st = follow(x);
        if (st == OK)
            return;
    }
    if (st == OK && correct_clock(x)) {
        begin_transfer(x);
        return;
    }
    if (st == OK && is_passing(x->r->code)) {
        snprintf(x->why, WHY_ROOM, "answered %d", x->r->code);
        x->may_retry = true;
        st = ERR_UNAVAILABLE;
    }
    if (st == OK || !pause_for_retry(x))
        finish(x, st);
}

/* --- the loop ------------------------------------------------------------------------------- */

static status check_request(const struct http_state *s, const struct http_request *q)
{
    struct url u;
    status st = url_parse(&u, q->url);
    char shown[SHOWN_ROOM];

    CHECK(q->method != HTTP_NONE);
    if (st != OK)
        return st;
    if (u.scheme != URL_HTTPS && (u.scheme != URL_HTTP || s->config.https_only))
        return FAIL(ERR_BADARG, "%s: want %s", url_for_people(q->url, shown, sizeof(shown)),
                    s->config.https_only ? "https://" : "http:// or https://");
    return OK;
}

/* A free slot. Errors: ERR_NOMEM. */
static status take_slot(struct http_state *s, struct exchange **x)
{
    int i = 0;

    while (i < HTTP_FLIGHT_MAX && s->slots[i] && s->slots[i]->phase != FREE)
        i++;
    CHECK(i < HTTP_FLIGHT_MAX);
    if (!s->slots[i]) {
        struct exchange *made = calloc(1, sizeof(*made));

        if (made)
            made->curl = curl_easy_init();
        if (!made || !made->curl) {
            free(made);
            return FAIL(ERR_NOMEM, "no memory for an HTTP request");
        }
        made->h = s;
        s->slots[i] = made;
    }
    *x = s->slots[i];
    return OK;
}

status http_start(struct http *h, struct http_call *c)
{
    struct exchange *x = NULL;
    status st = take_slot(h->state, &x);

    if (st != OK)
        return st;
    x->call = c;
    x->q = &c->q;
    x->r = &c->r;
    x->r->tries = 0;
    x->is_clock_correct = false;
    x->local = OK;
    x->may_retry = false;
    x->deadline_ms = clock_mono_ms() + or_default(c->q.timeout_ms, TIMEOUT_MS_DEFAULT);
    st = keep_local(x, check_request(h->state, &c->q));
    if (st != OK) {
        finish(x, st);
        return OK;
    }
    x->phase = PAUSED;
    x->resume_ms = 0;
    return OK;
}

/* Begin tries whose time has come, end what is cancelled. How long until the next look? */
static int64_t look(struct http_state *s)
{
    int64_t now_ms = clock_mono_ms(), wait_ms = 1000;

    for (int i = 0; i < HTTP_FLIGHT_MAX && s->slots[i]; i++) {
        struct exchange *x = s->slots[i];

        if (x->phase == RUNNING && must_stop(x)) {
            detach(x);
            settle(x, judge_transfer(x, CURLE_ABORTED_BY_CALLBACK));
        } else if (x->phase == PAUSED && (x->resume_ms <= now_ms || must_stop(x))) {
            begin_try(x);
        }
        if (x->phase == PAUSED && x->resume_ms - now_ms < wait_ms)
            wait_ms = x->resume_ms > now_ms ? x->resume_ms - now_ms : 0;
        if ((x->phase == PAUSED || x->phase == RUNNING) && (x->q->cancel || x->q->until_ms) &&
            wait_ms > LOOK_MS)
            wait_ms = LOOK_MS;
    }
    return wait_ms;
}

/* Let libcurl work, and settle what it has ended. */
static void work(struct http_state *s)
{
    CURLMsg *m;
    int count;

    CHECK(curl_multi_perform(s->multi, &count) == CURLM_OK);
    while ((m = curl_multi_info_read(s->multi, &count))) {
        char *self = NULL;
        CURLcode code = m->data.result;

        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &self);
        end_transfer((struct exchange *)(void *)self, code);
    }
}

/* One that has ended, or NULL; *busy: is any under way? */
static struct exchange *ended(struct http_state *s, bool *busy)
{
    struct exchange *found = NULL;

    *busy = false;
    for (int i = 0; i < HTTP_FLIGHT_MAX && s->slots[i]; i++) {
        if (s->slots[i]->phase == ENDED)
            found = s->slots[i];
        *busy = *busy || s->slots[i]->phase != FREE;
    }
    return found;
}

struct http_call *http_wait(struct http *h)
{
    struct http_state *s = h->state;
    bool busy = true;

    for (;;) {
        int64_t wait_ms = look(s);
        struct exchange *x;

        work(s);
        x = ended(s, &busy);
        if (x) {
            x->phase = FREE;
            return x->call;
        }
        if (!busy)
            return NULL;
        CHECK(curl_multi_poll(s->multi, NULL, 0, (int)wait_ms, NULL) == CURLM_OK);
    }
}

status http_do(struct http *h, const struct http_request *q, struct http_response *r)
{
    struct http_call c = { .q = *q, .r = *r };
    struct http_call *back;
    status st = http_start(h, &c);

    if (st != OK)
        return st;
    back = http_wait(h);
    CHECK(back == &c);
    *r = c.r;
    return c.st == OK ? OK : FAIL(c.st, "%s", c.sentence);
}

const char *http_library(void)
{
    return curl_version();
}
