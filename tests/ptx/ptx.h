/* ptx.h - an interpreter of the PTX that nvcc makes of our kernels: the device code is run, and
 * watched, where there is no GPU.
 *
 * A module is parsed once: an instruction that is not known here is an error with its line, never
 * skipped. A launch runs block after block, the warps of a block in turn, 32 lanes at a time, and
 * ends at the first of:
 *   a read of a register or of shared memory that was never written;
 *   an access outside an allocation, inside one of its holes, or not aligned to its size;
 *   a race in shared memory: two accesses, one of them a write, that no barrier puts in order,
 *   however the warps happened to run;
 *   a use of what a copy or product that was not waited for reads or writes;
 *   a barrier or a warp's common instruction that not all lanes reach; a launch without end.
 * What it does not see: races in global memory, and how floats are rounded inside one product of a
 * tensor core.
 * Source: PTX ISA 9.0; memory order: its "Memory Consistency Model", of which barriers and waits
 * are the part that our kernels use.
 * Threads: one machine, one thread. */
#ifndef ONESTEP_TESTS_PTX_PTX_H
#define ONESTEP_TESTS_PTX_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

struct ptx_module; /* a parsed file; opaque */
struct ptx_kernel; /* an entry of one; owned by it */

/* What kind of work an instruction is. */
enum ptx_class {
    PTX_INTEGER, /* whole numbers, predicates, moves, conversions */
    PTX_FLOAT,   /* float arithmetic */
    PTX_SPECIAL, /* exponentials, roots, divisions */
    PTX_MATRIX,  /* tensor cores */
    PTX_PARAM,   /* loads of the parameter */
    PTX_GLOBAL,  /* loads, stores and copies of global memory */
    PTX_SHARED,  /* loads and stores of shared memory */
    PTX_CONTROL, /* branches, barriers, waits */
    PTX_CLASSES
};

/* What the launches of a kernel did. */
struct ptx_counts {
    int64_t launches;           /* of it */
    int64_t lanes[PTX_CLASSES]; /* instructions by class, one for each lane */
    int64_t global_bytes;       /* asked for by lanes */
    int64_t global_sectors;     /* of 32 bytes that warps touched; best: global_bytes / 32 */
    int64_t shared_turns;       /* passes through the banks that accesses took */
    int64_t shared_best;        /* and without conflicts */
};

/* Device memory: host memory that kernels may touch. */
struct ptx_memory {
    struct ptx_range {
        uint64_t at, bytes; /* address, size */
    } * blocks, *holes;     /* [block_count], [hole_count], owned */
    int block_count, hole_count;
};

/* One launch. */
struct ptx_launch {
    const struct ptx_memory *memory; /* what it may touch */
    uint32_t grid[3], block[3];      /* x, y, z */
    uint32_t shared_bytes;           /* dynamic */
    const void *args;                /* the parameter's bytes */
    size_t args_bytes;               /* their number */
    bool is_counted;                 /* banks and sectors too; it takes as long again */
};

/* *module = text, bytes long, a NUL behind it; it must outlive the module. name is for errors.
 * Errors: ERR_CORRUPT with name, line and what was not understood. Owned by the caller. */
MUST_USE status ptx_parse(struct ptx_module **module, const char *name, const char *text,
                          size_t bytes);

/* Accepts NULL. */
void ptx_free(struct ptx_module *module);

/* NULL: there is no such kernel. */
struct ptx_kernel *ptx_find(struct ptx_module *module, const char *name);

/* Leave out instruction number `index` (from 0) of those whose opcode begins with opcode; to seed
 * bugs. false: there are not so many. */
bool ptx_drop(struct ptx_kernel *kernel, const char *opcode, int index);

/* Run. Errors: ERR_DEVICE with kernel, block, thread, line and what happened. */
MUST_USE status ptx_run(struct ptx_kernel *kernel, const struct ptx_launch *launch);

/* Since the module was parsed. */
struct ptx_counts ptx_counts(const struct ptx_kernel *kernel);

/* Kernel number i of the module, NULL behind the last, and its name. */
struct ptx_kernel *ptx_kernel_at(struct ptx_module *module, int i);
const char *ptx_name(const struct ptx_kernel *kernel);

#endif
