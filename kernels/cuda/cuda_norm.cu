/* cuda_norm.cu - group norm and layer norm; see cuda_norm.h. */
#include "kernels/cuda/cuda_norm.h"
#include "kernels/cuda/cuda_vector.cuh"

extern __shared__ __align__(16) float norm_shared[];

/* Threads are lanes x columns: a thread owns VEC channels and every lanes-th row of the chunk. */
template <class T, int VEC> __device__ static void stats(const cuda_group &g)
{
    const int columns = g.c / VEC, lanes = blockDim.x / columns;
    const int column = threadIdx.x % columns, lane = threadIdx.x / columns;
    const int64_t first = (int64_t)blockIdx.x * g.chunk_rows;
    const int64_t end = min(first + g.chunk_rows, g.rows);
    const int width = g.c / g.groups;
    const T *x = reinterpret_cast<const T *>(g.x) + (blockIdx.y * g.rows * g.c) + column * VEC;
    float *sums = norm_shared, *squares = norm_shared + lanes * g.c; /* [lanes][c] each */
    float *partial = reinterpret_cast<float *>(g.partials) +
                     ((int64_t)blockIdx.y * g.chunks + blockIdx.x) * g.groups * 2;
    float pivot[VEC], sum[VEC] = {}, square[VEC] = {};

    load(pivot, x + first * g.c);
    for (int64_t r = first + lane; r < end; r += lanes) {
        float v[VEC];

        load(v, x + r * g.c);
#pragma unroll
        for (int i = 0; i < VEC; i++) {
            const float d = v[i] - pivot[i];

            sum[i] += d;
            square[i] += d * d;
        }
    }
#pragma unroll
    for (int i = 0; i < VEC; i++) {
        sums[lane * g.c + column * VEC + i] = sum[i];
        squares[lane * g.c + column * VEC + i] = square[i];
    }
    __syncthreads();
    /* Lane 0 joins the lanes: mean and squared distances of a channel. */
    if (lane == 0) {
        const float n = (float)(end - first);

#pragma unroll
        for (int i = 0; i < VEC; i++) {
            float s = 0, q = 0;

            for (int l = 0; l < lanes; l++) {
                s += sums[l * g.c + column * VEC + i];
                q += squares[l * g.c + column * VEC + i];
            }
            sums[column * VEC + i] = pivot[i] + s / n;
            squares[column * VEC + i] = fmaxf(q - s * s / n, 0.0f);
        }
    }
    __syncthreads();
    for (int group = threadIdx.x; group < g.groups; group += blockDim.x) {
        const float n = (float)(end - first);
        float mean = 0, distance = 0;

        for (int i = 0; i < width; i++)
            mean += sums[group * width + i];
        mean /= (float)width;
        for (int i = 0; i < width; i++) {
            const float d = sums[group * width + i] - mean;

            distance += squares[group * width + i] + n * d * d;
        }
        partial[2 * group] = mean;
        partial[2 * group + 1] = distance;
    }
}

/* A warp joins the chunks of one group of one clip. grid (groups, clips). */
__device__ static void factors(const cuda_group &g)
{
    const int group = blockIdx.x, clip = blockIdx.y, lane = threadIdx.x;
    const int width = g.c / g.groups;
    const float *partial =
        reinterpret_cast<const float *>(g.partials) + (int64_t)clip * g.chunks * g.groups * 2;
    float *factor = reinterpret_cast<float *>(g.factor) + (int64_t)clip * g.c;
    float *shift = factor + (int64_t)g.clips * g.c;
    const float *gamma = reinterpret_cast<const float *>(g.gamma);
    const float *beta = reinterpret_cast<const float *>(g.beta);
    const float last = (float)(g.rows - (int64_t)(g.chunks - 1) * g.chunk_rows);
    float mean = 0, distance = 0, scale;

    for (int i = lane; i < g.chunks; i += 32) {
        const float n = i == g.chunks - 1 ? last : (float)g.chunk_rows;

        mean += partial[((int64_t)i * g.groups + group) * 2] * (n / (float)g.rows);
    }
    mean = warp_sum(mean);
    for (int i = lane; i < g.chunks; i += 32) {
        const float n = i == g.chunks - 1 ? last : (float)g.chunk_rows;
        const float *p = partial + ((int64_t)i * g.groups + group) * 2;

        distance += p[1] + n * (float)width * (p[0] - mean) * (p[0] - mean);
    }
    distance = warp_sum(distance) / ((float)g.rows * (float)width);
    scale = rsqrtf(distance + g.eps);
    for (int i = lane; i < width; i += 32) {
        const int channel = group * width + i;
        const float f = scale * gamma[channel];

        factor[channel] = f;
        shift[channel] = beta[channel] - mean * f;
    }
}

template <class T, int VEC> __device__ static void apply(const cuda_group &g)
{
    const int columns = g.c / VEC, lanes = blockDim.x / columns;
    const int column = threadIdx.x % columns, lane = threadIdx.x / columns;
    const float *factor =
        reinterpret_cast<const float *>(g.factor) + (int64_t)blockIdx.y * g.c + column * VEC;
    const float *shift = factor + (int64_t)g.clips * g.c;
    const int64_t base = (int64_t)blockIdx.y * g.rows * g.c + column * VEC;
    const T *x = reinterpret_cast<const T *>(g.x) + base;
    T *y = reinterpret_cast<T *>(g.y) + base;
    float f[VEC], s[VEC];

#pragma unroll
    for (int i = 0; i < VEC; i++) {
        f[i] = factor[i];
        s[i] = shift[i];
    }
    for (int64_t r = (int64_t)blockIdx.x * lanes + lane; r < g.rows;
         r += (int64_t)gridDim.x * lanes) {
        float v[VEC];

        load(v, x + r * g.c);
#pragma unroll
        for (int i = 0; i < VEC; i++) {
            v[i] = v[i] * f[i] + s[i];
            if (g.is_silu)
                v[i] = silu(v[i]);
        }
        store(y + r * g.c, v);
    }
}

/* A warp makes a row. */
template <class T, int VEC> __device__ static void layer(const cuda_layer &g)
{
    const int lane = threadIdx.x % 32;
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const T *x = reinterpret_cast<const T *>(g.x) + row * g.c;
    T *y = reinterpret_cast<T *>(g.y) + row * g.c;
    const float *gamma = reinterpret_cast<const float *>(g.gamma);
    const float *beta = reinterpret_cast<const float *>(g.beta);
    float mean = 0, square = 0, scale, v[VEC];

    if (row >= g.rows)
        return;
    for (int i = lane * VEC; i < g.c; i += 32 * VEC) {
        load(v, x + i);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            mean += v[j];
    }
    mean = warp_sum(mean) / (float)g.c;
    for (int i = lane * VEC; i < g.c; i += 32 * VEC) {
        load(v, x + i);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            square += (v[j] - mean) * (v[j] - mean);
    }
    scale = rsqrtf(warp_sum(square) / (float)g.c + g.eps);
    for (int i = lane * VEC; i < g.c; i += 32 * VEC) {
        load(v, x + i);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            v[j] = (v[j] - mean) * scale * gamma[i + j] + beta[i + j];
        store(y + i, v);
    }
}

#define KERNEL(name, params, call)                                                                 \
    extern "C" __global__ void name(const __grid_constant__ params g)                              \
    {                                                                                              \
        call(g);                                                                                   \
    }

#define NORM_KERNELS(type)                                                                         \
    KERNEL(group_stats_##type, cuda_group, (stats<type, 8>))                                       \
    KERNEL(group_stats_odd_##type, cuda_group, (stats<type, 1>))                                   \
    KERNEL(group_factors_##type, cuda_group, factors)                                              \
    KERNEL(group_apply_##type, cuda_group, (apply<type, 8>))                                       \
    KERNEL(group_apply_odd_##type, cuda_group, (apply<type, 1>))                                   \
    KERNEL(layer_norm_##type, cuda_layer, (layer<type, 8>))                                        \
    KERNEL(layer_norm_odd_##type, cuda_layer, (layer<type, 1>))

NORM_KERNELS(bf16)
NORM_KERNELS(f16)
