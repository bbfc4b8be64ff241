/* blob.h - results in an object store: a directory (file://) or S3 (s3://bucket/prefix).
 *
 * A key is 1 to 512 characters of A-Z a-z 0-9 . _ / = -, without an empty, "." or ".." part. Which
 * keys belong to which attempt is the caller's business. An object is either whole or absent: a
 * directory gets it by a synced temporary file and a rename; S3 by one PUT, or for large files by
 * parts, whose SHA-256 the server compares. Where a server does not, its ETags are checked here.
 * Thread: one at a time. */
#ifndef ONESTEP_COMMON_BLOB_H
#define ONESTEP_COMMON_BLOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/digest.h"
#include "common/s3.h"

#define BLOB_KEY_MAX 512
#define BLOB_URL_ROOM 4096
#define BLOB_TIMEOUT_MS_DEFAULT 120000
/* The most that goes in one PUT. S3 wants parts of 5 MiB or more, and 10,000 of them at most. */
#define BLOB_PART_BYTES_DEFAULT ((uint64_t)64 << 20)
#define BLOB_PARTS_MAX 10000
#define BLOB_UPLOAD_ROOM 1024

/* Strings are borrowed until blob_open returns. */
struct blob_config {
    const char *url;     /* file:///dir, file://./dir or s3://bucket[/prefix] */
    struct s3_config s3; /* for s3:// */
    const char *ca_file; /* certificates for https in PEM; NULL: the system's */
    int timeout_ms;      /* for one call, retries included; 0: BLOB_TIMEOUT_MS_DEFAULT */
    uint64_t part_bytes; /* larger files go in parts of this size; 0: BLOB_PART_BYTES_DEFAULT */
};

struct blob {
    struct blob_state *state;  /* NULL in a zeroed struct */
    const atomic_bool *cancel; /* set by the caller between calls, polled in them; or NULL */
    int64_t deadline_ms; /* clock_mono_ms by which calls end, if timeout_ms is later; 0: none */
    const atomic_llong *until_ms; /* likewise, but others may move it during a call; or NULL */
    const char *owner;            /* who puts, like a key; kept with objects of S3
                                * as x-amz-meta-onestep-owner; or NULL */
};

/* What is known about an object. */
struct blob_info {
    uint64_t bytes;                   /* its size */
    char sha256_hex[DIGEST_HEX_ROOM]; /* as its writer gave it; "" when the store doesn't keep it */
    char owner[BLOB_KEY_MAX + 1];     /* likewise, of struct blob */
    char etag[128];                   /* without quotes; "" when the store has none */
};

/* What blob_list finds: an object, or an upload in parts that was begun and not finished. */
struct blob_entry {
    char key[BLOB_KEY_MAX + 1];
    char upload[BLOB_UPLOAD_ROOM]; /* "" for an object */
    uint64_t bytes;                /* of an object */
    int64_t modified_ms;           /* wall clock of the store; when the upload began */
};

/* Open the store; a directory is made when it is missing.
 * Errors: ERR_BADARG (url or a setting), ERR_NOTFOUND, ERR_IO, ERR_NOMEM. */
MUST_USE status blob_open(struct blob *b, const struct blob_config *c);

/* Close. Accepts a zeroed struct. */
void blob_close(struct blob *b);

/* Store the file at path, which is not empty, under key, replacing what is there. sha256: of its
 * content; the object is refused when the bytes stored differ.
 * Errors: ERR_FULL naming the place, ERR_CORRUPT (the file is not what sha256 says), ERR_BADARG,
 * ERR_NOTFOUND, ERR_IO, ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_CANCELLED. */
MUST_USE status blob_put_file(struct blob *b, const char *key, const char *path,
                              const char *content_type, const uint8_t sha256[DIGEST_BYTES]);

/* Does blob_put_new work here? Asked of the store itself, once, by objects of its own under the key
 * ".onestep-probe". Errors: as blob_put_file. */
MUST_USE status blob_has_put_new(struct blob *b, bool *has);

/* Store len bytes (1 or more) under key only if nothing is there: of many callers one gets OK. A
 * caller whose earlier identical bytes are there already gets OK too (the answer to its first try
 * was lost), unless the store knows that they are another owner's.
 * Errors: ERR_CONFLICT when other bytes or another's are there; ERR_BADARG when the server has no
 * conditional PUT (blob_has_put_new); others as blob_put_file. */
MUST_USE status blob_put_new(struct blob *b, const char *key, const void *bytes, size_t len);

/* Replace the content of out by the object. Errors: ERR_NOTFOUND; ERR_FULL when it is larger than
 * out->max_bytes (0: BUF_MAX_DEFAULT); others as blob_put_file. */
MUST_USE status blob_get(struct blob *b, const char *key, struct buf *out);

/* Write the object to a file at path: whole or not at all. Errors: as blob_get; ERR_FULL for a
 * full disk. */
MUST_USE status blob_get_to_file(struct blob *b, const char *key, const char *path);

/* Facts about the object; info may be NULL. Errors: ERR_NOTFOUND; others as blob_put_file. */
MUST_USE status blob_head(struct blob *b, const char *key, struct blob_info *info);

/* Call on_entry for everything whose key begins with prefix ("" is everything), in no order that
 * can be relied on; keys that blob_check_key refuses are left out. Stops at the first status of
 * on_entry that is not OK and returns it. Errors: as blob_put_file. */
typedef status (*blob_on_entry)(void *self, const struct blob_entry *entry);
MUST_USE status blob_list(struct blob *b, const char *prefix, blob_on_entry on_entry, void *self);

/* Remove an object, or abort an upload. One that is not there is no error. Errors: as
 * blob_put_file. */
MUST_USE status blob_remove(struct blob *b, const struct blob_entry *entry);

/* A URL at which anybody can get the object for seconds (up to a week), without credentials.
 * Errors: ERR_BADARG for a folder, which has no such thing; as blob_put_file. */
MUST_USE status blob_presign(struct blob *b, const char *key, int seconds, char *dst, size_t room);

/* The object's address, which fetch understands: file:///abs/dir/key, or
 * s3://bucket/prefix/key. Errors: ERR_BADARG for a bad key or when dst is too small. */
MUST_USE status blob_url(const struct blob *b, const char *key, char *dst, size_t room);

/* Errors: ERR_BADARG with a sentence when key breaks the rules above. */
MUST_USE status blob_check_key(const char *key);

#endif
