/* DESIGN: the shell around worker/agent_core.c. The worker's threads put notes into a list and wake
 * the net thread by an eventfd; the net thread alone touches the core and the sockets. Of several
 * reports about one lease only the newest is kept, so that a fast device can't fill the list. */
#include "worker/agent.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/bus.h"
#include "common/id.h"
#include "common/keys.h"
#include "worker/agent_core.h"

/* A note with its texts. */
struct letter {
    struct letter *next;
    struct agent_note note;
    char *texts[3]; /* owned; the note's strings point to them */
};

struct agent {
    struct agent_core *core; /* net */
    struct agent_sink sink;
    char id[JOB_ID_BYTES];
    size_t broker_count;
    struct bus *bus; /* opened early, so that wrong keys are told at the start; used by net */
    struct bus_socket *sockets[AGENT_BROKERS_MAX]; /* net */
    int event_fd;                                  /* wakes net */
    atomic_bool wants_drain, wants_stop, wants_pause;
    atomic_bool is_up;    /* a broker answers */
    atomic_llong turn_ms; /* when the loop last came round */
    pthread_mutex_t lock; /* guards the list */
    struct letter *first, *last;
};

/* --- the core's port --- */

static void port_send(void *self, size_t broker, const void *bytes, size_t len)
{
    struct agent *a = self;

    /* Lost is as good as dropped later: the core says it again until it is answered. */
    if (a->sockets[broker] && bus_send(a->sockets[broker], NULL, bytes, len) != OK)
        log_debug("frame.unsent", "endpoint=%s reason=\"%s\"", agent_core_endpoint(a->core, broker),
                  status_message());
}

static void port_reconnect(void *self, size_t broker)
{
    struct agent *a = self;
    const char *endpoint = agent_core_endpoint(a->core, broker);

    bus_close_socket(a->sockets[broker]);
    a->sockets[broker] = NULL;
    if (bus_connect(a->bus, endpoint, &a->sockets[broker]) != OK)
        log_error("broker.connect", "endpoint=%s reason=\"%s\"", endpoint, status_message());
}

static void port_on_job(void *self, const struct lease *lease, const struct job_spec *spec)
{
    struct agent *a = self;

    a->sink.on_job(a->sink.self, lease, spec);
}

static void port_on_cancel(void *self, const struct lease *lease, enum msg_verdict why)
{
    struct agent *a = self;

    a->sink.on_cancel(a->sink.self, lease, why);
}

static void port_on_renew(void *self, const struct lease *lease, int64_t until_ms)
{
    struct agent *a = self;

    if (a->sink.on_renew)
        a->sink.on_renew(a->sink.self, lease, until_ms);
}

/* --- open and close --- */

static status open_parts(struct agent *a, const struct agent_config *config)
{
    const struct agent_port port = { a,           port_send,      port_reconnect,
                                     port_on_job, port_on_cancel, port_on_renew };
    struct agent_config named = *config;
    char host[128] = "";
    status st = OK;

    if (!*named.host) {
        if (gethostname(host, sizeof(host) - 1) != 0)
            memcpy(host, "localhost", sizeof("localhost"));
        named.host = host;
    }
    atomic_store(&a->turn_ms, clock_mono_ms());
    TRY(agent_core_open(&a->core, &named, &port, a->id));
    TRY(bus_open(&a->bus));
    TRY(keys_trust(a->bus, config->curve_key ? config->curve_key : "",
                   config->broker_key ? config->broker_key : ""));
    a->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (a->event_fd < 0)
        TRY(FAIL(ERR_IO, "no eventfd: %s", strerror(errno)));
out:
    return st;
}

status agent_open(struct agent **agent, const struct agent_config *config,
                  const struct agent_sink *sink)
{
    struct agent *a = calloc(1, sizeof(*a));
    status st = OK;

    *agent = NULL;
    if (!a)
        return FAIL(ERR_NOMEM, "no memory for the agent");
    a->event_fd = -1;
    pthread_mutex_init(&a->lock, NULL);
    a->sink = *sink;
    a->broker_count = config->broker_count;
    id_new(a->id);
    TRY(open_parts(a, config));
    *agent = a;
    return OK;
out:
    agent_close(a);
    return st;
}

static void free_letter(struct letter *l)
{
    for (size_t i = 0; i < 3; i++)
        free(l->texts[i]);
    free(l);
}

void agent_close(struct agent *agent)
{
    if (!agent)
        return;
    while (agent->first) {
        struct letter *l = agent->first;

        agent->first = l->next;
        free_letter(l);
    }
    agent_core_close(agent->core);
    bus_close(agent->bus);
    if (agent->event_fd >= 0)
        close(agent->event_fd);
    pthread_mutex_destroy(&agent->lock);
    free(agent);
}

bool agent_is_up(const struct agent *agent)
{
    return atomic_load(&agent->is_up);
}

int64_t agent_turn_ms(const struct agent *agent)
{
    return atomic_load(&agent->turn_ms);
}

const char *agent_id(const struct agent *agent)
{
    return agent->id;
}

/* --- notes: any thread --- */

/* Async-signal-safe. */
static void wake(struct agent *a)
{
    int saved = errno;
    uint64_t one = 1;

    /* Full means that it is awake already. */
    if (write(a->event_fd, &one, sizeof(one)) < 0)
        errno = saved;
    errno = saved;
}

/* A newer report about the same lease replaces one that still waits. */
static bool replace_report(struct agent *a, const struct agent_note *note)
{
    if (note->kind != AGENT_REPORT)
        return false;
    for (struct letter *l = a->first; l; l = l->next) {
        if (l->note.kind == AGENT_REPORT && msg_lease_equal(&l->note.lease, &note->lease)) {
            l->note = *note;
            return true;
        }
    }
    return false;
}

static void post(struct agent *a, const struct agent_note *note, const char *const texts[3])
{
    struct letter *l;

    pthread_mutex_lock(&a->lock);
    if (!replace_report(a, note)) {
        l = calloc(1, sizeof(*l));
        CHECK(l); /* without memory for a note the worker ends; its leases run out */
        l->note = *note;
        for (size_t i = 0; i < 3 && texts && texts[i]; i++) {
            l->texts[i] = strdup(texts[i]);
            CHECK(l->texts[i]);
        }
        l->note.result = (struct job_result){ l->texts[0], l->texts[1], l->texts[2] };
        l->note.sentence = l->texts[0];
        if (a->last)
            a->last->next = l;
        else
            a->first = l;
        a->last = l;
    }
    pthread_mutex_unlock(&a->lock);
    wake(a);
}

void agent_start(struct agent *agent, const struct lease *lease)
{
    post(agent, &(struct agent_note){ .kind = AGENT_START, .lease = *lease }, NULL);
}

void agent_report(struct agent *agent, const struct lease *lease, const char *stage,
                  double progress)
{
    struct agent_note note = { .kind = AGENT_REPORT, .lease = *lease, .progress = progress };
    size_t len = strlen(stage);

    CHECK(len < sizeof(note.stage));
    memcpy(note.stage, stage, len + 1);
    post(agent, &note, NULL);
}

void agent_kept(struct agent *agent, const struct lease *lease)
{
    post(agent, &(struct agent_note){ .kind = AGENT_KEPT, .lease = *lease }, NULL);
}

void agent_pause(struct agent *agent, bool is_paused)
{
    atomic_store(&agent->wants_pause, is_paused);
    wake(agent);
}

void agent_done(struct agent *agent, const struct lease *lease, const struct job_result *result)
{
    const char *const texts[3] = { result->video, result->poster, result->manifest };

    post(agent, &(struct agent_note){ .kind = AGENT_DONE, .lease = *lease }, texts);
}

void agent_fail(struct agent *agent, const struct lease *lease, status code, const char *sentence)
{
    const char *const texts[3] = { sentence, NULL, NULL };

    CHECK(code != OK);
    post(agent, &(struct agent_note){ .kind = AGENT_FAIL, .lease = *lease, .code = code }, texts);
}

void agent_release(struct agent *agent, const struct lease *lease)
{
    post(agent, &(struct agent_note){ .kind = AGENT_RELEASE, .lease = *lease }, NULL);
}

void agent_stopped(struct agent *agent, const struct lease *lease)
{
    post(agent, &(struct agent_note){ .kind = AGENT_STOPPED, .lease = *lease }, NULL);
}

void agent_drain(struct agent *agent)
{
    atomic_store(&agent->wants_drain, true);
    wake(agent);
}

void agent_stop(struct agent *agent)
{
    atomic_store(&agent->wants_stop, true);
    wake(agent);
}

/* --- the loop: net --- */

static void read_notes(struct agent *a)
{
    struct letter *l;

    pthread_mutex_lock(&a->lock);
    l = a->first;
    a->first = a->last = NULL;
    pthread_mutex_unlock(&a->lock);
    while (l) {
        struct letter *next = l->next;

        agent_core_on_note(a->core, clock_mono_ms(), &l->note);
        free_letter(l);
        l = next;
    }
}

static void read_frames(struct agent *a, size_t broker)
{
    const void *bytes;
    size_t len;

    /* A frame may make the core ask for a new connection; then this one has nothing more to say. */
    for (struct bus_socket *s = a->sockets[broker];
         s && s == a->sockets[broker] && bus_receive(s, NULL, &bytes, &len);)
        agent_core_on_frame(a->core, clock_mono_ms(), broker, bytes, len);
}

static void wait_for_more(struct agent *a, int64_t wait_ms)
{
    struct bus_wait waits[AGENT_BROKERS_MAX + 1] = { { .fd = a->event_fd } };
    size_t count = 1;
    uint64_t ignored;

    for (size_t i = 0; i < a->broker_count; i++) {
        if (a->sockets[i])
            waits[count++] = (struct bus_wait){ .socket = a->sockets[i] };
    }
    bus_poll(waits, count, wait_ms);
    if (waits[0].is_ready && read(a->event_fd, &ignored, sizeof(ignored)) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
}

static void serve(struct agent *a)
{
    int64_t wait_ms;

    while (!agent_core_is_finished(a->core, clock_mono_ms())) {
        for (size_t i = 0; i < a->broker_count; i++)
            read_frames(a, i);
        read_notes(a);
        agent_core_pause(a->core, atomic_load(&a->wants_pause));
        if (atomic_load(&a->wants_drain))
            agent_core_drain(a->core, clock_mono_ms());
        if (atomic_load(&a->wants_stop))
            agent_core_stop(a->core, clock_mono_ms());
        wait_ms = agent_core_tick(a->core, clock_mono_ms());
        atomic_store(&a->is_up, agent_core_is_up(a->core));
        atomic_store(&a->turn_ms, clock_mono_ms());
        if (!agent_core_is_finished(a->core, clock_mono_ms()))
            wait_for_more(a, wait_ms);
    }
}

status agent_run(struct agent *agent)
{
    status st = OK;

    for (size_t i = 0; i < agent->broker_count; i++)
        TRY(bus_connect(agent->bus, agent_core_endpoint(agent->core, i), &agent->sockets[i]));
    serve(agent);
out:
    for (size_t i = 0; i < agent->broker_count; i++) {
        bus_close_socket(agent->sockets[i]);
        agent->sockets[i] = NULL;
    }
    return st;
}
