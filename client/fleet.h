/* fleet.h - one question to every broker of the settings: each knows only the workers that are
 * connected to it. */
#ifndef ONESTEP_CLIENT_FLEET_H
#define ONESTEP_CLIENT_FLEET_H

#include "client/options.h"
#include "client/session.h"

/* Does something with one broker. A failure ends the round, unless it is ERR_UNAVAILABLE. */
typedef status (*fleet_fn)(void *self, struct session *session, const char *endpoint);

/* Call visit for each broker in the order of the settings. One that does not answer is told in a
 * note, and passed over. Errors: those of visit; ERR_UNAVAILABLE when none answered. */
MUST_USE status fleet_visit(const struct options *options, fleet_fn visit, void *self);

#endif
