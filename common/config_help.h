/* config_help.h - the texts that a table of settings is turned into.
 *
 * Errors of every function that returns a status: as buf_append. Thread: any. */
#ifndef ONESTEP_COMMON_CONFIG_HELP_H
#define ONESTEP_COMMON_CONFIG_HELP_H

#include "common/config.h"
#include "common/manual.h"

/* Append what --help prints. */
MUST_USE status config_help(const struct config_program *program, struct buf *text);

/* Append the source of the program's manual page. */
MUST_USE status config_man(const struct config_program *program, struct buf *text);

/* Append every setting as YAML that loads back, with its help as a comment. */
MUST_USE status config_print(const struct config_program *program, const void *cfg,
                             struct buf *text);

/* Write one entry per setting: its flag with a place holder, its help, bounds and default. */
MUST_USE status config_entries(const struct config_row *rows, size_t row_count, struct manual *m);

/* "--lease-ms" for lease_ms, into dst (room bytes, always NUL-ended); returns dst. */
const char *config_flag_name(const char *name, char *dst, size_t room);

#endif
