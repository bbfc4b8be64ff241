/* DESIGN: protobuf-c trusts its input. Whether text is text is decided here, and memory is handed
 * out on a budget: 256 KiB of empty submessages would otherwise ask for 16 MiB. */
#include <stdlib.h>

#include "proto/proto_priv.h"

#define DECODE_BUDGET_BYTES ((size_t)4 << 20)

/* Length of the UTF-8 sequence at b, 0 when there is none.
 * Source: RFC 3629 section 4: no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t sequence_bytes(const uint8_t *b, size_t len)
{
    size_t need = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;

    if (need == 0 || b[0] > 0xf4 || need > len)
        return 0;
    for (size_t i = 1; i < need; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
        (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f))
        return 0;
    return need;
}

bool codec_is_text(const uint8_t *bytes, size_t len)
{
    size_t i = 0;

    while (i < len) {
        size_t step = sequence_bytes(bytes + i, len - i);

        if (step == 0 || bytes[i] < 0x20 || bytes[i] == 0x7f)
            return false;
        i += step;
    }
    return true;
}

/* The size of each block is kept in front of it, so that free gives the budget back. */
union block {
    size_t bytes;
    max_align_t align;
};

static void *budget_alloc(void *self, size_t bytes)
{
    struct codec_allocator *a = self;
    union block *block;

    if (bytes > a->budget_bytes || a->budget_bytes - bytes < sizeof(*block))
        return NULL;
    block = malloc(sizeof(*block) + bytes);
    if (!block)
        return NULL;
    block->bytes = sizeof(*block) + bytes;
    a->budget_bytes -= block->bytes;
    return block + 1;
}

static void budget_free(void *self, void *ptr)
{
    struct codec_allocator *a = self;
    union block *block = ptr;

    if (!block)
        return;
    block--;
    a->budget_bytes += block->bytes;
    free(block);
}

void codec_allocator_init(struct codec_allocator *a)
{
    *a = (struct codec_allocator){
        .base = { .alloc = budget_alloc, .free = budget_free, .allocator_data = a },
        .budget_bytes = DECODE_BUDGET_BYTES,
    };
}
