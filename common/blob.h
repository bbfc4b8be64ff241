/* blob.h - results in an object store: a directory (file://) or S3 (s3://bucket/prefix).
 *
 * A key is 1 to 512 characters of A-Z a-z 0-9 . _ / = -, without an empty, "." or ".." part. Which
 * keys belong to which attempt is the caller's business. An object is either whole or absent: a
 * directory gets it by a synced temporary file and a rename, S3 by one PUT whose SHA-256 the server
 * checks.
 * Thread: one at a time; a worker's io thread owns it. */
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

/* Strings are borrowed until blob_open returns. */
struct blob_config {
    const char *url;     /* file:///dir, file://./dir or s3://bucket[/prefix] */
    struct s3_config s3; /* for s3:// */
    const char *ca_file; /* certificates for https in PEM; NULL: the system's */
    int timeout_ms;      /* for one call, retries included; 0: BLOB_TIMEOUT_MS_DEFAULT */
};

struct blob {
    struct blob_state *state;  /* NULL in a zeroed struct */
    const atomic_bool *cancel; /* set by the caller between calls, polled in them; or NULL */
};

/* What is known about an object. */
struct blob_info {
    uint64_t bytes; /* its size */
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

/* Store len bytes (1 or more) under key only if nothing is there: of many callers one gets OK. A
 * caller whose earlier identical bytes are there already gets OK too (the answer to its first try
 * was lost).
 * Errors: ERR_CONFLICT when other bytes are there; ERR_BADARG when the server has no conditional
 * PUT; others as blob_put_file. */
MUST_USE status blob_put_new(struct blob *b, const char *key, const void *bytes, size_t len);

/* Replace the content of out by the object. Errors: ERR_NOTFOUND; ERR_FULL when it is larger than
 * out->max_bytes (0: BUF_MAX_DEFAULT); others as blob_put_file. */
MUST_USE status blob_get(struct blob *b, const char *key, struct buf *out);

/* Write the object to a file at path: whole or not at all. Errors: as blob_get; ERR_FULL for a
 * full disk. */
MUST_USE status blob_get_to_file(struct blob *b, const char *key, const char *path);

/* Facts about the object; info may be NULL. Errors: ERR_NOTFOUND; others as blob_put_file. */
MUST_USE status blob_head(struct blob *b, const char *key, struct blob_info *info);

/* The object's address, which fetch understands: file:///abs/dir/key, or
 * s3://bucket/prefix/key. Errors: ERR_BADARG for a bad key or when dst is too small. */
MUST_USE status blob_url(const struct blob *b, const char *key, char *dst, size_t room);

/* Errors: ERR_BADARG with a sentence when key breaks the rules above. */
MUST_USE status blob_check_key(const char *key);

#endif
