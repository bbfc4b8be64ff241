/* Our store against servers that others wrote: OpenStack Swift, which checks signatures and digests
 * and has no conditional PUT, and moto, which has that and checks neither. boto3 reads what we
 * stored. They are started by scripts next to this file and die with the test. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/blob.h"
#include "common/config.h"
#include "common/http.h"
#include "tests/e2e/stack.h"
#include "tests/tool/test.h"

#define ACCESS "test:tester"
#define SECRET "testing"
#define SMALL_BYTES 200000
/* Five Python programs on a busy machine. */
#define START_WAIT_MS 120000
#define PART_BYTES (5 << 20) /* the least that moto takes */
#define LARGE_BYTES (12 << 20)

/* A server, started by a script that ends when its standard input does. */
struct server {
    pid_t pid;
    int input, port;
    char endpoint[64];
};

static void start(struct server *s, const char *script)
{
    const char *folder = test_tmpdir(); /* made here, not in the child */
    int in[2], out[2];
    char line[64] = "";
    size_t len = 0;
    int64_t deadline_ms = clock_mono_ms() + START_WAIT_MS;

    EXPECT(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    fflush(NULL);
    s->pid = fork();
    EXPECT(s->pid >= 0);
    if (s->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl(script, script, folder, NULL);
        _exit(126);
    }
    close(in[0]);
    close(out[1]);
    s->input = in[1];
    while (!strchr(line, '\n') && len + 1 < sizeof(line)) {
        struct pollfd p = { out[0], POLLIN, 0 };
        ssize_t got;

        EXPECT(poll(&p, 1, (int)(deadline_ms - clock_mono_ms())) > 0);
        got = read(out[0], line + len, sizeof(line) - 1 - len);
        if (got <= 0)
            break;
        len += (size_t)got;
        line[len] = '\0';
    }
    close(out[0]);
    if (len == 0) {
        int ended;

        EXPECT(waitpid(s->pid, &ended, 0) == s->pid && WIFEXITED(ended));
        if (WEXITSTATUS(ended) == 3)
            test_skip("%s is not there to ask", script);
    }
    EXPECT_INT(sscanf(line, "ready %d", &s->port), 1);
    snprintf(s->endpoint, sizeof(s->endpoint), "http://127.0.0.1:%d", s->port);
}

static void stop(struct server *s)
{
    close(s->input);
    EXPECT(waitpid(s->pid, NULL, 0) == s->pid);
}

static void make_bucket(const struct server *s, const char *name)
{
    static const struct sigv4_signer who = { ACCESS, SECRET, "", "us-east-1", "s3" };
    struct http client;
    char url[128];
    struct http_request q = { .method = HTTP_PUT, .url = url, .body = "", .sign = &who };
    struct http_response r = { 0 };

    snprintf(url, sizeof(url), "%s/%s", s->endpoint, name);
    EXPECT_OK(http_open(&client, &(struct http_config){ .allow_private_hosts = true }));
    EXPECT_OK(http_do(&client, &q, &r));
    EXPECT_OK(http_check(&q, &r));
    http_response_free(&r);
    http_close(&client);
}

static void open_store(const struct server *s, struct blob *b)
{
    EXPECT_OK(blob_open(b, &(struct blob_config){ .url = "s3://clips/some/results",
                                                  .s3 = { .endpoint = s->endpoint,
                                                          .path_style = true,
                                                          .credentials = { .access_key = ACCESS,
                                                                           .secret_key = SECRET } },
                                                  .part_bytes = PART_BYTES }));
}

/* A file of random bytes; returns its path. */
static const char *make_file(const char *name, size_t len, uint8_t sha256[DIGEST_BYTES])
{
    const char *path = stack_path(name);
    uint64_t *bytes = malloc(len);

    EXPECT(bytes);
    for (size_t i = 0; i < len / 8; i++)
        bytes[i] = test_random() ^ (uint64_t)test_random() << 32;
    EXPECT_OK(file_write_atomic(path, bytes, len / 8 * 8));
    EXPECT_OK(digest_file(path, sha256, NULL));
    free(bytes);
    return path;
}

/* Both files hold the same. */
static void expect_same(const char *a, const char *b)
{
    uint8_t x[DIGEST_BYTES], y[DIGEST_BYTES];

    EXPECT_OK(digest_file(a, x, NULL));
    EXPECT_OK(digest_file(b, y, NULL));
    EXPECT(memcmp(x, y, sizeof(x)) == 0);
}

/* What boto3 reads at key is the file at path. python: one that has boto3. */
static void expect_boto3(const struct server *s, const char *python, const char *key,
                         const char *path)
{
    char command[2048];

    snprintf(command, sizeof(command),
             "%s -c 'import boto3, sys\n"
             "from botocore.config import Config\n"
             "s3 = boto3.client(\"s3\", endpoint_url=sys.argv[1], region_name=\"us-east-1\",\n"
             "    aws_access_key_id=\"" ACCESS "\", aws_secret_access_key=\"" SECRET "\",\n"
             "    config=Config(s3={\"addressing_style\": \"path\"}))\n"
             "got = s3.get_object(Bucket=\"clips\", Key=sys.argv[2])\n"
             "want = open(sys.argv[3], \"rb\").read()\n"
             "sys.exit(0 if got[\"Body\"].read() == want else 1)' '%s' '%s' '%s'",
             python, s->endpoint, key, path);
    EXPECT_INT(system(command), 0);
}

/* The URL that anybody may use gives the file at path. */
static void expect_presigned(struct blob *b, const char *key, const char *path)
{
    static char url[SIGV4_URL_ROOM];
    struct http client;
    struct http_request q = { .method = HTTP_GET, .url = url, .response_bytes_max = SMALL_BYTES };
    struct http_response r = { 0 };
    uint8_t want[DIGEST_BYTES], got[DIGEST_BYTES];

    EXPECT_OK(blob_presign(b, key, 600, url, sizeof(url)));
    EXPECT_OK(http_open(&client, &(struct http_config){ .allow_private_hosts = true }));
    EXPECT_OK(http_do(&client, &q, &r));
    EXPECT_OK(http_check(&q, &r));
    EXPECT_OK(digest_file(path, want, NULL));
    EXPECT_OK(digest_sha256(r.body.data, r.body.len, got));
    EXPECT(memcmp(want, got, sizeof(got)) == 0);
    http_response_free(&r);
    http_close(&client);
}

static status count(void *self, const struct blob_entry *entry)
{
    EXPECT(entry->modified_ms > 1700000000000);
    ++*(int *)self;
    return OK;
}

static void expect_listed(struct blob *b, const char *prefix, int want)
{
    int got = 0;

    EXPECT_OK(blob_list(b, prefix, count, &got));
    EXPECT_INT(got, want);
}

/* What every store has to do. */
static void check_store(struct server *s, bool has_put_new, const char *python)
{
    static const char small_key[] = "run=7/a1-x/clip.mp4", large_key[] = "run=7/a1-x/large.mp4";
    struct blob b;
    uint8_t small_sha[DIGEST_BYTES], large_sha[DIGEST_BYTES];
    const char *small = make_file("small", SMALL_BYTES, small_sha);
    const char *large = make_file("large", LARGE_BYTES, large_sha), *copy = stack_path("copy");
    struct blob_info info;
    struct blob_entry gone = { .key = "run=7/a1-x/clip.mp4" };
    bool has;
    char hex[DIGEST_HEX_ROOM];

    make_bucket(s, "clips");
    open_store(s, &b);
    EXPECT_OK(blob_has_put_new(&b, &has));
    EXPECT_INT(has, has_put_new);
    b.owner = "run=7/a1-x";
    EXPECT_OK(blob_put_file(&b, small_key, small, "video/mp4", small_sha));
    EXPECT_OK(blob_put_file(&b, large_key, large, "video/mp4", large_sha));
    EXPECT_OK(blob_get_to_file(&b, small_key, copy));
    expect_same(copy, small);
    EXPECT_OK(blob_get_to_file(&b, large_key, copy));
    expect_same(copy, large);
    EXPECT_OK(blob_head(&b, large_key, &info));
    EXPECT_INT(info.bytes, LARGE_BYTES);
    EXPECT_TEXT(info.sha256_hex, digest_hex(large_sha, hex));
    expect_boto3(s, python, "some/results/run=7/a1-x/clip.mp4", small);
    expect_boto3(s, python, "some/results/run=7/a1-x/large.mp4", large);
    expect_presigned(&b, small_key, small);
    EXPECT_STATUS(blob_put_file(&b, "wrong", small, "video/mp4", large_sha), ERR_CORRUPT);
    EXPECT_STATUS(blob_head(&b, "wrong", NULL), ERR_NOTFOUND);
    if (has) {
        EXPECT_OK(blob_put_new(&b, "run=7/manifest.json", "mine", 4));
        EXPECT_OK(blob_put_new(&b, "run=7/manifest.json", "mine", 4));
        EXPECT_STATUS(blob_put_new(&b, "run=7/manifest.json", "late", 4), ERR_CONFLICT);
    }
    expect_listed(&b, "run=7/a1", 2);
    EXPECT_OK(blob_remove(&b, &gone));
    EXPECT_OK(blob_remove(&b, &gone));
    expect_listed(&b, "run=7/a1", 1);
    EXPECT_STATUS(blob_head(&b, small_key, NULL), ERR_NOTFOUND);
    blob_close(&b);
}

/* The folder of a Python with boto3 that belongs to the servers. */
static void need_swift(void)
{
    if (system("command -v swift-proxy-server swift-object-server >/dev/null && "
               "/usr/bin/python3 -c 'import boto3, lxml' 2>/dev/null") != 0)
        test_skip("no Swift or no boto3; ops/setup/deps.sh --with-storage installs them");
}

TEST_TIMEOUT(storage_at_openstack_swift, 300)
{
    struct server s;

    need_swift();
    start(&s, "tests/e2e/swift.sh");
    check_store(&s, false, "/usr/bin/python3");
    stop(&s);
}

/* The Python that moto.sh uses: of its own folder, or the one on the PATH. */
static const char *python_of_moto(void)
{
    static char python[512];
    const char *home = config_env("HOME"), *folder = config_env("ONESTEP_MOTO");

    if (folder)
        snprintf(python, sizeof(python), "%.400s/bin/python", folder);
    else
        snprintf(python, sizeof(python), "%.400s/.cache/onestep/moto/bin/python", home ? home : "");
    if (file_exists(python))
        return python;
    if (system("command -v moto_server >/dev/null && python3 -c 'import boto3, moto' 2>/dev/null"))
        test_skip("no moto; tests/e2e/moto.sh --install installs it");
    return "python3";
}

TEST_TIMEOUT(storage_at_moto, 300)
{
    const char *python = python_of_moto();
    struct server s;

    start(&s, "tests/e2e/moto.sh");
    check_store(&s, true, python);
    stop(&s);
}

/* From a photograph in Swift to a result in Swift, with the programs. Swift has no conditional PUT:
 * the manifest is the attempt's own. */
TEST_TIMEOUT(storage_programs_at_openstack_swift, 400)
{
    struct server s;
    struct stack k;
    struct stack_output o;
    char job[JOB_ID_BYTES], text[4096], endpoint[96], name[64], key[256];
    struct json j = { 0 };
    struct json_value line, result;
    const char *manifest;

    need_swift();
    start(&s, "tests/e2e/swift.sh");
    make_bucket(&s, "clips");
    EXPECT(setenv("AWS_ACCESS_KEY_ID", ACCESS, 1) == 0);
    EXPECT(setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1) == 0);
    stack_open(&k);
    snprintf(text, sizeof(text),
             "model: \"%.1000s\"\nbrokers: [\"tcp://127.0.0.1:%d\"]\nblob: s3://clips/out\n"
             "s3_endpoint: %s\ns3_path_style: true\nthreads: 1\ninput_root: \"%.1000s\"\n",
             stack_model(), k.worker_port, s.endpoint, stack_source("ops/samples"));
    stack_write("worker.yaml", text);
    stack_add_worker(&k, 0);
    snprintf(job, sizeof(job), "%s",
             stack_submit(&k, (const char *[]){ "--frames=2", "--output=birds", NULL }));
    o = ONESTEP("wait", job, k.broker_flag);
    stack_expect(&o, 0, NULL);
    o = ONESTEP("status", job, "--json", k.broker_flag);
    line = stack_json(&j, o.out);
    result = json_find(&line, "result");
    manifest = stack_text(&result, "manifest");
    snprintf(key, sizeof(key), "s3://clips/out/birds/%s/a1-", job);
    EXPECT(strncmp(manifest, key, strlen(key)) == 0);
    snprintf(endpoint, sizeof(endpoint), "--s3-endpoint=%s", s.endpoint);
    o = ONESTEP("fetch", job, "-o", stack_path("got"), k.broker_flag, endpoint, "--s3-path-style");
    stack_expect(&o, 0, NULL);
    snprintf(name, sizeof(name), "got/%s.mp4", job);
    expect_boto3(&s, "/usr/bin/python3", stack_text(&result, "video") + strlen("s3://clips/"),
                 stack_path(name));
    o = ONESTEP("gc", "s3://clips/out", "--older-than-h=0", "--remove", k.broker_flag, endpoint,
                "--s3-path-style");
    stack_expect(&o, 0, "0 leftovers");
    json_free(&j);
    stack_close(&k);
    stop(&s);
}
