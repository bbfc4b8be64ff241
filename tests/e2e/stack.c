#include "tests/e2e/stack.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/tool/test.h"

/* --- files ------------------------------------------------------------------------------------ */

static char *next_path(void)
{
    static char paths[32][FILE_PATH_BYTES];
    static unsigned next;

    return paths[next++ % 32];
}

const char *stack_path(const char *name)
{
    char *path = next_path();

    EXPECT_OK(file_join(path, FILE_PATH_BYTES, test_tmpdir(), name));
    return path;
}

const char *stack_source(const char *path)
{
    char *absolute = next_path(), *real = realpath(path, NULL);

    if (!real)
        test_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
    snprintf(absolute, FILE_PATH_BYTES, "%s", real);
    free(real);
    return absolute;
}

const char *stack_model(void)
{
    return stack_source("tests/fixtures/tiny-a");
}

const char *stack_write(const char *name, const char *text)
{
    const char *path = stack_path(name);

    EXPECT_OK(file_write_atomic(path, text, strlen(text)));
    return path;
}

/* --- programs --------------------------------------------------------------------------------- */

static void become(const struct stack_program *p, const char *program, const char *const *args,
                   pid_t parent)
{
    char path[FILE_PATH_BYTES];
    const char *argv[STACK_ARGS_MAX + 2] = { program };
    int out = open(p->out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = open(p->err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int null = open("/dev/null", O_RDONLY);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || out < 0 || err < 0 || null < 0)
        _exit(125);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    for (int i = 0; args[i] && i < STACK_ARGS_MAX; i++)
        argv[i + 1] = args[i];
    snprintf(path, sizeof(path), "%s/%s", test_bin_dir(), program);
    setenv("XDG_CONFIG_HOME", test_tmpdir(), 1);
    setenv("XDG_RUNTIME_DIR", test_tmpdir(), 1);
    execv(path, (char *const *)(uintptr_t)argv);
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    _exit(126);
}

void stack_begin(struct stack_program *p, const char *program, const char *const *args)
{
    static int number;
    char name[64];
    pid_t parent = getpid();

    snprintf(name, sizeof(name), "%d-%s.out", ++number, program);
    snprintf(p->out_path, sizeof(p->out_path), "%s", stack_path(name));
    snprintf(name, sizeof(name), "%d-%s.err", number, program);
    snprintf(p->err_path, sizeof(p->err_path), "%s", stack_path(name));
    fflush(NULL);
    p->pid = fork();
    EXPECT(p->pid >= 0);
    if (p->pid == 0)
        become(p, program, args, parent);
}

static const char *read_all(const char *path, struct buf *b)
{
    EXPECT_OK(file_read(path, 16 << 20, b));
    return b->len ? b->data : "";
}

struct stack_output stack_end(struct stack_program *p)
{
    static struct buf out, err;
    struct stack_output o;
    int wait_status;

    EXPECT(p->pid > 0);
    EXPECT(waitpid(p->pid, &wait_status, 0) == p->pid);
    p->pid = 0;
    o.code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    o.out = read_all(p->out_path, &out);
    o.err = read_all(p->err_path, &err);
    return o;
}

struct stack_output stack_run(const char *program, const char *const *args)
{
    struct stack_program p;

    stack_begin(&p, program, args);
    return stack_end(&p);
}

void stack_kill(struct stack_program *p)
{
    if (p->pid == 0)
        return;
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    p->pid = 0;
}

bool stack_has_ended(const struct stack_program *p)
{
    siginfo_t info = { 0 };

    return p->pid == 0 || (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
                           info.si_pid != 0);
}

void stack_expect(const struct stack_output *o, int code, const char *part)
{
    if (o->code != code)
        test_fail(__FILE__, __LINE__, "exit code %d, not %d\nstdout: %s\nstderr: %s", o->code, code,
                  o->out, o->err);
    if (part && !strstr(o->err, part))
        test_fail(__FILE__, __LINE__, "stderr does not say \"%s\" but:\n%s", part, o->err);
}

/* --- conditions ------------------------------------------------------------------------------- */

/* A text that is waited for in a file. */
struct text_wait {
    const char *path, *part;
    struct buf text;
};

static bool has_text(void *self)
{
    struct text_wait *w = self;

    return file_exists(w->path) && file_read(w->path, 16 << 20, &w->text) == OK && w->text.len &&
           strstr(w->text.data, w->part);
}

void stack_wait_text(const char *path, const char *part)
{
    struct text_wait w = { .path = path, .part = part };

    if (!clock_wait_for(has_text, &w, STACK_WAIT_MS))
        test_fail(__FILE__, __LINE__, "%s never said \"%s\" but:\n%s", path, part,
                  w.text.len ? w.text.data : "nothing");
    buf_free(&w.text);
}

/* A process looked for. */
struct process_wait {
    const char *program, *text;
    pid_t found;
};

static bool command_line_has(const char *pid, const char *program, const char *text)
{
    char path[64], line[8192];
    size_t len;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
    f = fopen(path, "re");
    if (!f)
        return false;
    len = fread(line, 1, sizeof(line) - 1, f);
    fclose(f);
    for (size_t i = 0; i < len; i++) {
        if (line[i] == '\0')
            line[i] = ' ';
    }
    line[len] = '\0';
    return strstr(line, program) && strstr(line, text);
}

static bool find_process(void *self)
{
    struct process_wait *w = self;
    DIR *proc = opendir("/proc");
    struct dirent *entry;

    EXPECT(proc);
    w->found = 0;
    while (!w->found && (entry = readdir(proc))) {
        pid_t pid = (pid_t)atol(entry->d_name);

        if (pid > 0 && pid != getpid() && command_line_has(entry->d_name, w->program, w->text))
            w->found = pid;
    }
    closedir(proc);
    return w->found != 0;
}

static bool is_gone(void *self)
{
    return !find_process(self);
}

pid_t stack_find_process(const char *program, const char *text)
{
    struct process_wait w = { .program = program, .text = text };

    if (!clock_wait_for(find_process, &w, STACK_WAIT_MS))
        test_fail(__FILE__, __LINE__, "no process %s with %s", program, text);
    return w.found;
}

void stack_wait_gone(const char *text)
{
    struct process_wait w = { .program = "", .text = text };

    if (!clock_wait_for(is_gone, &w, 10000))
        test_fail(__FILE__, __LINE__, "process %ld with %s is still there", (long)w.found, text);
}

/* --- JSON ------------------------------------------------------------------------------------- */

struct json_value stack_json(struct json *j, const char *line)
{
    EXPECT_OK(json_parse(j, "line", line, strcspn(line, "\n")));
    return json_root(j);
}

const char *stack_text(const struct json_value *v, const char *key)
{
    const char *text;

    EXPECT_OK(json_get_text(v, key, &text));
    return text;
}

long long stack_int(const struct json_value *v, const char *key)
{
    int64_t value;

    EXPECT_OK(json_get_int(v, key, INT64_MIN, INT64_MAX, &value));
    return value;
}

int stack_lines(const char *text)
{
    int lines = 0;

    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* --- three programs by hand ------------------------------------------------------------------- */

/* A port that nobody listens at just now. */
static int free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    EXPECT(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

void stack_start_redis(struct stack *s)
{
    struct redis_child_config config = { .dir = stack_path("redis") };

    EXPECT_OK(redis_child_start(&s->redis, &config));
}

void stack_start_broker(struct stack *s)
{
    stack_begin(&s->broker, "onestep-broker",
                (const char *const[]){ "--config", stack_path("broker.yaml"), NULL });
}

static bool broker_answers(void *self)
{
    struct stack *s = self;

    return stack_has_ended(&s->broker) ||
           ONESTEP("list", s->broker_flag, "--broker-timeout-ms=1000").code == 0;
}

static void write_yaml(struct stack *s, const struct stack_config *c)
{
    char text[8192], store[FILE_PATH_BYTES + 32];
    int lease_ms = c->lease_ms ? c->lease_ms : 3000;

    snprintf(text, sizeof(text),
             "client_endpoint: tcp://127.0.0.1:%d\n"
             "worker_endpoint: tcp://127.0.0.1:%d\n"
             "redis_url: %s\n"
             "lease_ms: %d\n"
             "heartbeat_ms: %d\n"
             "retry_base_ms: 200\n"
             "retry_cap_ms: 500\n",
             s->client_port, s->worker_port, s->redis.url, lease_ms, lease_ms / 10);
    stack_write("broker.yaml", text);
    snprintf(store, sizeof(store), "blob: \"file://%.1000s\"\n", s->data);
    snprintf(text, sizeof(text),
             "model: \"%.1000s\"\n"
             "brokers: [\"tcp://127.0.0.1:%d\"]\n"
             "input_root: /\n"
             "%s"
             "work_dir: \"%.1000s\"\n"
             "threads: 1\n",
             stack_model(), s->worker_port, c->store ? c->store : store, stack_path("work"));
    stack_write("worker.yaml", text);
}

void stack_open(struct stack *s)
{
    stack_open_with(s, &(struct stack_config){ 0 });
}

void stack_open_with(struct stack *s, const struct stack_config *c)
{
    memset(s, 0, sizeof(*s));
    s->client_port = free_port();
    s->worker_port = free_port();
    snprintf(s->broker_flag, sizeof(s->broker_flag), "--broker=tcp://127.0.0.1:%d", s->client_port);
    snprintf(s->data, sizeof(s->data), "%s", stack_path("data"));
    stack_start_redis(s);
    write_yaml(s, c);
    stack_start_broker(s);
    if (!clock_wait_for(broker_answers, s, STACK_WAIT_MS) || stack_has_ended(&s->broker)) {
        stack_kill(&s->broker);
        test_fail(__FILE__, __LINE__, "the broker does not answer; see %s", s->broker.err_path);
    }
}

void stack_add_worker(struct stack *s, int index)
{
    stack_begin(&s->workers[index], "onestep-worker",
                (const char *const[]){ "--config", stack_path("worker.yaml"), NULL });
}

static void stop(struct stack_program *p)
{
    if (p->pid)
        kill(p->pid, SIGTERM);
}

void stack_close(struct stack *s)
{
    for (int i = 0; i < STACK_WORKERS; i++)
        stop(&s->workers[i]);
    for (int i = 0; i < STACK_WORKERS; i++) {
        if (s->workers[i].pid)
            EXPECT_INT(stack_end(&s->workers[i]).code, 0);
    }
    if (s->broker.pid) {
        stop(&s->broker);
        EXPECT_INT(stack_end(&s->broker).code, 0);
    }
    redis_child_stop(&s->redis);
}

/* A job whose state is waited for. */
struct state_wait {
    struct stack *stack;
    const char *job;
    char line[128]; /* "state":"..." */
};

static bool has_state(void *self)
{
    struct state_wait *w = self;
    struct stack_output o = ONESTEP("status", w->job, "--json", w->stack->broker_flag);

    return o.code == 0 && strstr(o.out, w->line);
}

void stack_wait_state(struct stack *s, const char *job, const char *state)
{
    struct state_wait w = { .stack = s, .job = job };

    snprintf(w.line, sizeof(w.line), "\"state\":\"%s\"", state);
    if (!clock_wait_for(has_state, &w, STACK_WAIT_MS))
        test_fail(__FILE__, __LINE__, "job %s never was %s", job, state);
}

const char *stack_submit(struct stack *s, const char *const *flags)
{
    static char id[JOB_ID_BYTES];
    const char *args[STACK_ARGS_MAX] = { "submit", s->broker_flag,
                                         stack_source("ops/samples/coffee.jpg") };
    struct stack_output o;
    int count = 3;

    while (*flags && count < STACK_ARGS_MAX - 1)
        args[count++] = *flags++;
    o = stack_run("onestep", args);
    stack_expect(&o, 0, NULL);
    EXPECT(strlen(o.out) == JOB_ID_CHARS + 1);
    memcpy(id, o.out, JOB_ID_CHARS);
    id[JOB_ID_CHARS] = '\0';
    return id;
}
