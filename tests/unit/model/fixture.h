/* fixture.h - a copy of a tiny checkpoint in a temporary folder, to be damaged. */
#ifndef ONESTEP_TESTS_UNIT_MODEL_FIXTURE_H
#define ONESTEP_TESTS_UNIT_MODEL_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

/* Copy tests/fixtures/<name> into a fresh folder; returns its path, valid until the test ends. */
const char *fixture_copy(const char *name);

/* Path of a file of the copy ("unet/config.json"); valid until the next call. */
const char *fixture_path(const char *file);

/* The file's bytes; the caller frees with buf_free. */
struct buf fixture_read(const char *file);

/* Replace the file. */
void fixture_write(const char *file, const void *bytes, size_t len);

/* Replace the first occurrence of from in a text file by to. It must be there. */
void fixture_edit(const char *file, const char *from, const char *to);

/* In the header of a safetensors file, replace the first `from` behind the first `behind` by to,
 * of the same length. */
void fixture_edit_header(const char *file, const char *behind, const char *from, const char *to);

/* Add a tensor of one element to a safetensors file. */
void fixture_add_tensor(const char *file, const char *name);

#endif
