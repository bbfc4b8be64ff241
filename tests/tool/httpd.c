/* One thread accepts, one thread serves each connection; one lock guards the objects and the fault.
 * Stopping shuts every socket down, so that threads that wait in recv or stall wake up and end. */
#include "tests/tool/httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/digest.h"
#include "common/url.h"
#include "tests/tool/test.h"

#define OBJECTS_MAX 8192
#define PARTS_MAX 256
#define CONNECTIONS_MAX 256
#define HEAD_BYTES 16384
#define PATH_ROOM 2048

struct object {
    char path[PATH_ROOM];
    char redirect[PATH_ROOM]; /* when not "": where to */
    char meta[512];           /* its x-amz-meta- lines */
    char etag[64];            /* of one that was put together; "": the MD5 of bytes */
    struct buf bytes;
    int puts; /* PUTs of it that were answered by 200 */
};

struct httpd_state {
    struct httpd_config config;
    int listener;
    pthread_t acceptor;
    pthread_mutex_t lock;
    struct object *objects; /* OBJECTS_MAX of them; what is not used takes no memory */
    int object_count;
    struct httpd_fault fault;
    char fault_header[PATH_ROOM];
    int faults_left; /* -1: without end */
    int request_count;
    char last_head[HEAD_BYTES];
    int upload_count; /* ids given out */
    int stop_pipe[2]; /* readable once the server stops */
    int fds[CONNECTIONS_MAX];
    pthread_t threads[CONNECTIONS_MAX];
    int connection_count;
};

/* One connection with what was read of it. */
struct connection {
    struct httpd_state *s;
    int fd;
    char head[HEAD_BYTES]; /* of the request, NUL-ended */
    struct buf body;
    char spare[HEAD_BYTES]; /* bytes read beyond the request */
    size_t spare_len;
    char method[16], target[PATH_ROOM];
    char etag[DIGEST_MD5_HEX_ROOM]; /* of the answer */
    struct buf answer;              /* XML */
};

struct answer {
    int code;
    const char *header; /* "Name: value" or NULL */
    const char *body;   /* may hold NULs */
    size_t body_len;
    const char *meta; /* more header lines, or NULL */
    const char *etag; /* or NULL */
    bool is_head;
    enum httpd_fault_kind fault;
};

static void must(bool condition, const char *what)
{
    if (!condition)
        test_fail(__FILE__, __LINE__, "httpd: %s: %s", what, strerror(errno));
}

/* --- objects -------------------------------------------------------------------------------- */

static struct object *find(struct httpd_state *s, const char *path)
{
    for (int i = 0; i < s->object_count; i++) {
        if (strcmp(s->objects[i].path, path) == 0)
            return &s->objects[i];
    }
    return NULL;
}

static struct object *find_or_add(struct httpd_state *s, const char *path)
{
    struct object *o = find(s, path);

    if (o)
        return o;
    must(s->object_count < OBJECTS_MAX && strlen(path) < PATH_ROOM, "too many objects");
    o = &s->objects[s->object_count++];
    *o = (struct object){ .bytes = { .max_bytes = (size_t)256 << 20 } };
    snprintf(o->path, sizeof(o->path), "%s", path);
    return o;
}

static void store(struct httpd_state *s, const char *path, const void *bytes, size_t len)
{
    struct object *o = find_or_add(s, path);

    buf_reset(&o->bytes);
    o->etag[0] = '\0';
    must(buf_append(&o->bytes, bytes, len) == OK, "no memory");
}

/* --- bytes in and out ----------------------------------------------------------------------- */

static bool send_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        len -= (size_t)put;
    }
    return true;
}

static bool send_text(int fd, const char *text)
{
    return send_all(fd, text, strlen(text));
}

/* Close so that the other side sees a reset. */
static void reset_connection(int fd)
{
    struct linger now = { 1, 0 };

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void wait_for_stop(const struct connection *c)
{
    struct pollfd p[2] = { { c->s->stop_pipe[0], POLLIN, 0 }, { c->fd, POLLRDHUP, 0 } };

    while (poll(p, 2, -1) < 0 && errno == EINTR)
        continue;
}

/* The value of a header of the request; "" when it is not there. */
static const char *header_value(const struct connection *c, const char *name, char *dst,
                                size_t room)
{
    size_t name_len = strlen(name);

    dst[0] = '\0';
    for (const char *line = strstr(c->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        const char *text = line + 2;

        if (strncasecmp(text, name, name_len) != 0 || text[name_len] != ':')
            continue;
        text += name_len + 1;
        text += strspn(text, " ");
        snprintf(dst, room, "%.*s", (int)strcspn(text, "\r"), text);
        break;
    }
    return dst;
}

static bool read_head(struct connection *c)
{
    size_t len = c->spare_len;
    char *end;

    memcpy(c->head, c->spare, len);
    c->head[len] = '\0';
    while (!(end = strstr(c->head, "\r\n\r\n"))) {
        ssize_t got = recv(c->fd, c->head + len, sizeof(c->head) - len - 1, 0);

        if (got <= 0)
            return false;
        len += (size_t)got;
        c->head[len] = '\0';
    }
    end += 4;
    c->spare_len = len - (size_t)(end - c->head);
    memcpy(c->spare, end, c->spare_len);
    *end = '\0';
    return sscanf(c->head, "%15s %2047s", c->method, c->target) == 2;
}

/* Is the fault for this request? Under the lock. */
static bool has_fault(const struct connection *c)
{
    const struct httpd_state *s = c->s;

    return s->faults_left != 0 &&
           (!s->fault.only || strncmp(c->head, s->fault.only, strlen(s->fault.only)) == 0);
}

/* Such a request never comes to its end, but is counted. */
static bool is_to_be_cut(struct connection *c)
{
    struct httpd_state *s = c->s;
    bool is_cut;

    pthread_mutex_lock(&s->lock);
    is_cut = s->fault.kind == HTTPD_CUT && has_fault(c);
    if (is_cut && s->faults_left > 0)
        s->faults_left--;
    s->request_count += is_cut;
    pthread_mutex_unlock(&s->lock);
    return is_cut;
}

static bool read_body(struct connection *c)
{
    char value[64];
    size_t want =
        (size_t)strtoull(header_value(c, "Content-Length", value, sizeof(value)), NULL, 10);
    size_t used = want < c->spare_len ? want : c->spare_len;
    bool is_cut = is_to_be_cut(c);

    buf_reset(&c->body);
    c->body.max_bytes = (size_t)256 << 20;
    if (strcasecmp(header_value(c, "Expect", value, sizeof(value)), "100-continue") == 0 &&
        !send_text(c->fd, "HTTP/1.1 100 Continue\r\n\r\n"))
        return false;
    must(buf_reserve(&c->body, want) == OK && buf_append(&c->body, c->spare, used) == OK, "memory");
    memmove(c->spare, c->spare + used, c->spare_len - used);
    c->spare_len -= used;
    if (is_cut)
        want /= 2;
    while (c->body.len < want) {
        ssize_t got = recv(c->fd, c->body.data + c->body.len, want - c->body.len, 0);

        if (got <= 0)
            return false;
        c->body.len += (size_t)got;
    }
    if (is_cut)
        reset_connection(c->fd);
    return !is_cut;
}

/* Send it; may the connection go on? */
static bool send_answer(const struct connection *c, const struct answer *a)
{
    char head[PATH_ROOM + 2048], chunk[32], date[64];
    time_t now = (time_t)((clock_wall_ms() + c->s->config.clock_ahead_ms) / 1000);
    struct tm utc;
    size_t send_len = a->is_head ? 0 : a->body_len;
    bool is_chunked = a->fault == HTTPD_CHUNKED;
    int len = snprintf(head, sizeof(head), "HTTP/1.1 %d Answer\r\n%s%s", a->code,
                       a->header ? a->header : "", a->header ? "\r\n" : "");

    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
    len += snprintf(head + len, sizeof(head) - (size_t)len, "Date: %s\r\n%s", date,
                    a->meta ? a->meta : "");
    if (a->etag)
        len += snprintf(head + len, sizeof(head) - (size_t)len, "ETag: \"%s\"\r\n", a->etag);
    if (is_chunked || a->fault == HTTPD_ENDLESS)
        len +=
            snprintf(head + len, sizeof(head) - (size_t)len, "Transfer-Encoding: chunked\r\n\r\n");
    else
        len += snprintf(head + len, sizeof(head) - (size_t)len, "Content-Length: %zu\r\n\r\n",
                        a->body_len);
    if (a->fault == HTTPD_SHORT_BODY)
        send_len /= 2;
    if (a->fault == HTTPD_TRICKLE && send_len > 1)
        send_len = 1;
    if (!send_all(c->fd, head, (size_t)len))
        return false;
    while (a->fault == HTTPD_ENDLESS) {
        if (!send_text(c->fd, "10\r\nbytes for nothin\r\n"))
            return false;
    }
    snprintf(chunk, sizeof(chunk), "%zx\r\n", send_len);
    if (is_chunked && send_len && !send_text(c->fd, chunk))
        return false;
    if (!send_all(c->fd, a->body, send_len))
        return false;
    if (is_chunked && !send_text(c->fd, send_len ? "\r\n0\r\n\r\n" : "0\r\n\r\n"))
        return false;
    if (a->fault == HTTPD_TRICKLE)
        wait_for_stop(c);
    return a->fault != HTTPD_SHORT_BODY && a->fault != HTTPD_TRICKLE;
}

/* --- requests ------------------------------------------------------------------------------- */

/* "20260131T235959Z" in ms; 0 for anything else. */
static int64_t time_of(const char *text)
{
    struct tm utc = { 0 };

    return strptime(text, "%Y%m%dT%H%M%SZ", &utc) ? 1000 * (int64_t)timegm(&utc) : 0;
}

/* NULL, or the S3 error code that the request deserves. */
static const char *check_s3(const struct connection *c)
{
    const struct httpd_config *g = &c->s->config;
    char hash[80], token[4096], hex[DIGEST_HEX_ROOM], date[32];
    uint8_t sha256[DIGEST_BYTES];
    const struct httpd_signed r = {
        .method = c->method,
        .target = c->target,
        .headers = strstr(c->head, "\r\n") + 2,
        .body_hash = hash,
        .access_key = g->access_key,
        .secret_key = g->secret_key,
        .region = g->region ? g->region : "us-east-1",
    };

    header_value(c, "x-amz-content-sha256", hash, sizeof(hash));
    header_value(c, "x-amz-security-token", token, sizeof(token));
    must(digest_sha256(c->body.data, c->body.len, sha256) == OK, "digest");
    if (!*hash)
        return "MissingContentSha256";
    if (*header_value(c, "x-amz-date", date, sizeof(date)) &&
        llabs(time_of(date) - clock_wall_ms() - g->clock_ahead_ms) > 900000)
        return "RequestTimeTooSkewed";
    if (strcmp(token, g->session_token ? g->session_token : "") != 0)
        return "InvalidToken";
    if (!g->ignores_sha256 && strcmp(hash, digest_hex(sha256, hex)) != 0)
        return "XAmzContentSHA256Mismatch";
    return httpd_check_signature(&r);
}

static void take_fault(struct connection *c, struct httpd_fault *f, char *header, size_t room)
{
    struct httpd_state *s = c->s;

    *f = (struct httpd_fault){ 0 };
    if (!has_fault(c) || s->fault.kind == HTTPD_CUT)
        return;
    if (s->faults_left > 0)
        s->faults_left--;
    *f = s->fault;
    snprintf(header, room, "%s", s->fault_header);
    f->header = *header ? header : NULL;
}

/* The lines of the request's head that are metadata. */
static void keep_meta(struct connection *c, struct object *o)
{
    size_t used = 0;

    o->meta[0] = '\0';
    for (const char *line = strstr(c->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        size_t len = strcspn(line + 2, "\r");

        if (strncasecmp(line + 2, "x-amz-meta-", 11) != 0 || used + len + 3 > sizeof(o->meta))
            continue;
        used += (size_t)snprintf(o->meta + used, sizeof(o->meta) - used, "%.*s\r\n", (int)len,
                                 line + 2);
    }
}

/* --- lists and parts ------------------------------------------------------------------------ */

static const char *md5_of(const void *bytes, size_t len, char hex[DIGEST_MD5_HEX_ROOM])
{
    FILE *file = tmpfile();

    must(file && fwrite(bytes, 1, len, file) == len && fflush(file) == 0, "temporary file");
    must(digest_md5_range(fileno(file), "temporary file", 0, len, hex) == OK, "digest");
    fclose(file);
    return hex;
}

static void drop(struct httpd_state *s, struct object *o)
{
    buf_free(&o->bytes);
    *o = s->objects[--s->object_count];
}

/* The unescaped value of a query's parameter; "" when it is not there. */
static void param(const struct connection *c, const char *name, char dst[PATH_ROOM])
{
    size_t name_len = strlen(name), used = 0;
    const char *at = strchr(c->target, '?');

    dst[0] = '\0';
    for (; at; at = strchr(at + 1, '&')) {
        if (strncmp(at + 1, name, name_len) != 0 || at[1 + name_len] != '=')
            continue;
        for (at += name_len + 2; *at && *at != '&'; at++) {
            unsigned int c1 = (unsigned char)*at;

            if (*at == '%' && sscanf(at + 1, "%2x", &c1) == 1)
                at += 2;
            dst[used++] = (char)c1;
        }
        dst[used] = '\0';
        return;
    }
}

/* An unfinished upload is an object with the path PATH?ID, each of its parts one with PATH?ID?N. */
static void list_all(struct connection *c, struct buf *out, bool of_uploads)
{
    char prefix[PATH_ROOM], bucket[64];
    size_t bucket_len = strcspn(c->target + 1, "/?") + 2;

    param(c, "prefix", prefix);
    snprintf(bucket, sizeof(bucket), "%.*s", (int)bucket_len, c->target);
    must(buf_printf(out, "<?xml version=\"1.0\"?><%s>",
                    of_uploads ? "ListMultipartUploadsResult" : "ListBucketResult") == OK,
         "memory");
    for (int i = 0; i < c->s->object_count; i++) {
        const struct object *o = &c->s->objects[i];
        const char *key = o->path + bucket_len, *id = strchr(o->path, '?');
        struct url u = { .scheme = URL_S3, .path = "/" };
        char plain[PATH_ROOM];

        if (strncmp(o->path, bucket, bucket_len) != 0 || (id != NULL) != of_uploads ||
            (id && strchr(id + 1, '?')))
            continue;
        snprintf(u.path, sizeof(u.path), "/%.*s", (int)strcspn(key, "?"), key);
        must(url_decode_path(&u, plain, sizeof(plain)) == OK, "path");
        if (strncmp(plain, prefix, strlen(prefix)) != 0)
            continue;
        must(buf_printf(out,
                        of_uploads ? "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>"
                                     "2026-01-31T00:00:00.000Z</Initiated></Upload>"
                                   : "<Contents><Key>%s</Key><LastModified>"
                                     "2026-01-31T00:00:00.000Z</LastModified>%s<Size>%zu</Size>"
                                     "</Contents>",
                        plain, of_uploads ? id + 1 : "", o->bytes.len) == OK,
             "memory");
    }
    must(buf_printf(out, "<IsTruncated>false</IsTruncated></%s>",
                    of_uploads ? "ListMultipartUploadsResult" : "ListBucketResult") == OK,
         "memory");
}

/* Name of the upload, or of one part of it. */
static void upload_path(const struct connection *c, const char *id, int number, char *dst)
{
    int len = snprintf(dst, PATH_ROOM, "%.*s?%.64s", (int)strcspn(c->target, "?"), c->target, id);

    if (number)
        snprintf(dst + len, PATH_ROOM - (size_t)len, "?%d", number);
}

static void begin_upload(struct connection *c, struct buf *out)
{
    char id[32], path[PATH_ROOM];

    snprintf(id, sizeof(id), "upload~%d", ++c->s->upload_count);
    upload_path(c, id, 0, path);
    keep_meta(c, find_or_add(c->s, path));
    must(buf_printf(out,
                    "<InitiateMultipartUploadResult><UploadId>%s</UploadId>"
                    "</InitiateMultipartUploadResult>",
                    id) == OK,
         "memory");
}

/* Every part of an upload: listed, put together, or dropped. */
static void each_part(struct connection *c, const char *id, struct buf *list, struct object *whole)
{
    char path[PATH_ROOM], etag[DIGEST_MD5_HEX_ROOM];

    for (int number = 1; number < PARTS_MAX; number++) {
        struct object *o;

        upload_path(c, id, number, path);
        o = find(c->s, path);
        if (o && list)
            must(buf_printf(list,
                            "<Part><PartNumber>%d</PartNumber><ETag>&quot;%s&quot;</ETag>"
                            "<Size>%zu</Size></Part>",
                            number, md5_of(o->bytes.data, o->bytes.len, etag), o->bytes.len) == OK,
                 "memory");
        else if (o && whole)
            must(buf_append(&whole->bytes, o->bytes.data, o->bytes.len) == OK, "memory");
    }
}

/* MD5 of the MD5s of an upload's parts, and their number. */
static void etag_of_parts(struct connection *c, const char *id, char etag[64])
{
    char path[PATH_ROOM], hex[DIGEST_MD5_HEX_ROOM];
    struct buf md5s = { 0 };
    int parts = 0;

    for (int number = 1; number < PARTS_MAX; number++) {
        const struct object *o;

        upload_path(c, id, number, path);
        o = find(c->s, path);
        if (!o)
            continue;
        parts++;
        md5_of(o->bytes.data, o->bytes.len, hex);
        for (int i = 0; i < 32; i += 2) {
            const char byte[3] = { hex[i], hex[i + 1], '\0' };

            must(buf_append(&md5s, &(char){ (char)strtol(byte, NULL, 16) }, 1) == OK, "memory");
        }
    }
    snprintf(etag, 64, "%s-%d", md5_of(md5s.data, md5s.len, hex), parts);
    buf_free(&md5s);
}

static void end_upload(struct connection *c, const char *id)
{
    char path[PATH_ROOM];

    for (int number = 0; number < PARTS_MAX; number++) {
        struct object *o;

        upload_path(c, id, number, path);
        o = find(c->s, path);
        if (o)
            drop(c->s, o);
    }
}

static void complete_upload(struct connection *c, const char *id)
{
    struct object whole = { .bytes = { .max_bytes = (size_t)256 << 20 } }, *o;
    char path[PATH_ROOM];

    each_part(c, id, NULL, &whole);
    etag_of_parts(c, id, whole.etag);
    upload_path(c, id, 0, path);
    memcpy(whole.meta, find(c->s, path)->meta, sizeof(whole.meta));
    end_upload(c, id);
    snprintf(path, sizeof(path), "%.*s", (int)strcspn(c->target, "?"), c->target);
    store(c->s, path, whole.bytes.data, whole.bytes.len);
    o = find(c->s, path);
    memcpy(o->meta, whole.meta, sizeof(o->meta));
    memcpy(o->etag, whole.etag, sizeof(o->etag));
    buf_free(&whole.bytes);
}

static void do_upload(struct connection *c, struct answer *a, const char *id)
{
    char path[PATH_ROOM], number[PATH_ROOM];

    upload_path(c, id, 0, path);
    param(c, "partNumber", number);
    if (!find(c->s, path)) {
        a->code = 404;
    } else if (strcmp(c->method, "PUT") == 0) {
        upload_path(c, id, atoi(number), path);
        store(c->s, path, c->body.data, c->body.len);
        a->etag = md5_of(c->body.data, c->body.len, c->etag);
    } else if (strcmp(c->method, "POST") == 0) {
        complete_upload(c, id);
        must(buf_append_text(&c->answer, "<CompleteMultipartUploadResult/>") == OK, "memory");
    } else if (strcmp(c->method, "DELETE") == 0) {
        end_upload(c, id);
        a->code = 204;
    } else {
        must(buf_append_text(&c->answer, "<ListPartsResult>") == OK, "memory");
        each_part(c, id, &c->answer, NULL);
        must(buf_append_text(&c->answer, "</ListPartsResult>") == OK, "memory");
    }
}

/* A request with a query. */
static void do_s3_request(struct connection *c, struct answer *a)
{
    char id[PATH_ROOM];

    buf_reset(&c->answer);
    c->answer.max_bytes = (size_t)1 << 20;
    a->code = 200;
    param(c, "uploadId", id);
    if (*id)
        do_upload(c, a, id);
    else if (strstr(c->target, "?uploads") || strstr(c->target, "&uploads"))
        strcmp(c->method, "POST") ? list_all(c, &c->answer, true) : begin_upload(c, &c->answer);
    else
        list_all(c, &c->answer, false);
    a->body = c->answer.len ? c->answer.data : "";
    a->body_len = c->answer.len;
}

static void put_object(struct connection *c, struct answer *a)
{
    struct object *o = find(c->s, c->target);
    bool is_new = !c->s->config.ignores_if_none_match;
    char value[16];

    if (o && is_new && strcmp(header_value(c, "If-None-Match", value, sizeof(value)), "*") == 0) {
        a->code = 412;
        return;
    }
    store(c->s, c->target, c->body.data, c->body.len);
    o = find(c->s, c->target);
    keep_meta(c, o);
    o->puts++;
    a->code = 200;
    a->etag = md5_of(c->body.data, c->body.len, c->etag);
}

/* What the objects have to say. Called with the lock held; the body points into them. */
static void do_request(struct connection *c, struct answer *a, char *location)
{
    struct object *o = find(c->s, c->target);

    if (strchr(c->target, '?') && c->s->config.access_key) {
        do_s3_request(c, a);
    } else if (strcmp(c->method, "PUT") == 0) {
        put_object(c, a);
    } else if (strcmp(c->method, "DELETE") == 0) {
        if (o)
            drop(c->s, o);
        a->code = 204;
    } else if (!o) {
        a->code = 404;
    } else if (*o->redirect) {
        a->code = 302;
        snprintf(location, PATH_ROOM, "Location: %.2000s", o->redirect);
        a->header = location;
    } else {
        a->code = 200;
        a->etag = *o->etag ? o->etag : md5_of(o->bytes.data, o->bytes.len, c->etag);
        a->meta = o->meta;
        a->body = o->bytes.data;
        a->body_len = o->bytes.len;
    }
    if (a->fault == HTTPD_WRONG_ETAG)
        a->etag = o && *o->etag ? "0123456789abcdef0123456789abcdef-5"
                                : "0123456789abcdef0123456789abcdef";
}

/* Answer one request; may the connection go on? */
static bool serve(struct connection *c)
{
    struct httpd_state *s = c->s;
    struct httpd_fault f;
    struct answer a = { .is_head = strcmp(c->method, "HEAD") == 0, .body = "" };
    char fault_header[PATH_ROOM], location[PATH_ROOM], error[256];
    const char *refusal = s->config.access_key ? check_s3(c) : NULL;
    bool goes_on;

    pthread_mutex_lock(&s->lock);
    s->request_count++;
    snprintf(s->last_head, sizeof(s->last_head), "%s", c->head);
    take_fault(c, &f, fault_header, sizeof(fault_header));
    a.fault = f.kind;
    if (refusal) {
        snprintf(error, sizeof(error), "<Error><Code>%s</Code><Message>%s</Message></Error>",
                 refusal, refusal);
        a = (struct answer){ .code = strstr(refusal, "SHA256") ? 400 : 403,
                             .body = error,
                             .body_len = strlen(error),
                             .is_head = a.is_head };
    } else if (f.kind == HTTPD_STATUS) {
        a.code = f.code;
        a.header = f.header;
        snprintf(error, sizeof(error), "<Error><Code>%s</Code></Error>", f.error ? f.error : "");
        a.body = f.error ? error : f.body ? f.body : "";
        a.body_len = strlen(a.body);
    } else if (f.kind != HTTPD_RESET && f.kind != HTTPD_STALL) {
        do_request(c, &a, location);
    }
    if (f.kind == HTTPD_WRONG_ETAG)
        a.header = f.header;
    if (f.kind == HTTPD_RESET || f.kind == HTTPD_LOST || f.kind == HTTPD_STALL) {
        pthread_mutex_unlock(&s->lock);
        if (f.kind == HTTPD_STALL)
            wait_for_stop(c);
        reset_connection(c->fd);
        return false;
    }
    /* CAREFUL: the lock is held while sending; a trickle waits, so its body must not be needed. */
    if (f.kind == HTTPD_TRICKLE || f.kind == HTTPD_ENDLESS) {
        pthread_mutex_unlock(&s->lock);
        return send_answer(c, &a);
    }
    goes_on = send_answer(c, &a);
    pthread_mutex_unlock(&s->lock);
    return goes_on;
}

static void *connection_main(void *self)
{
    struct connection *c = self;

    while (read_head(c) && read_body(c) && serve(c))
        continue;
    shutdown(c->fd, SHUT_RDWR);
    pthread_mutex_lock(&c->s->lock);
    for (int i = 0; i < c->s->connection_count; i++) {
        if (c->s->fds[i] == c->fd)
            c->s->fds[i] = -1;
    }
    pthread_mutex_unlock(&c->s->lock);
    close(c->fd);
    buf_free(&c->body);
    buf_free(&c->answer);
    free(c);
    return NULL;
}

/* In the place of a connection that has ended, or in a new one. */
static void start_connection(struct httpd_state *s, struct connection *c)
{
    int i = 0;

    pthread_mutex_lock(&s->lock);
    while (i < s->connection_count && s->fds[i] >= 0)
        i++;
    must(i < CONNECTIONS_MAX, "too many connections");
    if (i == s->connection_count)
        s->connection_count++;
    else
        pthread_join(s->threads[i], NULL); /* it is through with the lock */
    s->fds[i] = c->fd;
    must(pthread_create(&s->threads[i], NULL, connection_main, c) == 0, "no thread");
    pthread_mutex_unlock(&s->lock);
}

static void *acceptor_main(void *self)
{
    struct httpd_state *s = self;
    struct pollfd p[2] = { { s->stop_pipe[0], POLLIN, 0 }, { s->listener, POLLIN, 0 } };

    for (;;) {
        struct connection *c;
        int fd;

        if (poll(p, 2, -1) < 0 && errno == EINTR)
            continue;
        if (p[0].revents)
            return NULL;
        fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        c = calloc(1, sizeof(*c));
        must(c != NULL, "no memory");
        c->s = s;
        c->fd = fd;
        start_connection(s, c);
    }
}

/* --- what tests call ------------------------------------------------------------------------ */

void httpd_start(struct httpd *d, const struct httpd_config *c)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(a);
    struct httpd_state *s = calloc(1, sizeof(*s));

    must(s != NULL, "no memory");
    s->objects = calloc(OBJECTS_MAX, sizeof(s->objects[0]));
    must(s->objects != NULL, "no memory");
    s->config = *c;
    must(pthread_mutex_init(&s->lock, NULL) == 0 && pipe(s->stop_pipe) == 0, "pipe");
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(s->listener >= 0 && bind(s->listener, (struct sockaddr *)&a, sizeof(a)) == 0 &&
             listen(s->listener, 64) == 0 && getsockname(s->listener, (void *)&a, &len) == 0,
         "listen");
    must(pthread_create(&s->acceptor, NULL, acceptor_main, s) == 0, "no thread");
    d->state = s;
    d->port = ntohs(a.sin_port);
}

void httpd_stop(struct httpd *d)
{
    struct httpd_state *s = d->state;

    if (!s)
        return;
    must(write(s->stop_pipe[1], "x", 1) == 1, "stop");
    pthread_join(s->acceptor, NULL);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->connection_count; i++) {
        if (s->fds[i] >= 0)
            shutdown(s->fds[i], SHUT_RDWR);
    }
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->connection_count; i++)
        pthread_join(s->threads[i], NULL);
    for (int i = 0; i < s->object_count; i++)
        buf_free(&s->objects[i].bytes);
    close(s->listener);
    close(s->stop_pipe[0]);
    close(s->stop_pipe[1]);
    pthread_mutex_destroy(&s->lock);
    free(s->objects);
    free(s);
    d->state = NULL;
}

void httpd_store(struct httpd *d, const char *path, const void *bytes, size_t len)
{
    pthread_mutex_lock(&d->state->lock);
    store(d->state, path, bytes, len);
    pthread_mutex_unlock(&d->state->lock);
}

bool httpd_stored(struct httpd *d, const char *path, struct buf *out)
{
    struct object *o;

    pthread_mutex_lock(&d->state->lock);
    o = find(d->state, path);
    if (o && out)
        must(buf_append(out, o->bytes.data, o->bytes.len) == OK, "no memory");
    pthread_mutex_unlock(&d->state->lock);
    return o != NULL;
}

int httpd_puts(struct httpd *d, const char *path)
{
    const struct object *o;
    int puts;

    pthread_mutex_lock(&d->state->lock);
    o = find(d->state, path);
    puts = o ? o->puts : 0;
    pthread_mutex_unlock(&d->state->lock);
    return puts;
}

void httpd_redirect(struct httpd *d, const char *path, const char *to)
{
    pthread_mutex_lock(&d->state->lock);
    snprintf(find_or_add(d->state, path)->redirect, PATH_ROOM, "%s", to);
    pthread_mutex_unlock(&d->state->lock);
}

void httpd_fault(struct httpd *d, const struct httpd_fault *f)
{
    struct httpd_state *s = d->state;

    pthread_mutex_lock(&s->lock);
    s->fault = *f;
    s->faults_left = f->kind == HTTPD_NO_FAULT ? 0 : f->count ? f->count : -1;
    snprintf(s->fault_header, sizeof(s->fault_header), "%s", f->header ? f->header : "");
    pthread_mutex_unlock(&s->lock);
}

int httpd_requests(const struct httpd *d)
{
    int count;

    pthread_mutex_lock(&d->state->lock);
    count = d->state->request_count;
    pthread_mutex_unlock(&d->state->lock);
    return count;
}

int httpd_objects(const struct httpd *d)
{
    int count;

    pthread_mutex_lock(&d->state->lock);
    count = d->state->object_count;
    pthread_mutex_unlock(&d->state->lock);
    return count;
}

void httpd_last_head(const struct httpd *d, char *dst, size_t room)
{
    pthread_mutex_lock(&d->state->lock);
    snprintf(dst, room, "%s", d->state->last_head);
    pthread_mutex_unlock(&d->state->lock);
}
