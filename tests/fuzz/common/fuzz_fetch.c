/* file:// URLs of strangers: nothing outside input_root is ever read, whatever is linked where.
 *
 *   root/in/photo         root/in/to_photo -> photo        root/in/loop -> loop
 *   root/secret           root/in/out -> ..                root/in/absolute -> root/secret */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fetch.h"
#include "common/url.h"
#include "tests/fuzz/fuzz.h"

static const char inside[] = "a photograph", outside[] = "a secret";

static void make_link(const char *root, const char *name, const char *target)
{
    char path[FILE_PATH_BYTES];

    CHECK(file_join(path, sizeof(path), root, name) == OK);
    unlink(path);
    CHECK(symlink(target, path) == 0);
}

/* root = where the tree is. */
static void make_tree(char root[FILE_PATH_BYTES])
{
    char path[FILE_PATH_BYTES], secret[FILE_PATH_BYTES];

    fuzz_file(path, "root/in/deep/photo", inside, sizeof(inside) - 1);
    fuzz_file(path, "root/in/photo", inside, sizeof(inside) - 1);
    fuzz_file(secret, "root/secret", outside, sizeof(outside) - 1);
    CHECK(file_parent(root, FILE_PATH_BYTES, secret) == OK);
    make_link(root, "in/to_photo", "photo");
    make_link(root, "in/out", "..");
    make_link(root, "in/loop", "loop");
    make_link(root, "in/absolute", secret);
    make_link(root, "in/self", "/proc/self");
}

static void expect_inside(struct fetch *f, const char *url)
{
    struct buf content = { 0 };

    if (fetch_get(f, url, &content) == OK) {
        CHECK(content.len == sizeof(inside) - 1);
        CHECK(memcmp(content.data, inside, content.len) == 0);
    } else {
        CHECK(content.len == 0);
    }
    buf_free(&content);
}

FUZZ_STORAGE(fetch, 600)
{
    static char root[FILE_PATH_BYTES];
    char in[FILE_PATH_BYTES], url[2 * FILE_PATH_BYTES];
    char *text = fuzz_text(bytes, len);
    struct fetch_config config = { .input_root = in };
    struct fetch f = { 0 };

    if (!root[0])
        make_tree(root);
    CHECK(file_join(in, sizeof(in), root, "in") == OK);
    CHECK(fetch_open(&f, &config) == OK);
    /* Below the root, relative, and from the top. */
    snprintf(url, sizeof(url), "file://%s/%s", in, text);
    expect_inside(&f, url);
    snprintf(url, sizeof(url), "file://./%s", text);
    expect_inside(&f, url);
    snprintf(url, sizeof(url), "file:///%s", text);
    expect_inside(&f, url);
    fetch_close(&f);
    free(text);
}
