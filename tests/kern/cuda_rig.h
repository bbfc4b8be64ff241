/* cuda_rig.h - kern_cuda behind host floats, so that the cases of every table run on it.
 *
 * cuda_rig is a table whose kernels round their operands to the device's 16 bits, copy them there,
 * call kern_cuda and copy the result back. Each operand lies on the device between guard bands,
 * which are looked at after the call; what a kernel does not write stays as it was. */
#ifndef ONESTEP_TESTS_KERN_CUDA_RIG_H
#define ONESTEP_TESTS_KERN_CUDA_RIG_H

#include "kernels/kern.h"

extern const struct kern_table cuda_rig;

#endif
