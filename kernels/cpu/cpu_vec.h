/* cpu_vec.h - vectors of CPU_LANES floats and the functions that the kernels need of them.
 *
 * Written with the compiler's vector types: the file that includes it says how wide a vector is and
 * for which instruction set the code is compiled. */
#ifndef ONESTEP_KERNELS_CPU_CPU_VEC_H
#define ONESTEP_KERNELS_CPU_CPU_VEC_H

#include <stdint.h>
#include <string.h>
#if CPU_LANES > 4
#include <immintrin.h>
#endif

#define CPU_INLINE static inline __attribute__((always_inline))

/* CPU_LANES floats, and as many integers of the same width. */
typedef float vec __attribute__((vector_size(4 * CPU_LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * CPU_LANES)));
/* A vector at any address. */
typedef float vec_memory __attribute__((vector_size(4 * CPU_LANES), aligned(4), may_alias));

/* CPU_LANES floats from p. */
CPU_INLINE vec vec_load(const float *p)
{
    return *(const vec_memory *)p;
}

/* CPU_LANES floats to p. */
CPU_INLINE void vec_store(float *p, vec v)
{
    *(vec_memory *)p = v;
}

/* The first n floats at p, at most CPU_LANES, then zeros. */
CPU_INLINE vec vec_load_some(const float *p, int64_t n)
{
    vec v = { 0 };

    if (n >= CPU_LANES)
        return vec_load(p);
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
}

/* The first n lanes, all if n > CPU_LANES, to p. */
CPU_INLINE void vec_store_some(float *p, vec v, int64_t n)
{
    if (n >= CPU_LANES)
        vec_store(p, v);
    else
        memcpy(p, &v, (size_t)n * sizeof(float));
}

/* All lanes x. Subtracting 0 changes no float, so that nothing but a broadcast is left of it. */
CPU_INLINE vec vec_all(float x)
{
    return x - (vec){ 0 };
}

/* a where the mask is set, else b. */
CPU_INLINE vec vec_select(ivec mask, vec a, vec b)
{
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

/* The compiler does not find the instructions for the next two functions on its own. */
#if CPU_LANES == 16
#define CPU_MAX(a, b) _mm512_max_ps(a, b)
#define CPU_MIN(a, b) _mm512_min_ps(a, b)
#elif CPU_LANES == 8
#define CPU_MAX(a, b) _mm256_max_ps(a, b)
#define CPU_MIN(a, b) _mm256_min_ps(a, b)
#else
#define CPU_MAX(a, b) vec_select((a) > (b), a, b)
#define CPU_MIN(a, b) vec_select((a) < (b), a, b)
#endif

/* The larger one, lane by lane; b where one is NaN. */
CPU_INLINE vec vec_max(vec a, vec b)
{
    return CPU_MAX(a, b);
}

/* The smaller one, lane by lane; b where one is NaN. */
CPU_INLINE vec vec_min(vec a, vec b)
{
    return CPU_MIN(a, b);
}

/* |a| */
CPU_INLINE vec vec_abs(vec a)
{
    return (vec)((ivec)a & 0x7fffffff);
}

/* Sum of the lanes, always in the same order. */
CPU_INLINE float vec_sum(vec v)
{
    float lane[CPU_LANES];

    memcpy(lane, &v, sizeof(v));
    for (int half = CPU_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    }
    return lane[0];
}

/* exp(x) within 2e-7 relative for -87.3 <= x <= 88; below, a number under 2e-38; above 88.4, inf.
 * NaN stays NaN. exp(n ln2 + r) = 2^n exp(r), |r| <= ln2 / 2; the polynomial is our own minimax fit
 * of exp(r) = 1 + r + r^2 q(r), error 3e-9. */
CPU_INLINE vec vec_exp(vec x)
{
    const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it rounds to the nearest integer */
    vec n, r, q;

    x = vec_min(vec_all(89.0f), vec_max(vec_all(-87.3f), x));
    n = (x * 1.44269504f + to_integer) - to_integer;
    r = x - n * 0.693359375f;    /* ln2 in two parts; this product is exact */
    r = r - n * -2.12194440e-4f; /* the rest of ln2 */
    q = vec_all(0.0013814837438985705f);
    q = q * r + 0.008368704468011856f;
    q = q * r + 0.04166838154196739f;
    q = q * r + 0.1666652113199234f;
    q = q * r + 0.4999999403953552f;
    q = q * (r * r) + r + 1.0f;
    return q * (vec)((__builtin_convertvector(n, ivec) + 127) << 23);
}

/* x * sigmoid(x) */
CPU_INLINE vec vec_silu(vec x)
{
    return x / (1.0f + vec_exp(-x));
}

/* x * sigmoid(1.702 x) */
CPU_INLINE vec vec_quick_gelu(vec x)
{
    return x / (1.0f + vec_exp(-1.702f * x));
}

/* x Phi(x), exact form, within 1.2e-7 |x|. With T the upper tail of the normal distribution: x
 * Phi(x) = max(x, 0) - |x| T(|x|), T(a) = exp(-a^2 / 2 + h(a)); h is smooth, and flat far out; the
 * polynomial is our own minimax fit for a <= 5, error 4e-9 after multiplying by T. */
CPU_INLINE vec vec_gelu(vec x)
{
    vec a = vec_abs(x), b = vec_min(vec_all(5.0f), a), h;

    h = vec_all(2.809576642448519e-07f);
    h = h * b + -5.547198725253111e-06f;
    h = h * b + 4.5580331061501056e-05f;
    h = h * b + -0.00017709982057567686f;
    h = h * b + -2.5420393285457976e-05f;
    h = h * b + 0.004841317422688007f;
    h = h * b + -0.03636618331074715f;
    h = h * b + 0.18169791996479034f;
    h = h * b + -0.7978852987289429f;
    h = h * b + -0.6931471824645996f;
    return vec_max(vec_all(0), x) - a * vec_exp(h - 0.5f * a * a);
}

/* One round of a transpose: in row pairs `step` apart, swap the lanes that belong to the other
 * row. */
CPU_INLINE void vec_transpose_step(vec *row, const int step)
{
    ivec low, high;

    for (int lane = 0; lane < CPU_LANES; lane++) {
        low[lane] = lane & step ? CPU_LANES + lane - step : lane;
        high[lane] = lane & step ? CPU_LANES + lane : lane + step;
    }
    for (int i = 0; i < CPU_LANES; i++) {
        vec a = row[i], b;

        if (i & step)
            continue;
        b = row[i + step];
        row[i] = __builtin_shuffle(a, b, low);
        row[i + step] = __builtin_shuffle(a, b, high);
    }
}

/* The square of CPU_LANES rows becomes its transpose. */
CPU_INLINE void vec_transpose(vec *row)
{
    vec_transpose_step(row, 1);
    vec_transpose_step(row, 2);
#if CPU_LANES > 4
    vec_transpose_step(row, 4);
#endif
#if CPU_LANES > 8
    vec_transpose_step(row, 8);
#endif
}

#endif
