/* DESIGN: each rule of the design is broken once, to see that the checker notices. Rules of the
 * library are broken in its text on the way to Redis; a text that is not found ends the run, so
 * that a mutant can't quietly become the original. The others are asked for by name where the
 * rule is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "tests/sim/sim_priv.h"

static const struct mutant {
    const char *name, *broken;
    const char *from, *to; /* in common/store.lua; NULL: not there */
} mutants[] = {
    { "no-fence", "only the holder changes a leased job",
      "local is_same = job.attempt == attempt and job.nonce == nonce", "local is_same = true" },
    { "counter-only", "a lease is attempt and nonce",
      "local is_same = job.attempt == attempt and job.nonce == nonce",
      "local is_same = job.attempt == attempt" },
    { "end-revived", "what has ended stays as it is",
      "if is_leased(job) and is_same then return job end", "if is_same then return job end" },
    { "own-result-reported", "the manifest decides which result it is", NULL, NULL },
    { "manifest-overwritten", "the first manifest stands", NULL, NULL },
    { "no-nonce-in-key", "uploads have keys of their own", NULL, NULL },
    { "no-sweep", "lost leases are swept", NULL, NULL },
    { "count-forgotten", "counts follow the states",
      "if job.state ~= 'unknown' then call('HINCRBY', T .. 'counts', job.state, -1) end", "" },
    { "gauge-forgotten", "gauges of tenants follow the states",
      "if from then call('HINCRBY', key, from, -1) end", "" },
    { "batch-uncounted", "a batch counts its jobs", "call('HINCRBY', key, to, 1)", "" },
    { "cap-ignored", "a tenant holds no more leases than its cap", "or (max > 0 and",
      "or (false and" },
    { "cancel-keeps-lease", "a cancelled job has no lease",
      "drop_lease(id, job)\n  return { worker", "return { worker" },
    { "no-backoff", "a retry waits", "text(now_ms() + wait)", "text(now_ms())" },
    { "tries-uncounted", "a job has so many tries and no more",
      "'started', text(ms), 'tries', job.tries + 1)", "'started', text(ms))" },
    { "attempt-uncounted", "each attempt has its number", "tonumber(job.attempt or '0') + 1",
      "math.max(tonumber(job.attempt or '0'), 1)" },
    { "accepted-before-stored", "stored, then acknowledged", NULL, NULL },
    { "submit-not-idempotent", "the same id is the same job", "if old[1] then return",
      "if false then return" },
    { "lease-ends-early", "a renewed lease is kept", "'leases', '-inf', text(ms), 'LIMIT'",
      "'leases', '-inf', text(ms + 1500), 'LIMIT'" },
    { "spec-kept", "parameters of ended jobs are dropped", "drop_spec(id, job)\n    call", "call" },
};

const char *sim_mutant_name(size_t index, const char **broken)
{
    if (index >= sizeof(mutants) / sizeof(mutants[0]))
        return NULL;
    *broken = mutants[index].broken;
    return mutants[index].name;
}

char *sim_mutant_script(const char *text)
{
    const struct mutant *m = NULL;
    const char *at;
    char *out;
    size_t room;

    for (size_t i = 0; i < sizeof(mutants) / sizeof(mutants[0]); i++) {
        if (sim_is_mutant(mutants[i].name) && mutants[i].from)
            m = &mutants[i];
    }
    if (!m)
        return NULL;
    at = strstr(text, m->from);
    if (!at) {
        fprintf(stderr, "sim: mutant %s: the library has no \"%s\"; adapt tests/sim/sim_mutant.c\n",
                m->name, m->from);
        CHECK(!"a mutant that can't be made");
    }
    room = strlen(text) + strlen(m->to) + 1;
    out = malloc(room);
    CHECK(out);
    snprintf(out, room, "%.*s%s%s", (int)(at - text), text, m->to, at + strlen(m->from));
    return out;
}
