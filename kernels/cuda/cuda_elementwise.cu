/* cuda_elementwise.cu - sums, blends, copies, activations; see cuda_elementwise.h. */
#include "kernels/cuda/cuda_elementwise.h"
#include "kernels/cuda/cuda_vector.cuh"

/* VEC numbers from element i on, of floats or of T. */
template <class T, int VEC>
__device__ static inline void operand(float (&v)[VEC], uint64_t base, int64_t i, int is_float)
{
    if (is_float) {
#pragma unroll
        for (int j = 0; j < VEC; j++)
            v[j] = reinterpret_cast<const float *>(base)[i + j];
    } else {
        load(v, reinterpret_cast<const T *>(base) + i);
    }
}

/* A thread makes VEC consecutive elements of one row at a time. */
template <class T, int VEC> __device__ static void element(const cuda_elements &g)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x * VEC;

    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC; i < g.count;
         i += step) {
        float x[VEC], z[VEC];

        operand<T, VEC>(x, g.x, i, g.x_is_float);
        if (g.op == CUDA_ELEMENT_ADD || g.op == CUDA_ELEMENT_BLEND) {
            int64_t at = i;

            if (g.z_rows == 1)
                at = i % g.c;
            else if (g.z_rows > 1)
                at = i / g.frame * g.c + i % g.c;
            operand<T, VEC>(z, g.z, at, g.z_is_float);
        }
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            if (g.op == CUDA_ELEMENT_ADD)
                x[j] += z[j];
            else if (g.op == CUDA_ELEMENT_BLEND)
                x[j] = g.a * x[j] + (1.0f - g.a) * z[j];
            else if (g.op == CUDA_ELEMENT_SILU)
                x[j] = silu(x[j]);
        }
        store(reinterpret_cast<T *>(g.y) + i, x);
    }
}

template <class T, int VEC> __device__ static void concat(const cuda_elements &g)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x * VEC;

    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC; i < g.count;
         i += step) {
        const int64_t row = i / g.c;
        const int channel = (int)(i - row * g.c);
        float v[VEC];

        if (channel < g.x_c)
            operand<T, VEC>(v, g.x, row * g.x_c + channel, g.x_is_float);
        else
            operand<T, VEC>(v, g.z, row * (g.c - g.x_c) + channel - g.x_c, g.z_is_float);
        store(reinterpret_cast<T *>(g.y) + i, v);
    }
}

template <class T> __device__ static void upload(const cuda_convert &g)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < g.count; i += step)
        reinterpret_cast<T *>(g.elements)[i] =
            narrow<T>(reinterpret_cast<const float *>(g.floats)[i]);
}

template <class T> __device__ static void download(const cuda_convert &g)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < g.count; i += step)
        reinterpret_cast<float *>(g.floats)[i] =
            widen(reinterpret_cast<const T *>(g.elements)[i]);
}

#define KERNEL(name, params, call)                                                                 \
    extern "C" __global__ void name(const __grid_constant__ params g)                              \
    {                                                                                              \
        call(g);                                                                                   \
    }

#define ELEMENT_KERNELS(type)                                                                      \
    KERNEL(element_##type, cuda_elements, (element<type, 8>))                                      \
    KERNEL(element_odd_##type, cuda_elements, (element<type, 1>))                                  \
    KERNEL(concat_##type, cuda_elements, (concat<type, 8>))                                        \
    KERNEL(concat_odd_##type, cuda_elements, (concat<type, 1>))                                    \
    KERNEL(upload_##type, cuda_convert, upload<type>)                                              \
    KERNEL(download_##type, cuda_convert, download<type>)

ELEMENT_KERNELS(bf16)
ELEMENT_KERNELS(f16)
