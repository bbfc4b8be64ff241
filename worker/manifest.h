/* manifest.h - the JSON document that says what a result is and how it was made.
 *
 * {"onestep_manifest": 1, "job", "attempt", "lease", "created", "model": {"name", "checkpoint",
 *  "hash"}, "parameters": {every parameter as resolved}, "spec_hash", "labels": {}, "frames",
 *  "width", "height", "fps", "input": {"url", "sha256", "bytes", "format", "width", "height"},
 *  "outputs": {"video": {"key", "url", "bytes", "sha256"}, "poster": {..}}, "stage_seconds": {},
 *  "total_seconds", "device", "encoder", "build"}
 *
 * It is written before the files are uploaded, so their seconds are not in it.
 * Whoever writes the manifest of a job first has made its result. The URLs of image and put_url are
 * given without their queries, which may hold signatures. A seed above 2^63 - 1 is a text, since
 * JSON readers have no such number. */
#ifndef ONESTEP_WORKER_MANIFEST_H
#define ONESTEP_WORKER_MANIFEST_H

#include "common/base/buf.h"
#include "common/blob.h"
#include "worker/attempt.h"

/* One stored file. */
struct manifest_output {
    char key[BLOB_KEY_MAX + 1];       /* in the store */
    char url[BLOB_URL_ROOM];          /* for readers */
    uint64_t bytes;                   /* size */
    char sha256_hex[DIGEST_HEX_ROOM]; /* of its content */
};

/* What a manifest says about the worker. */
struct manifest_maker {
    const char *checkpoint; /* name of the checkpoint's folder */
    const char *hash;       /* of its weights */
    const char *device;     /* "cpu, avx512, 2 threads" */
    const char *build;      /* release and git describe */
};

/* What is written. */
struct manifest {
    const struct manifest_maker *maker; /* borrowed */
    const struct attempt *attempt;      /* borrowed; after its clip is finished */
    const char *encoder;                /* that made the video: "libx264" */
    struct manifest_output video;       /* stored under attempt-scoped keys */
    struct manifest_output poster;
};

/* Append the document to out. Errors: ERR_FULL, ERR_NOMEM. */
MUST_USE status manifest_write(struct buf *out, const struct manifest *m);

/* What a reader wants to know about a result that is already there. */
struct manifest_found {
    int64_t attempt;                 /* that made it */
    char spec_hash[DIGEST_HEX_ROOM]; /* attempt_spec_hash of its job */
    struct manifest_output video;    /* where the files are */
    struct manifest_output poster;
};

/* Read a manifest. name: for sentences. Errors: ERR_CORRUPT when it isn't one; ERR_NOMEM. */
MUST_USE status manifest_read(struct manifest_found *found, const char *name,
                              const struct buf *text);

#endif
