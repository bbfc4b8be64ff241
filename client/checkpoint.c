#include "client/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/services.h"
#include "common/base/file.h"

/* A build folder lies this deep in the source tree at most: build/FLAVOR/bin, and one more. */
#define LEVELS_UP 5

static bool is_checkpoint(const char *folder)
{
    char path[FILE_PATH_BYTES];

    return file_join(path, sizeof(path), folder, "model_index.json") == OK && file_exists(path);
}

/* SVD in one file, which the worker looks into. */
static bool is_single_file(const char *path)
{
    static const char tail[] = ".safetensors";
    const size_t len = strlen(path), tail_len = sizeof(tail) - 1;

    return len > tail_len && strcmp(path + len - tail_len, tail) == 0;
}

/* The first checkpoint, in the order of names, among the folders in shelf. */
static bool find_on_shelf(const char *shelf, char *dst, size_t room)
{
    struct dirent **entries;
    int count = scandir(shelf, &entries, NULL, alphasort);
    bool is_found = false;

    for (int i = 0; i < count; i++) {
        char path[FILE_PATH_BYTES];

        if (!is_found && entries[i]->d_name[0] != '.' &&
            file_join(path, sizeof(path), shelf, entries[i]->d_name) == OK && is_checkpoint(path) &&
            strlen(path) < room) {
            snprintf(dst, room, "%s", path);
            is_found = true;
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return is_found;
}

/* Look for place (a path from a root) in folder and those above it. */
static bool find_above(const char *folder, const char *place, char *dst, size_t room)
{
    char root[FILE_PATH_BYTES], path[FILE_PATH_BYTES];

    snprintf(root, sizeof(root), "%s", folder);
    for (int i = 0; i < LEVELS_UP; i++) {
        char above[FILE_PATH_BYTES];

        if (file_join(path, sizeof(path), root, place) != OK)
            return false;
        if (is_checkpoint(path) && strlen(path) < room) {
            snprintf(dst, room, "%s", path);
            return true;
        }
        if (find_on_shelf(path, dst, room))
            return true;
        if (file_parent(above, sizeof(above), root) != OK || strcmp(above, root) == 0)
            return false;
        memcpy(root, above, sizeof(root));
    }
    return false;
}

static status find_default(char *dst, size_t room)
{
    char folder[FILE_PATH_BYTES];
    status st = OK;

    TRY(services_own_folder(folder, sizeof(folder)));
    if (find_above(folder, "share/onestep/checkpoints", dst, room) ||
        find_above(folder, "ops/checkpoints", dst, room))
        return OK;
    TRY(FAIL(ERR_NOTFOUND,
             "no checkpoint was installed with %s; give --model a diffusers folder or a "
             ".safetensors file",
             folder));
out:
    return st;
}

status checkpoint_find(const char *name, char *dst, size_t room)
{
    char *real = NULL;
    status st = OK;

    if (strcmp(name, "default") == 0)
        return find_default(dst, room);
    real = realpath(name, NULL);
    if (!real && errno == ENOENT)
        TRY(FAIL(
            ERR_NOTFOUND,
            "%s: no such folder or file; give --model a diffusers folder or a .safetensors file",
            name));
    if (!real)
        TRY(file_errno(errno, name));
    if (!is_checkpoint(real) && !is_single_file(real))
        TRY(FAIL(ERR_NOTFOUND,
                 "%s: no model_index.json in it; give --model a diffusers folder or a .safetensors "
                 "file",
                 name));
    if (strlen(real) >= room)
        TRY(FAIL(ERR_BADARG, "%s: a path of %zu bytes is too long", real, strlen(real)));
    memcpy(dst, real, strlen(real) + 1);
out:
    free(real);
    return st;
}
