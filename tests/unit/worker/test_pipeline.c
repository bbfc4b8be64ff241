/* What a clip depends on, and what it does not; how it is refused and how it is stopped. The
 * numbers themselves are compared with diffusers in tests/golden/test_pipeline.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "tests/tool/test.h"
#include "worker/pipeline.h"
#include "worker/plan.h"

#define MODEL "tests/fixtures/tiny-a"
#define MIB ((size_t)1 << 20)
#define IMAGE_W 50
#define IMAGE_H 40

/* A photograph of sorts. */
static struct image photograph(void)
{
    static uint8_t rgb[IMAGE_H * IMAGE_W * 3];

    for (int i = 0; i < IMAGE_H * IMAGE_W; i++) {
        rgb[i * 3] = (uint8_t)(i * 7);
        rgb[i * 3 + 1] = (uint8_t)(i / IMAGE_W * 6);
        rgb[i * 3 + 2] = (uint8_t)(i % IMAGE_W * 5);
    }
    return (struct image){ rgb, IMAGE_W, IMAGE_H };
}

static void open_tiny(struct pipeline *p, const char *device, int threads)
{
    const struct pipeline_config config = {
        .model_dir = MODEL,
        .device = device,
        .kern = { .threads = threads },
        .memory_max_bytes = 512 * MIB,
    };

    EXPECT_OK(pipeline_open(p, &config));
}

static struct job_spec small_spec(void)
{
    struct job_spec spec;

    spec_init(&spec);
    spec.frames = 3;
    spec.width_px = 24;
    spec.height_px = 16;
    spec.seed = 42;
    return spec;
}

/* A clip under way. */
struct take {
    struct frames frames;
    struct stages stages;
    struct pipeline_need need;
};

static status shoot(struct pipeline *p, struct job_spec *spec, struct take *t,
                    stage_listener listener, void *self, const atomic_bool *cancel)
{
    const struct image image = photograph();
    const struct pipeline_clip clip = {
        .spec = spec,
        .image = &image,
        .need = &t->need,
        .frames = &t->frames,
        .stages = &t->stages,
        .cancel = cancel,
    };
    status st;

    frames_init(&t->frames);
    stages_init(&t->stages, listener, self);
    EXPECT_OK(pipeline_resolve(p, spec, image.width, image.height));
    EXPECT_OK(pipeline_plan(p, spec, image.width, image.height, &t->need));
    EXPECT_OK(pipeline_admit(spec, &t->need));
    st = pipeline_run(p, &clip);
    frames_end(&t->frames, st);
    return st;
}

static size_t bytes_of(const struct take *t)
{
    return (size_t)(t->frames.count * t->frames.h * t->frames.w * 3);
}

/* The frames of one clip, owned by the caller. */
static uint8_t *make(struct pipeline *p, struct job_spec spec, size_t *bytes)
{
    struct take t;
    uint8_t *copy;

    EXPECT_OK(shoot(p, &spec, &t, NULL, NULL, NULL));
    *bytes = bytes_of(&t);
    copy = malloc(*bytes);
    EXPECT(copy != NULL);
    memcpy(copy, t.frames.rgb, *bytes);
    frames_close(&t.frames);
    return copy;
}

static bool is_same(struct pipeline *p, struct job_spec spec, const uint8_t *want,
                    size_t want_bytes)
{
    size_t bytes;
    uint8_t *got = make(p, spec, &bytes);
    bool same = bytes == want_bytes && memcmp(got, want, bytes) == 0;

    free(got);
    return same;
}

/* The same job again, after other jobs, and on any number of threads: the same bytes. */
static void expect_repeatable(const char *device, int noise)
{
    struct pipeline one, other;
    struct job_spec spec = small_spec(), between = small_spec();
    size_t bytes, ignored;
    uint8_t *want;

    open_tiny(&one, device, 1);
    open_tiny(&other, device, 3);
    between.frames = 2;
    between.width_px = 32;
    between.sampler = SPEC_EULER;
    between.steps = 2;
    spec.noise = noise;
    spec.sampler = SPEC_TTS_LITERAL;
    want = make(&one, spec, &bytes);
    EXPECT(bytes == 3 * 16 * 24 * 3);
    free(make(&other, between, &ignored));
    EXPECT(is_same(&one, spec, want, bytes));
    EXPECT(is_same(&other, spec, want, bytes));
    spec.seed++;
    EXPECT(!is_same(&one, spec, want, bytes));
    free(want);
    pipeline_close(&one);
    pipeline_close(&other);
}

TEST(clip_is_a_function_of_the_job_ref)
{
    expect_repeatable("ref", SPEC_PHILOX);
}

TEST(clip_is_a_function_of_the_job_cpu)
{
    expect_repeatable("cpu", SPEC_PHILOX);
    expect_repeatable("cpu", SPEC_TORCH);
}

/* Weights that are mapped: the same bytes, and the memory that a plan without them says. */
TEST(kept_weights_make_the_same_clip)
{
    struct pipeline_config config = { .model_dir = MODEL,
                                      .weights_dir = test_tmpdir(),
                                      .device = "cpu",
                                      .memory_max_bytes = 512 * MIB };
    struct pipeline p;
    struct pipeline_need need[2];
    struct job_spec spec = small_spec();
    size_t bytes;
    uint8_t *want;

    EXPECT_OK(pipeline_open(&p, &config));
    EXPECT(!p.checkpoint.snapshot.data);
    want = make(&p, spec, &bytes);
    pipeline_close(&p);
    EXPECT_OK(pipeline_open(&p, &config));
    EXPECT(p.checkpoint.snapshot.data != NULL);
    EXPECT(is_same(&p, spec, want, bytes));
    EXPECT_OK(pipeline_resolve(&p, &spec, IMAGE_W, IMAGE_H));
    EXPECT_OK(pipeline_plan(&p, &spec, IMAGE_W, IMAGE_H, &need[0]));
    pipeline_close(&p);
    config.is_plan = true;
    EXPECT_OK(pipeline_open(&p, &config));
    EXPECT_OK(pipeline_plan(&p, &spec, IMAGE_W, IMAGE_H, &need[1]));
    pipeline_close(&p);
    EXPECT_INT(need[0].model.weight_bytes, need[1].model.weight_bytes);
    EXPECT_INT(need[0].model.act_bytes, need[1].model.act_bytes);
    free(want);
}

/* Every parameter that should change pixels does. */
TEST(clip_depends_on_its_parameters)
{
    struct pipeline p;
    struct job_spec spec = small_spec();
    size_t bytes;
    uint8_t *want;

    open_tiny(&p, "cpu", 2);
    want = make(&p, spec, &bytes);
    spec.fps = 12;
    EXPECT(!is_same(&p, spec, want, bytes));
    spec = small_spec();
    spec.motion_bucket = 5;
    EXPECT(!is_same(&p, spec, want, bytes));
    spec = small_spec();
    spec.noise_aug = 0.5;
    EXPECT(!is_same(&p, spec, want, bytes));
    spec = small_spec();
    spec.noise = SPEC_TORCH;
    EXPECT(!is_same(&p, spec, want, bytes));
    spec = small_spec();
    spec.decode_chunk_frames = 1;
    EXPECT(!is_same(&p, spec, want, bytes));
    spec = small_spec();
    spec.steps = 2;
    EXPECT(!is_same(&p, spec, want, bytes));
    spec = small_spec();
    spec.guidance_max = 2;
    EXPECT(!is_same(&p, spec, want, bytes));
    free(want);
    pipeline_close(&p);
}

TEST(clip_resolves_what_is_left_open)
{
    struct pipeline p;
    struct job_spec spec;

    open_tiny(&p, "ref", 1);
    spec_init(&spec);
    /* tiny-a: 4 frames, latents of 16 x 8 pixels each = 128 px square, multiples of 32. */
    EXPECT_OK(pipeline_resolve(&p, &spec, 160, 90));
    EXPECT_INT(spec.frames, 4);
    EXPECT_INT(spec.width_px, 160);
    EXPECT_INT(spec.height_px, 96);
    EXPECT_INT(spec.steps, 1);
    spec.width_px = 100;
    EXPECT_STATUS(pipeline_resolve(&p, &spec, 160, 90), ERR_BADARG);
    EXPECT_MESSAGE("width: 100 is not a multiple of 8");
    spec_init(&spec);
    spec.steps = 500;
    EXPECT_STATUS(pipeline_resolve(&p, &spec, 160, 90), ERR_BADARG);
    EXPECT_MESSAGE("steps");
    pipeline_close(&p);
}

TEST(clip_that_does_not_fit_is_refused_with_numbers)
{
    struct pipeline p;
    struct job_spec spec = small_spec();
    struct pipeline_need need;
    const struct pipeline_config tiny = { .model_dir = MODEL,
                                          .device = "ref",
                                          .memory_max_bytes = 1 * MIB };

    open_tiny(&p, "ref", 1);
    spec.frames = 100;
    spec.width_px = spec.height_px = 512;
    EXPECT_OK(pipeline_resolve(&p, &spec, 10, 10));
    EXPECT_OK(pipeline_plan(&p, &spec, 10, 10, &need));
    EXPECT(need.total_bytes > need.limit_bytes);
    EXPECT(need.total_bytes >= need.model.weight_bytes + need.model.act_bytes + need.frame_bytes);
    EXPECT_STATUS(pipeline_admit(&spec, &need), ERR_NOMEM);
    EXPECT_MESSAGE("100 frames of 512x512");
    EXPECT_MESSAGE("may use 512");
    spec.width_px = spec.height_px = 4096;
    EXPECT_STATUS(pipeline_plan(&p, &spec, 10, 10, &need), ERR_NOMEM);
    EXPECT_MESSAGE("100 frames of 4096x4096");
    pipeline_close(&p);
    EXPECT_STATUS(pipeline_open(&p, &tiny), ERR_NOMEM);
    EXPECT_MESSAGE("memory_max_bytes");
}

/* The plan is the truth: a clip runs in exactly the memory that was planned for it. */
TEST(clip_uses_what_was_planned)
{
    struct pipeline p;
    struct job_spec spec = small_spec();
    struct take t;

    open_tiny(&p, "ref", 1);
    spec.guidance_max = 2;
    EXPECT_OK(shoot(&p, &spec, &t, NULL, NULL, NULL));
    EXPECT_INT(p.dev.act.peak_bytes, t.need.model.act_bytes);
    EXPECT_INT(p.dev.act.used_bytes, 0);
    frames_close(&t.frames);
    pipeline_close(&p);
}

/* Stops the clip from the first report of a stage, and remembers how much was launched by then. */
struct stopper {
    struct pipeline *p;
    enum stage stage;
    atomic_bool cancel;
    int64_t calls;
};

static void stop_at(void *self, enum stage stage, double progress)
{
    struct stopper *s = self;

    (void)progress;
    if (stage == s->stage && !atomic_exchange(&s->cancel, true))
        s->calls = s->p->dev.calls;
}

TEST(clip_stops_before_the_next_kernel)
{
    struct pipeline p;

    open_tiny(&p, "ref", 1);
    for (int i = STAGE_CLIP; i <= STAGE_VAE_DECODE; i++) {
        struct stopper stopper = { .p = &p, .stage = (enum stage)i };
        struct job_spec spec = small_spec();
        struct take t;

        EXPECT_STATUS(shoot(&p, &spec, &t, stop_at, &stopper, &stopper.cancel), ERR_CANCELLED);
        EXPECT_INT(p.dev.calls, stopper.calls);
        EXPECT_INT(p.dev.act.used_bytes, 0);
        frames_close(&t.frames);
    }
    pipeline_close(&p);
}

struct order {
    int stage;
    double progress;
    int reports;
};

static void expect_rising(void *self, enum stage stage, double progress)
{
    struct order *o = self;

    EXPECT((int)stage >= o->stage && progress >= o->progress);
    o->stage = (int)stage;
    o->progress = progress;
    o->reports++;
}

TEST(clip_reports_every_stage_in_order)
{
    struct pipeline p;
    struct order order = { .stage = 0 };
    struct job_spec spec = small_spec();
    struct take t;

    open_tiny(&p, "cpu", 2);
    spec.sampler = SPEC_EULER;
    spec.steps = 3;
    EXPECT_OK(shoot(&p, &spec, &t, expect_rising, &order, NULL));
    EXPECT_INT(order.stage, STAGE_VAE_DECODE);
    EXPECT(order.reports > 20);
    for (int i = STAGE_CLIP; i <= STAGE_VAE_DECODE; i++)
        EXPECT(t.stages.seconds[i] > 0);
    frames_close(&t.frames);
    pipeline_close(&p);
}

TEST(pipeline_says_what_it_lacks)
{
    struct pipeline p;
    struct pipeline_config config = { .model_dir = MODEL, .device = "cuda:999" };

    EXPECT_STATUS(pipeline_open(&p, &config), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("set device to cpu");
    config.device = "tpu";
    EXPECT_STATUS(pipeline_open(&p, &config), ERR_BADARG);
    config = (struct pipeline_config){ .model_dir = "no/such/model", .device = "cpu" };
    EXPECT_STATUS(pipeline_open(&p, &config), ERR_NOTFOUND);
    EXPECT_MESSAGE("no/such/model");
}

TEST(plan_prints_numbers)
{
    struct pipeline p;
    struct buf text = { 0 };
    struct json j = { 0 };
    struct json_value root;
    int64_t total = 0, weights = 0;
    bool fits = false;

    open_tiny(&p, "ref", 1);
    EXPECT_OK(plan_write(&text, &p, "3x40x24", false, &fits));
    EXPECT(fits && strstr(text.data, "3 frames of 40x24") && strstr(text.data, "it fits"));
    buf_reset(&text);
    EXPECT_OK(plan_write(&text, &p, "100x512x512", true, &fits));
    EXPECT(!fits);
    EXPECT_OK(json_parse(&j, "plan", text.data, text.len));
    root = json_root(&j);
    EXPECT_OK(json_get_int(&root, "total_bytes", 1, INT64_MAX, &total));
    EXPECT_OK(json_get_int(&root, "weight_bytes", 1, INT64_MAX, &weights));
    EXPECT(total > (int64_t)(512 * MIB) && weights < total);
    EXPECT_STATUS(plan_write(&text, &p, "3x40", false, &fits), ERR_BADARG);
    EXPECT_MESSAGE("FRAMESxWIDTHxHEIGHT");
    EXPECT_STATUS(plan_write(&text, &p, "3x40x0", false, &fits), ERR_BADARG);
    EXPECT_STATUS(plan_write(&text, &p, "3x44x24", false, &fits), ERR_BADARG);
    EXPECT_STATUS(plan_write(&text, &p, "3x40x24x", false, &fits), ERR_BADARG);
    json_free(&j);
    buf_free(&text);
    pipeline_close(&p);
}
