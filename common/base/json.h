/* json.h - strict JSON in, correct JSON out.
 *
 * Reading: a document is parsed whole, then read through values that know where they stand, so that
 * every error says what is wrong where:
 *
 *   unet/config.json: down_block_types[2] is a number, want a text
 *
 * Strict means: UTF-8, no duplicate key, at most JSON_DEPTH_MAX levels, nothing after the end, no
 * NUL inside a text. JSON null counts as absent. Thread: the owner's. */
#ifndef ONESTEP_COMMON_BASE_JSON_H
#define ONESTEP_COMMON_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"

#define JSON_DEPTH_MAX 32
#define JSON_PATH_BYTES 192

/* What a value is. */
enum json_kind {
    JSON_KIND_ABSENT = 0, /* no such key, or null */
    JSON_KIND_OBJECT,
    JSON_KIND_ARRAY,
    JSON_KIND_TEXT,
    JSON_KIND_INT,
    JSON_KIND_DOUBLE, /* a number with a point or an exponent */
    JSON_KIND_BOOL
};

/* A parsed document. It owns all texts and values read from it. */
struct json {
    void *root;                      /* the parser's tree; NULL in a zeroed document */
    char name[JSON_PATH_BYTES - 64]; /* for error sentences; a long one lost its beginning */
};

/* One value of a document; valid until json_free. Copy it freely. */
struct json_value {
    const void *node;           /* the parser's node; NULL when absent */
    char path[JSON_PATH_BYTES]; /* "unet/config.json: blocks[2].heads", for error sentences */
};

/* Parse len bytes of text, called name in error sentences. Top level: an object or an array.
 * Errors: ERR_CORRUPT with line and column; ERR_NOMEM. */
MUST_USE status json_parse(struct json *j, const char *name, const char *text, size_t len);

/* Read and parse the file at path, at most LIMIT_TEXT_FILE_BYTES. Errors: as file_read,
 * json_parse. */
MUST_USE status json_open_file(struct json *j, const char *path);

/* Free the document. Accepts a zeroed struct. */
void json_free(struct json *j);

/* The top-level value. This function can't fail. */
struct json_value json_root(const struct json *j);

/* What kind of value it is. */
enum json_kind json_kind(const struct json_value *v);

/* Elements of an array or keys of an object; 0 for anything else. */
size_t json_count(const struct json_value *v);

/* The value of key, or an absent value when there is none or v is not an object. Can't fail. */
struct json_value json_find(const struct json_value *v, const char *key);

/* Element index of an array; an absent value beyond its end. This function can't fail. */
struct json_value json_at(const struct json_value *v, size_t index);

/* --- a value as a C type. All: ERR_CORRUPT, with its place, when it is absent, of another type or
 * out of bounds; *out is written only on OK. Texts are borrowed from the document. */

/* v is an object. */
MUST_USE status json_want_object(const struct json_value *v);

/* v is an array of min..max elements. */
MUST_USE status json_want_array(const struct json_value *v, size_t min, size_t max);

/* A whole number in min..max. 4.0 is not a whole number. */
MUST_USE status json_to_int(const struct json_value *v, int64_t min, int64_t max, int64_t *out);

/* A number, written with or without a point, in min..max. */
MUST_USE status json_to_double(const struct json_value *v, double min, double max, double *out);

/* true or false. */
MUST_USE status json_to_bool(const struct json_value *v, bool *out);

/* A text. */
MUST_USE status json_to_text(const struct json_value *v, const char **out);

/* An array of at most room whole numbers, each in min..max; *count of them are written to dst. */
MUST_USE status json_to_ints(const struct json_value *v, int64_t min, int64_t max, int64_t *dst,
                             size_t room, size_t *count);

/* --- a key of an object, required ------------------------------------------------------------ */

/* json_to_int of v's key. */
MUST_USE status json_get_int(const struct json_value *v, const char *key, int64_t min, int64_t max,
                             int64_t *out);

/* json_to_double of v's key. */
MUST_USE status json_get_double(const struct json_value *v, const char *key, double min, double max,
                                double *out);

/* json_to_bool of v's key. */
MUST_USE status json_get_bool(const struct json_value *v, const char *key, bool *out);

/* json_to_text of v's key. */
MUST_USE status json_get_text(const struct json_value *v, const char *key, const char **out);

/* --- a key of an object, optional: *out keeps its value when the key is absent or null ------- */

/* json_get_int, or nothing. */
MUST_USE status json_opt_int(const struct json_value *v, const char *key, int64_t min, int64_t max,
                             int64_t *out);

/* json_get_double, or nothing. */
MUST_USE status json_opt_double(const struct json_value *v, const char *key, double min, double max,
                                double *out);

/* json_get_bool, or nothing. */
MUST_USE status json_opt_bool(const struct json_value *v, const char *key, bool *out);

/* json_get_text, or nothing. */
MUST_USE status json_opt_text(const struct json_value *v, const char *key, const char **out);

/* --- going through an object, in the order of the file
 *
 *   struct json_member m = { 0 };
 *   while (json_next(&v, &m))
 *       ... m.key, m.value ... */
struct json_member {
    const char *key;         /* borrowed from the document */
    struct json_value value; /* absent when it is null */
    void *position;          /* the parser's; NULL before the first */
};

/* Step to the next member; false at the end, or when v is not an object. */
bool json_next(const struct json_value *v, struct json_member *m);

/* --- writing
 *
 *   struct json_writer w = { .out = &buf };
 *   json_write_object(&w);
 *   json_write_key(&w, "frames");
 *   json_write_int(&w, 14);
 *   json_write_end(&w);
 *   TRY(json_write_finish(&w));
 *
 * The first failure is kept and returned by json_write_finish; later calls do nothing. Values in
 * the wrong order (a key in an array, a value without a key in an object) are a bug. */
struct json_writer {
    struct buf *out;               /* borrowed; text is appended */
    bool indent;                   /* one member per line, for people */
    status st;                     /* the first failure */
    int depth;                     /* open objects and arrays */
    char kind[JSON_DEPTH_MAX];     /* '{' or '[' per open level */
    bool is_empty[JSON_DEPTH_MAX]; /* nothing written in this level yet */
    bool has_key;                  /* a key waits for its value */
    bool is_done;                  /* the top-level value is complete */
};

/* Open an object. */
void json_write_object(struct json_writer *w);

/* Open an array. */
void json_write_array(struct json_writer *w);

/* Close the innermost object or array. */
void json_write_end(struct json_writer *w);

/* The key of the next value. */
void json_write_key(struct json_writer *w, const char *key);

/* A text; NULL becomes null, bytes that are not UTF-8 become U+FFFD. */
void json_write_text(struct json_writer *w, const char *text);

/* A whole number. */
void json_write_int(struct json_writer *w, int64_t value);

/* A number in the fewest digits that read back the same. Failure: ERR_BADARG for NaN and infinity,
 * which JSON does not have. */
void json_write_double(struct json_writer *w, double value);

/* true or false. */
void json_write_bool(struct json_writer *w, bool value);

/* null. */
void json_write_null(struct json_writer *w);

/* The first failure, or OK when the document is complete. Errors: ERR_FULL, ERR_NOMEM,
 * ERR_BADARG. */
MUST_USE status json_write_finish(struct json_writer *w);

#endif
