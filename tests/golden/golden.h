/* golden.h - tensors made by diffusers, and how far ours are from them.
 *
 * The files are described in tests/reference/README.md: float32 in diffusers' layouts. Distances
 * are relative L2: |a - b| / |b|. Values handed out live until the test's process ends. */
#ifndef ONESTEP_TESTS_GOLDEN_GOLDEN_H
#define ONESTEP_TESTS_GOLDEN_GOLDEN_H

#include "kernels/op/op.h"
#include "tests/tool/test.h"
#include "worker/model/checkpoint.h"
#include "worker/model/safetensors.h"

/* Bounds on the distance. One module in float32 on equal input: diffusers' own float32 is up to
 * 2.5e-6 away from its float64, and sums in another order are as far again. What has been through
 * several modules or a sampler: those errors grow along the trajectory, to
 * 6e-6 in diffusers itself. */
#define GOLDEN_MODULE 1e-5
#define GOLDEN_CHAIN 1e-4

/* A golden file with its checkpoint, and a device to run on. */
struct golden {
    struct safetensors file;      /* tests/golden/<name>.safetensors */
    struct checkpoint checkpoint; /* the one its metadata names */
    struct dev dev;               /* open, with room for every case */
    const char *name;             /* of the case */
    bool is_bf16;                 /* dev rounds operands of products, or all tensors, to bf16 */
    bool is_f16;                  /* dev rounds tensors to IEEE halves */
};

/* Memory until the test's process ends. */
void *golden_memory(size_t bytes);

/* Open case name on the kernel table called device. "cpu_bf16" is cpu with products of bf16,
 * skipped on a CPU without; "cuda_bf16" and "cuda_f16" are cuda, skipped where there is no GPU;
 * "ptx_bf16" and "ptx_f16" are cuda in the interpreter, skipped where there was no nvcc. */
void golden_open(struct golden *g, const char *name, const char *device);

/* path, of room bytes: the folder of g's checkpoint, a fixture or the sample that ships. */
void golden_model(const struct golden *g, char *path, size_t room);

/* Only the file. */
void golden_open_file(struct golden *g, const char *name);

/* The bound for one module whose output is the tensor called name. In 16 bits it is the distance
 * of PyTorch's own run in that type, as tests/reference/bf16_error.py prints it, with a quarter of
 * room on a GPU, where every tensor is rounded and not only the operands of products. */
double golden_module(const struct golden *g, const char *name);

/* Close whatever was opened. */
void golden_close(struct golden *g);

/* The tensor's shape filled up with ones in front to [n][c][h][w], in n, c, h, w. */
void golden_shape(const struct golden *g, const char *name, int64_t shape[4]);

/* The tensor's values with channels last: [n,c,h,w] -> [n,h,w,c], [c,h,w] -> [h,w,c]; tensors of
 * lower rank as they are. */
float *golden_values(const struct golden *g, const char *name);

/* The tensor as a struct tensor on g's device, from golden_values. */
struct tensor golden_upload(struct golden *g, const char *name);

/* Room for as many floats as the tensor has, all NaN, so that what is not written is noticed. */
float *golden_room(const struct golden *g, const char *name);

/* A number, or a text, of the metadata. */
double golden_number(const struct golden *g, const char *key);
const char *golden_text(const struct golden *g, const char *key);

/* Fail the test unless got (channels last) is within bound of the tensor called name. */
void golden_expect(const struct golden *g, const char *name, const float *got, double bound);

#endif
