/* Finished clips on their way out: stores that are down, leases that end, addresses of users, and
 * workers that are killed. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"
#include "tests/unit/worker/crew_world.h"

/* What a test waits for. */
struct wish {
    struct world *w;
    const struct lease *lease;
    struct httpd *store;
    const char *object;
    int requests;
};

static bool is_kept(void *self)
{
    struct wish *wish = self;
    bool is_true;

    pthread_mutex_lock(&wish->w->lock);
    is_true = world_about(wish->w, wish->lease)->kept > 0;
    pthread_mutex_unlock(&wish->w->lock);
    return is_true;
}

static bool is_full(void *self)
{
    struct wish *wish = self;
    bool is_true;

    pthread_mutex_lock(&wish->w->lock);
    is_true = wish->w->is_full;
    pthread_mutex_unlock(&wish->w->lock);
    return is_true;
}

static bool has_room(void *self)
{
    return !is_full(self);
}

static bool is_stored(void *self)
{
    struct wish *wish = self;

    return httpd_stored(wish->store, wish->object, NULL);
}

static bool has_asked(void *self)
{
    const struct wish *wish = self;

    return httpd_requests(wish->store) >= wish->requests;
}

static bool is_work_empty(void *self)
{
    struct spool_item *found = NULL;
    char work[FILE_PATH_BYTES];
    bool is_empty;

    (void)self;
    EXPECT_OK(spool_find(&found, world_path("work", work)));
    is_empty = !found;
    spool_free_all(found);
    return is_empty;
}

#define WAIT(condition, wish) EXPECT(clock_wait_for(condition, wish, WORLD_DEADLINE_S * 1000))

static void start_store(struct httpd *d, bool is_down)
{
    const struct httpd_fault fault = { .kind = HTTPD_STATUS, .code = 503 };

    httpd_start(d, &(struct httpd_config){ .access_key = "AKID", .secret_key = "secret" });
    if (is_down)
        httpd_fault(d, &fault);
}

static void mend(struct httpd *d)
{
    httpd_fault(d, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
}

/* A job whose video is wanted at the server there. */
static struct job_spec job_to(const struct httpd *there)
{
    struct job_spec spec = world_job("in.png");

    snprintf(spec.put_url, sizeof(spec.put_url), "http://127.0.0.1:%d/u?X-Amz-Signature=s3cr3t",
             there->port);
    return spec;
}

#define THERE "/u?X-Amz-Signature=s3cr3t"

static void expect_same(struct httpd *there, const char *video)
{
    struct buf a = { .max_bytes = 1 << 20 }, b = { .max_bytes = 1 << 20 };
    char path[FILE_PATH_BYTES];

    EXPECT_OK(file_read(world_path_of(video, path), 1 << 20, &a));
    EXPECT(httpd_stored(there, THERE, &b));
    EXPECT(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
    buf_free(&a);
    buf_free(&b);
}

/* DONE means that the video is there too; whoever adopts it sees to that anew; no secret is
 * published. */
TEST(storage_crew_brings_the_video_to_its_users_address)
{
    struct world w;
    struct httpd there;
    struct job_spec spec;
    struct lease lease;
    struct said said;
    struct buf text = { .max_bytes = 1 << 20 };
    char path[FILE_PATH_BYTES];

    httpd_start(&there, &(struct httpd_config){ 0 });
    spec = job_to(&there);
    world_open(&w, false);
    lease = world_take(&w, &spec, WORLD_JOB_A, 1);
    said = world_wait(&w, &lease);
    EXPECT_TEXT(said.sentence, "");
    EXPECT_INT(httpd_requests(&there), 1);
    expect_same(&there, said.video);
    EXPECT_OK(file_read(world_path_of(said.manifest, path), 1 << 20, &text));
    EXPECT(strstr(text.data, "/u\"") && !strstr(text.data, "s3cr3t"));
    for (int attempt = 2; attempt >= 1; attempt--) { /* found before, and after, its own work */
        httpd_store(&there, THERE, "old", 3);
        lease = world_take(&w, &spec, WORLD_JOB_A, attempt);
        EXPECT(world_wait(&w, &lease).end == END_DONE);
        expect_same(&there, said.video);
    }
    EXPECT_INT(httpd_requests(&there), 3);
    buf_free(&text);
    world_close(&w);
    httpd_stop(&there);
}

/* The address refuses: the job says so, and the result is published all the same. */
TEST(storage_crew_says_when_an_address_refuses)
{
    struct world w;
    struct httpd there;
    struct job_spec spec;
    struct lease lease;
    struct said said;
    char path[FILE_PATH_BYTES], name[64];

    httpd_start(&there, &(struct httpd_config){ 0 });
    httpd_fault(&there, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 403 });
    spec = job_to(&there);
    world_open(&w, false);
    lease = world_take(&w, &spec, WORLD_JOB_A, 1);
    said = world_wait(&w, &lease);
    printf("# %s\n", said.sentence);
    EXPECT(said.end == END_FAILED && said.code == ERR_BADARG);
    EXPECT(strstr(said.sentence, "put_url: ") && strstr(said.sentence, "403"));
    EXPECT(strstr(said.sentence, "published: file://") && !strstr(said.sentence, "s3cr3t"));
    snprintf(name, sizeof(name), "out/%s/manifest.json", WORLD_JOB_A);
    EXPECT(file_exists(world_path(name, path)));
    WAIT(is_work_empty, NULL);
    snprintf(spec.put_url, sizeof(spec.put_url), "http://user:pw@h/x");
    lease = world_take(&w, &spec, WORLD_JOB_B, 1);
    said = world_wait(&w, &lease);
    EXPECT(said.end == END_FAILED && said.starts == 0); /* before anything is computed */
    world_close(&w);
    httpd_stop(&there);
}

/* The address is down when the worker goes: the next one brings the video, without a lease. */
TEST(storage_crew_brings_the_video_after_a_restart)
{
    struct world w;
    struct httpd there;
    struct job_spec spec;
    struct lease lease;
    struct wish wish = { .store = &there, .object = THERE, .requests = 1 };

    httpd_start(&there, &(struct httpd_config){ 0 });
    httpd_fault(&there, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 503 });
    spec = job_to(&there);
    world_open(&w, false);
    lease = world_take(&w, &spec, WORLD_JOB_A, 1);
    WAIT(has_asked, &wish);
    world_close(&w);
    EXPECT(world_wait(&w, &lease).end == END_STOPPED);
    mend(&there);
    world_open(&w, false);
    WAIT(is_stored, &wish);
    WAIT(is_work_empty, NULL);
    world_close(&w);
    httpd_stop(&there);
}

/* While the store is down the crew makes the next clip, says "uploading", says when its budget is
 * reached, and delivers all of it once the store is back. */
TEST(storage_spool_waits_for_the_store)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = world_job("in.png");
    struct lease one, two;
    struct wish wish = { .w = &w };
    struct said said;

    start_store(&store, true);
    world_open_at(&w, false, store.port, 1);
    one = world_take(&w, &spec, WORLD_JOB_A, 1);
    wish.lease = &one;
    WAIT(is_kept, &wish);
    WAIT(is_full, &wish);
    two = world_take(&w, &spec, WORLD_JOB_B, 1);
    wish.lease = &two;
    WAIT(is_kept, &wish);
    pthread_mutex_lock(&w.lock);
    EXPECT(world_about(&w, &one)->end == END_NONE && world_about(&w, &two)->end == END_NONE);
    EXPECT_TEXT(world_about(&w, &one)->stage, "uploading");
    pthread_mutex_unlock(&w.lock);
    mend(&store);
    said = world_wait(&w, &one);
    EXPECT(said.end == END_DONE);
    EXPECT_TEXT(said.manifest, "s3://clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/manifest.json");
    EXPECT(world_wait(&w, &two).end == END_DONE);
    WAIT(has_room, &wish);
    WAIT(is_work_empty, NULL);
    world_close(&w);
    httpd_stop(&store);
}

/* A lost lease does not cost the clip; a cancelled job does. */
TEST(storage_spool_outlives_its_lease)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = world_job("in.png");
    struct lease lost, cancelled, again;
    struct wish wish = { .w = &w,
                         .store = &store,
                         .object = "/clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/manifest.json" };

    start_store(&store, true);
    world_open_at(&w, false, store.port, 1 << 20);
    lost = world_take(&w, &spec, WORLD_JOB_A, 1);
    wish.lease = &lost;
    WAIT(is_kept, &wish);
    cancelled = world_take(&w, &spec, WORLD_JOB_B, 1);
    wish.lease = &cancelled;
    WAIT(is_kept, &wish);
    crew_cancel(&w.crew, &lost, VERDICT_LOST);
    crew_cancel(&w.crew, &cancelled, VERDICT_CANCELLED);
    EXPECT(world_wait(&w, &lost).end == END_STOPPED);
    EXPECT(world_wait(&w, &cancelled).end == END_STOPPED);
    mend(&store);
    WAIT(is_stored, &wish);
    WAIT(is_work_empty, NULL);
    EXPECT(!httpd_stored(&store, "/clips/out/00bbbbbbbbbbbbbbbbbbbbbbbb/manifest.json", NULL));
    again = world_take(&w, &spec, WORLD_JOB_A, 2);
    EXPECT(world_wait(&w, &again).end == END_DONE);
    pthread_mutex_lock(&w.lock);
    EXPECT_INT(world_about(&w, &again)->starts, 0);
    pthread_mutex_unlock(&w.lock);
    world_close(&w);
    httpd_stop(&store);
}

/* A lease that has run out ends its upload, one under way as well, and nobody else's; a renewed one
 * lets it begin again. */
TEST(storage_crew_uploads_while_its_lease_lasts)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = world_job("in.png");
    struct lease one, two;
    struct wish wish = { .w = &w, .store = &store, .lease = &one };
    const char *video = "PUT /clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/a1-";

    start_store(&store, false);
    world_open_at(&w, false, store.port, 1 << 20);
    wish.requests = httpd_requests(&store) + 1;
    httpd_fault(&store, &(struct httpd_fault){ .kind = HTTPD_STALL, .count = 1, .only = video });
    one = world_take(&w, &spec, WORLD_JOB_A, 1);
    crew_renew(&w.crew, &one, clock_mono_ms() + 3600000);
    WAIT(has_asked, &wish); /* the video, which is not answered */
    two = world_take(&w, &spec, WORLD_JOB_B, 1);
    crew_renew(&w.crew, &one, 1); /* long past */
    EXPECT(world_wait(&w, &two).end == END_DONE);
    EXPECT_INT(httpd_objects(&store), 4); /* the probe, and all of the other clip */
    crew_renew(&w.crew, &one, clock_mono_ms() + 3600000);
    EXPECT(world_wait(&w, &one).end == END_DONE);
    EXPECT_INT(httpd_objects(&store), 7);
    world_close(&w);
    httpd_stop(&store);
}

/* A worker is killed while its clip waits for a store that is not there; the next one finds the
 * clip, and the job's next attempt finds the result. */
TEST(storage_spool_is_taken_up_after_a_kill)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = world_job("in.png");
    struct lease lease;
    struct wish wish = { .w = &w,
                         .store = &store,
                         .lease = &lease,
                         .object = "/clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/manifest.json" };
    pid_t pid = fork();
    int code;

    EXPECT(pid >= 0);
    if (pid == 0) {
        world_open_at(&w, false, 1, 1 << 20); /* nobody listens at port 1 */
        lease = world_take(&w, &spec, WORLD_JOB_A, 1);
        WAIT(is_kept, &wish);
        raise(SIGKILL);
    }
    EXPECT(waitpid(pid, &code, 0) == pid && WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL);
    EXPECT(!is_work_empty(NULL));
    start_store(&store, false);
    world_open_at(&w, false, store.port, 1 << 20);
    WAIT(is_stored, &wish);
    WAIT(is_work_empty, NULL);
    lease = world_take(&w, &spec, WORLD_JOB_A, 2);
    EXPECT(world_wait(&w, &lease).end == END_DONE);
    pthread_mutex_lock(&w.lock);
    EXPECT_INT(world_about(&w, &lease)->starts, 0);
    pthread_mutex_unlock(&w.lock);
    world_close(&w);
    httpd_stop(&store);
}

/* --- a worker that dies at any moment -------------------------------------------------------- */

#define DEATHS 12

/* The child makes the job's clip and says so; it is killed when its parent thinks fit. */
static _Noreturn void make_and_die(int port, const struct job_spec *spec, int to_parent)
{
    static struct world w;
    struct lease lease;
    struct wish wish = { .w = &w, .lease = &lease };

    world_open_at(&w, false, port, 1 << 20);
    lease = world_take(&w, spec, WORLD_JOB_A, 1);
    WAIT(is_kept, &wish);
    EXPECT(write(to_parent, "k", 1) == 1);
    for (;;)
        pause();
}

static void empty_store(struct httpd *store, struct buf *manifest)
{
    buf_free(manifest);
    httpd_stop(store);
    start_store(store, false);
}

/* From the moment that a clip is kept, whenever its worker is killed: the next worker publishes it
 * without computing anything, once, and what a reader saw as the result stays the result. */
TEST_TIMEOUT(storage_killed_between_encode_and_publish, 120)
{
#if defined(__SANITIZE_THREAD__)
    test_skip("ThreadSanitizer ends children of a process with threads that start some");
#endif
    static const char object[] = "/clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/manifest.json";
    struct job_spec spec = world_job("in.png");
    struct httpd store;
    struct buf seen = { 0 }, last = { 0 };
    int published = 0;

    start_store(&store, false);
    for (int i = 0; i < DEATHS; i++) {
        struct wish wish = { .store = &store,
                             .object = object,
                             .requests = httpd_requests(&store) + (int)(test_random() % 6) };
        struct world w;
        struct lease lease;
        int ends[2], code;
        bool was_there;
        char byte;
        pid_t pid;

        EXPECT(pipe(ends) == 0);
        pid = fork();
        EXPECT(pid >= 0);
        if (pid == 0)
            make_and_die(store.port, &spec, ends[1]);
        close(ends[1]); /* so that a child that fails is no wait without end */
        EXPECT(read(ends[0], &byte, 1) == 1);
        WAIT(has_asked, &wish);
        EXPECT(kill(pid, SIGKILL) == 0 && waitpid(pid, &code, 0) == pid);
        close(ends[0]);
        was_there = httpd_stored(&store, object, &seen);
        published += was_there;
        world_open_at(&w, false, store.port, 1 << 20);
        WAIT(is_stored, &wish);
        WAIT(is_work_empty, NULL);
        lease = world_take(&w, &spec, WORLD_JOB_A, 2);
        EXPECT(world_wait(&w, &lease).end == END_DONE);
        pthread_mutex_lock(&w.lock);
        EXPECT_INT(world_about(&w, &lease)->starts, 0);
        pthread_mutex_unlock(&w.lock);
        EXPECT(httpd_stored(&store, object, &last));
        EXPECT(!was_there || (seen.len == last.len && memcmp(seen.data, last.data, seen.len) == 0));
        world_close(&w);
        buf_free(&seen);
        empty_store(&store, &last);
    }
    printf("%d of %d had published when they died\n", published, DEATHS);
    httpd_stop(&store);
}
