#include "common/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/tool/httpd.h"
#include "tests/tool/test.h"

static char tmp[256]; /* the test's directory; in/ is the input_root, out/ is not */

static const char *at(const char *name)
{
    static char path[8][512];
    static int next;

    next = (next + 1) % 8;
    snprintf(path[next], sizeof(path[next]), "%s/%s", tmp, name);
    return path[next];
}

static void put(const char *name, const char *text)
{
    EXPECT_OK(file_write_atomic(at(name), text, strlen(text)));
}

static void open_files(struct fetch *f, const char *root)
{
    const struct fetch_config c = { .input_root = root, .max_bytes = 1000 };

    snprintf(tmp, sizeof(tmp), "%s", test_tmpdir());
    EXPECT_OK(file_make_dirs(at("in/deep/er")));
    EXPECT_OK(file_make_dirs(at("out")));
    EXPECT_OK(file_make_dirs(at("in-not")));
    put("in/a b.jpg", "photo");
    put("in/deep/er/x", "deep");
    put("out/secret", "secret");
    put("in-not/secret", "secret");
    EXPECT_OK(fetch_open(f, &c));
}

static status get_path(struct fetch *f, const char *path, struct buf *out)
{
    char url[1024];

    EXPECT_OK(url_from_path(path, url, sizeof(url)));
    buf_reset(out);
    return fetch_get(f, url, out);
}

static void expect_file(struct fetch *f, const char *path, const char *text)
{
    struct buf out = { 0 };

    EXPECT_OK(get_path(f, path, &out));
    EXPECT_TEXT(out.data, text);
    buf_free(&out);
}

static void expect_refusal(struct fetch *f, const char *path, status code, const char *says)
{
    struct buf out = { 0 };

    EXPECT_STATUS(get_path(f, path, &out), code);
    EXPECT_MESSAGE(says);
    EXPECT_INT(out.len, 0);
    buf_free(&out);
}

TEST(storage_files_below_input_root_are_read)
{
    struct fetch f;
    char root[512];

    snprintf(root, sizeof(root), "%s/in/", test_tmpdir());
    open_files(&f, root);
    expect_file(&f, at("in/a b.jpg"), "photo");
    expect_file(&f, at("in/deep/er/x"), "deep");
    expect_file(&f, at("in//deep/../a b.jpg"), "photo");
    EXPECT_INT(symlink("deep/er/x", at("in/link")), 0);
    expect_file(&f, at("in/link"), "deep");
    expect_refusal(&f, at("in/none.jpg"), ERR_NOTFOUND, "in/none.jpg");
    expect_refusal(&f, at("in/deep"), ERR_BADARG, "not a regular file");
    EXPECT_INT(mkfifo(at("in/pipe"), 0600), 0);
    expect_refusal(&f, at("in/pipe"), ERR_BADARG, "not a regular file");
    fetch_close(&f);
}

TEST(storage_files_outside_input_root_are_not)
{
    struct fetch f;
    char root[512];

    snprintf(root, sizeof(root), "%s/in", test_tmpdir());
    open_files(&f, root);
    expect_refusal(&f, "/etc/passwd", ERR_BADARG, "outside the worker's input_root");
    expect_refusal(&f, at("out/secret"), ERR_BADARG, "outside");
    expect_refusal(&f, at("in-not/secret"), ERR_BADARG, "outside");
    expect_refusal(&f, at("in/../out/secret"), ERR_BADARG, "outside");
    expect_refusal(&f, at("in/deep/../../out/secret"), ERR_BADARG, "outside");
    expect_refusal(&f, at("in"), ERR_BADARG, "outside");
    EXPECT_INT(symlink("../out/secret", at("in/escape")), 0);
    expect_refusal(&f, at("in/escape"), ERR_BADARG, "outside");
    EXPECT_INT(symlink("/etc", at("in/etc")), 0);
    expect_refusal(&f, at("in/etc/passwd"), ERR_BADARG, "outside");
    EXPECT_INT(symlink("/proc/self/root", at("in/magic")), 0);
    expect_refusal(&f, at("in/magic/etc/passwd"), ERR_BADARG, "outside");
    fetch_close(&f);
}

/* The root may be named through a link, and files by either name. */
TEST(storage_input_root_may_be_a_link)
{
    struct fetch f;
    char root[512];

    snprintf(root, sizeof(root), "%s/linked", test_tmpdir());
    EXPECT_INT(symlink("in", root), 0);
    snprintf(tmp, sizeof(tmp), "%s", test_tmpdir());
    EXPECT_OK(file_make_dirs(at("in")));
    open_files(&f, root);
    expect_file(&f, at("linked/a b.jpg"), "photo");
    expect_file(&f, at("in/a b.jpg"), "photo");
    fetch_close(&f);
}

TEST(storage_without_input_root_no_file_is_read)
{
    struct fetch f;
    struct fetch_config c = { .input_root = "no/such/folder" };

    open_files(&f, "");
    expect_refusal(&f, at("in/a b.jpg"), ERR_BADARG, "this worker reads no files");
    fetch_close(&f);
    EXPECT_STATUS(fetch_open(&f, &c), ERR_NOTFOUND);
    EXPECT_MESSAGE("input_root: no/such/folder");
    fetch_close(&f);
}

TEST(storage_a_root_of_everything_and_relative_urls_work)
{
    struct fetch f;
    struct buf out = { 0 };

    open_files(&f, "/");
    expect_file(&f, at("in/a b.jpg"), "photo");
    fetch_close(&f);
    open_files(&f, ".");
    EXPECT_STATUS(fetch_get(&f, "file://./Makefile", &out), ERR_BADARG); /* over 1000 bytes */
    EXPECT_MESSAGE("more than 1000 bytes");
    EXPECT_OK(fetch_get(&f, "file://./.gitignore", &out));
    EXPECT(out.len > 0);
    buf_free(&out);
    fetch_close(&f);
}

TEST(storage_a_file_may_be_as_large_as_the_limit)
{
    struct fetch f;
    char bytes[1002];

    memset(bytes, 'x', sizeof(bytes));
    bytes[1001] = '\0';
    open_files(&f, test_tmpdir());
    put("in/large", bytes);
    expect_refusal(&f, at("in/large"), ERR_BADARG, "more than 1000 bytes");
    bytes[1000] = '\0';
    put("in/large", bytes);
    expect_file(&f, at("in/large"), bytes);
    fetch_close(&f);
}

/* A buffer with a lower ceiling and something in it. */
TEST(storage_bytes_are_appended_and_the_ceiling_is_raised)
{
    struct fetch f;
    struct buf out = { .max_bytes = 4 };
    char url[600];

    open_files(&f, test_tmpdir());
    EXPECT_OK(buf_append(&out, "abc", 3));
    EXPECT_OK(url_from_path(at("in/a b.jpg"), url, sizeof(url)));
    EXPECT_OK(fetch_get(&f, url, &out));
    EXPECT_TEXT(out.data, "abcphoto");
    buf_free(&out);
    fetch_close(&f);
}

static status get_from(struct fetch *f, const struct httpd *d, const char *path, struct buf *out)
{
    char url[256];

    snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", d->port, path);
    buf_reset(out);
    return fetch_get(f, url, out);
}

TEST(storage_http_inputs_are_fetched_with_retries_and_redirects)
{
    const struct fetch_config c = { .allow_private_hosts = true, .max_bytes = 1000 };
    struct httpd d;
    struct fetch f;
    struct buf out = { 0 };
    char big[1001] = { 0 };

    httpd_start(&d, &(struct httpd_config){ 0 });
    httpd_store(&d, "/photo.jpg", "photo", 5);
    httpd_store(&d, "/big", big, sizeof(big));
    httpd_redirect(&d, "/moved", "/photo.jpg");
    EXPECT_OK(fetch_open(&f, &c));
    httpd_fault(&d, &(struct httpd_fault){ .kind = HTTPD_SHORT_BODY, .count = 1 });
    EXPECT_OK(get_from(&f, &d, "/moved", &out));
    EXPECT_TEXT(out.data, "photo");
    EXPECT_STATUS(get_from(&f, &d, "/none", &out), ERR_NOTFOUND);
    EXPECT_MESSAGE("/none: GET answered 404");
    EXPECT_STATUS(get_from(&f, &d, "/big", &out), ERR_BADARG);
    EXPECT_MESSAGE("more than 1000 bytes");
    httpd_fault(&d, &(struct httpd_fault){ .kind = HTTPD_STATUS, .code = 403 });
    EXPECT_STATUS(get_from(&f, &d, "/photo.jpg", &out), ERR_BADARG);
    EXPECT_MESSAGE("access denied");
    EXPECT_INT(out.len, 0);
    buf_free(&out);
    fetch_close(&f);
    httpd_stop(&d);
}

TEST(storage_private_hosts_are_refused_unless_allowed)
{
    struct httpd d;
    struct fetch f;
    struct buf out = { 0 };

    httpd_start(&d, &(struct httpd_config){ 0 });
    httpd_store(&d, "/x", "x", 1);
    EXPECT_OK(fetch_open(&f, &(struct fetch_config){ 0 }));
    EXPECT_STATUS(get_from(&f, &d, "/x", &out), ERR_BADARG);
    EXPECT_MESSAGE("allow_private_hosts");
    EXPECT_INT(httpd_requests(&d), 0);
    buf_free(&out);
    fetch_close(&f);
    httpd_stop(&d);
}

/* The endpoint is the operator's word: it may be on this machine although strangers' hosts may
 * not. */
TEST(storage_s3_inputs_are_fetched_with_a_signature)
{
    struct httpd d;
    struct fetch f;
    struct buf out = { 0 };
    char endpoint[64], head[4096];
    struct fetch_config c = { .s3 = { .endpoint = endpoint,
                                      .path_style = true,
                                      .credentials = { .access_key = "AKID",
                                                       .secret_key = "secret",
                                                       .session_token = "token" } } };

    httpd_start(&d, &(struct httpd_config){
                        .access_key = "AKID", .secret_key = "secret", .session_token = "token" });
    httpd_store(&d, "/photos/run%3D7/a%20b.jpg", "photo", 5);
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", d.port);
    EXPECT_OK(fetch_open(&f, &c));
    EXPECT_OK(fetch_get(&f, "s3://photos/run=7/a%20b.jpg", &out));
    EXPECT_TEXT(out.data, "photo");
    httpd_last_head(&d, head, sizeof(head));
    EXPECT(strstr(head, "AWS4-HMAC-SHA256") && !strstr(head, "secret"));
    EXPECT_STATUS(fetch_get(&f, "s3://photos/none", &out), ERR_NOTFOUND);
    EXPECT_STATUS(fetch_get(&f, "s3://photos", &out), ERR_BADARG);
    EXPECT_MESSAGE("no key");
    EXPECT_STATUS(fetch_get(&f, "s3://Photos/x", &out), ERR_BADARG);
    buf_free(&out);
    fetch_close(&f);
    httpd_stop(&d);
}

TEST(storage_a_set_flag_cancels)
{
    const struct fetch_config c = { .allow_private_hosts = true };
    struct httpd d;
    struct fetch f;
    struct buf out = { 0 };
    atomic_bool cancel = true;

    httpd_start(&d, &(struct httpd_config){ 0 });
    EXPECT_OK(fetch_open(&f, &c));
    f.cancel = &cancel;
    EXPECT_STATUS(get_from(&f, &d, "/x", &out), ERR_CANCELLED);
    buf_free(&out);
    fetch_close(&f);
    httpd_stop(&d);
}

/* --- what must not be reached ---------------------------------------------------------------- */

/* Every spelling of an address that is not public, every port that is not the web's. */
TEST(storage_fetch_reaches_public_web_servers_only)
{
    static const char *const urls[] = {
        "http://127.0.0.1/x",
        "http://localhost/x",
        "http://127.1/x",
        "http://2130706433/x",
        "http://0x7f000001/x",
        "http://0x7f.0.0.1/x",
        "http://0177.0.0.1/x",
        "http://127.0.0.1.:80/x",
        "http://0.0.0.0/x",
        "http://10.1.2.3/x",
        "http://172.16.0.1/x",
        "http://192.168.1.1/x",
        "http://100.64.0.1/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://224.0.0.1/x",
        "http://255.255.255.255/x",
        "http://[::]/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[::ffff:7f00:1]/x",
        "http://[::127.0.0.1]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://[2002:7f00:1::]/x",
        "http://[2001:0:7f00:1::]/x",
        "http://[fe80::1]/x",
        "http://[fe80::1%25lo]/x",
        "http://[fd00:ec2::254]/x",
        "http://[ff02::1]/x",
        "http://user:password@8.8.8.8/x",
        "http://8.8.8.8@127.0.0.1/x",
        "http://8.8.8.8:22/x",
        "http://8.8.8.8:6379/x",
        "https://[2001:4860:4860::8888]:25/x",
        "http://8.8.8.8#@127.0.0.1/x",
        "http://8.8.8.8\\@127.0.0.1/x",
        "http://127.0.0.1\t/x",
        "gopher://8.8.8.8/x",
        "ftp://8.8.8.8/x",
        "dict://8.8.8.8/x",
        "HTTP://8.8.8.8/x",
        "http:/8.8.8.8/x",
        "http://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1/x",
    };
    const struct fetch_config c = { .timeout_ms = 20000 };
    struct fetch f;
    struct buf out = { 0 };

    EXPECT_OK(fetch_open(&f, &c));
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        status st = fetch_get(&f, urls[i], &out);

        if (st != ERR_BADARG)
            test_fail(__FILE__, __LINE__, "%s: %s, %s", urls[i], status_name(st), status_message());
    }
    EXPECT_STATUS(fetch_get(&f, "http://8.8.8.8:22/x", &out), ERR_BADARG);
    EXPECT_MESSAGE("its port is none of 80, 443, 8080, 8443");
    buf_free(&out);
    fetch_close(&f);
}

/* The first answer is allowed by its operator's word; what it points to is not allowed by its own:
 * every hop is looked at by the same guard. */
TEST(storage_fetch_checks_every_redirect)
{
    static const char *const to[] = { "file:///etc/passwd", "ftp://8.8.8.8/x",
                                      "http://a:b@8.8.8.8/x" };
    const struct fetch_config c = { .allow_private_hosts = true };
    struct httpd d;
    struct fetch f;
    struct buf out = { 0 };
    char url[128];

    httpd_start(&d, &(struct httpd_config){ 0 });
    EXPECT_OK(fetch_open(&f, &c));
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/hop", d.port);
    for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
        httpd_redirect(&d, "/hop", to[i]);
        EXPECT_STATUS(fetch_get(&f, url, &out), ERR_BADARG);
        EXPECT_MESSAGE("it redirects to something that is not an http(s) URL");
    }
    buf_free(&out);
    fetch_close(&f);
    httpd_stop(&d);
}

static bool is_photo(const void *bytes, size_t len)
{
    return len >= 5 && memcmp(bytes, "photo", 5) == 0;
}

/* What is no image is refused before it fills the cache; what is one is asked for once. */
TEST(storage_fetch_keeps_images_only)
{
    struct fetch_config c = { .allow_private_hosts = true,
                              .is_wanted = is_photo,
                              .wanted = "a photo",
                              .cache = { .bytes_max = 1 << 20, .fresh_ms = 3600000 } };
    struct httpd d;
    struct fetch f;
    struct buf out = { 0 };
    char dir[512], url[128];

    snprintf(dir, sizeof(dir), "%s/cache", test_tmpdir());
    c.cache.dir = dir;
    httpd_start(&d, &(struct httpd_config){ 0 });
    httpd_store(&d, "/photo", "photo 1", 7);
    httpd_store(&d, "/secret", "root:x:0", 8);
    EXPECT_OK(fetch_open(&f, &c));
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/secret", d.port);
    for (int i = 1; i <= 2; i++) {
        EXPECT_STATUS(fetch_get(&f, url, &out), ERR_CORRUPT);
        EXPECT_MESSAGE("/secret: not a photo");
        EXPECT_INT(httpd_requests(&d), i);
    }
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/photo", d.port);
    for (int i = 0; i < 1000; i++) {
        EXPECT_OK(fetch_get(&f, url, &out));
        EXPECT(out.len == 7 && memcmp(out.data, "photo 1", 7) == 0);
        buf_reset(&out);
    }
    EXPECT_INT(httpd_requests(&d), 3);
    buf_free(&out);
    fetch_close(&f);
    httpd_stop(&d);
}

TEST(storage_fetch_reads_below_several_roots)
{
    struct fetch f;
    char roots[1024];

    snprintf(tmp, sizeof(tmp), "%s", test_tmpdir());
    snprintf(roots, sizeof(roots), "%s:%s", at("in/deep"), at("out"));
    EXPECT_OK(file_make_dirs(at("in/deep")));
    EXPECT_OK(file_make_dirs(at("out")));
    open_files(&f, roots);
    expect_file(&f, at("in/deep/er/x"), "deep");
    expect_file(&f, at("out/secret"), "secret");
    expect_refusal(&f, at("in/a b.jpg"), ERR_BADARG, "and others");
    expect_refusal(&f, at("in-not/secret"), ERR_BADARG, "outside");
    fetch_close(&f);
}
