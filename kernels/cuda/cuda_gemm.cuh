/* cuda_gemm.cuh - what the products of cuda_gemm.h share: where rows come from, how results go out.
 *
 * Device code. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_GEMM_CUH
#define ONESTEP_KERNELS_CUDA_CUDA_GEMM_CUH

#include "kernels/cuda/cuda_gemm.h"
#include "kernels/cuda/cuda_mma.cuh"

enum { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU };

__device__ static inline float gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

__device__ static inline float activate(int act, float x)
{
    if (act == ACT_SILU)
        return silu(x);
    if (act == ACT_GELU)
        return gelu(x);
    return act == ACT_QUICK_GELU ? x / (1.0f + __expf(-1.702f * x)) : x;
}

/* Where one row of A comes from: what does not depend on the tap. */
struct row_source {
    int first; /* IMAGE: row of x at (0, 0) of the image; else m */
    int y, x;  /* IMAGE: position of tap 0; TEMPORAL: y is the frame. y far below 0: no row */
};

#define NO_ROW (-(1 << 30))

__device__ static inline row_source source_of(const cuda_gemm &g, int64_t m)
{
    row_source s = { (int)m, 0, 0 };

    if (m >= g.rows) {
        s.y = NO_ROW;
    } else if (g.source == CUDA_GEMM_IMAGE) {
        const int pixels = g.out_h * g.out_w;
        const int image = (int)m / pixels;
        const int at = (int)m - image * pixels;
        const int oy = at / g.out_w;

        s.first = image * g.in_h * g.in_w;
        s.y = oy * g.stride - g.pad_top;
        s.x = (at - oy * g.out_w) * g.stride - g.pad_left;
    } else if (g.source == CUDA_GEMM_TEMPORAL) {
        s.y = (int)m / g.pixels;
    }
    return s;
}

/* The row of x under tap, or -1: zeros. */
__device__ static inline int row_under(const cuda_gemm &g, const row_source &s, int tap)
{
    if (g.source == CUDA_GEMM_IMAGE) {
        const int dy = tap / g.kw;
        int y = s.y + dy, x = s.x + tap - dy * g.kw;

        if ((unsigned)y >= (unsigned)g.up_h || (unsigned)x >= (unsigned)g.up_w)
            return -1;
        if (g.up_h != g.in_h)
            y = (int)((int64_t)y * g.in_h / g.up_h);
        if (g.up_w != g.in_w)
            x = (int)((int64_t)x * g.in_w / g.up_w);
        return s.first + y * g.in_w + x;
    }
    if (g.source == CUDA_GEMM_TEMPORAL) {
        const int frame = s.y + tap - 1;

        return frame < 0 || frame >= g.frames ? -1 : s.first + (tap - 1) * g.pixels;
    }
    return s.y < 0 ? -1 : s.first;
}

/* The row of y that row m makes: m, or with phases the pixel of that phase. */
__device__ static inline int64_t row_made(const cuda_gemm &g, int64_t m, int phase)
{
    if (!g.is_folded)
        return m;

    const int64_t row = m / g.out_w; /* of all images: they follow each other */
    const int64_t x = m - row * g.out_w;

    return (2 * row + phase / 2) * (2 * g.out_w) + 2 * x + phase % 2;
}

/* The way out of 16 rows x WN columns of sums, which a warp holds as mma does. They pass through
 * FLOATS floats of shared memory, PITCH apart from row to row, which is not a multiple of 32 banks,
 * still 16-byte aligned. A lane takes 8 results of a row. */
template <class T, int WN, bool IS_GATED> struct results {
    static const int PITCH = WN + 4;
    static const int FLOATS = 16 * PITCH;
    static const int WIDTH = IS_GATED ? 16 : 8; /* sums for 8 results */
    static const int LANES = WN / WIDTH;        /* that share a row */
    static const int PASSES = 16 / (32 / LANES);

    const cuda_gemm &g;
    float *staging;        /* this warp's */
    int first;             /* column of this lane's first sum */
    float constant[WIDTH]; /* what is added to the sums: bias and time embedding */

    __device__ int lane() const { return (int)threadIdx.x % 32; }

    __device__ results(const cuda_gemm &args, float *memory, int n0)
        : g(args), staging(memory), first(n0 + lane() % LANES * WIDTH)
    {
        load_constants();
    }

    __device__ void load_constants()
    {
        const float *bias = reinterpret_cast<const float *>(g.bias);
        const T *add = reinterpret_cast<const T *>(g.add);

#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            constant[i] = 0.0f;
            if (bias && first + i < g.co)
                constant[i] = bias[first + i];
            if (add && first + i < g.co)
                constant[i] += widen(add[first + i]);
        }
    }

    /* Eight results from their sums, but for the residual. */
    __device__ void finish(float (&v)[8], const float *sums)
    {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (IS_GATED)
                v[i] = (sums[2 * i] + constant[2 * i]) *
                       gelu(sums[2 * i + 1] + constant[2 * i + 1]);
            else
                v[i] = activate(g.act, (sums[i] + constant[i]) * g.scale);
        }
    }

    /* Eight results of a row, the first of them element `at` of y. */
    __device__ void store(float (&v)[8], int64_t at, int columns_left, bool is_whole)
    {
        const T *residual = reinterpret_cast<const T *>(g.residual);
        T *y = reinterpret_cast<T *>(g.y);

        if (is_whole) {
            if (residual) {
                const uint4 r = *reinterpret_cast<const uint4 *>(residual + at);
                const uint32_t words[4] = { r.x, r.y, r.z, r.w };

#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float2 pair = unpack2<T>(words[i]);

                    v[2 * i] += pair.x;
                    v[2 * i + 1] += pair.y;
                }
            }
            *reinterpret_cast<uint4 *>(y + at) =
                make_uint4(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]),
                           pack2<T>(v[6], v[7]));
            return;
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (i < columns_left)
                y[at + i] = narrow<T>(residual ? v[i] + widen(residual[at + i]) : v[i]);
        }
    }

    /* Rows m0 to m0 + 15. */
    __device__ void write(const float (*acc)[4], int64_t m0, int phase)
    {
        const int columns = IS_GATED ? g.co / 2 : g.co;
        const int column = IS_GATED ? first / 2 : first;
        float *to = staging + lane() / 4 * PITCH + lane() % 4 * 2;

#pragma unroll
        for (int j = 0; j < WN / 8; j++) {
            *reinterpret_cast<float2 *>(to + j * 8) = make_float2(acc[j][0], acc[j][1]);
            *reinterpret_cast<float2 *>(to + j * 8 + 8 * PITCH) =
                make_float2(acc[j][2], acc[j][3]);
        }
        __syncwarp();
#pragma unroll
        for (int p = 0; p < PASSES; p++) {
            const int row = p * (32 / LANES) + lane() / LANES;
            const int64_t m = m0 + row;
            float sums[WIDTH], v[8];

#pragma unroll
            for (int j = 0; j < WIDTH; j += 4)
                *reinterpret_cast<float4 *>(sums + j) = *reinterpret_cast<const float4 *>(
                    staging + row * PITCH + lane() % LANES * WIDTH + j);
            if (m >= g.rows || column >= columns)
                continue;
            finish(v, sums);
            store(v, row_made(g, m, phase) * columns + column, columns - column,
                  columns % 8 == 0);
        }
        __syncwarp();
    }
};

#endif
