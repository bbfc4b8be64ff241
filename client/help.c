#include "client/help.h"

#include <stdio.h>
#include <string.h>

#include "client/options.h"
#include "common/config_help.h"
#include "common/manual.h"

static const char program_summary[] = "turn photographs into short videos, one or many thousands";
static const char program_description[] =
    "Jobs go to a broker, which keeps them in Redis and hands them to workers; results land in a "
    "folder or an object store. `onestep run` does all of that on one machine by itself.\n\n"
    "Results go to standard output, everything else to standard error. With --json every result "
    "is one JSON object on one line, and a command that fails as a whole prints {\"error\": "
    "{\"code\", \"exit\", \"message\"}}.";
static const char program_usage[] = "onestep COMMAND [WORDS] [--FLAG VALUE ...]\n"
                                    "onestep help COMMAND";
static const char program_examples[] =
    "onestep run photo.jpg\n"
    "    a video of the photograph, below ./onestep-data\n"
    "onestep submit photo.jpg --broker tcp://queue.example:7450 | xargs onestep wait\n"
    "    the same by the machines behind a broker\n"
    "onestep submit --manifest jobs.jsonl --key monday\n"
    "    many jobs; sending them twice changes nothing";
static const char settings_text[] =
    "These are also keys of ~/.config/onestep/client.yaml ($XDG_CONFIG_HOME is honoured), or of "
    "the file named by --config FILE: --broker-timeout-ms is \"broker_timeout_ms: 5000\". A flag "
    "wins over the file.";

static status write_commands(struct manual *m)
{
    status st = OK;

    TRY(manual_section(m, "Commands"));
    for (size_t i = 0; i < command_count; i++) {
        if (!command_table[i].is_hidden)
            TRY(manual_entry(m, command_table[i].name, command_table[i].summary));
    }
out:
    return st;
}

static status write_params(const struct command *command, struct manual *m)
{
    status st = OK;

    for (size_t i = 0; i < spec_param_count; i++) {
        struct config_row row;

        if (!options_has_param(command, &spec_params[i]))
            continue;
        row = options_row_of_param(&spec_params[i]);
        TRY(config_entries(&row, 1, m));
    }
out:
    return st;
}

static status write_flags(const struct command *command, struct manual *m)
{
    status st = OK;

    for (size_t i = options_setting_count; i < options_row_count; i++) {
        if (!options_has_row(command, &options_rows[i]))
            continue;
        if (strcmp(options_rows[i].name, "out") == 0)
            TRY(manual_entry(m, "-o DIR, --out DIR", options_rows[i].help));
        else
            TRY(config_entries(&options_rows[i], 1, m));
    }
    if (command->has_broker)
        TRY(manual_entry(m, "--config FILE", "read settings from this YAML file"));
    TRY(manual_entry(m, "-h, --help", "print this text"));
out:
    return st;
}

static status write_usage(const struct command *command, struct manual *m)
{
    char usage[160];

    snprintf(usage, sizeof(usage), "onestep %s %s", command->name, command->arguments);
    return manual_lines(m, usage);
}

status help_command(const struct command *command, struct buf *text)
{
    struct manual m = { .out = text, .form = MANUAL_TERMINAL };
    char name[64];
    status st = OK;

    snprintf(name, sizeof(name), "onestep %s", command->name);
    TRY(manual_begin(&m, name, command->summary));
    TRY(manual_section(&m, "Usage"));
    TRY(write_usage(command, &m));
    TRY(manual_section(&m, "Description"));
    TRY(manual_text(&m, command->description));
    TRY(manual_section(&m, "Flags"));
    TRY(write_flags(command, &m));
    if (command->has_spec) {
        TRY(manual_section(&m, "Parameters of the job"));
        TRY(write_params(command, &m));
    }
    if (command->has_broker) {
        TRY(manual_section(&m, "Settings"));
        TRY(manual_text(&m, settings_text));
        TRY(config_entries(options_rows, options_setting_count, &m));
    }
    TRY(manual_section(&m, "Exit codes"));
    TRY(manual_exit_codes(&m));
    TRY(manual_section(&m, "Examples"));
    TRY(manual_lines(&m, command->examples));
out:
    return st;
}

status help_overview(struct buf *text)
{
    struct manual m = { .out = text, .form = MANUAL_TERMINAL };
    status st = OK;

    TRY(manual_begin(&m, "onestep", program_summary));
    TRY(manual_section(&m, "Usage"));
    TRY(manual_lines(&m, program_usage));
    TRY(write_commands(&m));
    TRY(manual_section(&m, "Description"));
    TRY(manual_text(&m, program_description));
    TRY(manual_section(&m, "Exit codes"));
    TRY(manual_exit_codes(&m));
    TRY(manual_section(&m, "Examples"));
    TRY(manual_lines(&m, program_examples));
out:
    return st;
}

/* A command that takes every parameter, for the page's common section. */
static const struct command *submit_command(void)
{
    return command_find("submit");
}

status help_man(struct buf *text)
{
    struct manual m = { .out = text, .form = MANUAL_ROFF };
    status st = OK;

    TRY(manual_begin(&m, "onestep", program_summary));
    TRY(manual_section(&m, "Synopsis"));
    TRY(manual_lines(&m, program_usage));
    TRY(manual_section(&m, "Description"));
    TRY(manual_text(&m, program_description));
    TRY(write_commands(&m));
    for (size_t i = 0; i < command_count; i++) {
        const struct command *c = &command_table[i];
        char title[64];

        if (c->is_hidden)
            continue;
        snprintf(title, sizeof(title), "Command %s", c->name);
        TRY(manual_section(&m, title));
        TRY(write_usage(c, &m));
        TRY(manual_text(&m, c->description));
        TRY(write_flags(c, &m));
        TRY(manual_text(&m, "Examples:"));
        TRY(manual_lines(&m, c->examples));
    }
    TRY(manual_section(&m, "Parameters of a job"));
    TRY(write_params(submit_command(), &m));
    TRY(manual_section(&m, "Settings"));
    TRY(manual_text(&m, settings_text));
    TRY(config_entries(options_rows, options_setting_count, &m));
    TRY(manual_section(&m, "Exit codes"));
    TRY(manual_exit_codes(&m));
    TRY(manual_section(&m, "Examples"));
    TRY(manual_lines(&m, program_examples));
    TRY(manual_section(&m, "See also"));
    TRY(manual_text(&m, "onestep-broker(1), onestep-worker(1)"));
out:
    return st;
}

/* --- completion ------------------------------------------------------------------------------- */

/* Calls visit for every flag of a command, with its row. */
typedef status (*flag_fn)(struct buf *text, const struct config_row *row);

static status each_flag(const struct command *command, struct buf *text, flag_fn visit)
{
    static const struct config_row config_row = { .name = "config",
                                                  .type = CFG_TEXT,
                                                  .unit = "FILE",
                                                  .help = "read settings from this YAML file" };
    static const struct config_row help_row = { .name = "help",
                                                .type = CFG_BOOL,
                                                .help = "explain the command" };
    status st = OK;

    for (size_t i = 0; i < options_row_count; i++) {
        if (options_has_row(command, &options_rows[i]))
            TRY(visit(text, &options_rows[i]));
    }
    for (size_t i = 0; i < spec_param_count; i++) {
        struct config_row row = options_row_of_param(&spec_params[i]);

        if (options_has_param(command, &spec_params[i]))
            TRY(visit(text, &row));
    }
    if (command->has_broker)
        TRY(visit(text, &config_row));
    TRY(visit(text, &help_row));
out:
    return st;
}

static status append_flag_word(struct buf *text, const struct config_row *row)
{
    char flag[64];

    return buf_printf(text, " %s", config_flag_name(row->name, flag, sizeof(flag)));
}

static status append_bash_choices(struct buf *text, const struct config_row *row)
{
    char flag[64];
    status st = OK;

    if (row->type != CFG_CHOICE)
        return OK;
    TRY(buf_printf(text, "    %s) words=\"", config_flag_name(row->name, flag, sizeof(flag))));
    for (int i = 0; row->choices[i]; i++)
        TRY(buf_printf(text, "%s%s", i ? " " : "", row->choices[i]));
    TRY(buf_append_text(text, "\" ;;\n"));
out:
    return st;
}

static const char *bash_words_of(const struct command *command)
{
    switch (command->words) {
    case COMMAND_SHELL:
        return " bash zsh";
    case COMMAND_COMMANDS:
        return " $commands";
    case COMMAND_WORKERS:
        return " queue";
    case COMMAND_SCOPE:
        return " queue model tenant";
    case COMMAND_NO_WORDS:
    case COMMAND_IMAGES:
    case COMMAND_JOBS:
    case COMMAND_STORE:
    case COMMAND_TENANT:
    case COMMAND_NAME:
        break;
    }
    return "";
}

status help_bash(struct buf *text)
{
    status st = OK;

    TRY(buf_append_text(
        text, "# Completion of onestep for bash; made by `onestep completion bash`.\n"
              "_onestep()\n{\n"
              "    local now=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
              "    local words= flags= commands=\""));
    for (size_t i = 0; i < command_count; i++) {
        if (!command_table[i].is_hidden)
            TRY(buf_printf(text, "%s%s", i ? " " : "", command_table[i].name));
    }
    TRY(buf_append_text(text, "\"\n    COMPREPLY=()\n    case $before in\n"));
    TRY(each_flag(submit_command(), text, append_bash_choices));
    TRY(each_flag(command_find("list"), text, append_bash_choices));
    TRY(buf_append_text(
        text, "    esac\n    if [ -n \"$words\" ]; then\n"
              "        COMPREPLY=($(compgen -W \"$words\" -- \"$now\"))\n"
              "        return\n    fi\n"
              "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
              "        COMPREPLY=($(compgen -W \"$commands --help --version\" -- \"$now\"))\n"
              "        return\n    fi\n"
              "    case ${COMP_WORDS[1]} in\n"));
    for (size_t i = 0; i < command_count; i++) {
        const struct command *c = &command_table[i];

        if (c->is_hidden)
            continue;
        TRY(buf_printf(text, "    %s) words=\"%s\" flags=\"", c->name, bash_words_of(c)));
        TRY(each_flag(c, text, append_flag_word));
        TRY(buf_append_text(text, "\" ;;\n"));
    }
    TRY(buf_append_text(text, "    esac\n"
                              "    case $now in\n"
                              "    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$now\")) ;;\n"
                              "    *) COMPREPLY=($(compgen -W \"$words\" -- \"$now\")) ;;\n"
                              "    esac\n}\n"
                              "complete -o default -F _onestep onestep\n"));
out:
    return st;
}

/* Text inside '...[...]...' of zsh's _arguments. */
static status append_zsh_text(struct buf *text, const char *help)
{
    status st = OK;

    for (; *help; help++) {
        if (strchr("[]:\\", *help))
            TRY(buf_append_text(text, "\\"));
        if (*help == '\'')
            TRY(buf_append_text(text, "'\\'"));
        TRY(buf_append(text, help, 1));
    }
out:
    return st;
}

/* Is the value a file or folder? */
static bool is_path(const struct config_row *row)
{
    return row->type == CFG_TEXT &&
           (strcmp(row->unit, "FILE") == 0 || strcmp(row->unit, "DIR") == 0);
}

static status append_zsh_flag(struct buf *text, const struct config_row *row)
{
    char flag[64];
    status st = OK;

    TRY(buf_printf(text, " \\\n            '%s", config_flag_name(row->name, flag, sizeof(flag))));
    TRY(buf_printf(text, "%s[", row->type == CFG_BOOL ? "" : "="));
    TRY(append_zsh_text(text, row->help));
    TRY(buf_append_text(text, "]"));
    if (row->type == CFG_CHOICE) {
        TRY(buf_printf(text, ":%s:(", row->name));
        for (int i = 0; row->choices[i]; i++)
            TRY(buf_printf(text, "%s%s", i ? " " : "", row->choices[i]));
        TRY(buf_append_text(text, ")"));
    } else if (row->type != CFG_BOOL) {
        TRY(buf_printf(text, ":%s:%s", row->name, is_path(row) ? "_files" : ""));
    }
    TRY(buf_append_text(text, "'"));
out:
    return st;
}

static const char *zsh_words_of(const struct command *command)
{
    switch (command->words) {
    case COMMAND_SHELL:
        return " \\\n            '1:shell:(bash zsh)'";
    case COMMAND_COMMANDS:
        return " \\\n            '1:command:($names)'";
    case COMMAND_IMAGES:
        return " \\\n            '*:image:_files'";
    case COMMAND_JOBS:
        return " \\\n            '*:job:'";
    case COMMAND_STORE:
        return " \\\n            '1:store:'";
    case COMMAND_WORKERS:
        return " \\\n            '*:worker:(queue)'";
    case COMMAND_SCOPE:
        return " \\\n            '1:scope:(queue model tenant)' '2:name:'";
    case COMMAND_TENANT:
        return " \\\n            '1:tenant:'";
    case COMMAND_NAME:
    case COMMAND_NO_WORDS:
        break;
    }
    return "";
}

status help_zsh(struct buf *text)
{
    status st = OK;

    TRY(buf_append_text(text, "#compdef onestep\n"
                              "# Completion of onestep for zsh; made by `onestep completion "
                              "zsh`.\n"
                              "_onestep() {\n"
                              "    local -a commands names\n"
                              "    commands=(\n"));
    for (size_t i = 0; i < command_count; i++) {
        if (command_table[i].is_hidden)
            continue;
        TRY(buf_printf(text, "        '%s:", command_table[i].name));
        TRY(append_zsh_text(text, command_table[i].summary));
        TRY(buf_append_text(text, "'\n"));
    }
    TRY(buf_append_text(text, "    )\n    names=(${commands%%:*})\n"
                              "    if (( CURRENT == 2 )); then\n"
                              "        _describe command commands\n"
                              "        return\n    fi\n"
                              "    local command=$words[2]\n"
                              "    shift words\n    (( CURRENT-- ))\n"
                              "    case $command in\n"));
    for (size_t i = 0; i < command_count; i++) {
        const struct command *c = &command_table[i];

        if (c->is_hidden)
            continue;
        TRY(buf_printf(text, "    %s)\n        _arguments", c->name));
        TRY(each_flag(c, text, append_zsh_flag));
        TRY(buf_append_text(text, zsh_words_of(c)));
        TRY(buf_append_text(text, " ;;\n"));
    }
    TRY(buf_append_text(text, "    esac\n}\n_onestep \"$@\"\n"));
out:
    return st;
}
