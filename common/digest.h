/* digest.h - SHA-256 of bytes and files, and HMAC-SHA-256. The only user of OpenSSL.
 *
 * Thread: any; a struct digest belongs to whoever began it. */
#ifndef ONESTEP_COMMON_DIGEST_H
#define ONESTEP_COMMON_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

#define DIGEST_BYTES 32
/* Room for a digest as 64 lower-case hexadecimal characters and a NUL. */
#define DIGEST_HEX_ROOM 65
#define DIGEST_MD5_HEX_ROOM 33

/* A SHA-256 under way. A zeroed struct is one that has not begun. */
struct digest {
    void *state; /* OpenSSL's context; NULL before begin and after end */
};

/* Start a SHA-256. Errors: ERR_NOMEM. */
MUST_USE status digest_begin(struct digest *d);

/* Add bytes. Errors: ERR_NOMEM. */
MUST_USE status digest_add(struct digest *d, const void *bytes, size_t len);

/* Finish: 32 bytes to sha256; frees the state also on failure. Errors: ERR_NOMEM. */
MUST_USE status digest_end(struct digest *d, uint8_t sha256[DIGEST_BYTES]);

/* Give up a digest under way. Accepts a zeroed struct. */
void digest_free(struct digest *d);

/* SHA-256 of len bytes. Errors: ERR_NOMEM. Source: FIPS 180-4. */
MUST_USE status digest_sha256(const void *bytes, size_t len, uint8_t sha256[DIGEST_BYTES]);

/* SHA-256 of a file's content, and its size when bytes is not NULL.
 * Errors: ERR_NOTFOUND, ERR_IO naming the path; ERR_NOMEM. */
MUST_USE status digest_file(const char *path, uint8_t sha256[DIGEST_BYTES], uint64_t *bytes);

/* MD5 of len bytes at offset of a file, as 32 hex digits and a NUL: what S3 calls an ETag. It
 * protects from accidents only. path: for sentences. Errors: ERR_IO; ERR_NOMEM. */
MUST_USE status digest_md5_range(int fd, const char *path, uint64_t offset, uint64_t len,
                                 char hex[DIGEST_MD5_HEX_ROOM]);

/* MD5 of len bytes. Errors: ERR_NOMEM. Source: RFC 1321. */
MUST_USE status digest_md5(const void *bytes, size_t len, char hex[DIGEST_MD5_HEX_ROOM]);

/* SHA-256 of the range; adds the bytes also to whole, unless that is NULL. Errors: the same. */
MUST_USE status digest_range(int fd, const char *path, uint64_t offset, uint64_t len,
                             struct digest *whole, uint8_t sha256[DIGEST_BYTES]);

/* HMAC-SHA-256 of len bytes under key. mac: 32 bytes. Errors: ERR_NOMEM. Source: RFC 2104. */
MUST_USE status digest_hmac(const void *key, size_t key_len, const void *bytes, size_t len,
                            uint8_t mac[DIGEST_BYTES]);

/* The digest that 64 lower-case hexadecimal characters stand for. Errors: ERR_CORRUPT. */
MUST_USE status digest_from_hex(const char *hex, uint8_t sha256[DIGEST_BYTES]);

/* 64 lower-case hexadecimal characters and a NUL into hex; returns hex. */
const char *digest_hex(const uint8_t sha256[DIGEST_BYTES], char hex[DIGEST_HEX_ROOM]);

#endif
