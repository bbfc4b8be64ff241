#include "proto/codec.h"

#include <string.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "proto/proto_priv.h"

static const char magic[4] = { '1', 'S', 'T', 'P' };

/* Room for protobuf-c's structs of one outgoing message; untouched pages cost nothing. */
#define PACK_ARENA_BYTES ((size_t)1 << 20)

static void put_le(uint8_t *dst, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        dst[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *src, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)src[i] << (8 * i);
    return value;
}

/* The members of the union start where it starts. */
static const void *body_of(const struct msg *m)
{
    return &m->submit;
}

static status append_frame(const struct msg *m, const ProtobufCMessage *wire, struct buf *out)
{
    size_t body = protobuf_c_message_get_packed_size(wire);
    uint8_t *frame;
    status st;

    if (body > LIMIT_MSG_BYTES - CODEC_HEADER_BYTES)
        return FAIL(ERR_FULL, "%s of %zu bytes, the limit is %zu: send fewer items at a time",
                    codec_shape_of(m->type)->name, body + CODEC_HEADER_BYTES, LIMIT_MSG_BYTES);
    st = buf_reserve(out, CODEC_HEADER_BYTES + body);
    if (st != OK)
        return st;
    frame = (uint8_t *)out->data + out->len;
    memcpy(frame, magic, sizeof(magic));
    put_le(frame + 4, CODEC_VERSION, 2);
    put_le(frame + 6, m->type, 2);
    put_le(frame + 8, m->seq, 8);
    CHECK(protobuf_c_message_pack(wire, frame + CODEC_HEADER_BYTES) == body);
    out->len += CODEC_HEADER_BYTES + body;
    out->data[out->len] = '\0';
    return OK;
}

status codec_encode(const struct msg *m, struct buf *out)
{
    const struct codec_shape *shape = codec_shape_of(m->type);
    struct arena scratch = { 0 };
    void *wire = NULL;
    status st = OK;

    CHECK(shape);
    TRY(arena_open(&scratch, "message encoder", PACK_ARENA_BYTES));
    TRY(arena_take(&scratch, shape->wire->sizeof_message, &wire));
    protobuf_c_message_init(shape->wire, wire);
    TRY(codec_pack(shape, body_of(m), wire, &scratch));
    TRY(append_frame(m, wire, out));
out:
    arena_close(&scratch);
    return st;
}

static status read_header(struct msg *m, const uint8_t *frame, size_t len)
{
    uint64_t version, type;

    m->type = MSG_NONE;
    m->seq = 0;
    if (len < CODEC_HEADER_BYTES || memcmp(frame, magic, sizeof(magic)) != 0)
        return FAIL(ERR_CORRUPT, "%zu bytes that are not a Onestep message", len);
    version = get_le(frame + 4, 2);
    type = get_le(frame + 6, 2);
    m->seq = get_le(frame + 8, 8);
    if (version != CODEC_VERSION)
        return FAIL(ERR_CONFLICT,
                    "protocol %u is spoken there and protocol %d here: use the same release of "
                    "onestep, onestep-broker and onestep-worker",
                    (unsigned)version, CODEC_VERSION);
    if (type == MSG_NONE || type >= MSG_TYPE_COUNT)
        return FAIL(ERR_CORRUPT, "a message of unknown type %u", (unsigned)type);
    m->type = (enum msg_type)type;
    return OK;
}

status codec_decode(struct msg *m, const void *bytes, size_t len, struct arena *a)
{
    const uint8_t *frame = bytes;
    const struct codec_shape *shape;
    struct codec_allocator allocator;
    ProtobufCMessage *wire;
    status st;

    if (len > LIMIT_MSG_BYTES)
        return FAIL(ERR_CORRUPT, "a message of %zu bytes, the limit is %zu", len, LIMIT_MSG_BYTES);
    st = read_header(m, frame, len);
    if (st != OK)
        return st;
    shape = codec_shape_of(m->type);
    codec_allocator_init(&allocator);
    wire = protobuf_c_message_unpack(shape->wire, &allocator.base, len - CODEC_HEADER_BYTES,
                                     frame + CODEC_HEADER_BYTES);
    if (!wire)
        return FAIL(ERR_CORRUPT, "%s of %zu bytes that can't be read", shape->name, len);
    st = codec_unpack(shape, &m->submit, wire, a);
    protobuf_c_message_free_unpacked(wire, &allocator.base);
    return st;
}
