/* result.h - the way out: frames become a video and a poster, files go to storage, a manifest
 * decides.
 *
 * Keys, with <base> = <output prefix>/<job id>:
 *   <base>/a<attempt>-<nonce>/video.mp4, poster.png   this attempt's own; nobody else writes there
 *   <base>/manifest.json                              written only if absent: whose manifest is
 *                                                     there made the result of the job
 * An attempt that finds another's manifest adopts it, so a job has one result whatever happens.
 * Thread: io (the crew's result thread). */
#ifndef ONESTEP_WORKER_RESULT_H
#define ONESTEP_WORKER_RESULT_H

#include "common/base/file.h"
#include "common/blob.h"
#include "worker/attempt.h"
#include "worker/manifest.h"

/* Where results go. */
struct result_config {
    struct blob_config blob;     /* the store; strings borrowed until result_open returns */
    const char *work_dir;        /* for files that are being written; must exist */
    struct manifest_maker maker; /* strings borrowed until result_close */
};

/* An open store. */
struct result {
    struct blob blob;               /* owned */
    char work_dir[FILE_PATH_BYTES]; /* files named after leases */
    struct manifest_maker maker;    /* what manifests say about this worker */
};

/* Addresses of a published result. */
struct result_urls {
    char video[BLOB_URL_ROOM];
    char poster[BLOB_URL_ROOM];
    char manifest[BLOB_URL_ROOM];
    bool is_adopted; /* made by an earlier attempt */
};

/* Open. Errors: those of blob_open; ERR_BADARG when work_dir is too long. */
MUST_USE status result_open(struct result *r, const struct result_config *config);

/* Accepts a zeroed struct. */
void result_close(struct result *r);

/* Look for a manifest of an earlier attempt at the same job; *found says whether urls is filled.
 * Errors: ERR_CONFLICT when the manifest belongs to other parameters (another queue used the same
 * job id in this store); ERR_CORRUPT; those of blob_get but ERR_NOTFOUND. */
MUST_USE status result_find(struct result *r, struct attempt *a, struct result_urls *urls,
                            bool *found);

/* Encode the attempt's frames as they become final, wait for the last, store the files, write the
 * manifest. On return the compute thread is through with the attempt.
 * Errors: what the clip ended with; those of media_video, blob and manifest; ERR_CONFLICT as
 * above. */
MUST_USE status result_run(struct result *r, struct attempt *a, struct result_urls *urls);

#endif
