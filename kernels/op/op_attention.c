#include "kernels/op/op_priv.h"

/* CHECK a q | k | v matrix and return the width of one of its three parts. */
static int64_t check_qkv(const struct tensor *qkv, int64_t heads)
{
    op_check_tensor(qkv);
    CHECK(heads > 0 && qkv->c % (3 * heads) == 0);
    return qkv->c / 3;
}

/* Floating-point operations of QK^T and PV for one sequence of `tokens` and all heads. */
static double sequence_flops(int64_t tokens, int64_t c)
{
    return 4.0 * (double)tokens * (double)tokens * (double)c;
}

status op_attention(struct dev *dev, struct tensor *y, const struct tensor *qkv, int64_t heads)
{
    int64_t c = check_qkv(qkv, heads), tokens = qkv->h * qkv->w;
    const size_t part = (size_t)c * kern_dtype_bytes(qkv->dtype);
    const char *q = qkv->data;
    struct kern_attention a = { .q = q,
                                .k = q + part,
                                .v = q + 2 * part,
                                .dtype = qkv->dtype,
                                .q_stride = qkv->c,
                                .k_stride = qkv->c,
                                .v_stride = qkv->c,
                                .y_stride = c,
                                .n = qkv->n,
                                .queries = tokens,
                                .keys = tokens,
                                .heads = heads,
                                .d = c / heads };
    struct tensor result;
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    TRY(op_begin(dev, (double)qkv->n * sequence_flops(tokens, c)));
    TRY(op_result(dev, &result, y, qkv, c));
    CHECK(result.data != qkv->data);
    a.y = result.data;
    TRY(dev->kern->attention(dev->ctx, &a));
    *y = result;
    return OK;
out:
    return op_fail(dev, mark, st);
}

status op_attention_temporal(struct dev *dev, struct tensor *y, const struct tensor *qkv,
                             int64_t heads)
{
    int64_t c = check_qkv(qkv, heads), pixels = qkv->h * qkv->w;
    const size_t part = (size_t)c * kern_dtype_bytes(qkv->dtype);
    const char *q = qkv->data;
    struct kern_attention_temporal a = { .q = q,
                                         .k = q + part,
                                         .v = q + 2 * part,
                                         .dtype = qkv->dtype,
                                         .q_stride = qkv->c,
                                         .k_stride = qkv->c,
                                         .v_stride = qkv->c,
                                         .frames = qkv->n,
                                         .pixels = pixels,
                                         .heads = heads,
                                         .d = c / heads };
    struct tensor result;
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    TRY(op_begin(dev, (double)pixels * sequence_flops(qkv->n, c)));
    TRY(op_result(dev, &result, y, qkv, c));
    CHECK(result.data != qkv->data);
    a.y = result.data;
    TRY(dev->kern->attention_temporal(dev->ctx, &a));
    *y = result;
    return OK;
out:
    return op_fail(dev, mark, st);
}
