/* limits.h - every ceiling in one place, each with its reason. */
#ifndef ONESTEP_COMMON_BASE_LIMITS_H
#define ONESTEP_COMMON_BASE_LIMITS_H

/* A file of text that we parse whole (YAML, JSON config, result manifest): the largest real one is
 * a few KiB. */
#define LIMIT_TEXT_FILE_BYTES ((size_t)1 << 20)

/* One message on the wire, checked before it is decoded; a job spec is under 10 KiB. */
#define LIMIT_MSG_BYTES ((size_t)256 << 10)

/* Jobs in one SUBMIT or STATUS message, so that a message stays below LIMIT_MSG_BYTES. */
#define LIMIT_JOBS_PER_MSG 128

/* A safetensors header: SVD's UNet with 1,428 tensors needs 180 KiB. */
#define LIMIT_TENSOR_HEADER_BYTES ((size_t)8 << 20)

/* Input image: encoded bytes, and pixels after decoding. 40 Mpx is an 8K x 5K camera file; a bomb
 * of 20000 x 20000 is ten times that. */
#define LIMIT_IMAGE_BYTES ((size_t)64 << 20)
#define LIMIT_IMAGE_PIXELS ((size_t)40 << 20)

/* Reading one image: memory beside its input and its 8-bit pixels, for 40 Mpx of 16-bit RGBA or the
 * coefficients of a progressive JPEG, twice; and seconds. Either takes a twentieth of this. */
#define LIMIT_DECODE_BYTES ((size_t)1 << 30)
#define LIMIT_DECODE_S 30

#endif
