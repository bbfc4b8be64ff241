/* The sweep over an object store for what lost attempts left there.
 *
 * Of every object <prefix>/<job>/a<attempt>-<nonce>/<name>, and every unfinished upload to one, the
 * broker says what became of the job. Kept is what the published result consists of, and all of a
 * job that has not ended; of a job that the broker has forgotten, what the store's own manifest
 * names. What is young is not even asked about: an attempt may be writing it. Nothing that is not
 * named like this is ever touched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cmd.h"
#include "client/jobs.h"
#include "client/output.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/blob.h"
#include "common/job.h"

/* More are looked at by the next sweep. */
#define CANDIDATES_MAX ((size_t)1 << 20)

/* An old object of an attempt. */
struct candidate {
    char job[JOB_ID_BYTES];
    size_t base_len; /* of the key, up to and with the job's id */
    size_t dir_len;  /* of the key, up to the attempt's folder, without "/" */
    struct blob_entry entry;
    bool is_leftover;
};

/* One sweep. */
struct sweep {
    const struct options *options;
    struct blob blob;
    int64_t now_ms;
    struct candidate **found; /* sorted by job once the list is complete */
    size_t count, room;
    size_t next; /* to be judged; the broker answers in the order of found */
    size_t removed;
    uint64_t bytes;
    struct jobs jobs; /* of found, each once */
    struct buf text;
};

/* --- what may be one ------------------------------------------------------------------------ */

/* Does the key end with <job>/a<attempt>-<nonce>/<name>? */
static bool parse_key(struct candidate *c)
{
    const char *key = c->entry.key, *name = strrchr(key, '/'), *dir, *job;
    size_t digits;

    if (!name || name == key)
        return false;
    for (dir = name; dir > key && dir[-1] != '/'; dir--)
        continue;
    if (dir - key < JOB_ID_BYTES || dir[0] != 'a')
        return false;
    digits = strspn(dir + 1, "0123456789");
    if (digits < 1 || dir[1 + digits] != '-' ||
        strspn(dir + 2 + digits, "0123456789abcdef") != 16 || dir + 18 + digits != name)
        return false;
    job = dir - JOB_ID_BYTES;
    if (job > key && job[-1] != '/')
        return false;
    memcpy(c->job, job, JOB_ID_BYTES - 1);
    c->job[JOB_ID_BYTES - 1] = '\0';
    c->base_len = (size_t)(dir - 1 - key);
    c->dir_len = (size_t)(name - key);
    return msg_is_id(c->job);
}

static status on_entry(void *self, const struct blob_entry *entry)
{
    struct sweep *s = self;
    struct candidate c = { .entry = *entry };
    int64_t age_ms = s->now_ms - entry->modified_ms;

    if (!parse_key(&c) || age_ms < 3600000 * s->options->older_than_h)
        return OK;
    if (s->count == CANDIDATES_MAX)
        return OK;
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 256;
        struct candidate **more = realloc(s->found, room * sizeof(*more));

        if (!more)
            return FAIL(ERR_NOMEM, "no memory for %zu objects", room);
        s->found = more;
        s->room = room;
    }
    s->found[s->count] = malloc(sizeof(c));
    if (!s->found[s->count])
        return FAIL(ERR_NOMEM, "no memory for an object");
    *s->found[s->count++] = c;
    return OK;
}

static int by_job(const void *a, const void *b)
{
    const struct candidate *x = *(struct candidate *const *)a, *y = *(struct candidate *const *)b;
    int order = strcmp(x->job, y->job);

    return order ? order : strcmp(x->entry.key, y->entry.key);
}

static bool starts_job(const struct sweep *s, size_t i)
{
    return i == 0 || strcmp(s->found[i]->job, s->found[i - 1]->job) != 0;
}

static status list_jobs(struct sweep *s)
{
    size_t count = 0;
    status st = OK;

    if (s->count)
        qsort(s->found, s->count, sizeof(s->found[0]), by_job);
    TRY(jobs_make(&s->jobs, s->count));
    for (size_t i = 0; i < s->count; i++) {
        if (starts_job(s, i))
            memcpy(s->jobs.ids[count++], s->found[i]->job, JOB_ID_BYTES);
    }
    s->jobs.count = count;
out:
    return st;
}

/* --- what is one ---------------------------------------------------------------------------- */

/* Is the attempt's folder in a text that names the result: a URL, or a manifest? */
static bool is_named(const struct candidate *c, const char *text)
{
    char dir[BLOB_KEY_MAX + 3];

    /* From the job's id on: what is in front of it may be spelled in several ways. */
    snprintf(dir, sizeof(dir), "%.*s/", (int)(c->dir_len - c->base_len + JOB_ID_BYTES - 1),
             c->entry.key + c->base_len - (JOB_ID_BYTES - 1));
    return strstr(text, dir) != NULL;
}

/* The job is forgotten: the manifest at the job's key says what counts. Without one there, a
 * folder with a manifest of its own may be the result (a store without conditional PUT). */
static status judge_forgotten(struct sweep *s, struct candidate *c)
{
    struct buf manifest = { .max_bytes = LIMIT_TEXT_FILE_BYTES };
    char key[BLOB_KEY_MAX + 32];
    status st;

    snprintf(key, sizeof(key), "%.*s/manifest.json", (int)c->base_len, c->entry.key);
    st = blob_get(&s->blob, key, &manifest);
    if (st == OK) {
        c->is_leftover = !is_named(c, manifest.data);
    } else if (st == ERR_NOTFOUND) {
        snprintf(key, sizeof(key), "%.*s/manifest.json", (int)c->dir_len, c->entry.key);
        st = blob_head(&s->blob, key, NULL);
        c->is_leftover = st == ERR_NOTFOUND;
    }
    buf_free(&manifest);
    if (st != ERR_NOTFOUND)
        return st;
    status_clear();
    return OK;
}

static status judge(struct sweep *s, struct candidate *c, const struct job_status *job)
{
    switch (job->state) {
    case JOB_ILLEGAL:
        return judge_forgotten(s, c);
    case JOB_DONE:
        c->is_leftover = !is_named(c, job->result.video) && !is_named(c, job->result.manifest);
        return OK;
    case JOB_DEAD:
    case JOB_CANCELLED:
        c->is_leftover = true;
        return OK;
    case JOB_QUEUED:
    case JOB_DELAYED:
    case JOB_BLOCKED:
    case JOB_LEASED:
    case JOB_RUNNING:
    case JOB_STATE_COUNT:
        return OK;
    }
    return OK;
}

static status on_status(void *self, size_t index, const struct job_status *job)
{
    struct sweep *s = self;
    status st = OK;

    (void)index;
    for (; st == OK && s->next < s->count && strcmp(s->found[s->next]->job, job->job) == 0;
         s->next++)
        st = judge(s, s->found[s->next], job);
    return st;
}

/* --- what happens to it --------------------------------------------------------------------- */

static status tell(struct sweep *s, const struct candidate *c)
{
    struct json_writer w = { .out = &s->text };
    const struct blob_entry *e = &c->entry;
    status st = OK;

    buf_reset(&s->text);
    if (!s->options->json) {
        TRY(buf_printf(&s->text, "%s  %llu bytes%s%s\n", e->key, (unsigned long long)e->bytes,
                       *e->upload ? "  unfinished upload" : "",
                       s->options->remove ? "  removed" : ""));
        return output_text(s->text.data);
    }
    json_write_object(&w);
    json_write_key(&w, "job");
    json_write_text(&w, c->job);
    json_write_key(&w, "key");
    json_write_text(&w, e->key);
    json_write_key(&w, "upload");
    json_write_text(&w, *e->upload ? e->upload : NULL);
    json_write_key(&w, "bytes");
    json_write_int(&w, (int64_t)e->bytes);
    json_write_key(&w, "removed");
    json_write_bool(&w, s->options->remove);
    json_write_end(&w);
    TRY(output_json(&w, &s->text));
out:
    return st;
}

static status collect(struct sweep *s)
{
    status st = OK;

    for (size_t i = 0; i < s->count; i++) {
        if (!s->found[i]->is_leftover)
            continue;
        if (s->options->remove)
            TRY(blob_remove(&s->blob, &s->found[i]->entry));
        s->removed++;
        s->bytes += s->found[i]->entry.bytes;
        TRY(tell(s, s->found[i]));
    }
    output_note("%zu leftover%s, %llu bytes%s", s->removed, s->removed == 1 ? "" : "s",
                (unsigned long long)s->bytes,
                s->options->remove ? " removed"
                : s->removed       ? "; --remove removes them"
                                   : "");
    if (s->count == CANDIDATES_MAX)
        output_note("there may be more; run it again");
out:
    return st;
}

status cmd_gc(const struct command_line *line)
{
    const struct options *o = &line->options;
    struct blob_config config = { .url = line->words[0],
                                  .ca_file = *o->ca_file ? o->ca_file : NULL };
    struct sweep sweep = { .options = o, .now_ms = clock_wall_ms() };
    struct session session = { 0 };
    status st = OK;

    options_s3(o, &config.s3);
    TRY(blob_open(&sweep.blob, &config));
    TRY(session_connect(&session, o));
    TRY(blob_list(&sweep.blob, "", on_entry, &sweep));
    TRY(list_jobs(&sweep));
    TRY(jobs_ask(&session, (const char(*)[JOB_ID_BYTES])sweep.jobs.ids, sweep.jobs.count, on_status,
                 &sweep));
    TRY(collect(&sweep));
out:
    session_close(&session);
    blob_close(&sweep.blob);
    jobs_free(&sweep.jobs);
    buf_free(&sweep.text);
    for (size_t i = 0; i < sweep.count; i++)
        free(sweep.found[i]);
    free(sweep.found);
    return st;
}
