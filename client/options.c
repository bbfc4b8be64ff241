#include "client/options.h"

#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/config_help.h"
#include "common/job.h"
#include "common/keys.h"

const char *const options_states[] = { "any",  "queued", "delayed",   "leased",  "running",
                                       "done", "dead",   "cancelled", "blocked", NULL };
_Static_assert(sizeof(options_states) / sizeof(options_states[0]) == JOB_STATE_COUNT + 1,
               "options_states follows enum job_state");

#define INT(f, min, max, text, unit, help)                                                         \
    CFG_ROW_INT(struct options, f, min, max, text, unit, help)
#define BOOL(f, help) CFG_ROW_BOOL(struct options, f, "false", help)
#define TEXT(f, text, placeholder, help)                                                           \
    {                                                                                              \
#f, CFG_TEXT, CFG_FIELD(struct options, f), 0, 0, text, NULL, placeholder, help            \
    }

const struct config_row options_rows[] = {
    CFG_ROW_LIST(struct options, broker, "tcp://127.0.0.1:7450",
                 "brokers, tried one after the other: tcp://HOST:PORT or ipc:///PATH"),
    INT(broker_timeout_ms, 100, 600000, "5000", "ms", "longest wait for an answer of any broker"),
    TEXT(curve_key, "", "FILE", "your secret key (onestep keygen); empty: no encryption"),
    TEXT(broker_key, "", "FILE", "the brokers' card (broker.pub); goes with curve_key"),
    TEXT(s3_endpoint, "", "URL", "object store, http(s)://HOST[:PORT]; empty: AWS"),
    TEXT(s3_region, "us-east-1", "NAME", "region of the object store"),
    BOOL(s3_path_style, "put the bucket into the path, not in front of the host"),
    TEXT(s3_credentials_file, "", "FILE",
         "AWS credentials file; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY win over it"),
    TEXT(ca_file, "", "FILE", "certificates for https (PEM); empty: the system's"),
    /* the settings end here: options_setting_count */
    BOOL(json, "print results as JSON, one object per line"),
    TEXT(out, "", "DIR", "folder for results, made when missing"),
    TEXT(manifest, "", "FILE", "file of jobs, one JSON object per line; -: standard input"),
    TEXT(key, "", "KEY",
         "idempotency key: the same key and row is the same job, however often sent"),
    BOOL(check, "check every job and queue none"),
    CFG_ROW_CHOICE(struct options, state, "any", options_states, "only jobs in this state"),
    TEXT(label, "", "LABEL", "only jobs with this label: KEY=VALUE or KEY"),
    INT(limit, 1, 1000000, "20", "jobs", "how many, newest first"),
    TEXT(since, "", "CURSOR", "only events behind this one; empty: from the oldest that is kept"),
    BOOL(once, "print what there is, and end"),
    BOOL(all, "every dead job that is not quarantined"),
    BOOL(repair, "derive anew what disagrees with the jobs"),
    INT(queued_max, -1, INT32_MAX, "-1", "jobs", "that may wait; 0: no limit; -1: as it is"),
    INT(running_max, -1, INT32_MAX, "-1", "jobs",
        "that may run at once; 0: no limit; -1: as it is"),
    INT(bytes_max, -1, 1e14, "-1", "bytes",
        "parameters of all its jobs; 0: no limit; -1: as it is"),
    INT(rate, -1, INT32_MAX, "-1", "jobs/s",
        "submissions in the long run; 0: no limit; -1: as it is"),
    INT(burst, -1, INT32_MAX, "-1", "jobs", "submissions at once, with --rate; -1: as it is"),
    INT(weight, -1, 1000000, "-1", "", "share of the workers against other tenants; -1: as it is"),
    INT(older_than_h, 0, 87600, "24", "h", "leave younger files alone"),
    BOOL(remove, "remove leftovers; without it they are only listed"),
    INT(give_up_s, 0, 31536000, "0", "s", "longest wait; 0: until the end"),
    TEXT(model, "default", "DIR",
         "checkpoint: a diffusers folder, or SVD in one .safetensors file; default: the one that "
         "ships with Onestep"),
    TEXT(device, "auto", "NAME", "compute device of the worker"),
    INT(threads, 0, 4096, "0", "", "threads of the worker; 0: one per core"),
    TEXT(dump, "", "DIR", "folder for named intermediate tensors of each job (safetensors)"),
    BOOL(keep, "leave broker, worker and Redis up afterwards, and say how to stop them"),
    TEXT(tenant, "", "NAME", "whose jobs a client's are; empty: as each job says"),
    CFG_ROW_CHOICE(struct options, role, "client", keys_role_names, "what the owner may do"),
};
const size_t options_row_count = sizeof(options_rows) / sizeof(options_rows[0]);
const size_t options_setting_count = 9;

bool options_has_row(const struct command *command, const struct config_row *row)
{
    CHECK(row >= options_rows && row < options_rows + options_row_count);
    if ((size_t)(row - options_rows) < options_setting_count)
        return command->has_broker;
    for (size_t i = 0; command->flags && command->flags[i]; i++) {
        if (strcmp(command->flags[i], row->name) == 0)
            return true;
    }
    return false;
}

const struct config_row *options_find(const struct command *command, const char *name)
{
    const struct config_row *row = config_find(options_rows, options_row_count, name);

    return row && options_has_row(command, row) ? row : NULL;
}

bool options_has_param(const struct command *command, const struct spec_param *param)
{
    /* The image is the command's word; run's --model is a folder, all that its worker serves. */
    return command->has_spec && strcmp(param->name, "image") != 0 &&
           !options_find(command, param->name);
}

const struct spec_param *options_find_param(const struct command *command, const char *name)
{
    const struct spec_param *param = spec_find(name);

    return param && options_has_param(command, param) ? param : NULL;
}

struct config_row options_row_of_param(const struct spec_param *param)
{
    static const enum config_type types[] = { [SPEC_INT] = CFG_INT,
                                              [SPEC_SEED] = CFG_TEXT,
                                              [SPEC_DOUBLE] = CFG_DOUBLE,
                                              [SPEC_TEXT] = CFG_TEXT,
                                              [SPEC_CHOICE] = CFG_CHOICE };
    struct config_row row = {
        .name = param->name,
        .type = types[param->type],
        .size = param->size,
        .min = param->min,
        .max = param->max,
        .default_text = param->default_text ? param->default_text : "",
        .choices = param->choices,
        .unit = param->unit,
        .help = param->help,
    };

    if (param->type == SPEC_SEED) {
        row.unit = "N";
        row.help = "seed of all randomness, 0 to 2^64-1";
        row.default_text = "random, or made from --key";
    }
    return row;
}

void options_s3(const struct options *o, struct s3_config *c)
{
    memset(c, 0, sizeof(*c));
    c->endpoint = o->s3_endpoint;
    c->region = o->s3_region;
    c->path_style = o->s3_path_style;
    c->credentials.file = o->s3_credentials_file;
    s3_config_from_env(c);
}

/* --- words ------------------------------------------------------------------------------------ */

/* A pass over argv. */
struct pass {
    const struct command *command;
    int argc;
    char **argv;
    int index;         /* of the present word */
    char name[64];     /* of the present flag, without "--" */
    const char *value; /* after '='; NULL: none */
    bool is_rest;      /* "--" was seen: only words follow */
};

/* Is the present word a flag? Then its name and value are split. */
static bool split_flag(struct pass *p)
{
    const char *word = p->argv[p->index];
    size_t len;

    p->value = NULL;
    if (p->is_rest || word[0] != '-' || word[1] == '\0')
        return false;
    if (strcmp(word, "-h") == 0)
        word = "--help";
    if (strncmp(word, "-o", 2) == 0 && (word[2] == '\0' || word[2] == '=')) {
        snprintf(p->name, sizeof(p->name), "out");
        p->value = word[2] ? word + 3 : NULL;
        return true;
    }
    word += strncmp(word, "--", 2) == 0 ? 2 : 1;
    len = strcspn(word, "=");
    p->value = word[len] ? word + len + 1 : NULL;
    if (len >= sizeof(p->name))
        len = sizeof(p->name) - 1;
    memcpy(p->name, word, len);
    p->name[len] = '\0';
    return true;
}

static status take_value(struct pass *p)
{
    if (p->value)
        return OK;
    if (p->index + 1 >= p->argc)
        return FAIL(ERR_BADARG, "--%s: wants a value", p->name);
    p->value = p->argv[++p->index];
    return OK;
}

static status fail_unknown_flag(const struct pass *p)
{
    struct config_nearest near = { .wrong = p->name };
    char flag[64];

    for (size_t i = 0; i < options_row_count; i++) {
        if (options_has_row(p->command, &options_rows[i]))
            config_nearest_see(&near, options_rows[i].name);
    }
    for (size_t i = 0; i < spec_param_count; i++) {
        if (options_has_param(p->command, &spec_params[i]))
            config_nearest_see(&near, spec_params[i].name);
    }
    config_nearest_see(&near, "help");
    if (p->command->has_broker)
        config_nearest_see(&near, "config");
    if (!near.best)
        return FAIL(ERR_BADARG, "%s: unknown flag %s; `onestep %s --help` lists the known ones",
                    p->command->name, p->argv[p->index], p->command->name);
    return FAIL(ERR_BADARG, "%s: unknown flag %s; did you mean %s?", p->command->name,
                p->argv[p->index], config_flag_name(near.best, flag, sizeof(flag)));
}

/* The row of the present flag; *negated for --no-NAME. NULL: it is not one of the client's. */
static const struct config_row *row_of_flag(const struct pass *p, bool *negated)
{
    const struct config_row *row = options_find(p->command, p->name);

    *negated = false;
    if (!row && strncmp(p->name, "no-", 3) == 0 && !p->value) {
        row = options_find(p->command, p->name + 3);
        *negated = true;
        if (row && row->type != CFG_BOOL)
            row = NULL;
    }
    return row;
}

static status apply_row(struct pass *p, struct options *o, const struct config_row *row,
                        bool negated)
{
    char what[80];
    status st = OK;

    snprintf(what, sizeof(what), "--%s", p->name);
    if (row->type == CFG_BOOL)
        return config_set(o, row, what, negated ? "false" : p->value ? p->value : "true");
    TRY(take_value(p));
    TRY(config_set(o, row, what, p->value));
out:
    return st;
}

static status apply_param(struct pass *p, struct command_line *line, const struct spec_param *param)
{
    status st = OK;

    TRY(take_value(p));
    TRY(spec_set(&line->spec, param, p->value));
    if (param->type == SPEC_SEED)
        line->has_seed = true;
out:
    return st;
}

/* First pass: --help and --config, and every flag is known. */
static status find_config(struct pass *p, struct command_line *line, const char **config_path)
{
    status st = OK;

    for (p->index = 1; p->index < p->argc; p->index++) {
        const struct config_row *row;
        bool negated;

        if (!split_flag(p))
            continue;
        if (p->name[0] == '\0') {
            p->is_rest = true;
            continue;
        }
        if (strcmp(p->name, "help") == 0) {
            line->wants_help = true;
            continue;
        }
        row = row_of_flag(p, &negated);
        if (strcmp(p->name, "config") == 0 && p->command->has_broker) {
            TRY(take_value(p));
            *config_path = p->value;
        } else if (row && row->type == CFG_BOOL) {
            /* Known early, so that an error further on is told in the wanted form. */
            TRY(apply_row(p, &line->options, row, negated));
        } else if (row || options_find_param(p->command, p->name)) {
            TRY(take_value(p));
        } else {
            TRY(fail_unknown_flag(p));
        }
    }
out:
    return st;
}

/* Second pass: flags are applied, the other words gathered at the front of argv. */
static status apply_words(struct pass *p, struct command_line *line)
{
    status st = OK;

    line->words = p->argv;
    line->word_count = 0;
    for (p->index = 1; p->index < p->argc; p->index++) {
        const struct config_row *row;
        bool negated;

        if (!split_flag(p)) {
            p->argv[line->word_count++] = p->argv[p->index];
            continue;
        }
        if (p->name[0] == '\0') {
            p->is_rest = true;
            continue;
        }
        row = row_of_flag(p, &negated);
        if (strcmp(p->name, "config") == 0)
            TRY(take_value(p));
        else if (row)
            TRY(apply_row(p, &line->options, row, negated));
        else
            TRY(apply_param(p, line, options_find_param(p->command, p->name)));
    }
out:
    return st;
}

static status check_words(const struct command_line *line)
{
    const struct command *c = line->command;

    if (line->word_count > 0 && c->words == COMMAND_NO_WORDS)
        return FAIL(ERR_BADARG, "%s: unexpected word \"%.60s\"; usage: onestep %s %s", c->name,
                    line->words[0], c->name, c->arguments);
    if (line->word_count < c->words_min)
        return FAIL(ERR_BADARG, "%s: too few words; usage: onestep %s %s", c->name, c->name,
                    c->arguments);
    if (c->words_max && line->word_count > c->words_max)
        return FAIL(ERR_BADARG, "%s: unexpected word \"%.60s\"; usage: onestep %s %s", c->name,
                    line->words[c->words_max], c->name, c->arguments);
    return OK;
}

/* The settings file that is read without being named, if it is there. */
static const char *default_config_path(char *dst, size_t room)
{
    const char *base = config_env("XDG_CONFIG_HOME");
    const char *home = config_env("HOME");
    int len = -1;

    if (base)
        len = snprintf(dst, room, "%s/onestep/client.yaml", base);
    else if (home)
        len = snprintf(dst, room, "%s/.config/onestep/client.yaml", home);
    return len > 0 && (size_t)len < room && file_exists(dst) ? dst : NULL;
}

status options_parse(struct command_line *line, const struct command *command, int argc,
                     char **argv)
{
    struct pass first = { .command = command, .argc = argc, .argv = argv };
    struct pass second = first;
    const char *config_path = NULL;
    char standard_path[FILE_PATH_BYTES];
    status st = OK;

    memset(line, 0, sizeof(*line));
    line->command = command;
    config_init(&line->options, options_rows, options_row_count);
    spec_init(&line->spec);
    TRY(find_config(&first, line, &config_path));
    if (line->wants_help)
        return OK;
    if (!config_path && command->has_broker)
        config_path = default_config_path(standard_path, sizeof(standard_path));
    if (config_path)
        TRY(config_read(&line->options, options_rows, options_setting_count, config_path));
    TRY(apply_words(&second, line));
    TRY(check_words(line));
out:
    return st;
}
