#include "broker/outbox.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "proto/codec.h"

/* Frames of one turn: 512 messages, answered by at most LIMIT_MSG_BYTES each, would be less. */
#define FRAMES_BYTES_MAX ((size_t)256 << 20)

void outbox_reset(struct outbox *out)
{
    out->call_count = 0;
    out->send_count = 0;
    buf_reset(&out->frames);
}

void outbox_free(struct outbox *out)
{
    free(out->calls);
    free(out->sends);
    buf_free(&out->frames);
    *out = (struct outbox){ 0 };
}

/* Room for one more of *room items of bytes each. A broker without memory for a turn can only end,
 * and be started again: it holds no truth. */
static void *grow(void *items, size_t count, size_t *room, size_t bytes)
{
    if (count < *room)
        return items;
    *room = *room ? 2 * *room : 64;
    items = realloc(items, *room * bytes);
    CHECK(items);
    return items;
}

void outbox_call(struct outbox *out, const struct store_call *call)
{
    out->calls = grow(out->calls, out->call_count, &out->call_room, sizeof(*out->calls));
    out->calls[out->call_count++] = *call;
}

status outbox_send(struct outbox *out, enum broker_side side, const struct bus_peer *to,
                   const struct msg *m)
{
    size_t at = out->frames.len;
    status st;

    out->frames.max_bytes = FRAMES_BYTES_MAX;
    st = codec_encode(m, &out->frames);
    if (st != OK)
        return st;
    out->sends = grow(out->sends, out->send_count, &out->send_room, sizeof(*out->sends));
    out->sends[out->send_count] = (struct outbox_send){
        .side = side,
        .to = *to,
        .at = at,
        .len = out->frames.len - at,
        .is_job = m->type == MSG_JOB,
    };
    if (m->type == MSG_JOB)
        out->sends[out->send_count].lease = m->job.lease;
    out->send_count++;
    return OK;
}
