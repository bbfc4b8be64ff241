/* interrupt.h - Ctrl-C and SIGTERM as something to poll for, so that a command can end in order. */
#ifndef ONESTEP_CLIENT_INTERRUPT_H
#define ONESTEP_CLIENT_INTERRUPT_H

#include <stdbool.h>

#include "common/base/status.h"

/* From now on SIGINT, SIGTERM and SIGHUP make *fd readable instead of ending the process; *fd is
 * -1 on an error. Call before threads start. Errors: ERR_IO. */
MUST_USE status interrupt_open(int *fd);

/* Take a signal that arrived; false when there was none. */
bool interrupt_take(int fd);

/* Back to normal; for the end, and for a child before it becomes another program. Accepts -1. */
void interrupt_close(int fd);

#endif
