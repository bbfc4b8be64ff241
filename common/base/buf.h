/* buf.h - a growing byte buffer with a ceiling. Always followed by a NUL that is not counted.
 *
 * A zeroed struct with max_bytes set is an empty buffer. Thread: the owner's. */
#ifndef ONESTEP_COMMON_BASE_BUF_H
#define ONESTEP_COMMON_BASE_BUF_H

#include <stddef.h>

#include "common/base/status.h"

struct buf {
    char *data;       /* NULL while empty */
    size_t len;       /* bytes in use */
    size_t capacity;  /* bytes reserved */
    size_t max_bytes; /* ceiling on len; 0 means BUF_MAX_DEFAULT */
};

#define BUF_MAX_DEFAULT ((size_t)16 << 20)

/* Append bytes. Errors: ERR_FULL above the ceiling, ERR_NOMEM; the buffer is then unchanged. */
MUST_USE status buf_append(struct buf *b, const void *bytes, size_t len);

/* Append a C string. Errors as buf_append. */
MUST_USE status buf_append_text(struct buf *b, const char *text);

/* Append formatted text. Errors as buf_append. */
MUST_USE status buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Make room for extra more bytes without changing len. Errors as buf_append. */
MUST_USE status buf_reserve(struct buf *b, size_t extra);

/* Forget the content, keep the memory. */
void buf_reset(struct buf *b);

/* Free the memory. Accepts a zeroed struct. */
void buf_free(struct buf *b);

#endif
