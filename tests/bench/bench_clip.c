/* How fast is one small clip, and each of its stages, on the cpu device? The peer is the reference
 * device on the same model and machine. The model is the tiny one of the tests, so its layers are
 * far too small for the rates of a real one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/bench.h"
#include "worker/pipeline.h"

enum { IMAGE_SIDE = 128, FRAMES = 3, WIDTH = 64, HEIGHT = 64 };

/* A model with one clip to make, again and again. */
struct studio {
    struct pipeline pipeline;
    struct job_spec spec;
    struct image image;
    struct pipeline_need need;
    struct stages stages; /* of the last clip */
};

static void check(status st)
{
    if (st != OK) {
        fprintf(stderr, "bench_clip: %s\n", status_message());
        exit(1);
    }
}

static void open_studio(struct studio *s, const char *device, const uint8_t *rgb)
{
    const struct pipeline_config config = {
        .model_dir = "tests/fixtures/tiny-a",
        .device = device,
        .memory_max_bytes = (size_t)1 << 30,
    };

    memset(s, 0, sizeof(*s));
    check(pipeline_open(&s->pipeline, &config));
    s->image = (struct image){ rgb, IMAGE_SIDE, IMAGE_SIDE };
    spec_init(&s->spec);
    s->spec.frames = FRAMES;
    s->spec.width_px = WIDTH;
    s->spec.height_px = HEIGHT;
    check(pipeline_resolve(&s->pipeline, &s->spec, IMAGE_SIDE, IMAGE_SIDE));
    check(pipeline_plan(&s->pipeline, &s->spec, IMAGE_SIDE, IMAGE_SIDE, &s->need));
}

static void make_clip(void *self)
{
    struct studio *s = self;
    struct frames frames;
    const struct pipeline_clip clip = {
        .spec = &s->spec,
        .image = &s->image,
        .need = &s->need,
        .frames = &frames,
        .stages = &s->stages,
    };

    frames_init(&frames);
    stages_init(&s->stages, NULL, NULL);
    check(pipeline_run(&s->pipeline, &clip));
    frames_end(&frames, OK);
    frames_close(&frames);
}

/* Rate of one stage, against the other studio's. */
static void report_stage(const struct bench *b, enum stage stage, double flops,
                         const struct studio *cpu, const struct studio *ref)
{
    char name[64];

    snprintf(name, sizeof(name), "clip.%s", stage_name(stage));
    bench_report(b, &(struct bench_row){
                        .name = name,
                        .value = flops / cpu->stages.seconds[stage] / 1e9,
                        .unit = "GFLOP/s",
                        .peer = "ref",
                        .ratio = ref->stages.seconds[stage] / cpu->stages.seconds[stage],
                    });
}

int main(int argc, char **argv)
{
    static uint8_t rgb[IMAGE_SIDE * IMAGE_SIDE * 3];
    struct bench b;
    struct studio cpu, ref;
    double cpu_s, ref_s;

    bench_init(&b, argc, argv);
    for (size_t i = 0; i < sizeof(rgb); i++)
        rgb[i] = (uint8_t)(i * 7 + i / 999);
    open_studio(&cpu, "cpu", rgb);
    open_studio(&ref, "ref", rgb);
    cpu_s = bench_seconds(make_clip, &cpu);
    ref_s = bench_seconds(make_clip, &ref);
    bench_report(&b, &(struct bench_row){ .name = "clip.whole",
                                          .value = 1 / cpu_s,
                                          .unit = "clips/s",
                                          .peer = "ref",
                                          .ratio = ref_s / cpu_s });
    report_stage(&b, STAGE_CLIP, cpu.need.model.clip_flops, &cpu, &ref);
    report_stage(&b, STAGE_VAE_ENCODE, cpu.need.model.encode_flops, &cpu, &ref);
    report_stage(&b, STAGE_UNET, cpu.need.model.unet_flops, &cpu, &ref);
    report_stage(&b, STAGE_VAE_DECODE, cpu.need.model.decode_flops, &cpu, &ref);
    pipeline_close(&cpu.pipeline);
    pipeline_close(&ref.pipeline);
    return 0;
}
