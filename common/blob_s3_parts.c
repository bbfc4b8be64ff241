/* A file too large for one PUT goes in parts, some at once, each with its own SHA-256.
 *
 * An upload of this key that an earlier try began is taken up: parts that are there, of the right
 * size and MD5, are not sent again. One that cannot be finished is aborted, so that its parts cost
 * nobody anything; but when the store is out of reach it is left for the next try, or for
 * `onestep gc`. Completing is followed by a look at the object, which also settles whether a
 * completion succeeded whose answer was lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/blob_priv.h"
#include "common/xml.h"

#define PARTS_IN_FLIGHT 4
#define ETAG_ROOM 72
#define ANSWER_BYTES_MAX ((size_t)4 << 20)

/* What is known about one part. */
struct part {
    char etag[ETAG_ROOM]; /* "" until it is stored */
    uint64_t bytes;       /* as the server has it; 0 when it has not */
};

/* One upload. */
struct upload {
    struct blob_state *s;
    const char *key;
    const struct blob_source *from;
    struct blob_entry found; /* id in upload */
    bool is_resumed;
    bool is_opaque; /* some part's ETag was no MD5 */
    struct part *parts;
    int count;
    struct digest whole;                     /* of all parts, in order */
    struct blob_call calls[PARTS_IN_FLIGHT]; /* of parts under way */
    int number[PARTS_IN_FLIGHT];             /* 1 and up; 0: free */
    int listed_number;                       /* of the part being read in a list */
    struct part listed;
    int marker; /* where the next page of a list begins; 0: nowhere */
};

static uint64_t offset_of(const struct upload *u, int number)
{
    return (uint64_t)(number - 1) * u->s->part_bytes;
}

static uint64_t bytes_of(const struct upload *u, int number)
{
    uint64_t left = u->from->bytes - offset_of(u, number);

    return left < u->s->part_bytes ? left : u->s->part_bytes;
}

/* "NAME=id" or "partNumber=N&uploadId=id". */
static status make_query(const struct upload *u, int number, int marker, char dst[URL_ROOM])
{
    char id[URL_ROOM / 2], start[64] = "", end[64] = "";
    status st = url_encode_path(u->found.upload, id, sizeof(id));

    if (number)
        snprintf(start, sizeof(start), "partNumber=%d&", number);
    if (marker)
        snprintf(end, sizeof(end), "&part-number-marker=%d", marker);
    snprintf(dst, URL_ROOM, "%suploadId=%s%s", start, id, end);
    return st;
}

/* --- beginning ------------------------------------------------------------------------------ */

static status on_upload(void *self, const struct blob_entry *entry)
{
    struct upload *u = self;

    if (strcmp(entry->key, u->key) == 0 && entry->modified_ms >= u->found.modified_ms)
        u->found = *entry;
    return OK;
}

static status initiate(struct upload *u)
{
    struct blob_call k = { .header_count = 0 };
    const struct http_response *r = &k.http.r;
    status st = OK;

    TRY(blob_call_begin(&k, u->s, HTTP_POST, u->key, "uploads="));
    TRY(blob_call_body(&k, "", 0));
    blob_call_describe(&k, u->s, u->from->content_type, u->from->sha256);
    TRY(blob_call_do(&k, u->s));
    xml_find(r->body.data ? r->body.data : "", r->body.len,
             "InitiateMultipartUploadResult/UploadId", u->found.upload, sizeof(u->found.upload));
    if (!*u->found.upload)
        TRY(FAIL(ERR_CORRUPT, "%s: the store began an upload without an id", k.url));
out:
    blob_call_end(&k);
    return st;
}

/* What an upload has already. */
static status on_part(void *self, const char *path, const char *text)
{
    struct upload *u = self;
    size_t len = 0;

    if (strcmp(path, "ListPartsResult/Part") == 0) {
        if (u->listed_number >= 1 && u->listed_number <= u->count)
            u->parts[u->listed_number - 1] = u->listed;
        u->listed = (struct part){ .bytes = 0 };
        u->listed_number = 0;
    }
    if (!text)
        return OK;
    if (strcmp(path, "ListPartsResult/Part/PartNumber") == 0)
        u->listed_number = (int)strtol(text, NULL, 10);
    else if (strcmp(path, "ListPartsResult/Part/Size") == 0)
        u->listed.bytes = strtoull(text, NULL, 10);
    else if (strcmp(path, "ListPartsResult/NextPartNumberMarker") == 0)
        u->marker = (int)strtol(text, NULL, 10);
    else if (strcmp(path, "ListPartsResult/Part/ETag") == 0)
        for (const char *c = text; *c && len + 1 < ETAG_ROOM; c++)
            if (*c != '"')
                u->listed.etag[len++] = *c;
    return OK;
}

static status list_parts(struct upload *u)
{
    char query[URL_ROOM], truncated[8];
    int from = 0;
    status st = OK;

    for (;;) {
        struct blob_call k = { .header_count = 0 };
        const struct buf *body = &k.http.r.body;
        bool has_more;

        u->marker = 0;
        st = make_query(u, 0, from, query);
        if (st == OK)
            st = blob_call_begin(&k, u->s, HTTP_GET, u->key, query);
        k.http.q.response_bytes_max = ANSWER_BYTES_MAX;
        if (st == OK)
            st = blob_call_do(&k, u->s);
        if (st == OK)
            st = xml_walk(body->data ? body->data : "", body->len, on_part, u);
        xml_find(body->data ? body->data : "", body->len, "ListPartsResult/IsTruncated", truncated,
                 sizeof(truncated));
        has_more = st == OK && strcmp(truncated, "true") == 0 && u->marker > from;
        blob_call_end(&k);
        if (!has_more)
            return st;
        from = u->marker;
    }
}

static status begin_upload(struct upload *u)
{
    uint64_t count = (u->from->bytes + u->s->part_bytes - 1) / u->s->part_bytes;
    status st = OK;

    if (count > BLOB_PARTS_MAX)
        TRY(FAIL(ERR_BADARG, "%s: %llu bytes are more than %d parts of %llu", u->from->path,
                 (unsigned long long)u->from->bytes, BLOB_PARTS_MAX,
                 (unsigned long long)u->s->part_bytes));
    u->count = (int)count;
    u->parts = calloc(count, sizeof(u->parts[0]));
    if (!u->parts)
        TRY(FAIL(ERR_NOMEM, "no memory for %d parts", u->count));
    TRY(digest_begin(&u->whole));
    TRY(blob_s3_list_uploads(u->s, u->key, on_upload, u));
    u->is_resumed = *u->found.upload != '\0';
    TRY(u->is_resumed ? list_parts(u) : initiate(u));
out:
    return st;
}

/* --- parts ---------------------------------------------------------------------------------- */

/* Take the part into the digest of the whole; is it there already? */
static status prepare(struct upload *u, int number, uint8_t sha256[DIGEST_BYTES], bool *is_there)
{
    struct part *p = &u->parts[number - 1];
    uint64_t offset = offset_of(u, number), bytes = bytes_of(u, number);
    char md5[DIGEST_MD5_HEX_ROOM];
    status st = OK;

    TRY(digest_range(u->from->fd, u->from->path, offset, bytes, &u->whole, sha256));
    *is_there = false;
    if (p->bytes == bytes) {
        TRY(digest_md5_range(u->from->fd, u->from->path, offset, bytes, md5));
        *is_there = strcmp(md5, p->etag) == 0;
    }
    if (!*is_there)
        *p = (struct part){ .bytes = 0 };
out:
    return st;
}

static status start_part(struct upload *u, int slot, int number)
{
    struct blob_call *k = &u->calls[slot];
    uint8_t sha256[DIGEST_BYTES];
    char query[URL_ROOM];
    bool is_there;
    status st = OK;

    TRY(prepare(u, number, sha256, &is_there));
    if (is_there)
        return OK;
    TRY(make_query(u, number, 0, query));
    TRY(blob_call_begin(k, u->s, HTTP_PUT, u->key, query));
    k->http.q.body_fd = u->from->fd;
    k->http.q.body_offset = offset_of(u, number);
    k->http.q.body_bytes = bytes_of(u, number);
    k->http.q.body_sha256_hex = digest_hex(sha256, k->payload);
    k->http.q.keep_headers = BLOB_ENCRYPTION;
    TRY(http_start(&u->s->http, &k->http));
    u->number[slot] = number;
out:
    return st;
}

/* A part's request has ended. */
static status end_part(struct upload *u, int slot)
{
    struct blob_call *k = &u->calls[slot];
    struct part *p = &u->parts[u->number[slot] - 1];
    const char *etag = k->http.r.etag;
    char md5[DIGEST_MD5_HEX_ROOM];
    status st = OK;

    if (k->http.st != OK)
        TRY(FAIL(k->http.st, "%s", k->http.sentence));
    TRY(blob_call_check(k));
    if (!*etag || strlen(etag) >= ETAG_ROOM ||
        etag[strspn(etag, "0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz-")])
        TRY(FAIL(ERR_CORRUPT, "%s: a part was answered without a proper ETag", k->url));
    if (!u->s->checks_sha256 && *blob_call_md5(k)) {
        TRY(digest_md5_range(u->from->fd, u->from->path, k->http.q.body_offset,
                             k->http.q.body_bytes, md5));
        if (strcmp(md5, etag) != 0)
            TRY(FAIL(ERR_IO, "%s: the store kept other bytes of part %d", k->url, u->number[slot]));
    }
    u->is_opaque = u->is_opaque || !*blob_call_md5(k);
    snprintf(p->etag, sizeof(p->etag), "%s", etag);
    p->bytes = k->http.q.body_bytes;
out:
    return st;
}

static int slot_of(const struct upload *u, const struct http_call *c)
{
    int slot = 0;

    while (&u->calls[slot].http != c)
        slot++;
    CHECK(slot < PARTS_IN_FLIGHT);
    return slot;
}

static int free_slot(const struct upload *u)
{
    for (int i = 0; i < PARTS_IN_FLIGHT; i++) {
        if (!u->number[i])
            return i;
    }
    return -1;
}

/* Send what is not there. After a failure nothing new is begun; what is under way comes to its end,
 * and the first failure's sentence is kept. */
static status send_parts(struct upload *u)
{
    char sentence[256];
    status first = OK;

    for (int next = 1;;) {
        struct http_call *c;
        status st = OK;
        int slot = free_slot(u);

        if (first == OK && slot >= 0 && next <= u->count) {
            st = start_part(u, slot, next++);
        } else {
            c = http_wait(&u->s->http);
            if (!c)
                break;
            slot = slot_of(u, c);
            if (blob_call_renew(&u->calls[slot], u->s)) {
                st = http_start(&u->s->http, c);
            } else {
                st = end_part(u, slot);
                blob_call_end(&u->calls[slot]);
                u->number[slot] = 0;
            }
        }
        if (st != OK && first == OK) {
            first = st;
            snprintf(sentence, sizeof(sentence), "%s", status_message());
        }
    }
    return first == OK ? OK : FAIL(first, "%s", sentence);
}

/* --- ending --------------------------------------------------------------------------------- */

static status write_list(const struct upload *u, struct buf *b)
{
    status st = OK;

    TRY(buf_append_text(b, "<CompleteMultipartUpload>"));
    for (int i = 0; i < u->count; i++)
        TRY(buf_printf(b, "<Part><PartNumber>%d</PartNumber><ETag>\"%s\"</ETag></Part>", i + 1,
                       u->parts[i].etag));
    TRY(buf_append_text(b, "</CompleteMultipartUpload>"));
out:
    return st;
}

/* The ETag that an object of these parts has where ETags are MD5s: the MD5 of their MD5s, and their
 * number. Source: Amazon S3 user guide, "Checking object integrity", of multipart uploads. */
static status expected_etag(const struct upload *u, char etag[ETAG_ROOM])
{
    struct buf md5s = { .max_bytes = (size_t)BLOB_PARTS_MAX * 16 };
    char hex[DIGEST_MD5_HEX_ROOM];
    unsigned byte;
    status st = OK;

    for (int i = 0; i < u->count; i++) {
        for (int j = 0; j < 32; j += 2) {
            CHECK(sscanf(u->parts[i].etag + j, "%2x", &byte) == 1);
            TRY(buf_append(&md5s, &(char){ (char)byte }, 1));
        }
    }
    TRY(digest_md5(md5s.data, md5s.len, hex));
    snprintf(etag, ETAG_ROOM, "%s-%d", hex, u->count);
out:
    buf_free(&md5s);
    return st;
}

/* Is this an ETag of the form that expected_etag makes? */
static bool is_of_parts(const char *etag)
{
    size_t hex = strspn(etag, "0123456789abcdef");

    return hex == 32 && etag[hex] == '-' && etag[hex + 1] &&
           etag[hex + 1 + strspn(etag + hex + 1, "0123456789")] == '\0';
}

/* Is the object there, as it should be? */
static status check_object(const struct upload *u)
{
    char etag[ETAG_ROOM];
    struct blob_info info = { 0 };
    char hex[DIGEST_HEX_ROOM];
    status st = u->s->backend->head(u->s, u->key, &info);

    if (st != OK)
        return st;
    if (info.bytes != u->from->bytes || strcmp(info.sha256_hex, digest_hex(u->from->sha256, hex)))
        return FAIL(ERR_IO, "%s: the store put its parts together to something else", u->key);
    if (u->is_opaque || !is_of_parts(info.etag))
        return OK;
    st = expected_etag(u, etag);
    if (st == OK && strcmp(info.etag, etag) != 0)
        st = FAIL(ERR_IO, "%s: the store put other parts together (ETag %s, want %s)", u->key,
                  info.etag, etag);
    return st;
}

/* CAREFUL: an answer of 200 may hold an error; and 404 may mean that an earlier try, whose answer
 * was lost, has completed it. */
static status complete(struct upload *u)
{
    struct blob_call k = { .header_count = 0 };
    struct buf list = { .max_bytes = (size_t)4 << 20 };
    char query[URL_ROOM], code[64];
    status st = OK;

    TRY(write_list(u, &list));
    TRY(make_query(u, 0, 0, query));
    TRY(blob_call_begin(&k, u->s, HTTP_POST, u->key, query));
    TRY(blob_call_body(&k, list.data, list.len));
    st = blob_call_do(&k, u->s);
    if (st == OK && *blob_call_error(&k, code))
        st = FAIL(ERR_UNAVAILABLE, "%s: completing the upload failed: %s", k.url, code);
    if (st == OK || st == ERR_NOTFOUND)
        st = check_object(u);
out:
    blob_call_end(&k);
    buf_free(&list);
    return st;
}

/* Give the upload up after a failure that a later try would meet again; keeps its sentence. */
static status give_up(struct upload *u, status st)
{
    char sentence[256];

    if (st == ERR_UNAVAILABLE || st == ERR_TIMEOUT || !*u->found.upload)
        return st;
    snprintf(sentence, sizeof(sentence), "%s", status_message());
    u->s->cancel = NULL;
    u->s->until_ms = NULL;
    if (u->s->deadline_ms < clock_mono_ms() + 5000)
        u->s->deadline_ms = clock_mono_ms() + 5000;
    snprintf(u->found.key, sizeof(u->found.key), "%s", u->key);
    /* What cannot be removed now is found by `onestep gc`. */
    if (blob_s3_remove(u->s, &u->found) != OK)
        status_clear();
    return FAIL(st, "%s", sentence);
}

status blob_s3_put_parts(struct blob_state *s, const char *key, const struct blob_source *from)
{
    struct upload *u = calloc(1, sizeof(*u));
    uint8_t actual[DIGEST_BYTES];
    status st = OK;

    if (!u)
        return FAIL(ERR_NOMEM, "no memory for an upload");
    u->s = s;
    u->key = key;
    u->from = from;
    TRY(begin_upload(u));
    TRY(send_parts(u));
    TRY(digest_end(&u->whole, actual));
    if (memcmp(actual, from->sha256, sizeof(actual)) != 0)
        TRY(blob_changed(from->path));
    TRY(complete(u));
out:
    if (st != OK)
        st = give_up(u, st);
    digest_free(&u->whole);
    free(u->parts);
    free(u);
    return st;
}
