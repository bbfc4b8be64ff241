/* bench.h - what the programs of tests/bench share: time a piece of work, print one line per
 * number.
 *
 *   mailbox.handoff                1.83e+06 messages/s    2.1 x pipe
 *   {"name":"mailbox.handoff","value":1830000,"unit":"messages/s","peer":"pipe","ratio":2.1}
 *
 * The second form with --json. Thread: the program's first. */
#ifndef ONESTEP_TESTS_TOOL_BENCH_H
#define ONESTEP_TESTS_TOOL_BENCH_H

#include <stdbool.h>

/* A run of benchmarks. */
struct bench {
    bool json; /* print JSON lines */
};

/* One number to print. */
struct bench_row {
    const char *name; /* "module.what" */
    double value;     /* the number */
    const char *unit; /* "ms", "messages/s", "GFLOP/s" */
    const char *peer; /* what it is compared with; NULL: nothing */
    double ratio;     /* how many times better than the peer; 1 is equal; unused without a peer */
};

/* Read the command line: [--json]. Ends the program with exit code 2 on anything else. */
void bench_init(struct bench *b, int argc, char **argv);

/* Seconds that work(self) takes: the median of at least three runs, more until they add up to
 * half a second, after one that does not count. */
double bench_seconds(void (*work)(void *self), void *self);

/* Print a number. */
void bench_report(const struct bench *b, const struct bench_row *row);

#endif
