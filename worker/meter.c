#include "worker/meter.h"

#include "common/base/status.h"
#include "worker/stage.h"

static const char *outcome_word(size_t value)
{
    static const char *const words[] = { "done", "failed", "stopped" };

    return words[value];
}

static const char *code_word(size_t value)
{
    return value == OK ? NULL : status_name((status)value);
}

static const char *stage_word(size_t value)
{
    return value == STAGE_NONE ? NULL : stage_name((enum stage)value);
}

const struct metrics_row meter_rows[METER_COUNT] = {
    [METER_TAKEN] = { "onestep_worker_jobs_taken_total", METRICS_COUNTER, "Jobs that came in.",
                      NULL, NULL, 0 },
    [METER_STARTED] = { "onestep_worker_jobs_started_total", METRICS_COUNTER,
                        "Jobs whose computation began.", NULL, NULL, 0 },
    [METER_ENDED] = { "onestep_worker_jobs_ended_total", METRICS_COUNTER,
                      "Jobs that left this worker.", "outcome", outcome_word, METER_OUTCOME_COUNT },
    [METER_FAILURES] = { "onestep_worker_failures_total", METRICS_COUNTER,
                         "Failed jobs by the code of their error.", "code", code_word,
                         ERR_CANCELLED + 1 },
    [METER_STAGE_SECONDS] = { "onestep_worker_stage_seconds_total", METRICS_COUNTER,
                              "Time spent in each stage, of all jobs that ended.", "stage",
                              stage_word, STAGE_COUNT },
    [METER_HELD] = { "onestep_worker_jobs", METRICS_GAUGE, "Jobs that are here now.", NULL, NULL,
                     0 },
    [METER_BROKER_UP] = { "onestep_worker_broker_up", METRICS_GAUGE, "1 while a broker answers.",
                          NULL, NULL, 0 },
    [METER_MEMORY_MAX] = { "onestep_worker_memory_max_bytes", METRICS_GAUGE,
                           "Memory that jobs may use.", NULL, NULL, 0 },
};
