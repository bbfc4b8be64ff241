/* 16-bit floats, by their definition: sign, exponent, fraction. */
#include <math.h>

#include "tests/ptx/ptx_priv.h"

/* Of a type with so many bits of fraction and of exponent. */
static float widen(uint32_t bits, int fraction_bits, int exponent_bits)
{
    const int exponent = (int)(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
    const float sign = bits >> 15 ? -1.0f : 1.0f;

    if (exponent == (1 << exponent_bits) - 1)
        return fraction ? copysignf(NAN, sign) : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexpf((float)fraction, 1 - bias - fraction_bits);
    return sign * ldexpf((float)(fraction | 1u << fraction_bits), exponent - bias - fraction_bits);
}

/* Filled before main: threads only read. */
float ptx_widened[2][1 << 16];

__attribute__((constructor)) static void fill(void)
{
    for (uint32_t i = 0; i < 1 << 16; i++) {
        ptx_widened[0][i] = widen(i, 7, 8);
        ptx_widened[1][i] = widen(i, 10, 5);
    }
}

/* Scale so that the last place is one, and let the float unit round to nearest even. */
static uint16_t narrow(float x, int fraction_bits, int exponent_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1, least = 1 - bias;
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    const uint16_t infinity = (uint16_t)(((1 << exponent_bits) - 1) << fraction_bits);
    int exponent;
    double digits;

    if (isnan(x))
        return 0x7fff; /* the one NaN that conversions make */
    if (isinf(x))
        return sign | infinity;
    if (x == 0)
        return sign;
    exponent = ilogbf(x);
    exponent = exponent < least ? least : exponent;
    digits = rint(ldexp(fabs((double)x), fraction_bits - exponent));
    /* A carry into the next exponent, or from subnormal to normal, is the addition itself. */
    digits += ldexp(exponent - least, fraction_bits);
    return digits >= infinity ? (uint16_t)(sign | infinity) : (uint16_t)(sign | (uint16_t)digits);
}

/* bfloat16 is the upper half of a float: the common case, done as such. */
static uint16_t narrow_bfloat(float x)
{
    union {
        float value;
        uint32_t bits;
    } u = { x };

    if (isnan(x))
        return 0x7fff;
    return (uint16_t)((u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16);
}

uint16_t ptx_narrow(float x, bool is_half)
{
    return is_half ? narrow(x, 10, 5) : narrow_bfloat(x);
}
