/* same.h - do two messages, or two job specs, say the same? */
#ifndef ONESTEP_TESTS_FUZZ_PROTO_SAME_H
#define ONESTEP_TESTS_FUZZ_PROTO_SAME_H

#include <stdbool.h>

#include "proto/msg.h"

/* Every parameter has the same value. 0 and -0 are the same, and so are NaN and NaN. */
bool same_spec(const struct job_spec *a, const struct job_spec *b);

/* Type, seq and every member are the same. */
bool same_msg(const struct msg *a, const struct msg *b);

#endif
