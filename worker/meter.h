/* meter.h - what a worker counts. */
#ifndef ONESTEP_WORKER_METER_H
#define ONESTEP_WORKER_METER_H

#include "common/metrics.h"

/* Rows of meter_rows. */
enum meter {
    METER_TAKEN = 0,
    METER_STARTED,
    METER_ENDED,
    METER_FAILURES,
    METER_STAGE_SECONDS,
    METER_HELD,
    METER_BROKER_UP,
    METER_MEMORY_MAX,
    METER_COUNT
};

/* Label values of METER_ENDED. */
enum meter_outcome { METER_DONE = 0, METER_FAILED, METER_STOPPED, METER_OUTCOME_COUNT };

/* The table; the other label values are those of enum status and enum stage. */
extern const struct metrics_row meter_rows[METER_COUNT];

#endif
