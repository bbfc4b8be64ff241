#include "tests/kern/check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kern/cuda_rig.h"
#include "tests/tool/test.h"

#define GUARD 64 /* floats on each side: wider than any vector or tile row */

/* A NaN that no arithmetic makes. */
#define POISON_BITS 0x7fb0150bu

static float poison(void)
{
    uint32_t bits = POISON_BITS;
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

static bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

const char *check_isa_name(int isa)
{
    static const char *const names[] = { "auto", "plain", "avx2", "avx512", "avx512_bf16", "amx" };

    return names[isa];
}

static void open_rig(struct check_rig *rig, const struct kern_table *table,
                     struct kern_config config, int lowest)
{
    const struct kern_config plain = { .threads = 1 };

    *rig = (struct check_rig){ .table = table, .precision = config.precision };
    EXPECT_OK(kern_ref.open(&rig->ref, &plain));
    for (config.isa = lowest; config.isa <= KERN_ISA_AMX; config.isa++) {
        for (config.threads = 1; config.threads <= CHECK_THREADS_MAX; config.threads++) {
            struct kern_ctx **ctx = &rig->ctx[config.isa][config.threads];
            char name[32];

            EXPECT_OK(table->open(ctx, &config));
            snprintf(name, sizeof(name), ", %s,", check_isa_name(config.isa));
            if (strstr(kern_describe(*ctx), name))
                continue;
            table->close(*ctx); /* this machine hasn't got it */
            *ctx = NULL;
        }
    }
}

void check_rig_open(struct check_rig *rig, const struct kern_table *table)
{
    open_rig(rig, table, (struct kern_config){ .precision = KERN_PRECISION_F32 }, KERN_ISA_PLAIN);
}

void check_rig_open_bf16(struct check_rig *rig)
{
    struct kern_config config = { .threads = 1, .precision = KERN_PRECISION_BF16 };
    struct kern_ctx *ctx;

    if (kern_cpu.open(&ctx, &config) != OK)
        test_skip(status_message());
    kern_cpu.close(ctx);
    open_rig(rig, &kern_cpu, config, KERN_ISA_AVX512_BF16);
}

void check_rig_open_cuda(struct check_rig *rig, const struct cuda_target *target,
                         enum kern_precision precision, bool use_wgmma)
{
    const struct kern_config plain = { .threads = 1 };
    const struct kern_config config = { .precision = precision,
                                        .weight_bytes = 64 << 20,
                                        .use_wgmma = use_wgmma,
                                        .target = target,
                                        .ordinal = target && use_wgmma };
    status st;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    if (target)
        test_skip("interpreted kernels take many minutes under a sanitizer");
#endif
    /* Half of the last place: of 8 significant bits, or of 11. */
    *rig = (struct check_rig){ .table = &cuda_rig,
                               .precision = precision,
                               .rounding = ldexp(1, precision == KERN_PRECISION_BF16 ? -8 : -11),
                               .smallest = precision == KERN_PRECISION_F16 ? ldexp(1, -25) : 0 };
    st = cuda_rig.open(&rig->ctx[KERN_ISA_PLAIN][1], &config);
    if (st == ERR_UNAVAILABLE)
        test_skip(status_message());
    EXPECT_OK(st);
    EXPECT_OK(kern_ref.open(&rig->ref, &plain));
}

bool check_rounds(const struct check_rig *rig)
{
    return rig->precision == KERN_PRECISION_BF16 || rig->precision == KERN_PRECISION_F16;
}

void check_rig_close(struct check_rig *rig)
{
    for (int isa = 0; isa <= KERN_ISA_AMX; isa++) {
        for (int threads = 0; threads <= CHECK_THREADS_MAX; threads++)
            rig->table->close(rig->ctx[isa][threads]);
    }
    kern_ref.close(rig->ref);
}

static struct check_array *take(struct check *c, int64_t n, bool is_output)
{
    struct check_array *a = &c->arrays[c->count++];

    EXPECT(c->count <= CHECK_ARRAYS_MAX);
    *a = (struct check_array){ .n = n, .is_output = is_output };
    a->block = malloc((size_t)(n + 2 * GUARD) * sizeof(float));
    a->start = malloc((size_t)n * sizeof(float));
    a->want = malloc((size_t)n * sizeof(float));
    EXPECT(a->block && a->start && a->want);
    for (int64_t i = 0; i < n + 2 * GUARD; i++)
        a->block[i] = poison();
    a->data = a->block + GUARD;
    return a;
}

float check_round(float x)
{
    int exponent;
    double digits = frexp(x, &exponent);

    return (float)ldexp(rint(ldexp(digits, 8)), exponent - 8);
}

static float *take_normal(struct check *c, int64_t n, bool is_output)
{
    struct check_array *a = take(c, n, is_output);

    for (int64_t i = 0; i < n; i++) {
        a->data[i] = (float)test_normal();
        if (c->is_bf16)
            a->data[i] = check_round(a->data[i]);
        a->start[i] = a->data[i];
    }
    return a->data;
}

float *check_input(struct check *c, int64_t n)
{
    return take_normal(c, n, false);
}

void *check_weights(struct check *c, int64_t n, enum kern_dtype *dtype)
{
    float *values = take_normal(c, n, false);
    struct check_array *a = &c->arrays[c->count - 1];
    uint16_t *words = (uint16_t *)values;

    *dtype =
        c->is_bf16 && check_coin() ? KERN_BF16 : (enum kern_dtype)(KERN_F32 + test_random() % 3);
    if (c->is_bf16 && *dtype == KERN_F16)
        *dtype = KERN_F32; /* not numbers that bf16 has */
    for (int64_t i = 0; i < n && *dtype == KERN_BF16; i++)
        words[i] = (uint16_t)((test_random() & 0x80ff) | 0x3f00); /* 0.5 .. 2, both signs */
    for (int64_t i = 0; i < n && *dtype == KERN_F16; i++)
        words[i] = (uint16_t)((test_random() & 0x87ff) | 0x3800); /* the same */
    memcpy(a->start, values, (size_t)n * sizeof(float));
    return values;
}

float *check_in_out(struct check *c, int64_t n)
{
    return take_normal(c, n, true);
}

float *check_output(struct check *c, int64_t n)
{
    struct check_array *a = take(c, n, true);

    for (int64_t i = 0; i < n; i++)
        a->start[i] = poison();
    return a->data;
}

void check_free(struct check *c)
{
    for (int i = 0; i < c->count; i++) {
        free(c->arrays[i].block);
        free(c->arrays[i].start);
        free(c->arrays[i].want);
    }
    *c = (struct check){ 0 };
}

/* --- one run
 * ------------------------------------------------------------------------------------ */

PRINTF_LIKE(2, 3) static bool wrong(struct check *c, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(c->verdict, sizeof(c->verdict), fmt, args);
    va_end(args);
    return false;
}

/* The case may change `start` of an input after taking it; that counts. */
static void restart(struct check *c)
{
    for (int i = 0; i < c->count; i++)
        memcpy(c->arrays[i].data, c->arrays[i].start, (size_t)c->arrays[i].n * sizeof(float));
}

static bool is_guarded(struct check *c, int index)
{
    const struct check_array *a = &c->arrays[index];

    for (int i = 0; i < GUARD; i++) {
        if (!same_bits(a->block[i], poison()))
            return wrong(c, "array %d: wrote %d elements before its start", index, GUARD - i);
        if (!same_bits(a->data[a->n + i], poison()))
            return wrong(c, "array %d: wrote element %lld of %lld", index, (long long)(a->n + i),
                         (long long)a->n);
    }
    for (int64_t i = 0; !a->is_output && i < a->n; i++) {
        if (!same_bits(a->data[i], a->start[i]))
            return wrong(c, "array %d: changed element %lld of an input", index, (long long)i);
    }
    return true;
}

/* Compare an output with what the reference wrote. */
static bool is_near(struct check *c, const struct check_rig *rig, int index)
{
    const struct check_array *a = &c->arrays[index];
    double difference = 0, size = 0;

    for (int64_t i = 0; i < a->n; i++) {
        double want = a->want[i], got = a->data[i];

        if (same_bits(a->want[i], poison())) { /* the reference did not write it */
            if (!same_bits(a->data[i], poison()))
                return wrong(c, "array %d: element %lld is not for writing", index, (long long)i);
            continue;
        }
        if (!(fabs(got - want) <=
              c->tol.absolute + rig->smallest + (c->tol.relative + rig->rounding) * fabs(want)))
            return wrong(c, "array %d: element %lld is %.9g, reference %.9g", index, (long long)i,
                         got, want);
        difference += (got - want) * (got - want);
        size += want * want;
    }
    /* The absolute part is for results of few elements, which may all happen to be small. */
    if (!(sqrt(difference) <= (c->tol.whole + rig->rounding) * sqrt(size) + c->tol.absolute))
        return wrong(c, "array %d: relative L2 distance %.3g, limit %.3g", index,
                     sqrt(difference / size), c->tol.whole + rig->rounding);
    return true;
}

/* Run and compare; every array is as the table left it afterwards. */
static bool run(struct check *c, const struct kern_table *table, struct kern_ctx *ctx)
{
    status st;

    restart(c);
    st = c->call(table, ctx, c->args);
    if (st != OK)
        return wrong(c, "status %s: %s", status_name(st), status_message());
    for (int i = 0; i < c->count; i++) {
        if (!is_guarded(c, i))
            return false;
    }
    return true;
}

static bool run_and_compare(struct check *c, const struct check_rig *rig, int isa, int threads)
{
    if (!run(c, rig->table, rig->ctx[isa][threads]))
        return false;
    for (int i = 0; i < c->count; i++) {
        if (c->arrays[i].is_output && !is_near(c, rig, i))
            return false;
    }
    return true;
}

/* Keep the outputs of the run with one thread, or compare with them. */
static bool same_as_one_thread(struct check *c, int threads, float *kept[])
{
    for (int i = 0; i < c->count; i++) {
        size_t bytes = (size_t)c->arrays[i].n * sizeof(float);

        if (!c->arrays[i].is_output)
            continue;
        if (threads == 1)
            memcpy(kept[i], c->arrays[i].data, bytes);
        else if (memcmp(kept[i], c->arrays[i].data, bytes) != 0)
            return wrong(c, "array %d: other bits than with one thread", i);
    }
    return true;
}

static bool all_runs(struct check *c, const struct check_rig *rig, float *kept[], char *where,
                     size_t room)
{
    snprintf(where, room, "reference");
    if (!run(c, &kern_ref, rig->ref))
        return false;
    for (int i = 0; i < c->count; i++)
        memcpy(c->arrays[i].want, c->arrays[i].data, (size_t)c->arrays[i].n * sizeof(float));
    for (int isa = KERN_ISA_PLAIN; isa <= KERN_ISA_AMX; isa++) {
        for (int threads = 1; rig->ctx[isa][threads]; threads++) {
            snprintf(where, room, "%s, %d threads", check_isa_name(isa), threads);
            if (!run_and_compare(c, rig, isa, threads) || !same_as_one_thread(c, threads, kept))
                return false;
        }
    }
    return true;
}

const char *check_verdict(struct check *c, const struct check_rig *rig)
{
    float *kept[CHECK_ARRAYS_MAX];
    char where[48], sentence[200];
    bool is_right;

    for (int i = 0; i < c->count; i++) {
        kept[i] = malloc((size_t)c->arrays[i].n * sizeof(float));
        EXPECT(kept[i]);
    }
    is_right = all_runs(c, rig, kept, where, sizeof(where));
    for (int i = 0; i < c->count; i++)
        free(kept[i]);
    if (is_right)
        return NULL;
    memcpy(sentence, c->verdict, sizeof(sentence));
    snprintf(c->verdict, sizeof(c->verdict), "%s: %.*s; %s", where, (int)sizeof(sentence) - 1,
             sentence, c->shape);
    return c->verdict;
}

void check_case(struct check *c, const struct check_rig *rig)
{
    const char *verdict = check_verdict(c, rig);

    if (verdict)
        test_fail(__FILE__, __LINE__, "%s", verdict);
    check_free(c);
}

void check_same_bits(struct check *c, const struct check_rig *rig, const void *whole,
                     const void *part, const float *at, int64_t n)
{
    float *kept = malloc((size_t)n * sizeof(float));

    EXPECT(kept);
    for (int isa = KERN_ISA_PLAIN; isa <= KERN_ISA_AMX; isa++) {
        if (!rig->ctx[isa][1])
            continue;
        restart(c);
        EXPECT_OK(c->call(rig->table, rig->ctx[isa][rig->ctx[isa][2] ? 2 : 1], whole));
        memcpy(kept, at, (size_t)n * sizeof(float));
        restart(c);
        EXPECT_OK(c->call(rig->table, rig->ctx[isa][1], part));
        if (memcmp(kept, at, (size_t)n * sizeof(float)) != 0)
            test_fail(__FILE__, __LINE__, "%s: a frame depends on the others in its batch; %s",
                      check_isa_name(isa), c->shape);
    }
    free(kept);
}

/* --- small things
 * ------------------------------------------------------------------------------- */

int check_cases(int usual)
{
#if defined(__SANITIZE_THREAD__)
    return 1 + usual / 20;
#elif defined(__SANITIZE_ADDRESS__)
    return 1 + usual / 4;
#else
    return usual;
#endif
}

struct tensor check_tensor(float *data, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return (struct tensor){ .data = data, .dtype = KERN_F32, .n = n, .h = h, .w = w, .c = c };
}

int64_t check_pick(const int64_t *sizes, int count)
{
    return sizes[test_random() % (uint64_t)count];
}

bool check_coin(void)
{
    return test_random() % 2;
}

struct check_tolerance check_bf16_tolerance(int64_t terms, double scale)
{
    /* Rounding to 8 bits is off by 2^-9 / sqrt(3) of a value on average, with two roundings in a
     * product 2^-8.3 in all, and the errors of t products add up to sqrt(t) of one. Eight times
     * that for the worst element; the whole is off by the average. */
    double typical = ldexp(1, -9) / sqrt(3) * sqrt(2) * sqrt((double)terms) * scale;

    return (struct check_tolerance){ .absolute = 8 * typical + 1e-6 * scale,
                                     .relative = 2e-7 * sqrt((double)terms) + 5e-7,
                                     .whole = 4e-3 };
}

struct check_tolerance check_sum_tolerance(int64_t terms, double scale)
{
    /* After t products the sum is about sqrt(t) scale, and rounding it adds an error of
     * 2^-24 sqrt(t) scale / sqrt(3); the errors of all terms together are 0.41 * 2^-24 terms scale.
     * Eight times that for the worst element of a million; more where the sum came out large,
     * because its way there was larger than usual; and a few roundings of what follows. */
    double typical = 0.41 * ldexp(1, -24) * (double)terms * scale;

    return (struct check_tolerance){ .absolute = 8 * typical + 1e-6 * scale,
                                     .relative = 2e-7 * sqrt((double)terms) + 5e-7,
                                     .whole = 4e-8 * sqrt((double)terms) + 5e-7 };
}
