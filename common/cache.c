#include "common/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/digest.h"

/* After eviction, room for some more before the next one. */
#define KEPT_PERCENT 90
/* Index entries that were not renewed for so long are deleted; their content mostly is already. */
#define NAME_MAX_MS ((int64_t)7 * 24 * 3600 * 1000)

/* One line of the index. */
struct entry {
    char sha256_hex[DIGEST_HEX_ROOM]; /* of the content */
    char etag[CACHE_ETAG_ROOM];
    int64_t fetched_ms; /* wall clock */
};

/* path is a folder that no other user can put anything into. */
static status check_private(const char *path)
{
    struct stat info;

    if (lstat(path, &info) != 0)
        return file_errno(errno, path);
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 022))
        return FAIL(ERR_BADARG,
                    "%s: others may write there; give cache_dir a folder of this user's", path);
    return OK;
}

static status make_private(const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return file_errno(errno, path);
    return check_private(path);
}

status cache_open(struct cache *c, const struct cache_config *config)
{
    static const char *const parts[] = { "data", "name", "lock" };
    char path[FILE_PATH_BYTES];
    status st = OK;

    *c = (struct cache){ .bytes_max = config->bytes_max, .fresh_ms = config->fresh_ms };
    TRY(file_join(c->dir, sizeof(c->dir), "", config->dir));
    TRY(file_parent(path, sizeof(path), c->dir));
    TRY(file_make_dirs(path));
    TRY(make_private(c->dir));
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        TRY(file_join(path, sizeof(path), c->dir, parts[i]));
        TRY(make_private(path));
    }
    c->is_open = true;
out:
    return st;
}

void cache_close(struct cache *c)
{
    *c = (struct cache){ .is_open = false };
}

static status part_path(const struct cache *c, const char *part, const char *name,
                        char path[FILE_PATH_BYTES])
{
    char below[DIGEST_HEX_ROOM + 8];

    snprintf(below, sizeof(below), "%s/%s", part, name);
    return file_join(path, FILE_PATH_BYTES, c->dir, below);
}

static void forget(const struct cache *c, const char *part, const char *name)
{
    char path[FILE_PATH_BYTES];

    if (part_path(c, part, name, path) == OK)
        unlink(path);
}

/* --- reading --------------------------------------------------------------------------------- */

/* Is there an entry for key? What can't be read is not there. */
static bool read_entry(const struct cache *c, const char *key, struct entry *e)
{
    char path[FILE_PATH_BYTES];
    struct buf text = { .max_bytes = sizeof(*e) };
    struct stat info;
    uint8_t sha256[DIGEST_BYTES];
    bool is_read = false;

    *e = (struct entry){ .fetched_ms = 0 };
    if (part_path(c, "name", key, path) == OK && stat(path, &info) == 0 &&
        file_read(path, sizeof(*e), &text) == OK && text.len > DIGEST_HEX_ROOM &&
        text.data[DIGEST_HEX_ROOM - 1] == ' ' && text.data[text.len - 1] == '\n' &&
        text.len - DIGEST_HEX_ROOM - 1 < sizeof(e->etag)) {
        memcpy(e->sha256_hex, text.data, DIGEST_HEX_ROOM - 1);
        memcpy(e->etag, text.data + DIGEST_HEX_ROOM, text.len - DIGEST_HEX_ROOM - 1);
        e->fetched_ms = (int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
        is_read = digest_from_hex(e->sha256_hex, sha256) == OK;
    }
    buf_free(&text);
    return is_read;
}

static bool is_fresh(const struct cache *c, const struct entry *e)
{
    int64_t age_ms = clock_wall_ms() - e->fetched_ms;

    return age_ms >= 0 && age_ms < c->fresh_ms;
}

/* Append the content of e to out, if it is there and what it should be. */
static bool read_content(const struct cache *c, const struct entry *e, struct buf *out)
{
    char path[FILE_PATH_BYTES], hex[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];
    struct buf content = { 0 };
    bool is_read = false;

    if (part_path(c, "data", e->sha256_hex, path) == OK &&
        file_read(path, out->max_bytes ? out->max_bytes : BUF_MAX_DEFAULT, &content) == OK &&
        digest_sha256(content.data, content.len, sha256) == OK) {
        is_read = strcmp(digest_hex(sha256, hex), e->sha256_hex) == 0;
        if (!is_read)
            log_warn("cache.damaged", "path=%s", path);
        is_read = is_read && buf_append(out, content.data, content.len) == OK;
        utimensat(AT_FDCWD, path, NULL, 0);
    }
    buf_free(&content);
    return is_read;
}

/* --- eviction -------------------------------------------------------------------------------- */

struct content {
    char name[DIGEST_HEX_ROOM];
    struct timespec used;
    uint64_t bytes;
};

static int by_age(const void *a, const void *b)
{
    const struct content *x = a, *y = b;

    if (x->used.tv_sec != y->used.tv_sec)
        return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

/* Call see for each file of a part with what stat says. */
static void each_file(const struct cache *c, const char *part, void *self,
                      void (*see)(const struct cache *c, void *self, const char *name,
                                  const struct stat *info))
{
    char path[FILE_PATH_BYTES];
    struct dirent *entry;
    struct stat info;
    DIR *dir = file_join(path, sizeof(path), c->dir, part) == OK ? opendir(path) : NULL;

    while (dir && (entry = readdir(dir))) {
        if (fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(info.st_mode))
            see(c, self, entry->d_name, &info);
    }
    if (dir)
        closedir(dir);
}

struct contents {
    struct content *item;
    size_t count, room;
    uint64_t bytes;
};

static void see_content(const struct cache *c, void *self, const char *name,
                        const struct stat *info)
{
    struct contents *all = self;

    (void)c;
    if (strlen(name) >= DIGEST_HEX_ROOM)
        return; /* being written */
    if (all->count == all->room) {
        size_t room = all->room ? 2 * all->room : 256;
        struct content *more = realloc(all->item, room * sizeof(*more));

        if (!more)
            return;
        all->item = more;
        all->room = room;
    }
    snprintf(all->item[all->count].name, DIGEST_HEX_ROOM, "%s", name);
    all->item[all->count].used = info->st_mtim;
    all->item[all->count++].bytes = (uint64_t)info->st_size;
    all->bytes += (uint64_t)info->st_size;
}

static void see_name(const struct cache *c, void *self, const char *name, const struct stat *info)
{
    (void)self;
    if (clock_wall_ms() - (int64_t)info->st_mtim.tv_sec * 1000 > NAME_MAX_MS &&
        strlen(name) < DIGEST_HEX_ROOM)
        forget(c, "name", name);
}

/* CAREFUL: a reader has opened a file before or finds it gone, which is a miss; so nobody waits. */
static void evict(const struct cache *c)
{
    struct contents all = { 0 };

    each_file(c, "data", &all, see_content);
    if (all.bytes > c->bytes_max) {
        qsort(all.item, all.count, sizeof(*all.item), by_age);
        for (size_t i = 0; i < all.count && all.bytes > c->bytes_max / 100 * KEPT_PERCENT; i++) {
            forget(c, "data", all.item[i].name);
            all.bytes -= all.item[i].bytes;
        }
        each_file(c, "name", NULL, see_name);
    }
    free(all.item);
}

/* --- writing --------------------------------------------------------------------------------- */

static status write_entry(const struct cache *c, const char *key, const char *sha256_hex,
                          const char *etag)
{
    char path[FILE_PATH_BYTES];
    struct buf text = { 0 };
    status st = OK;

    TRY(part_path(c, "name", key, path));
    TRY(buf_printf(&text, "%s %s\n", sha256_hex, etag));
    TRY(file_write_atomic(path, text.data, text.len));
out:
    buf_free(&text);
    return st;
}

static status write_content(const struct cache *c, const char *key, const char *bytes, size_t len,
                            const char *etag)
{
    char path[FILE_PATH_BYTES], hex[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];
    status st = OK;

    if (len > c->bytes_max)
        return OK;
    TRY(digest_sha256(bytes, len, sha256));
    TRY(part_path(c, "data", digest_hex(sha256, hex), path));
    TRY(file_write_atomic(path, bytes, len));
    TRY(write_entry(c, key, hex, etag));
    evict(c);
out:
    return st;
}

/* --- getting --------------------------------------------------------------------------------- */

/* Waiting for the lock of a name. */
struct turn {
    int fd;
    const atomic_bool *cancel;
    bool is_cancelled, is_mine;
};

static bool has_turn(void *self)
{
    struct turn *t = self;

    t->is_cancelled = t->cancel && atomic_load(t->cancel);
    t->is_mine = !t->is_cancelled && flock(t->fd, LOCK_EX | LOCK_NB) == 0;
    return t->is_mine || t->is_cancelled;
}

static status wait_turn(const struct cache *c, const char *key, const struct cache_source *source,
                        int *fd)
{
    struct turn t = { .cancel = source->cancel };
    char path[FILE_PATH_BYTES], name[4];
    status st = OK;

    snprintf(name, sizeof(name), "%.3s", key);
    TRY(part_path(c, "lock", name, path));
    t.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (t.fd < 0)
        TRY(file_errno(errno, path));
    *fd = t.fd;
    (void)clock_wait_for(has_turn, &t, source->wait_ms);
    if (t.is_cancelled)
        TRY(FAIL(ERR_CANCELLED, "stopped while another fetched the same input"));
out:
    return st;
}

static status fetch(const struct cache *c, const char *key, const struct cache_source *source,
                    struct buf *out)
{
    struct entry e;
    struct buf known = { .max_bytes = out->max_bytes };
    size_t begin = out->len;
    bool is_same = false, is_known = read_entry(c, key, &e) && read_content(c, &e, &known);
    status st = OK, written;

    if (is_known && is_fresh(c, &e)) { /* another has fetched it meanwhile */
        TRY(buf_append(out, known.data, known.len));
        goto out;
    }
    if (!is_known)
        e.etag[0] = '\0';
    TRY(source->fetch(source->self, out, e.etag, &is_same));
    CHECK(!is_same || is_known);
    if (is_same)
        TRY(buf_append(out, known.data, known.len));
    written = is_same ? write_entry(c, key, e.sha256_hex, e.etag)
                      : write_content(c, key, out->data + begin, out->len - begin, e.etag);
    if (written != OK)
        log_warn("cache.unwritten", "error=\"%s\"", status_message());
out:
    buf_free(&known);
    return st;
}

status cache_get(struct cache *c, const char *name, const struct cache_source *source,
                 struct buf *out)
{
    char key[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];
    struct entry e;
    int fd = -1;
    status st = OK;

    CHECK(c->is_open);
    TRY(digest_sha256(name, strlen(name), sha256));
    digest_hex(sha256, key);
    if (read_entry(c, key, &e) && is_fresh(c, &e) && read_content(c, &e, out))
        return OK;
    TRY(wait_turn(c, key, source, &fd));
    TRY(fetch(c, key, source, out));
out:
    if (fd >= 0)
        close(fd);
    return st;
}
