#include "common/base/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tool/test.h"

TEST(takes_are_aligned_and_apart)
{
    struct arena a = { 0 };
    void *p = NULL, *q = NULL;

    EXPECT_OK(arena_open(&a, "pool", 4096));
    EXPECT_OK(arena_take(&a, 1, &p));
    EXPECT_OK(arena_take(&a, 65, &q));
    EXPECT_INT((uintptr_t)p % ARENA_ALIGN, 0);
    EXPECT_INT((char *)q - (char *)p, ARENA_ALIGN);
    EXPECT_INT(a.used_bytes, 3 * ARENA_ALIGN);
    arena_close(&a);
    arena_close(&a);
}

TEST(a_full_arena_says_who_and_how_much)
{
    struct arena a = { 0 };
    void *p = NULL;

    EXPECT_OK(arena_open(&a, "the small pool", 256));
    EXPECT_OK(arena_take(&a, 256, &p));
    p = NULL;
    EXPECT_STATUS(arena_take(&a, 1, &p), ERR_NOMEM);
    EXPECT_MESSAGE("the small pool is full: 256 of 256 bytes used, 1 more");
    EXPECT(p == NULL);
    EXPECT_STATUS(arena_take(&a, SIZE_MAX, &p), ERR_NOMEM);
    EXPECT_STATUS(arena_take(&a, SIZE_MAX - ARENA_ALIGN, &p), ERR_NOMEM);
    EXPECT_STATUS(arena_open(&a, "the world", SIZE_MAX / 2), ERR_NOMEM);
    EXPECT_MESSAGE("the world");
    arena_close(&a);
}

TEST(release_gives_back_and_the_peak_stays)
{
    struct arena a = { 0 };
    void *p = NULL, *q = NULL;
    size_t mark;

    EXPECT_OK(arena_open(&a, "pool", 4096));
    EXPECT_OK(arena_take(&a, 64, &p));
    mark = arena_mark(&a);
    EXPECT_OK(arena_take(&a, 1000, &p));
    arena_release(&a, mark);
    EXPECT_OK(arena_take(&a, 10, &q));
    EXPECT(p == q);
    EXPECT_INT(a.peak_bytes, 64 + 1024);
    arena_close(&a);
}

TEST(zeroed_memory_is_zero_also_when_used_before)
{
    struct arena a = { 0 };
    void *p = NULL;

    EXPECT_OK(arena_open(&a, "pool", 128));
    EXPECT_OK(arena_take(&a, 128, &p));
    memset(p, 0xff, 128);
    arena_release(&a, 0);
    EXPECT_OK(arena_take_zeroed(&a, 128, &p));
    for (int i = 0; i < 128; i++)
        EXPECT_INT(((char *)p)[i], 0);
    arena_close(&a);
}

TEST(text_is_copied)
{
    struct arena a = { 0 };
    char text[] = "soup";
    const char *copy = NULL;

    EXPECT_OK(arena_open(&a, "pool", 128));
    EXPECT_OK(arena_take_text(&a, text, &copy));
    text[0] = 'r';
    EXPECT_TEXT(copy, "soup");
    arena_close(&a);
}

#ifdef __SANITIZE_ADDRESS__
static bool dies_writing_at(char *p)
{
    int wait_status = 0;
    pid_t child = fork();

    EXPECT(child >= 0);
    if (child == 0) {
        *(volatile char *)p = 1;
        _exit(0);
    }
    EXPECT(waitpid(child, &wait_status, 0) == child);
    return wait_status != 0;
}

TEST(the_sanitizer_sees_the_pieces)
{
    struct arena a = { 0 };
    void *p = NULL, *q = NULL;

    EXPECT_OK(arena_open(&a, "pool", 4096));
    EXPECT_OK(arena_take(&a, 10, &p));
    EXPECT_OK(arena_take(&a, 128, &q));
    EXPECT(!dies_writing_at((char *)p + 9) && dies_writing_at((char *)p + 10));
    EXPECT(!dies_writing_at((char *)q + 127) && dies_writing_at((char *)q + 128));
    arena_release(&a, 0);
    EXPECT(dies_writing_at(p));
    EXPECT_OK(arena_take(&a, 4096, &p));
    EXPECT(!dies_writing_at((char *)p + 4095));
    arena_close(&a);
}
#endif

/* A mark from the future is a bug of the caller and ends the process, in every build. */
TEST(a_foreign_block_is_handed_out_and_never_touched)
{
    /* An address without memory behind it: touching it would end the test. */
    char *nowhere = (char *)(uintptr_t)(ARENA_ALIGN * 3);
    struct arena a;
    void *p = NULL, *q = NULL;

    arena_open_at(&a, "device memory", nowhere, 4 * ARENA_ALIGN);
    EXPECT_OK(arena_take(&a, 1, &p));
    EXPECT_OK(arena_take(&a, 3 * ARENA_ALIGN, &q));
    EXPECT(p == nowhere && q == nowhere + ARENA_ALIGN);
    EXPECT_STATUS(arena_take(&a, 1, &p), ERR_NOMEM);
    arena_release(&a, 0);
    EXPECT_INT(a.peak_bytes, 4 * ARENA_ALIGN);
    arena_close(&a);
}

TEST(releasing_what_was_not_taken_is_a_bug)
{
    struct arena a = { 0 };
    int wait_status = 0;
    pid_t child;

    EXPECT_OK(arena_open(&a, "pool", 128));
    child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        arena_release(&a, 64);
        _exit(0);
    }
    EXPECT(waitpid(child, &wait_status, 0) == child);
    EXPECT(WIFSIGNALED(wait_status));
    arena_close(&a);
}
