/* Numbers and how they are told over HTTP. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/exporter.h"
#include "common/metrics.h"
#include "tests/tool/test.h"

enum { SEEN = 0, ENDED, ROWS };

static const char *word(size_t value)
{
    static const char *const words[] = { "done", NULL, "failed" };

    return words[value];
}

static const struct metrics_row rows[ROWS] = {
    [SEEN] = { "onestep_seen_total", METRICS_COUNTER, "Things seen.", NULL, NULL, 0 },
    [ENDED] = { "onestep_ended", METRICS_GAUGE, "Things ended.", "how", word, 3 },
};

TEST(metrics_are_written_as_prometheus_reads_them)
{
    struct metrics *m;
    struct buf text = { 0 };

    EXPECT_OK(metrics_open(&m, rows, ROWS));
    metrics_add(m, SEEN, 0, 2);
    metrics_add(m, SEEN, 0, 0.5);
    metrics_set(m, ENDED, 2, 7);
    metrics_add(NULL, SEEN, 0, 1); /* nobody wants to know */
    EXPECT_OK(metrics_write(m, &text));
    EXPECT_TEXT(text.data, "# HELP onestep_seen_total Things seen.\n"
                           "# TYPE onestep_seen_total counter\n"
                           "onestep_seen_total 2.5\n"
                           "# HELP onestep_ended Things ended.\n"
                           "# TYPE onestep_ended gauge\n"
                           "onestep_ended{how=\"done\"} 0\n"
                           "onestep_ended{how=\"failed\"} 7\n");
    buf_free(&text);
    metrics_close(m);
}

/* A program that may hang or not be ready. */
struct program {
    struct metrics *metrics;
    bool hangs;
    const char *why;
};

static void refresh(void *self)
{
    metrics_set(((struct program *)self)->metrics, ENDED, 0, 3);
}

static bool is_healthy(void *self)
{
    return !((struct program *)self)->hangs;
}

static const char *not_ready(void *self)
{
    return ((struct program *)self)->why;
}

static int free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    EXPECT(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    EXPECT(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* What is answered to these bytes. */
static const char *ask(int port, const char *request)
{
    static char text[8192];
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t len = 0;
    ssize_t got;

    EXPECT(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    EXPECT(send(fd, request, strlen(request), 0) == (ssize_t)strlen(request));
    while ((got = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    close(fd);
    return text;
}

#define GET(path) ask(port, "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
#define EXPECT_ANSWER(text, code, part)                                                            \
    do {                                                                                           \
        const char *answer_ = (text);                                                              \
        EXPECT(strncmp(answer_, "HTTP/1.1 " code, 12) == 0);                                       \
        EXPECT(strstr(answer_, part) != NULL);                                                     \
    } while (0)

TEST(metrics_and_health_are_told_over_http)
{
    struct program p = { .why = NULL };
    struct exporter *e, *other;
    int port = free_port();
    char listen[64];
    struct exporter_config config = { .listen = listen,
                                      .self = &p,
                                      .refresh = refresh,
                                      .is_healthy = is_healthy,
                                      .not_ready = not_ready };

    snprintf(listen, sizeof(listen), "127.0.0.1:%d", port);
    EXPECT_OK(metrics_open(&p.metrics, rows, ROWS));
    config.metrics = p.metrics;
    EXPECT_OK(exporter_open(&e, &config));
    EXPECT_ANSWER(GET("/metrics"), "200", "onestep_ended{how=\"done\"} 3\n");
    EXPECT_ANSWER(GET("/healthz"), "200", "healthy");
    EXPECT_ANSWER(GET("/readyz"), "200", "ready");
    EXPECT_ANSWER(GET("/../etc/passwd"), "404", "try /metrics");
    EXPECT_ANSWER(ask(port, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                            "Content-Length: 0\r\n\r\n"),
                  "405", "only GET");
    EXPECT_STATUS(exporter_open(&other, &config), ERR_CONFLICT);
    exporter_close(e);
    metrics_close(p.metrics);
}

TEST(metrics_tell_what_is_wrong)
{
    struct program p = { .hangs = true, .why = "Redis does not answer" };
    struct exporter *e;
    int port = free_port();
    char listen[64];
    struct exporter_config config = {
        .listen = listen, .self = &p, .is_healthy = is_healthy, .not_ready = not_ready
    };

    snprintf(listen, sizeof(listen), "127.0.0.1:%d", port);
    EXPECT_OK(metrics_open(&p.metrics, rows, ROWS));
    config.metrics = p.metrics;
    EXPECT_OK(exporter_open(&e, &config));
    EXPECT_ANSWER(GET("/healthz"), "503", "it hangs");
    EXPECT_ANSWER(GET("/readyz"), "503", "Redis does not answer");
    exporter_close(e);
    metrics_close(p.metrics);
}

TEST(metrics_want_an_address)
{
    static const char *const wrong[] = { "9450",     ":9450", "::1:9450",        "localhost:9450",
                                         "1.2.3.4:", "[::1]", "1.2.3.4:99999999" };
    struct exporter *e;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct exporter_config config = { .listen = wrong[i] };

        EXPECT_STATUS(exporter_open(&e, &config), ERR_BADARG);
        EXPECT_MESSAGE("metrics_listen");
    }
}
