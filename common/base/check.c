#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: CHECK failed: %s (a bug in onestep; please report it)\n", file, line,
            condition);
    abort();
}
