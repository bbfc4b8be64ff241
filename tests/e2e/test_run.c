#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/media.h"
#include "tests/e2e/stack.h"
#include "tests/tool/test.h"

#define PHOTO stack_source("ops/samples/coffee.jpg")
#define IMAGE(name) stack_source("tests/fixtures/images/" name)

/* `onestep run` with these words, on the small checkpoint, into OUT/data. */
#define RUN(...)                                                                                   \
    ONESTEP("run", "--model", stack_model(), "-o", stack_path("data"), "--threads=1", __VA_ARGS__)

/* Nothing of a run that is over: no process that names the folder, no socket. */
static void expect_nothing_left(void)
{
    DIR *dir = opendir(test_tmpdir());
    struct dirent *entry;

    stack_wait_gone(test_tmpdir());
    EXPECT(dir);
    while ((entry = readdir(dir))) {
        if (strncmp(entry->d_name, "onestep-", 8) == 0)
            test_fail(__FILE__, __LINE__, "%s is left over", entry->d_name);
    }
    closedir(dir);
}

static void expect_manifest(const char *path, const struct json_value *line)
{
    struct json j = { 0 };
    struct json_value root, parameters, outputs, video;

    EXPECT_OK(json_open_file(&j, path));
    root = json_root(&j);
    EXPECT_INT(stack_int(&root, "onestep_manifest"), 1);
    EXPECT_TEXT(stack_text(&root, "job"), stack_text(line, "job"));
    EXPECT_INT(stack_int(&root, "frames"), stack_int(line, "frames"));
    parameters = json_find(&root, "parameters");
    EXPECT_INT(stack_int(&parameters, "seed"), stack_int(line, "seed"));
    EXPECT_INT(stack_int(&parameters, "fps"), 5);
    EXPECT_INT(stack_int(&parameters, "steps"), 1);
    EXPECT_TEXT(stack_text(&parameters, "sampler"), "consistency");
    outputs = json_find(&root, "outputs");
    video = json_find(&outputs, "video");
    EXPECT_INT(strlen(stack_text(&video, "sha256")), 64);
    json_free(&j);
}

/* The main job: one photograph in; MP4, PNG and JSON out; one JSON object says where. */
TEST_TIMEOUT(run_makes_a_video, 120)
{
    struct media_video_info video;
    struct json j = { 0 };
    struct json_value line, stages;
    struct stack_output o = RUN(PHOTO, "--json", "--fps=5", "--seed=7");
    double seconds;

    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 1);
    line = stack_json(&j, o.out);
    EXPECT_OK(media_video_probe(&video, stack_text(&line, "video")));
    EXPECT_TEXT(video.codec, "h264");
    EXPECT_TEXT(video.pix_fmt, "yuv420p");
    EXPECT(video.is_faststart);
    EXPECT_INT(video.frame_count, stack_int(&line, "frames"));
    EXPECT_INT(video.width_px, stack_int(&line, "width"));
    EXPECT_INT(video.height_px, stack_int(&line, "height"));
    EXPECT_NEAR(video.fps, 5, 0.01); /* 5 exactly, through a rational number */
    EXPECT_INT(stack_int(&line, "seed"), 7);
    stages = json_find(&line, "stage_seconds");
    EXPECT(json_count(&stages) >= 6);
    EXPECT_OK(json_get_double(&stages, "unet", 0, 1000, &seconds));
    EXPECT(seconds > 0);
    expect_manifest(stack_text(&line, "manifest"), &line);
    EXPECT(file_exists(stack_text(&line, "poster")));
    /* the folder of the result is named after the photograph */
    EXPECT(strstr(stack_text(&line, "video"), "/data/coffee/"));
    json_free(&j);
    expect_nothing_left();
}

static void video_bytes(const char *line, struct buf *bytes)
{
    struct json j = { 0 };
    struct json_value v = stack_json(&j, line);

    EXPECT_OK(file_read(stack_text(&v, "video"), 16 << 20, bytes));
    json_free(&j);
}

/* Same photograph, same seed: same bytes. Another seed: others. */
TEST_TIMEOUT(run_repeats_itself, 180)
{
    struct buf first = { 0 }, again = { 0 }, other = { 0 };
    struct stack_output o = RUN(PHOTO, "--json", "--seed=3");

    stack_expect(&o, 0, NULL);
    video_bytes(o.out, &first);
    o = RUN(PHOTO, "--json", "--seed=3");
    stack_expect(&o, 0, NULL);
    video_bytes(o.out, &again);
    o = RUN(PHOTO, "--json", "--seed=4");
    stack_expect(&o, 0, NULL);
    video_bytes(o.out, &other);
    EXPECT(first.len == again.len && memcmp(first.data, again.data, first.len) == 0);
    EXPECT(first.len != other.len || memcmp(first.data, other.data, first.len) != 0);
    buf_free(&first);
    buf_free(&again);
    buf_free(&other);
}

/* --dump writes the tensors of the job, for comparisons with other implementations. */
TEST_TIMEOUT(run_dumps_tensors, 120)
{
    struct json j = { 0 };
    struct json_value line;
    struct stack_output o = RUN(PHOTO, "--json", "--frames=2", "--dump", stack_path("tensors"));
    char name[64];

    stack_expect(&o, 0, NULL);
    line = stack_json(&j, o.out);
    snprintf(name, sizeof(name), "tensors/%s.safetensors", stack_text(&line, "job"));
    EXPECT(file_exists(stack_path(name)));
    json_free(&j);
}

/* For people: paths on standard output; narration, and the truth about the model, elsewhere. */
TEST_TIMEOUT(run_talks_to_people, 120)
{
    struct stack_output o = RUN(PHOTO);

    stack_expect(&o, 0, "onestep: ");
    EXPECT_INT(stack_lines(o.out), 3);
    EXPECT(strncmp(o.out, "video     /", 11) == 0);
    EXPECT(strstr(o.out, "\nposter    /") && strstr(o.out, "\nmanifest  /"));
    EXPECT(strstr(o.err, "coffee.jpg: 4 frames of "));
    EXPECT(!strstr(o.err, "\r"));
}

/* The line of a run's output that is about this image. */
static struct json_value line_about(struct json *j, const char *out, const char *image)
{
    char key[FILE_PATH_BYTES + 16];
    const char *at;

    snprintf(key, sizeof(key), "\"image\":\"%s\"", image);
    at = strstr(out, key);
    if (!at)
        test_fail(__FILE__, __LINE__, "no line about %s in:\n%s", image, out);
    while (at > out && at[-1] != '\n')
        at--;
    return stack_json(j, at);
}

/* Odd photographs that must work, several in one run; the turned one comes out upright. */
TEST_TIMEOUT(storage_run_takes_odd_images, 180)
{
    const char *images[] = { IMAGE("jpeg-cmyk.jpg"), IMAGE("png-rgb16.png"),
                             IMAGE("png-rgba.png"),  IMAGE("jpeg-exif-6.jpg"),
                             IMAGE("jpeg-grey.jpg"), NULL };
    struct stack_output o =
        RUN("--json", "--frames=2", images[0], images[1], images[2], images[3], images[4]);
    long long width[5], height[5];

    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 5);
    for (int i = 0; images[i]; i++) {
        struct json j = { 0 };
        struct json_value line = line_about(&j, o.out, images[i]);

        EXPECT(file_exists(stack_text(&line, "video")));
        width[i] = stack_int(&line, "width");
        height[i] = stack_int(&line, "height");
        json_free(&j);
    }
    /* the same scene, but turned by its EXIF orientation */
    EXPECT(width[0] > height[0]);
    EXPECT(width[3] < height[3]);
}

/* A photograph that can't be used: its file, what is wrong, the exit code. */
TEST_TIMEOUT(storage_run_refuses_what_is_no_photograph, 180)
{
    struct stack_output o;
    struct json j = { 0 };
    struct json_value line, error;

    o = RUN(stack_source("Makefile"));
    stack_expect(&o, 5, "Makefile: not an image; give a JPEG, PNG, WebP, TIFF, BMP or GIF file");
    EXPECT(!file_exists(stack_path("data")));
    o = RUN("/nonexistent.jpg", "--json");
    stack_expect(&o, 3, "/nonexistent.jpg: no such file");
    line = stack_json(&j, o.out);
    error = json_find(&line, "error");
    EXPECT_TEXT(stack_text(&error, "code"), "notfound");
    EXPECT_INT(stack_int(&error, "exit"), 3);
    json_free(&j);
}

TEST_TIMEOUT(storage_run_refuses_a_truncated_image, 120)
{
    struct json j = { 0 };
    struct json_value line, error;
    struct stack_output o = RUN(IMAGE("bad-cut.jpg"), "--json");

    stack_expect(&o, 5, "bad-cut.jpg");
    EXPECT(strstr(o.err, "truncated"));
    EXPECT_INT(stack_lines(o.out), 1);
    line = stack_json(&j, o.out);
    error = json_find(&line, "error");
    EXPECT_TEXT(stack_text(&error, "code"), "corrupt");
    EXPECT(strstr(stack_text(&error, "message"), "truncated"));
    json_free(&j);
    expect_nothing_left();
}

TEST_TIMEOUT(storage_run_refuses_a_bomb, 120)
{
    struct stack_output o = RUN(IMAGE("bad-bomb.png"));

    stack_expect(&o, 2,
                 "bad-bomb.png: 20000 x 20000 is 400.0 million pixels, limit 41.9; scale it");
    EXPECT_INT(stack_lines(o.out), 0);
}

/* Of several photographs the good ones are done, and the exit code tells of the bad one. */
TEST_TIMEOUT(storage_run_goes_on_after_a_bad_image, 120)
{
    struct stack_output o = RUN("--json", IMAGE("bad-cut.png"), PHOTO);
    struct json j = { 0 };
    struct json_value line;

    stack_expect(&o, 5, "bad-cut.png");
    EXPECT_INT(stack_lines(o.out), 2);
    line = line_about(&j, o.out, PHOTO);
    EXPECT(file_exists(stack_text(&line, "video")));
    json_free(&j);
}

TEST_TIMEOUT(run_refuses_a_wrong_model, 180)
{
    const char *empty = stack_path("empty");
    const char *broken = stack_path("broken");
    char command[4 * FILE_PATH_BYTES];
    struct stack_output o;

    o = ONESTEP("run", PHOTO, "-o", stack_path("data"), "--model", "/nonexistent/model");
    stack_expect(&o, 3,
                 "/nonexistent/model: no such folder or file; give --model a diffusers folder");
    EXPECT_OK(file_make_dirs(empty));
    o = ONESTEP("run", PHOTO, "-o", stack_path("data"), "--model", empty);
    stack_expect(&o, 3, "empty: no model_index.json in it; give --model a diffusers folder");

    snprintf(command, sizeof(command),
             "cp -r '%s' '%s' && truncate -s -100 '%s'/unet/diffusion_pytorch_model.safetensors",
             stack_model(), broken, broken);
    EXPECT(system(command) == 0);
    o = ONESTEP("run", PHOTO, "-o", stack_path("data"), "--model", broken);
    stack_expect(&o, 5, "unet/diffusion_pytorch_model.safetensors");
    EXPECT_INT(stack_lines(o.out), 0);
    expect_nothing_left();
}

TEST_TIMEOUT(run_needs_a_folder_to_write_to, 60)
{
    struct stack_output o =
        ONESTEP("run", PHOTO, "--model", stack_model(), "-o", stack_source("Makefile"));

    stack_expect(&o, 4, "Makefile");
    o = ONESTEP("run", PHOTO, "--model", stack_model(), "-o", "/proc/nothing/here");
    EXPECT(o.code != 0);
    EXPECT(strstr(o.err, "/proc/nothing"));
}

/* A second run in the same folder is told who is there. */
TEST_TIMEOUT(run_keep_leaves_services_and_kill_stops_them, 180)
{
    struct stack_output o = RUN(PHOTO, "--keep", "--frames=2");
    char broker[FILE_PATH_BYTES], pid[32];
    const char *at;

    stack_expect(&o, 0, "the services stay up");
    EXPECT_INT(stack_lines(o.out), 3);
    at = strstr(o.err, "--broker ipc://");
    EXPECT(at && sscanf(at, "--broker %1000s", broker) == 1);
    at = strstr(o.err, "stop them with: kill ");
    EXPECT(at && sscanf(at, "stop them with: kill %31s", pid) == 1);

    o = ONESTEP("list", "--json", "--broker", broker);
    stack_expect(&o, 0, NULL);
    EXPECT_INT(stack_lines(o.out), 1);
    o = ONESTEP("submit", PHOTO, "--broker", broker, "--frames=2");
    stack_expect(&o, 0, NULL);
    {
        char job[JOB_ID_BYTES];

        snprintf(job, sizeof(job), "%s", o.out);
        o = ONESTEP("wait", job, "--broker", broker);
        stack_expect(&o, 0, NULL);
    }
    o = RUN(PHOTO);
    stack_expect(&o, 4, "is in use by another `onestep run`");
    EXPECT(strstr(o.err, pid));
    EXPECT(kill((pid_t)atol(pid), SIGTERM) == 0);
    expect_nothing_left();
}

/* Ctrl-C: the job is cancelled, everything is stopped, exit code 12. */
TEST_TIMEOUT(run_stops_at_an_interrupt, 120)
{
    struct stack_program run;
    struct stack_output o;

    stack_begin(&run, "onestep",
                (const char *const[]){ "run", PHOTO, "--model", stack_model(), "-o",
                                       stack_path("data"), "--frames=400", "--device=ref",
                                       "--threads=1", NULL });
    stack_wait_text(run.err_path, " running: ");
    EXPECT(kill(run.pid, SIGINT) == 0);
    o = stack_end(&run);
    stack_expect(&o, 12, "interrupted; the jobs were cancelled");
    EXPECT_INT(stack_lines(o.out), 0);
    expect_nothing_left();
    /* nothing of it is still queued */
    o = RUN(PHOTO, "--frames=2");
    stack_expect(&o, 0, NULL);
    EXPECT(!strstr(o.err, "earlier run"));
}

/* The worker is killed in the middle of a job: it is started again, and the job goes on. */
TEST_TIMEOUT(run_survives_a_killed_worker, 120)
{
    struct stack_program run;
    struct stack_output o;
    struct json j = { 0 }, m = { 0 };
    struct json_value line, manifest;

    stack_begin(&run, "onestep",
                (const char *const[]){ "run", PHOTO, "--model", stack_model(), "-o",
                                       stack_path("data"), "--frames=48", "--threads=1", "--json",
                                       NULL });
    stack_wait_text(run.err_path, " running: ");
    EXPECT(kill(stack_find_process("onestep-worker", test_tmpdir()), SIGKILL) == 0);
    o = stack_end(&run);
    stack_expect(&o, 0, "onestep-worker was ended by signal 9 (Killed)");
    EXPECT(strstr(o.err, "starting it again"));
    line = stack_json(&j, o.out);
    EXPECT_OK(json_open_file(&m, stack_text(&line, "manifest")));
    manifest = json_root(&m);
    EXPECT_INT(stack_int(&manifest, "attempt"), 2);
    json_free(&m);
    json_free(&j);
    expect_nothing_left();
}

/* `onestep run` itself is killed: its services die with it, and the queue is there next time. */
TEST_TIMEOUT(run_killed_leaves_no_process, 120)
{
    struct stack_program run;
    struct stack_output o;

    stack_begin(&run, "onestep",
                (const char *const[]){ "run", PHOTO, "--model", stack_model(), "-o",
                                       stack_path("data"), "--frames=24", "--threads=1", NULL });
    stack_wait_text(run.err_path, " running: ");
    stack_kill(&run);
    stack_wait_gone(test_tmpdir());
    o = RUN(PHOTO, "--frames=2");
    stack_expect(&o, 0, NULL);
    expect_nothing_left();
}
