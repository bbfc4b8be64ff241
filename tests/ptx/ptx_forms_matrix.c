/* Tensor cores. Source: PTX ISA 9.0, "Warp Level Matrix Multiply-Accumulate Instructions" and
 * "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions" with "Matrix Descriptor".
 * Products of 16-bit elements are exact in floats; sums are floats, in the order of k. */
#include <string.h>

#include "tests/ptx/ptx_priv.h"

/* In struct ptx_form: a says whether elements are halves (1) or bfloat16 (0), or whether a matrix
 * is transposed; b is the columns of a product. */
#define K 16 /* channels of every product here */

/* Four 8x8 matrices; lane l gives the address of row l % 8 of matrix l / 8. */
static void ldmatrix(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const uint32_t *base = ptx_u32_at(w, op->o[4]);
    uint16_t m[4][8][8];
    uint32_t at[PTX_LANES];

    for (int l = 0; l < PTX_LANES; l++) {
        const void *row;

        at[l] = base[l] + (uint32_t)op->offset;
        row = ptx_shared(w, op, l, at[l], 16, PTX_READ);
        if (!row)
            return;
        memcpy(m[l / 8][l % 8], row, 16);
    }
    for (int i = 0; i < 4; i++) {
        uint32_t *d = ptx_u32_at(w, op->o[i]);

        for (int l = 0; l < PTX_LANES; l++) {
            const int r = l / 4, c = l % 4 * 2;

            d[l] = op->form->a ? (uint32_t)m[i][c][r] | (uint32_t)m[i][c + 1][r] << 16
                               : (uint32_t)m[i][r][c] | (uint32_t)m[i][r][c + 1] << 16;
        }
    }
    ptx_count_shared(w, at, mask, 16);
}

/* The two elements of a register. */
static void unpack(float *dst, int step, uint32_t bits, bool is_half)
{
    dst[0] = ptx_widen((uint16_t)bits, is_half);
    dst[step] = ptx_widen((uint16_t)(bits >> 16), is_half);
}

/* d = a b + c, [16][8] = [16][16] [16][8] + [16][8]. */
static void mma(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    float a[16][K], b[K][8], sum[16][8] = { 0 };

    (void)mask;
    for (int l = 0; l < PTX_LANES; l++) {
        const int r = l / 4, c = l % 4 * 2;

        for (int i = 0; i < 4; i++)
            unpack(&a[r + i % 2 * 8][c + i / 2 * 8], 1, ptx_u32_at(w, op->o[4 + i])[l],
                   op->form->a);
        for (int i = 0; i < 2; i++)
            unpack(&b[c + i * 8][r], 8, ptx_u32_at(w, op->o[8 + i])[l], op->form->a);
    }
    for (int i = 0; i < 16; i++) {
        for (int k = 0; k < K; k++) {
            for (int j = 0; j < 8; j++)
                sum[i][j] += a[i][k] * b[k][j];
        }
    }
    for (int i = 0; i < 4; i++) {
        const ptx_f32 *c = ptx_f32_at(w, op->o[10 + i]);
        ptx_f32 *d = ptx_f32_at(w, op->o[i]);

        for (int l = 0; l < PTX_LANES; l++)
            d[l] = c[l] + sum[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
    }
}

/* --- products of a warp group ----------------------------------------------------------------- */

#define UNIT_BYTES 1024 /* eight rows of 128 bytes, in which the swizzle works */

/* Sixteen channels of `rows` rows that a descriptor points to, from row `first` on, as floats. The
 * only layout known is the one of 128-byte rows, swizzled, in units that follow each other. */
static bool read_rows(struct ptx_warp *w, const struct ptx_op *op, uint64_t descriptor, int first,
                      int rows, float (*dst)[K])
{
    const uint32_t start = (uint32_t)(descriptor & 0x3fff) << 4;
    const uint32_t step = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    struct ptx_product *p;

    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0 || step != UNIT_BYTES) {
        ptx_fault(w, op, -1, "a matrix descriptor of a layout that is not known here");
        return false;
    }
    for (int i = 0; i < rows; i++) {
        const int row = first + i;

        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t at =
                start + (uint32_t)(row / 8) * step + (uint32_t)(row % 8) * 128 + half * 16;
            const uint16_t *from =
                ptx_shared(w, op, row % PTX_LANES, at ^ (at >> 7 & 7) << 4, 16, PTX_ASYNC_READ);

            if (!from)
                return false;
            for (int k = 0; k < 8; k++)
                dst[i][half * 8 + (uint32_t)k] = ptx_widen(from[k], op->form->a);
        }
    }
    ptx_grow(&w->products, &w->product_room, w->product_count, sizeof(*p));
    p = &w->products[w->product_count++];
    *p = (struct ptx_product){ w->product_group,
                               (start & ~(UNIT_BYTES - 1u)) + (uint32_t)(first / 8) * step,
                               (uint32_t)rows / 8 * UNIT_BYTES };
    w->block->product_count++;
    return true;
}

/* d += a b, [64][columns] by four warps: this one makes sixteen rows. Its sums are known after a
 * wait. */
static void wgmma(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const int columns = op->form->b, sums = columns / 2;
    const uint32_t *dd = op->o + sums;
    float a[16][K], b[256][K];

    if (op->imm[0] != 1 || op->imm[1] != 1 || op->imm[2] != 0 || op->imm[3] != 0 ||
        *ptx_u32_at(w, dd[2]) != mask || !w->is_fenced) {
        ptx_fault(w, op, -1,
                  w->is_fenced ? "a product of a kind that is not known here"
                               : "a product without wgmma.fence before it");
        return;
    }
    for (int i = 0; i < sums && !w->in_flight; i++) {
        if (w->known[op->o[i]] != PTX_ALL) {
            ptx_fault(w, op, -1, "sums that were never written");
            return;
        }
    }
    if (!read_rows(w, op, *ptx_u64_at(w, dd[0]), (int)(w->index % 4) * 16, 16, a) ||
        !read_rows(w, op, *ptx_u64_at(w, dd[1]), 0, columns, b))
        return;
    for (int i = 0; i < sums; i++) {
        ptx_f32 *d = ptx_f32_at(w, op->o[i]);

        for (int l = 0; l < PTX_LANES; l++) {
            const float *x = a[l / 4 + i / 2 % 2 * 8], *y = b[i / 4 * 8 + l % 4 * 2 + i % 2];
            float sum = 0;

            for (int k = 0; k < K; k++)
                sum += x[k] * y[k];
            d[l] += sum;
        }
        w->known[op->o[i]] = 0;
    }
    w->in_flight = op;
}

static void wgmma_fence(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    (void)op;
    (void)mask;
    w->is_fenced = true;
}

static void wgmma_commit(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    (void)op;
    (void)mask;
    w->product_group++;
}

static void wgmma_wait(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    size_t left = 0;

    (void)mask;
    for (size_t i = 0; i < w->product_count; i++) {
        if ((int64_t)w->products[i].group >= (int64_t)w->product_group - op->imm[0])
            w->products[left++] = w->products[i];
    }
    w->block->product_count -= w->product_count - left;
    w->product_count = left;
    w->is_fenced = false;
    if (left > 0 || !w->in_flight)
        return;
    for (int i = 0; i < w->in_flight->dst_count; i++)
        w->known[w->in_flight->o[i]] = PTX_ALL;
    w->in_flight = NULL;
}

#define MATRIX(name, operands, run, flow, a, b)                                                    \
    {                                                                                              \
        name, operands, run, PTX_MATRIX, flow, a, b                                                \
    }
#define MMA(type) "mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32"
#define WGMMA(n, type) "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type

const struct ptx_form ptx_forms_matrix[] = {
    { "ldmatrix.sync.aligned.m8n8.x4.shared.b16", "wwww<m", ldmatrix, PTX_SHARED, PTX_COMMON, 0,
      0 },
    { "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "wwww<m", ldmatrix, PTX_SHARED, PTX_COMMON,
      1, 0 },
    MATRIX(MMA("bf16"), "wwww<wwwwwwwwww", mma, PTX_COMMON, 0, 8),
    MATRIX(MMA("f16"), "wwww<wwwwwwwwww", mma, PTX_COMMON, 1, 8),
    MATRIX(WGMMA("128", "bf16"), "w*64<ddpiiii", wgmma, PTX_PRODUCT, 0, 128),
    MATRIX(WGMMA("128", "f16"), "w*64<ddpiiii", wgmma, PTX_PRODUCT, 1, 128),
    MATRIX(WGMMA("256", "bf16"), "w*128<ddpiiii", wgmma, PTX_PRODUCT, 0, 256),
    MATRIX(WGMMA("256", "f16"), "w*128<ddpiiii", wgmma, PTX_PRODUCT, 1, 256),
    { "wgmma.fence.sync.aligned", "", wgmma_fence, PTX_CONTROL, PTX_COMMON, 0, 0 },
    { "wgmma.commit_group.sync.aligned", "", wgmma_commit, PTX_CONTROL, PTX_COMMON, 0, 0 },
    { "wgmma.wait_group.sync.aligned", "<i", wgmma_wait, PTX_CONTROL, PTX_COMMON, 0, 0 },
    { NULL, NULL, NULL, 0, 0, 0, 0 },
};
