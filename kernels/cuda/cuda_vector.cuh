/* cuda_vector.cuh - VEC consecutive elements as floats, for device code: one access of 16 bytes where
 * VEC is 8, one element where it is 1. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_VECTOR_CUH
#define ONESTEP_KERNELS_CUDA_CUDA_VECTOR_CUH

#include "kernels/cuda/cuda_mma.cuh"

template <class T> __device__ inline void load(float (&v)[8], const T *from)
{
    const uint4 bits = *reinterpret_cast<const uint4 *>(from);
    const uint32_t words[4] = { bits.x, bits.y, bits.z, bits.w };

#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 p = unpack2<T>(words[i]);

        v[2 * i] = p.x;
        v[2 * i + 1] = p.y;
    }
}

template <class T> __device__ inline void load(float (&v)[1], const T *from)
{
    v[0] = widen(*from);
}

template <class T> __device__ inline void store(T *to, const float (&v)[8])
{
    *reinterpret_cast<uint4 *>(to) = make_uint4(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]),
                                                pack2<T>(v[4], v[5]), pack2<T>(v[6], v[7]));
}

template <class T> __device__ inline void store(T *to, const float (&v)[1])
{
    *to = narrow<T>(v[0]);
}

/* The sum over the 32 lanes of a warp, in every lane, always in the same order. */
__device__ inline float warp_sum(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ inline float warp_max(float x)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

#endif
