#include "tests/fuzz/common/peer.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/check.h"

void peer_open(struct peer *p, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    *p = (struct peer){ .listener = -1, .connection = -1 };
    CHECK(strlen(path) < sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    unlink(path);
    p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(p->listener >= 0);
    CHECK(bind(p->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(p->listener, 1) == 0);
}

static void *greet(void *self)
{
    struct peer *p = self;

    p->connection = accept(p->listener, NULL, NULL);
    CHECK(p->connection >= 0);
    /* The other side may hang up first. */
    (void)!send(p->connection, p->bytes, p->len, MSG_NOSIGNAL);
    if (p->hangs_up)
        shutdown(p->connection, SHUT_WR);
    return NULL;
}

void peer_greet(struct peer *p, const void *bytes, size_t len, bool hang_up)
{
    p->bytes = bytes;
    p->len = len;
    p->hangs_up = hang_up;
    CHECK(pthread_create(&p->thread, NULL, greet, p) == 0);
}

void peer_wait(struct peer *p)
{
    CHECK(pthread_join(p->thread, NULL) == 0);
}

void peer_close(struct peer *p)
{
    if (p->connection >= 0)
        close(p->connection);
    if (p->listener >= 0)
        close(p->listener);
}
