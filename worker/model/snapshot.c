#include "worker/model/snapshot.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"

/* Rises when the block of the same files becomes another one. */
#define LAYOUT 1

/* Words that are summed side by side: a multiplication takes longer than the next needs to wait. */
#define LANES 8

static const char tail[] = ".weights";

/* The start of the file. Numbers are the machine's own: one of another byte order has no magic. */
struct header {
    char magic[24];       /* "onestep weights" and zeros */
    uint64_t layout;      /* LAYOUT */
    uint64_t identity[2]; /* as in the key */
    uint64_t bytes;       /* of the file */
    uint64_t sum;         /* of everything behind the header */
    char hash[40];        /* content hash, hex, and zeros */
};
_Static_assert(sizeof(struct header) <= SNAPSHOT_HEADER_BYTES, "the header fits its room");

static const char magic[24] = "onestep weights";

/* For damage, not for enemies: who may write here may write weights. */
static uint64_t sum_of(const void *bytes, size_t len)
{
    uint64_t lane[LANES] = { 1, 2, 3, 4, 5, 6, 7, 8 }, sum = len;
    const unsigned char *p = bytes;

    for (; len >= sizeof(lane); len -= sizeof(lane), p += sizeof(lane)) {
        uint64_t word[LANES];

        memcpy(word, p, sizeof(word));
        for (int i = 0; i < LANES; i++) {
            lane[i] = (lane[i] ^ word[i]) * 0x9e3779b97f4a7c15u;
            lane[i] ^= lane[i] >> 32;
        }
    }
    for (; len > 0; len--, p++)
        lane[0] = (lane[0] ^ *p) * 0x9e3779b97f4a7c15u;
    for (int i = 0; i < LANES; i++)
        sum = ((sum ^ lane[i]) * 0xd6e8feb86659fd93u) ^ lane[i] >> 29;
    return sum;
}

static status file_of(char name[256], char path[FILE_PATH_BYTES], const struct snapshot_key *key)
{
    snprintf(name, 256, "%.160s-%016" PRIx64 "%016" PRIx64 "%s", key->name, key->identity[0],
             key->identity[1], tail);
    return file_join(path, FILE_PATH_BYTES, key->dir, name);
}

static status check_header(const struct mapping *map, const char *path,
                           const struct snapshot_key *key)
{
    const struct header *h = (const struct header *)(const void *)map->data;

    CHECK(key->bytes > SNAPSHOT_HEADER_BYTES);
    if (map->bytes != key->bytes)
        return FAIL(ERR_CORRUPT, "%s: %zu bytes, want %zu", path, map->bytes, key->bytes);
    if (memcmp(h->magic, magic, sizeof(magic)) != 0 || h->layout != LAYOUT ||
        h->bytes != key->bytes || memcmp(h->identity, key->identity, sizeof(h->identity)) != 0 ||
        memchr(h->hash, '\0', sizeof(h->hash)) != h->hash + 32)
        return FAIL(ERR_CORRUPT, "%s: its header is not that of these weights", path);
    return OK;
}

status snapshot_map(struct mapping *map, const struct snapshot_key *key, char *hash)
{
    status st;
    char name[256], path[FILE_PATH_BYTES];
    const struct header *h;

    *map = (struct mapping){ 0 };
    TRY(file_of(name, path, key));
    TRY(file_map(path, map));
    TRY(check_header(map, path, key));
    h = (const struct header *)(const void *)map->data;
    if (sum_of(map->data + SNAPSHOT_HEADER_BYTES, map->bytes - SNAPSHOT_HEADER_BYTES) != h->sum)
        TRY(FAIL(ERR_CORRUPT, "%s: its bytes are not those that were written", path));
    memcpy(hash, h->hash, 33);
    return OK;
out:
    file_unmap(map);
    return st;
}

/* Is file a snapshot of the model called name, "NAME-" 32 digits ".weights"? */
static bool is_of(const char *file, const char *name)
{
    const size_t len = strlen(name);

    return strlen(file) == len + 1 + 32 + sizeof(tail) - 1 && strncmp(file, name, len) == 0 &&
           file[len] == '-' && strcmp(file + len + 33, tail) == 0;
}

/* Delete the model's snapshots but for the one called keep. What is mapped stays readable. */
static status drop_others(const struct snapshot_key *key, const char *keep)
{
    status st = OK;
    char path[FILE_PATH_BYTES], name[256];
    struct dirent *entry;
    DIR *dir = opendir(key->dir);

    if (!dir)
        return OK;
    snprintf(name, sizeof(name), "%.160s", key->name);
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, keep) == 0 || !is_of(entry->d_name, name))
            continue;
        TRY(file_join(path, sizeof(path), key->dir, entry->d_name));
        TRY(file_remove(path));
    }
out:
    closedir(dir);
    return st;
}

status snapshot_write(void *block, const struct snapshot_key *key, const char *hash)
{
    status st;
    char name[256], path[FILE_PATH_BYTES];
    struct header *h = block;

    CHECK(strlen(hash) == 32 && key->bytes > SNAPSHOT_HEADER_BYTES);
    memset(block, 0, SNAPSHOT_HEADER_BYTES);
    memcpy(h->magic, magic, sizeof(magic));
    h->layout = LAYOUT;
    memcpy(h->identity, key->identity, sizeof(h->identity));
    h->bytes = key->bytes;
    h->sum = sum_of((char *)block + SNAPSHOT_HEADER_BYTES, key->bytes - SNAPSHOT_HEADER_BYTES);
    memcpy(h->hash, hash, 33);
    TRY(file_of(name, path, key));
    TRY(file_make_dirs(key->dir));
    TRY(drop_others(key, name)); /* first: two may not fit the disk */
    TRY(file_write_atomic(path, block, key->bytes));
out:
    return st;
}
