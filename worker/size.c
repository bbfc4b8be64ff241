#include "worker/size.h"

#include <math.h>

#include "common/base/check.h"

/* The largest value that a parameter may have. */
static int64_t bound_of(const char *name)
{
    const struct spec_param *p = spec_find(name);

    CHECK(p && p->type == SPEC_INT);
    return (int64_t)p->max;
}

/* px as a multiple of step, not below the smallest video and not above max_px. */
static int64_t snap(double px, int64_t step, int64_t max_px)
{
    int64_t steps = (int64_t)floor(px / (double)step + 0.5);
    int64_t steps_min = (SIZE_VIDEO_MIN_PX + step - 1) / step;
    int64_t steps_max = max_px / step;

    if (steps > steps_max)
        steps = steps_max;
    return (steps < steps_min ? steps_min : steps) * step;
}

static status check_given(const char *name, int64_t px, int64_t factor)
{
    int64_t below = px / factor * factor;

    if (px < SIZE_VIDEO_MIN_PX)
        return FAIL(ERR_BADARG, "%s: %lld is below %d, the smallest that a video can have", name,
                    (long long)px, SIZE_VIDEO_MIN_PX);
    if (px % factor == 0)
        return OK;
    if (below == 0)
        return FAIL(ERR_BADARG, "%s: %lld is not a multiple of %lld, as this model needs; use %lld",
                    name, (long long)px, (long long)factor, (long long)factor);
    return FAIL(ERR_BADARG,
                "%s: %lld is not a multiple of %lld, as this model needs; use %lld or %lld", name,
                (long long)px, (long long)factor, (long long)below, (long long)(below + factor));
}

status size_resolve(struct job_spec *spec, const struct size_model *model, int64_t image_w,
                    int64_t image_h)
{
    status st = OK;
    double shape;

    CHECK(image_w > 0 && image_h > 0);
    CHECK(model->frames > 0 && model->native_px > 0 && model->vae_factor > 0);
    CHECK(model->grid_px > 0 && model->grid_px % model->vae_factor == 0);
    if (spec->frames == 0)
        spec->frames = model->frames;
    if (spec->width_px == 0 && spec->height_px == 0) {
        shape = sqrt((double)image_w / (double)image_h);
        spec->width_px = snap((double)model->native_px * shape, model->grid_px, bound_of("width"));
        spec->height_px =
            snap((double)model->native_px / shape, model->grid_px, bound_of("height"));
        return OK;
    }
    TRY(check_given("width", spec->width_px, model->vae_factor));
    TRY(check_given("height", spec->height_px, model->vae_factor));
out:
    return st;
}
