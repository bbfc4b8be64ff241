/* The cache against a source that counts, alone and with others at the same time. */
#include "common/cache.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/digest.h"
#include "tests/tool/test.h"

/* A place that content comes from. */
struct source {
    const char *content, *etag; /* as they are there */
    atomic_int *fetches;        /* that had to send content; may be shared by processes */
    int asked;                  /* times */
    atomic_int *waiting;        /* who asked the cache; fetch waits for all of them; or NULL */
};

#define PROCESSES 4
#define THREADS 8

static bool is_everybody_here(void *self)
{
    return atomic_load((atomic_int *)self) == PROCESSES * THREADS;
}

static status fetch(void *self, struct buf *out, char etag[CACHE_ETAG_ROOM], bool *is_same)
{
    struct source *s = self;

    s->asked++;
    *is_same = *etag && strcmp(etag, s->etag) == 0;
    if (*is_same)
        return OK;
    atomic_fetch_add(s->fetches, 1);
    if (s->waiting)
        EXPECT(clock_wait_for(is_everybody_here, s->waiting, 20000));
    snprintf(etag, CACHE_ETAG_ROOM, "%s", s->etag);
    return s->content ? buf_append_text(out, s->content) : FAIL(ERR_UNAVAILABLE, "gone");
}

static void open_cache(struct cache *c, uint64_t bytes_max, int64_t fresh_ms)
{
    char dir[512];

    snprintf(dir, sizeof(dir), "%s/cache", test_tmpdir());
    EXPECT_OK(cache_open(c, &(struct cache_config){ dir, bytes_max, fresh_ms }));
}

static void expect_get(struct cache *c, struct source *s, const char *name, const char *want)
{
    const struct cache_source from = { .self = s, .fetch = fetch, .wait_ms = 20000 };
    struct buf out = { 0 };

    EXPECT_OK(cache_get(c, name, &from, &out));
    EXPECT(out.len == strlen(want) && memcmp(out.data, want, out.len) == 0);
    buf_free(&out);
}

TEST(storage_cache_asks_once_and_then_whether_it_changed)
{
    struct cache c;
    atomic_int fetches = 0;
    struct source s = { .content = "one", .etag = "e1", .fetches = &fetches };

    open_cache(&c, 1000, 3600000);
    for (int i = 0; i < 5; i++)
        expect_get(&c, &s, "http://h/a", "one");
    EXPECT_INT(s.asked, 1);
    expect_get(&c, &s, "http://h/b", "one");
    EXPECT_INT(s.asked, 2);
    open_cache(&c, 1000, 0); /* never fresh */
    expect_get(&c, &s, "http://h/a", "one");
    EXPECT_INT(s.asked, 3);
    EXPECT_INT(atomic_load(&fetches), 2);
    s.content = "two";
    s.etag = "e2";
    expect_get(&c, &s, "http://h/a", "two");
    EXPECT_INT(atomic_load(&fetches), 3);
    s.etag = "";
    expect_get(&c, &s, "http://h/a", "two"); /* without an ETag it has to be fetched again */
    expect_get(&c, &s, "http://h/a", "two");
    EXPECT_INT(atomic_load(&fetches), 5);
    cache_close(&c);
}

static void damage(const char *sha256_of)
{
    char path[1024], hex[DIGEST_HEX_ROOM];
    uint8_t sha256[DIGEST_BYTES];

    EXPECT_OK(digest_sha256(sha256_of, strlen(sha256_of), sha256));
    snprintf(path, sizeof(path), "%s/cache/data/%s", test_tmpdir(), digest_hex(sha256, hex));
    EXPECT_OK(file_write_atomic(path, "bad", 3));
}

TEST(storage_cache_does_not_believe_its_disk)
{
    struct cache c;
    atomic_int fetches = 0;
    struct source s = { .content = "one", .etag = "e1", .fetches = &fetches };
    const struct cache_source from = { .self = &s, .fetch = fetch };
    struct buf out = { 0 };

    open_cache(&c, 1000, 3600000);
    expect_get(&c, &s, "http://h/a", "one");
    damage("one");
    expect_get(&c, &s, "http://h/a", "one");
    EXPECT_INT(atomic_load(&fetches), 2);
    s.content = NULL;
    EXPECT_STATUS(cache_get(&c, "http://h/gone", &from, &out), ERR_UNAVAILABLE);
    EXPECT_MESSAGE("gone");
    expect_get(&c, &s, "http://h/a", "one");
    buf_free(&out);
    cache_close(&c);
}

TEST(storage_cache_forgets_what_was_not_used_for_longest)
{
    struct cache c;
    atomic_int fetches = 0;
    struct source s = { .etag = "", .fetches = &fetches };
    char name[32], content[101];

    open_cache(&c, 1000, 3600000);
    for (int i = 0; i < 12; i++) { /* 1,200 bytes in all */
        memset(content, 'a' + i, 100);
        content[100] = '\0';
        snprintf(name, sizeof(name), "http://h/%d", i);
        s.content = content;
        expect_get(&c, &s, name, content);
        memset(content, 'a', 100);
        expect_get(&c, &s, "http://h/0", content); /* used all the time */
    }
    EXPECT_INT(atomic_load(&fetches), 12);
    s.content = content;
    expect_get(&c, &s, "http://h/0", content);
    EXPECT_INT(atomic_load(&fetches), 12);
    memset(content, 'b', 100);
    expect_get(&c, &s, "http://h/1", content); /* had to go */
    EXPECT_INT(atomic_load(&fetches), 13);
    memset(content, 'l', 100);
    expect_get(&c, &s, "http://h/11", content); /* had not */
    EXPECT_INT(atomic_load(&fetches), 13);
    cache_close(&c);
}

static void *get_slowly(void *self)
{
    struct cache c;
    atomic_int *counts = self;
    struct source s = {
        .content = "one", .etag = "", .fetches = &counts[0], .waiting = &counts[1]
    };

    open_cache(&c, 1000, 3600000);
    atomic_fetch_add(s.waiting, 1);
    expect_get(&c, &s, "http://h/a", "one");
    cache_close(&c);
    return NULL;
}

/* Threads of several processes want the same: one fetches. */
TEST(storage_cache_fetches_once_for_all_who_wait)
{
    atomic_int *fetches =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[PROCESSES];

    EXPECT(fetches != MAP_FAILED);
    EXPECT(test_tmpdir()); /* made before there are others who would */
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        EXPECT(pids[i] >= 0);
        if (pids[i] == 0) {
            pthread_t threads[THREADS];

            for (int k = 0; k < THREADS; k++)
                EXPECT(pthread_create(&threads[k], NULL, get_slowly, fetches) == 0);
            for (int k = 0; k < THREADS; k++)
                pthread_join(threads[k], NULL);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int code;

        EXPECT(waitpid(pids[i], &code, 0) == pids[i] && code == 0);
    }
    EXPECT_INT(atomic_load(fetches), 1);
}

TEST(storage_cache_wants_a_folder_of_its_own)
{
    struct cache c;
    char dir[512];

    snprintf(dir, sizeof(dir), "%s/open", test_tmpdir());
    EXPECT(mkdir(dir, 0755) == 0 && chmod(dir, 0777) == 0);
    EXPECT_STATUS(cache_open(&c, &(struct cache_config){ dir, 1000, 1000 }), ERR_BADARG);
    EXPECT_MESSAGE("others may write there");
    EXPECT(!c.is_open);
}
