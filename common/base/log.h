/* log.h - one line per event on stderr, key=value, level by consequence.
 *
 *   log_info("worker.ready", "model=%s device=%s", name, device);
 *   -> 2026-11-22T10:00:00.123Z info worker.ready model=tiny device=cpu
 *
 * error: someone must act. warn: we coped. info: life cycle. debug: for developers.
 * Control characters in the text are escaped; no secret ever goes in. Thread: any. */
#ifndef ONESTEP_COMMON_BASE_LOG_H
#define ONESTEP_COMMON_BASE_LOG_H

#include "common/base/status.h"

/* How much a line matters, most first. */
enum log_level { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Drop events above level from now on; the default is LOG_INFO. Call once, before threads start. */
void log_set_level(enum log_level level);

/* The level called name ("error", "warn", "info", "debug"), or -1. */
int log_level_from_name(const char *name);

/* Write one line. event is "noun.verb", at most 64 characters; fmt gives the key=value pairs.
 * This function can't fail. */
void log_write(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

#endif
