/* cmd.h - the functions behind the rows of command_table.
 *
 * Each one reports results itself, item by item. It returns what the exit code is made of; the
 * sentence belonging to it is told by main, unless the command told it and called status_clear. */
#ifndef ONESTEP_CLIENT_CMD_H
#define ONESTEP_CLIENT_CMD_H

#include "client/options.h"

/* Photographs to videos on this machine, with services of its own. */
status cmd_run(const struct command_line *line);

/* Queue jobs. */
status cmd_submit(const struct command_line *line);

/* What is known about jobs. */
status cmd_status(const struct command_line *line);

/* Watch jobs until they end. */
status cmd_wait(const struct command_line *line);

/* The newest jobs. */
status cmd_list(const struct command_line *line);

/* Why jobs do not run. */
status cmd_why(const struct command_line *line);

/* What happens to jobs. */
status cmd_events(const struct command_line *line);

/* Stop jobs. */
status cmd_cancel(const struct command_line *line);

/* Download results. */
status cmd_fetch(const struct command_line *line);

/* Check results against their manifests. */
status cmd_verify(const struct command_line *line);

/* Remove what lost attempts left in an object store. */
status cmd_gc(const struct command_line *line);

/* How many jobs and workers there are. */
status cmd_queues(const struct command_line *line);

/* The workers of all brokers. */
status cmd_workers(const struct command_line *line);

/* Let workers, or the whole queue, run empty. */
status cmd_drain(const struct command_line *line);

/* Start nothing more, and start again. */
status cmd_pause(const struct command_line *line);
status cmd_resume(const struct command_line *line);

/* Put queued jobs before all others. */
status cmd_front(const struct command_line *line);

/* Give dead jobs their tries again. */
status cmd_redrive(const struct command_line *line);

/* Limits of tenants. */
status cmd_quota(const struct command_line *line);

/* Compare Redis' indexes with its jobs. */
status cmd_audit(const struct command_line *line);

/* Make a key. */
status cmd_keygen(const struct command_line *line);

/* Release, commit, protocol and libraries. */
status cmd_version(const struct command_line *line);

/* Help for the client or one command. */
status cmd_help(const struct command_line *line);

/* A completion script. */
status cmd_completion(const struct command_line *line);

/* The source of the manual page. */
status cmd_man(const struct command_line *line);

#endif
