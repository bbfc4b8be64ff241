#include <string.h>

#include "client/cmd.h"
#include "client/output.h"
#include "common/base/file.h"
#include "common/keys.h"

static status print_pair(const struct command_line *line, enum keys_role role, const char *secret,
                         const char *card)
{
    struct buf text = { 0 };
    struct json_writer w = { .out = &text };
    status st = OK;

    if (line->options.json) {
        json_write_object(&w);
        json_write_key(&w, "name");
        json_write_text(&w, line->words[0]);
        json_write_key(&w, "role");
        json_write_text(&w, keys_role_name(role));
        json_write_key(&w, "secret");
        json_write_text(&w, secret);
        json_write_key(&w, "card");
        json_write_text(&w, card);
        json_write_end(&w);
        TRY(output_json(&w, &text));
    } else {
        TRY(buf_printf(&text, "%s\n%s\n", secret, card));
        TRY(output_text(text.data));
    }
out:
    buf_free(&text);
    return st;
}

status cmd_keygen(const struct command_line *line)
{
    const char *dir = *line->options.out ? line->options.out : ".";
    enum keys_role role = (enum keys_role)(KEYS_CLIENT + line->options.role);
    char secret[FILE_PATH_BYTES], card[FILE_PATH_BYTES];
    status st = OK;

    TRY(keys_make(dir, line->words[0], role, line->options.tenant, secret, card));
    TRY(print_pair(line, role, secret, card));
out:
    return st;
}
