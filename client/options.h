/* options.h - the words of a command line, checked and sorted.
 *
 * Flags come from two tables: options_rows for the client, spec_params for the job. The settings
 * among options_rows are keys of the YAML file as well (default < file < flag). */
#ifndef ONESTEP_CLIENT_OPTIONS_H
#define ONESTEP_CLIENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/command.h"
#include "common/base/file.h"
#include "common/config.h"
#include "common/id.h"
#include "common/s3.h"
#include "proto/spec.h"

/* Everything that flags can set besides the parameters of a job. */
struct options {
    /* settings: also in the file */
    struct config_list broker;        /* endpoints, tried in order */
    int64_t broker_timeout_ms;        /* longest wait for any of them */
    char curve_key[FILE_PATH_BYTES];  /* secret key of this client; "": not encrypted */
    char broker_key[FILE_PATH_BYTES]; /* card of the brokers */
    char s3_endpoint[256];            /* see struct s3_config, for these and the next */
    char s3_region[64];
    bool s3_path_style;
    char s3_credentials_file[FILE_PATH_BYTES];
    char ca_file[FILE_PATH_BYTES]; /* "": the system's */
    /* flags of single commands */
    bool json;                      /* results as JSON */
    char out[FILE_PATH_BYTES];      /* folder for results; "": the command's default */
    char manifest[FILE_PATH_BYTES]; /* JSONL rows; "-": standard input; "": none */
    char key[ID_KEY_MAX];           /* idempotency key; "": none */
    bool check;                     /* queue nothing */
    int state;                      /* index of options_states: 0 any, else job_state */
    char label[256];                /* "key=value" or "key"; "": any */
    int64_t limit;                  /* rows of list */
    char since[128];                /* events: cursor; "": from the oldest that is kept */
    bool once;                      /* events: what there is, and no more */
    bool all;                       /* redrive: every dead job */
    bool repair;                    /* audit: mend what it finds */
    int64_t queued_max;             /* limits of a tenant, see struct msg_quota */
    int64_t running_max, bytes_max; /* -1: as it is, for all six */
    int64_t rate, burst, weight;
    int64_t older_than_h;         /* gc: what is younger is left alone */
    bool remove;                  /* gc: not only said */
    int64_t give_up_s;            /* longest wait; 0: no limit */
    char model[FILE_PATH_BYTES];  /* run: folder of the checkpoint, or "default" */
    char device[64];              /* run: of its worker */
    int64_t threads;              /* run: of its worker; 0: its own choice */
    char dump[FILE_PATH_BYTES];   /* run: folder for intermediate tensors; "": none */
    bool keep;                    /* run: leave the services up */
    char tenant[SPEC_TENANT_MAX]; /* keygen: of the card; "": none */
    int role;                     /* keygen: index of keys_role_names */
};

/* One command line, parsed. Texts are borrowed from argv. */
struct command_line {
    const struct command *command;
    struct options options;
    struct job_spec spec; /* of the flags; image is empty */
    bool has_seed;        /* --seed was given */
    bool wants_help;      /* --help was given: nothing else was checked */
    char **words;         /* arguments that are no flags */
    int word_count;
};

/* The flags of the client; the first options_setting_count are settings. */
extern const struct config_row options_rows[];
extern const size_t options_row_count;
extern const size_t options_setting_count;

/* Choices of --state; [0] is "any", the others follow enum job_state. */
extern const char *const options_states[];

/* Parse the words after the command's name. argv[0] is that name; argv is reordered.
 * Errors: ERR_BADARG; ERR_NOTFOUND, ERR_IO, ERR_CORRUPT for the YAML file. line->options.json is
 * set as far as parsing came, so that an error can be told in the wanted form. */
MUST_USE status options_parse(struct command_line *line, const struct command *command, int argc,
                              char **argv);

/* The row of flag name ('-' and '_' are the same) of a command, settings included, or NULL. */
const struct config_row *options_find(const struct command *command, const char *name);

/* The job parameter that a command takes as flag name, or NULL. */
const struct spec_param *options_find_param(const struct command *command, const char *name);

/* Does the command take this row as a flag? */
bool options_has_row(const struct command *command, const struct config_row *row);

/* Does the command take this job parameter as a flag? */
bool options_has_param(const struct command *command, const struct spec_param *param);

/* A job parameter as a row, for help. Its field is not to be used. This function can't fail. */
struct config_row options_row_of_param(const struct spec_param *param);

/* Settings of an object store: from options and, for secrets, the environment (AWS_*). c borrows
 * from both. This function can't fail. */
void options_s3(const struct options *o, struct s3_config *c);

#endif
