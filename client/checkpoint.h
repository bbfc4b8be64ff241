/* checkpoint.h - the folder or file of the model that `onestep run` uses. */
#ifndef ONESTEP_CLIENT_CHECKPOINT_H
#define ONESTEP_CLIENT_CHECKPOINT_H

#include <stddef.h>

#include "common/base/status.h"

/* dst = the absolute path of the checkpoint that name stands for: a diffusers folder, a
 * .safetensors file, or "default" for the one that ships with Onestep, looked for around the
 * program: PREFIX/share/onestep/checkpoints after an installation, ops/checkpoints in a source
 * tree.
 * Errors: ERR_NOTFOUND with what to give; ERR_IO. */
MUST_USE status checkpoint_find(const char *name, char *dst, size_t room);

#endif
