#include "client/fleet.h"

#include <string.h>

#include "client/output.h"

status fleet_visit(const struct options *options, fleet_fn visit, void *self)
{
    struct options one = *options;
    struct session session = { 0 };
    int answered = 0;
    status st = OK;

    if (options->broker.count == 0)
        return FAIL(ERR_BADARG, "no broker is known: give --broker tcp://HOST:PORT");
    for (int i = 0; i < options->broker.count; i++) {
        one.broker.count = 1;
        memcpy(one.broker.item[0], options->broker.item[i], sizeof(one.broker.item[0]));
        TRY(session_connect(&session, &one));
        st = visit(self, &session, options->broker.item[i]);
        session_close(&session);
        answered += st != ERR_UNAVAILABLE;
        if (st == ERR_UNAVAILABLE && options->broker.count > 1)
            output_note("%s", status_message());
        if (st != ERR_UNAVAILABLE)
            TRY(st);
    }
    if (answered > 0) {
        status_clear();
        return OK;
    }
    st = ERR_UNAVAILABLE; /* its sentence is that of the last */
out:
    session_close(&session);
    return st;
}
