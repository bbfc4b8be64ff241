#include "tests/tool/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"

#define RUNS_MIN 3
#define RUNS_MAX 1000
#define SECONDS_MIN 0.5

void bench_init(struct bench *b, int argc, char **argv)
{
    *b = (struct bench){ 0 };
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") != 0) {
            fprintf(stderr, "%s: %s: not an option; use [--json]\n", argv[0], argv[i]);
            exit(2);
        }
        b->json = true;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_seconds(void (*work)(void *self), void *self)
{
    double runs[RUNS_MAX], sum = 0;
    int count = 0;

    work(self);
    while (count < RUNS_MIN || (sum < SECONDS_MIN && count < RUNS_MAX)) {
        double start = clock_mono_s();

        work(self);
        runs[count] = clock_mono_s() - start;
        sum += runs[count++];
    }
    qsort(runs, (size_t)count, sizeof(runs[0]), compare_doubles);
    return runs[count / 2];
}

static void print_json(const struct bench_row *row)
{
    struct buf line = { 0 };
    struct json_writer w = { .out = &line };

    json_write_object(&w);
    json_write_key(&w, "name");
    json_write_text(&w, row->name);
    json_write_key(&w, "value");
    json_write_double(&w, row->value);
    json_write_key(&w, "unit");
    json_write_text(&w, row->unit);
    json_write_key(&w, "peer");
    json_write_text(&w, row->peer);
    json_write_key(&w, "ratio");
    if (row->peer)
        json_write_double(&w, row->ratio);
    else
        json_write_null(&w);
    json_write_end(&w);
    if (json_write_finish(&w) != OK) {
        fprintf(stderr, "%s: %s\n", row->name, status_message());
        exit(1);
    }
    printf("%s\n", line.data);
    buf_free(&line);
}

void bench_report(const struct bench *b, const struct bench_row *row)
{
    if (b->json) {
        print_json(row);
    } else {
        printf("%-40s %10.4g %-12s", row->name, row->value, row->unit);
        if (row->peer)
            printf(" %6.3g x %s", row->ratio, row->peer);
        printf("\n");
    }
    fflush(stdout);
}
