#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/help.h"
#include "client/options.h"
#include "common/base/file.h"
#include "common/config_help.h"
#include "common/manual.h"
#include "tests/tool/test.h"

static void expect_narrow(const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        if (len > MANUAL_COLUMNS + 12) /* usage and example lines keep their length */
            test_fail(__FILE__, __LINE__, "a line of %zu columns: %.100s", len, text);
        text += len + (text[len] == '\n');
    }
}

/* Every command explains itself: all its flags and parameters, exit codes, examples. */
TEST(help_is_complete)
{
    struct buf text = { 0 };
    char flag[64];

    for (size_t c = 0; c < command_count; c++) {
        const struct command *command = &command_table[c];

        buf_reset(&text);
        EXPECT_OK(help_command(command, &text));
        EXPECT(strstr(text.data, command->summary));
        EXPECT(strstr(text.data, "\nExit codes:\n") && strstr(text.data, "\nExamples:\n"));
        for (size_t i = 0; i < spec_param_count; i++) {
            config_flag_name(spec_params[i].name, flag, sizeof(flag));
            if (options_has_param(command, &spec_params[i]) && !strstr(text.data, flag))
                test_fail(__FILE__, __LINE__, "%s: no %s", command->name, flag);
        }
        for (size_t i = 0; i < options_row_count; i++) {
            config_flag_name(options_rows[i].name, flag, sizeof(flag));
            if (options_has_row(command, &options_rows[i]) && !strstr(text.data, flag))
                test_fail(__FILE__, __LINE__, "%s: no %s", command->name, flag);
        }
        expect_narrow(text.data);
    }
    buf_free(&text);
}

/* A flag that a command names must exist, or it would silently not be offered. */
TEST(help_flags_exist)
{
    for (size_t c = 0; c < command_count; c++) {
        for (size_t i = 0; command_table[c].flags && command_table[c].flags[i]; i++) {
            if (!options_find(&command_table[c], command_table[c].flags[i]))
                test_fail(__FILE__, __LINE__, "%s: %s", command_table[c].name,
                          command_table[c].flags[i]);
        }
    }
    EXPECT(options_find(command_find("list"), "broker"));
    EXPECT_TEXT(options_rows[options_setting_count].name, "json");
}

TEST(help_man_is_clean_roff)
{
    struct buf text = { 0 };

    EXPECT_OK(help_man(&text));
    EXPECT(strstr(text.data, ".SH COMMAND SUBMIT\n"));
    EXPECT(strstr(text.data, ".SH EXIT CODES\n"));
    EXPECT(strstr(text.data, ".B \\-\\-motion\\-bucket N\n"));
    for (const char *line = text.data; *line; line += strcspn(line, "\n") + 1) {
        /* a line that starts with a dot is a request that we wrote */
        if (*line == '.' && strncmp(line, ".TH ", 4) && strncmp(line, ".SH ", 4) &&
            strncmp(line, ".PP\n", 4) && strncmp(line, ".TP\n", 4) && strncmp(line, ".B ", 3) &&
            strncmp(line, ".nf\n", 4) && strncmp(line, ".fi\n", 4))
            test_fail(__FILE__, __LINE__, "not ours: %.60s", line);
        EXPECT(*line != '\'');
    }
    buf_free(&text);
}

/* What bash offers for a command line that ends with the last of words. */
static void complete(const char *words, char *dst, size_t room)
{
    struct buf script = { 0 }, command = { 0 };
    char path[FILE_PATH_BYTES];
    FILE *pipe;
    size_t len;

    EXPECT_OK(help_bash(&script));
    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "onestep.bash"));
    EXPECT_OK(file_write_atomic(path, script.data, script.len));
    EXPECT_OK(buf_printf(&command,
                         "bash -c '. \"%s\"; COMP_WORDS=(%s); "
                         "COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _onestep; "
                         "echo \"${COMPREPLY[*]}\"' 2>&1",
                         path, words));
    pipe = popen(command.data, "r");
    EXPECT(pipe);
    len = fread(dst, 1, room - 1, pipe);
    dst[len] = '\0';
    dst[strcspn(dst, "\n")] = '\0';
    EXPECT(pclose(pipe) == 0);
    buf_free(&script);
    buf_free(&command);
}

TEST(help_bash_completes)
{
    static const struct {
        const char *words, *offered;
    } cases[] = {
        { "onestep su", "submit" },
        { "onestep submit --mo", "--model --motion-bucket" },
        { "onestep submit --sampler tts", "tts_literal tts_fmid" },
        { "onestep list --state d", "delayed done dead" },
        { "onestep completion z", "zsh" },
        { "onestep help ca", "cancel" },
        { "onestep run --br", "" },
        { "onestep wait --gi", "--give-up-s" },
        { "onestep --ve", "--version" },
        { "onestep nonsense --x", "" },
    };
    char offered[512];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        complete(cases[i].words, offered, sizeof(offered));
        EXPECT_TEXT(offered, cases[i].offered);
    }
}

/* There may be no zsh to ask; its script names every command, and its quotes are in pairs. */
TEST(help_zsh_is_complete)
{
    struct buf text = { 0 };
    size_t quotes = 0;

    EXPECT_OK(help_zsh(&text));
    for (size_t i = 0; i < command_count; i++) {
        char entry[64];

        snprintf(entry, sizeof(entry), "\n    %s)\n", command_table[i].name);
        EXPECT((strstr(text.data, entry) != NULL) == !command_table[i].is_hidden);
    }
    for (const char *c = text.data; *c; c++)
        quotes += *c == '\'' && (c == text.data || c[-1] != '\\'); /* \' is no quote */
    EXPECT(quotes % 2 == 0);
    EXPECT(strstr(text.data, "'--sampler=[how latents are made from noise]:sampler:(consistency "));
    buf_free(&text);
}
