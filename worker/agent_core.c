/* DESIGN: a worker is known to every broker, but takes jobs from one, its home: the one that ranks
 * highest for it (a hash of both names) among those that answer. Leases belong to the worker, so
 * everything about a lease goes to whichever broker is home at the moment.
 *
 *   link    NEW --HELLO--> GREETING --WELCOME--> UP --silence--> NEW (on a new connection)
 *
 *   lease   JOB -> HELD --done, fail, release--> OWED --verdict--> gone
 *                    '--lost, cancelled, timeout--> STOPPING --the work has stopped--> gone
 *
 * A successful send means nothing: what is owed is sent again, with growing pauses, until a broker
 * has given a verdict. Every HELD and OWED lease is renewed by each heartbeat.
 *
 * Credit: without prefetch one lease at a time. With it, one more lease that has not started is
 * asked for when every started one is estimated to end within the prefetch window: then its input
 * is there when the device becomes free, and it was not kept from other workers for long. */
#include "worker/agent_core.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/bus.h"
#include "proto/codec.h"

#define HEARTBEAT_DEFAULT_MS 1000 /* until a WELCOME says */
#define HELLO_AGAIN_MS 1000       /* an unanswered HELLO is repeated */
#define HELLO_REFUSED_MS 5000     /* a refused one later */
#define LEASE_MARGIN 8            /* a lease is taken to end an eighth before its time */
#define SILENT_HEARTBEATS 3       /* then the link is given up, ... */
#define SILENT_MIN_MS 500         /* ... but not before this */
#define OWED_FIRST_MS 300         /* pauses between repetitions of what is owed */
#define OWED_MAX_MS 5000
#define STATE_AGAIN_MS 200 /* a new stage is told at once, but not more often */
#define PREFETCH_WINDOW_MS 5000
#define MOVE_HOME_MS 10000       /* a better broker must be up for so long */
#define RELEASE_PATIENCE_MS 5000 /* draining: an unanswered RELEASE is left to the lease's end */
#define STOP_PATIENCE_MS 1500    /* stopping: the same for everything */
#define HELD_MAX 3               /* one computing, one being encoded, one waiting */
#define LEASES_MAX MSG_LEASES_MAX

enum link_state { LINK_NEW = 0, LINK_GREETING, LINK_UP };

/* The connection to one broker. */
struct link {
    char endpoint[256];
    uint64_t rank; /* of this broker for this worker */
    enum link_state state;
    int64_t due_ms;                 /* NEW, GREETING: when to say HELLO (again) */
    uint64_t hello_seq;             /* of the last HELLO */
    int64_t heard_ms;               /* last frame, or begin of the wait for one */
    int64_t up_since_ms;            /* UP */
    int64_t lease_ms, heartbeat_ms; /* from WELCOME */
    int64_t state_sent_ms;          /* last STATE */
    uint64_t state_seq;             /* of it */
    int64_t state_due_ms;           /* next STATE */
    int64_t granted_total;          /* since HELLO */
    int64_t received_total;         /* JOBs since WELCOME */
    bool is_refused;                /* said so in the log */
};

enum held_phase { HELD_NONE = 0, HELD, OWED, STOPPING };

/* One lease. */
struct held {
    enum held_phase phase;
    struct lease lease;
    bool is_started;
    bool is_kept;      /* HELD: computed and safe on disk; it only waits to be stored */
    uint64_t told_seq; /* of the last STATE that named it */
    int64_t started_ms;
    char stage[MSG_STAGE_MAX + 1];
    double progress;
    enum msg_type owed;      /* OWED: MSG_DONE, MSG_FAIL or MSG_RELEASE */
    char *texts[3];          /* owned: URLs of DONE, or the sentence of FAIL */
    status code;             /* FAIL */
    uint64_t seq;            /* of the last time it was sent */
    int64_t due_ms, wait_ms; /* next time, and the pause after it */
    int64_t owed_since_ms;
};

struct agent_core {
    struct agent_config config; /* its strings point into the texts below */
    char texts[MSG_MODELS_MAX + 3][192];
    struct agent_port port;
    char id[JOB_ID_BYTES];
    struct link links[AGENT_BROKERS_MAX];
    size_t link_count;
    size_t home; /* link that gets credit, STATE with leases, and what is owed */
    struct held held[LEASES_MAX];
    uint64_t seq;
    bool is_started; /* the first tick was seen */
    bool is_paused;  /* asks for no jobs */
    bool is_draining;
    int64_t stop_at_ms; /* 0: not stopping; then the latest end */
    struct arena arena; /* of the frame being read */
    struct buf frame;   /* being sent */
};

#define LEASE_FORMAT "job=%s attempt=%" PRId64 " lease=%016" PRIx64
#define LEASE_ARGS(l) (l)->job, (l)->attempt, (l)->nonce

/* --- making one --- */

/* FNV-1a of both names: the same ranking in every life of this worker. */
static uint64_t rank_of(const char *id, const char *endpoint)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 0x100000001b3u;
    for (; *endpoint; endpoint++)
        hash = (hash ^ (unsigned char)*endpoint) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

/* A copy that may be cut, as it is only for people. */
static const char *keep_text(struct agent_core *c, size_t slot, const char *text)
{
    snprintf(c->texts[slot], sizeof(c->texts[slot]), "%s", text);
    return c->texts[slot];
}

static status copy_config(struct agent_core *c, const struct agent_config *config)
{
    status st = OK;

    c->config = *config;
    if (config->broker_count < 1 || config->broker_count > AGENT_BROKERS_MAX)
        TRY(FAIL(ERR_BADARG, "brokers: %zu endpoints, allowed are 1 to %d", config->broker_count,
                 AGENT_BROKERS_MAX));
    if (config->model_count < 1 || config->model_count > MSG_MODELS_MAX)
        TRY(FAIL(ERR_BADARG, "model_name: %zu names, allowed are 1 to %d", config->model_count,
                 MSG_MODELS_MAX));
    for (size_t i = 0; i < config->model_count; i++) {
        if (!config->models[i][0] || strlen(config->models[i]) >= SPEC_NAME_MAX)
            TRY(FAIL(ERR_BADARG, "model_name: \"%.80s\" must have 1 to %d bytes", config->models[i],
                     SPEC_NAME_MAX - 1));
        c->config.models[i] = keep_text(c, i, config->models[i]);
    }
    c->config.host = keep_text(c, MSG_MODELS_MAX, config->host);
    c->config.device = keep_text(c, MSG_MODELS_MAX + 1, config->device);
    c->config.version = keep_text(c, MSG_MODELS_MAX + 2, config->version);
    if (c->config.prefetch_window_ms == 0)
        c->config.prefetch_window_ms = PREFETCH_WINDOW_MS;
    for (size_t i = 0; i < config->broker_count; i++) {
        struct link *l = &c->links[c->link_count++];

        TRY(bus_check_endpoint(config->brokers[i]));
        if (strlen(config->brokers[i]) >= sizeof(l->endpoint))
            TRY(FAIL(ERR_BADARG, "brokers: \"%.60s...\" is too long", config->brokers[i]));
        memcpy(l->endpoint, config->brokers[i], strlen(config->brokers[i]) + 1);
        l->rank = rank_of(c->id, l->endpoint);
        l->heartbeat_ms = HEARTBEAT_DEFAULT_MS;
    }
out:
    return st;
}

status agent_core_open(struct agent_core **core, const struct agent_config *config,
                       const struct agent_port *port, const char id[JOB_ID_BYTES])
{
    struct agent_core *c = calloc(1, sizeof(*c));
    status st = OK;

    *core = NULL;
    if (!c)
        return FAIL(ERR_NOMEM, "no memory for the agent");
    CHECK(msg_is_id(id));
    memcpy(c->id, id, JOB_ID_BYTES);
    c->port = *port;
    TRY(copy_config(c, config));
    TRY(arena_open(&c->arena, "message", CODEC_ARENA_BYTES));
    *core = c;
    return OK;
out:
    agent_core_close(c);
    return st;
}

static void forget(struct held *h)
{
    for (size_t i = 0; i < 3; i++)
        free(h->texts[i]);
    memset(h, 0, sizeof(*h));
}

void agent_core_close(struct agent_core *core)
{
    if (!core)
        return;
    for (size_t i = 0; i < LEASES_MAX; i++)
        forget(&core->held[i]);
    arena_close(&core->arena);
    buf_free(&core->frame);
    free(core);
}

const char *agent_core_endpoint(const struct agent_core *core, size_t broker)
{
    CHECK(broker < core->link_count);
    return core->links[broker].endpoint;
}

/* --- sending --- */

static size_t number_of(const struct agent_core *c, const struct link *l)
{
    return (size_t)(l - c->links);
}

/* Errors: those of codec_encode; nothing was sent then. */
static status send_msg(struct agent_core *c, const struct link *l, struct msg *m)
{
    status st;

    m->seq = ++c->seq;
    buf_reset(&c->frame);
    st = codec_encode(m, &c->frame);
    if (st == OK)
        c->port.send(c->port.self, number_of(c, l), c->frame.data, c->frame.len);
    return st;
}

/* For messages that are always well-formed: a failure is logged, and repaired by repetition. */
static void send_sure(struct agent_core *c, const struct link *l, struct msg *m)
{
    if (send_msg(c, l, m) != OK)
        log_error("agent.send", "type=%s reason=\"%s\"", msg_type_name(m->type), status_message());
}

static void say_hello(struct agent_core *c, struct link *l, int64_t now_ms)
{
    struct msg m = { .type = MSG_HELLO };

    memcpy(m.hello.worker, c->id, JOB_ID_BYTES);
    m.hello.host = c->config.host;
    m.hello.device = c->config.device;
    m.hello.version = c->config.version;
    m.hello.memory_mib = c->config.memory_mib;
    m.hello.models = c->config.models;
    m.hello.model_count = c->config.model_count;
    send_sure(c, l, &m);
    l->state = LINK_GREETING;
    l->hello_seq = c->seq;
    l->due_ms = now_ms + HELLO_AGAIN_MS;
    l->granted_total = l->received_total = 0;
}

static bool is_up(const struct link *l)
{
    return l->state == LINK_UP;
}

bool agent_core_is_up(const struct agent_core *core)
{
    return is_up(&core->links[core->home]);
}

/* --- credit --- */

/* Milliseconds until this started lease will be done, as far as progress tells. */
static double rest_ms(const struct held *h, int64_t now_ms)
{
    double elapsed_ms = (double)(now_ms - h->started_ms);

    /* Below 2 % the quotient is mostly noise. */
    return h->progress < 0.02 ? 1e12 : elapsed_ms * (1 - h->progress) / h->progress;
}

/* Jobs that could be taken now. */
static int64_t room(const struct agent_core *c, int64_t now_ms)
{
    int64_t busy = 0, waiting = 0, leaving = 0;
    bool ends_soon = true;

    for (size_t i = 0; i < LEASES_MAX; i++) {
        const struct held *h = &c->held[i];

        leaving += h->phase == OWED || h->is_kept;
        busy += (h->phase == HELD || h->phase == STOPPING) && !h->is_kept;
        waiting += h->phase == HELD && !h->is_started;
        if (h->phase == HELD && h->is_started && !h->is_kept &&
            rest_ms(h, now_ms) > (double)c->config.prefetch_window_ms)
            ends_soon = false;
    }
    if (c->is_draining || c->is_paused || leaving > LEASES_MAX / 2)
        return 0;
    if (!c->config.prefetch || busy == 0)
        return busy == 0;
    return waiting == 0 && busy < HELD_MAX && ends_soon;
}

/* Tell home about new room. Only what was granted since HELLO counts, so it can be said twice. */
static void grant(struct agent_core *c, int64_t now_ms)
{
    struct link *l = &c->links[c->home];
    struct msg m = { .type = MSG_CREDIT };
    int64_t total = l->received_total + room(c, now_ms);

    if (!is_up(l) || total <= l->granted_total)
        return;
    l->granted_total = total;
    m.credit.granted_total = total;
    send_sure(c, l, &m);
}

/* --- heartbeats --- */

static void send_state(struct agent_core *c, struct link *l, int64_t now_ms)
{
    struct msg_lease_state leases[LEASES_MAX];
    struct msg m = { .type = MSG_STATE };
    size_t count = 0;

    for (size_t i = 0; i < LEASES_MAX && number_of(c, l) == c->home; i++) {
        struct held *h = &c->held[i];

        if (h->phase != HELD && h->phase != OWED)
            continue;
        leases[count++] =
            (struct msg_lease_state){ h->lease, h->is_started, h->progress, h->stage };
        h->told_seq = c->seq + 1; /* of this one */
    }
    m.state = (struct msg_state){ l->granted_total, leases, count };
    send_sure(c, l, &m);
    l->state_seq = c->seq;
    l->state_sent_ms = now_ms;
    l->state_due_ms = now_ms + l->heartbeat_ms;
}

/* Something worth telling has changed. */
static void hurry_state(struct agent_core *c, int64_t now_ms)
{
    struct link *l = &c->links[c->home];
    int64_t at_ms = l->state_sent_ms + STATE_AGAIN_MS;

    if (at_ms < now_ms)
        at_ms = now_ms;
    if (at_ms < l->state_due_ms)
        l->state_due_ms = at_ms;
}

/* --- what is owed --- */

static status send_owed(struct agent_core *c, struct held *h, int64_t now_ms)
{
    struct msg m = { .type = h->owed };
    status st;

    if (!is_up(&c->links[c->home])) {
        h->due_ms = now_ms; /* as soon as there is a home */
        return OK;
    }
    if (h->owed == MSG_DONE) {
        m.done.lease = h->lease;
        m.done.result = (struct job_result){ h->texts[0], h->texts[1], h->texts[2] };
    } else if (h->owed == MSG_FAIL) {
        m.fail = (struct msg_fail){ h->lease, h->code, h->texts[0] };
    } else {
        m.release.lease = h->lease;
    }
    st = send_msg(c, &c->links[c->home], &m);
    h->seq = c->seq;
    h->due_ms = now_ms + h->wait_ms;
    h->wait_ms = 2 * h->wait_ms < OWED_MAX_MS ? 2 * h->wait_ms : OWED_MAX_MS;
    return st;
}

static char *copy_text(const char *text)
{
    char *copy = strdup(text);

    CHECK(copy); /* a worker without memory for a sentence ends; its leases run out */
    return copy;
}

static void owe(struct held *h, enum msg_type what, int64_t now_ms)
{
    h->phase = OWED;
    h->is_kept = false;
    h->owed = what;
    h->due_ms = h->owed_since_ms = now_ms;
    h->wait_ms = OWED_FIRST_MS;
}

static void owe_failure(struct held *h, status code, const char *sentence, int64_t now_ms)
{
    for (size_t i = 0; i < 3; i++) {
        free(h->texts[i]);
        h->texts[i] = NULL;
    }
    h->code = code;
    h->texts[0] = copy_text(sentence);
    owe(h, MSG_FAIL, now_ms);
}

/* Send it; what can't be sent as it is becomes a failure that says why. */
static void pay(struct agent_core *c, struct held *h, int64_t now_ms)
{
    char sentence[MSG_SENTENCE_MAX + 1];

    if (send_owed(c, h, now_ms) == OK)
        return;
    snprintf(sentence, sizeof(sentence), "%s", status_message());
    log_error("agent.send", LEASE_FORMAT " type=%s reason=\"%s\"", LEASE_ARGS(&h->lease),
              msg_type_name(h->owed), sentence);
    CHECK(h->owed == MSG_DONE); /* FAIL and RELEASE are always well-formed */
    owe_failure(h, ERR_BADARG, sentence, now_ms);
    if (send_owed(c, h, now_ms) != OK)
        CHECK(!"a FAIL that can't be encoded");
}

/* --- leases --- */

static struct held *find_lease(struct agent_core *c, const struct lease *lease)
{
    for (size_t i = 0; i < LEASES_MAX; i++) {
        if (c->held[i].phase != HELD_NONE && msg_lease_equal(&c->held[i].lease, lease))
            return &c->held[i];
    }
    return NULL;
}

static struct held *free_place(struct agent_core *c)
{
    for (size_t i = 0; i < LEASES_MAX; i++) {
        if (c->held[i].phase == HELD_NONE)
            return &c->held[i];
    }
    return NULL;
}

/* The lease is not ours any more. */
static void lose(struct agent_core *c, struct held *h, enum msg_verdict why)
{
    if (h->phase != HELD)
        return; /* what is owed gets a verdict of its own */
    log_warn("lease.lost", LEASE_FORMAT " verdict=%s", LEASE_ARGS(&h->lease),
             msg_verdict_name(why));
    h->phase = STOPPING;
    c->port.on_cancel(c->port.self, &h->lease, why);
}

static void hand_back(struct agent_core *c, struct held *h, int64_t now_ms)
{
    log_info("lease.release", LEASE_FORMAT, LEASE_ARGS(&h->lease));
    owe(h, MSG_RELEASE, now_ms);
    pay(c, h, now_ms);
}

static bool is_stop_verdict(enum msg_verdict v)
{
    return v == VERDICT_LOST || v == VERDICT_CANCELLED || v == VERDICT_TIMEOUT;
}

/* --- frames --- */

static void on_welcome(struct agent_core *c, struct link *l, const struct msg *m, int64_t now_ms)
{
    if (l->state != LINK_GREETING || m->seq != l->hello_seq)
        return; /* the answer to an earlier HELLO: counters were reset since */
    l->state = LINK_UP;
    l->up_since_ms = now_ms;
    l->is_refused = false;
    l->lease_ms = m->welcome.lease_ms;
    l->heartbeat_ms = c->config.heartbeat_ms ? c->config.heartbeat_ms : m->welcome.heartbeat_ms;
    if (l->heartbeat_ms * 3 > l->lease_ms)
        l->heartbeat_ms = l->lease_ms / 3; /* three chances to renew */
    l->state_due_ms = now_ms;
    log_info("broker.up", "broker=%s endpoint=%s lease_ms=%" PRId64, m->welcome.broker, l->endpoint,
             l->lease_ms);
}

static void on_job(struct agent_core *c, struct link *l, const struct msg *m, int64_t now_ms)
{
    bool is_asked_for = false;
    bool has_room = room(c, now_ms) > 0;
    struct held *h;

    if (is_up(l))
        is_asked_for = ++l->received_total <= l->granted_total && number_of(c, l) == c->home;
    if (find_lease(c, &m->job.lease))
        return;
    h = free_place(c);
    if (!h) /* cannot be: room() ends long before. The lease will run out by itself. */
        return;
    h->phase = HELD;
    h->lease = m->job.lease;
    if (c->is_draining || (!is_asked_for && !has_room)) { /* or an old home's last word */
        hand_back(c, h, now_ms);
        return;
    }
    log_info("lease.taken", LEASE_FORMAT " broker=%s", LEASE_ARGS(&h->lease), l->endpoint);
    if (spec_check(&m->job.spec) != OK) {
        owe_failure(h, ERR_BADARG, status_message(), now_ms);
        pay(c, h, now_ms);
        return;
    }
    c->port.on_job(c->port.self, &h->lease, &m->job.spec);
}

/* The store has renewed a lease that the last STATE named: it is ours for another while, counted
 * from when that was sent, less a margin for clocks of unequal speed and for what is to be said
 * then. */
static void tell_renewed(struct agent_core *c, const struct link *l, const struct held *h)
{
    int64_t until_ms = l->state_sent_ms + l->lease_ms - l->lease_ms / LEASE_MARGIN;

    if (c->port.on_renew && h->phase == HELD && h->told_seq == l->state_seq)
        c->port.on_renew(c->port.self, &h->lease, until_ms);
}

static void on_state_ack(struct agent_core *c, struct link *l, const struct msg *m, int64_t now_ms)
{
    for (size_t i = 0; i < m->state_ack.verdict_count; i++) {
        struct held *h = find_lease(c, &m->state_ack.verdicts[i].lease);

        if (h && is_stop_verdict(m->state_ack.verdicts[i].verdict))
            lose(c, h, m->state_ack.verdicts[i].verdict);
        else if (h && is_up(l) && m->seq == l->state_seq &&
                 m->state_ack.verdicts[i].verdict == VERDICT_OK)
            tell_renewed(c, l, h);
    }
    if (is_up(l) && m->state_ack.dispatched_total > l->received_total) {
        /* Jobs were lost on the way, and with them their credit: count anew. */
        log_warn("broker.recount", "endpoint=%s sent=%" PRId64 " received=%" PRId64, l->endpoint,
                 m->state_ack.dispatched_total, l->received_total);
        say_hello(c, l, now_ms);
    }
}

static void on_ack(struct agent_core *c, struct link *l, const struct msg *m, int64_t now_ms)
{
    struct held *h = find_lease(c, &m->ack.lease);

    (void)l;
    (void)now_ms;
    if (!h || h->phase != OWED)
        return;
    if (m->ack.verdict == VERDICT_OK || m->ack.verdict == VERDICT_DUPLICATE)
        log_info("lease.ended", LEASE_FORMAT " by=%s verdict=%s", LEASE_ARGS(&h->lease),
                 msg_type_name(h->owed), msg_verdict_name(m->ack.verdict));
    else
        log_warn("lease.refused", LEASE_FORMAT " by=%s verdict=%s", LEASE_ARGS(&h->lease),
                 msg_type_name(h->owed), msg_verdict_name(m->ack.verdict));
    forget(h);
}

static void on_cancel_lease(struct agent_core *c, struct link *l, const struct msg *m,
                            int64_t now_ms)
{
    struct held *h = find_lease(c, &m->cancel_lease.lease);

    (void)l;
    (void)now_ms;
    if (h && is_stop_verdict(m->cancel_lease.verdict))
        lose(c, h, m->cancel_lease.verdict);
}

/* A broker says that what is owed is no good; it will not become better. */
static void on_refused_debt(struct agent_core *c, struct held *h, const char *sentence,
                            int64_t now_ms)
{
    log_error("lease.refused", LEASE_FORMAT " by=%s reason=\"%s\"", LEASE_ARGS(&h->lease),
              msg_type_name(h->owed), sentence);
    if (h->owed == MSG_DONE) {
        owe_failure(h, ERR_BADARG, sentence, now_ms);
        pay(c, h, now_ms);
    } else {
        forget(h); /* the lease runs out */
    }
}

static void on_error(struct agent_core *c, struct link *l, const struct msg *m, int64_t now_ms)
{
    if (m->error.code == ERR_NOTFOUND) {
        if (!c->is_draining && is_up(l))
            say_hello(c, l, now_ms);
        return;
    }
    if (l->state == LINK_GREETING && m->seq == l->hello_seq) {
        if (!l->is_refused)
            log_error("broker.refused", "endpoint=%s reason=\"%s\"", l->endpoint,
                      m->error.sentence);
        l->is_refused = true;
        l->due_ms = now_ms + HELLO_REFUSED_MS;
        return;
    }
    for (size_t i = 0; i < LEASES_MAX; i++) {
        struct held *h = &c->held[i];

        if (h->phase == OWED && h->seq == m->seq && !status_is_retryable(m->error.code))
            on_refused_debt(c, h, m->error.sentence, now_ms);
    }
}

static void on_drain(struct agent_core *c, struct link *l, const struct msg *m, int64_t now_ms)
{
    (void)m;
    log_info("agent.drain", "by=%s", l->endpoint);
    agent_core_drain(c, now_ms);
}

typedef void (*frame_fn)(struct agent_core *c, struct link *l, const struct msg *m, int64_t now_ms);
static const frame_fn frame_handlers[MSG_TYPE_COUNT] = {
    [MSG_WELCOME] = on_welcome,
    [MSG_JOB] = on_job,
    [MSG_STATE_ACK] = on_state_ack,
    [MSG_ACK] = on_ack,
    [MSG_CANCEL_LEASE] = on_cancel_lease,
    [MSG_DRAIN] = on_drain,
    [MSG_ERROR] = on_error,
};

void agent_core_on_frame(struct agent_core *core, int64_t now_ms, size_t broker, const void *bytes,
                         size_t len)
{
    struct link *l = &core->links[broker];
    struct msg m;

    CHECK(broker < core->link_count);
    status_clear();
    arena_release(&core->arena, 0);
    l->heard_ms = now_ms;
    if (codec_decode(&m, bytes, len, &core->arena) != OK || !frame_handlers[m.type]) {
        if (!l->is_refused)
            log_error("broker.refused", "endpoint=%s type=%s reason=\"%s\"", l->endpoint,
                      msg_type_name(m.type), status_message());
        l->is_refused = true;
        return;
    }
    frame_handlers[m.type](core, l, &m, now_ms);
    grant(core, now_ms);
}

/* --- notes --- */

static void on_start(struct agent_core *c, struct held *h, int64_t now_ms)
{
    if (h->phase != HELD || h->is_started)
        return;
    h->is_started = true;
    h->started_ms = now_ms;
    hurry_state(c, now_ms);
}

static void on_report(struct agent_core *c, struct held *h, const struct agent_note *note,
                      int64_t now_ms)
{
    if (h->phase != HELD)
        return;
    h->progress = note->progress >= 0 && note->progress <= 1 ? note->progress : h->progress;
    if (strcmp(h->stage, note->stage) != 0) {
        memcpy(h->stage, note->stage, sizeof(h->stage));
        hurry_state(c, now_ms);
    }
}

static void on_done(struct agent_core *c, struct held *h, const struct agent_note *note,
                    int64_t now_ms)
{
    h->texts[0] = copy_text(note->result.video);
    h->texts[1] = copy_text(note->result.poster);
    h->texts[2] = copy_text(note->result.manifest);
    owe(h, MSG_DONE, now_ms);
    pay(c, h, now_ms);
}

void agent_core_on_note(struct agent_core *core, int64_t now_ms, const struct agent_note *note)
{
    struct held *h = find_lease(core, &note->lease);

    if (!h || h->phase == OWED)
        return; /* late words about a lease that has ended */
    switch (note->kind) {
    case AGENT_START:
        on_start(core, h, now_ms);
        break;
    case AGENT_REPORT:
        on_report(core, h, note, now_ms);
        break;
    case AGENT_KEPT:
        h->is_kept = true;
        break;
    case AGENT_DONE:
    case AGENT_FAIL:
    case AGENT_RELEASE:
    case AGENT_STOPPED:
        if (h->phase == STOPPING)
            forget(h); /* however it ended: its room is free */
        else if (note->kind == AGENT_DONE)
            on_done(core, h, note, now_ms);
        else if (note->kind == AGENT_FAIL) {
            owe_failure(h, note->code, note->sentence, now_ms);
            pay(core, h, now_ms);
        } else {
            hand_back(core, h, now_ms);
        }
        break;
    }
    grant(core, now_ms);
}

/* --- ending --- */

static void say_bye(struct agent_core *c)
{
    for (size_t i = 0; i < c->link_count; i++) {
        struct msg m = { .type = MSG_BYE };

        if (is_up(&c->links[i]))
            send_sure(c, &c->links[i], &m);
    }
}

/* Hand back the leases that are held: all, or those that have not started. */
static void hand_back_held(struct agent_core *c, bool all, int64_t now_ms)
{
    for (size_t i = 0; i < LEASES_MAX; i++) {
        struct held *h = &c->held[i];

        if (h->phase != HELD || (h->is_started && !all))
            continue;
        c->port.on_cancel(c->port.self, &h->lease, VERDICT_RELEASED);
        hand_back(c, h, now_ms);
    }
}

void agent_core_pause(struct agent_core *core, bool is_paused)
{
    if (core->is_paused != is_paused)
        log_info("agent.pause", "paused=%d", is_paused);
    core->is_paused = is_paused;
}

void agent_core_drain(struct agent_core *core, int64_t now_ms)
{
    if (core->is_draining)
        return;
    core->is_draining = true;
    say_bye(core); /* no more jobs; leases are renewed and ended all the same */
    hand_back_held(core, false, now_ms);
}

void agent_core_stop(struct agent_core *core, int64_t now_ms)
{
    if (core->stop_at_ms)
        return;
    agent_core_drain(core, now_ms);
    core->stop_at_ms = now_ms + STOP_PATIENCE_MS;
    hand_back_held(core, true, now_ms);
    for (size_t i = 0; i < LEASES_MAX; i++) {
        if (core->held[i].phase == STOPPING)
            forget(&core->held[i]);
    }
}

bool agent_core_is_finished(const struct agent_core *core, int64_t now_ms)
{
    if (!core->is_draining)
        return false;
    if (core->stop_at_ms && now_ms >= core->stop_at_ms)
        return true;
    for (size_t i = 0; i < LEASES_MAX; i++) {
        if (core->held[i].phase != HELD_NONE)
            return false;
    }
    return true;
}

/* --- time --- */

static void give_up(struct agent_core *c, struct link *l, int64_t now_ms)
{
    log_warn("broker.silent", "endpoint=%s silent_ms=%" PRId64, l->endpoint, now_ms - l->heard_ms);
    l->state = LINK_NEW;
    l->due_ms = now_ms;
    l->heard_ms = now_ms;
    c->port.reconnect(c->port.self, number_of(c, l));
}

static int64_t silence_ms(const struct link *l)
{
    int64_t ms = SILENT_HEARTBEATS * l->heartbeat_ms;

    return ms > SILENT_MIN_MS ? ms : SILENT_MIN_MS;
}

static void tick_link(struct agent_core *c, struct link *l, int64_t now_ms)
{
    if (is_up(l) && now_ms - l->heard_ms > silence_ms(l))
        give_up(c, l, now_ms);
    if (!is_up(l) && now_ms >= l->due_ms)
        say_hello(c, l, now_ms);
    if (is_up(l) && now_ms >= l->state_due_ms)
        send_state(c, l, now_ms);
}

/* The best broker that is up; the present one if none is. */
static size_t best_link(const struct agent_core *c)
{
    size_t best = c->home;

    for (size_t i = 0; i < c->link_count; i++) {
        const struct link *l = &c->links[i], *b = &c->links[best];

        if (is_up(l) && (!is_up(b) || l->rank > b->rank))
            best = i;
    }
    return best;
}

static void choose_home(struct agent_core *c, int64_t now_ms)
{
    size_t best = best_link(c);
    struct link *old = &c->links[c->home];

    if (best == c->home)
        return;
    if (is_up(old)) {
        if (now_ms - c->links[best].up_since_ms < MOVE_HOME_MS)
            return;
        say_hello(c, old, now_ms); /* takes back the credit that it has */
    }
    log_info("broker.home", "endpoint=%s", c->links[best].endpoint);
    c->home = best;
    c->links[best].state_due_ms = now_ms;
}

static void tick_owed(struct agent_core *c, struct held *h, int64_t now_ms)
{
    bool is_hopeless =
        c->is_draining && h->owed == MSG_RELEASE && now_ms - h->owed_since_ms > RELEASE_PATIENCE_MS;

    if (is_hopeless)
        forget(h); /* the lease runs out, and the job goes to another */
    else if (now_ms >= h->due_ms)
        pay(c, h, now_ms);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t next_ms(const struct agent_core *c, int64_t now_ms)
{
    int64_t at = now_ms + HEARTBEAT_DEFAULT_MS;
    bool has_home = is_up(&c->links[c->home]);

    for (size_t i = 0; i < c->link_count; i++) {
        const struct link *l = &c->links[i];

        at = sooner(at, is_up(l) ? sooner(l->state_due_ms, l->heard_ms + silence_ms(l) + 1)
                                 : l->due_ms);
    }
    for (size_t i = 0; i < LEASES_MAX && has_home; i++) {
        if (c->held[i].phase == OWED)
            at = sooner(at, c->held[i].due_ms);
    }
    if (c->stop_at_ms)
        at = sooner(at, c->stop_at_ms);
    return at > now_ms ? at - now_ms : 0;
}

int64_t agent_core_tick(struct agent_core *core, int64_t now_ms)
{
    if (!core->is_started) {
        core->is_started = true;
        for (size_t i = 0; i < core->link_count; i++)
            core->links[i].heard_ms = core->links[i].due_ms = now_ms;
    }
    for (size_t i = 0; i < core->link_count; i++)
        tick_link(core, &core->links[i], now_ms);
    choose_home(core, now_ms);
    for (size_t i = 0; i < LEASES_MAX; i++) {
        if (core->held[i].phase == OWED)
            tick_owed(core, &core->held[i], now_ms);
    }
    grant(core, now_ms); /* also because time alone makes a running job end soon */
    return next_ms(core, now_ms);
}
