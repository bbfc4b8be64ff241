#include "worker/model/attention.h"

#include "common/base/check.h"
#include "worker/model/params.h"

status attention_load(struct attention *a, struct weights *w, const char *prefix, int64_t c,
                      float eps)
{
    status st;
    static const char *const qkv[3] = { "to_q", "to_k", "to_v" };
    const struct weights_linear_spec square = { c, c, true };
    char name[WEIGHTS_NAME_BYTES];

    TRY(weights_norm(w, &a->norm, weights_name(name, prefix, "group_norm"), c, PARAMS_NORM_GROUPS,
                     eps));
    TRY(weights_qkv(w, &a->qkv, prefix, qkv, &square));
    TRY(weights_linear(w, &a->out, weights_name(name, prefix, "to_out.0"), &square));
out:
    return st;
}

status attention_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                         const struct attention *l)
{
    status st;
    struct tensor n = { 0 }, qkv = { 0 }, a = { 0 };
    size_t mark = arena_mark(&dev->act), scratch;

    CHECK(y->data);
    TRY(op_new(dev, &a, x->n, x->h, x->w, x->c));
    scratch = arena_mark(&dev->act);
    TRY(op_group_norm(dev, &n, x, &l->norm, 1, false)); /* [n,h,w,c] */
    TRY(op_linear(dev, &qkv, &n, &l->qkv, NULL));       /* [n,h,w,3c] */
    TRY(op_attention(dev, &a, &qkv, 1));                /* [n,h,w,c] */
    arena_release(&dev->act, scratch);
    TRY(op_linear(dev, y, &a, &l->out, &(struct op_linear_opt){ .residual = x })); /* [n,h,w,c] */
    arena_release(&dev->act, mark);
out:
    return st;
}
