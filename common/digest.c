#include "common/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/file.h"

#define FILE_CHUNK_BYTES (64 << 10)

/* OpenSSL fails here only for want of memory, or when the machine's policy forbids SHA-256. */
static status refused(void)
{
    return FAIL(ERR_NOMEM, "OpenSSL could not compute a SHA-256: out of memory, or forbidden by "
                           "this machine's policy (see openssl.cnf)");
}

status digest_begin(struct digest *d)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        return refused();
    }
    d->state = ctx;
    return OK;
}

status digest_add(struct digest *d, const void *bytes, size_t len)
{
    CHECK(d->state);
    return EVP_DigestUpdate(d->state, bytes, len) == 1 ? OK : refused();
}

status digest_end(struct digest *d, uint8_t sha256[DIGEST_BYTES])
{
    int done;

    CHECK(d->state);
    done = EVP_DigestFinal_ex(d->state, sha256, NULL);
    digest_free(d);
    return done == 1 ? OK : refused();
}

void digest_free(struct digest *d)
{
    EVP_MD_CTX_free(d->state);
    d->state = NULL;
}

status digest_sha256(const void *bytes, size_t len, uint8_t sha256[DIGEST_BYTES])
{
    return EVP_Digest(bytes, len, sha256, NULL, EVP_sha256(), NULL) == 1 ? OK : refused();
}

/* Add everything that fd still has; path is for sentences. */
static status add_fd(struct digest *d, int fd, const char *path, uint64_t *bytes)
{
    char chunk[FILE_CHUNK_BYTES];
    ssize_t got;
    status st;

    for (;;) {
        got = read(fd, chunk, sizeof(chunk));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return file_errno(errno, path);
        if (got == 0)
            return OK;
        st = digest_add(d, chunk, (size_t)got);
        if (st != OK)
            return st;
        *bytes += (uint64_t)got;
    }
}

status digest_file(const char *path, uint8_t sha256[DIGEST_BYTES], uint64_t *bytes)
{
    status st = OK;
    struct digest d = { 0 };
    uint64_t count = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        TRY(file_errno(errno, path));
    TRY(digest_begin(&d));
    TRY(add_fd(&d, fd, path, &count));
    TRY(digest_end(&d, sha256));
    if (bytes)
        *bytes = count;
out:
    digest_free(&d);
    if (fd >= 0)
        close(fd);
    return st;
}

/* Add len bytes at offset to one or two digests. */
static status add_range(EVP_MD_CTX *ctx, EVP_MD_CTX *also, int fd, const char *path,
                        uint64_t range[2])
{
    char chunk[FILE_CHUNK_BYTES];
    uint64_t offset = range[0], left = range[1];

    while (left) {
        size_t want = left < sizeof(chunk) ? (size_t)left : sizeof(chunk);
        ssize_t got = pread(fd, chunk, want, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? file_errno(errno, path)
                           : FAIL(ERR_IO, "%s: shorter than it was", path);
        if (EVP_DigestUpdate(ctx, chunk, (size_t)got) != 1 ||
            (also && EVP_DigestUpdate(also, chunk, (size_t)got) != 1))
            return refused();
        offset += (uint64_t)got;
        left -= (uint64_t)got;
    }
    return OK;
}

status digest_md5(const void *bytes, size_t len, char hex[DIGEST_MD5_HEX_ROOM])
{
    uint8_t md5[16];

    if (EVP_Digest(bytes, len, md5, NULL, EVP_md5(), NULL) != 1)
        return refused();
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", md5[i]);
    return OK;
}

status digest_md5_range(int fd, const char *path, uint64_t offset, uint64_t len,
                        char hex[DIGEST_MD5_HEX_ROOM])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint64_t range[2] = { offset, len };
    uint8_t md5[16];
    status st = OK;

    if (!ctx || EVP_DigestInit_ex(ctx, EVP_md5(), NULL) != 1)
        TRY(refused());
    TRY(add_range(ctx, NULL, fd, path, range));
    if (EVP_DigestFinal_ex(ctx, md5, NULL) != 1)
        TRY(refused());
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", md5[i]);
out:
    EVP_MD_CTX_free(ctx);
    return st;
}

status digest_range(int fd, const char *path, uint64_t offset, uint64_t len, struct digest *whole,
                    uint8_t sha256[DIGEST_BYTES])
{
    struct digest d = { 0 };
    uint64_t range[2] = { offset, len };
    status st = OK;

    TRY(digest_begin(&d));
    TRY(add_range(d.state, whole ? whole->state : NULL, fd, path, range));
    TRY(digest_end(&d, sha256));
out:
    digest_free(&d);
    return st;
}

status digest_hmac(const void *key, size_t key_len, const void *bytes, size_t len,
                   uint8_t mac[DIGEST_BYTES])
{
    unsigned int mac_len = DIGEST_BYTES;

    CHECK(key_len <= INT32_MAX);
    if (!HMAC(EVP_sha256(), key, (int)key_len, bytes, len, mac, &mac_len))
        return refused();
    CHECK(mac_len == DIGEST_BYTES);
    return OK;
}

const char *digest_hex(const uint8_t sha256[DIGEST_BYTES], char hex[DIGEST_HEX_ROOM])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < DIGEST_BYTES; i++) {
        hex[2 * i] = digits[sha256[i] >> 4];
        hex[2 * i + 1] = digits[sha256[i] & 15];
    }
    hex[2 * DIGEST_BYTES] = '\0';
    return hex;
}

status digest_from_hex(const char *hex, uint8_t sha256[DIGEST_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    if (strlen(hex) != 2 * DIGEST_BYTES || strspn(hex, digits) != 2 * DIGEST_BYTES)
        return FAIL(ERR_CORRUPT, "\"%.70s\" is not 64 hexadecimal digits in lower case", hex);
    for (int i = 0; i < DIGEST_BYTES; i++)
        sha256[i] = (uint8_t)(16 * (strchr(digits, hex[2 * i]) - digits) +
                              (strchr(digits, hex[2 * i + 1]) - digits));
    return OK;
}
