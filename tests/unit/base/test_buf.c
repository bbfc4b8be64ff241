#include "common/base/buf.h"

#include <string.h>

#include "tests/tool/test.h"

TEST(grows_and_stays_ended_by_nul)
{
    struct buf b = { 0 };

    for (int i = 0; i < 1000; i++)
        EXPECT_OK(buf_printf(&b, "%d,", i));
    EXPECT(b.data[b.len] == '\0');
    EXPECT_INT(strlen(b.data), b.len);
    buf_free(&b);
}
