#include "common/base/mailbox.h"

#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/tool/test.h"

static bool is_readable(struct mailbox *m, int timeout_ms)
{
    struct pollfd p = { .fd = mailbox_fd(m), .events = POLLIN };

    return poll(&p, 1, timeout_ms) == 1;
}

TEST(messages_come_out_in_order)
{
    struct mailbox m = { 0 };
    int out = 0;

    EXPECT_OK(mailbox_open(&m, sizeof(int), 3, false));
    for (int i = 0; i < 10; i++) {
        int next = i + 100;

        EXPECT_OK(mailbox_send(&m, &i, 0));
        EXPECT_OK(mailbox_send(&m, &next, 0));
        EXPECT_INT(mailbox_count(&m), 2);
        EXPECT_OK(mailbox_receive(&m, &out, 0));
        EXPECT_INT(out, i);
        EXPECT_OK(mailbox_receive(&m, &out, 0));
        EXPECT_INT(out, i + 100);
    }
    mailbox_close(&m);
    mailbox_close(&m);
}

TEST(full_and_empty_are_answers_not_failures)
{
    struct mailbox m = { 0 };
    int x = 1;

    EXPECT_OK(mailbox_open(&m, sizeof(int), 1, false));
    status_clear();
    EXPECT_STATUS(mailbox_receive(&m, &x, 0), ERR_TIMEOUT);
    EXPECT_STATUS(mailbox_receive(&m, &x, 10), ERR_TIMEOUT);
    EXPECT_OK(mailbox_send(&m, &x, 0));
    EXPECT_STATUS(mailbox_send(&m, &x, 0), ERR_FULL);
    EXPECT_STATUS(mailbox_send(&m, &x, 10), ERR_TIMEOUT);
    EXPECT_TEXT(status_message(), "");
    mailbox_close(&m);
}

TEST(a_timeout_waits_at_least_as_long_as_asked)
{
    struct mailbox m = { 0 };
    int64_t start_ms;
    int x;

    EXPECT_OK(mailbox_open(&m, sizeof(int), 1, false));
    start_ms = clock_mono_ms();
    EXPECT_STATUS(mailbox_receive(&m, &x, 50), ERR_TIMEOUT);
    /* One millisecond less: the two readings are rounded down. */
    EXPECT(clock_mono_ms() - start_ms >= 49);
    mailbox_close(&m);
}

TEST(shut_refuses_sends_and_lets_the_rest_out)
{
    struct mailbox m = { 0 };
    int x = 7;

    EXPECT_OK(mailbox_open(&m, sizeof(int), 2, true));
    EXPECT_OK(mailbox_send(&m, &x, 0));
    mailbox_shut(&m);
    mailbox_shut(&m);
    EXPECT_STATUS(mailbox_send(&m, &x, MAILBOX_FOREVER), ERR_CANCELLED);
    x = 0;
    EXPECT_OK(mailbox_receive(&m, &x, MAILBOX_FOREVER));
    EXPECT_INT(x, 7);
    EXPECT_STATUS(mailbox_receive(&m, &x, MAILBOX_FOREVER), ERR_CANCELLED);
    EXPECT(is_readable(&m, 0));
    mailbox_close(&m);
}

TEST(the_descriptor_is_readable_while_a_message_waits)
{
    struct mailbox m = { 0 };
    int x = 1;

    EXPECT_OK(mailbox_open(&m, sizeof(int), 2, true));
    for (int round = 0; round < 3; round++) {
        EXPECT(!is_readable(&m, 0));
        EXPECT_OK(mailbox_send(&m, &x, 0));
        EXPECT(is_readable(&m, 0));
        EXPECT_OK(mailbox_send(&m, &x, 0));
        EXPECT_OK(mailbox_receive(&m, &x, 0));
        EXPECT(is_readable(&m, 0));
        EXPECT_OK(mailbox_receive(&m, &x, 0));
    }
    EXPECT(!is_readable(&m, 0));
    mailbox_shut(&m);
    EXPECT(is_readable(&m, 0));
    mailbox_close(&m);
}

static void *wait_for_one(void *arg)
{
    struct mailbox *m = arg;
    int x;

    return (void *)(intptr_t)mailbox_receive(m, &x, MAILBOX_FOREVER);
}

TEST(shut_wakes_every_waiting_receiver)
{
    struct mailbox m = { 0 };
    pthread_t threads[4];
    void *got = NULL;

    EXPECT_OK(mailbox_open(&m, sizeof(int), 2, false));
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, wait_for_one, &m) == 0);
    mailbox_shut(&m);
    for (int i = 0; i < 4; i++) {
        EXPECT(pthread_join(threads[i], &got) == 0);
        EXPECT_INT((intptr_t)got, ERR_CANCELLED);
    }
    mailbox_close(&m);
}

struct crowd {
    struct mailbox box;
    int64_t sums[4]; /* one per receiver */
};

enum { SENDERS = 4, RECEIVERS = 4, MESSAGES = 2000 };

struct member {
    pthread_t thread;
    struct crowd *crowd;
    int index;
};

static void *send_many(void *arg)
{
    struct member *self = arg;

    for (int64_t i = 1; i <= MESSAGES; i++)
        EXPECT_OK(mailbox_send(&self->crowd->box, &i, MAILBOX_FOREVER));
    return NULL;
}

static void *receive_many(void *arg)
{
    struct member *self = arg;
    int64_t value;

    while (mailbox_receive(&self->crowd->box, &value, MAILBOX_FOREVER) == OK)
        self->crowd->sums[self->index] += value;
    return NULL;
}

/* Many threads on a narrow mailbox: nothing lost, nothing twice, nobody asleep for ever. */
TEST(a_crowd_loses_nothing)
{
    struct crowd crowd = { 0 };
    struct member senders[SENDERS], receivers[RECEIVERS];
    int64_t sum = 0;

    EXPECT_OK(mailbox_open(&crowd.box, sizeof(int64_t), 3, true));
    for (int i = 0; i < RECEIVERS; i++) {
        receivers[i] = (struct member){ .crowd = &crowd, .index = i };
        EXPECT(pthread_create(&receivers[i].thread, NULL, receive_many, &receivers[i]) == 0);
    }
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct member){ .crowd = &crowd, .index = i };
        EXPECT(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]) == 0);
    }
    for (int i = 0; i < SENDERS; i++)
        EXPECT(pthread_join(senders[i].thread, NULL) == 0);
    mailbox_shut(&crowd.box);
    for (int i = 0; i < RECEIVERS; i++) {
        EXPECT(pthread_join(receivers[i].thread, NULL) == 0);
        sum += crowd.sums[i];
    }
    EXPECT_INT(sum, (int64_t)SENDERS * MESSAGES * (MESSAGES + 1) / 2);
    mailbox_close(&crowd.box);
}
