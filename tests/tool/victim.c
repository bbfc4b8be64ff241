/* Tests that must not pass, for tests/unit/tool/test_harness.c: a harness that lets one of them
 * through would let a real failure through as well. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/check.h"
#include "tests/tool/test.h"

TEST(passes)
{
    printf("hidden words\n");
    EXPECT(access(test_tmpdir(), W_OK) == 0);
}

TEST(fails_here)
{
    printf("shown words\n");
    EXPECT(access(test_tmpdir(), W_OK) == 0);
    EXPECT(1 + 1 == 3);
}

static void *fail_in_thread(void *arg)
{
    (void)arg;
    EXPECT_INT(6 * 7, 41);
    return NULL;
}

TEST(fails_in_a_thread)
{
    pthread_t thread;

    EXPECT(pthread_create(&thread, NULL, fail_in_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

TEST(crashes)
{
    raise(SIGSEGV);
}

TEST(breaks_a_check)
{
    volatile int two = 2;

    CHECK(two == 3);
}

TEST_TIMEOUT(hangs, 1)
{
    for (;;)
        pause();
}

TEST(nan_is_not_near)
{
    EXPECT_NEAR(NAN, 0.0, 1e9);
}

TEST(off_by_too_much)
{
    EXPECT_NEAR(1.0, 1.1, 0.01);
}

TEST(wrong_status)
{
    EXPECT_OK(FAIL(ERR_IO, "the disk is on fire"));
}

TEST(wrong_text)
{
    EXPECT_TEXT("one", "two");
}

TEST(skips)
{
    test_skip("no such device");
}

/* Leaves a process behind that holds every inherited descriptor open. */
TEST(leaves_a_process)
{
    if (fork() == 0) {
        for (;;)
            pause();
    }
}
