/* A photograph from a stranger: it is refused with a sentence, or is a picture of the size it says,
 * which a PNG keeps bit by bit. */
#include <string.h>

#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/media.h"
#include "tests/fuzz/fuzz.h"

/* Larger pictures are decoded, but not carried through a PNG. */
#define CARRIED_PIXELS_MAX (64 * 64)

static size_t pixels_of(const struct media_image *image)
{
    return (size_t)image->width_px * (size_t)image->height_px;
}

static void carry(const struct media_image *image)
{
    struct media_image back = { 0 };
    struct buf png = { 0 };

    CHECK(media_png_encode(&png, image->rgb, image->width_px, image->height_px) == OK);
    CHECK(media_image_decode(&back, "back.png", png.data, png.len) == OK);
    CHECK(back.width_px == image->width_px && back.height_px == image->height_px);
    CHECK(memcmp(back.rgb, image->rgb, 3 * pixels_of(image)) == 0);
    media_image_free(&back);
    buf_free(&png);
}

FUZZ_STORAGE(media, 12 << 10)
{
    struct media_image image = { 0 };
    status st = media_image_decode(&image, "photo", bytes, len);
    unsigned sum = 0;

    if (st == OK) {
        CHECK(image.width_px > 0 && image.height_px > 0);
        CHECK(pixels_of(&image) <= LIMIT_IMAGE_PIXELS);
        CHECK(image.format[0] && memchr(image.format, '\0', sizeof(image.format)));
        for (size_t i = 0; i < 3 * pixels_of(&image); i++)
            sum += image.rgb[i];
        if (pixels_of(&image) <= CARRIED_PIXELS_MAX)
            carry(&image);
    } else {
        CHECK(st == ERR_BADARG || st == ERR_CORRUPT);
        CHECK(strstr(status_message(), "photo"));
        CHECK(!image.rgb);
    }
    CHECK(sum <= 0xffffffffu);
    media_image_free(&image);
}
