/* cuda_mma.cuh - 16-bit elements, tensor cores and asynchronous copies, for device code.
 *
 * Source: PTX ISA, "Matrix multiply-accumulate operation using mma instruction", m16n8k16: of A
 * [16][16] a thread holds rows lane/4 and lane/4 + 8, of B [16][8] column lane/4, of C [16][8] rows
 * lane/4 and lane/4 + 8 at columns 2 (lane % 4) and the next. */
#ifndef ONESTEP_KERNELS_CUDA_CUDA_MMA_CUH
#define ONESTEP_KERNELS_CUDA_CUDA_MMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

/* Two elements in one register. */
template <class T> struct pair_of;
template <> struct pair_of<bf16> { typedef __nv_bfloat162 type; };
template <> struct pair_of<f16> { typedef __half2 type; };

__device__ inline float widen(bf16 x) { return __bfloat162float(x); }
__device__ inline float widen(f16 x) { return __half2float(x); }
__device__ inline float2 widen2(__nv_bfloat162 x) { return __bfloat1622float2(x); }
__device__ inline float2 widen2(__half2 x) { return __half22float2(x); }

template <class T> __device__ inline T narrow(float x);
template <> __device__ inline bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ inline f16 narrow<f16>(float x) { return __float2half_rn(x); }

/* lo and hi as one register, lo in the lower half. */
template <class T> __device__ inline uint32_t pack2(float lo, float hi);
template <> __device__ inline uint32_t pack2<bf16>(float lo, float hi)
{
    __nv_bfloat162 p = __floats2bfloat162_rn(lo, hi);
    return *reinterpret_cast<uint32_t *>(&p);
}
template <> __device__ inline uint32_t pack2<f16>(float lo, float hi)
{
    __half2 p = __floats2half2_rn(lo, hi);
    return *reinterpret_cast<uint32_t *>(&p);
}

template <class T> __device__ inline float2 unpack2(uint32_t bits)
{
    return widen2(*reinterpret_cast<typename pair_of<T>::type *>(&bits));
}

__device__ inline float silu(float x)
{
    /* The division is exact to 2 units in the last place, and 0 for x below -87, where silu is. */
    return __fdividef(x, 1.0f + __expf(-x));
}

__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* c += a b, see above. */
template <class T>
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ inline void mma<bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void mma<f16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8x8 blocks of elements; lane i gives the address of row i % 8 of block i / 8. */
__device__ inline void ldmatrix(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ inline void ldmatrix_transposed(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* 16 bytes to shared memory, or 16 zeros. Both addresses are aligned to 16. */
__device__ inline void copy_async(uint32_t shared, const void *global, bool is_there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared), "l"(global), "r"(is_there ? 16 : 0)
                 : "memory");
}

__device__ inline void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait until at most N of this thread's groups are under way. */
template <int N> __device__ inline void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
