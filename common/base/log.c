#include "common/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static atomic_int log_threshold = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&log_threshold, (int)level);
}

int log_level_from_name(const char *name)
{
    for (int i = 0; i <= LOG_DEBUG; i++) {
        if (strcmp(name, level_names[i]) == 0)
            return i;
    }
    return -1;
}

static size_t append_time(char *dst, size_t room)
{
    struct timespec now;
    struct tm utc;
    size_t len;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = strftime(dst, room, "%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(dst + len, room - len, ".%03ldZ", now.tv_nsec / 1000000);
    return len;
}

/* A log line is one line: what came from outside must not start a second one. */
static void escape_controls(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

void log_write(enum log_level level, const char *event, const char *fmt, ...)
{
    char line[2048];
    size_t len;
    va_list args;
    int text_len;

    if ((int)level > atomic_load(&log_threshold))
        return;
    len = append_time(line, sizeof(line));
    len +=
        (size_t)snprintf(line + len, sizeof(line) - len, " %s %.64s ", level_names[level], event);
    va_start(args, fmt);
    text_len = vsnprintf(line + len, sizeof(line) - len - 1, fmt, args);
    va_end(args);
    if (text_len < 0)
        line[len] = '\0';
    escape_controls(line + len);
    len += strlen(line + len);
    line[len++] = '\n';
    /* One write per line keeps lines of several processes whole; a broken stderr has no remedy. */
    if (write(STDERR_FILENO, line, len) < 0)
        return;
}
