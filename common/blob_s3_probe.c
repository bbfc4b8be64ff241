/* What can this store do? Servers that speak S3 differ where it matters to us, and some accept a
 * header without doing what it says; so each is tried, once per process, on an object of our own.
 * The probe's key and content are the same for everybody: an object that is there already, of an
 * earlier probe, answers the first question with one request. */
#include <string.h>

#include "common/blob_priv.h"

#define PROBE_KEY ".onestep-probe"
#define PROBE_TEXT "Onestep asks here what this store can do.\n"

/* Put the probe; code: of the answer. Errors: what keeps an answer from coming. */
static status put_probe(struct blob_state *s, bool is_conditional, const char *sha256_hex,
                        struct blob_call *k)
{
    status st = OK;

    TRY(blob_call_begin(k, s, HTTP_PUT, PROBE_KEY, ""));
    TRY(blob_call_body(k, PROBE_TEXT, strlen(PROBE_TEXT)));
    if (sha256_hex)
        k->http.q.body_sha256_hex = sha256_hex;
    blob_call_header(k, "Content-Type: text/plain");
    if (is_conditional)
        blob_call_header(k, "If-None-Match: *");
    st = blob_call_do(k, s);
    /* Refusals are answers here. */
    if (st != OK && (k->http.r.code == 412 || k->http.r.code == 501))
        st = OK;
out:
    return st;
}

/* 501: it says that it can't. 200 twice: it does not know what it was told. */
static status probe_put_new(struct blob_state *s)
{
    struct blob_call k = { .header_count = 0 };
    int code = 0;
    status st = OK;

    for (int tries = 0; tries < 2; tries++) {
        TRY(put_probe(s, true, NULL, &k));
        code = k.http.r.code;
        blob_call_end(&k);
        if (code / 100 != 2)
            break;
    }
    s->has_put_new = code == 412;
out:
    blob_call_end(&k);
    return st;
}

/* A server that takes a digest of other bytes does not look at it. */
static status probe_sha256(struct blob_state *s)
{
    static const char wrong[] = "00000000000000000000000000000000"
                                "00000000000000000000000000000000";
    struct blob_call k = { .header_count = 0 };
    status st = put_probe(s, false, wrong, &k);

    s->checks_sha256 = st == ERR_CORRUPT;
    if (st == ERR_CORRUPT)
        st = OK;
    blob_call_end(&k);
    return st;
}

status blob_s3_probe(struct blob_state *s)
{
    status st = OK;

    if (s->is_probed)
        return OK;
    TRY(probe_put_new(s));
    TRY(probe_sha256(s));
    s->is_probed = true;
out:
    return st;
}
