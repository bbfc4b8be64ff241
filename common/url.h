/* url.h - a strict URL parser for the four schemes Onestep knows: file, http, https, s3.
 *
 * Stricter than RFC 3986 on purpose: no user name or password, no fragment, no control character,
 * space or backslash, no invalid % escape, no number-like host that is not a dotted quad. What is
 * refused here is never handed to another parser that might read it differently.
 *
 *   file:///abs/photo.jpg      host "", path "/abs/photo.jpg"
 *   file://./out/photo.jpg     relative to the working directory (Onestep's own extension)
 *   https://h.example:8443/a?b host "h.example", port 8443, path "/a", query "b"
 *   s3://bucket/some/key       host "bucket", path "/some/key"
 *
 * Thread: any. */
#ifndef ONESTEP_COMMON_URL_H
#define ONESTEP_COMMON_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

/* Room for the longest URL and its NUL; equal to SPEC_URL_MAX. */
#define URL_ROOM 2048
#define URL_HOST_ROOM 256

/* How to get there. */
enum url_scheme { URL_NONE = 0, URL_FILE, URL_HTTP, URL_HTTPS, URL_S3 };

/* A URL in parts. */
struct url {
    enum url_scheme scheme;
    char host[URL_HOST_ROOM]; /* lower case; IPv6 without brackets; the bucket of s3; "" for file */
    bool host_is_ipv6;        /* host is to be written in brackets */
    int port;                 /* given, or 80 / 443; 0 for file and s3 */
    char path[URL_ROOM];      /* still escaped; starts with "/", or "." for a relative file */
    char query[URL_ROOM];     /* without "?", still escaped; "" when absent */
};

/* Split text. Errors: ERR_BADARG with a sentence that shows the URL without its query. */
MUST_USE status url_parse(struct url *u, const char *text);

/* Write u as text into dst (room bytes). Errors: ERR_BADARG when it does not fit. */
MUST_USE status url_format(const struct url *u, char *dst, size_t room);

/* The path with % escapes decoded, NUL-ended: a file's path, or the key of an s3 URL without its
 * leading "/". Errors: ERR_BADARG when an escape stands for NUL or dst is too small. */
MUST_USE status url_decode_path(const struct url *u, char *dst, size_t room);

/* Escape text for use in a path: everything but A-Z a-z 0-9 - . _ ~ and "/" becomes %XX in capitals
 * (the form that SigV4 wants). Errors: ERR_BADARG when dst is too small. */
MUST_USE status url_encode_path(const char *text, char *dst, size_t room);

/* file:// URL of a path, escaped. Errors: ERR_BADARG when dst is too small or path is empty. */
MUST_USE status url_from_path(const char *path, char *dst, size_t room);

/* text up to its "?" for logs and sentences, so that a signature in a query stays secret; returns
 * dst, always NUL-ended. */
const char *url_for_people(const char *text, char *dst, size_t room);

/* "file", "http", "https", "s3"; "" for URL_NONE. */
const char *url_scheme_name(enum url_scheme scheme);

#endif
