/* A directory as an object store: a key is a path below it. Writing goes through common/base/file,
 * whose temporary file, sync and rename make an object whole or absent. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/blob_priv.h"

static status open_dir(struct blob_state *s, const struct blob_config *c, const struct url *u)
{
    char path[FILE_PATH_BYTES];
    char resolved[PATH_MAX];
    status st = OK;

    (void)c;
    TRY(url_decode_path(u, path, sizeof(path)));
    TRY(file_make_dirs(path));
    if (!realpath(path, resolved))
        TRY(file_errno(errno, path));
    if (strlen(resolved) >= sizeof(s->root))
        TRY(file_errno(ENAMETOOLONG, path));
    memcpy(s->root, resolved, strlen(resolved) + 1);
out:
    return st;
}

static status path_of(const struct blob_state *s, const char *key, char path[FILE_PATH_BYTES])
{
    return file_join(path, FILE_PATH_BYTES, s->root, key);
}

/* path_of, with the folders above it made. */
static status make_path(const struct blob_state *s, const char *key, char path[FILE_PATH_BYTES])
{
    char parent[FILE_PATH_BYTES];
    status st = OK;

    TRY(path_of(s, key, path));
    TRY(file_parent(parent, sizeof(parent), path));
    TRY(file_make_dirs(parent));
out:
    return st;
}

static status put(struct blob_state *s, const char *key, const struct mapping *content,
                  const char *content_type, const uint8_t sha256[DIGEST_BYTES])
{
    char path[FILE_PATH_BYTES];
    status st = make_path(s, key, path);

    (void)content_type, (void)sha256;
    return st == OK ? file_write_atomic(path, content->data, content->bytes) : st;
}

static status put_new(struct blob_state *s, const char *key, const void *bytes, size_t len)
{
    char path[FILE_PATH_BYTES];
    status st = make_path(s, key, path);

    if (st == OK)
        st = file_write_new(path, bytes, len);
    return st == ERR_CONFLICT ? blob_compare(s, key, bytes, len) : st;
}

static status get(struct blob_state *s, const char *key, struct buf *out)
{
    char path[FILE_PATH_BYTES];
    status st = path_of(s, key, path);

    return st == OK ? file_read(path, out->max_bytes ? out->max_bytes : BUF_MAX_DEFAULT, out) : st;
}

static status get_to_file(struct blob_state *s, const char *key, const char *to)
{
    char path[FILE_PATH_BYTES];
    struct mapping map = { 0 };
    status st = OK;

    TRY(path_of(s, key, path));
    TRY(file_map(path, &map));
    TRY(file_write_atomic(to, map.data, map.bytes));
out:
    file_unmap(&map);
    return st;
}

static status head(struct blob_state *s, const char *key, struct blob_info *info)
{
    char path[FILE_PATH_BYTES];
    struct stat file;
    status st = path_of(s, key, path);

    if (st != OK)
        return st;
    if (stat(path, &file) != 0)
        return file_errno(errno, path);
    if (!S_ISREG(file.st_mode))
        return file_errno(ENOENT, path);
    info->bytes = (uint64_t)file.st_size;
    return OK;
}

static status url(const struct blob_state *s, const char *key, char *dst, size_t room)
{
    char path[FILE_PATH_BYTES];
    status st = path_of(s, key, path);

    return st == OK ? url_from_path(path, dst, room) : st;
}

const struct blob_backend blob_file = {
    .open = open_dir,
    .put = put,
    .put_new = put_new,
    .get = get,
    .get_to_file = get_to_file,
    .head = head,
    .url = url,
};
