/* A program's YAML file: what is accepted can be printed as YAML that loads back to the same. */
#include <string.h>

#include "common/base/buf.h"
#include "tests/fuzz/common/settings.h"
#include "tests/fuzz/fuzz.h"

FUZZ(config, 4 << 10)
{
    struct settings s = { 0 };
    struct buf text = { 0 };

    CHECK(buf_append(&text, bytes, len) == OK);
    config_init(&s, settings_program.rows, settings_program.row_count);
    if (config_parse(&s, settings_program.rows, settings_program.row_count, "fuzz.yaml", &text) ==
        OK)
        settings_expect_printable(&s);
    else
        CHECK(strstr(status_message(), "fuzz.yaml"));
    buf_free(&text);
}
