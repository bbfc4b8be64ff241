#include <stdlib.h>
#include <string.h>

#include "client/options.h"
#include "tests/tool/test.h"

#define WORDS_MAX 12

/* Parse words after the command. The settings file of whoever runs the tests is out of it. */
static status parse(struct command_line *line, const char *command, const char *const *words)
{
    static char *argv[WORDS_MAX + 2];
    int argc = 1;

    EXPECT(setenv("XDG_CONFIG_HOME", test_tmpdir(), 1) == 0);
    argv[0] = (char *)(uintptr_t)command;
    while (argc <= WORDS_MAX && words[argc - 1]) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
        argc++;
    }
    EXPECT(command_find(command));
    return options_parse(line, command_find(command), argc, argv);
}

#define PARSE(line, command, ...)                                                                  \
    parse(line, command, (const char *const[WORDS_MAX + 1]){ __VA_ARGS__, NULL })

TEST(options_defaults)
{
    struct command_line line;

    EXPECT_OK(PARSE(&line, "submit", "a.jpg"));
    EXPECT_INT(line.word_count, 1);
    EXPECT_TEXT(line.words[0], "a.jpg");
    EXPECT_INT(line.options.broker.count, 1);
    EXPECT_TEXT(line.options.broker.item[0], "tcp://127.0.0.1:7450");
    EXPECT_INT(line.options.broker_timeout_ms, 5000);
    EXPECT(!line.options.json && !line.has_seed && !line.wants_help);
    EXPECT_INT(line.spec.fps, 7);
    EXPECT_TEXT(line.spec.model, "default");
}

TEST(options_flags_and_words_mix)
{
    struct command_line line;

    EXPECT_OK(PARSE(&line, "submit", "a.jpg", "--fps=12", "b.jpg", "--priority", "-5", "--seed",
                    "9", "--json", "--", "-c.jpg"));
    EXPECT_INT(line.word_count, 3);
    EXPECT_TEXT(line.words[1], "b.jpg");
    EXPECT_TEXT(line.words[2], "-c.jpg");
    EXPECT_INT(line.spec.fps, 12);
    EXPECT_INT(line.spec.priority, -5);
    EXPECT(line.spec.seed == 9 && line.has_seed);
    EXPECT(line.options.json);
    EXPECT_OK(PARSE(&line, "run", "a.jpg", "-o", "out", "--motion_bucket", "3"));
    EXPECT_TEXT(line.options.out, "out");
    EXPECT_INT(line.spec.motion_bucket, 3);
    EXPECT_OK(PARSE(&line, "submit", "a.jpg", "--check", "--no-check", "--key", "--x"));
    EXPECT(!line.options.check);
    EXPECT_TEXT(line.options.key, "--x");
}

/* run's --model is the folder of a checkpoint; submit's is the name in the job. */
TEST(options_model_means_two_things)
{
    struct command_line line;

    EXPECT_OK(PARSE(&line, "run", "a.jpg", "--model", "/m/svd"));
    EXPECT_TEXT(line.options.model, "/m/svd");
    EXPECT_TEXT(line.spec.model, "default");
    EXPECT_OK(PARSE(&line, "submit", "a.jpg", "--model", "svd"));
    EXPECT_TEXT(line.spec.model, "svd");
}

TEST(options_refuse_with_remedy)
{
    static const struct {
        const char *command, *words[4];
        const char *sentence;
    } cases[] = {
        { "submit", { "a", "--fsp", "3" }, "unknown flag --fsp; did you mean --fps?" },
        { "submit", { "a", "--zebra" }, "unknown flag --zebra; `onestep submit --help` lists" },
        { "submit", { "a", "--image", "b" }, "unknown flag --image" },
        { "submit", { "a", "-o", "b" }, "unknown flag -o" },
        { "submit", { "a", "--no-key" }, "unknown flag --no-key" },
        { "submit", { "a", "--fps" }, "--fps: wants a value" },
        { "submit", { "a", "--fps", "0" }, "fps: 0 is outside 1..120" },
        { "submit", { "a", "--fps", "x" }, "fps: \"x\" is not an integer" },
        { "submit", { "a", "--sampler", "ddim" }, "sampler: \"ddim\" is not one of consistency" },
        { "submit", { "a", "--json=maybe" }, "--json: \"maybe\" is not true or false" },
        { "run", { "a", "--broker", "b" }, "unknown flag --broker" },
        { "run", { NULL }, "run: too few words; usage: onestep run IMAGE..." },
        { "status", { NULL }, "status: too few words" },
        { "list", { "x" }, "list: unexpected word \"x\"; usage: onestep list" },
        { "list", { "--limit", "0" }, "--limit: 0 is outside 1..1000000 jobs" },
        { "list", { "--state", "donne" }, "did you mean \"done\"?" },
        { "help", { "run", "submit" }, "help: unexpected word \"submit\"" },
    };
    struct command_line line;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_STATUS(parse(&line, cases[i].command, cases[i].words), ERR_BADARG);
        EXPECT_MESSAGE(cases[i].sentence);
    }
    EXPECT_STATUS(command_fail_unknown("stauts"), ERR_BADARG);
    EXPECT_MESSAGE("unknown command \"stauts\"; did you mean \"status\"?");
    EXPECT_STATUS(command_fail_unknown("man "), ERR_BADARG);
}

/* An error further on must still be told as JSON, and --help is answered whatever else is wrong. */
TEST(options_json_and_help_are_seen_first)
{
    struct command_line line;

    EXPECT_STATUS(PARSE(&line, "submit", "a", "--fps", "0", "--json"), ERR_BADARG);
    EXPECT(line.options.json);
    EXPECT_OK(PARSE(&line, "submit", "--fps", "0", "--help"));
    EXPECT(line.wants_help);
    EXPECT_OK(PARSE(&line, "wait", "-h"));
    EXPECT(line.wants_help);
}

TEST(options_settings_come_from_files)
{
    static const char yaml[] = "broker: [tcp://a:1, tcp://b:2]\nbroker_timeout_ms: 700\n";
    static const char wrong[] = "brokr: x\n";
    struct command_line line;
    char path[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "my.yaml"));
    EXPECT_OK(file_write_atomic(path, yaml, strlen(yaml)));
    EXPECT_OK(PARSE(&line, "list", "--config", path, "--broker-timeout-ms", "900"));
    EXPECT_INT(line.options.broker.count, 2);
    EXPECT_INT(line.options.broker_timeout_ms, 900);

    /* the standard place, $XDG_CONFIG_HOME/onestep/client.yaml */
    EXPECT_OK(file_join(folder, sizeof(folder), test_tmpdir(), "onestep"));
    EXPECT_OK(file_make_dirs(folder));
    EXPECT_OK(file_join(path, sizeof(path), folder, "client.yaml"));
    EXPECT_OK(file_write_atomic(path, wrong, strlen(wrong)));
    EXPECT_STATUS(PARSE(&line, "list", "--json"), ERR_BADARG);
    EXPECT_MESSAGE("client.yaml:1: unknown key \"brokr\"; did you mean \"broker\"?");
    EXPECT_STATUS(PARSE(&line, "list", "--config", "/nonexistent.yaml"), ERR_NOTFOUND);
    EXPECT_MESSAGE("/nonexistent.yaml");
    /* run talks to services of its own */
    EXPECT_OK(PARSE(&line, "run", "a.jpg"));
}
