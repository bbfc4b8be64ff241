#include <pthread.h>
#include <string.h>

#include "tests/tool/test.h"
#include "worker/frames.h"

#define COUNT 5
#define H 4
#define W 6

static void *write_all(void *self)
{
    struct frames *f = self;

    EXPECT_OK(frames_open(f, COUNT, H, W));
    for (int i = 0; i < COUNT; i++) {
        memset(frames_at(f, i), i + 1, H * W * 3);
        frames_put(f, i + 1);
    }
    frames_end(f, OK);
    return NULL;
}

TEST(storage_frames_arrive_in_order_while_they_are_written)
{
    struct frames f;
    pthread_t writer;
    const uint8_t *rgb;

    frames_init(&f);
    EXPECT(pthread_create(&writer, NULL, write_all, &f) == 0);
    for (int i = 0; i < COUNT; i++) {
        EXPECT_OK(frames_wait(&f, i, &rgb));
        EXPECT(rgb[0] == i + 1 && rgb[H * W * 3 - 1] == i + 1);
    }
    EXPECT_OK(frames_join(&f));
    pthread_join(writer, NULL);
    frames_close(&f);
}

static void *fail_after_two(void *self)
{
    struct frames *f = self;

    EXPECT_OK(frames_open(f, COUNT, H, W));
    frames_put(f, 2);
    frames_end(f, FAIL(ERR_DEVICE, "the device is on fire"));
    return NULL;
}

TEST(storage_frames_hand_on_the_writers_failure)
{
    struct frames f;
    pthread_t writer;
    const uint8_t *rgb = NULL;

    frames_init(&f);
    EXPECT(pthread_create(&writer, NULL, fail_after_two, &f) == 0);
    EXPECT_STATUS(frames_wait(&f, 3, &rgb), ERR_DEVICE);
    EXPECT_MESSAGE("the device is on fire");
    EXPECT(rgb == NULL);
    status_clear();
    EXPECT_STATUS(frames_join(&f), ERR_DEVICE);
    EXPECT_MESSAGE("the device is on fire");
    pthread_join(writer, NULL);
    frames_close(&f);
}

TEST(storage_frames_that_never_open_end_as_well)
{
    struct frames f;

    frames_init(&f);
    frames_end(&f, FAIL(ERR_NOMEM, "nothing left"));
    EXPECT_STATUS(frames_join(&f), ERR_NOMEM);
    frames_close(&f);
}

TEST(storage_frames_beyond_memory_are_refused)
{
    struct frames f;

    frames_init(&f);
    EXPECT_STATUS(frames_open(&f, (int64_t)1 << 40, 4096, 4096), ERR_NOMEM);
    EXPECT_MESSAGE("4096x4096");
    frames_close(&f);
}
