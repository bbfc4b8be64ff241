/* meter.h - what a broker counts. */
#ifndef ONESTEP_BROKER_METER_H
#define ONESTEP_BROKER_METER_H

#include "common/metrics.h"

/* Rows of meter_rows. */
enum meter {
    METER_MESSAGES = 0,
    METER_REFUSED,
    METER_STRANGERS,
    METER_ACCEPTED,
    METER_LEASES,
    METER_EXPIRED,
    METER_ENDED,
    METER_LATE,
    METER_WORKERS,
    METER_JOBS,
    METER_STORE_CALLS,
    METER_STORE_UP,
    METER_COUNT
};

/* The table; label values are those of enum msg_type and enum job_state. */
extern const struct metrics_row meter_rows[METER_COUNT];

#endif
