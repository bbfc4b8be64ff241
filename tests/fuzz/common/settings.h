/* settings.h - a program's settings of every type, for the entries that fill them. */
#ifndef ONESTEP_TESTS_FUZZ_COMMON_SETTINGS_H
#define ONESTEP_TESTS_FUZZ_COMMON_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"

/* One field of each type. */
struct settings {
    int64_t lease_ms;
    double share;
    bool keep;
    char model[64];
    int log_level;
    struct config_list broker;
};

/* The program that has them. */
extern const struct config_program settings_program;

/* CHECK that s is printed as YAML which loads back to the same. */
void settings_expect_printable(const struct settings *s);

#endif
