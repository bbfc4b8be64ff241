#include "client/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/output.h"

#define BAR_MIN 8
#define BAR_MAX 32

const char *progress_line(const struct progress_view *view, size_t columns, char *dst, size_t room)
{
    char head[96] = "", time[32], bar[BAR_MAX + 1];
    double fraction = view->fraction < 0 ? 0 : view->fraction > 1 ? 1 : view->fraction;
    size_t fixed, width, full;

    if (view->total > 1) {
        int len = snprintf(head, sizeof(head), "%zu of %zu done", view->done, view->total);

        if (view->failed)
            len += snprintf(head + len, sizeof(head) - (size_t)len, ", %zu failed", view->failed);
        snprintf(head + len, sizeof(head) - (size_t)len, "  ");
    }
    output_duration(view->elapsed_ms, time, sizeof(time));
    /* head, stage padded to the longest, brackets, "100%", time */
    fixed = strlen(head) + 13 + 2 + 2 + 4 + 2 + strlen(time);
    width = columns > fixed + BAR_MIN ? columns - fixed : BAR_MIN;
    if (width > BAR_MAX)
        width = BAR_MAX;
    full = (size_t)(fraction * (double)width);
    memset(bar, '#', full);
    memset(bar + full, '-', width - full);
    bar[width] = '\0';
    snprintf(dst, room, "%s%-13.13s[%s] %3d%%  %s", head, view->stage, bar, (int)(fraction * 100),
             time);
    if (strlen(dst) > columns)
        dst[columns] = '\0';
    return dst;
}

void progress_begin(struct progress *p)
{
    p->is_terminal = isatty(STDERR_FILENO);
    p->drawn = 0;
}

static size_t terminal_columns(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
        return size.ws_col - 1u;
    return 79;
}

void progress_draw(struct progress *p, const struct progress_view *view)
{
    char line[256];
    size_t columns = terminal_columns(), len;

    if (!p->is_terminal)
        return;
    if (columns >= sizeof(line))
        columns = sizeof(line) - 1;
    progress_line(view, columns, line, sizeof(line));
    len = strlen(line);
    fprintf(stderr, "\r%s%*s", line, (int)(p->drawn > len ? p->drawn - len : 0), "");
    fflush(stderr);
    p->drawn = len;
}

void progress_clear(struct progress *p)
{
    if (p->drawn == 0)
        return;
    fprintf(stderr, "\r%*s\r", (int)p->drawn, "");
    fflush(stderr);
    p->drawn = 0;
}
