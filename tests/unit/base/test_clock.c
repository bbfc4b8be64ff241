#include "common/base/clock.h"

#include "tests/tool/test.h"

TEST(clocks_agree_and_do_not_run_backwards)
{
    int64_t first_ms = clock_mono_ms();
    double first_s = clock_mono_s();

    /* Read one after the other, in milliseconds of the same clock; a minute is beyond any pause. */
    EXPECT(first_s * 1000.0 + 1.0 >= (double)first_ms);
    EXPECT_NEAR(first_s * 1000.0, (double)first_ms, 60000.0);
    EXPECT(clock_mono_ms() >= first_ms);
    EXPECT(clock_wall_ms() > 1600000000000); /* September 2020 */
}

static bool counts_down(void *self)
{
    int *looks = self;

    return --*looks <= 0;
}

TEST(waiting_ends_when_the_condition_holds)
{
    int looks = 5;

    EXPECT(clock_wait_for(counts_down, &looks, 60000));
    EXPECT_INT(looks, 0);
    EXPECT(clock_wait_for(counts_down, &looks, 0));
}

TEST(waiting_ends_at_the_deadline)
{
    int looks = 1000000;
    int64_t start_ms = clock_mono_ms();

    EXPECT(!clock_wait_for(counts_down, &looks, 0));
    EXPECT_INT(looks, 999999);
    EXPECT(!clock_wait_for(counts_down, &looks, 120));
    EXPECT(clock_mono_ms() - start_ms >= 119); /* both readings are rounded down */
    EXPECT(looks > 999000);                    /* it did not spin: each pause is 1 ms at least */
}
