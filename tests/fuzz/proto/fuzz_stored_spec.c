/* A job spec's bytes, as the store gives them back: whatever they are, what the decoder and the
 * check accept is written again as something that means the same. */
#include <string.h>

#include "common/base/buf.h"
#include "proto/codec.h"
#include "proto/spec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/proto/same.h"

FUZZ(stored_spec, 8 << 10)
{
    struct job_spec spec, back;
    struct buf first = { 0 }, second = { 0 };

    if (codec_spec_decode(&spec, bytes, len) == OK && spec_check(&spec) == OK) {
        CHECK(codec_spec_encode(&spec, &first) == OK);
        CHECK(codec_spec_decode(&back, first.data ? first.data : "", first.len) == OK);
        CHECK(same_spec(&spec, &back) && spec_check(&back) == OK);
        CHECK(codec_spec_encode(&back, &second) == OK);
        CHECK(first.len == second.len);
        CHECK(first.len == 0 || memcmp(first.data, second.data, first.len) == 0);
    }
    buf_free(&first);
    buf_free(&second);
}
