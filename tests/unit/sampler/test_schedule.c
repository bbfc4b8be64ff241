/* Noise levels against published tables. */
#include <math.h>

#include "tests/tool/test.h"
#include "worker/sampler/sampler.h"

static struct sampler_config config(enum sampler_kind kind, int steps, int grid)
{
    return (struct sampler_config){
        .kind = kind, .steps = steps, .grid = grid, .sigma_min = 0.002, .sigma_max = 700
    };
}

/* The tables give six digits behind the point. */
#define TABLE 6e-7

/* EulerDiscreteScheduler with SVD's config and 25 steps. */
TEST(karras_25)
{
    double s[26];
    const struct sampler_config c = config(SAMPLER_EULER, 25, 100);

    sampler_sigmas(&c, s);
    EXPECT_NEAR(s[0], 700, 0);
    EXPECT_NEAR(s[1], 545.729246, TABLE);
    EXPECT_NEAR(s[2], 421.569136, TABLE);
    EXPECT_NEAR(s[3], 322.453683, TABLE);
    EXPECT_NEAR(s[4], 244.023078, TABLE);
    EXPECT_NEAR(s[12], 15.589968, TABLE);
    EXPECT_NEAR(s[23], 0.007882, TABLE);
    EXPECT_NEAR(s[24], 0.002, TABLE);
    EXPECT_NEAR(s[25], 0, 0);
    EXPECT_NEAR(0.25 * log(s[0]), 1.637770, TABLE);
    EXPECT_NEAR(0.25 * log(s[24]), -1.553652, TABLE);
}

/* Consistency steps of AnimateLCM's 40-point grid. */
TEST(grid_40)
{
    static const double want[8][8] = {
        { 700 },
        { 700, 13.678444 },
        { 700, 70.540842, 2.269116 },
        { 700, 128.563697, 13.678444, 0.496878 },
        { 700, 186.749465, 36.584413, 4.352649, 0.201205 },
        { 700, 266.188164, 86.664245, 22.759686, 4.352649, 0.496878 },
        { 700, 315.737397, 128.563697, 45.850724, 13.678444, 3.166611, 0.496878 },
        { 700, 315.737397, 128.563697, 45.850724, 13.678444, 3.166611, 0.496878, 0.039754 },
    };

    for (int n = 1; n <= 8; n++) {
        double s[9];
        const struct sampler_config c = config(SAMPLER_CONSISTENCY, n, 40);

        sampler_sigmas(&c, s);
        for (int i = 0; i < n; i++)
            EXPECT_NEAR(s[i], want[n - 1][i], TABLE);
        EXPECT_NEAR(s[n], 0, 0);
    }
}

/* The same for OSV's 100 points. */
TEST(grid_100)
{
    static const double want[8][8] = {
        { 700 },
        { 700, 14.811282 },
        { 700, 70.540842, 2.269116 },
        { 700, 132.345483, 14.811282, 0.600934 },
        { 700, 190.903376, 38.668543, 4.869409, 0.253265 },
        { 700, 252.558059, 76.554906, 18.140196, 2.954359, 0.253265 },
        { 700, 289.307658, 105.217913, 32.244128, 7.762913, 1.296601, 0.116410 },
        { 700, 330.548658, 142.627460, 54.863251, 18.140196, 4.869409, 0.962905, 0.116410 },
    };

    for (int n = 1; n <= 8; n++) {
        double s[9];
        const struct sampler_config c = config(SAMPLER_CONSISTENCY, n, 100);

        sampler_sigmas(&c, s);
        for (int i = 0; i < n; i++)
            EXPECT_NEAR(s[i], want[n - 1][i], TABLE);
        EXPECT_NEAR(s[n], 0, 0);
    }
}

TEST(every_schedule_falls)
{
    static const enum sampler_kind kinds[] = { SAMPLER_CONSISTENCY, SAMPLER_TTS_LITERAL,
                                               SAMPLER_TTS_FMID, SAMPLER_EULER };

    for (int k = 0; k < 4; k++) {
        for (int steps = 1; steps < 100; steps++) {
            double s[101];
            const struct sampler_config c = config(kinds[k], steps, 100);

            EXPECT_OK(sampler_check(&c));
            sampler_sigmas(&c, s);
            for (int i = 0; i < steps; i++)
                EXPECT(s[i] > s[i + 1]);
        }
    }
}

TEST(names_and_counts)
{
    struct sampler_config c = config(SAMPLER_TTS_FMID, 3, 100);

    EXPECT_INT(sampler_evaluations(&c), 6);
    c.kind = SAMPLER_CONSISTENCY;
    EXPECT_INT(sampler_evaluations(&c), 3);
    EXPECT(!sampler_is_guided(&c));
    c.guidance_max = 1;
    EXPECT(!sampler_is_guided(&c));
    c.guidance_max = 1.5;
    EXPECT(sampler_is_guided(&c));
    for (int i = SAMPLER_CONSISTENCY; i <= SAMPLER_EULER; i++)
        EXPECT_INT(sampler_from_name(sampler_name((enum sampler_kind)i)), i);
    EXPECT_INT(sampler_from_name("none"), SAMPLER_NONE);
    EXPECT_INT(sampler_from_name("ddim"), SAMPLER_NONE);
}

TEST(impossible_configs_are_refused)
{
    static const struct {
        struct sampler_config c;
        const char *says;
    } cases[] = {
        { { SAMPLER_NONE, 1, 100, 0.002, 700, 0, 1, 1 }, "sampler is unknown" },
        { { (enum sampler_kind)9, 1, 100, 0.002, 700, 0, 1, 1 }, "sampler is unknown" },
        { { SAMPLER_CONSISTENCY, 0, 100, 0.002, 700, 0, 1, 1 }, "steps is 0" },
        { { SAMPLER_CONSISTENCY, 101, 100, 0.002, 700, 0, 1, 1 }, "takes 1 to 100" },
        { { SAMPLER_TTS_LITERAL, 100, 100, 0.002, 700, 0, 1, 1 }, "takes 1 to 99" },
        { { SAMPLER_EULER, 1001, 100, 0.002, 700, 0, 1, 1 }, "takes 1 to 1000" },
        { { SAMPLER_CONSISTENCY, 1, 1, 0.002, 700, 0, 1, 1 }, "grid is 1" },
        { { SAMPLER_CONSISTENCY, 1, 1001, 0.002, 700, 0, 1, 1 }, "grid is 1001" },
        { { SAMPLER_EULER, 1, 100, 0, 700, 0, 1, 1 }, "sigma_min is 0" },
        { { SAMPLER_EULER, 1, 100, 7, 7, 0, 1, 1 }, "sigma_max 7" },
        { { SAMPLER_EULER, 1, 100, NAN, 7, 0, 1, 1 }, "sigma_min is nan" },
        { { SAMPLER_EULER, 1, 100, 0.002, INFINITY, 0, 1, 1 }, "sigma_max inf" },
        { { SAMPLER_EULER, 1, 100, 0.002, 700, 0, -1, 1 }, "guidance is -1 to 1" },
        { { SAMPLER_EULER, 1, 100, 0.002, 700, 0, 1, 101 }, "guidance is 1 to 101" },
        { { SAMPLER_EULER, 1, 100, 0.002, 700, 0, 1, NAN }, "guidance is 1 to nan" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_STATUS(sampler_check(&cases[i].c), ERR_BADARG);
        EXPECT_MESSAGE(cases[i].says);
    }
}
