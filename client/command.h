/* command.h - the commands of `onestep`, in one table.
 *
 * --help, shell completion and the manual page are made from it. A new command is a row here and a
 * function in cmd_NAME.c. */
#ifndef ONESTEP_CLIENT_COMMAND_H
#define ONESTEP_CLIENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

struct command_line;

/* Does one command. Results go to standard output, everything else to standard error. */
typedef status (*command_fn)(const struct command_line *line);

/* What the words after a command are, for checks and completion. */
enum command_words {
    COMMAND_NO_WORDS = 0,
    COMMAND_IMAGES,   /* files or URLs */
    COMMAND_JOBS,     /* job ids */
    COMMAND_STORE,    /* address of an object store */
    COMMAND_WORKERS,  /* ids of workers, or "queue" */
    COMMAND_SCOPE,    /* "queue", "model NAME" or "tenant NAME" */
    COMMAND_TENANT,   /* name of a tenant */
    COMMAND_NAME,     /* name of a new key */
    COMMAND_SHELL,    /* "bash" or "zsh" */
    COMMAND_COMMANDS, /* name of a command */
};

/* One command. */
struct command {
    const char *name;         /* as typed */
    const char *arguments;    /* for the usage line: "IMAGE..." */
    const char *summary;      /* one line without a full stop */
    const char *description;  /* paragraphs, separated by empty lines */
    const char *examples;     /* lines: a command, then an indented line that explains it */
    const char *const *flags; /* NULL-ended names of options_rows besides the settings */
    bool has_spec;            /* takes the parameters of a job as flags */
    bool has_broker;          /* talks to a broker: takes the settings, and --config */
    bool is_hidden;           /* not in help and completion */
    enum command_words words; /* what its words are */
    int words_min, words_max; /* how many; max 0: no limit, unless there are COMMAND_NO_WORDS */
    command_fn run;
};

/* The table and its length. */
extern const struct command command_table[];
extern const size_t command_count;

/* The command called name, or NULL. */
const struct command *command_find(const char *name);

/* The sentence for a word that is no command, with the nearest one. Returns ERR_BADARG. */
MUST_USE status command_fail_unknown(const char *name);

#endif
