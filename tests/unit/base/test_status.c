#include "common/base/status.h"

#include <pthread.h>
#include <string.h>

#include "tests/tool/test.h"

TEST(every_code_has_a_name_that_leads_back)
{
    for (int i = 0; i < STATUS_COUNT; i++) {
        EXPECT(status_name((status)i)[0] != '\0');
        EXPECT_INT(status_from_name(status_name((status)i)), i);
        for (int j = 0; j < i; j++)
            EXPECT(status_exit_code((status)i) != status_exit_code((status)j));
    }
    EXPECT_INT(status_from_name("unheard of"), STATUS_COUNT);
    EXPECT_TEXT(status_name(STATUS_COUNT), "unknown");
    EXPECT_INT(status_exit_code(STATUS_COUNT), 1);
}

TEST(only_bad_luck_is_worth_a_retry)
{
    EXPECT(!status_is_retryable(OK));
    EXPECT(!status_is_retryable(ERR_BADARG));
    EXPECT(!status_is_retryable(ERR_CORRUPT));
    EXPECT(!status_is_retryable(ERR_CANCELLED));
    EXPECT(status_is_retryable(ERR_UNAVAILABLE));
    EXPECT(status_is_retryable(ERR_TIMEOUT));
    EXPECT(!status_is_retryable(STATUS_COUNT));
}

TEST(a_failure_keeps_its_sentence_and_place)
{
    EXPECT_STATUS(FAIL(ERR_IO, "page %d is wet", 7), ERR_IO);
    EXPECT_TEXT(status_message(), "page 7 is wet");
    EXPECT(strstr(status_where(), "test_status.c:"));
    status_clear();
    EXPECT_TEXT(status_message(), "");
    EXPECT_TEXT(status_where(), "");
}

TEST(a_sentence_may_quote_the_last_one)
{
    EXPECT_STATUS(FAIL(ERR_IO, "the page is wet"), ERR_IO);
    EXPECT_STATUS(FAIL(ERR_CORRUPT, "in chapter 3, %s, and torn", status_message()), ERR_CORRUPT);
    EXPECT_TEXT(status_message(), "in chapter 3, the page is wet, and torn");
}

TEST(a_long_sentence_is_cut)
{
    char text[2000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    EXPECT_STATUS(FAIL(ERR_IO, "%s", text), ERR_IO);
    EXPECT(strlen(status_message()) < 1000);
}

static void *fail_elsewhere(void *arg)
{
    (void)arg;
    EXPECT_TEXT(status_message(), "");
    EXPECT_STATUS(FAIL(ERR_FULL, "theirs"), ERR_FULL);
    return NULL;
}

TEST(each_thread_has_its_own_sentence)
{
    pthread_t thread;

    EXPECT_STATUS(FAIL(ERR_IO, "mine"), ERR_IO);
    EXPECT(pthread_create(&thread, NULL, fail_elsewhere, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT_TEXT(status_message(), "mine");
}

static status stop_at(int step, int *reached)
{
    status st = OK;

    TRY(step == 1 ? ERR_IO : OK);
    *reached = 1;
    TRY(step == 2 ? ERR_FULL : OK);
    *reached = 2;
out:
    return st;
}

TEST(try_leaves_at_the_first_failure)
{
    int reached = 0;

    EXPECT_STATUS(stop_at(1, &reached), ERR_IO);
    EXPECT_INT(reached, 0);
    EXPECT_STATUS(stop_at(2, &reached), ERR_FULL);
    EXPECT_INT(reached, 1);
    EXPECT_OK(stop_at(3, &reached));
    EXPECT_INT(reached, 2);
}
