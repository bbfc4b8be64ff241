#include "client/jobs.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/limits.h"

status jobs_make(struct jobs *j, size_t count)
{
    j->ids = calloc(count ? count : 1, sizeof(*j->ids));
    if (!j->ids)
        return FAIL(ERR_NOMEM, "no memory for %zu job ids", count);
    j->count = count;
    return OK;
}

status jobs_from_words(struct jobs *j, char **words, int count)
{
    status st = OK;

    TRY(jobs_make(j, (size_t)count));
    for (int i = 0; i < count; i++) {
        if (!msg_is_id(words[i]))
            TRY(FAIL(ERR_BADARG,
                     "\"%.60s\" is not a job id (%d characters of 0-9 and a-z, as "
                     "`onestep submit` prints them)",
                     words[i], JOB_ID_CHARS));
        memcpy(j->ids[i], words[i], JOB_ID_BYTES);
    }
    return OK;
out:
    jobs_free(j);
    return st;
}

void jobs_free(struct jobs *j)
{
    free(j->ids);
    memset(j, 0, sizeof(*j));
}

static size_t page_of(size_t left)
{
    return left < LIMIT_JOBS_PER_MSG ? left : LIMIT_JOBS_PER_MSG;
}

status jobs_ask(struct session *s, const char (*ids)[JOB_ID_BYTES], size_t count,
                jobs_status_fn on_status, void *self)
{
    size_t done = 0;
    status st = OK;

    while (done < count) {
        struct msg request = { .type = MSG_STATUS };
        struct msg answer;
        size_t asked = page_of(count - done);

        request.status.ids = ids + done;
        request.status.id_count = asked;
        TRY(session_call(s, &request, &answer));
        if (answer.statuses.job_count == 0 || answer.statuses.job_count > asked)
            TRY(FAIL(ERR_CORRUPT, "the broker answered about %zu jobs, not %zu",
                     answer.statuses.job_count, asked));
        for (size_t i = 0; i < answer.statuses.job_count; i++) {
            const struct job_status *job = &answer.statuses.jobs[i];

            if (strcmp(job->job, ids[done]) != 0)
                TRY(FAIL(ERR_CORRUPT, "the broker answered about job %s, not %s", job->job,
                         ids[done]));
            TRY(on_status(self, done, job));
            done++;
        }
    }
out:
    return st;
}

status jobs_cancel(struct session *s, const char (*ids)[JOB_ID_BYTES], size_t count,
                   jobs_verdict_fn on_verdict, void *self)
{
    status st = OK;

    for (size_t done = 0; done < count;) {
        struct msg request = { .type = MSG_CANCEL };
        struct msg answer;
        size_t asked = page_of(count - done);

        request.cancel.ids = ids + done;
        request.cancel.id_count = asked;
        TRY(session_call(s, &request, &answer));
        if (answer.cancelled.item_count != asked)
            TRY(FAIL(ERR_CORRUPT, "the broker answered %zu verdicts about %zu jobs",
                     answer.cancelled.item_count, asked));
        for (size_t i = 0; i < asked; i++)
            TRY(on_verdict(self, &answer.cancelled.items[i]));
        done += asked;
    }
out:
    return st;
}
