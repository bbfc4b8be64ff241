#include "client/ask.h"
#include "client/cmd.h"
#include "client/fleet.h"
#include "client/output.h"

/* In the order of enum msg_worker_cell. */
static const struct ask_column columns[WORKER_CELL_COUNT] = {
    [WORKER_ID] = { "worker", false, "WORKER", JOB_ID_CHARS },
    [WORKER_HOST] = { "host", false, "HOST", 12 },
    [WORKER_STATE] = { "state", false, "STATE", 8 },
    [WORKER_JOB] = { "job", false, "JOB", JOB_ID_CHARS },
    [WORKER_STAGE] = { "stage", false, NULL, 0 },
    [WORKER_LEASES] = { "leases", true, NULL, 0 },
    [WORKER_MEMORY_MIB] = { "memory_mib", true, "MIB", 6 },
    [WORKER_MODELS] = { "models", false, "MODELS", 8 },
    [WORKER_HEARD_MS] = { "heard_ms", true, NULL, 0 },
    [WORKER_VERSION] = { "version", false, NULL, 0 },
    [WORKER_DEVICE] = { "device", false, "DEVICE", 0 },
};

/* The list of all brokers' workers. */
struct listing {
    bool is_json;
    const char *endpoint;
    size_t count;
    struct buf text;
};

static status on_worker(void *self, const struct msg_row *row)
{
    struct listing *l = self;
    struct json_writer w = { .out = &l->text };
    status st = OK;

    buf_reset(&l->text);
    if (l->is_json) {
        l->count++;
        json_write_object(&w);
        ask_write_row(&w, columns, WORKER_CELL_COUNT, row);
        json_write_key(&w, "broker");
        json_write_text(&w, l->endpoint);
        json_write_end(&w);
        return output_json(&w, &l->text);
    }
    if (l->count++ == 0)
        TRY(ask_append_titles(&l->text, columns, WORKER_CELL_COUNT));
    TRY(ask_append_row(&l->text, columns, WORKER_CELL_COUNT, row));
    TRY(output_text(l->text.data));
out:
    return st;
}

static status list_one(void *self, struct session *session, const char *endpoint)
{
    struct listing *l = self;

    l->endpoint = endpoint;
    return ask_rows(session, ASK_WORKERS, "", on_worker, l);
}

status cmd_workers(const struct command_line *line)
{
    struct listing listing = { .is_json = line->options.json };
    status st = fleet_visit(&line->options, list_one, &listing);

    if (st == OK && listing.count == 0)
        output_note("no worker is connected");
    buf_free(&listing.text);
    return st;
}
