#include "client/batch.h"

#include <stdlib.h>
#include <string.h>

#include "client/seed.h"
#include "common/base/clock.h"
#include "common/id.h"
#include "common/url.h"
#include "proto/codec.h"

/* Pause before jobs are sent again that the store could not take just now. */
#define RETRY_MS 250

status batch_prepare(const struct batch_job *job, struct msg_submit_item *item)
{
    status st = OK;
    struct url put_url;

    memset(item, 0, sizeof(*item));
    item->spec = job->spec;
    if (*job->key)
        TRY(id_from_key(item->job, *job->spec.tenant ? job->spec.tenant : SPEC_TENANT_DEFAULT,
                        job->key));
    else
        id_new(item->job);
    if (!job->has_seed && *job->key)
        TRY(seed_from_key(job->key, &item->spec.seed));
    else if (!job->has_seed)
        item->spec.seed = seed_random();
    TRY(spec_check(&item->spec));
    if (*item->spec.put_url)
        TRY(url_parse(&put_url, item->spec.put_url));
out:
    return st;
}

status batch_check_put_url(const struct job_spec *flags, int job_count, bool is_manifest)
{
    if (!*flags->put_url || (job_count == 1 && !is_manifest))
        return OK;
    return FAIL(ERR_BADARG, "put_url: one address takes one video; give each row of a --manifest "
                            "its own");
}

static status tell(struct batch *b, size_t index, const struct msg_job_verdict *v)
{
    struct batch_verdict verdict = {
        .item = &b->items[index],
        .row = b->rows[index],
        .verdict = v->verdict,
        .state = v->state,
        .code = v->code,
        .sentence = v->sentence,
    };

    if (v->verdict == VERDICT_CONFLICT) {
        verdict.code = ERR_CONFLICT;
        if (!*v->sentence)
            verdict.sentence = "the key belongs to a job with other parameters; use another --key";
    } else if (v->verdict == VERDICT_REFUSED) {
        verdict.code = v->code == OK ? ERR_BADARG : v->code;
    } else if (v->verdict != VERDICT_OK && v->verdict != VERDICT_DUPLICATE) {
        return FAIL(ERR_CORRUPT, "the broker answered %s to a job", msg_verdict_name(v->verdict));
    }
    return b->on_verdict(b->self, &verdict);
}

/* Send all items once; those that the store could not take just now stay, the others are told. */
static status send_once(struct batch *b)
{
    struct msg request = { .type = MSG_SUBMIT };
    struct msg answer;
    size_t kept = 0;
    status st = OK;

    request.submit.items = b->items;
    request.submit.item_count = b->count;
    TRY(session_call(b->session, &request, &answer));
    if (answer.submitted.item_count != b->count)
        TRY(FAIL(ERR_CORRUPT, "the broker answered %zu verdicts to %zu jobs",
                 answer.submitted.item_count, b->count));
    for (size_t i = 0; i < b->count; i++) {
        const struct msg_job_verdict *v = &answer.submitted.items[i];

        if (strcmp(v->job, b->items[i].job) != 0)
            TRY(FAIL(ERR_CORRUPT, "the broker answered for job %s, not %s", v->job,
                     b->items[i].job));
        if (v->verdict != VERDICT_REFUSED || v->code != ERR_UNAVAILABLE) {
            TRY(tell(b, i, v));
            continue;
        }
        memmove(&b->items[kept], &b->items[i], sizeof(b->items[0]));
        b->rows[kept++] = b->rows[i];
    }
    b->count = kept;
out:
    return st;
}

status batch_send(struct batch *b)
{
    int64_t deadline = clock_mono_ms() + (b->session ? b->session->timeout_ms : 0);
    status st = OK;

    while (b->count > 0) {
        TRY(send_once(b));
        if (b->count == 0)
            break;
        if (clock_mono_ms() >= deadline)
            TRY(FAIL(ERR_UNAVAILABLE, "the broker can't reach Redis; start it, then send the jobs "
                                      "again"));
        TRY(session_pause(b->session, RETRY_MS));
    }
    b->bytes = 0;
out:
    return st;
}

status batch_add(struct batch *b, const struct msg_submit_item *item, int64_t row)
{
    size_t bytes = codec_spec_bytes(&item->spec);
    status st = OK;

    if (!b->items) {
        b->items = calloc(LIMIT_JOBS_PER_MSG, sizeof(*b->items));
        if (!b->items)
            TRY(FAIL(ERR_NOMEM, "no memory for %d jobs", LIMIT_JOBS_PER_MSG));
    }
    if (b->count == LIMIT_JOBS_PER_MSG ||
        (b->count > 0 && b->bytes + bytes > LIMIT_MSG_BYTES - CODEC_HEADER_BYTES))
        TRY(batch_send(b));
    b->items[b->count] = *item;
    b->rows[b->count++] = row;
    b->bytes += bytes;
out:
    return st;
}

void batch_free(struct batch *b)
{
    free(b->items);
    memset(b, 0, sizeof(*b));
}
