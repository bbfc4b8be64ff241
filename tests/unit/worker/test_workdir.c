#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/tool/test.h"
#include "worker/spool.h"
#include "worker/workdir.h"

TEST(storage_workdir_is_private_and_goes_away)
{
    struct workdir a = { .is_open = false }, b = { .is_open = false };
    char file[FILE_PATH_BYTES];

    EXPECT_OK(workdir_open(&a, test_tmpdir()));
    EXPECT_OK(workdir_open(&b, test_tmpdir()));
    EXPECT(strcmp(a.path, b.path) != 0);
    EXPECT(file_exists(a.path) && file_exists(b.path));
    EXPECT_OK(file_join(file, sizeof(file), a.path, "x.mp4"));
    EXPECT_OK(file_write_atomic(file, "x", 1));
    workdir_close(&a);
    EXPECT(!file_exists(file));
    EXPECT(file_exists(b.path));
    workdir_close(&b);
    workdir_close(&b);
}

/* A worker that dies without closing leaves its folder to the next one. */
TEST(storage_workdir_of_a_dead_worker_is_removed)
{
    struct workdir mine = { .is_open = false };
    char path[FILE_PATH_BYTES] = "";
    const char *base = test_tmpdir();
    int ends[2], code;
    pid_t pid;

    EXPECT(pipe(ends) == 0);
    pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        struct workdir theirs = { .is_open = false };

        if (workdir_open(&theirs, base) != OK ||
            write(ends[1], theirs.path, sizeof(theirs.path)) != (ssize_t)sizeof(theirs.path))
            _exit(1);
        _exit(0);
    }
    EXPECT(waitpid(pid, &code, 0) == pid && code == 0);
    EXPECT(read(ends[0], path, sizeof(path)) == (ssize_t)sizeof(path));
    EXPECT(file_exists(path));
    EXPECT_OK(workdir_open(&mine, base));
    EXPECT(!file_exists(path));
    workdir_close(&mine);
    close(ends[0]);
    close(ends[1]);
}

/* A clip with its record survives its worker, killed or ended; half a clip does not. */
TEST(storage_finished_clips_move_to_the_next_worker)
{
    const struct lease whole = { .job = "00aaaaaaaaaaaaaaaaaaaaaaaa", .attempt = 3, .nonce = 17 };
    const struct lease half = { .job = "00bbbbbbbbbbbbbbbbbbbbbbbb", .attempt = 1, .nonce = 18 };
    struct buf manifest = { 0 };
    const char *base = test_tmpdir();
    int code;
    pid_t pid = fork();

    EXPECT(pid >= 0);
    EXPECT_OK(buf_append_text(&manifest, "{}"));
    if (pid == 0) {
        struct workdir theirs = { .is_open = false };
        struct spool_item *item;

        EXPECT_OK(workdir_open(&theirs, base));
        EXPECT_OK(spool_begin(&item, theirs.path, &half));
        spool_free(item);
        EXPECT_OK(spool_begin(&item, theirs.path, &whole));
        item->file_count = 1;
        item->files[0] = (struct spool_file){ "video.mp4",
                                              "video/mp4",
                                              { "job/a3/video.mp4", "s3://b/k", 7, "" } };
        memset(item->files[0].out.sha256_hex, 'a', DIGEST_HEX_ROOM - 1);
        memcpy(item->store, "s3://b", 7);
        memcpy(item->manifest_key, "job/manifest.json", 18);
        memset(item->spec_hash, 'b', DIGEST_HEX_ROOM - 1);
        EXPECT_OK(spool_keep(item, &manifest));
        _exit(0);
    }
    EXPECT(waitpid(pid, &code, 0) == pid && code == 0);
    for (int i = 0; i < 2; i++) { /* the second time after an orderly end */
        struct workdir mine = { .is_open = false };
        struct spool_item *found;
        struct buf text = { 0 };

        EXPECT_OK(workdir_open(&mine, base));
        EXPECT_OK(spool_find(&found, mine.path));
        EXPECT(found && !found->next && msg_lease_equal(&found->lease, &whole));
        EXPECT_INT(found->files[0].out.bytes, 7);
        EXPECT_TEXT(found->files[0].out.key, "job/a3/video.mp4");
        EXPECT_TEXT(found->manifest_key, "job/manifest.json");
        EXPECT_OK(spool_manifest(found, &text));
        EXPECT_TEXT(text.data, "{}");
        buf_free(&text);
        if (i == 1)
            spool_drop(found);
        else
            spool_free(found);
        workdir_close(&mine);
    }
    buf_free(&manifest);
}

TEST(storage_workdir_that_cannot_be_made_is_named)
{
    struct workdir w = { .is_open = false };

    EXPECT(workdir_open(&w, "/proc/nothing") != OK);
    EXPECT_MESSAGE("/proc/nothing");
    workdir_close(&w);
}
