/* test.h - the test harness: every test runs in a process of its own, with a time limit.
 *
 *   TEST(a_full_arena_says_so)
 *   {
 *       EXPECT_STATUS(arena_take(&a, 100, &p), ERR_NOMEM);
 *   }
 *
 * A test passes when its function returns. A failed expectation ends the process, from whatever
 * thread; a crash, a sanitizer's report or a passed time limit is a failure as well. What a test
 * prints is shown only when it fails. The working directory is the root of the project.
 * main() is here: link tests/tool/test.c and any number of files with TESTs. */
#ifndef ONESTEP_TESTS_TOOL_TEST_H
#define ONESTEP_TESTS_TOOL_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

#define TEST_TIMEOUT_DEFAULT_S 60

/* One registered test. */
struct test_case {
    const char *name;       /* the identifier given to TEST */
    const char *file;       /* source file, from the root */
    void (*run)(void);      /* returns when the test has passed */
    int timeout_s;          /* stretched in sanitizer builds */
    struct test_case *next; /* for the harness */
};

/* Define a test that may take timeout seconds. */
#define TEST_TIMEOUT(test_name, seconds)                                                           \
    static void test_name(void);                                                                   \
    __attribute__((constructor)) static void test_name##_register(void)                            \
    {                                                                                              \
        static struct test_case self = { #test_name, __FILE__, test_name, (seconds), NULL };       \
        test_add(&self);                                                                           \
    }                                                                                              \
    static void test_name(void)

/* Define a test. */
#define TEST(test_name) TEST_TIMEOUT(test_name, TEST_TIMEOUT_DEFAULT_S)

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_fail(__FILE__, __LINE__, "expected: %s", #condition);                             \
    } while (0)

/* The status expression is OK; otherwise its name and sentence are shown. */
#define EXPECT_OK(expr) test_expect_status(__FILE__, __LINE__, #expr, (expr), OK)

/* The status expression has this code. */
#define EXPECT_STATUS(expr, code) test_expect_status(__FILE__, __LINE__, #expr, (expr), (code))

/* The last failure's sentence holds this text. */
#define EXPECT_MESSAGE(part) test_expect_message(__FILE__, __LINE__, (part))

/* Two C strings are equal; NULL equals only NULL. */
#define EXPECT_TEXT(got, want) test_expect_text(__FILE__, __LINE__, #got, (got), (want))

/* Two whole numbers are equal. */
#define EXPECT_INT(got, want)                                                                      \
    test_expect_int(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))

/* |got - want| <= tol; NaN is never near anything. Say beside the call where tol comes from. */
#define EXPECT_NEAR(got, want, tol)                                                                \
    test_expect_near(__FILE__, __LINE__, #got, (double)(got), (double)(want), (double)(tol))

/* Register a test; for TEST only. */
void test_add(struct test_case *test);

/* End the test as failed with this message. Any thread. */
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* End the test as skipped, saying why. With --no-skip that is a failure. */
_Noreturn void test_skip(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* For the EXPECT macros above. */
void test_expect_status(const char *file, int line, const char *expr, status got, status want);

/* For the EXPECT macros above. */
void test_expect_message(const char *file, int line, const char *part);

/* For the EXPECT macros above. */
void test_expect_text(const char *file, int line, const char *expr, const char *got,
                      const char *want);

/* For the EXPECT macros above. */
void test_expect_int(const char *file, int line, const char *expr, long long got, long long want);

/* For the EXPECT macros above. tol: absolute. */
void test_expect_near(const char *file, int line, const char *expr, double got, double want,
                      double tol);

/* A fresh directory for this test, the same at each call; removed when the test passes, named in
 * the output when it fails. Short enough for unix socket paths below it. */
const char *test_tmpdir(void);

/* The directory with the programs that were built, absolute: --bin DIR, or where this binary
 * lies. */
const char *test_bin_dir(void);

/* --seed N, or a fixed default; shown when a test fails. */
uint64_t test_seed(void);

/* The next 64 bits of this test's own random sequence, which is a function of the seed and the
 * test's name. Thread: the test's first. */
uint64_t test_random(void);

/* Uniform in [0, 1), from test_random. */
double test_uniform(void);

/* Standard normal, from test_random. */
double test_normal(void);

#endif
