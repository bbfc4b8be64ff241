/* Listing and removing. Answers come in pages of at most 1000 entries; both kinds of pages, objects
 * and unfinished uploads, are read by one function, since their elements have other names only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/blob_priv.h"
#include "common/xml.h"

/* 1000 entries with keys of 1024 bytes. */
#define PAGE_BYTES_MAX ((size_t)4 << 20)
/* A list without end is a broken server. */
#define PAGES_MAX 100000
#define MARK_ROOM 1536

/* The names of a kind of page. */
struct kind {
    const char *query; /* asks for it */
    const char *key, *upload, *bytes, *time, *entry, *truncated;
    const char *mark[2], *mark_query[2]; /* where the next page begins, and how to ask for it */
};

static const struct kind objects = {
    .query = "list-type=2",
    .key = "ListBucketResult/Contents/Key",
    .upload = "",
    .bytes = "ListBucketResult/Contents/Size",
    .time = "ListBucketResult/Contents/LastModified",
    .entry = "ListBucketResult/Contents",
    .truncated = "ListBucketResult/IsTruncated",
    .mark = { "ListBucketResult/NextContinuationToken", "" },
    .mark_query = { "continuation-token", "" },
};
static const struct kind uploads = {
    .query = "uploads=",
    .key = "ListMultipartUploadsResult/Upload/Key",
    .upload = "ListMultipartUploadsResult/Upload/UploadId",
    .bytes = "",
    .time = "ListMultipartUploadsResult/Upload/Initiated",
    .entry = "ListMultipartUploadsResult/Upload",
    .truncated = "ListMultipartUploadsResult/IsTruncated",
    .mark = { "ListMultipartUploadsResult/NextKeyMarker",
              "ListMultipartUploadsResult/NextUploadIdMarker" },
    .mark_query = { "key-marker", "upload-id-marker" },
};

/* A page being read. */
struct page {
    const struct blob_state *s;
    const struct kind *kind;
    blob_on_entry on_entry;
    void *self;
    struct blob_entry entry; /* so far */
    bool is_foreign;         /* a key that is not of our kind */
    bool is_truncated;
    char mark[2][MARK_ROOM];
};

/* "2026-01-31T23:59:59.000Z" in ms; 0 when it is something else. */
static int64_t read_time(const char *text)
{
    struct tm utc = { 0 };

    return strptime(text, "%Y-%m-%dT%H:%M:%S", &utc) ? 1000 * (int64_t)timegm(&utc) : 0;
}

static void take_key(struct page *p, const char *text)
{
    size_t prefix_len = strlen(p->s->prefix);

    p->is_foreign =
        strncmp(text, p->s->prefix, prefix_len) != 0 || blob_check_key(text + prefix_len) != OK;
    if (!p->is_foreign)
        snprintf(p->entry.key, sizeof(p->entry.key), "%s", text + prefix_len);
    else
        status_clear();
}

static status end_entry(struct page *p)
{
    bool is_whole = !p->is_foreign && *p->entry.key && (!*p->kind->upload || *p->entry.upload);
    status st = is_whole ? p->on_entry(p->self, &p->entry) : OK;

    p->entry = (struct blob_entry){ .bytes = 0 };
    p->is_foreign = false;
    return st;
}

static status on_element(void *self, const char *path, const char *text)
{
    struct page *p = self;
    const struct kind *kind = p->kind;

    if (strcmp(path, kind->entry) == 0)
        return end_entry(p);
    if (!text)
        return OK;
    if (strcmp(path, kind->key) == 0)
        take_key(p, text);
    else if (strcmp(path, kind->upload) == 0)
        snprintf(p->entry.upload, sizeof(p->entry.upload), "%s", text);
    else if (strcmp(path, kind->bytes) == 0)
        p->entry.bytes = strtoull(text, NULL, 10);
    else if (strcmp(path, kind->time) == 0)
        p->entry.modified_ms = read_time(text);
    else if (strcmp(path, kind->truncated) == 0)
        p->is_truncated = strcmp(text, "true") == 0;
    for (int i = 0; i < 2; i++) {
        if (strcmp(path, kind->mark[i]) == 0)
            snprintf(p->mark[i], sizeof(p->mark[i]), "%s", text);
    }
    return OK;
}

/* "&name=value", unless one is empty. */
static status add_query(struct buf *b, const char *name, const char *value)
{
    char escaped[URL_ROOM];
    status st = OK;

    if (!*name || !*value)
        return OK;
    TRY(url_encode_path(value, escaped, sizeof(escaped)));
    TRY(buf_printf(b, "&%s=%s", name, escaped));
out:
    return st;
}

static status read_page(struct page *p, struct blob_state *s, const char *prefix)
{
    struct blob_call k = { .header_count = 0 };
    struct buf query = { .max_bytes = URL_ROOM };
    char full[2 * BLOB_KEY_MAX + 4];
    const struct http_response *r = &k.http.r;
    status st = OK;

    snprintf(full, sizeof(full), "%s%s", s->prefix, prefix);
    TRY(buf_append_text(&query, p->kind->query));
    TRY(add_query(&query, "prefix", full));
    for (int i = 0; i < 2; i++)
        TRY(add_query(&query, p->kind->mark_query[i], p->mark[i]));
    TRY(blob_call_begin_bucket(&k, s, HTTP_GET, query.data));
    k.http.q.response_bytes_max = PAGE_BYTES_MAX;
    TRY(blob_call_do(&k, s));
    p->is_truncated = false;
    p->mark[0][0] = p->mark[1][0] = '\0';
    TRY(xml_walk(r->body.data ? r->body.data : "", r->body.len, on_element, p));
    if (p->is_truncated && !p->mark[0][0])
        TRY(FAIL(ERR_CORRUPT, "%s: a list that goes on, but does not say where", k.url));
out:
    blob_call_end(&k);
    buf_free(&query);
    return st;
}

static status list_kind(struct blob_state *s, const struct kind *kind, const char *prefix,
                        struct page *p)
{
    status st = OK;

    p->s = s;
    p->kind = kind;
    for (int pages = 0; pages == 0 || p->is_truncated; pages++) {
        if (pages == PAGES_MAX)
            TRY(FAIL(ERR_CORRUPT, "s3://%s: a list without end", s->bucket));
        /* A page may take the call's whole time: a long list is no slow one. */
        if (!s->has_deadline)
            s->deadline_ms = clock_mono_ms() + s->timeout_ms;
        TRY(read_page(p, s, prefix));
    }
out:
    return st;
}

status blob_s3_list(struct blob_state *s, const char *prefix, blob_on_entry on_entry, void *self)
{
    struct page *p = calloc(1, sizeof(*p));
    status st = OK;

    if (!p)
        return FAIL(ERR_NOMEM, "no memory for a list");
    p->on_entry = on_entry;
    p->self = self;
    TRY(list_kind(s, &objects, prefix, p));
    memset(p->mark, 0, sizeof(p->mark));
    TRY(list_kind(s, &uploads, prefix, p));
out:
    free(p);
    return st;
}

status blob_s3_list_uploads(struct blob_state *s, const char *prefix, blob_on_entry on_entry,
                            void *self)
{
    struct page *p = calloc(1, sizeof(*p));
    status st;

    if (!p)
        return FAIL(ERR_NOMEM, "no memory for a list");
    p->on_entry = on_entry;
    p->self = self;
    st = list_kind(s, &uploads, prefix, p);
    free(p);
    return st;
}

status blob_s3_remove(struct blob_state *s, const struct blob_entry *entry)
{
    struct blob_call k = { .header_count = 0 };
    struct buf query = { .max_bytes = URL_ROOM };
    status st = OK;

    TRY(buf_append_text(&query, ""));
    if (*entry->upload)
        TRY(add_query(&query, "uploadId", entry->upload));
    TRY(blob_call_begin(&k, s, HTTP_DELETE, entry->key, query.len ? query.data + 1 : ""));
    st = blob_call_do(&k, s);
    if (st == ERR_NOTFOUND) {
        status_clear();
        st = OK;
    }
out:
    blob_call_end(&k);
    buf_free(&query);
    return st;
}
