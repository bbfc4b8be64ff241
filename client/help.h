/* help.h - what the tables say to people: help texts, the manual page, completion scripts.
 *
 * Errors of every function: as buf_append. */
#ifndef ONESTEP_CLIENT_HELP_H
#define ONESTEP_CLIENT_HELP_H

#include "client/command.h"
#include "common/base/buf.h"

/* Append the overview: what `onestep --help` prints. */
MUST_USE status help_overview(struct buf *text);

/* Append the help of one command. */
MUST_USE status help_command(const struct command *command, struct buf *text);

/* Append the source of the manual page onestep(1). */
MUST_USE status help_man(struct buf *text);

/* Append a completion script for bash. */
MUST_USE status help_bash(struct buf *text);

/* Append a completion script for zsh. */
MUST_USE status help_zsh(struct buf *text);

#endif
