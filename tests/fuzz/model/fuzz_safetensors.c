/* A weights file: what is accepted covers the data exactly, every tensor is found by its name, and
 * can be read from its first element to its last. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/model/safetensors.h"

static void read_tensor(const struct safetensors *s, const struct safetensors_tensor *t)
{
    int64_t product = 1;
    char shape[128], tiny[4];
    float *values;

    CHECK(safetensors_find(s, t->name) == t);
    CHECK(t->rank >= 0 && t->rank <= SAFETENSORS_RANK_MAX);
    for (int i = 0; i < t->rank; i++)
        product *= t->shape[i];
    CHECK(product == t->count && t->count >= 0);
    CHECK(safetensors_shape_text(t->shape, t->rank, shape, sizeof(shape))[0] == '[');
    safetensors_shape_text(t->shape, t->rank, tiny, sizeof(tiny));
    values = malloc((size_t)t->count * sizeof(*values) + 1);
    CHECK(values);
    if (safetensors_read_f32(t, 0, t->count, values) == OK) {
        CHECK(t->bytes == (size_t)t->count * (t->dtype == SAFETENSORS_F32 ? 4 : 2));
        CHECK(safetensors_read_f32(t, t->count, 0, values) == OK);
        if (t->count)
            CHECK(safetensors_read_f32(t, t->count - 1, 1, values) == OK);
    }
    free(values);
}

/* Of two tensors with bytes in them, one ends before the other begins. */
static void expect_apart(const struct safetensors_tensor *a, const struct safetensors_tensor *b)
{
    CHECK(!a->bytes || !b->bytes || a->data + a->bytes <= b->data || b->data + b->bytes <= a->data);
}

static void read_all(const struct safetensors *s, const uint8_t *bytes, size_t len)
{
    size_t covered = (size_t)(s->header - bytes) + s->header_bytes;

    CHECK(!safetensors_find(s, "no such tensor, surely"));
    for (size_t i = 0; i < s->count; i++) {
        const struct safetensors_tensor *t = &s->tensors[i];

        CHECK(i == 0 || strcmp(s->tensors[i - 1].name, t->name) < 0);
        CHECK(t->data >= bytes && t->bytes <= (size_t)(bytes + len - t->data));
        covered += t->bytes;
        for (size_t j = 0; j < i; j++)
            expect_apart(&s->tensors[j], t);
        read_tensor(s, t);
    }
    CHECK(covered == len);
    for (size_t i = 0; i < s->meta_count; i++)
        CHECK(safetensors_meta_find(s, s->metas[i].key));
}

FUZZ(safetensors, 8 << 10)
{
    struct safetensors s = { 0 };

    if (safetensors_parse(&s, "fuzz.safetensors", bytes, len) == OK)
        read_all(&s, bytes, len);
    else
        CHECK(!s.tensors && !s.doc.root);
    safetensors_close(&s);
}
