/* How fast do messages cross a mailbox between two threads? The peer is a pipe, which is what the
 * kernel offers for the same purpose. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/mailbox.h"
#include "tests/tool/bench.h"

enum { MESSAGES = 100000, CAPACITY = 64, MESSAGE_BYTES = 64 };

/* A wire between two threads, either kind. */
struct wire {
    struct mailbox box;
    int ends[2];
    bool is_pipe;
};

static void check(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "bench_mailbox: %s failed\n", what);
        exit(1);
    }
}

static void *send_all(void *arg)
{
    struct wire *w = arg;
    char message[MESSAGE_BYTES] = { 0 };

    for (int i = 0; i < MESSAGES; i++) {
        if (w->is_pipe)
            check(write(w->ends[1], message, MESSAGE_BYTES) == MESSAGE_BYTES, "write");
        else
            check(mailbox_send(&w->box, message, MAILBOX_FOREVER) == OK, "send");
    }
    return NULL;
}

static void exchange(void *self)
{
    struct wire *w = self;
    char message[MESSAGE_BYTES];
    pthread_t sender;

    check(pthread_create(&sender, NULL, send_all, w) == 0, "pthread_create");
    for (int i = 0; i < MESSAGES; i++) {
        if (w->is_pipe)
            check(read(w->ends[0], message, MESSAGE_BYTES) == MESSAGE_BYTES, "read");
        else
            check(mailbox_receive(&w->box, message, MAILBOX_FOREVER) == OK, "receive");
    }
    pthread_join(sender, NULL);
}

int main(int argc, char **argv)
{
    struct bench b;
    struct wire w = { 0 };
    double mailbox_s, pipe_s;

    bench_init(&b, argc, argv);
    check(mailbox_open(&w.box, MESSAGE_BYTES, CAPACITY, false) == OK, "mailbox_open");
    check(pipe(w.ends) == 0, "pipe");
    mailbox_s = bench_seconds(exchange, &w);
    w.is_pipe = true;
    pipe_s = bench_seconds(exchange, &w);
    bench_report(&b, &(struct bench_row){ .name = "mailbox.handoff",
                                          .value = MESSAGES / mailbox_s,
                                          .unit = "messages/s",
                                          .peer = "pipe",
                                          .ratio = pipe_s / mailbox_s });
    mailbox_close(&w.box);
    return 0;
}
