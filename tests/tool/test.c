/* The runner forks one process per test, a few at a time, with stdout and stderr in a file. It
 * sleeps in sigtimedwait until a child ends or the nearest deadline passes. Every test leads a
 * process group of its own, which is killed when the test is over, so that nothing it started
 * stays behind. */
#include "tests/tool/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"

#define EXIT_SKIPPED 77
#define EXIT_USAGE 2
#define EXIT_NOTHING_RAN 3
#define SHOWN_BYTES_MAX (16 << 10)
#define JOBS_MAX 16

#if defined(__SANITIZE_THREAD__)
#define SLOWDOWN 10
#elif defined(__SANITIZE_ADDRESS__)
#define SLOWDOWN 5
#else
#define SLOWDOWN 1
#endif

/* libzmq is not compiled with ThreadSanitizer, which then cannot see how its threads hand over. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libzmq.so\n";
}

/* The one exception to "no globals": TEST registers before main, and a test body takes no
 * argument. */
static struct {
    struct test_case *first;
    struct test_case **last;
    char suite[64];
    char bin_dir[PATH_MAX];
    const char *tmp;      /* --tmp: where run_dir is made */
    char run_dir[112];    /* holds the tests' directories and outputs */
    char test_dir[128];   /* in a test: its directory */
    bool has_test_dir;    /* in a test: test_tmpdir was called */
    uint64_t seed;        /* --seed */
    uint64_t random;      /* in a test: state of test_random */
    const char **filters; /* substrings of test names */
    int filter_count;
    int jobs;
    bool no_skip;
    bool list;
} harness;

struct slot {
    const struct test_case *test; /* NULL while the slot is free */
    pid_t pid;
    int64_t deadline_ms;
    bool timed_out;
};

struct tally {
    int passed, failed, skipped;
};

void test_add(struct test_case *test)
{
    if (!harness.last)
        harness.last = &harness.first;
    *harness.last = test;
    harness.last = &test->next;
}

/* "test_buf.grows": stem of the file, then the name. */
static const char *full_name(const struct test_case *test, char *dst, size_t room)
{
    const char *stem = strrchr(test->file, '/');

    stem = stem ? stem + 1 : test->file;
    snprintf(dst, room, "%.*s.%s", (int)strcspn(stem, "."), stem, test->name);
    return dst;
}

/* --- what a test calls ----------------------------------------------------------------------- */

_Noreturn static void finish(int code)
{
    fflush(NULL);
    _exit(code);
}

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    finish(1);
}

_Noreturn void test_skip(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(stdout, fmt, args);
    va_end(args);
    fputc('\n', stdout);
    finish(EXIT_SKIPPED);
}

void test_expect_status(const char *file, int line, const char *expr, status got, status want)
{
    if (got == want)
        return;
    test_fail(file, line, "%s is %s, want %s; last failure: %s (%s)", expr, status_name(got),
              status_name(want), status_message(), status_where());
}

void test_expect_message(const char *file, int line, const char *part)
{
    if (!strstr(status_message(), part))
        test_fail(file, line, "\"%s\" does not say \"%s\"", status_message(), part);
}

void test_expect_text(const char *file, int line, const char *expr, const char *got,
                      const char *want)
{
    if (got == want || (got && want && strcmp(got, want) == 0))
        return;
    test_fail(file, line, "%s is\n  %s\nwant\n  %s", expr, got ? got : "(NULL)",
              want ? want : "(NULL)");
}

void test_expect_int(const char *file, int line, const char *expr, long long got, long long want)
{
    if (got != want)
        test_fail(file, line, "%s is %lld, want %lld", expr, got, want);
}

void test_expect_near(const char *file, int line, const char *expr, double got, double want,
                      double tol)
{
    if (!(fabs(got - want) <= tol))
        test_fail(file, line, "%s is %.17g, want %.17g within %.3g (off by %.3g)", expr, got, want,
                  tol, fabs(got - want));
}

const char *test_tmpdir(void)
{
    if (!harness.has_test_dir) {
        if (mkdir(harness.test_dir, 0700) != 0)
            test_fail(__FILE__, __LINE__, "mkdir %s: %s", harness.test_dir, strerror(errno));
        harness.has_test_dir = true;
    }
    return harness.test_dir;
}

const char *test_bin_dir(void)
{
    return harness.bin_dir;
}

uint64_t test_seed(void)
{
    return harness.seed;
}

/* splitmix64, Steele, Lea and Flood 2014: one add and three mixing steps per value. */
uint64_t test_random(void)
{
    uint64_t z = harness.random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double test_uniform(void)
{
    return (double)(test_random() >> 11) * 0x1p-53;
}

double test_normal(void)
{
    double radius = sqrt(-2.0 * log(1.0 - test_uniform()));

    return radius * cos(6.283185307179586 * test_uniform());
}

/* --- the runner ------------------------------------------------------------------------------ */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st, (void)type, (void)walk;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A run that cannot even start is reported like a failing suite. */
_Noreturn static void refuse(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", harness.suite, what, why);
    exit(EXIT_USAGE);
}

static uint64_t hash_text(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

static void child_paths(pid_t pid, char *dir, size_t dir_room, char *out, size_t out_room)
{
    snprintf(dir, dir_room, "%s/%d", harness.run_dir, (int)pid);
    snprintf(out, out_room, "%s/%d.out", harness.run_dir, (int)pid);
}

_Noreturn static void child_main(const struct test_case *test, pid_t runner)
{
    char out[128], name[192];
    sigset_t none;
    int fd;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != runner)
        _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    child_paths(getpid(), harness.test_dir, sizeof(harness.test_dir), out, sizeof(out));
    fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
        _exit(1);
    close(fd);
    fd = open("/dev/null", O_RDONLY);
    if (fd < 0 || dup2(fd, STDIN_FILENO) < 0)
        _exit(1);
    close(fd);
    setvbuf(stdout, NULL, _IOLBF, 0);
    harness.random = hash_text(harness.seed, full_name(test, name, sizeof(name)));
    test->run();
    /* exit, not _exit: leak reports come from an exit handler. */
    exit(0);
}

static void start(struct slot *slot, const struct test_case *test)
{
    pid_t runner = getpid();

    fflush(NULL);
    slot->pid = fork();
    if (slot->pid < 0)
        refuse("fork", strerror(errno));
    if (slot->pid == 0)
        child_main(test, runner);
    setpgid(slot->pid, slot->pid);
    slot->test = test;
    slot->timed_out = false;
    slot->deadline_ms = clock_mono_ms() + (int64_t)test->timeout_s * SLOWDOWN * 1000;
}

/* The end of what the test printed, indented. */
static void show_output(const char *path)
{
    static char text[SHOWN_BYTES_MAX + 1];
    FILE *f = fopen(path, "r");
    size_t len;

    if (!f)
        return;
    if (fseek(f, -SHOWN_BYTES_MAX, SEEK_END) != 0)
        rewind(f);
    len = fread(text, 1, SHOWN_BYTES_MAX, f);
    fclose(f);
    text[len] = '\0';
    for (char *line = text, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        printf("    %.*s\n", (int)(end - line), line);
        end += *end == '\n';
    }
}

static void describe_end(const struct slot *slot, int wait_status, char *dst, size_t room)
{
    if (slot->timed_out)
        snprintf(dst, room, "still running after %d s", slot->test->timeout_s * SLOWDOWN);
    else if (WIFSIGNALED(wait_status))
        snprintf(dst, room, "killed by SIG%s", sigabbrev_np(WTERMSIG(wait_status)));
    else if (WEXITSTATUS(wait_status) == EXIT_SKIPPED)
        snprintf(dst, room, "skipped, and --no-skip was given");
    else
        snprintf(dst, room, "exit code %d", WEXITSTATUS(wait_status));
}

static void report(struct slot *slot, int wait_status, struct tally *tally)
{
    char dir[128], out[128], name[192], how[96];
    bool exited = WIFEXITED(wait_status) && !slot->timed_out;

    kill(-slot->pid, SIGKILL);
    child_paths(slot->pid, dir, sizeof(dir), out, sizeof(out));
    full_name(slot->test, name, sizeof(name));
    if (exited && WEXITSTATUS(wait_status) == 0) {
        tally->passed++;
        remove_tree(dir);
    } else if (exited && WEXITSTATUS(wait_status) == EXIT_SKIPPED && !harness.no_skip) {
        tally->skipped++;
        printf("SKIP %s\n", name);
        show_output(out);
        remove_tree(dir);
    } else {
        tally->failed++;
        describe_end(slot, wait_status, how, sizeof(how));
        printf("FAIL %s: %s (--seed %llu)\n", name, how, (unsigned long long)harness.seed);
        show_output(out);
        if (access(dir, F_OK) == 0)
            printf("    its files are in %s\n", dir);
    }
    unlink(out);
    slot->test = NULL;
}

static void reap(struct slot *slots, struct tally *tally)
{
    int wait_status;

    for (int i = 0; i < harness.jobs; i++) {
        if (slots[i].test && waitpid(slots[i].pid, &wait_status, WNOHANG) == slots[i].pid)
            report(&slots[i], wait_status, tally);
    }
}

/* Sleep until a child ends or the nearest deadline; kill what is late or, on Ctrl-C, everything. */
static void wait_for_change(struct slot *slots, const sigset_t *signals)
{
    int64_t now_ms = clock_mono_ms(), nearest_ms = now_ms + 3600 * 1000;
    struct timespec pause;
    int sig;

    for (int i = 0; i < harness.jobs; i++) {
        if (!slots[i].test)
            continue;
        if (slots[i].deadline_ms <= now_ms && !slots[i].timed_out) {
            slots[i].timed_out = true;
            kill(-slots[i].pid, SIGKILL);
        }
        if (!slots[i].timed_out && slots[i].deadline_ms < nearest_ms)
            nearest_ms = slots[i].deadline_ms;
    }
    pause.tv_sec = (nearest_ms - now_ms) / 1000;
    pause.tv_nsec = (nearest_ms - now_ms) % 1000 * 1000000;
    sig = sigtimedwait(signals, NULL, &pause);
    if (sig != SIGINT && sig != SIGTERM)
        return;
    for (int i = 0; i < harness.jobs; i++) {
        if (slots[i].test)
            kill(-slots[i].pid, SIGKILL);
    }
    remove_tree(harness.run_dir);
    refuse("stopped by", sigabbrev_np(sig));
}

static bool is_selected(const struct test_case *test)
{
    char name[192];

    full_name(test, name, sizeof(name));
    for (int i = 0; i < harness.filter_count; i++) {
        if (strstr(name, harness.filters[i]))
            return true;
    }
    return harness.filter_count == 0;
}

static const struct test_case *next_selected(const struct test_case *test)
{
    while (test && !is_selected(test))
        test = test->next;
    return test;
}

static struct tally run_all(void)
{
    struct slot slots[JOBS_MAX] = { 0 };
    struct tally tally = { 0 };
    const struct test_case *next = next_selected(harness.first);
    sigset_t signals;
    int running;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    do {
        running = 0;
        for (int i = 0; i < harness.jobs; i++) {
            if (!slots[i].test && next) {
                start(&slots[i], next);
                next = next_selected(next->next);
            }
            running += slots[i].test != NULL;
        }
        if (running)
            wait_for_change(slots, &signals);
        reap(slots, &tally);
    } while (running);
    return tally;
}

static void list_all(void)
{
    char name[192];

    for (const struct test_case *t = next_selected(harness.first); t; t = next_selected(t->next))
        printf("%s\n", full_name(t, name, sizeof(name)));
}

static void find_own_place(void)
{
    char exe[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;

    if (len < 0)
        refuse("/proc/self/exe", strerror(errno));
    exe[len] = '\0';
    slash = strrchr(exe, '/');
    snprintf(harness.suite, sizeof(harness.suite), "%.63s", slash + 1);
    *slash = '\0';
    snprintf(harness.bin_dir, sizeof(harness.bin_dir), "%s", exe);
}

static void enter_project_root(void)
{
    char here[PATH_MAX];

    while (access("tests/tool/test.h", F_OK) != 0) {
        if (!getcwd(here, sizeof(here)) || strcmp(here, "/") == 0 || chdir("..") != 0)
            refuse("not inside the project", "run it from the folder with the Makefile");
    }
}

static const char *value_of(int argc, char **argv, int *i)
{
    if (*i + 1 >= argc)
        refuse(argv[*i], "wants a value");
    return argv[++*i];
}

static void set_bin_dir(const char *path)
{
    if (!realpath(path, harness.bin_dir))
        refuse(path, strerror(errno));
}

static void parse_args(int argc, char **argv)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    harness.jobs = cores > 1 ? 2 : 1;
    harness.seed = 1;
    harness.tmp = "/tmp";
    harness.filters = calloc((size_t)argc, sizeof(char *));
    if (!harness.filters)
        refuse("start", strerror(errno));
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0)
            harness.list = true;
        else if (strcmp(argv[i], "--no-skip") == 0)
            harness.no_skip = true;
        else if (strcmp(argv[i], "--seed") == 0)
            harness.seed = strtoull(value_of(argc, argv, &i), NULL, 0);
        else if (strcmp(argv[i], "--jobs") == 0)
            harness.jobs = atoi(value_of(argc, argv, &i));
        else if (strcmp(argv[i], "--bin") == 0)
            set_bin_dir(value_of(argc, argv, &i));
        else if (strcmp(argv[i], "--tmp") == 0)
            harness.tmp = value_of(argc, argv, &i);
        else if (strcmp(argv[i], "--filter") == 0)
            harness.filters[harness.filter_count++] = value_of(argc, argv, &i);
        else if (argv[i][0] != '-')
            harness.filters[harness.filter_count++] = argv[i];
        else
            refuse(argv[i], "not an option; use [--list] [--no-skip] [--seed N] [--jobs N] "
                            "[--bin DIR] [--tmp DIR] [[--filter] TEXT]...");
    }
    if (harness.jobs < 1 || harness.jobs > JOBS_MAX)
        refuse("--jobs", "wants a number from 1 to 16");
}

int main(int argc, char **argv)
{
    struct tally tally;

    find_own_place();
    parse_args(argc, argv);
    enter_project_root();
    if (harness.list) {
        list_all();
        return 0;
    }
    snprintf(harness.run_dir, sizeof(harness.run_dir), "%s/onestep-test-XXXXXX", harness.tmp);
    if (!mkdtemp(harness.run_dir))
        refuse(harness.run_dir, strerror(errno));
    tally = run_all();
    rmdir(harness.run_dir); /* stays when a failed test left its files */
    printf("suite %s: %d passed, %d failed, %d skipped\n", harness.suite, tally.passed,
           tally.failed, tally.skipped);
    free(harness.filters);
    if (tally.failed)
        return 1;
    return tally.passed + tally.skipped ? 0 : EXIT_NOTHING_RAN;
}
