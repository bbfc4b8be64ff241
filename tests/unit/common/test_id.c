/* Ids: form, order, and the id that belongs to a key. */
#include <string.h>

#include "common/id.h"
#include "tests/tool/test.h"

TEST(ids_of_known_time_and_randomness)
{
    static const uint8_t zeros[9] = { 0 };
    static const uint8_t ones[9] = { 255, 255, 255, 255, 255, 255, 255, 255, 255 };
    char id[JOB_ID_BYTES];

    id_make(id, 0, zeros);
    EXPECT_TEXT(id, "00000000000000000000000000");
    id_make(id, ((int64_t)1 << 48) - 1, ones);
    EXPECT_TEXT(id, "00zzzzzzzzzzzzzzzzzzzzzzzz");
    id_make(id, 1, zeros); /* bit 47 of 120 is bit 2 of the tenth character */
    EXPECT_TEXT(id, "00000000000400000000000000");
}

TEST(new_ids_are_valid_and_differ)
{
    char a[JOB_ID_BYTES], b[JOB_ID_BYTES];

    for (int i = 0; i < 1000; i++) {
        id_new(a);
        id_new(b);
        EXPECT(msg_is_id(a));
        EXPECT(strcmp(a, b) != 0);
        EXPECT(memcmp(a, b, 8) <= 0); /* the leading 30 bits of time */
    }
    EXPECT(id_random() != id_random());
}

TEST(later_ids_sort_later)
{
    static const uint8_t low[9] = { 0 }, high[9] = { 255, 255, 255 };
    char earlier[JOB_ID_BYTES], later[JOB_ID_BYTES];

    id_make(earlier, 1700000000000, high);
    id_make(later, 1700000000001, low);
    EXPECT(strcmp(earlier, later) < 0);
}

TEST(the_same_key_is_the_same_job)
{
    char a[JOB_ID_BYTES], b[JOB_ID_BYTES];

    EXPECT_OK(id_from_key(a, "default", "row 1"));
    EXPECT_OK(id_from_key(b, "default", "row 1"));
    EXPECT(msg_is_id(a));
    EXPECT_TEXT(a, b);
    EXPECT_OK(id_from_key(b, "default", "row 2"));
    EXPECT(strcmp(a, b) != 0);
    EXPECT_OK(id_from_key(b, "other", "row 1"));
    EXPECT(strcmp(a, b) != 0);
    EXPECT_OK(id_from_key(a, "ab", "c"));
    EXPECT_OK(id_from_key(b, "a", "bc"));
    EXPECT(strcmp(a, b) != 0); /* the NUL between them counts */
}

/* printf 'default\0k' | sha256sum = f1482505dc5d8e7e4141f1de1170bc... */
TEST(a_key_gives_the_first_120_bits_of_sha256)
{
    char id[JOB_ID_BYTES];

    EXPECT_OK(id_from_key(id, "default", "k"));
    EXPECT_TEXT(id, "00y542a1ewbp77wga1y7f12w5w");
}

TEST(keys_have_bounds)
{
    char id[JOB_ID_BYTES], key[ID_KEY_MAX + 2];

    EXPECT_STATUS(id_from_key(id, "default", ""), ERR_BADARG);
    memset(key, 'k', sizeof(key));
    key[ID_KEY_MAX + 1] = '\0';
    EXPECT_STATUS(id_from_key(id, "default", key), ERR_BADARG);
    key[ID_KEY_MAX] = '\0';
    EXPECT_OK(id_from_key(id, "default", key));
}

TEST(nonces_have_16_digits)
{
    char text[17];

    id_nonce_text(text, 0xab);
    EXPECT_TEXT(text, "00000000000000ab");
}
