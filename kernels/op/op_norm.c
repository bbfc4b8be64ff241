#include "kernels/op/op_priv.h"

static void check_layer(const struct norm *layer, const struct tensor *x)
{
    op_check_tensor(x);
    CHECK(layer->gamma && layer->beta && layer->c == x->c);
    CHECK(layer->eps > 0);
}

status op_group_norm(struct dev *dev, struct tensor *y, const struct tensor *x,
                     const struct norm *layer, int64_t span, bool silu)
{
    struct kern_group_norm a = { .x = *x, .layer = layer, .span = span, .silu = silu };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    check_layer(layer, x);
    CHECK(layer->groups > 0 && layer->c % layer->groups == 0);
    CHECK(span > 0 && x->n % span == 0);
    TRY(op_begin(dev, 0));
    TRY(op_result(dev, &a.y, y, x, x->c));
    TRY(dev->kern->group_norm(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}

status op_layer_norm(struct dev *dev, struct tensor *y, const struct tensor *x,
                     const struct norm *layer)
{
    struct kern_layer_norm a = { .x = *x, .layer = layer };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    check_layer(layer, x);
    CHECK(layer->groups == 0);
    TRY(op_begin(dev, 0));
    TRY(op_result(dev, &a.y, y, x, x->c));
    TRY(dev->kern->layer_norm(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}
