#include "tests/unit/model/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "tests/tool/test.h"

static const char *const files[] = {
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
};

static const char *root(void)
{
    static char path[512];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "model"));
    return path;
}

const char *fixture_path(const char *file)
{
    static char path[1024];

    EXPECT_OK(file_join(path, sizeof(path), root(), file));
    return path;
}

const char *fixture_copy(const char *name)
{
    char from[512];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct buf b = { 0 };
        char folder[1024];

        snprintf(from, sizeof(from), "tests/fixtures/%s/%s", name, files[i]);
        EXPECT_OK(file_read(from, (size_t)16 << 20, &b));
        EXPECT_OK(file_parent(folder, sizeof(folder), fixture_path(files[i])));
        EXPECT_OK(file_make_dirs(folder));
        fixture_write(files[i], b.data, b.len);
        buf_free(&b);
    }
    return root();
}

struct buf fixture_read(const char *file)
{
    struct buf b = { 0 };

    EXPECT_OK(file_read(fixture_path(file), (size_t)16 << 20, &b));
    return b;
}

void fixture_write(const char *file, const void *bytes, size_t len)
{
    FILE *f = fopen(fixture_path(file), "wb");

    EXPECT(f && fwrite(bytes, 1, len, f) == len && fclose(f) == 0);
}

static char *find(char *text, size_t len, const char *what)
{
    char *at = memmem(text, len, what, strlen(what));

    if (!at)
        test_fail(__FILE__, __LINE__, "the fixture has no %s", what);
    return at;
}

void fixture_edit(const char *file, const char *from, const char *to)
{
    struct buf b = fixture_read(file), edited = { 0 };
    size_t before = (size_t)(find(b.data, b.len, from) - b.data), after = before + strlen(from);

    EXPECT_OK(buf_append(&edited, b.data, before));
    EXPECT_OK(buf_append_text(&edited, to));
    EXPECT_OK(buf_append(&edited, b.data + after, b.len - after));
    fixture_write(file, edited.data, edited.len);
    buf_free(&b);
    buf_free(&edited);
}

static uint64_t header_bytes(const struct buf *b)
{
    uint64_t n = 0;

    EXPECT(b->len >= 8);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | (uint8_t)b->data[i];
    EXPECT(n <= b->len - 8);
    return n;
}

void fixture_edit_header(const char *file, const char *behind, const char *from, const char *to)
{
    struct buf b = fixture_read(file);
    char *end = b.data + 8 + header_bytes(&b),
         *at = find(b.data + 8, (size_t)(end - b.data - 8), behind);

    EXPECT(strlen(from) == strlen(to));
    at = find(at, (size_t)(end - at), from);
    memcpy(at, to, strlen(to));
    fixture_write(file, b.data, b.len);
    buf_free(&b);
}

void fixture_add_tensor(const char *file, const char *name)
{
    struct buf b = fixture_read(file), edited = { 0 };
    uint64_t n = header_bytes(&b), data = b.len - 8 - n, last = n;

    while (b.data[8 + last - 1] != '}')
        last--;
    EXPECT_OK(buf_append(&edited, "\0\0\0\0\0\0\0\0", 8));
    EXPECT_OK(buf_append(&edited, b.data + 8, last - 1));
    EXPECT_OK(buf_printf(&edited,
                         ",\"%s\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[%llu,%llu]}}",
                         name, (unsigned long long)data, (unsigned long long)data + 2));
    n = edited.len - 8;
    for (int i = 0; i < 8; i++)
        edited.data[i] = (char)(n >> 8 * i);
    EXPECT_OK(buf_append(&edited, b.data + b.len - data, data));
    EXPECT_OK(buf_append(&edited, "\0\0", 2));
    fixture_write(file, edited.data, edited.len);
    buf_free(&b);
    buf_free(&edited);
}
