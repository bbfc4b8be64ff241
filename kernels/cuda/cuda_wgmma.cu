/* cuda_wgmma.cu - the large products of cuda_gemm.cu on a Hopper GPU.
 *
 * DESIGN: there a warpgroup of four warps multiplies 64 rows by up to 256 columns straight from
 * shared memory, and the cores work on while its threads fetch. A block of two warpgroups makes
 * 128 x BN results from slices of 64 channels, STAGES of them in flight by cp.async, gathered as in
 * cuda_gemm.cu. Two barriers a slice: before the product, since every thread copied a part of the
 * slice; and once the product before is done, since its slice is overwritten next.
 * A row of a slice is 128 bytes, and eight rows are a unit of 1024 whose 16-byte chunks are
 * exchanged as the hardware's "128-byte swizzle" has them: chunk ^ row % 8.
 * Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions", matrix descriptor.
 * Compiled for sm_90a alone: other modules of this file are empty, and the host knows. */
#include "kernels/cuda/cuda_gemm.cuh"

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define DEPTH 64
#define CHUNKS (DEPTH / 8)
#define BM 128
#define THREADS 256
#define ROW_STEP (THREADS / CHUNKS)

/* Columns that go out at a time. */
#define OUT_COLUMNS 64

/* Slices start at multiples of the unit. */
#define UNIT 1024

#define Q(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])

/* c += a b for 64 rows and 128 columns: c[j] are columns 8 j to 8 j + 7, as mma has them. */
#define PRODUCT_128(type)                                                                          \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; "        \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {"                 \
                 "%0, %1, %2, %3, %4, %5, %6, %7, "                                                \
                 "%8, %9, %10, %11, %12, %13, %14, %15, "                                          \
                 "%16, %17, %18, %19, %20, %21, %22, %23, "                                        \
                 "%24, %25, %26, %27, %28, %29, %30, %31, "                                        \
                 "%32, %33, %34, %35, %36, %37, %38, %39, "                                        \
                 "%40, %41, %42, %43, %44, %45, %46, %47, "                                        \
                 "%48, %49, %50, %51, %52, %53, %54, %55, "                                        \
                 "%56, %57, %58, %59, %60, %61, %62, %63}, "                                       \
                 "%64, %65, p, 1, 1, 0, 0; }"                                                        \
                 : Q(0), Q(1), Q(2), Q(3),                                                         \
                   Q(4), Q(5), Q(6), Q(7),                                                         \
                   Q(8), Q(9), Q(10), Q(11),                                                       \
                   Q(12), Q(13), Q(14), Q(15)                                                      \
                 : "l"(a), "l"(b)                                                                  \
                 : "memory")

/* c += a b for 64 rows and 256 columns: c[j] are columns 8 j to 8 j + 7, as mma has them. */
#define PRODUCT_256(type)                                                                          \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; "        \
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type " {"                 \
                 "%0, %1, %2, %3, %4, %5, %6, %7, "                                                \
                 "%8, %9, %10, %11, %12, %13, %14, %15, "                                          \
                 "%16, %17, %18, %19, %20, %21, %22, %23, "                                        \
                 "%24, %25, %26, %27, %28, %29, %30, %31, "                                        \
                 "%32, %33, %34, %35, %36, %37, %38, %39, "                                        \
                 "%40, %41, %42, %43, %44, %45, %46, %47, "                                        \
                 "%48, %49, %50, %51, %52, %53, %54, %55, "                                        \
                 "%56, %57, %58, %59, %60, %61, %62, %63, "                                        \
                 "%64, %65, %66, %67, %68, %69, %70, %71, "                                        \
                 "%72, %73, %74, %75, %76, %77, %78, %79, "                                        \
                 "%80, %81, %82, %83, %84, %85, %86, %87, "                                        \
                 "%88, %89, %90, %91, %92, %93, %94, %95, "                                        \
                 "%96, %97, %98, %99, %100, %101, %102, %103, "                                    \
                 "%104, %105, %106, %107, %108, %109, %110, %111, "                                \
                 "%112, %113, %114, %115, %116, %117, %118, %119, "                                \
                 "%120, %121, %122, %123, %124, %125, %126, %127}, "                               \
                 "%128, %129, p, 1, 1, 0, 0; }"                                                      \
                 : Q(0), Q(1), Q(2), Q(3),                                                         \
                   Q(4), Q(5), Q(6), Q(7),                                                         \
                   Q(8), Q(9), Q(10), Q(11),                                                       \
                   Q(12), Q(13), Q(14), Q(15),                                                     \
                   Q(16), Q(17), Q(18), Q(19),                                                     \
                   Q(20), Q(21), Q(22), Q(23),                                                     \
                   Q(24), Q(25), Q(26), Q(27),                                                     \
                   Q(28), Q(29), Q(30), Q(31)                                                      \
                 : "l"(a), "l"(b)                                                                  \
                 : "memory")

template <class T> __device__ inline void product(float (&c)[16][4], uint64_t a, uint64_t b);
template <> __device__ inline void product<bf16>(float (&c)[16][4], uint64_t a, uint64_t b)
{
    PRODUCT_128("bf16");
}
template <> __device__ inline void product<f16>(float (&c)[16][4], uint64_t a, uint64_t b)
{
    PRODUCT_128("f16");
}
template <class T> __device__ inline void product(float (&c)[32][4], uint64_t a, uint64_t b);
template <> __device__ inline void product<bf16>(float (&c)[32][4], uint64_t a, uint64_t b)
{
    PRODUCT_256("bf16");
}
template <> __device__ inline void product<f16>(float (&c)[32][4], uint64_t a, uint64_t b)
{
    PRODUCT_256("f16");
}

/* Before a product: registers and shared memory are as the program says. */
__device__ static inline void product_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ static inline void product_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Wait until at most N groups of products are under way. */
template <int N> __device__ static inline void product_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* This thread's writes to shared memory become visible to products. */
__device__ static inline void publish()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* The compiler neither moves nor copies c across this. */
template <int N> __device__ static inline void pin(float (&c)[N][4])
{
#pragma unroll
    for (int j = 0; j < N; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            asm volatile("" : "+f"(c[j][i])::"memory");
    }
}

/* Descriptor of rows at a shared address: units of eight rows follow each other, 128-byte swizzle.
 * Two more in it are 16 channels further. */
__device__ static inline uint64_t descriptor(uint32_t address)
{
    return (uint64_t)1 << 62 | (uint64_t)(UNIT >> 4) << 32 | (uint64_t)1 << 16 |
           (address & 0x3ffff) >> 4;
}

template <class T, int BN, int STAGES, bool IS_GATED> struct hopper_tile {
    static const int ROWS_A = BM / ROW_STEP, ROWS_B = BN / ROW_STEP; /* that a thread copies */
    static const int BYTES_A = BM * DEPTH * 2, BYTES_B = BN * DEPTH * 2;

    typedef results<T, OUT_COLUMNS, IS_GATED> way_out;

    static_assert(THREADS / 32 * way_out::FLOATS * 4 <= STAGES * (BYTES_A + BYTES_B), "room");

    const cuda_gemm &g;
    char *shared;
    row_source rows[ROWS_A];
    int at[ROWS_A];    /* the row of x of each under the tap, -1: zeros */
    const T *weight;   /* the chunk of the next slice of W's first row */
    int weights;       /* rows of W that there are from there on */
    int tap, channel;  /* of the next slice */
    uint32_t to;       /* offset in a slice of the first chunk that this thread copies */

    __device__ hopper_tile(const cuda_gemm &args, char *memory) : g(args), shared(memory) {}

    __device__ int chunk() const { return (int)threadIdx.x % CHUNKS; }
    __device__ int first_row() const { return (int)threadIdx.x / CHUNKS; }

    __device__ void enter_tap()
    {
#pragma unroll
        for (int i = 0; i < ROWS_A; i++)
            at[i] = row_under(g, rows[i], tap);
    }

    __device__ void start(int64_t m0, int n0, int phase)
    {
        const int64_t o = (int64_t)phase * g.co_padded + n0 + first_row();

#pragma unroll
        for (int i = 0; i < ROWS_A; i++) {
            rows[i] = source_of(g, m0 + first_row() + i * ROW_STEP);
            rows[i].y += phase / 2;
            rows[i].x += phase % 2;
        }
        weight = reinterpret_cast<const T *>(g.w) + o * g.taps * g.ci_padded + chunk() * 8;
        weights = g.co_padded - n0 - first_row();
        to = (uint32_t)(first_row() * (DEPTH * 2) + ((chunk() ^ first_row() % 8) << 4));
        tap = channel = 0;
        enter_tap();
    }

    /* Ask for the next slice. */
    __device__ void fetch(int stage)
    {
        const uint32_t a = shared_address(shared) + stage * (BYTES_A + BYTES_B) + to;
        const T *x = reinterpret_cast<const T *>(g.x);
        const int64_t weight_step = (int64_t)g.taps * g.ci_padded * ROW_STEP;

#pragma unroll
        for (int i = 0; i < ROWS_A; i++)
            copy_async(a + i * (ROW_STEP * DEPTH * 2),
                       at[i] < 0 ? x : x + ((int64_t)at[i] * g.ci + channel + chunk() * 8),
                       at[i] >= 0);
#pragma unroll
        for (int i = 0; i < ROWS_B; i++) {
            const bool is_there = i * ROW_STEP < weights;

            copy_async(a + BYTES_A + i * (ROW_STEP * DEPTH * 2),
                       is_there ? weight + i * weight_step : x, is_there);
        }
        weight += DEPTH;
        channel += DEPTH;
        if (channel == g.ci) {
            channel = 0;
            tap++;
            if (tap < g.taps)
                enter_tap();
        }
    }

    __device__ void write(float (&acc)[BN / 8][4], int64_t m0, int n0, int phase)
    {
        const int warp = threadIdx.x / 32;

#pragma unroll
        for (int n = 0; n < BN; n += OUT_COLUMNS) {
            if (n0 + n < g.co) {
                way_out out(g, reinterpret_cast<float *>(shared) + warp * way_out::FLOATS, n0 + n);

                out.write(acc + n / 8, m0 + warp * 16, phase);
            }
        }
    }

    __device__ void run()
    {
        const int tiles_n = (g.co + BN - 1) / BN, phase = (int)blockIdx.y;
        const int64_t m0 = (int64_t)(blockIdx.x / tiles_n) * BM;
        const int n0 = (int)(blockIdx.x % tiles_n) * BN;
        const int slices = g.taps * (g.ci / DEPTH);
        const uint32_t mine = shared_address(shared) + threadIdx.x / 128 * (64 * DEPTH * 2);
        float acc[BN / 8][4] = {};

        start(m0, n0, phase);
#pragma unroll
        for (int s = 0; s < STAGES - 1; s++) {
            if (s < slices)
                fetch(s);
            copy_async_commit();
        }
        pin(acc);
        for (int s = 0, stage = 0; s < slices; s++, stage = stage + 1 == STAGES ? 0 : stage + 1) {
            const uint32_t slice = stage * (BYTES_A + BYTES_B);
            const uint64_t a = descriptor(mine + slice);
            const uint64_t b = descriptor(shared_address(shared) + slice + BYTES_A);

            copy_async_wait<STAGES - 2>();
            publish();
            __syncthreads();
            product_fence();
#pragma unroll
            for (int k = 0; k < DEPTH / 16; k++)
                product<T>(acc, a + 2 * k, b + 2 * k);
            product_commit();
            product_wait<1>();
            __syncthreads();
            /* The slice before this one is free. */
            if (s + STAGES - 1 < slices)
                fetch(stage == 0 ? STAGES - 1 : stage - 1);
            copy_async_commit();
        }
        product_wait<0>();
        pin(acc);
        copy_async_wait<0>();
        __syncthreads();
        write(acc, m0, n0, phase);
    }
};

extern __shared__ __align__(UNIT) char hopper_shared[];

#define GEMM(name, type, BN, STAGES, blocks, is_gated)                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, blocks)                                  \
        name(const __grid_constant__ cuda_gemm g)                                                  \
    {                                                                                              \
        /* The launch asks for UNIT more than is used. */                                          \
        const uint32_t gap = (0u - shared_address(hopper_shared)) % UNIT;                          \
        hopper_tile<type, BN, STAGES, is_gated> t(g, hopper_shared + gap);                         \
                                                                                                   \
        t.run();                                                                                   \
    }

#define GEMM_TYPE(suffix, type)                                                                    \
    GEMM(gemm_hopper_##suffix, type, 128, 3, 2, false)                                             \
    GEMM(gemm_hopper_gated_##suffix, type, 128, 3, 2, true)                                        \
    GEMM(gemm_hopper_wide_##suffix, type, 256, 4, 1, false)                                        \
    GEMM(gemm_hopper_wide_gated_##suffix, type, 256, 4, 1, true)

GEMM_TYPE(bf16, bf16)
GEMM_TYPE(f16, f16)

#endif
