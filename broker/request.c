#include <stdlib.h>
#include <string.h>

#include "broker/broker_priv.h"
#include "common/base/check.h"

/* Tags: index of the request above, index of the item below. */
#define ITEM_BITS 16

struct request *request_begin(struct broker *b, enum broker_side side, const struct bus_peer *from,
                              const struct msg *m, struct outbox *out)
{
    struct request *r;
    uint16_t place;

    if (b->free_count == 0) {
        broker_answer_error(side, from, m->seq, ERR_UNAVAILABLE,
                            "this broker has too much to do; ask again in a moment", out);
        return NULL;
    }
    place = b->free_requests[--b->free_count];
    if (!b->requests[place])
        b->requests[place] = calloc(1, sizeof(struct request));
    r = b->requests[place];
    CHECK(r); /* as in outbox.c: without memory a broker ends */
    CHECK(!r->is_used);
    r->is_used = true;
    r->is_answered = false;
    r->place = place;
    r->side = side;
    r->peer = *from;
    r->type = m->type;
    r->seq = m->seq;
    r->waiting = r->count = 0;
    r->worker_dispatched = 0;
    memset(r->sentence_at, 0, sizeof(r->sentence_at));
    buf_reset(&r->sentences);
    return r;
}

uint64_t request_tag(const struct request *r, size_t index)
{
    return (uint64_t)r->place << ITEM_BITS | index;
}

struct request *request_of_tag(struct broker *b, uint64_t tag, size_t *index)
{
    size_t place = tag >> ITEM_BITS;

    CHECK(place < REQUESTS_MAX && b->requests[place] && b->requests[place]->is_used);
    *index = tag & ((1u << ITEM_BITS) - 1);
    return b->requests[place];
}

void request_keep_sentence(struct request *r, size_t index, const char *sentence)
{
    if (r->sentences.len == 0)
        CHECK(buf_append(&r->sentences, "", 1) == OK); /* so that 0 means none */
    r->sentence_at[index] = r->sentences.len;
    if (buf_append(&r->sentences, sentence, strlen(sentence) + 1) != OK)
        r->sentence_at[index] = 0; /* the code stands without it */
}

bool request_is_complete(struct request *r)
{
    CHECK(r->waiting > 0);
    return --r->waiting == 0;
}

void request_end(struct broker *b, struct request *r)
{
    CHECK(r->is_used && r->waiting == 0);
    r->is_used = false;
    b->free_requests[b->free_count++] = r->place;
}

struct request *request_ask(struct broker *b, const struct bus_peer *from, const struct msg *m,
                            struct store_call *call, struct outbox *out)
{
    struct request *r = request_begin(b, BROKER_CLIENTS, from, m, out);

    if (!r)
        return NULL;
    r->waiting = 1;
    call->tag = request_tag(r, 0);
    outbox_call(out, call);
    return r;
}

bool request_end_asked(struct broker *b, struct request *r, const struct store_reply *reply,
                       struct outbox *out)
{
    bool is_error = reply->code != OK;

    CHECK(request_is_complete(r));
    if (is_error)
        broker_answer_error(r->side, &r->peer, r->seq, reply->code, reply->sentence, out);
    request_end(b, r);
    return is_error;
}
