/* disk.h - a disk that is soon full, for tests. */
#ifndef ONESTEP_TESTS_TOOL_DISK_H
#define ONESTEP_TESTS_TOOL_DISK_H

#include <stddef.h>

/* A folder where about bytes more bytes can be written by this test: a small tmpfs that only its
 * process sees (as root), or the process's own limit on file sizes. Either makes writes fail as
 * a full disk does. The path is the same at each call; call once per test. */
const char *disk_small(size_t bytes);

/* Set the limit that disk_small falls back to: no file may grow over bytes. */
void disk_limit_files(size_t bytes);

#endif
