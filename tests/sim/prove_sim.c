/* The long form of the simulation, and the replay of one world.
 *
 *   prove_sim [--seed N] [--worlds N] [--faults N] [--mutant NAME]
 *
 * Plays worlds from seed N on until so many were played or so many faults were put in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/log.h"
#include "tests/sim/sim.h"

static double real_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct wish {
    unsigned long long seed;
    long long worlds, faults;
    const char *mutant;
};

static bool read_wish(struct wish *w, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            w->seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--worlds") == 0)
            w->worlds = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--faults") == 0)
            w->faults = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--mutant") == 0)
            w->mutant = argv[i + 1];
        else
            return false;
    }
    return argc % 2 == 1;
}

int main(int argc, char **argv)
{
    struct wish w = { .seed = (unsigned long long)time(NULL),
                      .worlds = 1LL << 40,
                      .faults = 1LL << 60 };
    struct sim_result result = { 0 };
    char dir[] = "/tmp/onestep-sim-XXXXXX", bin[512];
    ssize_t len = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
    double begin_s, told_s;
    bool is_good = true;

    if (!read_wish(&w, argc, argv) || len < 0 || !mkdtemp(dir)) {
        fprintf(stderr, "usage: prove_sim [--seed N] [--worlds N] [--faults N] [--mutant NAME]\n");
        return 2;
    }
    bin[len] = '\0';
    *strrchr(bin, '/') = '\0';
    log_set_level(-1);
    if (!sim_open(dir, bin))
        return 1;
    printf("seed %llu\n", w.seed);
    begin_s = told_s = real_s();
    while (is_good && result.worlds < w.worlds && sim_faults(&result) < w.faults) {
        is_good = sim_run(w.seed++, w.mutant, &result);
        if (real_s() - told_s > 30) {
            told_s = real_s();
            printf("%lld worlds, %lld faults\n", (long long)result.worlds,
                   (long long)sim_faults(&result));
            fflush(stdout);
        }
    }
    sim_print(&result, real_s() - begin_s);
    return is_good ? 0 : 1;
}
