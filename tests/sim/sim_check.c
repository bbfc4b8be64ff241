/* DESIGN: the checker sits at Redis' door. It sees each call that was carried out and its answer,
 * whoever may have lost it, and follows every job by the rules:
 *
 *   only the holder of a lease changes a leased job, and only a waiting job is leased
 *   an attempt has a number of its own; a retry waits; a lease does not end early
 *   what has ended stays as it is; what is stored does not vanish
 *   the result in Redis, the manifest in the object store and what clients are shown are the same
 *   every index and count agrees with the jobs (audit); no job has more tries than it may have
 *
 * What a sweep does is not in its answer: after one, all jobs are looked at. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/job.h"
#include "tests/sim/sim_priv.h"

/* Indexes into what `status` answers for one job: FIELDS of common/store.lua. */
enum { FIELD_STATE = 0, FIELD_ATTEMPT = 1, FIELD_TRIES = 2, FIELD_ATTEMPTS = 3, FIELD_VIDEO = 15 };

#define HOLD_MS_MIN (RETRY_BASE_MS / 2) /* a retry waits at least so long */

void sim_result_url(char *dst, size_t room, const struct lease *lease)
{
    snprintf(dst, room, "sim://%s/%lld-%016llx", lease->job, (long long)lease->attempt,
             (unsigned long long)lease->nonce);
}

static const char *text_at(const redisReply *r, size_t i)
{
    return r->type == REDIS_REPLY_ARRAY && i < r->elements && r->element[i]->str
               ? r->element[i]->str
               : "";
}

static long long int_at(const redisReply *r, size_t i)
{
    if (r->type != REDIS_REPLY_ARRAY || i >= r->elements)
        return 0;
    return r->element[i]->type == REDIS_REPLY_INTEGER ? r->element[i]->integer
                                                      : atoll(text_at(r, i));
}

static bool is_word(const redisReply *r, const char *word)
{
    return strcmp(text_at(r, 0), word) == 0;
}

static struct sim_model *model_of(const char *id)
{
    int j = sim_find_job(id);

    if (j < 0)
        sim_violate("Redis is asked about \"%s\", which is no job of ours", id);
    return j < 0 ? NULL : &sim_world.models[j];
}

static bool is_leased(const struct sim_model *m)
{
    return m->state == JOB_LEASED || m->state == JOB_RUNNING;
}

/* --- one call --- */

/* argv: id, attempt, nonce. */
static struct sim_model *check_holder(const char *what, const char **argv)
{
    struct sim_model *m = model_of(argv[0]);
    bool is_same =
        m && atoll(argv[1]) == m->lease.attempt && strtoull(argv[2], NULL, 16) == m->lease.nonce;

    if (!m)
        return NULL;
    if (!is_leased(m))
        sim_violate("job %s: a %s of attempt %s succeeds although it is %s", argv[0], what, argv[1],
                    job_state_name(m->state));
    else if (!is_same)
        sim_violate("job %s: a %s by attempt %s lease %s succeeds, but attempt %lld lease %016llx "
                    "holds it",
                    argv[0], what, argv[1], argv[2], (long long)m->lease.attempt,
                    (unsigned long long)m->lease.nonce);
    return m;
}

static void on_submit(const char **argv, const redisReply *r)
{
    struct sim_model *m = model_of(argv[0]);

    if (!m || !is_word(r, "ok"))
        return;
    if (m->exists)
        sim_violate("job %s: submitted twice, accepted twice", argv[0]);
    *m = (struct sim_model){ .exists = true };
    m->state = job_state_from_name(text_at(r, 1), strlen(text_at(r, 1)));
    m->stored_ms = sim_redis_now_ms();
    m->not_before_ms = m->stored_ms + sim_world.jobs[sim_find_job(argv[0])].spec.delay_s * 1000;
}

/* Its tenant may have one more lease, and what it waits for has ended. */
static void check_turn(int j)
{
    const struct sim_job *job = &sim_world.jobs[j];
    int held = 0;

    for (int i = 0; i < JOBS; i++)
        held += is_leased(&sim_world.models[i]) && i % 3 == j % 3;
    if (sim_world.is_capped && j % 3 == 1 && held >= CAP)
        sim_violate("job %s: leased although its tenant has %d leases, its cap", job->id, held);
    if (job->parent >= 0 && !job_is_final(sim_world.models[job->parent].state))
        sim_violate("job %s: leased before %s has ended", job->id, job->spec.after);
}

static void on_claim(const char **argv, const redisReply *r)
{
    const char *id = text_at(r, 0);
    struct sim_model *m;

    if (r->elements == 0 || !(m = model_of(id)))
        return;
    if (m->state != JOB_QUEUED)
        sim_violate("job %s: leased while it is %s", id, job_state_name(m->state));
    if (int_at(r, 1) != m->attempt + 1)
        sim_violate("job %s: after attempt %lld comes attempt %lld", id, (long long)m->attempt,
                    int_at(r, 1));
    check_turn(sim_find_job(id));
    m->state = JOB_LEASED;
    m->attempt = int_at(r, 1);
    snprintf(m->lease.job, sizeof(m->lease.job), "%s", id);
    m->lease.attempt = m->attempt;
    m->lease.nonce = strtoull(argv[1], NULL, 16);
    m->deadline_ms = sim_redis_now_ms() + atoll(argv[2]);
    m->started_ms = 0;
}

static void on_renew(const char **argv, const redisReply *r)
{
    struct sim_model *m;

    if (!is_word(r, "ok") || !(m = check_holder("renewal", argv + 1)))
        return;
    m->deadline_ms = sim_redis_now_ms() + atoll(argv[0]);
    if (m->state == JOB_LEASED && strcmp(argv[4], "1") == 0) {
        m->state = JOB_RUNNING;
        m->started_ms = sim_redis_now_ms();
    }
}

static void on_complete(const char **argv, const redisReply *r)
{
    struct sim_model *m;

    if (is_word(r, "ok") && (m = check_holder("completion", argv)))
        m->state = JOB_DONE;
}

static void delay(struct sim_model *m, enum job_state state)
{
    m->state = state;
    if (state == JOB_DELAYED)
        m->not_before_ms = sim_redis_now_ms() + HOLD_MS_MIN;
}

static void on_fail(const char **argv, const redisReply *r)
{
    struct sim_model *m;

    if (is_word(r, "ok") && (m = check_holder("failure", argv)))
        delay(m, job_state_from_name(text_at(r, 1), strlen(text_at(r, 1))));
}

static void on_release(const char **argv, const redisReply *r)
{
    struct sim_model *m;

    if (is_word(r, "ok") && (m = check_holder("release", argv)))
        m->state = JOB_QUEUED;
}

static void on_cancel(const char **argv, const redisReply *r)
{
    struct sim_model *m = model_of(argv[0]);

    if (!m || !is_word(r, "ok"))
        return;
    if (!m->exists || job_is_final(m->state))
        sim_violate("job %s: cancelled after it was %s", argv[0], job_state_name(m->state));
    m->state = JOB_CANCELLED;
}

/* --- all jobs --- */

/* A sweep moves only leases that ran out and delays that are over. */
static void check_swept(int j, struct sim_model *m, enum job_state now)
{
    const char *id = sim_world.jobs[j].id;
    int64_t now_ms = sim_redis_now_ms();
    int64_t timeout_ms = sim_world.jobs[j].spec.timeout_s * 1000;
    bool is_late =
        now_ms >= m->deadline_ms || (m->started_ms && now_ms >= m->started_ms + timeout_ms);
    bool is_expiry = is_leased(m) && (now == JOB_QUEUED || now == JOB_DELAYED || now == JOB_DEAD);
    bool is_due = m->state == JOB_DELAYED && now == JOB_QUEUED;
    bool is_told = m->state == JOB_BLOCKED && (now == JOB_QUEUED || now == JOB_CANCELLED);
    int64_t deadline_ms = sim_world.jobs[j].spec.deadline_s * 1000;

    if (now == m->state)
        return;
    if (now == JOB_DEAD && deadline_ms && now_ms >= m->stored_ms + deadline_ms) {
        m->state = now;
        return;
    }
    if (!is_expiry && !is_due && !is_told)
        sim_violate("job %s: a sweep moves it from %s to %s", id, job_state_name(m->state),
                    job_state_name(now));
    if (is_expiry && !is_late)
        sim_violate("job %s: its lease ends %lld ms too early", id,
                    (long long)(m->deadline_ms - now_ms));
    if (is_due && now_ms < m->not_before_ms)
        sim_violate("job %s: is ready %lld ms too early", id,
                    (long long)(m->not_before_ms - now_ms));
    if (is_expiry)
        delay(m, now);
    m->state = now;
}

/* The result in Redis is the one that the manifest names, and its bytes are what it says. */
static void check_result(int j, const char *video)
{
    const struct sim_job *job = &sim_world.jobs[j];
    char url[96];

    sim_result_url(url, sizeof(url), &job->manifest);
    if (!job->has_manifest || strcmp(video, url) != 0)
        sim_violate("job %s: Redis has the result %s, the manifest %s", job->id, video,
                    job->has_manifest ? url : "is not there");
    for (size_t i = 0; i < job->object_count; i++) {
        bool is_it = job->objects[i].attempt == job->manifest.attempt &&
                     (job->objects[i].nonce == job->manifest.nonce || !job->objects[i].nonce);

        if (is_it && job->objects[i].content != job->digest)
            sim_violate("job %s: the video is not the one that the manifest describes", job->id);
    }
}

static void check_job(int j, const redisReply *fields, bool is_sweep)
{
    struct sim_model *m = &sim_world.models[j];
    const char *id = sim_world.jobs[j].id, *name = text_at(fields, FIELD_STATE);
    enum job_state now = job_state_from_name(name, strlen(name));

    if (m->exists && now == JOB_ILLEGAL) {
        sim_violate("job %s was %s and is gone", id, job_state_name(m->state));
        return;
    }
    if (is_sweep)
        check_swept(j, m, now);
    else if (now != m->state)
        sim_violate("job %s is %s, but by what Redis has done it must be %s", id, name,
                    job_state_name(m->state));
    if (int_at(fields, FIELD_TRIES) > int_at(fields, FIELD_ATTEMPTS))
        sim_violate("job %s has had %lld tries of %lld", id, int_at(fields, FIELD_TRIES),
                    int_at(fields, FIELD_ATTEMPTS));
    if (now == JOB_DONE)
        check_result(j, text_at(fields, FIELD_VIDEO));
}

static void look_at_all(bool is_sweep)
{
    const char *ids[JOBS];
    redisReply *r;

    for (int j = 0; j < JOBS; j++)
        ids[j] = sim_world.jobs[j].id;
    r = sim_redis_call("status", ids, JOBS);
    for (int j = 0; r && j < JOBS && !sim_is_over(); j++)
        check_job(j, r->element[2 * j + 1], is_sweep);
    freeReplyObject(r);
}

/* How a job of which more is known must end. */
static void check_end(const struct sim_job *job)
{
    if (!job_is_final(job->ended))
        sim_violate("job %s: has not ended", job->id);
    else if ((job->is_poison || job->is_hanging) && job->ended == JOB_DONE)
        sim_violate("job %s can't be computed, and is done", job->id);
    else if (job->ended == JOB_CANCELLED && !job->cancel_at_ms && job->parent < 0)
        sim_violate("job %s: nobody has cancelled it", job->id);
}

void sim_check_rules(bool is_end)
{
    redisReply *r;

    look_at_all(false);
    r = sim_redis_call("quota", (const char *[]){ "t1", "0", "2", "0", "0", "0", "1" }, 7);
    sim_world.is_capped = r != NULL;
    freeReplyObject(r);
    r = sim_redis_call("audit", (const char *[]){ "0" }, 1);
    if (r && r->elements > 0)
        sim_violate("audit: %s (and %zu more)", text_at(r->element[0], 0), r->elements - 1);
    freeReplyObject(r);
    for (int j = 0; is_end && j < JOBS && !sim_is_over(); j++)
        check_end(&sim_world.jobs[j]);
}

/* --- what clients are told --- */

void sim_check_shown(int j, const struct job_status *s)
{
    struct sim_job *job = &sim_world.jobs[j];

    if (s->state == JOB_ILLEGAL) {
        if (sim_world.rollbacks == 0)
            sim_violate("job %s: was accepted, and is not known", job->id);
        job->is_acked = job->has_ended = false; /* submit it again */
        return;
    }
    if (job->has_ended && s->state != job->ended && sim_world.rollbacks == 0)
        sim_violate("job %s: was shown as %s, and now as %s", job->id, job_state_name(job->ended),
                    job_state_name(s->state));
    job->has_ended = job_is_final(s->state);
    job->ended = s->state;
    if (s->state != JOB_DONE)
        return;
    if (!job->shown[0])
        snprintf(job->shown, sizeof(job->shown), "%s", s->result.video);
    else if (strcmp(job->shown, s->result.video) != 0)
        sim_violate("job %s: the result %s was shown, and now %s", job->id, job->shown,
                    s->result.video);
}

/* --- the door --- */

/* Children that hear of their parents, and deadlines, are not in the numbers of a sweep. */
static bool may_move_silently(void)
{
    for (int j = 0; j < JOBS; j++) {
        const struct sim_model *m = &sim_world.models[j];
        bool is_late =
            sim_world.jobs[j].spec.deadline_s && !job_is_final(m->state) &&
            sim_redis_now_ms() >= m->stored_ms + sim_world.jobs[j].spec.deadline_s * 1000;

        if (m->exists && (m->state == JOB_BLOCKED || is_late))
            return true;
    }
    return false;
}

static void on_sweep(const char **argv, const redisReply *r)
{
    (void)argv;
    if (int_at(r, 0) > 0 || int_at(r, 1) > 0 || may_move_silently())
        look_at_all(true);
}

void sim_check_call(const char **argv, int argc, const struct redisReply *reply)
{
    static const struct {
        const char *name;
        int argc_min;
        void (*check)(const char **argv, const redisReply *r);
    } rules[] = {
        { "submit", 2, on_submit },     { "claim", 4, on_claim }, { "renew", 6, on_renew },
        { "complete", 4, on_complete }, { "fail", 4, on_fail },   { "release", 4, on_release },
        { "cancel", 2, on_cancel },     { "sweep", 1, on_sweep },
    };

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strcmp(argv[0], rules[i].name) != 0)
            continue;
        CHECK(argc >= rules[i].argc_min);
        rules[i].check(argv + 1, reply);
    }
}
