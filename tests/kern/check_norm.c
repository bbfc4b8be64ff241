/* check_norm.c - group norm and layer norm against the reference. */
#include <stdio.h>

#include "tests/kern/check.h"
#include "tests/ptx/ptx_driver.h"
#include "tests/tool/test.h"

#define CASES 60

static status call_group_norm(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->group_norm(ctx, a);
}

static status call_layer_norm(const struct kern_table *t, struct kern_ctx *ctx, const void *a)
{
    return t->layer_norm(ctx, a);
}

/* Results are of size 1 and come from a handful of roundings, of the input's size `offset`: the
 * input itself is only given to 2^-24 * offset. Where few elements share their statistics, their
 * deviation may be anything, and 1 / deviation multiplies those errors: eps bounds it to 10. */
static struct check_tolerance norm_tolerance(double offset, int64_t shared, float *eps)
{
    double size = (1 + offset) * (shared < 64 ? 10 : 1);

    *eps = shared < 64 ? 1e-2f : 1e-5f;
    return (
        struct check_tolerance){ .absolute = 4e-6 * size, .relative = 2e-6, .whole = 5e-7 * size };
}

/* Shift what the case starts from; the offset is added to every element of array `index`. */
static void add_offset(struct check *c, int index, double offset)
{
    for (int64_t i = 0; i < c->arrays[index].n; i++) {
        c->arrays[index].start[i] += (float)offset;
        if (c->is_bf16)
            c->arrays[index].start[i] = check_round(c->arrays[index].start[i]);
        c->arrays[index].data[i] = c->arrays[index].start[i];
    }
}

/* Sizes of a group norm. */
struct group_size {
    int64_t clips, span, h, w, groups, width;
    double offset; /* mean of the input, whose deviation is 1 */
};

static void group_case(const struct check_rig *rig, const struct group_size *s, bool parts)
{
    struct check c = { .call = call_group_norm, .is_bf16 = check_rounds(rig) };
    int64_t channels = s->groups * s->width, n = s->clips * s->span;
    int64_t elements = n * s->h * s->w * channels, clip = elements / s->clips;
    struct norm layer = { .c = channels, .groups = (int)s->groups };
    struct kern_group_norm a = { .layer = &layer, .span = s->span, .silu = check_coin() }, last;
    bool is_in_place = check_coin();
    float *x = is_in_place ? check_in_out(&c, elements) : check_input(&c, elements);

    add_offset(&c, 0, s->offset);
    layer.gamma = check_input(&c, channels);
    layer.beta = check_input(&c, channels);
    a.x = check_tensor(x, n, s->h, s->w, channels);
    a.y = check_tensor(is_in_place ? x : check_output(&c, elements), n, s->h, s->w, channels);
    c.args = &a;
    c.tol = norm_tolerance(s->offset, s->span * s->h * s->w * s->width, &layer.eps);
    snprintf(c.shape, sizeof(c.shape), "n %d span %d h %d w %d groups %d of %d, offset %g", (int)n,
             (int)s->span, (int)s->h, (int)s->w, (int)s->groups, (int)s->width, s->offset);
    if (parts) {
        last = a;
        last.x.n = last.y.n = s->span;
        last.x.data = (float *)a.x.data + (s->clips - 1) * clip;
        last.y.data = (float *)a.y.data + (s->clips - 1) * clip;
        check_same_bits(&c, rig, &a, &last, last.y.data, clip);
    }
    check_case(&c, rig);
}

static struct group_size random_group(void)
{
    return (struct group_size){ .clips = CHECK_PICK(1, 1, 2, 3),
                                .span = CHECK_PICK(1, 1, 2, 5),
                                .h = CHECK_PICK(1, 3, 8, 17),
                                .w = CHECK_PICK(2, 5, 16, 31),
                                .groups = CHECK_PICK(1, 2, 8, 32),
                                .width = CHECK_PICK(1, 2, 3, 8, 10, 20) };
}

TEST(group_norm_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++) {
        struct group_size s = random_group();

        group_case(&rig, &s, false);
    }
    check_rig_close(&rig);
}

TEST(group_norm_survives_a_large_mean)
{
    /* A variance computed as mean of squares less square of mean would lose every digit here. */
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(10); i++) {
        struct group_size s = random_group();

        s.h += 8;
        s.offset = CHECK_PICK(10, 300);
        group_case(&rig, &s, false);
    }
    check_rig_close(&rig);
}

/* Several parts, of several blocks each. */
static const struct group_size many_rows[] = {
    { .clips = 1, .span = 2, .h = 80, .w = 71, .groups = 4, .width = 3 },
    { .clips = 2, .span = 1, .h = 100, .w = 101, .groups = 2, .width = 2 },
};

TEST(group_norm_over_many_rows)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (size_t i = 0; i < sizeof(many_rows) / sizeof(many_rows[0]); i++)
        group_case(&rig, &many_rows[i], false);
    check_rig_close(&rig);
}

TEST(group_norm_of_a_clip_does_not_depend_on_its_batch)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(20); i++) {
        struct group_size s = random_group();

        s.clips = CHECK_PICK(2, 3);
        group_case(&rig, &s, true);
    }
    check_rig_close(&rig);
}

static void layer_case(const struct check_rig *rig, int64_t n, int64_t w, int64_t channels,
                       bool parts)
{
    struct check c = { .call = call_layer_norm, .is_bf16 = check_rounds(rig) };
    struct norm layer = { .c = channels };
    struct kern_layer_norm a = { .layer = &layer }, last;
    bool is_in_place = check_coin();
    int64_t elements = n * w * channels, frame = w * channels;
    float *x = is_in_place ? check_in_out(&c, elements) : check_input(&c, elements);
    double offset = check_coin() ? 20 : 0;

    add_offset(&c, 0, offset);
    layer.gamma = check_input(&c, channels);
    layer.beta = check_input(&c, channels);
    a.x = check_tensor(x, n, 1, w, channels);
    a.y = check_tensor(is_in_place ? x : check_output(&c, elements), n, 1, w, channels);
    c.args = &a;
    c.tol = norm_tolerance(offset, channels, &layer.eps);
    snprintf(c.shape, sizeof(c.shape), "rows %dx%d channels %d offset %g", (int)n, (int)w,
             (int)channels, offset);
    if (parts) {
        last = a;
        last.x.n = last.y.n = 1;
        last.x.data = (float *)a.x.data + (n - 1) * frame;
        last.y.data = (float *)a.y.data + (n - 1) * frame;
        check_same_bits(&c, rig, &a, &last, last.y.data, frame);
    }
    check_case(&c, rig);
}

TEST(layer_norm_is_the_reference)
{
    struct check_rig rig;

    check_rig_open(&rig, &kern_cpu);
    for (int i = 0; i < check_cases(CASES); i++)
        layer_case(&rig, CHECK_PICK(1, 2, 5), CHECK_PICK(1, 3, 33, 70),
                   CHECK_PICK(1, 2, 15, 16, 17, 31, 64, 100, 320, 1280), check_coin());
    check_rig_close(&rig);
}

static void on_cuda(const struct cuda_target *target)
{
    struct check_rig rig;

    for (int p = KERN_PRECISION_BF16; p <= KERN_PRECISION_F16; p++) {
        check_rig_open_cuda(&rig, target, (enum kern_precision)p, false);
        for (int i = 0; i < check_cases(CASES); i++) {
            struct group_size s = random_group();

            group_case(&rig, &s, i % 4 == 0);
            s.offset = 30;
            group_case(&rig, &s, false);
            layer_case(&rig, CHECK_PICK(1, 2, 5), CHECK_PICK(1, 3, 33, 70),
                       CHECK_PICK(1, 2, 15, 16, 17, 31, 64, 100, 320, 1280), check_coin());
        }
        for (size_t i = 0; i < sizeof(many_rows) / sizeof(many_rows[0]); i++)
            group_case(&rig, &many_rows[i], false);
        check_rig_close(&rig);
    }
}

TEST_TIMEOUT(cuda_norms_are_the_reference, 300)
{
    on_cuda(NULL);
}

TEST_TIMEOUT(ptx_norms_are_the_reference, 600)
{
    on_cuda(&ptx_target);
}
