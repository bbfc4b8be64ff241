/* A frame from a peer: what is accepted can be sent on, and says the same at the next hop. */
#include <string.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "proto/codec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/proto/same.h"

/* A frame and what it says. */
struct hop {
    struct arena arena;
    struct msg msg;
    struct buf next; /* the message encoded again */
};

static status take(struct hop *h, const void *bytes, size_t len)
{
    status st;

    CHECK(arena_open(&h->arena, "message", CODEC_ARENA_BYTES) == OK);
    st = codec_decode(&h->msg, bytes, len, &h->arena);
    CHECK(st != ERR_NOMEM); /* CODEC_ARENA_BYTES holds any message */
    if (st == OK)
        CHECK(codec_encode(&h->msg, &h->next) == OK);
    else
        CHECK(status_message()[0] != '\0');
    return st;
}

static void leave(struct hop *h)
{
    buf_free(&h->next);
    arena_close(&h->arena);
}

FUZZ(codec, 16 << 10)
{
    struct hop first = { 0 }, second = { 0 };

    status_clear();
    if (take(&first, bytes, len) == OK) {
        CHECK(take(&second, first.next.data, first.next.len) == OK);
        CHECK(same_msg(&first.msg, &second.msg));
        CHECK(first.next.len == second.next.len);
        CHECK(memcmp(first.next.data, second.next.data, first.next.len) == 0);
    }
    leave(&first);
    leave(&second);
}
