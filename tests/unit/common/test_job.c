/* The table of states: what people read and what the store is tested against. */
#include <string.h>

#include "common/job.h"
#include "tests/tool/test.h"

TEST(every_state_has_a_name_of_its_own)
{
    for (int i = 1; i < JOB_STATE_COUNT; i++) {
        const char *name = job_state_name((enum job_state)i);

        EXPECT_INT(job_state_from_name(name, strlen(name)), i);
    }
    EXPECT_TEXT(job_state_name(JOB_ILLEGAL), "unknown");
    EXPECT_TEXT(job_state_name((enum job_state)99), "unknown");
    EXPECT_INT(job_state_from_name("unknown", 7), JOB_ILLEGAL);
    EXPECT_INT(job_state_from_name("queue", 5), JOB_ILLEGAL);
    EXPECT_INT(job_state_from_name("queuedx", 7), JOB_ILLEGAL);
}

TEST(final_states_have_no_way_out_but_an_operators_and_all_others_do)
{
    for (int s = 1; s < JOB_STATE_COUNT; s++) {
        int ways = 0;

        for (int e = 0; e < JOB_EVENT_REDRIVE; e++)
            ways += job_next((enum job_state)s, (enum job_event)e) != JOB_ILLEGAL;
        EXPECT(job_is_final((enum job_state)s) ? ways == 0 : ways > 0);
    }
}

TEST(every_live_state_can_be_cancelled)
{
    for (int s = JOB_QUEUED; s <= JOB_RUNNING; s++)
        EXPECT_INT(job_next((enum job_state)s, JOB_EVENT_CANCEL), JOB_CANCELLED);
}

TEST(the_usual_life)
{
    enum job_state s = job_next(JOB_ILLEGAL, JOB_EVENT_SUBMIT);

    EXPECT_INT(s, JOB_QUEUED);
    EXPECT_INT(s = job_next(s, JOB_EVENT_CLAIM), JOB_LEASED);
    EXPECT_INT(s = job_next(s, JOB_EVENT_START), JOB_RUNNING);
    EXPECT_INT(s = job_next(s, JOB_EVENT_RETRY), JOB_DELAYED);
    EXPECT_INT(s = job_next(s, JOB_EVENT_DUE), JOB_QUEUED);
    EXPECT_INT(s = job_next(s, JOB_EVENT_CLAIM), JOB_LEASED);
    EXPECT_INT(s = job_next(s, JOB_EVENT_START), JOB_RUNNING);
    EXPECT_INT(s = job_next(s, JOB_EVENT_COMPLETE), JOB_DONE);
}
