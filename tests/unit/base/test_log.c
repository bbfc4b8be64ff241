#include "common/base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "tests/tool/test.h"

/* Send stderr to a file of this test from now on. */
static void catch_stderr(char *path, size_t room)
{
    int fd;

    EXPECT_OK(file_join(path, room, test_tmpdir(), "log"));
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    EXPECT(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    close(fd);
}

TEST(a_line_has_time_level_event_and_pairs)
{
    char path[FILE_PATH_BYTES];
    struct buf text = { 0 };
    int year, month, day, hour, minute, second, ms, end = 0;

    catch_stderr(path, sizeof(path));
    log_warn("pot.boils", "litres=%d", 3);
    EXPECT_OK(file_read(path, 10000, &text));
    EXPECT_INT(sscanf(text.data, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ warn pot.boils litres=3\n%n", &year,
                      &month, &day, &hour, &minute, &second, &ms, &end),
               7);
    EXPECT_INT(end, text.len);
    buf_free(&text);
}

TEST(the_level_drops_what_is_above_it)
{
    char path[FILE_PATH_BYTES];
    struct buf text = { 0 };

    catch_stderr(path, sizeof(path));
    log_debug("a.a", "x=1");
    log_set_level(LOG_WARN);
    log_info("b.b", "x=1");
    log_error("c.c", "x=1");
    log_set_level(LOG_DEBUG);
    log_debug("d.d", "x=1");
    EXPECT_OK(file_read(path, 10000, &text));
    EXPECT(!strstr(text.data, "a.a") && !strstr(text.data, "b.b"));
    EXPECT(strstr(text.data, " error c.c x=1\n") && strstr(text.data, " debug d.d x=1\n"));
    buf_free(&text);
}

/* Text from outside must not forge a second line, and a long one must not pass the buffer. */
TEST(a_line_stays_one_line)
{
    char path[FILE_PATH_BYTES], long_text[5000];
    struct buf text = { 0 };

    catch_stderr(path, sizeof(path));
    log_error("job.failed", "message=%s", "bad\n2026-01-01T00:00:00.000Z info all.well x=\x1b[31m");
    EXPECT_OK(file_read(path, 10000, &text));
    EXPECT(strchr(text.data, '\n') == text.data + text.len - 1);
    EXPECT(!strchr(text.data, '\x1b'));
    memset(long_text, 'y', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';
    log_error("job.failed", "message=%s", long_text);
    EXPECT_OK(file_read(path, 10000, &text));
    EXPECT(text.data[text.len - 1] == '\n');
    buf_free(&text);
}

TEST(levels_have_names)
{
    EXPECT_INT(log_level_from_name("error"), LOG_ERROR);
    EXPECT_INT(log_level_from_name("debug"), LOG_DEBUG);
    EXPECT_INT(log_level_from_name("loud"), -1);
}
