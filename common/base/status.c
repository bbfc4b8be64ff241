#include "common/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct {
    char text[512];
    char where[96];
} failure;

static const struct {
    const char *name;
    bool is_retryable;
    int exit_code;
} status_table[] = {
    [OK] = { "ok", false, 0 },
    [ERR_BADARG] = { "badarg", false, 2 },
    [ERR_NOTFOUND] = { "notfound", false, 3 },
    [ERR_CONFLICT] = { "conflict", false, 4 },
    [ERR_CORRUPT] = { "corrupt", false, 5 },
    [ERR_IO] = { "io", true, 6 },
    [ERR_UNAVAILABLE] = { "unavailable", true, 7 },
    [ERR_TIMEOUT] = { "timeout", true, 8 },
    [ERR_FULL] = { "full", true, 9 },
    [ERR_NOMEM] = { "nomem", true, 10 },
    [ERR_DEVICE] = { "device", true, 11 },
    [ERR_CANCELLED] = { "cancelled", false, 12 },
};
_Static_assert(sizeof(status_table) / sizeof(status_table[0]) == STATUS_COUNT,
               "one row per status");

status status_set(status code, const char *file, int line, const char *fmt, ...)
{
    char text[sizeof(failure.text)];
    va_list args;

    /* The old sentence may be one of the arguments of the new one. */
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    memcpy(failure.text, text, sizeof(text));
    snprintf(failure.where, sizeof(failure.where), "%s:%d", file, line);
    return code;
}

const char *status_message(void)
{
    return failure.text;
}

const char *status_where(void)
{
    return failure.where;
}

void status_clear(void)
{
    failure.text[0] = '\0';
    failure.where[0] = '\0';
}

static bool is_known(status code)
{
    return (unsigned)code < STATUS_COUNT;
}

const char *status_name(status code)
{
    return is_known(code) ? status_table[code].name : "unknown";
}

status status_from_name(const char *name)
{
    for (int i = 0; i < STATUS_COUNT; i++) {
        if (strcmp(name, status_table[i].name) == 0)
            return (status)i;
    }
    return STATUS_COUNT;
}

bool status_is_retryable(status code)
{
    return is_known(code) && status_table[code].is_retryable;
}

int status_exit_code(status code)
{
    return is_known(code) ? status_table[code].exit_code : 1;
}
