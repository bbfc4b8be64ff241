/* How fast are the kernels at the shapes of SVD, with fewer frames? The peer of matrix products and
 * convolutions is oneDNN in the same process with the same number of threads, its weights reordered
 * beforehand. Sums of many layers say how a whole network would do. Where the CPU has bf16, a
 * second pass measures products of bf16 (.bf16); oneDNN then may round operands likewise. */
#include <dnnl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/kern.h"
#include "tests/tool/bench.h"

/* One kernel under the clock: ours, and perhaps a peer. */
struct subject {
    struct kern_ctx *ctx;
    const struct kern_table *table;
    union {
        struct kern_conv2d conv2d;
        struct kern_conv_temporal conv_temporal;
        struct kern_linear linear;
        struct kern_geglu geglu;
        struct kern_group_norm group_norm;
        struct kern_layer_norm layer_norm;
        struct kern_attention attention;
        struct kern_attention_temporal attention_temporal;
        struct kern_silu silu;
    } a;
    dnnl_primitive_t peer;
    dnnl_exec_arg_t peer_args[4];
    dnnl_stream_t stream;
};

/* Everything the program holds. */
struct state {
    struct bench bench;
    struct kern_ctx *cpu, *ref;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    bool is_bf16;         /* second pass */
    double our_s, peer_s; /* sums over what has a peer */
};

static void check(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "bench_kernels: %s failed\n", what);
        exit(1);
    }
}

/* n floats of size 1, never freed: the program is short. */
static float *floats(int64_t n)
{
    float *p = aligned_alloc(64, ((size_t)n * sizeof(float) + 63) / 64 * 64);
    uint32_t random = 12345;

    check(p != NULL, "memory");
    for (int64_t i = 0; i < n; i++) {
        random = random * 1664525 + 1013904223;
        p[i] = (float)(int32_t)random / 2147483648.0f;
    }
    return p;
}

static struct tensor tensor(int64_t n, int64_t h, int64_t w, int64_t c)
{
    return (struct tensor){
        .data = floats(n * h * w * c), .dtype = KERN_F32, .n = n, .h = h, .w = w, .c = c
    };
}

/* --- oneDNN --- */

static void dnnl_ok(dnnl_status_t st)
{
    check(st == dnnl_success, "oneDNN");
}

/* Memory of the type that the primitive wants, filled with small numbers. */
static dnnl_memory_t peer_memory(struct state *s, const dnnl_memory_desc_t *md, float *data)
{
    dnnl_memory_t memory;

    if (!data)
        data = floats((int64_t)(dnnl_memory_desc_get_size(md) / sizeof(float)));
    dnnl_ok(dnnl_memory_create(&memory, md, s->engine, data));
    return memory;
}

/* Finish a primitive from its operation descriptor; x and y are used in place. */
static void peer_make(struct state *s, struct subject *k, const void *operation, float *x, float *y)
{
    dnnl_primitive_desc_t pd;
    dnnl_primitive_attr_t attr;

    dnnl_ok(dnnl_primitive_attr_create(&attr));
    if (s->is_bf16)
        dnnl_ok(dnnl_primitive_attr_set_fpmath_mode(attr, dnnl_fpmath_mode_bf16));
    dnnl_ok(dnnl_primitive_desc_create(&pd, operation, attr, s->engine, NULL));
    dnnl_ok(dnnl_primitive_attr_destroy(attr));
    dnnl_ok(dnnl_primitive_create(&k->peer, pd));
    k->stream = s->stream;
    k->peer_args[0] = (dnnl_exec_arg_t){
        DNNL_ARG_SRC, peer_memory(s, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0), x)
    };
    k->peer_args[1] = (dnnl_exec_arg_t){
        DNNL_ARG_WEIGHTS,
        peer_memory(s, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), NULL)
    };
    k->peer_args[2] = (dnnl_exec_arg_t){
        DNNL_ARG_BIAS,
        peer_memory(s, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1), NULL)
    };
    k->peer_args[3] = (dnnl_exec_arg_t){
        DNNL_ARG_DST, peer_memory(s, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0), y)
    };
    dnnl_ok(dnnl_primitive_desc_destroy(pd));
}

static void peer_conv(struct state *s, struct subject *k, const struct tensor *x,
                      const struct tensor *y, const struct conv *l)
{
    dnnl_dims_t xd = { x->n, x->c, x->h, x->w }, yd = { y->n, y->c, y->h, y->w };
    dnnl_dims_t wd = { l->co, l->ci, l->kh, l->kw }, bd = { l->co }, one = { 1, 1 };
    dnnl_dims_t pad = { l->kh / 2, l->kw / 2 };
    dnnl_memory_desc_t xm, ym, wm, bm;
    dnnl_convolution_desc_t d;

    dnnl_ok(dnnl_memory_desc_init_by_tag(&xm, 4, xd, dnnl_f32, dnnl_nhwc));
    dnnl_ok(dnnl_memory_desc_init_by_tag(&ym, 4, yd, dnnl_f32, dnnl_nhwc));
    dnnl_ok(dnnl_memory_desc_init_by_tag(&wm, 4, wd, dnnl_f32, dnnl_format_tag_any));
    dnnl_ok(dnnl_memory_desc_init_by_tag(&bm, 1, bd, dnnl_f32, dnnl_a));
    dnnl_ok(dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference, dnnl_convolution_direct,
                                               &xm, &wm, &bm, &ym, one, pad, pad));
    peer_make(s, k, &d, x->data, y->data);
}

static void peer_linear(struct state *s, struct subject *k, const struct tensor *x, float *y,
                        const struct linear *l)
{
    int64_t rows = x->n * x->h * x->w;
    dnnl_dims_t xd = { rows, l->in }, yd = { rows, l->out }, wd = { l->in, l->out };
    dnnl_dims_t bd = { 1, l->out };
    dnnl_memory_desc_t xm, ym, wm, bm;
    dnnl_matmul_desc_t d;

    dnnl_ok(dnnl_memory_desc_init_by_tag(&xm, 2, xd, dnnl_f32, dnnl_ab));
    dnnl_ok(dnnl_memory_desc_init_by_tag(&ym, 2, yd, dnnl_f32, dnnl_ab));
    dnnl_ok(dnnl_memory_desc_init_by_tag(&wm, 2, wd, dnnl_f32, dnnl_format_tag_any));
    dnnl_ok(dnnl_memory_desc_init_by_tag(&bm, 2, bd, dnnl_f32, dnnl_ab));
    dnnl_ok(dnnl_matmul_desc_init(&d, &xm, &wm, &bm, &ym));
    peer_make(s, k, &d, x->data, y);
}

static void peer_run(void *self)
{
    struct subject *k = self;

    dnnl_ok(dnnl_primitive_execute(k->peer, k->stream, 4, k->peer_args));
    dnnl_ok(dnnl_stream_wait(k->stream));
}

/* --- measuring --- */

/* amount: floating-point operations or bytes of one run. */
static void measure(struct state *s, struct subject *k, void (*run)(void *), const char *name,
                    double amount, const char *unit)
{
    double ours = bench_seconds(run, k), theirs = k->peer ? bench_seconds(peer_run, k) : 0;
    char full[96];

    snprintf(full, sizeof(full), "%s%s", name, s->is_bf16 ? ".bf16" : "");

    bench_report(&s->bench, &(struct bench_row){ .name = full,
                                                 .value = amount / ours / 1e9,
                                                 .unit = unit,
                                                 .peer = k->peer ? "onednn" : NULL,
                                                 .ratio = theirs / ours });
    if (k->peer) {
        s->our_s += ours;
        s->peer_s += theirs;
        dnnl_ok(dnnl_primitive_destroy(k->peer));
    }
}

static struct subject cpu_subject(const struct state *s)
{
    return (struct subject){ .ctx = s->cpu, .table = &kern_cpu };
}

static void run_conv2d(void *self)
{
    struct subject *k = self;

    check(k->table->conv2d(k->ctx, &k->a.conv2d) == OK, "conv2d");
}

/* A 3x3 or 1x1 convolution of n images; up: to twice the size first, without a peer. */
static void bench_conv(struct state *s, const char *name, struct tensor x, struct conv l, bool up)
{
    struct subject k = cpu_subject(s);
    int64_t scale = up ? 2 : 1;
    double flops;

    l.weight = floats(l.co * l.kh * l.kw * l.ci);
    l.bias = floats(l.co);
    k.a.conv2d = (struct kern_conv2d){ .x = x,
                                       .y = tensor(x.n, x.h * scale, x.w * scale, l.co),
                                       .layer = &l,
                                       .scale = 1,
                                       .stride = 1,
                                       .pad_top = l.kh / 2,
                                       .pad_left = l.kw / 2,
                                       .pad_bottom = l.kh / 2,
                                       .pad_right = l.kw / 2,
                                       .up_h = up ? 2 * x.h : 0,
                                       .up_w = up ? 2 * x.w : 0 };
    flops = 2.0 * (double)(x.n * x.h * x.w * scale * scale) * (double)(l.co * l.kh * l.kw * l.ci);
    if (!up)
        peer_conv(s, &k, &x, &k.a.conv2d.y, &l);
    measure(s, &k, run_conv2d, name, flops, "GFLOP/s");
}

static void run_conv_temporal(void *self)
{
    struct subject *k = self;

    check(k->table->conv_temporal(k->ctx, &k->a.conv_temporal) == OK, "conv_temporal");
}

static void bench_temporal(struct state *s, const char *name, struct tensor x)
{
    struct subject k = cpu_subject(s);
    struct conv l = { .co = x.c, .ci = x.c, .kh = 3, .kw = 1 };
    struct tensor as_image = x, y = tensor(x.n, x.h, x.w, x.c), y_image = y;

    l.weight = floats(l.co * 3 * l.ci);
    l.bias = floats(l.co);
    k.a.conv_temporal = (struct kern_conv_temporal){ .x = x, .y = y, .layer = &l, .scale = 1 };
    /* For the peer: one image of [frames] x [pixels]. */
    as_image.n = y_image.n = 1;
    as_image.h = y_image.h = x.n;
    as_image.w = y_image.w = x.h * x.w;
    peer_conv(s, &k, &as_image, &y_image, &l);
    measure(s, &k, run_conv_temporal, name, 6.0 * (double)(x.n * x.h * x.w) * (double)(l.co * l.ci),
            "GFLOP/s");
}

static void run_linear(void *self)
{
    struct subject *k = self;

    check(k->table->linear(k->ctx, &k->a.linear) == OK, "linear");
}

static void bench_linear(struct state *s, const char *name, int64_t rows, struct linear l)
{
    struct subject k = cpu_subject(s);
    struct tensor x = tensor(1, rows, 1, l.in), y = tensor(1, rows, 1, l.out);

    l.weight = floats(l.out * l.in);
    l.bias = floats(l.out);
    k.a.linear = (struct kern_linear){ .x = x, .y = y, .layer = &l };
    peer_linear(s, &k, &x, y.data, &l);
    measure(s, &k, run_linear, name, 2.0 * (double)rows * (double)(l.in * l.out), "GFLOP/s");
}

static void run_geglu(void *self)
{
    struct subject *k = self;

    check(k->table->geglu(k->ctx, &k->a.geglu) == OK, "geglu");
}

/* The peer does the matrix product only. */
static void bench_geglu(struct state *s, const char *name, int64_t rows, struct linear l)
{
    struct subject k = cpu_subject(s);
    struct tensor x = tensor(1, rows, 1, l.in), y = tensor(1, rows, 1, l.out / 2);

    l.weight = floats(l.out * l.in);
    l.bias = floats(l.out);
    k.a.geglu = (struct kern_geglu){ .x = x, .y = y, .layer = &l };
    peer_linear(s, &k, &x, floats(rows * l.out), &l);
    measure(s, &k, run_geglu, name, 2.0 * (double)rows * (double)(l.in * l.out), "GFLOP/s");
}

static void run_attention(void *self)
{
    struct subject *k = self;

    check(k->table->attention(k->ctx, &k->a.attention) == OK, "attention");
}

static void bench_attention(struct state *s, const char *name, int64_t n, int64_t tokens,
                            int64_t heads, int64_t d)
{
    struct subject k = cpu_subject(s);
    int64_t c = heads * d;
    float *qkv = floats(n * tokens * 3 * c);

    k.a.attention = (struct kern_attention){ .q = qkv,
                                             .k = qkv + c,
                                             .v = qkv + 2 * c,
                                             .y = floats(n * tokens * c),
                                             .q_stride = 3 * c,
                                             .k_stride = 3 * c,
                                             .v_stride = 3 * c,
                                             .y_stride = c,
                                             .n = n,
                                             .queries = tokens,
                                             .keys = tokens,
                                             .heads = heads,
                                             .d = d };
    measure(s, &k, run_attention, name, 4.0 * (double)(n * c) * (double)(tokens * tokens),
            "GFLOP/s");
}

static void run_attention_temporal(void *self)
{
    struct subject *k = self;

    check(k->table->attention_temporal(k->ctx, &k->a.attention_temporal) == OK, "attention");
}

static void bench_attention_temporal(struct state *s, const char *name, int64_t frames,
                                     int64_t pixels, int64_t heads)
{
    struct subject k = cpu_subject(s);
    int64_t d = 64, c = heads * d;
    float *qkv = floats(frames * pixels * 3 * c);

    k.a.attention_temporal = (struct kern_attention_temporal){ .q = qkv,
                                                               .k = qkv + c,
                                                               .v = qkv + 2 * c,
                                                               .y = floats(frames * pixels * c),
                                                               .q_stride = 3 * c,
                                                               .k_stride = 3 * c,
                                                               .v_stride = 3 * c,
                                                               .frames = frames,
                                                               .pixels = pixels,
                                                               .heads = heads,
                                                               .d = d };
    measure(s, &k, run_attention_temporal, name,
            4.0 * (double)(pixels * c) * (double)(frames * frames), "GFLOP/s");
}

static void run_group_norm(void *self)
{
    struct subject *k = self;

    check(k->table->group_norm(k->ctx, &k->a.group_norm) == OK, "group_norm");
}

static void run_layer_norm(void *self)
{
    struct subject *k = self;

    check(k->table->layer_norm(k->ctx, &k->a.layer_norm) == OK, "layer_norm");
}

static void run_silu(void *self)
{
    struct subject *k = self;

    check(k->table->silu(k->ctx, &k->a.silu) == OK, "silu");
}

/* Bytes counted: one reading and one writing of the tensor. */
static void bench_rows(struct state *s)
{
    struct subject k = cpu_subject(s);
    struct tensor x = tensor(2, 72, 128, 320), y = tensor(2, 72, 128, 320);
    struct norm layer = {
        .gamma = floats(320), .beta = floats(320), .c = 320, .groups = 32, .eps = 1e-5f
    };
    double bytes = 8.0 * 2 * 72 * 128 * 320;

    k.a.group_norm =
        (struct kern_group_norm){ .x = x, .y = y, .layer = &layer, .span = 1, .silu = true };
    measure(s, &k, run_group_norm, "group_norm.silu.320x72x128", bytes, "GB/s");
    k.a.group_norm.span = 2;
    measure(s, &k, run_group_norm, "group_norm.silu.clip.320x72x128", bytes, "GB/s");
    layer.groups = 0;
    k.a.layer_norm = (struct kern_layer_norm){ .x = x, .y = y, .layer = &layer };
    measure(s, &k, run_layer_norm, "layer_norm.320", bytes, "GB/s");
    k.a.silu = (struct kern_silu){ .x = x, .y = y };
    measure(s, &k, run_silu, "silu", bytes, "GB/s");
}

static void bench_ref(struct state *s)
{
    struct conv l = { .weight = floats(64 * 9 * 64), .co = 64, .ci = 64, .kh = 3, .kw = 3 };
    struct subject k = { .ctx = s->ref, .table = &kern_ref };

    k.a.conv2d = (struct kern_conv2d){ .x = tensor(1, 32, 32, 64),
                                       .y = tensor(1, 32, 32, 64),
                                       .layer = &l,
                                       .scale = 1,
                                       .stride = 1,
                                       .pad_top = 1,
                                       .pad_left = 1,
                                       .pad_bottom = 1,
                                       .pad_right = 1 };
    measure(s, &k, run_conv2d, "ref.conv3x3.64x32x32", 2.0 * 32 * 32 * 64 * 64 * 9, "GFLOP/s");
}

static void bench_unet(struct state *s)
{
    struct conv c3 = { .kh = 3, .kw = 3 };

    c3.co = c3.ci = 320;
    bench_conv(s, "unet.conv3x3.320x72x128", tensor(1, 72, 128, 320), c3, false);
    c3.ci = 960;
    bench_conv(s, "unet.conv3x3.960to320x36x128", tensor(1, 36, 128, 960), c3, false);
    c3.co = c3.ci = 640;
    bench_conv(s, "unet.conv3x3.640x36x64", tensor(1, 36, 64, 640), c3, false);
    c3.co = c3.ci = 1280;
    bench_conv(s, "unet.conv3x3.1280x18x32", tensor(1, 18, 32, 1280), c3, false);
    bench_conv(s, "unet.conv3x3.1280x9x16", tensor(2, 9, 16, 1280), c3, false);
    bench_temporal(s, "unet.conv_temporal.320x4x36x64", tensor(4, 36, 64, 320));
    bench_temporal(s, "unet.conv_temporal.1280x8x9x16", tensor(8, 9, 16, 1280));
    bench_linear(s, "unet.linear.qkv.320", 9216, (struct linear){ .in = 320, .out = 960 });
    bench_geglu(s, "unet.geglu.320", 9216, (struct linear){ .in = 320, .out = 2560 });
    bench_linear(s, "unet.linear.ff2.320", 9216, (struct linear){ .in = 1280, .out = 320 });
    bench_linear(s, "unet.linear.qkv.1280", 1152, (struct linear){ .in = 1280, .out = 3840 });
    bench_geglu(s, "unet.geglu.1280", 1152, (struct linear){ .in = 1280, .out = 10240 });
    bench_linear(s, "unet.linear.ff2.1280", 1152, (struct linear){ .in = 5120, .out = 1280 });
    bench_linear(s, "clip.linear.fc1.1280", 257, (struct linear){ .in = 1280, .out = 5120 });
    bench_attention(s, "unet.attention.9216x64", 1, 9216, 1, 64);
    bench_attention(s, "unet.attention.576x64", 2, 576, 20, 64);
    bench_attention(s, "clip.attention.257x80", 1, 257, 16, 80);
    bench_attention_temporal(s, "unet.attention_temporal.14x64", 14, 2304, 5);
}

static void bench_vae(struct state *s)
{
    struct conv c3 = { .kh = 3, .kw = 3 };

    c3.co = c3.ci = 128;
    bench_conv(s, "vae.conv3x3.128x144x1024", tensor(1, 144, 1024, 128), c3, false);
    c3.co = c3.ci = 256;
    bench_conv(s, "vae.conv3x3.256x72x512", tensor(1, 72, 512, 256), c3, false);
    c3.co = c3.ci = 512;
    bench_conv(s, "vae.conv3x3.512x72x128", tensor(1, 72, 128, 512), c3, false);
    bench_conv(s, "vae.up.conv3x3.512x36x64", tensor(1, 36, 64, 512), c3, true);
    bench_temporal(s, "vae.conv_temporal.128x4x72x256", tensor(4, 72, 256, 128));
    c3.co = 3;
    c3.ci = 128;
    bench_conv(s, "vae.conv_out.128x72x1024", tensor(1, 72, 1024, 128), c3, false);
    c3.co = 128;
    c3.ci = 3;
    bench_conv(s, "vae.conv_in.3x72x1024", tensor(1, 72, 1024, 3), c3, false);
    bench_attention(s, "vae.attention.2304x512", 1, 2304, 1, 512);
}

/* The layers whose products differ with the precision. */
static void bench_layers(struct state *s)
{
    s->our_s = s->peer_s = 0;
    bench_unet(s);
    bench_vae(s);
    bench_report(&s->bench, &(struct bench_row){ .name = s->is_bf16 ? "all_with_a_peer.bf16"
                                                                    : "all_with_a_peer",
                                                 .value = s->our_s * 1e3,
                                                 .unit = "ms",
                                                 .peer = "onednn",
                                                 .ratio = s->peer_s / s->our_s });
}

int main(int argc, char **argv)
{
    struct kern_config config = { 0 };
    struct state s = { 0 };

    bench_init(&s.bench, argc, argv);
    check(kern_cpu.open(&s.cpu, &config) == OK && kern_ref.open(&s.ref, &config) == OK, "open");
    dnnl_ok(dnnl_engine_create(&s.engine, dnnl_cpu, 0));
    dnnl_ok(dnnl_stream_create(&s.stream, s.engine, dnnl_stream_default_flags));
    bench_layers(&s);
    bench_rows(&s);
    bench_ref(&s);
    kern_cpu.close(s.cpu);
    config.precision = KERN_PRECISION_BF16;
    if (kern_cpu.open(&s.cpu, &config) != OK) {
        fprintf(stderr, "no .bf16 rows: %s\n", status_message());
        return 0;
    }
    s.is_bf16 = true;
    bench_layers(&s);
    return 0;
}
