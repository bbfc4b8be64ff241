/* Loads, stores, asynchronous copies, and the order between them. Source: PTX ISA 9.0, "Data
 * Movement and Conversion Instructions" and "Parallel Synchronization and Communication
 * Instructions". */
#include <string.h>

#include "tests/ptx/ptx_priv.h"

/* In struct ptx_form: a is the bytes of one element, b of them how they are kept. */
enum { PLAIN_ELEMENT, SIGNED_TO_64 };

/* A register of the lane = bytes at from: 2, 4 or 8 of them. */
static void put(struct ptx_warp *w, uint32_t slot, int lane, const void *from, uint32_t bytes)
{
    uint16_t half;

    if (bytes == 4) {
        memcpy(&ptx_u32_at(w, slot)[lane], from, 4);
    } else if (bytes == 2) {
        memcpy(&half, from, 2);
        ptx_u32_at(w, slot)[lane] = half;
    } else {
        memcpy(&ptx_u64_at(w, slot)[lane], from, 8);
    }
}

static void ld_param(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const struct ptx_launch *launch = w->block->launch;
    const ptx_u64 *base = ptx_u64_at(w, op->o[op->dst_count]);
    const uint32_t bytes = (uint32_t)op->form->a, all = bytes * op->dst_count;

    for (int l = 0; l < PTX_LANES; l++) {
        const uint64_t at = base[l] + (uint64_t)op->offset;
        const char *from = (const char *)launch->args + at;

        if (!(mask >> l & 1))
            continue;
        if (at % all != 0 || at > launch->args_bytes || all > launch->args_bytes - at) {
            ptx_fault(w, op, l, "byte %llu of a parameter of %zu", (unsigned long long)at,
                      launch->args_bytes);
            return;
        }
        for (int i = 0; i < op->dst_count; i++) {
            if (op->form->b == SIGNED_TO_64) {
                int32_t value;

                memcpy(&value, from, sizeof(value));
                ptx_u64_at(w, op->o[i])[l] = (uint64_t)(int64_t)value;
            } else {
                put(w, op->o[i], l, from + (size_t)i * bytes, bytes);
            }
        }
    }
}

static void ld_global(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const ptx_u64 *base = ptx_u64_at(w, op->o[op->dst_count]);
    const uint32_t bytes = (uint32_t)op->form->a;
    uint64_t at[PTX_LANES] = { 0 };

    for (int l = 0; l < PTX_LANES; l++) {
        const char *from;

        if (!(mask >> l & 1))
            continue;
        at[l] = base[l] + (uint64_t)op->offset;
        from = ptx_global(w, op, l, at[l], bytes * op->dst_count);
        if (!from)
            return;
        for (int i = 0; i < op->dst_count; i++)
            put(w, op->o[i], l, from + (size_t)i * bytes, bytes);
    }
    ptx_count_global(w, at, mask, bytes * op->dst_count);
}

static void st_global(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const ptx_u64 *base = ptx_u64_at(w, op->o[0]);
    const uint32_t bytes = (uint32_t)op->form->a, count = op->src_count - 1u;
    uint64_t at[PTX_LANES] = { 0 };

    for (int l = 0; l < PTX_LANES; l++) {
        char *to;

        if (!(mask >> l & 1))
            continue;
        at[l] = base[l] + (uint64_t)op->offset;
        to = ptx_global(w, op, l, at[l], bytes * count);
        if (!to)
            return;
        for (uint32_t i = 0; i < count; i++)
            memcpy(to + (size_t)i * bytes, &ptx_u32_at(w, op->o[1 + i])[l], bytes);
    }
    ptx_count_global(w, at, mask, bytes * count);
}

static void ld_shared(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const uint32_t *base = ptx_u32_at(w, op->o[op->dst_count]);
    const uint32_t bytes = (uint32_t)op->form->a;
    uint32_t at[PTX_LANES] = { 0 };

    for (int l = 0; l < PTX_LANES; l++) {
        const char *from;

        if (!(mask >> l & 1))
            continue;
        at[l] = base[l] + (uint32_t)op->offset;
        from = ptx_shared(w, op, l, at[l], bytes * op->dst_count, PTX_READ);
        if (!from)
            return;
        for (int i = 0; i < op->dst_count; i++)
            put(w, op->o[i], l, from + (size_t)i * bytes, bytes);
    }
    ptx_count_shared(w, at, mask, bytes * op->dst_count);
}

static void st_shared(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const uint32_t *base = ptx_u32_at(w, op->o[0]);
    const uint32_t bytes = (uint32_t)op->form->a, count = op->src_count - 1u;
    uint32_t at[PTX_LANES] = { 0 };

    for (int l = 0; l < PTX_LANES; l++) {
        char *to;

        if (!(mask >> l & 1))
            continue;
        at[l] = base[l] + (uint32_t)op->offset;
        to = ptx_shared(w, op, l, at[l], bytes * count, PTX_WRITE);
        if (!to)
            return;
        for (uint32_t i = 0; i < count; i++)
            memcpy(to + (size_t)i * bytes, &ptx_u32_at(w, op->o[1 + i])[l], bytes);
    }
    ptx_count_shared(w, at, mask, bytes * count);
}

/* --- asynchronous copies ---------------------------------------------------------------------- */

#define COPY_BYTES 16

/* [to], [from], 16, bytes of from: the data is taken when the copy is waited for, which is as late
 * as a device may be. */
static void cp_async(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    const uint32_t *to = ptx_u32_at(w, op->o[0]), *bytes = ptx_u32_at(w, op->o[2]);
    const ptx_u64 *from = ptx_u64_at(w, op->o[1]);

    for (int l = 0; l < PTX_LANES; l++) {
        struct ptx_copy *c;

        if (!(mask >> l & 1))
            continue;
        if (op->offset != 0 || op->imm[0] != COPY_BYTES || bytes[l] > COPY_BYTES) {
            ptx_fault(w, op, l, "a copy of a kind that is not known here");
            return;
        }
        if (bytes[l] > 0 && !ptx_global(w, op, l, from[l], COPY_BYTES))
            return;
        if (!ptx_shared(w, op, l, to[l], COPY_BYTES, PTX_COPY_BEGIN))
            return;
        ptx_grow(&w->copies, &w->copy_room, w->copy_count, sizeof(*c));
        c = &w->copies[w->copy_count++];
        *c = (struct ptx_copy){ (uint32_t)l, w->copy_group[l], to[l], from[l], bytes[l] };
    }
    ptx_count_shared(w, to, mask, COPY_BYTES);
    ptx_count_global(w, from, mask, COPY_BYTES);
}

static void cp_async_commit(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    (void)op;
    for (int l = 0; l < PTX_LANES; l++)
        w->copy_group[l] += mask >> l & 1;
}

/* All groups of the lane but the last imm[0] ones have arrived. */
static void cp_async_wait(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    size_t left = 0;

    for (size_t i = 0; i < w->copy_count; i++) {
        struct ptx_copy *c = &w->copies[i];
        char *to;

        if (!(mask >> c->thread & 1) ||
            (int64_t)c->group >= (int64_t)w->copy_group[c->thread] - op->imm[0]) {
            w->copies[left++] = *c;
            continue;
        }
        to = ptx_shared(w, op, (int)c->thread, c->to, COPY_BYTES, PTX_COPY_END);
        if (!to)
            return;
        memset(to, 0, COPY_BYTES);
        if (c->bytes > 0)
            memcpy(to, (const void *)(uintptr_t)c->from, c->bytes);
    }
    w->copy_count = left;
}

static void bar_warp(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    if (((uint32_t)op->imm[0] & w->live) != w->live)
        ptx_fault(w, op, -1, "a warp's barrier that leaves lanes out");
    (void)mask;
    w->epoch++;
}

static void fence_async(struct ptx_warp *w, const struct ptx_op *op, uint32_t mask)
{
    (void)op;
    for (uint32_t l = 0; l < PTX_LANES; l++) {
        if (mask >> l & 1) {
            w->block->fences[w->index * PTX_LANES + l]++;
            w->block->fence_epoch[w->index * PTX_LANES + l] = w->block->epoch;
        }
    }
}

#define GLOBAL(name, operands, run, bytes)                                                         \
    {                                                                                              \
        name, operands, run, PTX_GLOBAL, PTX_PLAIN, bytes, PLAIN_ELEMENT                           \
    }
#define SHARED(name, operands, run, bytes)                                                         \
    {                                                                                              \
        name, operands, run, PTX_SHARED, PTX_PLAIN, bytes, PLAIN_ELEMENT                           \
    }
#define PARAM(name, operands, bytes, kept)                                                         \
    {                                                                                              \
        name, operands, ld_param, PTX_PARAM, PTX_PLAIN, bytes, kept                                \
    }
#define CONTROL(name, operands, run, flow)                                                         \
    {                                                                                              \
        name, operands, run, PTX_CONTROL, flow, 0, 0                                               \
    }

const struct ptx_form ptx_forms_memory[] = {
    PARAM("ld.param.u32", "w<M", 4, PLAIN_ELEMENT),
    PARAM("ld.param.f32", "w<M", 4, PLAIN_ELEMENT),
    PARAM("ld.param.u64", "d<M", 8, PLAIN_ELEMENT),
    PARAM("ld.param.s32", "d<M", 4, SIGNED_TO_64),
    PARAM("ld.param.v2.u32", "ww<M", 4, PLAIN_ELEMENT),
    GLOBAL("ld.global.u16", "w<M", ld_global, 2),
    GLOBAL("ld.global.f32", "w<M", ld_global, 4),
    GLOBAL("ld.global.u32", "w<M", ld_global, 4),
    GLOBAL("ld.global.v4.u32", "wwww<M", ld_global, 4),
    GLOBAL("ld.global.v4.f32", "wwww<M", ld_global, 4),
    GLOBAL("st.global.u16", "<Mw", st_global, 2),
    GLOBAL("st.global.u32", "<Mw", st_global, 4),
    GLOBAL("st.global.f32", "<Mw", st_global, 4),
    GLOBAL("st.global.v4.u32", "<Mwwww", st_global, 4),
    SHARED("ld.shared.u32", "w<m", ld_shared, 4),
    SHARED("ld.shared.f32", "w<m", ld_shared, 4),
    SHARED("ld.shared.v2.u16", "ww<m", ld_shared, 2),
    SHARED("ld.shared.v4.f32", "wwww<m", ld_shared, 4),
    SHARED("ld.shared.v4.u32", "wwww<m", ld_shared, 4),
    SHARED("st.shared.u16", "<mw", st_shared, 2),
    SHARED("st.shared.u32", "<mw", st_shared, 4),
    SHARED("st.shared.f32", "<mw", st_shared, 4),
    SHARED("st.shared.v2.f32", "<mww", st_shared, 4),
    SHARED("st.shared.v4.u32", "<mwwww", st_shared, 4),
    GLOBAL("cp.async.cg.shared.global", "<mMiw", cp_async, COPY_BYTES),
    CONTROL("cp.async.commit_group", "", cp_async_commit, PTX_PLAIN),
    CONTROL("cp.async.wait_group", "<i", cp_async_wait, PTX_PLAIN),
    CONTROL("bar.warp.sync", "<i", bar_warp, PTX_COMMON),
    CONTROL("fence.proxy.async.shared::cta", "", fence_async, PTX_PLAIN),
    CONTROL("bar.sync", "<i", NULL, PTX_BARRIER),
    CONTROL("bra", "<l", NULL, PTX_BRANCH),
    CONTROL("bra.uni", "<l", NULL, PTX_BRANCH),
    CONTROL("ret", "", NULL, PTX_RETURN),
    { NULL, NULL, NULL, 0, 0, 0, 0 },
};
