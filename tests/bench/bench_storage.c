/* What does it cost to store clips? CPU per clip of 1 MB with eight in flight, the time of an
 * upload beside that of `curl -T`, and the memory that a large one takes. The server is one of ours
 * that only swallows, so that its speed hides nothing; and Swift, where it is installed (storage.sh
 * starts it). */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/blob.h"
#include "common/http.h"
#include "tests/tool/bench.h"

enum { CLIPS = 1000, CLIP_BYTES = 1000000, IN_FLIGHT = 8, ROUNDS = 9 };
#define LARGE_BYTES ((size_t)256 << 20)

static char folder[] = "/tmp/onestep-bench-XXXXXX";
static char clip_path[64], large_path[64];
static uint8_t clip_sha256[DIGEST_BYTES], large_sha256[DIGEST_BYTES];

static void check(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "bench_storage: %s failed: %s\n", what, status_message());
        exit(1);
    }
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* The most memory that was ever used, in MB, without pages of files. */
static double peak_mb(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

/* --- a server that swallows ----------------------------------------------------------------- */

/* Read one request's head and body; false at the end. */
static bool swallow(int fd, char *head, size_t room)
{
    static _Thread_local char bytes[1 << 20];
    size_t len = 0, left;
    char *end = NULL;
    const char *at;
    ssize_t got;

    while (!end && len + 1 < room) {
        got = read(fd, head + len, room - 1 - len);
        if (got <= 0)
            return false;
        len += (size_t)got;
        head[len] = '\0';
        end = strstr(head, "\r\n\r\n");
    }
    if (!end)
        return false;
    at = strstr(head, "Content-Length: ");
    left = at && at < end ? strtoull(at + 16, NULL, 10) : 0;
    len -= (size_t)(end + 4 - head);
    *end = '\0';
    if (strstr(head, "100-continue") && write(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25) != 25)
        return false;
    for (left -= len < left ? len : left; left; left -= (size_t)got) {
        got = read(fd, bytes, left < sizeof(bytes) ? left : sizeof(bytes));
        if (got <= 0)
            return false;
    }
    return true;
}

/* Answer every request as a store that has conditional PUT and compares digests. */
static void *serve(void *self)
{
    static const char good[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    static const char exists[] = "HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n";
    static const char damaged[] = "HTTP/1.1 400 No\r\nContent-Length: 39\r\n\r\n"
                                  "<Error><Code>BadDigest</Code></Error>\r\n";
    int fd = (int)(intptr_t)self;
    char head[16384];
    const char *answer = good;

    while (answer && swallow(fd, head, sizeof(head))) {
        answer = good;
        if (strstr(head, "If-None-Match"))
            answer = exists;
        if (strstr(head, "Sha256: 00000000"))
            answer = damaged;
        if (write(fd, answer, strlen(answer)) < 0)
            answer = NULL;
    }
    close(fd);
    return NULL;
}

/* In a process of its own, so that its CPU is not ours. Returns its port. */
static int start_swallower(pid_t *pid)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(a);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(listener >= 0 && bind(listener, (struct sockaddr *)&a, sizeof(a)) == 0 &&
              listen(listener, 64) == 0 && getsockname(listener, (void *)&a, &len) == 0,
          "listen");
    *pid = fork();
    check(*pid >= 0, "fork");
    while (*pid == 0) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;

        if (fd >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    }
    close(listener);
    return ntohs(a.sin_port);
}

/* --- what is measured ----------------------------------------------------------------------- */

static const struct sigv4_signer who = { "test:tester", "testing", "", "us-east-1", "s3" };

/* An upload under way. */
struct clip {
    struct http_call call;
    char url[160];
};

static void start_clip(struct http *h, struct clip *c, const char *endpoint, int fd, int number)
{
    static char hex[DIGEST_HEX_ROOM];

    memset(c, 0, sizeof(*c));
    snprintf(c->url, sizeof(c->url), "%s/clips/bench/%04d.mp4", endpoint, number);
    c->call.q = (struct http_request){ .method = HTTP_PUT,
                                       .url = c->url,
                                       .headers = { "Content-Type: video/mp4" },
                                       .body_fd = fd,
                                       .body_bytes = CLIP_BYTES,
                                       .body_sha256_hex = digest_hex(clip_sha256, hex),
                                       .sign = &who,
                                       .timeout_ms = 600000 };
    check(http_start(h, &c->call) == OK, "http_start");
}

/* 1000 clips, eight at once; CPU of this process per clip. */
static void bench_clips(const struct bench *b, const char *endpoint, const char *name)
{
    static struct clip clips[IN_FLIGHT];
    struct http h;
    struct http_call *back;
    int fd = open(clip_path, O_RDONLY | O_CLOEXEC), next = 0, good = 0;
    double cpu, begin;

    check(fd >= 0 && http_open(&h, &(struct http_config){ .allow_private_hosts = true }) == OK,
          "http_open");
    cpu = cpu_seconds();
    begin = clock_mono_s();
    while (next < IN_FLIGHT)
        start_clip(&h, &clips[next], endpoint, fd, next), next++;
    while ((back = http_wait(&h))) {
        check(back->st == OK && back->r.code / 100 == 2, back->q.url);
        http_response_free(&back->r);
        good++;
        if (next < CLIPS)
            start_clip(&h, (struct clip *)(void *)back, endpoint, fd, next++);
    }
    check(good == CLIPS, "every clip");
    bench_report(b, &(struct bench_row){ .name = name,
                                         .value = 1000 * (cpu_seconds() - cpu) / CLIPS,
                                         .unit = "ms CPU/clip" });
    fprintf(stderr, "# %d clips in %.1f s\n", good, clock_mono_s() - begin);
    http_close(&h);
    close(fd);
}

/* An upload of the large file. */
struct upload {
    char endpoint[64];
    struct blob blob;
};

static void upload_ours(void *self)
{
    struct upload *u = self;

    check(blob_put_file(&u->blob, "large", large_path, "video/mp4", large_sha256) == OK, "upload");
}

static void upload_curl(void *self)
{
    const struct upload *u = self;
    char command[256];

    snprintf(command, sizeof(command), "curl -sf -o /dev/null -T %s %s/clips/large", large_path,
             u->endpoint);
    check(system(command) == 0, "curl");
}

/* The lesser of best and the seconds that work takes now. */
static double seconds_of(void (*work)(void *self), void *self, double best)
{
    double begin = clock_mono_s(), took;

    work(self);
    took = clock_mono_s() - begin;
    return took < best ? took : best;
}

static void bench_large(const struct bench *b, int port)
{
    struct upload u = { .endpoint = "" };
    double ours, curl, before;

    snprintf(u.endpoint, sizeof(u.endpoint), "http://127.0.0.1:%d", port);
    check(blob_open(&u.blob, &(struct blob_config){ .url = "s3://clips",
                                                    .s3 = { .endpoint = u.endpoint,
                                                            .path_style = true,
                                                            .credentials = { .access_key = "a",
                                                                             .secret_key = "s" } },
                                                    .part_bytes = 2 * LARGE_BYTES }) == OK,
          "blob_open");
    upload_ours(&u);
    before = peak_mb();
    ours = curl = 1e9;
    for (int round = 0; round < ROUNDS;
         round++) { /* in turns, so that both meet the same machine */
        ours = seconds_of(upload_ours, &u, ours);
        curl = seconds_of(upload_curl, &u, curl);
    }
    bench_report(b, &(struct bench_row){ .name = "storage.upload_256_mib",
                                         .value = 1000 * ours,
                                         .unit = "ms",
                                         .peer = "curl -T",
                                         .ratio = curl / ours });
    bench_report(b, &(struct bench_row){
                        .name = "storage.upload_256_mib.peak", .value = before, .unit = "MB" });
    blob_close(&u.blob);
}

/* Zeroes: nobody compresses them. */
static void make_file(const char *path, size_t bytes, uint8_t sha256[DIGEST_BYTES])
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    check(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && close(fd) == 0, path);
    check(digest_file(path, sha256, NULL) == OK, path);
}

/* Arguments: the endpoint of a store with a bucket "clips" for test:tester, or "-"; and bench's. */
int main(int argc, char **argv)
{
    struct bench b;
    pid_t swallower;
    const char *store = argc > 1 ? argv[1] : "-";
    char endpoint[64];
    int port;

    check(argc > 1, "the address of a store");
    argv[1] = argv[0];
    bench_init(&b, argc - 1, argv + 1);
    check(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(clip_path, sizeof(clip_path), "%s/clip", folder);
    snprintf(large_path, sizeof(large_path), "%s/large", folder);
    make_file(clip_path, CLIP_BYTES, clip_sha256);
    make_file(large_path, LARGE_BYTES, large_sha256);
    port = start_swallower(&swallower);
    bench_large(&b, port);
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", port);
    bench_clips(&b, endpoint, "storage.clips");
    if (strcmp(store, "-") != 0)
        bench_clips(&b, store, "storage.clips_to_swift");
    kill(swallower, SIGKILL);
    waitpid(swallower, NULL, 0);
    check(file_remove_tree(folder) == OK, folder);
    return 0;
}
