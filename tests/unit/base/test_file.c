#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/tool/test.h"

/* A path in this test's folder; a few are valid at a time. */
static const char *in_tmp(const char *name)
{
    static char paths[8][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 8];

    EXPECT_OK(file_join(path, FILE_PATH_BYTES, test_tmpdir(), name));
    return path;
}

static void expect_content(const char *path, const char *want)
{
    struct buf b = { 0 };

    EXPECT_OK(file_read(path, 1 << 20, &b));
    EXPECT_TEXT(b.data, want);
    buf_free(&b);
}

static int entries_in(const char *folder)
{
    char command[FILE_PATH_BYTES + 32];
    int count = -1;
    FILE *f;

    snprintf(command, sizeof(command), "ls -A '%s' | wc -l", folder);
    f = popen(command, "r");
    EXPECT(f && fscanf(f, "%d", &count) == 1);
    pclose(f);
    return count;
}

TEST(what_is_written_is_read)
{
    const char *path = in_tmp("soup");
    struct buf b = { 0 };

    EXPECT_OK(file_write_atomic(path, "a\0b", 3));
    EXPECT_OK(file_read(path, 3, &b));
    EXPECT_INT(b.len, 3);
    EXPECT(memcmp(b.data, "a\0b", 4) == 0);
    EXPECT_OK(file_write_atomic(path, "", 0));
    EXPECT_OK(file_read(path, 3, &b));
    EXPECT_INT(b.len, 0);
    EXPECT_INT(entries_in(test_tmpdir()), 1);
    buf_free(&b);
}

TEST(a_large_file_survives_the_way)
{
    const char *path = in_tmp("large");
    size_t len = 3000001;
    char *data = malloc(len);
    struct buf b = { 0 };

    EXPECT(data != NULL);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)test_random();
    EXPECT_OK(file_write_atomic(path, data, len));
    EXPECT_OK(file_read(path, len, &b));
    EXPECT(b.len == len && memcmp(b.data, data, len) == 0);
    EXPECT_STATUS(file_read(path, len - 1, &b), ERR_FULL);
    EXPECT_MESSAGE("larger than the limit of 3000000 bytes");
    EXPECT_INT(b.len, 0);
    buf_free(&b);
    free(data);
}

TEST(a_file_without_a_size_is_read_too)
{
    struct buf b = { 0 };

    EXPECT_OK(file_read("/proc/self/status", 1 << 20, &b));
    EXPECT(strstr(b.data, "Name:"));
    EXPECT_STATUS(file_read("/dev/zero", 100000, &b), ERR_FULL);
    buf_free(&b);
}

TEST(what_is_missing_or_no_file_is_named)
{
    struct buf b = { 0 };
    struct mapping map = { 0 };

    EXPECT_STATUS(file_read(in_tmp("none"), 10, &b), ERR_NOTFOUND);
    EXPECT_MESSAGE("/none: no such file");
    EXPECT_STATUS(file_read(test_tmpdir(), 10, &b), ERR_IO);
    EXPECT_MESSAGE("is a folder, want a file");
    EXPECT_STATUS(file_map(in_tmp("none"), &map), ERR_NOTFOUND);
    EXPECT_STATUS(file_map(test_tmpdir(), &map), ERR_IO);
    EXPECT_STATUS(file_map("/dev/null", &map), ERR_IO);
    EXPECT_MESSAGE("/dev/null: not a regular file");
    EXPECT_STATUS(file_write_atomic(in_tmp("none/x"), "x", 1), ERR_NOTFOUND);
    EXPECT_STATUS(file_write_atomic(test_tmpdir(), "x", 1), ERR_IO);
    buf_free(&b);
}

TEST(a_mapping_shows_the_bytes)
{
    const char *path = in_tmp("soup");
    struct mapping map = { 0 };

    EXPECT_OK(file_write_atomic(path, "hello", 5));
    EXPECT_OK(file_map(path, &map));
    EXPECT_INT(map.bytes, 5);
    EXPECT(memcmp(map.data, "hello", 5) == 0);
    file_unmap(&map);
    file_unmap(&map);
    EXPECT_OK(file_write_atomic(path, "", 0));
    EXPECT_STATUS(file_map(path, &map), ERR_CORRUPT);
    EXPECT_MESSAGE("the file is empty");
    EXPECT(map.data == NULL);
}

/* A replaced file keeps its old bytes for who has it open: that is what atomic means here. */
TEST(a_reader_never_sees_half_a_file)
{
    const char *path = in_tmp("soup");
    char bytes[4] = "";
    int fd;

    EXPECT_OK(file_write_atomic(path, "old", 3));
    fd = open(path, O_RDONLY);
    EXPECT(fd >= 0);
    EXPECT_OK(file_write_atomic(path, "new", 3));
    EXPECT_INT(read(fd, bytes, 3), 3);
    EXPECT_TEXT(bytes, "old");
    close(fd);
    expect_content(path, "new");
}

TEST(the_mode_follows_the_umask)
{
    const char *path = in_tmp("soup");
    struct stat info;

    umask(027);
    EXPECT_OK(file_write_atomic(path, "x", 1));
    EXPECT(stat(path, &info) == 0);
    EXPECT_INT(info.st_mode & 0777, 0640);
}

/* A limit on the size of files stands in for a full disk: write fails in the middle in both. */
TEST(a_failed_write_leaves_the_old_file_and_no_litter)
{
    const char *path = in_tmp("soup");
    struct rlimit limit = { .rlim_cur = 4096, .rlim_max = 4096 };
    char data[10000] = { 0 };

    EXPECT_OK(file_write_atomic(path, "old", 3));
    EXPECT(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT_STATUS(file_write_atomic(path, data, sizeof(data)), ERR_FULL);
    EXPECT_MESSAGE("/soup: larger than the file size limit");
    expect_content(path, "old");
    EXPECT_INT(entries_in(test_tmpdir()), 1);
}

TEST(errno_becomes_a_code_and_a_sentence)
{
    static const struct {
        int err;
        status st;
        const char *says;
    } rows[] = {
        { ENOENT, ERR_NOTFOUND, "x: no such file" },
        { ENOTDIR, ERR_NOTFOUND, "x: a part of this path is a file" },
        { EEXIST, ERR_CONFLICT, "x: exists already" },
        { ENOTEMPTY, ERR_CONFLICT, "x: the folder is not empty" },
        { ENOSPC, ERR_FULL, "x: the disk is full; free some space" },
        { EDQUOT, ERR_FULL, "x: the disk quota is used up" },
        { EFBIG, ERR_FULL, "x: larger than" },
        { EACCES, ERR_IO, "x: permission denied; check its owner" },
        { EPERM, ERR_IO, "x: permission denied" },
        { EROFS, ERR_IO, "x: the file system is read-only" },
        { EISDIR, ERR_IO, "x: is a folder" },
        { EMFILE, ERR_IO, "x: too many open files" },
        { ENAMETOOLONG, ERR_BADARG, "x: the path is too long" },
        { ELOOP, ERR_BADARG, "x: the links of this path" },
        { ENOMEM, ERR_NOMEM, "x: out of memory" },
        { EIO, ERR_IO, "x: Input/output error" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        EXPECT_STATUS(file_errno(rows[i].err, "x"), rows[i].st);
        EXPECT_MESSAGE(rows[i].says);
    }
}

/* in_tmp is not for threads; they get their path before they start. */
struct racer {
    pthread_t thread;
    const char *path;
    status st;
};

static void *race(void *arg)
{
    struct racer *r = arg;

    r->st = file_write_new(r->path, &r, sizeof(r));
    return NULL;
}

TEST(of_many_writers_of_a_new_file_one_wins)
{
    struct racer racers[16] = { 0 };
    const char *path = in_tmp("winner");
    int winners = 0;

    for (int i = 0; i < 16; i++) {
        racers[i].path = path;
        EXPECT(pthread_create(&racers[i].thread, NULL, race, &racers[i]) == 0);
    }
    for (int i = 0; i < 16; i++) {
        EXPECT(pthread_join(racers[i].thread, NULL) == 0);
        EXPECT(racers[i].st == OK || racers[i].st == ERR_CONFLICT);
        winners += racers[i].st == OK;
    }
    EXPECT_INT(winners, 1);
    EXPECT_STATUS(file_write_new(path, "late", 4), ERR_CONFLICT);
    EXPECT_MESSAGE("exists already");
    EXPECT_INT(entries_in(test_tmpdir()), 1);
}

TEST(folders_are_made_with_their_parents)
{
    EXPECT_OK(file_make_dirs(in_tmp("a/b//c/")));
    EXPECT(file_exists(in_tmp("a/b/c")));
    EXPECT_OK(file_make_dirs(in_tmp("a/b/c")));
    EXPECT_OK(file_make_dirs("/"));
    EXPECT_OK(file_write_atomic(in_tmp("a/f"), "", 0));
    EXPECT_STATUS(file_make_dirs(in_tmp("a/f")), ERR_CONFLICT);
    EXPECT_MESSAGE("is a file, want a folder");
    EXPECT(file_make_dirs(in_tmp("a/f/g")) != OK);
    EXPECT_STATUS(file_make_dirs(""), ERR_BADARG);
}

TEST(a_tree_is_removed_and_links_are_not_followed)
{
    EXPECT_OK(file_make_dirs(in_tmp("outside")));
    EXPECT_OK(file_write_atomic(in_tmp("outside/keep"), "", 0));
    EXPECT_OK(file_make_dirs(in_tmp("run/deep")));
    EXPECT_OK(file_write_atomic(in_tmp("run/deep/f"), "", 0));
    EXPECT(symlink(in_tmp("outside"), in_tmp("run/link")) == 0);
    EXPECT(symlink("nowhere", in_tmp("dangling")) == 0);
    EXPECT_OK(file_remove_tree(in_tmp("run")));
    EXPECT(!file_exists(in_tmp("run")));
    EXPECT(file_exists(in_tmp("outside/keep")));
    EXPECT_OK(file_remove_tree(in_tmp("run")));
    EXPECT_OK(file_remove_tree(in_tmp("dangling")));
    EXPECT_INT(entries_in(test_tmpdir()), 1);
}

TEST(remove_takes_files_and_empty_folders)
{
    EXPECT_OK(file_remove(in_tmp("none")));
    EXPECT_OK(file_make_dirs(in_tmp("d")));
    EXPECT_OK(file_write_atomic(in_tmp("d/f"), "", 0));
    EXPECT_STATUS(file_remove(in_tmp("d")), ERR_CONFLICT);
    EXPECT_OK(file_remove(in_tmp("d/f")));
    EXPECT_OK(file_remove(in_tmp("d")));
    EXPECT(!file_exists(in_tmp("d")));
}

TEST(paths_are_joined_and_parted_within_bounds)
{
    char path[8];

    EXPECT_OK(file_join(path, sizeof(path), "ab", "cd"));
    EXPECT_TEXT(path, "ab/cd");
    EXPECT_OK(file_join(path, sizeof(path), "ab/", "cd"));
    EXPECT_TEXT(path, "ab/cd");
    EXPECT_OK(file_join(path, sizeof(path), "", "cd"));
    EXPECT_TEXT(path, "cd");
    EXPECT_OK(file_join(path, sizeof(path), "abc", "def"));
    EXPECT_STATUS(file_join(path, sizeof(path), "abcd", "def"), ERR_BADARG);
    EXPECT_OK(file_parent(path, sizeof(path), "a/b/c"));
    EXPECT_TEXT(path, "a/b");
    EXPECT_OK(file_parent(path, sizeof(path), "c"));
    EXPECT_TEXT(path, ".");
    EXPECT_OK(file_parent(path, sizeof(path), "/c"));
    EXPECT_TEXT(path, "/");
    EXPECT_STATUS(file_parent(path, sizeof(path), "12345678/c"), ERR_BADARG);
}

TEST(a_path_beyond_every_limit_is_refused)
{
    char path[6000];

    memset(path, 'p', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    EXPECT_STATUS(file_write_atomic(path, "x", 1), ERR_BADARG);
    EXPECT_STATUS(file_make_dirs(path), ERR_BADARG);
    EXPECT(!file_exists(path));
}
