/* ptx_priv.h - what the files of the interpreter share.
 *
 * DESIGN: an instruction becomes a struct ptx_op: the function that runs it for the 32 lanes of a
 * warp, and the slots of its operands in the warp's register file. A slot is 32 lanes of 32 bits; a
 * register of 64 bits is two slots; a predicate is the first word of one, a bit for each lane.
 * Immediates, special registers and addresses of symbols are registers too, which are written
 * before the first instruction: operands are all alike. Lanes that went different ways run in the
 * order of their program counters, the lowest first, and join where they meet. */
#ifndef ONESTEP_TESTS_PTX_PTX_PRIV_H
#define ONESTEP_TESTS_PTX_PTX_PRIV_H

#include "common/base/check.h"
#include "tests/ptx/ptx.h"

#define PTX_LANES 32
#define PTX_ALL 0xffffffffu
#define PTX_WARPS_MAX 32

/* Shared memory begins here: other addresses are no shared memory. */
#define PTX_SHARED_BASE 1024u

struct ptx_warp;
struct ptx_op;

/* Run op for the lanes of mask. */
typedef void ptx_run_fn(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask);

/* What an instruction is; see ptx_forms. */
struct ptx_form {
    const char *name;     /* "add.s32" */
    const char *operands; /* see ptx_parse.c */
    ptx_run_fn *run;      /* NULL: ptx_exec.c knows it by flow */
    enum ptx_class class; /* to count */
    int flow;             /* enum ptx_flow */
    int a, b;             /* for run: what the name says of width, comparison, type */
};

/* Who runs an instruction, and what comes after it. */
enum ptx_flow {
    PTX_PLAIN = 0, /* each lane for itself */
    PTX_COMMON,    /* all lanes of the warp together */
    PTX_PRODUCT,   /* the same, and the results come later */
    PTX_BRANCH,
    PTX_RETURN,
    PTX_BARRIER /* of the block */
};

/* An instruction of a kernel. */
struct ptx_op {
    const struct ptx_form *form;
    uint32_t *o;        /* [dst_count + src_count] slots: results, then operands */
    uint32_t first;     /* of them in the kernel's pool */
    uint16_t dst_count; /* registers that it writes */
    uint16_t src_count; /* and reads */
    uint32_t guard;     /* slot of the predicate, 0: none */
    bool is_guard_not;  /* runs where it is false */
    bool is_dropped;    /* see ptx_drop */
    int64_t offset;     /* of a memory operand, target of a branch */
    int64_t imm[4];     /* whole numbers that the form takes as such */
    const char *text;   /* in the module's text, to its semicolon */
    int line;           /* there */
};

/* A value that is in a slot from the beginning. */
struct ptx_constant {
    uint64_t value; /* or enum ptx_special */
    uint32_t slot;
    bool is_wide;    /* 64 bits */
    bool is_special; /* value is one of enum ptx_special */
};

/* Special registers, of x; y and z follow. */
enum ptx_special { PTX_TID, PTX_NTID = 3, PTX_CTAID = 6, PTX_NCTAID = 9 };

/* A kernel, and what its launches did. All arrays are owned. */
struct ptx_kernel {
    char *name;
    const char *file;
    struct ptx_op *ops;
    size_t op_count, op_room;
    uint32_t *pool; /* slots of operands; ops point into it */
    size_t pool_count, pool_room;
    struct ptx_constant *constants;
    size_t constant_count, constant_room;
    uint32_t slot_count;        /* of a warp's register file */
    uint32_t param_bytes;       /* of the parameter */
    uint32_t static_bytes;      /* of shared memory, before the dynamic part */
    uint32_t threads_max;       /* of a block, 0: any */
    uint32_t shared_grain_bits; /* log2 of the bytes that shared memory is watched in */
    struct ptx_counts counts;
};

/* A copy to shared memory that is under way. */
struct ptx_copy {
    uint32_t thread, group, to;
    uint64_t from;
    uint32_t bytes; /* 16; those behind are zero */
};

/* Operands in shared memory of a product that is under way. */
struct ptx_product {
    uint32_t group, at, bytes;
};

/* What is known of a grain of shared memory. */
struct ptx_grain {
    uint32_t write_block, write_warp; /* epochs of the last write; 0: none in this block */
    uint32_t read_block, read_warp;   /* and of the last read */
    uint16_t write_thread, read_thread;
    uint16_t write_fences; /* of the writer by then */
    uint8_t is_copied;     /* 1: a copy to it is under way */
    uint8_t readers;       /* 0: read_thread; 1: several of its warp; 2: several warps */
};

/* A block that runs. */
struct ptx_block {
    struct ptx_kernel *kernel;
    const struct ptx_launch *launch;
    const struct ptx_range *last; /* block of memory that was touched last */
    struct ptx_warp *warps;       /* [warp_count] */
    int warp_count;
    uint32_t at[3];                             /* %ctaid */
    uint8_t *shared;                            /* [shared_bytes] */
    uint32_t shared_bytes;                      /* static and dynamic */
    struct ptx_grain *grain;                    /* of shared memory */
    uint32_t epoch, first_epoch;                /* barriers so far; of this block */
    uint32_t fences[PTX_WARPS_MAX * PTX_LANES]; /* for the async proxy, of each thread */
    uint32_t fence_epoch[PTX_WARPS_MAX * PTX_LANES];
    size_t product_count; /* under way, of all warps */
    bool has_fault;
    char fault[512];
};

/* A warp of a block that runs. */
struct ptx_warp {
    struct ptx_block *block;
    uint32_t index;                       /* in the block */
    uint32_t (*file)[PTX_LANES];          /* registers */
    uint32_t *known;                      /* [slot_count]: lanes that wrote each */
    uint32_t pc, active;                  /* of the lanes that run */
    uint32_t waiting, stuck;              /* lanes elsewhere; of them: at a common instruction */
    uint32_t lane_pc[PTX_LANES], next_pc; /* of waiting lanes; the lowest of those not stuck */
    uint32_t live;                        /* lanes that have not ended */
    bool is_at_barrier;
    uint32_t epoch;          /* warp barriers so far */
    struct ptx_copy *copies; /* under way */
    size_t copy_count, copy_room;
    uint32_t copy_group[PTX_LANES]; /* that the next copy of each lane belongs to */
    struct ptx_product *products;   /* under way */
    size_t product_count, product_room;
    uint32_t product_group;         /* that the next one belongs to */
    const struct ptx_op *in_flight; /* product whose sums may not be touched yet */
    bool is_fenced;                 /* wgmma.fence since the last wait */
};

/* 64-bit registers, which lie in two slots. */
typedef uint64_t __attribute__((may_alias)) ptx_u64;
/* The same with a sign. */
typedef int64_t __attribute__((may_alias)) ptx_s64;
/* Registers with a sign. */
typedef int32_t __attribute__((may_alias)) ptx_s32;
/* Floats in registers. */
typedef float __attribute__((may_alias)) ptx_f32;

/* All instructions; ended by a name of NULL. ptx_forms_*.c */
extern const struct ptx_form ptx_forms_number[], ptx_forms_memory[], ptx_forms_matrix[];

/* End the launch; lane < 0: the whole warp. */
void ptx_fault(struct ptx_warp *w, const struct ptx_op *op, int lane, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* items = an array with room for count + 1. Memory that runs out ends the test. */
void ptx_grow(void *items, size_t *room, size_t count, size_t item_bytes);

/* The host address of bytes at a global address that the lane may access; NULL after a fault. */
void *ptx_global(struct ptx_warp *w, const struct ptx_op *op, int lane, uint64_t at,
                 uint32_t bytes);

/* How an access to shared memory is meant. */
enum ptx_access {
    PTX_READ,
    PTX_WRITE,
    PTX_COPY_BEGIN, /* a copy will write */
    PTX_COPY_END,   /* has written */
    PTX_ASYNC_READ  /* a product reads, in the async proxy */
};

/* As ptx_global, for shared memory, and what it means for the order of accesses. */
void *ptx_shared(struct ptx_warp *w, const struct ptx_op *op, int lane, uint32_t at, uint32_t bytes,
                 enum ptx_access access);

/* Count what addresses, one for each lane of mask, mean for banks and sectors. */
void ptx_count_shared(struct ptx_warp *w, const uint32_t *at, uint32_t mask, uint32_t bytes);
void ptx_count_global(struct ptx_warp *w, const uint64_t *at, uint32_t mask, uint32_t bytes);

/* 16-bit elements as floats: [is_half][bits]. */
extern float ptx_widened[2][1 << 16];

/* One of them. This function can't fail. */
static inline float ptx_widen(uint16_t bits, bool is_half)
{
    return ptx_widened[is_half][bits];
}

/* Rounded to nearest even. */
uint16_t ptx_narrow(float x, bool is_half);

/* Registers of an operand. */
static inline uint32_t *ptx_u32_at(struct ptx_warp *w, uint32_t slot)
{
    return w->file[slot];
}

/* The same of 64 bits. */
static inline ptx_u64 *ptx_u64_at(struct ptx_warp *w, uint32_t slot)
{
    return (ptx_u64 *)(void *)w->file[slot];
}

/* The same as floats. */
static inline ptx_f32 *ptx_f32_at(struct ptx_warp *w, uint32_t slot)
{
    return (ptx_f32 *)(void *)w->file[slot];
}

#endif
