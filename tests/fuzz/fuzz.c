#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"

char *fuzz_text(const uint8_t *bytes, size_t len)
{
    char *text = malloc(len + 1);

    CHECK(text);
    if (len)
        memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}

#ifdef ONESTEP_LIBFUZZER

/* The entry's limit becomes -max_len, in front of the other arguments: the last one wins. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char max_len[32];
    char **args = calloc((size_t)*argc + 2, sizeof(*args));

    CHECK(args && *argc >= 1);
    snprintf(max_len, sizeof(max_len), "-max_len=%zu", fuzz_bytes_max);
    args[0] = (*argv)[0];
    args[1] = max_len;
    memcpy(args + 2, *argv + 1, (size_t)(*argc - 1) * sizeof(*args));
    *argv = args;
    ++*argc;
    return 0;
}

#else

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
