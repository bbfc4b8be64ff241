#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"

char *fuzz_text(const uint8_t *bytes, size_t len)
{
    char *text = malloc(len + 1);

    CHECK(text);
    if (len)
        memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}

void fuzz_file(char path[FILE_PATH_BYTES], const char *name, const void *bytes, size_t len)
{
    char folder[FILE_PATH_BYTES];
    int fd;

    CHECK(file_join(path, FILE_PATH_BYTES, fuzz_tmpdir(), name) == OK);
    CHECK(file_parent(folder, sizeof(folder), path) == OK);
    CHECK(file_make_dirs(folder) == OK);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    close(fd);
}

#ifdef ONESTEP_LIBFUZZER

/* Memory is much faster than a disk. Set once; libFuzzer calls from one thread. */
static char tmpdir[256] = "/dev/shm/onestep-fuzz-XXXXXX";
static bool has_tmpdir;

static void remove_tmpdir(void)
{
    CHECK(file_remove_tree(tmpdir) == OK);
}

const char *fuzz_tmpdir(void)
{
    if (!has_tmpdir) {
        CHECK(mkdtemp(tmpdir));
        CHECK(atexit(remove_tmpdir) == 0);
        has_tmpdir = true;
    }
    return tmpdir;
}

/* --tmp=DIR, which libFuzzer does not know: whoever gives it removes it, also after a crash. */
static bool take_tmpdir(const char *arg)
{
    if (strncmp(arg, "--tmp=", 6) != 0)
        return false;
    CHECK(strlen(arg + 6) < sizeof(tmpdir));
    strcpy(tmpdir, arg + 6);
    has_tmpdir = true;
    return true;
}

/* The entry's limit becomes -max_len, in front of the other arguments: the last one wins. Lines
 * below an error would be most of the work. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char max_len[32];
    char **args = calloc((size_t)*argc + 2, sizeof(*args));
    int count = 0;

    CHECK(args && *argc >= 1);
    log_set_level(LOG_ERROR);
    snprintf(max_len, sizeof(max_len), "-max_len=%zu", fuzz_bytes_max);
    args[count++] = (*argv)[0];
    args[count++] = max_len;
    for (int i = 1; i < *argc; i++) {
        if (!take_tmpdir((*argv)[i]))
            args[count++] = (*argv)[i];
    }
    *argv = args;
    *argc = count;
    return 0;
}

#else

const char *fuzz_tmpdir(void)
{
    return test_tmpdir();
}

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* The path is printed first: what a failed test printed last is the input that did it. */
static void feed_file(const char *path, size_t bytes_max, fuzz_entry *entry)
{
    struct buf content = { 0 };
    uint8_t *exact;

    printf("%s\n", path);
    if (file_read(path, bytes_max, &content) != OK)
        test_fail(__FILE__, __LINE__, "%s", status_message());
    exact = malloc(content.len);
    CHECK(exact || content.len == 0);
    if (content.len)
        memcpy(exact, content.data, content.len);
    entry(exact, content.len);
    free(exact);
    buf_free(&content);
}

void fuzz_replay(const char *target, size_t bytes_max, fuzz_entry *entry)
{
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct dirent **files = NULL;
    int count;

    snprintf(folder, sizeof(folder), "tests/fuzz/corpus/%s", target);
    count = scandir(folder, &files, is_input, alphasort);
    if (count < 1)
        test_fail(__FILE__, __LINE__, "%s: no inputs; each entry needs a few", folder);
    printf("no bytes\n");
    entry((const uint8_t *)"", 0);
    for (int i = 0; i < count; i++) {
        if (file_join(path, sizeof(path), folder, files[i]->d_name) != OK)
            test_fail(__FILE__, __LINE__, "%s", status_message());
        feed_file(path, bytes_max, entry);
        free(files[i]);
    }
    free(files);
}

#endif
