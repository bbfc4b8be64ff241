#include "worker/workdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "worker/spool.h"

#define PREFIX "onestep-worker-"
#define TRIES 8

/* Remove the folder at path if it is ours and nobody holds its lock; its finished clips go to the
 * folder to. */
static void remove_if_dead(const char *path, const char *to)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return;
    if (fstat(fd, &info) == 0 && info.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (spool_move(path, to) > 0)
            log_error("workdir.kept", "path=%s", path);
        else if (file_remove_tree(path) == OK)
            log_info("workdir.cleaned", "path=%s", path);
        else
            log_warn("workdir.leftover", "error=\"%s\"", status_message());
    }
    close(fd);
}

static void remove_dead(const char *base, const char *own)
{
    char path[FILE_PATH_BYTES];
    struct dirent *entry;
    DIR *dir = opendir(base);

    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            file_join(path, sizeof(path), base, entry->d_name) == OK && strcmp(path, own) != 0)
            remove_if_dead(path, own);
    }
    closedir(dir);
}

/* Lock the folder; false when another worker that just started took it for a dead one's. */
static bool lock(struct workdir *w)
{
    struct stat here, there;

    w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (w->fd < 0)
        return false;
    if (flock(w->fd, LOCK_EX) == 0 && fstat(w->fd, &here) == 0 && stat(w->path, &there) == 0 &&
        here.st_ino == there.st_ino && here.st_dev == there.st_dev)
        return true;
    close(w->fd);
    return false;
}

status workdir_open(struct workdir *w, const char *base)
{
    status st = OK;

    *w = (struct workdir){ .fd = -1 };
    TRY(file_make_dirs(base));
    for (int i = 0; i < TRIES && !w->is_open; i++) {
        TRY(file_join(w->path, sizeof(w->path), base, PREFIX "XXXXXX"));
        if (!mkdtemp(w->path))
            TRY(file_errno(errno, w->path));
        w->is_open = lock(w);
    }
    if (!w->is_open)
        TRY(FAIL(ERR_IO, "%s: a new folder can't be locked; give --work-dir another place", base));
    remove_dead(base, w->path);
out:
    return st;
}

void workdir_close(struct workdir *w)
{
    struct spool_item *left = NULL;

    if (!w->is_open)
        return;
    if (spool_find(&left, w->path) == OK && left)
        log_warn("workdir.kept",
                 "path=%s reason=\"clips that are not stored yet; the next worker "
                 "with this --work-dir stores them\"",
                 w->path);
    else if (file_remove_tree(w->path) != OK)
        log_warn("workdir.leftover", "error=\"%s\"", status_message());
    spool_free_all(left);
    close(w->fd);
    *w = (struct workdir){ .fd = -1 };
}
