/* How long does one clip of full SVD size take, stage by stage, and how much memory? Run by
 * `make bench-engine`, which makes the random checkpoint and runs the peer beside it:
 *
 *   bench_engine MODEL [--json] [--size FRAMESxWIDTHxHEIGHT] [--precision f32|bf16|f16]
 *                [--threads N] [--device cpu|cuda|cuda:N] [--runs N] [--profile]
 *                [--weights-dir DIR]
 *
 * One clip, one step, from a made-up photograph; the numbers are of one run, since a run is long,
 * or of N one after the other: on a GPU the first also sends the weights.
 * Rows: seconds and rate of each stage; all of them; loading; peak resident memory. --profile
 * waits for each kernel of a GPU and adds a row for its seconds, so that the sums are longer than
 * a run. On a CPU it adds rows for each kind of kernel in each stage: seconds, share of the stage
 * in percent, GFLOP/s (as the plan counts them), GB/s if each operand moved once, calls. */
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
    const char *model, *size, *device, *weights_dir;
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
                    "[--runs N] [--profile] [--weights-dir DIR]\n");
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
        else if (strcmp(argv[i], "--weights-dir") == 0)
            o.weights_dir = value_of(argc, argv, &i);
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

/* --- profile of a CPU: the kernels of its table, each behind a clock -------------------------- */

/* Kinds of kernels, convolutions by what they cost. */
enum kind {
    KIND_CONV_3X3,
    KIND_CONV_UP,
    KIND_CONV_1X1,
    KIND_CONV_OTHER,
    KIND_CONV_TEMPORAL,
    KIND_LINEAR,
    KIND_GEGLU,
    KIND_GROUP_NORM,
    KIND_LAYER_NORM,
    KIND_ATTENTION,
    KIND_ATTENTION_TEMPORAL,
    KIND_ADD,
    KIND_BLEND,
    KIND_CONCAT,
    KIND_SILU,
    KIND_COPY,
    KIND_COUNT
};
static const char *const kind_names[KIND_COUNT] = {
    "conv_3x3", "conv_up",    "conv_1x1",   "conv_other", "conv_temporal",      "linear",
    "geglu",    "group_norm", "layer_norm", "attention",  "attention_temporal", "add",
    "blend",    "concat",     "silu",       "copy",
};

/* What the kernels of one kind took in one stage. */
struct cost {
    int64_t calls;
    double seconds, flops, bytes;
};

/* The wrapped table and its account. */
static struct {
    const struct kern_table *real; /* NULL: no profile */
    const struct dev *dev;         /* counts operations */
    double flops;                  /* of dev, when the last kernel ended */
    enum stage stage;
    struct cost cost[STAGE_COUNT][KIND_COUNT];
} spy;

/* A kernel that began at `begin` has ended. */
static void spy_note(enum kind kind, double begin, double bytes)
{
    struct cost *c = &spy.cost[spy.stage][kind];

    c->calls++;
    c->seconds += clock_mono_s() - begin;
    c->bytes += bytes;
    c->flops += spy.dev->flops - spy.flops;
    spy.flops = spy.dev->flops;
}

static void spy_stage(void *self, enum stage stage, double progress)
{
    (void)self;
    (void)progress;
    spy.stage = stage;
}

static double size_of(const struct tensor *t)
{
    return t->data ? (double)op_bytes(t) : 0;
}

static double weight_size(int64_t count, enum kern_dtype dtype)
{
    return (double)count * (double)kern_dtype_bytes(dtype);
}

static enum kind kind_of(const struct kern_conv2d *a)
{
    if (a->up_h)
        return KIND_CONV_UP;
    if (a->layer->kh == 3 && a->layer->kw == 3)
        return KIND_CONV_3X3;
    return a->layer->kh == 1 && a->layer->kw == 1 ? KIND_CONV_1X1 : KIND_CONV_OTHER;
}

static double attention_size(const struct kern_attention *a)
{
    return (double)(2 * a->n * (a->queries + a->keys) * a->heads * a->d) *
           (double)kern_dtype_bytes(a->dtype);
}

static double attention_temporal_size(const struct kern_attention_temporal *a)
{
    return (double)(4 * a->frames * a->pixels * a->heads * a->d) *
           (double)kern_dtype_bytes(a->dtype);
}

#define SPY(kernel, kind, bytes)                                                                   \
    static status spy_##kernel(struct kern_ctx *ctx, const struct kern_##kernel *a)                \
    {                                                                                              \
        double begin = clock_mono_s();                                                             \
        status st = spy.real->kernel(ctx, a);                                                      \
                                                                                                   \
        spy_note(kind, begin, bytes);                                                              \
        return st;                                                                                 \
    }

SPY(conv2d, kind_of(a),
    size_of(&a->x) + size_of(&a->y) + size_of(&a->residual) +
        weight_size(a->layer->co * a->layer->ci * a->layer->kh * a->layer->kw, a->layer->dtype))
SPY(conv_temporal, KIND_CONV_TEMPORAL,
    size_of(&a->x) + size_of(&a->y) + size_of(&a->residual) +
        weight_size(3 * a->layer->co * a->layer->ci, a->layer->dtype))
SPY(linear, KIND_LINEAR,
    size_of(&a->x) + size_of(&a->y) + size_of(&a->residual) +
        weight_size(a->layer->out * a->layer->in, a->layer->dtype))
SPY(geglu, KIND_GEGLU,
    size_of(&a->x) + size_of(&a->y) + weight_size(a->layer->out * a->layer->in, a->layer->dtype))
SPY(group_norm, KIND_GROUP_NORM, size_of(&a->x) + size_of(&a->y))
SPY(layer_norm, KIND_LAYER_NORM, size_of(&a->x) + size_of(&a->y))
SPY(attention, KIND_ATTENTION, attention_size(a))
SPY(attention_temporal, KIND_ATTENTION_TEMPORAL, attention_temporal_size(a))
SPY(add, KIND_ADD, size_of(&a->x) + size_of(&a->z) + size_of(&a->y))
SPY(blend, KIND_BLEND, size_of(&a->x) + size_of(&a->z) + size_of(&a->y))
SPY(concat, KIND_CONCAT, size_of(&a->x) + size_of(&a->z) + size_of(&a->y))
SPY(silu, KIND_SILU, size_of(&a->x) + size_of(&a->y))
SPY(copy, KIND_COPY, size_of(&a->x) + size_of(&a->y))

/* From here on dev's kernels are counted. */
static void spy_begin(struct dev *dev)
{
    static struct kern_table table;

    table = *dev->kern;
    table.conv2d = spy_conv2d;
    table.conv_temporal = spy_conv_temporal;
    table.linear = spy_linear;
    table.geglu = spy_geglu;
    table.group_norm = spy_group_norm;
    table.layer_norm = spy_layer_norm;
    table.attention = spy_attention;
    table.attention_temporal = spy_attention_temporal;
    table.add = spy_add;
    table.blend = spy_blend;
    table.concat = spy_concat;
    table.silu = spy_silu;
    table.copy = spy_copy;
    spy.real = dev->kern;
    spy.dev = dev;
    spy.flops = dev->flops;
    dev->kern = &table;
}

/* `what` has its unit behind a slash: "rate/GFLOP/s". */
static void spy_row(const struct options *o, enum stage stage, const char *kind, const char *what,
                    double value)
{
    char name[96];
    const char *unit = strchr(what, '/');

    snprintf(name, sizeof(name), "profile.%s.%s.%.*s", stage_name(stage), kind, (int)(unit - what),
             what);
    report(o, name, value, unit + 1);
}

/* The rows of one stage, which took so many seconds; the next run starts from zero. */
static void spy_report(const struct options *o, enum stage stage, double seconds)
{
    double rest = seconds;

    if (!spy.real)
        return;
    for (int k = 0; k < KIND_COUNT; k++) {
        struct cost *c = &spy.cost[stage][k];

        if (c->calls == 0)
            continue;
        spy_row(o, stage, kind_names[k], "seconds/s", c->seconds);
        spy_row(o, stage, kind_names[k], "share/%", 100 * c->seconds / seconds);
        if (c->flops > 0)
            spy_row(o, stage, kind_names[k], "rate/GFLOP/s", c->flops / c->seconds / 1e9);
        spy_row(o, stage, kind_names[k], "traffic/GB/s", c->bytes / c->seconds / 1e9);
        spy_row(o, stage, kind_names[k], "calls/", (double)c->calls);
        rest -= c->seconds;
        *c = (struct cost){ 0 };
    }
    spy_row(o, stage, "outside", "share/%", 100 * rest / seconds);
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
    stages_init(&stages, spy.real ? spy_stage : NULL, NULL);
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
    for (int i = 0; i < 4; i++)
        spy_report(o, stage[i], stages.seconds[stage[i]]);
    report(o, "all.seconds", sum, "s");
    getrusage(RUSAGE_SELF, &usage);
    report(o, "peak_resident", (double)usage.ru_maxrss / 1024, "MiB");
}

int main(int argc, char **argv)
{
    const struct options o = parse(argc, argv);
    struct pipeline_config config = {
        .model_dir = o.model,
        .weights_dir = o.weights_dir,
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
    if (o.is_profile && !p.dev.kern->memory)
        spy_begin(&p.dev);
    fprintf(stderr, "%s, %s, %s\n", o.size, p.checkpoint.name, pipeline_device(&p));
    for (int i = 0; i < o.runs; i++) {
        run(&o, &p, &spec, &image);
        profile_report(&o);
    }
    pipeline_close(&p);
    return 0;
}
