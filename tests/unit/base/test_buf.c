#include "common/base/buf.h"

#include <string.h>

#include "tests/tool/test.h"

TEST(grows_and_stays_ended_by_nul)
{
    struct buf b = { 0 };

    for (int i = 0; i < 1000; i++) {
        EXPECT_OK(buf_printf(&b, "%d,", i));
        EXPECT_INT(strlen(b.data), b.len);
    }
    EXPECT_INT(b.len, 3890); /* 10 * 2 + 90 * 3 + 900 * 4 */
    EXPECT(strncmp(b.data, "0,1,2,", 6) == 0);
    buf_free(&b);
}

TEST(appends_bytes_texts_and_nothing)
{
    struct buf b = { 0 };

    EXPECT_OK(buf_append(&b, NULL, 0));
    EXPECT_OK(buf_append(&b, "a\0b", 3));
    EXPECT_OK(buf_append_text(&b, "cd"));
    EXPECT_INT(b.len, 5);
    EXPECT(memcmp(b.data, "a\0bcd", 6) == 0);
    buf_free(&b);
    EXPECT(b.data == NULL);
    EXPECT_INT(b.len, 0);
}

TEST(the_ceiling_is_exact_and_leaves_the_content)
{
    struct buf b = { .max_bytes = 4 };

    EXPECT_OK(buf_append_text(&b, "abcd"));
    EXPECT_STATUS(buf_append_text(&b, "e"), ERR_FULL);
    EXPECT_MESSAGE("limited to 4 bytes");
    EXPECT_STATUS(buf_printf(&b, "%d", 7), ERR_FULL);
    EXPECT_STATUS(buf_reserve(&b, (size_t)-1), ERR_FULL);
    EXPECT_TEXT(b.data, "abcd");
    buf_reset(&b);
    EXPECT_TEXT(b.data, "");
    EXPECT_OK(buf_append_text(&b, "efgh"));
    EXPECT_TEXT(b.data, "efgh");
    buf_free(&b);
}

TEST(a_buffer_without_a_ceiling_has_the_default_one)
{
    struct buf b = { 0 };

    EXPECT_STATUS(buf_reserve(&b, BUF_MAX_DEFAULT + 1), ERR_FULL);
    EXPECT_OK(buf_reserve(&b, BUF_MAX_DEFAULT));
    buf_free(&b);
}
