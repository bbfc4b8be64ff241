/* DESIGN: run is a client like any other: what it adds is starting the services first and stopping
 * them last. Everything that can be wrong with the request is found before anything is started. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/batch.h"
#include "client/checkpoint.h"
#include "client/cmd.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/keeper.h"
#include "client/output.h"
#include "client/results.h"
#include "client/watch.h"
#include "common/base/clock.h"
#include "common/job.h"

/* Longest wait for the first answer of the broker that was just started. */
#define BROKER_START_MS 20000

/* One question to the broker may take this long, so that the services are looked at often. */
#define CALL_MS 1000

/* Default folder of results. */
#define OUT_DEFAULT "onestep-data"

/* One `onestep run`. */
struct run {
    const struct command_line *line;
    char out[FILE_PATH_BYTES];     /* absolute */
    char dump[FILE_PATH_BYTES];    /* absolute, or "" */
    char model[FILE_PATH_BYTES];   /* absolute */
    struct msg_submit_item *items; /* [count] the jobs */
    size_t count;
    struct jobs jobs;         /* their ids, as far as they were taken */
    bool *has_ended;          /* [count] */
    struct services services; /* without --keep */
    struct keeper keeper;     /* with --keep */
    struct session session;
    struct watch watch;
    struct buf text;
    int interrupt_fd;
    bool is_through; /* all jobs have ended */
    status first;    /* of the first job without a result */
};

/* --- before anything is started --------------------------------------------------------------- */

static status make_absolute(const char *path, char dst[FILE_PATH_BYTES])
{
    char *real = NULL;
    status st = OK;

    TRY(file_make_dirs(path));
    real = realpath(path, NULL);
    if (!real)
        TRY(file_errno(errno, path));
    if (strlen(real) >= FILE_PATH_BYTES - 256)
        TRY(FAIL(ERR_BADARG, "%s: a path of %zu bytes is too long", path, strlen(real)));
    memcpy(dst, real, strlen(real) + 1);
out:
    free(real);
    return st;
}

static status prepare_jobs(struct run *r)
{
    const struct command_line *line = r->line;
    status st = OK;

    r->items = calloc((size_t)line->word_count, sizeof(*r->items));
    r->has_ended = calloc((size_t)line->word_count, sizeof(*r->has_ended));
    if (!r->items || !r->has_ended)
        TRY(FAIL(ERR_NOMEM, "no memory for %d jobs", line->word_count));
    r->count = (size_t)line->word_count;
    for (size_t i = 0; i < r->count; i++) {
        struct batch_job job = { .spec = line->spec, .has_seed = line->has_seed, .key = "" };

        TRY(input_resolve(line->words[i], "", job.spec.image, sizeof(job.spec.image)));
        if (!*job.spec.output)
            input_stem(line->words[i], job.spec.output, sizeof(job.spec.output));
        TRY(batch_prepare(&job, &r->items[i]));
    }
out:
    return st;
}

static status prepare(struct run *r)
{
    const struct options *o = &r->line->options;
    status st = OK;

    TRY(batch_check_put_url(&r->line->spec, r->line->word_count, false));
    TRY(prepare_jobs(r));
    TRY(checkpoint_find(o->model, r->model, sizeof(r->model)));
    TRY(make_absolute(*o->out ? o->out : OUT_DEFAULT, r->out));
    if (*o->dump)
        TRY(make_absolute(o->dump, r->dump));
out:
    return st;
}

/* --- services --------------------------------------------------------------------------------- */

static status check_services(void *self)
{
    struct run *r = self;

    return r->line->options.keep ? keeper_check(&r->keeper) : services_check(&r->services);
}

/* Until the broker answers, or a service has failed for good. */
static status wait_for_broker(struct run *r)
{
    int64_t deadline = clock_mono_ms() + BROKER_START_MS;
    status st = OK;

    for (;;) {
        struct msg request = { .type = MSG_PING };
        struct msg answer;

        TRY(check_services(r));
        st = session_call(&r->session, &request, &answer);
        if (st == OK) {
            int64_t waiting =
                answer.pong.job_counts[JOB_QUEUED] + answer.pong.job_counts[JOB_DELAYED];

            if (waiting > 0)
                output_note("still queued in %s from an earlier run: %lld, to be run as well",
                            r->out, (long long)waiting);
            return OK;
        }
        if (st != ERR_UNAVAILABLE || clock_mono_ms() > deadline)
            goto out;
    }
out:
    return st;
}

static status start(struct run *r)
{
    const struct options *o = &r->line->options;
    struct services_config config = {
        .out = r->out,
        .model = r->model,
        .device = o->device,
        .threads = o->threads,
        .dump = r->dump,
    };
    struct config_list endpoints = { .count = 1 };
    const char *url;
    status st = OK;

    if (o->keep)
        TRY(keeper_start(&r->keeper, &config, r->interrupt_fd));
    else
        TRY(services_start(&r->services, &config));
    url = o->keep ? r->keeper.client_url : r->services.client_url;
    snprintf(endpoints.item[0], sizeof(endpoints.item[0]), "%s", url);
    TRY(session_open(&r->session, &endpoints, CALL_MS));
    r->session.interrupt_fd = r->interrupt_fd;
    TRY(wait_for_broker(r));
out:
    return st;
}

/* --- jobs ------------------------------------------------------------------------------------- */

static status on_verdict(void *self, const struct batch_verdict *v)
{
    struct run *r = self;

    if (v->code != OK)
        return FAIL(v->code, "%s: %s", r->line->words[v->row], v->sentence);
    memcpy(r->jobs.ids[v->row], v->item->job, JOB_ID_BYTES);
    return OK;
}

static status submit(struct run *r)
{
    struct batch batch = { .session = &r->session, .on_verdict = on_verdict, .self = r };
    int64_t deadline = clock_mono_ms() + BROKER_START_MS;
    status st = OK;

    TRY(jobs_make(&r->jobs, r->count));
    for (size_t i = 0; i < r->count; i++)
        memcpy(r->jobs.ids[i], r->items[i].job, JOB_ID_BYTES);
    for (size_t i = 0; i < r->count; i++) {
        do {
            TRY(check_services(r));
            st = batch_add(&batch, &r->items[i], (int64_t)i);
        } while (st == ERR_UNAVAILABLE && clock_mono_ms() < deadline);
        TRY(st);
    }
    do {
        TRY(check_services(r));
        st = batch_send(&batch);
    } while (st == ERR_UNAVAILABLE && clock_mono_ms() < deadline);
out:
    batch_free(&batch);
    return st;
}

static void write_paths(struct json_writer *w, const struct job_status *job)
{
    const struct {
        const char *key, *url;
    } outputs[] = { { "video", job->result.video },
                    { "poster", job->result.poster },
                    { "manifest", job->result.manifest } };
    char path[FILE_PATH_BYTES];

    for (size_t i = 0; i < sizeof(outputs) / sizeof(outputs[0]); i++) {
        json_write_key(w, outputs[i].key);
        json_write_text(w, output_address(outputs[i].url, path, sizeof(path)));
    }
}

static status print_result(struct run *r, size_t index, const struct job_status *job)
{
    struct json_writer w = { .out = &r->text };
    struct results_manifest manifest = { 0 };
    char path[FILE_PATH_BYTES];
    status st = OK;

    TRY(results_read(&manifest, output_address(job->result.manifest, path, sizeof(path))));
    if (r->line->options.json) {
        json_write_object(&w);
        write_paths(&w, job);
        json_write_key(&w, "job");
        json_write_text(&w, job->job);
        json_write_key(&w, "image");
        json_write_text(&w, r->line->words[index]);
        results_write(&w, &manifest);
        json_write_end(&w);
        TRY(output_json(&w, &r->text));
    } else {
        char time[32];

        output_note("%s: %lld frames of %lldx%lld in %s", r->line->words[index],
                    (long long)manifest.frames, (long long)manifest.width_px,
                    (long long)manifest.height_px,
                    output_duration((int64_t)(manifest.total_seconds * 1000), time, sizeof(time)));
        buf_reset(&r->text);
        TRY(buf_printf(&r->text, "video     %s\n",
                       output_address(job->result.video, path, sizeof(path))));
        TRY(buf_printf(&r->text, "poster    %s\n",
                       output_address(job->result.poster, path, sizeof(path))));
        TRY(buf_printf(&r->text, "manifest  %s\n",
                       output_address(job->result.manifest, path, sizeof(path))));
        TRY(output_text(r->text.data));
    }
out:
    results_free(&manifest);
    return st;
}

/* Does the sentence say itself which photograph it is about? */
static bool names_image(const char *sentence, const char *image)
{
    const char *slash = strrchr(image, '/');

    return strstr(sentence, slash && slash[1] ? slash + 1 : image) != NULL;
}

static status print_failure(struct run *r, size_t index, const struct job_status *job, status code)
{
    struct json_writer w = { .out = &r->text };
    char sentence[600];

    if (job->state == JOB_DEAD)
        snprintf(sentence, sizeof(sentence), "%s", job->sentence);
    else
        snprintf(sentence, sizeof(sentence), "the job is %s",
                 job->state == JOB_CANCELLED ? "cancelled" : "gone from the queue");
    if (names_image(sentence, r->line->words[index]))
        output_note("%s", sentence);
    else
        output_note("%s: %s", r->line->words[index], sentence);
    if (!r->line->options.json)
        return OK;
    json_write_object(&w);
    json_write_key(&w, "job");
    json_write_text(&w, job->job);
    json_write_key(&w, "image");
    json_write_text(&w, r->line->words[index]);
    output_write_error(&w, code, sentence);
    json_write_end(&w);
    return output_json(&w, &r->text);
}

static status on_end(void *self, size_t index, const struct job_status *job)
{
    struct run *r = self;
    status code = OK;

    r->has_ended[index] = true;
    if (job->state == JOB_DONE)
        return print_result(r, index, job);
    if (job->state == JOB_CANCELLED)
        code = ERR_CANCELLED;
    else if (job->state == JOB_DEAD && job->code != OK)
        code = job->code;
    else
        code = ERR_IO;
    if (r->first == OK)
        r->first = code;
    return print_failure(r, index, job, code);
}

static status on_cancelled(void *self, const struct msg_job_verdict *v)
{
    (void)self;
    (void)v;
    return OK;
}

/* Are the services gone already? */
static bool is_deserted(const struct run *r)
{
    return r->line->options.keep && r->keeper.pid == 0;
}

/* Leave no job behind that nobody waits for. That is a courtesy: if the broker can't be told, the
 * jobs stay queued in OUT, and the next run says so. st, with its sentence, is handed through. */
static status cancel_rest(struct run *r, status st)
{
    char sentence[512];
    size_t left = 0;

    snprintf(sentence, sizeof(sentence), "%s", status_message());
    for (size_t i = 0; i < r->jobs.count; i++) {
        if (!r->has_ended[i])
            memcpy(r->jobs.ids[left++], r->jobs.ids[i], JOB_ID_BYTES);
    }
    r->session.interrupt_fd = -1;
    if (left &&
        (is_deserted(r) || jobs_cancel(&r->session, (const char(*)[JOB_ID_BYTES])r->jobs.ids, left,
                                       on_cancelled, r) != OK))
        output_note("not cancelled, still queued in %s: %zu", r->out, left);
    return FAIL(st, "%s", sentence);
}

static status serve(struct run *r)
{
    status st = OK;

    TRY(start(r));
    TRY(submit(r));
    r->watch = (struct watch){ .session = &r->session,
                               .jobs = &r->jobs,
                               .on_end = on_end,
                               .on_tick = check_services,
                               .self = r };
    TRY(watch_run(&r->watch));
    r->is_through = true;
    st = r->first;
    status_clear(); /* on_end told it */
out:
    return st;
}

/* --keep, and all went well: say how to go on. */
static void tell_kept(struct run *r)
{
    output_note("the services stay up: give `onestep submit`, `list`, ... --broker %s",
                r->keeper.client_url);
    output_note("stop them with: kill %ld", (long)r->keeper.pid);
    r->keeper.pid = 0;
}

status cmd_run(const struct command_line *line)
{
    struct run r = { .line = line, .interrupt_fd = -1 };
    status st = OK;

    TRY(prepare(&r));
    TRY(interrupt_open(&r.interrupt_fd));
    st = serve(&r);
    if (st == ERR_CANCELLED && interrupt_take(r.interrupt_fd)) {
        output_note("interrupted; stopping");
        st = FAIL(ERR_CANCELLED, "interrupted; the jobs were cancelled");
    }
    if (st != OK && !r.is_through)
        st = cancel_rest(&r, st);
out:
    if (r.is_through && line->options.keep)
        tell_kept(&r);
    output_failure(st, line->options.json);
    status_clear();
    session_close(&r.session);
    keeper_stop(&r.keeper);
    services_stop(&r.services);
    interrupt_close(r.interrupt_fd);
    jobs_free(&r.jobs);
    buf_free(&r.text);
    free(r.items);
    free(r.has_ended);
    return st;
}
