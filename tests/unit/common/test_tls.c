/* Redis behind TLS and an access list. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "tests/tool/test.h"
#include "tests/unit/common/store_fixture.h"

static const char *path_of(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];

    EXPECT_OK(file_join(path, FILE_PATH_BYTES, test_tmpdir(), name));
    return path;
}

/* NAME.pem and NAME.key.pem, signed by itself, for this subject alternative name. */
static void make_certificate(const char *name, const char *subject)
{
    char command[3 * FILE_PATH_BYTES];

    snprintf(command, sizeof(command),
             "cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
             "-keyout %s.key.pem -out %s.pem -days 2 -subj /CN=%s -addext subjectAltName=%s "
             "2>/dev/null",
             test_tmpdir(), name, name, name, subject);
    EXPECT(system(command) == 0);
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

/* Let the fixture's Redis listen with TLS as well; returns its url. */
static const char *open_tls(const char *subject)
{
    static char url[64];
    char port[16];

    make_certificate("server", subject);
    snprintf(port, sizeof(port), "%d", free_port());
    fixture_command("CONFIG", "SET", "tls-cert-file", path_of("server.pem"), "tls-key-file",
                    path_of("server.key.pem"), "tls-ca-cert-file", path_of("server.pem"),
                    "tls-auth-clients", "no", "tls-port", port, NULL);
    snprintf(url, sizeof(url), "rediss://127.0.0.1:%s", port);
    return url;
}

TEST(tls_carries_every_call)
{
    struct store *plain = fixture_open(), *s;
    struct store_config config = { .url = open_tls("IP:127.0.0.1"),
                                   .tls.ca = path_of("server.pem") };
    struct job_spec spec = fixture_spec();
    struct lease lease;

    EXPECT_OK(store_open(&s, &config));
    lease = fixture_leased(s, 20, true, 60000);
    EXPECT_INT(fixture_complete(s, &lease).verdict, VERDICT_OK);
    for (int n = 0; n < 20; n++)
        EXPECT_INT(fixture_submit(s, n, &spec).verdict, VERDICT_OK);
    EXPECT_INT(fixture_status(plain, 3).jobs[0].state, JOB_QUEUED);
    store_close(s);
    store_close(plain);
}

TEST(tls_refuses_a_server_that_is_not_the_one_meant)
{
    struct store *plain = fixture_open(), *s;
    struct store_config config = { .url = open_tls("DNS:db.example"),
                                   .tls.ca = path_of("server.pem") };

    EXPECT_STATUS(store_open(&s, &config), ERR_UNAVAILABLE); /* another name */
    EXPECT_MESSAGE("certificate is refused: IP address mismatch");
    make_certificate("other", "IP:127.0.0.1");
    config.tls.ca = path_of("other.pem"); /* another authority */
    EXPECT_STATUS(store_open(&s, &config), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("certificate is refused: self");
    config.tls.ca = path_of("none.pem");
    EXPECT_STATUS(store_open(&s, &config), ERR_IO);
    EXPECT_MESSAGE("none.pem");
    config.tls = (struct tls_files){ path_of("server.pem"), path_of("server.pem"), "" };
    EXPECT_STATUS(store_open(&s, &config), ERR_BADARG);
    store_close(plain);
}

/* The access list that we ship is enough for every call, and for nothing else. */
TEST(tls_is_not_all_an_access_list_confines_the_broker)
{
    struct store *plain = fixture_open(), *s;
    struct store_config config = fixture_config();
    struct job_spec spec = fixture_spec();
    struct buf text = { 0 };
    struct lease lease;
    char *words[80], *rest;
    int count = 0;

    EXPECT_OK(file_read("ops/config/redis.acl", 1 << 16, &text));
    rest = strstr(text.data, "\nuser ");
    EXPECT(rest != NULL);
    for (char *word = strtok(rest + 1, " \n"); word && count < 80; word = strtok(NULL, " \n"))
        words[count++] = word;
    EXPECT(count > 10 && count < 80);
    fixture_command("ACL", "SETUSER", "onestep", "on", ">secret", NULL);
    for (int i = 4; i < count; i++)
        fixture_command("ACL", "SETUSER", "onestep", words[i], NULL);
    EXPECT_OK(file_write_atomic(path_of("password"), "secret\n", 7));
    config.user = "onestep";
    EXPECT_STATUS(store_open(&s, &config), ERR_BADARG);
    config.password_file = path_of("password");
    EXPECT_OK(store_open(&s, &config));
    EXPECT_INT(fixture_submit(s, 1, &spec).verdict, VERDICT_OK);
    EXPECT_INT(fixture_submit(s, 2, &spec).verdict, VERDICT_OK);
    lease = fixture_claim(s, 60000).lease;
    EXPECT_INT(fixture_renew(s, &lease, true, 60000).verdict, VERDICT_OK);
    EXPECT_INT(fixture_fail(s, &lease, ERR_IO).verdict, VERDICT_OK);
    EXPECT_INT(fixture_sweep(s).code, OK);
    lease = fixture_claim(s, 60000).lease;
    EXPECT_INT(fixture_release(s, &lease).verdict, VERDICT_OK);
    EXPECT_INT(fixture_cancel(s, 2).verdict, VERDICT_OK);
    EXPECT_INT(fixture_audit(s).code, OK);
    EXPECT_INT(fixture_status(s, 1).job_count, 1);
    store_close(s);
    config.user = "nobody";
    EXPECT_STATUS(store_open(&s, &config), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("for the user nobody");
    buf_free(&text);
    store_close(plain);
}
