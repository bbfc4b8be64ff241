/* The index of a checkpoint in several files: it names files beside it or is refused. */
#include <stdio.h>

#include "tests/fuzz/fuzz.h"
#include "worker/model/weights.h"

/* One F32 tensor of two elements, called by one letter. */
static void make_shard(const char *name, char tensor)
{
    char bytes[96] = { 0 }, path[FILE_PATH_BYTES];
    int len = snprintf(bytes + 8, sizeof(bytes) - 8,
                       "{\"%c\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", tensor);

    CHECK(len > 0 && (size_t)len + 16 <= sizeof(bytes));
    bytes[0] = (char)len;
    fuzz_file(path, name, bytes, (size_t)len + 16);
}

FUZZ(shards, 2 << 10)
{
    char path[FILE_PATH_BYTES];
    size_t sum = 0;

    make_shard("part/a.safetensors", 'a');
    make_shard("part/b.safetensors", 'b');
    make_shard("outside.safetensors", 'c');
    fuzz_file(path, "part/m.safetensors.index.json", bytes, len);
    CHECK(file_join(path, sizeof(path), fuzz_tmpdir(), "part") == OK);
    /* Two shards lie there, each with one tensor; a third one would come from elsewhere. */
    if (weights_measure(path, "m", &sum) == OK)
        CHECK(sum > 0 && sum <= 2 * (2 * sizeof(float) + ARENA_ALIGN));
}
