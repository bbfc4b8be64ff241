/* cpu_isa.h - the inner loops of kern_cpu, once per instruction set.
 *
 * cpu_lanes.h holds the code; cpu_avx512.c, cpu_avx2.c and cpu_plain.c compile it with 16, 8 and 4
 * floats in a vector. Everything else in kernels/cpu is ordinary C that calls through this table.
 * Every function treats an element the same way wherever it stands in a row, a tile or a tail: that
 * is what makes results independent of threads and of neighbours in a batch. */
#ifndef ONESTEP_KERNELS_CPU_CPU_ISA_H
#define ONESTEP_KERNELS_CPU_CPU_ISA_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kern.h"

/* Depth of a block of the left matrix, and floats between its rows: a constant, so that the row's
 * addresses cost no registers, and an odd number of cache lines, so that rows spread over the
 * cache. */
#define CPU_DEPTH 384
#define CPU_PITCH (CPU_DEPTH + 16)

/* What happens to the sums of a matrix product:
 * y = scale * act(sum + bias + add) + residual, or y = (v + bias) * gelu(g + bias) with gate. */
struct cpu_epilogue {
    const float *bias;     /* [n], or [2 n] with gate; NULL: none */
    const float *add;      /* [n] or NULL */
    const float *residual; /* [m][n] or NULL; may be y */
    float *y;              /* [m][n] */
    int64_t n;             /* columns of y */
    int64_t spread_w;      /* 0: row m of the sums is row m of y; else see cpu_y_row */
    float scale;           /* 1 unless a blend is folded in */
    enum kern_act act;     /* activation */
    bool gate;             /* GEGLU */
};

/* Row of y for row m of the sums. With spread_w the rows are pixels of images spread_w wide, and
 * go to every second pixel of every second row of images twice as wide and high. */
static inline int64_t cpu_y_row(const struct cpu_epilogue *e, int64_t m)
{
    if (e->spread_w == 0)
        return m;
    return m / e->spread_w * 4 * e->spread_w + m % e->spread_w * 2;
}

/* A rectangle of sums. A panel is 2 vectors wide: 2 * lanes columns of y, or with gate a vector of
 * v beside a vector of g for `lanes` columns of y. */
struct cpu_sums {
    const float *sums;      /* first row */
    int64_t pitch;          /* floats between rows */
    int64_t m0, rows;       /* rows of y */
    int64_t panel0, panels; /* panels of y */
};

/* Running softmax of one row. */
struct cpu_softmax {
    float largest; /* so far; -inf at the start */
    float total;   /* sum of exp(s - largest) */
};

/* Operands of one small matrix product: any number of rows by one panel. */
struct cpu_tile {
    const float *a;      /* [rows][depth], CPU_PITCH floats between rows */
    const float *b;      /* [depth][2 lanes], dense */
    float *c;            /* [rows][2 lanes] */
    int64_t c_pitch;     /* floats between rows of c */
    int64_t rows, depth; /* sizes, at least 1 */
    bool is_sum;         /* add to what is in c */
    const float *next_b; /* b of the next product, fetched during this one; any address will do */
    const float *y;      /* [rows][2 lanes], fetched because it is written next; NULL: none */
    int64_t y_pitch;     /* floats between rows of y */
};

/* One instruction set. */
struct cpu_isa {
    const char *name;
    int lanes; /* floats in a vector; a panel is 2 * lanes columns */
    int rows;  /* rows of a full register tile */

    /* c = a b, or c += a b. */
    void (*tile)(const struct cpu_tile *t);

    /* dst[k * 2 lanes + j] = src[j * src_pitch + k] for k < depth, j < lanes; 0 where j >=
     * count. */
    void (*pack)(float *dst, const float *src, int64_t src_pitch, int64_t count, int64_t depth);

    /* As kern_widen, of 16-bit weights. */
    void (*widen)(float *dst, const uint16_t *src, int64_t n, bool is_half);

    /* Apply e to s and write y. */
    void (*finish)(const struct cpu_epilogue *e, const struct cpu_sums *s);

    /* s[i] = exp(s[i] - largest) with the largest of row and state; returns the factor by which
     * earlier sums must be multiplied. */
    float (*softmax)(float *s, int64_t n, struct cpu_softmax *state);

    /* y[i] = a x[i] */
    void (*scale)(float *y, const float *x, int64_t n, float a);

    /* sum[i] += x[i] over `rows` rows of c that lie c apart. */
    void (*column_sums)(float *sum, const float *x, int64_t rows, int64_t c);

    /* square[i] += (x[i] - mean[i])^2 over `rows` rows of c that lie c apart. */
    void (*column_squares)(float *square, const float *mean, const float *x, int64_t rows,
                           int64_t c);

    /* y[i] = x[i] * factor[i] + shift[i], then SiLU if asked. y may be x. */
    void (*affine)(float *y, const float *x, const float *factor, const float *shift, int64_t c,
                   bool silu);

    /* Layer norm of one row. y may be x. */
    void (*layer_norm)(float *y, const float *x, const struct norm *layer);

    /* y[i] = a x[i] + b z[i]. y may be x or z. */
    void (*mix)(float *y, const float *x, const float *z, int64_t n, const float weights[2]);

    /* y[i] = x[i] + z[i]. y may be x. */
    void (*add)(float *y, const float *x, const float *z, int64_t n);

    /* y[i] = x[i] sigmoid(x[i]). y may be x. */
    void (*silu)(float *y, const float *x, int64_t n);
};

extern const struct cpu_isa cpu_plain; /* whatever the compiler's target has */
#if defined(__x86_64__)
extern const struct cpu_isa cpu_avx2;   /* needs AVX2 and FMA */
extern const struct cpu_isa cpu_avx512; /* needs AVX-512 F, VL, BW, DQ */
#endif

#endif
