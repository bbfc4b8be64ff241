#include "common/base/random.h"

#include <string.h>

#include "tests/tool/test.h"

TEST(every_bit_takes_both_values)
{
    unsigned char all_or = 0, all_and = 0xff, bytes[4096];

    /* A bit that is the same in 4096 fair draws has a chance of 2^-4095. */
    EXPECT_OK(random_bytes(bytes, sizeof(bytes)));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        all_or |= bytes[i];
        all_and &= bytes[i];
    }
    EXPECT_INT(all_or, 0xff);
    EXPECT_INT(all_and, 0);
    EXPECT_OK(random_bytes(bytes, 0));
}

TEST(ids_are_of_the_alphabet_and_differ)
{
    char a[27], b[27], many[4096], empty[1] = "x";

    EXPECT_OK(random_id(a, sizeof(a)));
    EXPECT_OK(random_id(b, sizeof(b)));
    EXPECT_INT(strlen(a), 26);
    EXPECT_INT(strspn(a, "0123456789abcdefghijklmnopqrstuv"), 26);
    EXPECT(strcmp(a, b) != 0);
    EXPECT_OK(random_id(many, sizeof(many)));
    /* A letter stays out of 4095 fair draws with a chance below 1e-54. */
    for (const char *c = "0123456789abcdefghijklmnopqrstuv"; *c; c++)
        EXPECT(strchr(many, *c));
    EXPECT_OK(random_id(empty, sizeof(empty)));
    EXPECT_TEXT(empty, "");
}
