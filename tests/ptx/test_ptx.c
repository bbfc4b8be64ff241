/* The interpreter itself: instructions against scalar models, and faults that it has to find. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/ptx_driver.h"
#include "tests/tool/test.h"

#define THREADS 64 /* of a block here: two warps */
#define WORDS 256  /* of memory */

/* A kernel with this body. Its parameter is the address of memory, which %rd1 holds; %r1 is the
 * thread, %rd2 the thread's word of memory; s is shared memory. */
#define PROLOGUE                                                                                   \
    ".version 9.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 s[];\n"          \
    ".visible .entry k(.param .align 8 .b8 k_param_0[8])\n{\n"                                     \
    ".reg .pred %p<9>;\n.reg .b32 %r<20>;\n.reg .b64 %rd<9>;\n"                                    \
    "ld.param.u64 %rd1, [k_param_0];\nmov.u32 %r1, %tid.x;\nmul.wide.s32 %rd3, %r1, 4;\n"          \
    "add.s64 %rd2, %rd1, %rd3;\nshl.b32 %r2, %r1, 2;\nmov.u32 %r3, s;\nadd.s32 %r4, %r3, %r2;\n"
#define KERNEL(body) PROLOGUE body "ret;\n}\n"

static status run_on(const char *text, uint32_t *words)
{
    struct ptx_range block = { (uintptr_t)words, WORDS * sizeof(*words) };
    const struct ptx_memory memory = { .blocks = &block, .block_count = 1 };
    const uint64_t address = block.at;
    const struct ptx_launch launch = {
        .memory = &memory,
        .grid = { 1, 1, 1 },
        .block = { THREADS, 1, 1 },
        .shared_bytes = 1024,
        .args = &address,
        .args_bytes = sizeof(address),
        .is_counted = true,
    };
    struct ptx_module *m = NULL;
    status st = OK;

    TRY(ptx_parse(&m, "text", text, strlen(text)));
    TRY(ptx_run(ptx_find(m, "k"), &launch));
out:
    ptx_free(m);
    return st;
}

/* text = a kernel with these three pieces as its body. */
static void around(char *text, size_t room, const char *before, const char *body, const char *after)
{
    const char *kernel = KERNEL("@");
    const char *at = strrchr(kernel, '@');

    EXPECT((size_t)snprintf(text, room, "%.*s%s%s\n%s%s", (int)(at - kernel), kernel, before, body,
                            after, at + 1) < room);
}

static status run(const char *text)
{
    static _Alignas(16) uint32_t words[WORDS];

    return run_on(text, words);
}

TEST(ptx_every_kernel_parses)
{
    if (ptx_target.image_count == 0)
        test_skip("built without nvcc: there is no PTX");
    for (int i = 0; i < ptx_target.image_count; i++) {
        struct ptx_module *m = NULL;

        EXPECT_OK(ptx_parse(&m, ptx_target.images[i].name, ptx_target.images[i].data,
                            ptx_target.images[i].bytes));
        EXPECT(ptx_kernel_at(m, 0));
        ptx_free(m);
    }
}

TEST(ptx_what_is_not_known_is_refused)
{
    EXPECT_STATUS(run(KERNEL("popc.b32 %r5, %r1;\n")), ERR_CORRUPT);
    EXPECT_MESSAGE("text:17: an instruction that the interpreter does not know: popc.b32");
    EXPECT_STATUS(run(KERNEL("add.s32 %r5, %r1, %r99;\n")), ERR_CORRUPT);
    EXPECT_MESSAGE("an unknown name: %r99");
    EXPECT_STATUS(run(KERNEL("bra $nowhere;\n")), ERR_CORRUPT);
    EXPECT_MESSAGE("a branch to where there is no label");
}

/* --- instructions ---------------------------------------------------------------------------- */

static float f(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint32_t u(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

#define MODEL(name, formula)                                                                       \
    static uint32_t name(uint32_t a, uint32_t b)                                                   \
    {                                                                                              \
        (void)b;                                                                                   \
        return (uint32_t)(formula);                                                                \
    }

MODEL(add, (uint64_t)a + b)
MODEL(sub, (uint64_t)a - b)
MODEL(mul_lo, (uint64_t)a *b)
MODEL(mul_hi, (uint64_t)((int64_t)(int32_t)a *(int32_t)b) >> 32)
MODEL(mad, (uint64_t)a *b + 7)
MODEL(div_u, b ? a / b : 0)
MODEL(rem_u, b ? a - a / b *b : 0)
MODEL(and_b, ~(~a | ~b))
MODEL(or_b, ~(~a & ~b))
MODEL(xor_b, (a | b) & ~(a & b))
MODEL(not_b, a ^ 0xffffffff)
MODEL(shl, b > 31 ? 0 : (uint64_t)a << b)
MODEL(shr, b > 31 ? 0 : a >> b)
MODEL(shr_sign, (int64_t)(int32_t)a >> (b > 63 ? 63 : b))
MODEL(low, (int32_t)a < (int32_t)b ? a : b)
MODEL(high, (int32_t)a < (int32_t)b ? b : a)
MODEL(negative, ~a + 1)
MODEL(insert, (b & 0xfffff00f) | (a & 255) << 4)
MODEL(less, (int32_t)a < (int32_t)b ? 1 : 2)
MODEL(less_u, a < b ? 1 : 2)
MODEL(at_least, (int64_t)(int32_t)a - (int32_t)b >= 0 ? 1 : 2)
MODEL(same, a - b ? 2 : 1)
MODEL(sum_f, u((float)((double)f(a) + (double)f(b))))
MODEL(product_f, u((float)((double)f(a) * (double)f(b))))
MODEL(most_f, u(isnan(f(a)) || f(b) > f(a) ? f(b) : f(a)))
MODEL(negative_f, a ^ 0x80000000)
MODEL(size_f, a & 0x7fffffff)
MODEL(sign_f, (b & 0x7fffffff) | (a & 0x80000000))
MODEL(whole, u((float)(double)(int32_t)a))
MODEL(bf_up, a << 16)
MODEL(swap, a << 16 | b >> 16)
MODEL(other_lane, a)

static const struct {
    const char *text; /* %r6 and %r7 are operands, %r8 the result */
    uint32_t (*model)(uint32_t, uint32_t);
    int mask; /* of the second operand, which is shifted by it or divides */
} instructions[] = {
    { "add.s32 %r8, %r6, %r7;", add, -1 },
    { "sub.s32 %r8, %r6, %r7;", sub, -1 },
    { "mul.lo.s32 %r8, %r6, %r7;", mul_lo, -1 },
    { "mul.hi.s32 %r8, %r6, %r7;", mul_hi, -1 },
    { "mul.wide.s32 %rd4, %r6, %r7; shr.u64 %rd4, %rd4, 32; cvt.u32.u64 %r8, %rd4;", mul_hi, -1 },
    { "mad.lo.s32 %r8, %r6, %r7, 7;", mad, -1 },
    { "or.b32 %r7, %r7, 1; div.u32 %r8, %r6, %r7;", div_u, -2 },
    { "or.b32 %r7, %r7, 1; rem.u32 %r8, %r6, %r7;", rem_u, -2 },
    { "and.b32 %r8, %r6, %r7;", and_b, -1 },
    { "or.b32 %r8, %r6, %r7;", or_b, -1 },
    { "xor.b32 %r8, %r6, %r7;", xor_b, -1 },
    { "not.b32 %r8, %r6;", not_b, -1 },
    { "shl.b32 %r8, %r6, %r7;", shl, 63 },
    { "shr.u32 %r8, %r6, %r7;", shr, 63 },
    { "shr.s32 %r8, %r6, %r7;", shr_sign, 63 },
    { "min.s32 %r8, %r6, %r7;", low, -1 },
    { "max.s32 %r8, %r6, %r7;", high, -1 },
    { "neg.s32 %r8, %r6;", negative, -1 },
    { "bfi.b32 %r8, %r6, %r7, 4, 8;", insert, -1 },
    { "setp.lt.s32 %p1, %r6, %r7; selp.b32 %r8, 1, 2, %p1;", less, -1 },
    { "setp.lt.u32 %p1, %r6, %r7; selp.u32 %r8, 1, 2, %p1;", less_u, -1 },
    { "setp.ge.s32 %p1, %r6, %r7; selp.b32 %r8, 1, 2, %p1;", at_least, -1 },
    { "setp.ne.s32 %p1, %r6, %r7; not.pred %p1, %p1; selp.b32 %r8, 1, 2, %p1;", same, -1 },
    { "mov.u32 %r8, 2; setp.lt.s32 %p1, %r6, %r7; @!%p1 bra $E; mov.u32 %r8, 1; $E:", less, -1 },
    { "mov.u32 %r8, 2; setp.lt.s32 %p1, %r6, %r7; @%p1 mov.u32 %r8, 1;", less, -1 },
    { "add.f32 %r8, %r6, %r7;", sum_f, -1 },
    { "mul.f32 %r8, %r6, %r7;", product_f, -1 },
    { "max.f32 %r8, %r6, %r7;", most_f, -1 },
    { "neg.f32 %r8, %r6;", negative_f, -1 },
    { "abs.f32 %r8, %r6;", size_f, -1 },
    { "copysign.f32 %r8, %r6, %r7;", sign_f, -1 },
    { "cvt.rn.f32.s32 %r8, %r6;", whole, -1 },
    { "cvt.f32.bf16 %r8, %r6;", bf_up, -1 },
    { "mov.b32 {%r9, %r10}, %r6; mov.b32 {%r11, %r12}, %r7; mov.b32 %r8, {%r12, %r9};", swap, -1 },
    { "st.shared.u32 [%r4], %r6; bar.sync 0; ld.shared.u32 %r8, [%r4];", other_lane, -1 },
};

/* Numbers of all sizes; as floats they are of all sizes too, with a few that are special. */
static uint32_t operand(uint64_t *seed)
{
    static const uint32_t edges[] = { 0, 1, 0xffffffff, 0x80000000, 0x7fffffff, 0x3f800000 };
    uint32_t x;

    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    x = (uint32_t)(*seed >> 32);
    if (x % 8 == 0)
        return edges[x / 8 % 6];
    return x % 8 == 1 ? x >> x % 31 : x;
}

TEST(ptx_instructions_are_their_models)
{
    static _Alignas(16) uint32_t words[WORDS];
    char text[4096];
    uint64_t seed = 7;

    for (size_t i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
        around(text, sizeof(text), "ld.global.u32 %r6, [%rd2];\nld.global.u32 %r7, [%rd2+256];\n",
               instructions[i].text, "st.global.u32 [%rd2+512], %r8;\n");
        for (int round = 0; round < 50; round++) {
            for (int t = 0; t < 2 * THREADS; t++)
                words[t] =
                    operand(&seed) & (t < THREADS ? 0xffffffff : (uint32_t)instructions[i].mask);
            EXPECT_OK(run_on(text, words));
            for (int t = 0; t < THREADS; t++) {
                const uint32_t b = words[THREADS + t] | (instructions[i].mask == -2 ? 1 : 0);
                const uint32_t want = instructions[i].model(words[t], b);

                if (words[2 * THREADS + t] != want &&
                    !(isnan(f(want)) && isnan(f(words[2 * THREADS + t]))))
                    test_fail(__FILE__, __LINE__, "%s of %#x and %#x is %#x, want %#x",
                              instructions[i].text, words[t], b, words[2 * THREADS + t], want);
            }
        }
    }
}

/* --- faults ---------------------------------------------------------------------------------- */

static const struct {
    const char *body, *message;
} faults[] = {
    { "add.s32 %r5, %r9, 1;\n", "its operand 2 was never written" },
    { "setp.eq.s32 %p1, %r1, 0; @%p1 mov.u32 %r5, 1; add.s32 %r6, %r5, 1;\n",
      "thread 1, text:17, add.s32 %r6, %r5, 1: its operand 2 was never written" },
    { "ld.global.u32 %r5, [%rd2+1024];\n", "lies outside what was allocated" },
    { "ld.global.u32 %r5, [%rd2+-4];\n", "lies outside what was allocated" },
    { "ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd2];\n", "is not aligned to 16 bytes" },
    { "ld.shared.u32 %r5, [%r4];\n", "is read and was never written" },
    { "st.shared.u32 [%r4+1024], %r1;\n", "lies outside the block's shared memory" },
    { "st.shared.u32 [%r3], %r1;\n", "is written twice, and nothing puts the writes in order" },
    { "st.shared.u32 [%r4], %r1; xor.b32 %r5, %r2, 4; add.s32 %r5, %r5, %r3;\n"
      "ld.shared.u32 %r6, [%r5];\n",
      "is read, and nothing puts the write before it in order" },
    /* A barrier of the warp is enough within one, and not between two. */
    { "st.shared.u32 [%r4], %r1; bar.warp.sync -1; xor.b32 %r5, %r2, 128;\n"
      "add.s32 %r5, %r5, %r3; ld.shared.u32 %r6, [%r5];\n",
      "is read and was never written" },
    { "st.shared.u32 [%r4], %r1; bar.sync 0; xor.b32 %r5, %r2, 128; add.s32 %r5, %r5, %r3;\n"
      "setp.ge.s32 %p1, %r1, 32; @!%p1 ld.shared.u32 %r6, [%r5];\n"
      "@%p1 st.shared.u32 [%r4], %r1;\n",
      "is written, and nothing puts a read before it in order" },
    { "shl.b32 %r5, %r1, 4; add.s32 %r5, %r5, %r3;\n"
      "cp.async.cg.shared.global [%r5], [%rd1], 16, 16; cp.async.commit_group;\n"
      "ld.shared.u32 %r6, [%r5];\n",
      "is read while a copy to it is under way" },
    { "shl.b32 %r5, %r1, 4; add.s32 %r5, %r5, %r3;\n"
      "cp.async.cg.shared.global [%r5], [%rd1], 16, 16; cp.async.commit_group;\n"
      "cp.async.wait_group 1; ld.shared.u32 %r6, [%r5];\n",
      "is read while a copy to it is under way" },
    { "setp.lt.s32 %p1, %r1, 8; @%p1 bra $L; bar.sync 0; $L: bar.sync 0;\n",
      "an instruction of the whole warp that not all its lanes reach" },
    { "setp.lt.s32 %p1, %r1, 32; @%p1 bra $L; bar.sync 0; bra $M; $L: bar.sync 0; $M:\n",
      "a barrier, while another warp waits at line" },
    { "sub.s32 %r5, %r1, %r1; div.s32 %r6, %r1, %r5;\n", "a division without result" },
};

TEST(ptx_faults_are_found)
{
    char text[4096];

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        around(text, sizeof(text), "", faults[i].body, "");
        if (run(text) == OK)
            test_fail(__FILE__, __LINE__, "no fault is found in: %s", faults[i].body);
        EXPECT_MESSAGE(faults[i].message);
    }
}

TEST(ptx_order_is_seen)
{
    EXPECT_OK(run(KERNEL("st.shared.u32 [%r4], %r1; bar.warp.sync -1; xor.b32 %r5, %r2, 4;\n"
                         "add.s32 %r5, %r5, %r3; ld.shared.u32 %r6, [%r5]; bar.sync 0;\n"
                         "st.shared.u32 [%r4], %r6;\n")));
    EXPECT_OK(run(KERNEL("shl.b32 %r5, %r1, 4; add.s32 %r5, %r5, %r3;\n"
                         "cp.async.cg.shared.global [%r5], [%rd1], 16, 16; cp.async.commit_group;\n"
                         "cp.async.wait_group 0; ld.shared.u32 %r6, [%r5];\n")));
}
