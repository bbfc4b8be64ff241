/* result.h - the way out: frames become a video and a poster on disk, files go to storage, a
 * manifest decides.
 *
 * Keys, with <base> = <output prefix>/<job id>:
 *   <base>/a<attempt>-<nonce>/video.mp4, poster.png   this attempt's own (also video.webm,
 *                                                     frames.tar); nobody else writes there
 *   <base>/manifest.json                              written only if absent: whose manifest is
 *                                                     there made the result of the job
 * An attempt that finds another's manifest adopts it, so a job has one result whatever happens.
 * A store without conditional PUT (blob_has_put_new) gets the manifest at
 *   <base>/a<attempt>-<nonce>/manifest.json
 * too, and nothing is adopted: there the lease alone decides, which the broker compares when DONE
 * names a manifest. Either way nobody writes to a key of a published result but its maker.
 *
 * What is published is then brought to the address that the job's user may have given (put_url), by
 * its maker; or, since that may be gone, by the attempt that adopts it, with the same bytes.
 * Thread: one at a time; threads have one each. */
#ifndef ONESTEP_WORKER_RESULT_H
#define ONESTEP_WORKER_RESULT_H

#include "common/base/file.h"
#include "common/blob.h"
#include "worker/attempt.h"
#include "worker/handover.h"
#include "worker/manifest.h"
#include "worker/spool.h"

/* Where results go. */
struct result_config {
    struct blob_config blob;         /* the store; strings borrowed until result_open returns */
    const char *work_dir;            /* for finished clips until they are stored; must exist */
    bool use_nvenc;                  /* let a GPU encode H.264 */
    struct handover_config handover; /* strings borrowed until result_open returns */
    struct manifest_maker maker;     /* strings borrowed until result_close */
};

/* An open store. */
struct result {
    struct blob blob;               /* owned */
    struct handover handover;       /* owned */
    char url[BLOB_URL_ROOM];        /* of the store */
    char work_dir[FILE_PATH_BYTES]; /* of spool items */
    bool use_nvenc;                 /* as configured */
    struct manifest_maker maker;    /* what manifests say about this worker */
};

/* Addresses of a published result. */
struct result_urls {
    char video[BLOB_URL_ROOM];
    char poster[BLOB_URL_ROOM];
    char manifest[BLOB_URL_ROOM];
    char video_key[BLOB_KEY_MAX + 1];       /* in the store */
    char video_sha256_hex[DIGEST_HEX_ROOM]; /* of the video */
    bool is_adopted;                        /* made by an earlier attempt */
    bool is_published;                      /* all of the above is true; also after a failure */
};

/* Open. Errors: those of blob_open and handover_open; ERR_BADARG when work_dir is too long. */
MUST_USE status result_open(struct result *r, const struct result_config *config);

/* Accepts a zeroed struct. */
void result_close(struct result *r);

/* Look for a manifest of an earlier attempt at the same job; *found says whether urls is filled.
 * Errors: ERR_CONFLICT when the manifest belongs to other parameters (another queue used the same
 * job id in this store); ERR_CORRUPT; those of blob_get but ERR_NOTFOUND. */
MUST_USE status result_find(struct result *r, struct attempt *a, struct result_urls *urls,
                            bool *found);

/* Bring the published video of urls to the address that the attempt's job has, if it has one.
 * Errors: those of blob_get_to_file and handover_put. */
MUST_USE status result_hand_over(struct result *r, struct attempt *a,
                                 const struct result_urls *urls);

/* Encode the attempt's frames as they become final, wait for the last, and keep files and manifest
 * as an item on disk. On return the compute thread is through with the attempt.
 * Errors: what the clip ended with; those of media_video, spool and manifest. */
MUST_USE status result_make(struct result *r, struct attempt *a, struct spool_item **item);

/* Store the item's files, write the job's manifest, or adopt the one that is there; then bring the
 * video to its user's address, if there is one. The item stays. cancel: polled.
 * Errors: those of blob and spool; ERR_CONFLICT as above; ERR_CANCELLED; with urls->is_published
 * those of handover_put. */
MUST_USE status result_store(struct result *r, const struct spool_item *item,
                             const atomic_bool *cancel, struct result_urls *urls);

#endif
