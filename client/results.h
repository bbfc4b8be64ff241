/* results.h - results of jobs: copied from where they are, and their manifests read. */
#ifndef ONESTEP_CLIENT_RESULTS_H
#define ONESTEP_CLIENT_RESULTS_H

#include <stdint.h>

#include "client/options.h"
#include "common/base/json.h"
#include "common/digest.h"

/* A manifest that was read. A zeroed struct is closed. */
struct results_manifest {
    struct json json;                    /* the document */
    int64_t frames, width_px, height_px; /* of the clip */
    double total_seconds;                /* of the attempt that made it */
    char video_sha256[DIGEST_HEX_ROOM];  /* hex */
    char poster_sha256[DIGEST_HEX_ROOM]; /* hex */
};

/* Copy the object at url (file:// or s3://, as the worker stored it) to a new file at path.
 * Errors: those of blob_get_to_file; ERR_BADARG for another kind of URL. */
MUST_USE status results_copy(const struct options *o, const char *url, const char *path);

/* Read the manifest in the file at path. Errors: ERR_CORRUPT, ERR_NOTFOUND, ERR_IO. */
MUST_USE status results_read(struct results_manifest *m, const char *path);

/* Close. Accepts a zeroed struct. */
void results_free(struct results_manifest *m);

/* The file at path has this SHA-256; otherwise it is removed, since nobody should take it for the
 * result. Errors: ERR_CORRUPT, ERR_NOTFOUND, ERR_IO. */
MUST_USE status results_check(const char *path, const char *sha256_hex);

/* Members frames, width, height, seed and stage_seconds, copied from the manifest. */
void results_write(struct json_writer *w, const struct results_manifest *m);

#endif
