/* From whatever a decoder gives to 8-bit RGB. Written out rather than left to swscale, so that
 * pixels do not depend on which vector instructions a machine has, and equal what libjpeg and
 * libwebp give: the same triangle filter for chroma, the same fixed-point matrix. */
#include "common/media_priv.h"

#include <stdlib.h>
#include <string.h>

#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>

/* One plane of chroma that has fewer samples than the picture has pixels. */
struct chroma {
    const uint8_t *data;
    ptrdiff_t stride;
    int width, height;    /* in samples */
    int h_shift, v_shift; /* log2 of pixels a sample */
};

static uint8_t clip8(int v)
{
    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

/* --- chroma up to full size, one row -------------------------------------------------------- */

static const uint8_t *chroma_row(const struct chroma *c, int row)
{
    row = row < 0 ? 0 : row >= c->height ? c->height - 1 : row;
    return c->data + row * c->stride;
}

/* libjpeg's "fancy" filter: each pixel is 3/4 of the near and 1/4 of the far sample, in each
 * direction that is halved. Its rounding alternates so that no bias is left. Source: IJG
 * jdsample.c. */
static void upsample_jpeg(uint8_t *dst, const struct chroma *c, int y, int width)
{
    const uint8_t *near = chroma_row(c, y >> c->v_shift);
    const uint8_t *far = chroma_row(c, (y >> 1) + (y & 1 ? 1 : -1));

    for (int x = 0; x < width; x++) {
        int at = x >> c->h_shift;
        int to = x & 1 ? at + 1 : at - 1;
        int sum, sum_to;

        if (c->h_shift == 0) {
            dst[x] = (uint8_t)((3 * near[at] + far[at] + 1 + (y & 1)) >> 2);
            continue;
        }
        to = to < 0 ? 0 : to >= c->width ? c->width - 1 : to;
        sum = c->v_shift ? 3 * near[at] + far[at] : near[at];
        sum_to = c->v_shift ? 3 * near[to] + far[to] : near[to];
        if (c->v_shift)
            dst[x] = (uint8_t)((3 * sum + sum_to + 8 - (x & 1)) >> 4);
        else
            dst[x] = (uint8_t)((3 * sum + sum_to + 1 + (x & 1)) >> 2);
    }
}

/* libwebp's filter: 9/16, 3/16, 3/16, 1/16 of the four nearest samples, in two rounded halves.
 * Source: libwebp src/dsp/upsampling.c. */
static void upsample_webp(uint8_t *dst, const struct chroma *c, int y, int width)
{
    const uint8_t *near = chroma_row(c, y >> 1);
    const uint8_t *far = chroma_row(c, (y >> 1) + (y & 1 ? 1 : -1));

    for (int x = 0; x < width; x++) {
        int at = x >> 1;
        int to = x & 1 ? at + 1 : at - 1;
        int sum, diagonal;

        if (to < 0 || to >= c->width) {
            dst[x] = (uint8_t)((3 * near[at] + far[at] + 2) >> 2);
            continue;
        }
        sum = near[at] + near[to] + far[at] + far[to] + 8;
        diagonal = (sum + 2 * (near[to] + far[at])) >> 3;
        dst[x] = (uint8_t)((diagonal + near[at]) >> 1);
    }
}

static void upsample(uint8_t *dst, const struct chroma *c, int y, int width, enum media_yuv yuv)
{
    const uint8_t *row = chroma_row(c, y >> c->v_shift);

    if (c->h_shift > 1 || c->v_shift > 1 ||
        (c->h_shift && c->width <= 2 && yuv == MEDIA_YUV_JPEG)) {
        for (int x = 0; x < width; x++)
            dst[x] = row[x >> c->h_shift];
    } else if (!c->h_shift && !c->v_shift) {
        memcpy(dst, row, (size_t)width);
    } else if (yuv == MEDIA_YUV_WEBP) {
        upsample_webp(dst, c, y, width);
    } else {
        upsample_jpeg(dst, c, y, width);
    }
}

/* --- the matrices --------------------------------------------------------------------------- */

/* BT.601, full range, in 16 bits of fraction. Source: JFIF 1.02; IJG jdcolor.c. */
static void jpeg_pixel(uint8_t rgb[3], int y, int cb, int cr)
{
    cb -= 128;
    cr -= 128;
    rgb[0] = clip8(y + ((91881 * cr + 32768) >> 16));
    rgb[1] = clip8(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    rgb[2] = clip8(y + ((116130 * cb + 32768) >> 16));
}

static int webp_term(int v, int factor)
{
    return (v * factor) >> 8;
}

/* BT.601, video range. Source: libwebp src/dsp/yuv.h. */
static void webp_pixel(uint8_t rgb[3], int y, int u, int v)
{
    int luma = webp_term(y, 19077);

    rgb[0] = clip8((luma + webp_term(v, 26149) - 14234) >> 6);
    rgb[1] = clip8((luma - webp_term(u, 6419) - webp_term(v, 13320) + 8708) >> 6);
    rgb[2] = clip8((luma + webp_term(u, 33050) - 17685) >> 6);
}

static void over_white(uint8_t rgb[3], unsigned alpha)
{
    for (int i = 0; i < 3; i++)
        rgb[i] = (uint8_t)((rgb[i] * alpha + 255 * (255 - alpha) + 127) / 255);
}

static void convert_yuv(uint8_t *rgb, const AVFrame *f, const AVPixFmtDescriptor *d,
                        enum media_yuv yuv, uint8_t *rows)
{
    uint8_t *cb = rows, *cr = rows + f->width;
    struct chroma c = { f->data[1],
                        f->linesize[1],
                        -(-f->width >> d->log2_chroma_w),
                        -(-f->height >> d->log2_chroma_h),
                        d->log2_chroma_w,
                        d->log2_chroma_h };
    void (*pixel)(uint8_t *, int, int, int) = yuv == MEDIA_YUV_WEBP ? webp_pixel : jpeg_pixel;
    bool has_alpha = d->flags & AV_PIX_FMT_FLAG_ALPHA;

    for (int y = 0; y < f->height; y++) {
        const uint8_t *luma = f->data[0] + y * (ptrdiff_t)f->linesize[0];
        const uint8_t *alpha = has_alpha ? f->data[3] + y * (ptrdiff_t)f->linesize[3] : NULL;

        c.data = f->data[1];
        c.stride = f->linesize[1];
        upsample(cb, &c, y, f->width, yuv);
        c.data = f->data[2];
        c.stride = f->linesize[2];
        upsample(cr, &c, y, f->width, yuv);
        for (int x = 0; x < f->width; x++, rgb += 3) {
            pixel(rgb, luma[x], cb[x], cr[x]);
            if (has_alpha)
                over_white(rgb, alpha[x]);
        }
    }
}

/* A palette's entries are native 32-bit words, alpha in the top byte. */
static void convert_palette(uint8_t *rgb, const AVFrame *f)
{
    const uint32_t *palette = (const uint32_t *)(const void *)f->data[1];

    for (int y = 0; y < f->height; y++) {
        const uint8_t *row = f->data[0] + y * (ptrdiff_t)f->linesize[0];

        for (int x = 0; x < f->width; x++, rgb += 3) {
            uint32_t entry = palette[row[x]];

            rgb[0] = (uint8_t)(entry >> 16);
            rgb[1] = (uint8_t)(entry >> 8);
            rgb[2] = (uint8_t)entry;
            over_white(rgb, entry >> 24);
        }
    }
}

/* Grey and RGB in any packing and depth that libav can describe. rows: 4 x width values. */
static void convert_direct(uint8_t *rgb, const AVFrame *f, const AVPixFmtDescriptor *d,
                           uint16_t *rows)
{
    size_t width = (size_t)f->width;
    int count = d->nb_components;
    bool has_alpha = d->flags & AV_PIX_FMT_FLAG_ALPHA;
    size_t next = count <= 2 ? 0 : width; /* from red to green; grey is all three */

    for (int y = 0; y < f->height; y++) {
        for (int i = 0; i < count; i++) {
            uint16_t *row = rows + (size_t)i * width;
            unsigned max = (1u << d->comp[i].depth) - 1;

            av_read_image_line2(row, (const uint8_t **)f->data, f->linesize, d, 0, y, i, f->width,
                                0, sizeof(*row));
            for (int x = 0; x < f->width; x++)
                row[x] = (uint16_t)((row[x] * 255u + max / 2) / max);
        }
        for (size_t x = 0; x < width; x++, rgb += 3) {
            for (size_t i = 0; i < 3; i++)
                rgb[i] = (uint8_t)rows[i * next + x];
            if (f->format == AV_PIX_FMT_MONOWHITE)
                memset(rgb, 255 - rgb[0], 3);
            if (has_alpha)
                over_white(rgb, rows[(size_t)(count - 1) * width + x]);
        }
    }
}

status media_color_convert(uint8_t *rgb, const char *name, const AVFrame *f, enum media_yuv yuv)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    bool is_yuv =
        d && !(d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) && d->nb_components >= 3;
    uint16_t *rows;

    if (!d ||
        (d->flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_BAYER | AV_PIX_FMT_FLAG_FLOAT)) ||
        (is_yuv && (!(d->flags & AV_PIX_FMT_FLAG_PLANAR) || d->comp[0].depth != 8)))
        return FAIL(ERR_CORRUPT,
                    "%s: pixels stored as %s, which Onestep does not read; save it as "
                    "8-bit PNG or JPEG",
                    name, d ? d->name : "an unknown kind");
    rows = malloc((size_t)f->width * 4 * sizeof(*rows));
    if (!rows)
        return FAIL(ERR_NOMEM, "%s: no memory for rows of %d pixels", name, f->width);
    if (is_yuv)
        convert_yuv(rgb, f, d, yuv, (uint8_t *)rows);
    else if (f->format == AV_PIX_FMT_PAL8)
        convert_palette(rgb, f);
    else
        convert_direct(rgb, f, d, rows);
    free(rows);
    return OK;
}

void media_orient(uint8_t *dst, const uint8_t *src, int width_px, int height_px, int orientation)
{
    bool is_turned = orientation >= 5; /* rows become columns */
    bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    ptrdiff_t right = 3, down = 3 * (ptrdiff_t)width_px;
    ptrdiff_t step_x, step_y;

    if (from_right) {
        src += 3 * (ptrdiff_t)(width_px - 1);
        right = -right;
    }
    if (from_bottom) {
        src += 3 * (ptrdiff_t)width_px * (height_px - 1);
        down = -down;
    }
    step_x = is_turned ? down : right;
    step_y = is_turned ? right : down;
    for (int y = 0; y < (is_turned ? width_px : height_px); y++) {
        const uint8_t *from = src + y * step_y;

        for (int x = 0; x < (is_turned ? height_px : width_px); x++, dst += 3, from += step_x)
            memcpy(dst, from, 3);
    }
}
