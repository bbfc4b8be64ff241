/* Every message survives the wire, and no bytes from outside do harm. */
#include <stdio.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/limits.h"
#include "proto/codec.h"
#include "tests/tool/test.h"

#define JOB_A "00abcdefghjkmnpqrstvwxyz01"
#define JOB_B "00bbbbbbbbbbbbbbbbbbbbbbbb"

static const struct lease lease_a = { .job = JOB_A, .attempt = 2, .nonce = 0xfedcba9876543210u };

static struct arena open_arena(void)
{
    struct arena a = { 0 };

    EXPECT_OK(arena_open(&a, "test", CODEC_ARENA_BYTES));
    return a;
}

static struct job_spec sample_spec(void)
{
    struct job_spec s;

    spec_init(&s);
    strcpy(s.image, "file:///photos/caf\xc3\xa9.jpg");
    strcpy(s.labels, "owner=ann,batch=7");
    strcpy(s.output, "a/b");
    s.frames = 14;
    s.width_px = s.height_px = 64;
    s.seed = UINT64_MAX;
    s.sampler = SPEC_EULER;
    s.noise = SPEC_TORCH;
    s.eps0 = SPEC_EPS0_INITIAL;
    s.format = SPEC_WEBM;
    s.priority = -100;
    s.noise_aug = 0.1;
    return s;
}

static struct job_status sample_status(void)
{
    return (struct job_status){
        .job = JOB_A,
        .state = JOB_DONE,
        .attempt = 3,
        .tries = 2,
        .attempts_max = 5,
        .priority = -7,
        .submitted_at_ms = 1700000000000,
        .started_at_ms = 1700000000001,
        .ended_at_ms = 1700000000002,
        .progress = 0.25,
        .model = "svd",
        .labels = "a=b",
        .worker = "host/w1",
        .stage = "unet",
        .tenant = "",
        .batch = "",
        .code = ERR_IO,
        .sentence = "disk is gone",
        .result = { .video = "file:///v.mp4",
                    .poster = "file:///p.png",
                    .manifest = "file:///m.json" },
    };
}

/* Messages of every type with every member set. The parts they point to live here. */
struct samples {
    struct msg_submit_item items[2];
    struct msg_job_verdict verdicts[2];
    char ids[2][JOB_ID_BYTES];
    struct job_status jobs[2];
    const char *models[2];
    const char *cells[MSG_CELLS_MAX];
    struct msg_row rows[2];
    struct msg_lease_state leases[2];
    struct msg_lease_verdict lease_verdicts[2];
    struct msg by_type[MSG_TYPE_COUNT];
};

static void fill_parts(struct samples *s)
{
    memset(s, 0, sizeof(*s));
    strcpy(s->items[0].job, JOB_A);
    strcpy(s->items[1].job, JOB_B);
    s->items[0].spec = sample_spec();
    s->items[1].spec = sample_spec();
    s->verdicts[0] = (struct msg_job_verdict){
        .job = JOB_A, .verdict = VERDICT_REFUSED, .code = ERR_BADARG, .sentence = "steps: no"
    };
    s->verdicts[1] = (struct msg_job_verdict){
        .job = JOB_B, .verdict = VERDICT_OK, .state = JOB_QUEUED, .sentence = ""
    };
    strcpy(s->ids[0], JOB_A);
    strcpy(s->ids[1], JOB_B);
    s->jobs[0] = sample_status();
    s->jobs[1] = (struct job_status){ .job = JOB_B,
                                      .model = "",
                                      .labels = "",
                                      .worker = "",
                                      .stage = "",
                                      .tenant = "",
                                      .batch = "",
                                      .sentence = "",
                                      .result = { "", "", "" } };
    s->models[0] = "default";
    s->models[1] = "svd-xt";
    for (int i = 0; i < MSG_CELLS_MAX; i++)
        s->cells[i] = i % 2 ? "a cell" : "";
    s->rows[0] = (struct msg_row){ s->cells, MSG_CELLS_MAX };
    s->rows[1] = (struct msg_row){ s->cells, 1 };
    s->leases[0] = (struct msg_lease_state){ lease_a, true, 0.5, "unet" };
    s->leases[1] = (struct msg_lease_state){ lease_a, false, 0, "" };
    s->lease_verdicts[0] = (struct msg_lease_verdict){ lease_a, VERDICT_OK };
    s->lease_verdicts[1] = (struct msg_lease_verdict){ lease_a, VERDICT_LOST };
}

static void fill_client_messages(struct samples *s)
{
    struct msg *m = s->by_type;

    m[MSG_SUBMIT].submit = (struct msg_submit){ s->items, 2 };
    m[MSG_SUBMITTED].submitted = (struct msg_job_verdicts){ s->verdicts, 2 };
    m[MSG_STATUS].status = (struct msg_ids){ s->ids, 2 };
    m[MSG_STATUSES].statuses = (struct msg_statuses){ s->jobs, 2, "" };
    m[MSG_LIST].list = (struct msg_list){ JOB_DEAD, "owner=ann", 17, "123" };
    m[MSG_LISTED].listed = (struct msg_statuses){ s->jobs, 2, "99" };
    m[MSG_CANCEL].cancel = (struct msg_ids){ s->ids, 1 };
    m[MSG_CANCELLED].cancelled = (struct msg_job_verdicts){ s->verdicts, 1 };
    m[MSG_PONG].pong = (struct msg_pong){ JOB_A, "0.1.0", 3, { 0, 1, 2, 3, 4, 5, 6, 7 } };
    m[MSG_ERROR].error = (struct msg_error){ ERR_UNAVAILABLE, "no Redis" };
    m[MSG_ASK].ask = (struct msg_ask){ ASK_EVENTS, "svd-xt", "17-0" };
    m[MSG_RULE].rule =
        (struct msg_rule){ RULE_QUOTA, SCOPE_TENANT, "birds", "5", { 1, -1, 3, 0, 5, 6 } };
    m[MSG_ROWS].rows = (struct msg_rows){ VERDICT_OK, JOB_DEAD, s->rows, 2, 9, "2" };
}

static void fill_worker_messages(struct samples *s)
{
    struct msg *m = s->by_type;

    m[MSG_HELLO].hello = (struct msg_hello){ JOB_A, "node1", "cpu", "0.1.0", s->models, 2, 24000 };
    m[MSG_WELCOME].welcome = (struct msg_welcome){ JOB_B, 30000, 1000 };
    m[MSG_CREDIT].credit.granted_total = 5;
    m[MSG_JOB].job = (struct msg_job){ lease_a, 30000, sample_spec() };
    m[MSG_STATE].state = (struct msg_state){ 5, s->leases, 2 };
    m[MSG_STATE_ACK].state_ack = (struct msg_state_ack){ 4, s->lease_verdicts, 2 };
    m[MSG_DONE].done = (struct msg_done){ lease_a, { "file:///v", "file:///p", "file:///m" } };
    m[MSG_FAIL].fail = (struct msg_fail){ lease_a, ERR_CORRUPT, "not an image" };
    m[MSG_RELEASE].release.lease = lease_a;
    m[MSG_ACK].ack = (struct msg_ack){ lease_a, VERDICT_DUPLICATE };
    m[MSG_CANCEL_LEASE].cancel_lease = (struct msg_cancel_lease){ lease_a, VERDICT_TIMEOUT };
}

static void fill_samples(struct samples *s)
{
    fill_parts(s);
    fill_client_messages(s);
    fill_worker_messages(s);
    for (int t = 1; t < MSG_TYPE_COUNT; t++) {
        s->by_type[t].type = (enum msg_type)t;
        s->by_type[t].seq = 1000 + (uint64_t)t;
    }
}

TEST(every_message_comes_back_as_it_was_sent)
{
    static struct samples s;
    struct arena a = open_arena();
    struct buf first = { 0 }, second = { 0 };

    fill_samples(&s);
    for (int t = 1; t < MSG_TYPE_COUNT; t++) {
        struct msg back;

        buf_reset(&first);
        buf_reset(&second);
        EXPECT_OK(codec_encode(&s.by_type[t], &first));
        EXPECT_OK(codec_decode(&back, first.data, first.len, &a));
        EXPECT_INT(back.type, t);
        EXPECT_INT(back.seq, 1000 + t);
        EXPECT_OK(codec_encode(&back, &second));
        EXPECT_INT(first.len, second.len);
        EXPECT(memcmp(first.data, second.data, first.len) == 0);
        arena_release(&a, 0);
    }
    buf_free(&first);
    buf_free(&second);
    arena_close(&a);
}

/* Encode m, decode it into *back; strings live in a. */
static void carry(const struct msg *m, struct msg *back, struct arena *a)
{
    struct buf frame = { 0 };

    EXPECT_OK(codec_encode(m, &frame));
    EXPECT_OK(codec_decode(back, frame.data, frame.len, a));
    buf_free(&frame);
}

TEST(members_keep_their_values)
{
    static struct samples s;
    struct arena a = open_arena();
    struct msg back;

    fill_samples(&s);
    carry(&s.by_type[MSG_STATUSES], &back, &a);
    EXPECT_INT(back.statuses.job_count, 2);
    EXPECT_TEXT(back.statuses.jobs[0].job, JOB_A);
    EXPECT_INT(back.statuses.jobs[0].state, JOB_DONE);
    EXPECT_INT(back.statuses.jobs[0].priority, -7);
    EXPECT_NEAR(back.statuses.jobs[0].progress, 0.25, 0); /* exact in binary */
    EXPECT_TEXT(back.statuses.jobs[0].sentence, "disk is gone");
    EXPECT_TEXT(back.statuses.jobs[0].result.manifest, "file:///m.json");
    EXPECT_TEXT(back.statuses.jobs[1].result.video, "");
    carry(&s.by_type[MSG_DONE], &back, &a);
    EXPECT(msg_lease_equal(&back.done.lease, &lease_a));
    carry(&s.by_type[MSG_HELLO], &back, &a);
    EXPECT_INT(back.hello.model_count, 2);
    EXPECT_TEXT(back.hello.models[1], "svd-xt");
    EXPECT_INT(back.hello.memory_mib, 24000);
    carry(&s.by_type[MSG_RULE], &back, &a);
    EXPECT_INT(back.rule.order, RULE_QUOTA);
    EXPECT_INT(back.rule.quota.running_max, -1);
    EXPECT_INT(back.rule.quota.weight, 6);
    carry(&s.by_type[MSG_ROWS], &back, &a);
    EXPECT_INT(back.rows.row_count, 2);
    EXPECT_INT(back.rows.rows[0].cell_count, MSG_CELLS_MAX);
    EXPECT_TEXT(back.rows.rows[0].cells[0], "");
    EXPECT_TEXT(back.rows.rows[0].cells[MSG_CELLS_MAX - 1], "a cell");
    carry(&s.by_type[MSG_PONG], &back, &a);
    EXPECT_INT(back.pong.job_counts[JOB_CANCELLED], 7);
    arena_close(&a);
}

TEST(every_parameter_of_a_spec_is_carried)
{
    struct job_spec spec = sample_spec(), back;
    struct buf bytes = { 0 };
    char want[SPEC_URL_MAX], got[SPEC_URL_MAX];

    EXPECT_OK(codec_spec_encode(&spec, &bytes));
    EXPECT_OK(codec_spec_decode(&back, bytes.data, bytes.len));
    for (size_t i = 0; i < spec_param_count; i++)
        EXPECT_TEXT(spec_get(&back, &spec_params[i], got, sizeof(got)),
                    spec_get(&spec, &spec_params[i], want, sizeof(want)));
    EXPECT(bytes.len <= codec_spec_bytes(&spec));
    buf_free(&bytes);
}

/* A frame of this type around a body. */
static struct buf frame_of(enum msg_type type, const void *body, size_t len)
{
    unsigned char header[CODEC_HEADER_BYTES] = {
        '1', 'S', 'T', 'P', CODEC_VERSION, 0, (unsigned char)type, 0, 42
    };
    struct buf b = { 0 };

    EXPECT_OK(buf_append(&b, header, sizeof(header)));
    EXPECT_OK(buf_append(&b, body, len));
    return b;
}

/* The frame is refused with this code, and sender and type are known. */
static void expect_refused(enum msg_type type, const void *body, size_t len, status code)
{
    struct buf frame = frame_of(type, body, len);
    struct arena a = open_arena();
    struct msg m;

    EXPECT_STATUS(codec_decode(&m, frame.data, frame.len, &a), code);
    EXPECT_INT(m.type, type);
    EXPECT_INT(m.seq, 42);
    arena_close(&a);
    buf_free(&frame);
}

TEST(a_header_that_is_not_ours_is_refused)
{
    struct arena a = open_arena();
    struct msg m;
    struct buf frame = frame_of(MSG_PING, "", 0);

    EXPECT_OK(codec_decode(&m, frame.data, frame.len, &a));
    EXPECT_STATUS(codec_decode(&m, frame.data, CODEC_HEADER_BYTES - 1, &a), ERR_CORRUPT);
    EXPECT_STATUS(codec_decode(&m, "", 0, &a), ERR_CORRUPT);
    frame.data[0] = '2';
    EXPECT_STATUS(codec_decode(&m, frame.data, frame.len, &a), ERR_CORRUPT);
    frame.data[0] = '1';
    frame.data[4] = 9;
    EXPECT_STATUS(codec_decode(&m, frame.data, frame.len, &a), ERR_CONFLICT);
    EXPECT_MESSAGE("protocol 9");
    EXPECT_MESSAGE("same release");
    EXPECT_INT(m.seq, 42);
    frame.data[4] = CODEC_VERSION;
    frame.data[6] = MSG_TYPE_COUNT;
    EXPECT_STATUS(codec_decode(&m, frame.data, frame.len, &a), ERR_CORRUPT);
    frame.data[6] = MSG_NONE;
    EXPECT_STATUS(codec_decode(&m, frame.data, frame.len, &a), ERR_CORRUPT);
    buf_free(&frame);
    arena_close(&a);
}

TEST(a_message_over_the_limit_is_neither_sent_nor_read)
{
    static struct msg_submit_item items[LIMIT_JOBS_PER_MSG];
    static char big[LIMIT_MSG_BYTES + 1];
    struct msg m = { .type = MSG_SUBMIT, .submit = { items, LIMIT_JOBS_PER_MSG } };
    struct buf out = { 0 };
    struct arena a = open_arena();
    size_t planned = 0;

    for (int i = 0; i < LIMIT_JOBS_PER_MSG; i++) {
        strcpy(items[i].job, JOB_A);
        items[i].spec = sample_spec();
        memset(items[i].spec.image, 'x', SPEC_URL_MAX - 1);
        planned += codec_spec_bytes(&items[i].spec);
    }
    EXPECT(planned > LIMIT_MSG_BYTES);
    EXPECT_STATUS(codec_encode(&m, &out), ERR_FULL);
    EXPECT_MESSAGE("send fewer items");
    EXPECT_INT(out.len, 0);
    m.submit.item_count = 100; /* what codec_spec_bytes promises */
    EXPECT(planned / LIMIT_JOBS_PER_MSG * 100 < LIMIT_MSG_BYTES - CODEC_HEADER_BYTES);
    EXPECT_OK(codec_encode(&m, &out));
    EXPECT_STATUS(codec_decode(&m, big, sizeof(big), &a), ERR_CORRUPT);
    EXPECT_MESSAGE("limit");
    buf_free(&out);
    arena_close(&a);
}

TEST(a_full_message_fits_the_arena)
{
    static struct job_status jobs[LIMIT_JOBS_PER_MSG];
    static struct msg_submit_item items[LIMIT_JOBS_PER_MSG];
    struct msg back;
    struct msg statuses = { .type = MSG_LISTED, .listed = { jobs, LIMIT_JOBS_PER_MSG, "1" } };
    struct msg submit = { .type = MSG_SUBMIT, .submit = { items, LIMIT_JOBS_PER_MSG } };
    struct arena a = open_arena();

    for (int i = 0; i < LIMIT_JOBS_PER_MSG; i++) {
        jobs[i] = sample_status();
        strcpy(items[i].job, JOB_A);
        items[i].spec = sample_spec();
    }
    carry(&statuses, &back, &a);
    arena_release(&a, 0);
    carry(&submit, &back, &a);
    EXPECT_INT(back.submit.item_count, LIMIT_JOBS_PER_MSG);
    arena_close(&a);
}

TEST(too_many_items_are_refused)
{
    unsigned char body[2 * (LIMIT_JOBS_PER_MSG + 1)];

    for (size_t i = 0; i < sizeof(body); i += 2) {
        body[i] = 0x0a; /* items, a part of length 0 */
        body[i + 1] = 0;
    }
    expect_refused(MSG_SUBMIT, body, sizeof(body), ERR_FULL);
    expect_refused(MSG_STATE, "\x12\x00", 2, ERR_CORRUPT); /* a lease state without a lease */
}

TEST(a_flood_of_empty_parts_meets_the_memory_budget)
{
    static unsigned char body[LIMIT_MSG_BYTES - CODEC_HEADER_BYTES];

    for (size_t i = 0; i + 1 < sizeof(body); i += 2)
        body[i] = 0x0a;
    expect_refused(MSG_SUBMIT, body, sizeof(body), ERR_CORRUPT);
}

TEST(ids_are_checked)
{
    struct arena a = open_arena();
    struct msg m = { .type = MSG_RELEASE, .release.lease = lease_a };
    struct buf out = { 0 };

    EXPECT(msg_is_id(JOB_A));
    EXPECT(!msg_is_id(""));
    EXPECT(!msg_is_id("00abcdefghjkmnpqrstvwxyz0"));
    EXPECT(!msg_is_id("00abcdefghjkmnpqrstvwxyz012"));
    EXPECT(!msg_is_id("00ABCDEFGHJKMNPQRSTVWXYZ01"));
    EXPECT(!msg_is_id("00abcdefghjkmnpqrstvwxyz/1"));
    m.release.lease.job[3] = '/';
    EXPECT_STATUS(codec_encode(&m, &out), ERR_BADARG);
    EXPECT_MESSAGE("job is not an id");
    expect_refused(MSG_STATUS,
                   "\x0a\x03"
                   "abc",
                   5, ERR_BADARG);
    expect_refused(MSG_STATUS,
                   "\x0a\x1a"
                   "00abcdefghjkmnpqrstvwxyz/1",
                   28, ERR_BADARG);
    expect_refused(MSG_STATUS,
                   "\x0a\x1a"
                   "00abcdefghjkmnpqrstvwxyz\0"
                   "1",
                   28, ERR_BADARG);
    buf_free(&out);
    arena_close(&a);
}

TEST(text_must_be_text)
{
    expect_refused(MSG_ERROR,
                   "\x08\x01\x12\x03"
                   "a\0b",
                   7, ERR_BADARG);
    expect_refused(MSG_ERROR, "\x08\x01\x12\x02\xc0\x80", 6, ERR_BADARG);     /* overlong NUL */
    expect_refused(MSG_ERROR, "\x08\x01\x12\x03\xed\xa0\x80", 7, ERR_BADARG); /* surrogate */
    expect_refused(MSG_ERROR, "\x08\x01\x12\x04\xf4\x90\x80\x80", 8, ERR_BADARG);
    expect_refused(MSG_ERROR, "\x08\x01\x12\x02\xe2\x82", 6, ERR_BADARG); /* cut short */
    expect_refused(MSG_ERROR, "\x08\x01\x12\x01\x1b", 5, ERR_BADARG);     /* escape */
    expect_refused(MSG_ERROR, "\x08\x01\x12\x01\x7f", 5, ERR_BADARG);
}

TEST(enums_out_of_range_are_refused)
{
    expect_refused(MSG_ERROR, "\x08\x0c", 2, ERR_BADARG);        /* code 12 */
    expect_refused(MSG_ERROR, "\x08\x00", 2, ERR_BADARG);        /* an error that is none */
    expect_refused(MSG_LIST, "\x08\x09\x18\x01", 4, ERR_BADARG); /* state 9 */
    expect_refused(MSG_LIST, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x01", 13,
                   ERR_BADARG);
}

TEST(numbers_out_of_bounds_are_refused)
{
    struct msg m = { .type = MSG_STATE };
    struct msg_lease_state lease = { lease_a, true, 1.5, "unet" };
    struct buf out = { 0 };

    expect_refused(MSG_LIST, "\x18\x00", 2, ERR_BADARG);     /* limit 0 */
    expect_refused(MSG_LIST, "\x18\x81\x01", 3, ERR_BADARG); /* limit 129 */
    m.state = (struct msg_state){ 0, &lease, 1 };
    EXPECT_STATUS(codec_encode(&m, &out), ERR_BADARG);
    EXPECT_MESSAGE("progress is 1.5");
    lease.progress = __builtin_nan("");
    EXPECT_STATUS(codec_encode(&m, &out), ERR_BADARG);
    buf_free(&out);
}

TEST(a_spec_with_bad_text_or_choice_is_refused)
{
    struct job_spec spec = sample_spec(), back;
    struct buf bytes = { 0 };

    spec.sampler = 4;
    EXPECT_STATUS(codec_spec_encode(&spec, &bytes), ERR_BADARG);
    EXPECT_MESSAGE("sampler");
    spec = sample_spec();
    strcpy(spec.labels, "a=\x80");
    EXPECT_STATUS(codec_spec_encode(&spec, &bytes), ERR_BADARG);
    EXPECT_MESSAGE("labels");
    EXPECT_STATUS(codec_spec_decode(&back, "\x50\x07", 2), ERR_BADARG); /* sampler 7 */
    EXPECT_STATUS(codec_spec_decode(&back,
                                    "\x0a\x05"
                                    "ab",
                                    4),
                  ERR_CORRUPT);
    spec = sample_spec();
    memset(spec.model, 'm', sizeof(spec.model)); /* no NUL: 64 bytes are one too many */
    EXPECT_STATUS(codec_spec_encode(&spec, &bytes), ERR_BADARG);
    buf_free(&bytes);
}

TEST(a_sentence_is_cut_and_cleaned_instead_of_refused)
{
    char text[MSG_SENTENCE_MAX + 100];
    struct msg back, m = { .type = MSG_FAIL, .fail = { lease_a, ERR_IO, "two\nlines\t\xff!" } };
    struct arena a = open_arena();

    carry(&m, &back, &a);
    EXPECT_TEXT(back.fail.sentence, "two lines  !");
    memset(text, 'a', sizeof(text));
    memcpy(text + MSG_SENTENCE_MAX - 1, "\xe2\x82\xac", 3); /* a euro sign across the border */
    text[sizeof(text) - 1] = '\0';
    m.fail.sentence = text;
    carry(&m, &back, &a);
    EXPECT_INT(strlen(back.fail.sentence), MSG_SENTENCE_MAX - 1);
    arena_close(&a);
}

/* Damage a frame in one of the ways that find bugs: bits, bytes, lengths, cuts, doublings. */
static size_t mutate(unsigned char *frame, size_t len, size_t room)
{
    size_t at = CODEC_HEADER_BYTES + test_random() % (len - CODEC_HEADER_BYTES + 1);

    switch (test_random() % 5) {
    case 0:
        if (at < len)
            frame[at] ^= (unsigned char)(1u << test_random() % 8);
        return len;
    case 1:
        if (at < len)
            frame[at] = (unsigned char)test_random();
        return len;
    case 2:
        return at;
    case 3:
        if (at < len)
            frame[at] = test_random() % 2 ? 0x7f : 0xff;
        return len;
    default:
        if (len + (len - at) > room)
            return len;
        memcpy(frame + len, frame + at, len - at);
        return len + (len - at);
    }
}

/* Cells are for people: what is too long is cut on the way out, and refused on the way in. */
TEST(a_cell_is_cut_where_it_is_sent_and_refused_where_it_is_read)
{
    char text[MSG_CELL_MAX + 40];
    const char *cells[2] = { text, "line\nbreak" };
    struct msg_row row = { cells, 2 };
    struct msg m = { .type = MSG_ROWS, .rows = { .rows = &row, .row_count = 1, .cursor = "" } };
    struct arena a = open_arena();
    struct buf body = { 0 };
    struct msg back;

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    carry(&m, &back, &a);
    EXPECT_INT(strlen(back.rows.rows[0].cells[0]), MSG_CELL_MAX);
    EXPECT_TEXT(back.rows.rows[0].cells[1], "line break");
    /* rows: { cells: 512 bytes } */
    EXPECT_OK(buf_append(&body, "\x1a\x83\x04\x0a\x80\x04", 6));
    EXPECT_OK(buf_append(&body, text, MSG_CELL_MAX + 1));
    expect_refused(MSG_ROWS, body.data, body.len, ERR_BADARG);
    EXPECT_MESSAGE("cells has 512 bytes, allowed are 0 to 511");
    buf_free(&body);
    arena_close(&a);
}

/* An order and a question must be one that this release knows; limits have bounds. */
TEST(orders_and_quotas_are_bounded)
{
    struct msg m = { .type = MSG_RULE, .rule = { .order = RULE_QUOTA, .name = "t", .cursor = "" } };
    struct buf out = { 0 };

    EXPECT_OK(codec_encode(&m, &out));
    m.rule.quota.weight = -2;
    EXPECT_STATUS(codec_encode(&m, &out), ERR_BADARG);
    EXPECT_MESSAGE("quota: weight is -2");
    expect_refused(MSG_RULE, "\x08\x0b\x2a\x00", 4, ERR_BADARG); /* order 11 */
    EXPECT_MESSAGE("RULE: order is 11, outside 1..10");
    expect_refused(MSG_RULE, "\x08\x08", 2, ERR_CORRUPT); /* no quota */
    expect_refused(MSG_ASK, "\x08\x06", 2, ERR_BADARG);
    expect_refused(MSG_ASK, "", 0, ERR_BADARG); /* question 0 */
    buf_free(&out);
}

TEST(mutated_messages_never_do_harm)
{
    static struct samples s;
    static unsigned char frame[8192];
    struct arena a = open_arena();
    struct buf clean = { 0 }, again = { 0 };
    int accepted = 0;

    fill_samples(&s);
    for (int round = 0; round < 20000; round++) {
        struct msg m;
        size_t len;

        buf_reset(&clean);
        EXPECT_OK(codec_encode(&s.by_type[1 + test_random() % (MSG_TYPE_COUNT - 1)], &clean));
        EXPECT(clean.len < sizeof(frame) / 2);
        memcpy(frame, clean.data, clean.len);
        len = clean.len;
        for (uint64_t hits = 1 + test_random() % 3; hits > 0 && len >= CODEC_HEADER_BYTES; hits--)
            len = mutate(frame, len, sizeof(frame));
        arena_release(&a, 0);
        if (codec_decode(&m, frame, len, &a) != OK)
            continue;
        buf_reset(&again);
        EXPECT_OK(codec_encode(&m, &again)); /* what is accepted can be passed on */
        accepted++;
    }
    EXPECT(accepted > 100 && accepted < 19900); /* the damage is neither nothing nor total */
    buf_free(&clean);
    buf_free(&again);
    arena_close(&a);
}
