/* A directory as an object store: a key is a path below it. Writing goes through common/base/file,
 * whose temporary file, sync and rename make an object whole or absent. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/blob_priv.h"

/* A key of BLOB_KEY_MAX characters has no more parts. */
#define DEPTH_MAX (BLOB_KEY_MAX / 2)

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

static status put(struct blob_state *s, const char *key, const struct blob_source *from)
{
    char path[FILE_PATH_BYTES];
    uint8_t actual[DIGEST_BYTES];
    struct mapping map = { 0 };
    status st = OK;

    TRY(file_map(from->path, &map));
    TRY(digest_sha256(map.data, map.bytes, actual));
    if (memcmp(actual, from->sha256, sizeof(actual)) != 0)
        TRY(blob_changed(from->path));
    TRY(make_path(s, key, path));
    TRY(file_write_atomic(path, map.data, map.bytes));
out:
    file_unmap(&map);
    return st;
}

static status has_put_new(struct blob_state *s, bool *has)
{
    (void)s;
    *has = true;
    return OK;
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
    *info = (struct blob_info){ .bytes = (uint64_t)file.st_size };
    return OK;
}

/* A walk through the folders below the root. */
struct walk {
    const struct blob_state *s;
    const char *prefix;
    blob_on_entry on_entry;
    void *self;
};

static status report(const struct walk *w, const char *path, const struct stat *file)
{
    struct blob_entry entry = { .bytes = (uint64_t)file->st_size,
                                .modified_ms = 1000 * (int64_t)file->st_mtim.tv_sec };
    const char *key = path + strlen(w->s->root) + 1;

    if (strncmp(key, w->prefix, strlen(w->prefix)) != 0 || blob_check_key(key) != OK) {
        status_clear();
        return OK;
    }
    snprintf(entry.key, sizeof(entry.key), "%s", key);
    return w->on_entry(w->self, &entry);
}

/* May something below this folder begin with the prefix? */
static bool is_on_the_way(const struct walk *w, const char *path)
{
    const char *key = path + strlen(w->s->root);
    size_t len = strlen(key), prefix_len = strlen(w->prefix);

    if (len == 0)
        return true;
    key++, len--;
    return strncmp(key, w->prefix, len < prefix_len ? len : prefix_len) == 0;
}

static status walk_folder(const struct walk *w, const char *folder, int depth)
{
    DIR *dir = is_on_the_way(w, folder) && depth < DEPTH_MAX ? opendir(folder) : NULL;
    struct dirent *item;
    status st = OK;

    /* What is gone meanwhile, or not ours to look at, has nothing of ours in it. */
    while (dir && (item = readdir(dir))) {
        char path[FILE_PATH_BYTES];
        struct stat file;

        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        TRY(file_join(path, sizeof(path), folder, item->d_name));
        if (lstat(path, &file) != 0)
            continue;
        if (S_ISDIR(file.st_mode))
            TRY(walk_folder(w, path, depth + 1));
        else if (S_ISREG(file.st_mode))
            TRY(report(w, path, &file));
    }
out:
    if (dir)
        closedir(dir);
    return st;
}

static status list(struct blob_state *s, const char *prefix, blob_on_entry on_entry, void *self)
{
    const struct walk w = { s, prefix, on_entry, self };

    return walk_folder(&w, s->root, 0);
}

/* The object, and the folders above it that are empty then. */
static status remove_object(struct blob_state *s, const struct blob_entry *entry)
{
    char path[FILE_PATH_BYTES], parent[FILE_PATH_BYTES];
    status st = OK;

    TRY(path_of(s, entry->key, path));
    TRY(file_remove(path));
    for (;;) {
        TRY(file_parent(parent, sizeof(parent), path));
        if (strcmp(parent, s->root) == 0 || rmdir(parent) != 0)
            break;
        memcpy(path, parent, sizeof(path));
    }
out:
    return st;
}

static status presign(struct blob_state *s, const char *key, int seconds, char *dst, size_t room)
{
    (void)seconds, (void)dst, (void)room;
    return FAIL(ERR_BADARG, "%s: no presigned URLs in the folder %s; want a store of s3://", key,
                s->root);
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
    .has_put_new = has_put_new,
    .put_new = put_new,
    .get = get,
    .get_to_file = get_to_file,
    .head = head,
    .list = list,
    .remove = remove_object,
    .presign = presign,
    .url = url,
};
