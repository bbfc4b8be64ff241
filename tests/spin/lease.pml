/* lease.pml - one job, its leases and its result, for the model checker SPIN.
 *
 * The store is a record; a replica lags behind it and may take its place. Workers claim, upload,
 * write the manifest if there is none, and complete; they may crash at each of these, and go on
 * after their lease was given to another. Two brokers stand between: one may die after a claim was
 * stored (nobody has the lease then), or after a completion was (the worker says it again to the
 * other broker). A client cancels, and looks at the result.
 *
 * run.sh checks this and its mutants, each of which breaks one rule:
 *   NO_FENCE      anybody may complete a leased job
 *   COUNTER_ONLY  a lease is compared by its attempt alone
 *   COUNTER_KEY   uploads of the same attempt have the same key
 *   NO_MANIFEST   the store alone decides which result it is
 *   NO_SWEEP      a lease that is not renewed never ends
 *   LATE_CANCEL   a job that has ended can still be cancelled */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef CLAIMS
#define CLAIMS 4 /* in all, so that the model is finite */
#endif
#ifndef CRASHES
#define CRASHES 2 /* of workers and brokers */
#endif
#ifndef FAILOVERS
#define FAILOVERS 1
#endif
#define TRIES 3

mtype = { QUEUED, LEASED, DONE, DEAD, CANCELLED };

typedef record {
    mtype state;
    byte attempt, nonce; /* of the present lease */
    byte result          /* nonce of the attempt whose result it is */
};
record store, replica;

byte nonces;           /* handed out */
byte crashes = CRASHES, failovers = FAILOVERS;

/* The object store. */
byte object[CLAIMS + 1]; /* by key: whose bytes */
byte manifest;           /* whose; 0: none */
byte manifest_key;

byte shown;           /* result that the client has seen */
bool is_cancel_acked, is_done_told; /* to the client, since the last failover */

#define ENDED(s) (s == DONE || s == DEAD || s == CANCELLED)
#define QUIET (failovers == 0)

#ifdef NO_FENCE
#define HOLDS(a, n) (store.state == LEASED)
#else
#ifdef COUNTER_ONLY
#define HOLDS(a, n) (store.state == LEASED && store.attempt == a)
#else
#define HOLDS(a, n) (store.state == LEASED && store.attempt == a && store.nonce == n)
#endif
#endif
#ifdef LATE_CANCEL
#define MAY_CANCEL true
#else
#define MAY_CANCEL !ENDED(store.state)
#endif
#ifdef COUNTER_KEY
#define KEY(a, n) a
#else
#define KEY(a, n) n
#endif

inline crash_perhaps()
{
    if
    :: atomic { crashes > 0 -> crashes--; attempt = 0; nonce = 0; result = 0; goto idle }
    :: skip
    fi
}

/* The same call does it, or finds it done (duplicate), or is refused. */
inline complete()
{
    if
    :: HOLDS(attempt, nonce) ->
       assert(store.nonce == nonce); /* only the holder changes a leased job */
       store.state = DONE; store.result = result
    :: else
    fi
}

proctype worker()
{
    byte attempt, nonce, result;
idle:
    do
    :: atomic {
        store.state == QUEUED && store.attempt < TRIES && nonces < CLAIMS ->
        nonces++; nonce = nonces; result = nonce;
        store.attempt++; attempt = store.attempt;
        store.state = LEASED; store.nonce = nonce
       }
       crash_perhaps(); /* also the broker that has the JOB in its hands */
       object[KEY(attempt, nonce)] = nonce;
       crash_perhaps();
#ifndef NO_MANIFEST
       atomic {
        if
        :: manifest == 0 -> manifest = nonce; manifest_key = KEY(attempt, nonce)
        :: else -> result = manifest /* adopt it */
        fi
       }
       crash_perhaps();
#endif
       atomic { complete() }
       if
       :: atomic { crashes > 0 -> crashes--; complete() } /* the broker died: say it to the other */
       :: skip
       fi;
       atomic { attempt = 0; nonce = 0; result = 0 }
    :: atomic { ENDED(store.state) && QUIET -> break }
    :: atomic {
        store.state == QUEUED && (store.attempt >= TRIES || nonces >= CLAIMS) -> store.state = DEAD
       }
    od
}

/* A lease ends, rightly or not. */
proctype sweeper()
{
    do
    :: atomic {
        store.state == LEASED ->
        if
        :: store.attempt >= TRIES || nonces >= CLAIMS -> store.state = DEAD
        :: else -> store.state = QUEUED
        fi;
        store.nonce = 0
       }
    :: atomic { ENDED(store.state) && QUIET -> break }
    od
}

proctype failover()
{
    do
    :: atomic {
        failovers > 0 ->
        replica.state = store.state; replica.attempt = store.attempt;
        replica.nonce = store.nonce; replica.result = store.result
       }
    :: atomic {
        failovers > 0 ->
        failovers--;
        store.state = replica.state; store.attempt = replica.attempt;
        store.nonce = replica.nonce; store.result = replica.result;
        is_cancel_acked = false; is_done_told = false
       }
    :: atomic { failovers == 0 -> break }
    od
}

proctype client()
{
    bool wants_cancel;

    if
    :: wants_cancel = true
    :: skip
    fi;
    do
    :: atomic {
        wants_cancel && !is_cancel_acked && MAY_CANCEL ->
        store.state = CANCELLED; store.nonce = 0; is_cancel_acked = true
       }
    :: atomic { is_done_told && store.state != DONE -> assert(false) } /* an end is an end */
    :: atomic {
        store.state == DONE ->
        assert(!is_cancel_acked);
        assert(shown == 0 || shown == store.result); /* what was shown does not change */
        assert(object[manifest_key] == manifest);    /* the bytes are what the manifest says */
        shown = store.result; is_done_told = true
       }
    :: atomic { ENDED(store.state) && QUIET && (store.state != DONE || shown == store.result) -> break }
    od
}

init
{
    byte i;

    atomic {
        store.state = QUEUED; replica.state = QUEUED;
        for (i : 1 .. WORKERS) { run worker() }
#ifndef NO_SWEEP
        run sweeper();
#endif
        run failover();
        run client()
    }
}

/* No job is lost: it comes to an end. */
ltl ends { <> (store.state == DONE || store.state == DEAD || store.state == CANCELLED) }
