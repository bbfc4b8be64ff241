/* Reading a video back: what its container says, and its pictures. Only MP4 and WebM, only by
 * path. */
#include "common/media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "common/base/file.h"
#include "common/media_priv.h"

struct reader {
    const char *path;
    AVFormatContext *file;
    AVCodecContext *decoder;
    AVStream *stream;
    AVFrame *frame;
    AVPacket *packet;
    bool is_drained; /* the file is at its end and the decoder knows */
};

static void reader_close(struct reader *r)
{
    av_packet_free(&r->packet);
    av_frame_free(&r->frame);
    avcodec_free_context(&r->decoder);
    avformat_close_input(&r->file);
}

/* The demuxer for a file with this ending. */
static const char *kind_of(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot && strcmp(dot, ".webm") == 0 ? "matroska" : "mov";
}

static status reader_open(struct reader *r, const char *path)
{
    const AVCodec *codec = NULL;
    char url[FILE_PATH_BYTES + 8];
    int index, code;

    media_log_init();
    *r = (struct reader){ .path = path };
    snprintf(url, sizeof(url), "file:%s", path);
    code = avformat_open_input(&r->file, url, av_find_input_format(kind_of(path)), NULL);
    if (code == 0)
        code = avformat_find_stream_info(r->file, NULL);
    if (code < 0)
        return media_failure(code, path, "reading");
    index = av_find_best_stream(r->file, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
    if (index < 0)
        return FAIL(ERR_CORRUPT, "%s: no video in it", path);
    r->stream = r->file->streams[index];
    r->decoder = avcodec_alloc_context3(codec);
    r->frame = av_frame_alloc();
    r->packet = av_packet_alloc();
    if (!r->decoder || !r->frame || !r->packet)
        return FAIL(ERR_NOMEM, "%s: no memory to read it", path);
    code = avcodec_parameters_to_context(r->decoder, r->stream->codecpar);
    r->decoder->thread_count = 1;
    r->decoder->err_recognition = AV_EF_EXPLODE;
    if (code >= 0)
        code = avcodec_open2(r->decoder, codec, NULL);
    return code < 0 ? media_failure(code, path, "reading") : OK;
}

/* The next picture into r->frame; *is_end when there is none. */
static status reader_next(struct reader *r, bool *is_end)
{
    int code = avcodec_receive_frame(r->decoder, r->frame);

    while (code == AVERROR(EAGAIN) && !r->is_drained) {
        code = av_read_frame(r->file, r->packet);
        if (code == AVERROR_EOF) {
            r->is_drained = true;
            code = avcodec_send_packet(r->decoder, NULL);
        } else if (code == 0) {
            if (r->packet->stream_index == r->stream->index)
                code = avcodec_send_packet(r->decoder, r->packet);
            av_packet_unref(r->packet);
        }
        if (code == 0)
            code = avcodec_receive_frame(r->decoder, r->frame);
    }
    *is_end = code == AVERROR_EOF;
    return code < 0 && !*is_end ? media_failure(code, r->path, "decoding") : OK;
}

/* Is the "moov" box in front of the "mdat" box? Source: ISO/IEC 14496-12, section 4.2. */
static status find_faststart(bool *is_faststart, const char *path)
{
    struct mapping map = { 0 };
    size_t at = 0;
    status st = file_map(path, &map);

    *is_faststart = false;
    while (st == OK && at + 16 <= map.bytes) {
        const unsigned char *box = map.data + at;
        uint64_t bytes = (uint64_t)box[0] << 24 | box[1] << 16 | box[2] << 8 | box[3];

        if (bytes == 1) {
            bytes = 0;
            for (int i = 8; i < 16; i++)
                bytes = bytes << 8 | box[i];
        }
        *is_faststart = memcmp(box + 4, "moov", 4) == 0;
        if (*is_faststart || memcmp(box + 4, "mdat", 4) == 0)
            break;
        if (bytes < 8 || bytes > map.bytes - at)
            st = FAIL(ERR_CORRUPT, "%s: damaged MP4", path);
        at += bytes;
    }
    file_unmap(&map);
    return st;
}

static const char *or_unknown(const char *text)
{
    return text ? text : "unknown";
}

status media_video_probe(struct media_video_info *info, const char *path)
{
    status st = OK;
    struct reader r = { 0 };
    const AVCodecParameters *p;
    bool is_end = false;

    *info = (struct media_video_info){ 0 };
    TRY(reader_open(&r, path));
    if (strcmp(kind_of(path), "mov") == 0)
        TRY(find_faststart(&info->is_faststart, path));
    p = r.stream->codecpar;
    snprintf(info->codec, sizeof(info->codec), "%s", avcodec_get_name(p->codec_id));
    snprintf(info->pix_fmt, sizeof(info->pix_fmt), "%s",
             or_unknown(av_get_pix_fmt_name(p->format)));
    snprintf(info->color_space, sizeof(info->color_space), "%s",
             or_unknown(av_color_space_name(p->color_space)));
    info->width_px = p->width;
    info->height_px = p->height;
    info->fps = av_q2d(r.stream->avg_frame_rate);
    info->duration_s = (double)r.file->duration / AV_TIME_BASE;
    for (;;) {
        TRY(reader_next(&r, &is_end));
        if (is_end)
            break;
        info->frame_count++;
    }
out:
    reader_close(&r);
    return st;
}

/* r's frame as RGB, by the frame's own colour tags. */
static status take_rgb(struct media_image *img, struct reader *r)
{
    status st = OK;
    const AVFrame *f = r->frame;
    int space = f->colorspace == AVCOL_SPC_BT709 ? SWS_CS_ITU709 : SWS_CS_ITU601;
    uint8_t *rgb = malloc((size_t)f->width * (size_t)f->height * 3);
    uint8_t *rows[1] = { rgb };
    int stride[1] = { f->width * 3 };
    struct SwsContext *scaler = sws_getContext(
        f->width, f->height, f->format, f->width, f->height, AV_PIX_FMT_RGB24,
        SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, NULL, NULL, NULL);

    if (!rgb || !scaler)
        TRY(FAIL(ERR_NOMEM, "%s: no memory for a frame", r->path));
    if (sws_setColorspaceDetails(scaler, sws_getCoefficients(space),
                                 f->color_range == AVCOL_RANGE_JPEG,
                                 sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16) < 0)
        TRY(FAIL(ERR_IO, "%s: swscale cannot convert its colours", r->path));
    sws_scale(scaler, (const uint8_t *const *)f->data, f->linesize, 0, f->height, rows, stride);
    *img = (struct media_image){ .width_px = f->width, .height_px = f->height, .rgb = rgb };
    rgb = NULL;
out:
    sws_freeContext(scaler);
    free(rgb);
    return st;
}

status media_video_frame(struct media_image *img, const char *path, int frame_index)
{
    status st = OK;
    struct reader r = { 0 };
    bool is_end = false;

    *img = (struct media_image){ 0 };
    TRY(reader_open(&r, path));
    for (int i = 0; i <= frame_index; i++) {
        TRY(reader_next(&r, &is_end));
        if (is_end)
            TRY(FAIL(ERR_BADARG, "%s: no frame %d, it has %d", path, frame_index, i));
    }
    TRY(take_rgb(img, &r));
out:
    reader_close(&r);
    return st;
}
