#include "worker/model/embed.h"

#include <math.h>

#include "common/base/check.h"
#include "worker/model/params.h"
#include "worker/model/slice.h"

void embed_sinus(float value, int64_t d, float *dst)
{
    const float minus_log_period = -9.210340371976184f; /* -ln(10000) */
    int64_t half = d / 2;

    CHECK(d > 0 && d % 2 == 0);
    /* CAREFUL: float at every step. A motion bucket of 127 times a frequency rounded differently
     * moves the cosine by 1e-5, more than the whole model may differ from the reference. */
    for (int64_t i = 0; i < half; i++) {
        float angle = value * expf(minus_log_period * (float)i / (float)half);

        dst[i] = cosf(angle);
        dst[half + i] = sinf(angle);
    }
}

status embed_upload(struct dev *dev, struct tensor *t, const float *values, int64_t count,
                    int64_t d)
{
    float row[PARAMS_WIDTH_MAX];
    status st = OK;

    CHECK(d <= PARAMS_WIDTH_MAX && op_elements(t) == count * d);
    for (int64_t i = 0; i < count; i++) {
        struct tensor part = slice_row(t, i * d, d);

        embed_sinus(values[i], d, row);
        TRY(op_upload(dev, &part, row));
    }
out:
    return st;
}

status embed_load(struct embed_mlp *mlp, struct weights *w, const char *prefix,
                  const struct embed_spec *spec)
{
    status st;
    char name[WEIGHTS_NAME_BYTES];

    TRY(weights_linear(w, &mlp->linear1, weights_name(name, prefix, "linear_1"),
                       &(struct weights_linear_spec){ spec->hidden, spec->in, true }));
    TRY(weights_linear(w, &mlp->linear2, weights_name(name, prefix, "linear_2"),
                       &(struct weights_linear_spec){ spec->out, spec->hidden, true }));
out:
    return st;
}

status embed_forward(struct dev *dev, struct tensor *y, const struct tensor *x,
                     const struct embed_mlp *mlp)
{
    status st;
    struct tensor hidden = { 0 };

    TRY(op_linear(dev, &hidden, x, &mlp->linear1,
                  &(struct op_linear_opt){ .act = KERN_ACT_SILU })); /* [n,1,1,hidden] */
    TRY(op_linear(dev, y, &hidden, &mlp->linear2, NULL));            /* [n,1,1,out] */
out:
    return st;
}
