/* blob_priv.h - what blob.c and its back ends share; nobody else includes it. A new back end is a
 * file blob_NAME.c, a row in blob.c, and its settings in struct blob_state. */
#ifndef ONESTEP_COMMON_BLOB_PRIV_H
#define ONESTEP_COMMON_BLOB_PRIV_H

#include "common/base/file.h"
#include "common/blob.h"
#include "common/http.h"

/* Headers that say how an object is encrypted begin with this. */
#define BLOB_ENCRYPTION "x-amz-server-side-encryption"

struct blob_state;

/* A file on its way into a store. */
struct blob_source {
    const char *path; /* for sentences */
    int fd;
    uint64_t bytes; /* 1 or more */
    const char *content_type;
    const uint8_t *sha256; /* what it should be */
};

/* One back end. Keys are checked, files and bytes are not empty. cancel may be NULL.
 * Errors: as the functions of blob.h with these names. */
struct blob_backend {
    status (*open)(struct blob_state *s, const struct blob_config *c, const struct url *u);
    status (*put)(struct blob_state *s, const char *key, const struct blob_source *from);
    status (*has_put_new)(struct blob_state *s, bool *has);
    status (*put_new)(struct blob_state *s, const char *key, const void *bytes, size_t len);
    status (*get)(struct blob_state *s, const char *key, struct buf *out);
    status (*get_to_file)(struct blob_state *s, const char *key, const char *path);
    status (*head)(struct blob_state *s, const char *key, struct blob_info *info);
    status (*list)(struct blob_state *s, const char *prefix, blob_on_entry on_entry, void *self);
    status (*remove)(struct blob_state *s, const struct blob_entry *entry);
    status (*presign)(struct blob_state *s, const char *key, int seconds, char *dst, size_t room);
    status (*url)(const struct blob_state *s, const char *key, char *dst, size_t room);
};

/* The settings of whichever back end it is. */
struct blob_state {
    const struct blob_backend *backend;
    const atomic_bool *cancel;     /* of the call under way */
    int64_t deadline_ms;           /* of the call under way; monotonic */
    bool has_deadline;             /* the caller set it */
    const atomic_llong *until_ms;  /* of the call under way, or NULL */
    const char *owner;             /* of the call under way; NULL: none */
    char root[FILE_PATH_BYTES];    /* file: the directory, absolute */
    struct http http;              /* s3 */
    struct s3 s3;                  /* s3 */
    char bucket[URL_HOST_ROOM];    /* s3 */
    char prefix[BLOB_KEY_MAX + 2]; /* s3: "" or ends with "/" */
    int timeout_ms;
    uint64_t part_bytes; /* s3 */
    bool is_probed;      /* s3: the next two are known */
    bool has_put_new;    /* If-None-Match: * works */
    bool checks_sha256;  /* X-Amz-Content-Sha256 is compared with what arrives */
};

/* The back ends. */
extern const struct blob_backend blob_file, blob_s3;

/* The answer to a conditional PUT that found something there: OK when it is the same bytes.
 * where: for the sentence. Errors: ERR_CONFLICT; what get says. */
MUST_USE status blob_compare(struct blob_state *s, const char *key, const void *bytes, size_t len);

/* The sentence for a file that changed under way. */
status blob_changed(const char *path);

/* A request to S3 and what it points to. */
struct blob_call {
    struct http_call http;
    struct sigv4_signer sign;
    char url[URL_ROOM];
    char owner[BLOB_KEY_MAX + 64], sha256[128], type[160]; /* headers */
    char payload[DIGEST_HEX_ROOM];
    int header_count;
    bool was_refreshed; /* once is enough */
};

/* Prepare a request for an object; query: "" or "name=value&...", escaped. The caller adds to
 * k->http.q. Errors: ERR_BADARG, ERR_TIMEOUT, those of s3_signer. */
MUST_USE status blob_call_begin(struct blob_call *k, struct blob_state *s, enum http_method method,
                                const char *key, const char *query);

/* Prepare a request for the bucket as a whole. */
MUST_USE status blob_call_begin_bucket(struct blob_call *k, struct blob_state *s,
                                       enum http_method method, const char *query);

/* Add a header; text stays the caller's until the end. */
void blob_call_header(struct blob_call *k, const char *text);

/* Give it a body of bytes. */
MUST_USE status blob_call_body(struct blob_call *k, const void *bytes, size_t len);

/* What a new object says about itself: its type, owner and SHA-256. */
void blob_call_describe(struct blob_call *k, const struct blob_state *s, const char *content_type,
                        const uint8_t sha256[DIGEST_BYTES]);

/* Do it; anything but 2xx is an error. Expired credentials are renewed and it is done again. */
MUST_USE status blob_call_do(struct blob_call *k, struct blob_state *s);

/* Did the server refuse a finished request because its keys have expired, and are there others?
 * Then it is ready to be done again. */
bool blob_call_renew(struct blob_call *k, struct blob_state *s);

/* The status of an answer that is there. */
MUST_USE status blob_call_check(const struct blob_call *k);

/* Free the answer. Accepts a zeroed struct. */
void blob_call_end(struct blob_call *k);

/* The ETag of an answer, when it should be the MD5 of what was sent; else "". With keys of a key
 * service it is none; the caller had keep_headers = BLOB_ENCRYPTION.
 * Source: Amazon S3 API reference, "Object". */
const char *blob_call_md5(const struct blob_call *k);

/* Code of an S3 error, "NoSuchUpload"; "" when it has none. */
const char *blob_call_error(const struct blob_call *k, char dst[64]);

/* Ask the store what it can do, unless that is known. */
MUST_USE status blob_s3_probe(struct blob_state *s);

/* Store a file in parts. */
MUST_USE status blob_s3_put_parts(struct blob_state *s, const char *key,
                                  const struct blob_source *from);

/* As blob_list and blob_remove. */
MUST_USE status blob_s3_list(struct blob_state *s, const char *prefix, blob_on_entry on_entry,
                             void *self);
MUST_USE status blob_s3_list_uploads(struct blob_state *s, const char *prefix,
                                     blob_on_entry on_entry, void *self);
MUST_USE status blob_s3_remove(struct blob_state *s, const struct blob_entry *entry);

#endif
