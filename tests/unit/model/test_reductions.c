/* What the engine leaves out because it follows from algebra, computed here in full: plain loops in
 * double, in the order of diffusers' modules, with weights straight from the file.
 *
 *   cross-attention has one key: here it has a query for each token, a key, and a softmax
 *   q, k and v of self-attention are one product: here they are three
 *   the time embedding rides in an epilogue: here it is added to each pixel
 *   the blend of spatial and temporal half rides in an epilogue: here both halves are whole
 *   a doubled image is never made for a 3x3 convolution: here it is
 *   half of quant_conv is never computed: here all of it is
 *
 * Source: diffusers models/resnet.py (SpatioTemporalResBlock, AlphaBlender), attention.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tool/test.h"
#include "worker/model/checkpoint.h"

#define MODEL "tests/fixtures/tiny-a"
#define GROUPS 32

/* Floats against double sums of some hundred terms, through a few norms. */
#define NEAR 2e-5

/* --- arrays in double ------------------------------------------------------------------------- */

/* A token matrix: rows of c, which are pixels of frames. */
struct array {
    double *v;
    int64_t rows, c;
};

static struct array array_new(int64_t rows, int64_t c)
{
    struct array a = { calloc((size_t)(rows * c), sizeof(double)), rows, c };

    EXPECT(a.v != NULL);
    return a;
}

static struct array array_copy(struct array x)
{
    struct array a = array_new(x.rows, x.c);

    memcpy(a.v, x.v, (size_t)(x.rows * x.c) * sizeof(double));
    return a;
}

static void array_drop(struct array *a)
{
    free(a->v);
    *a = (struct array){ 0 };
}

/* *x = y, and y's memory is x's. */
static void become(struct array *x, struct array y)
{
    free(x->v);
    *x = y;
}

/* --- weights ---------------------------------------------------------------------------------- */

/* A module of a file: names below a prefix. */
struct module {
    const struct safetensors *file;
    const char *prefix;
};

/* The tensor prefix.name in double, or NULL; the caller frees. */
static double *weight(const struct module *m, const char *name, const char *last)
{
    char full[256];
    const struct safetensors_tensor *t;
    float *values;
    double *w;

    snprintf(full, sizeof(full), "%s.%s%s%s", m->prefix, name, *last ? "." : "", last);
    t = safetensors_find(m->file, full);
    if (!t)
        return NULL;
    values = malloc((size_t)t->count * sizeof(float));
    w = malloc((size_t)t->count * sizeof(double));
    EXPECT(values && w);
    EXPECT_OK(safetensors_read_f32(t, 0, t->count, values));
    for (int64_t i = 0; i < t->count; i++)
        w[i] = values[i];
    free(values);
    return w;
}

/* --- layers ----------------------------------------------------------------------------------- */

static double silu(double x)
{
    return x / (1 + exp(-x));
}

/* y = W x + b for each row; b where the file has one. */
static struct array linear(const struct module *m, const char *name, struct array x, int64_t out)
{
    double *w = weight(m, name, "weight"), *b = weight(m, name, "bias");
    struct array y = array_new(x.rows, out);

    EXPECT(w != NULL);
    for (int64_t r = 0; r < x.rows; r++) {
        for (int64_t o = 0; o < out; o++) {
            double sum = b ? b[o] : 0;

            for (int64_t i = 0; i < x.c; i++)
                sum += w[o * x.c + i] * x.v[r * x.c + i];
            y.v[r * out + o] = sum;
        }
    }
    free(w);
    free(b);
    return y;
}

/* Group norm over `span` rows at a time; groups of one span of channels per row: layer norm. */
static struct array norm(const struct module *m, const char *name, struct array x, int64_t span,
                         int64_t groups, double eps)
{
    double *gamma = weight(m, name, "weight"), *beta = weight(m, name, "bias");
    const int64_t width = x.c / groups;
    struct array y = array_new(x.rows, x.c);

    EXPECT(gamma && beta);
    for (int64_t first = 0; first < x.rows; first += span) {
        for (int64_t g = 0; g < groups; g++) {
            double mean = 0, var = 0;

            for (int64_t r = first; r < first + span; r++) {
                for (int64_t i = g * width; i < (g + 1) * width; i++)
                    mean += x.v[r * x.c + i] / (double)(span * width);
            }
            for (int64_t r = first; r < first + span; r++) {
                for (int64_t i = g * width; i < (g + 1) * width; i++)
                    var += pow(x.v[r * x.c + i] - mean, 2) / (double)(span * width);
            }
            for (int64_t r = first; r < first + span; r++) {
                for (int64_t i = g * width; i < (g + 1) * width; i++)
                    y.v[r * x.c + i] =
                        (x.v[r * x.c + i] - mean) / sqrt(var + eps) * gamma[i] + beta[i];
            }
        }
    }
    free(gamma);
    free(beta);
    return y;
}

static struct array layer_norm(const struct module *m, const char *name, struct array x)
{
    return norm(m, name, x, 1, 1, 1e-5);
}

static void silu_all(struct array *x)
{
    for (int64_t i = 0; i < x->rows * x->c; i++)
        x->v[i] = silu(x->v[i]);
}

static void add_to(struct array *x, struct array z)
{
    EXPECT(x->rows == z.rows && x->c == z.c);
    for (int64_t i = 0; i < x->rows * x->c; i++)
        x->v[i] += z.v[i];
}

/* Frames of h x w. */
struct grid {
    int64_t f, h, w;
};

/* k x k, zeros around, one frame at a time. */
static struct array conv2d(const struct module *m, const char *name, struct array x, struct grid g,
                           int64_t co, int k)
{
    double *weights = weight(m, name, "weight"), *b = weight(m, name, "bias");
    struct array y = array_new(x.rows, co);

    EXPECT(weights && b && x.rows == g.f * g.h * g.w);
    for (int64_t p = 0; p < x.rows; p++) {
        const int64_t col = p % g.w, row = p / g.w % g.h, frame = p / g.w / g.h;

        for (int64_t o = 0; o < co; o++) {
            double sum = b[o];

            for (int t = 0; t < k * k; t++) {
                const int64_t yy = row + t / k - k / 2, xx = col + t % k - k / 2;

                if (yy < 0 || yy >= g.h || xx < 0 || xx >= g.w)
                    continue;
                for (int64_t i = 0; i < x.c; i++)
                    sum += weights[(o * x.c + i) * k * k + t] *
                           x.v[((frame * g.h + yy) * g.w + xx) * x.c + i];
            }
            y.v[p * co + o] = sum;
        }
    }
    free(weights);
    free(b);
    return y;
}

/* (3,1,1) over frames, zero frames around. */
static struct array conv_time(const struct module *m, const char *name, struct array x,
                              struct grid g)
{
    double *weights = weight(m, name, "weight"), *b = weight(m, name, "bias");
    const int64_t pixels = g.h * g.w, c = x.c;
    struct array y = array_new(x.rows, c);

    EXPECT(weights && b);
    for (int64_t p = 0; p < x.rows; p++) {
        for (int64_t o = 0; o < c; o++) {
            double sum = b[o];

            for (int t = 0; t < 3; t++) {
                const int64_t q = p + (t - 1) * pixels;

                for (int64_t i = 0; q >= 0 && q < x.rows && i < c; i++)
                    sum += weights[(o * c + i) * 3 + t] * x.v[q * c + i];
            }
            y.v[p * c + o] = sum;
        }
    }
    free(weights);
    free(b);
    return y;
}

/* softmax(q k^T / sqrt d) v, for query rows first, first + step, .. and their keys. */
static void attend(struct array y, const struct array qkv[3], const int64_t rows[3],
                   const int64_t keys[3], int64_t heads)
{
    const struct array q = qkv[0], k = qkv[1], v = qkv[2];
    const int64_t d = q.c / heads;
    double score[256];

    EXPECT(keys[2] <= 256);
    for (int64_t i = 0; i < rows[2] * heads; i++) {
        const int64_t row = rows[0] + i / heads * rows[1], at = i % heads * d;
        double most = -INFINITY, sum = 0;

        for (int64_t j = 0; j < keys[2]; j++) {
            score[j] = 0;
            for (int64_t l = 0; l < d; l++)
                score[j] += q.v[row * q.c + at + l] * k.v[(keys[0] + j * keys[1]) * k.c + at + l] /
                            sqrt((double)d);
            most = fmax(most, score[j]);
        }
        for (int64_t j = 0; j < keys[2]; j++)
            sum += exp(score[j] - most);
        for (int64_t j = 0; j < keys[2]; j++) {
            for (int64_t l = 0; l < d; l++)
                y.v[row * y.c + at + l] +=
                    exp(score[j] - most) / sum * v.v[(keys[0] + j * keys[1]) * v.c + at + l];
        }
    }
}

/* --- modules ---------------------------------------------------------------------------------- */

/* One half of a residual block up to the residual, the embedding added pixel by pixel. */
static struct array res_half(const struct module *m, struct array x, struct grid g,
                             const struct res_spec *spec, const struct array *silu_e, bool is_time)
{
    const int64_t span = is_time ? x.rows : g.h * g.w, co = spec->co;
    const double eps = is_time ? spec->eps_time : spec->eps;
    struct array u = norm(m, "norm1", x, span, GROUPS, eps);

    silu_all(&u);
    become(&u, is_time ? conv_time(m, "conv1", u, g) : conv2d(m, "conv1", u, g, co, 3));
    if (silu_e) {
        struct array e = linear(m, "time_emb_proj", *silu_e, co);

        for (int64_t p = 0; p < u.rows; p++) {
            for (int64_t i = 0; i < co; i++)
                u.v[p * co + i] += e.v[i];
        }
        array_drop(&e);
    }
    become(&u, norm(m, "norm2", u, span, GROUPS, eps));
    silu_all(&u);
    become(&u, is_time ? conv_time(m, "conv2", u, g) : conv2d(m, "conv2", u, g, co, 3));
    return u;
}

/* What is to be compared: a block's place, and how its blend is meant. */
struct res_case {
    const char *file, *prefix;
    struct res_spec spec;
};

static struct array res_in_full(const struct safetensors *file, const struct res_case *c,
                                struct array x, struct grid g, const struct array *silu_e)
{
    char spatial[256], temporal[256];
    const struct module whole = { file, c->prefix }, s = { file, spatial }, t = { file, temporal };
    double *factor = weight(&whole, "time_mixer", "mix_factor"), a;
    struct array xs, xt, y;

    snprintf(spatial, sizeof(spatial), "%s.spatial_res_block", c->prefix);
    snprintf(temporal, sizeof(temporal), "%s.temporal_res_block", c->prefix);
    xs = res_half(&s, x, g, &c->spec, silu_e, false);
    if (c->spec.ci == c->spec.co) {
        add_to(&xs, x);
    } else {
        struct array shortcut = conv2d(&s, "conv_shortcut", x, g, c->spec.co, 1);

        add_to(&xs, shortcut);
        array_drop(&shortcut);
    }
    xt = res_half(&t, xs, g, &c->spec, silu_e, true);
    add_to(&xt, xs);
    /* AlphaBlender: alpha x_spatial + (1 - alpha) x_temporal, alpha switched in the VAE. */
    EXPECT(factor != NULL);
    a = 1 / (1 + exp(-*factor));
    if (c->spec.is_switched)
        a = 1 - a;
    y = array_new(xs.rows, xs.c);
    for (int64_t i = 0; i < y.rows * y.c; i++)
        y.v[i] = a * xs.v[i] + (1 - a) * xt.v[i];
    free(factor);
    array_drop(&xs);
    array_drop(&xt);
    return y;
}

static void feed_forward(const struct module *m, const char *norm_name, const char *ff,
                         struct array *z)
{
    char proj[64], out[64];
    struct array n = layer_norm(m, norm_name, *z), both, g;
    const int64_t width = 4 * z->c;

    snprintf(proj, sizeof(proj), "%s.net.0.proj", ff);
    snprintf(out, sizeof(out), "%s.net.2", ff);
    both = linear(m, proj, n, 2 * width);
    g = array_new(z->rows, width);
    for (int64_t r = 0; r < z->rows; r++) {
        for (int64_t i = 0; i < width; i++) {
            const double gate = both.v[r * 2 * width + width + i];

            g.v[r * width + i] = both.v[r * 2 * width + i] * 0.5 * gate * (1 + erf(gate / sqrt(2)));
        }
    }
    become(&n, linear(m, out, g, z->c));
    add_to(z, n);
    array_drop(&n);
    array_drop(&both);
    array_drop(&g);
}

/* z += self-attention within frames, or over frames for each pixel. */
static void self_attention(const struct module *m, struct array *z, struct grid g, int64_t heads,
                           bool is_time)
{
    const int64_t pixels = g.h * g.w;
    struct array n = layer_norm(m, "norm1", *z), y = array_new(z->rows, z->c);
    struct array qkv[3] = { linear(m, "attn1.to_q", n, z->c), linear(m, "attn1.to_k", n, z->c),
                            linear(m, "attn1.to_v", n, z->c) };

    for (int64_t i = 0; i < (is_time ? pixels : g.f); i++) {
        const int64_t frame[3] = { i * pixels, 1, pixels }, pixel[3] = { i, pixels, g.f };

        attend(y, qkv, is_time ? pixel : frame, is_time ? pixel : frame, heads);
    }
    become(&y, linear(m, "attn1.to_out.0", y, z->c));
    add_to(z, y);
    array_drop(&n);
    for (int i = 0; i < 3; i++)
        array_drop(&qkv[i]);
    array_drop(&y);
}

/* z += cross-attention of every token with the one row of the image embedding. */
static void cross_attention(const struct module *m, struct array *z, struct array context,
                            int64_t heads)
{
    const int64_t rows[3] = { 0, 1, z->rows }, key[3] = { 0, 1, 1 };
    struct array n = layer_norm(m, "norm2", *z), y = array_new(z->rows, z->c);
    struct array qkv[3] = { linear(m, "attn2.to_q", n, z->c),
                            linear(m, "attn2.to_k", context, z->c),
                            linear(m, "attn2.to_v", context, z->c) };

    attend(y, qkv, rows, key, heads);
    become(&y, linear(m, "attn2.to_out.0", y, z->c));
    add_to(z, y);
    array_drop(&n);
    for (int i = 0; i < 3; i++)
        array_drop(&qkv[i]);
    array_drop(&y);
}

/* Embedding of the frames' numbers, a row for each. */
static struct array positions(const struct module *m, int64_t frames, int64_t c)
{
    struct array p = array_new(frames, c);

    for (int64_t f = 0; f < frames; f++) {
        for (int64_t i = 0; i < c / 2; i++) {
            const double angle = (double)f * exp(-log(10000) * (double)i / (double)(c / 2));

            p.v[f * c + i] = cos(angle);
            p.v[f * c + c / 2 + i] = sin(angle);
        }
    }
    become(&p, linear(m, "time_pos_embed.linear_1", p, 4 * c));
    silu_all(&p);
    become(&p, linear(m, "time_pos_embed.linear_2", p, c));
    return p;
}

static struct array transformer_in_full(const struct safetensors *file, const char *prefix,
                                        struct array x, struct grid g, struct array context,
                                        int64_t heads)
{
    char spatial[256], temporal[256];
    const struct module whole = { file, prefix }, s = { file, spatial }, t = { file, temporal };
    double *factor = weight(&whole, "time_mixer", "mix_factor"), a;
    struct array z = norm(&whole, "norm", x, g.h * g.w, GROUPS, 1e-6), p, m;

    snprintf(spatial, sizeof(spatial), "%s.transformer_blocks.0", prefix);
    snprintf(temporal, sizeof(temporal), "%s.temporal_transformer_blocks.0", prefix);
    become(&z, linear(&whole, "proj_in", z, x.c));
    self_attention(&s, &z, g, heads, false);
    cross_attention(&s, &z, context, heads);
    feed_forward(&s, "norm3", "ff", &z);
    m = array_copy(z);
    p = positions(&whole, g.f, x.c);
    for (int64_t r = 0; r < m.rows; r++) {
        for (int64_t i = 0; i < m.c; i++)
            m.v[r * m.c + i] += p.v[r / (g.h * g.w) * m.c + i];
    }
    feed_forward(&t, "norm_in", "ff_in", &m);
    self_attention(&t, &m, g, heads, true);
    cross_attention(&t, &m, context, heads);
    feed_forward(&t, "norm3", "ff", &m);
    EXPECT(factor != NULL);
    a = 1 / (1 + exp(-*factor));
    for (int64_t i = 0; i < z.rows * z.c; i++)
        z.v[i] = a * z.v[i] + (1 - a) * m.v[i];
    become(&z, linear(&whole, "proj_out", z, x.c));
    add_to(&z, x);
    free(factor);
    array_drop(&m);
    array_drop(&p);
    return z;
}

/* --- the engine beside it --------------------------------------------------------------------- */

/* Weights of a part and a device. */
struct rig {
    struct arena values, layers;
    struct weights_loader loader;
    struct weights w;
    struct safetensors file;
    struct dev dev;
};

static void rig_open(struct rig *r, const char *device, const char *part)
{
    const struct kern_config config = { .threads = 2 };
    char path[256];

    *r = (struct rig){ 0 };
    snprintf(path, sizeof(path), MODEL "/%s/diffusion_pytorch_model.safetensors", part);
    EXPECT_OK(safetensors_open(&r->file, path));
    EXPECT_OK(arena_open(&r->values, "weights", (size_t)16 << 20));
    EXPECT_OK(arena_open(&r->layers, "layers", (size_t)1 << 20));
    r->loader = (struct weights_loader){ .values = &r->values, .layers = &r->layers };
    snprintf(path, sizeof(path), MODEL "/%s", part);
    EXPECT_OK(weights_open(&r->w, &r->loader, path, "diffusion_pytorch_model"));
    EXPECT_OK(dev_open(&r->dev, device, &config, (size_t)16 << 20));
}

static void rig_close(struct rig *r)
{
    dev_close(&r->dev);
    weights_close(&r->w);
    safetensors_close(&r->file);
    arena_close(&r->values);
    arena_close(&r->layers);
}

/* Random numbers in both worlds: *t on the device, the result in double. */
static struct array random_both(struct rig *r, struct tensor *t, struct grid g, int64_t c)
{
    struct array a = array_new(g.f * g.h * g.w, c);
    float *values = malloc((size_t)(a.rows * c) * sizeof(float));

    EXPECT(values != NULL);
    for (int64_t i = 0; i < a.rows * c; i++) {
        values[i] = (float)test_normal();
        a.v[i] = values[i];
    }
    EXPECT_OK(op_new(&r->dev, t, g.f, g.h, g.w, c));
    EXPECT_OK(op_upload(&r->dev, t, values));
    free(values);
    return a;
}

static void expect_near(struct rig *r, const struct tensor *got, struct array want)
{
    float *values = malloc((size_t)(want.rows * want.c) * sizeof(float));
    double error = 0, size = 0;

    EXPECT(values != NULL && op_elements(got) == want.rows * want.c);
    EXPECT_OK(op_download(&r->dev, got, values));
    for (int64_t i = 0; i < want.rows * want.c; i++) {
        error += pow(values[i] - want.v[i], 2);
        size += pow(want.v[i], 2);
    }
    printf("relative error %.3g\n", sqrt(error / size));
    EXPECT(size > 0 && sqrt(error / size) <= NEAR);
    free(values);
}

static void compare_res(const char *device, const struct res_case *c, struct grid g)
{
    const struct grid one = { 1, 1, 1 };
    struct rig r;
    struct res_block block;
    struct tensor x, y = { 0 }, e = { 0 };
    struct array ax, ae = { 0 }, want;

    rig_open(&r, device, c->file);
    ax = random_both(&r, &x, g, c->spec.ci);
    if (c->spec.embedding)
        ae = random_both(&r, &e, one, c->spec.embedding);
    EXPECT_OK(op_new(&r.dev, &y, g.f, g.h, g.w, c->spec.co));
    EXPECT_OK(res_load(&block, &r.w, c->prefix, &c->spec));
    EXPECT_OK(res_forward(&r.dev, &y, &x, &block, c->spec.embedding ? &e : NULL));
    want = res_in_full(&r.file, c, ax, g, c->spec.embedding ? &ae : NULL);
    expect_near(&r, &y, want);
    array_drop(&ax);
    array_drop(&ae);
    array_drop(&want);
    rig_close(&r);
}

static const struct grid grids[] = { { 3, 4, 5 }, { 1, 3, 2 }, { 5, 1, 3 } };
enum { GRIDS = sizeof(grids) / sizeof(grids[0]) };

static void compare_all_res(const char *device)
{
    static const struct res_case unet[] = {
        { "unet",
          "down_blocks.1.resnets.0",
          { .ci = 32,
            .co = 64,
            .embedding = 128,
            .eps = 1e-5f,
            .eps_time = 1e-5f,
            .is_temporal = true } },
        { "unet",
          "mid_block.resnets.1",
          { .ci = 32,
            .co = 32,
            .embedding = 128,
            .eps = 1e-5f,
            .eps_time = 1e-5f,
            .is_temporal = true } },
        { "vae",
          "decoder.up_blocks.1.resnets.2",
          { .ci = 32,
            .co = 32,
            .eps = 1e-6f,
            .eps_time = 1e-5f,
            .is_temporal = true,
            .is_switched = true } },
    };

    for (size_t i = 0; i < sizeof(unet) / sizeof(unet[0]); i++) {
        for (int j = 0; j < GRIDS; j++)
            compare_res(device, &unet[i], grids[j]);
    }
}

TEST(time_embedding_and_blend_in_full_ref)
{
    compare_all_res("ref");
}

TEST(time_embedding_and_blend_in_full_cpu)
{
    compare_all_res("cpu");
}

static void compare_transformer(const char *device, struct grid g)
{
    static const char prefix[] = "up_blocks.2.attentions.1";
    const struct grid one = { 1, 1, 1 };
    struct rig r;
    struct transformer t;
    struct tensor x, y = { 0 }, context;
    struct array ax, ac, want;

    rig_open(&r, device, "unet");
    ax = random_both(&r, &x, g, 32);
    ac = random_both(&r, &context, one, 32);
    EXPECT_OK(op_new(&r.dev, &y, g.f, g.h, g.w, 32));
    EXPECT_OK(transformer_load(
        &t, &r.w, prefix,
        &(struct transformer_spec){ .c = 32, .heads = 2, .context = 32, .layers = 1 }));
    EXPECT_OK(transformer_forward(&r.dev, &y, &x, &t, &context));
    want = transformer_in_full(&r.file, prefix, ax, g, ac, 2);
    expect_near(&r, &y, want);
    array_drop(&ax);
    array_drop(&ac);
    array_drop(&want);
    rig_close(&r);
}

TEST(cross_attention_with_one_key_in_full_ref)
{
    for (int j = 0; j < GRIDS; j++)
        compare_transformer("ref", grids[j]);
}

TEST(cross_attention_with_one_key_in_full_cpu)
{
    for (int j = 0; j < GRIDS; j++)
        compare_transformer("cpu", grids[j]);
}

/* The UNet's upsampling, also to the odd size of a skip, where there are no phases. */
static void compare_upsampling(const char *device, int64_t less)
{
    const struct grid g = { 2, 4, 5 }, up = { 2, 8 - less, 10 - less };
    struct rig r;
    struct conv layer;
    struct tensor x, y = { 0 };
    struct array ax, doubled = array_new(up.f * up.h * up.w, 32), want;
    const struct module m = { NULL, "up_blocks.0.upsamplers.0" };
    struct module here = m;

    rig_open(&r, device, "unet");
    here.file = &r.file;
    ax = random_both(&r, &x, g, 32);
    for (int64_t p = 0; p < doubled.rows; p++) {
        const int64_t col = p % up.w * g.w / up.w, row = p / up.w % up.h * g.h / up.h;

        memcpy(doubled.v + p * 32, ax.v + ((p / up.w / up.h * g.h + row) * g.w + col) * 32,
               32 * sizeof(double));
    }
    EXPECT_OK(weights_conv(&r.w, &layer, "up_blocks.0.upsamplers.0.conv",
                           &(struct weights_conv_spec){ .co = 32, .ci = 32, .k = 3 }));
    EXPECT_OK(
        op_conv2d(&r.dev, &y, &x, &layer, &(struct op_conv_opt){ .up_h = up.h, .up_w = up.w }));
    want = conv2d(&here, "conv", doubled, up, 32, 3);
    expect_near(&r, &y, want);
    array_drop(&ax);
    array_drop(&doubled);
    array_drop(&want);
    rig_close(&r);
}

TEST(doubled_image_in_full)
{
    for (int64_t less = 0; less < 2; less++) {
        compare_upsampling("ref", less);
        compare_upsampling("cpu", less);
    }
}

/* All eight moments, of which the first four are the mean. */
TEST(quant_conv_in_full)
{
    const struct grid g = { 1, 3, 4 };
    const struct module m = { NULL, "quant_conv" };
    struct module here = m;
    struct checkpoint c;
    struct rig r;
    struct tensor x, y = { 0 };
    struct array ax, want, mean = array_new(12, 4);
    double *weights, *bias;

    EXPECT_OK(checkpoint_open(&c, MODEL));
    rig_open(&r, "cpu", "vae");
    here.file = &r.file;
    ax = random_both(&r, &x, g, 8);
    weights = weight(&here, "weight", "");
    bias = weight(&here, "bias", "");
    EXPECT(weights && bias);
    want = array_new(12, 8);
    for (int64_t p = 0; p < 12; p++) {
        for (int64_t o = 0; o < 8; o++) {
            want.v[p * 8 + o] = bias[o];
            for (int64_t i = 0; i < 8; i++)
                want.v[p * 8 + o] += weights[o * 8 + i] * ax.v[p * 8 + i];
        }
        memcpy(mean.v + p * 4, want.v + p * 8, 4 * sizeof(double));
    }
    EXPECT_OK(op_conv2d(&r.dev, &y, &x, &c.vae.quant, NULL));
    expect_near(&r, &y, mean);
    free(weights);
    free(bias);
    array_drop(&ax);
    array_drop(&want);
    array_drop(&mean);
    rig_close(&r);
    checkpoint_close(&c);
}
