/* file.h - files read, mapped and written whole; what the system says becomes a sentence.
 *
 * Every error names the path and, where there is one, the remedy. Thread: any. */
#ifndef ONESTEP_COMMON_BASE_FILE_H
#define ONESTEP_COMMON_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/status.h"

/* Room for any path that Onestep makes or accepts, with its NUL. */
#define FILE_PATH_BYTES 1024

/* A file mapped read-only. CAREFUL: it must not be truncated while mapped; reading a page that is
 * gone kills the process. */
struct mapping {
    const unsigned char *data; /* page-aligned; NULL in a zeroed mapping */
    size_t bytes;              /* size of the file, at least 1 */
};

/* The failure that errno value err means for path: ENOENT -> ERR_NOTFOUND; EEXIST, ENOTEMPTY ->
 * ERR_CONFLICT; ENOSPC, EDQUOT, EFBIG -> ERR_FULL; ENAMETOOLONG, ELOOP -> ERR_BADARG; ENOMEM ->
 * ERR_NOMEM; the rest -> ERR_IO. For callers that use a path without this module. */
MUST_USE status file_errno(int err, const char *path);

/* Replace the content of b by the file at path. The ceiling of b is raised to max_bytes if it is
 * lower. Errors: ERR_FULL when the file is larger than max_bytes; ERR_NOTFOUND, ERR_IO,
 * ERR_NOMEM. */
MUST_USE status file_read(const char *path, size_t max_bytes, struct buf *b);

/* Map the regular file at path. Errors: ERR_CORRUPT when it is empty; ERR_IO when it is not a
 * regular file; ERR_NOTFOUND, ERR_NOMEM. */
MUST_USE status file_map(const char *path, struct mapping *map);

/* Give a mapping back. Accepts a zeroed struct. */
void file_unmap(struct mapping *map);

/* Make path hold exactly these bytes. Readers see the old file or the new one, never a part, also
 * after a power cut; on an error the old file is untouched. Errors: ERR_FULL when the disk is full;
 * ERR_NOTFOUND when the folder is missing; ERR_IO. */
MUST_USE status file_write_atomic(const char *path, const void *bytes, size_t len);

/* Like file_write_atomic, but only if nothing is at path: of several writers, one gets OK.
 * Errors: ERR_CONFLICT when path exists; as file_write_atomic. */
MUST_USE status file_write_new(const char *path, const void *bytes, size_t len);

/* Make the folder path and those above it that are missing. Errors: ERR_CONFLICT when a file is in
 * the way; ERR_FULL, ERR_IO. */
MUST_USE status file_make_dirs(const char *path);

/* Is there anything at path that may be looked at? This function can't fail. */
bool file_exists(const char *path);

/* Delete the file or empty folder at path. Nothing there is fine. Errors: ERR_CONFLICT when a
 * folder is not empty; ERR_IO. */
MUST_USE status file_remove(const char *path);

/* Delete the folder path with everything in it; links are deleted, not followed. Nothing there is
 * fine. For private run folders; "/", "." and paths with ".." are a bug.
 * Errors: ERR_IO. */
MUST_USE status file_remove_tree(const char *path);

/* dst = dir/name, or name alone when dir is "". Errors: ERR_BADARG when that needs more than room
 * bytes. */
MUST_USE status file_join(char *dst, size_t room, const char *dir, const char *name);

/* What follows the last slash of path: "a/b" -> "b", "b" -> "b". Points into path. This function
 * can't fail. */
const char *file_name(const char *path);

/* dst = the folder that path is in: "a/b" -> "a", "b" -> ".", "/b" -> "/". Errors: ERR_BADARG when
 * that needs more than room bytes. */
MUST_USE status file_parent(char *dst, size_t room, const char *path);

#endif
