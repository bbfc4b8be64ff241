/* ptx_driver.h - the interpreter as a device of kern_cuda. */
#ifndef ONESTEP_TESTS_PTX_PTX_DRIVER_H
#define ONESTEP_TESTS_PTX_PTX_DRIVER_H

#include "kernels/cuda/cuda_driver.h"
#include "tests/ptx/ptx.h"

/* Device 0 is an Ampere card, 1 a Hopper. Their memory is poisoned with NaN when it is taken. */
extern const struct cuda_driver ptx_driver;

/* The kernels of this build as PTX; without nvcc it has no images. Made by the Makefile. */
extern const struct cuda_target ptx_target;

/* Kernels may not touch bytes at `at` from now on, although they are allocated: they lie beside an
 * operand. Of the device that was opened last. */
void ptx_driver_hole(cuda_ptr at, size_t bytes);

/* ptx_drop in the kernel of that name, of the device that was opened last. */
bool ptx_driver_drop(const char *name, const char *opcode, int index);

/* No holes any more. */
void ptx_driver_fill_holes(void);

#endif
