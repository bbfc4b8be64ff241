/* The long form of the storm:  prove_storm [--seed N] [--seconds N] [--kills N] [--dir DIR] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/log.h"
#include "tests/storm/storm.h"

static bool read_config(struct storm_config *c, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            c->seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            c->seconds = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--kills") == 0)
            c->kills = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--dir") == 0)
            c->dir = argv[i + 1];
        else
            return false;
    }
    return argc % 2 == 1;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/onestep-storm-XXXXXX", bin[512];
    ssize_t len = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
    struct storm_config config = { .bin = bin,
                                   .seed = (uint64_t)time(NULL),
                                   .seconds = 600,
                                   .kill_every_ms = 150,
                                   .batch_every_ms = 1500 };
    struct storm_result result;
    bool is_good;

    if (!read_config(&config, argc, argv) || len < 0) {
        fprintf(stderr, "usage: prove_storm [--seed N] [--seconds N] [--kills N] [--dir DIR]\n");
        return 2;
    }
    if (!config.dir)
        config.dir = mkdtemp(dir);
    bin[len] = '\0';
    *strrchr(bin, '/') = '\0';
    log_set_level(LOG_ERROR);
    printf("seed %llu, below %s\n", (unsigned long long)config.seed, config.dir);
    fflush(stdout);
    is_good = storm_run(&config, &result);
    storm_print(&result);
    return is_good ? 0 : 1;
}
