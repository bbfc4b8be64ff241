#include "client/seed.h"

#include <string.h>

#include "common/digest.h"
#include "common/id.h"

#define SEED_BITS 53

uint64_t seed_random(void)
{
    return id_random() >> (64 - SEED_BITS);
}

status seed_from_key(const char *key, uint64_t *seed)
{
    struct digest d = { 0 };
    uint8_t sha256[DIGEST_BYTES];
    uint64_t bits = 0;
    status st = OK;

    TRY(digest_begin(&d));
    TRY(digest_add(&d, "seed", sizeof("seed")));
    TRY(digest_add(&d, key, strlen(key)));
    TRY(digest_end(&d, sha256));
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | sha256[i];
    *seed = bits >> (64 - SEED_BITS);
out:
    digest_free(&d);
    return st;
}
