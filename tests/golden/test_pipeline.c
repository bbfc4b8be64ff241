/* Whole jobs, from a photograph and a seed, against StableVideoDiffusionPipeline. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/golden/golden.h"
#include "worker/pipeline.h"

/* A job that has been run. */
struct job {
    struct golden g;         /* what it should have given */
    struct pipeline p;       /* model and device */
    struct job_spec spec;    /* resolved */
    struct image image;      /* the photograph */
    struct frames frames;    /* 8-bit result */
    struct safetensors dump; /* what it gave */
};

/* The job's parameters are the golden file's metadata of the same names. */
static void read_spec(struct job *j)
{
    static const char *const names[] = {
        "frames",        "width",
        "height",        "fps",
        "motion_bucket", "sampler",
        "steps",         "noise_aug",
        "seed",          "guidance_min",
        "noise",         "eps0",
        "guidance_max",  "decode_chunk_frames",
    };

    spec_init(&j->spec);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct spec_param *param = spec_find(names[i]);

        if (!param)
            test_fail(__FILE__, __LINE__, "no job parameter is called %s", names[i]);
        EXPECT_OK(spec_set(&j->spec, param, golden_text(&j->g, names[i])));
    }
}

static void run(struct job *j, const char *device, const char *dump_name)
{
    struct pipeline_config config = { .device = device, .kern = { .threads = 1 } };
    struct pipeline_need need;
    struct stages stages;
    struct dump dump;
    char model[256], path[512];

    if (!kern_find(device))
        test_skip("this build has no kernel table called %s", device);
    golden_model(&j->g, model, sizeof(model));
    config.model_dir = model;
    EXPECT_OK(pipeline_open(&j->p, &config));
    EXPECT_OK(pipeline_resolve(&j->p, &j->spec, j->image.width, j->image.height));
    EXPECT_OK(pipeline_plan(&j->p, &j->spec, j->image.width, j->image.height, &need));
    EXPECT_OK(pipeline_admit(&j->spec, &need));
    stages_init(&stages, NULL, NULL);
    frames_init(&j->frames);
    EXPECT_OK(dump_open(&dump, test_tmpdir(), dump_name));
    EXPECT_OK(pipeline_run(&j->p, &(struct pipeline_clip){ .spec = &j->spec,
                                                           .image = &j->image,
                                                           .frames = &j->frames,
                                                           .need = &need,
                                                           .stages = &stages,
                                                           .dump = &dump }));
    frames_end(&j->frames, OK);
    EXPECT_OK(dump_finish(&dump));
    snprintf(path, sizeof(path), "%s/%s.safetensors", test_tmpdir(), dump_name);
    EXPECT_OK(safetensors_open(&j->dump, path));
}

static void job_open(struct job *j, const char *name)
{
    const struct safetensors_tensor *t;

    memset(j, 0, sizeof(*j));
    golden_open_file(&j->g, name);
    t = safetensors_find(&j->g.file, "image");
    EXPECT(t && t->dtype == SAFETENSORS_U8 && t->rank == 3);
    j->image = (struct image){ .rgb = t->data, .height = t->shape[0], .width = t->shape[1] };
    read_spec(j);
}

static void job_close(struct job *j)
{
    safetensors_close(&j->dump);
    safetensors_close(&j->g.file);
    frames_close(&j->frames);
    pipeline_close(&j->p);
}

/* |a - b| / |b| over two tensors of equal shape, both as written. */
static double distance(const struct safetensors_tensor *a, const struct safetensors_tensor *b)
{
    float *x = golden_memory((size_t)a->count * sizeof(float));
    float *y = golden_memory((size_t)b->count * sizeof(float));
    double difference = 0, norm = 0;

    EXPECT_INT(a->rank, b->rank);
    for (int i = 0; i < a->rank; i++)
        EXPECT_INT(a->shape[i], b->shape[i]);
    EXPECT_OK(safetensors_read_f32(a, 0, a->count, x));
    EXPECT_OK(safetensors_read_f32(b, 0, b->count, y));
    for (int64_t i = 0; i < a->count; i++) {
        double d = (double)x[i] - (double)y[i];

        difference += d * d;
        norm += (double)y[i] * (double)y[i];
    }
    return sqrt(difference / norm);
}

static void expect_tensor(struct job *j, const char *ours, const char *theirs, double bound)
{
    const struct safetensors_tensor *got = safetensors_find(&j->dump, ours);
    const struct safetensors_tensor *want = safetensors_find(&j->g.file, theirs);
    double d;

    if (!got || !want)
        test_fail(__FILE__, __LINE__, "%s is not in the %s", got ? theirs : ours,
                  got ? "golden file" : "dump");
    d = distance(got, want);
    printf("%s: distance %.2e, bound %.0e\n", ours, d, bound);
    if (!(d <= bound))
        test_fail(__FILE__, __LINE__, "%s is %.3e away from diffusers, bound %.0e", ours, d, bound);
}

/* Everything in the dump that the golden file has too. */
static int expect_numbered(struct job *j)
{
    int compared = 0;

    for (size_t i = 0; i < j->dump.count; i++) {
        const char *name = j->dump.tensors[i].name;

        if (!strchr(name, '.'))
            continue;
        /* Noise: torch's vector code against exact functions, 6e-7 at most. */
        expect_tensor(j, name, name, strncmp(name, "step_noise.", 11) == 0 ? 1e-6 : GOLDEN_CHAIN);
        compared++;
    }
    return compared;
}

/* The 8-bit frames are the reference's, rounded; near a half they may be one off. */
static void expect_pixels(struct job *j)
{
    const float *want = golden_values(&j->g, "frames");
    int64_t count = j->frames.count * j->frames.h * j->frames.w * 3;

    EXPECT_INT(count, safetensors_find(&j->g.file, "frames")->count);
    for (int64_t i = 0; i < count; i++)
        EXPECT_NEAR(j->frames.rgb[i], (double)want[i] * 255, 0.5 + 255 * 1e-3);
}

static void job_case(const char *name, const char *device)
{
    struct job j;

    job_open(&j, name);
    run(&j, device, "job");
    expect_tensor(&j, "image_embedding", "clip.image_embeds", GOLDEN_MODULE);
    expect_tensor(&j, "conditioning_latent", "vae.latents_mode", GOLDEN_MODULE);
    expect_tensor(&j, "initial_noise", "initial_noise", 1e-6); /* as for step noise */
    EXPECT(expect_numbered(&j) > 0);
    expect_tensor(&j, "final_latents", "final_latents", GOLDEN_CHAIN);
    expect_tensor(&j, "frames", "frames", GOLDEN_CHAIN);
    expect_pixels(&j);
    job_close(&j);
}

#define JOB(test_name, file)                                                                       \
    TEST(test_name##_ref)                                                                          \
    {                                                                                              \
        job_case(file, "ref");                                                                     \
    }                                                                                              \
    TEST(test_name##_cpu)                                                                          \
    {                                                                                              \
        job_case(file, "cpu");                                                                     \
    }

JOB(consistency1_a, "tiny-a-consistency1")
JOB(consistency4_odd, "tiny-a-odd-consistency4")
JOB(tts_literal_a, "tiny-a-tts-literal")
JOB(tts_fmid_a, "tiny-a-tts-fmid")
JOB(euler3_a, "tiny-a-euler3")
JOB(consistency1_b, "tiny-b-consistency1")
JOB(tts_literal2_b, "tiny-b-tts-literal2")
JOB(tts_fmid2_b, "tiny-b-tts-fmid2")
JOB(euler3_chunk2_b, "tiny-b-euler3-chunk2")
JOB(sample_consistency1, "tiny-osv-consistency1")
JOB(sample_tts_fmid, "tiny-osv-tts-fmid")

/* The tables agree with each other on Philox noise too, and one table with itself to the bit. */
TEST(philox_jobs_repeat)
{
    static const char *const devices[] = { "ref", "cpu", "cpu" };
    struct job j[3];

    for (int i = 0; i < 3; i++) {
        char name[16];

        job_open(&j[i], "tiny-a-consistency1");
        j[i].spec.noise = SPEC_PHILOX;
        snprintf(name, sizeof(name), "job%d", i);
        run(&j[i], devices[i], name);
    }
    for (size_t k = 0; k < j[0].dump.count; k++) {
        const struct safetensors_tensor *a = &j[0].dump.tensors[k], *b = &j[1].dump.tensors[k];
        const struct safetensors_tensor *c = &j[2].dump.tensors[k];
        double d = distance(b, a);

        EXPECT_TEXT(b->name, a->name);
        printf("%s: distance %.2e\n", a->name, d);
        EXPECT(d <= GOLDEN_CHAIN);
        EXPECT(memcmp(b->data, c->data, b->bytes) == 0);
    }
    for (int i = 0; i < 3; i++)
        job_close(&j[i]);
}
