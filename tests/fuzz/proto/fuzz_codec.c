/* A frame from a peer: what is accepted can be sent on, and means the same at the next hop. */
#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "proto/codec.h"
#include "tests/fuzz/fuzz.h"

/* Decode, encode into out. The answer is that of the decoder; the encoder must not refuse. */
static status carry(const void *bytes, size_t len, struct buf *out)
{
    struct arena a = { 0 };
    struct msg m;
    status st;

    CHECK(arena_open(&a, "message", CODEC_ARENA_BYTES) == OK);
    st = codec_decode(&m, bytes, len, &a);
    CHECK(st != ERR_NOMEM); /* CODEC_ARENA_BYTES holds any message */
    if (st == OK)
        CHECK(codec_encode(&m, out) == OK);
    else
        CHECK(status_message()[0] != '\0');
    arena_close(&a);
    return st;
}

FUZZ(codec, 16 << 10)
{
    struct buf first = { 0 }, second = { 0 };

    status_clear();
    if (carry(bytes, len, &first) == OK) {
        CHECK(carry(first.data, first.len, &second) == OK);
        CHECK(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
    }
    buf_free(&first);
    buf_free(&second);
}
