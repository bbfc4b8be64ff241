#include <string.h>

#include "client/cmd.h"
#include "client/help.h"
#include "client/output.h"
#include "common/base/log.h"

static status print_overview(void)
{
    struct buf text = { 0 };
    status st = OK;

    TRY(help_overview(&text));
    TRY(output_text(text.data));
out:
    buf_free(&text);
    return st;
}

/* `onestep --help` and `onestep --version` are commands spelled as flags. */
static const char *command_name(const char *word)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return "help";
    if (strcmp(word, "--version") == 0)
        return "version";
    return word;
}

static status run_command(const struct command *command, int argc, char **argv, bool *is_json)
{
    struct command_line line;
    struct buf text = { 0 };
    status st = OK;

    st = options_parse(&line, command, argc, argv);
    *is_json = line.options.json;
    if (st != OK)
        goto out;
    if (line.wants_help) {
        TRY(help_command(command, &text));
        TRY(output_text(text.data));
    } else {
        TRY(command->run(&line));
    }
out:
    buf_free(&text);
    return st;
}

int main(int argc, char **argv)
{
    const struct command *command;
    bool is_json = false;
    status st = OK;

    /* The libraries below log; a user of the client wants sentences only. */
    log_set_level(LOG_ERROR);
    if (argc < 2) {
        st = print_overview();
        if (st == OK)
            st = FAIL(ERR_BADARG, "no command; the commands are listed above");
    } else {
        command = command_find(command_name(argv[1]));
        st = command ? run_command(command, argc - 1, argv + 1, &is_json)
                     : command_fail_unknown(argv[1]);
    }
    output_failure(st, is_json);
    return status_exit_code(st);
}
