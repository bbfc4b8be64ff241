/* The quick form of the simulation: as many worlds as fit into the time, and every mutant. The long
 * form is `make prove`. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/log.h"
#include "tests/sim/sim.h"
#include "tests/tool/test.h"

#define QUICK_S 25
#define WORLDS_MIN 3
#define WORLDS_FOR_A_MUTANT 60

/* CAREFUL: clock_mono_s is the world's. */
static double real_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void open_sim(void)
{
    log_set_level(-1);
    EXPECT(sim_open(test_tmpdir(), test_bin_dir()));
}

TEST_TIMEOUT(the_shipped_cores_keep_every_rule_under_faults, 240)
{
    struct sim_result result = { 0 };
    double begin_s = real_s();
    uint64_t seed = test_seed();

    open_sim();
    while (result.worlds < WORLDS_MIN || real_s() - begin_s < QUICK_S) {
        if (!sim_run(seed++, NULL, &result))
            test_fail(__FILE__, __LINE__, "%s\nplay it again: prove_sim --seed %llu --worlds 1",
                      result.violation, (unsigned long long)(seed - 1));
    }
    sim_print(&result, real_s() - begin_s);
    EXPECT(result.done > 0 && result.dead > 0 && result.cancelled > 0);
    for (int f = 0; f < SIM_FAULT_COUNT && result.worlds >= 20; f++)
        EXPECT(result.faults[f] > 0);
}

TEST_TIMEOUT(the_same_seed_is_the_same_world, 120)
{
    struct sim_result a = { 0 }, b = { 0 };

    open_sim();
    EXPECT(sim_run(4711, NULL, &a));
    EXPECT(sim_run(4711, NULL, &b));
    EXPECT_INT(a.events, b.events);
    EXPECT_INT(a.calls, b.calls);
    EXPECT_INT(sim_faults(&a), sim_faults(&b));
    EXPECT_INT(a.done, b.done);
}

TEST_TIMEOUT(each_broken_rule_is_noticed, 240)
{
    const char *name, *broken;

    open_sim();
    for (size_t i = 0; (name = sim_mutant_name(i, &broken)); i++) {
        struct sim_result result = { 0 };
        uint64_t seed = test_seed();

        while (result.worlds < WORLDS_FOR_A_MUTANT && sim_run(seed++, name, &result))
            ;
        printf("%s: %s\n", name, result.violation);
        if (!result.violation[0])
            test_fail(__FILE__, __LINE__, "mutant %s was not noticed; it breaks: %s", name, broken);
    }
}

TEST_TIMEOUT(the_model_of_leases_has_no_errors, 240)
{
    int rc = system("tests/spin/run.sh --quick");

    EXPECT_INT(rc, 0);
}
