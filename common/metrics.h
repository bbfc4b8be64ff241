/* metrics.h - numbers about a program, counted where the fact happens, read by Prometheus.
 *
 * A program has one table. Names follow Prometheus' conventions: base units, _seconds, _bytes,
 * counters end in _total. A row may have one label, whose values are a fixed list: nothing from
 * outside ever becomes a label. Thread: any, without locks. */
#ifndef ONESTEP_COMMON_METRICS_H
#define ONESTEP_COMMON_METRICS_H

#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/status.h"

/* Type of a family. */
enum metrics_kind {
    METRICS_COUNTER = 1, /* only grows */
    METRICS_GAUGE,       /* goes up and down */
};

/* Values of one label, at most. */
#define METRICS_VALUES_MAX 32

/* One family. */
struct metrics_row {
    const char *name;
    enum metrics_kind kind;
    const char *help;                         /* one line */
    const char *label;                        /* NULL: one number */
    const char *(*label_value)(size_t value); /* with a label: word of a value; NULL: left out */
    size_t value_count;                       /* with a label */
};

struct metrics;

/* Make the numbers of a table, all 0. rows is borrowed. Errors: ERR_NOMEM. */
MUST_USE status metrics_open(struct metrics **metrics, const struct metrics_row *rows,
                             size_t row_count);

/* Free them. Accepts NULL. */
void metrics_close(struct metrics *metrics);

/* Add to a counter or gauge: row of the table, value of its label (0 without one). NULL metrics
 * are not kept. This function can't fail. */
void metrics_add(struct metrics *metrics, size_t row, size_t value, double amount);

/* Set a gauge, or a counter that is counted elsewhere. Otherwise as metrics_add. */
void metrics_set(struct metrics *metrics, size_t row, size_t value, double amount);

/* The number. */
double metrics_get(const struct metrics *metrics, size_t row, size_t value);

/* Append all in Prometheus' text format 0.0.4. Errors: those of buf_append. */
MUST_USE status metrics_write(const struct metrics *metrics, struct buf *text);

#endif
