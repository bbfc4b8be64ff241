/* Redis answers one call with the input, whose first byte says which call it is. Whatever it says,
 * the call is answered at most once, and an answer that is OK keeps the promises of its types. */
#include <string.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/store.h"
#include "tests/fuzz/common/peer.h"
#include "tests/fuzz/fuzz.h"

#define TAG 7
#define SHA "$40\r\n0123456789abcdef0123456789abcdef01234567\r\n"

/* What a fit server says while the store gets up, in its order. */
static const char greeting[] = "+OK\r\n"
                               "$32\r\nredis_version:7.0.0\r\nrole:master\r\n"
                               "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n"
                               "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n"
                               "*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n"
                               ":0\r\n$1\r\n2\r\n" SHA SHA;

static const struct lease lease = { .job = "00abcdefghjkmnpqrstvwxyz01", .attempt = 1, .nonce = 5 };

/* A store that is connected to peer. */
static struct store *open_store(struct peer *peer)
{
    char path[FILE_PATH_BYTES], url[FILE_PATH_BYTES + 8] = "unix://";
    struct store_config config = { .url = url };
    struct store *store = NULL;

    CHECK(file_join(path, sizeof(path), fuzz_tmpdir(), "redis.sock") == OK);
    strcat(url, path);
    peer_open(peer, path);
    peer_greet(peer, greeting, sizeof(greeting) - 1, false);
    CHECK(store_open(&store, &config) == OK);
    peer_wait(peer);
    return store;
}

static void add_call(struct store *store, enum store_op op)
{
    static const char *const models[] = { "default" };
    static const struct job_result result = { "file:///v", "file:///p", "file:///m" };
    static const char ids[2][JOB_ID_BYTES] = { "00abcdefghjkmnpqrstvwxyz01",
                                               "00abcdefghjkmnpqrstvwxyz02" };
    struct msg_lease_state state = { lease, true, 0.5, "unet" };
    struct store_call call = { .op = op, .tag = TAG };
    struct job_spec spec;

    spec_init(&spec);
    strcpy(spec.image, "file:///a.jpg");
    if (op == STORE_SUBMIT) {
        call.submit.job = lease.job;
        call.submit.spec = &spec;
        call.submit.queued_max = 10;
    } else if (op == STORE_CLAIM) {
        call.claim.models = models;
        call.claim.model_count = 1;
        call.claim.worker = "host/w";
    } else if (op == STORE_RENEW) {
        call.renew.state = &state;
    } else if (op == STORE_COMPLETE) {
        call.complete.lease = lease;
        call.complete.result = &result;
    } else if (op == STORE_FAIL) {
        call.fail.lease = lease;
        call.fail.code = ERR_IO;
        call.fail.sentence = "no";
    } else if (op == STORE_RELEASE) {
        call.release = lease;
    } else if (op == STORE_CANCEL) {
        call.cancel = lease.job;
    } else if (op == STORE_STATUS) {
        call.status = (struct msg_ids){ ids, 2 };
    } else if (op == STORE_WHY || op == STORE_FRONT || op == STORE_REDRIVE) {
        call.why = lease.job;
    } else if (op == STORE_BATCH) {
        call.batch.tenant = call.batch.name = "b";
    } else if (op == STORE_EVENTS || op == STORE_REDRIVE_ALL) {
        call.events.cursor = "";
    } else if (op == STORE_QUOTA) {
        call.quota.tenant = "t";
    } else if (op == STORE_PAUSE) {
        call.pause.name = "t";
    } else if (op == STORE_LIST) {
        call.list = (struct msg_list){ JOB_QUEUED, "a=b", 5, "" };
    }
    CHECK(store_add(store, &call) == OK);
}

static void expect_jobs(const struct store_reply *reply)
{
    for (size_t i = 0; i < reply->job_count; i++) {
        const struct job_status *job = &reply->jobs[i];

        CHECK(msg_is_id(job->job) && job->state < JOB_STATE_COUNT && job->code < STATUS_COUNT);
        CHECK(job->model && job->labels && job->worker && job->stage && job->sentence);
        CHECK(job->result.video && job->result.poster && job->result.manifest);
    }
}

/* Counts the answers into *self. */
static void see(void *self, const struct store_reply *reply)
{
    int *seen = self;

    ++*seen;
    CHECK(reply->tag == TAG && reply->op > STORE_NONE && reply->op < STORE_OP_COUNT);
    CHECK((reply->code == OK) == !reply->sentence[0]);
    CHECK(reply->code < STATUS_COUNT);
    if (reply->code != OK)
        return;
    CHECK(reply->verdict < VERDICT_COUNT && reply->state < JOB_STATE_COUNT);
    CHECK(!reply->lease.job[0] || msg_is_id(reply->lease.job));
    CHECK(reply->op != STORE_CLAIM || !reply->spec == !reply->lease.job[0]);
    CHECK(reply->worker && reply->cursor);
    for (size_t i = 0; i < reply->row_count; i++)
        CHECK(reply->rows[i].cell_count <= STORE_CELLS_MAX && reply->rows[i].cells[0]);
    for (int i = 0; i < JOB_STATE_COUNT; i++)
        CHECK(reply->job_counts[i] >= 0);
    expect_jobs(reply);
}

FUZZ(store, 8 << 10)
{
    struct peer peer;
    struct store *store;
    int seen = 0;

    if (len < 2)
        return;
    store = open_store(&peer);
    add_call(store, (enum store_op)(1 + bytes[0] % (STORE_OP_COUNT - 1)));
    store_flush(store);
    CHECK(send(peer.connection, bytes + 1, len - 1, 0) == (ssize_t)len - 1);
    for (int i = 0; i < 3; i++)
        store_step(store, clock_mono_ms(), see, &seen);
    CHECK(seen <= 1);
    CHECK(seen == 1 || store_is_connected(store));
    store_close(store);
    peer_close(&peer);
}
