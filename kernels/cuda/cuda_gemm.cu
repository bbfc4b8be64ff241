/* cuda_gemm.cu - convolutions and linear layers on tensor cores.
 *
 * DESIGN: a block makes a tile of BM x BN results. Operands come through shared memory in slices of
 * 32 channels, STAGES of them in flight by cp.async; a slice of A is gathered row by row, so that
 * every kind of convolution is the same loop with other addresses. Rows of a slice are 64 bytes;
 * their 16-byte chunks are exchanged (swizzle) so that ldmatrix meets every bank once. Accumulators
 * go out through shared memory, for whole sectors of global memory.
 * A norm in front (factor) is applied to A's chunks in shared memory by the thread that copied
 * them: its own copies are visible to it before the barrier, and zeros of the padding stay zeros. */
#include "kernels/cuda/cuda_gemm.h"
#include "kernels/cuda/cuda_mma.cuh"

#define DEPTH CUDA_GEMM_DEPTH
#define STAGES 4

/* 16-byte chunks of a row of a slice. */
#define CHUNKS (DEPTH / 8)

enum { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU };

/* Floats between rows of a warp's staging tile: not a multiple of 32 banks, still 16-byte aligned. */
#define STAGING_PITCH 36

/* Byte offset of a chunk in a slice. */
__device__ static inline uint32_t chunk_at(int row, int chunk)
{
    return (uint32_t)(row * (DEPTH * 2) + ((chunk ^ (row >> 1 & 3)) << 4));
}

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
    int64_t first; /* IMAGE: row of x at (0, 0) of the image; else m */
    int y, x;      /* IMAGE: position of tap 0; TEMPORAL: y is the frame */
    bool is_row;   /* m < rows */
};

__device__ static inline row_source source_of(const cuda_gemm &g, int64_t m)
{
    row_source s = { m, 0, 0, m < g.rows };

    if (!s.is_row)
        return s;
    if (g.source == CUDA_GEMM_IMAGE) {
        const int64_t pixels = (int64_t)g.out_h * g.out_w;
        const int64_t image = m / pixels;
        const int at = (int)(m - image * pixels);
        const int oy = at / g.out_w;

        s.first = image * g.in_h * g.in_w;
        s.y = oy * g.stride - g.pad_top;
        s.x = (at - oy * g.out_w) * g.stride - g.pad_left;
    } else if (g.source == CUDA_GEMM_TEMPORAL) {
        s.y = (int)(m / g.pixels);
    }
    return s;
}

/* The row of x under tap, or -1: zeros. */
__device__ static inline int64_t row_under(const cuda_gemm &g, const row_source &s, int tap)
{
    if (!s.is_row)
        return -1;
    if (g.source == CUDA_GEMM_IMAGE) {
        const int dy = tap / g.kw;
        int y = s.y + dy, x = s.x + tap - dy * g.kw;

        if ((unsigned)y >= (unsigned)g.up_h || (unsigned)x >= (unsigned)g.up_w)
            return -1;
        if (g.up_h != g.in_h)
            y = (int)((int64_t)y * g.in_h / g.up_h);
        if (g.up_w != g.in_w)
            x = (int)((int64_t)x * g.in_w / g.up_w);
        return s.first + (int64_t)y * g.in_w + x;
    }
    if (g.source == CUDA_GEMM_TEMPORAL) {
        const int frame = s.y + tap - 1;

        return frame < 0 || frame >= g.frames ? -1 : s.first + (int64_t)(tap - 1) * g.pixels;
    }
    return s.first;
}

/* One block's work. WM x WN is the part of the tile that a warp makes. IS_VECTOR: ci is a multiple of
 * 8, so that rows can be copied in chunks. */
template <class T, int BM, int BN, int WM, int WN, bool IS_VECTOR, bool HAS_NORM, bool IS_GATED>
struct tile {
    static const int WARPS_N = BN / WN;
    static const int THREADS = BM / WM * WARPS_N * 32;
    static const int ROWS_A = BM * CHUNKS / THREADS; /* rows whose chunk a thread copies */
    static const int ROWS_B = BN * CHUNKS / THREADS;
    static const int ROW_STEP = THREADS / CHUNKS;
    static const int BYTES_A = BM * DEPTH * 2, BYTES_B = BN * DEPTH * 2;
    static const int FRAGMENTS_M = WM / 16, FRAGMENTS_N = WN / 8;
    static const int STAGING = THREADS / 32 * 16 * STAGING_PITCH * 4;
    static const int PIPELINE = STAGES * (BYTES_A + BYTES_B);
    static const int SHARED = PIPELINE > STAGING ? PIPELINE : STAGING;

    const cuda_gemm &g;
    char *shared;
    row_source rows[ROWS_A];
    const T *at[ROWS_A]; /* the chunk of the next slice of each row, NULL: zeros */
    const T *weight;     /* the same of W's first row */
    int64_t weight_step; /* elements between the rows of W that a thread copies */
    int tap, channel;    /* of the next slice */
    uint32_t is_there;   /* HAS_NORM: bit stage * ROWS_A + row: the chunk is not padding */

    __device__ tile(const cuda_gemm &args, char *memory) : g(args), shared(memory) {}

    __device__ int chunk() const { return (int)threadIdx.x % CHUNKS; }
    __device__ int first_row() const { return (int)threadIdx.x / CHUNKS; }

    __device__ void enter_tap()
    {
#pragma unroll
        for (int i = 0; i < ROWS_A; i++) {
            const int64_t row = row_under(g, rows[i], tap);

            at[i] = row < 0 ? NULL
                            : reinterpret_cast<const T *>(g.x) + row * g.ci + chunk() * 8;
        }
    }

    __device__ void start(int64_t m0, int n0)
    {
        const int64_t k = (int64_t)g.taps * g.ci_padded;

#pragma unroll
        for (int i = 0; i < ROWS_A; i++)
            rows[i] = source_of(g, m0 + first_row() + i * ROW_STEP);
        weight = reinterpret_cast<const T *>(g.w) + (n0 + first_row()) * k + chunk() * 8;
        weight_step = ROW_STEP * k;
        tap = channel = 0;
        is_there = 0;
        enter_tap();
    }

    /* Eight channels of a row whose chunks do not lie at multiples of 16 bytes. */
    __device__ void gather(char *to, const T *from, int first)
    {
        uint32_t words[4];

#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int c = first + 2 * i;
            const float lo = from && c < g.ci ? widen(from[c - chunk() * 8]) : 0.0f;
            const float hi = from && c + 1 < g.ci ? widen(from[c + 1 - chunk() * 8]) : 0.0f;

            words[i] = pack2<T>(lo, hi);
        }
        *reinterpret_cast<uint4 *>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    }

    /* Ask for the next slice. */
    __device__ void fetch(int stage)
    {
        char *a = shared + stage * (BYTES_A + BYTES_B), *b = a + BYTES_A;
        const int first = channel + chunk() * 8;

#pragma unroll
        for (int i = 0; i < ROWS_A; i++) {
            const int row = first_row() + i * ROW_STEP;
            const bool has_chunk = at[i] && first < g.ci;

            if (IS_VECTOR) {
                const void *from = has_chunk ? (const void *)(at[i] + channel)
                                             : reinterpret_cast<const void *>(g.x);

                copy_async(shared_address(a + chunk_at(row, chunk())), from, has_chunk);
            } else {
                gather(a + chunk_at(row, chunk()), at[i], first);
            }
            if (HAS_NORM) {
                const uint32_t bit = 1u << (stage * ROWS_A + i);

                is_there = has_chunk ? is_there | bit : is_there & ~bit;
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS_B; i++) {
            const int row = first_row() + i * ROW_STEP;

            copy_async(shared_address(b + chunk_at(row, chunk())), weight + i * weight_step, true);
        }
        weight += DEPTH;
        channel += DEPTH;
        if (channel == g.ci_padded) {
            channel = 0;
            tap++;
            if (tap < g.taps)
                enter_tap();
        }
    }

    /* The norm, on this thread's own chunks of a slice that has arrived. */
    __device__ void normalise(int stage, int first_channel)
    {
        char *a = shared + stage * (BYTES_A + BYTES_B);
        const float *factor = reinterpret_cast<const float *>(g.factor);
        const int c = first_channel + chunk() * 8;

#pragma unroll
        for (int i = 0; i < ROWS_A; i++) {
            uint32_t *words;

            if (!(is_there >> (stage * ROWS_A + i) & 1))
                continue;
            words = reinterpret_cast<uint32_t *>(
                a + chunk_at(first_row() + i * ROW_STEP, chunk()));
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float2 v = unpack2<T>(words[j]);
                const int lo = c + 2 * j, hi = lo + 1;
                const float x = lo < g.ci ? silu(v.x * factor[lo] + factor[g.ci + lo]) : 0.0f;
                const float y = hi < g.ci ? silu(v.y * factor[hi] + factor[g.ci + hi]) : 0.0f;

                words[j] = pack2<T>(x, y);
            }
        }
    }

    /* acc += the slice in stage. */
    __device__ void multiply(int stage, float (&acc)[FRAGMENTS_M][FRAGMENTS_N][4])
    {
        const char *a = shared + stage * (BYTES_A + BYTES_B), *b = a + BYTES_A;
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const int m = warp / WARPS_N * WM, n = warp % WARPS_N * WN;

#pragma unroll
        for (int k = 0; k < DEPTH / 16; k++) {
            uint32_t fa[FRAGMENTS_M][4], fb[FRAGMENTS_N / 2][4];

#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; i++)
                ldmatrix(fa[i], shared_address(
                                    a + chunk_at(m + i * 16 + lane % 16, 2 * k + lane / 16)));
            /* Blocks 0 and 1 are the two halves of k for 8 columns, 2 and 3 for the next 8. */
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N / 2; j++)
                ldmatrix(fb[j],
                         shared_address(b + chunk_at(n + j * 16 + lane / 16 * 8 + lane % 8,
                                                     2 * k + lane / 8 % 2)));
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N; j++)
                    mma<T>(acc[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
            }
        }
    }

    /* Bias, time embedding, scale, activation, residual: one result. */
    __device__ float finish(float sum, int64_t row, int column)
    {
        const float *bias = reinterpret_cast<const float *>(g.bias);
        const T *add = reinterpret_cast<const T *>(g.add);
        const T *residual = reinterpret_cast<const T *>(g.residual);

        if (bias)
            sum += bias[column];
        if (add)
            sum += widen(add[column]);
        sum = activate(g.act, sum * g.scale);
        return residual ? sum + widen(residual[row * g.co + column]) : sum;
    }

    /* N results of a row from column on; from are their sums. */
    template <int N> __device__ void store(const float *from, int64_t row, int column, int columns)
    {
        T *y = reinterpret_cast<T *>(g.y) + row * columns + column;
        float v[N];

#pragma unroll
        for (int i = 0; i < N; i++) {
            if (IS_GATED) {
                const float *bias = reinterpret_cast<const float *>(g.bias);
                const int at = 2 * (column + i);
                float value = from[2 * i], gate = from[2 * i + 1];

                if (bias && column + i < columns) {
                    value += bias[at];
                    gate += bias[at + 1];
                }
                v[i] = value * gelu(gate);
            } else {
                v[i] = column + i < columns ? finish(from[i], row, column + i) : 0.0f;
            }
        }
        if (columns % 8 == 0 && column + N <= columns) {
#pragma unroll
            for (int i = 0; i < N; i += 8)
                *reinterpret_cast<uint4 *>(y + i) =
                    make_uint4(pack2<T>(v[i], v[i + 1]), pack2<T>(v[i + 2], v[i + 3]),
                               pack2<T>(v[i + 4], v[i + 5]), pack2<T>(v[i + 6], v[i + 7]));
        } else {
            for (int i = 0; i < N && column + i < columns; i++)
                y[i] = narrow<T>(v[i]);
        }
    }

    /* The tile goes out, 16 rows of a warp's part at a time. */
    __device__ void write(float (&acc)[FRAGMENTS_M][FRAGMENTS_N][4], int64_t m0, int n0)
    {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const int columns = IS_GATED ? g.co / 2 : g.co;
        float *staging = reinterpret_cast<float *>(shared) + warp * 16 * STAGING_PITCH;
        float *mine = staging + lane / 2 * STAGING_PITCH + lane % 2 * (WN / 2);
        const int column = n0 + warp % WARPS_N * WN + lane % 2 * (WN / 2);

#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) {
            const int64_t row = m0 + warp / WARPS_N * WM + i * 16 + lane / 2;
            float sums[WN / 2];

#pragma unroll
            for (int j = 0; j < FRAGMENTS_N; j++) {
                float *to = staging + lane / 4 * STAGING_PITCH + j * 8 + lane % 4 * 2;

                *reinterpret_cast<float2 *>(to) = make_float2(acc[i][j][0], acc[i][j][1]);
                *reinterpret_cast<float2 *>(to + 8 * STAGING_PITCH) =
                    make_float2(acc[i][j][2], acc[i][j][3]);
            }
            __syncwarp();
#pragma unroll
            for (int j = 0; j < WN / 2; j += 4)
                *reinterpret_cast<float4 *>(sums + j) =
                    *reinterpret_cast<const float4 *>(mine + j);
            __syncwarp();
            if (row < g.rows && column < g.co) {
                if (IS_GATED)
                    store<WN / 4>(sums, row, column / 2, columns);
                else
                    store<WN / 2>(sums, row, column, columns);
            }
        }
    }

    __device__ void run()
    {
        const int tiles_n = (g.co + BN - 1) / BN;
        const int64_t m0 = (int64_t)(blockIdx.x / tiles_n) * BM;
        const int n0 = (int)(blockIdx.x % tiles_n) * BN;
        const int slices = g.taps * (g.ci_padded / DEPTH);
        float acc[FRAGMENTS_M][FRAGMENTS_N][4] = {};
        int first_channel = 0;

        start(m0, n0);
#pragma unroll
        for (int s = 0; s < STAGES - 1; s++) {
            if (s < slices)
                fetch(s);
            copy_async_commit();
        }
        for (int s = 0; s < slices; s++) {
            copy_async_wait<STAGES - 2>();
            if (HAS_NORM) {
                normalise(s % STAGES, first_channel);
                first_channel = first_channel + DEPTH == g.ci_padded ? 0 : first_channel + DEPTH;
            }
            /* All have slice s, and nobody reads slice s - 1 any more. */
            __syncthreads();
            if (s + STAGES - 1 < slices)
                fetch((s + STAGES - 1) % STAGES);
            copy_async_commit();
            multiply(s % STAGES, acc);
        }
        copy_async_wait<0>();
        __syncthreads();
        write(acc, m0, n0);
    }
};

extern __shared__ __align__(128) char gemm_shared[];

#define GEMM(name, type, BM, BN, WM, WN, is_vector, has_norm, is_gated)                            \
    extern "C" __global__ void __launch_bounds__(BM / (WM) * (BN / (WN)) * 32)                     \
        name(const __grid_constant__ cuda_gemm g)                                                  \
    {                                                                                              \
        tile<type, BM, BN, WM, WN, is_vector, has_norm, is_gated> t(g, gemm_shared);               \
                                                                                                   \
        t.run();                                                                                   \
    }

#define GEMM_KINDS(name, suffix, type, BM, BN, WM, WN, is_vector)                                  \
    GEMM(name##_##suffix, type, BM, BN, WM, WN, is_vector, false, false)                           \
    GEMM(name##_norm_##suffix, type, BM, BN, WM, WN, is_vector, true, false)                       \
    GEMM(name##_gated_##suffix, type, BM, BN, WM, WN, is_vector, false, true)

#define GEMM_TYPE(suffix, type)                                                                    \
    GEMM_KINDS(gemm_large, suffix, type, 128, 128, 64, 32, true)                                   \
    GEMM_KINDS(gemm_small, suffix, type, 64, 64, 32, 32, true)                                     \
    GEMM_KINDS(gemm_odd, suffix, type, 64, 64, 32, 32, false)

GEMM_TYPE(bf16, bf16)
GEMM_TYPE(f16, f16)
