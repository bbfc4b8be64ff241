/* DESIGN: what operators ask and order. A question is one call of the store, or is answered at once
 * from what this broker knows of its workers; an order is one call of the store, or a DRAIN to a
 * worker. Both are answered by ROWS.
 *
 * Pages: events go on behind the cursor of the last one. Of the other answers the store gives all
 * rows, and the cursor is how many were in earlier pages. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/broker_priv.h"
#include "common/base/check.h"
#include "common/base/log.h"

/* Jobs that one call revives: a page of the dead letters. */
#define REDRIVE_PAGE 500

/* The rows of one answer, and what it takes to send them. */
struct page {
    struct msg_row rows[MSG_ROWS_MAX];
    size_t count;  /* of rows */
    size_t skip;   /* rows that were in earlier pages */
    size_t total;  /* rows that there are */
    bool is_whole; /* the answer has one page, however many rows are left out */
    bool has_mark; /* the first cell of the last row is the next cursor */
};

/* As many rows as fit; the client asks again for the rest. */
static void send_page(struct broker *b, const struct bus_peer *to, struct msg *answer,
                      struct page *p, struct outbox *out)
{
    char cursor[32];
    status st;

    answer->type = MSG_ROWS;
    answer->rows.rows = p->rows;
    answer->rows.row_total = (int64_t)p->total;
    do {
        answer->rows.row_count = p->count;
        answer->rows.cursor = "";
        if (p->has_mark && p->count > 0) {
            answer->rows.cursor = p->rows[p->count - 1].cells[0];
        } else if (!p->has_mark && !p->is_whole && p->skip + p->count < p->total) {
            snprintf(cursor, sizeof(cursor), "%zu", p->skip + p->count);
            answer->rows.cursor = cursor;
        }
        st = outbox_send(out, BROKER_CLIENTS, to, answer);
        p->count /= 2;
    } while (st == ERR_FULL && p->count > 0);
    if (st != OK) {
        log_error("answer.failed", "type=rows reason=\"%s\"", status_message());
        broker_answer_error(BROKER_CLIENTS, to, answer->seq, ERR_CORRUPT, status_message(), out);
    }
    (void)b;
}

static void refuse(const struct bus_peer *from, uint64_t seq, const char *sentence,
                   struct outbox *out)
{
    broker_answer_error(BROKER_CLIENTS, from, seq, ERR_BADARG, sentence, out);
}

/* A cursor of ours, "": rows to skip. False: it is another's. */
static bool read_skip(const char *cursor, size_t *skip)
{
    size_t len = strspn(cursor, "0123456789");

    *skip = 0;
    if (cursor[len] || len > 9)
        return false;
    for (; *cursor; cursor++)
        *skip = 10 * *skip + (size_t)(*cursor - '0');
    return true;
}

/* The id of an event of a stream, "": milliseconds, '-', a number. */
static bool is_event_cursor(const char *cursor)
{
    size_t len = strspn(cursor, "0123456789");

    if (!*cursor)
        return true;
    if (len == 0 || len > 15 || cursor[len] != '-')
        return false;
    cursor += len + 1;
    len = strspn(cursor, "0123456789");
    return len > 0 && len <= 15 && !cursor[len];
}

/* --- workers: known here, and answered at once --- */

/* The cells of one worker as texts. */
struct worker_cells {
    char host[sizeof(((struct worker *)NULL)->label)];
    char models[MSG_CELL_MAX + 1];
    char leases[24], memory[24], heard[24];
    const char *cells[WORKER_CELL_COUNT];
};
_Static_assert(WORKER_CELL_COUNT <= MSG_CELLS_MAX, "a worker is a row");

/* Workers in one answer, so that it fits whatever they look like. */
#define WORKERS_PAGE 64

static void describe(const struct broker *b, int64_t now_ms, const struct worker *w,
                     struct worker_cells *c)
{
    char *slash;
    size_t len = 0;

    memcpy(c->host, w->label, sizeof(c->host));
    slash = strrchr(c->host, '/');
    if (slash)
        *slash = '\0';
    c->models[0] = '\0';
    for (size_t i = 0; i < w->model_count && len < sizeof(c->models); i++)
        len += (size_t)snprintf(c->models + len, sizeof(c->models) - len, "%s%s", i ? "," : "",
                                w->models[i]);
    snprintf(c->leases, sizeof(c->leases), "%" PRId64, w->held_count);
    snprintf(c->memory, sizeof(c->memory), "%" PRId64, w->memory_mib);
    snprintf(c->heard, sizeof(c->heard), "%" PRId64, now_ms - w->heard_ms);
    c->cells[WORKER_ID] = w->id;
    c->cells[WORKER_HOST] = c->host;
    c->cells[WORKER_DEVICE] = w->device;
    c->cells[WORKER_VERSION] = w->version;
    c->cells[WORKER_MODELS] = c->models;
    c->cells[WORKER_STATE] = dispatch_state_name(b, w, now_ms);
    c->cells[WORKER_JOB] = w->job;
    c->cells[WORKER_STAGE] = w->stage;
    c->cells[WORKER_LEASES] = c->leases;
    c->cells[WORKER_MEMORY_MIB] = c->memory;
    c->cells[WORKER_HEARD_MS] = c->heard;
}

static void list_workers(struct broker *b, int64_t now_ms, const struct bus_peer *from,
                         const struct msg *m, struct outbox *out)
{
    struct worker_cells cells[WORKERS_PAGE];
    struct page page = { .total = 0 };
    struct msg answer = { .seq = m->seq };

    if (!read_skip(m->ask.cursor, &page.skip)) {
        refuse(from, m->seq, "the cursor is not one that ROWS gave", out);
        return;
    }
    for (size_t i = 0; i < b->worker_end; i++) {
        if (!b->workers[i].is_used)
            continue;
        if (page.total++ < page.skip || page.count == WORKERS_PAGE)
            continue;
        describe(b, now_ms, &b->workers[i], &cells[page.count]);
        page.rows[page.count] = (struct msg_row){ cells[page.count].cells, WORKER_CELL_COUNT };
        page.count++;
    }
    send_page(b, from, &answer, &page, out);
}

/* --- ASK --- */

void handle_ask(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                struct outbox *out)
{
    const struct msg_ask *ask = &m->ask;
    struct store_call call = { .op = STORE_NONE };
    struct request *r;
    size_t skip = 0;

    if (ask->question == ASK_WORKERS) {
        list_workers(b, now_ms, from, m, out);
        return;
    }
    if (ask->question == ASK_EVENTS ? !is_event_cursor(ask->cursor)
                                    : !read_skip(ask->cursor, &skip)) {
        refuse(from, m->seq, "the cursor is not one that ROWS gave", out);
        return;
    }
    if (ask->question == ASK_WHY && !msg_is_id(ask->name)) {
        refuse(from, m->seq, "why: the name is not the id of a job", out);
        return;
    }
    if (ask->question == ASK_WHY) {
        call.op = STORE_WHY;
        call.why = ask->name;
    } else if (ask->question == ASK_EVENTS) {
        call.op = STORE_EVENTS;
        call.events.cursor = ask->cursor;
        call.events.limit = MSG_ROWS_MAX;
    } else {
        call.op = ask->question == ASK_LANES ? STORE_QUEUES : STORE_TENANTS;
    }
    r = request_ask(b, from, m, &call, out);
    if (!r)
        return;
    r->ask.question = ask->question;
    r->ask.order = RULE_NOTHING;
    r->ask.skip = skip;
}

/* --- RULE --- */

/* Pause, drain and the end of both, in the words of the store. False: refused, with a sentence. */
static bool read_pause(const struct msg_rule *rule, struct store_call *call, const char **why)
{
    static const enum store_mode modes[] = {
        [RULE_RUN] = STORE_RUN, [RULE_PAUSE] = STORE_HOLD, [RULE_DRAIN] = STORE_DRAIN
    };
    static const enum store_scope scopes[] = {
        [SCOPE_QUEUE] = STORE_ALL, [SCOPE_MODEL] = STORE_MODEL, [SCOPE_TENANT] = STORE_TENANT
    };

    *why = NULL;
    if (rule->scope == SCOPE_MODEL && !spec_is_name(rule->name))
        *why = "that is not the name of a model: letters, digits, '.', '_' and '-'";
    if (rule->scope == SCOPE_TENANT && !spec_is_tenant(rule->name))
        *why = "that is not the name of a tenant: a-z, 0-9 and '-'";
    if (rule->order == RULE_DRAIN && rule->scope != SCOPE_QUEUE)
        *why = "only the whole queue can be drained; a model or tenant can be paused";
    call->op = STORE_PAUSE;
    call->pause.scope = scopes[rule->scope];
    call->pause.name = rule->name;
    call->pause.mode = modes[rule->order];
    return !*why;
}

static bool read_quota(const struct msg_rule *rule, struct store_call *call, const char **why)
{
    call->op = STORE_QUOTA;
    call->quota.tenant = rule->name;
    call->quota.limits = rule->quota;
    *why = spec_is_tenant(rule->name) ? NULL : "that is not the name of a tenant: a-z, 0-9 and '-'";
    return !*why;
}

static bool read_job_order(const struct msg_rule *rule, struct store_call *call, const char **why)
{
    call->op = rule->order == RULE_FRONT ? STORE_FRONT : STORE_REDRIVE;
    call->front = rule->name; /* the same member for both */
    *why = msg_is_id(rule->name) ? NULL : "the name is not the id of a job";
    return !*why;
}

static bool read_redrive_all(const struct msg_rule *rule, struct store_call *call, const char **why)
{
    call->op = STORE_REDRIVE_ALL;
    call->redrive_all.limit = REDRIVE_PAGE;
    call->redrive_all.cursor = rule->cursor;
    *why = rule->cursor[strspn(rule->cursor, "0123456789")] == '\0'
               ? NULL
               : "the cursor is not one that ROWS gave";
    return !*why;
}

/* The call that carries the order out. False: refused, with a sentence. */
static bool read_order(const struct msg_rule *rule, struct store_call *call, const char **why)
{
    *why = NULL;
    switch (rule->order) {
    case RULE_RUN:
    case RULE_PAUSE:
    case RULE_DRAIN:
        return read_pause(rule, call, why);
    case RULE_FRONT:
    case RULE_REDRIVE:
        return read_job_order(rule, call, why);
    case RULE_REDRIVE_ALL:
        return read_redrive_all(rule, call, why);
    case RULE_QUOTA:
        return read_quota(rule, call, why);
    case RULE_AUDIT:
    case RULE_REPAIR:
        call->op = STORE_AUDIT;
        call->audit_repair = rule->order == RULE_REPAIR;
        return true;
    case RULE_NOTHING:
    case RULE_DRAIN_WORKER:
    case RULE_ORDER_COUNT:
        break;
    }
    CHECK(!"an order of no kind");
    return false;
}

static void drain_worker(struct broker *b, const struct bus_peer *from, const struct msg *m,
                         struct outbox *out)
{
    struct worker *w = dispatch_find_id(b, m->rule.name);
    struct page page = { .is_whole = true };
    struct msg answer = { .seq = m->seq };

    if (!msg_is_id(m->rule.name)) {
        refuse(from, m->seq, "the name is not the id of a worker", out);
        return;
    }
    answer.rows.verdict = w ? VERDICT_OK : VERDICT_UNKNOWN;
    if (w) {
        log_info("worker.drain", "worker=%s", w->label);
        w->is_leaving = w->must_drain = true;
        broker_answer(b, BROKER_WORKERS, &w->peer, &(struct msg){ .type = MSG_DRAIN }, out);
    }
    send_page(b, from, &answer, &page, out);
}

void handle_rule(struct broker *b, int64_t now_ms, const struct bus_peer *from, const struct msg *m,
                 struct outbox *out)
{
    struct store_call call = { .op = STORE_NONE };
    const char *why;
    struct request *r;

    (void)now_ms;
    log_info("rule", "order=%s scope=%d name=\"%s\"", msg_order_name(m->rule.order),
             (int)m->rule.scope, m->rule.name);
    if (m->rule.order == RULE_DRAIN_WORKER) {
        drain_worker(b, from, m, out);
        return;
    }
    if (!read_order(&m->rule, &call, &why)) {
        refuse(from, m->seq, why, out);
        return;
    }
    r = request_ask(b, from, m, &call, out);
    if (!r)
        return;
    r->ask.question = ASK_NOTHING;
    r->ask.order = m->rule.order;
    r->ask.skip = 0;
}

/* --- the store's answer --- */

/* The rows of the store from skip on. */
static void take_rows(struct page *p, const struct store_reply *reply)
{
    p->total = reply->row_count;
    for (size_t i = p->skip; i < reply->row_count && p->count < MSG_ROWS_MAX; i++) {
        const struct store_row *row = &reply->rows[i];

        p->rows[p->count++] = (struct msg_row){ row->cells, row->cell_count };
    }
}
_Static_assert(STORE_CELLS_MAX <= MSG_CELLS_MAX, "a row of the store is a row of a message");

/* Jobs may run that could not before. */
static bool wakes(enum msg_order order)
{
    return order == RULE_RUN || order == RULE_REDRIVE || order == RULE_REDRIVE_ALL ||
           order == RULE_QUOTA || order == RULE_REPAIR;
}

void handle_rows_reply(struct broker *b, int64_t now_ms, struct request *r, size_t index,
                       const struct store_reply *reply, struct outbox *out)
{
    struct page page = { .skip = r->ask.skip, .has_mark = r->ask.question == ASK_EVENTS };
    struct msg answer = { .seq = r->seq };
    struct store_reply found = *reply;
    struct bus_peer peer = r->peer;
    enum msg_order order = r->ask.order;
    const char *mark;

    (void)now_ms;
    (void)index;
    page.is_whole = order != RULE_NOTHING;
    if (reply->op == STORE_AUDIT && reply->row_count > 0)
        found.code = OK; /* what it found is no failure of the audit */
    if (request_end_asked(b, r, &found, out))
        return;
    take_rows(&page, &found);
    answer.rows.verdict = found.verdict;
    answer.rows.state = found.state;
    if (order == RULE_REDRIVE_ALL && page.count > 0) { /* cursor and number in one row */
        mark = found.rows[0].cells[0];
        page.rows[0] = (struct msg_row){ &found.rows[0].cells[1], 1 };
        answer.type = MSG_ROWS;
        answer.rows = (struct msg_rows){ VERDICT_OK, JOB_ILLEGAL, page.rows, 1, 1, mark };
        broker_answer(b, BROKER_CLIENTS, &peer, &answer, out);
    } else {
        send_page(b, &peer, &answer, &page, out);
    }
    if (wakes(order))
        dispatch_wake(b, NULL, 16);
}
