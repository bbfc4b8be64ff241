/* The record of a finished clip that another process left on disk: it is refused, or everything in
 * it fits and leads nowhere else. */
#include <string.h>

#include "common/base/file.h"
#include "tests/fuzz/fuzz.h"
#include "worker/spool.h"

static void check_item(const struct spool_item *item)
{
    char path[FILE_PATH_BYTES];

    CHECK(item->file_count >= 1 && item->file_count <= SPOOL_FILES_MAX);
    CHECK(memchr(item->store, '\0', sizeof(item->store)));
    CHECK(memchr(item->manifest_key, '\0', sizeof(item->manifest_key)));
    for (int i = 0; i < item->file_count; i++) {
        const struct spool_file *f = &item->files[i];

        CHECK(blob_check_key(f->out.key) == OK);
        CHECK(strlen(f->out.sha256_hex) == DIGEST_HEX_ROOM - 1);
        CHECK(spool_path(item, f->name, path) == OK);
        CHECK(f->name[0] != '.' && !strchr(f->name, '/'));
    }
}

FUZZ_STORAGE(spool, 8 << 10)
{
    char record[FILE_PATH_BYTES];
    struct spool_item *found;

    fuzz_file(record, "0123456789abcdef/item.json", bytes, len);
    CHECK(spool_find(&found, fuzz_tmpdir()) == OK);
    if (found) {
        CHECK(!found->next);
        check_item(found);
    }
    spool_free_all(found);
}
