/* Does the harness notice what it must notice? It runs `victim`, whose tests misbehave. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/tool/test.h"

struct outcome {
    char text[32 << 10]; /* stdout and stderr */
    int exit_code;
};

static void run_victim(const char *args, struct outcome *o)
{
    char command[5000];
    FILE *f;
    size_t len;
    int wait_status;

    snprintf(command, sizeof(command), "'%s/victim' --tmp %s %s 2>&1 9>&1", test_bin_dir(),
             test_tmpdir(), args);
    f = popen(command, "r");
    EXPECT(f != NULL);
    len = fread(o->text, 1, sizeof(o->text) - 1, f);
    o->text[len] = '\0';
    wait_status = pclose(f);
    EXPECT(WIFEXITED(wait_status));
    o->exit_code = WEXITSTATUS(wait_status);
    printf("$ victim %s -> %d\n%s", args, o->exit_code, o->text);
}

static void expect_failure(const char *name, const char *says)
{
    struct outcome o;
    char args[128];

    snprintf(args, sizeof(args), ".%s", name);
    run_victim(args, &o);
    EXPECT_INT(o.exit_code, 1);
    EXPECT(strstr(o.text, "FAIL victim."));
    EXPECT(strstr(o.text, says));
    EXPECT(strstr(o.text, "suite victim: 0 passed, 1 failed, 0 skipped\n"));
}

TEST(a_passing_test_is_silent)
{
    struct outcome o;

    run_victim(".passes", &o);
    EXPECT_INT(o.exit_code, 0);
    EXPECT_TEXT(o.text, "suite victim: 1 passed, 0 failed, 0 skipped\n");
}

TEST(a_failing_test_shows_condition_place_and_output)
{
    expect_failure("fails_here", "expected: 1 + 1 == 3");
    expect_failure("fails_here", "shown words");
    expect_failure("fails_here", "tests/tool/victim.c:");
}

TEST(a_failure_in_a_thread_counts)
{
    expect_failure("fails_in_a_thread", "6 * 7 is 42, want 41");
}

TEST(a_crash_is_a_failure)
{
    /* A sanitizer turns the signal into a report and an exit code. */
    expect_failure("crashes", "SEGV");
}

TEST(a_broken_check_is_a_failure)
{
    expect_failure("breaks_a_check", "CHECK failed: two == 3");
}

TEST(a_hanging_test_is_killed)
{
    expect_failure("hangs", "still running after");
}

TEST(nan_is_a_failure)
{
    expect_failure("nan_is_not_near", "is nan, want 0");
}

TEST(a_number_off_is_a_failure)
{
    expect_failure("off_by_too_much", "want 1.1");
}

TEST(a_status_is_shown_with_its_sentence)
{
    expect_failure("wrong_status", "is io, want ok; last failure: the disk is on fire");
}

TEST(a_wrong_text_is_a_failure)
{
    expect_failure("wrong_text", "want\n      two");
}

TEST(a_skip_says_why)
{
    struct outcome o;

    run_victim(".skips", &o);
    EXPECT_INT(o.exit_code, 0);
    EXPECT_TEXT(o.text, "SKIP victim.skips\n    no such device\n"
                        "suite victim: 0 passed, 0 failed, 1 skipped\n");
}

TEST(no_skip_makes_a_skip_a_failure)
{
    struct outcome o;

    run_victim("--no-skip .skips", &o);
    EXPECT_INT(o.exit_code, 1);
    EXPECT(strstr(o.text, "suite victim: 0 passed, 1 failed, 0 skipped\n"));
}

TEST(a_process_left_behind_is_killed)
{
    struct outcome o;

    /* It inherits descriptor 9, which run_victim reads until every writer is gone. */
    run_victim(".leaves_a_process", &o);
    EXPECT_INT(o.exit_code, 0);
}

TEST(an_empty_run_is_refused)
{
    struct outcome o;

    run_victim("no_test_is_called_this", &o);
    EXPECT_INT(o.exit_code, 3);
    EXPECT_TEXT(o.text, "suite victim: 0 passed, 0 failed, 0 skipped\n");
}

TEST(an_unknown_option_is_refused)
{
    struct outcome o;

    run_victim("--frobnicate", &o);
    EXPECT_INT(o.exit_code, 2);
    EXPECT(strstr(o.text, "--frobnicate: not an option"));
}

TEST(every_test_runs_and_is_counted)
{
    struct outcome o;

    run_victim("--jobs 2", &o);
    EXPECT_INT(o.exit_code, 1);
    EXPECT(strstr(o.text, "suite victim: 2 passed, 9 failed, 1 skipped\n"));
}

TEST(listing_names_the_tests)
{
    struct outcome o;

    run_victim("--list .wrong", &o);
    EXPECT_INT(o.exit_code, 0);
    EXPECT_TEXT(o.text, "victim.wrong_status\nvictim.wrong_text\n");
}

TEST(normal_numbers_have_mean_0_and_variance_1)
{
    double sum = 0, square = 0;
    int n = 100000;

    for (int i = 0; i < n; i++) {
        double x = test_normal();

        sum += x;
        square += x * x;
    }
    /* Six standard errors of the mean and of the variance of n normal values. */
    EXPECT_NEAR(sum / n, 0.0, 6.0 * 0.00317);
    EXPECT_NEAR(square / n, 1.0, 6.0 * 0.00448);
}
