#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/tool/test.h"
#include "worker/workdir.h"

TEST(workdir_is_private_and_goes_away)
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
TEST(workdir_of_a_dead_worker_is_removed)
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

TEST(workdir_that_cannot_be_made_is_named)
{
    struct workdir w = { .is_open = false };

    EXPECT(workdir_open(&w, "/proc/nothing") != OK);
    EXPECT_MESSAGE("/proc/nothing");
    workdir_close(&w);
}
