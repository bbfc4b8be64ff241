/* Keys of objects in a folder, one a line: each is refused, or is a file below the folder and
 * nowhere else, with an address that leads there. */
#include <stdlib.h>
#include <string.h>

#include "common/blob.h"
#include "common/url.h"
#include "tests/fuzz/fuzz.h"

#define KEYS_MAX 8

static void expect_address(const struct blob *b, const char *key, const char *folder)
{
    char text[BLOB_URL_ROOM], path[URL_ROOM], want[URL_ROOM];
    struct url u;

    CHECK(blob_url(b, key, text, sizeof(text)) == OK);
    CHECK(url_parse(&u, text) == OK && url_decode_path(&u, path, sizeof(path)) == OK);
    CHECK(file_join(want, sizeof(want), folder, key) == OK);
    CHECK(strcmp(path, want) == 0);
    CHECK(key[0] != '/' && strncmp(key, "../", 3) != 0 && !strstr(key, "/../"));
}

/* What is put can be got, once. */
static void carry(struct blob *b, const char *key, const char *folder)
{
    struct buf back = { 0 };
    struct blob_info info = { 0 };
    char text[BLOB_URL_ROOM];
    status st = blob_put_new(b, key, "content", 7);

    if (st == ERR_BADARG) {
        CHECK(blob_url(b, key, text, sizeof(text)) == ERR_BADARG);
        CHECK(blob_get(b, key, &back) == ERR_BADARG);
        return;
    }
    /* "a" and "a/b" can't both be files. */
    if (st != OK)
        return;
    expect_address(b, key, folder);
    CHECK(blob_get(b, key, &back) == OK && back.len == 7);
    CHECK(blob_head(b, key, &info) == OK && info.bytes == 7);
    CHECK(blob_put_new(b, key, "content", 7) == OK);
    CHECK(blob_put_new(b, key, "another", 7) == ERR_CONFLICT);
    buf_free(&back);
}

FUZZ_STORAGE(blob, 1200)
{
    char *text = fuzz_text(bytes, len), *next = NULL;
    char folder[FILE_PATH_BYTES], url[URL_ROOM];
    struct blob_config config = { .url = url };
    struct blob b = { 0 };
    int count = 0;

    CHECK(file_join(folder, sizeof(folder), fuzz_tmpdir(), "blob") == OK);
    CHECK(url_from_path(folder, url, sizeof(url)) == OK);
    CHECK(blob_open(&b, &config) == OK);
    for (char *key = strtok_r(text, "\n", &next); key && count < KEYS_MAX;
         key = strtok_r(NULL, "\n", &next), count++)
        carry(&b, key, folder);
    blob_close(&b);
    CHECK(file_remove_tree(folder) == OK);
    free(text);
}
