#include "common/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/check.h"

struct metrics {
    const struct metrics_row *rows;
    size_t row_count;
    _Atomic double (*numbers)[METRICS_VALUES_MAX]; /* [row][value] */
};

status metrics_open(struct metrics **metrics, const struct metrics_row *rows, size_t row_count)
{
    struct metrics *m = calloc(1, sizeof(*m));

    *metrics = NULL;
    if (m)
        m->numbers = calloc(row_count, sizeof(*m->numbers));
    if (!m || !m->numbers) {
        free(m);
        return FAIL(ERR_NOMEM, "no memory for metrics");
    }
    for (size_t i = 0; i < row_count; i++)
        CHECK(rows[i].value_count <= METRICS_VALUES_MAX);
    m->rows = rows;
    m->row_count = row_count;
    *metrics = m;
    return OK;
}

void metrics_close(struct metrics *metrics)
{
    if (!metrics)
        return;
    free(metrics->numbers);
    free(metrics);
}

static _Atomic double *number_of(const struct metrics *m, size_t row, size_t value)
{
    CHECK(row < m->row_count);
    CHECK(value < (m->rows[row].label ? m->rows[row].value_count : 1));
    return &m->numbers[row][value];
}

void metrics_add(struct metrics *metrics, size_t row, size_t value, double amount)
{
    _Atomic double *number;
    double old;

    if (!metrics)
        return;
    number = number_of(metrics, row, value);
    old = atomic_load(number);
    while (!atomic_compare_exchange_weak(number, &old, old + amount))
        ;
}

void metrics_set(struct metrics *metrics, size_t row, size_t value, double amount)
{
    if (metrics)
        atomic_store(number_of(metrics, row, value), amount);
}

double metrics_get(const struct metrics *metrics, size_t row, size_t value)
{
    return atomic_load(number_of(metrics, row, value));
}

static status write_row(const struct metrics *m, size_t row, struct buf *text)
{
    const struct metrics_row *r = &m->rows[row];
    status st = OK;

    TRY(buf_printf(text, "# HELP %s %s\n# TYPE %s %s\n", r->name, r->help, r->name,
                   r->kind == METRICS_COUNTER ? "counter" : "gauge"));
    if (!r->label)
        TRY(buf_printf(text, "%s %.17g\n", r->name, metrics_get(m, row, 0)));
    for (size_t i = 0; r->label && i < r->value_count; i++) {
        const char *word = r->label_value(i);

        if (word)
            TRY(buf_printf(text, "%s{%s=\"%s\"} %.17g\n", r->name, r->label, word,
                           metrics_get(m, row, i)));
    }
out:
    return st;
}

status metrics_write(const struct metrics *metrics, struct buf *text)
{
    status st = OK;

    for (size_t i = 0; i < metrics->row_count && st == OK; i++)
        st = write_row(metrics, i, text);
    return st;
}
