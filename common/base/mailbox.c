#include "common/base/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/check.h"

/* Timeouts are measured on the monotonic clock, so that a corrected wall clock can't stretch
 * them. */
static void init_sync(struct mailbox *m)
{
    pthread_condattr_t attr;

    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&m->has_message, &attr) == 0);
    CHECK(pthread_cond_init(&m->has_room, &attr) == 0);
    CHECK(pthread_mutex_init(&m->lock, NULL) == 0);
    pthread_condattr_destroy(&attr);
}

status mailbox_open(struct mailbox *m, size_t message_bytes, size_t capacity, bool has_fd)
{
    CHECK(message_bytes > 0 && capacity > 0);
    *m = (struct mailbox){ .message_bytes = message_bytes, .capacity = capacity, .has_fd = has_fd };
    m->slots = calloc(capacity, message_bytes);
    if (!m->slots)
        return FAIL(ERR_NOMEM, "no memory for a mailbox of %zu messages", capacity);
    if (has_fd) {
        m->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (m->event_fd < 0) {
            free(m->slots);
            m->slots = NULL;
            return FAIL(ERR_IO, "no event descriptor: %s; raise ulimit -n", strerror(errno));
        }
    }
    init_sync(m);
    return OK;
}

void mailbox_close(struct mailbox *m)
{
    if (!m->slots)
        return;
    CHECK(pthread_mutex_destroy(&m->lock) == 0);
    CHECK(pthread_cond_destroy(&m->has_message) == 0);
    CHECK(pthread_cond_destroy(&m->has_room) == 0);
    if (m->has_fd)
        close(m->event_fd);
    free(m->slots);
    *m = (struct mailbox){ 0 };
}

static bool is_readable(const struct mailbox *m)
{
    return m->count > 0 || m->is_shut;
}

/* Under the lock, after a change: make the descriptor say what is true now. */
static void update_fd(struct mailbox *m, bool was_readable)
{
    uint64_t value = 1;
    ssize_t moved = sizeof(value);

    if (!m->has_fd || was_readable == is_readable(m))
        return;
    if (is_readable(m))
        moved = write(m->event_fd, &value, sizeof(value));
    else
        moved = read(m->event_fd, &value, sizeof(value));
    CHECK(moved == sizeof(value));
}

static struct timespec deadline_after(int timeout_ms)
{
    struct timespec t;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    t.tv_sec += timeout_ms / 1000;
    t.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    return t;
}

static bool is_writable(const struct mailbox *m)
{
    return m->count < m->capacity || m->is_shut;
}

/* Under the lock: wait on cond until ready(m) or the deadline; the answer is ready(m), so that a
 * wake-up that comes together with the deadline is not lost. */
static bool wait_until(struct mailbox *m, pthread_cond_t *cond,
                       bool (*ready)(const struct mailbox *), int timeout_ms)
{
    struct timespec deadline = deadline_after(timeout_ms > 0 ? timeout_ms : 0);
    int err = 0;

    while (!ready(m) && timeout_ms != 0 && err != ETIMEDOUT) {
        if (timeout_ms == MAILBOX_FOREVER)
            err = pthread_cond_wait(cond, &m->lock);
        else
            err = pthread_cond_timedwait(cond, &m->lock, &deadline);
        CHECK(err == 0 || err == ETIMEDOUT);
    }
    return ready(m);
}

status mailbox_send(struct mailbox *m, const void *message, int timeout_ms)
{
    status st = OK;
    bool was_readable;

    pthread_mutex_lock(&m->lock);
    if (!wait_until(m, &m->has_room, is_writable, timeout_ms)) {
        st = timeout_ms == 0 ? ERR_FULL : ERR_TIMEOUT;
    } else if (m->is_shut) {
        st = ERR_CANCELLED;
    } else {
        size_t slot = (m->first + m->count) % m->capacity;

        memcpy(m->slots + slot * m->message_bytes, message, m->message_bytes);
        was_readable = is_readable(m);
        m->count++;
        pthread_cond_signal(&m->has_message);
        update_fd(m, was_readable);
    }
    pthread_mutex_unlock(&m->lock);
    return st;
}

status mailbox_receive(struct mailbox *m, void *message, int timeout_ms)
{
    status st = OK;

    pthread_mutex_lock(&m->lock);
    if (!wait_until(m, &m->has_message, is_readable, timeout_ms)) {
        st = ERR_TIMEOUT;
    } else if (m->count == 0) {
        st = ERR_CANCELLED;
    } else {
        memcpy(message, m->slots + m->first * m->message_bytes, m->message_bytes);
        m->first = (m->first + 1) % m->capacity;
        m->count--;
        pthread_cond_signal(&m->has_room);
        update_fd(m, true);
    }
    pthread_mutex_unlock(&m->lock);
    return st;
}

void mailbox_shut(struct mailbox *m)
{
    bool was_readable;

    pthread_mutex_lock(&m->lock);
    was_readable = is_readable(m);
    m->is_shut = true;
    pthread_cond_broadcast(&m->has_message);
    pthread_cond_broadcast(&m->has_room);
    update_fd(m, was_readable);
    pthread_mutex_unlock(&m->lock);
}

size_t mailbox_count(struct mailbox *m)
{
    size_t count;

    pthread_mutex_lock(&m->lock);
    count = m->count;
    pthread_mutex_unlock(&m->lock);
    return count;
}

int mailbox_fd(const struct mailbox *m)
{
    CHECK(m->has_fd);
    return m->event_fd;
}
