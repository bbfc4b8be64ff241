/* DESIGN: one walk over a table of fields in each direction. A field is checked where it is
 * converted, with the same function for both directions, so that a limit is written down once. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "proto/proto_priv.h"

/* One field under way, and the message that it is part of, for sentences. */
struct place {
    const struct codec_shape *shape;
    const struct codec_field *field;
    struct arena *arena;
};

#define AT(type, base, offset) (*(type *)(void *)((char *)(base) + (offset)))
/* CAREFUL: the const lands on the innermost type: AT_CONST(char *, ...) is a const char *. */
#define AT_CONST(type, base, offset)                                                               \
    (*(const type *)(const void *)((const char *)(base) + (offset)))

static status check_int(const struct place *p, int64_t value)
{
    if (value < p->field->min || value > p->field->max)
        return FAIL(ERR_BADARG, "%s: %s is %lld, outside %lld..%lld", p->shape->name,
                    p->field->name, (long long)value, (long long)p->field->min,
                    (long long)p->field->max);
    return OK;
}

static status check_real(const struct place *p, double value)
{
    if (!(value >= (double)p->field->min && value <= (double)p->field->max))
        return FAIL(ERR_BADARG, "%s: %s is %g, outside %lld..%lld", p->shape->name, p->field->name,
                    value, (long long)p->field->min, (long long)p->field->max);
    return OK;
}

static status check_count(const struct place *p, size_t count)
{
    if (count < (size_t)p->field->min || count > (size_t)p->field->max)
        return FAIL(ERR_FULL, "%s: %zu %s, allowed are %lld to %lld", p->shape->name, count,
                    p->field->name, (long long)p->field->min, (long long)p->field->max);
    return OK;
}

static status check_text(const struct place *p, const uint8_t *bytes, size_t len)
{
    bool is_list = p->field->kind == CODEC_TEXTS, is_row = p->field->kind == CODEC_CELLS;
    size_t min = is_list ? 1 : is_row ? 0 : (size_t)p->field->min;
    size_t max = is_list ? SPEC_NAME_MAX - 1 : is_row ? MSG_CELL_MAX : (size_t)p->field->max;

    if (len < min || len > max)
        return FAIL(ERR_BADARG, "%s: %s has %zu bytes, allowed are %zu to %zu", p->shape->name,
                    p->field->name, len, min, max);
    if (!codec_is_text(bytes, len))
        return FAIL(ERR_BADARG, "%s: %s is not UTF-8 text, or has control characters in it",
                    p->shape->name, p->field->name);
    return OK;
}

static status check_id(const struct place *p, const char *id)
{
    if (!msg_is_id(id))
        return FAIL(ERR_BADARG, "%s: %s is not an id (%d characters of 0-9a-z)", p->shape->name,
                    p->field->name, JOB_ID_CHARS);
    return OK;
}

static ProtobufCBinaryData borrow(const char *text, size_t len)
{
    return (ProtobufCBinaryData){ .len = len, .data = (uint8_t *)(uintptr_t)text };
}

/* --- C struct to protobuf-c --- */

/* A copy of text without what a receiver would refuse: control characters and broken UTF-8 become
 * spaces, and it ends at a character's border. */
static status clean_sentence(const struct place *p, const char *text, ProtobufCBinaryData *wire)
{
    size_t max = p->field->kind == CODEC_CELLS ? MSG_CELL_MAX : (size_t)p->field->max;
    size_t len = strnlen(text, max + 1);
    uint8_t *copy;
    void *ptr = NULL;
    status st = arena_take(p->arena, len + 1, &ptr);

    if (st != OK)
        return st;
    if (len > max) {
        len = max;
        while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
            len--;
    }
    copy = ptr;
    memcpy(copy, text, len);
    for (size_t i = 0; i < len;) {
        size_t step = 1;

        while (step <= 4 && i + step <= len && !codec_is_text(copy + i, step))
            step++;
        if (step > 4 || i + step > len) {
            copy[i] = ' ';
            step = 1;
        }
        i += step;
    }
    *wire = (ProtobufCBinaryData){ .len = len, .data = copy };
    return OK;
}

static status pack_texts(const struct place *p, const void *src, void *wire)
{
    size_t count = AT_CONST(size_t, src, p->field->count_at);
    const char *const *texts = AT_CONST(char *const *, src, p->field->at);
    const char(*ids)[JOB_ID_BYTES] = AT_CONST(void *, src, p->field->at);
    ProtobufCBinaryData *items;
    void *ptr = NULL;
    status st = OK;

    TRY(check_count(p, count));
    TRY(arena_take(p->arena, count * sizeof(*items), &ptr));
    items = ptr;
    for (size_t i = 0; i < count; i++) {
        if (p->field->kind == CODEC_IDS) {
            TRY(check_id(p, ids[i]));
            items[i] = borrow(ids[i], JOB_ID_CHARS);
        } else if (p->field->kind == CODEC_CELLS) {
            TRY(clean_sentence(p, texts[i], &items[i]));
        } else {
            TRY(check_text(p, (const uint8_t *)texts[i], strlen(texts[i])));
            items[i] = borrow(texts[i], strlen(texts[i]));
        }
    }
    AT(size_t, wire, p->field->wire_count_at) = count;
    AT(ProtobufCBinaryData *, wire, p->field->wire_at) = items;
out:
    return st;
}

static status pack_part(const struct place *p, const void *src, void **wire)
{
    const struct codec_shape *part = p->field->part;
    void *ptr = NULL;
    status st = arena_take(p->arena, part->wire->sizeof_message, &ptr);

    if (st != OK)
        return st;
    protobuf_c_message_init(part->wire, ptr);
    *wire = ptr;
    return codec_pack(part, src, ptr, p->arena);
}

static status pack_parts(const struct place *p, const void *src, void *wire)
{
    size_t count = AT_CONST(size_t, src, p->field->count_at);
    const char *parts = AT_CONST(void *, src, p->field->at);
    void **items;
    void *ptr = NULL;
    status st = OK;

    TRY(check_count(p, count));
    TRY(arena_take(p->arena, count * sizeof(*items), &ptr));
    items = ptr;
    for (size_t i = 0; i < count; i++)
        TRY(pack_part(p, parts + i * p->field->part->bytes, &items[i]));
    AT(size_t, wire, p->field->wire_count_at) = count;
    AT(void **, wire, p->field->wire_at) = items;
out:
    return st;
}

static status pack_spec(const struct place *p, const void *src, void **wire)
{
    const ProtobufCMessageDescriptor *spec = p->field->part->wire;
    void *ptr = NULL;
    status st = arena_take(p->arena, spec->sizeof_message, &ptr);

    if (st != OK)
        return st;
    protobuf_c_message_init(spec, ptr);
    *wire = ptr;
    return codec_spec_pack(src, ptr);
}

static status pack_ints(const struct place *p, const void *src, void *wire)
{
    const int64_t *values = &AT_CONST(int64_t, src, p->field->at);

    for (int64_t i = 0; i < p->field->max; i++) {
        if (values[i] < 0)
            return FAIL(ERR_BADARG, "%s: %s[%lld] is negative", p->shape->name, p->field->name,
                        (long long)i);
    }
    AT(size_t, wire, p->field->wire_count_at) = (size_t)p->field->max;
    AT(const int64_t *, wire, p->field->wire_at) = values;
    return OK;
}

static status pack_scalar(const struct place *p, const void *src, void *wire)
{
    const struct codec_field *f = p->field;

    if (f->kind == CODEC_INT) {
        AT(int64_t, wire, f->wire_at) = AT_CONST(int64_t, src, f->at);
        return check_int(p, AT_CONST(int64_t, src, f->at));
    }
    if (f->kind == CODEC_WORD) {
        AT(uint64_t, wire, f->wire_at) = AT_CONST(uint64_t, src, f->at);
        return OK;
    }
    if (f->kind == CODEC_REAL) {
        AT(double, wire, f->wire_at) = AT_CONST(double, src, f->at);
        return check_real(p, AT_CONST(double, src, f->at));
    }
    if (f->kind == CODEC_BOOL) {
        AT(protobuf_c_boolean, wire, f->wire_at) = AT_CONST(bool, src, f->at);
        return OK;
    }
    CHECK(f->kind == CODEC_ENUM);
    AT(int, wire, f->wire_at) = AT_CONST(int, src, f->at);
    return check_int(p, AT_CONST(int, src, f->at));
}

static status pack_field(const struct place *p, const void *src, void *wire)
{
    const struct codec_field *f = p->field;
    const char *text;

    switch (f->kind) {
    case CODEC_INT:
    case CODEC_WORD:
    case CODEC_REAL:
    case CODEC_BOOL:
    case CODEC_ENUM:
        return pack_scalar(p, src, wire);
    case CODEC_ID:
        text = (const char *)src + f->at;
        AT(ProtobufCBinaryData, wire, f->wire_at) = borrow(text, JOB_ID_CHARS);
        return check_id(p, text);
    case CODEC_TEXT:
        text = AT_CONST(char *, src, f->at);
        AT(ProtobufCBinaryData, wire, f->wire_at) = borrow(text, strlen(text));
        return check_text(p, (const uint8_t *)text, strlen(text));
    case CODEC_SENTENCE:
        text = AT_CONST(char *, src, f->at);
        return clean_sentence(p, text, &AT(ProtobufCBinaryData, wire, f->wire_at));
    case CODEC_PART:
        return pack_part(p, (const char *)src + f->at, &AT(void *, wire, f->wire_at));
    case CODEC_PARTS:
        return pack_parts(p, src, wire);
    case CODEC_IDS:
    case CODEC_TEXTS:
    case CODEC_CELLS:
        return pack_texts(p, src, wire);
    case CODEC_INTS:
        return pack_ints(p, src, wire);
    case CODEC_SPEC:
        return pack_spec(p, (const char *)src + f->at, &AT(void *, wire, f->wire_at));
    }
    CHECK(!"a field of an unknown kind");
    return ERR_BADARG;
}

status codec_pack(const struct codec_shape *shape, const void *src, void *wire, struct arena *a)
{
    for (size_t i = 0; i < shape->field_count; i++) {
        struct place p = { .shape = shape, .field = &shape->fields[i], .arena = a };
        status st = pack_field(&p, src, wire);

        if (st != OK)
            return st;
    }
    return OK;
}

/* --- protobuf-c to C struct --- */

static status copy_text(const struct place *p, const ProtobufCBinaryData *wire, const char **text)
{
    void *ptr = NULL;
    status st = OK;

    *text = "";
    TRY(check_text(p, wire->data, wire->len));
    if (wire->len == 0)
        return OK;
    TRY(arena_take(p->arena, wire->len + 1, &ptr));
    *text = memcpy(ptr, wire->data, wire->len);
    ((char *)ptr)[wire->len] = '\0';
out:
    return st;
}

static status copy_id(const struct place *p, const ProtobufCBinaryData *wire, char *id)
{
    if (wire->len != JOB_ID_CHARS)
        return FAIL(ERR_BADARG, "%s: %s has %zu bytes, an id has %d", p->shape->name,
                    p->field->name, wire->len, JOB_ID_CHARS);
    memcpy(id, wire->data, JOB_ID_CHARS);
    id[JOB_ID_CHARS] = '\0';
    return check_id(p, id);
}

static status unpack_texts(const struct place *p, void *dst, const void *wire)
{
    size_t count = AT_CONST(size_t, wire, p->field->wire_count_at);
    const ProtobufCBinaryData *items = AT_CONST(ProtobufCBinaryData *, wire, p->field->wire_at);
    bool is_ids = p->field->kind == CODEC_IDS;
    void *ptr = NULL;
    status st = OK;

    TRY(check_count(p, count));
    TRY(arena_take(p->arena, count * (is_ids ? JOB_ID_BYTES : sizeof(char *)), &ptr));
    for (size_t i = 0; i < count; i++) {
        if (is_ids)
            TRY(copy_id(p, &items[i], (char *)ptr + i * JOB_ID_BYTES));
        else
            TRY(copy_text(p, &items[i], (const char **)ptr + i));
    }
    AT(size_t, dst, p->field->count_at) = count;
    AT(void *, dst, p->field->at) = ptr;
out:
    return st;
}

static status unpack_part(const struct place *p, void *dst, const void *wire)
{
    if (!wire)
        return FAIL(ERR_CORRUPT, "%s: %s is missing", p->shape->name, p->field->name);
    if (p->field->kind == CODEC_SPEC)
        return codec_spec_unpack(dst, wire);
    return codec_unpack(p->field->part, dst, wire, p->arena);
}

static status unpack_parts(const struct place *p, void *dst, const void *wire)
{
    size_t count = AT_CONST(size_t, wire, p->field->wire_count_at);
    const void *const *items = AT_CONST(void *const *, wire, p->field->wire_at);
    size_t bytes = p->field->part->bytes;
    void *ptr = NULL;
    status st = OK;

    TRY(check_count(p, count));
    TRY(arena_take(p->arena, count * bytes, &ptr));
    for (size_t i = 0; i < count; i++)
        TRY(unpack_part(p, (char *)ptr + i * bytes, items[i]));
    AT(size_t, dst, p->field->count_at) = count;
    AT(void *, dst, p->field->at) = ptr;
out:
    return st;
}

static status unpack_ints(const struct place *p, void *dst, const void *wire)
{
    size_t count = AT_CONST(size_t, wire, p->field->wire_count_at);
    const int64_t *items = AT_CONST(int64_t *, wire, p->field->wire_at);
    int64_t *values = &AT(int64_t, dst, p->field->at);

    if (count != (size_t)p->field->max)
        return FAIL(ERR_CORRUPT, "%s: %zu %s, there must be %lld", p->shape->name, count,
                    p->field->name, (long long)p->field->max);
    for (size_t i = 0; i < count; i++) {
        if (items[i] < 0)
            return FAIL(ERR_BADARG, "%s: %s[%zu] is negative", p->shape->name, p->field->name, i);
        values[i] = items[i];
    }
    return OK;
}

static status unpack_scalar(const struct place *p, void *dst, const void *wire)
{
    const struct codec_field *f = p->field;

    if (f->kind == CODEC_INT) {
        AT(int64_t, dst, f->at) = AT_CONST(int64_t, wire, f->wire_at);
        return check_int(p, AT_CONST(int64_t, wire, f->wire_at));
    }
    if (f->kind == CODEC_WORD) {
        AT(uint64_t, dst, f->at) = AT_CONST(uint64_t, wire, f->wire_at);
        return OK;
    }
    if (f->kind == CODEC_REAL) {
        AT(double, dst, f->at) = AT_CONST(double, wire, f->wire_at);
        return check_real(p, AT_CONST(double, wire, f->wire_at));
    }
    if (f->kind == CODEC_BOOL) {
        AT(bool, dst, f->at) = AT_CONST(protobuf_c_boolean, wire, f->wire_at) != 0;
        return OK;
    }
    CHECK(f->kind == CODEC_ENUM);
    AT(int, dst, f->at) = AT_CONST(int, wire, f->wire_at);
    return check_int(p, AT_CONST(int, wire, f->wire_at));
}

static status unpack_field(const struct place *p, void *dst, const void *wire)
{
    const struct codec_field *f = p->field;

    switch (f->kind) {
    case CODEC_INT:
    case CODEC_WORD:
    case CODEC_REAL:
    case CODEC_BOOL:
    case CODEC_ENUM:
        return unpack_scalar(p, dst, wire);
    case CODEC_ID:
        return copy_id(p, &AT_CONST(ProtobufCBinaryData, wire, f->wire_at), (char *)dst + f->at);
    case CODEC_TEXT:
    case CODEC_SENTENCE:
        return copy_text(p, &AT_CONST(ProtobufCBinaryData, wire, f->wire_at),
                         &AT(const char *, dst, f->at));
    case CODEC_PART:
    case CODEC_SPEC:
        return unpack_part(p, (char *)dst + f->at, AT_CONST(void *, wire, f->wire_at));
    case CODEC_PARTS:
        return unpack_parts(p, dst, wire);
    case CODEC_IDS:
    case CODEC_TEXTS:
    case CODEC_CELLS:
        return unpack_texts(p, dst, wire);
    case CODEC_INTS:
        return unpack_ints(p, dst, wire);
    }
    CHECK(!"a field of an unknown kind");
    return ERR_BADARG;
}

status codec_unpack(const struct codec_shape *shape, void *dst, const void *wire, struct arena *a)
{
    memset(dst, 0, shape->bytes);
    for (size_t i = 0; i < shape->field_count; i++) {
        struct place p = { .shape = shape, .field = &shape->fields[i], .arena = a };
        status st = unpack_field(&p, dst, wire);

        if (st != OK)
            return st;
    }
    return OK;
}
