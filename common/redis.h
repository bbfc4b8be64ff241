/* redis.h - one connection to Redis: commands out, replies in, never blocking. The only user of
 * hiredis, and of that only the encoder and the parser: the socket is our own.
 *
 * Replies come in the order of the commands. After any error the connection is of no more use:
 * close it. Thread: the owner's. */
#ifndef ONESTEP_COMMON_REDIS_H
#define ONESTEP_COMMON_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"
#include "common/tls.h"

struct redis;

/* A reply, or a part of one. */
struct redis_value;

/* What kind of value a reply is. */
enum redis_kind {
    REDIS_NONE = 0, /* nil */
    REDIS_INT,
    REDIS_TEXT, /* a string or a status line */
    REDIS_ERROR,
    REDIS_ARRAY
};

/* Where a server is. */
struct redis_address {
    bool is_unix;
    bool is_tls;
    char path[108];  /* is_unix */
    char host[256];  /* else: name or address */
    int port;        /* else */
    int db;          /* number of the database */
    char label[300]; /* for people: "HOST:PORT" or the path */
};

/* Take a url apart: redis://HOST[:PORT][/DB], rediss:// for the same over TLS, or
 * unix:///PATH[?db=N].
 * Errors: ERR_BADARG; passwords in the url are refused as well. */
MUST_USE status redis_parse_url(struct redis_address *address, const char *url);

/* Begin to connect; redis_send says how it went. files are for TLS, borrowed for the call.
 * Errors: those of tls_open; ERR_UNAVAILABLE when the name is unknown or the refusal comes at once;
 * ERR_NOMEM, ERR_IO. */
MUST_USE status redis_connect(struct redis **redis, const struct redis_address *address,
                              const struct tls_files *files);

/* Close the connection. Accepts NULL. */
void redis_close(struct redis *redis);

/* Append an encoded command of argc arguments to text. Errors: ERR_NOMEM, ERR_FULL. */
struct buf;
MUST_USE status redis_format(struct buf *text, const char **argv, const size_t *lens, int argc);

/* Queue encoded commands. Errors: ERR_NOMEM, ERR_FULL. */
MUST_USE status redis_add(struct redis *redis, const void *encoded, size_t len);

/* Send as much as the socket takes. Errors: ERR_UNAVAILABLE with a sentence naming the address. */
MUST_USE status redis_send(struct redis *redis);

/* Read what has arrived; *got is set to the number of bytes. Errors: ERR_UNAVAILABLE when the
 * connection is lost; ERR_CORRUPT when these are no replies. */
MUST_USE status redis_receive(struct redis *redis, size_t *got);

/* The next whole reply, or NULL when there is none yet; valid until the next call.
 * Errors: ERR_CORRUPT when these are no replies. */
MUST_USE status redis_next(struct redis *redis, const struct redis_value **value);

/* Keep the last reply of redis_next beyond the next call; redis_free_value gives it back. */
struct redis_value *redis_take(struct redis *redis);
void redis_free_value(struct redis_value *value);

/* The descriptor to poll for reading. */
int redis_fd(const struct redis *redis);

/* Must it also be polled for writing? */
bool redis_wants_write(const struct redis *redis);

/* What kind of value it is. */
enum redis_kind redis_kind(const struct redis_value *value);

/* The number, also of a text that is one; 0 for anything else. */
int64_t redis_int(const struct redis_value *value);

/* The text, NUL-ended and with its length in *len unless that is NULL; "" for anything else. */
const char *redis_text(const struct redis_value *value, size_t *len);

/* Elements of an array; 0 for anything else. */
size_t redis_count(const struct redis_value *value);

/* Element index of an array; a nil beyond its end. */
const struct redis_value *redis_at(const struct redis_value *value, size_t index);

#endif
