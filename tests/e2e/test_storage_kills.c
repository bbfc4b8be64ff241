/* Results and kill -9: the real worker dies at random points between its first frame and the
 * published manifest, again and again, and every job has exactly one result in the end.
 *
 * The store is the tests' own server, which counts what is put under each key. `make prove-storage`
 * runs the same with 500 kills (ONESTEP_KILLS). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/config.h"
#include "common/digest.h"
#include "tests/e2e/stack.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

#define KILLS_DEFAULT 10
#define KILLS_MAX 2000
/* The store quarantines a job that has taken three workers down. */
#define HITS_MAX 2
/* Requests that a clip makes until it is published: probe, look, video, poster, manifest. */
#define REQUESTS 7
#define MOMENT_MS 120

struct job {
    char id[JOB_ID_BYTES];
    int hits; /* workers that died while they had it */
    bool is_done;
};

/* A run. */
struct kills {
    struct stack s;
    struct httpd store;
    struct job *jobs;
    int count;
    int between; /* kills before the clip at hand was published */
};

static const char *store_yaml(const struct httpd *store)
{
    static char text[FILE_PATH_BYTES + 256];
    const char *keys = "[default]\naws_access_key_id=AKID\naws_secret_access_key=secret\n";

    snprintf(text, sizeof(text),
             "blob: \"s3://clips/out\"\ns3_endpoint: \"http://127.0.0.1:%d\"\n"
             "s3_path_style: true\ns3_credentials_file: \"%s\"\n",
             store->port, stack_write("keys", keys));
    return text;
}

static void open_all(struct stack *s, struct httpd *store)
{
    const struct stack_config c = { .lease_ms = 1000, .store = store_yaml(store) };

    stack_open_with(s, &c);
}

/* What the running worker has said so far. */
static const char *worker_log(struct kills *k, struct buf *text)
{
    if (file_exists(k->s.workers[0].err_path))
        EXPECT_OK(file_read(k->s.workers[0].err_path, 64 << 20, text));
    return text->len ? text->data : "";
}

static bool says(const char *log, const char *event, const char *job)
{
    char part[64];

    snprintf(part, sizeof(part), "%s job=%s", event, job);
    return strstr(log, part) != NULL;
}

/* --- the moment ------------------------------------------------------------------------------ */

/* What a kill waits for: a job that this worker has begun, then so many requests, or so long. */
struct moment {
    struct kills *k;
    int requests; /* of the store, in all; 0: the time says */
    int64_t at_ms;
};

static bool has_begun(void *self)
{
    struct moment *m = self;
    struct buf text = { 0 };
    const char *log = worker_log(m->k, &text);
    bool has = false;

    for (int i = 0; i < m->k->count && !has; i++) {
        const struct job *j = &m->k->jobs[i];

        has = !j->is_done && j->hits < HITS_MAX && says(log, "job.start", j->id) &&
              !says(log, "job.done", j->id);
    }
    buf_free(&text);
    return has || stack_has_ended(&m->k->s.workers[0]);
}

static bool has_come(void *self)
{
    const struct moment *m = self;

    return (m->requests && httpd_requests(&m->k->store) >= m->requests) ||
           clock_mono_ms() >= m->at_ms;
}

/* Are there jobs that must not be hit any more, and are not done? */
static bool has_settled(void *self)
{
    struct kills *k = self;

    for (int i = 0; i < k->count; i++) {
        struct job *j = &k->jobs[i];
        struct stack_output o;

        if (j->is_done || j->hits < HITS_MAX)
            continue;
        o = ONESTEP("status", j->id, "--json", k->s.broker_flag);
        j->is_done = o.code == 0 && strstr(o.out, "\"state\":\"done\"");
        if (!j->is_done)
            return false;
    }
    return true;
}

/* Whose jobs were they? */
static void note_hits(struct kills *k)
{
    struct buf text = { 0 };
    const char *log = worker_log(k, &text);
    bool was_between = false;

    for (int i = 0; i < k->count; i++) {
        struct job *j = &k->jobs[i];
        char manifest[128];

        if (j->is_done || !says(log, "job.start", j->id))
            continue;
        snprintf(manifest, sizeof(manifest), "/clips/out/%s/manifest.json", j->id);
        if (says(log, "job.done", j->id))
            continue;
        j->hits++;
        was_between = was_between || !httpd_stored(&k->store, manifest, NULL);
    }
    k->between += was_between;
    buf_free(&text);
}

static void submit_one(struct kills *k)
{
    char seed[32];

    snprintf(seed, sizeof(seed), "--seed=%d", k->count);
    snprintf(k->jobs[k->count++].id, JOB_ID_BYTES, "%s",
             stack_submit(&k->s, (const char *[]){ seed, "--frames=3", "--width=64", "--height=64",
                                                   "--attempts=20", NULL }));
}

static void kill_once(struct kills *k)
{
    struct moment m = { .k = k, .at_ms = clock_mono_ms() + STACK_WAIT_MS };
    uint64_t dice = test_random();

    stack_add_worker(&k->s, 0);
    EXPECT(clock_wait_for(has_settled, k, STACK_WAIT_MS));
    submit_one(k);
    EXPECT(clock_wait_for(has_begun, &m, STACK_WAIT_MS));
    /* Half of them in the middle of what is stored, unless that ends before; the others at any
     * time, encoding included. */
    m.at_ms = clock_mono_ms() + (int64_t)((dice >> 1) % MOMENT_MS);
    if (dice & 1) {
        m.requests = httpd_requests(&k->store) + 1 + (int)((dice >> 1) % REQUESTS);
        m.at_ms = clock_mono_ms() + 2 * MOMENT_MS;
    }
    EXPECT(clock_wait_for(has_come, &m, STACK_WAIT_MS));
    EXPECT(!stack_has_ended(&k->s.workers[0])); /* by itself */
    stack_kill(&k->s.workers[0]);
    note_hits(k);
}

/* --- the jobs -------------------------------------------------------------------------------- */

/* A file of a manifest is in the store, as the manifest has it. */
static bool is_whole(struct kills *k, const struct json_value *outputs, const char *name)
{
    struct json_value v = json_find(outputs, name);
    struct buf bytes = { .max_bytes = 16 << 20 };
    char path[1024], hex[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];
    bool is_there;

    snprintf(path, sizeof(path), "/clips/out/%s", stack_text(&v, "key"));
    is_there = httpd_stored(&k->store, path, &bytes);
    EXPECT_OK(digest_sha256(bytes.data, bytes.len, sha256));
    is_there = is_there && strcmp(digest_hex(sha256, hex), stack_text(&v, "sha256")) == 0;
    buf_free(&bytes);
    return is_there;
}

/* Has the job one result, published once, and whole? *puts: of its manifest. */
static bool has_result(struct kills *k, const struct job *j, int *puts)
{
    struct buf text = { .max_bytes = 1 << 20 };
    struct json document = { 0 };
    struct json_value root, outputs;
    struct stack_output o;
    char path[128], want[128];
    bool is_good;

    snprintf(path, sizeof(path), "/clips/out/%s/manifest.json", j->id);
    snprintf(want, sizeof(want), "\"s3://clips/out/%s/manifest.json\"", j->id);
    o = ONESTEP("status", j->id, "--json", k->s.broker_flag);
    is_good = o.code == 0 && strstr(o.out, "\"state\":\"done\"") && strstr(o.out, want);
    *puts = httpd_puts(&k->store, path);
    if (!httpd_stored(&k->store, path, &text))
        return false;
    EXPECT_OK(json_parse(&document, path, text.data, text.len));
    root = json_root(&document);
    outputs = json_find(&root, "outputs");
    is_good = is_good && is_whole(k, &outputs, "video") && is_whole(k, &outputs, "poster");
    if (!is_good)
        printf("# %s\n", o.out);
    json_free(&document);
    buf_free(&text);
    return is_good;
}

static int kills_wanted(void)
{
    const char *text = config_env("ONESTEP_KILLS");
    int kills = text ? atoi(text) : KILLS_DEFAULT;

    EXPECT(kills > 0 && kills <= KILLS_MAX);
    return kills;
}

/* Also into the file that ONESTEP_KILLS_REPORT names: `make prove-storage` shows it. */
static void tell(const struct kills *k, int lost, int twice, int64_t took_ms)
{
    const char *path = config_env("ONESTEP_KILLS_REPORT");
    char line[256];

    snprintf(line, sizeof(line),
             "%d kills -9, %d of them before the manifest of the clip at hand was published: %d "
             "jobs, %d lost, %d published twice; %.0f s\n",
             k->count, k->between, k->count, lost, twice, (double)took_ms / 1000);
    printf("# %s", line);
    if (path)
        EXPECT_OK(file_write_atomic(path, line, strlen(line)));
}

TEST_TIMEOUT(storage_kills_lose_nothing_and_publish_nothing_twice, 7200)
{
    static struct kills k;
    int kills = kills_wanted(), lost = 0, twice = 0;
    int64_t begin_ms = clock_mono_ms();

    httpd_start(&k.store, &(struct httpd_config){ .access_key = "AKID", .secret_key = "secret" });
    open_all(&k.s, &k.store);
    k.jobs = calloc((size_t)kills, sizeof(k.jobs[0]));
    EXPECT(k.jobs);
    for (int i = 0; i < kills; i++)
        kill_once(&k);
    stack_add_worker(&k.s, 0);
    for (int i = 0; i < k.count; i++)
        stack_wait_state(&k.s, k.jobs[i].id, "done");
    for (int i = 0; i < k.count; i++) {
        int puts;

        lost += !has_result(&k, &k.jobs[i], &puts);
        twice += puts > 1;
    }
    tell(&k, lost, twice, clock_mono_ms() - begin_ms);
    EXPECT_INT(lost, 0);
    EXPECT_INT(twice, 0);
    stack_close(&k.s);
    httpd_stop(&k.store);
    free(k.jobs);
}

/* --- a store that is down -------------------------------------------------------------------- */

/* A job whose stage is waited for. */
struct stage_wait {
    struct stack *s;
    const char *job;
};

static bool is_uploading(void *self)
{
    struct stage_wait *w = self;
    struct stack_output o = ONESTEP("status", w->job, "--json", w->s->broker_flag);

    return o.code == 0 && strstr(o.out, "\"stage\":\"uploading\"");
}

/* The store is down when a clip is finished: its job says so, also to people; the worker is killed;
 * the store comes back; the next worker brings the clip there, and it is what its manifest says. */
TEST_TIMEOUT(storage_down_and_a_killed_worker_cost_no_clip, 180)
{
    struct stack s;
    struct httpd store;
    struct stack_output o;
    struct stage_wait wait = { .s = &s };
    char job[JOB_ID_BYTES], endpoint[96], keys[FILE_PATH_BYTES + 32], folder[FILE_PATH_BYTES];
    char manifest[FILE_PATH_BYTES];
    int before;

    httpd_start(&store, &(struct httpd_config){ .access_key = "AKID", .secret_key = "secret" });
    httpd_fault(&store, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 503 });
    open_all(&s, &store);
    stack_add_worker(&s, 0);
    snprintf(job, sizeof(job), "%s", stack_submit(&s, (const char *[]){ "--frames=3", NULL }));
    wait.job = job;
    EXPECT(clock_wait_for(is_uploading, &wait, STACK_WAIT_MS));
    o = ONESTEP("status", job, s.broker_flag);
    stack_expect(&o, 0, NULL);
    EXPECT(strstr(o.out, "uploading"));
    stack_kill(&s.workers[0]);
    httpd_fault(&store, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
    before = httpd_requests(&store);
    stack_add_worker(&s, 0);
    stack_wait_text(s.workers[0].err_path, "spool.found");
    stack_wait_state(&s, job, "done");
    EXPECT(httpd_requests(&store) > before);
    snprintf(endpoint, sizeof(endpoint), "--s3-endpoint=http://127.0.0.1:%d", store.port);
    snprintf(keys, sizeof(keys), "--s3-credentials-file=%s", stack_path("keys"));
    snprintf(folder, sizeof(folder), "%s", stack_path("fetched"));
    o = ONESTEP("fetch", job, "-o", folder, endpoint, "--s3-path-style", keys, s.broker_flag);
    stack_expect(&o, 0, NULL);
    snprintf(manifest, sizeof(manifest), "%.900s/%s.json", folder, job);
    o = ONESTEP("verify", manifest);
    stack_expect(&o, 0, NULL);
    EXPECT(strstr(o.out, "ok") && !strstr(o.out, "changed") && !strstr(o.out, "absent"));
    stack_close(&s);
    httpd_stop(&store);
}
