/* How long does one clip of full SVD size take, stage by stage, and how much memory? Run by
 * `make bench-engine`, which makes the random checkpoint and runs the peer beside it:
 *
 *   bench_engine MODEL [--json] [--size FRAMESxWIDTHxHEIGHT] [--precision f32|bf16|f16]
 *                [--threads N] [--device cpu|cuda|cuda:N] [--runs N] [--profile]
 *
 * One clip, one step, from a made-up photograph; the numbers are of one run, since a run is long,
 * or of N one after the other: on a GPU the first also sends the weights.
 * Rows: seconds and rate of each stage; all of them; loading; peak resident memory. --profile
 * waits for each kernel of a GPU and adds a row for its seconds, so that the sums are longer than
 * a run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/clock.h"
#include "kernels/cuda/cuda_driver.h"
#include "tests/tool/bench.h"
#include "worker/pipeline.h"
#include "worker/plan.h"

enum { IMAGE_SIDE = 512 };

/* The command line. */
struct options {
    const char *model, *size, *device;
    int runs;
    enum kern_precision precision;
    bool is_profile;
    int threads;
    struct bench bench;
};

static void check(status st)
{
    if (st == OK)
        return;
    fprintf(stderr, "bench_engine: %s\n", status_message());
    exit(1);
}

static void usage(void)
{
    fprintf(stderr, "usage: bench_engine MODEL [--json] [--size FRAMESxWIDTHxHEIGHT] "
                    "[--precision f32|bf16|f16] [--threads N] [--device cpu|cuda|cuda:N] "
                    "[--runs N] [--profile]\n");
    exit(2);
}

static const char *value_of(int argc, char **argv, int *i)
{
    if (*i + 1 >= argc)
        usage();
    return argv[++*i];
}

static enum kern_precision precision_of(const char *name)
{
    if (strcmp(name, "f32") == 0)
        return KERN_PRECISION_F32;
    if (strcmp(name, "bf16") == 0)
        return KERN_PRECISION_BF16;
    if (strcmp(name, "f16") != 0)
        usage();
    return KERN_PRECISION_F16;
}

static struct options parse(int argc, char **argv)
{
    struct options o = { .size = "14x448x256", .device = "cpu", .runs = 1 };

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            o.bench.json = true;
        else if (strcmp(argv[i], "--size") == 0)
            o.size = value_of(argc, argv, &i);
        else if (strcmp(argv[i], "--precision") == 0)
            o.precision = precision_of(value_of(argc, argv, &i));
        else if (strcmp(argv[i], "--profile") == 0)
            o.is_profile = true;
        else if (strcmp(argv[i], "--device") == 0)
            o.device = value_of(argc, argv, &i);
        else if (strcmp(argv[i], "--runs") == 0)
            o.runs = atoi(value_of(argc, argv, &i));
        else if (strcmp(argv[i], "--threads") == 0)
            o.threads = atoi(value_of(argc, argv, &i));
        else if (argv[i][0] != '-' && !o.model)
            o.model = argv[i];
        else
            usage();
    }
    if (!o.model)
        usage();
    return o;
}

static void report(const struct options *o, const char *name, double value, const char *unit)
{
    char full[128];

    snprintf(full, sizeof(full), "engine.%s", name);
    bench_report(&o->bench, &(struct bench_row){ .name = full, .value = value, .unit = unit });
}

static void report_stage(const struct options *o, enum stage stage, double seconds, double flops)
{
    char name[48];

    snprintf(name, sizeof(name), "%s.seconds", stage_name(stage));
    report(o, name, seconds, "s");
    snprintf(name, sizeof(name), "%s.rate", stage_name(stage));
    report(o, name, flops / seconds / 1e9, "GFLOP/s");
}

/* --- profile: a driver that waits for each kernel and adds up its time ----------------------- */

/* A kernel by name. */
struct profile_row {
    struct cuda_function *function;
    char name[64];
    int64_t launches;
    double seconds;
};

static struct profile_row profile[128];
static int profile_count;

static status profile_find(struct cuda_device *device, const char *name,
                           struct cuda_function **function)
{
    status st = cuda_libcuda.find(device, name, function);
    struct profile_row *row = &profile[profile_count];

    if (st != OK || profile_count == sizeof(profile) / sizeof(profile[0]))
        return st;
    *row = (struct profile_row){ .function = *function };
    snprintf(row->name, sizeof(row->name), "%s", name);
    profile_count++;
    return OK;
}

static status profile_launch(struct cuda_device *device, const struct cuda_launch *launch)
{
    double start = clock_mono_s();
    status st = cuda_libcuda.launch(device, launch);

    if (st == OK)
        st = cuda_libcuda.sync(device);
    for (int i = 0; i < profile_count; i++) {
        if (profile[i].function == launch->function) {
            profile[i].launches++;
            profile[i].seconds += clock_mono_s() - start;
        }
    }
    return st;
}

/* The rows of the last run; the next one starts from zero. */
static void profile_report(const struct options *o)
{
    for (int i = 0; i < profile_count; i++) {
        char name[96];

        snprintf(name, sizeof(name), "profile.%s.seconds", profile[i].name);
        report(o, name, profile[i].seconds, "s");
        snprintf(name, sizeof(name), "profile.%s.launches", profile[i].name);
        report(o, name, (double)profile[i].launches, "");
        profile[i].launches = 0;
        profile[i].seconds = 0;
    }
}

/* Run one clip and print its rows. */
static void run(const struct options *o, struct pipeline *p, struct job_spec *spec,
                const struct image *image)
{
    static const enum stage stage[] = { STAGE_CLIP, STAGE_VAE_ENCODE, STAGE_UNET,
                                        STAGE_VAE_DECODE };
    struct pipeline_need need;
    struct stages stages;
    struct frames frames;
    struct rusage usage;
    double flops[4], sum = 0;

    check(pipeline_resolve(p, spec, image->width, image->height));
    check(pipeline_plan(p, spec, image->width, image->height, &need));
    flops[0] = need.model.clip_flops;
    flops[1] = need.model.encode_flops;
    flops[2] = need.model.unet_flops;
    flops[3] = need.model.decode_flops;
    frames_init(&frames);
    stages_init(&stages, NULL, NULL);
    check(pipeline_run(
        p,
        &(struct pipeline_clip){
            .spec = spec, .image = image, .need = &need, .frames = &frames, .stages = &stages }));
    frames_end(&frames, OK);
    frames_close(&frames);
    for (int i = 0; i < 4; i++) {
        report_stage(o, stage[i], stages.seconds[stage[i]], flops[i]);
        sum += stages.seconds[stage[i]];
    }
    report(o, "all.seconds", sum, "s");
    getrusage(RUSAGE_SELF, &usage);
    report(o, "peak_resident", (double)usage.ru_maxrss / 1024, "MiB");
}

int main(int argc, char **argv)
{
    const struct options o = parse(argc, argv);
    struct pipeline_config config = {
        .model_dir = o.model,
        .device = o.device,
        .kern = { .threads = o.threads, .precision = o.precision },
    };
    struct cuda_driver driver = cuda_libcuda;
    struct cuda_target target = cuda_builtin;
    static uint8_t rgb[IMAGE_SIDE * IMAGE_SIDE * 3];
    const struct image image = { rgb, IMAGE_SIDE, IMAGE_SIDE };
    struct pipeline p;
    struct job_spec spec;
    double start = clock_mono_s();

    for (size_t i = 0; i < sizeof(rgb); i++)
        rgb[i] = (uint8_t)(i * 7 + i / 999);
    driver.find = profile_find;
    driver.launch = profile_launch;
    target.driver = &driver;
    if (o.is_profile)
        config.kern.target = &target;
    spec_init(&spec);
    check(plan_parse(&spec, o.size));
    check(pipeline_open(&p, &config));
    report(&o, "load.seconds", clock_mono_s() - start, "s");
    fprintf(stderr, "%s, %s, %s\n", o.size, p.checkpoint.name, pipeline_device(&p));
    for (int i = 0; i < o.runs; i++) {
        run(&o, &p, &spec, &image);
        profile_report(&o);
    }
    pipeline_close(&p);
    return 0;
}
