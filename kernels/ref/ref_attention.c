#include <math.h>
#include <string.h>

#include "kernels/ref/ref_priv.h"

/* Keys and values of one head in one sequence. */
struct sequence {
    const float *k, *v;       /* first row */
    int64_t k_apart, v_apart; /* floats between rows */
    int64_t keys, d;          /* rows, head size */
    double *scores, *sums;    /* scratch: [keys], [d] */
};

/* y = sum over keys of softmax(q . k / sqrt(d)) v, for one query row. */
static void attend(const struct sequence *s, const float *q, float *y)
{
    double scale = 1 / sqrt((double)s->d), largest = -INFINITY, total = 0;

    for (int64_t j = 0; j < s->keys; j++) {
        s->scores[j] = ref_dot(q, s->k + j * s->k_apart, s->d) * scale;
        largest = fmax(largest, s->scores[j]);
    }
    memset(s->sums, 0, (size_t)s->d * sizeof(double));
    for (int64_t j = 0; j < s->keys; j++) {
        const float *v = s->v + j * s->v_apart;
        double p = exp(s->scores[j] - largest);

        total += p;
        for (int64_t i = 0; i < s->d; i++)
            s->sums[i] += p * v[i];
    }
    for (int64_t i = 0; i < s->d; i++)
        y[i] = (float)(s->sums[i] / total);
}

status ref_attention(struct kern_ctx *ctx, const struct kern_attention *a)
{
    struct sequence s = {
        .k_apart = a->k_stride, .v_apart = a->v_stride, .keys = a->keys, .d = a->d
    };
    status st = ref_scratch(ctx, a->keys + a->d, &s.scores);

    if (st != OK)
        return st;
    s.sums = s.scores + a->keys;
    for (int64_t n = 0; n < a->n; n++) {
        for (int64_t head = 0; head < a->heads; head++) {
            s.k = (const float *)a->k + n * a->keys * a->k_stride + head * a->d;
            s.v = (const float *)a->v + n * a->keys * a->v_stride + head * a->d;
            for (int64_t i = n * a->queries; i < (n + 1) * a->queries; i++)
                attend(&s, (const float *)a->q + i * a->q_stride + head * a->d,
                       (float *)a->y + i * a->y_stride + head * a->d);
        }
    }
    return OK;
}

status ref_attention_temporal(struct kern_ctx *ctx, const struct kern_attention_temporal *a)
{
    struct sequence s = { .k_apart = a->pixels * a->k_stride,
                          .v_apart = a->pixels * a->v_stride,
                          .keys = a->frames,
                          .d = a->d };
    int64_t y_stride = a->heads * a->d;
    status st = ref_scratch(ctx, a->frames + a->d, &s.scores);

    if (st != OK)
        return st;
    s.sums = s.scores + a->frames;
    for (int64_t p = 0; p < a->pixels; p++) {
        for (int64_t head = 0; head < a->heads; head++) {
            s.k = (const float *)a->k + p * a->k_stride + head * a->d;
            s.v = (const float *)a->v + p * a->v_stride + head * a->d;
            for (int64_t i = p; i < a->frames * a->pixels; i += a->pixels)
                attend(&s, (const float *)a->q + i * a->q_stride + head * a->d,
                       (float *)a->y + i * y_stride + head * a->d);
        }
    }
    return OK;
}
