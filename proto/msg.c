#include "proto/msg.h"

#include <string.h>

static const char *const type_names[MSG_TYPE_COUNT] = {
    [MSG_NONE] = "none",
    [MSG_SUBMIT] = "submit",
    [MSG_SUBMITTED] = "submitted",
    [MSG_STATUS] = "status",
    [MSG_STATUSES] = "statuses",
    [MSG_LIST] = "list",
    [MSG_LISTED] = "listed",
    [MSG_CANCEL] = "cancel",
    [MSG_CANCELLED] = "cancelled",
    [MSG_PING] = "ping",
    [MSG_PONG] = "pong",
    [MSG_ERROR] = "error",
    [MSG_HELLO] = "hello",
    [MSG_WELCOME] = "welcome",
    [MSG_CREDIT] = "credit",
    [MSG_JOB] = "job",
    [MSG_STATE] = "state",
    [MSG_STATE_ACK] = "state_ack",
    [MSG_DONE] = "done",
    [MSG_FAIL] = "fail",
    [MSG_RELEASE] = "release",
    [MSG_ACK] = "ack",
    [MSG_CANCEL_LEASE] = "cancel_lease",
    [MSG_DRAIN] = "drain",
    [MSG_BYE] = "bye",
    [MSG_ASK] = "ask",
    [MSG_RULE] = "rule",
    [MSG_ROWS] = "rows",
};

static const char *const verdict_names[VERDICT_COUNT] = {
    [VERDICT_NONE] = "none",           [VERDICT_OK] = "ok",
    [VERDICT_DUPLICATE] = "duplicate", [VERDICT_CONFLICT] = "conflict",
    [VERDICT_REFUSED] = "refused",     [VERDICT_UNKNOWN] = "unknown",
    [VERDICT_LOST] = "lost",           [VERDICT_CANCELLED] = "cancelled",
    [VERDICT_TIMEOUT] = "timeout",     [VERDICT_RELEASED] = "released",
};

static const char *const order_names[RULE_ORDER_COUNT] = {
    [RULE_NOTHING] = "nothing",
    [RULE_RUN] = "run",
    [RULE_PAUSE] = "pause",
    [RULE_DRAIN] = "drain",
    [RULE_DRAIN_WORKER] = "drain_worker",
    [RULE_FRONT] = "front",
    [RULE_REDRIVE] = "redrive",
    [RULE_REDRIVE_ALL] = "redrive_all",
    [RULE_QUOTA] = "quota",
    [RULE_AUDIT] = "audit",
    [RULE_REPAIR] = "repair",
};

const char *msg_order_name(enum msg_order order)
{
    return (unsigned)order < RULE_ORDER_COUNT ? order_names[order] : "unknown";
}

const char *msg_type_name(enum msg_type type)
{
    return (unsigned)type < MSG_TYPE_COUNT ? type_names[type] : "unknown";
}

const char *msg_verdict_name(enum msg_verdict verdict)
{
    return (unsigned)verdict < VERDICT_COUNT ? verdict_names[verdict] : "unknown";
}

bool msg_is_id(const char *text)
{
    size_t len = 0;

    while ((text[len] >= '0' && text[len] <= '9') || (text[len] >= 'a' && text[len] <= 'z')) {
        if (++len > JOB_ID_CHARS)
            return false;
    }
    return len == JOB_ID_CHARS && text[len] == '\0';
}

bool msg_lease_equal(const struct lease *a, const struct lease *b)
{
    return a->attempt == b->attempt && a->nonce == b->nonce && strcmp(a->job, b->job) == 0;
}
