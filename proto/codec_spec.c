/* DESIGN: the rows of spec_params and the fields of JobSpec have the same names, so one loop over
 * the rows converts every parameter; a new one needs nothing here. tests/unit/proto checks that
 * both lists agree. */
#include <math.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "proto/codec.h"
#include "proto/onestep.pb-c.h"
#include "proto/proto_priv.h"

static const ProtobufCFieldDescriptor *wire_field(const struct spec_param *p)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(&onestep__job_spec__descriptor, p->name);

    CHECK(f);
    return f;
}

static int choice_count(const struct spec_param *p)
{
    int n = 0;

    while (p->choices[n])
        n++;
    return n;
}

static status check_choice(const struct spec_param *p, int value)
{
    if (value < 0 || value >= choice_count(p))
        return FAIL(ERR_BADARG, "%s: choice %d is not known; the newest is %d", p->name, value,
                    choice_count(p) - 1);
    return OK;
}

static status check_text(const struct spec_param *p, const uint8_t *bytes, size_t len)
{
    if (len >= p->size)
        return FAIL(ERR_BADARG, "%s: %zu bytes, the limit is %zu", p->name, len, p->size - 1);
    if (!codec_is_text(bytes, len))
        return FAIL(ERR_BADARG, "%s: not UTF-8 text, or with control characters", p->name);
    return OK;
}

status codec_spec_pack(const struct job_spec *spec, void *wire)
{
    status st = OK;

    for (size_t i = 0; i < spec_param_count; i++) {
        const struct spec_param *p = &spec_params[i];
        const char *from = (const char *)spec + p->offset;
        char *to = (char *)wire + wire_field(p)->offset;

        switch (p->type) {
        case SPEC_INT:
        case SPEC_SEED:
        case SPEC_DOUBLE:
            memcpy(to, from, 8);
            break;
        case SPEC_CHOICE:
            TRY(check_choice(p, *(const int *)(const void *)from));
            memcpy(to, from, sizeof(int));
            break;
        case SPEC_TEXT: {
            size_t len = strnlen(from, p->size);
            ProtobufCBinaryData *text = (void *)to;

            TRY(check_text(p, (const uint8_t *)from, len));
            *text = (ProtobufCBinaryData){ .len = len, .data = (uint8_t *)(uintptr_t)from };
            break;
        }
        }
    }
out:
    return st;
}

status codec_spec_unpack(struct job_spec *spec, const void *wire)
{
    status st = OK;

    memset(spec, 0, sizeof(*spec));
    for (size_t i = 0; i < spec_param_count; i++) {
        const struct spec_param *p = &spec_params[i];
        const char *from = (const char *)wire + wire_field(p)->offset;
        char *to = (char *)spec + p->offset;

        switch (p->type) {
        case SPEC_INT:
        case SPEC_SEED:
        case SPEC_DOUBLE:
            memcpy(to, from, 8);
            break;
        case SPEC_CHOICE:
            TRY(check_choice(p, *(const int *)(const void *)from));
            memcpy(to, from, sizeof(int));
            break;
        case SPEC_TEXT: {
            const ProtobufCBinaryData *text = (const void *)from;

            TRY(check_text(p, text->data, text->len));
            if (text->len)
                memcpy(to, text->data, text->len);
            break;
        }
        }
    }
out:
    return st;
}

status codec_spec_encode(const struct job_spec *spec, struct buf *out)
{
    Onestep__JobSpec wire = ONESTEP__JOB_SPEC__INIT;
    size_t len;
    status st = OK;

    TRY(codec_spec_pack(spec, &wire));
    len = onestep__job_spec__get_packed_size(&wire);
    TRY(buf_reserve(out, len));
    onestep__job_spec__pack(&wire, (uint8_t *)out->data + out->len);
    out->len += len;
    out->data[out->len] = '\0';
out:
    return st;
}

status codec_spec_decode(struct job_spec *spec, const void *bytes, size_t len)
{
    struct codec_allocator allocator;
    Onestep__JobSpec *wire;
    status st;

    codec_allocator_init(&allocator);
    if (len > LIMIT_MSG_BYTES)
        return FAIL(ERR_CORRUPT, "a job spec of %zu bytes, the limit is %zu", len, LIMIT_MSG_BYTES);
    wire = onestep__job_spec__unpack(&allocator.base, len, bytes);
    if (!wire)
        return FAIL(ERR_CORRUPT, "a job spec of %zu bytes that can't be read", len);
    st = codec_spec_unpack(spec, wire);
    onestep__job_spec__free_unpacked(wire, &allocator.base);
    return st;
}

size_t codec_spec_bytes(const struct job_spec *spec)
{
    /* Tags, lengths and numbers: at most 12 bytes a parameter; the item adds id and lengths. */
    size_t bytes = 12 * spec_param_count + JOB_ID_BYTES + 16;

    for (size_t i = 0; i < spec_param_count; i++) {
        if (spec_params[i].type == SPEC_TEXT)
            bytes += strnlen((const char *)spec + spec_params[i].offset, spec_params[i].size);
    }
    return bytes;
}
