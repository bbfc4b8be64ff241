/* spool.h - finished clips on disk until the store has them: nothing computed is thrown away.
 *
 * An item is a folder of its own in the worker's work folder:
 *   <nonce>/video.mp4, poster.png   the files, synced
 *   <nonce>/manifest.json           what is to be published about them
 *   <nonce>/item.json               written last, with the SHA-256 of everything: whoever finds it
 *                                   can publish the result without knowing anything else
 * The record holds the job's put_url, a secret: a worker's work folder is open to its user only.
 * A folder without item.json is what a killed worker left half done, and of no use.
 *
 * Publishing an item twice, or after another attempt has published, does no harm: the manifest in
 * the store decides (worker/result.h).
 * Thread: an item belongs to one thread at a time. */
#ifndef ONESTEP_WORKER_SPOOL_H
#define ONESTEP_WORKER_SPOOL_H

#include "common/base/file.h"
#include "common/blob.h"
#include "common/digest.h"
#include "proto/msg.h"
#include "worker/manifest.h"

#define SPOOL_FILES_MAX 2
/* Name of the manifest in the folder. */
#define SPOOL_MANIFEST "manifest.json"

struct attempt;

/* One file of an item, and where it is to go. */
struct spool_file {
    char name[32];              /* in the item's folder */
    char type[32];              /* media type */
    struct manifest_output out; /* key, address, size and SHA-256 */
};

/* One finished clip. */
struct spool_item {
    char dir[FILE_PATH_BYTES];             /* its folder */
    struct lease lease;                    /* under which it was made */
    char store[BLOB_URL_ROOM];             /* address of the store that it is for */
    char manifest_key[BLOB_KEY_MAX + 1];   /* where the job's manifest is */
    char manifest_sha256[DIGEST_HEX_ROOM]; /* of manifest.json */
    char spec_hash[DIGEST_HEX_ROOM];       /* attempt_spec_hash of the job */
    char put_url[SPEC_URL_MAX];            /* of the job: a secret; "": none */
    struct spool_file files[SPOOL_FILES_MAX];
    int file_count;
    uint64_t bytes;          /* of all files, for the budget */
    struct attempt *attempt; /* that holds the lease still; NULL: nobody waits for an answer */
    int tries;               /* that failed to store it */
    int handovers;           /* that failed to bring the stored video to put_url */
    int64_t due_ms;          /* monotonic; not to be tried before */
    struct spool_item *next; /* the crew's; under its lock */
};

/* Make the folder of an item for this lease below work_dir. Errors: ERR_FULL, ERR_IO, ERR_NOMEM. */
MUST_USE status spool_begin(struct spool_item **item, const char *work_dir,
                            const struct lease *lease);

/* The path of a file of the item. Errors: ERR_BADARG when it is too long. */
MUST_USE status spool_path(const struct spool_item *item, const char *name,
                           char path[FILE_PATH_BYTES]);

/* Write the manifest and then the record: from here on the item survives this process. Everything
 * else in it is set. Errors: ERR_FULL, ERR_IO, ERR_NOMEM. */
MUST_USE status spool_keep(struct spool_item *item, const struct buf *manifest);

/* The text of manifest.json. Errors: ERR_CORRUPT when it is not what was written; ERR_IO. */
MUST_USE status spool_manifest(const struct spool_item *item, struct buf *text);

/* Every whole item in work_dir, as a list; what is not one stays where it is.
 * Errors: ERR_NOMEM, ERR_IO. */
MUST_USE status spool_find(struct spool_item **list, const char *work_dir);

/* Move the whole items of one work folder into another one on the same disk; what can't be moved is
 * logged and stays. Returns how many were left behind. */
int spool_move(const char *from, const char *to);

/* Delete the item's folder and free it. Accepts NULL. A folder that stays is logged. */
void spool_drop(struct spool_item *item);

/* Free it; its folder stays. Accepts NULL. */
void spool_free(struct spool_item *item);

/* Free a list of them. Accepts NULL. */
void spool_free_all(struct spool_item *list);

#endif
