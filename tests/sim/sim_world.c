/* DESIGN: a heap of events in virtual time. An event hands something to a core, which makes it send
 * frames, call the store or set timers: more events. Nothing else moves the world, and every choice
 * comes from one generator, so that a seed is a replay. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/id.h"
#include "tests/sim/sim_priv.h"

#define FAULTS_UNTIL_MS 60000 /* then it is calm */
#define END_BY_MS 400000      /* and everything must have ended */
#define FAULT_EVERY_MS 150
#define LOOK_EVERY_MS 900
#define WALL_MS 1763800000000 /* Redis' clock at the beginning of a world */

struct world sim_world;

/* --- chance --- */

/* SplitMix64. */
uint64_t sim_random(void)
{
    uint64_t z = sim_world.random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t sim_between(int64_t low, int64_t high)
{
    return low + (int64_t)(sim_random() % (uint64_t)(high - low + 1));
}

bool sim_chance(double probability)
{
    double uniform = (double)(sim_random() >> 11) * 0x1p-53;
    bool is_hit = uniform < probability * sim_world.harshness;

    return is_hit && !sim_world.is_calm;
}

void sim_fault(enum sim_fault fault)
{
    sim_world.result->faults[fault]++;
}

bool sim_is_mutant(const char *name)
{
    return sim_world.mutant && strcmp(sim_world.mutant, name) == 0;
}

void sim_violate(const char *fmt, ...)
{
    char text[512];
    va_list args;

    if (sim_is_over())
        return; /* the first one counts */
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    snprintf(sim_world.result->violation, sizeof(sim_world.result->violation),
             "seed %llu, %lld ms: %s", (unsigned long long)sim_world.seed,
             (long long)sim_world.now_ms, text);
}

bool sim_is_over(void)
{
    return sim_world.result->violation[0] != '\0';
}

int sim_find_job(const char *id)
{
    for (int j = 0; j < JOBS; j++) {
        if (strcmp(sim_world.jobs[j].id, id) == 0)
            return j;
    }
    return -1;
}

/* --- the heap --- */

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void swap(struct event *a, struct event *b)
{
    struct event t = *a;

    *a = *b;
    *b = t;
}

void sim_at(int64_t at_ms, struct event event)
{
    struct world *w = &sim_world;
    size_t i = w->heap_count++;

    if (w->heap_count > w->heap_room) {
        w->heap_room = w->heap_room ? 2 * w->heap_room : 1024;
        w->heap = realloc(w->heap, w->heap_room * sizeof(*w->heap));
        CHECK(w->heap);
    }
    event.at_ms = at_ms > w->now_ms ? at_ms : w->now_ms;
    event.order = w->next_order++;
    w->heap[i] = event;
    for (; i > 0 && is_before(&w->heap[i], &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&w->heap[i], &w->heap[(i - 1) / 2]);
}

static struct event take_next(void)
{
    struct world *w = &sim_world;
    struct event first = w->heap[0];
    size_t i = 0;

    w->heap[0] = w->heap[--w->heap_count];
    for (;;) {
        size_t least = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < w->heap_count; child++) {
            if (is_before(&w->heap[child], &w->heap[least]))
                least = child;
        }
        if (least == i)
            return first;
        swap(&w->heap[i], &w->heap[least]);
        i = least;
    }
}

/* --- faults that come by themselves --- */

static bool has_living(bool (*is_up)(int i), int count)
{
    int living = 0;

    for (int i = 0; i < count; i++)
        living += is_up(i);
    return living > 1;
}

static bool is_broker_up(int b)
{
    return sim_world.brokers[b].is_up;
}

static void step_clock(void)
{
    sim_fault(SIM_CLOCK_STEP);
    sim_world.redis_ms += sim_chance(0.3) ? -sim_between(1, 1500) : sim_between(1, 20000);
    sim_redis_set_clock();
}

static void fail_node(void)
{
    struct world *w = &sim_world;
    int b = (int)sim_between(0, BROKERS - 1), k = (int)sim_between(0, WORKERS - 1);
    int c = (int)sim_between(0, CLIENTS - 1);

    switch (sim_between(0, 9)) {
    case 0:
        if (is_broker_up(b) && has_living(is_broker_up, BROKERS))
            sim_broker_crash(b);
        break;
    case 1:
        w->brokers[b].frozen_until_ms = w->now_ms + sim_between(50, 3 * LEASE_MS);
        sim_fault(SIM_BROKER_FREEZE);
        break;
    case 2:
    case 3:
        if (w->workers[k].is_up)
            sim_worker_crash(k);
        break;
    case 4:
    case 5:
    case 6:
        w->workers[k].frozen_until_ms = w->now_ms + sim_between(50, 3 * LEASE_MS);
        sim_fault(SIM_WORKER_FREEZE);
        break;
    case 7:
        if (w->clients[c].is_up && !w->clients[c].is_finished)
            sim_client_crash(c);
        break;
    default:
        break;
    }
}

static void cut_connection(void)
{
    int n = (int)sim_between(0, CONNS - 1);

    if (sim_world.conns[n].is_open)
        sim_cut(n);
}

static void on_fault(void)
{
    struct world *w = &sim_world;

    if (w->now_ms >= FAULTS_UNTIL_MS) {
        w->is_calm = true;
        return;
    }
    for (int i = 0; i < 8; i++)
        cut_connection();
    if (sim_chance(0.35))
        fail_node();
    if (sim_chance(0.03))
        step_clock();
    if (sim_chance(0.01)) {
        w->redis_away_until_ms = w->now_ms + sim_between(100, 2 * LEASE_MS);
        sim_fault(SIM_REDIS_AWAY);
    }
    if (sim_chance(0.03))
        sim_redis_snapshot();
    if (sim_chance(0.008) && sim_redis_rollback())
        sim_fault(SIM_ROLLBACK);
    sim_at(w->now_ms + FAULT_EVERY_MS, (struct event){ .kind = EVENT_FAULT });
}

/* --- events --- */

/* Frozen nodes see everything later. */
static int64_t frozen_until(const struct event *e)
{
    const struct world *w = &sim_world;

    switch (e->kind) {
    case EVENT_UP:
        return w->brokers[e->place & PLACE_BROKER].frozen_until_ms;
    case EVENT_BROKER_TICK:
    case EVENT_BROKER_STORE:
        return w->brokers[e->who].frozen_until_ms;
    case EVENT_DOWN:
        return w->conns[e->who].is_client ? 0 : w->workers[w->conns[e->who].owner].frozen_until_ms;
    case EVENT_WORKER_TICK:
    case EVENT_WORKER_TASK:
        return w->workers[e->who].frozen_until_ms;
    case EVENT_BROKER_START:
    case EVENT_WORKER_START:
    case EVENT_CLIENT_WAKE:
    case EVENT_CLIENT_START:
    case EVENT_FAULT:
    case EVENT_LOOK:
        break;
    }
    return 0;
}

static void deliver_down(const struct event *e)
{
    const struct sim_conn *c = &sim_world.conns[e->who];

    if (!c->is_open || c->id != e->life)
        return;
    if (c->is_client)
        sim_bus_deliver(e->who, e->bytes, e->len);
    else if (sim_world.workers[c->owner].is_up)
        sim_worker_frame(c->owner, c->broker, e->bytes, e->len);
}

static void on_broker_event(const struct event *e)
{
    if (e->life != (uint64_t)sim_world.brokers[e->who].life)
        return;
    if (e->kind == EVENT_BROKER_START)
        sim_broker_start(e->who);
    else if (e->kind == EVENT_BROKER_STORE)
        sim_broker_store(e->who);
    else if (e->at_ms == sim_world.brokers[e->who].tick_at_ms || e->place)
        sim_broker_tick(e->who);
}

static void happen(const struct event *e)
{
    struct world *w = &sim_world;

    switch (e->kind) {
    case EVENT_UP:
        sim_broker_frame(e);
        break;
    case EVENT_DOWN:
        deliver_down(e);
        break;
    case EVENT_BROKER_TICK:
    case EVENT_BROKER_STORE:
    case EVENT_BROKER_START:
        on_broker_event(e);
        break;
    case EVENT_WORKER_TICK:
        if (e->life == (uint64_t)w->workers[e->who].life)
            sim_worker_tick(e->who);
        break;
    case EVENT_WORKER_TASK:
        sim_worker_task(e);
        break;
    case EVENT_WORKER_START:
        sim_worker_start(e->who);
        break;
    case EVENT_CLIENT_WAKE:
        if (e->life == w->clients[e->who].wake_number && w->clients[e->who].is_up)
            sim_client_wake(e->who);
        break;
    case EVENT_CLIENT_START:
        sim_client_start(e->who);
        break;
    case EVENT_FAULT:
        on_fault();
        break;
    case EVENT_LOOK:
        sim_check_rules(false);
        sim_at(w->now_ms + LOOK_EVERY_MS, (struct event){ .kind = EVENT_LOOK });
        break;
    }
}

static bool all_finished(void)
{
    for (int c = 0; c < CLIENTS; c++) {
        if (!sim_world.clients[c].is_finished)
            return false;
    }
    return sim_world.is_calm;
}

static void play(void)
{
    struct world *w = &sim_world;

    while (w->heap_count > 0 && !sim_is_over() && !all_finished()) {
        struct event e = take_next();
        int64_t until_ms;

        w->now_ms = e.at_ms;
        if (w->now_ms > END_BY_MS) {
            sim_violate("after all faults have stopped, the jobs do not come to an end");
            free(e.bytes);
            break;
        }
        until_ms = w->is_calm ? 0 : frozen_until(&e);
        if (until_ms > w->now_ms) {
            e.place += e.kind == EVENT_BROKER_TICK; /* it is still the newest */
            sim_at(until_ms, e);
            continue;
        }
        w->result->events++;
        sim_redis_set_clock();
        happen(&e);
        free(e.bytes);
    }
}

/* --- a world --- */

static void make_job(int j)
{
    struct sim_job *job = &sim_world.jobs[j];
    uint8_t bytes[9];
    uint64_t r = sim_random();

    for (int i = 0; i < 9; i++)
        bytes[i] = (uint8_t)(r >> (i % 8 * 8));
    bytes[8] = (uint8_t)j;
    id_make(job->id, WALL_MS, bytes);
    spec_init(&job->spec);
    snprintf(job->spec.image, sizeof(job->spec.image), "file:///%d.jpg", j);
    snprintf(job->spec.model, sizeof(job->spec.model), "%s", sim_between(0, 2) ? "a" : "b");
    job->spec.priority = sim_between(0, 2);
    job->spec.timeout_s = 15;
    job->spec.attempts = sim_between(2, 6);
    job->client = j % CLIENTS;
    job->submit_at_ms = sim_between(0, FAULTS_UNTIL_MS * 2 / 3);
    job->is_poison = j % 16 == 3;
    job->is_hanging = j % 16 == 5;
    snprintf(job->spec.tenant, sizeof(job->spec.tenant), "t%d", j % 3);
    if (j % 4 == 0)
        snprintf(job->spec.batch, sizeof(job->spec.batch), "night");
    job->spec.delay_s = j % 9 == 2 ? 2 : 0;
    job->spec.deadline_s = j % 16 == 7 ? 8 : 0;
    job->parent = j > 6 && j % 7 == 0 ? j - 4 : -1;
    if (job->parent >= 0) {
        snprintf(job->spec.after, sizeof(job->spec.after), "%s", sim_world.jobs[j - 4].id);
        job->spec.after_failed = j % 2 ? SPEC_RUN_ANYWAY : SPEC_CANCEL_TOO;
    }
    if (sim_between(0, 4) == 0)
        job->cancel_at_ms = job->submit_at_ms + sim_between(0, 20000);
}

static void begin(uint64_t seed, const char *mutant, struct sim_result *result)
{
    struct world *w = &sim_world;
    struct event *heap = w->heap;
    size_t room = w->heap_room;

    memset(w, 0, sizeof(*w));
    w->heap = heap;
    w->heap_room = room;
    w->seed = seed;
    w->random = seed * 0x2545f4914f6cdd1du + 1;
    w->mutant = mutant;
    w->harshness = (const double[]){ 0.3, 1, 2 }[seed % 3];
    w->result = result;
    w->current_client = -1;
    w->redis_ms = WALL_MS;
    sim_redis_set_clock();
    sim_redis_clear();
    for (int j = 0; j < JOBS; j++)
        make_job(j);
    for (int b = 0; b < BROKERS; b++) {
        char name[24];

        snprintf(name, sizeof(name), "broker%d", b);
        sim_link_open(&w->brokers[b].link, name);
        sim_broker_start(b);
    }
    for (int k = 0; k < WORKERS; k++)
        sim_worker_start(k);
    for (int c = 0; c < CLIENTS; c++)
        sim_client_start(c);
    sim_at(FAULT_EVERY_MS, (struct event){ .kind = EVENT_FAULT });
    sim_at(LOOK_EVERY_MS, (struct event){ .kind = EVENT_LOOK });
}

static void end(void)
{
    struct world *w = &sim_world;

    w->is_calm = true;
    for (int c = 0; c < CLIENTS; c++)
        sim_client_crash(c);
    for (int k = 0; k < WORKERS; k++)
        sim_worker_crash(k);
    for (int b = 0; b < BROKERS; b++) {
        sim_broker_crash(b);
        outbox_free(&w->brokers[b].out);
        sim_link_close(&w->brokers[b].link);
    }
    for (size_t i = 0; i < w->heap_count; i++)
        free(w->heap[i].bytes);
    w->heap_count = 0;
}

static void count_ends(struct sim_result *r)
{
    for (int j = 0; j < JOBS; j++) {
        const struct sim_job *job = &sim_world.jobs[j];

        r->done += job->ended == JOB_DONE;
        r->dead += job->ended == JOB_DEAD;
        r->cancelled += job->ended == JOB_CANCELLED;
        r->reruns += job->computed > 1 ? job->computed - 1 : 0;
        r->redispatched += sim_world.models[j].attempt > 1 ? sim_world.models[j].attempt - 1 : 0;
    }
    r->worlds++;
    r->jobs += JOBS;
}

bool sim_run(uint64_t seed, const char *mutant, struct sim_result *result)
{
    begin(seed, mutant, result);
    play();
    if (!sim_is_over())
        sim_check_rules(true);
    count_ends(result);
    end();
    return !sim_is_over();
}

/* --- results --- */

static const char *const fault_names[SIM_FAULT_COUNT] = {
    [SIM_FRAME_LOST] = "frames lost",
    [SIM_FRAME_TWICE] = "frames repeated late",
    [SIM_FRAME_LATE] = "frames held up",
    [SIM_LINK_CUT] = "connections cut",
    [SIM_CALL_LOST] = "calls to Redis lost",
    [SIM_REPLY_LOST] = "answers of Redis lost",
    [SIM_REDIS_AWAY] = "Redis away",
    [SIM_ROLLBACK] = "failovers to an older state",
    [SIM_CLOCK_STEP] = "clock steps",
    [SIM_BROKER_CRASH] = "brokers killed",
    [SIM_BROKER_FREEZE] = "brokers frozen",
    [SIM_WORKER_CRASH] = "workers killed",
    [SIM_WORKER_FREEZE] = "workers frozen",
    [SIM_CLIENT_CRASH] = "clients killed",
    [SIM_BLOB_LOST] = "uploads or their answers lost",
};

const char *sim_fault_name(enum sim_fault fault)
{
    return fault_names[fault];
}

int64_t sim_faults(const struct sim_result *result)
{
    int64_t sum = 0;

    for (int f = 0; f < SIM_FAULT_COUNT; f++)
        sum += result->faults[f];
    return sum;
}

void sim_add(struct sim_result *a, const struct sim_result *b)
{
    a->worlds += b->worlds;
    a->jobs += b->jobs;
    a->calls += b->calls;
    a->events += b->events;
    for (int f = 0; f < SIM_FAULT_COUNT; f++)
        a->faults[f] += b->faults[f];
    a->done += b->done;
    a->dead += b->dead;
    a->cancelled += b->cancelled;
    a->reruns += b->reruns;
    a->redispatched += b->redispatched;
    if (!a->violation[0])
        memcpy(a->violation, b->violation, sizeof(a->violation));
}

void sim_print(const struct sim_result *r, double seconds)
{
    printf("%lld worlds, %lld jobs (%lld done, %lld dead, %lld cancelled), %lld events, "
           "%lld calls of Redis, %lld faults in %.1f s\n",
           (long long)r->worlds, (long long)r->jobs, (long long)r->done, (long long)r->dead,
           (long long)r->cancelled, (long long)r->events, (long long)r->calls,
           (long long)sim_faults(r), seconds);
    for (int f = 0; f < SIM_FAULT_COUNT; f++)
        printf("  %10lld %s\n", (long long)r->faults[f], fault_names[f]);
    printf("%s\n", r->violation[0] ? r->violation
                                   : "0 lost, 0 changed or double results, every audit clean");
}
