#include <math.h>

#include "kernels/ref/ref_priv.h"

/* Mean and 1 / sqrt(biased variance + eps) of some elements. */
struct moments {
    double mean, inv_std;
};

/* Moments of `width` consecutive elements in each of `rows` rows that lie `apart` apart. Two
 * passes: the mean first, then the squares around it. */
static struct moments moments_of(const float *x, int64_t rows, int64_t width, int64_t apart,
                                 double eps)
{
    double sum = 0, squares = 0, mean;
    double count = (double)rows * (double)width;

    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i++)
            sum += x[r * apart + i];
    }
    mean = sum / count;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i++) {
            double d = x[r * apart + i] - mean;

            squares += d * d;
        }
    }
    return (struct moments){ mean, 1 / sqrt(squares / count + eps) };
}

static double normalised(const struct norm *l, struct moments m, float x, int64_t channel)
{
    return (x - m.mean) * m.inv_std * l->gamma[channel] + l->beta[channel];
}

status ref_group_norm(struct kern_ctx *ctx, const struct kern_group_norm *a)
{
    const struct norm *l = a->layer;
    int64_t c = l->c, width = c / l->groups, rows = a->span * a->x.h * a->x.w;
    enum kern_act act = a->silu ? KERN_ACT_SILU : KERN_ACT_NONE;

    (void)ctx;
    for (int64_t clip = 0; clip < a->x.n / a->span; clip++) {
        const float *x = (const float *)a->x.data + clip * rows * c;
        float *y = (float *)a->y.data + clip * rows * c;

        for (int64_t first = 0; first < c; first += width) {
            struct moments m = moments_of(x + first, rows, width, c, l->eps);

            for (int64_t r = 0; r < rows; r++) {
                for (int64_t i = first; i < first + width; i++)
                    y[r * c + i] = (float)ref_act(act, normalised(l, m, x[r * c + i], i));
            }
        }
    }
    return OK;
}

status ref_layer_norm(struct kern_ctx *ctx, const struct kern_layer_norm *a)
{
    const struct norm *l = a->layer;
    int64_t rows = a->x.n * a->x.h * a->x.w;

    (void)ctx;
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)a->x.data + r * l->c;
        float *y = (float *)a->y.data + r * l->c;
        struct moments m = moments_of(x, 1, l->c, l->c, l->eps);

        for (int64_t i = 0; i < l->c; i++)
            y[i] = (float)normalised(l, m, x[i], i);
    }
    return OK;
}
