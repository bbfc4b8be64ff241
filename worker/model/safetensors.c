#include "worker/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/check.h"
#include "kernels/kern.h"
#include "common/base/limits.h"

#define LENGTH_BYTES 8

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are little-endian in the file and are copied as they are");

static const struct {
    const char *name;
    enum safetensors_dtype dtype;
    size_t bytes;
} dtypes[] = {
    { "F32", SAFETENSORS_F32, 4 },       { "F16", SAFETENSORS_F16, 2 },
    { "BF16", SAFETENSORS_BF16, 2 },     { "F64", SAFETENSORS_F64, 8 },
    { "U8", SAFETENSORS_U8, 1 },         { "I32", SAFETENSORS_I32, 4 },
    { "I64", SAFETENSORS_I64, 8 },       { "BOOL", SAFETENSORS_OTHER, 1 },
    { "I8", SAFETENSORS_OTHER, 1 },      { "I16", SAFETENSORS_OTHER, 2 },
    { "U16", SAFETENSORS_OTHER, 2 },     { "U32", SAFETENSORS_OTHER, 4 },
    { "U64", SAFETENSORS_OTHER, 8 },     { "F8_E4M3", SAFETENSORS_OTHER, 1 },
    { "F8_E5M2", SAFETENSORS_OTHER, 1 },
};
#define DTYPE_COUNT (sizeof(dtypes) / sizeof(dtypes[0]))

static uint64_t read_le64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void write_le64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++, v >>= 8)
        p[i] = (uint8_t)v;
}

const char *safetensors_shape_text(const int64_t *shape, int rank, char *text, size_t text_bytes)
{
    size_t len = (size_t)snprintf(text, text_bytes, "[");

    for (int i = 0; i < rank && len < text_bytes; i++)
        len +=
            (size_t)snprintf(text + len, text_bytes - len, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (len < text_bytes)
        snprintf(text + len, text_bytes - len, "]");
    return text;
}

/* --- reading ---------------------------------------------------------------------------------- */

static status set_dtype(struct safetensors_tensor *t, const char *label, size_t *element_bytes)
{
    for (size_t i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(t->dtype_name, dtypes[i].name) == 0) {
            t->dtype = dtypes[i].dtype;
            *element_bytes = dtypes[i].bytes;
            return OK;
        }
    }
    return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" has the unknown dtype \"%s\"", label, t->name,
                t->dtype_name);
}

static status parse_tensor(struct safetensors *s, struct safetensors_tensor *t,
                           const struct json_member *m, size_t data_bytes)
{
    status st;
    struct json_value shape = json_find(&m->value, "shape");
    struct json_value offsets = json_find(&m->value, "data_offsets");
    int64_t range[2];
    size_t rank, two, element_bytes = 0, bytes;
    bool overflows;

    t->name = m->key;
    TRY(json_want_object(&m->value));
    TRY(json_get_text(&m->value, "dtype", &t->dtype_name));
    TRY(set_dtype(t, s->label, &element_bytes));
    TRY(json_to_ints(&shape, 0, INT64_MAX, t->shape, SAFETENSORS_RANK_MAX, &rank));
    TRY(json_want_array(&offsets, 2, 2));
    TRY(json_to_ints(&offsets, 0, INT64_MAX, range, 2, &two));
    t->rank = (int)rank;
    t->count = 1;
    overflows = false;
    for (int i = 0; i < t->rank; i++)
        overflows |= __builtin_mul_overflow(t->count, t->shape[i], &t->count);
    overflows |= __builtin_mul_overflow((size_t)t->count, element_bytes, &bytes);
    if (overflows)
        TRY(FAIL(ERR_CORRUPT, "%s: tensor \"%s\" is larger than any memory", s->label, t->name));
    if (range[1] < range[0] || (uint64_t)(range[1] - range[0]) != bytes)
        TRY(FAIL(ERR_CORRUPT,
                 "%s: tensor \"%s\" lies at bytes %" PRId64 " to %" PRId64
                 ", but its shape needs %zu bytes",
                 s->label, t->name, range[0], range[1], bytes));
    if ((uint64_t)range[1] > data_bytes)
        TRY(FAIL(ERR_CORRUPT,
                 "%s: truncated: tensor \"%s\" ends at byte %" PRId64
                 " of the data, the file holds %zu; fetch the file again",
                 s->label, t->name, range[1], data_bytes));
    t->data = s->header + s->header_bytes + range[0];
    t->bytes = bytes;
    return OK;
out:
    return st;
}

static status parse_metadata(struct safetensors *s, const struct json_value *v)
{
    status st;
    struct json_member m = { 0 };
    size_t count = json_count(v);

    TRY(json_want_object(v));
    if (count == 0)
        return OK;
    s->metas = calloc(count, sizeof(*s->metas));
    if (!s->metas)
        TRY(FAIL(ERR_NOMEM, "no memory for the metadata of %s", s->label));
    while (json_next(v, &m)) {
        struct safetensors_meta *meta = &s->metas[s->meta_count];

        meta->key = m.key;
        TRY(json_to_text(&m.value, &meta->value));
        s->meta_count++;
    }
    return OK;
out:
    return st;
}

static int by_place(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    /* Empty tensors come before the one that starts at their place. */
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct safetensors_tensor *)a)->name,
                  ((const struct safetensors_tensor *)b)->name);
}

/* Tensors follow each other without hole or overlap up to the end of the data. */
static status check_cover(struct safetensors *s, size_t data_bytes)
{
    const uint8_t *data = s->header + s->header_bytes;
    size_t end = 0;

    if (s->count)
        qsort(s->tensors, s->count, sizeof(*s->tensors), by_place);
    for (size_t i = 0; i < s->count; i++) {
        size_t begin = (size_t)(s->tensors[i].data - data);

        if (begin != end)
            return FAIL(ERR_CORRUPT, "%s: tensor \"%s\" starts at byte %zu of the data, %s %zu",
                        s->label, s->tensors[i].name, begin,
                        begin < end ? "inside the one that ends at" : "after a hole from", end);
        end += s->tensors[i].bytes;
    }
    if (end != data_bytes)
        return FAIL(ERR_CORRUPT, "%s: %zu bytes behind the last tensor", s->label,
                    data_bytes - end);
    return OK;
}

static status parse_header(struct safetensors *s, size_t data_bytes)
{
    status st;
    struct json_value root = json_root(&s->doc);
    struct json_member m = { 0 };

    TRY(json_want_object(&root));
    s->tensors = calloc(json_count(&root) + 1, sizeof(*s->tensors));
    if (!s->tensors)
        TRY(FAIL(ERR_NOMEM, "no memory for the header of %s", s->label));
    while (json_next(&root, &m)) {
        if (strcmp(m.key, "__metadata__") == 0) {
            TRY(parse_metadata(s, &m.value));
            continue;
        }
        TRY(parse_tensor(s, &s->tensors[s->count], &m, data_bytes));
        s->count++;
    }
    TRY(check_cover(s, data_bytes));
    if (s->count)
        qsort(s->tensors, s->count, sizeof(*s->tensors), by_name);
    return OK;
out:
    return st;
}

status safetensors_parse(struct safetensors *s, const char *label, const void *bytes, size_t len)
{
    status st;
    uint64_t header_bytes;

    *s = (struct safetensors){ 0 };
    snprintf(s->label, sizeof(s->label), "%s", label);
    if (len < LENGTH_BYTES)
        TRY(FAIL(ERR_CORRUPT, "%s: %zu bytes, too short for a safetensors file", s->label, len));
    header_bytes = read_le64(bytes);
    if (header_bytes > LIMIT_TENSOR_HEADER_BYTES)
        TRY(FAIL(ERR_CORRUPT,
                 "%s: not a safetensors file, or its header of %" PRIu64
                 " bytes is above the limit of %zu",
                 s->label, header_bytes, LIMIT_TENSOR_HEADER_BYTES));
    if (header_bytes > len - LENGTH_BYTES)
        TRY(FAIL(ERR_CORRUPT, "%s: truncated inside its header; fetch the file again", s->label));
    s->header = (const uint8_t *)bytes + LENGTH_BYTES;
    s->header_bytes = (size_t)header_bytes;
    TRY(json_parse(&s->doc, s->label, (const char *)s->header, s->header_bytes));
    TRY(parse_header(s, len - LENGTH_BYTES - s->header_bytes));
    return OK;
out:
    safetensors_close(s);
    return st;
}

status safetensors_open(struct safetensors *s, const char *path)
{
    status st;
    struct mapping map = { 0 };

    *s = (struct safetensors){ 0 };
    TRY(file_map(path, &map));
    TRY(safetensors_parse(s, path, map.data, map.bytes));
    s->map = map;
    return OK;
out:
    file_unmap(&map);
    return st;
}

void safetensors_close(struct safetensors *s)
{
    free(s->tensors);
    free(s->metas);
    json_free(&s->doc);
    file_unmap(&s->map);
    *s = (struct safetensors){ 0 };
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    struct safetensors_tensor key = { .name = name };

    if (s->count == 0)
        return NULL;
    return bsearch(&key, s->tensors, s->count, sizeof(*s->tensors), by_name);
}

bool safetensors_has_shape(const struct safetensors_tensor *t, int rank, const int64_t *shape)
{
    if (t->rank != rank)
        return false;
    for (int i = 0; i < rank; i++) {
        if (t->shape[i] != shape[i])
            return false;
    }
    return true;
}

bool safetensors_is_real(const struct safetensors_tensor *t)
{
    return t->dtype == SAFETENSORS_F32 || t->dtype == SAFETENSORS_F16 ||
           t->dtype == SAFETENSORS_BF16;
}

const char *safetensors_meta_find(const struct safetensors *s, const char *key)
{
    for (size_t i = 0; i < s->meta_count; i++) {
        if (strcmp(s->metas[i].key, key) == 0)
            return s->metas[i].value;
    }
    return NULL;
}

/* Sixteen bits at a time through an aligned buffer, which lets the compiler use vectors: a
 * checkpoint has billions of these. */
static void read_sixteen(const uint8_t *src, int64_t count, bool is_half, float *dst)
{
    enum { CHUNK = 1024 };
    uint16_t chunk[CHUNK];

    for (int64_t done = 0; done < count; done += CHUNK) {
        int64_t here = count - done < CHUNK ? count - done : CHUNK;

        memcpy(chunk, src + 2 * done, (size_t)here * 2);
        kern_widen(dst + done, chunk, is_half ? KERN_F16 : KERN_BF16, 0, here);
    }
}

status safetensors_read_f32(const struct safetensors_tensor *t, int64_t first, int64_t count,
                            float *dst)
{
    CHECK(first >= 0 && count >= 0 && first <= t->count && count <= t->count - first);
    switch (t->dtype) {
    case SAFETENSORS_F32:
        if (count)
            memcpy(dst, t->data + 4 * first, (size_t)count * 4);
        return OK;
    case SAFETENSORS_F16:
    case SAFETENSORS_BF16:
        read_sixteen(t->data + 2 * first, count, t->dtype == SAFETENSORS_F16, dst);
        return OK;
    case SAFETENSORS_NONE:
    case SAFETENSORS_F64:
    case SAFETENSORS_U8:
    case SAFETENSORS_I32:
    case SAFETENSORS_I64:
    case SAFETENSORS_OTHER:
        break;
    }
    return FAIL(ERR_CORRUPT, "tensor \"%s\" has dtype %s, want F32, F16 or BF16", t->name,
                t->dtype_name);
}

/* --- writing ---------------------------------------------------------------------------------- */

static status write_all(struct safetensors_writer *w, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    while (len) {
        ssize_t n = write(w->fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_errno(errno, w->path);
        p += n;
        len -= (size_t)n;
    }
    return OK;
}

status safetensors_create(struct safetensors_writer *w, const char *path)
{
    status st;

    *w = (struct safetensors_writer){ .fd = -1 };
    if ((size_t)snprintf(w->path, sizeof(w->path), "%s", path) >= sizeof(w->path) ||
        (size_t)snprintf(w->part, sizeof(w->part), "%s.part", path) >= sizeof(w->part))
        TRY(FAIL(ERR_BADARG, "a path of more than %zu bytes", sizeof(w->path) - 6));
    w->fd = open(w->part, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    if (w->fd < 0)
        TRY(file_errno(errno, path));
    w->is_open = true;
    if (lseek(w->fd, (off_t)SAFETENSORS_WRITE_HEADER_BYTES, SEEK_SET) < 0)
        TRY(file_errno(errno, path));
    w->header.max_bytes = SAFETENSORS_WRITE_HEADER_BYTES;
    w->metas.max_bytes = SAFETENSORS_WRITE_HEADER_BYTES;
    w->header_json = (struct json_writer){ .out = &w->header };
    json_write_object(&w->header_json);
    return OK;
out:
    safetensors_abandon(w);
    return st;
}

/* [n][h][w][c] in memory, [n][c][h][w] in the file. */
static status write_nchw(struct safetensors_writer *w, const struct safetensors_item *item)
{
    enum { CHUNK = 8192 };
    float chunk[CHUNK];
    const int64_t *last = item->shape + item->rank - 3;
    int64_t n = item->rank == 4 ? item->shape[0] : 1, c = last[0], pixels = last[1] * last[2];
    size_t fill = 0;
    status st = OK;

    for (int64_t plane = 0; plane < n * c; plane++) {
        const float *src = item->data + plane / c * pixels * c + plane % c;

        for (int64_t p = 0; p < pixels; p++) {
            chunk[fill++] = src[p * c];
            if (fill == CHUNK) {
                TRY(write_all(w, chunk, sizeof(chunk)));
                fill = 0;
            }
        }
    }
    TRY(write_all(w, chunk, fill * sizeof(float)));
out:
    return st;
}

/* Rounded to nearest, ties to even; too large becomes infinity, as in the hardware's conversion. */
static uint16_t half_of_float(float f)
{
    uint32_t bits, sign, rest;

    memcpy(&bits, &f, sizeof(bits));
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x47800000)
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) {
        /* Below 2^-14: the float addition of 0.5 rounds to multiples of 2^-24. */
        memcpy(&f, &bits, sizeof(f));
        f += 0.5f;
        memcpy(&bits, &f, sizeof(bits));
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    rest = bits & 0x1fff;
    bits = (bits - 0x38000000) >> 13;
    bits += rest > 0x1000 || (rest == 0x1000 && bits & 1);
    return (uint16_t)(sign | bits);
}

static status write_halves(struct safetensors_writer *w, const float *data, uint64_t count)
{
    enum { CHUNK = 8192 };
    uint16_t chunk[CHUNK];
    status st = OK;

    for (uint64_t done = 0; done < count; done += CHUNK) {
        size_t here = count - done < CHUNK ? (size_t)(count - done) : CHUNK;

        for (size_t i = 0; i < here; i++)
            chunk[i] = half_of_float(data[done + i]);
        TRY(write_all(w, chunk, here * sizeof(*chunk)));
    }
out:
    return st;
}

status safetensors_write(struct safetensors_writer *w, const struct safetensors_item *item)
{
    status st;
    struct json_writer *j = &w->header_json;
    uint64_t bytes = item->is_half ? sizeof(uint16_t) : sizeof(float);

    CHECK(!item->is_half || !item->is_nhwc);
    CHECK(w->is_open && item->rank >= 0 && item->rank <= SAFETENSORS_RANK_MAX);
    CHECK(!item->is_nhwc || item->rank == 3 || item->rank == 4);
    json_write_key(j, item->name);
    json_write_object(j);
    json_write_key(j, "dtype");
    json_write_text(j, item->is_half ? "F16" : "F32");
    json_write_key(j, "shape");
    json_write_array(j);
    for (int i = 0; i < item->rank; i++) {
        json_write_int(j, item->shape[i]);
        bytes *= (uint64_t)item->shape[i];
    }
    json_write_end(j);
    json_write_key(j, "data_offsets");
    json_write_array(j);
    json_write_int(j, (int64_t)w->data_bytes);
    json_write_int(j, (int64_t)(w->data_bytes + bytes));
    json_write_end(j);
    json_write_end(j);
    if (item->is_nhwc)
        TRY(write_nchw(w, item));
    else if (item->is_half)
        TRY(write_halves(w, item->data, bytes / sizeof(uint16_t)));
    else
        TRY(write_all(w, item->data, bytes));
    w->data_bytes += bytes;
    return OK;
out:
    return st;
}

status safetensors_write_meta(struct safetensors_writer *w, const char *key, const char *value)
{
    status st;

    TRY(buf_append(&w->metas, key, strlen(key) + 1));
    TRY(buf_append(&w->metas, value, strlen(value) + 1));
    return OK;
out:
    return st;
}

static status write_header(struct safetensors_writer *w)
{
    status st;
    struct json_writer *j = &w->header_json;
    size_t room = SAFETENSORS_WRITE_HEADER_BYTES - LENGTH_BYTES;
    uint8_t length[LENGTH_BYTES];

    if (w->metas.len) {
        const char *p = w->metas.data, *end = p + w->metas.len;

        json_write_key(j, "__metadata__");
        json_write_object(j);
        while (p < end) {
            json_write_key(j, p);
            p += strlen(p) + 1;
            json_write_text(j, p);
            p += strlen(p) + 1;
        }
        json_write_end(j);
    }
    json_write_end(j);
    TRY(json_write_finish(j));
    if (w->header.len > room)
        TRY(FAIL(ERR_FULL, "%s: a header of %zu bytes, limit %zu", w->path, w->header.len, room));
    TRY(buf_reserve(&w->header, room - w->header.len));
    memset(w->header.data + w->header.len, ' ', room - w->header.len);
    write_le64(length, room);
    if (lseek(w->fd, 0, SEEK_SET) < 0)
        TRY(file_errno(errno, w->path));
    TRY(write_all(w, length, sizeof(length)));
    TRY(write_all(w, w->header.data, room));
    return OK;
out:
    return st;
}

status safetensors_finish(struct safetensors_writer *w)
{
    status st;

    CHECK(w->is_open);
    TRY(write_header(w));
    if (fsync(w->fd) < 0 || rename(w->part, w->path) < 0)
        TRY(file_errno(errno, w->path));
    close(w->fd);
    w->is_open = false;
out:
    safetensors_abandon(w);
    return st;
}

void safetensors_abandon(struct safetensors_writer *w)
{
    if (w->is_open) {
        close(w->fd);
        unlink(w->part);
    }
    buf_free(&w->header);
    buf_free(&w->metas);
    *w = (struct safetensors_writer){ .fd = -1 };
}
