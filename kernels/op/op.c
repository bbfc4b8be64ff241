#include "kernels/op/op.h"

#include "kernels/op/op_priv.h"

status op_begin(struct dev *dev, double flops)
{
    if (dev->cancel && atomic_load_explicit(dev->cancel, memory_order_relaxed))
        return FAIL(ERR_CANCELLED, "cancelled after %lld kernels", (long long)dev->calls);
    dev->calls++;
    dev->flops += flops;
    return OK;
}

status op_fail(struct dev *dev, size_t mark, status st)
{
    arena_release(&dev->act, mark);
    return st;
}

void op_check_tensor(const struct tensor *t)
{
    CHECK(t->data && t->dtype != KERN_NONE);
    CHECK(t->n > 0 && t->h > 0 && t->w > 0 && t->c > 0);
}

bool op_is_same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c;
}

status op_new(struct dev *dev, struct tensor *t, int64_t n, int64_t h, int64_t w, int64_t c)
{
    const enum kern_dtype dtype = kern_layout(dev->ctx).dtype;
    size_t bytes = kern_dtype_bytes(dtype);
    void *data = NULL;
    status st;

    CHECK(n > 0 && h > 0 && w > 0 && c > 0);
    if (__builtin_mul_overflow(bytes, n, &bytes) || __builtin_mul_overflow(bytes, h, &bytes) ||
        __builtin_mul_overflow(bytes, w, &bytes) || __builtin_mul_overflow(bytes, c, &bytes))
        return FAIL(ERR_NOMEM,
                    "a tensor of %lld x %lld x %lld x %lld elements has no size in bytes",
                    (long long)n, (long long)h, (long long)w, (long long)c);
    st = arena_take(&dev->act, bytes, &data);
    if (st == OK)
        *t = (struct tensor){ .data = data, .dtype = dtype, .n = n, .h = h, .w = w, .c = c };
    return st;
}

status op_result(struct dev *dev, struct tensor *result, const struct tensor *y,
                 const struct tensor *like, int64_t c)
{
    if (!y->data)
        return op_new(dev, result, like->n, like->h, like->w, c);
    op_check_tensor(y);
    CHECK(y->n == like->n && y->h == like->h && y->w == like->w && y->c == c);
    *result = *y;
    return OK;
}

int64_t op_elements(const struct tensor *t)
{
    return t->n * t->h * t->w * t->c;
}

struct tensor op_view(const struct tensor *t, int64_t n, int64_t h, int64_t w, int64_t c)
{
    struct tensor view = { .data = t->data, .dtype = t->dtype, .n = n, .h = h, .w = w, .c = c };

    CHECK(op_elements(&view) == op_elements(t));
    return view;
}

status op_copy(struct dev *dev, struct tensor *y, const struct tensor *x)
{
    struct kern_copy a = { .x = *x, .y = op_view(y, x->n, x->h, x->w, x->c) };
    status st = OK;

    op_check_tensor(x);
    op_check_tensor(y);
    TRY(op_begin(dev, 0));
    TRY(dev->kern->copy(dev->ctx, &a));
out:
    return st;
}

size_t op_bytes(const struct tensor *t)
{
    return (size_t)op_elements(t) * kern_dtype_bytes(t->dtype);
}

/* CAREFUL: host memory goes through the table, never through memcpy here: a tensor's address may be
 * a device's, or under kern_plan nobody's. */
status op_upload(struct dev *dev, struct tensor *t, const float *src)
{
    struct tensor host = *t;
    status st = OK;

    host.data = (void *)src; /* only read */
    if (!dev->kern->upload)
        return op_copy(dev, t, &host);
    op_check_tensor(t);
    TRY(op_begin(dev, 0));
    TRY(dev->kern->upload(dev->ctx, t, src));
out:
    return st;
}

status op_download(struct dev *dev, const struct tensor *t, float *dst)
{
    struct tensor host = *t;
    status st = OK;

    host.data = dst;
    if (!dev->kern->download)
        return op_copy(dev, &host, t);
    op_check_tensor(t);
    TRY(op_begin(dev, 0));
    TRY(dev->kern->download(dev->ctx, t, dst));
out:
    return st;
}
