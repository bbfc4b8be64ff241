/* What operators ask of a broker and order, against a store that the test plays. */
#include <stdio.h>
#include <string.h>

#include "common/base/limits.h"
#include "tests/tool/test.h"
#include "tests/unit/broker/world.h"

static const struct lease lease_a = { .job = JOB_A, .attempt = 1, .nonce = 77 };

static struct msg ask_of(enum msg_question question, const char *name, const char *cursor)
{
    return (struct msg){ .type = MSG_ASK, .seq = 5, .ask = { question, name, cursor } };
}

static struct msg rule_of(enum msg_order order, enum msg_scope scope, const char *name)
{
    return (struct msg){ .type = MSG_RULE,
                         .seq = 6,
                         .rule = { .order = order, .scope = scope, .name = name, .cursor = "" } };
}

TEST(a_question_is_one_call_and_its_answer_rows)
{
    static const struct store_row row = { { "it is queued" }, 1 };
    struct world w = world_open();
    struct msg m = ask_of(ASK_WHY, JOB_A, "");

    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_TEXT(world_called(&w, 0, STORE_WHY)->why, JOB_A);
    EXPECT_INT(w.out.send_count, 0);
    world_reply(&w, &(struct store_reply){
                        .op = STORE_WHY, .tag = w.out.calls[0].tag, .rows = &row, .row_count = 1 });
    m = world_sent(&w, 0, MSG_ROWS, 1);
    EXPECT_INT(m.seq, 5);
    EXPECT_INT(m.rows.row_count, 1);
    EXPECT_TEXT(m.rows.rows[0].cells[0], "it is queued");
    EXPECT_TEXT(m.rows.cursor, "");
    m = ask_of(ASK_WHY, "birds", "");
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 0);
    EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_BADARG);
    m = ask_of(ASK_TENANTS, "", "");
    world_give(&w, BROKER_CLIENTS, 1, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_TENANTS,
                                           .tag = world_called(&w, 0, STORE_TENANTS)->tag,
                                           .code = ERR_UNAVAILABLE,
                                           .sentence = "no Redis" });
    EXPECT_TEXT(world_sent(&w, 0, MSG_ERROR, 1).error.sentence, "no Redis");
    EXPECT_INT(broker_pending(w.broker), 0);
    world_close(&w);
}

/* Events go on behind the last one that was sent. */
TEST(events_are_resumed_behind_the_last_that_fits)
{
    static struct store_row rows[MSG_ROWS_MAX];
    static char cursors[MSG_ROWS_MAX][24];
    char big[MSG_CELL_MAX + 1];
    struct world w = world_open();
    struct msg m = ask_of(ASK_EVENTS, "", "170000-1");

    memset(big, 'x', MSG_CELL_MAX);
    big[MSG_CELL_MAX] = '\0';
    for (int i = 0; i < MSG_ROWS_MAX; i++) {
        snprintf(cursors[i], sizeof(cursors[i]), "170000-%d", i + 2);
        rows[i] = (struct store_row){ { cursors[i], big, big, big, big }, 5 };
    }
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_TEXT(world_called(&w, 0, STORE_EVENTS)->events.cursor, "170000-1");
    EXPECT_INT(w.out.calls[0].events.limit, MSG_ROWS_MAX);
    world_reply(&w, &(struct store_reply){ .op = STORE_EVENTS,
                                           .tag = w.out.calls[0].tag,
                                           .rows = rows,
                                           .row_count = MSG_ROWS_MAX });
    m = world_sent(&w, 0, MSG_ROWS, 1);
    EXPECT(m.rows.row_count >= 32 && m.rows.row_count < MSG_ROWS_MAX);
    EXPECT_TEXT(m.rows.cursor, cursors[m.rows.row_count - 1]);
    for (size_t i = 0; i < 5; i++) {
        static const char *const bad[] = { "(5-1", "5", "-", "5-", "1-2-3" };

        m = ask_of(ASK_EVENTS, "", bad[i]);
        world_give(&w, BROKER_CLIENTS, 1, &m);
        EXPECT_INT(w.out.call_count, 0);
        EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_BADARG);
    }
    world_close(&w);
}

/* Pages of an answer that the store gives as a whole, without a row lost or twice. */
TEST(long_answers_come_in_pages)
{
    static struct store_row rows[MSG_ROWS_MAX + 70];
    static char names[MSG_ROWS_MAX + 70][16];
    const size_t count = MSG_ROWS_MAX + 70;
    struct world w = world_open();
    char cursor[64] = "";
    size_t seen = 0;

    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof(names[i]), "t%zu", i);
        rows[i] = (struct store_row){ { names[i], "0" }, 2 };
    }
    do {
        struct msg m = ask_of(ASK_LANES, "", cursor);

        world_give(&w, BROKER_CLIENTS, 1, &m);
        world_reply(&w, &(struct store_reply){ .op = STORE_QUEUES,
                                               .tag = world_called(&w, 0, STORE_QUEUES)->tag,
                                               .rows = rows,
                                               .row_count = count });
        m = world_sent(&w, 0, MSG_ROWS, 1);
        EXPECT_INT(m.rows.row_total, count);
        EXPECT(m.rows.row_count > 0);
        for (size_t i = 0; i < m.rows.row_count; i++)
            EXPECT_TEXT(m.rows.rows[i].cells[0], names[seen++]);
        snprintf(cursor, sizeof(cursor), "%s", m.rows.cursor);
        arena_release(&w.arena, 0);
    } while (*cursor);
    EXPECT_INT(seen, count);
    world_close(&w);
}

TEST(orders_become_calls_of_the_store)
{
    struct world w = world_open();
    struct msg m = rule_of(RULE_PAUSE, SCOPE_TENANT, "birds");
    const struct store_call *call;

    w.role[BROKER_CLIENTS] = KEYS_ADMIN;
    world_give(&w, BROKER_CLIENTS, 1, &m);
    call = world_called(&w, 0, STORE_PAUSE);
    EXPECT_INT(call->pause.scope, STORE_TENANT);
    EXPECT_INT(call->pause.mode, STORE_HOLD);
    EXPECT_TEXT(call->pause.name, "birds");
    world_reply(
        &w, &(struct store_reply){
                .op = STORE_PAUSE, .tag = call->tag, .verdict = VERDICT_OK, .state = JOB_QUEUED });
    EXPECT_INT(world_sent(&w, 0, MSG_ROWS, 1).rows.verdict, VERDICT_OK);
    m = rule_of(RULE_DRAIN, SCOPE_QUEUE, "");
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(world_called(&w, 0, STORE_PAUSE)->pause.mode, STORE_DRAIN);
    m = rule_of(RULE_FRONT, SCOPE_QUEUE, JOB_A);
    world_give(&w, BROKER_CLIENTS, 1, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_FRONT,
                                           .tag = world_called(&w, 0, STORE_FRONT)->tag,
                                           .verdict = VERDICT_CONFLICT,
                                           .state = JOB_DONE });
    m = world_sent(&w, 0, MSG_ROWS, 1);
    EXPECT_INT(m.rows.verdict, VERDICT_CONFLICT);
    EXPECT_INT(m.rows.state, JOB_DONE);
    m = rule_of(RULE_QUOTA, SCOPE_TENANT, "birds");
    m.rule.quota = (struct msg_quota){ 1, 2, 3, 4, 5, -1 };
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_TEXT(world_called(&w, 0, STORE_QUOTA)->quota.tenant, "birds");
    EXPECT_INT(w.out.calls[0].quota.limits.running_max, 2);
    EXPECT_INT(w.out.calls[0].quota.limits.weight, -1);
    m = rule_of(RULE_REPAIR, SCOPE_QUEUE, "");
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT(world_called(&w, 0, STORE_AUDIT)->audit_repair);
    world_close(&w);
}

TEST(orders_that_make_no_sense_are_refused)
{
    const struct msg bad[] = {
        rule_of(RULE_PAUSE, SCOPE_TENANT, "Birds"), rule_of(RULE_PAUSE, SCOPE_TENANT, ""),
        rule_of(RULE_PAUSE, SCOPE_MODEL, "a/b"),    rule_of(RULE_DRAIN, SCOPE_MODEL, "svd"),
        rule_of(RULE_FRONT, SCOPE_QUEUE, "birds"),  rule_of(RULE_REDRIVE, SCOPE_QUEUE, ""),
        rule_of(RULE_QUOTA, SCOPE_TENANT, ""),      rule_of(RULE_DRAIN_WORKER, SCOPE_QUEUE, "x"),
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct world w = world_open();

        w.role[BROKER_CLIENTS] = KEYS_ADMIN;
        world_give(&w, BROKER_CLIENTS, 1, &bad[i]);
        EXPECT_INT(w.out.call_count, 0);
        EXPECT_INT(world_sent(&w, 0, MSG_ERROR, 1).error.code, ERR_BADARG);
        world_close(&w);
    }
}

/* What an audit found is its result, not its failure. */
TEST(an_audit_answers_with_what_it_found)
{
    static const struct store_row row = { { "queued is 3, not 2" }, 1 };
    struct world w = world_open();
    struct msg m = rule_of(RULE_AUDIT, SCOPE_QUEUE, "");

    w.role[BROKER_CLIENTS] = KEYS_ADMIN;
    world_give(&w, BROKER_CLIENTS, 1, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_AUDIT,
                                           .tag = world_called(&w, 0, STORE_AUDIT)->tag,
                                           .code = ERR_CORRUPT,
                                           .sentence = "1 place disagrees",
                                           .rows = &row,
                                           .row_count = 1 });
    m = world_sent(&w, 0, MSG_ROWS, 1);
    EXPECT_TEXT(m.rows.rows[0].cells[0], "queued is 3, not 2");
    m = rule_of(RULE_REDRIVE_ALL, SCOPE_QUEUE, "");
    world_give(&w, BROKER_CLIENTS, 1, &m);
    world_reply(&w, &(struct store_reply){ .op = STORE_REDRIVE_ALL,
                                           .tag = world_called(&w, 0, STORE_REDRIVE_ALL)->tag,
                                           .rows = &(struct store_row){ { "1700", "12" }, 2 },
                                           .row_count = 1 });
    m = world_sent(&w, 0, MSG_ROWS, 1);
    EXPECT_TEXT(m.rows.cursor, "1700");
    EXPECT_TEXT(m.rows.rows[0].cells[0], "12");
    world_close(&w);
}

/* With keys, an order needs an admin's, and a question none but a client's. */
TEST(orders_need_an_admin)
{
    struct world w = world_open();
    struct msg m = rule_of(RULE_PAUSE, SCOPE_QUEUE, "");

    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 0);
    m = world_sent(&w, 0, MSG_ERROR, 1);
    EXPECT_INT(m.error.code, ERR_CONFLICT);
    EXPECT(strstr(m.error.sentence, "is a client's, who may not say rule (that needs the role "
                                    "admin)"));
    m = ask_of(ASK_LANES, "", "");
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 1);
    w.role[BROKER_CLIENTS] = KEYS_ADMIN;
    m = rule_of(RULE_PAUSE, SCOPE_QUEUE, "");
    world_give(&w, BROKER_CLIENTS, 1, &m);
    EXPECT_INT(w.out.call_count, 1);
    world_close(&w);
}

static void say_state(struct world *w, int n, const struct msg_lease_state *leases, size_t count)
{
    struct msg m = { .type = MSG_STATE, .seq = 8, .state = { 5, leases, count } };

    world_give(w, BROKER_WORKERS, n, &m);
}

static struct msg ask_workers(struct world *w)
{
    struct msg m = ask_of(ASK_WORKERS, "", "");

    world_give(w, BROKER_CLIENTS, 9, &m);
    return world_sent(w, 0, MSG_ROWS, 9);
}

TEST(workers_are_told_with_what_they_do)
{
    const struct msg_lease_state leases[] = {
        { { JOB_B, 1, 7 }, false, 0, "fetch" },
        { { JOB_A, 2, 8 }, true, 0.5, "unet" },
    };
    struct world w = world_open();
    struct msg m;

    EXPECT_INT(ask_workers(&w).rows.row_count, 0);
    world_hello(&w, 1, WORKER_1);
    world_hello(&w, 2, WORKER_2);
    say_state(&w, 2, leases, 2);
    w.now_ms += 700;
    m = ask_workers(&w);
    EXPECT_INT(m.rows.row_count, 2);
    EXPECT_INT(m.rows.rows[1].cell_count, WORKER_CELL_COUNT);
    EXPECT_TEXT(m.rows.rows[0].cells[WORKER_ID], WORKER_1);
    EXPECT_TEXT(m.rows.rows[0].cells[WORKER_STATE], "idle");
    EXPECT_TEXT(m.rows.rows[0].cells[WORKER_JOB], "");
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_HOST], "node");
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_MODELS], "default,other");
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_STATE], "busy");
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_JOB], JOB_A);
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_STAGE], "unet");
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_LEASES], "2");
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_MEMORY_MIB], "8002");
    EXPECT_TEXT(m.rows.rows[1].cells[WORKER_HEARD_MS], "700");
    w.now_ms += 6000;
    EXPECT_TEXT(ask_workers(&w).rows.rows[1].cells[WORKER_STATE], "silent");
    world_close(&w);
}

TEST(all_workers_fit_into_pages)
{
    struct world w = world_open();
    char cursor[64] = "";
    int seen = 0, pages = 0;

    for (int n = 0; n < 150; n++) {
        char id[JOB_ID_BYTES];

        snprintf(id, sizeof(id), "00wwwwwwwwwwwwwwwwwwww%04d", n);
        world_hello(&w, n, id);
        arena_release(&w.arena, 0);
    }
    do {
        struct msg m = ask_of(ASK_WORKERS, "", cursor);

        world_give(&w, BROKER_CLIENTS, 200, &m);
        m = world_sent(&w, 0, MSG_ROWS, 200);
        EXPECT_INT(m.rows.row_total, 150);
        seen += (int)m.rows.row_count;
        pages++;
        snprintf(cursor, sizeof(cursor), "%s", m.rows.cursor);
    } while (*cursor);
    EXPECT_INT(seen, 150);
    EXPECT(pages > 1);
    world_close(&w);
}

/* A worker that shall drain gets nothing more, hears it until it says BYE, and is seen until its
 * last job has ended. */
TEST(a_draining_worker_gets_no_jobs_and_is_told_until_it_listens)
{
    const struct msg_lease_state lease = { lease_a, true, 0.5, "unet" };
    const struct msg bye = { .type = MSG_BYE };
    struct msg done = { .type = MSG_DONE, .seq = 3, .done = { lease_a, { "v", "p", "m" } } };
    struct world w = world_open();
    struct msg m = rule_of(RULE_DRAIN_WORKER, SCOPE_QUEUE, WORKER_2);

    w.role[BROKER_CLIENTS] = KEYS_ADMIN;
    world_hello(&w, 1, WORKER_1);
    world_give(&w, BROKER_CLIENTS, 9, &m);
    EXPECT_INT(world_sent(&w, 0, MSG_ROWS, 9).rows.verdict, VERDICT_UNKNOWN);
    m = rule_of(RULE_DRAIN_WORKER, SCOPE_QUEUE, WORKER_1);
    world_give(&w, BROKER_CLIENTS, 9, &m);
    (void)world_sent(&w, 0, MSG_DRAIN, 1);
    EXPECT_INT(world_sent(&w, 1, MSG_ROWS, 9).rows.verdict, VERDICT_OK);
    world_credit(&w, 1, 2);
    EXPECT_INT(w.out.call_count, 0); /* no claim */
    say_state(&w, 1, &lease, 1);
    (void)world_sent(&w, 0, MSG_DRAIN, 1);
    world_hello(&w, 1, WORKER_1); /* by a new connection: it is still to drain */
    say_state(&w, 1, &lease, 1);
    (void)world_sent(&w, 0, MSG_DRAIN, 1);
    world_give(&w, BROKER_WORKERS, 1, &bye);
    say_state(&w, 1, &lease, 1);
    EXPECT_INT(w.out.send_count, 0);
    EXPECT_TEXT(ask_workers(&w).rows.rows[0].cells[WORKER_STATE], "draining");
    world_give(&w, BROKER_WORKERS, 1, &done);
    EXPECT_INT(ask_workers(&w).rows.row_count, 0);
    world_close(&w);
}
