#include "kernels/op/op_priv.h"

/* z is x's shape, one row per frame, or one row in all. */
static bool can_broadcast(const struct tensor *z, const struct tensor *x)
{
    if (op_is_same_shape(z, x))
        return true;
    return z->c == x->c && z->h == 1 && z->w == 1 && (z->n == x->n || z->n == 1);
}

status op_add(struct dev *dev, struct tensor *y, const struct tensor *x, const struct tensor *z)
{
    struct kern_add a = { .x = *x, .z = *z };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    op_check_tensor(x);
    op_check_tensor(z);
    CHECK(can_broadcast(z, x));
    TRY(op_begin(dev, 0));
    TRY(op_result(dev, &a.y, y, x, x->c));
    TRY(dev->kern->add(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}

status op_blend(struct dev *dev, struct tensor *y, const struct tensor *x, const struct tensor *z,
                float weight)
{
    struct kern_blend a = { .x = *x, .z = *z, .a = weight };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    op_check_tensor(x);
    op_check_tensor(z);
    CHECK(op_is_same_shape(x, z));
    TRY(op_begin(dev, 0));
    TRY(op_result(dev, &a.y, y, x, x->c));
    TRY(dev->kern->blend(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}

status op_concat(struct dev *dev, struct tensor *y, const struct tensor *x, const struct tensor *z)
{
    struct kern_concat a = { .x = *x, .z = *z };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    op_check_tensor(x);
    op_check_tensor(z);
    CHECK(x->n == z->n && x->h == z->h && x->w == z->w);
    TRY(op_begin(dev, 0));
    TRY(op_result(dev, &a.y, y, x, x->c + z->c));
    CHECK(a.y.data != x->data && a.y.data != z->data);
    TRY(dev->kern->concat(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}

status op_silu(struct dev *dev, struct tensor *y, const struct tensor *x)
{
    struct kern_silu a = { .x = *x };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    op_check_tensor(x);
    TRY(op_begin(dev, 0));
    TRY(op_result(dev, &a.y, y, x, x->c));
    TRY(dev->kern->silu(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}
