/* DESIGN: warps run one after the other from barrier to barrier. Order between them is checked, not
 * produced: see ptx_memory.c. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/ptx_priv.h"

/* Instructions of a warp after which a launch is taken for endless. */
#define STEPS_MAX ((int64_t)1 << 32)

void ptx_fault(struct ptx_warp *w, const struct ptx_op *op, int lane, const char *fmt, ...)
{
    struct ptx_block *b = w->block;
    const char *end = memchr(op->text, ';', 100);
    char what[256];
    va_list args;

    if (b->has_fault)
        return;
    b->has_fault = true;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    snprintf(b->fault, sizeof(b->fault), "%s: block %u,%u,%u, %s %u, %s:%d, %.*s: %s",
             b->kernel->name, b->at[0], b->at[1], b->at[2], lane < 0 ? "warp" : "thread",
             lane < 0 ? w->index : w->index * PTX_LANES + (uint32_t)lane, b->kernel->file, op->line,
             end ? (int)(end - op->text) : 40, op->text, what);
}

/* --- lanes that went different ways ---------------------------------------------------------- */

/* The lanes that run wait where they are; the lowest of those that can go on runs. false: none. */
static bool switch_lanes(struct ptx_warp *w)
{
    uint32_t lowest = PTX_ALL, next = PTX_ALL, chosen = 0;

    for (int l = 0; l < PTX_LANES; l++) {
        if (w->active >> l & 1)
            w->lane_pc[l] = w->pc;
    }
    w->waiting |= w->active;
    for (int l = 0; l < PTX_LANES; l++) {
        if (!((w->waiting & ~w->stuck) >> l & 1))
            continue;
        if (w->lane_pc[l] < lowest) {
            next = lowest;
            lowest = w->lane_pc[l];
            chosen = 0;
        } else if (w->lane_pc[l] > lowest && w->lane_pc[l] < next) {
            next = w->lane_pc[l];
        }
        if (w->lane_pc[l] == lowest)
            chosen |= 1u << l;
    }
    w->active = chosen;
    w->waiting &= ~chosen;
    w->pc = lowest;
    w->next_pc = next;
    return chosen != 0;
}

/* The lanes of mask go to target, the other ones on. */
static void branch(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const uint32_t target = (uint32_t)op->offset, on = w->pc + 1;

    if (mask == w->active || mask == 0) {
        w->pc = mask ? target : on;
        return;
    }
    for (int l = 0; l < PTX_LANES; l++) {
        if (w->active >> l & 1)
            w->lane_pc[l] = mask >> l & 1 ? target : on;
    }
    w->waiting |= w->active;
    w->active = 0;
    switch_lanes(w);
}

/* A common instruction waits until every lane is there. false: go on with others. */
static bool gather(struct ptx_warp *w, const struct ptx_op *op)
{
    if (w->active == w->live)
        return true;
    w->stuck |= w->active;
    if (switch_lanes(w))
        return false;
    /* All are stuck: at the same place, or for ever. */
    for (int l = 0, first = -1; l < PTX_LANES; l++) {
        if (!(w->live >> l & 1))
            continue;
        first = first < 0 ? l : first;
        if (w->lane_pc[l] != w->lane_pc[first]) {
            ptx_fault(w, op, l, "an instruction of the whole warp that not all its lanes reach");
            return false;
        }
        w->pc = w->lane_pc[l];
    }
    w->active = w->live;
    w->waiting = w->stuck = 0;
    w->next_pc = PTX_ALL;
    return false; /* now it is this one, from the start */
}

/* --- a warp ---------------------------------------------------------------------------------- */

static bool are_known(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const uint32_t *o = op->o + op->dst_count;

    for (int i = 0; i < op->src_count; i++) {
        if (mask & ~w->known[o[i]]) {
            ptx_fault(w, op, __builtin_ctz(mask & ~w->known[o[i]]),
                      "its operand %d was never written, or is a sum that was not waited for",
                      op->dst_count + i + 1);
            return false;
        }
    }
    return true;
}

static void end_lanes(struct ptx_warp *w, uint32_t mask)
{
    w->live &= ~mask;
    w->active &= ~mask;
    w->pc++;
    w->stuck = 0; /* those that waited for these */
    if (w->active == 0)
        switch_lanes(w);
}

/* The lanes of the guard. */
static uint32_t guarded(struct ptx_warp *w, const struct ptx_op *op)
{
    const uint32_t bits = *ptx_u32_at(w, op->guard);

    if (w->active & ~w->known[op->guard])
        ptx_fault(w, op, -1, "its predicate was never written");
    return w->active & (op->is_guard_not ? ~bits : bits);
}

/* What is no plain instruction. false: the warp stops here. */
static bool control(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    if (op->form->flow == PTX_BRANCH) {
        branch(w, op, mask);
        return true;
    }
    if (op->form->flow == PTX_RETURN) {
        if (mask == 0)
            w->pc++;
        else
            end_lanes(w, mask);
        return w->live != 0;
    }
    w->is_at_barrier = true;
    return false;
}

/* Run until the block's barrier, the end or a fault. */
static void run_warp(struct ptx_warp *w)
{
    const struct ptx_kernel *k = w->block->kernel;
    int64_t steps = 0;

    while (!w->block->has_fault) {
        const struct ptx_op *op;
        uint32_t mask;

        if (w->pc >= w->next_pc)
            switch_lanes(w);
        op = &k->ops[w->pc];
        CHECK(w->pc < k->op_count && w->active != 0);
        if (steps++ == STEPS_MAX)
            ptx_fault(w, op, -1, "a launch without end");
        mask = op->guard ? guarded(w, op) : w->active;
        if (op->is_dropped) {
            w->pc++;
            continue;
        }
        if (op->form->flow >= PTX_COMMON && op->form->flow != PTX_BRANCH &&
            op->form->flow != PTX_RETURN) {
            if (mask != w->active)
                ptx_fault(w, op, -1, "an instruction of the whole warp with a guard");
            else if (!gather(w, op))
                continue;
        }
        w->block->kernel->counts.lanes[op->form->class] += __builtin_popcount(mask);
        if (!op->form->run) {
            if (!control(w, op, mask))
                return;
            continue;
        }
        if (mask && are_known(w, op, mask)) {
            op->form->run(w, op, mask);
            for (int i = 0; i < op->dst_count && op->form->flow != PTX_PRODUCT; i++)
                w->known[op->o[i]] |= mask;
        }
        w->pc++;
    }
}

/* --- a block --------------------------------------------------------------------------------- */

static uint32_t special(const struct ptx_block *b, const struct ptx_warp *w, uint64_t which,
                        int lane)
{
    const struct ptx_launch *l = b->launch;
    const uint32_t thread = w->index * PTX_LANES + (uint32_t)lane;
    const int axis = (int)which % 3;

    if (which >= PTX_NCTAID)
        return l->grid[axis];
    if (which >= PTX_CTAID)
        return b->at[axis];
    if (which >= PTX_NTID)
        return l->block[axis];
    return axis == 0   ? thread % l->block[0]
           : axis == 1 ? thread / l->block[0] % l->block[1]
                       : thread / l->block[0] / l->block[1];
}

/* Nothing is known but the constants. */
static void start_warp(struct ptx_block *b, struct ptx_warp *w)
{
    const struct ptx_kernel *k = b->kernel;
    const uint32_t threads = b->launch->block[0] * b->launch->block[1] * b->launch->block[2];
    const uint32_t left = threads - w->index * PTX_LANES;

    w->block = b;
    w->pc = 0;
    w->live = w->active = left >= PTX_LANES ? PTX_ALL : (1u << left) - 1;
    w->waiting = w->stuck = 0;
    w->next_pc = PTX_ALL;
    w->is_at_barrier = w->is_fenced = false;
    w->copy_count = w->product_count = 0;
    w->in_flight = NULL;
    w->product_group = 0;
    memset(w->copy_group, 0, sizeof(w->copy_group));
    memset(w->known, 0, k->slot_count * sizeof(*w->known));
    for (size_t i = 0; i < k->constant_count; i++) {
        const struct ptx_constant *c = &k->constants[i];

        for (int l = 0; l < PTX_LANES; l++) {
            if (c->is_wide)
                ptx_u64_at(w, c->slot)[l] = c->value;
            else
                ptx_u32_at(w, c->slot)[l] =
                    c->is_special ? special(b, w, c->value, l) : (uint32_t)c->value;
        }
        w->known[c->slot] = PTX_ALL;
    }
}

/* All warps are at the barrier or have ended: those go on. false: all have ended. */
static bool pass_barrier(struct ptx_block *b)
{
    const struct ptx_warp *first = NULL;

    for (int i = 0; i < b->warp_count; i++) {
        struct ptx_warp *w = &b->warps[i];

        if (!w->is_at_barrier)
            continue;
        first = first ? first : w;
        if (w->pc != first->pc)
            ptx_fault(w, &b->kernel->ops[w->pc], -1,
                      "a barrier, while another warp waits at line %d",
                      b->kernel->ops[first->pc].line);
    }
    b->epoch++;
    for (int i = 0; first && i < b->warp_count; i++) {
        struct ptx_warp *w = &b->warps[i];

        w->epoch++;
        if (w->is_at_barrier) {
            w->is_at_barrier = false;
            w->pc++;
        }
    }
    return first != NULL;
}

static void run_block(struct ptx_block *b)
{
    b->first_epoch = ++b->epoch;
    b->product_count = 0;
    memset(b->fences, 0, sizeof(b->fences));
    memset(b->fence_epoch, 0, sizeof(b->fence_epoch));
    for (uint32_t i = 0; i < b->shared_bytes >> b->kernel->shared_grain_bits; i++)
        b->grain[i].is_copied = 0;
    for (int i = 0; i < b->warp_count; i++)
        start_warp(b, &b->warps[i]);
    do {
        for (int i = 0; i < b->warp_count && !b->has_fault; i++) {
            if (b->warps[i].live)
                run_warp(&b->warps[i]);
        }
    } while (!b->has_fault && pass_barrier(b));
}

/* --- a launch -------------------------------------------------------------------------------- */

static status check(const struct ptx_kernel *k, const struct ptx_launch *l)
{
    const uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    const uint64_t blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];

    if (threads == 0 || threads > PTX_WARPS_MAX * PTX_LANES || blocks == 0)
        return FAIL(ERR_DEVICE, "%s: a launch of %llu blocks of %llu threads", k->name,
                    (unsigned long long)blocks, (unsigned long long)threads);
    if (k->threads_max > 0 && threads > k->threads_max)
        return FAIL(ERR_DEVICE, "%s: %llu threads in a block, it was built for %u", k->name,
                    (unsigned long long)threads, k->threads_max);
    if (l->args_bytes != k->param_bytes)
        return FAIL(ERR_DEVICE, "%s: a parameter of %zu bytes, it takes %u", k->name, l->args_bytes,
                    k->param_bytes);
    if (l->grid[1] > 65535 || l->grid[2] > 65535)
        return FAIL(ERR_DEVICE, "%s: a grid of %u x %u x %u blocks", k->name, l->grid[0],
                    l->grid[1], l->grid[2]);
    return OK;
}

static void *zeroed(size_t count, size_t bytes)
{
    void *p = aligned_alloc(128, (count * bytes + 127) / 128 * 128);

    CHECK(p);
    memset(p, 0, (count * bytes + 127) / 128 * 128);
    return p;
}

static struct ptx_block *make_block(struct ptx_kernel *k, const struct ptx_launch *l)
{
    struct ptx_block *b = zeroed(1, sizeof(*b));

    b->kernel = k;
    b->launch = l;
    b->warp_count = (int)((l->block[0] * l->block[1] * l->block[2] + PTX_LANES - 1) / PTX_LANES);
    b->shared_bytes = (k->static_bytes + l->shared_bytes + 15) / 16 * 16;
    b->shared = zeroed(b->shared_bytes + 1, 1);
    b->grain = zeroed((b->shared_bytes >> k->shared_grain_bits) + 1, sizeof(*b->grain));
    b->warps = zeroed((size_t)b->warp_count, sizeof(*b->warps));
    for (int i = 0; i < b->warp_count; i++) {
        b->warps[i].index = (uint32_t)i;
        b->warps[i].file = zeroed(k->slot_count, sizeof(*b->warps[i].file));
        b->warps[i].known = zeroed(k->slot_count, sizeof(*b->warps[i].known));
    }
    return b;
}

static void free_block(struct ptx_block *b)
{
    for (int i = 0; i < b->warp_count; i++) {
        free(b->warps[i].file);
        free(b->warps[i].known);
        free(b->warps[i].copies);
        free(b->warps[i].products);
    }
    free(b->warps);
    free(b->grain);
    free(b->shared);
    free(b);
}

status ptx_run(struct ptx_kernel *kernel, const struct ptx_launch *launch)
{
    struct ptx_block *b;
    status st = OK;

    TRY(check(kernel, launch));
    b = make_block(kernel, launch);
    kernel->counts.launches++;
    for (uint32_t z = 0; z < launch->grid[2] && !b->has_fault; z++) {
        for (uint32_t y = 0; y < launch->grid[1] && !b->has_fault; y++) {
            for (uint32_t x = 0; x < launch->grid[0] && !b->has_fault; x++) {
                b->at[0] = x;
                b->at[1] = y;
                b->at[2] = z;
                run_block(b);
            }
        }
    }
    if (b->has_fault)
        st = FAIL(ERR_DEVICE, "%s", b->fault);
    free_block(b);
out:
    return st;
}
