/* An AWS credentials file: keys come out whole, printable, and both or none. */
#include "common/s3.h"
#include "tests/fuzz/fuzz.h"

static void expect_word(const char *text)
{
    for (; *text; text++)
        CHECK((unsigned char)*text > 0x20 && (unsigned char)*text < 0x7f);
}

FUZZ(credentials, 8 << 10)
{
    char path[FILE_PATH_BYTES];
    struct s3_config config = { .credentials_file = path };
    struct s3 s = { 0 };

    fuzz_file(path, "credentials", bytes, len);
    if (s3_open(&s, &config) == OK) {
        CHECK(s.access_key[0] && s.secret_key[0]);
        expect_word(s.access_key);
        expect_word(s.secret_key);
        expect_word(s.token);
    } else {
        CHECK(!s.access_key[0] && !s.secret_key[0] && !s.token[0]);
    }
    s3_close(&s);
}
