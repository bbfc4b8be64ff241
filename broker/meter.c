#include "broker/meter.h"

#include "common/job.h"
#include "proto/msg.h"

static const char *type_word(size_t value)
{
    return value == MSG_NONE ? "unreadable" : msg_type_name((enum msg_type)value);
}

static const char *state_word(size_t value)
{
    return value == JOB_ILLEGAL ? NULL : job_state_name((enum job_state)value);
}

_Static_assert((int)MSG_TYPE_COUNT <= METRICS_VALUES_MAX, "room for every type of message");

const struct metrics_row meter_rows[METER_COUNT] = {
    [METER_MESSAGES] = { "onestep_broker_messages_total", METRICS_COUNTER, "Messages that came in.",
                         "type", type_word, MSG_TYPE_COUNT },
    [METER_REFUSED] = { "onestep_broker_refused_messages_total", METRICS_COUNTER,
                        "Messages that were damaged, or not the sender's to say.", NULL, NULL, 0 },
    [METER_STRANGERS] = { "onestep_broker_strangers_total", METRICS_COUNTER,
                          "Connections whose key has no card; each door tests itself with one.",
                          NULL, NULL, 0 },
    [METER_ACCEPTED] = { "onestep_broker_jobs_accepted_total", METRICS_COUNTER,
                         "New jobs that were stored.", NULL, NULL, 0 },
    [METER_LEASES] = { "onestep_broker_leases_total", METRICS_COUNTER, "Jobs sent to workers.",
                       NULL, NULL, 0 },
    [METER_EXPIRED] = { "onestep_broker_leases_expired_total", METRICS_COUNTER,
                        "Leases that this broker saw run out.", NULL, NULL, 0 },
    [METER_ENDED] = { "onestep_broker_leases_ended_total", METRICS_COUNTER,
                      "Leases that their workers ended.", "by", type_word, MSG_TYPE_COUNT },
    [METER_LATE] = { "onestep_broker_late_reports_total", METRICS_COUNTER,
                     "Reports about leases that were no longer the sender's.", NULL, NULL, 0 },
    [METER_WORKERS] = { "onestep_broker_workers", METRICS_GAUGE, "Workers that are heard now.",
                        NULL, NULL, 0 },
    [METER_JOBS] = { "onestep_jobs", METRICS_GAUGE, "Jobs in the store; the same at every broker.",
                     "state", state_word, JOB_STATE_COUNT },
    [METER_STORE_CALLS] = { "onestep_broker_store_calls", METRICS_GAUGE,
                            "Calls to Redis that wait for an answer.", NULL, NULL, 0 },
    [METER_STORE_UP] = { "onestep_broker_store_up", METRICS_GAUGE, "1 while Redis is connected.",
                         NULL, NULL, 0 },
};
