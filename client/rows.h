/* rows.h - jobs from a manifest: one JSON object per line, read one at a time.
 *
 * Keys are the names of job parameters, and "key". Empty lines are skipped. Memory does not grow
 * with the number of rows. Thread: the owner's. */
#ifndef ONESTEP_CLIENT_ROWS_H
#define ONESTEP_CLIENT_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/id.h"
#include "proto/spec.h"

/* Longest line: a job spec with every text at its limit is below 10 KiB. */
#define ROWS_LINE_MAX ((size_t)64 << 10)

/* A manifest being read. A zeroed struct is closed. */
struct rows {
    FILE *in;                     /* owned unless it is standard input */
    char name[FILE_PATH_BYTES];   /* for sentences */
    char folder[FILE_PATH_BYTES]; /* where relative paths start; "": the working directory */
    int64_t line;                 /* number of the last line read, from 1 */
    struct buf text;              /* that line */
};

/* One row. */
struct row {
    struct job_spec spec; /* defaults, changed by the row; image is a URL */
    bool has_seed;        /* the row has "seed" */
    char key[ID_KEY_MAX]; /* its "key"; "": none */
};

/* Open the manifest at path; "-" is standard input. Errors: ERR_NOTFOUND, ERR_IO, ERR_BADARG. */
MUST_USE status rows_open(struct rows *r, const char *path);

/* Close. Accepts a zeroed struct. */
void rows_close(struct rows *r);

/* Go to the next line that is not empty; false at the end. Errors: ERR_IO. */
MUST_USE status rows_next(struct rows *r, bool *has_row);

/* Read the present line into row, on top of defaults. The next line can be read whatever is wrong
 * with this one. Errors: ERR_BADARG, ERR_CORRUPT, ERR_NOTFOUND, ... with "name:line: " in front. */
MUST_USE status rows_read(struct rows *r, const struct job_spec *defaults, struct row *row);

#endif
