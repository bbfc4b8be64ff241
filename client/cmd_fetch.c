#include <stdio.h>
#include <string.h>

#include "client/cmd.h"
#include "client/jobs.h"
#include "client/output.h"
#include "client/results.h"
#include "common/job.h"

/* Downloads of one command. */
struct fetching {
    const struct options *options;
    const char *dir;
    struct buf text;
    status first; /* of the first job that could not be fetched */
};

/* Where the files of one job go. */
struct fetched {
    char video[FILE_PATH_BYTES], poster[FILE_PATH_BYTES], manifest[FILE_PATH_BYTES];
};

static status fail_unfinished(const struct job_status *job)
{
    if (job->state == JOB_ILLEGAL)
        return FAIL(ERR_NOTFOUND, "job %s is not known here", job->job);
    if (job->state == JOB_CANCELLED)
        return FAIL(ERR_CANCELLED, "job %s was cancelled", job->job);
    if (job->state == JOB_DEAD)
        return FAIL(job->code == OK ? ERR_IO : job->code, "job %s failed: %s", job->job,
                    job->sentence);
    return FAIL(ERR_CONFLICT, "job %s is %s; `onestep wait %s` first", job->job,
                job_state_name(job->state), job->job);
}

static status make_path(const struct fetching *f, const char *job, const char *ending,
                        char path[FILE_PATH_BYTES])
{
    char name[JOB_ID_BYTES + 8];

    snprintf(name, sizeof(name), "%s.%s", job, ending);
    return file_join(path, FILE_PATH_BYTES, f->dir, name);
}

/* What the video's address ends with: mp4, webm, tar. */
static const char *ending_of(const char *url)
{
    static const char *const known[] = { "webm", "tar" };
    const char *dot = strrchr(url, '.');

    for (size_t i = 0; dot && i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(dot + 1, known[i]) == 0)
            return known[i];
    }
    return "mp4";
}

static status fetch_job(struct fetching *f, const struct job_status *job, struct fetched *files)
{
    struct results_manifest manifest = { 0 };
    status st = OK;

    if (job->state != JOB_DONE)
        return fail_unfinished(job);
    TRY(make_path(f, job->job, ending_of(job->result.video), files->video));
    TRY(make_path(f, job->job, "png", files->poster));
    TRY(make_path(f, job->job, "json", files->manifest));
    TRY(results_copy(f->options, job->result.manifest, files->manifest));
    TRY(results_read(&manifest, files->manifest));
    TRY(results_copy(f->options, job->result.video, files->video));
    TRY(results_check(files->video, manifest.video_sha256));
    TRY(results_copy(f->options, job->result.poster, files->poster));
    TRY(results_check(files->poster, manifest.poster_sha256));
out:
    results_free(&manifest);
    return st;
}

static status print_json(struct fetching *f, const char *job, const struct fetched *files,
                         status code, const char *sentence)
{
    struct json_writer w = { .out = &f->text };

    json_write_object(&w);
    json_write_key(&w, "job");
    json_write_text(&w, job);
    if (code == OK) {
        json_write_key(&w, "video");
        json_write_text(&w, files->video);
        json_write_key(&w, "poster");
        json_write_text(&w, files->poster);
        json_write_key(&w, "manifest");
        json_write_text(&w, files->manifest);
    }
    output_write_error(&w, code, sentence);
    json_write_end(&w);
    return output_json(&w, &f->text);
}

static status on_status(void *self, size_t index, const struct job_status *job)
{
    struct fetching *f = self;
    struct fetched files;
    char sentence[512];
    status code = fetch_job(f, job, &files), st = OK;

    (void)index;
    snprintf(sentence, sizeof(sentence), "%s", code == OK ? "" : status_message());
    if (code != OK) {
        output_note("%s", sentence);
        if (f->first == OK)
            f->first = code;
    }
    if (f->options->json)
        return print_json(f, job->job, &files, code, sentence);
    if (code != OK)
        return OK;
    buf_reset(&f->text);
    TRY(buf_printf(&f->text, "%s\n%s\n%s\n", files.video, files.poster, files.manifest));
    TRY(output_text(f->text.data));
out:
    return st;
}

status cmd_fetch(const struct command_line *line)
{
    struct fetching fetching = { .options = &line->options };
    struct session session = { 0 };
    struct jobs jobs = { 0 };
    status st = OK;

    fetching.dir = *line->options.out ? line->options.out : ".";
    TRY(jobs_from_words(&jobs, line->words, line->word_count));
    TRY(file_make_dirs(fetching.dir));
    TRY(session_connect(&session, &line->options));
    TRY(jobs_ask(&session, (const char(*)[JOB_ID_BYTES])jobs.ids, jobs.count, on_status,
                 &fetching));
    st = fetching.first;
    status_clear();
out:
    session_close(&session);
    jobs_free(&jobs);
    buf_free(&fetching.text);
    return st;
}
