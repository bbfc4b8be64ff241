/* A store that misbehaves, large files, keys that expire: the S3 back end against a server of ours
 * that goes wrong on demand. What both back ends promise is in test_blob.c. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/secret.h"
#include "common/blob.h"
#include "common/http.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

#define PART_BYTES 10000
#define FILE_BYTES 45000 /* five parts */

/* A server, a store at it, and a file. */
struct rig {
    struct httpd server;
    struct blob blob;
    char endpoint[64], path[512];
    char bytes[FILE_BYTES];
    uint8_t sha256[DIGEST_BYTES];
};

static void open_store(struct rig *k, struct blob *b, const struct credentials_config *keys)
{
    struct blob_config c = {
        .url = "s3://clips/results",
        .s3 = { .endpoint = k->endpoint,
                .path_style = true,
                .credentials = { .access_key = "AKID", .secret_key = "secret" } },
        .part_bytes = PART_BYTES,
        .timeout_ms = 60000,
    };

    if (keys)
        c.s3.credentials = *keys;
    EXPECT_OK(blob_open(b, &c));
}

static void set_up_with(struct rig *k, const struct httpd_config *extra)
{
    struct httpd_config c = *extra;
    bool has;

    memset(k, 0, sizeof(*k));
    c.access_key = "AKID";
    c.secret_key = "secret";
    httpd_start(&k->server, &c);
    snprintf(k->endpoint, sizeof(k->endpoint), "http://127.0.0.1:%d", k->server.port);
    snprintf(k->path, sizeof(k->path), "%s/clip.mp4", test_tmpdir());
    for (size_t i = 0; i < sizeof(k->bytes); i++)
        k->bytes[i] = (char)test_random();
    EXPECT_OK(file_write_atomic(k->path, k->bytes, sizeof(k->bytes)));
    EXPECT_OK(digest_sha256(k->bytes, sizeof(k->bytes), k->sha256));
    open_store(k, &k->blob, NULL);
    EXPECT_OK(blob_has_put_new(&k->blob, &has));
}

static void set_up(struct rig *k)
{
    set_up_with(k, &(struct httpd_config){ 0 });
}

static void tear_down(struct rig *k)
{
    blob_close(&k->blob);
    httpd_stop(&k->server);
}

static status put(struct rig *k)
{
    return blob_put_file(&k->blob, "job/a1/clip.mp4", k->path, "video/mp4", k->sha256);
}

static void expect_file(struct rig *k)
{
    struct buf out = { 0 };
    struct blob_info info = { 0 };
    char hex[DIGEST_HEX_ROOM];

    EXPECT_OK(blob_get(&k->blob, "job/a1/clip.mp4", &out));
    EXPECT(out.len == sizeof(k->bytes) && memcmp(out.data, k->bytes, out.len) == 0);
    EXPECT_OK(blob_head(&k->blob, "job/a1/clip.mp4", &info));
    EXPECT_TEXT(info.sha256_hex, digest_hex(k->sha256, hex));
    buf_free(&out);
}

static void fault(struct rig *k, const struct httpd_fault *f)
{
    httpd_fault(&k->server, f);
}

/* --- large files ---------------------------------------------------------------------------- */

TEST(storage_large_files_go_in_parts)
{
    struct rig k;
    int before;

    set_up(&k);
    before = httpd_requests(&k.server);
    EXPECT_OK(put(&k));
    /* List of uploads, begin, five parts, complete, look. */
    EXPECT_INT(httpd_requests(&k.server) - before, 9);
    expect_file(&k);
    EXPECT_INT(httpd_objects(&k.server), 2); /* the probe and this one: no leftovers */
    tear_down(&k);
}

/* Each step of an upload in parts meets each passing fault once, and the object is right. */
TEST(storage_uploads_in_parts_survive_passing_faults)
{
    static const char *const steps[] = {
        "GET /clips/?",
        "POST /clips/results/job/a1/clip.mp4?uploads",
        "PUT /clips/results/job/a1/clip.mp4?partNumber=3",
        "POST /clips/results/job/a1/clip.mp4?uploadId",
        "HEAD ",
    };
    static const struct httpd_fault kinds[] = {
        { .kind = HTTPD_STATUS, .code = 503, .error = "SlowDown", .count = 1 },
        { .kind = HTTPD_RESET, .count = 1 },
        { .kind = HTTPD_CUT, .count = 1 },
        { .kind = HTTPD_LOST, .count = 1 },
    };

    for (size_t step = 0; step < sizeof(steps) / sizeof(steps[0]); step++) {
        for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
            struct rig k;
            struct httpd_fault f = kinds[kind];

            set_up(&k);
            f.only = steps[step];
            fault(&k, &f);
            EXPECT_OK(put(&k));
            expect_file(&k);
            tear_down(&k);
        }
    }
}

/* The store is out of reach in the middle; the next try sends only what is missing. */
TEST(storage_an_upload_that_broke_off_is_taken_up)
{
    struct rig k;
    int before;

    set_up(&k);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_STATUS,
                                     .code = 503,
                                     .only = "PUT /clips/results/job/a1/clip.mp4?partNumber=4" });
    EXPECT_STATUS(put(&k), ERR_UNAVAILABLE);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
    before = httpd_requests(&k.server);
    EXPECT_OK(put(&k));
    /* List of uploads, list of parts, part 4 and what was not begun yet, complete, look. */
    EXPECT(httpd_requests(&k.server) - before <= 6);
    expect_file(&k);
    EXPECT_INT(httpd_objects(&k.server), 2);
    tear_down(&k);
}

/* A part that is there but is not ours is sent again. */
TEST(storage_parts_of_other_bytes_are_sent_again)
{
    struct rig k;

    set_up(&k);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_STATUS,
                                     .code = 503,
                                     .only = "POST /clips/results/job/a1/clip.mp4?u"
                                             "ploadId" });
    EXPECT_STATUS(put(&k), ERR_UNAVAILABLE);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
    httpd_store(&k.server, "/clips/results/job/a1/clip.mp4?upload~1?2", k.bytes, PART_BYTES);
    EXPECT_OK(put(&k));
    expect_file(&k);
    tear_down(&k);
}

TEST(storage_an_upload_that_is_refused_is_aborted)
{
    struct rig k;

    set_up(&k);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_STATUS,
                                     .code = 403,
                                     .error = "AccessDenied",
                                     .only = "PUT /clips/results/job/a1/clip.mp4?partNumber=2" });
    EXPECT_STATUS(put(&k), ERR_BADARG);
    EXPECT_MESSAGE("access denied");
    EXPECT_INT(httpd_objects(&k.server), 1); /* the probe */
    tear_down(&k);
}

TEST(storage_a_large_file_that_changed_is_not_stored)
{
    struct rig k;

    set_up(&k);
    k.sha256[0] ^= 1;
    EXPECT_STATUS(put(&k), ERR_CORRUPT);
    EXPECT_MESSAGE("changed after its SHA-256");
    EXPECT_STATUS(blob_head(&k.blob, "job/a1/clip.mp4", NULL), ERR_NOTFOUND);
    EXPECT_INT(httpd_objects(&k.server), 1);
    tear_down(&k);
}

/* --- a store that lies ---------------------------------------------------------------------- */

/* A store that does not compare digests must name the right ETag, whole or in parts. */
TEST(storage_a_wrong_etag_is_noticed_where_nothing_else_would)
{
    for (int is_small = 0; is_small < 2; is_small++) {
        struct rig k;
        size_t len = is_small ? 100 : sizeof(k.bytes);

        set_up_with(&k, &(struct httpd_config){ .ignores_sha256 = true });
        EXPECT_OK(file_write_atomic(k.path, k.bytes, len));
        EXPECT_OK(digest_sha256(k.bytes, len, k.sha256));
        fault(&k, &(struct httpd_fault){ .kind = HTTPD_WRONG_ETAG, .only = "PUT " });
        EXPECT_STATUS(put(&k), ERR_IO);
        EXPECT_MESSAGE("other bytes");
        fault(&k, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
        EXPECT_OK(put(&k));
        tear_down(&k);
    }
}

/* So is that of the object that the parts were put together to, also where digests are compared. */
TEST(storage_a_wrong_etag_of_a_completed_upload_is_noticed)
{
    struct rig k;

    set_up(&k);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_WRONG_ETAG,
                                     .only = "HEAD /clips/results/job/a1/clip.mp4" });
    EXPECT_STATUS(put(&k), ERR_IO);
    EXPECT_MESSAGE("put other parts together");
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
    EXPECT_OK(put(&k));
    expect_file(&k);
    tear_down(&k);
}

/* And that of a manifest. A second try finds its own bytes. */
TEST(storage_a_wrong_etag_of_a_manifest_is_noticed)
{
    struct rig k;

    set_up(&k);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_WRONG_ETAG, .only = "PUT ", .count = 1 });
    EXPECT_STATUS(blob_put_new(&k.blob, "job/manifest.json", "{}", 2), ERR_IO);
    EXPECT_MESSAGE("other bytes");
    EXPECT_OK(blob_put_new(&k.blob, "job/manifest.json", "{}", 2));
    tear_down(&k);
}

/* With keys of a key service, an ETag of 32 digits is not the MD5. */
TEST(storage_etags_of_other_encryption_are_no_md5s)
{
    struct rig k;

    set_up_with(&k, &(struct httpd_config){ .ignores_sha256 = true });
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_WRONG_ETAG,
                                     .header = "x-amz-server-side-encryption: aws:kms",
                                     .only = "PUT " });
    EXPECT_OK(put(&k));
    EXPECT_OK(blob_put_new(&k.blob, "job/manifest.json", "{}", 2));
    EXPECT_OK(file_write_atomic(k.path, k.bytes, 100));
    EXPECT_OK(digest_sha256(k.bytes, 100, k.sha256));
    EXPECT_OK(put(&k));
    tear_down(&k);
}

/* Equal bytes of another attempt are not ours: who put them is compared before what they are. */
TEST(storage_a_conflict_is_ours_only_with_our_name_on_it)
{
    struct rig k;

    set_up(&k);
    k.blob.owner = "job/a1-1";
    EXPECT_OK(blob_put_new(&k.blob, "m", "{}", 2));
    EXPECT_OK(blob_put_new(&k.blob, "m", "{}", 2)); /* as after a lost answer */
    k.blob.owner = "job/a2-2";
    EXPECT_STATUS(blob_put_new(&k.blob, "m", "{}", 2), ERR_CONFLICT);
    EXPECT_MESSAGE("job/a1-1");
    k.blob.owner = "job/a1-1";
    EXPECT_STATUS(blob_put_new(&k.blob, "m", "[]", 2), ERR_CONFLICT);
    k.blob.owner = NULL;
    EXPECT_OK(blob_put_new(&k.blob, "m", "{}", 2));
    tear_down(&k);
}

TEST(storage_an_endless_answer_ends)
{
    struct rig k;
    struct buf out = { .max_bytes = 1000 };

    set_up(&k);
    EXPECT_OK(blob_put_new(&k.blob, "x", "bytes", 5));
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_ENDLESS });
    EXPECT_STATUS(blob_get(&k.blob, "x", &out), ERR_FULL);
    EXPECT_STATUS(blob_list(&k.blob, "", NULL, NULL), ERR_BADARG);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
    buf_free(&out);
    tear_down(&k);
}

/* What will not change by waiting is asked once. */
TEST(storage_refusals_are_not_tried_again)
{
    static const int codes[] = { 400, 403, 404, 501 };
    struct rig k;

    set_up(&k);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        int before = httpd_requests(&k.server);

        fault(&k, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = codes[i] });
        EXPECT(blob_head(&k.blob, "x", NULL) != OK);
        EXPECT_INT(httpd_requests(&k.server) - before, 1);
    }
    tear_down(&k);
}

TEST(storage_retries_have_a_budget)
{
    struct httpd d;
    struct http client;
    struct http_request q = { .method = HTTP_GET };
    struct http_response last = { 0 };
    char url[64];
    int requests;

    httpd_start(&d, &(struct httpd_config){ 0 });
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/x", d.port);
    q.url = url;
    EXPECT_OK(http_open(
        &client,
        &(struct http_config){ .allow_private_hosts = true, .backoff_ms = 1, .retries_max = 6 }));
    httpd_fault(&d, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 503 });
    for (int i = 0; i < 10; i++) {
        struct http_response r = { 0 };

        EXPECT_STATUS(http_do(&client, &q, &r), ERR_UNAVAILABLE);
        http_response_free(&r);
    }
    requests = httpd_requests(&d);
    EXPECT_INT(requests, 10 + 6);
    EXPECT_MESSAGE("too many failures lately");
    httpd_store(&d, "/x", "x", 1);
    httpd_fault(&d, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
    for (int i = 0; i < 10; i++) { /* good answers earn one retry */
        struct http_response r = { 0 };

        q.response_bytes_max = 10;
        EXPECT_OK(http_do(&client, &q, &r));
        http_response_free(&r);
    }
    httpd_fault(&d, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 503, .count = 1 });
    EXPECT_OK(http_do(&client, &q, &last));
    http_response_free(&last);
    http_close(&client);
    httpd_stop(&d);
}

TEST(storage_calls_end_at_their_deadline)
{
    struct rig k;
    int64_t begin_ms = clock_mono_ms();

    set_up(&k);
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_STALL });
    k.blob.deadline_ms = clock_mono_ms() + 200;
    EXPECT_STATUS(put(&k), ERR_TIMEOUT);
    EXPECT_STATUS(put(&k), ERR_TIMEOUT);
    EXPECT_MESSAGE("no time left");
    EXPECT(clock_mono_ms() - begin_ms < 30000); /* not the 60 s of a call */
    fault(&k, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
    tear_down(&k);
}

/* The end that a lease sets: it moves on while the upload goes on, and is not passed. */
TEST(storage_uploads_end_before_their_lease)
{
    static const char *const steps[] = { "PUT /clips/results/job/a1/clip.mp4?partNumber=3",
                                         "POST /clips/results/job/a1/clip.mp4?uploadId", "HEAD " };
    atomic_llong until_ms;
    struct rig k;

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        set_up(&k);
        k.blob.until_ms = &until_ms;
        fault(&k, &(struct httpd_fault){ .kind = HTTPD_STALL, .only = steps[i] });
        atomic_store(&until_ms, clock_mono_ms() + 150);
        EXPECT_STATUS(put(&k), ERR_TIMEOUT);
        EXPECT_MESSAGE("its time is over");
        EXPECT(clock_mono_ms() >= atomic_load(&until_ms));
        EXPECT(clock_mono_ms() < atomic_load(&until_ms) + 15000); /* not the 60 s of a call */
        EXPECT_STATUS(put(&k), ERR_TIMEOUT);                      /* not even begun */
        fault(&k, &(struct httpd_fault){ .kind = HTTPD_NO_FAULT });
        atomic_store(&until_ms, clock_mono_ms() + 60000); /* renewed */
        EXPECT_OK(put(&k));
        expect_file(&k);
        tear_down(&k);
    }
}

/* --- who asks ------------------------------------------------------------------------------- */

TEST(storage_a_wrong_clock_is_corrected)
{
    static const int64_t ahead_ms[] = { 7200000, -86400000 };

    for (size_t i = 0; i < 2; i++) {
        struct rig k;
        int before;

        set_up_with(&k, &(struct httpd_config){ .clock_ahead_ms = ahead_ms[i] });
        EXPECT_OK(put(&k));
        before = httpd_requests(&k.server);
        EXPECT_OK(blob_head(&k.blob, "job/a1/clip.mp4", NULL));
        EXPECT_INT(httpd_requests(&k.server) - before, 1); /* it is known now */
        tear_down(&k);
    }
}

TEST(storage_expired_keys_are_read_anew)
{
    static const char good[] = "[default]\naws_access_key_id=AKID\naws_secret_access_key=secret\n";
    static const char more[] = "aws_session_token=t\n";
    struct rig k;
    struct blob b;
    char path[512], text[256];
    struct credentials_config keys = { .file = path };

    set_up(&k);
    snprintf(path, sizeof(path), "%s/credentials", test_tmpdir());
    snprintf(text, sizeof(text), "%s%s", good, more); /* a token that the server does not know */
    EXPECT_OK(file_write_atomic(path, text, strlen(text)));
    open_store(&k, &b, &keys);
    EXPECT_STATUS(blob_head(&b, "x", NULL), ERR_BADARG); /* HEAD: no words, so no new keys */
    EXPECT_OK(file_write_atomic(path, good, strlen(good)));
    EXPECT_OK(blob_put_file(&b, "x", k.path, "video/mp4", k.sha256));
    blob_close(&b);
    tear_down(&k);
}

/* The endpoint of a container, then of an instance; keys that are about to expire are renewed. */
TEST(storage_keys_come_from_the_machine)
{
    static const char answer[] = "{\"AccessKeyId\":\"AKID\",\"SecretAccessKey\":\"secret\","
                                 "\"Token\":\"t\",\"Expiration\":\"%s\"}";
    static const char roles[] = "/latest/meta-data/iam/security-credentials/";
    struct httpd d;
    char base[64], url[128], text[256], head[4096];
    struct credentials c;
    struct credentials_config config = { .container_url = url, .container_token = "Basic-secret" };
    struct sigv4_signer who = { 0 };
    int before;

    httpd_start(&d, &(struct httpd_config){ 0 });
    snprintf(base, sizeof(base), "http://127.0.0.1:%d", d.port);
    snprintf(url, sizeof(url), "%s/keys", base);
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof(text), answer, i ? "2020-01-01T00:00:00Z" : "2999-01-01T00:00:00Z");
        httpd_store(&d, "/keys", text, strlen(text));
        EXPECT_OK(credentials_open(&c, &config));
        EXPECT(credentials_are_known(&c));
        for (int j = 0; j < 2; j++) {
            before = httpd_requests(&d);
            EXPECT_OK(credentials_get(&c, &who));
            EXPECT_TEXT(who.access_key, "AKID");
            EXPECT_TEXT(who.secret_key, "secret");
            EXPECT_TEXT(who.session_token, "t");
            EXPECT_INT(httpd_requests(&d) - before, j == 0 || i == 1);
        }
        credentials_close(&c);
    }
    httpd_last_head(&d, head, sizeof(head));
    EXPECT(strstr(head, "Authorization: Basic-secret\r\n"));
    httpd_store(&d, "/keys", "{}", 2);
    EXPECT_OK(credentials_open(&c, &config));
    EXPECT_STATUS(credentials_get(&c, &who), ERR_CORRUPT);
    EXPECT_MESSAGE("AccessKeyId");
    credentials_close(&c);

    config = (struct credentials_config){ .instance_url = base };
    httpd_store(&d, "/latest/api/token", "", 0);
    httpd_store(&d, roles, "worker-role\n", 12);
    snprintf(url, sizeof(url), "%sworker-role", roles);
    snprintf(text, sizeof(text), answer, "2999-01-01T00:00:00Z");
    httpd_store(&d, url, text, strlen(text));
    EXPECT_OK(credentials_open(&c, &config));
    EXPECT_STATUS(credentials_get(&c, &who), ERR_CORRUPT); /* an empty token is none */
    httpd_store(&d, "/latest/api/token", "", 0);
    credentials_close(&c);
    httpd_stop(&d);
}

TEST(storage_keys_come_from_the_profile_of_a_file)
{
    static const char text[] =
        "# mine\n[other]\naws_access_key_id = OTHER\naws_secret_access_key = wrong\n"
        "[default]\r\naws_access_key_id=AKID\naws_secret_access_key = s/cr=t+ \n"
        "aws_session_token = tok\nregion = x\n[last]\naws_access_key_id = WRONG\n";
    char path[512];
    struct credentials_config config = { .file = path };
    struct credentials c;
    struct sigv4_signer who = { 0 };

    snprintf(path, sizeof(path), "%s/credentials", test_tmpdir());
    EXPECT_STATUS(credentials_open(&c, &config), ERR_NOTFOUND);
    EXPECT_OK(file_write_atomic(path, text, strlen(text)));
    EXPECT_OK(credentials_open(&c, &config));
    EXPECT_OK(credentials_get(&c, &who));
    EXPECT_TEXT(who.access_key, "AKID");
    EXPECT_TEXT(who.secret_key, "s/cr=t+");
    EXPECT_TEXT(who.session_token, "tok");
    credentials_close(&c);
    config.profile = "other";
    EXPECT_OK(credentials_open(&c, &config));
    EXPECT_OK(credentials_get(&c, &who));
    EXPECT_TEXT(who.access_key, "OTHER");
    credentials_close(&c);
    config.profile = "last";
    EXPECT_STATUS(credentials_open(&c, &config), ERR_CORRUPT);
    EXPECT_MESSAGE("[last]");
    config = (struct credentials_config){ .file = path, .access_key = "MINE", .secret_key = "key" };
    EXPECT_OK(credentials_open(&c, &config));
    EXPECT_OK(credentials_get(&c, &who));
    EXPECT_TEXT(who.access_key, "MINE");
    EXPECT_TEXT(who.session_token, "");
    credentials_close(&c);
}

/* Count places of text in memory that a core dump would hold. */
static int count_in_dumpable_memory(const char *text, size_t len)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    unsigned long begin = 0, end = 0, low, high;
    char line[512];
    int count = 0;

    EXPECT(maps && mem >= 0);
    while (fgets(line, sizeof(line), maps)) {
        char *bytes;
        ssize_t got;

        if (sscanf(line, "%lx-%lx ", &low, &high) == 2) {
            begin = low;
            end = high;
        }
        /* "rd wr ... dd": read and write, and not left out of dumps. */
        if (strncmp(line, "VmFlags:", 8) != 0 || !strstr(line, " wr ") || strstr(line, " dd "))
            continue;
        bytes = secret_alloc(end - begin); /* so that it does not find its own copies */
        EXPECT(bytes);
        got = pread(mem, bytes, end - begin, (off_t)begin);
        for (char *at = bytes; got > 0; at++, count++) {
            at = memmem(at, (size_t)(bytes + got - at), text, len);
            if (!at)
                break;
        }
        secret_free(bytes, end - begin);
    }
    fclose(maps);
    close(mem);
    return count;
}

/* The secret is in a file, and this test knows only its complement. */
TEST(storage_secrets_are_not_in_core_dumps)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    test_skip("a sanitizer keeps copies of freed memory");
#endif
    char secret[33] = "", path[512], command[700];
    struct rig k;
    struct blob b;
    struct credentials_config keys = { .file = path };
    int count;

    set_up(&k);
    snprintf(path, sizeof(path), "%s/credentials", test_tmpdir());
    snprintf(command, sizeof(command),
             "printf '[default]\\naws_access_key_id=AKID\\naws_secret_access_key=%%s%%s\\n' "
             "0123456789abcdef fedcba9876543210 >'%s'",
             path);
    EXPECT_INT(system(command), 0);
    open_store(&k, &b, &keys);
    EXPECT_STATUS(blob_head(&b, "x", NULL), ERR_BADARG); /* signed with it, and refused */
    for (int i = 0; i < 16; i++)
        secret[i] = "0123456789abcdef"[i];
    for (int i = 0; i < 16; i++)
        secret[16 + i] = "0123456789abcdef"[15 - i];
    count = count_in_dumpable_memory(secret, 32);
    blob_close(&b);
    EXPECT_INT(count, 1); /* the one on this stack, which shows that the search finds something */
    tear_down(&k);
}

/* --- lists ---------------------------------------------------------------------------------- */

struct found {
    int objects, uploads;
    uint64_t bytes;
    struct blob_entry last_upload;
};

static status on_entry(void *self, const struct blob_entry *entry)
{
    struct found *f = self;

    if (*entry->upload) {
        f->uploads++;
        f->last_upload = *entry;
    } else {
        f->objects++;
        f->bytes += entry->bytes;
    }
    EXPECT(entry->modified_ms > 1700000000000);
    return OK;
}

static struct found list(struct blob *b, const char *prefix)
{
    struct found f = { .objects = 0 };

    EXPECT_OK(blob_list(b, prefix, on_entry, &f));
    return f;
}

static void lists(struct blob *b)
{
    struct found f;
    struct blob_entry gone = { .key = "job/b/2" };

    EXPECT_OK(blob_put_new(b, "job/a/1", "1", 1));
    EXPECT_OK(blob_put_new(b, "job/b/2", "22", 2));
    EXPECT_OK(blob_put_new(b, "jobs/3=c", "333", 3));
    f = list(b, "job");
    EXPECT_INT(f.objects, 3);
    EXPECT_INT(f.bytes, 6);
    EXPECT_INT(list(b, "job/").objects, 2);
    EXPECT_INT(list(b, "job/b/2").objects, 1);
    EXPECT_INT(list(b, "none").objects, 0);
    EXPECT_OK(blob_remove(b, &gone));
    EXPECT_OK(blob_remove(b, &gone));
    EXPECT_INT(list(b, "job/").objects, 1);
    EXPECT_STATUS(blob_list(b, "a b", on_entry, &f), ERR_BADARG);
}

TEST(storage_lists_what_is_there)
{
    struct rig k;
    struct blob folder;
    struct found f;
    char url[600];

    set_up(&k);
    httpd_store(&k.server, "/clips/results/not%20ours", "x", 1);
    lists(&k.blob);
    httpd_store(&k.server, "/clips/results/job/big?upload~7", "", 0);
    f = list(&k.blob, "job/");
    EXPECT_INT(f.uploads, 1);
    EXPECT_TEXT(f.last_upload.upload, "upload~7");
    EXPECT_OK(blob_remove(&k.blob, &f.last_upload));
    EXPECT_INT(list(&k.blob, "job/").uploads, 0);
    tear_down(&k);
    snprintf(url, sizeof(url), "file://%s/store", test_tmpdir());
    EXPECT_OK(blob_open(&folder, &(struct blob_config){ .url = url }));
    lists(&folder);
    blob_close(&folder);
}

TEST(storage_presigned_urls_name_the_object)
{
    struct rig k;
    char url[SIGV4_URL_ROOM], want[128];

    set_up(&k);
    EXPECT_OK(blob_presign(&k.blob, "job/a=1.mp4", 60, url, sizeof(url)));
    snprintf(want, sizeof(want), "%s/clips/results/job/a%%3D1.mp4?X-Amz-Algorithm=", k.endpoint);
    EXPECT(strncmp(url, want, strlen(want)) == 0 && strstr(url, "&X-Amz-Expires=60&"));
    tear_down(&k);
}
