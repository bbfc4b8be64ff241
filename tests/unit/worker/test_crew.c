/* The threads of a worker, from lease to published result, with the tiny model and a folder as the
 * store; the world around the crew is a list of what it said. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/id.h"
#include "common/media.h"
#include "common/url.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"
#include "worker/crew.h"
#include "worker/model/safetensors.h"

#define MODEL "tests/fixtures/tiny-a"
#define DEADLINE_S 30

enum end { END_NONE = 0, END_DONE, END_FAILED, END_STOPPED };

/* What the crew said about one lease. */
struct said {
    struct lease lease;
    enum end end;
    status code;
    char sentence[512];
    char video[1024], poster[1024], manifest[1024];
    int starts, reports, kept;
    char stage[32]; /* the last one */
    double progress;
};

/* The world. */
struct world {
    struct crew crew;
    struct media_decoder decoder;
    struct pipeline pipeline;
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct said said[64];
    int count;
    bool is_full;               /* as was said last */
    int broken;                 /* times that the device was said to be broken */
    int may_break;              /* times that it should be said */
    const struct rlimit *files; /* limit of file sizes from the start of compute; NULL: none */
    const char *stop_at;        /* cancel the lease when this stage is reported; NULL: never */
};

/* Under the lock. */
static struct said *about(struct world *w, const struct lease *lease)
{
    for (int i = 0; i < w->count; i++) {
        if (msg_lease_equal(&w->said[i].lease, lease))
            return &w->said[i];
    }
    test_fail(__FILE__, __LINE__, "the crew spoke of a lease that nobody gave it");
}

static void on_start(void *self, const struct lease *lease)
{
    struct world *w = self;

    pthread_mutex_lock(&w->lock);
    about(w, lease)->starts++;
    EXPECT(!w->files || setrlimit(RLIMIT_FSIZE, w->files) == 0);
    pthread_mutex_unlock(&w->lock);
}

static void on_report(void *self, const struct lease *lease, const char *stage, double progress)
{
    struct world *w = self;
    struct said *s;
    bool stop;

    pthread_mutex_lock(&w->lock);
    s = about(w, lease);
    EXPECT(progress >= s->progress && progress <= 1);
    s->progress = progress;
    s->reports++;
    snprintf(s->stage, sizeof(s->stage), "%s", stage);
    stop = w->stop_at && strcmp(stage, w->stop_at) == 0;
    pthread_mutex_unlock(&w->lock);
    if (stop)
        crew_cancel(&w->crew, lease, VERDICT_CANCELLED);
}

static void end(struct world *w, const struct lease *lease, enum end how, status code,
                const char *sentence)
{
    struct said *s;

    pthread_mutex_lock(&w->lock);
    s = about(w, lease);
    EXPECT(s->end == END_NONE);
    s->end = how;
    s->code = code;
    snprintf(s->sentence, sizeof(s->sentence), "%s", sentence);
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
}

static void on_kept(void *self, const struct lease *lease)
{
    struct world *w = self;

    pthread_mutex_lock(&w->lock);
    about(w, lease)->kept++;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
}

static void on_full(void *self, bool is_full)
{
    struct world *w = self;

    pthread_mutex_lock(&w->lock);
    w->is_full = is_full;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
}

static void on_done(void *self, const struct lease *lease, const struct job_result *result)
{
    struct world *w = self;
    struct said *s;

    pthread_mutex_lock(&w->lock);
    s = about(w, lease);
    snprintf(s->video, sizeof(s->video), "%s", result->video);
    snprintf(s->poster, sizeof(s->poster), "%s", result->poster);
    snprintf(s->manifest, sizeof(s->manifest), "%s", result->manifest);
    pthread_mutex_unlock(&w->lock);
    end(w, lease, END_DONE, OK, "");
}

static void on_fail(void *self, const struct lease *lease, status code, const char *sentence)
{
    end(self, lease, END_FAILED, code, sentence);
}

static void on_stopped(void *self, const struct lease *lease)
{
    end(self, lease, END_STOPPED, OK, "");
}

static void on_broken(void *self)
{
    struct world *w = self;

    pthread_mutex_lock(&w->lock);
    w->broken++;
    pthread_mutex_unlock(&w->lock);
}

static const char *in_tmp(const char *name, char *dst)
{
    EXPECT_OK(file_join(dst, FILE_PATH_BYTES, test_tmpdir(), name));
    return dst;
}

/* The crew with its store in test_tmpdir()/out, or an S3 store at this port of this machine when
 * that is not 0; dump: write dumps to test_tmpdir()/dump. */
static void open_world_at(struct world *w, bool dump, int s3_port, uint64_t spool_bytes_max)
{
    char endpoint[64];
    char dir[FILE_PATH_BYTES], work[FILE_PATH_BYTES], dumps[FILE_PATH_BYTES], url[URL_ROOM];
    const struct pipeline_config pipeline = {
        .model_dir = MODEL,
        .device = "cpu",
        .kern = { .threads = 2 },
        .memory_max_bytes = (size_t)512 << 20,
    };
    struct crew_config config = {
        .pipeline = &w->pipeline,
        .decoder = &w->decoder,
        .fetch = { .input_root = test_tmpdir() },
        .result = { .work_dir = in_tmp("work", work),
                    .handover = { .allow_private_hosts = true },
                    .maker = { "tiny-a", "hash", "cpu", "build" } },
        .spool_bytes_max = spool_bytes_max,
        .dump_dir = dump ? in_tmp("dump", dumps) : "",
        .model_dir = MODEL,
        .ops = { w, on_start, on_report, on_kept, on_full, on_done, on_fail, on_stopped,
                 on_broken },
    };

    memset(w, 0, sizeof(*w));
    EXPECT(pthread_mutex_init(&w->lock, NULL) == 0 && pthread_cond_init(&w->change, NULL) == 0);
    EXPECT_OK(url_from_path(in_tmp("out", dir), url, sizeof(url)));
    config.result.blob.url = url;
    if (s3_port) {
        snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", s3_port);
        config.result.blob.url = "s3://clips/out";
        config.result.blob.s3 =
            (struct s3_config){ .endpoint = endpoint,
                                .path_style = true,
                                .credentials = { .access_key = "AKID", .secret_key = "secret" } };
    }
    EXPECT_OK(file_make_dirs(work));
    EXPECT_OK(media_decoder_open(&w->decoder));
    EXPECT_OK(pipeline_open(&w->pipeline, &pipeline));
    EXPECT_OK(crew_open(&w->crew, &config));
}

static void open_world(struct world *w, bool dump)
{
    open_world_at(w, dump, 0, 1 << 20);
}

static void close_world(struct world *w)
{
    crew_close(&w->crew);
    pipeline_close(&w->pipeline);
    media_decoder_close(&w->decoder);
    EXPECT_INT(w->broken, w->may_break);
}

/* A PNG in the test's folder, and a job for it. */
static struct job_spec job_for(const char *name)
{
    enum { SIDE = 48 };
    static uint8_t rgb[SIDE * SIDE * 3];
    struct job_spec spec;
    char path[FILE_PATH_BYTES];

    for (int i = 0; i < SIDE * SIDE * 3; i++)
        rgb[i] = (uint8_t)(i * 11 + i / SIDE);
    EXPECT_OK(media_png_write(in_tmp(name, path), rgb, SIDE, SIDE));
    spec_init(&spec);
    EXPECT_OK(url_from_path(path, spec.image, sizeof(spec.image)));
    spec.frames = 3;
    spec.width_px = 48;
    spec.height_px = 32;
    return spec;
}

static struct lease take(struct world *w, const struct job_spec *spec, const char *job,
                         int64_t attempt)
{
    struct lease lease = { .attempt = attempt, .nonce = id_random() };

    snprintf(lease.job, sizeof(lease.job), "%s", job);
    pthread_mutex_lock(&w->lock);
    EXPECT(w->count < (int)(sizeof(w->said) / sizeof(w->said[0])));
    w->said[w->count++].lease = lease;
    pthread_mutex_unlock(&w->lock);
    crew_take(&w->crew, &lease, spec);
    return lease;
}

/* A copy of what was said once the lease has ended. */
static struct said wait_for(struct world *w, const struct lease *lease)
{
    struct timespec deadline;
    struct said said;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DEADLINE_S;
    pthread_mutex_lock(&w->lock);
    while (about(w, lease)->end == END_NONE) {
        if (pthread_cond_timedwait(&w->change, &w->lock, &deadline) != 0)
            test_fail(__FILE__, __LINE__, "the job did not end in %d s", DEADLINE_S);
    }
    said = *about(w, lease);
    pthread_mutex_unlock(&w->lock);
    return said;
}

static const char *path_of(const char *text, char *dst)
{
    struct url url;

    EXPECT_OK(url_parse(&url, text));
    EXPECT(url.scheme == URL_FILE);
    EXPECT_OK(url_decode_path(&url, dst, FILE_PATH_BYTES));
    return dst;
}

static const char job_a[] = "00aaaaaaaaaaaaaaaaaaaaaaaa";
static const char job_b[] = "00bbbbbbbbbbbbbbbbbbbbbbbb";

TEST(storage_crew_makes_a_result)
{
    struct world w;
    struct job_spec spec = job_for("in.png");
    struct lease lease;
    struct said said;
    struct media_video_info info;
    struct json j = { 0 };
    struct json_value root, outputs, part;
    char path[FILE_PATH_BYTES], want[FILE_PATH_BYTES];
    const char *text = NULL;

    snprintf(spec.output, sizeof(spec.output), "some/where/");
    open_world(&w, false);
    lease = take(&w, &spec, job_a, 1);
    said = wait_for(&w, &lease);
    EXPECT_TEXT(said.sentence, "");
    EXPECT(said.end == END_DONE && said.starts == 1 && said.reports > 10);
    EXPECT_NEAR(said.progress, 1, 1e-9);
    EXPECT_OK(media_video_probe(&info, path_of(said.video, path)));
    EXPECT(info.frame_count == 3 && info.width_px == 48 && info.height_px == 32);
    EXPECT(file_exists(path_of(said.poster, path)));
    snprintf(want, sizeof(want), "%s/out/some/where/%s/manifest.json", test_tmpdir(), job_a);
    EXPECT_TEXT(path_of(said.manifest, path), want);
    EXPECT_OK(json_open_file(&j, path));
    root = json_root(&j);
    outputs = json_find(&root, "outputs");
    part = json_find(&outputs, "video");
    EXPECT_OK(json_get_text(&part, "url", &text));
    EXPECT_TEXT(text, said.video);
    json_free(&j);
    close_world(&w);
}

/* The attempt before this one published, but nobody heard: its result is the job's. */
TEST(storage_crew_adopts_an_earlier_result)
{
    struct world w;
    struct job_spec spec = job_for("in.png");
    struct lease first, second, third;
    struct said one, two;

    open_world(&w, false);
    first = take(&w, &spec, job_a, 1);
    one = wait_for(&w, &first);
    EXPECT(one.end == END_DONE);
    /* Found before any work is done. */
    second = take(&w, &spec, job_a, 2);
    two = wait_for(&w, &second);
    EXPECT(two.end == END_DONE && two.starts == 0);
    EXPECT_TEXT(two.video, one.video);
    EXPECT_TEXT(two.manifest, one.manifest);
    /* Found when its own manifest is refused: a lease that believes to be the first. */
    third = take(&w, &spec, job_a, 1);
    two = wait_for(&w, &third);
    EXPECT(two.end == END_DONE && two.starts == 1);
    EXPECT_TEXT(two.video, one.video);
    close_world(&w);
}

TEST(storage_crew_does_not_adopt_another_jobs_result)
{
    struct world w;
    struct job_spec spec = job_for("in.png");
    struct lease lease;
    struct said said;

    open_world(&w, false);
    lease = take(&w, &spec, job_a, 1);
    EXPECT(wait_for(&w, &lease).end == END_DONE);
    spec.seed = 5;
    lease = take(&w, &spec, job_a, 2);
    said = wait_for(&w, &lease);
    EXPECT(said.end == END_FAILED && said.code == ERR_CONFLICT);
    EXPECT(strstr(said.sentence, "another job with this id"));
    close_world(&w);
}

/* Bad jobs end with a sentence each, and the good ones among them are made. */
TEST(crew_survives_bad_jobs)
{
    static const struct {
        const char *name, *content, *part;
        int64_t width_px;
        status code;
    } bad[] = {
        { "gone.png", NULL, "gone.png", 48, ERR_NOTFOUND },
        { "text.png", "this is a letter, not a picture", "text.png", 48, ERR_CORRUPT },
        { "in.png", NULL, "multiple of 8", 50, ERR_BADARG },
        { "in.png", NULL, "needs", 4096, ERR_NOMEM },
    };
    enum { COUNT = sizeof(bad) / sizeof(bad[0]) };
    struct world w;
    struct job_spec good = job_for("in.png");
    struct lease bad_lease[COUNT], good_lease[COUNT];
    char path[FILE_PATH_BYTES], job[JOB_ID_BYTES];

    open_world(&w, false);
    for (int i = 0; i < COUNT; i++) {
        struct job_spec spec = good;

        if (bad[i].content)
            EXPECT_OK(file_write_atomic(in_tmp(bad[i].name, path), bad[i].content,
                                        strlen(bad[i].content)));
        EXPECT_OK(url_from_path(in_tmp(bad[i].name, path), spec.image, sizeof(spec.image)));
        spec.width_px = bad[i].width_px;
        spec.height_px = bad[i].code == ERR_NOMEM ? 4096 : 32;
        snprintf(job, sizeof(job), "00bad%021d", i);
        bad_lease[i] = take(&w, &spec, job, 1);
        snprintf(job, sizeof(job), "00good%020d", i);
        good_lease[i] = take(&w, &good, job, 1);
    }
    for (int i = 0; i < COUNT; i++) {
        struct said said = wait_for(&w, &bad_lease[i]);

        printf("%s\n", said.sentence);
        EXPECT(said.end == END_FAILED && said.starts == 0);
        EXPECT_TEXT(status_name(said.code), status_name(bad[i].code));
        EXPECT(strstr(said.sentence, bad[i].part));
        EXPECT(wait_for(&w, &good_lease[i]).end == END_DONE);
    }
    close_world(&w);
}

/* The same job twice, among others: the same video, byte for byte. */
TEST(crew_makes_the_same_bytes_again)
{
    struct world w;
    struct job_spec spec = job_for("in.png"), other = spec;
    struct lease one, between, two;
    char path[FILE_PATH_BYTES];
    struct buf a = { 0 }, b = { 0 };

    open_world(&w, false);
    other.seed = 99;
    other.frames = 2;
    one = take(&w, &spec, job_a, 1);
    between = take(&w, &other, "00cccccccccccccccccccccccc", 1);
    two = take(&w, &spec, job_b, 3);
    EXPECT_OK(file_read(path_of(wait_for(&w, &one).video, path), 1 << 20, &a));
    EXPECT(wait_for(&w, &between).end == END_DONE);
    EXPECT_OK(file_read(path_of(wait_for(&w, &two).video, path), 1 << 20, &b));
    EXPECT(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
    buf_free(&a);
    buf_free(&b);
    close_world(&w);
}

TEST(crew_stops_a_cancelled_job_in_any_stage)
{
    for (int i = STAGE_FETCH; i <= STAGE_UPLOAD; i++) {
        struct world w;
        struct job_spec spec = job_for("in.png");
        struct lease lease;
        char path[FILE_PATH_BYTES], manifest[FILE_PATH_BYTES];

        open_world(&w, false);
        w.stop_at = stage_name((enum stage)i);
        lease = take(&w, &spec, job_a, 1);
        EXPECT(wait_for(&w, &lease).end == END_STOPPED);
        snprintf(manifest, sizeof(manifest), "out/%s/manifest.json", job_a);
        EXPECT(!file_exists(in_tmp(manifest, path)));
        close_world(&w);
    }
}

TEST(crew_closes_with_jobs_in_hand)
{
    struct world w;
    struct job_spec spec = job_for("in.png");
    char job[JOB_ID_BYTES];

    open_world(&w, false);
    spec.frames = 20;
    for (int i = 0; i < 10; i++) {
        snprintf(job, sizeof(job), "00abcd%020d", i);
        take(&w, &spec, job, 1);
    }
    close_world(&w);
    for (int i = 0; i < 10; i++)
        EXPECT(w.said[i].end != END_NONE);
}

TEST(crew_dumps_what_the_help_promises)
{
    static const char *const names[] = { "conditioning_latent",
                                         "final_latents",
                                         "frames",
                                         "image",
                                         "image_embedding",
                                         "image_noise",
                                         "initial_noise",
                                         "latents.0",
                                         "latents.1",
                                         "unet_output.0",
                                         "unet_output.0.cond",
                                         "unet_output.0.uncond",
                                         "unet_output.1",
                                         "unet_output.1.cond",
                                         "unet_output.1.uncond" };
    const size_t count = sizeof(names) / sizeof(names[0]);
    struct world w;
    struct job_spec spec = job_for("in.png");
    struct lease lease;
    struct safetensors dump;
    char path[FILE_PATH_BYTES], name[64];

    spec.sampler = SPEC_EULER;
    spec.steps = 2;
    open_world(&w, true);
    lease = take(&w, &spec, job_a, 1);
    EXPECT(wait_for(&w, &lease).end == END_DONE);
    snprintf(name, sizeof(name), "dump/%s.safetensors", job_a);
    EXPECT_OK(safetensors_open(&dump, in_tmp(name, path)));
    EXPECT_INT(dump.count, count);
    for (size_t i = 0; i < count; i++)
        EXPECT(safetensors_find(&dump, names[i]) != NULL);
    for (size_t i = 0; i < spec_param_count; i++)
        EXPECT(safetensors_meta_find(&dump, spec_params[i].name) != NULL);
    EXPECT_TEXT(safetensors_meta_find(&dump, "noise"), "philox");
    EXPECT_TEXT(safetensors_meta_find(&dump, "guidance_max"), "3");
    EXPECT_TEXT(safetensors_meta_find(&dump, "checkpoint"), MODEL);
    safetensors_close(&dump);
    close_world(&w);
}

static status fail_linear(struct kern_ctx *ctx, const struct kern_linear *a)
{
    (void)ctx;
    (void)a;
    return FAIL(ERR_DEVICE, "the device fell off the bus");
}

TEST(crew_reports_a_broken_device_once)
{
    struct world w;
    struct job_spec spec = job_for("in.png");
    struct lease one, two;
    struct kern_table table;
    struct said said;

    open_world(&w, false);
    w.may_break = 1;
    table = *w.pipeline.dev.kern;
    table.linear = fail_linear;
    w.pipeline.dev.kern = &table;
    one = take(&w, &spec, job_a, 1);
    two = take(&w, &spec, job_b, 1);
    said = wait_for(&w, &one);
    EXPECT(said.end == END_FAILED && said.code == ERR_DEVICE);
    EXPECT_TEXT(said.sentence, "the device fell off the bus");
    said = wait_for(&w, &two);
    EXPECT(said.end == END_FAILED && said.code == ERR_DEVICE);
    close_world(&w);
}

/* A file that may not grow is what a full disk looks like. */
TEST(storage_crew_names_the_full_disk_and_recovers)
{
    struct world w;
    struct job_spec spec = job_for("in.png");
    struct rlimit full = { 512, RLIM_INFINITY }, fine = { RLIM_INFINITY, RLIM_INFINITY };
    struct lease lease;
    struct said said;

    EXPECT(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    open_world(&w, false);
    w.files = &full;
    lease = take(&w, &spec, job_a, 1);
    said = wait_for(&w, &lease);
    w.files = NULL;
    EXPECT(setrlimit(RLIMIT_FSIZE, &fine) == 0);
    printf("%s\n", said.sentence);
    EXPECT(said.end == END_FAILED);
    EXPECT_TEXT(status_name(said.code), "full");
    EXPECT(strstr(said.sentence, test_tmpdir()) != NULL);
    lease = take(&w, &spec, job_a, 2);
    EXPECT(wait_for(&w, &lease).end == END_DONE);
    close_world(&w);
}

/* The result's names say what is in it. */
TEST(storage_crew_delivers_in_the_format_that_was_asked_for)
{
    static const char *const endings[] = { "/video.mp4", "/video.webm", "/frames.tar" };
    struct world w;
    struct job_spec spec = job_for("in.png");
    struct lease lease;
    struct said said;
    char path[FILE_PATH_BYTES], job[JOB_ID_BYTES];

    open_world(&w, false);
    for (int i = SPEC_MP4; i <= SPEC_PNG; i++) {
        snprintf(job, sizeof(job), "%s", job_a);
        job[25] = (char)('0' + i);
        spec.format = i;
        lease = take(&w, &spec, job, 1);
        said = wait_for(&w, &lease);
        EXPECT_TEXT(said.sentence, "");
        EXPECT_TEXT(strrchr(path_of(said.video, path), '/'), endings[i]);
        EXPECT(file_exists(path) && file_exists(path_of(said.poster, path)));
    }
    close_world(&w);
}

/* --- clips that wait for the store ----------------------------------------------------------- */

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
    is_true = about(wish->w, wish->lease)->kept > 0;
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
    EXPECT_OK(spool_find(&found, in_tmp("work", work)));
    is_empty = !found;
    spool_free_all(found);
    return is_empty;
}

#define WAIT(condition, wish) EXPECT(clock_wait_for(condition, wish, DEADLINE_S * 1000))

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
    struct job_spec spec = job_for("in.png");

    snprintf(spec.put_url, sizeof(spec.put_url), "http://127.0.0.1:%d/u?X-Amz-Signature=s3cr3t",
             there->port);
    return spec;
}

#define THERE "/u?X-Amz-Signature=s3cr3t"

static void expect_same(struct httpd *there, const char *video)
{
    struct buf a = { .max_bytes = 1 << 20 }, b = { .max_bytes = 1 << 20 };
    char path[FILE_PATH_BYTES];

    EXPECT_OK(file_read(path_of(video, path), 1 << 20, &a));
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
    open_world(&w, false);
    lease = take(&w, &spec, job_a, 1);
    said = wait_for(&w, &lease);
    EXPECT_TEXT(said.sentence, "");
    EXPECT_INT(httpd_requests(&there), 1);
    expect_same(&there, said.video);
    EXPECT_OK(file_read(path_of(said.manifest, path), 1 << 20, &text));
    EXPECT(strstr(text.data, "/u\"") && !strstr(text.data, "s3cr3t"));
    for (int attempt = 2; attempt >= 1; attempt--) { /* found before, and after, its own work */
        httpd_store(&there, THERE, "old", 3);
        lease = take(&w, &spec, job_a, attempt);
        EXPECT(wait_for(&w, &lease).end == END_DONE);
        expect_same(&there, said.video);
    }
    EXPECT_INT(httpd_requests(&there), 3);
    buf_free(&text);
    close_world(&w);
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
    open_world(&w, false);
    lease = take(&w, &spec, job_a, 1);
    said = wait_for(&w, &lease);
    printf("# %s\n", said.sentence);
    EXPECT(said.end == END_FAILED && said.code == ERR_BADARG);
    EXPECT(strstr(said.sentence, "put_url: ") && strstr(said.sentence, "403"));
    EXPECT(strstr(said.sentence, "published: file://") && !strstr(said.sentence, "s3cr3t"));
    snprintf(name, sizeof(name), "out/%s/manifest.json", job_a);
    EXPECT(file_exists(in_tmp(name, path)));
    WAIT(is_work_empty, NULL);
    snprintf(spec.put_url, sizeof(spec.put_url), "http://user:pw@h/x");
    lease = take(&w, &spec, job_b, 1);
    said = wait_for(&w, &lease);
    EXPECT(said.end == END_FAILED && said.starts == 0); /* before anything is computed */
    close_world(&w);
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
    open_world(&w, false);
    lease = take(&w, &spec, job_a, 1);
    WAIT(has_asked, &wish);
    close_world(&w);
    EXPECT(wait_for(&w, &lease).end == END_STOPPED);
    mend(&there);
    open_world(&w, false);
    WAIT(is_stored, &wish);
    WAIT(is_work_empty, NULL);
    close_world(&w);
    httpd_stop(&there);
}

/* While the store is down the crew makes the next clip, says "uploading", says when its budget is
 * reached, and delivers all of it once the store is back. */
TEST(storage_spool_waits_for_the_store)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = job_for("in.png");
    struct lease one, two;
    struct wish wish = { .w = &w };
    struct said said;

    start_store(&store, true);
    open_world_at(&w, false, store.port, 1);
    one = take(&w, &spec, job_a, 1);
    wish.lease = &one;
    WAIT(is_kept, &wish);
    WAIT(is_full, &wish);
    two = take(&w, &spec, job_b, 1);
    wish.lease = &two;
    WAIT(is_kept, &wish);
    pthread_mutex_lock(&w.lock);
    EXPECT(about(&w, &one)->end == END_NONE && about(&w, &two)->end == END_NONE);
    EXPECT_TEXT(about(&w, &one)->stage, "uploading");
    pthread_mutex_unlock(&w.lock);
    mend(&store);
    said = wait_for(&w, &one);
    EXPECT(said.end == END_DONE);
    EXPECT_TEXT(said.manifest, "s3://clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/manifest.json");
    EXPECT(wait_for(&w, &two).end == END_DONE);
    WAIT(has_room, &wish);
    WAIT(is_work_empty, NULL);
    close_world(&w);
    httpd_stop(&store);
}

/* A lost lease does not cost the clip; a cancelled job does. */
TEST(storage_spool_outlives_its_lease)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = job_for("in.png");
    struct lease lost, cancelled, again;
    struct wish wish = { .w = &w,
                         .store = &store,
                         .object = "/clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/manifest.json" };

    start_store(&store, true);
    open_world_at(&w, false, store.port, 1 << 20);
    lost = take(&w, &spec, job_a, 1);
    wish.lease = &lost;
    WAIT(is_kept, &wish);
    cancelled = take(&w, &spec, job_b, 1);
    wish.lease = &cancelled;
    WAIT(is_kept, &wish);
    crew_cancel(&w.crew, &lost, VERDICT_LOST);
    crew_cancel(&w.crew, &cancelled, VERDICT_CANCELLED);
    EXPECT(wait_for(&w, &lost).end == END_STOPPED);
    EXPECT(wait_for(&w, &cancelled).end == END_STOPPED);
    mend(&store);
    WAIT(is_stored, &wish);
    WAIT(is_work_empty, NULL);
    EXPECT(!httpd_stored(&store, "/clips/out/00bbbbbbbbbbbbbbbbbbbbbbbb/manifest.json", NULL));
    again = take(&w, &spec, job_a, 2);
    EXPECT(wait_for(&w, &again).end == END_DONE);
    pthread_mutex_lock(&w.lock);
    EXPECT_INT(about(&w, &again)->starts, 0);
    pthread_mutex_unlock(&w.lock);
    close_world(&w);
    httpd_stop(&store);
}

/* A lease that has run out ends its upload, one under way as well, and nobody else's; a renewed one
 * lets it begin again. */
TEST(storage_crew_uploads_while_its_lease_lasts)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = job_for("in.png");
    struct lease one, two;
    struct wish wish = { .w = &w, .store = &store, .lease = &one };
    const char *video = "PUT /clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/a1-";

    start_store(&store, false);
    open_world_at(&w, false, store.port, 1 << 20);
    wish.requests = httpd_requests(&store) + 1;
    httpd_fault(&store, &(struct httpd_fault){ .kind = HTTPD_STALL, .count = 1, .only = video });
    one = take(&w, &spec, job_a, 1);
    crew_renew(&w.crew, &one, clock_mono_ms() + 3600000);
    WAIT(has_asked, &wish); /* the video, which is not answered */
    two = take(&w, &spec, job_b, 1);
    crew_renew(&w.crew, &one, 1); /* long past */
    EXPECT(wait_for(&w, &two).end == END_DONE);
    EXPECT_INT(httpd_objects(&store), 4); /* the probe, and all of the other clip */
    crew_renew(&w.crew, &one, clock_mono_ms() + 3600000);
    EXPECT(wait_for(&w, &one).end == END_DONE);
    EXPECT_INT(httpd_objects(&store), 7);
    close_world(&w);
    httpd_stop(&store);
}

/* A worker is killed while its clip waits for a store that is not there; the next one finds the
 * clip, and the job's next attempt finds the result. */
TEST(storage_spool_is_taken_up_after_a_kill)
{
    struct world w;
    struct httpd store;
    struct job_spec spec = job_for("in.png");
    struct lease lease;
    struct wish wish = { .w = &w,
                         .store = &store,
                         .lease = &lease,
                         .object = "/clips/out/00aaaaaaaaaaaaaaaaaaaaaaaa/manifest.json" };
    pid_t pid = fork();
    int code;

    EXPECT(pid >= 0);
    if (pid == 0) {
        open_world_at(&w, false, 1, 1 << 20); /* nobody listens at port 1 */
        lease = take(&w, &spec, job_a, 1);
        WAIT(is_kept, &wish);
        raise(SIGKILL);
    }
    EXPECT(waitpid(pid, &code, 0) == pid && WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL);
    EXPECT(!is_work_empty(NULL));
    start_store(&store, false);
    open_world_at(&w, false, store.port, 1 << 20);
    WAIT(is_stored, &wish);
    WAIT(is_work_empty, NULL);
    lease = take(&w, &spec, job_a, 2);
    EXPECT(wait_for(&w, &lease).end == END_DONE);
    pthread_mutex_lock(&w.lock);
    EXPECT_INT(about(&w, &lease)->starts, 0);
    pthread_mutex_unlock(&w.lock);
    close_world(&w);
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

    open_world_at(&w, false, port, 1 << 20);
    lease = take(&w, spec, job_a, 1);
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
    struct job_spec spec = job_for("in.png");
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
        open_world_at(&w, false, store.port, 1 << 20);
        WAIT(is_stored, &wish);
        WAIT(is_work_empty, NULL);
        lease = take(&w, &spec, job_a, 2);
        EXPECT(wait_for(&w, &lease).end == END_DONE);
        pthread_mutex_lock(&w.lock);
        EXPECT_INT(about(&w, &lease)->starts, 0);
        pthread_mutex_unlock(&w.lock);
        EXPECT(httpd_stored(&store, object, &last));
        EXPECT(!was_there || (seen.len == last.len && memcmp(seen.data, last.data, seen.len) == 0));
        close_world(&w);
        buf_free(&seen);
        empty_store(&store, &last);
    }
    printf("%d of %d had published when they died\n", published, DEATHS);
    httpd_stop(&store);
}
