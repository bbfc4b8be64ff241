/* Object stores and inputs behind TLS: openssl's own server, which hands out files that are whole
 * answers, with certificates that are made here. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/blob.h"
#include "common/fetch.h"
#include "tests/tool/test.h"

#define WAIT_MS 30000
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"

struct server {
    pid_t pid;
    int port;
    char ca_file[FILE_PATH_BYTES]; /* that vouches for it */
};

static struct sockaddr_in address_of(int port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int free_port(void)
{
    struct sockaddr_in a = address_of(0);
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    EXPECT(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    EXPECT(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

static bool answers(void *self)
{
    const struct server *s = self;
    struct sockaddr_in a = address_of(s->port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool has = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

    close(fd);
    return has;
}

/* Serve ANSWER at /clips/k, with a certificate for this subject alternative name. */
static void start(struct server *s, const char *subject)
{
    char command[3 * FILE_PATH_BYTES], folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES], port[16];

    EXPECT_OK(file_join(folder, sizeof(folder), test_tmpdir(), "clips"));
    EXPECT_OK(file_make_dirs(folder));
    EXPECT_OK(file_join(path, sizeof(path), folder, "k"));
    EXPECT_OK(file_write_atomic(path, ANSWER, strlen(ANSWER)));
    EXPECT_OK(file_join(s->ca_file, sizeof(s->ca_file), test_tmpdir(), "s.pem"));
    snprintf(command, sizeof(command),
             "cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
             "-keyout s.key.pem -out s.pem -days 2 -subj /CN=s -addext subjectAltName=%s "
             "2>/dev/null",
             test_tmpdir(), subject);
    EXPECT(system(command) == 0);
    s->port = free_port();
    snprintf(port, sizeof(port), "%d", s->port);
    s->pid = fork();
    EXPECT(s->pid >= 0);
    if (s->pid == 0) {
        if (chdir(test_tmpdir()) == 0)
            execlp("openssl", "openssl", "s_server", "-quiet", "-accept", port, "-cert", "s.pem",
                   "-key", "s.key.pem", "-HTTP", NULL);
        _exit(127);
    }
    EXPECT(clock_wait_for(answers, s, WAIT_MS));
}

static void stop(struct server *s)
{
    EXPECT(kill(s->pid, SIGKILL) == 0);
    EXPECT(waitpid(s->pid, NULL, 0) == s->pid);
}

/* The object from a store at this server, whose word is ca_file's. */
static status get_object(const struct server *s, const char *ca_file, struct buf *out)
{
    char endpoint[64];
    const struct blob_config c = {
        .url = "s3://clips",
        .s3 = { .endpoint = endpoint,
                .path_style = true,
                .credentials = { .access_key = "AKID", .secret_key = "secret" } },
        .ca_file = ca_file,
    };
    struct blob b;
    status st;

    snprintf(endpoint, sizeof(endpoint), "https://127.0.0.1:%d", s->port);
    EXPECT_OK(blob_open(&b, &c));
    st = blob_get(&b, "k", out);
    blob_close(&b);
    return st;
}

/* The same as an input. */
static status get_input(const struct server *s, const char *ca_file, struct buf *out)
{
    const struct fetch_config c = { .allow_private_hosts = true, .ca_file = ca_file };
    struct fetch f;
    char url[64];
    status st;

    snprintf(url, sizeof(url), "https://127.0.0.1:%d/clips/k", s->port);
    EXPECT_OK(fetch_open(&f, &c));
    st = fetch_get(&f, url, out);
    fetch_close(&f);
    return st;
}

TEST(storage_behind_tls_is_read_with_its_ca_file)
{
    struct buf out = { 0 };
    struct server s;

    start(&s, "IP:127.0.0.1");
    EXPECT_OK(get_object(&s, s.ca_file, &out));
    EXPECT(out.len == 5 && memcmp(out.data, "hello", 5) == 0);
    buf_reset(&out);
    EXPECT_OK(get_input(&s, s.ca_file, &out));
    EXPECT(out.len == 5 && memcmp(out.data, "hello", 5) == 0);
    buf_free(&out);
    stop(&s);
}

/* A certificate that nobody vouches for, and one of another name. */
TEST(storage_behind_tls_that_is_not_trusted_is_refused)
{
    struct buf out = { 0 };
    struct server s;

    start(&s, "IP:127.0.0.1");
    EXPECT_STATUS(get_object(&s, NULL, &out), ERR_BADARG);
    EXPECT_MESSAGE("certificate");
    EXPECT_STATUS(get_input(&s, NULL, &out), ERR_BADARG);
    EXPECT_MESSAGE("certificate");
    stop(&s);
    start(&s, "IP:127.0.0.2");
    EXPECT_STATUS(get_object(&s, s.ca_file, &out), ERR_BADARG);
    EXPECT_STATUS(get_input(&s, s.ca_file, &out), ERR_BADARG);
    EXPECT_INT(out.len, 0);
    buf_free(&out);
    stop(&s);
}
