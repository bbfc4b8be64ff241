/* Instructions on registers. Each function is one instruction for 32 lanes; its formula is the last
 * argument of the macro that makes it. x, y, z: operands of the lane. Source: PTX ISA 9.0, chapter
 * "Instructions". Approximate instructions are exact here: their error is part of the tolerance. */
#include <math.h>
#include <string.h>

#include "tests/ptx/ptx_priv.h"

/* All lanes, or those of mask, in a form that the compiler makes vectors of. */
#define FOR_LANES(...)                                                                             \
    do {                                                                                           \
        if (mask == PTX_ALL) {                                                                     \
            _Pragma("GCC ivdep") for (int l = 0; l < PTX_LANES; l++)                               \
            {                                                                                      \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        } else {                                                                                   \
            for (int l = 0; l < PTX_LANES; l++) {                                                  \
                if (mask >> l & 1) {                                                               \
                    __VA_ARGS__;                                                                   \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    } while (0)

typedef uint32_t u32;
typedef ptx_s32 s32;
typedef ptx_u64 u64;
typedef ptx_s64 s64;
typedef ptx_f32 f32;

#define AT(type, i) ((type *)(void *)w->file[op->o[i]])

#define UNARY(name, to, from, formula)                                                             \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        to *d = AT(to, 0);                                                                         \
        const from *a = AT(from, 1);                                                               \
                                                                                                   \
        FOR_LANES(const from x = a[l]; d[l] = (to)(formula));                                      \
    }

#define BINARY(name, to, from, formula)                                                            \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        to *d = AT(to, 0);                                                                         \
        const from *a = AT(from, 1), *b = AT(from, 2);                                             \
                                                                                                   \
        FOR_LANES(const from x = a[l]; const from y = b[l]; d[l] = (to)(formula));                 \
    }

#define TERNARY(name, to, from, third, formula)                                                    \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        to *d = AT(to, 0);                                                                         \
        const from *a = AT(from, 1), *b = AT(from, 2);                                             \
        const third *c = AT(third, 3);                                                             \
                                                                                                   \
        FOR_LANES(const from x = a[l]; const from y = b[l]; const third z = c[l];                  \
                  d[l] = (to)(formula));                                                           \
    }

/* Whole numbers. */
BINARY(add_32, u32, u32, x + y)
BINARY(add_64, u64, u64, x + y)
BINARY(sub_32, u32, u32, x - y)
BINARY(sub_64, u64, u64, x - y)
BINARY(mul_lo_32, u32, u32, x *y)
BINARY(mul_lo_64, u64, u64, x *y)
BINARY(mul_hi_s32, u32, s32, (int64_t)x *y >> 32)
BINARY(mul_wide_s32, s64, s32, (int64_t)x *y)
BINARY(mul_wide_u32, u64, u32, (uint64_t)x *y)
TERNARY(mad_lo_32, u32, u32, u32, x *y + z)
BINARY(min_s32, s32, s32, x < y ? x : y)
BINARY(max_s32, s32, s32, x > y ? x : y)
BINARY(min_s64, s64, s64, x < y ? x : y)
UNARY(neg_s32, u32, u32, 0u - x)
BINARY(and_32, u32, u32, x &y)
BINARY(and_64, u64, u64, x &y)
BINARY(or_32, u32, u32, x | y)
BINARY(or_64, u64, u64, x | y)
BINARY(xor_32, u32, u32, x ^ y)
UNARY(not_32, u32, u32, ~x)
BINARY(shl_32, u32, u32, y < 32 ? x << y : 0)
BINARY(shr_u32, u32, u32, y < 32 ? x >> y : 0)
BINARY(shr_s32, s32, s32, x >> ((uint32_t)y < 32 ? y : 31))
TERNARY(shf_l_wrap, u32, u32, u32, (((uint64_t)y << 32 | x) << (z & 31)) >> 32)
UNARY(move_32, u32, u32, x)
UNARY(move_64, u64, u64, x)

/* d = b with the low bits of a at position c, as many as e says. */
static void bfi_32(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    u32 *d = AT(u32, 0);
    const u32 *a = AT(u32, 1), *b = AT(u32, 2), *c = AT(u32, 3), *e = AT(u32, 4);

    for (int l = 0; l < PTX_LANES; l++) {
        const uint32_t at = c[l] & 255, bits = e[l] & 255;
        const uint64_t field = at < 32 ? ((bits < 32 ? 1ull << bits : 1ull << 32) - 1) << at : 0;

        if (mask >> l & 1)
            d[l] = (uint32_t)((b[l] & ~field) | ((at < 32 ? (uint64_t)a[l] << at : 0) & field));
    }
}

/* The amount of a shift has 32 bits. */
#define SHIFT_64(name, formula)                                                                    \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        u64 *d = AT(u64, 0);                                                                       \
        const u64 *a = AT(u64, 1);                                                                 \
        const u32 *b = AT(u32, 2);                                                                 \
                                                                                                   \
        FOR_LANES(const u64 x = a[l]; const u32 y = b[l]; d[l] = y < 64 ? (formula) : 0);          \
    }
SHIFT_64(shl_64, x << y)
SHIFT_64(shr_u64, x >> y)

/* Division by zero has no defined result: a kernel that does it is wrong. */
#define DIVIDE(name, type, is_bad, formula)                                                        \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        type *d = AT(type, 0);                                                                     \
        const type *a = AT(type, 1), *b = AT(type, 2);                                             \
                                                                                                   \
        for (int l = 0; l < PTX_LANES; l++) {                                                      \
            const type x = a[l], y = b[l];                                                         \
                                                                                                   \
            if (!(mask >> l & 1))                                                                  \
                continue;                                                                          \
            if (is_bad) {                                                                          \
                ptx_fault(w, op, l, "a division without result");                                  \
                return;                                                                            \
            }                                                                                      \
            d[l] = (type)(formula);                                                                \
        }                                                                                          \
    }
DIVIDE(div_u32, u32, y == 0, x / y)
DIVIDE(rem_u32, u32, y == 0, x % y)
DIVIDE(div_s32, s32, y == 0 || (y == -1 && x == INT32_MIN), x / y)
DIVIDE(div_s64, s64, y == 0 || (y == -1 && x == INT64_MIN), x / y)
DIVIDE(rem_s64, s64, y == 0 || (y == -1 && x == INT64_MIN), x % y)

/* Floats. */
BINARY(add_f32, f32, f32, x + y)
BINARY(sub_f32, f32, f32, x - y)
BINARY(mul_f32, f32, f32, x *y)
TERNARY(fma_f32, f32, f32, f32, fmaf(x, y, z))
BINARY(div_f32, f32, f32, x / y)
/* A NaN of either kind gives way to a number; fmaxf lets a signalling one win. */
BINARY(max_f32, f32, f32, x != x || y > x ? y : x)
BINARY(min_f32, f32, f32, x != x || y < x ? y : x)
UNARY(neg_f32, f32, f32, -x)
UNARY(abs_f32, f32, f32, fabsf(x))
BINARY(copysign_f32, f32, f32, copysignf(y, x))
UNARY(ex2_f32, f32, f32, exp2f(x))
UNARY(rcp_f32, f32, f32, 1.0f / x)
UNARY(rsqrt_f32, f32, f32, (float)(1.0 / sqrt((double)x)))

/* Subnormal operands and results are zero of their sign. */
static float flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}
UNARY(ex2_ftz_f32, f32, f32, flush(exp2f(flush(x))))

/* Conversions. */
UNARY(cvt_s64_s32, s64, s32, x)
UNARY(cvt_s64_low, s64, s64, (int32_t)x)
UNARY(cvt_u64_u32, u64, u32, x)
UNARY(cvt_u32_u64, u32, u64, x)
UNARY(cvt_f32_s32, f32, s32, x)
UNARY(cvt_f32_s64, f32, s64, x)
UNARY(cvt_f32_f16, f32, u32, ptx_widen((uint16_t)x, true))
UNARY(cvt_f32_bf16, f32, u32, ptx_widen((uint16_t)x, false))
UNARY(cvt_f16_f32, u32, f32, ptx_narrow(x, true))
UNARY(cvt_bf16_f32, u32, f32, ptx_narrow(x, false))
BINARY(cvt_f16x2, u32, f32, (uint32_t)ptx_narrow(x, true) << 16 | ptx_narrow(y, true))
BINARY(cvt_bf16x2, u32, f32, (uint32_t)ptx_narrow(x, false) << 16 | ptx_narrow(y, false))
BINARY(join_16, u32, u32, (x & 0xffff) | y << 16)

static void split_16(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    u32 *low = AT(u32, 0), *high = AT(u32, 1);
    const u32 *a = AT(u32, 2);

    FOR_LANES(const u32 x = a[l]; low[l] = x & 0xffff; high[l] = x >> 16);
}

/* Predicates: one word. */
#define PREDICATE(name, formula)                                                                   \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        u32 *d = AT(u32, 0);                                                                       \
        const u32 x = *AT(u32, 1), y = *AT(u32, op->src_count > 1 ? 2 : 1);                        \
                                                                                                   \
        *d = (*d & ~mask) | ((formula)&mask);                                                      \
    }
PREDICATE(and_pred, x &y)
PREDICATE(or_pred, x | y)
PREDICATE(xor_pred, x ^ y)
PREDICATE(not_pred, ~(x &y))
PREDICATE(move_pred, x &y)

/* bfly: lane l gets what lane l xor y has. The segment is the warp (c = 31) and all of it takes
 * part; the second result says that the lane was there. */
static void shfl_bfly(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    u32 *d = AT(u32, 0), *p = AT(u32, 1), got[PTX_LANES];
    const u32 *a = AT(u32, 2), *b = AT(u32, 3), *c = AT(u32, 4), *members = AT(u32, 5);

    for (int l = 0; l < PTX_LANES; l++) {
        if (!(mask >> l & 1))
            continue;
        if (c[l] != 31 || b[l] > 31 || (members[l] & w->live) != w->live ||
            !(mask >> (l ^ (int)b[l]) & 1)) {
            ptx_fault(w, op, l, "a shuffle that not all lanes take part in");
            return;
        }
        got[l] = a[l ^ (int)b[l]];
    }
    for (int l = 0; l < PTX_LANES; l++) {
        if (mask >> l & 1)
            d[l] = got[l];
    }
    *p = (*p & ~mask) | mask;
}

#define COMPARE(name, type, formula)                                                               \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        u32 *d = AT(u32, 0), bits = 0;                                                             \
        const type *a = AT(type, 1), *b = AT(type, 2);                                             \
                                                                                                   \
        for (int l = 0; l < PTX_LANES; l++) {                                                      \
            const type x = a[l], y = b[l];                                                         \
                                                                                                   \
            bits |= (uint32_t)(formula) << l;                                                      \
        }                                                                                          \
        *d = (*d & ~mask) | (bits & mask);                                                         \
    }
COMPARE(eq_32, u32, x == y)
COMPARE(ne_32, u32, x != y)
COMPARE(lt_s32, s32, x < y)
COMPARE(le_s32, s32, x <= y)
COMPARE(gt_s32, s32, x > y)
COMPARE(ge_s32, s32, x >= y)
COMPARE(lt_u32, u32, x < y)
COMPARE(le_u32, u32, x <= y)
COMPARE(gt_u32, u32, x > y)
COMPARE(ge_u32, u32, x >= y)
COMPARE(eq_64, u64, x == y)
COMPARE(ne_64, u64, x != y)
COMPARE(lt_s64, s64, x < y)
COMPARE(le_s64, s64, x <= y)
COMPARE(gt_s64, s64, x > y)
COMPARE(ge_s64, s64, x >= y)
COMPARE(ge_f32, f32, x >= y)
COMPARE(ltu_f32, f32, !(x >= y)) /* or one of them is NaN */

#define SELECT(name, type)                                                                         \
    static void name(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)                   \
    {                                                                                              \
        type *d = AT(type, 0);                                                                     \
        const type *a = AT(type, 1), *b = AT(type, 2);                                             \
        const u32 p = *AT(u32, 3);                                                                 \
                                                                                                   \
        FOR_LANES(d[l] = p >> l & 1 ? a[l] : b[l]);                                                \
    }
SELECT(select_32, u32)
SELECT(select_64, u64)

#define I(name, operands, run)                                                                     \
    {                                                                                              \
        name, operands, run, PTX_INTEGER, PTX_PLAIN, 0, 0                                          \
    }
#define F(name, operands, run)                                                                     \
    {                                                                                              \
        name, operands, run, PTX_FLOAT, PTX_PLAIN, 0, 0                                            \
    }
#define S(name, operands, run)                                                                     \
    {                                                                                              \
        name, operands, run, PTX_SPECIAL, PTX_PLAIN, 0, 0                                          \
    }

const struct ptx_form ptx_forms_number[] = {
    I("add.s32", "w<ww", add_32),
    I("add.s64", "d<dd", add_64),
    I("sub.s32", "w<ww", sub_32),
    I("sub.s64", "d<dd", sub_64),
    I("mul.lo.s32", "w<ww", mul_lo_32),
    I("mul.lo.s64", "d<dd", mul_lo_64),
    I("mul.hi.s32", "w<ww", mul_hi_s32),
    I("mul.wide.s32", "d<ww", mul_wide_s32),
    I("mul.wide.u32", "d<ww", mul_wide_u32),
    I("mad.lo.s32", "w<www", mad_lo_32),
    I("div.u32", "w<ww", div_u32),
    I("rem.u32", "w<ww", rem_u32),
    I("div.s32", "w<ww", div_s32),
    I("div.s64", "d<dd", div_s64),
    I("rem.s64", "d<dd", rem_s64),
    I("min.s32", "w<ww", min_s32),
    I("max.s32", "w<ww", max_s32),
    I("min.s64", "d<dd", min_s64),
    I("neg.s32", "w<w", neg_s32),
    I("and.b32", "w<ww", and_32),
    I("and.b64", "d<dd", and_64),
    I("or.b32", "w<ww", or_32),
    I("or.b64", "d<dd", or_64),
    I("xor.b32", "w<ww", xor_32),
    I("not.b32", "w<w", not_32),
    I("shl.b32", "w<ww", shl_32),
    I("shr.u32", "w<ww", shr_u32),
    I("shr.s32", "w<ww", shr_s32),
    I("shl.b64", "d<dw", shl_64),
    I("shr.u64", "d<dw", shr_u64),
    I("shf.l.wrap.b32", "w<www", shf_l_wrap),
    I("bfi.b32", "w<wwww", bfi_32),
    I("mov.u32", "w<w", move_32),
    I("mov.b32", "w<w", move_32),
    I("mov.f32", "w<w", move_32),
    I("mov.u64", "d<d", move_64),
    I("mov.b64", "d<d", move_64),
    I("mov.b32", "w<vv", join_16),
    I("mov.b32", "vv<w", split_16),
    I("mov.pred", "p<p", move_pred),
    I("and.pred", "p<pp", and_pred),
    I("or.pred", "p<pp", or_pred),
    I("xor.pred", "p<pp", xor_pred),
    I("not.pred", "p<p", not_pred),
    I("setp.eq.s32", "p<ww", eq_32),
    I("setp.eq.b32", "p<ww", eq_32),
    I("setp.ne.s32", "p<ww", ne_32),
    I("setp.ne.b32", "p<ww", ne_32),
    I("setp.lt.s32", "p<ww", lt_s32),
    I("setp.le.s32", "p<ww", le_s32),
    I("setp.gt.s32", "p<ww", gt_s32),
    I("setp.ge.s32", "p<ww", ge_s32),
    I("setp.lt.u32", "p<ww", lt_u32),
    I("setp.le.u32", "p<ww", le_u32),
    I("setp.gt.u32", "p<ww", gt_u32),
    I("setp.ge.u32", "p<ww", ge_u32),
    I("setp.eq.s64", "p<dd", eq_64),
    I("setp.ne.s64", "p<dd", ne_64),
    I("setp.lt.s64", "p<dd", lt_s64),
    I("setp.le.s64", "p<dd", le_s64),
    I("setp.gt.s64", "p<dd", gt_s64),
    I("setp.ge.s64", "p<dd", ge_s64),
    F("setp.ge.f32", "p<ww", ge_f32),
    F("setp.ltu.f32", "p<ww", ltu_f32),
    I("selp.b32", "w<wwp", select_32),
    I("selp.u32", "w<wwp", select_32),
    I("selp.f32", "w<wwp", select_32),
    I("selp.b64", "d<ddp", select_64),
    F("add.f32", "w<ww", add_f32),
    F("sub.f32", "w<ww", sub_f32),
    F("mul.f32", "w<ww", mul_f32),
    F("fma.rn.f32", "w<www", fma_f32),
    F("max.f32", "w<ww", max_f32),
    F("min.f32", "w<ww", min_f32),
    F("neg.f32", "w<w", neg_f32),
    F("abs.f32", "w<w", abs_f32),
    F("copysign.f32", "w<ww", copysign_f32),
    S("div.approx.f32", "w<ww", div_f32),
    S("div.rn.f32", "w<ww", div_f32),
    S("ex2.approx.f32", "w<w", ex2_f32),
    S("ex2.approx.ftz.f32", "w<w", ex2_ftz_f32),
    S("rcp.rn.f32", "w<w", rcp_f32),
    S("rsqrt.approx.f32", "w<w", rsqrt_f32),
    I("cvt.s64.s32", "d<w", cvt_s64_s32),
    I("cvt.s64.s32", "d<d", cvt_s64_low),
    I("cvt.u64.u32", "d<w", cvt_u64_u32),
    I("cvt.u32.u64", "w<d", cvt_u32_u64),
    I("cvt.rn.f32.s32", "w<w", cvt_f32_s32),
    I("cvt.rn.f32.s64", "w<d", cvt_f32_s64),
    I("cvt.f32.f16", "w<w", cvt_f32_f16),
    I("cvt.f32.bf16", "w<w", cvt_f32_bf16),
    I("cvt.rn.f16.f32", "w<w", cvt_f16_f32),
    I("cvt.rn.bf16.f32", "w<w", cvt_bf16_f32),
    I("cvt.rn.f16x2.f32", "w<ww", cvt_f16x2),
    I("cvt.rn.bf16x2.f32", "w<ww", cvt_bf16x2),
    I("cvta.to.global.u64", "d<d", move_64), /* a global address is its generic one */
    { "shfl.sync.bfly.b32", "wp<wwww", shfl_bfly, PTX_INTEGER, PTX_COMMON, 0, 0 },
    { NULL, NULL, NULL, 0, 0, 0, 0 },
};
