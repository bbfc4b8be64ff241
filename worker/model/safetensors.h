/* safetensors.h - reader and writer of the safetensors container.
 *
 * File: 8 bytes little-endian header length N, N bytes of JSON
 * {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, .., "__metadata__":
 * {..}}, then the data; offsets count from the end of the header.
 * Every length, offset, shape and dtype is checked before use; hostile bytes give one clear error.
 * Source: github.com/huggingface/safetensors, README "Format".
 * Thread: the owner's. */
#ifndef ONESTEP_WORKER_MODEL_SAFETENSORS_H
#define ONESTEP_WORKER_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/status.h"

/* Most dimensions of a tensor; the models here need five (a 3-D convolution's weight). */
#define SAFETENSORS_RANK_MAX 8

/* Room that a written file keeps for its header. */
#define SAFETENSORS_WRITE_HEADER_BYTES ((size_t)512 << 10)

/* Element types. Only F32, F16, BF16 convert to float; the others can be looked at as bytes. */
enum safetensors_dtype {
    SAFETENSORS_NONE = 0,
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_F64,
    SAFETENSORS_U8,
    SAFETENSORS_I32,
    SAFETENSORS_I64,
    SAFETENSORS_OTHER /* a type of the format that nothing here reads */
};

/* One tensor; everything in it lives as long as the struct safetensors it came from. */
struct safetensors_tensor {
    const char *name;                    /* key in the header */
    const char *dtype_name;              /* as written in the header ("F16") */
    enum safetensors_dtype dtype;        /* element type */
    int rank;                            /* dimensions in use, 0 for a scalar */
    int64_t shape[SAFETENSORS_RANK_MAX]; /* row-major, slowest first */
    int64_t count;                       /* elements: product of shape */
    const uint8_t *data;                 /* count elements, little-endian, of any alignment */
    size_t bytes;                        /* size of data */
};

/* One "__metadata__" entry. */
struct safetensors_meta {
    const char *key;   /* as in the file */
    const char *value; /* as in the file */
};

/* A parsed container. */
struct safetensors {
    struct safetensors_tensor *tensors; /* sorted by name */
    size_t count;                       /* tensors */
    struct safetensors_meta *metas;     /* in file order */
    size_t meta_count;                  /* entries of metas */
    const uint8_t *header;              /* the JSON text, not NUL-terminated */
    size_t header_bytes;                /* its length */
    char label[256];                    /* starts every error sentence */
    struct json doc;                    /* the header; owns every name */
    struct mapping map;                 /* the file, when opened by path */
};

/* Parse len bytes; label ("unet/x.safetensors") starts every error sentence.
 * As the format demands, tensors must cover the data exactly: no hole, no overlap, nothing behind.
 * Owner:  keeps bytes until safetensors_close. On error *s is zeroed.
 * Errors: ERR_CORRUPT for anything malformed, overlapping, overflowing or truncated; ERR_NOMEM. */
MUST_USE status safetensors_parse(struct safetensors *s, const char *label, const void *bytes,
                                  size_t len);

/* Map the file at path and parse it. Errors: as safetensors_parse, ERR_NOTFOUND, ERR_IO. */
MUST_USE status safetensors_open(struct safetensors *s, const char *path);

/* Accepts a zeroed struct. */
void safetensors_close(struct safetensors *s);

/* The tensor called name, or NULL. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);

/* Has t exactly this shape? This function can't fail. */
bool safetensors_has_shape(const struct safetensors_tensor *t, int rank, const int64_t *shape);

/* Can t be read as float? This function can't fail. */
bool safetensors_is_real(const struct safetensors_tensor *t);

/* The metadata value of key, or NULL. */
const char *safetensors_meta_find(const struct safetensors *s, const char *key);

/* dst[0..count-1] = elements [first, first + count) of t as float.
 * Errors: ERR_CORRUPT when t is not F32, F16 or BF16. The range must lie inside t (CHECK). */
MUST_USE status safetensors_read_f32(const struct safetensors_tensor *t, int64_t first,
                                     int64_t count, float *dst);

/* "[3, 3, 320, 4]" into text, for error sentences; returns text. */
const char *safetensors_shape_text(const int64_t *shape, int rank, char *text, size_t text_bytes);

/* A file being written: data goes out as it comes, the header last, into space kept for it; the
 * file has another name until it is complete. */
struct safetensors_writer {
    char path[FILE_PATH_BYTES];     /* final name */
    char part[FILE_PATH_BYTES];     /* name until it is complete */
    int fd;                         /* of the unfinished file; valid while is_open */
    bool is_open;                   /* between create and finish / abandon */
    uint64_t data_bytes;            /* written so far */
    struct buf header;              /* JSON of the tensors so far */
    struct json_writer header_json; /* writes header */
    struct buf metas;               /* key, NUL, value, NUL, .. */
};

/* What to write. data is dense float in the order of shape; with is_nhwc it is [n][h][w][c] and is
 * written as [n][c][h][w], which shape (rank 4, or rank 3 for n = 1) then describes. */
struct safetensors_item {
    const char *name;                    /* unique in the file */
    int rank;                            /* dimensions in use */
    int64_t shape[SAFETENSORS_RANK_MAX]; /* as the reader of the file will see it */
    bool is_nhwc;                        /* data has channels last, the file has them before h */
    bool is_half;                        /* rounded to F16; not with is_nhwc */
    const float *data;                   /* product(shape) elements */
};

/* Start a file at path. Errors: ERR_IO, ERR_NOTFOUND (no such folder), ERR_FULL. */
MUST_USE status safetensors_create(struct safetensors_writer *w, const char *path);

/* Append one tensor, F32 or F16. Errors: ERR_IO, ERR_FULL (disk, or the header's room). */
MUST_USE status safetensors_write(struct safetensors_writer *w,
                                  const struct safetensors_item *item);

/* Add a metadata pair. Errors: ERR_FULL. */
MUST_USE status safetensors_write_meta(struct safetensors_writer *w, const char *key,
                                       const char *value);

/* Write the header and give the file its name; w is closed in any case.
 * Errors: ERR_IO, ERR_FULL. */
MUST_USE status safetensors_finish(struct safetensors_writer *w);

/* Remove an unfinished file. Accepts a zeroed or finished writer. */
void safetensors_abandon(struct safetensors_writer *w);

#endif
