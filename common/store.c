/* DESIGN: calls are written to Redis in the order in which they come and wait in a queue for their
 * replies. The connection has four states:
 *
 *   DOWN --(time)--> CHECKING --(server is fit)--> LOADING --(library is loaded)--> UP
 *     ^                 |                             |                             |
 *     '-----------------'------------ lost -----------'-----------------------------'
 *
 * With Sentinel there is ASKING before CHECKING. Where replicas shall confirm, a WAIT follows the
 * changes of a turn, and their answers are held until its own is there.
 * Calls are only sent while UP. When the connection is lost, every call under way is answered
 * ERR_UNAVAILABLE: it may or may not have happened, and it may be repeated, which is the caller's
 * decision. A server that forgot the library (NOSCRIPT: it was restarted, or SCRIPT FLUSH) gets it
 * again, and the calls that it refused for that reason are sent once more behind it. */
#include "common/store.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/digest.h"
#include "common/redis.h"
#include "common/store_priv.h"
#include "common/store_route.h"

/* The library, made C strings by the build; its files are loaded as one, in this order. */
extern const char store_lua[], store_query_lua[], store_admin_lua[];

/* Calls under way; a broker's turn is below 2,000 of them. */
#define CALLS_MAX 16384

/* One reply of 4096 rows; their strings stay in Redis' reply. */
#define REPLY_ARENA_BYTES ((size_t)1 << 20)

#define TIMEOUT_DEFAULT_MS 5000
#define LOADING_WAIT_MS 30000 /* store_open waits so long for a server that reads its files */
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS 3000
#define RESENDS_MAX 3
#define PASSWORD_BYTES_MAX 512

/* Functions and script flags came with 7; before that, scripts are called by their digest, and a
 * full Redis refuses what ends jobs as well. */
#define FUNCTIONS_MAJOR 7
#define VERSION_MIN_MAJOR 6
#define VERSION_MIN_MINOR 2

#define SCHEMA "2" /* of the keys; a change that old programs can't read gets a new number */

enum phase { PHASE_DOWN = 0, PHASE_ASKING, PHASE_CHECKING, PHASE_LOADING, PHASE_UP };

/* A call that waits for its reply. */
struct waiting {
    enum store_op op; /* STORE_NONE: the library on its way again, or WAIT */
    bool is_wait;     /* STORE_NONE: WAIT */
    uint64_t tag;
    int resends;
    struct buf command; /* kept to be sent again */
};

/* A call whose reply is there, and is handed out when enough replicas have what it changed. */
struct held {
    struct waiting call;
    struct redis_value *value;
};

struct store {
    struct store_route route;
    struct redis_address address; /* of the present or last connection */
    int replicas;
    size_t unconfirmed; /* changes sent since the last WAIT */
    struct held *held;  /* CALLS_MAX places; NULL without replicas */
    size_t held_count;
    char password[PASSWORD_BYTES_MAX];
    char user[128]; /* "": the default one */
    char tls_paths[3][FILE_PATH_BYTES];
    struct tls_files tls; /* in tls_paths */
    bool allow_unsafe, no_functions;
    int64_t timeout_ms;
    enum phase phase;
    struct redis *redis;   /* NULL while DOWN */
    int step;              /* CHECKING, LOADING: enum step whose reply comes next */
    struct waiting *queue; /* ring of CALLS_MAX */
    size_t first, count;   /* of the ring */
    int reloads;           /* libraries on their way again */
    int64_t heard_ms;      /* last time that something arrived, or that nothing was waited for */
    bool is_idle;          /* nothing was waited for at the end of the last store_step */
    int64_t retry_at_ms;   /* DOWN: when to try again */
    int64_t retry_wait_ms; /* DOWN: wait after the next failure */
    bool is_redirected;    /* the last failure named another address */
    bool is_loading_data;  /* the last failure was a server that reads its files */
    bool was_up;           /* for logs */
    char why[512];         /* why it is not UP */
    int major;             /* of Redis' version */
    struct store_scripts scripts;
    struct arena arena;   /* of the reply being handed out */
    struct job_spec spec; /* likewise */
};

/* --- the queue of calls --- */

static struct waiting *waiting_at(struct store *s, size_t index)
{
    return &s->queue[(s->first + index) % CALLS_MAX];
}

static struct waiting take_first(struct store *s)
{
    struct waiting w = s->queue[s->first];

    CHECK(s->count > 0);
    s->queue[s->first] = (struct waiting){ 0 };
    s->first = (s->first + 1) % CALLS_MAX;
    s->count--;
    return w;
}

static void hand_out(const struct store_reply *reply, store_reply_fn on_reply, void *self)
{
    CHECK(reply->op > STORE_NONE && reply->op < STORE_OP_COUNT);
    on_reply(self, reply);
}

static struct store_reply empty_reply(const struct waiting *w)
{
    return (struct store_reply){
        .op = w->op, .tag = w->tag, .sentence = "", .worker = "", .cursor = "", .next_due_ms = -1
    };
}

/* Nobody knows whether the call happened. */
static void answer_unavailable(const struct waiting *w, const char *why, store_reply_fn on_reply,
                               void *self)
{
    struct store_reply reply = empty_reply(w);

    reply.code = ERR_UNAVAILABLE;
    reply.sentence = why;
    hand_out(&reply, on_reply, self);
}

/* Answer every call that is under way now; the answers may bring new calls. */
static void fail_all(struct store *s, store_reply_fn on_reply, void *self)
{
    for (size_t n = s->count; n > 0; n--) {
        struct waiting w = take_first(s);

        if (w.op != STORE_NONE)
            answer_unavailable(&w, s->why, on_reply, self);
        buf_free(&w.command);
    }
    for (size_t i = 0; i < s->held_count; i++) {
        answer_unavailable(&s->held[i].call, s->why, on_reply, self);
        redis_free_value(s->held[i].value);
        buf_free(&s->held[i].call.command);
    }
    s->held_count = s->unconfirmed = 0;
    s->reloads = 0;
}

/* --- getting UP --- */

static status send_words(struct store *s, const char **words, int count)
{
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    status st = OK;

    TRY(redis_format(&text, words, NULL, count));
    TRY(redis_add(s->redis, text.data, text.len));
out:
    buf_free(&text);
    return st;
}

#define SEND(s, ...)                                                                               \
    send_words((s), (const char *[]){ __VA_ARGS__ },                                               \
               (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *)))

/* What is asked while getting up, in this order. */
enum step {
    STEP_AUTH = 0, /* only with a password */
    STEP_SELECT,
    STEP_INFO,
    STEP_APPENDONLY,
    STEP_APPENDFSYNC,
    STEP_POLICY,
    STEP_CHECKED, /* end of CHECKING; nothing was written so far */
    STEP_SCHEMA_SET = STEP_CHECKED,
    STEP_SCHEMA,
    STEP_LOAD_SUBMIT,
    STEP_LOAD_WORK,
    STEP_END
};

/* Ask a sentinel who the master is. */
static status start_asking(struct store *s)
{
    status st = OK;

    s->phase = PHASE_ASKING;
    TRY(redis_connect(&s->redis, &s->address, &s->tls));
    TRY(SEND(s, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s->route.master));
    TRY(redis_send(s->redis));
out:
    return st;
}

static status start_checking(struct store *s)
{
    char db[16];
    bool is_sentinel;
    status st = OK;

    s->is_redirected = false;
    s->address = *store_route_pick(&s->route, &is_sentinel);
    if (is_sentinel)
        return start_asking(s);
    snprintf(db, sizeof(db), "%d", s->address.db);
    TRY(redis_connect(&s->redis, &s->address, &s->tls));
    s->phase = PHASE_CHECKING;
    s->step = s->password[0] ? STEP_AUTH : STEP_SELECT;
    if (s->password[0] && s->user[0])
        TRY(SEND(s, "AUTH", s->user, s->password));
    else if (s->password[0])
        TRY(SEND(s, "AUTH", s->password));
    TRY(SEND(s, "SELECT", db));
    TRY(SEND(s, "INFO"));
    TRY(SEND(s, "CONFIG", "GET", "appendonly"));
    TRY(SEND(s, "CONFIG", "GET", "appendfsync"));
    TRY(SEND(s, "CONFIG", "GET", "maxmemory-policy"));
    TRY(redis_send(s->redis));
out:
    return st;
}

/* How the library begins and ends in its two forms, as functions and as scripts. Redis 7 refuses a
 * form without allow-oom before it has done anything when its memory is full. */
static const char run_function[] =
    "local function run(keys, args) return enter_library(keys[1], unpack(args)) end\n";
static const char run_script[] = "return enter_library(KEYS[1], unpack(ARGV))\n";

/* The text of one form. Errors: ERR_NOMEM. */
static status write_library(const struct store *s, bool may_fill, struct buf *text)
{
    char first[128] = "", last[256] = "";
    status st = OK;

    if (s->scripts.are_functions) {
        const char *name = may_fill ? s->scripts.work : s->scripts.submit;

        snprintf(first, sizeof(first), "#!lua name=%s\n", name);
        snprintf(last, sizeof(last),
                 "redis.register_function{function_name='%s', callback=run%s}\n", name,
                 may_fill ? ", flags={'allow-oom'}" : "");
    } else if (s->major >= FUNCTIONS_MAJOR) {
        snprintf(first, sizeof(first), "#!lua%s\n", may_fill ? " flags=allow-oom" : "");
    }
    TRY(buf_append_text(text, first));
    TRY(buf_append_text(text, store_lua));
    TRY(buf_append_text(text, store_query_lua));
    TRY(buf_append_text(text, store_admin_lua));
    TRY(buf_append_text(text, s->scripts.are_functions ? run_function : run_script));
    TRY(buf_append_text(text, last));
out:
    return st;
}

/* Queue the loading of one form. */
static status send_load(struct store *s, bool may_fill)
{
    struct buf text = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    status st = OK;

    TRY(write_library(s, may_fill, &text));
    if (s->scripts.are_functions)
        TRY(SEND(s, "FUNCTION", "LOAD", text.data));
    else
        TRY(SEND(s, "SCRIPT", "LOAD", text.data));
out:
    buf_free(&text);
    return st;
}

/* Functions are named after what they do and what they are: brokers of two releases share a Redis
 * while they are exchanged. */
static status name_functions(struct store *s)
{
    uint8_t sha256[DIGEST_BYTES];
    struct digest d = { 0 };
    char text[2 * 8 + 1];
    status st = OK;

    TRY(digest_begin(&d));
    TRY(digest_add(&d, store_lua, strlen(store_lua)));
    TRY(digest_add(&d, store_query_lua, strlen(store_query_lua)));
    TRY(digest_add(&d, store_admin_lua, strlen(store_admin_lua)));
    TRY(digest_end(&d, sha256));
    for (int i = 0; i < 8; i++)
        snprintf(text + 2 * i, 3, "%02x", sha256[i]);
    snprintf(s->scripts.submit, sizeof(s->scripts.submit), "onestep_submit_%s", text);
    snprintf(s->scripts.work, sizeof(s->scripts.work), "onestep_work_%s", text);
out:
    digest_free(&d);
    return st;
}

static status start_loading(struct store *s)
{
    status st = OK;

    s->phase = PHASE_LOADING;
    s->scripts.are_functions = s->major >= FUNCTIONS_MAJOR && !s->no_functions;
    if (s->scripts.are_functions)
        TRY(name_functions(s));
    TRY(SEND(s, "HSETNX", STORE_TAG "config", "schema", SCHEMA));
    TRY(SEND(s, "HGET", STORE_TAG "config", "schema"));
    TRY(send_load(s, false));
    TRY(send_load(s, true));
    TRY(redis_send(s->redis));
out:
    return st;
}

static status step_refused(struct store *s, const char *why)
{
    const char *at = s->address.label;

    if (strncmp(why, "MOVED", 5) == 0 && store_route_move(&s->route, why) == OK) {
        s->is_redirected = true;
        return FAIL(ERR_UNAVAILABLE, "Redis at %s sends us to %s", at, s->route.target.label);
    }
    s->is_loading_data = strncmp(why, "LOADING", 7) == 0;
    if (s->is_loading_data)
        return FAIL(ERR_UNAVAILABLE, "Redis at %s is still reading its files; try again soon", at);
    if (strncmp(why, "NOAUTH", 6) == 0)
        return FAIL(ERR_UNAVAILABLE,
                    "Redis at %s wants a password; write it into a file and set "
                    "redis_password_file",
                    at);
    if (strncmp(why, "WRONGPASS", 9) == 0 || strncmp(why, "ERR AUTH", 8) == 0)
        return FAIL(ERR_UNAVAILABLE,
                    "Redis at %s refuses the password of redis_password_file for the user %s", at,
                    s->user[0] ? s->user : "default");
    return FAIL(ERR_UNAVAILABLE, "Redis at %s refuses: %.200s", at, why);
}

/* Value of "name:value" in INFO, or "". */
static const char *info_value(const char *info, const char *name)
{
    const char *at = strstr(info, name);

    return at && (at == info || at[-1] == '\n') ? at + strlen(name) : "";
}

static status check_info(struct store *s, const char *info)
{
    const char *version = info_value(info, "redis_version:");
    const char *role = info_value(info, "role:");
    const char *dot = strchr(version, '.');
    int minor = dot ? atoi(dot + 1) : 0;

    s->major = atoi(version);
    if (s->major < VERSION_MIN_MAJOR ||
        (s->major == VERSION_MIN_MAJOR && minor < VERSION_MIN_MINOR))
        return FAIL(ERR_CONFLICT, "Redis at %s has version %.*s; Onestep needs %d.%d or newer",
                    s->address.label, (int)strcspn(version, "\r\n"), version, VERSION_MIN_MAJOR,
                    VERSION_MIN_MINOR);
    if (strncmp(role, "master", 6) != 0)
        return FAIL(ERR_UNAVAILABLE, "Redis at %s is a replica; set redis_url to its master",
                    s->address.label);
    return OK;
}

/* The answer to CONFIG GET must be wanted. */
static status check_setting(const struct store *s, const struct redis_value *value,
                            const char *wanted, const char *danger)
{
    const char *name = redis_text(redis_at(value, 0), NULL);
    const char *found = redis_text(redis_at(value, 1), NULL);

    if (strcmp(found, wanted) == 0)
        return OK;
    if (s->allow_unsafe) {
        log_warn("store.unsafe", "redis=%s setting=%s value=%s wanted=%s", s->address.label, name,
                 found, wanted);
        return OK;
    }
    return FAIL(ERR_CONFLICT,
                "Redis at %s %s (%s is \"%s\"); start it with --%s %s, or set "
                "redis_unsafe: true",
                s->address.label, danger, name, found, name, wanted);
}

static status check_fsync(const struct store *s, const struct redis_value *value)
{
    const char *found = redis_text(redis_at(value, 1), NULL);

    if (strcmp(found, "always") != 0)
        log_warn("store.fsync",
                 "redis=%s appendfsync=%s risk=\"a crash of Redis may lose the "
                 "jobs accepted in its last 2 s; use --appendfsync always\"",
                 s->address.label, found);
    return OK;
}

static status take_loaded(const struct store *s, char sha[64], const struct redis_value *value)
{
    size_t len;
    const char *text = redis_text(value, &len);

    if (s->scripts.are_functions)
        return OK; /* its name was ours to choose */
    if (len != 40)
        return FAIL(ERR_CORRUPT, "Redis answers SCRIPT LOAD with \"%.60s\"", text);
    memcpy(sha, text, 41);
    return OK;
}

static status check_schema(const struct store *s, const struct redis_value *value)
{
    const char *found = redis_text(value, NULL);

    if (strcmp(found, SCHEMA) != 0)
        return FAIL(ERR_CONFLICT,
                    "Redis at %s holds jobs in form %.20s, this release knows form "
                    "%s; use the release that wrote them",
                    s->address.label, found, SCHEMA);
    return OK;
}

/* A library may be there already, and then need not be loaded: by another broker, or by an
 * administrator for users who may not. If it is not there after all, the first call says so. */
static bool may_be_loaded(const struct store *s, const char *why)
{
    return s->scripts.are_functions &&
           (strstr(why, "already exists") || strncmp(why, "NOPERM", 6) == 0 ||
            strncmp(why, "OOM", 3) == 0);
}

static status check_step(struct store *s, enum step step, const struct redis_value *value)
{
    bool is_setting = step >= STEP_APPENDONLY && step <= STEP_POLICY;

    if (redis_kind(value) == REDIS_ERROR) {
        bool is_moved = strncmp(redis_text(value, NULL), "MOVED", 5) == 0;

        /* Without memory the schema can't be set, but it may be there from before. */
        if ((step == STEP_SCHEMA_SET && !is_moved) || (is_setting && s->allow_unsafe))
            return OK;
        if (step >= STEP_LOAD_SUBMIT && may_be_loaded(s, redis_text(value, NULL)))
            return OK;
        if (is_setting && strncmp(redis_text(value, NULL), "NOPERM", 6) == 0)
            return FAIL(ERR_CONFLICT,
                        "Redis at %s does not let this user see whether it keeps "
                        "jobs (CONFIG GET); if it is appendonly and noeviction, set "
                        "redis_unsafe: true",
                        s->address.label);
        return step_refused(s, redis_text(value, NULL));
    }
    switch (step) {
    case STEP_AUTH:
    case STEP_SELECT:
    case STEP_SCHEMA_SET:
        return OK;
    case STEP_INFO:
        return check_info(s, redis_text(value, NULL));
    case STEP_APPENDONLY:
        return check_setting(s, value, "yes", "would forget all jobs when it stops");
    case STEP_APPENDFSYNC:
        return check_fsync(s, value);
    case STEP_POLICY:
        return check_setting(s, value, "noeviction", "may throw jobs away when it is full");
    case STEP_SCHEMA:
        return check_schema(s, value);
    case STEP_LOAD_SUBMIT:
        return take_loaded(s, s->scripts.submit, value);
    case STEP_LOAD_WORK:
        return take_loaded(s, s->scripts.work, value);
    case STEP_END:
        break;
    }
    CHECK(!"a step that is none");
    return ERR_CORRUPT;
}

static void come_up(struct store *s)
{
    s->phase = PHASE_UP;
    s->retry_wait_ms = RETRY_FIRST_MS;
    if (s->was_up)
        log_info("store.connected", "redis=%s", s->address.label);
    s->was_up = true;
}

/* One reply while getting UP. */
static status take_step(struct store *s, const struct redis_value *value)
{
    status st = check_step(s, (enum step)s->step, value);

    if (st != OK)
        return st;
    s->step++;
    if (s->step == STEP_CHECKED)
        return start_loading(s);
    if (s->step == STEP_END)
        come_up(s);
    return OK;
}

/* --- losing it --- */

/* The sentence of the failure is status_message(). */
static void go_down(struct store *s, int64_t now_ms)
{
    if (s->phase == PHASE_UP)
        log_error("store.lost", "redis=%s reason=\"%s\"", s->address.label, status_message());
    else if (strcmp(s->why, status_message()) != 0)
        log_warn("store.down", "redis=%s reason=\"%s\"", s->address.label, status_message());
    snprintf(s->why, sizeof(s->why), "%s", status_message());
    redis_close(s->redis);
    s->redis = NULL;
    s->phase = PHASE_DOWN;
    if (!s->is_redirected)
        store_route_fail(&s->route);
    s->retry_at_ms = now_ms + s->retry_wait_ms;
    s->retry_wait_ms = s->retry_wait_ms * 2 < RETRY_MAX_MS ? s->retry_wait_ms * 2 : RETRY_MAX_MS;
}

/* --- replies --- */

/* The library is gone: load it, and send this call again behind it. */
static status send_again(struct store *s, struct waiting *w)
{
    status st = OK;

    if (s->count + 2 >= CALLS_MAX || ++w->resends > RESENDS_MAX)
        return FAIL(ERR_UNAVAILABLE, "Redis at %s keeps forgetting scripts", s->address.label);
    if (s->reloads == 0) {
        TRY(send_load(s, false));
        TRY(send_load(s, true));
        s->reloads = 2;
        *waiting_at(s, s->count++) = (struct waiting){ .op = STORE_NONE };
        *waiting_at(s, s->count++) = (struct waiting){ .op = STORE_NONE };
    }
    TRY(redis_add(s->redis, w->command.data, w->command.len));
    *waiting_at(s, s->count++) = *w;
    w->command = (struct buf){ 0 };
out:
    return st;
}

/* --- replicas --- */

/* Is a change lost that its caller was told of, when a replica without it takes over? Claims and
 * renewals may be lost: their leases are judged again. */
static bool must_be_copied(enum store_op op)
{
    return op == STORE_SUBMIT || op == STORE_COMPLETE || op == STORE_CANCEL || op == STORE_FAIL ||
           op == STORE_REDRIVE || op == STORE_QUOTA || op == STORE_PAUSE;
}

/* Queue WAIT behind the changes that were queued since the last one. */
static status confirm(struct store *s)
{
    char replicas[16], limit_ms[24];
    status st = OK;

    if (s->replicas == 0 || s->unconfirmed == 0 || s->phase != PHASE_UP || s->count >= CALLS_MAX)
        return OK;
    snprintf(replicas, sizeof(replicas), "%d", s->replicas);
    snprintf(limit_ms, sizeof(limit_ms), "%lld", (long long)(s->timeout_ms / 2));
    TRY(SEND(s, "WAIT", replicas, limit_ms));
    *waiting_at(s, s->count++) = (struct waiting){ .op = STORE_NONE, .is_wait = true };
    s->unconfirmed = 0;
out:
    return st;
}

/* Keep the reply to *w, which it takes, until its WAIT is answered. */
static void hold(struct store *s, struct waiting *w)
{
    CHECK(s->held_count < CALLS_MAX);
    s->held[s->held_count++] = (struct held){ *w, redis_take(s->redis) };
    w->command = (struct buf){ 0 };
}

/* What an error that Redis gives to a script means for the caller. */
static status error_of(const struct store *s, const char *why)
{
    if (strncmp(why, "OOM", 3) == 0)
        return FAIL(ERR_FULL, "Redis at %s has no memory left for more jobs; raise its maxmemory",
                    s->address.label);
    if (strncmp(why, "ERR", 3) == 0 || strncmp(why, "WRONGTYPE", 9) == 0)
        return FAIL(ERR_CORRUPT, "Redis at %s: %.300s", s->address.label, why);
    return FAIL(ERR_UNAVAILABLE, "Redis at %s refuses: %.300s", s->address.label, why);
}

static void answer(struct store *s, const struct waiting *w, const struct redis_value *value,
                   store_reply_fn on_reply, void *self)
{
    struct store_reply reply = empty_reply(w);
    char sentence[512];

    arena_release(&s->arena, 0);
    if (redis_kind(value) == REDIS_ERROR)
        reply.code = error_of(s, redis_text(value, NULL));
    else
        reply.code = store_read_reply(&reply, value, &s->spec, &s->arena);
    if (reply.code != OK) {
        snprintf(sentence, sizeof(sentence), "%s", status_message());
        reply.sentence = sentence;
    }
    hand_out(&reply, on_reply, self);
}

/* WAIT was answered: the changes before it are on so many replicas. */
static void take_confirmation(struct store *s, int64_t count, store_reply_fn on_reply, void *self)
{
    size_t held = s->held_count; /* answers may bring new calls, but no new held ones */
    char why[400];

    snprintf(
        why, sizeof(why),
        "Redis at %s has it, but %lld of the %d replicas that shall (redis_replicas); ask again",
        s->address.label, (long long)count, s->replicas);
    s->held_count = 0;
    for (size_t i = 0; i < held; i++) {
        struct held h = s->held[i];

        if (count >= s->replicas)
            answer(s, &h.call, h.value, on_reply, self);
        else
            answer_unavailable(&h.call, why, on_reply, self);
        redis_free_value(h.value);
        buf_free(&h.call.command);
    }
}

static status take_reply(struct store *s, const struct redis_value *value, store_reply_fn on_reply,
                         void *self)
{
    bool is_error = redis_kind(value) == REDIS_ERROR;
    bool is_forgotten = is_error && (strncmp(redis_text(value, NULL), "NOSCRIPT", 8) == 0 ||
                                     strstr(redis_text(value, NULL), "Function not found"));
    bool is_replica = is_error && strncmp(redis_text(value, NULL), "READONLY", 8) == 0;
    bool is_moved = is_error && strncmp(redis_text(value, NULL), "MOVED", 5) == 0;
    char moved[256];
    struct waiting w;
    status st = OK;

    snprintf(moved, sizeof(moved), "%s", redis_text(value, NULL));
    if (s->count == 0)
        return FAIL(ERR_CORRUPT, "Redis at %s answers what was not asked", s->address.label);
    w = take_first(s);
    if (w.is_wait) {
        take_confirmation(s, redis_int(value), on_reply, self);
    } else if (w.op == STORE_NONE) {
        s->reloads--;
        if (is_error && !may_be_loaded(s, redis_text(value, NULL)))
            st = step_refused(s, redis_text(value, NULL));
    } else if (is_forgotten) {
        st = send_again(s, &w);
        if (st != OK) {
            snprintf(s->why, sizeof(s->why), "%s", status_message());
            answer_unavailable(&w, s->why, on_reply, self);
            st = FAIL(st, "%s", s->why); /* the answer may have brought a failure of its own */
        }
    } else if (!is_error && s->replicas > 0 && must_be_copied(w.op)) {
        hold(s, &w);
    } else {
        answer(s, &w, value, on_reply, self);
    }
    buf_free(&w.command);
    if (st == OK && is_moved)
        st = step_refused(s, moved);
    if (st == OK && is_replica) /* a failover: the address has to be looked up again */
        st = FAIL(ERR_UNAVAILABLE, "Redis at %s has become a replica", s->address.label);
    return st;
}

/* Everything that has arrived. */
static status read_replies(struct store *s, int64_t now_ms, store_reply_fn on_reply, void *self)
{
    const struct redis_value *value;
    size_t got;
    status st = OK;

    TRY(redis_receive(s->redis, &got));
    if (got > 0)
        s->heard_ms = now_ms;
    for (;;) {
        TRY(redis_next(s->redis, &value));
        if (!value)
            break;
        if (s->phase == PHASE_UP) {
            TRY(take_reply(s, value, on_reply, self));
            continue;
        }
        if (s->phase == PHASE_ASKING) {
            TRY(store_route_name(&s->route, value));
            redis_close(s->redis);
            s->redis = NULL;
            return start_checking(s);
        }
        TRY(take_step(s, value));
        if (s->phase == PHASE_UP) /* calls that came too early were never sent */
            fail_all(s, on_reply, self);
    }
    TRY(redis_send(s->redis));
out:
    return st;
}

/* --- the interface --- */

static bool is_waiting(const struct store *s)
{
    return s->phase != PHASE_UP || s->count > 0;
}

static status step(struct store *s, int64_t now_ms, store_reply_fn on_reply, void *self)
{
    status st = OK;

    if (s->phase == PHASE_DOWN || s->is_idle)
        s->heard_ms = now_ms;
    if (s->phase == PHASE_DOWN)
        TRY(start_checking(s));
    TRY(redis_send(s->redis));
    TRY(read_replies(s, now_ms, on_reply, self));
    s->is_idle = !is_waiting(s);
    if (!s->is_idle && now_ms - s->heard_ms > s->timeout_ms)
        TRY(FAIL(ERR_UNAVAILABLE, "Redis at %s has not answered for %lld ms", s->address.label,
                 (long long)(now_ms - s->heard_ms)));
out:
    return st;
}

void store_step(struct store *store, int64_t now_ms, store_reply_fn on_reply, void *self)
{
    if (store->phase == PHASE_DOWN && now_ms < store->retry_at_ms) {
        fail_all(store, on_reply, self);
        return;
    }
    if (step(store, now_ms, on_reply, self) != OK)
        go_down(store, now_ms);
    if (store->phase != PHASE_UP)
        fail_all(store, on_reply, self);
}

status store_add(struct store *store, const struct store_call *call)
{
    struct waiting w = { .op = call->op, .tag = call->tag, .command.max_bytes = LIMIT_MSG_BYTES };
    status st = OK;

    if (store->count + store->held_count >= CALLS_MAX)
        return FAIL(ERR_FULL, "%d calls to Redis are under way; try again later", CALLS_MAX);
    if (store->phase == PHASE_UP) {
        TRY(store_format(call, &store->scripts, &w.command));
        TRY(redis_add(store->redis, w.command.data, w.command.len));
        store->unconfirmed += must_be_copied(w.op);
    }
    *waiting_at(store, store->count++) = w;
    return OK;
out:
    buf_free(&w.command);
    return st;
}

void store_flush(struct store *store)
{
    /* What went wrong is found again, and handled, by the next store_step. */
    if (store->redis && (confirm(store) != OK || redis_send(store->redis) != OK))
        log_debug("store.flush", "reason=\"%s\"", status_message());
}

int store_fd(const struct store *store, bool *want_write)
{
    *want_write = store->redis && redis_wants_write(store->redis);
    return store->redis ? redis_fd(store->redis) : -1;
}

int64_t store_wait_ms(const struct store *store, int64_t now_ms)
{
    int64_t until_ms;

    if (store->phase == PHASE_DOWN)
        until_ms = store->count > 0 ? now_ms : store->retry_at_ms;
    else if (is_waiting(store))
        until_ms = (store->is_idle ? now_ms : store->heard_ms) + store->timeout_ms + 1;
    else
        return -1;
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

size_t store_pending(const struct store *store)
{
    return store->count + store->held_count;
}

bool store_is_connected(const struct store *store)
{
    return store->phase == PHASE_UP;
}

static status read_password(struct store *s, const char *path)
{
    struct buf text = { 0 };
    size_t len;
    status st = OK;

    TRY(file_read(path, PASSWORD_BYTES_MAX, &text));
    len = strcspn(text.data ? text.data : "", "\r\n");
    if (len == 0 || len >= sizeof(s->password))
        TRY(FAIL(ERR_BADARG, "%s: its first line must be the password of Redis", path));
    memcpy(s->password, text.data, len);
out:
    if (text.data)
        explicit_bzero(text.data, text.len);
    buf_free(&text);
    return st;
}

static void wait_for(struct store *s, int64_t limit_ms)
{
    struct pollfd p = { .fd = -1, .events = POLLIN };
    bool want_write;
    int64_t now_ms = clock_mono_ms();
    int64_t wait_ms = store_wait_ms(s, now_ms);

    p.fd = store_fd(s, &want_write);
    if (want_write)
        p.events |= POLLOUT;
    if (wait_ms < 0 || wait_ms > limit_ms)
        wait_ms = limit_ms;
    poll(&p, 1, (int)wait_ms); /* an early return is as good */
}

static void expect_no_reply(void *self, const struct store_reply *reply)
{
    (void)self;
    (void)reply;
    CHECK(!"a reply before the first call");
}

/* Try until it is up, refused, or LOADING_WAIT_MS are over. */
static status first_connection(struct store *s)
{
    int64_t deadline_ms = clock_mono_ms() + LOADING_WAIT_MS;
    size_t failures = 0;

    while (s->phase != PHASE_UP) {
        int64_t now_ms = clock_mono_ms();
        status st;

        if (s->phase == PHASE_DOWN && now_ms < s->retry_at_ms) {
            wait_for(s, s->retry_at_ms - now_ms);
            continue;
        }
        st = step(s, now_ms, expect_no_reply, NULL);
        if (st != OK &&
            ((!s->is_loading_data && !s->is_redirected && ++failures >= s->route.seed_count) ||
             now_ms > deadline_ms))
            return st;
        if (st != OK)
            go_down(s, now_ms);
        else if (s->phase != PHASE_UP)
            wait_for(s, s->timeout_ms);
    }
    return OK;
}

/* A copy of what the configuration borrows. */
static status copy_login(struct store *s, const struct store_config *config)
{
    const char *const paths[3] = { config->tls.ca, config->tls.cert, config->tls.key };
    status st = OK;

    if (config->user && *config->user && !s->password[0])
        TRY(FAIL(ERR_BADARG, "redis_user wants redis_password_file"));
    if (config->user && strlen(config->user) >= sizeof(s->user))
        TRY(FAIL(ERR_BADARG, "redis_user has %zu bytes, the limit is %zu", strlen(config->user),
                 sizeof(s->user) - 1));
    snprintf(s->user, sizeof(s->user), "%s", config->user ? config->user : "");
    for (int i = 0; i < 3; i++) {
        if (paths[i] && *paths[i])
            TRY(file_join(s->tls_paths[i], FILE_PATH_BYTES, "", paths[i]));
    }
    s->tls = (struct tls_files){ s->tls_paths[0], s->tls_paths[1], s->tls_paths[2] };
out:
    return st;
}

status store_open(struct store **store, const struct store_config *config)
{
    struct store *s = calloc(1, sizeof(*s));
    status st = OK;

    *store = NULL;
    if (!s)
        return FAIL(ERR_NOMEM, "no memory for the store");
    s->allow_unsafe = config->allow_unsafe;
    s->no_functions = config->no_functions;
    s->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS;
    s->retry_wait_ms = RETRY_FIRST_MS;
    s->replicas = config->replicas;
    TRY(store_route_parse(&s->route, config->url));
    if (config->password_file && *config->password_file)
        TRY(read_password(s, config->password_file));
    TRY(copy_login(s, config));
    s->queue = calloc(CALLS_MAX, sizeof(*s->queue));
    if (!s->queue)
        TRY(FAIL(ERR_NOMEM, "no memory for the store"));
    if (s->replicas > 0)
        s->held = calloc(CALLS_MAX, sizeof(*s->held));
    if (s->replicas > 0 && !s->held)
        TRY(FAIL(ERR_NOMEM, "no memory for the store"));
    TRY(arena_open(&s->arena, "store reply", REPLY_ARENA_BYTES));
    TRY(first_connection(s));
    *store = s;
    return OK;
out:
    store_close(s);
    return st;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    while (store->count > 0) {
        struct waiting w = take_first(store);

        buf_free(&w.command);
    }
    for (size_t i = 0; i < store->held_count; i++) {
        redis_free_value(store->held[i].value);
        buf_free(&store->held[i].call.command);
    }
    redis_close(store->redis);
    free(store->held);
    arena_close(&store->arena);
    explicit_bzero(store->password, sizeof(store->password));
    free(store->queue);
    free(store);
}

/* Watches for the one reply of store_call_now. */
struct watch {
    store_reply_fn on_reply;
    void *self;
    bool is_answered;
    status code;
    char sentence[512];
};

static void see_reply(void *self, const struct store_reply *reply)
{
    struct watch *w = self;

    w->is_answered = true;
    w->code = reply->code;
    snprintf(w->sentence, sizeof(w->sentence), "%s", reply->sentence);
    if (w->on_reply)
        w->on_reply(w->self, reply);
}

status store_call_now(struct store *store, const struct store_call *call, store_reply_fn on_reply,
                      void *self)
{
    struct watch w = { .on_reply = on_reply, .self = self };
    status st;

    CHECK(store->count == 0);
    st = store_add(store, call);
    if (st != OK)
        return st;
    store_flush(store);
    for (;;) {
        store_step(store, clock_mono_ms(), see_reply, &w);
        if (w.is_answered)
            break;
        wait_for(store, store->timeout_ms);
    }
    return w.code == OK ? OK : FAIL(w.code, "%s", w.sentence);
}
