#include <math.h>
#include <string.h>

#include "tests/tool/test.h"
#include "worker/stage.h"

struct seen {
    enum stage stage;
    double progress;
    int count;
};

static void listen(void *self, enum stage stage, double progress)
{
    struct seen *seen = self;

    EXPECT(progress >= seen->progress && progress <= 1);
    seen->stage = stage;
    seen->progress = progress;
    seen->count++;
}

TEST(stage_progress_rises_from_0_to_1)
{
    struct seen seen = { .progress = 0 };
    struct stages stages;

    stages_init(&stages, listen, &seen);
    for (int i = STAGE_NONE + 1; i < STAGE_COUNT; i++) {
        for (int k = 0; k <= 4; k++)
            stage_show(&stages, (enum stage)i, k / 4.0);
        EXPECT_INT(seen.stage, i);
    }
    /* A sum of eight doubles. */
    EXPECT_NEAR(seen.progress, 1, 1e-12);
    EXPECT_INT(seen.count, 5 * (STAGE_COUNT - 1));
}

TEST(stage_weights_follow_the_work)
{
    struct stages stages;
    double sum = 0;
    const double work[STAGE_COUNT] = { [STAGE_UNET] = 3e12, [STAGE_VAE_DECODE] = 1e12 };

    stages_init(&stages, NULL, NULL);
    stages_weigh(&stages, work);
    EXPECT_NEAR(stages.share[STAGE_UNET], 3 * stages.share[STAGE_VAE_DECODE], 1e-12);
    EXPECT(stages.share[STAGE_CLIP] == 0);
    for (int i = 0; i < STAGE_COUNT; i++)
        sum += stages.share[i];
    EXPECT_NEAR(sum, 1, 1e-12);
}

TEST(stage_names_are_distinct_words)
{
    for (int i = STAGE_NONE + 1; i < STAGE_COUNT; i++) {
        const char *name = stage_name((enum stage)i);

        EXPECT(strlen(name) > 0 && strlen(name) <= 31);
        EXPECT(strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name));
        for (int k = STAGE_NONE + 1; k < i; k++)
            EXPECT(strcmp(name, stage_name((enum stage)k)) != 0);
    }
}

TEST(stage_seconds_add_up)
{
    struct stages stages;

    stages_init(&stages, NULL, NULL);
    stage_end(&stages, STAGE_ENCODE, stage_begin() - 2);
    stage_end(&stages, STAGE_ENCODE, stage_begin() - 3);
    EXPECT(stages.seconds[STAGE_ENCODE] >= 5);
    EXPECT(stages.seconds[STAGE_UPLOAD] == 0);
}
