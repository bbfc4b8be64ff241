#include "common/id.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/digest.h"

/* The only shard there is; later ids of other shards begin with their own two digits. */
#define SHARD "00"

#define PAYLOAD_BYTES 15 /* 120 bits, 24 characters of 5 */

/* Base32 without the letters that are taken for digits or for each other. */
static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

static void put_base32(char *dst, const uint8_t payload[PAYLOAD_BYTES])
{
    unsigned bits = 0, held = 0;

    for (int i = 0; i < PAYLOAD_BYTES; i++) {
        held = held << 8 | payload[i];
        for (bits += 8; bits >= 5; bits -= 5)
            *dst++ = alphabet[held >> (bits - 5) & 31];
    }
    *dst = '\0';
}

void id_make(char id[JOB_ID_BYTES], int64_t wall_ms, const uint8_t random[9])
{
    uint8_t payload[PAYLOAD_BYTES];

    for (int i = 0; i < 6; i++)
        payload[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    memcpy(payload + 6, random, 9);
    memcpy(id, SHARD, 2);
    put_base32(id + 2, payload);
}

void id_new(char id[JOB_ID_BYTES])
{
    uint8_t random[9];

    /* getrandom fails only on a kernel that lacks it; nothing here would be safe there. */
    CHECK(random_bytes(random, sizeof(random)) == OK);
    id_make(id, clock_wall_ms(), random);
}

status id_from_key(char id[JOB_ID_BYTES], const char *tenant, const char *key)
{
    uint8_t sha256[DIGEST_BYTES];
    struct digest d = { 0 };
    size_t len = strnlen(key, ID_KEY_MAX + 1);
    status st = OK;

    if (len == 0)
        return FAIL(ERR_BADARG, "the idempotency key is empty; leave it out or give 1 to %d bytes",
                    ID_KEY_MAX);
    if (len > ID_KEY_MAX)
        return FAIL(ERR_BADARG, "the idempotency key is longer than %d bytes", ID_KEY_MAX);
    TRY(digest_begin(&d));
    TRY(digest_add(&d, tenant, strlen(tenant) + 1)); /* with its NUL, which no tenant contains */
    TRY(digest_add(&d, key, len));
    TRY(digest_end(&d, sha256));
    memcpy(id, SHARD, 2);
    put_base32(id + 2, sha256);
out:
    digest_free(&d);
    return st;
}

uint64_t id_random(void)
{
    uint64_t value;

    CHECK(random_bytes(&value, sizeof(value)) == OK);
    return value;
}

void id_nonce_text(char text[17], uint64_t nonce)
{
    snprintf(text, 17, "%016" PRIx64, nonce);
}
