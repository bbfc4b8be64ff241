/* An AWS credentials file: keys come out whole, printable, and both or none. */
#include "common/credentials.h"
#include "tests/fuzz/fuzz.h"

static void expect_word(const char *text)
{
    for (; *text; text++)
        CHECK((unsigned char)*text > 0x20 && (unsigned char)*text < 0x7f);
}

FUZZ_STORAGE(credentials, 8 << 10)
{
    char path[FILE_PATH_BYTES];
    struct credentials_config config = { .file = path };
    struct credentials c = { 0 };
    struct sigv4_signer who = { 0 };

    fuzz_file(path, "credentials", bytes, len);
    if (credentials_open(&c, &config) == OK) {
        CHECK(credentials_get(&c, &who) == OK);
        CHECK(who.access_key[0] && who.secret_key[0]);
        expect_word(who.access_key);
        expect_word(who.secret_key);
        expect_word(who.session_token);
    } else {
        CHECK(c.state == NULL);
    }
    credentials_close(&c);
}
