/* status.h - what a function that can fail returns, and the one sentence that says why.
 *
 * The first failure writes its sentence (thread-local, with file and line); callers pass the code
 * up with TRY and add nothing. Whoever finally handles the error reads it with status_message() and
 * logs it once. Bad luck is a status; a bug is a CHECK.
 * Thread: any; the message belongs to the thread that failed. */
#ifndef ONESTEP_COMMON_BASE_STATUS_H
#define ONESTEP_COMMON_BASE_STATUS_H

#include <stdbool.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* A code exists when it asks for a reaction of its own: retry, give up, wait, ask the user. */
typedef enum {
    OK = 0,
    ERR_BADARG,      /* the request is wrong; the same request will always fail */
    ERR_NOTFOUND,    /* the thing that was named does not exist */
    ERR_CONFLICT,    /* the thing exists already and differs, or its state forbids the request */
    ERR_CORRUPT,     /* bytes are not what they claim to be (image, weights, message) */
    ERR_IO,          /* a read or write failed; may work later or elsewhere */
    ERR_UNAVAILABLE, /* a service (broker, Redis, storage) does not answer */
    ERR_TIMEOUT,     /* a deadline passed */
    ERR_FULL,        /* no room: disk, queue, quota */
    ERR_NOMEM,       /* no memory on the host or the device for this request */
    ERR_DEVICE,      /* the compute device is broken; the worker must stop */
    ERR_CANCELLED,   /* somebody asked to stop */
    STATUS_COUNT
} status;

/* Record the sentence and return code. Use through FAIL. */
status status_set(status code, const char *file, int line, const char *fmt, ...) PRINTF_LIKE(4, 5);

#define FAIL(code, ...) status_set((code), __FILE__, __LINE__, __VA_ARGS__)

/* In a function with `status st` and one exit label `out:`. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        st = (expr);                                                                               \
        if (st != OK)                                                                              \
            goto out;                                                                              \
    } while (0)

/* The sentence of this thread's last failure; "" when there was none. Valid until the next FAIL. */
const char *status_message(void);

/* "file.c:123" of this thread's last failure, for debug logs. */
const char *status_where(void);

/* Forget the sentence: call at the top of each job and each request. */
void status_clear(void);

/* Lower-case word for logs, wire and metrics ("badarg", "io", ...). This function can't fail. */
const char *status_name(status code);

/* The code with that name; STATUS_COUNT when there is none. */
status status_from_name(const char *name);

/* May the same work succeed if it is tried again later or elsewhere? The only reader retries
 * have. */
bool status_is_retryable(status code);

/* Exit code of a program that ends with this status; the table is in the man page onestep(1). */
int status_exit_code(status code);

#endif
