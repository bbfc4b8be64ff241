#include "worker/delivery.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/id.h"
#include "worker/attempt.h"

#define PAUSE_FIRST_MS 500
#define PAUSE_MAX_MS 30000
#define PROBE_MS 2000

/* --- the list: under the lock ---------------------------------------------------------------- */

static void append(struct delivery *d, struct spool_item *item)
{
    item->next = NULL;
    if (d->last)
        d->last->next = item;
    else
        d->first = item;
    d->last = item;
}

static struct spool_item *take(struct delivery *d, struct spool_item **at,
                               struct spool_item *before)
{
    struct spool_item *item = *at;

    *at = item->next;
    if (d->last == item)
        d->last = before;
    item->next = NULL;
    return item;
}

/* The first item whose attempt is to stop, else, when a try is due, the first that is; or NULL. */
static struct spool_item *take_next(struct delivery *d, int64_t now_ms)
{
    struct spool_item *before = NULL;

    for (struct spool_item **at = &d->first; *at; before = *at, at = &(*at)->next) {
        if ((*at)->attempt && atomic_load(&(*at)->attempt->cancel))
            return take(d, at, before);
    }
    before = NULL;
    for (struct spool_item **at = &d->first; *at && now_ms >= d->due_ms;
         before = *at, at = &(*at)->next) {
        if (now_ms >= (*at)->due_ms)
            return take(d, at, before);
    }
    return NULL;
}

/* When the next item is due. */
static int64_t next_due_ms(const struct delivery *d)
{
    int64_t first_ms = INT64_MAX;

    for (const struct spool_item *item = d->first; item; item = item->next) {
        if (item->due_ms < first_ms)
            first_ms = item->due_ms;
    }
    return first_ms > d->due_ms ? first_ms : d->due_ms;
}

static void wait_for_change(struct delivery *d, int64_t now_ms)
{
    int64_t ms = d->first ? next_due_ms(d) - now_ms : PAUSE_MAX_MS;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&d->change, &d->lock, &until);
}

static struct spool_item *wait_for_item(struct delivery *d)
{
    struct spool_item *item = NULL;

    pthread_mutex_lock(&d->lock);
    while (!atomic_load(&d->is_closing) && !(item = take_next(d, clock_mono_ms())))
        wait_for_change(d, clock_mono_ms());
    pthread_mutex_unlock(&d->lock);
    return item;
}

/* Count, and tell when the budget is reached or free again. CAREFUL: told under the lock, so that
 * the last word is the true one. */
static void count(struct delivery *d, int64_t bytes)
{
    bool is_full;

    pthread_mutex_lock(&d->lock);
    d->bytes += (uint64_t)bytes;
    is_full = d->bytes >= d->bytes_max;
    if (is_full != d->is_full) {
        d->is_full = is_full;
        if (is_full)
            log_warn("spool.full", "bytes=%" PRIu64 " limit=%" PRIu64, d->bytes, d->bytes_max);
        else
            log_info("spool.room", "bytes=%" PRIu64, d->bytes);
        d->ops.full(d->ops.self, is_full);
    }
    pthread_mutex_unlock(&d->lock);
}

/* --- the thread ------------------------------------------------------------------------------ */

static void end_attempt(struct delivery *d, struct spool_item *item, status st,
                        const struct result_urls *urls)
{
    struct attempt *a = item->attempt;

    item->attempt = NULL;
    if (a)
        d->ops.ended(d->ops.self, a, st, urls);
}

static void drop(struct delivery *d, struct spool_item *item)
{
    int64_t bytes = (int64_t)item->bytes;

    spool_drop(item);
    count(d, -bytes);
}

/* The attempt is to stop, but the clip is finished: only who does not want it loses it. */
static void stop(struct delivery *d, struct spool_item *item)
{
    bool is_unwanted = d->ops.is_unwanted(d->ops.self, item->attempt);

    end_attempt(d, item, ERR_CANCELLED, NULL);
    if (is_unwanted) {
        drop(d, item);
        return;
    }
    pthread_mutex_lock(&d->lock);
    append(d, item);
    pthread_mutex_unlock(&d->lock);
}

/* May the store be as good as new in a while, without anybody having to repair anything? */
static bool will_pass(status st)
{
    return st == ERR_UNAVAILABLE || st == ERR_TIMEOUT || st == ERR_CANCELLED;
}

/* Back to the end of the line; the next try, of whichever item, comes after a pause. A full disk or
 * the like is told to the user, whose next attempt adopts the clip when it is through. */
static void put_back(struct delivery *d, struct spool_item *item, status st)
{
    int64_t half_ms;

    d->pause_ms = d->pause_ms ? 2 * d->pause_ms : PAUSE_FIRST_MS;
    if (d->pause_ms > PAUSE_MAX_MS)
        d->pause_ms = PAUSE_MAX_MS;
    half_ms = d->pause_ms / 2;
    half_ms += (int64_t)(id_random() % (uint64_t)(half_ms + 1));
    item->tries++;
    if (st != ERR_CANCELLED)
        log_warn("result.waits",
                 "job=%s lease=%016" PRIx64 " tries=%d pause_ms=%" PRId64 " error=\"%s\"",
                 item->lease.job, item->lease.nonce, item->tries, half_ms, status_message());
    if (!will_pass(st))
        end_attempt(d, item, st, NULL);
    pthread_mutex_lock(&d->lock);
    d->due_ms = clock_mono_ms() + half_ms;
    append(d, item);
    pthread_mutex_unlock(&d->lock);
}

/* Stored and published, but its user's address does not take it now: only this item waits for
 * another try, and not for ever, since the address may be anybody's. */
static bool put_off(struct delivery *d, struct spool_item *item, status st)
{
    int64_t pause_ms = (int64_t)PAUSE_FIRST_MS << (2 * item->handovers);

    if (!will_pass(st) || (st != ERR_CANCELLED && ++item->handovers >= HANDOVER_TRIES_MAX))
        return false;
    if (pause_ms > PAUSE_MAX_MS)
        pause_ms = PAUSE_MAX_MS;
    item->tries++;
    item->due_ms = clock_mono_ms() + pause_ms;
    log_warn("handover.waits",
             "job=%s lease=%016" PRIx64 " tries=%d pause_ms=%" PRId64 " error=\"%s\"",
             item->lease.job, item->lease.nonce, item->handovers, pause_ms, status_message());
    pthread_mutex_lock(&d->lock);
    append(d, item);
    pthread_mutex_unlock(&d->lock);
    return true;
}

static void deliver(struct delivery *d, struct spool_item *item)
{
    struct attempt *a = item->attempt;
    struct result_urls urls;
    status st;

    status_clear();
    st = result_store(&d->result, item, a ? &a->cancel : &d->is_closing, &urls);
    if (a && st != OK && atomic_load(&a->cancel)) {
        stop(d, item);
        return;
    }
    if (st != OK && urls.is_published) {
        d->due_ms = d->pause_ms = 0;
        if (put_off(d, item, st))
            return;
    } else if (status_is_retryable(st) || will_pass(st)) {
        put_back(d, item, st);
        return;
    }
    d->due_ms = d->pause_ms = 0;
    if (!a && st == OK)
        log_info("result.delivered", "job=%s lease=%016" PRIx64 " adopted=%d", item->lease.job,
                 item->lease.nonce, urls.is_adopted);
    if (!a && st != OK)
        log_error(urls.is_published ? "handover.lost" : "result.lost",
                  "job=%s lease=%016" PRIx64 " error=\"%s\"", item->lease.job, item->lease.nonce,
                  status_message());
    end_attempt(d, item, st, &urls);
    drop(d, item);
}

static void *delivery_main(void *self)
{
    struct delivery *d = self;
    struct spool_item *item;

    while ((item = wait_for_item(d)))
        deliver(d, item);
    return NULL;
}

/* --- outside --------------------------------------------------------------------------------- */

void delivery_add(struct delivery *d, struct spool_item *item)
{
    count(d, (int64_t)item->bytes);
    pthread_mutex_lock(&d->lock);
    append(d, item);
    pthread_cond_signal(&d->change);
    pthread_mutex_unlock(&d->lock);
}

void delivery_wake(struct delivery *d)
{
    pthread_mutex_lock(&d->lock);
    pthread_cond_signal(&d->change);
    pthread_mutex_unlock(&d->lock);
}

/* A clip for a store that this worker does not use would come to nobody's notice there. */
static void take_up(struct delivery *d, struct spool_item *list)
{
    while (list) {
        struct spool_item *item = list;

        list = item->next;
        if (strcmp(item->store, d->result.url) != 0) {
            log_error("spool.foreign", "path=%s store=%s", item->dir, item->store);
            spool_free(item);
            continue;
        }
        log_info("spool.found", "job=%s lease=%016" PRIx64, item->lease.job, item->lease.nonce);
        delivery_add(d, item);
    }
}

/* Signals are for the thread that has the program's handlers. */
static status start_thread(struct delivery *d)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&d->thread, NULL, delivery_main, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 ? OK : FAIL(ERR_NOMEM, "no resources for another thread");
}

static void close_parts(struct delivery *d)
{
    while (d->first) {
        struct spool_item *item = take(d, &d->first, NULL);

        end_attempt(d, item, ERR_CANCELLED, NULL);
        spool_free(item);
    }
    result_close(&d->result);
    pthread_cond_destroy(&d->change);
    pthread_mutex_destroy(&d->lock);
    memset(d, 0, sizeof(*d));
}

/* Ask the store at once what it can do: what will not pass is better heard before the first clip. A
 * store that does not answer is asked again when there is something for it. */
static status probe(struct delivery *d)
{
    char sentence[256];
    bool has_put_new = false;
    status st;

    d->result.blob.deadline_ms = clock_mono_ms() + PROBE_MS;
    st = blob_has_put_new(&d->result.blob, &has_put_new);
    d->result.blob.deadline_ms = 0;
    if (st == OK) {
        log_info("store.probed", "store=%s conditional_put=%d", d->result.url, has_put_new);
        return OK;
    }
    if (!will_pass(st)) {
        snprintf(sentence, sizeof(sentence), "%s", status_message());
        return FAIL(st, "blob: %.60s can't be used: %s", d->result.url, sentence);
    }
    log_warn("store.down", "store=%s error=\"%s\"", d->result.url, status_message());
    status_clear();
    return OK;
}

status delivery_open(struct delivery *d, const struct delivery_config *config)
{
    status st = OK;
    struct spool_item *found = NULL;
    pthread_condattr_t attributes;

    memset(d, 0, sizeof(*d));
    d->ops = config->ops;
    d->bytes_max = config->bytes_max;
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&d->lock, NULL) == 0 &&
          pthread_cond_init(&d->change, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
    TRY(result_open(&d->result, config->result));
    TRY(probe(d));
    TRY(spool_find(&found, d->result.work_dir));
    take_up(d, found);
    TRY(start_thread(d));
    d->is_open = true;
    return OK;
out:
    close_parts(d);
    return st;
}

void delivery_close(struct delivery *d)
{
    if (!d->is_open)
        return;
    atomic_store(&d->is_closing, true);
    delivery_wake(d);
    pthread_join(d->thread, NULL);
    close_parts(d);
}
