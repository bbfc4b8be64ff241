/* mailbox.h - a bounded queue of fixed-size messages between threads.
 *
 * A full mailbox makes its senders wait: that is the back-pressure between the net, io and compute
 * threads. Messages are copied in and out, first in, first out. A message that holds pointers hands
 * over what they point to.
 * A refusal (ERR_FULL, ERR_TIMEOUT, ERR_CANCELLED) is an answer, not a failure: it leaves
 * status_message() alone. Thread: any, except open and close. */
#ifndef ONESTEP_COMMON_BASE_MAILBOX_H
#define ONESTEP_COMMON_BASE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

#define MAILBOX_FOREVER (-1)

/* All fields are the mailbox's own; use the functions. */
struct mailbox {
    pthread_mutex_t lock;       /* guards everything below */
    pthread_cond_t has_message; /* one receiver is woken per send, all by shut */
    pthread_cond_t has_room;    /* one sender is woken per receive, all by shut */
    char *slots;                /* capacity * message_bytes; NULL in a zeroed mailbox */
    size_t message_bytes;       /* size of one message */
    size_t capacity;            /* messages that fit */
    size_t first;               /* slot of the oldest message */
    size_t count;               /* messages waiting */
    bool is_shut;               /* no more sends */
    int event_fd;               /* readable while count > 0 or is_shut; valid when has_fd */
    bool has_fd;                /* an event_fd was asked for */
};

/* An empty mailbox of capacity messages of message_bytes each. With has_fd, mailbox_fd works.
 * Errors: ERR_NOMEM; ERR_IO when there is no descriptor left. */
MUST_USE status mailbox_open(struct mailbox *m, size_t message_bytes, size_t capacity, bool has_fd);

/* Free it. No thread may be inside or come later: shut it and join them first. Messages that still
 * wait are dropped, so receive them first if they own something. Accepts a zeroed mailbox. */
void mailbox_close(struct mailbox *m);

/* Add a copy of *message, waiting up to timeout_ms (0: not at all, MAILBOX_FOREVER) for room.
 * Errors: ERR_FULL (timeout 0) or ERR_TIMEOUT when there is no room; ERR_CANCELLED after shut. The
 * caller then still owns what the message points to. */
MUST_USE status mailbox_send(struct mailbox *m, const void *message, int timeout_ms);

/* Copy the oldest message to *message and drop it, waiting up to timeout_ms (0: not at all,
 * MAILBOX_FOREVER) for one. Errors: ERR_TIMEOUT when there is none; ERR_CANCELLED when it is
 * shut and everything sent before has been received. */
MUST_USE status mailbox_receive(struct mailbox *m, void *message, int timeout_ms);

/* Refuse further sends and wake everyone; what was sent can still be received. May be repeated. */
void mailbox_shut(struct mailbox *m);

/* Messages waiting now. */
size_t mailbox_count(struct mailbox *m);

/* A descriptor that polls readable while a message waits or the mailbox is shut. Only poll it: the
 * mailbox reads and writes it. The mailbox was opened with has_fd. */
int mailbox_fd(const struct mailbox *m);

#endif
