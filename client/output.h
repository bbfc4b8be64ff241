/* output.h - what commands print: results on standard output, narration on standard error. */
#ifndef ONESTEP_CLIENT_OUTPUT_H
#define ONESTEP_CLIENT_OUTPUT_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/status.h"
#include "proto/msg.h"

/* Write text to standard output, at once. Errors: ERR_IO, ERR_FULL when that fails. */
MUST_USE status output_text(const char *text);

/* Finish the JSON document of w, which writes into text, and print it as one line; text is then
 * empty. Errors: those of json_write_finish and output_text. */
MUST_USE status output_json(struct json_writer *w, struct buf *text);

/* One line of narration on standard error, after "onestep: ". This function can't fail. */
void output_note(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* The failure st of a whole command with its sentence: on standard error, and as {"error": ...} on
 * standard output when is_json. Nothing when the sentence was told already: whoever tells a failure
 * item by item calls status_clear. This function can't fail. */
void output_failure(status st, bool is_json);

/* Member "error": {code, message}, or null when code is OK. */
void output_write_error(struct json_writer *w, status code, const char *sentence);

/* The object that `onestep status --json` prints. */
void output_write_job(struct json_writer *w, const struct job_status *job);

/* Append one line about the job for people. now_ms: wall clock. Errors: as buf_append. */
MUST_USE status output_job_line(struct buf *text, const struct job_status *job, int64_t now_ms);

/* Append the line above those of output_job_line. Errors: as buf_append. */
MUST_USE status output_job_title(struct buf *text);

/* A file:// URL as the path that people type, anything else as it is; returns dst (room bytes). */
const char *output_address(const char *url, char *dst, size_t room);

/* A duration as "850 ms", "12.3 s", "4 min 5 s", "3 h 20 min"; returns dst (room bytes). */
const char *output_duration(int64_t ms, char *dst, size_t room);

#endif
