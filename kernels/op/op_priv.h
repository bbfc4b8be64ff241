/* op_priv.h - what the files of kernels/op share. */
#ifndef ONESTEP_KERNELS_OP_OP_PRIV_H
#define ONESTEP_KERNELS_OP_OP_PRIV_H

#include "common/base/check.h"
#include "kernels/op/op.h"

/* Count one kernel launch of so many floating-point operations. Errors: ERR_CANCELLED; nothing is
 * counted then. Call it first in every operator, before anything is taken from the arena. */
MUST_USE status op_begin(struct dev *dev, double flops);

/* Leave an operator that failed with st: what it took from the arena since mark goes back.
 * Returns st. */
MUST_USE status op_fail(struct dev *dev, size_t mark, status st);

/* *result = y when the caller handed in a tensor, which must be [like's n, h, w][c] (CHECK); else a
 * new one of that shape from the arena. Errors: ERR_NOMEM. */
MUST_USE status op_result(struct dev *dev, struct tensor *result, const struct tensor *y,
                          const struct tensor *like, int64_t c);

/* CHECK that t can be read: it exists, holds floats, and no dimension is empty. */
void op_check_tensor(const struct tensor *t);

/* True when all four dimensions agree. */
bool op_is_same_shape(const struct tensor *a, const struct tensor *b);

#endif
