#include "common/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

status buf_reserve(struct buf *b, size_t extra)
{
    size_t max = b->max_bytes ? b->max_bytes : BUF_MAX_DEFAULT;
    size_t capacity = b->capacity ? b->capacity : 256;
    char *data;

    if (b->len > max || extra > max - b->len)
        return FAIL(ERR_FULL, "a buffer limited to %zu bytes would need %zu more than its %zu", max,
                    extra, b->len);
    if (b->data && b->len + extra < b->capacity)
        return OK;
    while (capacity <= b->len + extra)
        capacity *= 2;
    data = realloc(b->data, capacity);
    if (!data)
        return FAIL(ERR_NOMEM, "no %zu bytes of memory for a buffer", capacity);
    data[b->len] = '\0';
    b->data = data;
    b->capacity = capacity;
    return OK;
}

status buf_append(struct buf *b, const void *bytes, size_t len)
{
    status st = buf_reserve(b, len);

    if (st != OK)
        return st;
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = '\0';
    return OK;
}

status buf_append_text(struct buf *b, const char *text)
{
    return buf_append(b, text, strlen(text));
}

status buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    int len;
    status st;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0)
        return FAIL(ERR_BADARG, "a text could not be formatted");
    st = buf_reserve(b, (size_t)len);
    if (st != OK)
        return st;
    va_start(args, fmt);
    vsnprintf(b->data + b->len, (size_t)len + 1, fmt, args);
    va_end(args);
    b->len += (size_t)len;
    return OK;
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void buf_free(struct buf *b)
{
    free(b->data);
    b->data = NULL;
    b->len = 0;
    b->capacity = 0;
}
