/* DESIGN: a client is what `submit` and `wait` are: it submits its jobs, asks about them until all
 * have ended, cancels some, and submits again what nobody knows. A client that is killed comes back
 * and does it all again: ids make that harmless. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/job.h"
#include "tests/sim/sim_priv.h"

#define STACK_BYTES ((size_t)256 << 10)
#define SUBMIT_MAX 4 /* jobs in one message */

/* Give the world its turn until something comes, or until then. */
void sim_client_sleep(int64_t until_ms)
{
    struct sim_client *c = &sim_world.clients[sim_world.current_client];

    c->wake_at_ms = until_ms;
    swapcontext(&c->context, &sim_world.main_context);
}

/* --- what a client does --- */

static void take_submitted(const struct msg_job_verdict *v)
{
    struct sim_job *job = &sim_world.jobs[sim_find_job(v->job)];

    if (job->parent >= 0 && v->verdict == VERDICT_REFUSED) {
        /* Its parent is gone by a failover, and comes again; or has failed, and so will it. */
        job->has_ended = v->code == ERR_CONFLICT;
        job->ended = job->has_ended ? JOB_CANCELLED : JOB_ILLEGAL;
        return;
    }

    if (v->verdict == VERDICT_OK || v->verdict == VERDICT_DUPLICATE)
        job->is_acked = true;
    else if (v->verdict == VERDICT_CONFLICT)
        sim_violate("job %s: submitting it again is called a conflict", v->job);
    else if (v->code != ERR_UNAVAILABLE && v->code != ERR_FULL)
        sim_violate("job %s: refused with \"%s\"", v->job, v->sentence);
}

static bool wants_submit(const struct sim_job *job, int client)
{
    return job->client == client && !job->is_acked && !job->has_ended &&
           (job->parent < 0 || sim_world.jobs[job->parent].is_acked) &&
           sim_world.now_ms >= job->submit_at_ms;
}

static void submit(struct session *s, int client)
{
    struct msg_submit_item *items = calloc(SUBMIT_MAX, sizeof(*items));
    struct msg m = { .type = MSG_SUBMIT }, answer;
    size_t count = 0;

    CHECK(items);
    for (int j = 0; j < JOBS && count < SUBMIT_MAX; j++) {
        if (!wants_submit(&sim_world.jobs[j], client))
            continue;
        memcpy(items[count].job, sim_world.jobs[j].id, JOB_ID_BYTES);
        items[count++].spec = sim_world.jobs[j].spec;
    }
    m.submit = (struct msg_submit){ items, count };
    if (count > 0 && session_call(s, &m, &answer) == OK) {
        for (size_t i = 0; i < answer.submitted.item_count; i++)
            take_submitted(&answer.submitted.items[i]);
    }
    free(items);
}

static void cancel(struct session *s, int client)
{
    char ids[1][JOB_ID_BYTES];
    struct msg m = { .type = MSG_CANCEL, .cancel = { (const char(*)[JOB_ID_BYTES])ids, 1 } };
    struct msg answer;

    for (int j = 0; j < JOBS; j++) {
        struct sim_job *job = &sim_world.jobs[j];

        if (job->client != client || !job->cancel_at_ms || job->is_cancel_acked || job->has_ended ||
            !job->is_acked || sim_world.now_ms < job->cancel_at_ms)
            continue;
        memcpy(ids[0], job->id, JOB_ID_BYTES);
        if (session_call(s, &m, &answer) != OK || answer.cancelled.item_count != 1)
            return;
        if (answer.cancelled.items[0].verdict == VERDICT_OK ||
            answer.cancelled.items[0].verdict == VERDICT_DUPLICATE)
            job->is_cancel_acked = true;
        return;
    }
}

static void look(struct session *s, int client)
{
    char ids[JOBS][JOB_ID_BYTES];
    struct msg m = { .type = MSG_STATUS, .status = { (const char(*)[JOB_ID_BYTES])ids, 0 } };
    struct msg answer;

    for (int j = 0; j < JOBS; j++) {
        if (sim_world.jobs[j].client == client && sim_world.jobs[j].is_acked)
            memcpy(ids[m.status.id_count++], sim_world.jobs[j].id, JOB_ID_BYTES);
    }
    if (m.status.id_count == 0 || session_call(s, &m, &answer) != OK)
        return;
    for (size_t i = 0; i < answer.statuses.job_count; i++)
        sim_check_shown(sim_find_job(answer.statuses.jobs[i].job), &answer.statuses.jobs[i]);
}

static bool is_through(int client)
{
    for (int j = 0; j < JOBS; j++) {
        if (sim_world.jobs[j].client == client && !sim_world.jobs[j].has_ended)
            return false;
    }
    return sim_world.is_calm; /* until then a failover may take an end back */
}

static void client_main(void)
{
    int me = sim_world.current_client;
    struct sim_client *c = &sim_world.clients[me];
    struct config_list endpoints = { .count = BROKERS };

    for (int i = 0; i < BROKERS; i++)
        snprintf(endpoints.item[i], sizeof(endpoints.item[i]), "tcp://127.0.0.1:%d",
                 CLIENT_PORT + (i + me) % BROKERS);
    CHECK(session_open(&c->session, &endpoints, 4000) == OK);
    c->has_session = true;
    while (!is_through(me)) {
        submit(&c->session, me);
        cancel(&c->session, me);
        look(&c->session, me);
        CHECK(session_pause(&c->session, sim_between(100, 900)) == OK);
    }
    c->is_finished = true;
    for (;;)
        sim_client_sleep(sim_world.now_ms + 3600000);
}

/* --- its life --- */

void sim_client_wake(int c)
{
    struct sim_client *client = &sim_world.clients[c];

    CHECK(sim_world.current_client < 0);
    sim_world.current_client = c;
    swapcontext(&sim_world.main_context, &client->context);
    sim_world.current_client = -1;
    client->wake_number++;
    if (!client->is_finished)
        sim_at(client->wake_at_ms,
               (struct event){ .kind = EVENT_CLIENT_WAKE, .who = c, .life = client->wake_number });
}

void sim_client_start(int c)
{
    struct sim_client *client = &sim_world.clients[c];

    client->is_up = true;
    client->stack = malloc(STACK_BYTES);
    CHECK(client->stack && getcontext(&client->context) == 0);
    client->context.uc_stack.ss_sp = client->stack;
    client->context.uc_stack.ss_size = STACK_BYTES;
    client->context.uc_link = NULL;
    makecontext(&client->context, client_main, 0);
    sim_client_wake(c);
}

void sim_client_crash(int c)
{
    struct sim_client *client = &sim_world.clients[c];

    if (!client->is_up)
        return;
    client->is_up = false;
    if (client->has_session)
        session_close(&client->session);
    client->has_session = false;
    free(client->stack);
    client->stack = NULL;
    client->wake_number++;
    if (sim_world.is_calm)
        return;
    sim_fault(SIM_CLIENT_CRASH);
    sim_at(sim_world.now_ms + sim_between(10, 2000),
           (struct event){ .kind = EVENT_CLIENT_START, .who = c });
}
