/* snapshot.h - the loaded weights of a checkpoint as a file, which the next start maps.
 *
 * Loading turns tensors of files into one block of memory that kernels read; the block depends on
 * nothing but those files. A snapshot is that block, whole, behind a header that says of which
 * files. Mapped, it is there at once, and all workers of a machine share its memory.
 *
 * The name holds the model's name and the identity of its files (names, sizes, times, inodes), so
 * that a changed file is another snapshot. One that is damaged is refused; who gets ERR_CORRUPT
 * loads from the files and writes it anew. Thread: the owner's. */
#ifndef ONESTEP_WORKER_MODEL_SNAPSHOT_H
#define ONESTEP_WORKER_MODEL_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/file.h"

/* Room at the start of the block that is the header's. */
#define SNAPSHOT_HEADER_BYTES ((size_t)4096)

/* What a snapshot must be of. */
struct snapshot_key {
    const char *dir;      /* folder of snapshots */
    const char *name;     /* of the model */
    uint64_t identity[2]; /* of the files */
    size_t bytes;         /* of the block, the header included */
};

/* Map the snapshot of key and check all of it; hash [33] = the content hash that it was written
 * with. Errors: ERR_NOTFOUND when there is none; ERR_CORRUPT when it is damaged; ERR_IO,
 * ERR_NOMEM. */
MUST_USE status snapshot_map(struct mapping *map, const struct snapshot_key *key, char *hash);

/* Fill in the block's header and write the snapshot, in place of others of the same model.
 * Errors: as file_write_atomic and file_make_dirs. */
MUST_USE status snapshot_write(void *block, const struct snapshot_key *key, const char *hash);

#endif
