/* The host code of kern_cuda on the pretended GPU of preload/libcuda.c. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cuda_driver.h"
#include "kernels/kern.h"
#include "tests/tool/test.h"
#include "tests/unit/kernels/fake_gpu.h"

#define COUNT 64 /* elements of the tensors here */

static const struct cuda_image image = { "pretended.cu", "", 0 };
static const struct cuda_target target = { &cuda_libcuda, &image, 1 };

/* The pretended driver, loaded by its path, is what dlopen finds by its name afterwards. */
static struct fake_gpu *load_driver(void)
{
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    void *library;
    struct fake_gpu *gpu;

    EXPECT(n > 0);
    path[n] = '\0';
    *strrchr(path, '/') = '\0';
    strcat(path, "/libcuda.so.1");
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        test_fail(__FILE__, __LINE__, "%s", dlerror());
    gpu = dlsym(library, "fake_gpu");
    EXPECT(gpu);
    return gpu;
}

static status open_table(struct kern_ctx **ctx, size_t weight_bytes)
{
    const struct kern_config config = { .target = &target, .weight_bytes = weight_bytes };

    return kern_cuda.open(ctx, &config);
}

/* A context with memory for tensors at base. */
static struct kern_ctx *open_ready(char **base)
{
    struct kern_ctx *ctx = NULL;
    size_t bytes = 1 << 20;
    void *block = NULL;

    EXPECT_OK(open_table(&ctx, 1000));
    EXPECT_OK(kern_cuda.memory(ctx, &bytes, &block));
    *base = block;
    return ctx;
}

static struct tensor tensor_at(char *data)
{
    return (struct tensor){ .data = data, .dtype = KERN_BF16, .n = 1, .h = 1, .w = 1, .c = COUNT };
}

/* What a job does with the device: weights, launches, copies. */
struct job {
    struct kern_ctx *ctx;
    char *base;
    float floats[COUNT];
    status result;
};

static void *run_job(void *self)
{
    struct job *j = self;
    struct tensor x = tensor_at(j->base), y = tensor_at(j->base + 4096), weight = x;
    const struct kern_copy copy = { .x = x, .y = y };
    struct kern_add add = { .x = x, .y = y };
    status st = OK;

    weight.data = j->floats;
    weight.dtype = KERN_F32;
    add.z = weight;
    TRY(kern_cuda.upload(j->ctx, &x, j->floats));
    TRY(kern_cuda.copy(j->ctx, &copy));
    TRY(kern_cuda.add(j->ctx, &add));
    TRY(kern_cuda.download(j->ctx, &y, j->floats));
out:
    j->result = st;
    return NULL;
}

TEST(cuda_any_thread_may_use_the_device)
{
    struct fake_gpu *gpu = load_driver();
    struct job job = { 0 };
    pthread_t thread;

    job.ctx = open_ready(&job.base);
    EXPECT_INT(pthread_create(&thread, NULL, run_job, &job), 0);
    EXPECT_INT(pthread_join(thread, NULL), 0);
    EXPECT_INT(job.result, OK);
    EXPECT_INT(gpu->launches, 3); /* upload, add, download */
    kern_cuda.close(job.ctx);
}

static void *close_table(void *ctx)
{
    kern_cuda.close(ctx);
    return NULL;
}

TEST(cuda_close_gives_all_back)
{
    struct fake_gpu *gpu = load_driver();
    pthread_t thread;
    char *base;
    struct kern_ctx *ctx = open_ready(&base);

    EXPECT_INT(gpu->blocks, 3); /* weights, scratch, tensors */
    EXPECT_INT(pthread_create(&thread, NULL, close_table, ctx), 0);
    EXPECT_INT(pthread_join(thread, NULL), 0);
    EXPECT_INT(gpu->blocks, 0);
    EXPECT_INT((long long)gpu->taken_bytes, 0);
    EXPECT_INT(gpu->retained, 0);
}

TEST(cuda_a_weight_is_sent_once)
{
    struct fake_gpu *gpu = load_driver();
    struct job job = { 0 };
    int calls;

    job.ctx = open_ready(&job.base);
    run_job(&job);
    EXPECT_INT(job.result, OK);
    calls = gpu->calls;
    run_job(&job);
    EXPECT_INT(job.result, OK);
    calls = gpu->calls - calls;
    kern_cuda.forget(job.ctx);
    gpu->calls = 0;
    run_job(&job);
    EXPECT_INT(job.result, OK);
    EXPECT_INT(gpu->calls, calls + 1);
    kern_cuda.close(job.ctx);
}

TEST(cuda_weights_that_do_not_fit_are_refused)
{
    static float many[20 << 20];
    struct fake_gpu *gpu = load_driver();
    struct kern_add add;
    char *base;
    struct kern_ctx *ctx = open_ready(&base);

    (void)gpu;
    add = (struct kern_add){ .x = tensor_at(base), .y = tensor_at(base) };
    add.z = (struct tensor){ many, KERN_F32, 1, 1, 1, 20 << 20 };
    EXPECT_STATUS(kern_cuda.add(ctx, &add), ERR_NOMEM);
    EXPECT_MESSAGE("copies of the weights need more than the 64 MiB kept for them");
    kern_cuda.close(ctx);
}

TEST(cuda_without_a_gpu_says_so)
{
    struct fake_gpu *gpu = load_driver();
    struct kern_ctx *ctx;

    gpu->count = 0;
    EXPECT_STATUS(open_table(&ctx, 0), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("finds no GPU; set device to cpu");
}

TEST(cuda_a_gpu_that_is_not_there_says_which_are)
{
    struct fake_gpu *gpu = load_driver();
    const struct kern_config config = { .target = &target, .ordinal = 3 };
    struct kern_ctx *ctx;

    gpu->count = 2;
    EXPECT_STATUS(kern_cuda.open(&ctx, &config), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("there is no GPU number 3; take one of 0 to 1");
}

TEST(cuda_an_old_gpu_is_refused)
{
    struct fake_gpu *gpu = load_driver();
    struct kern_ctx *ctx;

    gpu->capability = 75;
    EXPECT_STATUS(open_table(&ctx, 0), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("compute capability 7.5; 8.0 (Ampere) or later is needed");
    EXPECT_INT(gpu->retained, 0);
}

TEST(cuda_a_small_gpu_says_what_it_lacks)
{
    struct fake_gpu *gpu = load_driver();
    struct kern_ctx *ctx = NULL;
    size_t bytes = 0;
    void *base;

    gpu->memory_bytes = (size_t)256 << 20;
    EXPECT_STATUS(open_table(&ctx, (size_t)1 << 30), ERR_NOMEM);
    EXPECT_MESSAGE("GPU Pretended has no 1190 MiB of memory left");
    EXPECT_INT(gpu->blocks, 0);
    EXPECT_OK(open_table(&ctx, 0));
    EXPECT_STATUS(kern_cuda.memory(ctx, &bytes, &base), ERR_NOMEM);
    EXPECT_MESSAGE("has 256 MiB free; the weights and the driver need 608");
    kern_cuda.close(ctx);
}

TEST(cuda_a_fault_is_named)
{
    struct fake_gpu *gpu = load_driver();
    struct job job = { 0 };

    job.ctx = open_ready(&job.base);
    gpu->broken = 700;
    run_job(&job);
    EXPECT_INT(job.result, ERR_DEVICE);
    EXPECT_MESSAGE("GPU Pretended: copying to it: an illegal memory access was encountered "
                   "(CUDA_ERROR_ILLEGAL_ADDRESS)");
    gpu->broken = 0;
    kern_cuda.close(job.ctx);
}
