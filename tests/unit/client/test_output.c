#include <stdlib.h>
#include <string.h>

#include "client/output.h"
#include "client/progress.h"
#include "client/seed.h"
#include "tests/tool/test.h"

TEST(progress_line_of_one_job)
{
    struct progress_view v = { .total = 1, .stage = "unet", .fraction = 0.5, .elapsed_ms = 12340 };
    char line[256];

    progress_line(&v, 79, line, sizeof(line));
    EXPECT_TEXT(line, "unet         [################----------------]  50%  12.3 s");
    v.fraction = 0;
    progress_line(&v, 79, line, sizeof(line));
    EXPECT(strstr(line, "[--------------------------------]   0%"));
    v.fraction = 1.5;
    progress_line(&v, 79, line, sizeof(line));
    EXPECT(strstr(line, "[################################] 100%"));
}

TEST(progress_line_of_many_jobs)
{
    struct progress_view v = { .total = 10,
                               .done = 3,
                               .failed = 1,
                               .stage = "vae_decode",
                               .fraction = 0.35,
                               .elapsed_ms = 65000 };
    char line[256];

    progress_line(&v, 90, line, sizeof(line));
    EXPECT(strstr(line, "3 of 10 done, 1 failed  vae_decode   ["));
    EXPECT(strstr(line, "]  35%  1 min 5 s"));
}

/* Whatever the width of the terminal, the line fits. */
TEST(progress_line_fits)
{
    struct progress_view v = { .total = 100000,
                               .done = 99999,
                               .failed = 1,
                               .stage = "decode_image",
                               .fraction = 0.999,
                               .elapsed_ms = 86399000 };
    char line[256];

    for (size_t columns = 1; columns < 200; columns++) {
        progress_line(&v, columns, line, sizeof(line));
        EXPECT(strlen(line) <= columns);
    }
}

TEST(output_durations)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        { -5, "0 ms" },           { 999, "999 ms" },       { 1000, "1.0 s" },
        { 59999, "60.0 s" },      { 60000, "1 min 0 s" },  { 3599999, "59 min 59 s" },
        { 3600000, "1 h 0 min" }, { 200000000, "2 days" },
    };
    char text[32];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        EXPECT_TEXT(output_duration(cases[i].ms, text, sizeof(text)), cases[i].text);
}

TEST(output_addresses_are_paths_where_they_can_be)
{
    char text[256];

    EXPECT_TEXT(output_address("file:///a%20b/v.mp4", text, sizeof(text)), "/a b/v.mp4");
    EXPECT_TEXT(output_address("s3://b/v.mp4", text, sizeof(text)), "s3://b/v.mp4");
    EXPECT_TEXT(output_address("nonsense", text, sizeof(text)), "nonsense");
}

static struct job_status sample_job(void)
{
    struct job_status job = { .job = "00aaaaaaaaaaaaaaaaaaaaaaaa",
                              .state = JOB_DONE,
                              .attempt = 2,
                              .tries = 1,
                              .attempts_max = 3,
                              .submitted_at_ms = 1000,
                              .started_at_ms = 2000,
                              .ended_at_ms = 3500,
                              .progress = 1,
                              .model = "default",
                              .labels = "a=b",
                              .worker = "h/id",
                              .stage = "",
                              .tenant = "default",
                              .batch = "",
                              .code = ERR_IO,
                              .sentence = "it \"broke\"",
                              .result = { "file:///v.mp4", "file:///p.png", "file:///m.json" } };
    return job;
}

TEST(output_job_as_json)
{
    struct job_status job = sample_job();
    struct buf text = { 0 };
    struct json_writer w = { .out = &text };
    struct json_writer unknown = { .out = &text };

    output_write_job(&w, &job);
    EXPECT_OK(json_write_finish(&w));
    EXPECT_TEXT(
        text.data,
        "{\"job\":\"00aaaaaaaaaaaaaaaaaaaaaaaa\",\"state\":\"done\",\"attempt\":2,"
        "\"tries\":1,\"attempts\":3,\"priority\":0,\"model\":\"default\",\"labels\":\"a=b\","
        "\"tenant\":\"default\",\"batch\":null,"
        "\"submitted_at_ms\":1000,\"started_at_ms\":2000,\"ended_at_ms\":3500,"
        "\"deadline_at_ms\":null,\"position\":0,\"eta_ms\":0,"
        "\"worker\":\"h/id\",\"stage\":null,\"progress\":1,\"error\":{\"code\":\"io\","
        "\"message\":\"it \\\"broke\\\"\"},\"result\":{\"video\":\"file:///v.mp4\","
        "\"poster\":\"file:///p.png\",\"manifest\":\"file:///m.json\"}}");
    buf_reset(&text);
    job.state = JOB_ILLEGAL;
    output_write_job(&unknown, &job);
    EXPECT_OK(json_write_finish(&unknown));
    EXPECT_TEXT(text.data, "{\"job\":\"00aaaaaaaaaaaaaaaaaaaaaaaa\",\"state\":\"unknown\"}");
    buf_free(&text);
}

TEST(output_job_as_a_line)
{
    struct job_status job = sample_job();
    struct buf text = { 0 };

    EXPECT_OK(output_job_line(&text, &job, 61000));
    EXPECT_TEXT(text.data, "00aaaaaaaaaaaaaaaaaaaaaaaa  done       1/3    1 min 0 s      /v.mp4\n");
    buf_reset(&text);
    job.state = JOB_RUNNING;
    job.stage = "unet";
    job.progress = 0.456;
    EXPECT_OK(output_job_line(&text, &job, 61000));
    EXPECT(strstr(text.data, "  unet 45% on h/id\n"));
    buf_reset(&text);
    job.eta_ms = 61000;
    EXPECT_OK(output_job_line(&text, &job, 61000));
    EXPECT(strstr(text.data, "  unet 45% on h/id, about 1 min 1 s\n"));
    buf_reset(&text);
    job.state = JOB_QUEUED;
    job.position = 12;
    EXPECT_OK(output_job_line(&text, &job, 61000));
    EXPECT(strstr(text.data, "  number 12 in the line, done in about 1 min 1 s; before: it "
                             "\"broke\"\n"));
    buf_reset(&text);
    job.eta_ms = 0;
    job.code = OK;
    EXPECT_OK(output_job_line(&text, &job, 61000));
    EXPECT(strstr(text.data, "  number 12 in the line\n"));
    buf_reset(&text);
    job.state = JOB_DEAD;
    job.code = ERR_IO;
    EXPECT_OK(output_job_line(&text, &job, 61000));
    EXPECT(strstr(text.data, "  it \"broke\"\n"));
    buf_free(&text);
}

/* The same key is the same seed for ever: a submission sent again is the same job. */
TEST(seed_of_a_key_is_fixed)
{
    uint64_t a, b;

    EXPECT_OK(seed_from_key("nightly/1", &a));
    EXPECT_OK(seed_from_key("nightly/1", &b));
    EXPECT(a == b);
    EXPECT_OK(seed_from_key("nightly/2", &b));
    EXPECT(a != b);
    /* printf 'seed\0nightly/1' | sha256sum, first 53 bits */
    EXPECT(a == UINT64_C(7966391937005935));
}

TEST(seeds_are_exact_in_json)
{
    for (int i = 0; i < 1000; i++)
        EXPECT(seed_random() < (UINT64_C(1) << 53));
    EXPECT(seed_random() != seed_random());
}
