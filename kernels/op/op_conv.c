#include "kernels/op/op_priv.h"

static const struct op_conv_opt plain;

static void check_layer(const struct conv *layer, const struct tensor *x)
{
    op_check_tensor(x);
    CHECK(layer->weight && layer->co > 0 && layer->ci == x->c);
    CHECK(layer->kh > 0 && layer->kw > 0);
}

static void check_epilogue(const struct op_conv_opt *opt, const struct tensor *y)
{
    if (opt->add && opt->add->data) {
        op_check_tensor(opt->add);
        CHECK(op_elements(opt->add) == y->c);
    }
    if (!opt->residual)
        return;
    op_check_tensor(opt->residual);
    CHECK(op_is_same_shape(opt->residual, y));
}

/* Zeros around the input, from the options and the size of the kernel. */
static void set_padding(struct kern_conv2d *a, const struct op_conv_opt *opt)
{
    const struct conv *layer = a->layer;

    CHECK(!(opt->is_asymmetric && opt->no_pad));
    if (opt->no_pad)
        return;
    if (opt->is_asymmetric) {
        a->pad_bottom = a->pad_right = 1;
        return;
    }
    CHECK(layer->kh % 2 == 1 && layer->kw % 2 == 1);
    a->pad_top = a->pad_bottom = layer->kh / 2;
    a->pad_left = a->pad_right = layer->kw / 2;
}

status op_conv2d(struct dev *dev, struct tensor *y, const struct tensor *x,
                 const struct conv *layer, const struct op_conv_opt *opt)
{
    const struct op_conv_opt *o = opt ? opt : &plain;
    struct kern_conv2d a = { .x = *x,
                             .layer = layer,
                             .add = o->add ? o->add->data : NULL,
                             .scale = o->scale != 0 ? o->scale : 1,
                             .stride = o->stride ? o->stride : 1,
                             .up_h = o->up_h,
                             .up_w = o->up_w };
    size_t mark = arena_mark(&dev->act);
    int64_t h, w;
    status st = OK;

    check_layer(layer, x);
    CHECK((o->up_h > 0) == (o->up_w > 0) && a.stride > 0 && !o->norm);
    set_padding(&a, o);
    h = (o->up_h ? o->up_h : x->h) + a.pad_top + a.pad_bottom - layer->kh;
    w = (o->up_w ? o->up_w : x->w) + a.pad_left + a.pad_right - layer->kw;
    CHECK(h >= 0 && w >= 0);
    h = h / a.stride + 1;
    w = w / a.stride + 1;

    TRY(op_begin(dev, 2.0 * (double)(x->n * h * w * layer->co) *
                          (double)(layer->kh * layer->kw * layer->ci)));
    TRY(op_result(dev, &a.y, y, &(struct tensor){ .n = x->n, .h = h, .w = w }, layer->co));
    CHECK(a.y.data != x->data);
    check_epilogue(o, &a.y);
    if (o->residual)
        a.residual = *o->residual;
    TRY(dev->kern->conv2d(dev->ctx, &a));
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}

status op_conv_temporal(struct dev *dev, struct tensor *y, const struct tensor *x,
                        const struct conv *layer, const struct op_conv_opt *opt)
{
    const struct op_conv_opt *o = opt ? opt : &plain;
    struct kern_conv_temporal a = {
        .x = *x,
        .layer = layer,
        .norm = o->norm,
        .add = o->add ? o->add->data : NULL,
        .scale = o->scale != 0 ? o->scale : 1,
    };
    size_t mark = arena_mark(&dev->act), scratch;
    status st = OK;

    check_layer(layer, x);
    CHECK(layer->kh == 3 && layer->kw == 1);
    CHECK(!o->norm || (o->norm->c == x->c && o->norm->groups > 0 && x->c % o->norm->groups == 0));
    TRY(op_begin(dev, 6.0 * (double)(x->n * x->h * x->w * layer->co) * (double)layer->ci));
    TRY(op_result(dev, &a.y, y, x, layer->co));
    scratch = arena_mark(&dev->act);
    if (o->norm && kern_layout(dev->ctx).has_norm_apart) {
        a.x = (struct tensor){ 0 };
        TRY(op_group_norm(dev, &a.x, x, o->norm, x->n, true));
        a.norm = NULL;
    }
    CHECK(a.y.data != x->data);
    check_epilogue(o, &a.y);
    if (o->residual)
        a.residual = *o->residual;
    TRY(dev->kern->conv_temporal(dev->ctx, &a));
    arena_release(&dev->act, scratch);
    *y = a.y;
    return OK;
out:
    return op_fail(dev, mark, st);
}
