#include <stdio.h>
#include <string.h>

#include "client/cmd.h"
#include "client/help.h"
#include "client/output.h"
#include "common/bus.h"
#include "common/config.h"
#include "common/http.h"
#include "proto/codec.h"

/* Release and commit; the build says it with a macro. */
#ifndef ONESTEP_BUILD
#define ONESTEP_BUILD ONESTEP_VERSION
#endif

/* The libraries that are loaded, as a sentence. */
static const char *libraries(char *dst, size_t room)
{
    char bus[32], config[32];

    snprintf(dst, room, "%s, %s, %s", bus_library(bus, sizeof(bus)),
             config_library(config, sizeof(config)), http_library());
    return dst;
}

static status print_version_json(struct buf *text)
{
    struct json_writer w = { .out = text };
    char loaded[400];

    json_write_object(&w);
    json_write_key(&w, "version");
    json_write_text(&w, ONESTEP_VERSION);
    json_write_key(&w, "build");
    json_write_text(&w, ONESTEP_BUILD);
    json_write_key(&w, "protocol");
    json_write_int(&w, CODEC_VERSION);
    json_write_key(&w, "libraries");
    json_write_text(&w, libraries(loaded, sizeof(loaded)));
    json_write_end(&w);
    return output_json(&w, text);
}

status cmd_version(const struct command_line *line)
{
    struct buf text = { 0 };
    char loaded[400];
    status st = OK;

    if (line->options.json) {
        TRY(print_version_json(&text));
    } else {
        TRY(buf_printf(&text, "onestep %s\nprotocol: %d\nlibraries: %s\n", ONESTEP_BUILD,
                       CODEC_VERSION, libraries(loaded, sizeof(loaded))));
        TRY(output_text(text.data));
    }
out:
    buf_free(&text);
    return st;
}

/* Print what fill writes. */
static status print_filled(status (*fill)(struct buf *text))
{
    struct buf text = { 0 };
    status st = OK;

    TRY(fill(&text));
    TRY(output_text(text.data));
out:
    buf_free(&text);
    return st;
}

status cmd_help(const struct command_line *line)
{
    struct buf text = { 0 };
    status st = OK;

    if (line->word_count == 0)
        return print_filled(help_overview);
    if (!command_find(line->words[0]))
        TRY(command_fail_unknown(line->words[0]));
    TRY(help_command(command_find(line->words[0]), &text));
    TRY(output_text(text.data));
out:
    buf_free(&text);
    return st;
}

status cmd_completion(const struct command_line *line)
{
    if (strcmp(line->words[0], "bash") == 0)
        return print_filled(help_bash);
    if (strcmp(line->words[0], "zsh") == 0)
        return print_filled(help_zsh);
    return FAIL(ERR_BADARG, "completion: \"%.40s\" is not one of bash, zsh", line->words[0]);
}

status cmd_man(const struct command_line *line)
{
    (void)line;
    return print_filled(help_man);
}
