/* Still pictures. The header is read by our own code first (kind, size, completeness); then one
 * packet with the whole file goes to the decoder of exactly that kind. No demuxer guesses, no
 * other decoder can be reached, and every complaint of the decoder is an error. */
#include "common/media.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavutil/log.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/media_priv.h"

static const struct {
    const char *name;
    enum AVCodecID codec;
} formats[MEDIA_FORMAT_COUNT] = {
    [MEDIA_JPEG] = { "jpeg", AV_CODEC_ID_MJPEG }, [MEDIA_PNG] = { "png", AV_CODEC_ID_PNG },
    [MEDIA_WEBP] = { "webp", AV_CODEC_ID_WEBP },  [MEDIA_TIFF] = { "tiff", AV_CODEC_ID_TIFF },
    [MEDIA_BMP] = { "bmp", AV_CODEC_ID_BMP },     [MEDIA_GIF] = { "gif", AV_CODEC_ID_GIF },
};

/* --- shared with the other media files ------------------------------------------------------ */

/* A decoder's complaints are counted where its opaque points; our decoders alone have one. */
static void log_line(void *source, int level, const char *fmt, va_list args)
{
    char text[256];
    size_t len;

    if (source && level <= AV_LOG_ERROR && *(const AVClass **)source == avcodec_get_class()) {
        int *complaints = ((AVCodecContext *)source)->opaque;

        if (complaints)
            (*complaints)++;
    }
    if (level > AV_LOG_INFO)
        return;
    vsnprintf(text, sizeof(text), fmt, args);
    len = strcspn(text, "\n");
    if (len)
        log_debug("media.libav", "text=\"%.*s\"", (int)len, text);
}

static void log_install(void)
{
    av_log_set_callback(log_line);
}

void media_log_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, log_install);
}

status media_failure(int code, const char *path, const char *doing)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";

    switch (code) {
    case AVERROR(ENOSPC):
    case AVERROR(EDQUOT):
    case AVERROR(EFBIG):
    case AVERROR(ENOENT):
    case AVERROR(EACCES):
    case AVERROR(ENOMEM):
    case AVERROR(EIO):
    case AVERROR(EROFS):
    case AVERROR(EISDIR):
    case AVERROR(ENOTDIR):
        return file_errno(AVUNERROR(code), path);
    case AVERROR_INVALIDDATA:
    case AVERROR_EOF:
        return FAIL(ERR_CORRUPT, "%s: %s stopped at damaged data", path, doing);
    default:
        av_strerror(code, text, sizeof(text));
        return FAIL(ERR_IO, "%s: %s failed: %s", path, doing, text);
    }
}

/* --- decoding ------------------------------------------------------------------------------- */

static status open_decoder(AVCodecContext **ctx, const char *name, enum media_format format,
                           int *complaints)
{
    const AVCodec *codec = avcodec_find_decoder(formats[format].codec);
    AVCodecContext *c;

    if (!codec)
        return FAIL(ERR_CORRUPT, "%s: this machine's libavcodec has no %s decoder; save it as PNG",
                    name, media_format_name(format));
    c = avcodec_alloc_context3(codec);
    if (!c)
        return FAIL(ERR_NOMEM, "%s: no memory for a decoder", name);
    c->thread_count = 1;
    c->opaque = complaints;
    c->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
    /* CAREFUL: with EXPLODE the TIFF decoder refuses every tag that it does not know. */
    if (format != MEDIA_TIFF)
        c->err_recognition |= AV_EF_EXPLODE;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    c->idct_algo = FF_IDCT_FAAN; /* of those offered, the nearest to libjpeg and to the formula */
    c->max_pixels = (int64_t)LIMIT_IMAGE_PIXELS;
    if (avcodec_open2(c, codec, NULL) < 0) {
        avcodec_free_context(&c);
        return FAIL(ERR_NOMEM, "%s: the %s decoder did not start", name, media_format_name(format));
    }
    *ctx = c;
    return OK;
}

/* The one picture of the file into f. */
static status decode_frame(AVCodecContext *ctx, AVFrame *f, const char *name,
                           const struct media_header *h, const void *bytes)
{
    const int *complaints = ctx->opaque;
    const char *kind = media_format_name(h->format);
    AVPacket *packet = av_packet_alloc();
    int code = AVERROR(ENOMEM);

    if (packet && av_new_packet(packet, (int)h->decode_bytes) == 0) {
        memcpy(packet->data, bytes, h->decode_bytes);
        code = avcodec_send_packet(ctx, packet);
        if (code == 0)
            code = avcodec_send_packet(ctx, NULL);
        if (code == 0)
            code = avcodec_receive_frame(ctx, f);
    }
    av_packet_free(&packet);
    if (code == AVERROR(ENOMEM))
        return FAIL(ERR_NOMEM, "%s: no memory to decode %lld x %lld pixels", name,
                    (long long)h->width_px, (long long)h->height_px);
    if (code == AVERROR_PATCHWELCOME || code == AVERROR(ENOSYS))
        return FAIL(ERR_CORRUPT,
                    "%s: %s image in a form that libavcodec does not read; save it as "
                    "plain PNG or JPEG",
                    name, kind);
    if (code < 0 || f->decode_error_flags || (f->flags & AV_FRAME_FLAG_CORRUPT) ||
        (h->format == MEDIA_TIFF && *complaints))
        return FAIL(ERR_CORRUPT, "%s: damaged or truncated %s image; get the whole file", name,
                    kind);
    if (f->width != h->width_px || f->height != h->height_px)
        return FAIL(ERR_CORRUPT,
                    "%s: damaged %s image (%lld x %lld in its header, %d x %d in its "
                    "data)",
                    name, kind, (long long)h->width_px, (long long)h->height_px, f->width,
                    f->height);
    return OK;
}

/* f, turned upright, into img. */
static status take_pixels(struct media_image *img, const char *name, const struct media_header *h,
                          const AVFrame *f)
{
    status st = OK;
    bool is_turned = h->orientation >= 5;
    size_t bytes = (size_t)f->width * (size_t)f->height * 3;
    uint8_t *rgb = malloc(bytes);
    uint8_t *upright = NULL;

    if (!rgb)
        TRY(FAIL(ERR_NOMEM, "%s: no memory for %zu bytes of pixels", name, bytes));
    TRY(media_color_convert(rgb, name, f,
                            h->format == MEDIA_WEBP ? MEDIA_YUV_WEBP : MEDIA_YUV_JPEG));
    media_profile_apply(rgb, f);
    if (h->orientation > 1) {
        upright = malloc(bytes);
        if (!upright)
            TRY(FAIL(ERR_NOMEM, "%s: no memory for %zu bytes of pixels", name, bytes));
        media_orient(upright, rgb, f->width, f->height, h->orientation);
        free(rgb);
        rgb = upright;
    }
    img->rgb = rgb;
    img->width_px = is_turned ? f->height : f->width;
    img->height_px = is_turned ? f->width : f->height;
    snprintf(img->format, sizeof(img->format), "%s", formats[h->format].name);
    return OK;
out:
    free(rgb);
    return st;
}

status media_image_decode(struct media_image *img, const char *name, const void *bytes, size_t len)
{
    status st = OK;
    struct media_header h = { 0 };
    AVCodecContext *ctx = NULL;
    AVFrame *f = NULL;
    int complaints = 0;

    media_log_init();
    *img = (struct media_image){ 0 };
    if (len > LIMIT_IMAGE_BYTES)
        TRY(FAIL(ERR_BADARG, "%s: %zu bytes, limit %zu; scale it down", name, len,
                 LIMIT_IMAGE_BYTES));
    TRY(media_header_read(&h, name, bytes, len));
    if (h.components == 4 && !h.has_adobe)
        TRY(FAIL(ERR_CORRUPT,
                 "%s: CMYK JPEG image that does not say how its inks are stored (no "
                 "Adobe marker); save it as RGB",
                 name));
    TRY(open_decoder(&ctx, name, h.format, &complaints));
    f = av_frame_alloc();
    if (!f)
        TRY(FAIL(ERR_NOMEM, "%s: no memory for a frame", name));
    TRY(decode_frame(ctx, f, name, &h, bytes));
    TRY(take_pixels(img, name, &h, f));
out:
    av_frame_free(&f);
    avcodec_free_context(&ctx);
    return st;
}

void media_image_free(struct media_image *img)
{
    free(img->rgb);
    *img = (struct media_image){ 0 };
}

/* --- PNG ------------------------------------------------------------------------------------ */

static status open_png(AVCodecContext **ctx, int width_px, int height_px)
{
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    AVCodecContext *c = codec ? avcodec_alloc_context3(codec) : NULL;

    *ctx = c;
    if (!codec)
        return FAIL(ERR_IO, "this machine's libavcodec has no PNG encoder; install libavcodec59");
    if (!c)
        return FAIL(ERR_NOMEM, "no memory for a PNG encoder");
    c->width = width_px;
    c->height = height_px;
    c->pix_fmt = AV_PIX_FMT_RGB24;
    c->time_base = (AVRational){ 1, 1 };
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if (avcodec_open2(c, codec, NULL) < 0)
        return FAIL(ERR_NOMEM, "the PNG encoder did not start for %d x %d pixels", width_px,
                    height_px);
    return OK;
}

status media_png_encode(struct buf *out, const uint8_t *rgb, int width_px, int height_px)
{
    status st = OK;
    AVCodecContext *ctx = NULL;
    AVFrame *f = NULL;
    AVPacket *packet = NULL;

    media_log_init();
    if (width_px < 1 || height_px < 1 ||
        (uint64_t)width_px * (uint64_t)height_px > LIMIT_IMAGE_PIXELS)
        TRY(FAIL(ERR_BADARG, "a PNG of %d x %d pixels; want 1 x 1 to %zu pixels", width_px,
                 height_px, LIMIT_IMAGE_PIXELS));
    TRY(open_png(&ctx, width_px, height_px));
    f = av_frame_alloc();
    packet = av_packet_alloc();
    if (!f || !packet)
        TRY(FAIL(ERR_NOMEM, "no memory to write a PNG"));
    f->width = width_px;
    f->height = height_px;
    f->format = AV_PIX_FMT_RGB24;
    if (av_frame_get_buffer(f, 0) < 0)
        TRY(FAIL(ERR_NOMEM, "no memory for %d x %d pixels", width_px, height_px));
    for (int y = 0; y < height_px; y++)
        memcpy(f->data[0] + y * (ptrdiff_t)f->linesize[0], rgb + (size_t)y * (size_t)width_px * 3,
               (size_t)width_px * 3);
    if (avcodec_send_frame(ctx, f) < 0 || avcodec_receive_packet(ctx, packet) < 0)
        TRY(FAIL(ERR_NOMEM, "no memory to write a PNG of %d x %d pixels", width_px, height_px));
    TRY(buf_append(out, packet->data, (size_t)packet->size));
out:
    av_packet_free(&packet);
    av_frame_free(&f);
    avcodec_free_context(&ctx);
    return st;
}

status media_png_write(const char *path, const uint8_t *rgb, int width_px, int height_px)
{
    status st = OK;
    struct buf png = { .max_bytes = LIMIT_IMAGE_PIXELS * 4 };

    TRY(media_png_encode(&png, rgb, width_px, height_px));
    TRY(file_write_atomic(path, png.data, png.len));
out:
    buf_free(&png);
    return st;
}
