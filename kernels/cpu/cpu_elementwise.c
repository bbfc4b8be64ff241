#include <string.h>

#include "kernels/cpu/cpu_priv.h"

/* Elements of a task: 64 KiB of each operand. */
#define TASK_ELEMENTS 16384

/* An element-wise call under way. Tasks cut rows of c elements, `step` of them each. */
struct rows_job {
    struct cpu_ctx *ctx;
    const void *a;      /* the kernel's argument struct */
    int64_t rows, step; /* all, and per task */
};

/* Rows first .. end-1 of a task. */
static int64_t task_rows(const struct rows_job *j, int64_t task, int64_t *end)
{
    *end = cpu_min((task + 1) * j->step, j->rows);
    return task * j->step;
}

/* Cut the rows of y into tasks and run them. */
static status rows_run(struct kern_ctx *ctx, const struct tensor *y, cpu_task run, const void *a)
{
    struct rows_job j = { .ctx = cpu_ctx_of(ctx), .a = a, .rows = cpu_rows(y) };

    j.step = y->c < TASK_ELEMENTS ? TASK_ELEMENTS / y->c : 1;
    cpu_run(j.ctx, 4.0 * (double)(j.rows * y->c), cpu_parts(j.rows, j.step), run, &j);
    return OK;
}

static void add_task(void *arg, int64_t task, int worker)
{
    const struct rows_job *j = arg;
    const struct kern_add *a = j->a;
    const float *x = a->x.data, *z = a->z.data;
    float *y = a->y.data;
    int64_t c = a->x.c, z_rows = cpu_rows(&a->z), end, first = task_rows(j, task, &end);
    int64_t share = j->rows / z_rows; /* rows of x that add one row of z */

    (void)worker;
    if (share == 1) {
        j->ctx->isa->add(y + first * c, x + first * c, z + first * c, (end - first) * c);
        return;
    }
    for (int64_t r = first; r < end; r++)
        j->ctx->isa->add(y + r * c, x + r * c, z + r / share * c, c);
}

status cpu_add(struct kern_ctx *ctx, const struct kern_add *a)
{
    return rows_run(ctx, &a->y, add_task, a);
}

static void blend_task(void *arg, int64_t task, int worker)
{
    const struct rows_job *j = arg;
    const struct kern_blend *a = j->a;
    const float weights[2] = { a->a, 1 - a->a };
    int64_t c = a->y.c, end, first = task_rows(j, task, &end);

    (void)worker;
    j->ctx->isa->mix((float *)a->y.data + first * c, (const float *)a->x.data + first * c,
                     (const float *)a->z.data + first * c, (end - first) * c, weights);
}

status cpu_blend(struct kern_ctx *ctx, const struct kern_blend *a)
{
    return rows_run(ctx, &a->y, blend_task, a);
}

static void concat_task(void *arg, int64_t task, int worker)
{
    const struct rows_job *j = arg;
    const struct kern_concat *a = j->a;
    int64_t end, first = task_rows(j, task, &end);

    (void)worker;
    for (int64_t r = first; r < end; r++) {
        float *y = (float *)a->y.data + r * a->y.c;

        /* CAREFUL: x first; a UNet concatenates [current, skip]. */
        memcpy(y, (const float *)a->x.data + r * a->x.c, (size_t)a->x.c * sizeof(float));
        memcpy(y + a->x.c, (const float *)a->z.data + r * a->z.c, (size_t)a->z.c * sizeof(float));
    }
}

status cpu_concat(struct kern_ctx *ctx, const struct kern_concat *a)
{
    return rows_run(ctx, &a->y, concat_task, a);
}

static void silu_task(void *arg, int64_t task, int worker)
{
    const struct rows_job *j = arg;
    const struct kern_silu *a = j->a;
    int64_t c = a->y.c, end, first = task_rows(j, task, &end);

    (void)worker;
    j->ctx->isa->silu((float *)a->y.data + first * c, (const float *)a->x.data + first * c,
                      (end - first) * c);
}

status cpu_silu(struct kern_ctx *ctx, const struct kern_silu *a)
{
    return rows_run(ctx, &a->y, silu_task, a);
}

static void copy_task(void *arg, int64_t task, int worker)
{
    const struct rows_job *j = arg;
    const struct kern_copy *a = j->a;
    int64_t c = a->y.c, end, first = task_rows(j, task, &end);

    (void)worker;
    memcpy((float *)a->y.data + first * c, (const float *)a->x.data + first * c,
           (size_t)((end - first) * c) * sizeof(float));
}

status cpu_copy(struct kern_ctx *ctx, const struct kern_copy *a)
{
    return rows_run(ctx, &a->y, copy_task, a);
}
