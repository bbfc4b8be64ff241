/* The threads of a worker, from lease to published result, with the tiny model and a folder as the
 * store. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/media.h"
#include "tests/tool/test.h"
#include "tests/unit/worker/crew_world.h"
#include "worker/model/safetensors.h"

TEST(storage_crew_makes_a_result)
{
    struct world w;
    struct job_spec spec = world_job("in.png");
    struct lease lease;
    struct said said;
    struct media_video_info info;
    struct json j = { 0 };
    struct json_value root, outputs, part;
    char path[FILE_PATH_BYTES], want[FILE_PATH_BYTES];
    const char *text = NULL;

    snprintf(spec.output, sizeof(spec.output), "some/where/");
    world_open(&w, false);
    lease = world_take(&w, &spec, WORLD_JOB_A, 1);
    said = world_wait(&w, &lease);
    EXPECT_TEXT(said.sentence, "");
    EXPECT(said.end == END_DONE && said.starts == 1 && said.reports > 10);
    EXPECT_NEAR(said.progress, 1, 1e-9);
    EXPECT_OK(media_video_probe(&info, world_path_of(said.video, path)));
    EXPECT(info.frame_count == 3 && info.width_px == 48 && info.height_px == 32);
    EXPECT(file_exists(world_path_of(said.poster, path)));
    snprintf(want, sizeof(want), "%s/out/some/where/%s/manifest.json", test_tmpdir(), WORLD_JOB_A);
    EXPECT_TEXT(world_path_of(said.manifest, path), want);
    EXPECT_OK(json_open_file(&j, path));
    root = json_root(&j);
    outputs = json_find(&root, "outputs");
    part = json_find(&outputs, "video");
    EXPECT_OK(json_get_text(&part, "url", &text));
    EXPECT_TEXT(text, said.video);
    json_free(&j);
    world_close(&w);
}

/* The attempt before this one published, but nobody heard: its result is the job's. */
TEST(storage_crew_adopts_an_earlier_result)
{
    struct world w;
    struct job_spec spec = world_job("in.png");
    struct lease first, second, third;
    struct said one, two;

    world_open(&w, false);
    first = world_take(&w, &spec, WORLD_JOB_A, 1);
    one = world_wait(&w, &first);
    EXPECT(one.end == END_DONE);
    /* Found before any work is done. */
    second = world_take(&w, &spec, WORLD_JOB_A, 2);
    two = world_wait(&w, &second);
    EXPECT(two.end == END_DONE && two.starts == 0);
    EXPECT_TEXT(two.video, one.video);
    EXPECT_TEXT(two.manifest, one.manifest);
    /* Found when its own manifest is refused: a lease that believes to be the first. */
    third = world_take(&w, &spec, WORLD_JOB_A, 1);
    two = world_wait(&w, &third);
    EXPECT(two.end == END_DONE && two.starts == 1);
    EXPECT_TEXT(two.video, one.video);
    world_close(&w);
}

TEST(storage_crew_does_not_adopt_another_jobs_result)
{
    struct world w;
    struct job_spec spec = world_job("in.png");
    struct lease lease;
    struct said said;

    world_open(&w, false);
    lease = world_take(&w, &spec, WORLD_JOB_A, 1);
    EXPECT(world_wait(&w, &lease).end == END_DONE);
    spec.seed = 5;
    lease = world_take(&w, &spec, WORLD_JOB_A, 2);
    said = world_wait(&w, &lease);
    EXPECT(said.end == END_FAILED && said.code == ERR_CONFLICT);
    EXPECT(strstr(said.sentence, "another job with this id"));
    world_close(&w);
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
    struct job_spec good = world_job("in.png");
    struct lease bad_lease[COUNT], good_lease[COUNT];
    char path[FILE_PATH_BYTES], job[JOB_ID_BYTES];

    world_open(&w, false);
    for (int i = 0; i < COUNT; i++) {
        struct job_spec spec = good;

        if (bad[i].content)
            EXPECT_OK(file_write_atomic(world_path(bad[i].name, path), bad[i].content,
                                        strlen(bad[i].content)));
        EXPECT_OK(url_from_path(world_path(bad[i].name, path), spec.image, sizeof(spec.image)));
        spec.width_px = bad[i].width_px;
        spec.height_px = bad[i].code == ERR_NOMEM ? 4096 : 32;
        snprintf(job, sizeof(job), "00bad%021d", i);
        bad_lease[i] = world_take(&w, &spec, job, 1);
        snprintf(job, sizeof(job), "00good%020d", i);
        good_lease[i] = world_take(&w, &good, job, 1);
    }
    for (int i = 0; i < COUNT; i++) {
        struct said said = world_wait(&w, &bad_lease[i]);

        printf("%s\n", said.sentence);
        EXPECT(said.end == END_FAILED && said.starts == 0);
        EXPECT_TEXT(status_name(said.code), status_name(bad[i].code));
        EXPECT(strstr(said.sentence, bad[i].part));
        EXPECT(world_wait(&w, &good_lease[i]).end == END_DONE);
    }
    world_close(&w);
}

/* The same job twice, among others: the same video, byte for byte. */
TEST(crew_makes_the_same_bytes_again)
{
    struct world w;
    struct job_spec spec = world_job("in.png"), other = spec;
    struct lease one, between, two;
    char path[FILE_PATH_BYTES];
    struct buf a = { 0 }, b = { 0 };

    world_open(&w, false);
    other.seed = 99;
    other.frames = 2;
    one = world_take(&w, &spec, WORLD_JOB_A, 1);
    between = world_take(&w, &other, "00cccccccccccccccccccccccc", 1);
    two = world_take(&w, &spec, WORLD_JOB_B, 3);
    EXPECT_OK(file_read(world_path_of(world_wait(&w, &one).video, path), 1 << 20, &a));
    EXPECT(world_wait(&w, &between).end == END_DONE);
    EXPECT_OK(file_read(world_path_of(world_wait(&w, &two).video, path), 1 << 20, &b));
    EXPECT(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
    buf_free(&a);
    buf_free(&b);
    world_close(&w);
}

TEST(crew_stops_a_cancelled_job_in_any_stage)
{
    for (int i = STAGE_FETCH; i <= STAGE_UPLOAD; i++) {
        struct world w;
        struct job_spec spec = world_job("in.png");
        struct lease lease;
        char path[FILE_PATH_BYTES], manifest[FILE_PATH_BYTES];

        world_open(&w, false);
        w.stop_at = stage_name((enum stage)i);
        lease = world_take(&w, &spec, WORLD_JOB_A, 1);
        EXPECT(world_wait(&w, &lease).end == END_STOPPED);
        snprintf(manifest, sizeof(manifest), "out/%s/manifest.json", WORLD_JOB_A);
        EXPECT(!file_exists(world_path(manifest, path)));
        world_close(&w);
    }
}

TEST(crew_closes_with_jobs_in_hand)
{
    struct world w;
    struct job_spec spec = world_job("in.png");
    char job[JOB_ID_BYTES];

    world_open(&w, false);
    spec.frames = 20;
    for (int i = 0; i < 10; i++) {
        snprintf(job, sizeof(job), "00abcd%020d", i);
        world_take(&w, &spec, job, 1);
    }
    world_close(&w);
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
    struct job_spec spec = world_job("in.png");
    struct lease lease;
    struct safetensors dump;
    char path[FILE_PATH_BYTES], name[64];

    spec.sampler = SPEC_EULER;
    spec.steps = 2;
    world_open(&w, true);
    lease = world_take(&w, &spec, WORLD_JOB_A, 1);
    EXPECT(world_wait(&w, &lease).end == END_DONE);
    snprintf(name, sizeof(name), "dump/%s.safetensors", WORLD_JOB_A);
    EXPECT_OK(safetensors_open(&dump, world_path(name, path)));
    EXPECT_INT(dump.count, count);
    for (size_t i = 0; i < count; i++)
        EXPECT(safetensors_find(&dump, names[i]) != NULL);
    for (size_t i = 0; i < spec_param_count; i++)
        EXPECT(safetensors_meta_find(&dump, spec_params[i].name) != NULL);
    EXPECT_TEXT(safetensors_meta_find(&dump, "noise"), "philox");
    EXPECT_TEXT(safetensors_meta_find(&dump, "guidance_max"), "3");
    EXPECT_TEXT(safetensors_meta_find(&dump, "checkpoint"), WORLD_MODEL);
    safetensors_close(&dump);
    world_close(&w);
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
    struct job_spec spec = world_job("in.png");
    struct lease one, two;
    struct kern_table table;
    struct said said;

    world_open(&w, false);
    w.may_break = 1;
    table = *w.pipeline.dev.kern;
    table.linear = fail_linear;
    w.pipeline.dev.kern = &table;
    one = world_take(&w, &spec, WORLD_JOB_A, 1);
    two = world_take(&w, &spec, WORLD_JOB_B, 1);
    said = world_wait(&w, &one);
    EXPECT(said.end == END_FAILED && said.code == ERR_DEVICE);
    EXPECT_TEXT(said.sentence, "the device fell off the bus");
    said = world_wait(&w, &two);
    EXPECT(said.end == END_FAILED && said.code == ERR_DEVICE);
    world_close(&w);
}

/* A file that may not grow is what a full disk looks like. */
TEST(storage_crew_names_the_full_disk_and_recovers)
{
    struct world w;
    struct job_spec spec = world_job("in.png");
    struct rlimit full = { 512, RLIM_INFINITY }, fine = { RLIM_INFINITY, RLIM_INFINITY };
    struct lease lease;
    struct said said;

    EXPECT(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    world_open(&w, false);
    w.files = &full;
    lease = world_take(&w, &spec, WORLD_JOB_A, 1);
    said = world_wait(&w, &lease);
    w.files = NULL;
    EXPECT(setrlimit(RLIMIT_FSIZE, &fine) == 0);
    printf("%s\n", said.sentence);
    EXPECT(said.end == END_FAILED);
    EXPECT_TEXT(status_name(said.code), "full");
    EXPECT(strstr(said.sentence, test_tmpdir()) != NULL);
    lease = world_take(&w, &spec, WORLD_JOB_A, 2);
    EXPECT(world_wait(&w, &lease).end == END_DONE);
    world_close(&w);
}

/* The result's names say what is in it. */
TEST(storage_crew_delivers_in_the_format_that_was_asked_for)
{
    static const char *const endings[] = { "/video.mp4", "/video.webm", "/frames.tar" };
    struct world w;
    struct job_spec spec = world_job("in.png");
    struct lease lease;
    struct said said;
    char path[FILE_PATH_BYTES], job[JOB_ID_BYTES];

    world_open(&w, false);
    for (int i = SPEC_MP4; i <= SPEC_PNG; i++) {
        snprintf(job, sizeof(job), "%s", WORLD_JOB_A);
        job[25] = (char)('0' + i);
        spec.format = i;
        lease = world_take(&w, &spec, job, 1);
        said = world_wait(&w, &lease);
        EXPECT_TEXT(said.sentence, "");
        EXPECT_TEXT(strrchr(world_path_of(said.video, path), '/'), endings[i]);
        EXPECT(file_exists(path) && file_exists(world_path_of(said.poster, path)));
    }
    world_close(&w);
}
