/* The quick form of the storm; the long one is `make prove`. */
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
