#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/random.h"

status file_errno(int err, const char *path)
{
    switch (err) {
    case ENOENT:
        return FAIL(ERR_NOTFOUND, "%s: no such file or folder", path);
    case ENOTDIR:
        return FAIL(ERR_NOTFOUND, "%s: a part of this path is a file, not a folder", path);
    case EEXIST:
        return FAIL(ERR_CONFLICT, "%s: exists already", path);
    case ENOTEMPTY:
        return FAIL(ERR_CONFLICT, "%s: the folder is not empty", path);
    case ENOSPC:
        return FAIL(ERR_FULL, "%s: the disk is full; free some space or choose another folder",
                    path);
    case EDQUOT:
        return FAIL(ERR_FULL,
                    "%s: the disk quota is used up; free some space or choose another "
                    "folder",
                    path);
    case EFBIG:
        return FAIL(ERR_FULL, "%s: larger than the file size limit (ulimit -f)", path);
    case EACCES:
    case EPERM:
        return FAIL(ERR_IO, "%s: permission denied; check its owner and mode", path);
    case EROFS:
        return FAIL(ERR_IO, "%s: the file system is read-only; choose another folder", path);
    case EISDIR:
        return FAIL(ERR_IO, "%s: is a folder, want a file", path);
    case EMFILE:
    case ENFILE:
        return FAIL(ERR_IO, "%s: too many open files; raise ulimit -n", path);
    case ENAMETOOLONG:
        return FAIL(ERR_BADARG, "%s: the path is too long", path);
    case ELOOP:
        return FAIL(ERR_BADARG, "%s: the links of this path run in a circle", path);
    case ENOMEM:
        return FAIL(ERR_NOMEM, "%s: out of memory", path);
    default:
        return FAIL(ERR_IO, "%s: %s", path, strerror(err));
    }
}

/* --- reading --------------------------------------------------------------------------------- */

static status read_all(int fd, const char *path, size_t max_bytes, struct buf *b)
{
    status st = OK;

    for (;;) {
        size_t room;
        ssize_t got;

        /* One byte more than allowed tells a file that just fits from one that does not. */
        TRY(buf_reserve(b, 1));
        room = b->capacity - b->len - 1;
        got = read(fd, b->data + b->len, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            TRY(file_errno(errno, path));
        if (got == 0)
            break;
        b->len += (size_t)got;
        if (b->len > max_bytes)
            TRY(FAIL(ERR_FULL, "%s: larger than the limit of %zu bytes", path, max_bytes));
    }
    b->data[b->len] = '\0';
out:
    return st;
}

status file_read(const char *path, size_t max_bytes, struct buf *b)
{
    status st;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return file_errno(errno, path);
    buf_reset(b);
    if (b->max_bytes < max_bytes + 1)
        b->max_bytes = max_bytes + 1;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (size_t)info.st_size <= max_bytes)
        TRY(buf_reserve(b, (size_t)info.st_size));
    TRY(read_all(fd, path, max_bytes, b));
out:
    close(fd);
    if (st != OK)
        buf_reset(b);
    return st;
}

status file_map(const char *path, struct mapping *map)
{
    status st = OK;
    struct stat info;
    void *data;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    *map = (struct mapping){ 0 };
    if (fd < 0)
        return file_errno(errno, path);
    if (fstat(fd, &info) != 0)
        TRY(file_errno(errno, path));
    if (S_ISDIR(info.st_mode))
        TRY(file_errno(EISDIR, path));
    if (!S_ISREG(info.st_mode))
        TRY(FAIL(ERR_IO, "%s: not a regular file", path));
    if (info.st_size == 0)
        TRY(FAIL(ERR_CORRUPT, "%s: the file is empty", path));
    data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        TRY(file_errno(errno, path));
    *map = (struct mapping){ .data = data, .bytes = (size_t)info.st_size };
out:
    close(fd);
    return st;
}

void file_unmap(struct mapping *map)
{
    if (map->data)
        munmap((void *)(size_t)map->data, map->bytes);
    *map = (struct mapping){ 0 };
}

/* --- writing --------------------------------------------------------------------------------- */

static status write_all(int fd, const char *path, const char *bytes, size_t len)
{
    while (len) {
        ssize_t put = write(fd, bytes, len);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return file_errno(errno, path);
        bytes += put;
        len -= (size_t)put;
    }
    return OK;
}

/* A rename is durable once the folder that holds the name is. */
static status sync_folder(const char *path)
{
    status st = OK;
    char folder[FILE_PATH_BYTES];
    int fd = -1;

    TRY(file_parent(folder, sizeof(folder), path));
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system that can't sync folders; nothing more can be done there. */
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        TRY(file_errno(errno, folder));
out:
    if (fd >= 0)
        close(fd);
    return st;
}

/* Write tmp and sync it. Errors speak of path, which is the name the caller knows. */
static status write_tmp(const char *tmp, const char *path, const void *bytes, size_t len)
{
    status st = OK;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

    if (fd < 0)
        return file_errno(errno, path);
    TRY(write_all(fd, path, bytes, len));
    if (fsync(fd) != 0)
        TRY(file_errno(errno, path));
out:
    if (close(fd) != 0 && st == OK)
        st = file_errno(errno, path);
    return st;
}

/* link refuses a name that exists, rename replaces it; both are atomic. */
static status publish_tmp(const char *tmp, const char *path, bool replace)
{
    int err = replace ? rename(tmp, path) : link(tmp, path);

    return err == 0 ? OK : file_errno(errno, path);
}

static status write_file(const char *path, const void *bytes, size_t len, bool replace)
{
    status st = OK;
    char id[11], tmp[FILE_PATH_BYTES] = "";
    int tmp_len;

    TRY(random_id(id, sizeof(id)));
    tmp_len = snprintf(tmp, sizeof(tmp), "%s.%s.tmp", path, id);
    if ((size_t)tmp_len >= sizeof(tmp)) {
        tmp[0] = '\0';
        TRY(file_errno(ENAMETOOLONG, path));
    }
    TRY(write_tmp(tmp, path, bytes, len));
    TRY(publish_tmp(tmp, path, replace));
    TRY(sync_folder(path));
out:
    if (tmp[0] && (st != OK || !replace))
        unlink(tmp);
    return st;
}

status file_write_atomic(const char *path, const void *bytes, size_t len)
{
    return write_file(path, bytes, len, true);
}

status file_write_new(const char *path, const void *bytes, size_t len)
{
    return write_file(path, bytes, len, false);
}

/* --- folders --------------------------------------------------------------------------------- */

static status make_dir(const char *path)
{
    struct stat info;

    if (mkdir(path, 0777) == 0)
        return OK;
    if (errno != EEXIST)
        return file_errno(errno, path);
    if (stat(path, &info) == 0 && !S_ISDIR(info.st_mode))
        return FAIL(ERR_CONFLICT, "%s: is a file, want a folder", path);
    return OK;
}

status file_make_dirs(const char *path)
{
    status st = OK;
    char part[FILE_PATH_BYTES];
    size_t len = strlen(path);

    if (len == 0)
        return FAIL(ERR_BADARG, "the name of a folder is empty");
    if (len >= sizeof(part))
        return file_errno(ENAMETOOLONG, path);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        TRY(make_dir(part));
    }
out:
    return st;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

status file_remove(const char *path)
{
    if (remove(path) != 0 && errno != ENOENT)
        return file_errno(errno, path);
    return OK;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return file_remove(path) == OK ? 0 : -1;
}

static bool leads_upwards(const char *path)
{
    for (const char *p = path; *p; p += *p == '/') {
        size_t len = strcspn(p, "/");

        if (len == 2 && p[0] == '.' && p[1] == '.')
            return true;
        p += len;
    }
    return false;
}

status file_remove_tree(const char *path)
{
    struct stat info;

    CHECK(path[strspn(path, "/.")] != '\0' && !leads_upwards(path));
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? OK : file_errno(errno, path);
    status_clear();
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0)
        return OK;
    /* remove_entry has said which file; anything else is the walk's own failure. */
    return status_message()[0] ? ERR_IO : file_errno(errno, path);
}

/* --- paths ----------------------------------------------------------------------------------- */

status file_join(char *dst, size_t room, const char *dir, const char *name)
{
    size_t dir_len = strlen(dir);
    const char *slash = dir_len && dir[dir_len - 1] != '/' ? "/" : "";
    int len = snprintf(dst, room, "%s%s%s", dir, slash, name);

    if (len < 0 || (size_t)len >= room)
        return FAIL(ERR_BADARG, "%s/%s: the path is longer than %zu bytes", dir, name, room - 1);
    return OK;
}

const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

status file_parent(char *dst, size_t room, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 1;
    const char *from = slash ? path : ".";

    if (slash == path)
        len = 1;
    if (len >= room)
        return FAIL(ERR_BADARG, "%s: the path is longer than %zu bytes", path, room - 1);
    memcpy(dst, from, len);
    dst[len] = '\0';
    return OK;
}
