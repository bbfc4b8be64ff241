/* codec.h - bytes to struct msg and back. Every limit on what comes from outside is checked here.
 *
 * A message on the wire is one frame: a header of CODEC_HEADER_BYTES (magic "1STP", version and
 * type as 16-bit, seq as 64-bit, all little-endian) and a proto3 body (proto/onestep.proto).
 * Thread: any; no state. */
#ifndef ONESTEP_PROTO_CODEC_H
#define ONESTEP_PROTO_CODEC_H

#include <stddef.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/status.h"
#include "proto/msg.h"

#define CODEC_VERSION 1
#define CODEC_HEADER_BYTES 16

/* An arena of this size holds any one decoded message. */
#define CODEC_ARENA_BYTES ((size_t)2 << 20)

/* Append the frame of m to out.
 * Errors: ERR_FULL when it is over LIMIT_MSG_BYTES (send fewer items); ERR_BADARG when a field is
 * out of its bounds (the sentence names it); ERR_NOMEM. out is then unchanged. */
MUST_USE status codec_encode(const struct msg *m, struct buf *out);

/* Read a frame. Arrays and strings of m lie in a, which the caller empties when m is done with.
 * Errors: ERR_CORRUPT when the bytes are not a message of ours or break a limit; ERR_BADARG when
 * one value is out of its bounds; ERR_CONFLICT when the peer speaks another version; ERR_NOMEM.
 * Unless the header itself is bad, m->type and m->seq are set, so that the sender can be told. */
MUST_USE status codec_decode(struct msg *m, const void *bytes, size_t len, struct arena *a);

/* Append a job spec alone, as it is kept in the store. Equal specs give equal bytes.
 * Errors: ERR_BADARG, ERR_FULL, ERR_NOMEM. */
MUST_USE status codec_spec_encode(const struct job_spec *spec, struct buf *out);

/* Read a job spec. Errors: ERR_CORRUPT, ERR_BADARG. */
MUST_USE status codec_spec_decode(struct job_spec *spec, const void *bytes, size_t len);

/* Bytes that an item with this spec takes in a SUBMIT, at most. */
size_t codec_spec_bytes(const struct job_spec *spec);

#endif
