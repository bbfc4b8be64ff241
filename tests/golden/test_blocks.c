/* One block alone: its weights from the checkpoint, its input and output from diffusers. */
#include <stdio.h>
#include <string.h>

#include "tests/golden/golden.h"
#include "worker/model/params.h"

/* Memory for one block's weights. */
struct block {
    struct golden g;
    struct arena values, layers;
    struct weights_loader loader;
    struct weights w;
    char prefix[WEIGHTS_NAME_BYTES]; /* in the checkpoint part */
    char tensor[64];                 /* scratch for names */
};

/* The golden file says "<block>.module" = "unet/down_blocks.1.resnets.0". */
static void block_open(struct block *b, const char *name, const char *device, const char *block)
{
    const char *module, *slash;
    char key[64], dir[256];

    memset(b, 0, sizeof(*b));
    golden_open(&b->g, name, device);
    snprintf(key, sizeof(key), "%s.module", block);
    module = golden_text(&b->g, key);
    slash = strchr(module, '/');
    EXPECT(slash);
    snprintf(dir, sizeof(dir), "tests/fixtures/%s/%.*s", golden_text(&b->g, "checkpoint"),
             (int)(slash - module), module);
    snprintf(b->prefix, sizeof(b->prefix), "%s", slash + 1);
    EXPECT_OK(arena_open(&b->values, "weights", (size_t)64 << 20));
    EXPECT_OK(arena_open(&b->layers, "layers", (size_t)1 << 20));
    b->loader = (struct weights_loader){ .values = &b->values, .layers = &b->layers };
    EXPECT_OK(weights_open(&b->w, &b->loader, dir, "diffusion_pytorch_model"));
}

static const char *part(struct block *b, const char *block, const char *suffix)
{
    snprintf(b->tensor, sizeof(b->tensor), "%s.%s", block, suffix);
    return b->tensor;
}

/* Room on the device for block.output. */
static struct tensor output(struct block *b, const char *block)
{
    struct tensor y = { 0 };
    int64_t s[4];

    golden_shape(&b->g, part(b, block, "output"), s);
    EXPECT_OK(op_new(&b->g.dev, &y, s[0], s[2], s[3], s[1]));
    return y;
}

/* Compare y with block.output, and close. */
static void expect_output(struct block *b, const char *block, const struct tensor *y)
{
    const char *name = part(b, block, "output");
    float *got = golden_room(&b->g, name);

    EXPECT_OK(op_download(&b->g.dev, y, got));
    golden_expect(&b->g, name, got, GOLDEN_MODULE);
    weights_close(&b->w);
    arena_close(&b->values);
    arena_close(&b->layers);
    golden_close(&b->g);
}

static void res_case(const char *name, const char *device, const char *block, bool is_up)
{
    struct block b;
    struct res_block res;
    struct tensor x, y, e, first, silu_e = { 0 };

    block_open(&b, name, device, block);
    x = golden_upload(&b.g, part(&b, block, "input"));
    y = output(&b, block);
    e = golden_upload(&b.g, part(&b, block, "temb")); /* the same row for each frame */
    first = e;
    first.n = 1;
    EXPECT_OK(op_silu(&b.g.dev, &silu_e, &first));
    /* The epsilons of down_blocks.1 without attention, and of every up block. */
    EXPECT_OK(res_load(&res, &b.w, b.prefix,
                       &(struct res_spec){ .ci = x.c,
                                           .co = y.c,
                                           .embedding = e.c,
                                           .eps = is_up ? 1e-6f : 1e-5f,
                                           .eps_time = is_up ? 1e-6f : 1e-5f,
                                           .is_temporal = true }));
    EXPECT_OK(res_forward(&b.g.dev, &y, &x, &res, &silu_e));
    expect_output(&b, block, &y);
}

static void vae_res_case(const char *name, const char *device)
{
    struct block b;
    struct res_block res;
    struct tensor x, y;

    block_open(&b, name, device, "vae_res");
    x = golden_upload(&b.g, "vae_res.input");
    y = output(&b, "vae_res");
    EXPECT_OK(res_load(&res, &b.w, b.prefix,
                       &(struct res_spec){ .ci = x.c,
                                           .co = y.c,
                                           .eps = 1e-6f,
                                           .eps_time = 1e-5f,
                                           .is_temporal = true,
                                           .is_switched = true }));
    EXPECT_OK(res_forward(&b.g.dev, &y, &x, &res, NULL));
    expect_output(&b, "vae_res", &y);
}

/* transformer.context is [F,1,D], the same row for each frame. */
static struct tensor image_embedding(struct block *b, int64_t d)
{
    const struct safetensors_tensor *t = safetensors_find(&b->g.file, "transformer.context");
    struct tensor context = { 0 };
    float row[64];

    EXPECT(t && t->rank == 3 && t->shape[2] == d && d <= 64);
    EXPECT_OK(safetensors_read_f32(t, 0, d, row));
    EXPECT_OK(op_new(&b->g.dev, &context, 1, 1, 1, d));
    EXPECT_OK(op_upload(&b->g.dev, &context, row));
    return context;
}

static void transformer_case(const char *name, const char *device, int level)
{
    struct block b;
    struct transformer t;
    struct tensor x, y, context;
    const struct unet_config *c = &b.g.checkpoint.unet.config;

    block_open(&b, name, device, "transformer");
    x = golden_upload(&b.g, "transformer.input");
    y = output(&b, "transformer");
    context = image_embedding(&b, c->cross_attention_dim);
    EXPECT_OK(
        transformer_load(&t, &b.w, b.prefix,
                         &(struct transformer_spec){ .c = x.c,
                                                     .heads = c->heads[level],
                                                     .context = c->cross_attention_dim,
                                                     .layers = c->transformer_layers[level] }));
    EXPECT_OK(transformer_forward(&b.g.dev, &y, &x, &t, &context));
    expect_output(&b, "transformer", &y);
}

static void attention_case(const char *name, const char *device, const char *block)
{
    struct block b;
    struct attention a;
    struct tensor x, y;

    block_open(&b, name, device, block);
    x = golden_upload(&b.g, part(&b, block, "input"));
    y = output(&b, block);
    EXPECT_OK(attention_load(&a, &b.w, b.prefix, x.c, 1e-6f));
    EXPECT_OK(attention_forward(&b.g.dev, &y, &x, &a));
    expect_output(&b, block, &y);
}

#define A "tiny-a-consistency1"
#define ODD "tiny-a-odd-consistency4"
#define B "tiny-b-consistency1"

#define EACH(test_name, device)                                                                    \
    TEST(test_name)                                                                                \
    {                                                                                              \
        res_case(A, device, "res", false);                                                         \
        res_case(A, device, "up_res", true);                                                       \
        res_case(ODD, device, "res", false);                                                       \
        res_case(ODD, device, "up_res", true);                                                     \
        res_case(B, device, "res", true);                                                          \
        vae_res_case(A, device);                                                                   \
        vae_res_case(ODD, device);                                                                 \
        vae_res_case(B, device);                                                                   \
        transformer_case(A, device, 0);                                                            \
        transformer_case(ODD, device, 0);                                                          \
        transformer_case(B, device, 1);                                                            \
        attention_case(A, device, "attention");                                                    \
        attention_case(A, device, "decoder_attention");                                            \
        attention_case(ODD, device, "attention");                                                  \
        attention_case(ODD, device, "decoder_attention");                                          \
        attention_case(B, device, "attention");                                                    \
    }

EACH(blocks_ref, "ref")
EACH(blocks_cpu, "cpu")
