/* onestep-broker: the shell around broker/broker.c. One thread, one loop:
 *
 *   wait --> read what came, up to a limit --> core --> one pipeline to Redis --> its replies
 *        --> core --> send
 *
 * so that everything that arrived together is stored together, by one fsync. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/meter.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/bus.h"
#include "common/config.h"
#include "common/exporter.h"
#include "common/id.h"
#include "common/keys.h"
#include "common/store.h"

/* Frames read in one turn from each door; calls to Redis under way above which reading stops. */
#define TURN_FRAMES 512
#define TURN_CALLS 2000

#define HANG_MS 10000 /* a loop that did not come round for so long hangs */
#define STOP_MS 2000  /* a stopping broker waits so long for answers to what it has begun */

#define ENDPOINTS_MAX 4

struct settings {
    struct config_list client_endpoint, worker_endpoint;
    char curve_key[FILE_PATH_BYTES];
    char curve_allow[FILE_PATH_BYTES];
    bool insecure;
    char redis_url[512];
    char redis_user[128];
    char redis_password_file[1024];
    char redis_ca_file[FILE_PATH_BYTES];
    char redis_cert_file[FILE_PATH_BYTES];
    char redis_key_file[FILE_PATH_BYTES];
    bool redis_unsafe;
    char metrics_listen[64];
    int64_t redis_replicas;
    int64_t lease_ms, heartbeat_ms;
    int64_t retry_base_ms, retry_cap_ms;
    int64_t queued_max, retention_h;
    int log_level;
};

static const struct config_row rows[] = {
    CFG_ROW_LIST(struct settings, client_endpoint, "tcp://127.0.0.1:7450",
                 "where clients connect: tcp://ADDRESS:PORT or ipc:///PATH, up to 4"),
    CFG_ROW_LIST(struct settings, worker_endpoint, "tcp://127.0.0.1:7451",
                 "where workers connect: tcp://ADDRESS:PORT or ipc:///PATH, up to 4"),
    CFG_ROW_TEXT(struct settings, curve_key, "",
                 "file with this broker's secret key (onestep keygen); empty: no encryption"),
    CFG_ROW_TEXT(struct settings, curve_allow, "",
                 "folder with the cards (*.pub) of those who may connect; read again at SIGHUP"),
    CFG_ROW_BOOL(struct settings, insecure, "false",
                 "listen beyond this machine without curve_key: everybody is let in"),
    CFG_ROW_TEXT(struct settings, redis_url, "redis://127.0.0.1:6379",
                 "where jobs are kept: redis://HOST:PORT[/DB], rediss:// over TLS, several of a "
                 "Cluster with commas between; sentinel://HOST:PORT,.../MASTER; unix:///PATH"),
    CFG_ROW_TEXT(struct settings, redis_user, "",
                 "user of Redis' access list (ops/config/redis.acl); empty: the default one"),
    CFG_ROW_TEXT(struct settings, redis_ca_file, "",
                 "rediss: certificates in PEM that may sign the server's; empty: the system's"),
    CFG_ROW_TEXT(struct settings, redis_cert_file, "",
                 "rediss: this broker's own certificate, for a server that wants one"),
    CFG_ROW_TEXT(struct settings, redis_key_file, "", "rediss: the key of redis_cert_file"),
    CFG_ROW_TEXT(struct settings, redis_password_file, "",
                 "file whose first line is the password of Redis; empty: none"),
    CFG_ROW_BOOL(struct settings, redis_unsafe, "false",
                 "accept a Redis that may forget jobs: not appendonly, or evicting"),
    CFG_ROW_TEXT(struct settings, metrics_listen, "",
                 "ADDRESS:PORT for /metrics, /healthz and /readyz over HTTP; empty: none"),
    CFG_ROW_INT(struct settings, redis_replicas, 0, 8, "0", "",
                "replicas of Redis that must have a job or result before it is acknowledged"),
    CFG_ROW_INT(struct settings, lease_ms, 1000, 600000, "30000", "ms",
                "time a worker may be silent before its jobs go to another"),
    CFG_ROW_INT(struct settings, heartbeat_ms, 100, 60000, "1000", "ms",
                "how often workers report; at most a third of lease_ms"),
    CFG_ROW_INT(struct settings, retry_base_ms, 1, 600000, "1000", "ms",
                "wait before the second try of a job; doubles with each"),
    CFG_ROW_INT(struct settings, retry_cap_ms, 1, 86400000, "60000", "ms",
                "longest wait before a try"),
    CFG_ROW_INT(struct settings, queued_max, 1, 100000000, "1000000", "jobs",
                "jobs that may wait; further ones are refused"),
    CFG_ROW_INT(struct settings, retention_h, 0, 87600, "168", "h",
                "how long ended jobs are remembered; 0: for ever"),
    CFG_ROW_CHOICE(struct settings, log_level, "info", config_log_levels,
                   "least important event to log"),
};

static const struct config_program program = {
    .name = "onestep-broker",
    .summary = "accepts jobs and hands them to workers",
    .description =
        "Stands between clients, workers and Redis. Jobs and their states are in Redis alone: a "
        "broker can be killed, started again, or run several times on the same Redis, and nothing "
        "is lost.\n"
        "\n"
        "SIGTERM or SIGINT: answers what it has begun and exits with code 0; a second one: exits "
        "at once. SIGHUP: reads curve_allow again.\n"
        "\n"
        "With curve_key every connection is encrypted (CURVE), and only owners of the cards in "
        "curve_allow are let in, as client, worker or admin; at its start the broker proves that a "
        "stranger is refused. Without it, endpoints that other machines reach are refused, unless "
        "insecure is set.",
    .examples = "onestep-broker\n"
                "    With Redis, clients and workers on this machine.\n"
                "onestep-broker --worker-endpoint tcp://10.0.0.5:7451 --curve-key keys/broker.key "
                "--curve-allow keys\n"
                "    With workers on other machines.\n"
                "onestep-broker --config broker.yaml\n"
                "    With settings from a file; --print-config writes one.\n",
    .version_text = "onestep-broker " ONESTEP_BUILD "\n",
    .rows = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
};

struct shell {
    struct settings settings;
    struct keys_ring *ring; /* NULL: everybody is let in */
    struct bus *bus;
    struct bus_socket *doors[BROKER_SIDE_COUNT];
    struct store *store;
    struct broker *broker;
    struct metrics *metrics;
    struct exporter *exporter; /* reads what is atomic here, and metrics */
    atomic_llong turn_ms;      /* when the loop last came round */
    atomic_bool is_up;         /* Redis is connected */
    atomic_bool is_stopping;
    struct outbox out;
    int signal_fd;
    int64_t now_ms;     /* of this turn */
    int64_t stop_at_ms; /* 0: not stopping */
};

/* --- doing what the core wants --- */

static void on_reply(void *self, const struct store_reply *reply);

/* Queue the core's calls; one that can't be queued is answered at once. */
static void take_calls(struct shell *s)
{
    /* CAREFUL: answering lets the core add calls, which may move the list. */
    for (size_t i = 0; i < s->out.call_count; i++) {
        struct store_call call = s->out.calls[i];
        struct store_reply reply = { .op = call.op, .tag = call.tag, .worker = "", .cursor = "" };

        reply.code = store_add(s->store, &call);
        if (reply.code == OK)
            continue;
        reply.sentence = status_message();
        broker_on_store_reply(s->broker, s->now_ms, &reply, &s->out);
    }
    s->out.call_count = 0;
}

static void on_reply(void *self, const struct store_reply *reply)
{
    struct shell *s = self;

    broker_on_store_reply(s->broker, s->now_ms, reply, &s->out);
    take_calls(s);
}

static void send_frames(struct shell *s)
{
    for (size_t i = 0; i < s->out.send_count; i++) {
        struct outbox_send f = s->out.sends[i];

        if (bus_send(s->doors[f.side], &f.to, s->out.frames.data + f.at, f.len) != OK) {
            log_debug("frame.unsent", "reason=\"%s\"", status_message());
            broker_on_unsent(s->broker, s->now_ms, &f, &s->out);
        }
    }
    take_calls(s);
    outbox_reset(&s->out);
}

/* On a bus without guard, who reaches a door may do what belongs to it. */
static enum keys_role role_of_sender(const struct shell *s, enum broker_side side,
                                     char tenant[SPEC_TENANT_MAX])
{
    tenant[0] = '\0';
    if (!s->ring)
        return side == BROKER_WORKERS ? KEYS_WORKER : KEYS_ADMIN;
    return keys_role_of(s->ring, bus_sender(s->doors[side]), tenant);
}

static void read_frames(struct shell *s, enum broker_side side)
{
    struct bus_peer from;
    char tenant[SPEC_TENANT_MAX];
    struct broker_frame frame = { .side = side, .from = &from, .tenant = tenant };

    for (int n = 0; n < TURN_FRAMES && store_pending(s->store) < TURN_CALLS; n++) {
        if (!bus_receive(s->doors[side], &from, &frame.bytes, &frame.len))
            break;
        frame.role = role_of_sender(s, side, tenant);
        broker_on_frame(s->broker, s->now_ms, &frame, &s->out);
        take_calls(s);
    }
}

/* --- the loop --- */

static void wait_for_more(struct shell *s, int64_t tick_ms)
{
    bool is_busy = store_pending(s->store) >= TURN_CALLS || s->stop_at_ms;
    struct bus_wait waits[4] = { { .fd = s->signal_fd } };
    bool want_write = false;
    int fd = store_fd(s->store, &want_write);
    int64_t store_ms = store_wait_ms(s->store, s->now_ms);
    size_t count = 1;

    if (fd >= 0)
        waits[count++] = (struct bus_wait){ .fd = fd, .want_write = want_write };
    for (int side = 0; side < BROKER_SIDE_COUNT && !is_busy; side++)
        waits[count++] = (struct bus_wait){ .socket = s->doors[side] };
    if (store_ms >= 0 && store_ms < tick_ms)
        tick_ms = store_ms;
    bus_poll(waits, count, tick_ms);
}

static void reload_ring(struct shell *s)
{
    if (!s->ring)
        log_info("keys.reload", "cards=none");
    else if (keys_reload_ring(s->ring) == OK)
        log_info("keys.reload", "folder=\"%s\"", s->settings.curve_allow);
    else
        log_error("keys.reload", "reason=\"%s\" kept=yes", status_message());
}

static void see_signals(struct shell *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload_ring(s);
            continue;
        }
        log_info("broker.stop", "signal=%u", (unsigned)info.ssi_signo);
        broker_drain(s->broker);
        if (s->stop_at_ms) /* the second one: at once */
            s->stop_at_ms = s->now_ms;
        else
            s->stop_at_ms = s->now_ms + STOP_MS;
    }
}

/* --- for operators: the exporter's thread ----------------------------------------------------*/

static void refresh(void *self)
{
    struct shell *s = self;

    if (s->ring)
        metrics_set(s->metrics, METER_STRANGERS, 0, (double)keys_refused(s->ring));
}

static bool is_healthy(void *self)
{
    struct shell *s = self;

    return clock_mono_ms() - atomic_load(&s->turn_ms) < HANG_MS;
}

static const char *not_ready(void *self)
{
    struct shell *s = self;

    if (atomic_load(&s->is_stopping))
        return "it is stopping";
    return atomic_load(&s->is_up) ? NULL : "Redis is not connected";
}

static status open_exporter(struct shell *s)
{
    const struct exporter_config config = { .listen = s->settings.metrics_listen,
                                            .metrics = s->metrics,
                                            .self = s,
                                            .refresh = refresh,
                                            .is_healthy = is_healthy,
                                            .not_ready = not_ready };

    atomic_store(&s->turn_ms, clock_mono_ms());
    return *config.listen ? exporter_open(&s->exporter, &config) : OK;
}

/* Once a turn. */
static void tell_state(struct shell *s)
{
    bool is_up = store_is_connected(s->store);

    atomic_store(&s->turn_ms, s->now_ms);
    atomic_store(&s->is_up, is_up);
    atomic_store(&s->is_stopping, s->stop_at_ms != 0);
    metrics_set(s->metrics, METER_STORE_UP, 0, is_up);
    metrics_set(s->metrics, METER_STORE_CALLS, 0, (double)store_pending(s->store));
    metrics_set(s->metrics, METER_WORKERS, 0, (double)broker_workers(s->broker));
}

static bool is_stopped(const struct shell *s)
{
    return s->stop_at_ms && (s->now_ms >= s->stop_at_ms || broker_pending(s->broker) == 0);
}

static void serve(struct shell *s)
{
    int64_t tick_ms;

    for (s->now_ms = clock_mono_ms(); !is_stopped(s); s->now_ms = clock_mono_ms()) {
        see_signals(s);
        tell_state(s);
        for (int side = 0; side < BROKER_SIDE_COUNT && !s->stop_at_ms; side++)
            read_frames(s, (enum broker_side)side);
        tick_ms = broker_tick(s->broker, s->now_ms, &s->out);
        take_calls(s);
        store_flush(s->store);
        store_step(s->store, s->now_ms, on_reply, s);
        send_frames(s);
        store_flush(s->store);
        wait_for_more(s, tick_ms);
    }
}

/* --- starting --- */

/* Beyond this machine nobody is let in without a key. */
static status check_remote(const struct settings *c, const struct config_list *endpoints,
                           const char *name)
{
    for (int i = 0; i < endpoints->count; i++) {
        if (bus_is_remote(endpoints->item[i]) && !*c->curve_key && !c->insecure)
            return FAIL(ERR_BADARG,
                        "%s: %s is reached from other machines: set curve_key and curve_allow, or "
                        "insecure where you trust everybody",
                        name, endpoints->item[i]);
    }
    return OK;
}

static status check_settings(const struct settings *c)
{
    status st = OK;

    if (c->heartbeat_ms * 3 > c->lease_ms)
        return FAIL(ERR_BADARG, "heartbeat_ms: %lld is more than a third of lease_ms (%lld)",
                    (long long)c->heartbeat_ms, (long long)c->lease_ms);
    if (c->retry_base_ms > c->retry_cap_ms)
        return FAIL(ERR_BADARG, "retry_base_ms: %lld is more than retry_cap_ms (%lld)",
                    (long long)c->retry_base_ms, (long long)c->retry_cap_ms);
    if (c->client_endpoint.count < 1 || c->client_endpoint.count > ENDPOINTS_MAX ||
        c->worker_endpoint.count < 1 || c->worker_endpoint.count > ENDPOINTS_MAX)
        return FAIL(ERR_BADARG, "client_endpoint, worker_endpoint: give 1 to %d of each",
                    ENDPOINTS_MAX);
    TRY(check_remote(c, &c->client_endpoint, "client_endpoint"));
    TRY(check_remote(c, &c->worker_endpoint, "worker_endpoint"));
out:
    return st;
}

static status open_door(struct shell *s, enum broker_side side, const struct config_list *endpoints,
                        const char *name)
{
    status st = OK;

    for (int i = 0; i < endpoints->count; i++) {
        const char *endpoint = endpoints->item[i];

        TRY(bus_check_endpoint(endpoint));
        if (i == 0)
            TRY(bus_bind(s->bus, endpoint, &s->doors[side]));
        else
            TRY(bus_bind_also(s->doors[side], endpoint));
        if (s->ring)
            TRY(bus_test_guard(s->doors[side]));
        else if (bus_is_remote(endpoint))
            log_warn("endpoint.open", "%s=%s risk=\"not encrypted, and everybody is let in\"", name,
                     endpoint);
    }
out:
    return st;
}

/* Encrypt, and let only owners of cards in. */
static status open_guard(struct shell *s)
{
    const struct settings *c = &s->settings;
    struct bus_keys keys = { "", "" };
    status st = OK;

    if (!*c->curve_key && !*c->curve_allow)
        return OK;
    if (!*c->curve_key || !*c->curve_allow)
        return FAIL(ERR_BADARG, "curve_key and curve_allow go together: %s is missing",
                    *c->curve_key ? "curve_allow" : "curve_key");
    TRY(keys_read_secret(c->curve_key, &keys));
    TRY(keys_open_ring(&s->ring, c->curve_allow));
    TRY(bus_guard(s->bus, &keys, keys_admit, s->ring));
out:
    explicit_bzero(&keys, sizeof(keys));
    return st;
}

static status open_signals(struct shell *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return FAIL(ERR_IO, "signals can't be set up: %s", strerror(errno));
    s->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->signal_fd < 0)
        return FAIL(ERR_IO, "signals can't be set up: %s", strerror(errno));
    return OK;
}

static status open_shell(struct shell *s)
{
    const struct settings *c = &s->settings;
    const struct store_config store = { .url = c->redis_url,
                                        .user = c->redis_user,
                                        .password_file = c->redis_password_file,
                                        .tls = { c->redis_ca_file, c->redis_cert_file,
                                                 c->redis_key_file },
                                        .allow_unsafe = c->redis_unsafe,
                                        .replicas = (int)c->redis_replicas };
    struct broker_config config = {
        .lease_ms = c->lease_ms,
        .heartbeat_ms = c->heartbeat_ms,
        .retry_base_ms = c->retry_base_ms,
        .retry_cap_ms = c->retry_cap_ms,
        .queued_max = c->queued_max,
        .retention_ms = c->retention_h * 3600 * 1000,
        .version = ONESTEP_VERSION,
        .random = id_random,
    };
    char id[JOB_ID_BYTES];
    status st = OK;

    id_new(id);
    TRY(check_settings(c));
    TRY(open_signals(s)); /* before the library starts its threads, which inherit the mask */
    TRY(store_open(&s->store, &store));
    TRY(bus_open(&s->bus));
    TRY(open_guard(s));
    TRY(open_door(s, BROKER_CLIENTS, &c->client_endpoint, "client_endpoint"));
    TRY(open_door(s, BROKER_WORKERS, &c->worker_endpoint, "worker_endpoint"));
    TRY(metrics_open(&s->metrics, meter_rows, METER_COUNT));
    config.metrics = s->metrics;
    TRY(broker_open(&s->broker, &config, id));
    TRY(open_exporter(s));
    log_info("broker.ready", "broker=%s client_endpoint=%s worker_endpoint=%s redis=%s", id,
             c->client_endpoint.item[0], c->worker_endpoint.item[0], c->redis_url);
out:
    return st;
}

static void close_shell(struct shell *s)
{
    exporter_close(s->exporter);
    broker_close(s->broker);
    metrics_close(s->metrics);
    outbox_free(&s->out);
    for (int side = 0; side < BROKER_SIDE_COUNT; side++)
        bus_close_socket(s->doors[side]);
    bus_close(s->bus);
    keys_close_ring(s->ring);
    store_close(s->store);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
}

int main(int argc, char **argv)
{
    static struct shell s = { .signal_fd = -1 };
    bool is_done = false;
    status st = OK;

    TRY(config_load(&s.settings, &program, argc, argv, &is_done));
    if (is_done)
        return 0;
    log_set_level((enum log_level)s.settings.log_level);
    TRY(open_shell(&s));
    serve(&s);
    log_info("broker.end", "broker=stopped");
out:
    if (st != OK)
        fprintf(stderr, "onestep-broker: %s\n", status_message());
    close_shell(&s);
    return status_exit_code(st);
}
