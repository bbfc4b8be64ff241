#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/config.h"
#include "common/config_help.h"
#include "tests/tool/test.h"

struct sample {
    int64_t lease_ms;
    double share;
    bool redis_unsafe;
    char model[32];
    int log_level;
    struct config_list brokers;
};

static const struct config_row rows[] = {
    CFG_ROW_INT(struct sample, lease_ms, 1000, 600000, "30000", "ms",
                "time a worker may go silent"),
    CFG_ROW_DOUBLE(struct sample, share, 0, 1, "0.25", "", "part of the memory to use"),
    CFG_ROW_BOOL(struct sample, redis_unsafe, "false", "accept a Redis that forgets"),
    CFG_ROW_TEXT(struct sample, model, "", "folder of the checkpoint"),
    CFG_ROW_CHOICE(struct sample, log_level, "info", config_log_levels,
                   "least level that is shown"),
    CFG_ROW_LIST(struct sample, brokers, "tcp://127.0.0.1:7451", "brokers to connect to"),
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static const struct config_program program = {
    .name = "sample",
    .summary = "shows settings",
    .description = "First paragraph.\n\nSecond - with a dash.",
    .examples = "sample --lease-ms 5000\n    a short lease",
    .version_text = "sample 1\n",
    .rows = rows,
    .row_count = ROW_COUNT,
};

static status parse(struct sample *s, const char *text)
{
    struct buf yaml = { 0 };
    status st;

    memset(s, 0, sizeof(*s));
    config_init(s, rows, ROW_COUNT);
    EXPECT_OK(buf_append_text(&yaml, text));
    st = config_parse(s, rows, ROW_COUNT, "w.yaml", &yaml);
    buf_free(&yaml);
    return st;
}

#define MAX_WORDS 8

static status load(struct sample *s, const char *const *words, bool *is_done)
{
    char *argv[MAX_WORDS + 2] = { "sample" };
    int argc = 1;

    while (words[argc - 1]) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
        argc++;
    }
    memset(s, 0, sizeof(*s));
    return config_load(s, &program, argc, argv, is_done);
}

TEST(config_defaults_hold)
{
    struct sample s;

    EXPECT_OK(parse(&s, ""));
    EXPECT_INT(s.lease_ms, 30000);
    EXPECT_NEAR(s.share, 0.25, 0);
    EXPECT(!s.redis_unsafe);
    EXPECT_TEXT(s.model, "");
    EXPECT_INT(s.log_level, 2);
    EXPECT_INT(s.brokers.count, 1);
    EXPECT_TEXT(s.brokers.item[0], "tcp://127.0.0.1:7451");
    EXPECT_OK(parse(&s, "# only a comment\n"));
    EXPECT_OK(parse(&s, "{}\n"));
}

TEST(config_yaml_sets_every_type)
{
    struct sample s;

    EXPECT_OK(parse(&s, "lease_ms: 5000\nshare: 1\nredis_unsafe: yes\nmodel: \"a: \\\"b\\\"\"\n"
                        "log-level: debug\nbrokers:\n  - tcp://a:1\n  - 'ipc:///x y'\n"));
    EXPECT_INT(s.lease_ms, 5000);
    EXPECT_NEAR(s.share, 1, 0);
    EXPECT(s.redis_unsafe);
    EXPECT_TEXT(s.model, "a: \"b\"");
    EXPECT_INT(s.log_level, 3);
    EXPECT_INT(s.brokers.count, 2);
    EXPECT_TEXT(s.brokers.item[1], "ipc:///x y");
    EXPECT_OK(parse(&s, "brokers: tcp://a:1,tcp://b:2\nmodel:\n"));
    EXPECT_INT(s.brokers.count, 2);
    EXPECT_TEXT(s.model, "");
}

TEST(config_yaml_refuses_with_place_and_remedy)
{
    static const struct {
        const char *yaml;
        status code;
        const char *sentence;
    } cases[] = {
        { "lease_ms: 5000\n\nmodle: x\n", ERR_BADARG,
          "w.yaml:3: unknown key \"modle\"; did you mean \"model\"?" },
        { "zebra: 1\n", ERR_BADARG, "w.yaml:1: unknown key \"zebra\"; --help lists" },
        { "model: a\nmodel: b\n", ERR_BADARG, "w.yaml:2: model: is given twice" },
        { "lease_ms: soon\n", ERR_BADARG,
          "w.yaml:1: lease_ms: \"soon\" is not an integer (1000..600000 ms)" },
        { "lease_ms: 12.5\n", ERR_BADARG, "lease_ms: \"12.5\" is not an integer" },
        { "lease_ms: 999\n", ERR_BADARG, "lease_ms: 999 is outside 1000..600000 ms" },
        { "lease_ms: 99999999999999999999\n", ERR_BADARG, "is outside 1000..600000 ms" },
        { "lease_ms: \"5000\"\n", ERR_BADARG, "want a number; remove the quotes" },
        { "lease_ms:\n", ERR_BADARG, "lease_ms: has no value" },
        { "lease_ms: [1, 2]\n", ERR_BADARG, "lease_ms: a sequence, want a single value" },
        { "lease_ms: {a: 1}\n", ERR_BADARG, "lease_ms: a mapping, want a single value" },
        { "share: nan\n", ERR_BADARG, "share: \"nan\" is not a number" },
        { "share: 1.5\n", ERR_BADARG, "share: 1.5 is outside 0..1" },
        { "redis_unsafe: maybe\n", ERR_BADARG, "is not true or false" },
        { "log_level: inof\n", ERR_BADARG, "did you mean \"info\"?" },
        { "log_level: all\n", ERR_BADARG, "is not one of error, warn, info, debug" },
        { "model: 0123456789012345678901234567890123\n", ERR_BADARG, "34 bytes, the limit is 31" },
        { "model: \"a\\tb\"\n", ERR_BADARG, "control character at byte 1" },
        { "model: \"a\\0b\"\n", ERR_BADARG, "a NUL byte" },
        { "brokers: [a, [b]]\n", ERR_BADARG, "item 2 is not a plain value" },
        { "brokers: [a, '']\n", ERR_BADARG, "item 2 is empty" },
        { "brokers: 'a,'\n", ERR_BADARG, "ends with a comma" },
        { "brokers: 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17\n", ERR_BADARG,
          "more than 16 items" },
        { "model: &m x\n", ERR_BADARG, "w.yaml:1: anchors (&m) are not read" },
        { "model: *m\n", ERR_BADARG, "w.yaml:1: aliases (*m) are not read" },
        { "model: !!str x\n", ERR_BADARG, "tags (tag:yaml.org,2002:str) are not read" },
        { "- model\n", ERR_BADARG, "want lines of the form \"key: value\"" },
        { "just text\n", ERR_BADARG, "want lines of the form \"key: value\"" },
        { "model: a\n---\nmodel: b\n", ERR_BADARG, "a second document" },
        { "? [a]\n: b\n", ERR_BADARG, "a key must be a plain word" },
        { "model: a: b\n", ERR_CORRUPT, "w.yaml:1: not YAML: " },
        { "model: \"a\n", ERR_CORRUPT, "not YAML: " },
        { "model: \xff\n", ERR_CORRUPT, "not YAML: " },
        { "a: &a [x]\nb: [*a, *a]\n", ERR_BADARG, "unknown key" },
    };
    struct sample s;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_STATUS(parse(&s, cases[i].yaml), cases[i].code);
        EXPECT_MESSAGE(cases[i].sentence);
    }
}

/* Deep nesting ends at the first level, and a huge file before it is parsed. */
TEST(config_yaml_is_bounded)
{
    struct sample s;
    struct buf text = { 0 };
    char path[FILE_PATH_BYTES];

    EXPECT_OK(buf_append_text(&text, "model: "));
    for (int i = 0; i < 100000; i++)
        EXPECT_OK(buf_append_text(&text, "["));
    EXPECT_STATUS(parse(&s, text.data), ERR_BADARG);
    EXPECT_MESSAGE("model: a sequence, want a single value");

    buf_reset(&text);
    for (int i = 0; i < 20000; i++)
        EXPECT_OK(
            buf_append_text(&text, "# 0123456789012345678901234567890123456789012345678901\n"));
    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "big.yaml"));
    EXPECT_OK(file_write_atomic(path, text.data, text.len));
    EXPECT_STATUS(config_read(&s, rows, ROW_COUNT, path), ERR_FULL);
    EXPECT_MESSAGE(path);
    buf_free(&text);
}

TEST(config_flags_win_over_the_file)
{
    struct sample s;
    char path[FILE_PATH_BYTES];
    bool is_done;
    static const char yaml[] = "lease_ms: 5000\nmodel: from_file\nbrokers: [x]\n";

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "w.yaml"));
    EXPECT_OK(file_write_atomic(path, yaml, strlen(yaml)));
    EXPECT_OK(load(&s,
                   (const char *[]){ "--lease-ms=6000", "--config", path, "--redis-unsafe",
                                     "--brokers", "a,b", "--brokers=c", NULL },
                   &is_done));
    EXPECT(!is_done);
    EXPECT_INT(s.lease_ms, 6000);
    EXPECT_TEXT(s.model, "from_file");
    EXPECT(s.redis_unsafe);
    EXPECT_INT(s.brokers.count, 3);
    EXPECT_TEXT(s.brokers.item[2], "c");
    EXPECT_OK(load(&s, (const char *[]){ "--no-redis-unsafe", "--model", "", NULL }, &is_done));
    EXPECT(!s.redis_unsafe);
    EXPECT_OK(load(&s, (const char *[]){ "--redis_unsafe=true", NULL }, &is_done));
    EXPECT(s.redis_unsafe);
}

TEST(config_flags_refuse_with_remedy)
{
    static const struct {
        const char *words[4];
        status code;
        const char *sentence;
    } cases[] = {
        { { "--lease", "5" }, ERR_BADARG, "unknown flag --lease; " },
        { { "--leas-ms", "5" }, ERR_BADARG, "unknown flag --leas-ms; did you mean --lease-ms?" },
        { { "--lease-ms" }, ERR_BADARG, "--lease-ms: wants a value" },
        { { "--lease-ms", "5" }, ERR_BADARG, "--lease-ms: 5 is outside 1000..600000 ms" },
        { { "photo.jpg" }, ERR_BADARG, "sample: unexpected word \"photo.jpg\"" },
        { { "--no-model" }, ERR_BADARG, "unknown flag --no-model" },
        { { "--no-redis-unsafe=true" }, ERR_BADARG, "unknown flag --no-redis-unsafe" },
        { { "--config", "/nonexistent/w.yaml" }, ERR_NOTFOUND, "/nonexistent/w.yaml: " },
        { { "--config=a", "--config=b" }, ERR_BADARG, "--config is given twice" },
        { { "--" }, ERR_BADARG, "unexpected word \"--\"" },
    };
    struct sample s;
    bool is_done;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_STATUS(load(&s, cases[i].words, &is_done), cases[i].code);
        EXPECT_MESSAGE(cases[i].sentence);
    }
}

TEST(config_without_default_must_be_given)
{
    static const struct config_row required[] = {
        CFG_ROW_TEXT(struct sample, model, NULL, "folder of the checkpoint"),
    };
    struct config_program p = program;
    struct sample s = { 0 };
    char *argv[] = { "sample", "--model", "x", NULL };
    bool is_done;

    p.rows = required;
    p.row_count = 1;
    EXPECT_STATUS(config_load(&s, &p, 1, argv, &is_done), ERR_BADARG);
    EXPECT_MESSAGE("model must be given: --model");
    EXPECT_OK(config_load(&s, &p, 3, argv, &is_done));
    EXPECT_TEXT(s.model, "x");
}

TEST(config_answers_help_before_anything_else)
{
    struct sample s;
    bool is_done;

    EXPECT_OK(load(&s, (const char *[]){ "--config", "/nonexistent", "-h", NULL }, &is_done));
    EXPECT(is_done);
    EXPECT_OK(load(&s, (const char *[]){ "--version", NULL }, &is_done));
    EXPECT(is_done);
}

/* Every setting is in the help with its bounds, unit and default, wrapped to the terminal. */
TEST(config_help_tells_the_table)
{
    struct buf text = { 0 };
    const char *line;

    EXPECT_OK(config_help(&program, &text));
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char flag[64];

        EXPECT(strstr(text.data, config_flag_name(rows[i].name, flag, sizeof(flag))));
    }
    EXPECT(strstr(text.data, "sample - shows settings\n"));
    EXPECT(
        strstr(text.data, "  --lease-ms N              time a worker may go silent (1000..600000"));
    EXPECT(strstr(text.data, "(error, warn, info,"));
    EXPECT(strstr(text.data, "  sample --lease-ms 5000\n      a short lease\n"));
    line = text.data;
    while (*line) {
        EXPECT(strcspn(line, "\n") <= MANUAL_COLUMNS);
        line += strcspn(line, "\n") + 1;
    }
    buf_free(&text);
}

TEST(config_man_escapes_roff)
{
    struct buf text = { 0 };

    EXPECT_OK(config_man(&program, &text));
    EXPECT(strncmp(text.data, ".TH SAMPLE 1 ", 13) == 0);
    EXPECT(strstr(text.data, ".SH NAME\nsample \\- shows settings\n"));
    EXPECT(strstr(text.data, ".B \\-\\-lease\\-ms N\n"));
    EXPECT(strstr(text.data, "First paragraph.\n.PP\nSecond \\- with a dash.\n"));
    EXPECT(!strstr(text.data, "\n'"));
    buf_free(&text);
}

/* YAML folds or refuses these characters when they stand there as they are. */
TEST(config_odd_characters_are_printed_so_that_they_load_back)
{
    static const char *const yaml[] = { "model: \"a\\Nb\"\n", "model: \"a \\L b\\P\"\n",
                                        "model: \"\\x80\\x9f\"\n",
                                        "model: \"\\ufeff\\ufffe\\uffff\"\n" };

    for (size_t i = 0; i < sizeof(yaml) / sizeof(yaml[0]); i++) {
        struct sample s, again;
        struct buf printed = { 0 };

        EXPECT_OK(parse(&s, yaml[i]));
        EXPECT_OK(config_print(&program, &s, &printed));
        EXPECT_OK(parse(&again, printed.data));
        EXPECT_TEXT(again.model, s.model);
        buf_free(&printed);
    }
}

TEST(config_printed_loads_back)
{
    struct sample s, again;
    struct buf yaml = { 0 };

    EXPECT_OK(parse(&s, "lease_ms: 7000\nshare: 0.1\nredis_unsafe: true\nmodel: 'q\"b\\s # x'\n"
                        "log_level: warn\nbrokers: [\"a b\", 'c\"']\n"));
    EXPECT_OK(config_print(&program, &s, &yaml));
    memset(&again, 0, sizeof(again));
    EXPECT_OK(config_parse(&again, rows, ROW_COUNT, "printed", &yaml));
    EXPECT(again.lease_ms == s.lease_ms && again.share == s.share);
    EXPECT(again.redis_unsafe == s.redis_unsafe && again.log_level == s.log_level);
    EXPECT_TEXT(again.model, "q\"b\\s # x");
    EXPECT_INT(again.brokers.count, 2);
    EXPECT_TEXT(again.brokers.item[1], "c\"");
    buf_free(&yaml);
}

TEST(config_nearest_forgives_a_slip)
{
    static const struct {
        const char *wrong, *best;
    } cases[] = {
        { "modle", "model" },
        { "models", "model" },
        { "lease_m", "lease_ms" },
        { "brokres", "brokers" },
        { "lease-ms", "lease_ms" },
        { "log_levle", "log_level" },
        { "zebra", NULL },
        { "x", NULL },
        { "", NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config_nearest n = { .wrong = cases[i].wrong };

        for (size_t j = 0; j < ROW_COUNT; j++)
            config_nearest_see(&n, rows[j].name);
        EXPECT_TEXT(n.best, cases[i].best);
    }
}

TEST(config_env_treats_empty_as_absent)
{
    EXPECT(setenv("ONESTEP_TEST_EMPTY", "", 1) == 0);
    EXPECT(setenv("ONESTEP_TEST_FULL", "x", 1) == 0);
    EXPECT(config_env("ONESTEP_TEST_EMPTY") == NULL);
    EXPECT(config_env("ONESTEP_TEST_MISSING") == NULL);
    EXPECT_TEXT(config_env("ONESTEP_TEST_FULL"), "x");
}
