/* What Redis says while a store gets up: the store is connected, or says why not. */
#include <string.h>

#include "common/store.h"
#include "tests/fuzz/common/peer.h"
#include "tests/fuzz/fuzz.h"

/* A server that reads its files is waited for, half a minute long. */
static bool is_patient(const uint8_t *bytes, size_t len)
{
    return memmem(bytes, len, "LOADING", 7) != NULL;
}

FUZZ(greeting, 2 << 10)
{
    char path[FILE_PATH_BYTES], url[FILE_PATH_BYTES + 8] = "unix://";
    struct store_config config = { .url = url, .allow_unsafe = len % 2 };
    struct store *store = NULL;
    struct peer peer;

    if (is_patient(bytes, len))
        return;
    CHECK(file_join(path, sizeof(path), fuzz_tmpdir(), "greeting.sock") == OK);
    strcat(url, path);
    peer_open(&peer, path);
    peer_greet(&peer, bytes, len, true);
    if (store_open(&store, &config) == OK)
        CHECK(store_is_connected(store) && store_pending(store) == 0);
    else
        CHECK(!store && strstr(status_message(), "Redis"));
    peer_wait(&peer);
    store_close(store);
    peer_close(&peer);
}
