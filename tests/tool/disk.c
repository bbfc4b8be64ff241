#include "tests/tool/disk.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/tool/test.h"

void disk_limit_files(size_t bytes)
{
    const struct rlimit limit = { bytes, bytes };

    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        test_fail(__FILE__, __LINE__, "setrlimit: no limit on file sizes");
}

const char *disk_small(size_t bytes)
{
    static char path[256];
    char options[64];

    snprintf(path, sizeof(path), "%s/small", test_tmpdir());
    mkdir(path, 0700);
    snprintf(options, sizeof(options), "size=%zu", bytes);
    /* In a mount namespace of our own, so that the mount ends with this process. */
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", path, "tmpfs", 0, options) == 0)
        return path;
    disk_limit_files(bytes);
    return path;
}
