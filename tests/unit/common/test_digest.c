/* SHA-256 and HMAC against the published vectors of FIPS 180-4 and RFC 4231. */
#include "common/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "tests/tool/test.h"

static const struct {
    const char *text;
    const char *hex;
} vectors[] = {
    { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

TEST(storage_sha256_of_published_vectors)
{
    uint8_t sha256[DIGEST_BYTES];
    char hex[DIGEST_HEX_ROOM];

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        EXPECT_OK(digest_sha256(vectors[i].text, strlen(vectors[i].text), sha256));
        EXPECT_TEXT(digest_hex(sha256, hex), vectors[i].hex);
    }
}

TEST(storage_a_digest_in_pieces_is_the_digest_of_the_whole)
{
    struct digest d = { 0 };
    uint8_t pieces[DIGEST_BYTES], whole[DIGEST_BYTES];
    uint8_t bytes[1000];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)test_random();
    EXPECT_OK(digest_begin(&d));
    for (size_t at = 0, len; at < sizeof(bytes); at += len) {
        len = 1 + test_random() % 100;
        if (len > sizeof(bytes) - at)
            len = sizeof(bytes) - at;
        EXPECT_OK(digest_add(&d, bytes + at, len));
    }
    EXPECT_OK(digest_end(&d, pieces));
    EXPECT(d.state == NULL);
    EXPECT_OK(digest_sha256(bytes, sizeof(bytes), whole));
    EXPECT(memcmp(pieces, whole, sizeof(whole)) == 0);
    digest_free(&d);
}

/* RFC 4231, test cases 1, 2 and 6: short key, text key, key longer than a block. */
TEST(storage_hmac_of_published_vectors)
{
    uint8_t key[131], mac[DIGEST_BYTES];
    char hex[DIGEST_HEX_ROOM];
    const char *text = "Test Using Larger Than Block-Size Key - Hash Key First";

    memset(key, 0x0b, 20);
    EXPECT_OK(digest_hmac(key, 20, "Hi There", 8, mac));
    EXPECT_TEXT(digest_hex(mac, hex),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_OK(digest_hmac("Jefe", 4, "what do ya want for nothing?", 28, mac));
    EXPECT_TEXT(digest_hex(mac, hex),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    EXPECT_OK(digest_hmac(key, sizeof(key), text, strlen(text), mac));
    EXPECT_TEXT(digest_hex(mac, hex),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

/* Longer than one read, so that the pieces are put together. */
TEST(storage_a_file_and_its_bytes_have_one_digest)
{
    char path[FILE_PATH_BYTES];
    size_t len = 200001;
    char *bytes = malloc(len);
    uint8_t of_file[DIGEST_BYTES], of_bytes[DIGEST_BYTES];
    uint64_t counted = 0;

    EXPECT(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)test_random();
    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "some bytes"));
    EXPECT_OK(file_write_atomic(path, bytes, len));
    EXPECT_OK(digest_file(path, of_file, &counted));
    EXPECT_INT(counted, len);
    EXPECT_OK(digest_sha256(bytes, len, of_bytes));
    EXPECT(memcmp(of_file, of_bytes, DIGEST_BYTES) == 0);
    EXPECT_STATUS(digest_file("no/such/file", of_file, NULL), ERR_NOTFOUND);
    EXPECT_MESSAGE("no/such/file");
    EXPECT_STATUS(digest_file(test_tmpdir(), of_file, NULL), ERR_IO);
    free(bytes);
}
