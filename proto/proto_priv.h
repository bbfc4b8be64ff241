/* proto_priv.h - what the files of the codec share: tables of fields, and the walks through them.
 *
 * A shape lists the fields of one C struct of proto/msg.h beside those of its protobuf-c struct,
 * with the limits of each. codec_pack and codec_unpack walk such a table, and both check it: what
 * would not be accepted is not sent. */
#ifndef ONESTEP_PROTO_PROTO_PRIV_H
#define ONESTEP_PROTO_PROTO_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/base/arena.h"
#include "proto/msg.h"

/* How a field is converted and checked. */
enum codec_kind {
    CODEC_INT = 1,  /* int64_t, min..max */
    CODEC_WORD,     /* uint64_t, any value */
    CODEC_REAL,     /* double, min..max, finite */
    CODEC_BOOL,     /* bool */
    CODEC_ENUM,     /* an enum, min..max */
    CODEC_ID,       /* char[JOB_ID_BYTES], a valid id */
    CODEC_TEXT,     /* const char *, min..max bytes of UTF-8 without control characters */
    CODEC_SENTENCE, /* as CODEC_TEXT, but cut and cleaned when sent: an error report never fails */
    CODEC_PART,     /* a struct with a shape of its own, always present */
    CODEC_PARTS,    /* pointer and count of such structs, min..max of them */
    CODEC_IDS,      /* pointer to char[JOB_ID_BYTES] and count */
    CODEC_TEXTS,    /* pointer to const char * and count; each of 1..SPEC_NAME_MAX - 1 bytes */
    CODEC_CELLS,    /* the same, each a CODEC_SENTENCE of at most MSG_CELL_MAX bytes */
    CODEC_INTS,     /* int64_t[max], exactly so many, none negative */
    CODEC_SPEC      /* struct job_spec */
};

struct codec_shape;

/* One field of a C struct and of its protobuf-c struct. */
struct codec_field {
    const char *name;               /* for sentences */
    enum codec_kind kind;           /* decides which of the following are used */
    size_t at, count_at;            /* offsets in the C struct, of the value and of its count */
    size_t wire_at, wire_count_at;  /* the same in protobuf-c's struct */
    int64_t min, max;               /* bounds, see enum codec_kind */
    const struct codec_shape *part; /* for CODEC_PART and CODEC_PARTS */
};

/* One pair of structs. */
struct codec_shape {
    const char *name;                       /* for sentences */
    size_t bytes;                           /* of the C struct */
    const ProtobufCMessageDescriptor *wire; /* of protobuf-c's struct */
    const struct codec_field *fields;
    size_t field_count;
};

/* The shape of a message's body; NULL when type is none of ours. */
const struct codec_shape *codec_shape_of(enum msg_type type);

/* Make protobuf-c's struct of src; strings are borrowed from src, the rest lies in a.
 * Errors: ERR_BADARG, ERR_FULL (too many parts), ERR_NOMEM. */
MUST_USE status codec_pack(const struct codec_shape *shape, const void *src, void *wire,
                           struct arena *a);

/* Fill dst from protobuf-c's struct; arrays and strings are copied into a.
 * Errors: ERR_CORRUPT, ERR_BADARG, ERR_NOMEM. */
MUST_USE status codec_unpack(const struct codec_shape *shape, void *dst, const void *wire,
                             struct arena *a);

/* Make protobuf-c's JobSpec of a spec; strings are borrowed. Errors: ERR_BADARG. */
MUST_USE status codec_spec_pack(const struct job_spec *spec, void *wire);

/* Fill a spec from protobuf-c's JobSpec: lengths, text and enums are checked, the bounds of numbers
 * are left to spec_check. Errors: ERR_CORRUPT, ERR_BADARG. */
MUST_USE status codec_spec_unpack(struct job_spec *spec, const void *wire);

/* Is this UTF-8 without NUL and control characters? */
bool codec_is_text(const uint8_t *bytes, size_t len);

/* An allocator that gives out at most budget_bytes. Free everything before it goes out of scope. */
struct codec_allocator {
    ProtobufCAllocator base;
    size_t budget_bytes;
};

/* Set it up. This function can't fail. */
void codec_allocator_init(struct codec_allocator *a);

#endif
