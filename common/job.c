#include "common/job.h"

#include <string.h>

#include "common/base/check.h"

static const struct {
    const char *name;
    bool is_final;
    enum job_state next[JOB_EVENT_COUNT]; /* JOB_ILLEGAL, 0, where the event is refused */
} states[JOB_STATE_COUNT] = {
    [JOB_ILLEGAL] = { .name = "unknown", .next = { [JOB_EVENT_SUBMIT] = JOB_QUEUED } },
    [JOB_BLOCKED] = { .name = "blocked",
                      .next = { [JOB_EVENT_DUE] = JOB_QUEUED,
                                [JOB_EVENT_CANCEL] = JOB_CANCELLED } },
    [JOB_QUEUED] = { .name = "queued",
                     .next = { [JOB_EVENT_CLAIM] = JOB_LEASED,
                               [JOB_EVENT_CANCEL] = JOB_CANCELLED } },
    [JOB_DELAYED] = { .name = "delayed",
                      .next = { [JOB_EVENT_DUE] = JOB_QUEUED,
                                [JOB_EVENT_CANCEL] = JOB_CANCELLED } },
    [JOB_LEASED] = { .name = "leased",
                     .next = { [JOB_EVENT_START] = JOB_RUNNING,
                               [JOB_EVENT_COMPLETE] = JOB_DONE,
                               [JOB_EVENT_RETRY] = JOB_DELAYED,
                               [JOB_EVENT_KILL] = JOB_DEAD,
                               [JOB_EVENT_RELEASE] = JOB_QUEUED,
                               [JOB_EVENT_CANCEL] = JOB_CANCELLED } },
    [JOB_RUNNING] = { .name = "running",
                      .next = { [JOB_EVENT_START] = JOB_RUNNING,
                                [JOB_EVENT_COMPLETE] = JOB_DONE,
                                [JOB_EVENT_RETRY] = JOB_DELAYED,
                                [JOB_EVENT_KILL] = JOB_DEAD,
                                [JOB_EVENT_RELEASE] = JOB_QUEUED,
                                [JOB_EVENT_CANCEL] = JOB_CANCELLED } },
    [JOB_DONE] = { .name = "done", .is_final = true },
    [JOB_DEAD] = { .name = "dead", .is_final = true, .next = { [JOB_EVENT_REDRIVE] = JOB_QUEUED } },
    [JOB_CANCELLED] = { .name = "cancelled", .is_final = true },
};

enum job_state job_next(enum job_state from, enum job_event event)
{
    CHECK((unsigned)from < JOB_STATE_COUNT && (unsigned)event < JOB_EVENT_COUNT);
    return states[from].next[event];
}

bool job_is_final(enum job_state state)
{
    CHECK((unsigned)state < JOB_STATE_COUNT);
    return states[state].is_final;
}

const char *job_state_name(enum job_state state)
{
    return (unsigned)state < JOB_STATE_COUNT ? states[state].name : "unknown";
}

enum job_state job_state_from_name(const char *name, size_t len)
{
    for (int i = 1; i < JOB_STATE_COUNT; i++) {
        if (strlen(states[i].name) == len && memcmp(states[i].name, name, len) == 0)
            return (enum job_state)i;
    }
    return JOB_ILLEGAL;
}
