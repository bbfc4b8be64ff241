#include "tests/fuzz/common/settings.h"

#include <string.h>

#include "common/base/check.h"
#include "common/config_help.h"

static const struct config_row rows[] = {
    CFG_ROW_INT(struct settings, lease_ms, 1000, 600000, "30000", "ms", "a whole number"),
    CFG_ROW_DOUBLE(struct settings, share, -1, 1e9, "0.25", "", "a number"),
    CFG_ROW_BOOL(struct settings, keep, "false", "yes or no"),
    CFG_ROW_TEXT(struct settings, model, "", "a text"),
    CFG_ROW_CHOICE(struct settings, log_level, "info", config_log_levels, "a word"),
    CFG_ROW_LIST(struct settings, broker, "tcp://127.0.0.1:7450", "several texts"),
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

const struct config_program settings_program = {
    .name = "fuzz",
    .summary = "has settings",
    .description = "None.",
    .examples = "",
    .version_text = "fuzz\n",
    .rows = rows,
    .row_count = ROW_COUNT,
};

static void expect_equal(const struct settings *a, const struct settings *b)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct buf left = { 0 }, right = { 0 };

        CHECK(config_get(a, &rows[i], &left) == OK);
        CHECK(config_get(b, &rows[i], &right) == OK);
        CHECK(strcmp(left.data, right.data) == 0);
        buf_free(&left);
        buf_free(&right);
    }
}

void settings_expect_printable(const struct settings *s)
{
    struct settings back = { 0 };
    struct buf yaml = { 0 };

    CHECK(config_print(&settings_program, s, &yaml) == OK);
    config_init(&back, rows, ROW_COUNT);
    CHECK(config_parse(&back, rows, ROW_COUNT, "printed.yaml", &yaml) == OK);
    expect_equal(s, &back);
    buf_free(&yaml);
}
