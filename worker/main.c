/* DESIGN: main owns what lives as long as the process, opened top to bottom and closed in reverse:
 * settings, model, work folder, crew, agent. Its thread becomes "net" inside agent_run. Signals go
 * to a thread of their own that waits for them, so that no handler has to reach into anything. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/config.h"
#include "common/exporter.h"
#include "worker/agent.h"
#include "worker/crew.h"
#include "worker/meter.h"
#include "worker/plan.h"
#include "worker/workdir.h"

#ifndef ONESTEP_BUILD
#define ONESTEP_BUILD ONESTEP_VERSION
#endif

/* A net thread that did not come round for so long hangs. */
#define HANG_MS 10000

/* Settings; the table below describes them. */
struct worker_config {
    char model[FILE_PATH_BYTES];
    char weights_dir[FILE_PATH_BYTES];
    struct config_list model_name;
    struct config_list brokers;
    char curve_key[FILE_PATH_BYTES];
    char broker_key[FILE_PATH_BYTES];
    char device[32];
    int64_t threads;
    int isa;
    int precision;
    bool cuda_wgmma;
    int64_t memory_max_bytes;
    char input_root[FILE_PATH_BYTES];
    bool allow_private_hosts;
    char cache_dir[FILE_PATH_BYTES];
    int64_t cache_max_bytes;
    int64_t cache_fresh_ms;
    char blob[FILE_PATH_BYTES];
    char s3_endpoint[512];
    char s3_region[64];
    bool s3_path_style;
    char s3_credentials_file[FILE_PATH_BYTES];
    char ca_file[FILE_PATH_BYTES];
    char work_dir[FILE_PATH_BYTES];
    int64_t spool_max_bytes;
    int video_encoder;
    bool prefetch;
    int64_t heartbeat_ms;
    char metrics_listen[64];
    char dump[FILE_PATH_BYTES];
    char plan[64];
    bool json;
    int log_level;
};

/* What --version says of the GPU backend; tests/bench/GPU.md is the report of a run. */
#if ONESTEP_CUDA
#define ONESTEP_CUDA_TEXT "CUDA backend: in this build; run on an NVIDIA H200\n"
#else
#define ONESTEP_CUDA_TEXT "CUDA backend: not in this build, there was no nvcc\n"
#endif

/* The order of enum kern_isa. */
static const char *const isa_names[] = { "auto",        "plain", "avx2", "avx512",
                                         "avx512_bf16", "amx",   NULL };

/* The order of enum kern_precision. */
static const char *const precision_names[] = { "auto", "f32", "bf16", "f16", NULL };

enum { ENCODER_AUTO, ENCODER_X264, ENCODER_NVENC };
static const char *const encoder_names[] = { "auto", "x264", "nvenc", NULL };

#define INT(f, min, max, text, unit, help)                                                         \
    CFG_ROW_INT(struct worker_config, f, min, max, text, unit, help)
#define BOOL(f, text, help) CFG_ROW_BOOL(struct worker_config, f, text, help)
#define TEXT(f, text, help) CFG_ROW_TEXT(struct worker_config, f, text, help)
#define LIST(f, text, help) CFG_ROW_LIST(struct worker_config, f, text, help)
#define CHOICE(f, text, names, help) CFG_ROW_CHOICE(struct worker_config, f, text, names, help)

static const struct config_row rows[] = {
    TEXT(model, NULL,
         "checkpoint: a diffusers folder with model_index.json, or SVD in one .safetensors file"),
    TEXT(weights_dir, "",
         "keeps the loaded weights in a file that the next start maps, and workers of a machine "
         "share: as large as the weights; empty: load them at each start"),
    LIST(model_name, "default", "names under which jobs ask for this model"),
    LIST(brokers, "tcp://127.0.0.1:7451", "worker endpoints of the brokers"),
    TEXT(curve_key, "",
         "file with this worker's secret key (onestep keygen); empty: no encryption"),
    TEXT(broker_key, "", "the brokers' card (broker.pub); goes with curve_key"),
    TEXT(device, "auto",
         "cpu, cuda or cuda:N (GPU number N), ref (slow, exact); auto: cuda if it works, else cpu"),
    INT(threads, 0, 1024, "0", "", "compute threads; 0: one per core"),
    CHOICE(isa, "auto", isa_names, "highest instruction set that the cpu device may use"),
    CHOICE(precision, "auto", precision_names,
           "what products round to: f32, bf16 (on cpu it needs AVX512_BF16 or AMX), or f16 (cuda); "
           "auto: bf16 on cuda, else f32"),
    BOOL(cuda_wgmma, "false",
         "products by wgmma on a Hopper GPU, after a trial at start; no GPU has run them yet"),
    INT(memory_max_bytes, 0, 1e15, "0", "bytes",
        "memory for weights, activations and frames; 0: three quarters of the machine's, or all "
        "that the GPU has free: then one worker per GPU"),
    TEXT(input_root, "", "folders with file:// images, with : between; empty: none"),
    BOOL(allow_private_hosts, "false", "fetch from hosts that are not public and from any port"),
    TEXT(cache_dir, "", "keeps what was fetched, for all workers here; empty: below work_dir"),
    INT(cache_max_bytes, 0, 1e15, "2000000000", "bytes", "in cache_dir; 0: keep nothing"),
    INT(cache_fresh_ms, 0, 1e12, "60000", "ms",
        "how long an address is not asked again whether its image has changed"),
    TEXT(blob, "file://./onestep-data", "where results go: file:///DIR or s3://BUCKET/PREFIX"),
    TEXT(s3_endpoint, "", "http(s)://HOST[:PORT] of the object store; empty: AWS"),
    TEXT(s3_region, "us-east-1", "region of the object store"),
    BOOL(s3_path_style, "false", "address buckets as ENDPOINT/BUCKET"),
    TEXT(s3_credentials_file, "",
         "AWS credentials file; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY come before it"),
    TEXT(ca_file, "", "certificates for https in PEM; empty: the system's"),
    TEXT(work_dir, "", "folder for clips until they are stored; empty: TMPDIR or /tmp"),
    CHOICE(video_encoder, "auto", encoder_names,
           "of H.264: x264, nvenc (a GPU's), or auto: nvenc where there is one"),
    INT(spool_max_bytes, 1, 1e15, "10000000000", "bytes",
        "clips in work_dir that wait for the store; with more the worker takes no jobs"),
    BOOL(prefetch, "true", "fetch the next job's image while one computes"),
    INT(heartbeat_ms, 0, 60000, "0", "ms", "time between heartbeats; 0: as the broker says"),
    TEXT(metrics_listen, "", "ADDRESS:PORT for /metrics, /healthz and /readyz; empty: none"),
    TEXT(dump, "", "write the tensors of every job into this folder, as <job id>.safetensors"),
    TEXT(plan, "",
         "print the memory that a clip of FRAMESxWIDTHxHEIGHT needs, loading nothing, and exit"),
    BOOL(json, "false", "with --plan: as JSON"),
    CHOICE(log_level, "info", config_log_levels, "least level of log lines"),
};

static const struct config_program program = {
    .name = "onestep-worker",
    .summary = "turns photographs into video clips",
    .description =
        "Loads one model, connects to the brokers and runs the jobs they hand out: fetches the "
        "image, computes the clip, encodes it as H.264, stores video, poster and manifest.\n"
        "\n"
        "SIGTERM or SIGINT: takes no more jobs, finishes the running one, exits. A second one: "
        "hands the running job back and exits at once.\n"
        "\n"
        "With --dump DIR every job writes DIR/<job id>.safetensors with named tensors in "
        "diffusers' layouts: image, image_noise, image_embedding, conditioning_latent, "
        "initial_noise, unet_output.<i> (with guidance also .uncond and .cond), step_noise.<i>, "
        "latents.<i>, final_latents, frames; the metadata has every parameter. "
        "tests/reference/compare.py checks such a file against diffusers.\n"
        "\n"
        "Exit codes are those of onestep(1): 3 when the model folder does not exist, 5 when its "
        "files are damaged, 7 when the device is not "
        "there, 10 when memory does not suffice, 11 when the compute device failed.",
    .examples = "onestep-worker --model checkpoints/svd --input-root /srv/photos\n"
                "    serve the model \"default\" at the broker of this machine\n"
                "onestep-worker --config /etc/onestep/worker.yaml\n"
                "    settings from a file\n"
                "onestep-worker --model checkpoints/svd --plan 14x1024x576\n"
                "    how much memory such a clip needs\n",
    .version_text =
        "onestep-worker " ONESTEP_BUILD "\n"
        "devices: cpu (plain C, AVX2, AVX-512, chosen at run time), cuda, ref\n" ONESTEP_CUDA_TEXT,
    .rows = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
};

/* Everything the process owns. */
struct worker {
    struct worker_config cfg;     /* settings */
    struct media_decoder decoder; /* reads images */
    struct pipeline pipeline;     /* the model on its device */
    struct workdir workdir;       /* files being written */
    struct crew crew;             /* the threads that work */
    struct agent *agent;          /* the queue */
    struct metrics *metrics;
    struct exporter *exporter; /* tells about all of this */
    pthread_t signals;         /* thread; valid while has_signals */
    bool has_signals;          /* signals runs */
    atomic_bool is_serving;    /* agent is there for signals */
    bool use_nvenc;            /* H.264 by a GPU */
    atomic_bool is_broken;     /* the device failed */
    atomic_bool is_ending;     /* a signal has come */
};

/* --- the agent and the crew ------------------------------------------------------------------ */

static void on_job(void *self, const struct lease *lease, const struct job_spec *spec)
{
    struct worker *w = self;

    crew_take(&w->crew, lease, spec);
}

static void on_cancel(void *self, const struct lease *lease, enum msg_verdict why)
{
    struct worker *w = self;

    crew_cancel(&w->crew, lease, why);
}

static void on_renew(void *self, const struct lease *lease, int64_t until_ms)
{
    struct worker *w = self;

    crew_renew(&w->crew, lease, until_ms);
}

static void on_start(void *self, const struct lease *lease)
{
    struct worker *w = self;

    agent_start(w->agent, lease);
}

static void on_report(void *self, const struct lease *lease, const char *stage, double progress)
{
    struct worker *w = self;

    agent_report(w->agent, lease, stage, progress);
}

static void on_kept(void *self, const struct lease *lease)
{
    struct worker *w = self;

    agent_kept(w->agent, lease);
}

static void on_full(void *self, bool is_full)
{
    struct worker *w = self;

    agent_pause(w->agent, is_full);
}

static void on_done(void *self, const struct lease *lease, const struct job_result *result)
{
    struct worker *w = self;

    agent_done(w->agent, lease, result);
}

static void on_fail(void *self, const struct lease *lease, status code, const char *sentence)
{
    struct worker *w = self;

    agent_fail(w->agent, lease, code, sentence);
}

static void on_stopped(void *self, const struct lease *lease)
{
    struct worker *w = self;

    agent_stopped(w->agent, lease);
}

static void on_broken(void *self)
{
    struct worker *w = self;

    atomic_store(&w->is_broken, true);
    agent_drain(w->agent);
}

/* --- signals --------------------------------------------------------------------------------- */

static void signal_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGUSR1); /* ours: the thread's own end */
}

/* Before there is a lease to hand back, a signal does what it does to any program. */
static void die_of(int number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
}

static void *signals_main(void *self)
{
    struct worker *w = self;
    sigset_t set;
    int number, seen = 0;

    signal_set(&set);
    while (sigwait(&set, &number) == 0 && number != SIGUSR1) {
        if (!atomic_load(&w->is_serving))
            die_of(number);
        log_info("worker.signal", "signal=%d", number);
        atomic_store(&w->is_ending, true);
        if (seen++ == 0)
            agent_drain(w->agent);
        else
            agent_stop(w->agent);
    }
    return NULL;
}

/* CAREFUL: before any other thread exists, which would take a signal with its default action. */
static status begin_signals(struct worker *w)
{
    sigset_t set;

    signal_set(&set);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return FAIL(ERR_IO, "signals can't be set up: %s", strerror(errno));
    if (pthread_create(&w->signals, NULL, signals_main, w) != 0)
        return FAIL(ERR_NOMEM, "no resources for another thread");
    w->has_signals = true;
    return OK;
}

static void end_signals(struct worker *w)
{
    if (!w->has_signals)
        return;
    pthread_kill(w->signals, SIGUSR1);
    pthread_join(w->signals, NULL);
    w->has_signals = false;
}

/* --- opening --------------------------------------------------------------------------------- */

static status open_pipeline(struct worker *w)
{
    const struct worker_config *cfg = &w->cfg;
    const struct pipeline_config config = {
        .model_dir = cfg->model,
        .weights_dir = cfg->weights_dir,
        .device = cfg->device,
        .kern = { .threads = (int)cfg->threads,
                  .isa = cfg->isa,
                  .precision = (enum kern_precision)cfg->precision,
                  .use_wgmma = cfg->cuda_wgmma },
        .memory_max_bytes = (size_t)cfg->memory_max_bytes,
        .is_plan = cfg->plan[0] != '\0',
    };

    return pipeline_open(&w->pipeline, &config);
}

/* The base of work_dir. */
static const char *work_base(const struct worker *w)
{
    const char *base = w->cfg.work_dir;

    if (!base[0])
        base = config_env("TMPDIR");
    return base ? base : "/tmp";
}

static status open_workdir(struct worker *w)
{
    return workdir_open(&w->workdir, work_base(w));
}

static struct s3_config s3_of(const struct worker_config *cfg)
{
    struct s3_config c = {
        .endpoint = cfg->s3_endpoint,
        .region = cfg->s3_region,
        .path_style = cfg->s3_path_style,
        .credentials = { .file = cfg->s3_credentials_file },
    };

    s3_config_from_env(&c);
    return c;
}

/* Workers of one user on one machine share a cache. */
static status make_cache_dir(const struct worker *w, char dir[FILE_PATH_BYTES])
{
    char name[64];

    if (w->cfg.cache_dir[0])
        return file_join(dir, FILE_PATH_BYTES, "", w->cfg.cache_dir);
    snprintf(name, sizeof(name), "onestep-cache-%ld", (long)geteuid());
    return file_join(dir, FILE_PATH_BYTES, work_base(w), name);
}

/* cache_dir: borrowed, filled before it is used. */
static struct fetch_config fetch_of(const struct worker *w, const char *cache_dir)
{
    const struct worker_config *cfg = &w->cfg;

    return (struct fetch_config){
        .input_root = cfg->input_root,
        .allow_private_hosts = cfg->allow_private_hosts,
        .ca_file = cfg->ca_file[0] ? cfg->ca_file : NULL,
        .s3 = s3_of(cfg),
        .cache = { .dir = cfg->cache_max_bytes ? cache_dir : "",
                   .bytes_max = (uint64_t)cfg->cache_max_bytes,
                   .fresh_ms = cfg->cache_fresh_ms },
        .is_wanted = media_is_image,
        .wanted = MEDIA_KINDS,
    };
}

static status choose_encoder(struct worker *w)
{
    w->use_nvenc = w->cfg.video_encoder != ENCODER_X264 && media_has_nvenc();
    if (w->cfg.video_encoder == ENCODER_NVENC && !w->use_nvenc)
        return FAIL(ERR_NOTFOUND,
                    "video_encoder: nvenc: no GPU here that encodes H.264, or not its "
                    "driver; use auto or x264");
    log_info("video.encoder", "asked=%s h264=%s", encoder_names[w->cfg.video_encoder],
             w->use_nvenc ? "h264_nvenc"
             : w->cfg.video_encoder == ENCODER_AUTO
                 ? "libx264 reason=\"no GPU here that encodes H.264\""
                 : "libx264");
    return OK;
}

static status open_crew(struct worker *w)
{
    const struct worker_config *cfg = &w->cfg;
    const char *ca_file = cfg->ca_file[0] ? cfg->ca_file : NULL;
    char *model_dir = realpath(cfg->model, NULL);
    char cache_dir[FILE_PATH_BYTES];
    const struct crew_config config = {
        .pipeline = &w->pipeline,
        .decoder = &w->decoder,
        .fetch = fetch_of(w, cache_dir),
        .result = { .blob = { .url = cfg->blob, .s3 = s3_of(cfg), .ca_file = ca_file },
                    .work_dir = w->workdir.path,
                    .use_nvenc = w->use_nvenc,
                    .handover = { .allow_private_hosts = cfg->allow_private_hosts,
                                  .ca_file = ca_file },
                    .maker = { .checkpoint = w->pipeline.checkpoint.name,
                               .hash = w->pipeline.checkpoint.hash,
                               .device = pipeline_device(&w->pipeline),
                               .build = ONESTEP_BUILD } },
        .spool_bytes_max = (uint64_t)cfg->spool_max_bytes,
        .metrics = w->metrics,
        .dump_dir = cfg->dump,
        .model_dir = model_dir ? model_dir : cfg->model,
        .ops = { w, on_start, on_report, on_kept, on_full, on_done, on_fail, on_stopped,
                 on_broken },
    };
    status st = make_cache_dir(w, cache_dir);

    if (st == OK)
        st = crew_open(&w->crew, &config);
    free(model_dir);
    return st;
}

static status open_agent(struct worker *w)
{
    const struct worker_config *cfg = &w->cfg;
    const struct agent_sink sink = { w, on_job, on_cancel, on_renew };
    struct agent_config config = {
        .host = "",
        .device = pipeline_device(&w->pipeline),
        .version = ONESTEP_VERSION,
        .memory_mib = (int64_t)(w->pipeline.memory_max_bytes >> 20),
        .curve_key = cfg->curve_key,
        .broker_key = cfg->broker_key,
        .heartbeat_ms = cfg->heartbeat_ms,
        .prefetch = cfg->prefetch,
    };

    if (cfg->brokers.count > AGENT_BROKERS_MAX)
        return FAIL(ERR_BADARG, "brokers: %d endpoints, the limit is %d", cfg->brokers.count,
                    AGENT_BROKERS_MAX);
    if (cfg->model_name.count > MSG_MODELS_MAX)
        return FAIL(ERR_BADARG, "model_name: %d names, the limit is %d", cfg->model_name.count,
                    MSG_MODELS_MAX);
    for (int i = 0; i < cfg->brokers.count; i++)
        config.brokers[config.broker_count++] = cfg->brokers.item[i];
    for (int i = 0; i < cfg->model_name.count; i++)
        config.models[config.model_count++] = cfg->model_name.item[i];
    return agent_open(&w->agent, &config, &sink);
}

/* --- for operators: the exporter's thread ----------------------------------------------------*/

static void refresh(void *self)
{
    struct worker *w = self;

    metrics_set(w->metrics, METER_BROKER_UP, 0, agent_is_up(w->agent));
    metrics_set(w->metrics, METER_MEMORY_MAX, 0, (double)w->pipeline.memory_max_bytes);
}

static bool is_healthy(void *self)
{
    const struct worker *w = self;

    return clock_mono_ms() - agent_turn_ms(w->agent) < HANG_MS && !atomic_load(&w->is_broken);
}

static const char *not_ready(void *self)
{
    const struct worker *w = self;

    if (atomic_load(&w->is_broken))
        return "the compute device failed";
    if (atomic_load(&w->is_ending))
        return "it is stopping";
    return agent_is_up(w->agent) ? NULL : "no broker answers";
}

static status open_exporter(struct worker *w)
{
    const struct exporter_config config = { .listen = w->cfg.metrics_listen,
                                            .metrics = w->metrics,
                                            .self = w,
                                            .refresh = refresh,
                                            .is_healthy = is_healthy,
                                            .not_ready = not_ready };

    return *config.listen ? exporter_open(&w->exporter, &config) : OK;
}

static status print_plan(struct worker *w)
{
    status st = OK;
    struct buf out = { 0 };
    bool fits;

    TRY(plan_write(&out, &w->pipeline, w->cfg.plan, w->cfg.json, &fits));
    fwrite(out.data, 1, out.len, stdout);
    if (w->cfg.json)
        putchar('\n');
    if (!fits)
        st = FAIL(ERR_NOMEM, "a clip of %s does not fit into this worker's memory", w->cfg.plan);
out:
    buf_free(&out);
    return st;
}

static status serve(struct worker *w)
{
    status st = OK;

    TRY(metrics_open(&w->metrics, meter_rows, METER_COUNT));
    TRY(open_workdir(w));
    TRY(choose_encoder(w));
    TRY(open_agent(w));
    TRY(open_exporter(w));
    TRY(open_crew(w)); /* tells the agent at once when its folder is full */
    s3_wipe_env();     /* the stores have what they need */
    atomic_store(&w->is_serving, true);
    log_info("worker.ready",
             "worker=%s model=%s hash=%s weights=%s device=\"%s\" memory_max_mib=%zu "
             "nvenc=%d",
             agent_id(w->agent), w->pipeline.checkpoint.name, w->pipeline.checkpoint.hash,
             w->pipeline.checkpoint.snapshot.data ? "mapped" : "loaded",
             pipeline_device(&w->pipeline), w->pipeline.memory_max_bytes >> 20, w->use_nvenc);
    TRY(agent_run(w->agent));
    if (atomic_load(&w->is_broken))
        TRY(FAIL(ERR_DEVICE, "the compute device failed; see the log line device.failed"));
    log_info("worker.end", "worker=%s", agent_id(w->agent));
out:
    return st;
}

static void close_worker(struct worker *w)
{
    end_signals(w);
    exporter_close(w->exporter);
    crew_close(&w->crew); /* before the agent: a job that stops here still tells it */
    agent_close(w->agent);
    metrics_close(w->metrics);
    workdir_close(&w->workdir);
    pipeline_close(&w->pipeline);
    media_decoder_close(&w->decoder);
}

int main(int argc, char **argv)
{
    struct worker w = { .has_signals = false };
    status st = OK;
    bool is_done = false;

    TRY(config_load(&w.cfg, &program, argc, argv, &is_done));
    if (is_done)
        return 0;
    log_set_level((enum log_level)w.cfg.log_level);
    TRY(media_decoder_open(&w.decoder)); /* CAREFUL: before there are threads and a model */
    TRY(begin_signals(&w));
    TRY(open_pipeline(&w));
    if (w.cfg.plan[0])
        TRY(print_plan(&w));
    else
        TRY(serve(&w));
out:
    if (st != OK)
        fprintf(stderr, "onestep-worker: %s\n", status_message());
    close_worker(&w);
    return status_exit_code(st);
}
