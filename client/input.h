/* input.h - what a user names as a photograph, made into the URL of a job. */
#ifndef ONESTEP_CLIENT_INPUT_H
#define ONESTEP_CLIENT_INPUT_H

#include <stddef.h>

#include "common/base/status.h"

/* url = the address of the photograph that text names: an http(s)://, s3:// or file:// URL as it
 * is, anything else a local file, relative to folder ("": the working directory). A local file is
 * looked at first: it must exist, be readable, of a size that is allowed, and begin like an image.
 * Errors: ERR_NOTFOUND, ERR_IO, ERR_CORRUPT (no image), ERR_BADARG (malformed, too large). */
MUST_USE status input_resolve(const char *text, const char *folder, char *url, size_t room);

/* The name of the image format that these first bytes announce, or NULL. */
const char *input_format(const unsigned char *bytes, size_t len);

/* A word made of the file's name without its ending, fit for a prefix of results: "IMG 1.jpg" ->
 * "IMG-1". dst: room bytes, at least 2. */
void input_stem(const char *text, char *dst, size_t room);

#endif
