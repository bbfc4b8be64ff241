/* check.h - compare a kernel with the reference: guard bands, poison, tolerances, bit identity.
 *
 * A case is a set of arrays (check_input, check_output, check_in_out), an argument struct that
 * points into them, and a call. The reference runs first; then the table under test runs with
 * every instruction set and 1, 2 and 3 threads. Each run starts from the same bytes. It must
 *   - leave the guard bands around every array and every input as they were,
 *   - write exactly the elements that the reference writes (results start as NaN),
 *   - agree with the reference within the case's tolerance, element by element and as a whole,
 *   - give the same bits for any number of threads. */
#ifndef ONESTEP_TESTS_KERN_CHECK_H
#define ONESTEP_TESTS_KERN_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kern.h"

#define CHECK_ARRAYS_MAX 8
#define CHECK_THREADS_MAX 3

/* One array of a case. */
struct check_array {
    float *block;   /* guard band, elements, guard band */
    float *data;    /* first element */
    float *start;   /* the elements as they are before each run */
    float *want;    /* the elements after the reference ran */
    int64_t n;      /* elements */
    bool is_output; /* a kernel may write it */
};

/* Contexts of the table under test and of the reference. */
struct check_rig {
    const struct kern_table *table;                                /* under test */
    struct kern_ctx *ref;                                          /* of kern_ref */
    struct kern_ctx *ctx[KERN_ISA_AMX + 1][CHECK_THREADS_MAX + 2]; /* [isa][threads] or NULL */
    enum kern_precision precision;                                 /* of those contexts */
    double rounding; /* of a result, relative: 0 where results are floats */
    double smallest; /* half of the smallest difference of two results */
};

/* How far a result may be from the reference. */
struct check_tolerance {
    double absolute; /* of one element, beside relative * |want| */
    double relative; /* of one element */
    double whole;    /* of the L2 norm of a result, beside absolute */
};

/* A case. Zero it, take arrays, fill in args and call, run check_case. */
struct check {
    struct check_array arrays[CHECK_ARRAYS_MAX]; /* taken so far */
    int count;                                   /* arrays taken */
    bool is_bf16;                                /* arrays hold numbers that bf16 has exactly */
    /* Run the kernel of `table` with args. */
    status (*call)(const struct kern_table *table, struct kern_ctx *ctx, const void *args);
    const void *args;           /* handed to call */
    struct check_tolerance tol; /* zero: equal bits wanted */
    char shape[160];            /* for the message */
    char verdict[448];          /* what was wrong */
};

/* Open every instruction set that this machine has, for each number of threads. */
void check_rig_open(struct check_rig *rig, const struct kern_table *table);

/* The same for kern_cpu with products of bf16; skips the test on a machine without. */
void check_rig_open_bf16(struct check_rig *rig);

/* The same for kern_cuda (cuda_rig.h), with one context. target NULL: on a GPU, and the test is
 * skipped where there is none; &ptx_target: in the interpreter, skipped where there was no nvcc. */
void check_rig_open_cuda(struct check_rig *rig, const struct cuda_target *target,
                         enum kern_precision precision, bool use_wgmma);

/* True when operands are rounded to 16 bits: arrays shall hold numbers that survive it. */
bool check_rounds(const struct check_rig *rig);

/* The nearest number of 8 significant bits, ties to even. */
float check_round(float x);

/* Close all contexts. */
void check_rig_close(struct check_rig *rig);

/* Name of an instruction set as kern_describe writes it. */
const char *check_isa_name(int isa);

/* n standard normal numbers between guard bands that no kernel may write. */
float *check_input(struct check *c, int64_t n);

/* Weights of a random type, float or 16 bits, which *dtype says; those of 16 bits are numbers of
 * their type near size 1. n elements. */
void *check_weights(struct check *c, int64_t n, enum kern_dtype *dtype);

/* n elements of poison (NaN) that the kernel under test is to fill. */
float *check_output(struct check *c, int64_t n);

/* n standard normal numbers that the kernel under test reads and overwrites. */
float *check_in_out(struct check *c, int64_t n);

/* NULL when all runs are right, else a sentence that says which run is wrong, and how. */
const char *check_verdict(struct check *c, const struct check_rig *rig);

/* check_verdict that ends the test as failed, and frees the case. */
void check_case(struct check *c, const struct check_rig *rig);

/* Give the arrays back. */
void check_free(struct check *c);

/* The parts of a whole: run `part` (args of one frame, an output of the same case) with every
 * instruction set and expect the bits that `whole` gives there. */
void check_same_bits(struct check *c, const struct check_rig *rig, const void *whole,
                     const void *part, const float *at, int64_t n);

/* Random cases to run where `usual` are enough: fewer under a sanitizer, which is slow. */
int check_cases(int usual);

/* A tensor at data. */
struct tensor check_tensor(float *data, int64_t n, int64_t h, int64_t w, int64_t c);

/* One of `count` sizes, at random. */
int64_t check_pick(const int64_t *sizes, int count);

/* Pick one of the sizes in the argument list. */
#define CHECK_PICK(...)                                                                            \
    check_pick((const int64_t[]){ __VA_ARGS__ },                                                   \
               (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)))

/* True with probability one half. */
bool check_coin(void);

/* The same where bf16 rounds the operands of each product. */
struct check_tolerance check_bf16_tolerance(int64_t terms, double scale);

/* Tolerance for sums of `terms` products of standard normal numbers with others of size `scale`. */
struct check_tolerance check_sum_tolerance(int64_t terms, double scale);

#endif
