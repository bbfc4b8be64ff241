/* The signer against signatures that AWS published and that botocore made.
 *
 * AWS's are of three places. Those of the test suite were compared with it digit by digit, those of
 * the S3 reference with public repositories that quote its pages:
 * - Amazon S3 API reference, "Signature Calculations for the Authorization Header: Transferring
 *   Payload in a Single Chunk", Examples (docs.aws.amazon.com/AmazonS3/latest/API/
 *   sig-v4-header-based-auth.html): GET Object, PUT Object, GET Bucket Lifecycle, List Objects;
 * - the same, "Authenticating Requests: Using Query Parameters", Example
 *   (.../sigv4-query-string-auth.html): the presigned URL;
 * - the signing test suite that AWS keeps in github.com/awslabs/aws-c-auth, folder
 *   tests/aws-signing-test-suite/v4, files CASE/header-signature.txt (service "service", without
 *   X-Amz-Content-Sha256; of it the cases that S3's rules for paths leave alone, which are the
 *   "unnormalized" ones). */
#include "common/sigv4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/config.h"
#include "tests/tool/test.h"

#define COLUMNS 13

static const struct sigv4_signer aws_docs = {
    .access_key = "AKIAIOSFODNN7EXAMPLE",
    .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
    .service = "s3",
};
static const struct sigv4_signer aws_suite = {
    .access_key = "AKIDEXAMPLE",
    .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
    .service = "service",
};
#define DOCS_MS (1369353600LL * 1000)
#define SUITE_MS (1440938160LL * 1000)

static const char *signature_of(const struct sigv4_signer *who, const struct sigv4_request *q)
{
    static struct sigv4_signed out;
    const char *at;

    EXPECT_OK(sigv4_sign(NULL, who, q, &out));
    at = strstr(out.authorization, "Signature=");
    EXPECT(at);
    return at + strlen("Signature=");
}

struct vector {
    const char *method, *url, *headers[6], *payload, *signature;
};

static void check_vectors(const struct sigv4_signer *who, int64_t wall_ms, const struct vector *v,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct url u;
        const struct sigv4_request q = { .method = v[i].method,
                                         .url = &u,
                                         .headers = v[i].headers,
                                         .payload = v[i].payload,
                                         .wall_ms = wall_ms };

        EXPECT_OK(url_parse(&u, v[i].url));
        EXPECT_TEXT(signature_of(who, &q), v[i].signature);
    }
}

TEST(storage_signatures_are_those_of_the_s3_reference)
{
    static const struct vector rows[] = {
        { "GET",
          "https://examplebucket.s3.amazonaws.com/test.txt",
          { "Range: bytes=0-9" },
          NULL,
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
        { "PUT",
          "https://examplebucket.s3.amazonaws.com/test$file.text",
          { "Date: Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class: REDUCED_REDUNDANCY" },
          "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd" },
        { "GET",
          "https://examplebucket.s3.amazonaws.com/?lifecycle",
          { NULL },
          NULL,
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
        { "GET",
          "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
          { NULL },
          NULL,
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
    };

    check_vectors(&aws_docs, DOCS_MS, rows, sizeof(rows) / sizeof(rows[0]));
}

/* Of the suite. */
static const struct vector suite[] = {
    { "GET",
      "https://example.amazonaws.com/",
      { NULL },
      NULL,
      "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
    { "GET",
      "https://example.amazonaws.com/?Param2=value2&Param1=value1",
      { NULL },
      NULL,
      "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
    { "GET",
      "https://example.amazonaws.com/?%E1%88%B4=bar",
      { NULL },
      NULL,
      "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04" },
    { "GET",
      "https://example.amazonaws.com/"
      "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
      { NULL },
      NULL,
      "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f" },
    { "GET",
      "https://example.amazonaws.com/",
      { "My-Header1:value2", "My-Header1:value2", "My-Header1:value1" },
      NULL,
      "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea" },
    { "GET",
      "https://example.amazonaws.com/",
      { "My-Header1:value4", "My-Header1:value1", "My-Header1:value3", "My-Header1:value2" },
      NULL,
      "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01" },
    { "GET",
      "https://example.amazonaws.com/",
      { "My-Header1: value1", "My-Header2: \"a   b   c\"" },
      NULL,
      "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736" },
    { "POST",
      "https://example.amazonaws.com/",
      { NULL },
      NULL,
      "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
    { "POST",
      "https://example.amazonaws.com/",
      { "My-Header1:value1" },
      NULL,
      "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c" },
    { "POST",
      "https://example.amazonaws.com/?Param1=value1",
      { NULL },
      NULL,
      "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11" },
    { "GET", /* get-utf8 */
      "https://example.amazonaws.com/%E1%88%B4",
      { NULL },
      NULL,
      "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85" },
    { "GET", /* get-space-unnormalized */
      "https://example.amazonaws.com/example%20space/",
      { NULL },
      NULL,
      "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741" },
    { "GET", /* get-vanilla-query-unreserved */
      "https://example.amazonaws.com/"
      "?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz="
      "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
      { NULL },
      NULL,
      "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197" },
    { "GET", /* get-vanilla-query-order-encoded */
      "https://example.amazonaws.com/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
      { NULL },
      NULL,
      "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac" },
    { "POST", /* post-header-value-case */
      "https://example.amazonaws.com/",
      { "My-Header1:VALUE1" },
      NULL,
      "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d" },
    { "GET", /* get-slashes-unnormalized */
      "https://example.amazonaws.com//example//",
      { NULL },
      NULL,
      "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5" },
    { "GET", /* get-slash-unnormalized */
      "https://example.amazonaws.com//",
      { NULL },
      NULL,
      "c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e" },
    { "GET", /* get-relative-unnormalized */
      "https://example.amazonaws.com/example/..",
      { NULL },
      NULL,
      "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282" },
    { "GET", /* get-relative-relative-unnormalized */
      "https://example.amazonaws.com/example1/example2/../..",
      { NULL },
      NULL,
      "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b" },
    { "GET", /* get-slash-dot-slash-unnormalized */
      "https://example.amazonaws.com/./",
      { NULL },
      NULL,
      "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145" },
    { "GET", /* get-slash-pointless-dot-unnormalized */
      "https://example.amazonaws.com/./example",
      { NULL },
      NULL,
      "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff" },
};

TEST(storage_signatures_are_those_of_the_aws_suite)
{
    static const struct vector with_token = {
        "GET", /* get-vanilla-with-session-token */
        "https://example.amazonaws.com/",
        { NULL },
        NULL,
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
    };
    struct sigv4_signer who = aws_suite;

    check_vectors(&who, SUITE_MS, suite, sizeof(suite) / sizeof(suite[0]));
    who.session_token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    check_vectors(&who, SUITE_MS, &with_token, 1);
}

TEST(storage_presigned_urls_are_those_of_the_s3_reference)
{
    struct url u;
    const struct sigv4_request q = { .method = "GET", .url = &u, .wall_ms = DOCS_MS };
    char url[SIGV4_URL_ROOM];

    EXPECT_OK(url_parse(&u, "https://examplebucket.s3.amazonaws.com/test.txt"));
    EXPECT_OK(sigv4_presign(NULL, &aws_docs, &q, 86400, url, sizeof(url)));
    EXPECT_TEXT(url,
                "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&"
                "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&"
                "X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&"
                "X-Amz-Signature="
                "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    EXPECT_STATUS(sigv4_presign(NULL, &aws_docs, &q, 0, url, sizeof(url)), ERR_BADARG);
    EXPECT_STATUS(sigv4_presign(NULL, &aws_docs, &q, 604801, url, sizeof(url)), ERR_BADARG);
    EXPECT_STATUS(sigv4_presign(NULL, &aws_docs, &q, 1, url, 100), ERR_BADARG);
}

/* --- botocore ------------------------------------------------------------------------------- */

/* Split line at tabs, in place. */
static void split(char *line, char *cell[COLUMNS])
{
    for (int i = 0; i < COLUMNS; i++) {
        EXPECT(line);
        cell[i] = strsep(&line, "\t");
    }
    EXPECT(!line);
}

/* Columns: kind (header or presign), method, url as we spell it, time in s, access key, secret key,
 * token, region, service, payload ("-": none given), headers joined by "|", seconds, and botocore's
 * signature. */
static void check_row(struct sigv4_cache *cache, char *cell[COLUMNS], const char *row)
{
    const struct sigv4_signer who = { cell[4], cell[5], cell[6], cell[7], cell[8] };
    const char *headers[SIGV4_HEADERS_MAX] = { NULL }, *at;
    char *rest = cell[10];
    struct url u;
    const struct sigv4_request q = { .method = cell[1],
                                     .url = &u,
                                     .headers = headers,
                                     .payload = strcmp(cell[9], "-") ? cell[9] : NULL,
                                     .wall_ms = 1000 * atoll(cell[3]) };
    static struct sigv4_signed out;
    static char url[SIGV4_URL_ROOM];

    for (int i = 0; *cell[10] && rest; i++)
        headers[i] = strsep(&rest, "|");
    EXPECT_OK(url_parse(&u, cell[2]));
    if (strcmp(cell[0], "header") == 0) {
        EXPECT_OK(sigv4_sign(cache, &who, &q, &out));
        at = strstr(out.authorization, "Signature=") + strlen("Signature=");
    } else {
        EXPECT_OK(sigv4_presign(cache, &who, &q, atoi(cell[11]), url, sizeof(url)));
        at = strstr(url, "X-Amz-Signature=") + strlen("X-Amz-Signature=");
    }
    if (strcmp(at, cell[12]) != 0)
        test_fail(__FILE__, __LINE__, "botocore signs otherwise: %s", row);
}

/* tests/reference/sigv4.py made the file, and runs this test over larger ones. */
TEST(storage_signatures_are_those_of_botocore)
{
    const char *path = config_env("ONESTEP_SIGV4_VECTORS");
    FILE *file = fopen(path ? path : "tests/fixtures/sigv4/botocore.tsv", "r");
    char *line = NULL, *copy, *cell[COLUMNS];
    size_t room = 0, count = 0;
    struct sigv4_cache cache = { { 0 }, { 0 } };

    EXPECT(file);
    while (getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (*line == '#')
            continue;
        copy = strdup(line);
        EXPECT(copy);
        split(line, cell);
        check_row(&cache, cell, copy);
        free(copy);
        count++;
    }
    free(line);
    fclose(file);
    EXPECT(count >= 200);
    printf("# %zu signatures\n", count);
}

/* --- its own promises ----------------------------------------------------------------------- */

TEST(storage_a_request_is_sent_as_it_was_signed)
{
    static const struct {
        const char *asked, *sent;
    } rows[] = {
        { "http://h:9000/b/a=1/x:y", "http://h:9000/b/a%3D1/x%3Ay" },
        { "http://h/b/%e2%82%ac+%2B", "http://h/b/%E2%82%AC%2B%2B" },
        { "http://h/b//a/../c/./", "http://h/b//a/../c/./" },
        { "http://h/b/k?uploads", "http://h/b/k?uploads=" },
        { "http://h/b/k?b=2&a=1&&a=0&a-=3", "http://h/b/k?a=0&a=1&a-=3&b=2" },
        { "http://h/b/k?uploadId=a/==&partNumber=1",
          "http://h/b/k?partNumber=1&uploadId=a%2F%3D%3D" },
        { "https://[::1]:9000/b/k", "https://[::1]:9000/b/k" },
    };
    static struct sigv4_signed out;
    struct url u;
    const struct sigv4_request q = { .method = "GET", .url = &u, .wall_ms = DOCS_MS };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        EXPECT_OK(url_parse(&u, rows[i].asked));
        EXPECT_OK(sigv4_sign(NULL, &aws_docs, &q, &out));
        EXPECT_TEXT(out.url, rows[i].sent);
    }
}

/* The cached key is used, and never for another day, region or secret. */
TEST(storage_a_signing_key_is_kept_for_its_day_and_place)
{
    struct sigv4_cache cache = { { 0 }, { 0 } }, before;
    struct sigv4_signer other = aws_docs;
    static struct sigv4_signed a, b;
    struct url u;
    struct sigv4_request q = { .method = "GET", .url = &u, .wall_ms = DOCS_MS };

    EXPECT_OK(url_parse(&u, "http://h/b/k"));
    EXPECT_OK(sigv4_sign(&cache, &aws_docs, &q, &a));
    before = cache;
    EXPECT_OK(sigv4_sign(&cache, &aws_docs, &q, &b));
    EXPECT_TEXT(a.authorization, b.authorization);
    EXPECT(memcmp(&before, &cache, sizeof(cache)) == 0);
    cache.key[0] ^= 1; /* does anybody look at it? */
    EXPECT_OK(sigv4_sign(&cache, &aws_docs, &q, &b));
    EXPECT(strcmp(a.authorization, b.authorization) != 0);
    for (int i = 0; i < 3; i++) {
        other = aws_docs;
        q.wall_ms = i == 0 ? DOCS_MS + 86400000 : DOCS_MS;
        other.region = i == 1 ? "eu-west-3" : aws_docs.region;
        other.secret_key = i == 2 ? "another" : aws_docs.secret_key;
        EXPECT_OK(sigv4_sign(&cache, &other, &q, &a));
        EXPECT_OK(sigv4_sign(NULL, &other, &q, &b));
        EXPECT_TEXT(a.authorization, b.authorization);
    }
}

TEST(storage_requests_that_cannot_be_signed_are_refused)
{
    static const char *const bad[] = { "no colon",
                                       ": no name",
                                       "a b: c",
                                       "a: b\r\nc: d",
                                       "X-Amz-Date: 20130524T000000Z", /* it would be there twice */
                                       "host: h",
                                       "x-amz-security-token: t" };
    char long_query[URL_ROOM] = "http://h/b/k?";
    static struct sigv4_signed out;
    const char *headers[2] = { NULL };
    struct url u;
    const struct sigv4_request q = { .method = "GET", .url = &u, .headers = headers };

    EXPECT_OK(url_parse(&u, "http://h/b/k"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        headers[0] = bad[i];
        EXPECT_STATUS(sigv4_sign(NULL, &aws_docs, &q, &out), ERR_BADARG);
    }
    headers[0] = NULL;
    for (int i = 0; i <= SIGV4_PARAMS_MAX; i++)
        strcat(long_query, "a&");
    EXPECT_OK(url_parse(&u, long_query));
    EXPECT_STATUS(sigv4_sign(NULL, &aws_docs, &q, &out), ERR_BADARG);
    EXPECT_MESSAGE("128 parameters");
}
