/* Headers of image files, read without libav so that size, kind and completeness are known before
 * anything is allocated. Every read goes through struct span, which answers 0 outside its bounds;
 * the walkers stop at the end of the span. */
#include "common/media_priv.h"

#include <stdio.h>
#include <string.h>

#include "common/base/limits.h"

/* Progressive JPEG: each scan costs a pass over the whole picture; encoders write about ten. */
#define JPEG_SCANS_MAX 100

struct span {
    const uint8_t *bytes;
    size_t len;
    bool is_little; /* byte order of get16 and get32 */
};

static const char *const format_names[MEDIA_FORMAT_COUNT] = {
    [MEDIA_NONE] = "unknown", [MEDIA_JPEG] = "JPEG", [MEDIA_PNG] = "PNG", [MEDIA_WEBP] = "WebP",
    [MEDIA_TIFF] = "TIFF",    [MEDIA_BMP] = "BMP",   [MEDIA_GIF] = "GIF",
};

const char *media_format_name(enum media_format format)
{
    return format_names[format];
}

static bool has(const struct span *s, size_t at, size_t count)
{
    return at <= s->len && count <= s->len - at;
}

static uint32_t get8(const struct span *s, size_t at)
{
    return has(s, at, 1) ? s->bytes[at] : 0;
}

static uint32_t get16(const struct span *s, size_t at)
{
    uint32_t a = get8(s, at), b = get8(s, at + 1);

    return s->is_little ? b << 8 | a : a << 8 | b;
}

static uint32_t get32(const struct span *s, size_t at)
{
    uint32_t a = get16(s, at), b = get16(s, at + 2);

    return s->is_little ? b << 16 | a : a << 16 | b;
}

static bool starts_with(const struct span *s, size_t at, const void *bytes, size_t count)
{
    return has(s, at, count) && memcmp(s->bytes + at, bytes, count) == 0;
}

static struct span part(const struct span *s, size_t at, size_t count, bool is_little)
{
    struct span p = { s->bytes, 0, is_little };

    if (has(s, at, count)) {
        p.bytes = s->bytes + at;
        p.len = count;
    }
    return p;
}

static status truncated(const char *name, enum media_format format, const struct span *s)
{
    return FAIL(ERR_CORRUPT,
                "%s: truncated %s image (%zu bytes, and the picture goes on); get the "
                "whole file",
                name, media_format_name(format), s->len);
}

static status damaged(const char *name, enum media_format format, const char *what)
{
    return FAIL(ERR_CORRUPT, "%s: damaged %s image (%s)", name, media_format_name(format), what);
}

/* --- TIFF, and EXIF, which is a TIFF without a picture -------------------------------------- */

enum {
    TAG_WIDTH = 256,
    TAG_HEIGHT = 257,
    TAG_STRIPS = 273,
    TAG_ORIENTATION = 274,
    TAG_STRIP_BYTES = 279,
    TAG_TILES = 324,
    TAG_TILE_BYTES = 325
};

/* One tag of the first directory: where its values are. */
struct tag {
    size_t at;      /* offset of the first value */
    uint32_t count; /* number of values; 0: no such tag */
    bool is_long;   /* 32 bits each, not 16 */
};

/* Set the byte order of s from its first bytes; the offset of the first directory, or 0. */
static size_t tiff_begin(struct span *s)
{
    if (starts_with(s, 0, "II\x2a\0", 4))
        s->is_little = true;
    else if (starts_with(s, 0, "MM\0\x2a", 4))
        s->is_little = false;
    else
        return 0;
    return get32(s, 4);
}

static struct tag tiff_find(const struct span *s, size_t directory, uint32_t id)
{
    uint32_t entries = get16(s, directory);

    for (uint32_t i = 0; i < entries; i++) {
        size_t at = directory + 2 + 12 * (size_t)i;
        struct tag t = { at + 8, get32(s, at + 4), get16(s, at + 2) == 4 };

        if (!has(s, at, 12))
            break;
        if (get16(s, at) != id || (get16(s, at + 2) != 3 && !t.is_long))
            continue;
        if (t.count > (t.is_long ? 1u : 2u))
            t.at = get32(s, at + 8);
        return t;
    }
    return (struct tag){ 0 };
}

static uint32_t tag_value(const struct span *s, struct tag t, uint32_t index)
{
    if (index >= t.count)
        return 0;
    return t.is_long ? get32(s, t.at + 4 * (size_t)index) : get16(s, t.at + 2 * (size_t)index);
}

/* The orientation in an EXIF block; 1 when there is none or it makes no sense. */
static int exif_orientation(struct span s)
{
    size_t directory = tiff_begin(&s);
    uint32_t value = directory ? tag_value(&s, tiff_find(&s, directory, TAG_ORIENTATION), 0) : 1;

    return value >= 1 && value <= 8 ? (int)value : 1;
}

/* Do all pieces of the picture (strips or tiles) lie inside the file? */
static bool tiff_is_whole(const struct span *s, size_t directory, uint32_t at_id, uint32_t bytes_id)
{
    struct tag at = tiff_find(s, directory, at_id);
    struct tag bytes = tiff_find(s, directory, bytes_id);

    if (at.count && !has(s, at.at, (size_t)at.count * (at.is_long ? 4 : 2)))
        return false;
    for (uint32_t i = 0; i < at.count; i++) {
        if (!has(s, tag_value(s, at, i), tag_value(s, bytes, i)))
            return false;
    }
    return true;
}

static status read_tiff(struct media_header *h, const char *name, struct span s)
{
    size_t directory = tiff_begin(&s);

    if (!has(&s, directory, 2) || !has(&s, directory + 2, 12 * (size_t)get16(&s, directory)))
        return truncated(name, h->format, &s);
    h->width_px = tag_value(&s, tiff_find(&s, directory, TAG_WIDTH), 0);
    h->height_px = tag_value(&s, tiff_find(&s, directory, TAG_HEIGHT), 0);
    h->orientation = exif_orientation(s);
    if (!tiff_is_whole(&s, directory, TAG_STRIPS, TAG_STRIP_BYTES) ||
        !tiff_is_whole(&s, directory, TAG_TILES, TAG_TILE_BYTES))
        return truncated(name, h->format, &s);
    return OK;
}

/* --- JPEG ----------------------------------------------------------------------------------- */

/* One segment; at is its first byte after the length, len what follows. */
static status jpeg_segment(struct media_header *h, const char *name, uint32_t marker, struct span s)
{
    switch (marker) {
    case 0xc0: /* baseline, extended, progressive; all Huffman */
    case 0xc1:
    case 0xc2:
        if (s.len < 6 || h->width_px)
            return damaged(name, h->format,
                           s.len < 6 ? "short frame header" : "two pictures in one");
        if (get8(&s, 0) != 8)
            return FAIL(ERR_CORRUPT,
                        "%s: JPEG image with %u bits a channel, want 8; save it as PNG", name,
                        get8(&s, 0));
        h->height_px = get16(&s, 1);
        h->width_px = get16(&s, 3);
        h->components = (int)get8(&s, 5);
        break;
    case 0xe1:
        if (starts_with(&s, 0, "Exif\0\0", 6))
            h->orientation = exif_orientation(part(&s, 6, s.len - 6, false));
        break;
    case 0xee:
        h->has_adobe = h->has_adobe || (s.len >= 12 && starts_with(&s, 0, "Adobe", 5));
        break;
    default:
        if (marker > 0xc2 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc)
            return FAIL(ERR_CORRUPT,
                        "%s: JPEG image in a rare form (lossless, hierarchical or "
                        "arithmetic); save it as plain JPEG or PNG",
                        name);
        break;
    }
    return OK;
}

/* From at, inside compressed data, to the 0xff of the next marker that is not part of it; s.len if
 * there is none. */
static size_t jpeg_skip_scan(const struct span *s, size_t at)
{
    while (has(s, at, 2)) {
        const uint8_t *ff = memchr(s->bytes + at, 0xff, s->len - at - 1);

        if (!ff)
            break;
        at = (size_t)(ff - s->bytes);
        if (ff[1] != 0 && ff[1] != 0xff && (ff[1] < 0xd0 || ff[1] > 0xd7))
            return at;
        at += ff[1] == 0xff ? 1 : 2;
    }
    return s->len;
}

static status read_jpeg(struct media_header *h, const char *name, struct span s)
{
    size_t at = 2;
    int scans = 0;

    while (has(&s, at, 2)) {
        uint32_t marker = get8(&s, at + 1);
        size_t len = get16(&s, at + 2);
        status st;

        if (get8(&s, at) != 0xff || marker == 0 || marker == 0xff) {
            at++; /* fill bytes; decoders skip stray bytes between segments too */
            continue;
        }
        if (marker == 0xd9)
            return scans ? OK : damaged(name, h->format, "no picture data");
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
            at += 2;
            continue;
        }
        if (len < 2)
            return damaged(name, h->format, "a segment of impossible length");
        if (!has(&s, at + 2, len))
            break;
        st = jpeg_segment(h, name, marker, part(&s, at + 4, len - 2, false));
        if (st != OK)
            return st;
        at += 2 + len;
        if (marker == 0xda) {
            if (++scans > JPEG_SCANS_MAX)
                return damaged(name, h->format, "too many scans");
            at = jpeg_skip_scan(&s, at);
        }
    }
    return truncated(name, h->format, &s);
}

/* --- PNG, WebP, BMP, GIF -------------------------------------------------------------------- */

static status read_png(struct media_header *h, const char *name, struct span s)
{
    size_t at = 8;

    if (!has(&s, 8, 25))
        return truncated(name, h->format, &s);
    if (get32(&s, 8) != 13 || !starts_with(&s, 12, "IHDR", 4))
        return damaged(name, h->format, "no IHDR chunk first");
    h->width_px = get32(&s, 16);
    h->height_px = get32(&s, 20);
    while (has(&s, at, 12)) {
        size_t len = get32(&s, at);

        if (!has(&s, at + 12, len))
            break;
        /* CAREFUL: libav takes a PNG with too few rows for whole when it sees IEND, but not when
         * the bytes end before it. So it is not shown. */
        if (starts_with(&s, at + 4, "IEND", 4)) {
            h->decode_bytes = at;
            return OK;
        }
        if (starts_with(&s, at + 4, "eXIf", 4))
            h->orientation = exif_orientation(part(&s, at + 8, len, false));
        at += 12 + len;
    }
    return truncated(name, h->format, &s);
}

/* The size in a VP8 or VP8L chunk, if c is one. */
static void webp_size(struct media_header *h, const char *fourcc, const struct span *c)
{
    uint32_t bits = get32(c, 1);

    if (memcmp(fourcc, "VP8 ", 4) == 0 && starts_with(c, 3, "\x9d\x01\x2a", 3)) {
        h->width_px = get16(c, 6) & 0x3fff;
        h->height_px = get16(c, 8) & 0x3fff;
    } else if (memcmp(fourcc, "VP8L", 4) == 0 && get8(c, 0) == 0x2f) {
        h->width_px = (bits & 0x3fff) + 1;
        h->height_px = (bits >> 14 & 0x3fff) + 1;
    }
}

static status read_webp(struct media_header *h, const char *name, struct span s)
{
    size_t at = 12, end;

    s.is_little = true;
    end = (size_t)get32(&s, 4) + 8;
    if (end > s.len)
        return truncated(name, h->format, &s);
    while (at + 8 <= end) {
        size_t len = get32(&s, at + 4);
        struct span c = part(&s, at + 8, len, true);

        if (!has(&s, at + 8, len))
            return truncated(name, h->format, &s);
        if (starts_with(&s, at, "ANIM", 4))
            return FAIL(ERR_CORRUPT, "%s: animated WebP, want a still image; save one frame of it",
                        name);
        if (starts_with(&s, at, "EXIF", 4))
            h->orientation = exif_orientation(
                starts_with(&c, 0, "Exif\0\0", 6) ? part(&c, 6, c.len - 6, true) : c);
        webp_size(h, (const char *)s.bytes + at, &c);
        at += 8 + len + (len & 1);
    }
    return OK;
}

static status read_bmp(struct media_header *h, const char *name, struct span s)
{
    s.is_little = true;
    if (!has(&s, 0, 26))
        return truncated(name, h->format, &s);
    if (get32(&s, 14) == 12) {
        h->width_px = get16(&s, 18);
        h->height_px = get16(&s, 20);
    } else {
        h->width_px = (int32_t)get32(&s, 18);
        h->height_px = (int32_t)get32(&s, 22);
        if (h->height_px < 0)
            h->height_px = -h->height_px; /* rows from the top */
    }
    return OK;
}

/* Past the sub-blocks at at; 0 when the file ends inside them. */
static size_t gif_skip_blocks(const struct span *s, size_t at)
{
    while (has(s, at, 1) && get8(s, at) != 0)
        at += 1 + get8(s, at);
    return has(s, at, 1) ? at + 1 : 0;
}

static size_t gif_palette_bytes(uint32_t flags)
{
    return flags & 0x80 ? (size_t)3 << ((flags & 7) + 1) : 0;
}

static status read_gif(struct media_header *h, const char *name, struct span s)
{
    size_t at = 13 + gif_palette_bytes(get8(&s, 10));

    s.is_little = true;
    h->width_px = get16(&s, 6);
    h->height_px = get16(&s, 8);
    while (at && has(&s, at, 1)) {
        uint32_t kind = get8(&s, at);

        if (kind == 0x2c) {
            at = gif_skip_blocks(&s, at + 11 + gif_palette_bytes(get8(&s, at + 9)));
            return at ? OK : truncated(name, h->format, &s);
        }
        if (kind != 0x21)
            return damaged(name, h->format, kind == 0x3b ? "no picture in it" : "unknown block");
        at = gif_skip_blocks(&s, at + 2);
    }
    return truncated(name, h->format, &s);
}

/* --- all ------------------------------------------------------------------------------------ */

static enum media_format find_format(const struct span *s)
{
    if (starts_with(s, 0, "\xff\xd8\xff", 3))
        return MEDIA_JPEG;
    if (starts_with(s, 0, "\x89PNG\r\n\x1a\n", 8))
        return MEDIA_PNG;
    if (starts_with(s, 0, "RIFF", 4) && starts_with(s, 8, "WEBP", 4))
        return MEDIA_WEBP;
    if (starts_with(s, 0, "II\x2a\0", 4) || starts_with(s, 0, "MM\0\x2a", 4))
        return MEDIA_TIFF;
    if (starts_with(s, 0, "GIF87a", 6) || starts_with(s, 0, "GIF89a", 6))
        return MEDIA_GIF;
    if (starts_with(s, 0, "BM", 2) && s->len >= 18 && (get8(s, 14) == 12 || get8(s, 14) >= 40))
        return MEDIA_BMP;
    return MEDIA_NONE;
}

static status not_an_image(const char *name, const struct span *s)
{
    const char *hint = "";

    if (s->len == 0)
        return FAIL(ERR_CORRUPT, "%s: empty, want an image", name);
    if (starts_with(s, 4, "ftyp", 4))
        hint = " (it may be HEIC, AVIF or a video: save it as JPEG)";
    else if (starts_with(s, 0, "<", 1))
        hint = " (it looks like a web page or SVG)";
    return FAIL(ERR_CORRUPT,
                "%s: not an image that Onestep reads%s; want JPEG, PNG, WebP, TIFF, BMP "
                "or GIF",
                name, hint);
}

status media_header_read(struct media_header *h, const char *name, const uint8_t *bytes, size_t len)
{
    status (*const readers[])(struct media_header *, const char *, struct span) = {
        [MEDIA_JPEG] = read_jpeg, [MEDIA_PNG] = read_png, [MEDIA_WEBP] = read_webp,
        [MEDIA_TIFF] = read_tiff, [MEDIA_BMP] = read_bmp, [MEDIA_GIF] = read_gif,
    };
    struct span s = { bytes, len, false };
    status st;

    *h = (struct media_header){ .format = find_format(&s), .orientation = 1, .decode_bytes = len };
    if (h->format == MEDIA_NONE)
        return not_an_image(name, &s);
    st = readers[h->format](h, name, s);
    /* A bomb is told as a bomb, whole or not. */
    if (h->width_px > 0 && h->height_px > 0 &&
        (uint64_t)h->width_px * (uint64_t)h->height_px > LIMIT_IMAGE_PIXELS)
        return FAIL(ERR_BADARG, "%s: %lld x %lld is %.1f million pixels, limit %.1f; scale it down",
                    name, (long long)h->width_px, (long long)h->height_px,
                    (double)h->width_px * (double)h->height_px / 1e6, LIMIT_IMAGE_PIXELS / 1e6);
    if (st == OK && (h->width_px < 1 || h->height_px < 1))
        return damaged(name, h->format, "no size in its header");
    return st;
}

bool media_is_image(const void *bytes, size_t len)
{
    struct span s = { bytes, len, false };

    return find_format(&s) != MEDIA_NONE;
}
