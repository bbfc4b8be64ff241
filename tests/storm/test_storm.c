/* The quick form of the storm; the long one is `make prove`. */
#include <string.h>

#include "common/base/log.h"
#include "tests/storm/storm.h"
#include "tests/tool/test.h"

TEST_TIMEOUT(storm_of_kills_breaks_no_promise, 300)
{
    struct storm_config config = { .bin = test_bin_dir(),
                                   .dir = test_tmpdir(),
                                   .seed = test_seed(),
                                   .seconds = 10,
                                   .kill_every_ms = 150,
                                   .batch_every_ms = 800 };
    struct storm_result result;
    bool is_good;

    log_set_level(LOG_ERROR);
    is_good = storm_run(&config, &result);
    storm_print(&result);
    if (!is_good)
        test_fail(__FILE__, __LINE__, "%s", result.violation);
    EXPECT_INT(result.done + result.dead, result.promised);
    EXPECT(result.dead * 10 <= result.promised);
    EXPECT(result.promised > 0 && result.kills[STORM_BROKER] > 0);
}

/* A storm whose jobs never end says so, and which: once nothing moves, and not before. */
TEST_TIMEOUT(storm_notices_that_nothing_moves, 120)
{
    struct storm_config config = { .bin = test_bin_dir(),
                                   .dir = test_tmpdir(),
                                   .seed = test_seed(),
                                   .seconds = 2,
                                   .kill_every_ms = 60000,
                                   .batch_every_ms = 800,
                                   .stuck_ms = 3000,
                                   .is_idle = true };
    struct storm_result result;

    log_set_level(LOG_ERROR);
    EXPECT(!storm_run(&config, &result));
    EXPECT(strstr(result.violation, "nothing has moved for 3 s: "));
    EXPECT(strstr(result.violation, " jobs have not ended, the first is 00"));
}
