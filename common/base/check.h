/* check.h - CHECK: stop the process when only a bug in Onestep can explain what is seen.
 *
 * On in every build. Never used on data that came from outside: that is validated into a status. */
#ifndef ONESTEP_COMMON_BASE_CHECK_H
#define ONESTEP_COMMON_BASE_CHECK_H

/* Print the condition and its place on stderr and abort. Use through CHECK. */
_Noreturn void check_fail(const char *file, int line, const char *condition);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            check_fail(__FILE__, __LINE__, #condition);                                            \
    } while (0)

#endif
