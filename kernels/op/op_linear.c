#include "kernels/op/op_priv.h"

static void check_layer(const struct linear *layer, const struct tensor *x)
{
    op_check_tensor(x);
    CHECK(layer->weight && layer->out > 0 && layer->in == x->c);
}

static double linear_flops(const struct linear *layer, const struct tensor *x)
{
    return 2.0 * (double)op_elements(x) * (double)layer->out;
}

status op_linear(struct dev *dev, struct tensor *y, const struct tensor *x,
                 const struct linear *layer, enum kern_act act, const struct tensor *residual)
{
    struct kern_linear a = { .x = *x, .layer = layer, .act = act };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    check_layer(layer, x);
    TRY(op_begin(dev, linear_flops(layer, x)));
    TRY(op_result(dev, &a.y, y, x, layer->out));
    CHECK(a.y.data != x->data);
    if (residual) {
        op_check_tensor(residual);
        CHECK(op_elements(residual) == op_elements(&a.y) && residual->c == layer->out);
        a.residual = *residual;
    }
    TRY(dev->kern->linear(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}

status op_geglu(struct dev *dev, struct tensor *y, const struct tensor *x,
                const struct linear *layer)
{
    struct kern_geglu a = { .x = *x, .layer = layer };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    check_layer(layer, x);
    CHECK(layer->out % 2 == 0);
    TRY(op_begin(dev, linear_flops(layer, x)));
    TRY(op_result(dev, &a.y, y, x, layer->out / 2));
    CHECK(a.y.data != x->data);
    TRY(dev->kern->geglu(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}
