/* What does it cost to store clips? CPU per clip of 1 MB with eight in flight, the time of an
 * upload beside that of `curl -T`, and the memory that a large one takes. The server is one of ours
 * that only swallows, so that its speed hides nothing; and Swift, where it is installed (storage.sh
 * starts it). */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/blob.h"
#include "common/sigv4.h"
#include "tests/tool/bench.h"

enum { CLIPS = 1000, CLIP_BYTES = 1000000, IN_FLIGHT = 8, ROUNDS = 15 };
#define LARGE_BYTES ((size_t)256 << 20)
#define SWIFT_BYTES ((size_t)64 << 20)
#define HUGE_BYTES ((size_t)1 << 30)
#define SMALL_BYTES ((size_t)10 << 20)

static char folder[] = "/tmp/onestep-bench-XXXXXX";
static char clip_path[64], large_path[64], swift_path[64], small_path[64], huge_path[64];
static uint8_t clip_sha256[DIGEST_BYTES], large_sha256[DIGEST_BYTES], swift_sha256[DIGEST_BYTES];
static uint8_t small_sha256[DIGEST_BYTES], huge_sha256[DIGEST_BYTES];

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

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The median of ROUNDS values, which are sorted. */
static double median(double values[ROUNDS])
{
    qsort(values, ROUNDS, sizeof(values[0]), by_size);
    return values[ROUNDS / 2];
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

/* What a store says to the steps of an upload in parts, and to a look at what came of it. */
static const char *answer_of_parts(const char *head, char answer[512])
{
    static const char empty[] = "<ListMultipartUploadsResult/>";
    static const char begun[] = "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                                "</InitiateMultipartUploadResult>";
    char hex[DIGEST_HEX_ROOM];
    const char *body = "";

    if (strncmp(head, "HEAD ", 5) == 0) {
        snprintf(answer, 512,
                 "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nx-amz-meta-onestep-sha256: %s\r\n\r\n",
                 HUGE_BYTES, digest_hex(huge_sha256, hex));
        return answer;
    }
    if (strncmp(head, "GET ", 4) == 0)
        body = empty;
    else if (strstr(head, "?uploads="))
        body = begun;
    snprintf(answer, 512, "HTTP/1.1 200 OK\r\nETag: \"part\"\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    return answer;
}

/* Answer every request as a store that has conditional PUT and compares digests. */
static void *serve(void *self)
{
    char parts[512];
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
        if (strstr(head, "uploadId=") || strstr(head, "uploads=") || strncmp(head, "PUT ", 4) != 0)
            answer = answer_of_parts(head, parts);
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

static void open_store(struct blob *b, const char *endpoint, uint64_t part_bytes)
{
    const struct blob_config c = { .url = "s3://clips",
                                   .s3 = { .endpoint = endpoint,
                                           .path_style = true,
                                           .credentials = { .access_key = who.access_key,
                                                            .secret_key = who.secret_key } },
                                   .timeout_ms = 600000,
                                   .part_bytes = part_bytes };
    bool has;

    check(blob_open(b, &c) == OK && blob_has_put_new(b, &has) == OK, "blob_open");
}

/* --- clips ---------------------------------------------------------------------------------- */

/* One of IN_FLIGHT threads, as workers of one machine are. */
struct sender {
    pthread_t thread;
    const char *endpoint;
    atomic_int *next;
    struct blob blob;
};

static void *send_clips(void *self)
{
    struct sender *s = self;
    char key[64];
    int number;

    while ((number = atomic_fetch_add(s->next, 1)) < CLIPS) {
        snprintf(key, sizeof(key), "bench/%04d.mp4", number);
        check(blob_put_file(&s->blob, key, clip_path, "video/mp4", clip_sha256) == OK, key);
    }
    return NULL;
}

/* 1000 clips through blob_put_file, eight at once; CPU of this process per clip. */
static void bench_clips(const struct bench *b, const char *endpoint, const char *name)
{
    static struct sender senders[IN_FLIGHT];
    atomic_int next = 0;
    double cpu, begin;

    for (int i = 0; i < IN_FLIGHT; i++) {
        senders[i] = (struct sender){ .endpoint = endpoint, .next = &next };
        open_store(&senders[i].blob, endpoint, 0);
    }
    cpu = cpu_seconds();
    begin = clock_mono_s();
    for (int i = 0; i < IN_FLIGHT; i++)
        check(pthread_create(&senders[i].thread, NULL, send_clips, &senders[i]) == 0, "thread");
    for (int i = 0; i < IN_FLIGHT; i++)
        pthread_join(senders[i].thread, NULL);
    cpu = cpu_seconds() - cpu;
    bench_report(
        b, &(struct bench_row){ .name = name, .value = 1000 * cpu / CLIPS, .unit = "ms CPU/clip" });
    fprintf(stderr, "# %d clips in %.1f s\n", CLIPS, clock_mono_s() - begin);
    for (int i = 0; i < IN_FLIGHT; i++)
        blob_close(&senders[i].blob);
}

/* --- beside curl ---------------------------------------------------------------------------- */

/* Seconds that curl itself counts, from its first look at the name to the end of the answer: its
 * start as a program is not in them. It sends the headers that we would, signature and digest
 * included, so that the server has the same to do. */
static double curl_seconds(const char *endpoint, const char *path, const uint8_t *sha256)
{
    static struct sigv4_signed out;
    char command[8192], target[128], hex[DIGEST_HEX_ROOM];
    struct url u;
    const struct sigv4_request q = {
        .method = "PUT", .url = &u, .payload = digest_hex(sha256, hex), .wall_ms = clock_wall_ms()
    };
    double seconds = -1;
    FILE *f;

    snprintf(target, sizeof(target), "%s/clips/large", endpoint);
    check(url_parse(&u, target) == OK && sigv4_sign(NULL, &who, &q, &out) == OK, target);
    snprintf(command, sizeof(command),
             "curl -sf -o /dev/null -w '%%{time_total}' -H 'Authorization: %s' -H 'X-Amz-Date: %s' "
             "-H 'X-Amz-Content-Sha256: %s' -T '%s' '%s'",
             out.authorization, out.date, out.payload, path, target);
    f = popen(command, "r");
    check(f && fscanf(f, "%lf", &seconds) == 1 && pclose(f) == 0 && seconds > 0, "curl");
    return seconds;
}

/* A file to a store, in turns, so that both meet the same machine; the medians. */
static void bench_beside_curl(const struct bench *b, const char *endpoint, const char *name,
                              const char *path, const uint8_t *sha256)
{
    double ours[ROUNDS], curl[ROUNDS], ratio[ROUNDS], cpu = 0, begin;
    struct blob blob;

    open_store(&blob, endpoint, (uint64_t)2 << 30);
    for (int i = -1; i < ROUNDS; i++) { /* the first warms up both */
        double before = cpu_seconds(), mine, theirs;

        begin = clock_mono_s();
        check(blob_put_file(&blob, "large", path, "video/mp4", sha256) == OK, "upload");
        mine = clock_mono_s() - begin;
        cpu += i < 0 ? 0 : cpu_seconds() - before;
        theirs = curl_seconds(endpoint, path, sha256);
        if (i < 0)
            continue;
        ours[i] = mine;
        curl[i] = theirs;
        ratio[i] = theirs / mine;
    }
    fprintf(stderr, "# %s: curl -T %.0f ms, ours %.0f ms, median of pairs %.3f; CPU %.0f ms\n",
            name, 1000 * median(curl), 1000 * median(ours), median(ratio), 1000 * cpu / ROUNDS);
    bench_report(b, &(struct bench_row){ .name = name,
                                         .value = 1000 * median(ours),
                                         .unit = "ms",
                                         .peer = "curl -T",
                                         .ratio = median(ratio) });
    blob_close(&blob);
}

/* --- memory --------------------------------------------------------------------------------- */

/* The most memory that a process ever used which did nothing but store this file, in parts when it
 * is larger than one. */
static double peak_mb_of(const char *endpoint, const char *path, const uint8_t *sha256)
{
    struct rusage u;
    int code;
    pid_t pid = fork();

    check(pid >= 0, "fork");
    if (pid == 0) {
        struct blob blob;

        open_store(&blob, endpoint, 0);
        _exit(blob_put_file(&blob, "memory", path, "video/mp4", sha256) == OK ? 0 : 1);
    }
    check(wait4(pid, &code, 0, &u) == pid && code == 0, path);
    return (double)u.ru_maxrss / 1024;
}

static void bench_memory(const struct bench *b, const char *endpoint)
{
    const double small = peak_mb_of(endpoint, small_path, small_sha256);
    const double huge = peak_mb_of(endpoint, huge_path, huge_sha256);

    bench_report(
        b, &(struct bench_row){ .name = "storage.peak_of_10_mib", .value = small, .unit = "MB" });
    bench_report(
        b, &(struct bench_row){ .name = "storage.peak_of_1_gib", .value = huge, .unit = "MB" });
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
    snprintf(swift_path, sizeof(swift_path), "%s/swift", folder);
    snprintf(small_path, sizeof(small_path), "%s/small", folder);
    snprintf(huge_path, sizeof(huge_path), "%s/huge", folder);
    make_file(clip_path, CLIP_BYTES, clip_sha256);
    make_file(large_path, LARGE_BYTES, large_sha256);
    make_file(swift_path, SWIFT_BYTES, swift_sha256);
    make_file(small_path, SMALL_BYTES, small_sha256);
    make_file(huge_path, HUGE_BYTES, huge_sha256);
    port = start_swallower(&swallower);
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", port);
    bench_memory(&b, endpoint);
    bench_beside_curl(&b, endpoint, "storage.upload_256_mib", large_path, large_sha256);
    bench_clips(&b, endpoint, "storage.clips");
    if (strcmp(store, "-") != 0) {
        bench_beside_curl(&b, store, "storage.upload_64_mib_to_swift", swift_path, swift_sha256);
        bench_clips(&b, store, "storage.clips_to_swift");
    }
    kill(swallower, SIGKILL);
    waitpid(swallower, NULL, 0);
    check(file_remove_tree(folder) == OK, folder);
    return 0;
}
