/* cuda_gemm.cu - convolutions and linear layers on tensor cores.
 *
 * DESIGN: a block makes a tile of BM x BN results. Operands come through shared memory in slices of
 * 32 channels, STAGES of them in flight by cp.async; a slice of A is gathered row by row, so that
 * every kind of convolution is the same loop with other addresses. Rows of a slice are 64 bytes;
 * their 16-byte chunks are exchanged (swizzle) so that ldmatrix meets every bank once. Accumulators
 * go out through shared memory, for whole sectors of global memory.
 * A norm in front (factor) is applied to A's chunks in shared memory by the thread that copied
 * them: its own copies are visible to it before the barrier, and zeros of the padding stay zeros. */
#include "kernels/cuda/cuda_gemm.cuh"

#define DEPTH CUDA_GEMM_DEPTH
#define STAGES 4

/* 16-byte chunks of a row of a slice. */
#define CHUNKS (DEPTH / 8)

/* Byte offset of a chunk in a slice. */
__device__ static inline uint32_t chunk_at(int row, int chunk)
{
    return (uint32_t)(row * (DEPTH * 2) + ((chunk ^ (row >> 1 & 3)) << 4));
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
    static const int STEPS = DEPTH / 16; /* of 16 channels, in a slice */
    /* Where registers suffice for two sets of operands; with 8 warps to a block the others'
     * products hide the reads. */
    static const bool READS_AHEAD = BM / WM * (BN / WN) < 8;

    static_assert(THREADS / 32 * results<T, WN, IS_GATED>::FLOATS * 4 <=
                      STAGES * (BYTES_A + BYTES_B),
                  "room for sums");
    static_assert(!HAS_NORM || STAGES * ROWS_A <= 32, "bits of is_there");

    /* Operands of one step. */
    struct fragments {
        uint32_t a[FRAGMENTS_M][4], b[FRAGMENTS_N / 2][4];
    };

    const cuda_gemm &g;
    char *shared;
    row_source rows[ROWS_A];
    int at[ROWS_A];      /* the row of x of each under the tap, -1: zeros */
    const T *weight;     /* the same of W's first row */
    int64_t weight_step; /* elements between the rows of W that a thread copies */
    int tap, channel;    /* of the next slice */
    uint32_t is_there;   /* HAS_NORM: bit stage * ROWS_A + row: the chunk is not padding */
    uint32_t from_a, from_b; /* offset in a slice of the chunk that this lane gives to ldmatrix */

    __device__ tile(const cuda_gemm &args, char *memory) : g(args), shared(memory) {}

    __device__ int chunk() const { return (int)threadIdx.x % CHUNKS; }
    __device__ int first_row() const { return (int)threadIdx.x / CHUNKS; }
    __device__ int lane() const { return (int)threadIdx.x % 32; }
    __device__ int warp_m() const { return (int)threadIdx.x / 32 / WARPS_N * WM; }
    __device__ int warp_n() const { return (int)threadIdx.x / 32 % WARPS_N * WN; }

    __device__ void enter_tap()
    {
#pragma unroll
        for (int i = 0; i < ROWS_A; i++)
            at[i] = row_under(g, rows[i], tap);
    }

    __device__ void start(int64_t m0, int n0, int phase)
    {
        const int64_t k = (int64_t)g.taps * g.ci_padded;
        const int64_t o = (int64_t)phase * g.co_padded + n0 + first_row();

#pragma unroll
        for (int i = 0; i < ROWS_A; i++) {
            rows[i] = source_of(g, m0 + first_row() + i * ROW_STEP);
            rows[i].y += phase / 2;
            rows[i].x += phase % 2;
        }
        weight = reinterpret_cast<const T *>(g.w) + o * k + chunk() * 8;
        weight_step = ROW_STEP * k;
        tap = channel = 0;
        is_there = 0;
        /* Blocks of ldmatrix: rows 0-7 and 8-15 of A at the first channels, then at the next; of B
         * the two halves of k for 8 columns, then for the next 8. */
        from_a = chunk_at(warp_m() + lane() % 16, lane() / 16);
        from_b = chunk_at(warp_n() + lane() / 16 * 8 + lane() % 8, lane() / 8 % 2);
        enter_tap();
    }

    /* Eight channels of a row whose chunks do not lie at multiples of 16 bytes. */
    __device__ void gather(char *to, int row, int first)
    {
        const T *from = reinterpret_cast<const T *>(g.x) + (int64_t)row * g.ci;
        uint32_t words[4];

#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int c = first + 2 * i;
            const float lo = row >= 0 && c < g.ci ? widen(from[c]) : 0.0f;
            const float hi = row >= 0 && c + 1 < g.ci ? widen(from[c + 1]) : 0.0f;

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
            const bool has_chunk = at[i] >= 0 && first < g.ci;

            if (IS_VECTOR) {
                const T *x = reinterpret_cast<const T *>(g.x);

                copy_async(shared_address(a + chunk_at(row, chunk())),
                           has_chunk ? x + ((int64_t)at[i] * g.ci + first) : x, has_chunk);
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

    /* Four channels of a chunk, c the first of them. */
    __device__ void normalise_half(uint2 &words, const float4 &scale, const float4 &shift)
    {
        const float2 v = unpack2<T>(words.x), w = unpack2<T>(words.y);

        words.x = pack2<T>(silu(v.x * scale.x + shift.x), silu(v.y * scale.y + shift.y));
        words.y = pack2<T>(silu(w.x * scale.z + shift.z), silu(w.y * scale.w + shift.w));
    }

    /* Four factors of channels from c on; there are none behind ci. */
    __device__ float4 factors(const float *factor, int c)
    {
        if (IS_VECTOR)
            return *reinterpret_cast<const float4 *>(factor + c);
        return make_float4(c < g.ci ? factor[c] : 0.0f, c + 1 < g.ci ? factor[c + 1] : 0.0f,
                           c + 2 < g.ci ? factor[c + 2] : 0.0f, c + 3 < g.ci ? factor[c + 3] : 0.0f);
    }

    /* The norm, on this thread's own chunks of a slice that has arrived. CAREFUL: what is padding
     * stays zero; silu(0 * 0 + 0) of channels behind ci is. */
    __device__ void normalise(int stage, int first_channel)
    {
        char *a = shared + stage * (BYTES_A + BYTES_B);
        const float *factor = reinterpret_cast<const float *>(g.factor);
        const int c = first_channel + chunk() * 8;
        const uint32_t there = is_there >> (stage * ROWS_A) & ((1 << ROWS_A) - 1);

        if (!there)
            return;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float4 scale = factors(factor, c + 4 * half);
            const float4 shift = factors(factor + g.ci, c + 4 * half);

#pragma unroll
            for (int i = 0; i < ROWS_A; i++) {
                uint2 *words = reinterpret_cast<uint2 *>(
                                   a + chunk_at(first_row() + i * ROW_STEP, chunk())) +
                               half;

                if (there >> i & 1)
                    normalise_half(*words, scale, shift);
            }
        }
    }

    /* Operands of a step. A step is two chunks: the exchange of chunks makes it an xor. */
    __device__ void read(fragments &f, int stage, int step)
    {
        const uint32_t a = shared_address(shared) + stage * (BYTES_A + BYTES_B);

#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++)
            ldmatrix(f.a[i], a + (from_a ^ step << 5) + i * (16 * DEPTH * 2));
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N / 2; j++)
            ldmatrix(f.b[j], a + BYTES_A + (from_b ^ step << 5) + j * (16 * DEPTH * 2));
    }

    __device__ static void multiply(float (&acc)[FRAGMENTS_M][FRAGMENTS_N][4], const fragments &f)
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N; j++)
                mma<T>(acc[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
        }
    }

    __device__ void write(float (&acc)[FRAGMENTS_M][FRAGMENTS_N][4], int64_t m0, int n0, int phase)
    {
        float *memory = reinterpret_cast<float *>(shared);
        results<T, WN, IS_GATED> out(g, memory + threadIdx.x / 32 * results<T, WN, IS_GATED>::FLOATS,
                                     n0 + warp_n());

#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++)
            out.write(acc[i], m0 + warp_m() + i * 16, phase);
    }

    /* Slice s arrives for everyone, and nobody reads slice s - 1 any more. */
    __device__ void arrive(int s, int &normalised)
    {
        copy_async_wait<STAGES - 2>();
        if (HAS_NORM) {
            normalise(s % STAGES, normalised);
            normalised = normalised + DEPTH == g.ci_padded ? 0 : normalised + DEPTH;
        }
        __syncthreads();
    }

    __device__ void run()
    {
        const int tiles_n = (g.co + BN - 1) / BN, phase = (int)blockIdx.y;
        const int64_t m0 = (int64_t)(blockIdx.x / tiles_n) * BM;
        const int n0 = (int)(blockIdx.x % tiles_n) * BN;
        const int slices = g.taps * (g.ci_padded / DEPTH);
        float acc[FRAGMENTS_M][FRAGMENTS_N][4] = {};
        fragments f[2];
        int normalised = 0;

        start(m0, n0, phase);
#pragma unroll
        for (int s = 0; s < STAGES - 1; s++) {
            if (s < slices)
                fetch(s);
            copy_async_commit();
        }
        arrive(0, normalised);
        if (READS_AHEAD)
            read(f[0], 0, 0);
        for (int s = 0; s < slices; s++) {
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                if (!READS_AHEAD) {
                    read(f[step % 2], s % STAGES, step);
                    if (step + 1 == STEPS && s + 1 < slices)
                        arrive(s + 1, normalised);
                } else if (step + 1 < STEPS) {
                    read(f[(step + 1) % 2], s % STAGES, step + 1);
                } else if (s + 1 < slices) {
                    arrive(s + 1, normalised);
                    read(f[0], (s + 1) % STAGES, 0);
                }
                if (step == 0) {
                    if (s + STAGES - 1 < slices)
                        fetch((s + STAGES - 1) % STAGES);
                    copy_async_commit();
                }
                multiply(acc, f[step % 2]);
            }
        }
        copy_async_wait<0>();
        __syncthreads();
        write(acc, m0, n0, phase);
    }
};

extern __shared__ __align__(128) char gemm_shared[];

#define GEMM(name, type, BM, BN, WM, WN, is_vector, has_norm, is_gated)                            \
    extern "C" __global__ void __launch_bounds__(BM / (WM) * (BN / (WN)) * 32, 2)                     \
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
