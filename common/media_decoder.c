/* The confined side writes a head and pixels, the other side believes neither. */
#include "common/media.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/limits.h"

/* What goes from one process to the other, followed by rgb [height_px][width_px][3]. */
struct head {
    int width_px, height_px;
    char format[16];
};

static status work(const char *name, const void *input, size_t input_bytes, void *output,
                   size_t room, size_t *len)
{
    struct media_image img;
    struct head h = { 0 };
    size_t bytes;
    status st = media_image_decode(&img, name, input, input_bytes);

    if (st != OK)
        return st;
    h.width_px = img.width_px;
    h.height_px = img.height_px;
    memcpy(h.format, img.format, sizeof(h.format));
    bytes = (size_t)h.width_px * (size_t)h.height_px * 3;
    if (bytes > room - sizeof(h))
        return FAIL(ERR_BADARG, "%s: %d x %d pixels do not fit", name, h.width_px, h.height_px);
    memcpy(output, &h, sizeof(h));
    memcpy((char *)output + sizeof(h), img.rgb, bytes);
    *len = sizeof(h) + bytes;
    return OK; /* the process ends, and the pixels with it */
}

status media_decoder_open(struct media_decoder *d)
{
    const struct box_config config = {
        .work = work,
        .input_bytes_max = LIMIT_IMAGE_BYTES,
        .output_bytes_max = sizeof(struct head) + LIMIT_IMAGE_PIXELS * 3,
        .memory_bytes = LIMIT_DECODE_BYTES,
        .cpu_s = LIMIT_DECODE_S,
        .wall_ms = 2 * LIMIT_DECODE_S * 1000,
    };

    return box_open(&d->box, &config);
}

void media_decoder_close(struct media_decoder *d)
{
    box_close(&d->box);
}

static bool is_sound(const struct head *h, size_t len)
{
    return h->width_px > 0 && h->height_px > 0 &&
           (uint64_t)h->width_px * (uint64_t)h->height_px <= LIMIT_IMAGE_PIXELS &&
           len == sizeof(*h) + (size_t)h->width_px * (size_t)h->height_px * 3 &&
           memchr(h->format, '\0', sizeof(h->format)) &&
           h->format[strspn(h->format, "abcdefghijklmnopqrstuvwxyz")] == '\0';
}

status media_decoder_run(struct media_decoder *d, struct media_image *img, const char *name,
                         const void *bytes, size_t len)
{
    status st = OK;
    struct box_output out;
    struct head h;

    *img = (struct media_image){ 0 };
    TRY(box_run(&d->box, name, bytes, len, &out));
    if (out.len >= sizeof(h))
        memcpy(&h, out.bytes, sizeof(h));
    if (out.len < sizeof(h) || !is_sound(&h, out.len))
        TRY(FAIL(ERR_CORRUPT, "%s: it made its reader give a senseless answer", name));
    img->rgb = malloc(out.len - sizeof(h));
    if (!img->rgb)
        TRY(FAIL(ERR_NOMEM, "%s: no memory for %d x %d pixels", name, h.width_px, h.height_px));
    memcpy(img->rgb, (const char *)out.bytes + sizeof(h), out.len - sizeof(h));
    img->width_px = h.width_px;
    img->height_px = h.height_px;
    memcpy(img->format, h.format, sizeof(h.format));
out:
    box_output_free(&out);
    return st;
}
