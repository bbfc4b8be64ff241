#include "client/command.h"

#include <string.h>

#include "client/cmd.h"
#include "common/config.h"

static const char *const json_only[] = { "json", NULL };
static const char *const run_flags[] = { "out",  "model", "device", "threads",
                                         "dump", "keep",  "json",   NULL };
static const char *const submit_flags[] = { "manifest", "key", "check", "json", NULL };
static const char *const wait_flags[] = { "give_up_s", "json", NULL };
static const char *const list_flags[] = { "state", "label", "limit", "json", NULL };
static const char *const gc_flags[] = { "older_than_h", "remove", "json", NULL };
static const char *const fetch_flags[] = { "out", "json", NULL };
static const char *const events_flags[] = { "since", "once", "json", NULL };
static const char *const redrive_flags[] = { "all", "json", NULL };
static const char *const quota_flags[] = { "queued_max", "running_max", "bytes_max", "rate",
                                           "burst",      "weight",      "json",      NULL };
static const char *const audit_flags[] = { "repair", "json", NULL };
static const char *const keygen_flags[] = { "role", "tenant", "out", "json", NULL };

const struct command command_table[] = {
    {
        .name = "run",
        .arguments = "IMAGE... [-o DIR] [--PARAMETER VALUE ...]",
        .summary = "turn photographs into videos on this machine",
        .description =
            "Starts a private Redis, a broker and a worker, sends them one job per photograph, "
            "shows progress, and stops them again. Results lie below DIR (./onestep-data when -o "
            "is not given); logs and the queue are in DIR/.onestep.\n\n"
            "IMAGE is a file (JPEG, PNG, WebP, TIFF, BMP, GIF), an http(s):// URL or an s3:// "
            "key. Ctrl-C cancels the jobs and stops everything. With --keep the services stay "
            "up, and how to reach and stop them is printed.\n\n"
            "With --json, one object per photograph is printed: video, poster, manifest (paths), "
            "job, image, frames, width, height, seed, stage_seconds; after a failure, job, image "
            "and error {code, message}.",
        .examples = "onestep run photo.jpg\n"
                    "    one video below ./onestep-data\n"
                    "onestep run *.jpg -o clips --frames 14 --motion-bucket 60 --seed 7\n"
                    "    a calmer clip of each photograph, the same at every run\n"
                    "onestep run photo.jpg --model ~/models/svd-xt --sampler euler --json\n"
                    "    another checkpoint, 25 steps, machine-readable",
        .flags = run_flags,
        .has_spec = true,
        .words = COMMAND_IMAGES,
        .words_min = 1,
        .run = cmd_run,
    },
    {
        .name = "submit",
        .arguments = "IMAGE... | --manifest FILE [--PARAMETER VALUE ...]",
        .summary = "queue jobs and print their ids",
        .description =
            "Queues one job per photograph and prints one id per line, once the job is durable. "
            "Local files become file:// URLs, which the worker must be able to read; they are "
            "checked before anything is sent.\n\n"
            "A manifest holds one JSON object per line: \"image\" and any parameter of a job "
            "(--motion-bucket is \"motion_bucket\"); flags are the defaults of its rows. "
            "\"labels\" may be an object. Relative paths start at the manifest's folder. A row "
            "that is refused is told with its line, the others go on, and the exit code is not "
            "0.\n\n"
            "With --key, job n is named by the key and n (or the row's own \"key\"): sent again, "
            "it is the same job, and runs once. Without --seed each job gets a random seed, with "
            "a key the seed is made from it.\n\n"
            "With --json, one object per job is printed: job, row, image, seed, verdict (ok, "
            "duplicate, conflict, refused), state, and error {code, message} when it was not "
            "taken.",
        .examples = "onestep submit photo.jpg --fps 12\n"
                    "    one job\n"
                    "onestep submit --manifest jobs.jsonl --key nightly-7 >ids\n"
                    "    thousands of jobs; after a lost connection, just send them again\n"
                    "onestep submit a.jpg b.jpg --labels project=birds | xargs onestep wait\n"
                    "    two jobs, then watch them",
        .flags = submit_flags,
        .has_spec = true,
        .has_broker = true,
        .words = COMMAND_IMAGES,
        .run = cmd_submit,
    },
    {
        .name = "status",
        .arguments = "JOB...",
        .summary = "say where jobs stand",
        .description =
            "Prints one line per job: of a queued one its number in the line, and about when it "
            "will be done, as far as jobs like it were seen. With --json, one object per job: "
            "job, state (queued, delayed, blocked, leased, running, done, dead, cancelled, "
            "unknown), attempt, tries, attempts, priority, model, labels, tenant, batch, "
            "submitted_at_ms, started_at_ms, ended_at_ms, deadline_at_ms (milliseconds since "
            "1970), position (1: the next; 0: in no line), eta_ms (0: not known), worker, stage, "
            "progress (0 to 1), error {code, message} of the last failed attempt or null, result "
            "{video, poster, manifest} or null. An unknown job makes the exit code 3.",
        .examples = "onestep status 00k3v9x2m4q8r7t1z5b6n0c2dfg\n"
                    "    one job\n"
                    "onestep status --json $(cat ids) | jq -r .state | sort | uniq -c\n"
                    "    a summary of many",
        .flags = json_only,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .words_min = 1,
        .run = cmd_status,
    },
    {
        .name = "wait",
        .arguments = "JOB...",
        .summary = "watch jobs until they end",
        .description =
            "Shows progress on standard error - a bar on a terminal, plain lines otherwise - and "
            "prints each job when it has ended: id, state and the video's address; with --json "
            "the object of `onestep status`. The exit code is 0 when all jobs are done, else "
            "that of the first job that failed, was cancelled (12) or is unknown (3).\n\n"
            "Ctrl-C ends the watching; the jobs go on.",
        .examples = "onestep wait 00k3v9x2m4q8r7t1z5b6n0c2dfg && echo done\n"
                    "    one job\n"
                    "onestep wait --give-up-s 3600 $(cat ids)\n"
                    "    at most an hour, else exit code 8",
        .flags = wait_flags,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .words_min = 1,
        .run = cmd_wait,
    },
    {
        .name = "list",
        .arguments = "[--state STATE] [--label KEY=VALUE] [--limit N]",
        .summary = "list jobs, newest first",
        .description = "Prints one line per job; with --json, the objects of `onestep status`.",
        .examples = "onestep list --state running\n"
                    "    what the workers do now\n"
                    "onestep list --label project=birds --limit 1000 --json\n"
                    "    all jobs of a project",
        .flags = list_flags,
        .has_broker = true,
        .run = cmd_list,
    },
    {
        .name = "why",
        .arguments = "JOB...",
        .summary = "say why jobs do not run",
        .description =
            "Prints what stands between each job and its result: its place in the line, a pause, "
            "a quota, a worker with too little memory, jobs that it waits for, the last failure. "
            "With --json, one object per job: job, why [sentence]. An unknown job makes the exit "
            "code 3.",
        .examples = "onestep why 00k3v9x2m4q8r7t1z5b6n0c2dfg\n"
                    "    one job",
        .flags = json_only,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .words_min = 1,
        .run = cmd_why,
    },
    {
        .name = "events",
        .arguments = "[JOB...] [--since CURSOR] [--once]",
        .summary = "follow what happens to jobs",
        .description =
            "Prints a line for each change as it happens: cursor, job, state (running, delayed, "
            "done, dead, cancelled; queued after a redrive; batch when the last job of one has "
            "ended), tenant, batch. With JOB, only theirs, until all have ended. Begins with the "
            "oldest that Redis keeps, which are about ten thousand; with --since, behind that "
            "cursor: the last one that was printed is where a later call goes on, and nothing is "
            "told twice. Ctrl-C ends it.\n\n"
            "With --json, one object per event: cursor, job, state, tenant, batch.",
        .examples = "onestep events --json | jq -r 'select(.state == \"dead\").job'\n"
                    "    jobs that are given up, as it happens\n"
                    "onestep events --once --since 1763800000000-0\n"
                    "    what has happened since then",
        .flags = events_flags,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .run = cmd_events,
    },
    {
        .name = "cancel",
        .arguments = "JOB...",
        .summary = "stop jobs, queued or running",
        .description =
            "A queued job never starts; a running one is stopped at its worker's next heartbeat. "
            "Prints one line per job; with --json, one object: job, verdict (ok, duplicate, "
            "conflict: it has ended, unknown), state, and error {code, message} when there is "
            "one. The exit code is 4 when a job had ended, 3 when one is unknown.",
        .examples = "onestep cancel 00k3v9x2m4q8r7t1z5b6n0c2dfg\n"
                    "    one job\n"
                    "onestep list --state queued --json | jq -r .job | xargs onestep cancel\n"
                    "    everything that waits",
        .flags = json_only,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .words_min = 1,
        .run = cmd_cancel,
    },
    {
        .name = "fetch",
        .arguments = "JOB... [-o DIR]",
        .summary = "download the results of jobs",
        .description =
            "Writes JOB.mp4 (or .webm, .tar), JOB.png and JOB.json (video, poster, manifest) into "
            "DIR, checks them against the manifest's SHA-256, and prints their paths. Results in "
            "s3:// are read with the s3_* settings and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_SESSION_TOKEN. With --json, one object per job: job, video, poster, manifest "
            "(paths), or job and error {code, message}.",
        .examples = "onestep fetch 00k3v9x2m4q8r7t1z5b6n0c2dfg -o clips\n"
                    "    three files in ./clips",
        .flags = fetch_flags,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .words_min = 1,
        .run = cmd_fetch,
    },
    {
        .name = "verify",
        .arguments = "FILE...",
        .summary = "check results against their manifests",
        .description =
            "FILE is a manifest, or a video or poster with its manifest beside it (as `onestep "
            "fetch` and `onestep run` leave them). Reads the SHA-256 and size of video and poster, "
            "and of the photograph when it is a file of this machine, and compares them with the "
            "manifest's. Prints one line per file: ok, changed or absent, which file, where; with "
            "--json, one object per FILE: manifest, files [{name, path, verdict}]. The exit code "
            "is 5 when a file is not what it was, 3 when video or poster is absent.",
        .examples = "onestep verify clips/*.json\n"
                    "    everything that was fetched",
        .flags = json_only,
        .words = COMMAND_IMAGES,
        .words_min = 1,
        .run = cmd_verify,
    },
    {
        .name = "gc",
        .arguments = "STORE [--older-than-h H] [--remove]",
        .summary = "find what lost attempts left in an object store",
        .description =
            "An attempt that was killed, cancelled or beaten by another leaves its files behind, "
            "each under keys of its own. Lists those in STORE, the store of the workers "
            "(s3://BUCKET/PREFIX or file:///DIR), that are older than H hours, and unfinished "
            "uploads; with --remove, removes them.\n\n"
            "The broker is asked about each job: kept is the published result, and everything of "
            "a job that has not ended. Of a job that it has forgotten, the files that the store's "
            "manifest names are kept. Files that are not named as workers name them are never "
            "touched.\n\n"
            "With --json, one object per leftover: job, key, upload, bytes, removed.",
        .examples = "onestep gc s3://clips/results\n"
                    "    say what would be removed\n"
                    "onestep gc s3://clips/results --older-than-h 72 --remove\n"
                    "    remove it",
        .flags = gc_flags,
        .has_broker = true,
        .words = COMMAND_STORE,
        .words_min = 1,
        .words_max = 1,
        .run = cmd_gc,
    },
    {
        .name = "queues",
        .arguments = "",
        .summary = "say how many jobs are in each state, and how many workers there are",
        .description =
            "Jobs are those of the store, and the same at every broker; workers are those "
            "that the broker that answers hears now. Then the lines of queued jobs: model, "
            "tenant, how many, and what holds them up: a pause, or the tenant's cap. A line "
            "that needs more memory than some worker had says so. With --json, one object: "
            "broker, version, workers, jobs {state: number}, lines [{model, above_mib, tenant, "
            "queued, held_by}].",
        .examples = "onestep queues\n"
                    "    is anything waiting?",
        .flags = json_only,
        .has_broker = true,
        .run = cmd_queues,
    },
    {
        .name = "workers",
        .arguments = "",
        .summary = "list workers, and what they do",
        .description =
            "Asks every broker of the settings for the workers that are connected to it, and "
            "prints one line each: id, host, state (idle, busy, draining, silent), the job that "
            "runs, the memory that a job may use, models, device. With --json, one object each: "
            "worker, host, state, job, stage, leases, memory_mib, models, heard_ms (since its "
            "last message), version, device, broker.",
        .examples = "onestep workers\n"
                    "    who is there?\n"
                    "onestep workers --json | jq -r 'select(.state == \"silent\").host'\n"
                    "    machines to look at",
        .flags = json_only,
        .has_broker = true,
        .run = cmd_workers,
    },
    {
        .name = "drain",
        .arguments = "WORKER... | queue",
        .summary = "let workers, or the whole queue, run empty",
        .description =
            "A worker (`onestep workers` has the ids) takes no more jobs, hands back what it has "
            "not started, finishes the rest, and ends. The queue takes no more jobs, and runs "
            "those that it has; `onestep resume queue` ends that. With keys, this needs an "
            "admin's. With --json, one object each: worker or scope, order, verdict, error.",
        .examples = "onestep drain 00k3v9x2m4q8r7t1z5b6n0c2dfg\n"
                    "    before that machine is switched off\n"
                    "onestep drain queue\n"
                    "    the last jobs for today",
        .flags = json_only,
        .has_broker = true,
        .words = COMMAND_WORKERS,
        .words_min = 1,
        .run = cmd_drain,
    },
    {
        .name = "pause",
        .arguments = "queue | model NAME | tenant NAME",
        .summary = "start no more jobs: of all, of a model, of a tenant",
        .description =
            "What runs goes on, new jobs are taken, nothing more starts until `onestep resume`. "
            "With keys, this needs an admin's. With --json, one object: scope, order, verdict, "
            "error.",
        .examples = "onestep pause queue\n"
                    "    everything\n"
                    "onestep pause tenant birds\n"
                    "    one tenant",
        .flags = json_only,
        .has_broker = true,
        .words = COMMAND_SCOPE,
        .words_min = 1,
        .words_max = 2,
        .run = cmd_pause,
    },
    {
        .name = "resume",
        .arguments = "queue | model NAME | tenant NAME",
        .summary = "end a pause, or the drain of the queue",
        .description = "The opposite of `onestep pause` and of `onestep drain queue`. With keys, "
                       "this needs an admin's. With --json, one object: scope, order, verdict, "
                       "error.",
        .examples = "onestep resume queue\n"
                    "    go on",
        .flags = json_only,
        .has_broker = true,
        .words = COMMAND_SCOPE,
        .words_min = 1,
        .words_max = 2,
        .run = cmd_resume,
    },
    {
        .name = "front",
        .arguments = "JOB...",
        .summary = "put queued jobs before all others of their tenant",
        .description =
            "The first of several jobs is the next to start. A job that is not queued makes the "
            "exit code 4, an unknown one 3. With keys, this needs an admin's. With --json, one "
            "object per job: job, order, verdict, error.",
        .examples = "onestep front 00k3v9x2m4q8r7t1z5b6n0c2dfg\n"
                    "    somebody waits for it",
        .flags = json_only,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .words_min = 1,
        .run = cmd_front,
    },
    {
        .name = "redrive",
        .arguments = "JOB... | --all",
        .summary = "give dead jobs all their tries again",
        .description =
            "A dead job is queued as if it had just come; its old failure stays visible until it "
            "ends. With --all, every dead job, the oldest first, but no quarantined one: those "
            "have lost several workers, and run again only when they are named. A job that is not "
            "dead makes the exit code 4, an unknown one 3. With keys, this needs an admin's.\n\n"
            "With --json, one object per job: job, order, verdict, error; with --all one object: "
            "redriven.",
        .examples = "onestep redrive --all\n"
                    "    after what broke them was mended",
        .flags = redrive_flags,
        .has_broker = true,
        .words = COMMAND_JOBS,
        .run = cmd_redrive,
    },
    {
        .name = "quota",
        .arguments = "[TENANT] [--running-max N ...]",
        .summary = "show or set limits of tenants",
        .description =
            "Prints one line per tenant that has limits: what it uses, and what it may. With "
            "TENANT, only its own, after the limits that are given have been set; setting them "
            "needs an admin's key where there are keys. With --json, one object per tenant: "
            "tenant, waiting, held, bytes, paused, queued_max, running_max, bytes_max, rate, "
            "burst, weight.",
        .examples = "onestep quota\n"
                    "    all of them\n"
                    "onestep quota birds --running-max 4 --weight 2\n"
                    "    at most four devices, and twice the share of others",
        .flags = quota_flags,
        .has_broker = true,
        .words = COMMAND_TENANT,
        .words_max = 1,
        .run = cmd_quota,
    },
    {
        .name = "audit",
        .arguments = "[--repair]",
        .summary = "compare what Redis has derived from jobs with the jobs",
        .description =
            "The truth about a job is its hash; lines, counts and gauges follow from it. Prints "
            "one sentence for each place that disagrees, and then the exit code is 5. With "
            "--repair, what disagrees is derived anew, and looked at again. Redis does nothing "
            "else meanwhile: about 10 us a job, and several times that for a repair. With keys, "
            "this needs an admin's. With --json, one object per place: finding.",
        .examples = "onestep audit\n"
                    "    after Redis came back from a backup",
        .flags = audit_flags,
        .has_broker = true,
        .run = cmd_audit,
    },
    {
        .name = "keygen",
        .arguments = "NAME [--role ROLE] [--tenant NAME] [-o DIR]",
        .summary = "make a key for one program or person",
        .description =
            "Writes DIR/NAME.key, the secret, which stays with its owner (curve_key), and "
            "DIR/NAME.pub, a card for everybody, and prints both paths. Nothing is overwritten.\n\n"
            "A broker lets in whose card lies in its curve_allow folder: as client, worker, or "
            "admin. With --tenant a client's jobs are that tenant's, and it can submit for no "
            "other. Workers and clients need the broker's card, made with --role broker, as "
            "broker_key. To take somebody's right away, remove the card and send the brokers "
            "SIGHUP. With --json, one object: name, role, secret, card (paths).",
        .examples = "onestep keygen broker --role broker -o keys\n"
                    "    keys/broker.key for the brokers, keys/broker.pub for all others\n"
                    "onestep keygen gpu-7 --role worker -o keys\n"
                    "    move keys/gpu-7.key to the worker's machine\n"
                    "onestep keygen anna --tenant birds -o keys\n"
                    "    a client whose jobs count for the tenant birds",
        .flags = keygen_flags,
        .words = COMMAND_NAME,
        .words_min = 1,
        .words_max = 1,
        .run = cmd_keygen,
    },
    {
        .name = "version",
        .arguments = "",
        .summary = "print release, commit, protocol and libraries",
        .description = "With --json, one object: version, build, protocol, libraries, cuda.",
        .examples = "onestep version\n"
                    "    for bug reports",
        .flags = json_only,
        .run = cmd_version,
    },
    {
        .name = "help",
        .arguments = "[COMMAND]",
        .summary = "explain Onestep or one command",
        .description = "The same as `onestep COMMAND --help`.",
        .examples = "onestep help submit\n"
                    "    flags, parameters, examples",
        .words = COMMAND_COMMANDS,
        .words_max = 1,
        .run = cmd_help,
    },
    {
        .name = "completion",
        .arguments = "bash|zsh",
        .summary = "print a completion script for a shell",
        .description = "The script completes commands, flags and their values.",
        .examples = "source <(onestep completion bash)\n"
                    "    in ~/.bashrc\n"
                    "onestep completion zsh >~/.zfunc/_onestep\n"
                    "    with ~/.zfunc in fpath, before compinit",
        .words = COMMAND_SHELL,
        .words_min = 1,
        .words_max = 1,
        .run = cmd_completion,
    },
    {
        .name = "man",
        .arguments = "",
        .summary = "print the source of the manual page",
        .description = "Used when Onestep is installed.",
        .examples = "onestep man | man -l -\n"
                    "    read it",
        .is_hidden = true,
        .run = cmd_man,
    },
};
const size_t command_count = sizeof(command_table) / sizeof(command_table[0]);

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(command_table[i].name, name) == 0)
            return &command_table[i];
    }
    return NULL;
}

status command_fail_unknown(const char *name)
{
    struct config_nearest near = { .wrong = name };

    for (size_t i = 0; i < command_count; i++) {
        if (!command_table[i].is_hidden)
            config_nearest_see(&near, command_table[i].name);
    }
    if (near.best)
        return FAIL(ERR_BADARG, "unknown command \"%.60s\"; did you mean \"%s\"?", name, near.best);
    return FAIL(ERR_BADARG, "unknown command \"%.60s\"; `onestep help` lists the known ones", name);
}
