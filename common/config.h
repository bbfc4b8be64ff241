/* config.h - settings of a program: one table gives its flags, its YAML keys, --help and man page.
 *
 *   static const struct config_row rows[] = {
 *       CFG_ROW_INT(struct broker_config, lease_ms, 1000, 600000, "30000", "ms",
 *                   "time a worker may go silent"),
 *       CFG_ROW_CHOICE(struct broker_config, log_level, "info", config_log_levels, "least level"),
 *   };
 *
 * Order of precedence: default < YAML file (--config FILE) < flag. lease_ms is lease_ms in the file
 * and --lease-ms 5000 or --lease-ms=5000 on the command line; --flag, --no-flag or --flag=false for
 * a CFG_BOOL. An unknown key or flag is an error that names its place and the nearest known one.
 * Secrets are never settings: a setting names the file that holds one, or config_env reads it.
 *
 * The only user of libyaml and the only caller of getenv. Thread: any; nothing is kept. */
#ifndef ONESTEP_COMMON_CONFIG_H
#define ONESTEP_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"

/* Type of a setting and of its field. */
enum config_type {
    CFG_ILLEGAL = 0,
    CFG_INT,    /* int64_t */
    CFG_DOUBLE, /* double */
    CFG_BOOL,   /* bool */
    CFG_TEXT,   /* char[size] */
    CFG_CHOICE, /* int: index into choices */
    CFG_LIST,   /* struct config_list */
};

#define CFG_LIST_ITEMS 16
#define CFG_LIST_TEXT 256

/* Value of a CFG_LIST: "a,b" on the command line, a sequence or "a,b" in YAML. */
struct config_list {
    int count;                                /* items in use */
    char item[CFG_LIST_ITEMS][CFG_LIST_TEXT]; /* NUL-ended, never empty */
};

/* One setting. */
struct config_row {
    const char *name;           /* snake_case: YAML key; flag with '-' for '_' */
    enum config_type type;      /* decides the type of the field */
    size_t offset;              /* of the field in the program's config struct */
    size_t size;                /* of the field in bytes; the bound of a CFG_TEXT */
    double min, max;            /* inclusive bounds of CFG_INT and CFG_DOUBLE */
    const char *default_text;   /* as typed after the flag; NULL: must be given */
    const char *const *choices; /* NULL-ended, for CFG_CHOICE */
    const char *unit;           /* "ms", "bytes", ""; of a CFG_TEXT: its place holder, "FILE" */
    const char *help;           /* one line for --help and the man page */
};

#define CFG_FIELD(type, f) offsetof(type, f), sizeof(((type *)0)->f)
#define CFG_ROW_INT(type, f, min, max, text, unit, help)                                           \
    {                                                                                              \
#f, CFG_INT, CFG_FIELD(type, f), min, max, text, NULL, unit, help                          \
    }
#define CFG_ROW_DOUBLE(type, f, min, max, text, unit, help)                                        \
    {                                                                                              \
#f, CFG_DOUBLE, CFG_FIELD(type, f), min, max, text, NULL, unit, help                       \
    }
#define CFG_ROW_BOOL(type, f, text, help)                                                          \
    {                                                                                              \
#f, CFG_BOOL, CFG_FIELD(type, f), 0, 0, text, NULL, "", help                               \
    }
#define CFG_ROW_TEXT(type, f, text, help)                                                          \
    {                                                                                              \
#f, CFG_TEXT, CFG_FIELD(type, f), 0, 0, text, NULL, "", help                               \
    }
#define CFG_ROW_CHOICE(type, f, text, names, help)                                                 \
    {                                                                                              \
#f, CFG_CHOICE, CFG_FIELD(type, f), 0, 0, text, names, "", help                            \
    }
#define CFG_ROW_LIST(type, f, text, help)                                                          \
    {                                                                                              \
#f, CFG_LIST, CFG_FIELD(type, f), 0, 0, text, NULL, "", help                               \
    }

/* Choices of a log_level setting; the index is an enum log_level. */
extern const char *const config_log_levels[];

/* What --help, --version and the man page say about a program besides its settings. */
struct config_program {
    const char *name;              /* "onestep-broker" */
    const char *summary;           /* one line without a full stop: "hands jobs to workers" */
    const char *description;       /* paragraphs, separated by empty lines */
    const char *examples;          /* lines: a command, then an indented line that explains it */
    const char *version_text;      /* all that --version prints, ended by a newline */
    const struct config_row *rows; /* the settings */
    size_t row_count;
};

/* Fill cfg (the program's zeroed config struct) from defaults, --config FILE and flags. --help,
 * --version, --print-config (YAML that loads back) and --man (manual page source) are answered on
 * stdout: then *is_done is true and the program ends with exit code 0.
 * Errors: ERR_BADARG (flag, key, type, bounds, a word that is no flag), ERR_NOTFOUND and ERR_IO
 * (the file), ERR_CORRUPT (not YAML). cfg is then undefined. */
MUST_USE status config_load(void *cfg, const struct config_program *program, int argc, char **argv,
                            bool *is_done);

/* Set every row that has a default. This function can't fail: a wrong default is a bug. */
void config_init(void *cfg, const struct config_row *rows, size_t row_count);

/* Read the YAML mapping in the file at path into cfg. Limits: LIMIT_TEXT_FILE_BYTES, depth 16; no
 * anchors, aliases, tags, second documents or repeated keys.
 * Errors: ERR_NOTFOUND, ERR_IO, ERR_CORRUPT, ERR_BADARG; sentences start with "path:line: ". */
MUST_USE status config_read(void *cfg, const struct config_row *rows, size_t row_count,
                            const char *path);

/* As config_read, from len bytes of text; name stands for the path in sentences. */
MUST_USE status config_parse(void *cfg, const struct config_row *rows, size_t row_count,
                             const char *name, const struct buf *text);

/* Set one row from text as typed after its flag. what names the setting in the sentence
 * ("--lease-ms", "broker.yaml:3: lease_ms"). Errors: ERR_BADARG; cfg is then unchanged. */
MUST_USE status config_set(void *cfg, const struct config_row *row, const char *what,
                           const char *text);

/* Append row's value as one YAML scalar or flow sequence. Errors: as buf_append. */
MUST_USE status config_get(const void *cfg, const struct config_row *row, struct buf *text);

/* The row called name ('-' and '_' are the same), or NULL. */
const struct config_row *config_find(const struct config_row *rows, size_t row_count,
                                     const char *name);

/* The words that are nearest to a wrong one: call config_nearest_see for every known word, then
 * read best, which is NULL when none is near enough to be meant. Zeroed except for wrong. */
struct config_nearest {
    const char *wrong; /* what was typed; '-' and '_' are the same */
    const char *best;  /* borrowed from the words seen; NULL: none near */
    size_t distance;   /* edits from wrong to best, when best is set */
};

/* Consider one known word. This function can't fail. */
void config_nearest_see(struct config_nearest *n, const char *known);

/* Append bounds, choices, unit and default of row as people read them: "1000..600000 ms; default
 * 30000"; nothing when there is nothing to say. Errors: as buf_append. */
MUST_USE status config_describe(const struct config_row *row, struct buf *text);

/* Environment variable name, or NULL when it is not set or empty; for credentials (AWS_*) and the
 * user's directories (HOME, XDG_*, TMPDIR). Borrowed from the environment. */
const char *config_env(const char *name);

/* Wipe a variable whose secret was copied to where it is needed, so that no core dump and nobody
 * who looks at /proc sees it. It is empty then, and so is what config_env returned for it. One that
 * is not set is no error. */
void config_env_wipe(const char *name);

/* Wipe the values of all variables, for a process that is to know nothing. */
void config_env_wipe_all(void);

/* "libyaml 0.2.5", the library that is loaded, into dst (room bytes, always NUL-ended); returns
 * dst. */
const char *config_library(char *dst, size_t room);

#endif
