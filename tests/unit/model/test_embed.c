#include "worker/model/embed.h"

#include <math.h>

#include "tests/tool/test.h"

/* Numbers computed in double; ours are in float, where an angle of 6 has an error of 4e-7. */
TEST(sinus_known_values)
{
    float e[320];

    embed_sinus(1.637770083760851f, 320, e);
    EXPECT_NEAR(e[0], -0.066923700, 1e-6);
    EXPECT_NEAR(e[1], 0.024639173, 1e-6);
    EXPECT_NEAR(e[2], 0.110903591, 1e-6);
    EXPECT_NEAR(e[3], 0.191592585, 1e-6);
    EXPECT_NEAR(e[160], 0.997758096, 1e-6);
    EXPECT_NEAR(e[161], 0.999696410, 1e-6);
    embed_sinus(6, 256, e);
    EXPECT_NEAR(e[0], 0.960170287, 1e-6);
    EXPECT_NEAR(e[1], 0.765001246, 1e-6);
    EXPECT_NEAR(e[128], -0.279415498, 1e-6);
    EXPECT_NEAR(e[129], -0.644028799, 1e-6);
}

TEST(sinus_of_zero)
{
    float e[8];

    embed_sinus(0, 8, e);
    for (int i = 0; i < 8; i++)
        EXPECT_NEAR(e[i], i < 4 ? 1 : 0, 0);
}
