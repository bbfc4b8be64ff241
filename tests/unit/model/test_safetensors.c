#include "worker/model/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "tests/tool/test.h"

/* Header text and data as a container of *len bytes, on the heap at its exact size so that a step
 * past its end is seen. The one before is freed. */
static uint8_t *container(const char *header, const void *data, size_t data_bytes, size_t *len)
{
    static uint8_t *bytes;
    size_t header_bytes = strlen(header);

    free(bytes);
    bytes = calloc(1, 8 + header_bytes + data_bytes);
    EXPECT(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)header_bytes >> 8 * i);
    memcpy(bytes + 8, header, header_bytes);
    if (data_bytes)
        memcpy(bytes + 8 + header_bytes, data, data_bytes);
    *len = 8 + header_bytes + data_bytes;
    return bytes;
}

static status parse(struct safetensors *s, const char *header, const void *data, size_t data_bytes)
{
    size_t len;
    const uint8_t *bytes = container(header, data, data_bytes, &len);

    return safetensors_parse(s, "x.safetensors", bytes, len);
}

TEST(a_small_file)
{
    static const float data[] = { 1, -2, 3.5f, 0, 0, 0, 7 };
    struct safetensors s;
    const struct safetensors_tensor *t;
    float values[3];

    EXPECT_OK(parse(&s,
                    "{\"__metadata__\":{\"a\":\"b\",\"c\":\"\"},"
                    "\"z\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[24,28]},"
                    "\"m\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                    "\"empty\":{\"dtype\":\"I64\",\"shape\":[4,0],\"data_offsets\":[24,24]}} ",
                    data, sizeof(data)));
    EXPECT_INT(s.count, 3);
    EXPECT_TEXT(safetensors_meta_find(&s, "a"), "b");
    EXPECT_TEXT(safetensors_meta_find(&s, "c"), "");
    EXPECT(!safetensors_meta_find(&s, "b"));
    t = safetensors_find(&s, "m");
    EXPECT(t && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3 && t->count == 6);
    EXPECT_OK(safetensors_read_f32(t, 0, 3, values));
    EXPECT_NEAR(values[2], 3.5, 0);
    t = safetensors_find(&s, "z");
    EXPECT(t && t->rank == 0 && t->count == 1);
    EXPECT_OK(safetensors_read_f32(t, 0, 1, values));
    EXPECT_NEAR(values[0], 7, 0);
    t = safetensors_find(&s, "empty");
    EXPECT(t && t->count == 0 && t->dtype == SAFETENSORS_I64);
    EXPECT_STATUS(safetensors_read_f32(t, 0, 0, values), ERR_CORRUPT);
    EXPECT_MESSAGE("has dtype I64");
    EXPECT(!safetensors_find(&s, "n"));
    safetensors_close(&s);
}

/* Values of the formats' definitions: IEEE 754 binary16, and the upper half of binary32. */
TEST(sixteen_bit_floats)
{
    static const uint16_t halves[] = { 0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0400,
                                       0x0001, 0x03ff, 0x7c00, 0xfc00, 0x7e00, 0x3555 };
    static const float want[] = { 0,        -0.0f,        1,        -2,        65504, 0x1p-14f,
                                  0x1p-24f, 0x1.ff8p-15f, INFINITY, -INFINITY, NAN,   0x1.554p-2f };
    static const uint16_t brains[] = { 0x3f80, 0xc049, 0x7f80 };
    struct safetensors s;
    float got[12];

    EXPECT_OK(parse(&s, "{\"h\":{\"dtype\":\"F16\",\"shape\":[12],\"data_offsets\":[0,24]}}",
                    halves, sizeof(halves)));
    EXPECT_OK(safetensors_read_f32(safetensors_find(&s, "h"), 0, 12, got));
    for (int i = 0; i < 12; i++) {
        if (isnan(want[i]))
            EXPECT(isnan(got[i]));
        else
            EXPECT(memcmp(&got[i], &want[i], sizeof(float)) == 0);
    }
    safetensors_close(&s);
    EXPECT_OK(parse(&s, "{\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,6]}}", brains,
                    sizeof(brains)));
    EXPECT_OK(safetensors_read_f32(safetensors_find(&s, "b"), 0, 3, got));
    EXPECT_NEAR(got[0], 1, 0);
    EXPECT_NEAR(got[1], -3.140625, 0);
    EXPECT(isinf(got[2]));
    safetensors_close(&s);
}

#define T(rest) "{\"t\":{" rest "}}"

TEST(malformed_headers_are_refused)
{
    static const struct {
        const char *header;
        const char *says;
    } cases[] = {
        { "", "x.safetensors" },
        { "[]", "x.safetensors" },
        { "{", "x.safetensors" },
        { "{}", "8 bytes behind the last tensor" },
        { "{\"t\":1}", "t is" },
        { T("\"shape\":[2],\"data_offsets\":[0,8]"), "dtype" },
        { T("\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]"), "dtype" },
        { T("\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]"), "unknown dtype \"F33\"" },
        { T("\"dtype\":\"F32\",\"data_offsets\":[0,8]"), "shape" },
        { T("\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]"), "shape[0]" },
        { T("\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]"), "shape[0]" },
        { T("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]"), "shape" },
        { T("\"dtype\":\"F32\",\"shape\":[2]"), "data_offsets" },
        { T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]"), "data_offsets" },
        { T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]"), "data_offsets" },
        { T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]"), "needs 8 bytes" },
        { T("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]"), "needs 12 bytes" },
        { T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]"), "truncated" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]"), "after a hole" },
        { T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), "4 bytes behind" },
        { T("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]"),
          "larger than any memory" },
        { T("\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,8]"),
          "larger than any memory" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
          "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
          "inside the one" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
          "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
          "x.safetensors" },
        { "{\"__metadata__\":[],\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
          "__metadata__" },
        { "{\"__metadata__\":{\"k\":1},"
          "\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
          "__metadata__" },
    };
    static const uint8_t data[8];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct safetensors s;

        printf("case %zu: %s\n", i, cases[i].header);
        EXPECT_STATUS(parse(&s, cases[i].header, data, sizeof(data)), ERR_CORRUPT);
        printf("  %s\n", status_message());
        EXPECT_MESSAGE("x.safetensors");
        EXPECT_MESSAGE(cases[i].says);
        EXPECT(!s.tensors && !s.doc.root);
    }
}

TEST(wrong_lengths_are_refused)
{
    static const uint8_t short_file[7];
    uint8_t header[16] = { 9 }; /* a header of 9 bytes in a file that has 8 */
    uint64_t too_long = LIMIT_TENSOR_HEADER_BYTES + 1;
    struct safetensors s;

    EXPECT_STATUS(safetensors_parse(&s, "x", short_file, 0), ERR_CORRUPT);
    EXPECT_STATUS(safetensors_parse(&s, "x", short_file, sizeof(short_file)), ERR_CORRUPT);
    EXPECT_MESSAGE("too short");
    EXPECT_STATUS(safetensors_parse(&s, "x", header, sizeof(header)), ERR_CORRUPT);
    EXPECT_MESSAGE("truncated inside its header");
    memcpy(header, &too_long, 8);
    EXPECT_STATUS(safetensors_parse(&s, "x", header, sizeof(header)), ERR_CORRUPT);
    EXPECT_MESSAGE("not a safetensors file");
    memset(header, 0xff, 8);
    EXPECT_STATUS(safetensors_parse(&s, "x", header, sizeof(header)), ERR_CORRUPT);
}

/* Any change of a byte, and any cut, gives a parsed file or an error; under the address sanitizer
 * this is a small fuzzer. */
TEST(damaged_bytes_never_crash)
{
    static const float data[] = { 1, 2, 3, 4 };
    size_t len;
    uint8_t *bytes = container("{\"__metadata__\":{\"a\":\"b\"},"
                               "\"m\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
                               "\"n\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[8,16]}}",
                               data, sizeof(data), &len);
    int parsed = 0;

    for (int round = 0; round < 20000; round++) {
        size_t cut = (size_t)(test_random() % 4 ? len : test_random() % len);
        uint8_t *copy = malloc(cut + 1);
        struct safetensors s;
        float values[4];

        memcpy(copy, bytes, cut);
        for (uint64_t i = 0, n = test_random() % 4; i < n && cut; i++)
            copy[test_random() % cut] = (uint8_t)test_random();
        if (safetensors_parse(&s, "fuzz", copy, cut) == OK) {
            parsed++;
            for (size_t i = 0; i < s.count; i++) {
                const struct safetensors_tensor *t = &s.tensors[i];

                if (t->count <= 4 && safetensors_read_f32(t, 0, t->count, values) != OK)
                    EXPECT(strlen(status_message()) > 0);
            }
        }
        safetensors_close(&s);
        free(copy);
    }
    EXPECT(parsed > 100);
}

static void write_sample(const char *path)
{
    struct safetensors_writer w;
    float values[24];

    for (int i = 0; i < 24; i++)
        values[i] = (float)i;
    EXPECT_OK(safetensors_create(&w, path));
    EXPECT_OK(safetensors_write_meta(&w, "seed", "42"));
    EXPECT_OK(safetensors_write(
        &w,
        &(struct safetensors_item){ .name = "flat", .rank = 1, .shape = { 5 }, .data = values }));
    EXPECT_OK(safetensors_write(&w, &(struct safetensors_item){ .name = "frames \"x\"",
                                                                .rank = 4,
                                                                .shape = { 2, 3, 2, 2 },
                                                                .is_nhwc = true,
                                                                .data = values }));
    EXPECT_OK(safetensors_write(
        &w,
        &(struct safetensors_item){
            .name = "image", .rank = 3, .shape = { 3, 2, 4 }, .is_nhwc = true, .data = values }));
    EXPECT_OK(safetensors_write_meta(&w, "prompt", "line\nbreak \"quoted\""));
    EXPECT(!file_exists(path));
    EXPECT_OK(safetensors_finish(&w));
    EXPECT(file_exists(path));
}

TEST(what_is_written_is_read)
{
    struct safetensors s;
    const struct safetensors_tensor *t;
    char path[512];
    float got[24];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "a.safetensors"));
    write_sample(path);
    EXPECT_OK(safetensors_open(&s, path));
    EXPECT_INT(s.count, 3);
    EXPECT_TEXT(safetensors_meta_find(&s, "seed"), "42");
    EXPECT_TEXT(safetensors_meta_find(&s, "prompt"), "line\nbreak \"quoted\"");
    t = safetensors_find(&s, "flat");
    EXPECT(t && t->count == 5);
    t = safetensors_find(&s, "frames \"x\"");
    EXPECT(t && t->rank == 4 && t->shape[1] == 3);
    EXPECT_OK(safetensors_read_f32(t, 0, 24, got));
    for (int n = 0; n < 2; n++)
        for (int c = 0; c < 3; c++)
            for (int p = 0; p < 4; p++)
                EXPECT_NEAR(got[(n * 3 + c) * 4 + p], (n * 4 + p) * 3 + c, 0);
    t = safetensors_find(&s, "image");
    EXPECT(t && t->rank == 3);
    EXPECT_OK(safetensors_read_f32(t, 0, 24, got));
    EXPECT_NEAR(got[1 * 8 + 5], 5 * 3 + 1, 0);
    safetensors_close(&s);
}

/* Of 16 bits, all that are numbers. */
enum { HALVES = 0x7c00, SIGNS = 2 };

/* Values and their neighbours' midpoints, written as halves: a value comes back as it is, a
 * midpoint as the even one of the two (the last bit of its encoding is 0). */
TEST(halves_are_rounded_to_even)
{
    struct safetensors_writer w;
    struct safetensors s;
    static float want[SIGNS * HALVES], value[SIGNS * HALVES], got[SIGNS * HALVES];
    struct safetensors_item item = {
        .name = "t", .rank = 1, .shape = { SIGNS * HALVES }, .is_half = true, .data = value
    };
    char path[512];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "half.safetensors"));
    for (int i = 0; i < SIGNS * HALVES; i++) {
        int bits = i % HALVES, exponent = bits >> 10, digits = bits & 0x3ff;

        want[i] =
            exponent ? ldexpf(1024.0f + (float)digits, exponent - 25) : ldexpf((float)digits, -24);
        want[i] = i < HALVES ? want[i] : -want[i];
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < SIGNS * HALVES; i++) {
            bool is_last = i % HALVES == HALVES - 1;

            value[i] = pass && !is_last ? (want[i] + want[i + 1]) / 2 : want[i];
        }
        EXPECT_OK(safetensors_create(&w, path));
        EXPECT_OK(safetensors_write(&w, &item));
        EXPECT_OK(safetensors_finish(&w));
        EXPECT_OK(safetensors_open(&s, path));
        EXPECT_TEXT(safetensors_find(&s, "t")->dtype_name, "F16");
        EXPECT_OK(safetensors_read_f32(safetensors_find(&s, "t"), 0, SIGNS * HALVES, got));
        for (int i = 0; i < SIGNS * HALVES; i++) {
            bool is_last = i % HALVES == HALVES - 1;

            EXPECT_NEAR(got[i], want[i + (pass && !is_last && i % 2)], 0);
        }
        safetensors_close(&s);
    }
}

static void expect_half(float value, float want)
{
    struct safetensors_writer w;
    struct safetensors s;
    struct safetensors_item item = { .name = "t", .rank = 0, .is_half = true, .data = &value };
    char path[512];
    float got;

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "one.safetensors"));
    EXPECT_OK(safetensors_create(&w, path));
    EXPECT_OK(safetensors_write(&w, &item));
    EXPECT_OK(safetensors_finish(&w));
    EXPECT_OK(safetensors_open(&s, path));
    EXPECT_OK(safetensors_read_f32(safetensors_find(&s, "t"), 0, 1, &got));
    EXPECT(got == want || (isnan(want) && isnan(got)));
    safetensors_close(&s);
}

TEST(halves_at_the_ends_of_their_range)
{
    expect_half(65504, 65504);
    expect_half(65519.99f, 65504);
    expect_half(65520, INFINITY);
    expect_half(1e30f, INFINITY);
    expect_half(-INFINITY, -INFINITY);
    expect_half(NAN, NAN);
    expect_half(0x1p-25f, 0);
    expect_half(0x1.000002p-25f, 0x1p-24f);
    expect_half(1e-40f, 0);
}

TEST(an_abandoned_file_leaves_nothing)
{
    struct safetensors_writer w;
    char path[512], part[520];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "b.safetensors"));
    snprintf(part, sizeof(part), "%s.part", path);
    EXPECT_OK(safetensors_create(&w, path));
    EXPECT(file_exists(part));
    safetensors_abandon(&w);
    safetensors_abandon(&w);
    EXPECT(!file_exists(path) && !file_exists(part));
    EXPECT_STATUS(safetensors_create(&w, "/nowhere/at/all.safetensors"), ERR_NOTFOUND);
    EXPECT_MESSAGE("/nowhere/at/all.safetensors");
}

TEST(a_full_disk_is_said)
{
    struct safetensors_writer w;
    static const float value;
    struct safetensors_item item = { .name = "t", .rank = 1, .shape = { 1 }, .data = &value };
    char path[512], part[520];

    if (!file_exists("/dev/full"))
        test_skip("no /dev/full here");
    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "full.safetensors"));
    snprintf(part, sizeof(part), "%s.part", path);
    EXPECT(symlink("/dev/full", part) == 0);
    EXPECT_OK(safetensors_create(&w, path));
    EXPECT_STATUS(safetensors_write(&w, &item), ERR_FULL);
    EXPECT_MESSAGE("full.safetensors");
    safetensors_abandon(&w);
    EXPECT(file_exists("/dev/full") && !file_exists(part));
}

TEST(too_many_tensors_for_the_header)
{
    struct safetensors_writer w;
    static const float value;
    char path[512], name[64];
    status st = OK;

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "c.safetensors"));
    EXPECT_OK(safetensors_create(&w, path));
    for (int i = 0; i < 10000 && st == OK; i++) {
        snprintf(name, sizeof(name), "a tensor with a name of some length %d", i);
        st = safetensors_write(
            &w, &(struct safetensors_item){ .name = name, .rank = 0, .data = &value });
    }
    if (st == OK)
        st = safetensors_finish(&w);
    EXPECT_STATUS(st, ERR_FULL);
    safetensors_abandon(&w);
    EXPECT(!file_exists(path));
}
