#include "tests/unit/worker/crew_world.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/file.h"
#include "common/id.h"
#include "common/url.h"
#include "tests/tool/test.h"

struct said *world_about(struct world *w, const struct lease *lease)
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
    world_about(w, lease)->starts++;
    EXPECT(!w->files || setrlimit(RLIMIT_FSIZE, w->files) == 0);
    pthread_mutex_unlock(&w->lock);
}

static void on_report(void *self, const struct lease *lease, const char *stage, double progress)
{
    struct world *w = self;
    struct said *s;
    bool stop;

    pthread_mutex_lock(&w->lock);
    s = world_about(w, lease);
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
    s = world_about(w, lease);
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
    world_about(w, lease)->kept++;
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
    s = world_about(w, lease);
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

const char *world_path(const char *name, char *dst)
{
    EXPECT_OK(file_join(dst, FILE_PATH_BYTES, test_tmpdir(), name));
    return dst;
}

void world_open_at(struct world *w, bool dump, int s3_port, uint64_t spool_bytes_max)
{
    char endpoint[64];
    char dir[FILE_PATH_BYTES], work[FILE_PATH_BYTES], dumps[FILE_PATH_BYTES], url[URL_ROOM];
    const struct pipeline_config pipeline = {
        .model_dir = WORLD_MODEL,
        .device = "cpu",
        .kern = { .threads = 2 },
        .memory_max_bytes = (size_t)512 << 20,
    };
    struct crew_config config = {
        .pipeline = &w->pipeline,
        .decoder = &w->decoder,
        .fetch = { .input_root = test_tmpdir() },
        .result = { .work_dir = world_path("work", work),
                    .handover = { .allow_private_hosts = true },
                    .maker = { "tiny-a", "hash", "cpu", "build" } },
        .spool_bytes_max = spool_bytes_max,
        .dump_dir = dump ? world_path("dump", dumps) : "",
        .model_dir = WORLD_MODEL,
        .ops = { w, on_start, on_report, on_kept, on_full, on_done, on_fail, on_stopped,
                 on_broken },
    };

    memset(w, 0, sizeof(*w));
    EXPECT(pthread_mutex_init(&w->lock, NULL) == 0 && pthread_cond_init(&w->change, NULL) == 0);
    EXPECT_OK(url_from_path(world_path("out", dir), url, sizeof(url)));
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

void world_open(struct world *w, bool dump)
{
    world_open_at(w, dump, 0, 1 << 20);
}

void world_close(struct world *w)
{
    crew_close(&w->crew);
    pipeline_close(&w->pipeline);
    media_decoder_close(&w->decoder);
    EXPECT_INT(w->broken, w->may_break);
}

struct job_spec world_job(const char *name)
{
    enum { SIDE = 48 };
    static uint8_t rgb[SIDE * SIDE * 3];
    struct job_spec spec;
    char path[FILE_PATH_BYTES];

    for (int i = 0; i < SIDE * SIDE * 3; i++)
        rgb[i] = (uint8_t)(i * 11 + i / SIDE);
    EXPECT_OK(media_png_write(world_path(name, path), rgb, SIDE, SIDE));
    spec_init(&spec);
    EXPECT_OK(url_from_path(path, spec.image, sizeof(spec.image)));
    spec.frames = 3;
    spec.width_px = 48;
    spec.height_px = 32;
    return spec;
}

struct lease world_take(struct world *w, const struct job_spec *spec, const char *job,
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

struct said world_wait(struct world *w, const struct lease *lease)
{
    struct timespec deadline;
    struct said said;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += WORLD_DEADLINE_S;
    pthread_mutex_lock(&w->lock);
    while (world_about(w, lease)->end == END_NONE) {
        if (pthread_cond_timedwait(&w->change, &w->lock, &deadline) != 0)
            test_fail(__FILE__, __LINE__, "the job did not end in %d s", WORLD_DEADLINE_S);
    }
    said = *world_about(w, lease);
    pthread_mutex_unlock(&w->lock);
    return said;
}

const char *world_path_of(const char *text, char *dst)
{
    struct url url;

    EXPECT_OK(url_parse(&url, text));
    EXPECT(url.scheme == URL_FILE);
    EXPECT_OK(url_decode_path(&url, dst, FILE_PATH_BYTES));
    return dst;
}
