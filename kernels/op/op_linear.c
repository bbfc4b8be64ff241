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
                 const struct linear *layer, const struct op_linear_opt *opt)
{
    static const struct op_linear_opt plain;
    const struct op_linear_opt *o = opt ? opt : &plain;
    struct kern_linear a = { .x = *x, .layer = layer, .act = o->act };
    size_t mark = arena_mark(&dev->act);
    status st = OK;

    check_layer(layer, x);
    TRY(op_begin(dev, linear_flops(layer, x)));
    TRY(op_result(dev, &a.y, y, x, layer->out));
    CHECK(a.y.data != x->data);
    if (o->add) {
        op_check_tensor(o->add);
        CHECK(op_elements(o->add) == layer->out);
        a.add = o->add->data;
    }
    if (o->residual) {
        op_check_tensor(o->residual);
        CHECK(op_elements(o->residual) == op_elements(&a.y) && o->residual->c == layer->out);
        a.residual = *o->residual;
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
