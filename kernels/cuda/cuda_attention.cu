/* cuda_attention.cu - scaled dot-product attention in frames and over frames.
 *
 * DESIGN: attention_D is for head sizes up to D: a block takes 64 queries of one sequence and walks
 * over the keys, with the maximum, the sum and the result of each query kept and rescaled (online
 * softmax), so that scores never leave the registers. Where D is large, two warps share the same 16
 * queries and each keeps half of the result; both make all scores.
 * attention_time is for up to 32 tokens: a warp takes one sequence, a lane one query.
 * attention_any is for the rest, and slow: a warp takes one query.
 * Source: arXiv:2307.08691 (FlashAttention-2), arXiv:1805.02867 (online softmax). */
#include "kernels/cuda/cuda_attention.h"
#include "kernels/cuda/cuda_vector.cuh"

#define QUERIES 64

extern __shared__ __align__(128) char attention_shared[];

/* Weights are exp2(score - maximum); a sequence has at least one key, so that a finite start serves. */
#define LOWEST -1e30f

/* D: padded head size; KEYS: per step; SPLIT: warps that share a result. */
template <class T, int D, int KEYS, int SPLIT> struct flash {
    static const int WARPS = QUERIES / 16 * SPLIT;
    static const int THREADS = WARPS * 32;
    static const int CHUNKS = D / 8;          /* of 16 bytes in a row */
    static const int PITCH = D * 2 + 16;      /* bytes between rows: ldmatrix meets every bank once */
    static const int PART = D / SPLIT;        /* columns of the result that a warp keeps */
    static const int BYTES_Q = QUERIES * PITCH, BYTES_KV = KEYS * PITCH;
    static const int STAGES = D <= 128 ? 2 : 1;
    static const int SHARED = BYTES_Q + 2 * STAGES * BYTES_KV;

    const cuda_attention &g;
    char *q, *kv;
    const T *q_from, *k_from, *v_from;

    __device__ flash(const cuda_attention &args, char *shared)
        : g(args), q(shared), kv(shared + BYTES_Q)
    {
    }

    __device__ char *k_at(int stage) { return kv + stage * 2 * BYTES_KV; }
    __device__ char *v_at(int stage) { return k_at(stage) + BYTES_KV; }

    /* count rows from first on; zeros behind the end and behind the head. */
    __device__ void fetch(char *to, const T *from, int64_t row_step, int first, int count, int end)
    {
        for (int i = threadIdx.x; i < count * CHUNKS; i += THREADS) {
            const int row = i / CHUNKS, chunk = i % CHUNKS;
            const bool is_there = first + row < end && chunk * 8 < g.d;
            const T *at = is_there ? from + (first + row) * row_step + chunk * 8 : from;

            copy_async(shared_address(to + row * PITCH + chunk * 16), at, is_there);
        }
    }

    __device__ void fetch_step(int stage, int first)
    {
        fetch(k_at(stage), k_from, g.k_row, first, KEYS, g.keys);
        fetch(v_at(stage), v_from, g.v_row, first, KEYS, g.keys);
    }

    /* s = q k^T for this warp's 16 queries. */
    __device__ void scores(float (&s)[KEYS / 8][4], int stage, int m)
    {
        const int lane = threadIdx.x % 32;
        const char *k = k_at(stage);

#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
            s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.0f;
#pragma unroll 4
        for (int c = 0; c < D / 16; c++) {
            uint32_t a[4];

            ldmatrix(a, shared_address(q + (m + lane % 16) * PITCH + (2 * c + lane / 16) * 16));
#pragma unroll
            for (int j = 0; j < KEYS / 16; j++) {
                uint32_t b[4];

                ldmatrix(b, shared_address(k + (j * 16 + lane / 16 * 8 + lane % 8) * PITCH +
                                           (2 * c + lane / 8 % 2) * 16));
                mma<T>(s[2 * j], a, b[0], b[1]);
                mma<T>(s[2 * j + 1], a, b[2], b[3]);
            }
        }
    }

    /* o += p v, p the weights in the layout of scores. */
    __device__ void accumulate(float (&o)[PART / 8][4], const float (&p)[KEYS / 8][4], int stage,
                               int column)
    {
        const int lane = threadIdx.x % 32;
        const char *v = v_at(stage);

#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
            const uint32_t a[4] = { pack2<T>(p[2 * j][0], p[2 * j][1]),
                                    pack2<T>(p[2 * j][2], p[2 * j][3]),
                                    pack2<T>(p[2 * j + 1][0], p[2 * j + 1][1]),
                                    pack2<T>(p[2 * j + 1][2], p[2 * j + 1][3]) };

#pragma unroll
            for (int c = 0; c < PART / 16; c++) {
                uint32_t b[4];

                ldmatrix_transposed(b, shared_address(v + (j * 16 + lane % 16) * PITCH +
                                                      (column + c * 16 + lane / 16 * 8) * 2));
                mma<T>(o[2 * c], a, b[0], b[1]);
                mma<T>(o[2 * c + 1], a, b[2], b[3]);
            }
        }
    }

    /* Scores become weights; o, total and maximum follow. half: the rows lane / 4 and that + 8. */
    __device__ void weigh(float (&s)[KEYS / 8][4], float (&o)[PART / 8][4], float (&maximum)[2],
                          float (&total)[2], int first)
    {
        const int lane = threadIdx.x % 32;

#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = maximum[half], factor, sum = 0;

#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    const int key = first + j * 8 + lane % 4 * 2 + i % 2;

                    s[j][i] = key < g.keys ? s[j][i] * g.scale : LOWEST;
                    top = fmaxf(top, s[j][i]);
                }
            }
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
            factor = exp2f(maximum[half] - top);
            maximum[half] = top;
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    s[j][i] = exp2f(s[j][i] - top);
                    sum += s[j][i];
                }
            }
            total[half] = total[half] * factor + sum;
#pragma unroll
            for (int c = 0; c < PART / 8; c++) {
                o[c][2 * half] *= factor;
                o[c][2 * half + 1] *= factor;
            }
        }
    }

    __device__ void write(T *y, float (&o)[PART / 8][4], float (&total)[2], int row, int column)
    {
        const int lane = threadIdx.x % 32;

#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int at = row + lane / 4 + 8 * half;
            float sum = total[half];

            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            sum = 1.0f / sum;
            if (at >= g.queries)
                continue;
#pragma unroll
            for (int c = 0; c < PART / 8; c++) {
                const int to = column + c * 8 + lane % 4 * 2;

                if (to < g.d)
                    *reinterpret_cast<uint32_t *>(y + at * g.y_row + to) =
                        pack2<T>(o[c][2 * half] * sum, o[c][2 * half + 1] * sum);
            }
        }
    }

    __device__ void run()
    {
        const int head = blockIdx.y, warp = threadIdx.x / 32;
        const int64_t batch = blockIdx.z;
        const int first_query = blockIdx.x * QUERIES, m = warp / SPLIT * 16;
        const int column = warp % SPLIT * PART, steps = (g.keys + KEYS - 1) / KEYS;
        float o[PART / 8][4] = {}, s[KEYS / 8][4], maximum[2] = { LOWEST, LOWEST }, total[2] = {};

        q_from = reinterpret_cast<const T *>(g.q) + batch * g.q_batch + head * g.d;
        k_from = reinterpret_cast<const T *>(g.k) + batch * g.k_batch + head * g.d;
        v_from = reinterpret_cast<const T *>(g.v) + batch * g.v_batch + head * g.d;
        fetch(q, q_from, g.q_row, first_query, QUERIES, g.queries);
        fetch_step(0, 0);
        copy_async_commit();
        for (int step = 0; step < steps; step++) {
            const int stage = step % STAGES;

            if (STAGES == 2 && step + 1 < steps)
                fetch_step(1 - stage, (step + 1) * KEYS);
            copy_async_commit();
            copy_async_wait<1>();
            __syncthreads();
            scores(s, stage, m);
            weigh(s, o, maximum, total, step * KEYS);
            accumulate(o, s, stage, column);
            __syncthreads();
            if (STAGES == 1 && step + 1 < steps) {
                fetch_step(0, (step + 1) * KEYS);
                copy_async_commit();
            }
        }
        copy_async_wait<0>();
        write(reinterpret_cast<T *>(g.y) + batch * g.y_batch + head * g.d, o, total,
              first_query + m, column);
    }
};

/* Up to TOKENS tokens; a warp takes one sequence, a lane one query. d is a multiple of 8. */
#define TOKENS 32
#define TIME_WARPS 4

template <class T> __device__ static void attend_time(const cuda_attention &g)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t sequence = (int64_t)blockIdx.x * TIME_WARPS + warp;
    const int64_t batch = sequence / g.heads;
    const int head = (int)(sequence - batch * g.heads), pitch = g.d + 8, chunks = g.d / 8;
    T *q = reinterpret_cast<T *>(attention_shared) + (int64_t)warp * 3 * g.queries * pitch;
    T *k = q + g.queries * pitch, *v = k + g.queries * pitch;
    const T *q_from, *k_from, *v_from;
    T *y;
    float p[TOKENS], top = LOWEST, total = 0;

    if (sequence >= g.batches * g.heads)
        return;
    q_from = reinterpret_cast<const T *>(g.q) + batch * g.q_batch + head * g.d;
    k_from = reinterpret_cast<const T *>(g.k) + batch * g.k_batch + head * g.d;
    v_from = reinterpret_cast<const T *>(g.v) + batch * g.v_batch + head * g.d;
    y = reinterpret_cast<T *>(g.y) + batch * g.y_batch + head * g.d;
    for (int i = lane; i < g.queries * chunks; i += 32) {
        const int row = i / chunks, chunk = (i - row * chunks) * 8;

        *reinterpret_cast<uint4 *>(q + row * pitch + chunk) =
            *reinterpret_cast<const uint4 *>(q_from + row * g.q_row + chunk);
        *reinterpret_cast<uint4 *>(k + row * pitch + chunk) =
            *reinterpret_cast<const uint4 *>(k_from + row * g.k_row + chunk);
        *reinterpret_cast<uint4 *>(v + row * pitch + chunk) =
            *reinterpret_cast<const uint4 *>(v_from + row * g.v_row + chunk);
    }
    __syncwarp();
    if (lane < g.queries) {
#pragma unroll
        for (int j = 0; j < TOKENS; j++)
            p[j] = 0;
        for (int c = 0; c < g.d; c += 8) {
            float a[8], b[8];

            load(a, q + lane * pitch + c);
#pragma unroll
            for (int j = 0; j < TOKENS; j++) {
                if (j < g.keys) {
                    load(b, k + j * pitch + c);
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        p[j] += a[i] * b[i];
                }
            }
        }
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
            p[j] = j < g.keys ? p[j] * g.scale : LOWEST;
            top = fmaxf(top, p[j]);
        }
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
            p[j] = exp2f(p[j] - top);
            total += p[j];
        }
        total = 1.0f / total;
    }
    /* The result takes the place of the query, so that rows go out whole. */
    __syncwarp();
    if (lane < g.queries) {
        for (int c = 0; c < g.d; c += 8) {
            float o[8] = {}, b[8];

#pragma unroll
            for (int j = 0; j < TOKENS; j++) {
                if (j < g.keys) {
                    load(b, v + j * pitch + c);
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        o[i] += p[j] * b[i];
                }
            }
#pragma unroll
            for (int i = 0; i < 8; i++)
                o[i] *= total;
            store(q + lane * pitch + c, o);
        }
    }
    __syncwarp();
    for (int i = lane; i < g.queries * chunks; i += 32) {
        const int row = i / chunks, chunk = (i - row * chunks) * 8;

        *reinterpret_cast<uint4 *>(y + row * g.y_row + chunk) =
            *reinterpret_cast<const uint4 *>(q + row * pitch + chunk);
    }
}

/* Any head size and any distances. One warp: shared memory holds its query and its result. */
template <class T> __device__ static void attend_any(const cuda_attention &g)
{
    const int lane = threadIdx.x, head = blockIdx.y, i = blockIdx.x;
    float *q = reinterpret_cast<float *>(attention_shared), *o = q + g.d;
    float top = LOWEST, total = 0;

    for (int64_t batch = blockIdx.z; batch < g.batches; batch += gridDim.z) {
        const T *q_from =
            reinterpret_cast<const T *>(g.q) + batch * g.q_batch + i * g.q_row + head * g.d;
        const T *k = reinterpret_cast<const T *>(g.k) + batch * g.k_batch + head * g.d;
        const T *v = reinterpret_cast<const T *>(g.v) + batch * g.v_batch + head * g.d;
        T *y = reinterpret_cast<T *>(g.y) + batch * g.y_batch + i * g.y_row + head * g.d;

        top = LOWEST;
        total = 0;
        /* A lane reads and writes its own places of q and o only. */
        for (int c = lane; c < g.d; c += 32) {
            q[c] = widen(q_from[c]);
            o[c] = 0;
        }
        for (int j = 0; j < g.keys; j++) {
            float score = 0, factor, weight;

            for (int c = lane; c < g.d; c += 32)
                score += q[c] * widen(k[j * g.k_row + c]);
            score = warp_sum(score) * g.scale;
            factor = exp2f(top - fmaxf(top, score));
            top = fmaxf(top, score);
            weight = exp2f(score - top);
            total = total * factor + weight;
            for (int c = lane; c < g.d; c += 32)
                o[c] = o[c] * factor + weight * widen(v[j * g.v_row + c]);
        }
        for (int c = lane; c < g.d; c += 32)
            y[c] = narrow<T>(o[c] / total);
    }
}

#define FLASH(D, KEYS, SPLIT, type)                                                                \
    extern "C" __global__ void __launch_bounds__(QUERIES / 16 * SPLIT * 32)                        \
        attention_##D##_##type(const __grid_constant__ cuda_attention g)                           \
    {                                                                                              \
        flash<type, D, KEYS, SPLIT> f(g, attention_shared);                                        \
                                                                                                   \
        f.run();                                                                                   \
    }

#define ATTENTION_KERNELS(type)                                                                    \
    FLASH(16, 64, 1, type)                                                                         \
    FLASH(32, 64, 1, type)                                                                         \
    FLASH(64, 64, 1, type)                                                                         \
    FLASH(80, 64, 1, type)                                                                         \
    FLASH(128, 64, 1, type)                                                                        \
    FLASH(512, 16, 2, type)                                                                        \
    extern "C" __global__ void __launch_bounds__(TIME_WARPS * 32)                                  \
        attention_time_##type(const __grid_constant__ cuda_attention g)                            \
    {                                                                                              \
        attend_time<type>(g);                                                                      \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(32)                                               \
        attention_any_##type(const __grid_constant__ cuda_attention g)                             \
    {                                                                                              \
        attend_any<type>(g);                                                                       \
    }

ATTENTION_KERNELS(bf16)
ATTENTION_KERNELS(f16)
